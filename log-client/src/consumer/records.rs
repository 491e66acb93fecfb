//! What a fetch brought for one partition: whole, verified batches as they came over the wire, read in place.
//!
//! Three ways to read them, from the cheapest: [`PartitionRecords::batches`] for whoever copies or counts
//! batches, [`PartitionRecords::visit`] for borrowed records, [`PartitionRecords::into_records`] for records
//! that outlive the fetch, whose keys and values share its memory.

use std::fmt;

use bytes::Bytes;
use log_core::model::{LeaderEpoch, Offset, TimestampMs, TopicPartition};
use log_core::record::batch::{Batch, batches};
use log_core::record::batch_header::BatchError;
use log_core::record::compression::Compression;
use log_core::record::record::Record;

use super::aborted::AbortedTransactions;
use crate::error::{Error, Result};

/// Records of one partition, in order.
#[derive(Clone)]
pub struct PartitionRecords {
    partition: TopicPartition,
    /// Records before it belong to the first batch, but were not asked for.
    from: Offset,
    next_offset: Offset,
    high_watermark: Offset,
    log_start: Offset,
    bytes: Bytes,
    /// Where batches of aborted transactions begin, in order.
    aborted: Box<[Offset]>,
    decompressed_bytes_max: usize,
}

impl fmt::Debug for PartitionRecords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PartitionRecords")
            .field("partition", &self.partition)
            .field("from", &self.from)
            .field("next_offset", &self.next_offset)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// A record that owns its parts; they share the memory of the fetch or of the decompressed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where it was read.
    pub partition: TopicPartition,
    /// Its place there.
    pub offset: Offset,
    /// When it was made, or appended.
    pub timestamp: TimestampMs,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// How the bytes of a fetch are to be taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub check_crcs: bool,
    pub decompressed_bytes_max: usize,
}

/// What a partition's row of a fetch response said besides its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watermarks {
    pub high_watermark: Offset,
    pub log_start: Offset,
}

impl PartitionRecords {
    /// Takes the whole batches of `bytes` that hold records from `from` on, checking each; an incomplete
    /// last batch is left out, and batches of aborted transactions are passed over. `None` when there are none. What stands before a damaged batch is taken: the
    /// next fetch begins with the damage, and fails.
    pub(crate) fn take(
        partition: TopicPartition,
        from: Offset,
        watermarks: Watermarks,
        mut transactions: AbortedTransactions,
        bytes: &Bytes,
        reading: Reading,
    ) -> Result<Option<Self>> {
        let mut aborted = Vec::new();
        let mut next_offset = from;
        let (mut begin, mut end) = (0, 0);
        let mut walk = batches(bytes);
        while let Some(batch) = walk.next() {
            let checked = batch.and_then(|batch| {
                if reading.check_crcs {
                    batch.verify_checksum()?;
                }
                Ok(batch)
            });
            let header = match checked {
                Ok(batch) => {
                    if transactions.contains(&batch) {
                        aborted.push(batch.header().base_offset);
                    }
                    *batch.header()
                }
                Err(_) if begin < end => break,
                Err(error) => return Err(corrupt(&partition, next_offset, &error)),
            };
            end = walk.position();
            if header.next_offset() <= from {
                begin = end;
            } else {
                next_offset = header.next_offset().max(next_offset);
            }
        }
        Ok((begin < end).then(|| Self {
            partition,
            from,
            next_offset,
            high_watermark: watermarks.high_watermark,
            log_start: watermarks.log_start,
            bytes: bytes.slice(begin..end),
            aborted: aborted.into(),
            decompressed_bytes_max: reading.decompressed_bytes_max,
        }))
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The offset that was asked for: no record before it is shown.
    #[must_use]
    pub fn asked_offset(&self) -> Offset {
        self.from
    }

    /// Where reading goes on behind these records.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The end of the partition, as consumers may see it, when these were fetched.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The first offset that the partition still had then.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The batches as they are in the log.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batches. Control batches are among them, those of aborted transactions are not if only committed
    /// records are read, and the first may begin before the offset that was asked for.
    pub fn batches(&self) -> impl Iterator<Item = Batch<'_>> {
        let all = batches(&self.bytes).map_while(Result::ok);
        all.filter(|batch| self.aborted.binary_search(&batch.header().base_offset).is_err())
    }

    /// The leader epoch of the last batch, shown or not.
    pub(crate) fn last_epoch(&self) -> Option<LeaderEpoch> {
        let last = batches(&self.bytes).map_while(Result::ok).last()?;
        Some(last.header().leader_epoch)
    }

    /// Shows every record from the asked offset on to `visitor`. `scratch` is where compressed batches are
    /// decompressed, and worth keeping for the next call.
    ///
    /// # Errors
    /// [`Error::CorruptBatch`], with the records before it shown.
    pub fn visit(&self, scratch: &mut Vec<u8>, mut visitor: impl FnMut(&Record<'_>)) -> Result<()> {
        for batch in self.batches() {
            if batch.header().attributes.is_control() {
                continue;
            }
            let damaged = |error: &dyn std::fmt::Display| Error::CorruptBatch {
                partition: self.partition.clone(),
                offset: batch.header().base_offset,
                what: error.to_string().into(),
            };
            let records = batch
                .records(scratch, self.decompressed_bytes_max)
                .map_err(|error| damaged(&error))?;
            for record in records {
                let record = record.map_err(|error| damaged(&error))?;
                if self.from <= record.offset {
                    visitor(&record);
                }
            }
        }
        Ok(())
    }

    /// The records from the asked offset on.
    ///
    /// # Errors
    /// [`Error::CorruptBatch`].
    pub fn into_records(self) -> Result<Vec<ConsumerRecord>> {
        let mut owned = Vec::new();
        for batch in self.batches() {
            let header = *batch.header();
            if header.attributes.is_control() || header.record_count == 0 {
                continue;
            }
            let damaged = |error: &dyn std::fmt::Display| Error::CorruptBatch {
                partition: self.partition.clone(),
                offset: header.base_offset,
                what: error.to_string().into(),
            };
            let memory = match header.compression() {
                Compression::None => self.bytes.slice_ref(batch.body()),
                codec => {
                    let mut decompressed = Vec::new();
                    codec
                        .decompress(batch.body(), &mut decompressed, self.decompressed_bytes_max)
                        .map_err(|error| damaged(&error))?;
                    Bytes::from(decompressed)
                }
            };
            owned.reserve(usize::try_from(header.record_count).unwrap_or_default());
            for record in batch.records_in(&memory) {
                let record = record.map_err(|error| damaged(&error))?;
                if self.from <= record.offset {
                    owned.push(self.own(&record, &memory));
                }
            }
        }
        Ok(owned)
    }

    fn own(&self, record: &Record<'_>, memory: &Bytes) -> ConsumerRecord {
        let share = |part: &[u8]| memory.slice_ref(part);
        ConsumerRecord {
            partition: self.partition.clone(),
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(share),
            value: record.value.map(share),
            headers: record
                .headers()
                .map(|header| (share(header.key), header.value.map(share)))
                .collect(),
        }
    }
}

fn corrupt(partition: &TopicPartition, offset: Offset, error: &BatchError) -> Error {
    Error::CorruptBatch {
        partition: partition.clone(),
        offset,
        what: error.to_string().into(),
    }
}
