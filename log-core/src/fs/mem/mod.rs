//! The file system in memory: behaves as `os` does, and fails and crashes on request.
//!
//! - [`fault`]: what fails, and when; counters of what was asked.
//! - `contents`: a file's bytes, with what of them is on the disk.
//! - `names`: the directories, with what of them is on the disk.
//! - [`crash`]: the images that a crash leaves.
//! - `file`: open files and maps.
//!
//! Everything stands under one lock, which is never held while another is waited for, except an extent's
//! own. A clone is another view of the same files. Paths are taken from the root `/`, relative ones too.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::io::Errno;

use self::crash::CrashMode;
use self::fault::{Counters, FaultPlan, FaultTarget, Faults};
use self::file::MemFile;
use self::names::{Entry, NameChange, Names, NodeId};
use self::node::{FileNode, SpaceUse};
use super::extent::Extent;
use super::map::MapBudget;
use super::os::LOCK_FILE;
use super::whole_file::{parent_of, read_whole, replace_whole};
use super::{DirEntry, DirectoryLock, File, FileSystem, FsError, FsOperation, Space};

mod contents;
pub mod crash;
pub mod fault;
mod file;
mod names;
mod node;
mod random;

#[cfg(test)]
mod tests;

/// Nodes without a name are looked for when the files have doubled, but not below this many.
const SWEEP_FILES_MIN: usize = 256;

/// A file system in memory. See the module.
#[derive(Clone)]
pub struct MemFileSystem {
    shared: Arc<Mutex<State>>,
    map_budget: MapBudget,
}

/// All of it but the open handles.
struct State {
    names: Names,
    files: BTreeMap<NodeId, FileNode>,
    locks: BTreeMap<NodeId, Weak<MemDirectoryLock>>,
    faults: Faults,
    space: SpaceUse,
    sweep_at: usize,
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

    fn open_entry(
        &self,
        state: &mut State,
        entry: Entry,
        path: &Path,
        is_writable: bool,
    ) -> Result<MemFile, Errno> {
        let node = state.files.get_mut(&entry.id).ok_or(Errno::ISDIR)?;
        let extent = node.extent.upgrade().unwrap_or_else(|| {
            let extent = Arc::new(Extent::new(node.contents.length()));
            node.extent = Arc::downgrade(&extent);
            extent
        });
        Ok(MemFile::new(self.clone(), entry.id, extent, path, is_writable))
    }

    fn open_with(&self, path: &Path, is_writable: bool) -> Result<MemFile, FsError> {
        let mut state = self.shared.lock();
        (state.names.find(path))
            .and_then(|entry| self.open_entry(&mut state, entry, path, is_writable))
            .map_err(named(path, FsOperation::Open))
    }
}

impl FileSystem for MemFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        let mut state = self.shared.lock();
        (state.create_file(path))
            .and_then(|entry| self.open_entry(&mut state, entry, path, true))
            .map(|file| Arc::new(file) as Arc<dyn File>)
            .map_err(named(path, FsOperation::Create))
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

/// Held as long as anyone holds it; a crash forgets it.
#[derive(Debug)]
struct MemDirectoryLock;

impl DirectoryLock for Arc<MemDirectoryLock> {}

impl State {
    fn new() -> Self {
        Self {
            names: Names::new(),
            files: BTreeMap::new(),
            locks: BTreeMap::new(),
            faults: Faults::default(),
            space: SpaceUse::default(),
            sweep_at: SWEEP_FILES_MIN,
        }
    }

    /// Counts the operation and fails it if it must.
    fn meet(&mut self, target: FaultTarget, path: &Path) -> Result<(), Errno> {
        self.faults.meet(target, path).map_err(|strike| strike.errno)
    }

    fn create_file(&mut self, path: &Path) -> Result<Entry, Errno> {
        self.meet(FaultTarget::Create, path)?;
        let place = self.names.place(path)?;
        if self.names.at(&place).is_some() {
            return Err(Errno::EXIST);
        }
        if self.sweep_at <= self.files.len() {
            self.sweep();
            self.sweep_at = SWEEP_FILES_MIN.max(self.files.len() * 2);
        }
        let entry = self.names.create(place, false);
        self.files.insert(entry.id, FileNode::default());
        Ok(entry)
    }

    fn create_directory(&mut self, path: &Path) -> Result<(), Errno> {
        match self.names.find(path) {
            Ok(entry) => {
                return if entry.is_directory {
                    Ok(())
                } else {
                    Err(Errno::NOTDIR)
                };
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        self.create_directory(parent_of(path))?;
        self.meet(FaultTarget::CreateDirectory, path)?;
        let place = self.names.place(path)?;
        self.names.create(place, true);
        self.sync_directory(parent_of(path))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        self.meet(FaultTarget::Rename, from)?;
        let entry = self.names.find(from)?;
        let (from, to) = (self.names.place(from)?, self.names.place(to)?);
        if let Some(replaced) = self.names.at(&to) {
            match (entry.is_directory, replaced.is_directory) {
                _ if replaced.id == entry.id => return Ok(()),
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.names.seen(replaced)?.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.names.change(NameChange {
            entry,
            from: Some(from),
            to: Some(to),
        });
        Ok(())
    }

    fn remove_file(&mut self, path: &Path) -> Result<(), Errno> {
        self.meet(FaultTarget::Remove, path)?;
        let entry = self.names.find(path)?;
        if entry.is_directory {
            return Err(Errno::ISDIR);
        }
        self.unname(path, entry)
    }

    fn remove_directory(&mut self, path: &Path) -> Result<(), Errno> {
        let directory = self.names.find(path)?;
        let inside: Vec<(String, bool)> = (self.names.seen(directory)?.iter())
            .map(|(name, entry)| (name.clone(), entry.is_directory))
            .collect();
        for (name, is_directory) in inside {
            if is_directory {
                self.remove_directory(&path.join(name))?;
            } else {
                self.remove_file(&path.join(name))?;
            }
        }
        self.meet(FaultTarget::Remove, path)?;
        self.unname(path, directory)
    }

    fn unname(&mut self, path: &Path, entry: Entry) -> Result<(), Errno> {
        let place = self.names.place(path)?;
        self.names.change(NameChange {
            entry,
            from: Some(place),
            to: None,
        });
        Ok(())
    }

    fn sync_directory(&mut self, path: &Path) -> Result<(), Errno> {
        self.meet(FaultTarget::SyncDirectory, path)?;
        let entry = self.names.find(path)?;
        self.names.seen(entry)?;
        self.names.sync(entry.id);
        Ok(())
    }

    fn lock_directory(&mut self, path: &Path, lock_path: &Path) -> Result<Arc<MemDirectoryLock>, Errno> {
        let directory = self.names.find(path)?;
        if self.names.find(lock_path) == Err(Errno::NOENT) {
            self.create_file(lock_path)?;
        }
        if (self.locks.get(&directory.id)).is_some_and(|lock| lock.strong_count() != 0) {
            return Err(Errno::WOULDBLOCK);
        }
        let lock = Arc::new(MemDirectoryLock);
        self.locks.insert(directory.id, Arc::downgrade(&lock));
        Ok(lock)
    }

    /// Gives back what closed files without a name took, and forgets those that no crash can bring back.
    fn sweep(&mut self) {
        let seen = self.names.files_seen();
        let reachable = self.names.reachable();
        for (id, file) in &mut self.files {
            if !seen.contains(id) && !file.is_open() {
                self.space.give_back(file.taken.truncate(0));
            }
        }
        (self.files).retain(|id, file| reachable.contains(id) || file.is_open());
        self.names.sweep(&reachable);
    }
}
