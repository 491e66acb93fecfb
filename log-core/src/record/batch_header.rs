//! The header of a record batch (format v2).
//!
//! | at | bytes | field | under the checksum |
//! |---|---|---|---|
//! | 0 | 8 | base offset | no |
//! | 8 | 4 | length of what follows this field | no |
//! | 12 | 4 | partition leader epoch | no |
//! | 16 | 1 | magic, 2 | no |
//! | 17 | 4 | CRC-32C of everything that follows this field | no |
//! | 21 | 2 | attributes: compression 0–2, timestamp type 3, transactional 4, control 5, delete horizon 6 | yes |
//! | 23 | 4 | last offset delta, also that of the sequence | yes |
//! | 27 | 8 | base timestamp, or the delete horizon | yes |
//! | 35 | 8 | max timestamp | yes |
//! | 43 | 8 | producer id | yes |
//! | 51 | 2 | producer epoch | yes |
//! | 53 | 4 | base sequence | yes |
//! | 57 | 4 | record count | yes |
//! | 61 | | records | yes |
//!
//! Base offset and leader epoch lie outside the checksum, so that the broker can assign them without reading the rest.
//!
//! Invariants of a parsed header: the size is at least the header's; base offset, last offset and next offset
//! are offsets; there are no more records than offsets; the codec is known. The checksum is verified apart, and
//! records are looked at only when they are asked for (`record`).

use super::batch_attributes::Attributes;
use super::compression::{Compression, UnknownCompression};
use super::{crc32c, crc32c_of_parts};
use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = BASE_OFFSET_AT + 8;
const LEADER_EPOCH_AT: usize = LENGTH_AT + 4;
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
const CRC_AT: usize = MAGIC_AT + 1;
const ATTRIBUTES_AT: usize = CRC_AT + 4;
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4;
const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8;
const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8;
const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8;
const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2;
const RECORD_COUNT_AT: usize = BASE_SEQUENCE_AT + 4;

/// From the base offset to the record count.
pub const HEADER_LENGTH: usize = RECORD_COUNT_AT + 4;
/// What the length field does not count: the base offset and itself.
pub const LENGTH_OVERHEAD: usize = LEADER_EPOCH_AT;
/// The one magic that is read and written.
pub const MAGIC: u8 = 2;

const _: () = assert!(HEADER_LENGTH == 61);

/// The smallest length a batch of any format may declare; the old formats had shorter headers.
const LENGTH_MIN_OF_OLD_FORMATS: i32 = 14;
const LENGTH_MIN: i32 = 49;
const _: () = assert!(HEADER_LENGTH - LENGTH_OVERHEAD == 49);

/// Base offsets end here, so that no offset of a batch and none after it leaves the range of offsets.
const BASE_OFFSET_MAX: i64 = i64::MAX - (1 << 31);

/// A batch was refused for what its header says. Places are bytes from the start of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch takes {expected} bytes, and {found} are there")]
    Incomplete {
        /// How many bytes the batch (or its header, while its length is unknown) takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The length field holds less than a header.
    #[error("the length at byte {LENGTH_AT} is {found}, at least {LENGTH_MIN} was expected")]
    Length {
        /// What the field holds.
        found: i32,
    },
    /// A message set of Kafka before 0.11.
    #[error("the magic at byte {MAGIC_AT} is {found}, a format that Kafka gave up; 2 was expected")]
    OldMagic {
        /// 0 or 1.
        found: u8,
    },
    /// Not a batch.
    #[error("the magic at byte {MAGIC_AT} is {found}, 2 was expected")]
    UnknownMagic {
        /// What was found.
        found: u8,
    },
    /// The base offset is negative, or so large that offsets overflow.
    #[error("the base offset at byte {BASE_OFFSET_AT} is {found}, 0 to {BASE_OFFSET_MAX} was expected")]
    BaseOffset {
        /// What was found.
        found: i64,
    },
    /// The last offset lies before the first.
    #[error(
        "the last offset delta at byte {LAST_OFFSET_DELTA_AT} is {found}, no negative number was expected"
    )]
    LastOffsetDelta {
        /// What was found.
        found: i32,
    },
    /// There are fewer than no records, or more than offsets.
    #[error("the record count at byte {RECORD_COUNT_AT} is {found}, 0 to {offsets} was expected")]
    RecordCount {
        /// What was found.
        found: i32,
        /// How many offsets the batch spans.
        offsets: u32,
    },
    /// The attributes name no known codec.
    #[error("the attributes at byte {ATTRIBUTES_AT} are refused: {0}")]
    Compression(UnknownCompression),
    /// The bytes are not those that were written.
    #[error("the checksum at byte {CRC_AT} is {stored:#010x}, the batch has {computed:#010x}")]
    Checksum {
        /// What the field holds.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
}

/// The header of a batch, checked as the file comment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record the batch was made with; compaction may have taken the record.
    pub base_offset: Offset,
    /// The bytes after the length field.
    pub batch_length: u32,
    /// The epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Codec, clock and flags.
    pub attributes: Attributes,
    /// From the base offset to the last; at most `i32::MAX`.
    pub last_offset_delta: u32,
    /// What the timestamps of records are relative to; the delete horizon where the attributes say so.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp of the records, or the time of the append.
    pub max_timestamp: TimestampMs,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record, or none.
    pub base_sequence: Sequence,
    /// How many records there are: no more than offsets, fewer after compaction.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which need not hold the records.
    ///
    /// # Errors
    /// [`BatchError`], never that of the checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = frame_header(bytes)?;
        let base_offset = i64::from_be_bytes(field(header, BASE_OFFSET_AT));
        if !(0..=BASE_OFFSET_MAX).contains(&base_offset) {
            return Err(BatchError::BaseOffset { found: base_offset });
        }
        let last_offset_delta = i32::from_be_bytes(field(header, LAST_OFFSET_DELTA_AT));
        let last_offset_delta =
            u32::try_from(last_offset_delta).map_err(|_| BatchError::LastOffsetDelta {
                found: last_offset_delta,
            })?;
        let offsets = last_offset_delta + 1;
        let count = i32::from_be_bytes(field(header, RECORD_COUNT_AT));
        let record_count = u32::try_from(count)
            .ok()
            .filter(|count| *count <= offsets)
            .ok_or(BatchError::RecordCount {
                found: count,
                offsets,
            })?;
        let attributes = Attributes::from_bits(i16::from_be_bytes(field(header, ATTRIBUTES_AT)));
        attributes.compression().map_err(BatchError::Compression)?;
        Ok(Self {
            base_offset: Offset::new(base_offset),
            batch_length: u32::from_be_bytes(field(header, LENGTH_AT)),
            leader_epoch: LeaderEpoch::new(i32::from_be_bytes(field(header, LEADER_EPOCH_AT))),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes,
            last_offset_delta,
            base_timestamp: TimestampMs::new(i64::from_be_bytes(field(header, BASE_TIMESTAMP_AT))),
            max_timestamp: TimestampMs::new(i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId::new(i64::from_be_bytes(field(header, PRODUCER_ID_AT))),
            producer_epoch: ProducerEpoch::new(i16::from_be_bytes(field(header, PRODUCER_EPOCH_AT))),
            base_sequence: Sequence::new(i32::from_be_bytes(field(header, BASE_SEQUENCE_AT))),
            record_count,
        })
    }

    /// The header as it stands on the wire and on disk.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LENGTH] {
        let mut header = [0; HEADER_LENGTH];
        put(&mut header, BASE_OFFSET_AT, self.base_offset.get().to_be_bytes());
        put(&mut header, LENGTH_AT, self.batch_length.to_be_bytes());
        put(
            &mut header,
            LEADER_EPOCH_AT,
            self.leader_epoch.get().to_be_bytes(),
        );
        put(&mut header, MAGIC_AT, [MAGIC]);
        put(&mut header, CRC_AT, self.crc.to_be_bytes());
        put(&mut header, ATTRIBUTES_AT, self.attributes.bits().to_be_bytes());
        put(
            &mut header,
            LAST_OFFSET_DELTA_AT,
            self.last_offset_delta.to_be_bytes(),
        );
        put(
            &mut header,
            BASE_TIMESTAMP_AT,
            self.base_timestamp.get().to_be_bytes(),
        );
        put(
            &mut header,
            MAX_TIMESTAMP_AT,
            self.max_timestamp.get().to_be_bytes(),
        );
        put(&mut header, PRODUCER_ID_AT, self.producer_id.get().to_be_bytes());
        put(
            &mut header,
            PRODUCER_EPOCH_AT,
            self.producer_epoch.get().to_be_bytes(),
        );
        put(
            &mut header,
            BASE_SEQUENCE_AT,
            self.base_sequence.get().to_be_bytes(),
        );
        put(&mut header, RECORD_COUNT_AT, self.record_count.to_be_bytes());
        header
    }

    /// The checksum of this header in front of `body`, the bytes behind the header.
    #[must_use]
    pub fn compute_crc(&self, body: &[u8]) -> u32 {
        let header = self.to_bytes();
        let (_, covered) = header.split_at(ATTRIBUTES_AT);
        crc32c_of_parts(&[covered, body])
    }

    /// The bytes of the whole batch.
    #[must_use]
    pub fn size(&self) -> usize {
        LENGTH_OVERHEAD + in_memory(self.batch_length)
    }

    /// The last offset the batch stands for.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset behind the batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// The sequence of the last record; [`Sequence::NONE`] where the first has none.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence < Sequence::new(0) {
            return Sequence::NONE;
        }
        self.base_sequence.plus(self.last_offset_delta.cast_signed())
    }

    /// How the records are compressed.
    ///
    /// # Panics
    /// When the header was not parsed but made with an unknown codec.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.attributes
            .compression()
            .expect("a parsed header has a known codec")
    }

    /// Whether an idempotent producer, or a transaction, wrote the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        ProducerId::NONE < self.producer_id
    }

    /// When tombstones in the batch may go, once compaction has set it.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        self.attributes
            .has_delete_horizon()
            .then_some(self.base_timestamp)
    }
}

/// The header's bytes, once length and magic say that they are a header of this format.
fn frame_header(bytes: &[u8]) -> Result<&[u8; HEADER_LENGTH], BatchError> {
    let incomplete = BatchError::Incomplete {
        expected: HEADER_LENGTH,
        found: bytes.len(),
    };
    let length_field = bytes.get(LENGTH_AT..).and_then(<[u8]>::first_chunk);
    let length = i32::from_be_bytes(*length_field.ok_or(incomplete)?);
    if length < LENGTH_MIN_OF_OLD_FORMATS {
        return Err(BatchError::Length { found: length });
    }
    match *bytes.get(MAGIC_AT).ok_or(incomplete)? {
        MAGIC => {}
        found @ (0 | 1) => return Err(BatchError::OldMagic { found }),
        found => return Err(BatchError::UnknownMagic { found }),
    }
    if length < LENGTH_MIN {
        return Err(BatchError::Length { found: length });
    }
    bytes.first_chunk().ok_or(incomplete)
}

/// The size of the batch at the front of `bytes`, if its magic and length are those of a batch.
///
/// # Errors
/// [`BatchError`] of length, magic or missing bytes; nothing else of the header is looked at.
pub fn framed_size(bytes: &[u8]) -> Result<usize, BatchError> {
    let header = frame_header(bytes)?;
    Ok(LENGTH_OVERHEAD + in_memory(u32::from_be_bytes(field(header, LENGTH_AT))))
}

/// Compares the stored checksum of one batch with that of its bytes, whatever else is wrong with it.
///
/// # Errors
/// [`BatchError::Checksum`], or [`BatchError::Incomplete`] when `bytes` end before the header does.
pub fn verify_checksum(batch: &[u8]) -> Result<(), BatchError> {
    let incomplete = BatchError::Incomplete {
        expected: HEADER_LENGTH,
        found: batch.len(),
    };
    let (unguarded, guarded) = batch.split_at_checked(ATTRIBUTES_AT).ok_or(incomplete)?;
    let stored = u32::from_be_bytes(*unguarded.last_chunk().ok_or(incomplete)?);
    let computed = crc32c(guarded);
    if stored == computed {
        Ok(())
    } else {
        Err(BatchError::Checksum { stored, computed })
    }
}

fn field<const N: usize>(header: &[u8; HEADER_LENGTH], at: usize) -> [u8; N] {
    let field = header.get(at..).and_then(<[u8]>::first_chunk);
    *field.expect("every field lies within the header")
}

fn put<const N: usize>(header: &mut [u8; HEADER_LENGTH], at: usize, bytes: [u8; N]) {
    let place = header.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    *place.expect("every field lies within the header") = bytes;
}

/// What a length field says, as a length in memory.
fn in_memory(length: u32) -> usize {
    usize::try_from(length).expect("memory is addressed by 32 bits at least")
}
