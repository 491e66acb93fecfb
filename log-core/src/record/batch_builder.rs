//! Making a record batch: what producers, coordinators, the metadata log and the cleaner write.
//!
//! Records gather uncompressed behind room for the header; `build` compresses them, fills the header in and
//! sets the checksum. An uncompressed batch is not copied.
//!
//! Invariant: the batch that is built is one that `batch` and `record` read back, whatever was appended.
//! When to stop gathering is the caller's decision, by [`BatchBuilder::estimated_size`] and
//! [`record_size_max`](super::record::record_size_max).

use bytes::Bytes;

use super::batch_attributes::Attributes;

use super::batch_header::{BatchHeader, HEADER_LENGTH, LENGTH_OVERHEAD};
use super::compression::Compression;
use super::record::{RecordHeader, RecordToWrite};
use crate::config::TimestampType;
use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// Records of one batch take at most this much before compression, so that no length overflows, not even that of
/// records that do not compress.
pub const UNCOMPRESSED_BYTES_MAX: usize = 1 << 30;

/// The idempotent producer of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the first record; none for control batches.
    pub base_sequence: Sequence,
}

impl Default for BatchProducer {
    /// No idempotent producer.
    fn default() -> Self {
        Self {
            id: ProducerId::NONE,
            epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
        }
    }
}

/// What a batch says about itself besides its records. The default is what a plain producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// The codec.
    pub compression: Compression,
    /// The codec's level; none is the usual one.
    pub compression_level: Option<i32>,
    /// Which clock the timestamps come from.
    pub timestamp_type: TimestampType,
    /// The idempotent producer, or none.
    pub producer: BatchProducer,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the records are control records.
    pub control: bool,
    /// When tombstones in the batch may go; only compaction sets it.
    pub delete_horizon: Option<TimestampMs>,
    /// The offset of the first record; 0 until a broker assigns one.
    pub base_offset: Offset,
    /// The epoch of the leader; none until a broker assigns one.
    pub leader_epoch: LeaderEpoch,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            compression_level: None,
            timestamp_type: TimestampType::CreateTime,
            producer: BatchProducer::default(),
            transactional: false,
            control: false,
            delete_horizon: None,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
        }
    }
}

/// A record does not go into the batch; the batch is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record, or the batch with it, exceeds what the format allows.
    #[error("the batch holds {used} bytes and takes {limit} at most")]
    TooLarge {
        /// What the batch holds without the record.
        used: usize,
        /// What it may hold.
        limit: usize,
    },
    /// The offset lies before the next one, or too far ahead for one batch.
    #[error("offset {found} does not fit a batch from {base_offset} on whose next offset is {next_offset}")]
    Offset {
        /// The offset of the record.
        found: Offset,
        /// Where the batch begins.
        base_offset: Offset,
        /// The smallest offset it takes.
        next_offset: Offset,
    },
    /// The timestamps of one batch are too far apart.
    #[error("timestamp {found} is too far from the batch's base timestamp {base_timestamp}")]
    Timestamp {
        /// The timestamp of the record.
        found: TimestampMs,
        /// What timestamps are relative to.
        base_timestamp: TimestampMs,
    },
}

/// A batch in the making.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    base_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
    next_offset_delta: u32,
    record_count: u32,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 0)
    }

    /// An empty batch with room for records of so many bytes.
    #[must_use]
    pub fn with_capacity(options: BatchOptions, capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_LENGTH + capacity);
        buffer.resize(HEADER_LENGTH, 0);
        Self {
            options,
            buffer,
            base_timestamp: options.delete_horizon,
            max_timestamp: TimestampMs::NONE,
            next_offset_delta: 0,
            record_count: 0,
        }
    }

    /// Appends a record at the next offset, and returns how far that lies behind the base offset.
    ///
    /// # Errors
    /// [`AppendError`]; the batch is as it was.
    pub fn append(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<u32, AppendError> {
        self.append_at(self.next_offset(), timestamp, key, value, headers)
    }

    /// Appends a record at its own offset, which lies behind those before it; compaction leaves gaps.
    ///
    /// # Errors
    /// [`AppendError`]; the batch is as it was.
    pub fn append_at(
        &mut self,
        offset: Offset,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<u32, AppendError> {
        let base_timestamp = self.base_timestamp.unwrap_or(timestamp);
        let timestamp_delta = timestamp.get().checked_sub(base_timestamp.get());
        let offset_delta = self.offset_delta(offset)?;
        let record = RecordToWrite {
            offset_delta,
            timestamp_delta: timestamp_delta.ok_or(AppendError::Timestamp {
                found: timestamp,
                base_timestamp,
            })?,
            key,
            value,
            headers,
        };
        let used = self.buffer.len() - HEADER_LENGTH;
        let fits = record
            .size()
            .is_some_and(|size| size <= UNCOMPRESSED_BYTES_MAX - used);
        if !fits {
            return Err(AppendError::TooLarge {
                used,
                limit: UNCOMPRESSED_BYTES_MAX,
            });
        }

        record.write(&mut self.buffer);
        self.base_timestamp = Some(base_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.next_offset_delta = offset_delta.unsigned_abs() + 1;
        self.record_count += 1;
        Ok(offset_delta.unsigned_abs())
    }

    fn offset_delta(&self, offset: Offset) -> Result<i32, AppendError> {
        let in_order = self.next_offset() <= offset;
        let delta = i32::try_from(offset.get().saturating_sub(self.options.base_offset.get()));
        match delta {
            Ok(delta) if in_order => Ok(delta),
            _ => Err(AppendError::Offset {
                found: offset,
                base_offset: self.options.base_offset,
                next_offset: self.next_offset(),
            }),
        }
    }

    /// The offset the next record gets.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.options.base_offset.plus(i64::from(self.next_offset_delta))
    }

    /// Makes the batch stand for every offset up to `last_offset`, whether or not records remain of them: compaction
    /// keeps the range of a batch, and with it its producer's sequences.
    ///
    /// # Errors
    /// [`AppendError::Offset`] when the batch has a record behind it, or it lies too far ahead for one batch.
    pub fn extend_to(&mut self, last_offset: Offset) -> Result<(), AppendError> {
        if last_offset.get().checked_add(1) == Some(self.next_offset().get()) && self.next_offset_delta != 0 {
            return Ok(());
        }
        self.next_offset_delta = self.offset_delta(last_offset)?.unsigned_abs() + 1;
        Ok(())
    }

    /// Names the idempotent producer, which a client decides only when it sends.
    pub fn set_producer(&mut self, producer: BatchProducer) {
        self.options.producer = producer;
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The bytes of the batch as if it were not compressed: exact if it is not, else what it will hardly exceed.
    #[must_use]
    pub fn estimated_size(&self) -> usize {
        self.buffer.len()
    }

    /// The batch, checksum set. Without records it is a bare header, as compaction leaves it.
    ///
    /// # Panics
    /// When a codec fails on bytes in memory, or turns 1 GiB into more than 2, which are mistakes of ours.
    #[must_use]
    pub fn build(self) -> Bytes {
        let compressed = !self.is_empty() && self.options.compression != Compression::None;
        let (_, records) = self.buffer.split_at(HEADER_LENGTH);
        let mut header = self.header();
        if !compressed {
            header.attributes = header.attributes.with_compression(Compression::None);
            return seal(header, self.buffer);
        }
        let mut buffer = vec![0; HEADER_LENGTH];
        let codec = self.options.compression;
        codec.compress(self.options.compression_level, records, &mut buffer);
        seal(header, buffer)
    }

    /// The header, as far as it is known before the records are compressed.
    fn header(&self) -> BatchHeader {
        let options = &self.options;
        let attributes = Attributes::default()
            .with_compression(options.compression)
            .with_timestamp_type(options.timestamp_type)
            .with_transactional(options.transactional)
            .with_control(options.control)
            .with_delete_horizon(options.delete_horizon.is_some());
        BatchHeader {
            base_offset: options.base_offset,
            batch_length: 0,
            leader_epoch: options.leader_epoch,
            crc: 0,
            attributes,
            last_offset_delta: self.next_offset_delta.saturating_sub(1),
            base_timestamp: self.base_timestamp.unwrap_or(TimestampMs::NONE),
            max_timestamp: self.max_timestamp,
            producer_id: options.producer.id,
            producer_epoch: options.producer.epoch,
            base_sequence: options.producer.base_sequence,
            record_count: self.record_count,
        }
    }
}

/// Fills the header into the room in front of `buffer`, with the length and the checksum of what is behind it.
fn seal(mut header: BatchHeader, mut buffer: Vec<u8>) -> Bytes {
    let length = i32::try_from(buffer.len() - LENGTH_OVERHEAD).expect("a batch stays below 2 GiB");
    header.batch_length = length.unsigned_abs();
    let (room, body) = buffer.split_at_mut(HEADER_LENGTH);
    header.crc = header.compute_crc(body);
    room.copy_from_slice(&header.to_bytes());
    Bytes::from(buffer)
}
