//! The records that are cleaned: the number of a record says everything about it, so that whoever reads what is left can tell what it
//! should be.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use log_bench::source;
use log_core::model::TimestampMs;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use log_core::record::compression::Compression;
use log_core::record::record::Record;

/// Values begin with the record's number.
const NUMBER_BYTES: usize = 8;
/// Values are cut from so much text.
const TEXT_BYTES: usize = 1 << 20;

/// So many records with so many different keys, in no order.
#[derive(Debug)]
pub(crate) struct Dataset {
    /// How many records there are.
    pub(crate) records: u64,
    /// How many different keys are drawn from.
    pub(crate) keys: u64,
    /// How large a value is.
    pub(crate) value_bytes: usize,
    /// How large a batch is before compression.
    pub(crate) batch_bytes: usize,
    /// The codec of the batches.
    pub(crate) compression: Compression,
    text: Vec<u8>,
}

/// A batch, and how many records it has.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) batch: Bytes,
    pub(crate) records: u64,
}

impl Dataset {
    pub(crate) fn new(
        records: u64,
        keys: u64,
        value_bytes: usize,
        batch_bytes: usize,
        compression: Compression,
    ) -> Self {
        Self {
            records,
            keys: keys.max(1),
            value_bytes: value_bytes.max(NUMBER_BYTES),
            batch_bytes,
            compression,
            text: source::events(TEXT_BYTES + value_bytes),
        }
    }

    fn key_of(&self, number: u64) -> u64 {
        mixed(number) % self.keys
    }

    /// What stands behind the number in a value.
    fn filling(&self, number: u64) -> anyhow::Result<&[u8]> {
        let from = usize::try_from(mixed(!number))? % TEXT_BYTES;
        let until = from + self.value_bytes - NUMBER_BYTES;
        self.text.get(from..until).context("text for a value")
    }

    /// The batch that begins with this record.
    pub(crate) fn batch(&self, first: u64, timestamp: TimestampMs) -> anyhow::Result<Piece> {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: self.compression,
            ..BatchOptions::default()
        });
        let mut value = Vec::with_capacity(self.value_bytes);
        let mut number = first;
        while number < self.records
            && (builder.is_empty() || builder.estimated_size() + self.value_bytes <= self.batch_bytes)
        {
            value.clear();
            value.extend_from_slice(&number.to_be_bytes());
            value.extend_from_slice(self.filling(number)?);
            let key = format!("{:016x}", self.key_of(number));
            builder.append(timestamp, Some(key.as_bytes()), Some(&value), &[])?;
            number += 1;
        }
        Ok(Piece {
            records: number - first,
            batch: builder.build(),
        })
    }

    /// One more record, of a key and number that no other has.
    pub(crate) fn last_batch(&self, timestamp: TimestampMs) -> anyhow::Result<Bytes> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(
            timestamp,
            Some(b"the last one"),
            Some(&self.records.to_be_bytes()),
            &[],
        )?;
        Ok(builder.build())
    }

    /// The number of the last record of each key.
    pub(crate) fn latest(&self) -> anyhow::Result<Vec<Option<u64>>> {
        let mut latest = vec![None; usize::try_from(self.keys)?];
        for number in 0..self.records {
            let key = usize::try_from(self.key_of(number))?;
            *latest.get_mut(key).context("a key")? = Some(number);
        }
        Ok(latest)
    }

    /// Key and number of a record that was read; `None` for the one behind all others.
    ///
    /// # Errors
    /// It is not what was sent.
    pub(crate) fn read(&self, record: &Record<'_>) -> anyhow::Result<Option<(u64, u64)>> {
        let value = record.value.context("a value")?;
        let (number, filling) = value.split_first_chunk().context("a number")?;
        let number = u64::from_be_bytes(*number);
        if number == self.records {
            return Ok(None);
        }
        let key = std::str::from_utf8(record.key.context("a key")?)?;
        let key = u64::from_str_radix(key, 16)?;
        let is_as_sent =
            number < self.records && key == self.key_of(number) && filling == self.filling(number)?;
        ensure!(is_as_sent, "record {number} is not what was sent");
        Ok(Some((key, number)))
    }
}

/// A number that says nothing about the one it is made of (the end of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use log_core::record::batch::batches;

    use super::*;

    #[test]
    fn records_read_back_and_others_are_refused() {
        for compression in [Compression::None, Compression::Lz4] {
            let dataset = Dataset::new(100, 7, 200, 2000, compression);
            let (mut next, mut found) = (0, Vec::new());
            while next < dataset.records {
                let piece = dataset.batch(next, source::TIMESTAMP).unwrap();
                next += piece.records;
                let batch = batches(&piece.batch).next().unwrap().unwrap();
                for record in batch.records(&mut Vec::new(), 1 << 20).unwrap() {
                    let record = record.unwrap();
                    found.push(dataset.read(&record).unwrap().unwrap());
                    let mut other = record;
                    other.key = Some(b"0000000000000009");
                    dataset.read(&other).unwrap_err();
                }
            }
            let numbers: Vec<u64> = found.iter().map(|(_, number)| *number).collect();
            assert_eq!(numbers, (0..100).collect::<Vec<u64>>());
            let latest = dataset.latest().unwrap();
            for (key, number) in found {
                let last = latest[usize::try_from(key).unwrap()].unwrap();
                assert!(number <= last && dataset.key_of(last) == key);
            }
        }
    }
}
