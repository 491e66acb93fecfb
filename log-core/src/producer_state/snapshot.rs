//! The state of a partition's producers as a file (`.snapshot`, named after the offset behind the last batch in it).
//!
//! Kafka's format, version 1, big-endian, and behind it a trailer of ours:
//!
//! | field | bytes | |
//! |---|---|---|
//! | version | 2 | 1 |
//! | checksum | 4 | CRC-32C of all that follows, to the end of the file |
//! | producer count | 4 | |
//! | producers | 46 each | |
//! | – producer id | 8 | |
//! | – epoch | 2 | |
//! | – last sequence | 4 | of the last batch, -1 without one |
//! | – last offset | 8 | of the last batch, -1 without one |
//! | – offset delta | 4 | of the last batch |
//! | – timestamp | 8 | of the last batch or transaction marker |
//! | – coordinator epoch | 4 | -1 before the first marker |
//! | – transaction's first offset | 8 | -1 when none is open |
//! | trailer magic | 4 | `SLps` |
//! | trailer version | 2 | 1 |
//! | for each producer, in the same order | | |
//! | – idle since | 8 | milliseconds, -1 for "not idle" |
//! | – batch count | 1 | 0 to 5 |
//! | – batches, oldest first | 24 each | last sequence 4, last offset 8, offset delta 4, timestamp 8 |
//!
//! Kafka's format has only the last batch of each producer, and so a Kafka that was restarted in good order refuses
//! retries of earlier ones, or appends them again. Hence the trailer. Kafka still reads the file: its reader
//! (`ProducerStateManager.readSnapshot`) takes as many producers as the count says, does not ask what stands
//! behind them, and computes the checksum to the end of the file, which is why ours covers the trailer.
//! A file that ends with the producers is Kafka's own; it gives a snapshot that is not complete.

use std::collections::HashSet;

use bytes::BufMut as _;

use super::entry::{BATCHES_RETAINED, BatchMetadata, ProducerStateEntry};
use crate::model::{FilePosition, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use crate::record::crc32c;

const VERSION: i16 = 1;
const VERSION_LENGTH: usize = 2;
const CHECKSUM_LENGTH: usize = 4;
const BEFORE_COUNT_LENGTH: usize = VERSION_LENGTH + CHECKSUM_LENGTH;

const PRODUCER_LENGTH: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
const _: () = assert!(PRODUCER_LENGTH == 46, "Kafka's producers are 46 bytes");

const TRAILER_MAGIC: [u8; 4] = *b"SLps";
const TRAILER_VERSION: i16 = 1;

/// What a snapshot file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The offset behind the last batch in it, the name of the file.
    pub end_offset: Offset,
    /// Every producer once.
    pub producers: Vec<(ProducerId, ProducerStateEntry)>,
    /// Whether all five batches of each producer are in it. A snapshot of Kafka's holds only the last.
    pub is_complete: bool,
}

/// The file is no sound snapshot. The state can be read from an earlier one and the log, or from the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The file ends within a field.
    #[error("producer snapshot: the file ends within the {field} at {position}")]
    Truncated {
        /// Where the field begins.
        position: FilePosition,
        /// Which one it is.
        field: &'static str,
    },
    /// The version of the file or of the trailer is not known.
    #[error("producer snapshot: the {field} should be {expected}, found {found}")]
    Version {
        /// Which of the two.
        field: &'static str,
        /// The version this code reads.
        expected: i16,
        /// What stands there.
        found: i16,
    },
    /// The checksum is not that of the contents.
    #[error("producer snapshot: stored checksum {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// What stands there.
        stored: u32,
        /// What the contents give.
        computed: u32,
    },
    /// There are more producers than the file has room for.
    #[error("producer snapshot: room for {room} producers, the count says {count}")]
    Count {
        /// What the count says.
        count: i32,
        /// How many the file could hold.
        room: usize,
    },
    /// A field is outside its range, or contradicts another.
    #[error("producer snapshot: {field} at {position} should be {expected}, found {found}")]
    Field {
        /// Where the field begins.
        position: FilePosition,
        /// Which one it is.
        field: &'static str,
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: i64,
    },
    /// What stands behind the producers is not our trailer.
    #[error(
        "producer snapshot: the trailer at {position} should begin with {TRAILER_MAGIC:02x?}, found {found:02x?}"
    )]
    Trailer {
        /// Where the trailer begins.
        position: FilePosition,
        /// What stands there.
        found: [u8; 4],
    },
    /// The file goes on behind its end.
    #[error("producer snapshot: {count} bytes behind its end at {position}")]
    LeftOver {
        /// Where the snapshot ends.
        position: FilePosition,
        /// How many bytes follow.
        count: usize,
    },
}

/// The contents of a file.
///
/// # Panics
/// When there are 2³¹ producers; the manager forgets them long before.
#[must_use]
pub fn to_bytes(producers: &[(ProducerId, &ProducerStateEntry)]) -> Vec<u8> {
    let mut contents = Vec::new();
    contents.put_i32(i32::try_from(producers.len()).expect("fewer producers than 2^31"));
    for (producer_id, entry) in producers {
        put_producer(&mut contents, *producer_id, entry);
    }
    contents.put_slice(&TRAILER_MAGIC);
    contents.put_i16(TRAILER_VERSION);
    for (_, entry) in producers {
        put_trailer(&mut contents, entry);
    }
    let mut file = Vec::with_capacity(BEFORE_COUNT_LENGTH.saturating_add(contents.len()));
    file.put_i16(VERSION);
    file.put_u32(crc32c(&contents));
    file.put_slice(&contents);
    file
}

fn put_producer(contents: &mut Vec<u8>, producer_id: ProducerId, entry: &ProducerStateEntry) {
    let last = entry.last_batch();
    contents.put_i64(producer_id.get());
    contents.put_i16(entry.producer_epoch.get());
    contents.put_i32(entry.last_sequence().get());
    contents.put_i64(last.map_or(-1, |batch| batch.last_offset.get()));
    contents.put_u32(last.map_or(0, |batch| batch.offset_delta));
    contents.put_i64(entry.last_timestamp.get());
    contents.put_i32(entry.coordinator_epoch);
    contents.put_i64(entry.transaction_first_offset.map_or(-1, Offset::get));
}

fn put_trailer(contents: &mut Vec<u8>, entry: &ProducerStateEntry) {
    contents.put_i64(entry.idle_since.unwrap_or(TimestampMs::NONE).get());
    contents.put_u8(u8::try_from(entry.batches().count()).expect("at most five batches"));
    for batch in entry.batches() {
        contents.put_i32(batch.last_sequence.get());
        contents.put_i64(batch.last_offset.get());
        contents.put_u32(batch.offset_delta);
        contents.put_i64(batch.timestamp.get());
    }
}

impl Snapshot {
    /// Reads the contents of the file named after `end_offset`.
    ///
    /// # Errors
    /// [`SnapshotError`]. Offsets at or behind `end_offset` are an error too: the file would be of another offset.
    pub fn parse(bytes: &[u8], end_offset: Offset) -> Result<Self, SnapshotError> {
        let mut fields = Fields {
            bytes,
            rest: bytes,
            end_offset,
        };
        fields.check_version("version", VERSION)?;
        let stored = u32::from_be_bytes(fields.take("checksum")?);
        let computed = crc32c(fields.rest);
        if stored != computed {
            return Err(SnapshotError::Checksum { stored, computed });
        }
        let mut producers = fields.producers()?;
        let is_complete = !fields.rest.is_empty();
        if is_complete {
            fields.trailer(&mut producers)?;
        }
        Ok(Self {
            end_offset,
            producers,
            is_complete,
        })
    }
}

/// What is left of a file to read.
struct Fields<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
    end_offset: Offset,
}

impl Fields<'_> {
    fn position(&self) -> FilePosition {
        let read = self.bytes.len().saturating_sub(self.rest.len());
        FilePosition::new(u64::try_from(read).expect("a length in memory fits 64 bits"))
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], SnapshotError> {
        let truncated = SnapshotError::Truncated {
            position: self.position(),
            field,
        };
        let (value, rest) = self.rest.split_first_chunk().ok_or(truncated)?;
        self.rest = rest;
        Ok(*value)
    }

    fn check_version(&mut self, field: &'static str, expected: i16) -> Result<(), SnapshotError> {
        let found = i16::from_be_bytes(self.take(field)?);
        if found == expected {
            Ok(())
        } else {
            Err(SnapshotError::Version {
                field,
                expected,
                found,
            })
        }
    }

    /// Takes a number that `accept` accepts.
    fn number<const N: usize, T: Into<i64> + Copy>(
        &mut self,
        field: &'static str,
        from_bytes: impl Fn([u8; N]) -> T,
        expected: &'static str,
        accept: impl Fn(i64) -> bool,
    ) -> Result<T, SnapshotError> {
        let position = self.position();
        let value = from_bytes(self.take(field)?);
        let found = value.into();
        if accept(found) {
            Ok(value)
        } else {
            Err(SnapshotError::Field {
                position,
                field,
                expected,
                found,
            })
        }
    }

    fn producers(&mut self) -> Result<Vec<(ProducerId, ProducerStateEntry)>, SnapshotError> {
        let count = i32::from_be_bytes(self.take("producer count")?);
        let room = self.rest.len().div_euclid(PRODUCER_LENGTH);
        let length = usize::try_from(count).ok().filter(|&length| length <= room);
        let length = length.ok_or(SnapshotError::Count { count, room })?;
        let mut producers = Vec::with_capacity(length);
        let mut known = Known {
            producer_ids: HashSet::new(),
            transactions: HashSet::new(),
        };
        for _ in 0..length {
            producers.push(self.producer(&mut known)?);
        }
        Ok(producers)
    }

    fn producer(&mut self, known: &mut Known) -> Result<(ProducerId, ProducerStateEntry), SnapshotError> {
        let end = self.end_offset.get();
        let new_id = |id| 0 <= id && !known.producer_ids.contains(&id);
        let producer_id = self.number("producer id", i64::from_be_bytes, "new and not negative", new_id)?;
        let epoch = self.number("epoch", i16::from_be_bytes, "at least -1", |epoch| -1 <= epoch)?;
        let batch = self.batch_fields()?;
        let timestamp = i64::from_be_bytes(self.take("timestamp")?);
        let coordinator_epoch = i32::from_be_bytes(self.take("coordinator epoch")?);
        let new_first = |first| first < 0 || (first < end && !known.transactions.contains(&first));
        let first_offset = self.number(
            "transaction's first offset",
            i64::from_be_bytes,
            "new and before the end offset",
            new_first,
        )?;
        known.producer_ids.insert(producer_id);
        if 0 <= first_offset {
            known.transactions.insert(first_offset);
        }
        let mut entry = ProducerStateEntry::new();
        entry.set_epoch(ProducerEpoch::new(epoch));
        let timestamp = TimestampMs::new(timestamp);
        if let Some((last_sequence, last_offset, offset_delta)) = batch {
            entry.add_batch(BatchMetadata {
                last_sequence,
                last_offset,
                offset_delta,
                timestamp,
            });
        }
        entry.last_timestamp = timestamp;
        entry.coordinator_epoch = coordinator_epoch;
        entry.transaction_first_offset = (0 <= first_offset).then_some(Offset::new(first_offset));
        Ok((ProducerId::new(producer_id), entry))
    }

    /// Last sequence, last offset and offset delta; `None` when the offset says that there is no batch.
    fn batch_fields(&mut self) -> Result<Option<(Sequence, Offset, u32)>, SnapshotError> {
        let end = self.end_offset.get();
        let sequence = self.number("last sequence", i32::from_be_bytes, "at least -1", |found| {
            -1 <= found
        })?;
        let last_offset = self.number(
            "last offset",
            i64::from_be_bytes,
            "before the end offset",
            |found| found < end,
        )?;
        let delta = self.number(
            "offset delta",
            i32::from_be_bytes,
            "0 to the last offset",
            |found| 0 <= found && (last_offset < 0 || found <= last_offset),
        )?;
        let delta = u32::try_from(delta).expect("checked not to be negative");
        Ok((0 <= last_offset).then_some((Sequence::new(sequence), Offset::new(last_offset), delta)))
    }

    fn trailer(&mut self, producers: &mut [(ProducerId, ProducerStateEntry)]) -> Result<(), SnapshotError> {
        let position = self.position();
        let found = self.take("trailer magic")?;
        if found != TRAILER_MAGIC {
            return Err(SnapshotError::Trailer { position, found });
        }
        self.check_version("trailer version", TRAILER_VERSION)?;
        for (_, entry) in producers {
            self.entry_trailer(entry)?;
        }
        match self.rest.len() {
            0 => Ok(()),
            count => Err(SnapshotError::LeftOver {
                position: self.position(),
                count,
            }),
        }
    }

    /// Gives all its batches to an entry that has the last; they must end with that one.
    fn entry_trailer(&mut self, entry: &mut ProducerStateEntry) -> Result<(), SnapshotError> {
        let idle_since = i64::from_be_bytes(self.take("idle since")?);
        let count_max = entry.last_batch().map_or(0, |_| BATCHES_RETAINED);
        let count = self.number(
            "batch count",
            u8::from_be_bytes,
            "0 to 5, 0 without a last batch",
            |count| usize::try_from(count).is_ok_and(|count| count <= count_max),
        )?;
        let mut batches: Vec<BatchMetadata> = Vec::with_capacity(BATCHES_RETAINED);
        for _ in 0..count {
            let after = batches.last().map_or(-1, |batch| batch.last_offset.get());
            batches.push(self.trailer_batch(after)?);
        }
        let place = |batch: &BatchMetadata| (batch.last_sequence, batch.last_offset, batch.offset_delta);
        if batches.last().map(place) != entry.last_batch().map(place) {
            return Err(SnapshotError::Field {
                position: self.position(),
                field: "the batch before it",
                expected: "the producer's last",
                found: batches.last().map_or(-1, |batch| batch.last_offset.get()),
            });
        }
        entry.replace_batches(&batches);
        entry.idle_since = (0 <= idle_since).then_some(TimestampMs::new(idle_since));
        Ok(())
    }

    fn trailer_batch(&mut self, after: i64) -> Result<BatchMetadata, SnapshotError> {
        let position = self.position();
        let batch = self.batch_fields()?;
        let timestamp = TimestampMs::new(i64::from_be_bytes(self.take("timestamp")?));
        match batch {
            Some((last_sequence, last_offset, offset_delta)) if after < last_offset.get() => {
                Ok(BatchMetadata {
                    last_sequence,
                    last_offset,
                    offset_delta,
                    timestamp,
                })
            }
            found => Err(SnapshotError::Field {
                position,
                field: "batch",
                expected: "one behind the batch before it",
                found: found.map_or(-1, |(_, last_offset, _)| last_offset.get()),
            }),
        }
    }
}

/// What may stand only once in a file.
struct Known {
    producer_ids: HashSet<i64>,
    transactions: HashSet<i64>,
}
