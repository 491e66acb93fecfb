//! The aborted transactions that end in one segment (`.txnindex`).
//!
//! A reader of committed records is told these, so that it can leave their records out. A segment in which no
//! transaction was aborted has no such file. Invariants: last offsets strictly increase and lie in the
//! segment or behind it; first offsets may lie in earlier segments.
//!
//! | field | bytes | |
//! |---|---|---|
//! | version | 2 | 0 |
//! | producer id | 8 | whose transaction |
//! | first offset | 8 | of its first record |
//! | last offset | 8 | of its abort marker |
//! | last stable offset | 8 | of the log, when the marker was written |

use bytes::BufMut as _;

use super::entry::{check_at_least, entry_position, take};
use super::error::{IndexError, IndexFile, PushError};
use crate::model::{Offset, ProducerId};

const VERSION: i16 = 0;

const VERSION_END: usize = 2;
const PRODUCER_ID_END: usize = VERSION_END + 8;
const FIRST_OFFSET_END: usize = PRODUCER_ID_END + 8;
const LAST_OFFSET_END: usize = FIRST_OFFSET_END + 8;
/// The bytes of one entry.
pub const ENTRY_SIZE: usize = LAST_OFFSET_END + 8;
const _: () = assert!(ENTRY_SIZE == 34, "Kafka's entries are 34 bytes");

const FILE: IndexFile = IndexFile::Transaction;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its abort marker.
    pub last_offset: Offset,
    /// The log's last stable offset when the marker was written.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    /// The entry as it stands in the file.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        let mut rest = bytes.as_mut_slice();
        rest.put_i16(VERSION);
        rest.put_i64(self.producer_id.get());
        rest.put_i64(self.first_offset.get());
        rest.put_i64(self.last_offset.get());
        rest.put_i64(self.last_stable_offset.get());
        bytes
    }

    fn parse(slot: usize, entry: &[u8; ENTRY_SIZE], last_offset_at_least: i64) -> Result<Self, IndexError> {
        let position = entry_position(slot, ENTRY_SIZE);
        let mut rest = entry.as_slice();
        let version = i16::from_be_bytes(take(&mut rest));
        if version != VERSION {
            return Err(IndexError::Version {
                file: FILE,
                position,
                expected: VERSION,
                found: version,
            });
        }
        let mut field = |name, at_least| {
            let value = i64::from_be_bytes(take(&mut rest));
            check_at_least((FILE, position), name, at_least, value).map(|()| value)
        };
        Ok(Self {
            producer_id: ProducerId::new(field("producer id", 0)?),
            first_offset: Offset::new(field("first offset", 0)?),
            last_offset: Offset::new(field("last offset", last_offset_at_least)?),
            last_stable_offset: Offset::new(field("last stable offset", 0)?),
        })
    }
}

/// What a range of the log holds of aborted transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortedSearch {
    /// Those that touch the range, in the order of their markers.
    pub transactions: Vec<AbortedTransaction>,
    /// Whether later segments cannot hold more of them. Otherwise the search goes on in the next segment.
    pub is_complete: bool,
}

/// The index of one segment, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionIndex {
    base_offset: Offset,
    transactions: Vec<AbortedTransaction>,
}

impl TransactionIndex {
    /// An index without entries.
    #[must_use]
    pub const fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            transactions: Vec::new(),
        }
    }

    /// Reads the contents of a file.
    ///
    /// # Errors
    /// [`IndexError`]: the file ends within an entry, an entry is of another version, or last offsets do not
    /// strictly increase from the segment's base offset on.
    pub fn parse(bytes: &[u8], base_offset: Offset) -> Result<Self, IndexError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_SIZE>();
        if !rest.is_empty() {
            return Err(IndexError::Length {
                file: FILE,
                length: bytes.len(),
                entry_size: ENTRY_SIZE,
            });
        }
        let mut index = Self {
            base_offset,
            transactions: Vec::with_capacity(entries.len()),
        };
        for (slot, entry) in entries.iter().enumerate() {
            let transaction = AbortedTransaction::parse(slot, entry, index.last_offset_at_least())?;
            index.transactions.push(transaction);
        }
        Ok(index)
    }

    fn last_offset_at_least(&self) -> i64 {
        let after_last = self
            .transactions
            .last()
            .map(|last| last.last_offset.get().saturating_add(1));
        after_last.unwrap_or(self.base_offset.get())
    }

    /// Adds a transaction. Returns the bytes that belong at the end of the file.
    ///
    /// # Errors
    /// [`PushError::Disordered`] when its marker does not lie behind that of the last one.
    pub fn append(&mut self, transaction: AbortedTransaction) -> Result<[u8; ENTRY_SIZE], PushError> {
        let offset = transaction.last_offset;
        if offset.get() < self.last_offset_at_least() {
            let last = self.transactions.last();
            let last_offset = last.map_or(self.base_offset, |last| last.last_offset);
            return Err(PushError::Disordered {
                file: FILE,
                offset,
                last_offset,
            });
        }
        self.transactions.push(transaction);
        Ok(transaction.to_bytes())
    }

    /// The transactions that touch offsets from `fetch_offset` to below `upper_bound`, a range that is not empty.
    #[must_use]
    pub fn collect_aborted(&self, fetch_offset: Offset, upper_bound: Offset) -> AbortedSearch {
        // A long index is searched for each read. What ended before the range neither touches it nor ends the search: no last
        // stable offset lies behind the end of its own transaction.
        let ended_before =
            (self.transactions).partition_point(|transaction| transaction.last_offset < fetch_offset);
        let (_, candidates) = self.transactions.split_at(ended_before);
        let mut transactions = Vec::new();
        for transaction in candidates {
            if transaction.first_offset < upper_bound {
                transactions.push(*transaction);
            }
            // Whatever is aborted later began at or behind this last stable offset.
            if upper_bound <= transaction.last_stable_offset {
                return AbortedSearch {
                    transactions,
                    is_complete: true,
                };
            }
        }
        AbortedSearch {
            transactions,
            is_complete: false,
        }
    }

    /// Drops the transactions that end at or behind `offset`.
    pub fn truncate_to(&mut self, offset: Offset) {
        let kept = self
            .transactions
            .partition_point(|transaction| transaction.last_offset < offset);
        self.transactions.truncate(kept);
    }

    /// All transactions, in the order of their markers.
    #[must_use]
    pub fn transactions(&self) -> &[AbortedTransaction] {
        &self.transactions
    }

    /// The contents of the file; empty when there should be none.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.transactions
            .iter()
            .flat_map(AbortedTransaction::to_bytes)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FilePosition;

    const BASE: Offset = Offset::new(100);

    fn aborted(producer_id: i64, first: i64, last: i64, last_stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId::new(producer_id),
            first_offset: Offset::new(first),
            last_offset: Offset::new(last),
            last_stable_offset: Offset::new(last_stable),
        }
    }

    fn index_of(transactions: &[AbortedTransaction]) -> TransactionIndex {
        let mut index = TransactionIndex::new(BASE);
        for transaction in transactions {
            index.append(*transaction).unwrap();
        }
        index
    }

    #[test]
    fn golden_bytes() {
        let index = index_of(&[aborted(0x0102, 0x60, 0x70, 0x71)]);
        let golden = [
            0, 0, // version
            0, 0, 0, 0, 0, 0, 1, 2, // producer id
            0, 0, 0, 0, 0, 0, 0, 0x60, // first offset
            0, 0, 0, 0, 0, 0, 0, 0x70, // last offset
            0, 0, 0, 0, 0, 0, 0, 0x71, // last stable offset
        ];
        assert_eq!(index.to_bytes(), golden);
        assert_eq!(TransactionIndex::parse(&golden, BASE), Ok(index));
        assert_eq!(
            TransactionIndex::parse(&[], BASE),
            Ok(TransactionIndex::new(BASE))
        );
    }

    #[test]
    fn the_search_takes_what_touches_the_range() {
        let (a, b, c) = (
            aborted(1, 90, 120, 110),
            aborted(2, 110, 130, 131),
            aborted(3, 140, 150, 151),
        );
        let index = index_of(&[a, b, c]);
        let check = |fetch_offset, upper_bound, transactions: &[AbortedTransaction], is_complete| {
            let found = index.collect_aborted(Offset::new(fetch_offset), Offset::new(upper_bound));
            let expected = AbortedSearch {
                transactions: transactions.to_vec(),
                is_complete,
            };
            assert_eq!(found, expected, "{fetch_offset}..{upper_bound}");
        };
        check(100, 110, &[a], true);
        check(100, 111, &[a, b], true);
        check(121, 131, &[b], true);
        check(121, 132, &[b], true);
        check(131, 140, &[], true);
        check(131, 151, &[c], true);
        check(131, 152, &[c], false);
        check(151, 200, &[], false);
    }

    #[test]
    fn a_marker_that_is_not_behind_the_last_is_refused() {
        let mut index = TransactionIndex::new(BASE);
        let refused = |offset, last_offset| {
            let (offset, last_offset) = (Offset::new(offset), Offset::new(last_offset));
            Err(PushError::Disordered {
                file: IndexFile::Transaction,
                offset,
                last_offset,
            })
        };
        assert_eq!(index.append(aborted(1, 90, 99, 100)), refused(99, 100));
        index.append(aborted(1, 90, 100, 100)).unwrap();
        assert_eq!(index.append(aborted(2, 90, 100, 100)), refused(100, 100));
        assert_eq!(index.transactions().len(), 1);
    }

    #[test]
    fn truncation_drops_what_ends_at_or_behind() {
        for (offset, kept) in [(0, 0), (120, 0), (121, 1), (130, 1), (131, 2)] {
            let mut index = index_of(&[aborted(1, 90, 120, 110), aborted(2, 110, 130, 131)]);
            index.truncate_to(Offset::new(offset));
            assert_eq!(index.transactions().len(), kept, "{offset}");
        }
    }

    #[test]
    fn damage_is_named() {
        let sound = index_of(&[aborted(1, 90, 120, 110), aborted(2, 110, 130, 131)]).to_bytes();
        let check = |bytes: &[u8], expected| {
            assert_eq!(TransactionIndex::parse(bytes, BASE).unwrap_err(), expected);
        };
        let second = FilePosition::new(34);
        check(
            &sound[..67],
            IndexError::Length {
                file: IndexFile::Transaction,
                length: 67,
                entry_size: 34,
            },
        );
        let with = |at: usize, value: u8| {
            let mut bytes = sound.clone();
            bytes[at] = value;
            bytes
        };
        let version = |found| IndexError::Version {
            file: IndexFile::Transaction,
            position: second,
            expected: 0,
            found,
        };
        check(&with(35, 1), version(1));
        check(&with(34, 0xff), version(-256));
        let too_small = |position, field, at_least, found| IndexError::TooSmall {
            file: IndexFile::Transaction,
            position,
            field,
            at_least,
            found,
        };
        check(&with(34 + 25, 120), too_small(second, "last offset", 121, 120));
        check(
            &with(25, 99),
            too_small(FilePosition::ZERO, "last offset", 100, 99),
        );
        check(
            &with(2, 0x80),
            too_small(FilePosition::ZERO, "producer id", 0, i64::MIN + 1),
        );
    }
}
