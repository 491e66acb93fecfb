//! A borrowed view of one record batch, and the walk over several.
//!
//! What is right in a header is `batch_header`'s to say. Records are looked at only when they are asked for (`record`).

use super::batch_header::{BatchError, BatchHeader, HEADER_LENGTH, verify_checksum};
use super::compressed_records::CompressedRecords;
use super::compression::Compression;
use super::record::{RecordContext, RecordError, RecordErrorKind, RecordIter};
use crate::config::TimestampType;

/// One whole batch within borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch at the front of `bytes`; what follows it is left alone.
    ///
    /// # Errors
    /// [`BatchError`], never that of the checksum.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let bytes = bytes.get(..header.size()).ok_or(BatchError::Incomplete {
            expected: header.size(),
            found: bytes.len(),
        })?;
        Ok(Self { header, bytes })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes behind the header: the records, compressed or not.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.split_at(HEADER_LENGTH).1
    }

    /// The same batch, its records read with the producer's times, whatever its attributes claim.
    pub(crate) fn with_create_time(mut self) -> Self {
        let attributes = self.header.attributes;
        self.header.attributes = attributes.with_timestamp_type(TimestampType::CreateTime);
        self
    }

    /// Compares the stored checksum with that of the bytes.
    ///
    /// # Errors
    /// [`BatchError::Checksum`] when they differ.
    pub fn verify_checksum(&self) -> Result<(), BatchError> {
        verify_checksum(self.bytes)
    }

    /// Walks over the records, with their final offsets and timestamps. Compressed records are decompressed into
    /// `decompressed`, up to `limit` bytes; others are read where they lie, and neither is touched.
    ///
    /// # Errors
    /// When the records do not decompress within the limit. Damage inside them shows during the walk.
    pub fn records<'b>(
        &self,
        decompressed: &'b mut Vec<u8>,
        limit: usize,
    ) -> Result<RecordIter<'b>, RecordError>
    where
        'a: 'b,
    {
        let body = match self.header.compression() {
            // Compaction may leave a batch without records, and then nothing was compressed.
            Compression::None => self.body(),
            _ if self.header.record_count == 0 => self.body(),
            codec => {
                codec
                    .decompress(self.body(), decompressed, limit)
                    .map_err(|error| RecordError {
                        index: 0,
                        kind: RecordErrorKind::Compression(error),
                    })?;
                decompressed.as_slice()
            }
        };
        Ok(RecordIter::new(RecordContext::of(&self.header), body))
    }

    /// Walks over compressed records, of which it keeps none: up to `limit` bytes pass through a small window.
    ///
    /// # Errors
    /// When the first bytes say that they do not decompress. Other damage shows during the walk.
    pub(super) fn compressed_records(&self, limit: usize) -> Result<CompressedRecords<'a>, RecordError> {
        let context = RecordContext::of(&self.header);
        CompressedRecords::new(context, self.header.compression(), self.body(), limit).map_err(|error| {
            RecordError {
                index: 0,
                kind: error.into(),
            }
        })
    }

    /// Walks over the records in `body`, which is the batch's own or what that decompresses to: for readers that
    /// keep the decompressed bytes.
    #[must_use]
    pub fn records_in<'b>(&self, body: &'b [u8]) -> RecordIter<'b> {
        RecordIter::new(RecordContext::of(&self.header), body)
    }
}

/// Walks over batches that lie one behind the other. Ends quietly at an incomplete last one, as the end of a
/// fetched slice may cut it, and after the first error.
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches {
        rest: bytes,
        position: 0,
    }
}

/// The walk of [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
}

impl Batches<'_> {
    /// Where the batch begins that was not yielded: the incomplete or damaged one, or the end.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match Batch::parse(self.rest) {
            Ok(batch) => {
                let (_, behind) = self.rest.split_at(batch.header.size());
                self.rest = behind;
                self.position += batch.header.size();
                Some(Ok(batch))
            }
            Err(BatchError::Incomplete { .. }) => None,
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches<'_> {}
