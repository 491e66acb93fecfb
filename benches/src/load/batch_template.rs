//! A batch that is made once and sent again and again, with a few bytes changed each time.
//!
//! Owns the bytes of one batch and the places in it that change: stamps in front of the values, keys, and the header. A shorter
//! batch is a prefix of it. Where neither stamps nor sequences change, nothing is touched and no checksum is computed.
//!
//! Invariant: what [`BatchTemplate::stamp`] returns is a whole batch whose checksum is right.

use log_core::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::batch_header::{BatchHeader, HEADER_LENGTH, LENGTH_OVERHEAD};
use log_core::record::compression::Compression;
use log_core::record::crc32c;

use super::filling::{Dice, Keys, Sizes, fill};
use super::record_layout::{STAMP_BYTES, Stamp};

/// What batches are made of.
#[derive(Debug, Clone, Copy)]
pub struct BatchShape {
    /// A batch grows up to this size, before compression; it has one record at least.
    pub batch_bytes: usize,
    /// Never more records than this.
    pub records_max: usize,
    /// How large values are.
    pub sizes: Sizes,
    /// Which keys records have.
    pub keys: Keys,
    /// The share of bytes that cannot be compressed.
    pub entropy: f64,
    /// The codec.
    pub compression: Compression,
    /// Whether each record is stamped, so that it can be verified.
    pub is_stamped: bool,
}

/// Keys are so many hexadecimal digits.
const KEY_BYTES: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Place {
    key_at: Option<usize>,
    value_at: usize,
    /// Where the next record begins.
    end: usize,
    filling_crc: u32,
}

/// One batch to be sent often.
#[derive(Debug, Clone)]
pub struct BatchTemplate {
    shape: BatchShape,
    header: BatchHeader,
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// How many records the header and the checksum stand for.
    sealed_count: usize,
    /// What was made of it, where records are compressed.
    packed: Vec<u8>,
}

/// Whose batch it is this time.
#[derive(Debug, Clone, Copy)]
pub struct BatchStamp {
    /// The stamp of the first record; the others count on from it.
    pub first: Stamp,
    /// Between the intended times of two records.
    pub period_ns: f64,
    /// How many partitions there are: a record's key belongs to its partition.
    pub partitions: u32,
    /// The idempotent producer, if there is one.
    pub producer: Option<(ProducerId, ProducerEpoch, i32)>,
    /// The timestamp of all records.
    pub timestamp_ms: i64,
}

impl BatchTemplate {
    /// A batch of that shape, at random.
    #[must_use]
    pub fn new(shape: BatchShape, timestamp_ms: i64, dice: &mut Dice) -> Self {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let mut places = Vec::new();
        let mut value = Vec::new();
        while places.len() < shape.records_max.max(1) {
            let size = shape.sizes.draw(dice, STAMP_BYTES);
            let key = (shape.keys != Keys::None).then_some([b'0'; KEY_BYTES]);
            let expected = builder.estimated_size() + size + key.map_or(0, |key| key.len());
            if !places.is_empty() && shape.batch_bytes < expected {
                break;
            }
            value.clear();
            value.resize(STAMP_BYTES, 0);
            fill(&mut value, size - STAMP_BYTES, shape.entropy, dice);
            let filling_crc = value.get(STAMP_BYTES..).map_or(0, crc32c);
            let appended = builder.append(
                TimestampMs::new(timestamp_ms),
                key.as_ref().map(<[u8; KEY_BYTES]>::as_slice),
                Some(&value),
                &[],
            );
            if appended.is_err() {
                break;
            }
            // Behind the value stands the number of headers, one byte of zero.
            let end = builder.estimated_size();
            let value_at = end - 1 - size;
            places.push(Place {
                // Between key and value stands the value's length.
                key_at: key.map(|key| value_at - varint_bytes(size) - key.len()),
                value_at,
                end,
                filling_crc,
            });
        }
        let bytes = builder.build().to_vec();
        let header = BatchHeader::parse(&bytes).unwrap_or_else(|_| unreachable!("a batch of our own"));
        Self {
            shape,
            header,
            sealed_count: places.len(),
            bytes,
            places,
            packed: Vec::new(),
        }
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> usize {
        self.places.len()
    }

    /// The batch with its first `count` records, stamped; at most as many as it has.
    pub fn stamp(&mut self, count: usize, stamp: &BatchStamp, dice: &mut Dice) -> &[u8] {
        let count = count.clamp(1, self.places.len());
        let is_stamped = self.shape.is_stamped;
        let is_made = self.shape.compression == Compression::None || !self.packed.is_empty();
        if !is_stamped && stamp.producer.is_none() && count == self.sealed_count && is_made {
            return self.batch(count);
        }
        if is_stamped {
            self.stamp_records(count, stamp, dice);
        }
        let (id, epoch, sequence) = stamp.producer.map_or(
            (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE),
            |(id, epoch, sequence)| (id, epoch, Sequence::new(sequence)),
        );
        if self.shape.compression != Compression::None {
            self.pack(
                count,
                stamp,
                BatchProducer {
                    id,
                    epoch,
                    base_sequence: sequence,
                },
            );
            self.sealed_count = count;
            return &self.packed;
        }
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = sequence;
        self.seal(count, stamp.timestamp_ms);
        self.batch(count)
    }

    fn end(&self, count: usize) -> usize {
        count
            .checked_sub(1)
            .and_then(|last| self.places.get(last))
            .map_or(HEADER_LENGTH, |place| place.end)
    }

    fn batch(&self, count: usize) -> &[u8] {
        if self.packed.is_empty() {
            self.bytes.get(..self.end(count)).unwrap_or_default()
        } else {
            &self.packed
        }
    }

    fn stamp_records(&mut self, count: usize, batch: &BatchStamp, dice: &mut Dice) {
        let mut stamp = batch.first;
        for (index, place) in (0_u32..).zip(self.places.iter().take(count)) {
            let behind = rounded(batch.period_ns * f64::from(index));
            stamp.intended_ns = batch.first.intended_ns.saturating_add(behind);
            let stamped = stamp.to_bytes(place.filling_crc);
            if let Some(room) = self.bytes.get_mut(place.value_at..place.value_at + STAMP_BYTES) {
                room.copy_from_slice(&stamped);
            }
            if let Some(key_at) = place.key_at
                && let Some(number) = self.shape.keys.draw(dice)
                && let Some(room) = self.bytes.get_mut(key_at..key_at + KEY_BYTES)
            {
                // A key's partition is its number modulo the number of partitions.
                let partitions = u64::from(batch.partitions.max(1));
                let number = number - number % partitions + u64::from(stamp.partition);
                write_hexadecimal(room, number);
            }
            stamp.sequence += 1;
        }
    }

    /// Writes the header for the first `count` records and sums them.
    fn seal(&mut self, count: usize, timestamp_ms: i64) {
        let end = self.end(count);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.header.batch_length = u32::try_from(end - LENGTH_OVERHEAD).unwrap_or(u32::MAX);
        self.header.last_offset_delta = count.saturating_sub(1);
        self.header.record_count = count;
        self.header.base_timestamp = TimestampMs::new(timestamp_ms);
        self.header.max_timestamp = TimestampMs::new(timestamp_ms);
        self.sealed_count = usize::try_from(count).unwrap_or(usize::MAX);
        let Some((header, rest)) = self.bytes.split_at_mut_checked(HEADER_LENGTH) else {
            return;
        };
        let body = rest.get(..end - HEADER_LENGTH).unwrap_or_default();
        self.header.crc = self.header.compute_crc(body);
        header.copy_from_slice(&self.header.to_bytes());
    }

    /// Compresses the first `count` records.
    fn pack(&mut self, count: usize, stamp: &BatchStamp, producer: BatchProducer) {
        let timestamp = TimestampMs::new(stamp.timestamp_ms);
        let mut builder = BatchBuilder::with_capacity(
            BatchOptions {
                compression: self.shape.compression,
                producer,
                ..BatchOptions::default()
            },
            self.bytes.len(),
        );
        for place in self.places.iter().take(count) {
            let key = place.key_at.and_then(|at| self.bytes.get(at..at + KEY_BYTES));
            let value = self.bytes.get(place.value_at..place.end - 1);
            // Went into a batch once, so it does again.
            builder.append(timestamp, key, value, &[]).ok();
        }
        self.packed.clear();
        self.packed.extend_from_slice(&builder.build());
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a stretch of time of one batch"
)]
fn rounded(nanoseconds: f64) -> u64 {
    nanoseconds as u64
}

/// How long the length of so many bytes is as a varint (zigzag doubles it).
fn varint_bytes(length: usize) -> usize {
    let mut rest = length << 1;
    let mut bytes = 1;
    while 0x80 <= rest {
        rest >>= 7;
        bytes += 1;
    }
    bytes
}

fn write_hexadecimal(room: &mut [u8], number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = number;
    for digit in room.iter_mut().rev() {
        let index = usize::try_from(rest & 15).unwrap_or_default();
        *digit = DIGITS.get(index).copied().unwrap_or(b'0');
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use log_core::record::batch::Batch;

    use super::*;

    fn shape(compression: Compression, keys: Keys) -> BatchShape {
        BatchShape {
            batch_bytes: 4000,
            records_max: usize::MAX,
            sizes: Sizes::Uniform(20, 300),
            keys,
            entropy: 0.5,
            compression,
            is_stamped: true,
        }
    }

    fn stamp(sequence: u64) -> BatchStamp {
        BatchStamp {
            first: Stamp {
                run: 9,
                producer: 1,
                partition: 2,
                sequence,
                intended_ns: 1000,
            },
            period_ns: 10.0,
            partitions: 5,
            producer: Some((ProducerId::new(77), ProducerEpoch::new(3), 12)),
            timestamp_ms: 5,
        }
    }

    /// Every prefix is a sound batch with the stamps that were asked for, again and again.
    #[test]
    fn every_prefix_reads_back() {
        let mut dice = Dice::new(4);
        for compression in [Compression::None, Compression::Lz4] {
            for keys in [Keys::None, Keys::Uniform(100)] {
                let mut template = BatchTemplate::new(shape(compression, keys), 1, &mut dice);
                assert!(5 < template.records());
                for count in (1..=template.records()).chain([1, 3]) {
                    let sequence = u64::try_from(count * 1000).unwrap();
                    let bytes = template.stamp(count, &stamp(sequence), &mut dice).to_vec();
                    let batch = Batch::parse(&bytes).unwrap();
                    assert_eq!(batch.bytes().len(), bytes.len());
                    batch.verify_checksum().unwrap();
                    assert_eq!(batch.header().base_sequence, Sequence::new(12));
                    assert_eq!(batch.header().producer_id, ProducerId::new(77));
                    assert_eq!(batch.header().max_timestamp, TimestampMs::new(5));
                    let mut scratch = Vec::new();
                    let records: Vec<_> = batch
                        .records(&mut scratch, 1 << 20)
                        .unwrap()
                        .map(Result::unwrap)
                        .collect();
                    assert_eq!(records.len(), count);
                    for (index, record) in (0..).zip(&records) {
                        let read = Stamp::read(record.value.unwrap(), 9).unwrap();
                        assert_eq!(
                            (read.sequence, read.intended_ns, read.partition),
                            (sequence + index, 1000 + index * 10, 2)
                        );
                        assert_eq!(record.key.is_some(), keys != Keys::None);
                        if let Some(key) = record.key {
                            let number = u64::from_str_radix(std::str::from_utf8(key).unwrap(), 16).unwrap();
                            assert_eq!(number % 5, 2, "the key belongs to the partition");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn without_stamps_nothing_changes() {
        let mut dice = Dice::new(5);
        let shape = BatchShape {
            is_stamped: false,
            ..shape(Compression::None, Keys::None)
        };
        let mut template = BatchTemplate::new(shape, 1, &mut dice);
        let count = template.records();
        let plain = BatchStamp {
            producer: None,
            ..stamp(0)
        };
        let first = template.stamp(count, &plain, &mut dice).to_vec();
        assert_eq!(template.stamp(count, &plain, &mut dice), first);
        Batch::parse(template.stamp(2, &plain, &mut dice))
            .unwrap()
            .verify_checksum()
            .unwrap();
    }
}
