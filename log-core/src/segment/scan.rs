//! Walking over the batches of one file, header by header, without trusting a byte of it.
//! Checks that headers are sound and batches whole; checksums, and whether a batch is the one that must
//! follow, are the caller's to judge.

use std::ops::Range;

use bytes::Bytes;

use crate::fs::FsError;
use crate::model::{FilePosition, Offset};
use crate::record::batch::{BatchError, BatchHeader, HEADER_LENGTH};
use crate::segment::view::View;

/// Why a walk could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file could not be read.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// What stands at `position` is not a batch.
    #[error("at {position}: {source}")]
    Malformed {
        /// Where the batch should begin.
        position: FilePosition,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The batch at `position` reaches behind the end of what was to be read.
    #[error("at {position}: the batch takes {needed} bytes, but {available} are there")]
    Incomplete {
        /// Where the batch begins.
        position: FilePosition,
        /// Its size by its header, or the header's own size.
        needed: u64,
        /// How many bytes there are.
        available: u64,
    },
    /// The offsets of the batch at `position` are not those that have their place there. No checksum guards them.
    #[error(
        "at {position}: the batch has base offset {found}, where offsets from {from} to below {to} have their place"
    )]
    Misplaced {
        /// Where the batch begins.
        position: FilePosition,
        /// Its base offset.
        found: Offset,
        /// The offset behind the batch before it.
        from: Offset,
        /// The offset behind the segment.
        to: Offset,
    },
}

/// A walk from one position to an end, reading ahead in windows.
#[derive(Debug)]
pub struct Walk<'a> {
    view: &'a View,
    position: u64,
    end: u64,
    window: Bytes,
    window_start: u64,
    /// How large the next window is; each one is twice the one before, up to [`WINDOW_SCAN`].
    window_bytes: u64,
    /// Whether each window is brought in first, so that a media error comes back as an error.
    populates: bool,
}

/// The first window of a look-up, which mostly ends within an index interval: to bring more in would take longer
/// than to look at it.
const WINDOW_LOOKUP: u64 = 8 << 10;
/// Windows for going through whole files.
pub const WINDOW_SCAN: u64 = 1 << 20;

impl<'a> Walk<'a> {
    /// A short walk over pages that are in memory: ask for [`Self::next_window`] before each step.
    #[must_use]
    pub fn resident(view: &'a View, from: FilePosition, end: u64) -> Self {
        Self::new(view, from, end, WINDOW_LOOKUP, false)
    }

    /// A walk that is mostly short, and may wait for the disk.
    #[must_use]
    pub fn lookup(view: &'a View, from: FilePosition, end: u64) -> Self {
        Self::new(view, from, end, WINDOW_LOOKUP, true)
    }

    /// A walk that may be long and may wait for the disk.
    #[must_use]
    pub fn scan(view: &'a View, from: FilePosition, end: u64) -> Self {
        Self::new(view, from, end, WINDOW_SCAN, true)
    }

    /// Begins at `from`, where a batch must begin, and ends at `end`.
    fn new(view: &'a View, from: FilePosition, end: u64, window_bytes: u64, populates: bool) -> Self {
        Self {
            view,
            position: from.get(),
            end,
            window: Bytes::new(),
            window_start: 0,
            window_bytes,
            populates,
        }
    }

    /// What [`Self::next_header`] will look at, if that is more than it has.
    #[must_use]
    pub fn next_window(&self) -> Option<Range<u64>> {
        let end = self.position.saturating_add(length(HEADER_LENGTH)).min(self.end);
        (!self.has(self.position, end)).then(|| self.position..self.reach(self.position, end))
    }

    /// Where the next batch begins.
    #[must_use]
    pub fn position(&self) -> FilePosition {
        FilePosition::new(self.position)
    }

    /// The next batch's header; `None` at the end. The walk then stands behind that batch.
    ///
    /// # Errors
    /// See [`ScanError`]; the walk stays before the batch it could not read.
    pub fn next_header(&mut self) -> Result<Option<(FilePosition, BatchHeader)>, ScanError> {
        let position = self.position();
        let available = self.end.saturating_sub(self.position);
        if available == 0 {
            return Ok(None);
        }
        let head = length(HEADER_LENGTH);
        if available < head {
            return Err(ScanError::Incomplete {
                position,
                needed: head,
                available,
            });
        }
        let bytes = self.bytes(self.position, head)?;
        let header =
            BatchHeader::parse(&bytes).map_err(|source| ScanError::Malformed { position, source })?;
        let needed = length(header.size());
        if available < needed {
            return Err(ScanError::Incomplete {
                position,
                needed,
                available,
            });
        }
        self.position = self.position.saturating_add(needed);
        Ok(Some((position, header)))
    }

    /// All bytes of the batch that [`Self::next_header`] returned.
    ///
    /// # Errors
    /// The file system's.
    pub fn batch_bytes(&mut self, position: FilePosition, header: &BatchHeader) -> Result<Bytes, FsError> {
        self.bytes(position.get(), length(header.size()))
    }

    fn bytes(&mut self, start: u64, count: u64) -> Result<Bytes, FsError> {
        let end = start.saturating_add(count);
        if !self.has(start, end) {
            let reach = self.reach(start, end);
            if self.populates {
                self.view.populate(start..reach)?;
            }
            self.window = self.view.bytes(start..reach)?;
            self.window_start = start;
            self.window_bytes = self.window_bytes.saturating_mul(2).min(WINDOW_SCAN);
        }
        let from = usize::try_from(start.saturating_sub(self.window_start)).expect("inside the window");
        let to = usize::try_from(end.saturating_sub(self.window_start)).expect("inside the window");
        Ok(self.window.slice(from..to))
    }

    /// Whether the window holds these bytes.
    fn has(&self, start: u64, end: u64) -> bool {
        let window_end = self.window_start.saturating_add(length(self.window.len()));
        self.window_start <= start && end <= window_end
    }

    /// Where a new window ends that begins at `start` and must hold everything up to `end`.
    fn reach(&self, start: u64, end: u64) -> u64 {
        start.saturating_add(self.window_bytes).min(self.end).max(end)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize fits u64")
}
