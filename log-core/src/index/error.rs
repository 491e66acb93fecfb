//! What is wrong with an index file, and why an index does not take an entry.
//! None of these loses a record: an index is a hint, and is made again from the log.

use std::fmt;

use crate::model::{FilePosition, Offset};

/// Which of a segment's index files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexFile {
    /// `.index`
    Offset,
    /// `.timeindex`
    Time,
    /// `.txnindex`
    Transaction,
}

impl fmt::Display for IndexFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Offset => "offset index",
            Self::Time => "time index",
            Self::Transaction => "transaction index",
        })
    }
}

/// The bytes are not an index. The log itself may be sound; the index can be built again from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The file ends within an entry.
    #[error("{file}: {length} bytes are not a whole number of entries of {entry_size} bytes")]
    Length {
        /// The kind of file.
        file: IndexFile,
        /// The file's length in bytes.
        length: usize,
        /// What it should be a multiple of.
        entry_size: usize,
    },
    /// A field is smaller than the format or the entry before allows.
    #[error("{file}: entry at {position}: {field} should be at least {at_least}, found {found}")]
    TooSmall {
        /// The kind of file.
        file: IndexFile,
        /// Where the entry begins.
        position: FilePosition,
        /// Which of its fields.
        field: &'static str,
        /// The smallest value that could stand there.
        at_least: i64,
        /// What stands there.
        found: i64,
    },
    /// The entry is of a version that this code does not know.
    #[error("{file}: entry at {position}: version should be {expected}, found {found}")]
    Version {
        /// The kind of file.
        file: IndexFile,
        /// Where the entry begins.
        position: FilePosition,
        /// The version this code reads.
        expected: i16,
        /// What stands there.
        found: i16,
    },
}

/// The index does not take the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Its limit of bytes is reached, or the offset or position lies too far from the segment's beginning for
    /// 31 bits. The log rolls.
    #[error("the {file} is full after {entry_count} entries")]
    Full {
        /// The kind of file.
        file: IndexFile,
        /// How many entries it holds.
        entry_count: usize,
    },
    /// The entry does not lie behind the last one. An index that is built again from a log meets this where a base
    /// offset is damaged, which no checksum of the batch covers.
    #[error("{file}: the entry of offset {offset} does not lie behind that of {last_offset}")]
    Disordered {
        /// The kind of file.
        file: IndexFile,
        /// The offset that was to be added.
        offset: Offset,
        /// The offset of the last entry, or the segment's base offset.
        last_offset: Offset,
    },
}
