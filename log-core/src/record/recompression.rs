//! A batch in another codec: what a broker makes of a producer's batch where the topic names one (`compression.type`).
//!
//! The records stay the bytes that they are uncompressed, and go from one codec to the other a piece at a time. So offsets,
//! times, keys, values and headers cannot change; of the batch's header, codec, length and checksum do, and nothing else: sequences
//! and epochs are the producer's, by which a batch that comes again is recognized.
//!
//! What comes out is kept up to the largest batch that the topic takes. Beyond, it is only counted, to say by how much it is too large.

use std::io::{self, Write};

use bytes::Bytes;

use super::batch::Batch;

use super::batch_header::{BatchHeader, HEADER_LENGTH, LENGTH_OVERHEAD};
use super::compression::{Codec, Compression, CompressionError};
use super::compressor::Compressor;
use super::decompression::Decompressor;

/// How many bytes go from one codec to the other at a time.
const PIECE_LENGTH: usize = 32 << 10;

/// Why a batch was not written anew.
#[derive(Debug)]
pub(super) enum RecompressionError {
    /// Its records do not decompress.
    Damaged(CompressionError),
    /// It would have so many bytes.
    TooLarge(usize),
}

/// The batch with its records in another codec, as if its producer had sent it so: its header, and all its bytes, in which the
/// header is out of date. The records take `records_length` bytes uncompressed.
///
/// # Errors
/// They do not decompress to so many bytes, or the batch would exceed `batch_bytes_max`.
pub(super) fn recompress(
    batch: &Batch<'_>,
    records_length: usize,
    codec: Codec,
    batch_bytes_max: u64,
) -> Result<(BatchHeader, Bytes), RecompressionError> {
    // A length is a signed number on the wire.
    let limit = batch_bytes_max.min(i32::MAX.unsigned_abs().into());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let expected_length = match codec.compression {
        Compression::None => HEADER_LENGTH.saturating_add(records_length),
        _ => batch.bytes().len(),
    };
    if codec.compression == Compression::None && limit < expected_length {
        return Err(RecompressionError::TooLarge(expected_length));
    }
    let mut output = Output {
        bytes: Vec::with_capacity(expected_length.min(limit)),
        length: 0,
        limit,
    };
    // Room for the header.
    let (header, _) = batch.bytes().split_at(HEADER_LENGTH);
    output.write_all(header).expect("memory takes what is written");
    let mut compressor = Compressor::new(codec, records_length, output);
    each_piece(batch, records_length, |piece| compressor.take(piece)).map_err(RecompressionError::Damaged)?;
    let output = compressor.finish();
    if output.limit < output.length {
        return Err(RecompressionError::TooLarge(output.length));
    }

    let batch_length = u32::try_from(output.length - LENGTH_OVERHEAD).expect("within the limit");
    let mut header = BatchHeader {
        batch_length,
        attributes: batch.header().attributes.with_compression(codec.compression),
        ..*batch.header()
    };
    let bytes = Bytes::from(output.bytes);
    header.crc = header.compute_crc(bytes.split_at(HEADER_LENGTH).1);
    Ok((header, bytes))
}

/// Hands on the uncompressed records, which are `length` bytes.
fn each_piece(batch: &Batch<'_>, length: usize, mut take: impl FnMut(&[u8])) -> Result<(), CompressionError> {
    let codec = batch.header().compression();
    if codec == Compression::None {
        take(batch.body());
        return Ok(());
    }
    let mut decompressor = Decompressor::new(codec, batch.body(), length)?;
    let mut buffer = vec![0; PIECE_LENGTH.min(length.max(1))];
    loop {
        let count = decompressor.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(piece) if !piece.is_empty() => take(piece),
            _ => return Ok(()),
        }
    }
}

/// The batch that is made: no more of it than is taken.
struct Output {
    bytes: Vec<u8>,
    /// How long it is, kept or not.
    length: usize,
    limit: usize,
}

impl Write for Output {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.length = self.length.saturating_add(piece.len());
        if self.length <= self.limit {
            self.bytes.extend_from_slice(piece);
        } else {
            self.bytes = Vec::new();
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
