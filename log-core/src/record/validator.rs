//! What a broker checks before it takes a producer's batch, and the batch that passed.
//!
//! The order is Kafka's, because it decides which error a client sees: framing, base offset, size, checksum, then
//! what the header says, then the records.
//!
//! Each record is looked at, compressed or not: its structure, its offset (0, 1, 2 …), its timestamp, and its key where
//! the topic requires one. Compressed records pass by a window at a time and are not kept; what is stored is the
//! producer's own bytes, unless the topic names another codec. Then a batch that passed is written anew in that codec
//! (`recompression`), and its size is checked once more.
//!
//! Two fields may be rewritten, as Kafka does: the timestamp type, to the topic's, and the largest timestamp, to the
//! time of the append or to what the records say. The checksum is then computed again, here and not under the
//! partition's lock; base offset and leader epoch, which it does not cover, are stamped on later.
//!
//! A producer that claims the time of append is refused where the topic demands that time. Elsewhere the claim is
//! dropped, and what counts are the records' own times, because those are what readers will see; Kafka checks the
//! claimed time, and stores records whose times nobody checked.
//!
//! Invariant: a [`ValidatedBatch`] exists only if it passed, or if the broker made it itself.
//!
//! Sequences, epochs and transactions are `producer_state`'s task.

use bytes::Bytes;

use super::batch::Batch;

use super::batch_header::{BatchError, BatchHeader, HEADER_LENGTH, framed_size, verify_checksum};
use super::compression::{Codec, Compression, CompressionError, DECOMPRESSED_BYTES_MAX, UnknownCompression};
use super::recompression::{RecompressionError, recompress};
use super::record::{RecordError, RecordErrorKind, RecordFacts};
use crate::config::TimestampType;
use crate::model::{LeaderEpoch, Offset, ProducerId, Sequence, TimestampMs};

/// At most this many records of a batch are named in an error; a batch may hold a hundred thousand bad ones.
pub const FAULTS_MAX: usize = 1000;

/// What a topic demands of batches, and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceRules {
    /// The largest batch, header included (`max.message.bytes`).
    pub batch_bytes_max: u64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// How far a timestamp may lie behind `now` (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
    /// How far a timestamp may lie ahead of `now` (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    /// The broker's time.
    pub now: TimestampMs,
    /// Whether each record needs a key: the topic is compacted.
    pub requires_keys: bool,
    /// How batches are to be compressed (`compression.type`); none leaves that to their producers.
    pub codec: Option<Codec>,
}

impl ProduceRules {
    /// Whether a record may carry this timestamp.
    fn allows(&self, timestamp: TimestampMs) -> bool {
        if self.timestamp_type == TimestampType::LogAppendTime || timestamp == TimestampMs::NONE {
            return true;
        }
        // Saturation keeps the answer right: both limits may be i64::MAX, "none".
        self.now.saturating_since(timestamp) <= self.timestamp_before_max_ms
            && timestamp.saturating_since(self.now) <= self.timestamp_after_max_ms
    }

    fn earliest(&self) -> TimestampMs {
        self.now
            .saturating_plus(self.timestamp_before_max_ms.saturating_neg())
    }

    fn latest(&self) -> TimestampMs {
        self.now.saturating_plus(self.timestamp_after_max_ms)
    }
}

/// One record breaks the topic's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {index}: {reason}")]
pub struct RecordFault {
    /// Which record, counted from 0.
    pub index: u32,
    /// What is wrong with it.
    pub reason: RecordFaultReason,
}

/// Which rule a record breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFaultReason {
    /// A compacted topic takes records with keys only.
    #[error("a compacted topic takes no record without a key")]
    KeyMissing,
    /// The timestamp is too far from the broker's time.
    #[error("timestamp {found} is not within {earliest} to {latest}")]
    TimestampOutOfRange {
        /// The timestamp.
        found: TimestampMs,
        /// The smallest that is allowed.
        earliest: TimestampMs,
        /// The largest that is allowed.
        latest: TimestampMs,
    },
    /// A producer claims the broker's clock.
    #[error("a producer may not set the timestamp type to LogAppendTime")]
    AppendTimeClaimed,
}

impl RecordFaultReason {
    /// Whether the fault lies in the timestamp.
    #[must_use]
    pub const fn is_timestamp(&self) -> bool {
        !matches!(self, Self::KeyMissing)
    }
}

/// A produced batch was refused. Each variant names the error code Kafka's clients expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The request has no records for the partition. `INVALID_RECORD`.
    #[error("there is no record batch")]
    NoBatch,
    /// The bytes end before the batch does. `INVALID_RECORD`.
    #[error("the batch takes {expected} bytes, and {found} are there")]
    Incomplete {
        /// How many bytes the batch takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// More than one batch, or bytes behind it. `INVALID_RECORD`.
    #[error("exactly one batch is taken; {found} bytes follow the first, which has {size}")]
    SeveralBatches {
        /// The size of the first batch.
        size: usize,
        /// How many bytes follow it.
        found: usize,
    },
    /// A message set of Kafka before 0.11. `UNSUPPORTED_FOR_MESSAGE_FORMAT` (Kafka 4 says `INVALID_RECORD`).
    #[error("magic {found} is a format that Kafka gave up; 2 is taken")]
    OldMagic {
        /// 0 or 1.
        found: u8,
    },
    /// Length, magic or checksum are wrong: the bytes were damaged on their way. `CORRUPT_MESSAGE`.
    #[error(transparent)]
    Corrupt(BatchError),
    /// The batch is larger than the topic allows, as it came or in the topic's codec. `MESSAGE_TOO_LARGE`.
    #[error("the batch has {size} bytes, {max} are allowed")]
    TooLarge {
        /// The size of the batch.
        size: usize,
        /// What the topic allows.
        max: u64,
    },
    /// The records decompress to more than the broker reads. `MESSAGE_TOO_LARGE`.
    #[error(transparent)]
    DecompressedTooLarge(CompressionError),
    /// The attributes name no known codec. `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error(transparent)]
    Compression(UnknownCompression),
    /// Producers number from 0; offsets are the broker's to assign. `INVALID_RECORD`.
    #[error("the base offset is {found}, 0 was expected")]
    BaseOffset {
        /// What was found.
        found: i64,
    },
    /// Offsets or record count of the header make no sense. `INVALID_RECORD`.
    #[error(transparent)]
    Header(BatchError),
    /// A producer's batch has one record for each offset, and one at least. `INVALID_RECORD`.
    #[error("the batch has {records} records for {offsets} offsets")]
    RecordCount {
        /// The record count.
        records: u32,
        /// How many offsets the batch spans.
        offsets: u32,
    },
    /// Control batches are the broker's. `INVALID_RECORD`.
    #[error("producers may not write control batches")]
    Control,
    /// An idempotent producer's batch has no sequence. `INVALID_RECORD`.
    #[error("producer {producer_id} sent the sequence {found}")]
    Sequence {
        /// The producer.
        producer_id: ProducerId,
        /// What was found.
        found: Sequence,
    },
    /// A record is malformed, or the records do not decompress. `INVALID_RECORD`.
    #[error(transparent)]
    Record(RecordError),
    /// Records break the topic's rules, and no timestamp is among the reasons. `INVALID_RECORD`.
    #[error("{count} records are refused, the first being {}", faults.first().map_or(0, |fault| fault.index))]
    InvalidRecords {
        /// How many.
        count: u32,
        /// The first [`FAULTS_MAX`] of them.
        faults: Vec<RecordFault>,
    },
    /// Records break the topic's rules, timestamps among the reasons. `INVALID_TIMESTAMP`.
    #[error("{count} records are refused, some for their timestamps, the first being {}",
        faults.first().map_or(0, |fault| fault.index))]
    InvalidTimestamps {
        /// How many.
        count: u32,
        /// The first [`FAULTS_MAX`] of them.
        faults: Vec<RecordFault>,
    },
}

impl ProduceError {
    /// The records at fault, as far as they are known one by one.
    #[must_use]
    pub fn record_faults(&self) -> &[RecordFault] {
        match self {
            Self::InvalidRecords { faults, .. } | Self::InvalidTimestamps { faults, .. } => faults,
            _ => &[],
        }
    }
}

/// A batch that may be appended once it is stamped with its offset and leader epoch.
#[derive(Debug, Clone)]
pub struct ValidatedBatch {
    /// As it goes to disk, but for base offset and leader epoch.
    header: BatchHeader,
    /// As it arrived, or written anew; the header in front of it is out of date.
    bytes: Bytes,
}

impl ValidatedBatch {
    /// The header as it goes to disk, but for base offset (0) and leader epoch.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header as it goes to disk at this offset.
    #[must_use]
    pub fn header_at(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> BatchHeader {
        BatchHeader {
            base_offset,
            leader_epoch,
            ..self.header
        }
    }

    /// The bytes of the header as it goes to disk at this offset; [`ValidatedBatch::body`] follows it.
    #[must_use]
    pub fn stamp(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; HEADER_LENGTH] {
        self.header_at(base_offset, leader_epoch).to_bytes()
    }

    /// The bytes behind the header.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.split_at(HEADER_LENGTH).1
    }

    /// The bytes behind the header, shared.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER_LENGTH..)
    }

    /// The bytes of the whole batch.
    #[must_use]
    pub fn size(&self) -> usize {
        self.header.size()
    }

    /// The largest timestamp, as it goes to disk.
    #[must_use]
    pub fn max_timestamp(&self) -> TimestampMs {
        self.header.max_timestamp
    }

    /// The same for a topic whose timestamps mean something else.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        let max_timestamp = self.header.max_timestamp;
        Self::new(self.header, self.bytes, timestamp_type, max_timestamp)
    }

    /// Sets what the broker decides, and the checksum if that changes anything under it.
    fn new(arrived: BatchHeader, bytes: Bytes, timestamp_type: TimestampType, max: TimestampMs) -> Self {
        let mut header = BatchHeader {
            attributes: arrived.attributes.with_timestamp_type(timestamp_type),
            max_timestamp: max,
            ..arrived
        };
        if header != arrived {
            header.crc = header.compute_crc(bytes.split_at(HEADER_LENGTH).1);
        }
        Self { header, bytes }
    }
}

/// Checks what a producer sent for one partition: exactly one batch, as Kafka demands from Produce v3 on.
/// Copies nothing, and allocates only where records are compressed or at fault; a batch in another codec than the
/// topic's is written anew, which takes time.
///
/// # Errors
/// [`ProduceError`]: the first rule that is broken, or all records that break one.
pub fn validate_produce(records: &Bytes, rules: &ProduceRules) -> Result<ValidatedBatch, ProduceError> {
    validate_produce_within(records, rules, DECOMPRESSED_BYTES_MAX)
}

/// As [`validate_produce`], with a limit of the caller's on what may come out of compressed records: for one who has
/// little time, and will ask again on a thread that has more.
///
/// # Errors
/// [`ProduceError::DecompressedTooLarge`] beyond the limit, and all those of [`validate_produce`].
pub fn validate_produce_within(
    records: &Bytes,
    rules: &ProduceRules,
    decompressed_bytes_max: usize,
) -> Result<ValidatedBatch, ProduceError> {
    check_frame(records, rules)?;
    verify_checksum(records).map_err(ProduceError::Corrupt)?;
    let batch = Batch::parse(records).map_err(|error| match error {
        BatchError::Compression(unknown) => ProduceError::Compression(unknown),
        error => ProduceError::Header(error),
    })?;
    check_header(batch.header())?;
    let checked = check_records(&batch, rules, decompressed_bytes_max)?;
    let max_timestamp = match rules.timestamp_type {
        TimestampType::CreateTime => checked.max_timestamp,
        TimestampType::LogAppendTime => rules.now,
    };
    let (header, bytes) = match rules.codec {
        Some(codec) if codec.compression != batch.header().compression() => {
            in_codec(&batch, checked.length, codec, rules)?
        }
        _ => (*batch.header(), records.clone()),
    };
    Ok(ValidatedBatch::new(
        header,
        bytes,
        rules.timestamp_type,
        max_timestamp,
    ))
}

/// The batch in the topic's codec.
fn in_codec(
    batch: &Batch<'_>,
    records_length: usize,
    codec: Codec,
    rules: &ProduceRules,
) -> Result<(BatchHeader, Bytes), ProduceError> {
    let max = rules.batch_bytes_max;
    recompress(batch, records_length, codec, max).map_err(|error| match error {
        RecompressionError::TooLarge(size) => ProduceError::TooLarge { size, max },
        RecompressionError::Damaged(error) => refuse(RecordError {
            index: 0,
            kind: error.into(),
        }),
    })
}

/// Takes a batch the broker built itself: an internal log's records, a transaction marker.
///
/// # Errors
/// When the bytes do not begin with a whole batch with the right checksum, which would be a mistake of ours.
pub fn trust_own(mut records: Bytes) -> Result<ValidatedBatch, BatchError> {
    let header = *Batch::parse(&records)?.header();
    records.truncate(header.size());
    verify_checksum(&records)?;
    Ok(ValidatedBatch {
        header,
        bytes: records,
    })
}

fn check_frame(records: &[u8], rules: &ProduceRules) -> Result<(), ProduceError> {
    if records.is_empty() {
        return Err(ProduceError::NoBatch);
    }
    let size = framed_size(records).map_err(|error| match error {
        BatchError::Incomplete { expected, found } => ProduceError::Incomplete { expected, found },
        BatchError::OldMagic { found } => ProduceError::OldMagic { found },
        error => ProduceError::Corrupt(error),
    })?;
    let found = records.len();
    if found < size {
        return Err(ProduceError::Incomplete {
            expected: size,
            found,
        });
    }
    if size < found {
        return Err(ProduceError::SeveralBatches {
            size,
            found: found - size,
        });
    }
    let base_offset = records
        .first_chunk()
        .map_or(0, |bytes| i64::from_be_bytes(*bytes));
    if base_offset != 0 {
        return Err(ProduceError::BaseOffset { found: base_offset });
    }
    let within = u64::try_from(size).is_ok_and(|size| size <= rules.batch_bytes_max);
    if !within {
        return Err(ProduceError::TooLarge {
            size,
            max: rules.batch_bytes_max,
        });
    }
    Ok(())
}

fn check_header(header: &BatchHeader) -> Result<(), ProduceError> {
    let offsets = header.last_offset_delta + 1;
    if header.record_count != offsets {
        return Err(ProduceError::RecordCount {
            records: header.record_count,
            offsets,
        });
    }
    if header.attributes.is_control() {
        return Err(ProduceError::Control);
    }
    if header.has_producer_id() && header.base_sequence < Sequence::new(0) {
        return Err(ProduceError::Sequence {
            producer_id: header.producer_id,
            found: header.base_sequence,
        });
    }
    Ok(())
}

/// What was found out about records that are as they should be.
struct CheckedRecords {
    max_timestamp: TimestampMs,
    /// How many bytes they are, uncompressed.
    length: usize,
}

/// Walks over the records.
fn check_records(
    batch: &Batch<'_>,
    rules: &ProduceRules,
    decompressed_bytes_max: usize,
) -> Result<CheckedRecords, ProduceError> {
    let claims_append_time = batch.header().attributes.timestamp_type() == TimestampType::LogAppendTime;
    let is_false_claim = claims_append_time && rules.timestamp_type == TimestampType::LogAppendTime;
    let batch = batch.with_create_time();
    let demands = Demands {
        base_offset: batch.header().base_offset,
        is_false_claim,
        rules,
    };
    if batch.header().compression() == Compression::None {
        let records = batch.records_in(batch.body());
        let max_timestamp = demands.check(records.map(|record| record.map(RecordFacts::from)))?;
        let length = batch.body().len();
        return Ok(CheckedRecords {
            max_timestamp,
            length,
        });
    }
    let records = batch.compressed_records(decompressed_bytes_max);
    let mut records = records.map_err(refuse)?;
    Ok(CheckedRecords {
        max_timestamp: demands.check(&mut records)?,
        length: records.length(),
    })
}

/// What the records of one batch are held against.
struct Demands<'a> {
    base_offset: Offset,
    /// Whether the producer sets a time that is the broker's to set.
    is_false_claim: bool,
    rules: &'a ProduceRules,
}

impl Demands<'_> {
    /// Looks at all of them, and returns their largest timestamp.
    fn check(
        &self,
        records: impl Iterator<Item = Result<RecordFacts, RecordError>>,
    ) -> Result<TimestampMs, ProduceError> {
        let mut max_timestamp = TimestampMs::NONE;
        let mut faults = Faults::default();
        for (index, record) in (0_u32..).zip(records) {
            let record = record.map_err(refuse)?;
            self.check_offset(index, &record)?;
            max_timestamp = max_timestamp.max(record.timestamp);
            if let Some(reason) = self.find_fault(&record) {
                faults.push(RecordFault { index, reason });
            }
        }
        faults.into_result().map(|()| max_timestamp)
    }

    /// Producers number the records of a batch 0, 1, 2 and so on.
    fn check_offset(&self, index: u32, record: &RecordFacts) -> Result<(), ProduceError> {
        let delta = record.offset.minus(self.base_offset);
        if delta == i64::from(index) {
            return Ok(());
        }
        Err(ProduceError::Record(RecordError {
            index,
            kind: RecordErrorKind::OffsetDelta {
                found: i32::try_from(delta).expect("the offset lies within its batch"),
                min: index,
                max: index,
            },
        }))
    }

    /// The one fault of a record that is reported: the key before the timestamp, as Kafka has it.
    fn find_fault(&self, record: &RecordFacts) -> Option<RecordFaultReason> {
        let rules = self.rules;
        if rules.requires_keys && !record.has_key {
            return Some(RecordFaultReason::KeyMissing);
        }
        if self.is_false_claim {
            return Some(RecordFaultReason::AppendTimeClaimed);
        }
        if rules.allows(record.timestamp) {
            return None;
        }
        Some(RecordFaultReason::TimestampOutOfRange {
            found: record.timestamp,
            earliest: rules.earliest(),
            latest: rules.latest(),
        })
    }
}

fn refuse(error: RecordError) -> ProduceError {
    match error.kind {
        RecordErrorKind::Compression(error @ CompressionError::TooLarge { .. }) => {
            ProduceError::DecompressedTooLarge(error)
        }
        _ => ProduceError::Record(error),
    }
}

/// The records at fault: all counted, the first of them kept.
#[derive(Default)]
struct Faults {
    count: u32,
    timestamps: bool,
    kept: Vec<RecordFault>,
}

impl Faults {
    fn push(&mut self, fault: RecordFault) {
        self.count += 1;
        self.timestamps |= fault.reason.is_timestamp();
        if self.kept.len() < FAULTS_MAX {
            self.kept.push(fault);
        }
    }

    fn into_result(self) -> Result<(), ProduceError> {
        let Self {
            count,
            timestamps,
            kept: faults,
        } = self;
        match (count, timestamps) {
            (0, _) => Ok(()),
            (_, false) => Err(ProduceError::InvalidRecords { count, faults }),
            (_, true) => Err(ProduceError::InvalidTimestamps { count, faults }),
        }
    }
}
