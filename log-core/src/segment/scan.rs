//! Walking over the batches of one file, header by header, without trusting a byte of it.
//! Checks that headers are sound and batches whole; checksums, and whether a batch is the one that must
//! follow, are the caller's to judge.

use std::ops::Range;

use bytes::Bytes;

use crate::fs::FsError;
use crate::model::{FilePosition, Offset};
use crate::record::batch_header::{BatchError, BatchHeader, HEADER_LENGTH};
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
    /// Up to where the system was asked to read ahead.
    ahead_end: u64,
    /// Whether it goes from header to header where batches are large.
    skips: bool,
    /// Whether the next header is read alone.
    is_sparse: bool,
}

/// The first window of a look-up, which mostly ends within an index interval: to bring more in would take longer
/// than to look at it.
const WINDOW_LOOKUP: u64 = 8 << 10;
/// Windows for going through whole files.
pub const WINDOW_SCAN: u64 = 1 << 20;
/// Behind a batch of this size, who looks at headers reads the next one alone. In memory a call costs as much as to copy 8 KiB; what is on
/// the disk alone is read without haste then, one header after the other, but of several logs at a time.
const SPARSE_BATCH: u64 = 32 << 10;
/// So much is on its way from the disk while a window is worked at. The system reads little ahead of faults in a map, and each
/// of them waits.
const READ_AHEAD: u64 = 8 << 20;

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

    /// The same for who looks at headers, and at the bytes of few batches or of all from some place on. Between large batches nothing but
    /// the headers is looked at; of what lies in a map the system is still asked to read ahead.
    #[must_use]
    pub fn headers(view: &'a View, from: FilePosition, end: u64) -> Self {
        Self {
            skips: true,
            ..Self::new(view, from, end, WINDOW_LOOKUP, true)
        }
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
            ahead_end: 0,
            skips: false,
            is_sparse: false,
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
        self.is_sparse = self.skips && SPARSE_BATCH <= needed;
        Ok(Some((position, header)))
    }

    /// All bytes of the batch that [`Self::next_header`] returned.
    ///
    /// # Errors
    /// The file system's.
    pub fn batch_bytes(&mut self, position: FilePosition, header: &BatchHeader) -> Result<Bytes, FsError> {
        // The next one is mostly wanted, too.
        self.is_sparse = false;
        self.bytes(position.get(), length(header.size()))
    }

    fn bytes(&mut self, start: u64, count: u64) -> Result<Bytes, FsError> {
        let end = start.saturating_add(count);
        if !self.has(start, end) {
            if self.is_sparse {
                self.window_bytes = WINDOW_LOOKUP;
            }
            let reach = self.reach(start, end);
            if self.populates {
                self.read_ahead(start);
                self.view.populate(start..reach)?;
            }
            self.window = self.view.bytes(start..reach)?;
            self.window_start = start;
            if !self.is_sparse {
                self.window_bytes = self.window_bytes.saturating_mul(2).min(WINDOW_SCAN);
            }
        }
        let from = usize::try_from(start.saturating_sub(self.window_start)).expect("inside the window");
        let to = usize::try_from(end.saturating_sub(self.window_start)).expect("inside the window");
        Ok(self.window.slice(from..to))
    }

    /// Has the disk read what follows `start`, half of [`READ_AHEAD`] at a time. Only where windows have become large: other walks
    /// mostly end before they come to it.
    fn read_ahead(&mut self, start: u64) {
        let from = self.ahead_end.max(start);
        let is_near = from.saturating_sub(start) <= READ_AHEAD / 2;
        let to = start.saturating_add(READ_AHEAD).min(self.end);
        if self.window_bytes == WINDOW_SCAN && is_near && from < to {
            self.view.read_ahead(from..to);
            self.ahead_end = to;
        }
    }

    /// Whether the window holds these bytes.
    fn has(&self, start: u64, end: u64) -> bool {
        let window_end = self.window_start.saturating_add(length(self.window.len()));
        self.window_start <= start && end <= window_end
    }

    /// Where a new window ends that begins at `start` and must hold everything up to `end`.
    fn reach(&self, start: u64, end: u64) -> u64 {
        if self.is_sparse {
            return end;
        }
        start.saturating_add(self.window_bytes).min(self.end).max(end)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize fits u64")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::fs::Map;
    use crate::model::TimestampMs;
    use crate::record::batch_builder::{BatchBuilder, BatchOptions};

    /// A file in memory, and what a walk wanted to be read ahead of it.
    #[derive(Debug)]
    struct Watched {
        bytes: Bytes,
        ahead: Mutex<Vec<Range<u64>>>,
    }

    impl Map for Watched {
        fn slice(&self, range: Range<u64>) -> Result<Bytes, FsError> {
            let place = |position| usize::try_from(position).unwrap();
            Ok(self.bytes.slice(place(range.start)..place(range.end)))
        }

        fn is_resident(&self, _range: Range<u64>) -> bool {
            false
        }

        fn populate(&self, range: Range<u64>) -> Result<(), FsError> {
            let ahead_end = self.ahead.lock().last().map_or(0, |last| last.end);
            let allowed = range.end..=range.start + READ_AHEAD;
            assert!(
                allowed.contains(&ahead_end),
                "{range:?} is wanted, and up to {ahead_end} on its way"
            );
            Ok(())
        }

        fn read_ahead(&self, range: Range<u64>) {
            self.ahead.lock().push(range);
        }
    }

    #[test]
    fn a_scan_has_everything_read_ahead_once() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let value = vec![7; 300 << 10];
        builder
            .append(TimestampMs::new(1), None, Some(&value), &[])
            .unwrap();
        let bytes = Bytes::from(builder.build().repeat(80));
        let end = length(bytes.len());
        assert!(2 * READ_AHEAD < end);
        let file = Arc::new(Watched {
            bytes,
            ahead: Mutex::default(),
        });
        let view = View::Mapped(Arc::clone(&file) as Arc<dyn Map>);
        let mut walk = Walk::scan(&view, FilePosition::ZERO, end);
        while let Some((position, header)) = walk.next_header().unwrap() {
            walk.batch_bytes(position, &header).unwrap();
        }
        let ahead = file.ahead.lock();
        let starts: Vec<u64> = ahead.iter().map(|range| range.start).collect();
        let ends: Vec<u64> = ahead.iter().map(|range| range.end).collect();
        assert_eq!((starts.first(), ends.last()), (Some(&0), Some(&end)));
        assert_eq!(starts.get(1..), ends.get(..ends.len() - 1));
        assert!(starts.len() < 8, "{ahead:?}");
    }

    /// A file in memory, and how much was looked at.
    #[derive(Debug)]
    struct Counted {
        bytes: Bytes,
        seen: Mutex<u64>,
    }

    impl Map for Counted {
        fn slice(&self, range: Range<u64>) -> Result<Bytes, FsError> {
            *self.seen.lock() += range.end - range.start;
            let place = |position| usize::try_from(position).unwrap();
            Ok(self.bytes.slice(place(range.start)..place(range.end)))
        }

        fn is_resident(&self, _range: Range<u64>) -> bool {
            false
        }

        fn populate(&self, _range: Range<u64>) -> Result<(), FsError> {
            Ok(())
        }

        fn read_ahead(&self, _range: Range<u64>) {}
    }

    fn batch(size: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(TimestampMs::new(1), None, Some(&vec![7; size]), &[])
            .unwrap();
        builder.build().to_vec()
    }

    /// How many batches a walk by headers finds in them, how much it looks at, and how much there is; from batch `whole_from` on it wants
    /// all bytes.
    fn count_headers(batches: &[Vec<u8>], whole_from: usize) -> (usize, u64, u64) {
        let bytes = Bytes::from(batches.concat());
        let end = length(bytes.len());
        let file = Arc::new(Counted {
            bytes,
            seen: Mutex::default(),
        });
        let view = View::Mapped(Arc::clone(&file) as Arc<dyn Map>);
        let mut walk = Walk::headers(&view, FilePosition::ZERO, end);
        let mut count = 0;
        while let Some((position, header)) = walk.next_header().unwrap() {
            assert_eq!(header.size(), batches[count].len(), "batch {count}");
            if whole_from <= count {
                let bytes = walk.batch_bytes(position, &header).unwrap();
                assert_eq!(bytes, batches[count], "batch {count}");
            }
            count += 1;
        }
        let seen = *file.seen.lock();
        (count, seen, end)
    }

    #[test]
    fn between_large_batches_only_headers_are_looked_at() {
        let large = vec![batch(64 << 10); 200];
        let (count, seen, _) = count_headers(&large, usize::MAX);
        assert_eq!(count, 200);
        assert!(seen < WINDOW_LOOKUP + 200 * length(HEADER_LENGTH), "{seen}");

        // A small one among them brings no large window.
        let mut mixed = large.clone();
        (0..200).step_by(10).for_each(|at| mixed[at] = batch(100));
        let (count, seen, end) = count_headers(&mixed, usize::MAX);
        assert_eq!(count, 200);
        assert!(seen < end / 16, "{seen} of {end}");
    }

    #[test]
    fn what_is_small_or_wanted_whole_is_looked_at_once() {
        let small = vec![batch(1000); 5000];
        let (count, seen, end) = count_headers(&small, usize::MAX);
        assert_eq!(count, 5000);
        assert!(seen < end + end / 8, "{seen} of {end}");

        let large = vec![batch(64 << 10); 200];
        let (count, seen, end) = count_headers(&large, 100);
        assert_eq!(count, 200);
        assert!((end / 2..end / 2 + end / 16).contains(&seen), "{seen} of {end}");
        assert!(WINDOW_SCAN < end / 2, "by whole windows");
    }
}
