//! Control records: what brokers write into partitions for brokers and clients, not for readers.
//!
//! | key | bytes | | value of an end of transaction | bytes |
//! |---|---|---|---|---|
//! | version, 0 | 2 | | version, 0 | 2 |
//! | type: 0 abort, 1 commit, 2 and more belong to Kafka's quorum | 2 | | coordinator epoch | 4 |
//!
//! Later versions may add fields behind these, so longer keys and values are read.

use bytes::Bytes;

use super::batch::Batch;
use super::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use super::record::Record;
use super::validator::{ValidatedBatch, trust_own};
use crate::config::TimestampType;
use crate::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs, TransactionVersion};

const VERSION: i16 = 0;
const TYPE_ABORT: i16 = 0;
const TYPE_COMMIT: i16 = 1;
/// Control batches are never compressed, and hold a few numbers.
const CONTROL_BYTES_MAX: usize = 4 << 10;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// Its records count.
    Commit,
    /// Its records are as if they had not been written.
    Abort,
}

/// The marker that ends a transaction in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// How it ended.
    pub outcome: TransactionOutcome,
    /// The epoch of the coordinator that decided; an older one is fenced.
    pub coordinator_epoch: i32,
}

/// The end of a transaction, as its coordinator wants it written into a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Whose transaction it is.
    pub producer_id: ProducerId,
    /// The epoch that counts from then on: that of the transaction, or by version 2 the next.
    pub producer_epoch: ProducerEpoch,
    /// Which rules the transaction follows.
    pub version: TransactionVersion,
    /// What is written.
    pub marker: EndTransactionMarker,
}

/// The batch of a transaction marker, ready to be appended.
#[derive(Debug, Clone)]
pub struct MarkerBatch {
    end: TransactionEnd,
    batch: ValidatedBatch,
}

/// A record of a control batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRecord {
    /// The end of a transaction.
    EndTransaction(EndTransactionMarker),
    /// A type this broker has no use for; readers skip it, as Kafka's do.
    Other {
        /// The type.
        kind: i16,
    },
}

/// A control record is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlRecordError {
    /// The key or value is missing or too short.
    #[error("the {part} of a control record has {found} bytes, at least {expected} were expected")]
    TooShort {
        /// `key` or `value`.
        part: &'static str,
        /// How many bytes there are.
        found: usize,
        /// How many it takes at least.
        expected: usize,
    },
    /// A version is negative.
    #[error("the {part} of a control record has version {found}")]
    Version {
        /// `key` or `value`.
        part: &'static str,
        /// What was found.
        found: i16,
    },
}

impl ControlRecord {
    /// Reads a record of a control batch.
    ///
    /// # Errors
    /// When the key, or the value of a type that is known, is malformed.
    pub fn parse(record: &Record<'_>) -> Result<Self, ControlRecordError> {
        let kind = i16::from_be_bytes(versioned("key", record.key)?);
        let outcome = match kind {
            TYPE_ABORT => TransactionOutcome::Abort,
            TYPE_COMMIT => TransactionOutcome::Commit,
            kind => return Ok(Self::Other { kind }),
        };
        Ok(Self::EndTransaction(EndTransactionMarker {
            outcome,
            coordinator_epoch: i32::from_be_bytes(versioned("value", record.value)?),
        }))
    }
}

/// The field behind the version, which may be any that is not negative.
fn versioned<const N: usize>(
    part: &'static str,
    bytes: Option<&[u8]>,
) -> Result<[u8; N], ControlRecordError> {
    let bytes = bytes.unwrap_or_default();
    let too_short = ControlRecordError::TooShort {
        part,
        found: bytes.len(),
        expected: size_of::<i16>() + N,
    };
    let (version, rest) = bytes.split_first_chunk().ok_or(too_short)?;
    let field = rest.first_chunk().ok_or(too_short)?;
    let found = i16::from_be_bytes(*version);
    if found < VERSION {
        return Err(ControlRecordError::Version { part, found });
    }
    Ok(*field)
}

impl TransactionEnd {
    /// The batch for a topic whose timestamps mean `timestamp_type`.
    ///
    /// # Panics
    /// Never: a batch that was just built is sound.
    #[must_use]
    pub fn to_batch(self, now: TimestampMs, timestamp_type: TimestampType) -> MarkerBatch {
        let bytes = self.marker.to_batch(self.producer_id, self.producer_epoch, now);
        let batch = trust_own(bytes).expect("a batch that was just built is sound");
        MarkerBatch {
            end: self,
            batch: batch.with_timestamp_type(timestamp_type),
        }
    }
}

impl MarkerBatch {
    /// What it says.
    #[must_use]
    pub fn end(&self) -> &TransactionEnd {
        &self.end
    }

    /// Its bytes.
    #[must_use]
    pub fn batch(&self) -> &ValidatedBatch {
        &self.batch
    }
}

impl EndTransactionMarker {
    /// The marker in a batch; `None` where there is none: compaction leaves control batches without records, and others are of
    /// no use here.
    #[must_use]
    pub fn in_batch(bytes: &[u8]) -> Option<Self> {
        let batch = Batch::parse(bytes).ok()?;
        if !batch.header().attributes.is_control() {
            return None;
        }
        let mut scratch = Vec::new();
        let record = batch
            .records(&mut scratch, CONTROL_BYTES_MAX)
            .ok()?
            .next()?
            .ok()?;
        match ControlRecord::parse(&record).ok()? {
            ControlRecord::EndTransaction(marker) => Some(marker),
            ControlRecord::Other { .. } => None,
        }
    }

    /// The control batch that carries this marker, its offset yet to be assigned.
    ///
    /// # Panics
    /// Never: a marker always fits a batch.
    #[must_use]
    pub fn to_batch(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: TimestampMs,
    ) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: BatchProducer {
                id: producer_id,
                epoch: producer_epoch,
                base_sequence: Sequence::NONE,
            },
            transactional: true,
            control: true,
            ..BatchOptions::default()
        });
        let kind = match self.outcome {
            TransactionOutcome::Abort => TYPE_ABORT,
            TransactionOutcome::Commit => TYPE_COMMIT,
        };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let value = [
            VERSION.to_be_bytes().as_slice(),
            &self.coordinator_epoch.to_be_bytes(),
        ]
        .concat();
        builder
            .append(timestamp, Some(&key), Some(&value), &[])
            .expect("a marker fits a batch");
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaderEpoch, Offset};
    use crate::record::batch_header::verify_checksum;

    #[test]
    fn a_marker_has_the_time_that_the_topic_s_records_have() {
        let end = TransactionEnd {
            producer_id: ProducerId::new(7),
            producer_epoch: ProducerEpoch::new(3),
            version: TransactionVersion::V2,
            marker: EndTransactionMarker {
                outcome: TransactionOutcome::Abort,
                coordinator_epoch: 12,
            },
        };
        for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
            let marker = end.to_batch(TimestampMs::new(1000), timestamp_type);
            let batch = marker.batch();
            let header = batch.header_at(Offset::new(42), LeaderEpoch::FIRST);
            assert_eq!(header.attributes.timestamp_type(), timestamp_type);
            assert_eq!(header.max_timestamp, TimestampMs::new(1000));
            assert_eq!((header.base_sequence, header.record_count), (Sequence::NONE, 1));
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            let stamp = batch.stamp(Offset::new(42), LeaderEpoch::FIRST);
            let bytes = [stamp.as_slice(), batch.body()].concat();
            verify_checksum(&bytes).unwrap();
            assert_eq!(EndTransactionMarker::in_batch(&bytes), Some(end.marker));
        }
    }
}
