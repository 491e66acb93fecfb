//! All of the file system in memory but its open handles: names, nodes, locks, faults and space together.
//!
//! The verbs of names are here, in error numbers; those of an open file are in `file`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use rustix::io::Errno;

use super::fault::{FaultTarget, Faults};
use super::names::{Entry, NameChange, Names, NodeId};
use super::node::{FileNode, SpaceUse};
use crate::fs::DirectoryLock;
use crate::fs::extent::Extent;
use crate::fs::whole_file::parent_of;

/// Nodes without a name are looked for when the files have doubled, but not below this many.
pub(super) const SWEEP_FILES_MIN: usize = 256;

/// All of it but the open handles.
pub(super) struct State {
    pub(super) names: Names,
    pub(super) files: BTreeMap<NodeId, FileNode>,
    pub(super) locks: BTreeMap<NodeId, Weak<MemDirectoryLock>>,
    pub(super) faults: Faults,
    pub(super) space: SpaceUse,
    pub(super) sweep_at: usize,
}

/// What a new handle takes from its file.
pub(super) struct Opened {
    pub(super) id: NodeId,
    pub(super) extent: Arc<Extent>,
    /// The failed syncs that it need not be told of.
    pub(super) syncs_failed: u64,
}

/// Held as long as anyone holds it; a crash forgets it.
#[derive(Debug)]
pub(super) struct MemDirectoryLock;

impl DirectoryLock for Arc<MemDirectoryLock> {}
impl State {
    pub(super) fn new() -> Self {
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
    pub(super) fn meet(&mut self, target: FaultTarget, path: &Path) -> Result<(), Errno> {
        self.faults.meet(target, path).map_err(|strike| strike.errno)
    }

    pub(super) fn create_file(&mut self, path: &Path) -> Result<(), Errno> {
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
        Ok(())
    }

    pub(super) fn open_file(&mut self, path: &Path) -> Result<Opened, Errno> {
        self.meet(FaultTarget::Open, path)?;
        self.opened(path)
    }

    /// A file and what its handles share; the node stays while that lives.
    pub(super) fn opened(&mut self, path: &Path) -> Result<Opened, Errno> {
        let id = self.names.find(path)?.id;
        let node = self.files.get_mut(&id).ok_or(Errno::ISDIR)?;
        let extent = node.extent.upgrade().unwrap_or_else(|| {
            let extent = Arc::new(Extent::new(node.contents.length()));
            node.extent = Arc::downgrade(&extent);
            extent
        });
        Ok(Opened {
            id,
            extent,
            syncs_failed: node.syncs_failed,
        })
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> Result<(), Errno> {
        match self.names.find(path) {
            Ok(entry) => {
                return if entry.is_directory {
                    self.sync_directory(parent_of(path))
                } else {
                    Err(Errno::NOTDIR)
                };
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        if self.names.find(parent_of(path)) == Err(Errno::NOENT) {
            self.create_directory(parent_of(path))?;
        }
        self.meet(FaultTarget::CreateDirectory, path)?;
        let place = self.names.place(path)?;
        self.names.create(place, true);
        self.sync_directory(parent_of(path))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
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

    pub(super) fn remove_file(&mut self, path: &Path) -> Result<(), Errno> {
        self.meet(FaultTarget::Remove, path)?;
        let entry = self.names.find(path)?;
        if entry.is_directory {
            return Err(Errno::ISDIR);
        }
        self.unname(path, entry)
    }

    pub(super) fn remove_directory(&mut self, path: &Path) -> Result<(), Errno> {
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

    pub(super) fn sync_directory(&mut self, path: &Path) -> Result<(), Errno> {
        self.meet(FaultTarget::SyncDirectory, path)?;
        let entry = self.names.find(path)?;
        self.names.seen(entry)?;
        self.names.sync(entry.id);
        Ok(())
    }

    pub(super) fn lock_directory(
        &mut self,
        path: &Path,
        lock_path: &Path,
    ) -> Result<Arc<MemDirectoryLock>, Errno> {
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
    pub(super) fn sweep(&mut self) {
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
