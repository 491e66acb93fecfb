//! A walk over the batches of one `.log` file that goes on past damage.
//!
//! A batch whose checksum is wrong is shown all the same when the file goes on sensibly behind it. Where it does
//! not, or where no batch begins, the walk looks for the next place at which a batch begins whose checksum
//! is right, and shows what it passed over as damage.
//!
//! Base offset and leader epoch stand outside of the checksum: whether batches follow on each other is for the caller to judge.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use log_core::fs::{File, FileSystem, FsError};
use log_core::model::FilePosition;
use log_core::record::batch_header::{self, BatchError, BatchHeader, HEADER_LENGTH};

/// Read at once.
const WINDOW_BYTES: u64 = 1 << 20;
/// A search for the next batch checks at most so many times the file's length, so that bytes made up to look like
/// batches cannot make it take for ever.
const SEARCH_LENGTHS_MAX: u64 = 16;
/// Where the magic stands in a header.
const MAGIC_AT: usize = 16;

/// A stretch of the file.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A batch.
    Batch(FoundBatch),
    /// Bytes that are no batch, with a sound batch behind them.
    Damage {
        /// Where they are.
        range: Range<u64>,
        /// What is wrong at their beginning.
        cause: BatchError,
    },
    /// What stands behind the last batch.
    Tail {
        /// Where it is.
        range: Range<u64>,
        /// What is wrong at its beginning; nothing when it is all zeros: space prepared for more batches.
        cause: Option<BatchError>,
    },
}

/// A batch where it was found.
#[derive(Clone)]
pub struct FoundBatch {
    /// Where it begins.
    pub position: FilePosition,
    /// Its header.
    pub header: BatchHeader,
    /// All of it.
    pub bytes: Bytes,
    /// Whether its checksum is right.
    pub checksum: Result<(), BatchError>,
}

impl fmt::Debug for FoundBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FoundBatch")
            .field("position", &self.position)
            .field("header", &self.header)
            .field("checksum", &self.checksum)
            .finish_non_exhaustive()
    }
}

/// The walk.
#[derive(Debug)]
pub struct SegmentWalk {
    file: Arc<dyn File>,
    length: u64,
    position: u64,
    window: Bytes,
    window_start: u64,
    search_bytes_left: u64,
}

impl SegmentWalk {
    /// Opens the file; as much of it is read as it has now.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(file_system: &dyn FileSystem, path: &Path) -> Result<Self, FsError> {
        let file = file_system.open_read_only(path)?;
        let length = file.length()?;
        Ok(Self {
            file,
            length,
            position: 0,
            window: Bytes::new(),
            window_start: 0,
            search_bytes_left: length.saturating_mul(SEARCH_LENGTHS_MAX),
        })
    }

    /// How long the file is.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the walk stands.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next piece; nothing at the end of the file.
    ///
    /// # Errors
    /// The file system's.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, FsError> {
        let start = self.position;
        if self.length <= start {
            return Ok(None);
        }
        let cause = match self.batch_at(start)? {
            Ok(found) => {
                let end = start.saturating_add(length_of(&found.bytes));
                match found.checksum {
                    Err(cause) if !self.goes_on_at(end)? => cause,
                    _ => {
                        self.position = end;
                        return Ok(Some(Piece::Batch(found)));
                    }
                }
            }
            Err(cause) => cause,
        };
        if self.is_zero_from(start)? {
            self.position = self.length;
            let range = start..self.length;
            return Ok(Some(Piece::Tail { range, cause: None }));
        }
        let next = self.search(start.saturating_add(1))?;
        self.position = next.unwrap_or(self.length);
        let range = start..self.position;
        Ok(Some(match next {
            Some(_) => Piece::Damage { range, cause },
            None => Piece::Tail {
                range,
                cause: Some(cause),
            },
        }))
    }

    /// The batch that begins here, if its header is sound and it lies within the file.
    fn batch_at(&mut self, start: u64) -> Result<Result<FoundBatch, BatchError>, FsError> {
        let head = self.bytes(start, HEADER_LENGTH)?;
        let header = match BatchHeader::parse(&head) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let left = usize::try_from(self.length.saturating_sub(start)).unwrap_or(usize::MAX);
        let incomplete = |found| BatchError::Incomplete {
            expected: header.size(),
            found,
        };
        if left < header.size() {
            return Ok(Err(incomplete(left)));
        }
        let bytes = self.bytes(start, header.size())?;
        if bytes.len() < header.size() {
            // The file became shorter.
            return Ok(Err(incomplete(bytes.len())));
        }
        let checksum = batch_header::verify_checksum(&bytes);
        Ok(Ok(FoundBatch {
            position: FilePosition::new(start),
            header,
            bytes,
            checksum,
        }))
    }

    /// Whether the file ends here, or goes on with something that looks like a header or like prepared space.
    fn goes_on_at(&mut self, start: u64) -> Result<bool, FsError> {
        let head = self.bytes(start, HEADER_LENGTH)?;
        Ok(head.iter().all(|byte| *byte == 0) || BatchHeader::parse(&head).is_ok())
    }

    fn is_zero_from(&mut self, start: u64) -> Result<bool, FsError> {
        let mut position = start;
        while position < self.length {
            let bytes = self.bytes(position, WINDOW_BYTES_IN_MEMORY)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(bytes.is_empty());
            }
            position = position.saturating_add(length_of(&bytes));
        }
        Ok(true)
    }

    /// The first place from `from` on where a batch begins whose checksum is right.
    fn search(&mut self, from: u64) -> Result<Option<u64>, FsError> {
        let mut start = from;
        while start < self.length && 0 < self.search_bytes_left {
            let window = self.bytes(start, WINDOW_BYTES_IN_MEMORY)?;
            let Some(candidates) = window.len().checked_sub(HEADER_LENGTH) else {
                return Ok(None);
            };
            for at in 0..=candidates {
                let could_be = window.get(at.saturating_add(MAGIC_AT)) == Some(&batch_header::MAGIC);
                if !could_be
                    || window
                        .get(at..)
                        .is_none_or(|head| BatchHeader::parse(head).is_err())
                {
                    continue;
                }
                let position = start.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
                if let Ok(found) = self.batch_at(position)? {
                    if found.checksum.is_ok() {
                        return Ok(Some(position));
                    }
                    let checked = length_of(&found.bytes);
                    self.search_bytes_left = self.search_bytes_left.saturating_sub(checked);
                }
            }
            let passed = u64::try_from(candidates).unwrap_or(u64::MAX).saturating_add(1);
            start = start.saturating_add(passed);
            self.search_bytes_left = self.search_bytes_left.saturating_sub(passed);
        }
        Ok(None)
    }

    /// Up to `count` bytes from `start` on; fewer at the end of the file.
    fn bytes(&mut self, start: u64, count: usize) -> Result<Bytes, FsError> {
        let available = self.length.saturating_sub(start);
        let count = count.min(usize::try_from(available).unwrap_or(usize::MAX));
        let within = usize::try_from(start.saturating_sub(self.window_start)).unwrap_or(usize::MAX);
        let end = within.saturating_add(count);
        if self.window_start <= start && end <= self.window.len() {
            return Ok(self.window.slice(within..end));
        }
        let wanted = WINDOW_BYTES.min(available);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).max(count);
        let mut buffer = vec![0; wanted];
        let read = self.file.read_at(start, &mut buffer)?;
        buffer.truncate(read);
        self.window = Bytes::from(buffer);
        self.window_start = start;
        Ok(self.window.slice(..count.min(read)))
    }
}

const WINDOW_BYTES_IN_MEMORY: usize = 1 << 20;
const _: () = assert!(WINDOW_BYTES_IN_MEMORY as u64 == WINDOW_BYTES);

fn length_of(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use log_core::fs::mem::MemFileSystem;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};

    use super::*;

    /// Every 61 bytes a header that claims almost the rest of the file: to check them all would take hours of a large file.
    #[test]
    fn a_search_among_made_up_headers_is_given_up() {
        let mut contents = vec![0xee; 256 << 10];
        let length = contents.len();
        let mut header = BatchHeader::parse(&BatchBuilder::new(BatchOptions::default()).build()).unwrap();
        for start in (0..length - HEADER_LENGTH).step_by(HEADER_LENGTH) {
            header.batch_length = u32::try_from(length - start - 13).unwrap();
            contents[start..start + HEADER_LENGTH].copy_from_slice(&header.to_bytes());
        }
        let files = MemFileSystem::new();
        let path = Path::new("/00000000000000000000.log");
        files.replace(path, &contents).unwrap();
        let mut walk = SegmentWalk::open(&files, path).unwrap();
        let piece = walk.next_piece().unwrap();
        assert!(
            matches!(piece, Some(Piece::Tail { cause: Some(_), .. })),
            "{piece:?}"
        );
        assert_eq!(walk.search_bytes_left, 0);
        assert_eq!(walk.position(), walk.length());
    }
}
