//! The operating system's file system. The only place, with `map`, that asks the system about files.
//!
//! Every handle of one file shares one `Extent`, found by device and inode number: it knows the file's
//! length without asking, and refuses what would pull the ground from under a slice of a map.
//! Invariant: whoever holds an extent also holds the file open or mapped, and lets go of the extent first. So
//! an inode number that is in the table belongs to no other file.
//!
//! Interrupted calls are repeated, short writes continued. An error is classified by its number alone.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::extent::{Change, ChangeKind, Extent, Refusal};
use super::map::{self, MapBudget, OsMap};
use super::whole_file::{parent_of, read_whole, replace_whole, sync_name};
use super::{DirEntry, DirectoryLock, File, FileSystem, FsError, FsErrorKind, FsOperation, Map, Space};

/// The file that carries a data directory's lock.
pub(super) const LOCK_FILE: &str = ".lock";

/// The most parts Linux takes in one vectored call (`UIO_MAXIOV`).
const PARTS_PER_CALL_MAX: usize = 1024;

/// Zeros are written in steps. A call holds the file's lock, and an append that comes meanwhile waits for one step only,
/// some ten microseconds. And Linux makes the page cache's folios as large as the call, of which ext4 walks all blocks
/// at each later write: larger steps cost small appends a half more and spare large ones nothing (docs/BENCHMARKS.md).
const ZEROS_PER_CALL: usize = 64 << 10;
const ZERO_BLOCK: [u8; 16 << 10] = [0; 16 << 10];

/// The table of extents is swept of dead entries when it has doubled, but not below this size.
const SWEEP_ENTRIES_MIN: usize = 1024;

/// The extents of the process's open files. One table for all, because what makes a slice of a map sound
/// cannot depend on which [`OsFileSystem`] opened the file.
static EXTENTS: LazyLock<Mutex<ExtentTable>> = LazyLock::new(Mutex::default);

/// The real file system. Clones share a budget of maps.
#[derive(Debug, Clone, Default)]
pub struct OsFileSystem {
    map_budget: MapBudget,
}

impl OsFileSystem {
    /// The system's files, with a budget of [`map::MAPS_MAX`] maps. A process makes one and clones it, for
    /// the sake of the budget.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a budget of maps of the caller's.
    #[must_use]
    pub fn with_map_budget(map_budget: MapBudget) -> Self {
        Self { map_budget }
    }

    /// How many maps live, slices that outlive their map included, and how many may.
    #[must_use]
    pub fn map_budget(&self) -> &MapBudget {
        &self.map_budget
    }

    fn open_with(&self, path: &Path, flags: OFlags, operation: FsOperation) -> Result<OsFile, FsError> {
        let refuse = |errno: Errno| FsError::from_system(operation, path, errno.into());
        let mode = Mode::from_raw_mode(0o644);
        let descriptor =
            retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, mode)).map_err(refuse)?;
        let extent = EXTENTS.lock().extent_of(&descriptor).map_err(refuse)?;
        Ok(OsFile {
            extent,
            descriptor,
            path: path.to_path_buf(),
            map_budget: self.map_budget.clone(),
        })
    }
}

/// The extents of the open files, by device and inode.
#[derive(Debug, Default)]
struct ExtentTable {
    entries: HashMap<(u64, u64), Weak<Extent>>,
    sweep_at: usize,
}

impl ExtentTable {
    fn extent_of(&mut self, descriptor: &OwnedFd) -> Result<Arc<Extent>, Errno> {
        let status = rustix::fs::fstat(descriptor)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return Err(Errno::ISDIR);
        }
        let key = (status.st_dev, status.st_ino);
        if let Some(extent) = self.entries.get(&key).and_then(Weak::upgrade) {
            return Ok(extent);
        }
        if self.sweep_at.max(SWEEP_ENTRIES_MIN) <= self.entries.len() {
            self.entries.retain(|_, extent| extent.strong_count() != 0);
            self.sweep_at = self.entries.len() * 2;
        }
        let extent = Arc::new(Extent::new(u64::try_from(status.st_size).unwrap_or(0)));
        self.entries.insert(key, Arc::downgrade(&extent));
        Ok(extent)
    }
}

impl FileSystem for OsFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(Arc::new(self.open_with(path, flags, FsOperation::Create)?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        Ok(Arc::new(self.open_with(path, OFlags::RDWR, FsOperation::Open)?))
    }

    fn open_read_only(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        Ok(Arc::new(self.open_with(
            path,
            OFlags::RDONLY,
            FsOperation::Open,
        )?))
    }

    fn exists(&self, path: &Path) -> Result<bool, FsError> {
        match retry_on_intr(|| rustix::fs::stat(path)) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(FsError::from_system(FsOperation::Open, path, errno.into())),
        }
    }

    fn read(&self, path: &Path, length_max: u64) -> Result<Vec<u8>, FsError> {
        let file = self.open_with(path, OFlags::RDONLY, FsOperation::Open)?;
        read_whole(&file, length_max)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FsError> {
        replace_whole(self, path, contents)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        retry_on_intr(|| rustix::fs::rename(from, to))
            .map_err(|errno| FsError::from_system(FsOperation::Rename, from, errno.into()))
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        retry_on_intr(|| rustix::fs::unlink(path))
            .map_err(|errno| FsError::from_system(FsOperation::Remove, path, errno.into()))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place for it; std walks without races"
    )]
    fn remove_directory(&self, path: &Path) -> Result<(), FsError> {
        match std::fs::remove_dir_all(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|source| FsError::from_system(FsOperation::Remove, path, source)),
        }
    }

    fn create_directory(&self, path: &Path) -> Result<(), FsError> {
        let make = || retry_on_intr(|| rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)));
        let refuse = |errno: Errno| FsError::from_system(FsOperation::Directory, path, errno.into());
        let mut outcome = make();
        if outcome == Err(Errno::NOENT) && parent_of(path) != path {
            self.create_directory(parent_of(path))?;
            outcome = make();
        }
        match outcome {
            Ok(()) => self.sync_directory(parent_of(path)),
            Err(Errno::EXIST) => {
                let status = retry_on_intr(|| rustix::fs::stat(path)).map_err(refuse)?;
                match FileType::from_raw_mode(status.st_mode) {
                    FileType::Directory => sync_name(self, path),
                    _ => Err(refuse(Errno::NOTDIR)),
                }
            }
            Err(errno) => Err(refuse(errno)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        list(path).map_err(|errno| FsError::from_system(FsOperation::Directory, path, errno.into()))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), FsError> {
        open_directory(path)
            .and_then(|descriptor| retry_on_intr(|| rustix::fs::fsync(&descriptor)))
            .map_err(|errno| FsError::from_system(FsOperation::Sync, path, errno.into()))
    }

    fn lock_directory(&self, path: &Path) -> Result<Box<dyn DirectoryLock>, FsError> {
        let lock_path = path.join(LOCK_FILE);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        retry_on_intr(|| rustix::fs::open(&lock_path, flags, mode))
            .and_then(|descriptor| {
                retry_on_intr(|| rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive))?;
                Ok(Box::new(OsDirectoryLock {
                    _descriptor: descriptor,
                }) as Box<dyn DirectoryLock>)
            })
            .map_err(|errno| FsError::from_system(FsOperation::Lock, &lock_path, errno.into()))
    }

    fn space(&self, path: &Path) -> Result<Space, FsError> {
        let status = retry_on_intr(|| rustix::fs::statvfs(path))
            .map_err(|errno| FsError::from_system(FsOperation::Directory, path, errno.into()))?;
        Ok(Space {
            total: status.f_blocks.saturating_mul(status.f_frsize),
            available: status.f_bavail.saturating_mul(status.f_frsize),
        })
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
}

fn list(path: &Path) -> Result<Vec<DirEntry>, Errno> {
    let descriptor = open_directory(path)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&descriptor)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        let status = match rustix::fs::statat(&descriptor, entry.file_name(), AtFlags::empty()) {
            Ok(status) => status,
            Err(Errno::NOENT) => continue, // removed since
            Err(errno) => return Err(errno),
        };
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let length = if is_directory {
            0
        } else {
            u64::try_from(status.st_size).unwrap_or(0)
        };
        entries.push(DirEntry {
            name: name.to_owned(),
            is_directory,
            length,
        });
    }
    entries.sort();
    Ok(entries)
}

/// The lock goes with the descriptor, also when the process is killed.
#[derive(Debug)]
struct OsDirectoryLock {
    _descriptor: OwnedFd,
}

impl DirectoryLock for OsDirectoryLock {}

/// An open file.
#[derive(Debug)]
struct OsFile {
    // Dropped before the descriptor; see the module's invariant.
    extent: Arc<Extent>,
    descriptor: OwnedFd,
    path: PathBuf,
    map_budget: MapBudget,
}

impl OsFile {
    fn error(&self, operation: FsOperation, errno: Errno) -> FsError {
        FsError::from_system(operation, &self.path, errno.into())
    }

    fn begin(
        &self,
        operation: FsOperation,
        kind: ChangeKind,
        range: Range<u64>,
    ) -> Result<Change<'_>, FsError> {
        if i64::try_from(range.end).is_err() {
            return Err(self.error(operation, Errno::FBIG));
        }
        self.extent
            .begin(kind, range.clone())
            .map_err(|refusal| match refusal {
                Refusal::InUse | Refusal::UnexpectedEnd { .. } => FsError::refused(
                    operation,
                    &self.path,
                    FsErrorKind::InUse,
                    format!("{kind:?} of {range:?}: handed out, or being changed"),
                ),
            })
    }

    fn finish(
        &self,
        change: Change<'_>,
        operation: FsOperation,
        outcome: Result<(), Errno>,
    ) -> Result<(), FsError> {
        let length_now = || {
            let status = rustix::fs::fstat(&self.descriptor).ok()?;
            u64::try_from(status.st_size).ok()
        };
        change
            .finish(outcome, length_now)
            .map_err(|errno| self.error(operation, errno))
    }

    /// Writes zeros over the range in steps; see [`ZEROS_PER_CALL`].
    fn write_zeros(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut position = range.start;
        while position < range.end {
            let step =
                usize::try_from(range.end - position).map_or(ZEROS_PER_CALL, |left| left.min(ZEROS_PER_CALL));
            let whole = [IoSlice::new(&ZERO_BLOCK); ZEROS_PER_CALL / ZERO_BLOCK.len()];
            let (blocks, rest) = (step / ZERO_BLOCK.len(), step % ZERO_BLOCK.len());
            let rest = IoSlice::new(ZERO_BLOCK.get(..rest).unwrap_or_default());
            let mut parts: Vec<IoSlice<'_>> = whole.into_iter().take(blocks).collect();
            parts.push(rest);
            write_all(&self.descriptor, position, &parts)?;
            position = position.saturating_add(u64::try_from(step).map_err(|_| Errno::FBIG)?);
        }
        Ok(())
    }
}

impl File for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64, FsError> {
        Ok(self.extent.length())
    }

    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> Result<(), FsError> {
        let range = range_of(position, parts).ok_or_else(|| self.error(FsOperation::Write, Errno::FBIG))?;
        if range.is_empty() {
            return Ok(());
        }
        let change = self.begin(FsOperation::Write, ChangeKind::Write, range)?;
        let outcome = write_all(&self.descriptor, position, parts);
        self.finish(change, FsOperation::Write, outcome)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            let from = position.saturating_add(filled as u64);
            if i64::try_from(from).is_err() {
                break; // behind the end of any file
            }
            let count = retry_on_intr(|| rustix::io::pread(&self.descriptor, &mut *rest, from))
                .map_err(|errno| self.error(FsOperation::Read, errno))?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        Ok(filled)
    }

    fn allocate(&self, range: Range<u64>) -> Result<(), FsError> {
        if range.is_empty() {
            return Ok(());
        }
        let length = range.end - range.start;
        let change = self.begin(FsOperation::Allocate, ChangeKind::Allocate, range.clone())?;
        let outcome = retry_on_intr(|| {
            rustix::fs::fallocate(&self.descriptor, FallocateFlags::empty(), range.start, length)
        });
        if outcome == Err(Errno::OPNOTSUPP) {
            drop(change);
            // The file system cannot reserve. Writing zeros behind the end takes blocks as well; what lies
            // before the end has its blocks, or is a hole that stays one.
            return self.zero_fill(range.start.max(self.extent.length())..range.end);
        }
        self.finish(change, FsOperation::Allocate, outcome)
    }

    fn zero_fill(&self, range: Range<u64>) -> Result<(), FsError> {
        if range.is_empty() {
            return Ok(());
        }
        let change = self.begin(FsOperation::Allocate, ChangeKind::Write, range.clone())?;
        let outcome = self.write_zeros(range);
        self.finish(change, FsOperation::Allocate, outcome)
    }

    fn sync_data(&self) -> Result<(), FsError> {
        retry_on_intr(|| rustix::fs::fdatasync(&self.descriptor))
            .map_err(|errno| self.error(FsOperation::Sync, errno))
    }

    fn start_writeback(&self, range: Range<u64>) -> Result<(), FsError> {
        map::start_writeback(&self.descriptor, &range)
            .map_err(|source| FsError::from_system(FsOperation::Sync, &self.path, source))
    }

    fn set_length(&self, length: u64) -> Result<(), FsError> {
        let change = self.begin(FsOperation::SetLen, ChangeKind::SetLength(length), length..length)?;
        let outcome = retry_on_intr(|| rustix::fs::ftruncate(&self.descriptor, length));
        self.finish(change, FsOperation::SetLen, outcome)
    }

    fn map(&self, capacity: u64) -> Result<Arc<dyn Map>, FsError> {
        let permit = self.map_budget.acquire().ok_or_else(|| {
            let text = format!("{} maps live, as many as may", self.map_budget.used());
            FsError::refused(FsOperation::Map, &self.path, FsErrorKind::OutOfResources, text)
        })?;
        let map = OsMap::new(&self.descriptor, &self.extent, &self.path, capacity, permit)?;
        Ok(Arc::new(map))
    }
}

/// The range that `parts` cover from `position` on; `None` when no file can be that long.
pub(super) fn range_of(position: u64, parts: &[IoSlice<'_>]) -> Option<Range<u64>> {
    let mut end = position;
    for part in parts {
        end = end.checked_add(u64::try_from(part.len()).ok()?)?;
    }
    i64::try_from(end).ok().map(|_| position..end)
}

/// Writes every byte of `parts`, as many calls as it takes; mostly one.
fn write_all(descriptor: &OwnedFd, position: u64, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
    let first = parts.get(..PARTS_PER_CALL_MAX).unwrap_or(parts);
    let written = retry_on_intr(|| rustix::io::pwritev(descriptor, first, position))?;
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if written == total {
        return Ok(());
    }
    let mut parts = parts.to_vec();
    let mut rest = parts.as_mut_slice();
    IoSlice::advance_slices(&mut rest, written);
    let mut position = position.saturating_add(u64::try_from(written).map_err(|_| Errno::FBIG)?);
    while !rest.is_empty() {
        let batch = rest.get(..PARTS_PER_CALL_MAX).unwrap_or(rest);
        let written = retry_on_intr(|| rustix::io::pwritev(descriptor, batch, position))?;
        if written == 0 {
            // A file takes a byte or says why not; a device that does neither must not hold us for ever.
            return Err(Errno::IO);
        }
        IoSlice::advance_slices(&mut rest, written);
        position = position.saturating_add(u64::try_from(written).map_err(|_| Errno::FBIG)?);
    }
    Ok(())
}
