//! The names of the file system in memory: what its users see, and which of it a power cut would leave.
//!
//! Each directory has its names as seen and as durable; every change waits in `pending` until its directory
//! is synced.
//!
//! Invariant: applying `pending`, in order, to the durable names gives the seen ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use rustix::io::Errno;

use super::random::Random;

/// A file or directory, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

const ROOT: NodeId = NodeId(0);

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: NodeId,
    pub(super) is_directory: bool,
}

/// A name in a directory.
pub(super) type Place = (NodeId, String);

/// One change of names: a creation has no `from`, a removal no `to`, a rename both.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    pub(super) entry: Entry,
    pub(super) from: Option<Place>,
    pub(super) to: Option<Place>,
}

#[derive(Debug, Clone, Default)]
struct Directory {
    seen: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
pub(super) struct Names {
    directories: BTreeMap<NodeId, Directory>,
    pending: Vec<NameChange>,
    last_id: NodeId,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            directories: BTreeMap::from([(ROOT, Directory::default())]),
            pending: Vec::new(),
            last_id: ROOT,
        }
    }

    pub(super) fn find(&self, path: &Path) -> Result<Entry, Errno> {
        let mut trail = vec![Entry {
            id: ROOT,
            is_directory: true,
        }];
        for component in path.components() {
            let here = *trail.last().ok_or(Errno::INVAL)?;
            match component {
                Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
                Component::ParentDir => {
                    trail.pop();
                }
                Component::Normal(name) => {
                    let name = name.to_str().ok_or(Errno::ILSEQ)?;
                    let entry = self.seen(here)?.get(name).ok_or(Errno::NOENT)?;
                    trail.push(*entry);
                }
            }
        }
        trail.pop().ok_or(Errno::INVAL)
    }

    /// The directory and the name that a path ends in; the name need not exist.
    pub(super) fn place(&self, path: &Path) -> Result<Place, Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let name = name.to_str().ok_or(Errno::ILSEQ)?.to_owned();
        let parent = self.find(path.parent().ok_or(Errno::INVAL)?)?;
        self.seen(parent)?;
        Ok((parent.id, name))
    }

    /// The names in a directory, as seen.
    pub(super) fn seen(&self, entry: Entry) -> Result<&BTreeMap<String, Entry>, Errno> {
        (self.directories.get(&entry.id))
            .map(|directory| &directory.seen)
            .ok_or(Errno::NOTDIR)
    }

    pub(super) fn at(&self, place: &Place) -> Option<Entry> {
        self.directories.get(&place.0)?.seen.get(&place.1).copied()
    }

    /// Names a new node; the caller makes what a file holds.
    pub(super) fn create(&mut self, place: Place, is_directory: bool) -> Entry {
        self.last_id = NodeId(self.last_id.0 + 1);
        let entry = Entry {
            id: self.last_id,
            is_directory,
        };
        if is_directory {
            self.directories.insert(entry.id, Directory::default());
        }
        self.change(NameChange {
            entry,
            from: None,
            to: Some(place),
        });
        entry
    }

    pub(super) fn change(&mut self, change: NameChange) {
        apply(&mut self.directories, &change, |directory| &mut directory.seen);
        self.pending.push(change);
    }

    /// Makes a directory's changes durable, with those elsewhere that they build on.
    pub(super) fn sync(&mut self, directory: NodeId) {
        let mut synced: Vec<NameChange> = Vec::new();
        let mut left: Vec<NameChange> = Vec::new();
        for change in self.pending.drain(..).rev() {
            let is_here = places(&change).any(|place| place.0 == directory);
            if is_here || synced.iter().any(|later| depends(later, &change)) {
                synced.push(change);
            } else {
                left.push(change);
            }
        }
        for change in synced.iter().rev() {
            apply(&mut self.directories, change, |directory| &mut directory.durable);
        }
        left.reverse();
        self.pending = left;
    }

    /// The names as they are on the disk if nothing unsynced got there.
    pub(super) fn durable(&self) -> Self {
        self.surviving_with(|_| false)
    }

    /// The names as they might be on the disk. Half of the time as a journal leaves them: the first so many
    /// changes of the whole file system. Otherwise any of them that do not build on one that was lost.
    pub(super) fn surviving(&self, random: &mut Random) -> Self {
        if random.coin() {
            let mut left = random.below(self.pending.len() + 1);
            return self.surviving_with(|_| {
                let happens = left != 0;
                left = left.saturating_sub(1);
                happens
            });
        }
        let chance = random.chance();
        let mut lost: Vec<&NameChange> = Vec::new();
        let mut outcomes = Vec::with_capacity(self.pending.len());
        for change in &self.pending {
            let happens = !lost.iter().any(|earlier| depends(change, earlier)) && random.happens(chance);
            if !happens {
                lost.push(change);
            }
            outcomes.push(happens);
        }
        self.surviving_with(|index| outcomes.get(index).copied().unwrap_or(false))
    }

    fn surviving_with(&self, mut happens: impl FnMut(usize) -> bool) -> Self {
        let mut directories = self.directories.clone();
        for (index, change) in self.pending.iter().enumerate() {
            if happens(index) {
                apply(&mut directories, change, |directory| &mut directory.durable);
            }
        }
        for directory in directories.values_mut() {
            directory.seen.clone_from(&directory.durable);
        }
        Self {
            directories,
            pending: Vec::new(),
            last_id: self.last_id,
        }
    }

    /// Every node that has a name now, or might have one after a crash.
    pub(super) fn reachable(&self) -> BTreeSet<NodeId> {
        let mut reached = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        let pending = self.pending.iter().map(|change| change.entry.id);
        waiting.extend(pending.filter(|id| reached.insert(*id)));
        while let Some(id) = waiting.pop() {
            let Some(directory) = self.directories.get(&id) else {
                continue;
            };
            let entries = directory.seen.values().chain(directory.durable.values());
            for entry in entries {
                if reached.insert(entry.id) {
                    waiting.push(entry.id);
                }
            }
        }
        reached
    }

    /// Every file that has a name now.
    pub(super) fn files_seen(&self) -> BTreeSet<NodeId> {
        let mut files = BTreeSet::new();
        let mut waiting = vec![ROOT];
        while let Some(directory) = waiting.pop().and_then(|id| self.directories.get(&id)) {
            for entry in directory.seen.values() {
                if entry.is_directory {
                    waiting.push(entry.id);
                } else {
                    files.insert(entry.id);
                }
            }
        }
        files
    }

    /// Forgets directories that can have no name any more.
    pub(super) fn sweep(&mut self, reachable: &BTreeSet<NodeId>) {
        self.directories.retain(|id, _| reachable.contains(id));
    }
}

fn apply(
    directories: &mut BTreeMap<NodeId, Directory>,
    change: &NameChange,
    names_of: impl Fn(&mut Directory) -> &mut BTreeMap<String, Entry>,
) {
    if let Some((id, name)) = &change.from
        && let Some(directory) = directories.get_mut(id)
    {
        names_of(directory).remove(name);
    }
    if let Some((id, name)) = &change.to
        && let Some(directory) = directories.get_mut(id)
    {
        names_of(directory).insert(name.clone(), change.entry);
    }
}

fn places(change: &NameChange) -> impl Iterator<Item = &Place> {
    change.from.iter().chain(change.to.iter())
}

/// Whether `later` can only happen after `earlier`: they concern one name. What happens to one node is a
/// chain of such, because each change takes the node from the name that the last one gave it.
fn depends(later: &NameChange, earlier: &NameChange) -> bool {
    places(later).any(|place| places(earlier).any(|other| other == place))
}
