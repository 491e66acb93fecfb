//! The two ways of looking into a file: through a memory map, or by plain reads where no map can be had.
//!
//! A map's slices are the file's pages themselves; a plain read copies. Which one it is shows nowhere above.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::{File, FileSystem, FsError, FsErrorKind, FsOperation, Map};

/// A way of reading one file.
#[derive(Debug)]
pub enum View {
    /// Through a map, which the file system counts.
    Mapped(Arc<dyn Map>),
    /// By reads, when the budget or the system has no map left.
    Plain(Arc<dyn File>),
}

impl View {
    /// Maps the first `capacity` bytes of `file` if there is a map to be had, and falls back to plain reads.
    ///
    /// # Errors
    /// What mapping fails with, other than a lack of maps or memory.
    pub fn new(file: &Arc<dyn File>, capacity: u64) -> Result<Self, FsError> {
        if capacity == 0 {
            return Ok(Self::Plain(Arc::clone(file)));
        }
        match file.map(capacity) {
            Ok(map) => Ok(Self::Mapped(map)),
            Err(error) if error.kind == FsErrorKind::OutOfResources => Ok(Self::Plain(Arc::clone(file))),
            Err(error) => Err(error),
        }
    }

    /// Opens a file that is not written any more.
    ///
    /// # Errors
    /// As [`FileSystem::open_read_only`] and [`Self::new`].
    pub fn of_sealed(file_system: &dyn FileSystem, path: &Path, length: u64) -> Result<Self, FsError> {
        Self::new(&file_system.open_read_only(path)?, length)
    }

    /// The bytes of the range, all of them.
    ///
    /// # Errors
    /// `UnexpectedEnd` when the file ends before the range does; otherwise the system's.
    pub fn bytes(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        match self {
            Self::Mapped(map) => map.slice(range),
            Self::Plain(file) => read_exactly(file.as_ref(), range),
        }
    }

    /// Whether reading the range does not wait for the disk. Plain reads may always wait.
    #[must_use]
    pub fn is_resident(&self, range: Range<u64>) -> bool {
        match self {
            Self::Mapped(map) => map.is_resident(range),
            Self::Plain(_) => range.is_empty(),
        }
    }

    /// Brings the range into memory; a media error comes back as an error. Blocks.
    ///
    /// # Errors
    /// The system's.
    pub fn populate(&self, range: Range<u64>) -> Result<(), FsError> {
        match self {
            Self::Mapped(map) => map.populate(range),
            Self::Plain(_) => Ok(()),
        }
    }

    /// Has the system begin to read the range, and does not wait for it. Plain reads are read ahead by the system itself.
    pub fn read_ahead(&self, range: Range<u64>) {
        if let Self::Mapped(map) = self {
            map.read_ahead(range);
        }
    }
}

fn read_exactly(file: &dyn File, range: Range<u64>) -> Result<Bytes, FsError> {
    let failed = |kind, why: &str| FsError {
        operation: FsOperation::Read,
        path: file.path().to_path_buf(),
        kind,
        source: std::io::Error::other(format!("bytes {}..{}: {why}", range.start, range.end)),
    };
    let length = range.end.saturating_sub(range.start);
    if file.length()? < range.end {
        return Err(failed(FsErrorKind::UnexpectedEnd, "behind the end of the file"));
    }
    let length = usize::try_from(length).map_err(|_| failed(FsErrorKind::TooLarge, "too many at once"))?;
    let mut buffer = vec![0; length];
    let count = file.read_at(range.start, &mut buffer)?;
    if count < length {
        return Err(failed(FsErrorKind::UnexpectedEnd, "the file became shorter"));
    }
    Ok(Bytes::from(buffer))
}
