//! The file system in memory: behaves as `os` does, and fails and crashes on request.
//!
//! - [`fault`]: what fails, and when; counters of what was asked.
//! - `contents`: a file's bytes, with what of them is on the disk.
//! - `names`: the directories, with what of them is on the disk.
//! - [`crash`]: the images that a crash leaves.
//! - `state`: names and nodes together, under the one lock.
//! - `file`: open files and maps.
//!
//! A crash test runs its workload once for the number of [operations](fault::Counters::operations), then once
//! for each of them with [`FaultPlan::stop_at`], and opens what [`MemFileSystem::crash`] leaves.
//!
//! Everything stands under one lock, which is never held while another is waited for, except an extent's
//! own. A clone is another view of the same files. Paths are taken from the root `/`, relative ones too.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use self::crash::CrashMode;
use self::fault::{Counters, FaultPlan};
use self::file::MemFile;
use self::state::State;
use super::map::MapBudget;
use super::os::LOCK_FILE;
use super::whole_file::{read_whole, replace_whole};
use super::{DirEntry, DirectoryLock, File, FileSystem, FsError, FsOperation, Space};

mod contents;
pub mod crash;
pub mod fault;
mod file;
mod names;
mod node;
mod random;
mod state;

#[cfg(test)]
mod tests;

/// A file system in memory. See the module.
#[derive(Clone)]
pub struct MemFileSystem {
    shared: Arc<Mutex<State>>,
    map_budget: MapBudget,
}

impl Default for MemFileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemFileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MemFileSystem").finish_non_exhaustive()
    }
}

impl MemFileSystem {
    /// An empty file system with ample space.
    #[must_use]
    pub fn new() -> Self {
        Self::with_map_budget(MapBudget::default())
    }

    /// The same with a budget of maps of the caller's.
    #[must_use]
    pub fn with_map_budget(map_budget: MapBudget) -> Self {
        Self::of(State::new(), map_budget)
    }

    fn of(state: State, map_budget: MapBudget) -> Self {
        Self {
            shared: Arc::new(Mutex::new(state)),
            map_budget,
        }
    }

    /// How many maps live, slices that outlive their map included, and how many may.
    #[must_use]
    pub fn map_budget(&self) -> &MapBudget {
        &self.map_budget
    }

    /// Takes `plan` in place of the former one.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.shared.lock().faults.set(plan);
    }

    /// What was asked since the file system was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().faults.counters
    }

    /// Sets the size of the disk in bytes. It counts in pages of 4 KiB, and may be less than what is in use:
    /// then nothing more can be had until as much is given back.
    pub fn set_space(&self, total: u64) {
        self.shared.lock().space.set_total(total);
    }

    /// Makes every page of every file one that must be brought in first, as after a restart of the machine.
    pub fn drop_caches(&self) {
        for file in self.shared.lock().files.values_mut() {
            file.is_cold = true;
        }
    }

    /// The file system as it is found after a crash at this moment. This one goes on untouched.
    #[must_use]
    pub fn crash(&self, mode: CrashMode) -> Self {
        let image = self.shared.lock().image(mode);
        Self::of(image, MapBudget::new(self.map_budget.max()))
    }

    fn open_with(&self, path: &Path, is_writable: bool) -> Result<MemFile, FsError> {
        (self.shared.lock().open_file(path))
            .map(|opened| MemFile::new(self.clone(), opened, path, is_writable))
            .map_err(named(path, FsOperation::Open))
    }
}

impl FileSystem for MemFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        let mut state = self.shared.lock();
        let opened = (state.create_file(path))
            .and_then(|()| state.opened(path))
            .map_err(named(path, FsOperation::Create))?;
        Ok(Arc::new(MemFile::new(self.clone(), opened, path, true)))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        Ok(Arc::new(self.open_with(path, true)?))
    }

    fn open_read_only(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        Ok(Arc::new(self.open_with(path, false)?))
    }

    fn exists(&self, path: &Path) -> Result<bool, FsError> {
        match self.shared.lock().names.find(path) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(named(path, FsOperation::Open)(errno)),
        }
    }

    fn read(&self, path: &Path, length_max: u64) -> Result<Vec<u8>, FsError> {
        let file = self.open_with(path, false)?;
        read_whole(&file, length_max)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FsError> {
        replace_whole(self, path, contents)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        (self.shared.lock().rename(from, to)).map_err(named(from, FsOperation::Rename))
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        (self.shared.lock().remove_file(path)).map_err(named(path, FsOperation::Remove))
    }

    fn remove_directory(&self, path: &Path) -> Result<(), FsError> {
        match self.shared.lock().remove_directory(path) {
            Err(Errno::NOENT) => Ok(()),
            outcome => outcome.map_err(named(path, FsOperation::Remove)),
        }
    }

    fn create_directory(&self, path: &Path) -> Result<(), FsError> {
        (self.shared.lock().create_directory(path)).map_err(named(path, FsOperation::Directory))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        let state = self.shared.lock();
        let seen = (state.names.find(path))
            .and_then(|entry| state.names.seen(entry))
            .map_err(named(path, FsOperation::Directory))?;
        Ok(seen
            .iter()
            .map(|(name, entry)| DirEntry {
                name: name.clone(),
                is_directory: entry.is_directory,
                length: state
                    .files
                    .get(&entry.id)
                    .map_or(0, |file| file.contents.length()),
            })
            .collect())
    }

    fn sync_directory(&self, path: &Path) -> Result<(), FsError> {
        (self.shared.lock().sync_directory(path)).map_err(named(path, FsOperation::Sync))
    }

    fn lock_directory(&self, path: &Path) -> Result<Box<dyn DirectoryLock>, FsError> {
        let lock_path = path.join(LOCK_FILE);
        let lock = (self.shared.lock().lock_directory(path, &lock_path))
            .map_err(named(&lock_path, FsOperation::Lock))?;
        Ok(Box::new(lock))
    }

    fn space(&self, path: &Path) -> Result<Space, FsError> {
        let mut state = self.shared.lock();
        (state.names.find(path)).map_err(named(path, FsOperation::Directory))?;
        state.sweep();
        Ok(state.space.report())
    }
}

/// Turns an error number into the error of this operation on this path.
fn named(path: &Path, operation: FsOperation) -> impl Fn(Errno) -> FsError {
    move |errno| FsError::from_system(operation, path, errno.into())
}
