//! The directories of one broker, and which partition lives in which.
//!
//! | module | owns |
//! |---|---|
//! | `aside` | partition directories on their way out |
//! | `checkpoints` | the contents of checkpoint files, by life |
//! | `clean_mark` | the mark of an orderly stop |
//! | `error` | why a directory cannot be used |
//! | `found` | what stood in a directory when it was opened |
//! | `homes` | which partition lives in which directory |
//! | `identity` | whose a directory is, and which of several |
//! | `log_directory` | one directory: lock, checkpoints, logs |
//! | `standing` | whether it serves |
//!
//! Mostly there is one directory. Of several, the first has the broker's own log besides and the broker does not start without it;
//! each of the others may fail alone. What is found at a start:
//!
//! | a further directory | decision |
//! |---|---|
//! | is held by another process | an error |
//! | cannot be opened, or its files cannot be read | it is absent: the others serve |
//! | says that it is of another cluster | an error |
//! | says that it is of any cluster, while the first has nothing yet | an error: another cluster would begin in the first |
//! | is absent, while the first has nothing yet | an error: a cluster begins with all its directories |
//! | says that it is a directory that is there already | an error: it is a copy |
//! | does not say whose it is, and had stood at this path before | it is absent: its disk is not mounted |
//! | does not say whose it is, and holds partitions | an error: they are somebody else's |
//! | does not say whose it is, and holds none | it is new, and marked |
//! | has a partition, of the same topic id, that another one has | an error |
//!
//! A partition that is found nowhere while a directory is missing that was there before may be in that one: it is not made anew. Nor is
//! one added to a topic meanwhile: an attempt that failed before may have left its beginnings there.
//!
//! An error of this table changes nothing: what a refused start finds, the next one finds, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

mod aside;
mod checkpoints;
mod clean_mark;
mod error;
mod found;
mod homes;
mod identity;
mod log_directory;
mod standing;

pub use aside::Deletion;
pub use checkpoints::CheckpointEntry;
pub use error::{LogManagerError, OpenError};
pub use found::{Found, FoundPartition};
pub use identity::Identity;
pub use log_directory::LogDirectory;

use crate::config::LogConfig;
use crate::fs::{FsError, FsErrorKind};
use crate::log::{LoadReport, Log, LogContext, LogError};
use crate::model::{TopicId, TopicPartition};
use homes::Homes;

/// A disk with less space takes no new partition while another one has more.
const SPACE_OF_A_PARTITION: u64 = 1 << 20;

/// A directory that was not opened, because it is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentDirectory {
    /// Where it should be.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: Arc<str>,
}

/// All directories of a broker.
#[derive(Debug)]
pub struct LogManager {
    context: LogContext,
    /// In the order of the setting; one at least.
    directories: Vec<Arc<LogDirectory>>,
    absent: Vec<AbsentDirectory>,
    /// Whether there is one directory and never was another: everything lives in it.
    is_only: bool,
    homes: Mutex<Homes>,
}

impl LogManager {
    /// Takes a broker's only directory.
    ///
    /// # Errors
    /// As [`LogDirectory::open`].
    pub fn open(context: LogContext, path: PathBuf) -> Result<(Self, Found), LogManagerError> {
        Self::open_all(context, &[path]).map_err(|error| error.source)
    }

    /// Takes a broker's directories, in this order. Those behind the first may be absent.
    ///
    /// # Errors
    /// By the table above, and whatever keeps the first from being opened.
    ///
    /// # Panics
    /// Without any path.
    pub fn open_all(context: LogContext, paths: &[PathBuf]) -> Result<(Self, Found), OpenError> {
        let (first, others) = paths.split_first().expect("a broker has a directory");
        let opened = LogDirectory::open(context.clone(), first.clone());
        let (opened, mut found) = opened.map_err(|source| at(first, source))?;
        let stood_here = |path: &PathBuf| {
            opened
                .identity()
                .is_some_and(|own| own.others.values().any(|other| other == path))
        };
        let mut directories = Vec::new();
        let mut absent = Vec::new();
        for path in others {
            match open_further(&context, path, stood_here(path)) {
                Ok((directory, held)) => {
                    directories.push(Arc::new(directory));
                    found.clean &= held.clean || held.partitions.is_empty();
                    found.partitions.extend(held.partitions);
                }
                Err(Refusal::Absent(reason)) => absent.push(AbsentDirectory {
                    path: path.clone(),
                    reason: reason.into(),
                }),
                Err(Refusal::Error(source)) => return Err(at(path, source)),
            }
        }
        directories.insert(0, Arc::new(opened));
        check_copies(&directories)?;
        check_twice(&found)?;
        check_beginning(&directories, &absent, &found)?;
        let is_only = paths.len() == 1 && directories.iter().all(|first| first.identity().is_none());
        let manager = Self {
            context,
            is_only,
            directories,
            absent,
            homes: Mutex::default(),
        };
        Ok((manager, found))
    }

    /// What logs are opened with.
    #[must_use]
    pub fn context(&self) -> &LogContext {
        &self.context
    }

    /// The directory with the broker's own log.
    ///
    /// # Panics
    /// Never: there is one.
    #[must_use]
    pub fn first(&self) -> &Arc<LogDirectory> {
        self.directories.first().expect("a broker has a directory")
    }

    /// Those that were opened, in the order of the setting; some may have been given up since.
    #[must_use]
    pub fn directories(&self) -> &[Arc<LogDirectory>] {
        &self.directories
    }

    /// Those that could not be opened.
    #[must_use]
    pub fn absent(&self) -> &[AbsentDirectory] {
        &self.absent
    }

    /// How many do not serve.
    #[must_use]
    pub fn offline_count(&self) -> usize {
        let given_up = self.directories.iter().filter(|directory| !directory.is_online());
        self.absent.len().saturating_add(given_up.count())
    }

    /// Checks that all directories are this cluster's, marks those that are new, durably, where there are several, and
    /// [begins](LogDirectory::begin). To be called as soon as the cluster's id is known, before partitions are looked for. `new_id`
    /// makes ids that nobody else has.
    ///
    /// # Errors
    /// A directory of another cluster, or the first cannot be written to. Others that cannot are given up.
    pub fn claim(&self, cluster_id: &str, new_id: impl FnMut() -> String) -> Result<(), OpenError> {
        self.check_clusters(cluster_id)?;
        if !self.is_only {
            self.mark_all(cluster_id, new_id)?;
        }
        let first = self.first();
        first
            .begin()
            .map_err(|error| at(first.data_dir(), error.into()))?;
        for directory in self.directories.iter().skip(1) {
            if let Err(error) = directory.begin() {
                directory.give_up(&error);
            }
        }
        Ok(())
    }

    fn check_clusters(&self, cluster_id: &str) -> Result<(), OpenError> {
        for directory in &self.directories {
            let identity = directory.identity();
            if let Some(identity) = identity.filter(|identity| identity.cluster_id != cluster_id) {
                let owner = identity.cluster_id;
                let reason = format!("it belongs to cluster {owner}, and this broker's is {cluster_id}");
                return Err(at(directory.data_dir(), LogManagerError::Foreign { reason }));
            }
        }
        Ok(())
    }

    fn mark_all(&self, cluster_id: &str, mut new_id: impl FnMut() -> String) -> Result<(), OpenError> {
        let first = self.first();
        let before = first.identity();
        let mut identity_of = |directory: &LogDirectory| {
            directory.identity().unwrap_or_else(|| Identity {
                cluster_id: cluster_id.to_owned(),
                directory_id: new_id(),
                others: BTreeMap::new(),
            })
        };
        let mut own = identity_of(first);
        // The others first: the first must not know one that does not know itself.
        for directory in self.directories.iter().skip(1) {
            let identity = identity_of(directory);
            let id = identity.directory_id.clone();
            if directory.identity().is_none()
                && let Err(error) = directory.write_identity(identity)
            {
                // Also for want of space: what is made in one without a mark would not be found again.
                directory.give_up(&error);
                continue;
            }
            own.others.insert(id, directory.data_dir().to_path_buf());
        }
        if before.as_ref() == Some(&own) {
            return Ok(());
        }
        let written = first.write_identity(own);
        written.map_err(|error| at(first.data_dir(), error.into()))
    }

    /// Directories that were this broker's before and do not serve: what is found nowhere else may be in them.
    #[must_use]
    pub fn missing(&self) -> Vec<PathBuf> {
        let known = self.first().identity().map(|own| own.others).unwrap_or_default();
        let is_here = |id: &String| {
            let mut online = self.directories.iter().filter(|directory| directory.is_online());
            online.any(|directory| {
                directory
                    .identity()
                    .is_some_and(|identity| identity.directory_id == *id)
            })
        };
        let missing = known.into_iter().filter(|(id, _)| !is_here(id));
        missing.map(|(_, path)| path).collect()
    }

    /// Why what the setting names there does not serve; `None` where it does, or where no setting names it.
    #[must_use]
    pub fn failure_at(&self, path: &Path) -> Option<Arc<str>> {
        let mut opened = self.directories.iter();
        if let Some(directory) = opened.find(|directory| directory.data_dir() == path) {
            return directory.failure();
        }
        let absent = self.absent.iter().find(|absent| absent.path == path)?;
        Some(Arc::clone(&absent.reason))
    }

    /// Forgets directories that the setting does not name any more, durably: nothing is missing that could be in them. Returns where
    /// they were.
    ///
    /// # Errors
    /// The file system's; they are forgotten next time.
    pub fn forget_unnamed(&self) -> Result<Vec<PathBuf>, FsError> {
        let Some(mut own) = self.first().identity() else {
            return Ok(Vec::new());
        };
        let is_named = |path: &Path| {
            let mut named = self.directories.iter().map(|directory| directory.data_dir());
            named.any(|other| other == path) || self.absent.iter().any(|absent| absent.path == path)
        };
        let unnamed: Vec<PathBuf> = own
            .others
            .values()
            .filter(|path| !is_named(path))
            .cloned()
            .collect();
        if !unnamed.is_empty() {
            own.others.retain(|_, path| is_named(path));
            self.first().write_identity(own)?;
        }
        Ok(unnamed)
    }

    /// From now on the partition lives where it was found.
    pub fn adopt(&self, found: &FoundPartition) {
        if let Some(place) = self.owner(found) {
            self.homes.lock().settle(&found.partition, place);
        }
    }

    /// The directory that a partition lives in.
    #[must_use]
    pub fn home(&self, partition: &TopicPartition) -> Option<&Arc<LogDirectory>> {
        if self.is_only {
            return Some(self.first());
        }
        let place = self.homes.lock().of(partition)?;
        self.directories.get(place)
    }

    /// The same; of a partition that lives nowhere the first directory, which then does not have it either.
    #[must_use]
    pub fn home_or_first(&self, partition: &TopicPartition) -> &Arc<LogDirectory> {
        self.home(partition).unwrap_or_else(|| self.first())
    }

    /// Starts the log of a new partition, in the directory with the fewest. Durable when it returns. Blocks.
    ///
    /// # Errors
    /// As [`LogDirectory::create`].
    pub fn create(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Log, LogError> {
        self.place(partition).create(partition, topic_id, config)
    }

    /// Opens the log of a partition that exists, where it lives. Blocks; several may be opened at once.
    ///
    /// # Errors
    /// As [`LogDirectory::load`].
    pub fn load(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<(Log, LoadReport), LogError> {
        self.home_or_first(partition).load(partition, topic_id, config)
    }

    /// Opens a latched log again. Blocks.
    ///
    /// # Errors
    /// As [`LogDirectory::reopen`].
    pub fn reopen(&self, log: &Log) -> Result<(Log, LoadReport), LogError> {
        self.home_or_first(log.partition()).reopen(log)
    }

    /// Gives the directory of a deleted topic's partition another name, durably. In a directory that was given up it stays as it is:
    /// it goes when that is back. What belongs to another topic of that name stays where it is.
    ///
    /// # Errors
    /// The file system's; a directory that is gone already is `Ok`.
    pub fn schedule_delete(&self, partition: &TopicPartition, topic_id: TopicId) -> Result<(), LogError> {
        let Some(home) = self.home(partition) else {
            return Ok(());
        };
        if home.schedule_delete(partition, topic_id)? == Deletion::Done {
            self.homes.lock().leave(partition);
        }
        Ok(())
    }

    /// The same with what a start found of a topic that is deleted.
    ///
    /// # Errors
    /// As [`Self::schedule_delete`].
    pub fn delete_found(&self, found: &FoundPartition, topic_id: TopicId) -> Result<(), LogError> {
        if let Some(owner) = self.owner(found).and_then(|place| self.directories.get(place)) {
            owner.schedule_delete(&found.partition, topic_id)?;
        }
        Ok(())
    }

    /// Sets aside a directory whose topic nobody knows, durably.
    ///
    /// # Errors
    /// The file system's.
    pub fn set_aside_stray(&self, found: &FoundPartition) -> Result<(), LogError> {
        match self.owner(found).and_then(|place| self.directories.get(place)) {
            Some(owner) => owner.set_aside_stray(found),
            None => Ok(()),
        }
    }

    /// Removes the directories of deleted partitions and returns how many there were. Blocks.
    ///
    /// # Errors
    /// The first of the file system's; what is left is removed next time.
    pub fn remove_deleted(&self) -> Result<usize, FsError> {
        let mut removed: usize = 0;
        let outcome = self.in_each(|directory| {
            removed = removed.saturating_add(directory.remove_deleted()?);
            Ok(())
        });
        outcome.map(|()| removed)
    }

    /// Makes recovery points durable, each where its partition lives. Blocks.
    ///
    /// # Errors
    /// The first of the file system's; the others are written all the same.
    pub fn write_recovery_points(&self, entries: &[CheckpointEntry]) -> Result<(), FsError> {
        self.in_each(|directory| directory.write_recovery_points(&self.entries_in(directory, entries)))
    }

    /// The same in the directories where one has moved. See [`LogDirectory::write_moved_recovery_points`].
    ///
    /// # Errors
    /// As [`Self::write_recovery_points`].
    pub fn write_moved_recovery_points(&self, entries: &[CheckpointEntry]) -> Result<(), FsError> {
        self.in_each(|directory| directory.write_moved_recovery_points(&self.entries_in(directory, entries)))
    }

    fn entries_in(&self, directory: &Arc<LogDirectory>, entries: &[CheckpointEntry]) -> Vec<CheckpointEntry> {
        let is_here = |entry: &&CheckpointEntry| {
            let home = self.home(&entry.partition);
            home.is_some_and(|home| Arc::ptr_eq(home, directory))
        };
        entries.iter().filter(is_here).cloned().collect()
    }

    /// The last act of an orderly stop. See [`LogDirectory::mark_clean`].
    ///
    /// # Errors
    /// The first of the file system's.
    pub fn mark_clean(&self) -> Result<(), FsError> {
        self.in_each(|directory| directory.mark_clean())
    }

    /// Does something in each directory that serves, and returns the first failure.
    fn in_each(
        &self,
        mut work: impl FnMut(&Arc<LogDirectory>) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let online = self.directories.iter().filter(|directory| directory.is_online());
        let mut outcome = Ok(());
        // A failure in one holds up none of the others.
        for directory in online {
            outcome = outcome.and(work(directory));
        }
        outcome
    }

    /// Where a new partition is to live: where the fewest do, of those with space. One that lives somewhere stays.
    fn place(&self, partition: &TopicPartition) -> &Arc<LogDirectory> {
        let first = self.first();
        if self.is_only {
            return first;
        }
        let is_full = |directory: &LogDirectory| {
            let space = directory.space();
            space.is_ok_and(|space| space.available < SPACE_OF_A_PARTITION)
        };
        // Asked before the lock is taken: a disk may take its time.
        let candidates: Vec<_> = (self.directories.iter().enumerate())
            .filter(|(_, directory)| directory.is_online())
            .map(|(place, directory)| (is_full(directory), place))
            .collect();
        let mut homes = self.homes.lock();
        let home = homes.of(partition).and_then(|place| self.directories.get(place));
        if let Some(home) = home.filter(|home| home.is_online()) {
            return home;
        }
        let emptiest = candidates
            .into_iter()
            .min_by_key(|(is_full, place)| (*is_full, homes.count(*place), *place));
        let place = emptiest.map_or(0, |(_, place)| place);
        homes.settle(partition, place);
        self.directories.get(place).unwrap_or(first)
    }

    fn owner(&self, found: &FoundPartition) -> Option<usize> {
        let parent = found.directory.parent()?;
        self.directories
            .iter()
            .position(|directory| directory.data_dir() == parent)
    }
}

/// Why a further directory is not taken.
enum Refusal {
    /// The broker goes on without it.
    Absent(String),
    /// The broker does not start.
    Error(LogManagerError),
}

fn open_further(
    context: &LogContext,
    path: &Path,
    has_stood_here: bool,
) -> Result<(LogDirectory, Found), Refusal> {
    let (directory, held) = match LogDirectory::open(context.clone(), path.to_path_buf()) {
        Ok(opened) => opened,
        Err(LogManagerError::Storage(error)) if error.kind == FsErrorKind::Locked => {
            return Err(Refusal::Error(error.into()));
        }
        Err(error) => return Err(Refusal::Absent(error.to_string())),
    };
    if directory.identity().is_none() {
        if has_stood_here {
            let file = path.join(identity::IDENTITY_FILE);
            let reason = format!("{} is not there any more: is its disk mounted?", file.display());
            return Err(Refusal::Absent(reason));
        }
        if let Some(found) = held.partitions.first() {
            let partition = &found.partition;
            let reason = format!(
                "it holds partitions ({partition} among them) and nothing says that they are this broker's"
            );
            return Err(Refusal::Error(LogManagerError::Foreign { reason }));
        }
    }
    Ok((directory.dispensable(), held))
}

fn check_copies(directories: &[Arc<LogDirectory>]) -> Result<(), OpenError> {
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    for directory in directories {
        let Some(identity) = directory.identity() else {
            continue;
        };
        if let Some(other) = seen.insert(identity.directory_id, directory.data_dir()) {
            let other = other.to_path_buf();
            return Err(at(directory.data_dir(), LogManagerError::Copied { other }));
        }
    }
    Ok(())
}

/// Where the first directory has nothing yet, a cluster is to begin there, and in all others with it.
fn check_beginning(
    directories: &[Arc<LogDirectory>],
    absent: &[AbsentDirectory],
    found: &Found,
) -> Result<(), OpenError> {
    let (first, others) = directories.split_first().expect("a broker has a directory");
    if first.identity().is_some() || !found.partitions.is_empty() {
        return Ok(());
    }
    let first = first.data_dir().display();
    for other in others {
        if let Some(Identity { cluster_id, .. }) = other.identity() {
            let reason =
                format!("it belongs to cluster {cluster_id}, and {first}, which is named first, is empty");
            return Err(at(other.data_dir(), LogManagerError::Foreign { reason }));
        }
    }
    match absent.first() {
        Some(absent) => {
            let reason = format!("{}; and {first}, which is named first, is empty", absent.reason);
            Err(at(&absent.path, LogManagerError::Unseen { reason }))
        }
        None => Ok(()),
    }
}

/// One of two with different topic ids is left over from a deleted topic, and whoever knows the topics tells which.
fn check_twice(found: &Found) -> Result<(), OpenError> {
    let mut seen: BTreeMap<(&TopicPartition, Option<TopicId>), &Path> = BTreeMap::new();
    for one in &found.partitions {
        if let Some(first) = seen.insert((&one.partition, one.topic_id), &one.directory) {
            let source = LogManagerError::Twice {
                partition: one.partition.clone(),
                first: first.to_path_buf(),
                second: one.directory.clone(),
            };
            return Err(at(one.directory.parent().unwrap_or(&one.directory), source));
        }
    }
    Ok(())
}

fn at(directory: &Path, source: LogManagerError) -> OpenError {
    OpenError {
        directory: directory.to_path_buf(),
        source,
    }
}
