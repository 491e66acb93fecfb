//! The seam for disk: everything log-core asks of a file system, and nothing more.
//!
//! [`os`] is the real one and the only place with `std::fs` and memory maps; [`mem`] is its twin in
//! memory, which fails and crashes on request. What a returned `Ok` promises stands at each verb:
//! only the `sync` verbs and [`FileSystem::replace`] promise that something is on the disk.

use std::fmt::{self, Debug};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

mod extent;
pub mod map;
pub mod mem;
pub mod os;
mod whole_file;

#[cfg(test)]
mod tests;

/// What was asked of the file system when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsOperation {
    /// Make a new file.
    Create,
    /// Open an existing file.
    Open,
    /// Read bytes or a file's length.
    Read,
    /// Write bytes.
    Write,
    /// Reserve blocks or fill them with zeros.
    Allocate,
    /// Bring written data to the disk.
    Sync,
    /// Change a file's length.
    SetLen,
    /// Map a file or bring mapped pages in.
    Map,
    /// Rename a file or directory.
    Rename,
    /// Remove a file or directory.
    Remove,
    /// List or make a directory, ask for its free space.
    Directory,
    /// Take the lock of a data directory.
    Lock,
}

impl fmt::Display for FsOperation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Allocate => "allocate",
            Self::Sync => "sync",
            Self::SetLen => "set the length of",
            Self::Map => "map",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Directory => "use directory",
            Self::Lock => "lock",
        })
    }
}

/// The kinds of failure that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsErrorKind {
    /// The path does not exist.
    NotFound,
    /// The path exists already.
    AlreadyExists,
    /// No space, or a quota is used up (ENOSPC, EDQUOT, EFBIG).
    NoSpace,
    /// No more file descriptors, maps or memory (EMFILE, ENFILE, ENOMEM).
    OutOfResources,
    /// Another process holds the lock.
    Locked,
    /// The file ends before the range that was asked for.
    UnexpectedEnd,
    /// The file is larger than the caller accepts.
    TooLarge,
    /// The range is handed out as slices, or another thread is changing it: it may be neither changed nor
    /// cut off, nor handed out.
    InUse,
    /// The disk failed, or the file system on it (EIO, EROFS and the like).
    Disk,
    /// Anything else: rights that are missing, a name that is too long or in the way, a mistake of ours.
    Other,
}

/// A failed operation: what, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}: {source}", path = path.display())]
pub struct FsError {
    /// What was asked.
    pub operation: FsOperation,
    /// Of which file or directory.
    pub path: PathBuf,
    /// How callers should treat it.
    pub kind: FsErrorKind,
    /// The system's own word.
    pub source: io::Error,
}

impl FsError {
    /// An error of the system's, classified by its number.
    pub(crate) fn from_system(operation: FsOperation, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_path_buf(),
            kind: FsErrorKind::of(&source),
            source,
        }
    }

    /// A refusal of ours, in words.
    pub(crate) fn refused(operation: FsOperation, path: &Path, kind: FsErrorKind, text: String) -> Self {
        Self {
            operation,
            path: path.to_path_buf(),
            kind,
            source: io::Error::other(text),
        }
    }
}

/// What the system answers when the disk itself fails, is taken away, or bears a damaged file system.
const DISK_FAILURES: [Errno; 14] = [
    Errno::IO,
    // Also what a file system makes of itself when it finds an error.
    Errno::ROFS,
    Errno::NXIO,
    Errno::NODEV,
    Errno::NOMEDIUM,
    // A sector that cannot be read.
    Errno::NODATA,
    Errno::REMOTEIO,
    Errno::NOLINK,
    Errno::TIMEDOUT,
    Errno::SHUTDOWN,
    // Damage that the file system noticed.
    Errno::UCLEAN,
    Errno::BADMSG,
    // A file system over a network, or in a process that has gone.
    Errno::STALE,
    Errno::NOTCONN,
];

impl FsErrorKind {
    fn of(source: &io::Error) -> Self {
        match Errno::from_io_error(source) {
            Some(Errno::NOENT) => Self::NotFound,
            Some(Errno::EXIST) => Self::AlreadyExists,
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::NoSpace,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::OutOfResources,
            Some(Errno::WOULDBLOCK) => Self::Locked,
            Some(errno) if DISK_FAILURES.contains(&errno) => Self::Disk,
            _ => Self::Other,
        }
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of the path; names that are not UTF-8 are left out of listings.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The file's length in bytes; 0 for a directory.
    pub length: u64,
}

/// The space of the file system that holds a directory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What an ordinary process may still take.
    pub available: u64,
}

/// Holds a data directory for this process until it is dropped.
pub trait DirectoryLock: Debug + Send + Sync {}

/// A tree of files.
pub trait FileSystem: Debug + Send + Sync {
    /// Makes a new, empty file for reading and writing. The name is durable after [`Self::sync_directory`].
    ///
    /// # Errors
    /// `AlreadyExists`, `NoSpace`, `OutOfResources` and the system's others.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, FsError>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, `OutOfResources` and the system's others.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>, FsError>;

    /// Opens an existing file for reading only; its length must not change while it is used.
    /// What sealed segments and off-line tools use.
    ///
    /// # Errors
    /// `NotFound`, `OutOfResources` and the system's others.
    fn open_read_only(&self, path: &Path) -> Result<Arc<dyn File>, FsError>;

    /// Whether the path exists.
    ///
    /// # Errors
    /// When the system cannot tell.
    fn exists(&self, path: &Path) -> Result<bool, FsError>;

    /// The whole of a small file.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` above `length_max` bytes, before memory is taken.
    fn read(&self, path: &Path, length_max: u64) -> Result<Vec<u8>, FsError>;

    /// Puts `contents` at `path`, whole or not at all: written aside, synced, renamed, directory synced.
    /// `Ok` promises that it is on the disk.
    ///
    /// # Errors
    /// Any failure; the former contents are then still there (or, after a failed directory sync, either).
    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FsError>;

    /// Renames a file or directory, replacing a file of that name. Durable after the directory is synced.
    ///
    /// # Errors
    /// `NotFound` and the system's others.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError>;

    /// Removes a file; its maps and open handles stay usable. Durable after the directory is synced.
    ///
    /// # Errors
    /// `NotFound` and the system's others.
    fn remove_file(&self, path: &Path) -> Result<(), FsError>;

    /// Removes a directory with all that is in it. A path that does not exist is `Ok`.
    ///
    /// # Errors
    /// The system's.
    fn remove_directory(&self, path: &Path) -> Result<(), FsError>;

    /// Makes a directory and its missing parents, and syncs the directories that gained a name. One that exists is `Ok`,
    /// and its name is synced all the same: whoever made it may have failed to.
    ///
    /// # Errors
    /// The system's.
    fn create_directory(&self, path: &Path) -> Result<(), FsError>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` and the system's others.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, FsError>;

    /// Makes creations, removals and renames in this directory durable.
    ///
    /// # Errors
    /// The system's; what was to be durable may then be lost.
    fn sync_directory(&self, path: &Path) -> Result<(), FsError>;

    /// Takes the directory for this process, by an advisory lock on its file `.lock`.
    ///
    /// # Errors
    /// `Locked` when another process (or another lock in this one) holds it.
    fn lock_directory(&self, path: &Path) -> Result<Box<dyn DirectoryLock>, FsError>;

    /// The space of the file system that holds `path`.
    ///
    /// # Errors
    /// The system's.
    fn space(&self, path: &Path) -> Result<Space, FsError>;
}

/// An open file. All verbs may be called from several threads; one writer at a time is the caller's duty.
pub trait File: Debug + Send + Sync {
    /// Where it is (or was, before a rename).
    fn path(&self) -> &Path;

    /// The file's present length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn length(&self) -> Result<u64, FsError>;

    /// Writes all of `parts`, one behind the other, from `position` on: one vectored call where the
    /// system allows it. Extends the file when needed. `Ok` promises that reads and maps see it, not that
    /// it is on the disk.
    ///
    /// # Errors
    /// `NoSpace` and the system's others; a part of the bytes may then have been written.
    /// `InUse` when the range starts below the end of a slice that was handed out, alive or not, or
    /// overlaps a write or cut that another thread has under way.
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> Result<(), FsError>;

    /// Fills `buffer` from `position` on and says how many bytes there were; fewer only at the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, FsError>;

    /// Reserves blocks for the range, extending the file: later writes there cannot fail for want of space.
    /// What the file holds is unchanged, what is new reads as zeros.
    ///
    /// # Errors
    /// `NoSpace`: nothing that was written is lost.
    fn allocate(&self, range: Range<u64>) -> Result<(), FsError>;

    /// Writes zeros over the range, extending the file, so that later syncs of it need no block conversion.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    fn zero_fill(&self, range: Range<u64>) -> Result<(), FsError>;

    /// Brings the data, and what is needed to read it back, to the disk (`fdatasync`).
    ///
    /// # Errors
    /// The system's. The caller must then treat everything since the last good sync as lost: the system
    /// may have dropped it, and a second sync would report success.
    fn sync_data(&self) -> Result<(), FsError>;

    /// Asks the system to start writing the range out; promises nothing (`sync_file_range`).
    ///
    /// # Errors
    /// The system's.
    fn start_writeback(&self, range: Range<u64>) -> Result<(), FsError>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// `InUse` when a slice that was handed out, alive or not, reaches behind `length`, or another thread
    /// is writing or allocating there.
    fn set_length(&self, length: u64) -> Result<(), FsError>;

    /// Maps the file's first `capacity` bytes, which may reach behind its present end: the address space
    /// is reserved and the file grows below it. The map keeps working when the file is renamed or removed.
    ///
    /// # Errors
    /// `OutOfResources` when the process has too many maps; read by [`Self::read_at`] then.
    fn map(&self, capacity: u64) -> Result<Arc<dyn Map>, FsError>;
}

/// A shared, read-only memory map.
pub trait Map: Debug + Send + Sync {
    /// The range as bytes, without a copy. The caller promises that the range is never written again:
    /// it lies below the published end of an append-only file.
    ///
    /// # Errors
    /// `UnexpectedEnd` when the range reaches behind the file's end or the map's capacity; `InUse` while
    /// a write to it, or to bytes before it, is under way.
    fn slice(&self, range: Range<u64>) -> Result<Bytes, FsError>;

    /// Whether the whole range is in memory, so that touching it does not wait for the disk.
    fn is_resident(&self, range: Range<u64>) -> bool;

    /// Brings the range into memory and into the map (`MADV_POPULATE_READ`), a stretch at a time and nothing beside it, so that the
    /// disk has time for others. Blocks: never on a runtime's thread.
    ///
    /// # Errors
    /// A media error as an error code, where touching the page would have killed the process.
    fn populate(&self, range: Range<u64>) -> Result<(), FsError>;

    /// Asks the system to begin to read the range, which will be populated soon; promises nothing (`MADV_WILLNEED`).
    fn read_ahead(&self, _range: Range<u64>) {}
}
