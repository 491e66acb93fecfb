//! Compaction: of each key of a log, only the last record stays.
//!
//! | file | what it does |
//! |---|---|
//! | `dirt.rs` | [`Dirt`]: how dirty a log is, and whether a cleaning is due |
//! | `offset_map.rs` | [`OffsetMap`]: the last offset of each key, in bounded memory |
//! | `clean.rs` | [`Cleaning`]: one cleaning, from the map to the last new segment |
//! | `group.rs` | which segments become one |
//! | `hold.rs` | [`SegmentHold`]: no segment leaves the log while it is read |
//! | `batch_filter.rs` | what stays of a batch |
//! | `transactions.rs` | what has to be known of transactions for that |
//! | `output.rs` | the files of a new segment |
//!
//! Nothing here changes a log. The new segment's files are swapped in by `log::clean` and `segment::swap`.

mod batch_filter;
mod clean;
mod dirt;
mod group;
mod hold;
mod offset_map;
mod output;
mod transactions;

use std::path::PathBuf;

pub(crate) use clean::scan_error;
pub use clean::{CleanedGroup, CleanerStats, Cleaning, LogToClean, WriteSizes};
pub use dirt::{Dirt, LogView};
pub use hold::SegmentHold;
pub use offset_map::OffsetMap;

use crate::fs::FsError;

/// Lets a cleaning go on: at once, later, or not at all.
pub trait Pace {
    /// The cleaning has read or written so many bytes.
    ///
    /// # Errors
    /// [`Stopped`] when it is to give up.
    fn spend(&mut self, bytes: u64) -> Result<(), Stopped>;
}

/// Somebody wants a cleaning to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Why a log was not cleaned, or not to the end. What was swapped in before stays.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// Somebody wanted it to end.
    #[error("stopped")]
    Stopped,
    /// The file system failed.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// Something in the log cannot be read, so nothing of it is written anew.
    #[error("{file}: {cause}", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        cause: String,
    },
}

impl From<Stopped> for CleanError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

#[cfg(test)]
mod tests;
