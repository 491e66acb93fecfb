//! One data directory: its lock, its checkpoints, and the logs in it.
//!
//! ```text
//! data-dir/.lock                              held while a process uses it
//!          .kafka_cleanshutdown               the last process ended in order
//!          stratalog-directory.properties     which one it is, of a broker's several
//!          recovery-point-offset-checkpoint   below it, each log is on the disk
//!          log-start-offset-checkpoint        below it, records were deleted
//!          cleaner-offset-checkpoint          below it, compacted logs have been cleaned
//!          topic-0/                           one directory a partition
//!          topic-0.<id>-delete                being removed
//!          topic-0.<id>-stray                 set aside: no such topic is known
//! ```
//!
//! One of several is given up when an operation of its own (a checkpoint, the making, renaming or removing of a partition's
//! directory) shows that its disk failed or is gone: `standing` has the table. What fails within a log is that log's own business.
//! A directory that was given up stays so; `log_manager` and its users leave it alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::checkpoints::{CLEANER_FILE, CheckpointEntry, Checkpoints, LOG_START_FILE, RECOVERY_POINT_FILE};
use super::clean_mark::CleanMark;
use super::error::LogManagerError;
use super::found::{Found, PARTITION_METADATA_FILE, find_partitions, topic_id_in};
use super::identity::{IDENTITY_FILE, Identity};
use super::standing::Standing;
use crate::checkpoint::offset_checkpoint::{self, OffsetCheckpoint};
use crate::checkpoint::partition_metadata;
use crate::config::LogConfig;
use crate::fs::{DirectoryLock, FileSystem, FsError, FsErrorKind, FsOperation, Space};
use crate::log::loader::load;
use crate::log::{LoadHints, LoadReport, Log, LogContext, LogError};
use crate::model::{Offset, TopicId, TopicPartition};

/// A data directory that this process holds.
#[derive(Debug)]
pub struct LogDirectory {
    pub(super) context: LogContext,
    pub(super) data_dir: PathBuf,
    mark: CleanMark,
    identity: Mutex<Option<Identity>>,
    standing: Standing,
    /// Whether a log in it was not closed in order.
    is_disorderly: AtomicBool,
    pub(super) checkpoints: Mutex<Checkpoints>,
    /// Directories of logs at whose opening a sync failed.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    _lock: Box<dyn DirectoryLock>,
}

impl LogDirectory {
    /// Takes the directory, making it if need be. The mark of an orderly stop stays until [`Self::begin`].
    ///
    /// # Errors
    /// `Locked` when another process has it; an unreadable checkpoint; the file system's.
    pub fn open(context: LogContext, data_dir: PathBuf) -> Result<(Self, Found), LogManagerError> {
        let file_system = context.file_system.as_ref();
        file_system.create_directory(&data_dir)?;
        let lock = file_system.lock_directory(&data_dir)?;
        // After a kill, names may be in the system's memory alone; what is read now must be what stays.
        file_system.sync_directory(&data_dir)?;
        sync_own_name(file_system, &data_dir)?;
        let identity = Identity::read(file_system, &data_dir)?;
        let checkpoints = Checkpoints::read(file_system, &data_dir)?;
        let mark = CleanMark::read(file_system, &data_dir)?;
        let found = Found {
            clean: mark.is_promise(),
            partitions: find_partitions(&context, &data_dir)?,
        };
        let opened = Self {
            context,
            data_dir,
            mark,
            identity: Mutex::new(identity),
            standing: Standing::indispensable(),
            is_disorderly: AtomicBool::new(false),
            checkpoints: Mutex::new(checkpoints),
            unsynced: Mutex::default(),
            _lock: lock,
        };
        Ok((opened, found))
    }

    /// The same, as one that the broker goes on without when it fails.
    pub(super) fn dispensable(self) -> Self {
        Self {
            standing: Standing::dispensable(),
            ..self
        }
    }

    /// From here on its logs may change: the mark of an orderly stop goes, durably, if it is still there. Whatever opens or makes a
    /// log does this first, except [`Self::load_ahead`]. Blocks.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(&self) -> Result<(), FsError> {
        if self.mark.is_there() {
            self.check_there()?;
            self.noted(self.mark.remove(self.context.file_system.as_ref()))?;
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whose it is, if that is written down.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity.lock().clone()
    }

    /// Writes down whose it is, durably.
    pub(super) fn write_identity(&self, identity: Identity) -> Result<(), FsError> {
        let path = self.data_dir.join(IDENTITY_FILE);
        self.context.file_system.replace(&path, &identity.to_bytes())?;
        *self.identity.lock() = Some(identity);
        Ok(())
    }

    /// Gives it up, if the broker can go on without it.
    pub(super) fn give_up(&self, reason: &FsError) {
        self.standing.give_up(reason);
    }

    /// Why the directory was given up; `None` while it serves.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.standing.failure()
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.standing.is_online()
    }

    /// That the disk of one of several is still there. Where it is not, a creation or a checkpoint would make do with what is below.
    fn check_there(&self) -> Result<(), FsError> {
        if !self.standing.is_dispensable() {
            return Ok(());
        }
        let looked = Identity::check_there(self.context.file_system.as_ref(), &self.data_dir);
        if let Err(error) = &looked
            && matches!(error.kind, FsErrorKind::NotFound | FsErrorKind::Disk)
        {
            self.give_up(error);
        }
        looked
    }

    /// Passes on how an operation of the directory's own went.
    pub(super) fn noted<T>(&self, result: Result<T, FsError>) -> Result<T, FsError> {
        result.inspect_err(|error| self.note(error))
    }

    /// Gives the directory up where that shows that its disk failed.
    fn note(&self, error: &FsError) {
        match error.kind {
            FsErrorKind::Disk => self.give_up(error),
            // A single name, or all of them with their disk: the look gives it up.
            FsErrorKind::NotFound => drop(self.check_there()),
            _ => {}
        }
    }

    /// A log in it could not be closed: [`Self::mark_clean`] will not say that all were.
    pub fn leave_disorderly(&self) {
        self.is_disorderly.store(true, Ordering::Relaxed);
    }

    /// What logs are opened with.
    #[must_use]
    pub fn context(&self) -> &LogContext {
        &self.context
    }

    /// The space of its file system.
    ///
    /// # Errors
    /// The system's.
    pub fn space(&self) -> Result<Space, FsError> {
        self.context.file_system.space(&self.data_dir)
    }

    /// Starts the log of a new partition. Durable when it returns. Blocks.
    ///
    /// A directory of that name that holds another topic's life is refused, and so is one that has files and does not say whose;
    /// one left behind by an interrupted creation of the same life is used.
    ///
    /// # Errors
    /// [`LogError::ForeignDirectory`], [`LogError::NamelessDirectory`] and the file system's.
    pub fn create(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Log, LogError> {
        let created = self.create_log(partition, topic_id, config);
        if let Err(LogError::Storage(error)) = &created {
            self.note(error);
        }
        created
    }

    fn create_log(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Log, LogError> {
        self.check_there()?;
        self.begin()?;
        let directory = self.directory(partition);
        let found = topic_id_in(&self.context, &directory)?;
        if let Some(found) = found.filter(|found| *found != topic_id) {
            return Err(LogError::ForeignDirectory {
                directory,
                found,
                expected: topic_id,
            });
        }
        if found.is_none() && self.has_files(&directory)? {
            return Err(LogError::NamelessDirectory { directory });
        }
        // First, so that a directory of this life is never found beside checkpoints of a former one.
        self.begin_life(partition, topic_id)?;
        self.context.file_system.create_directory(&directory)?;
        if found.is_none() {
            self.write_topic_id(&directory, topic_id)?;
        }
        let hints = LoadHints {
            recovery_point: Offset::ZERO,
            log_start: Offset::ZERO,
            cleaned_to: Offset::ZERO,
            clean: true,
            cut_to: None,
            rewrite_from: None,
        };
        let (log, _) = load(&self.context, &directory, partition, topic_id, config, hints)?;
        Ok(log)
    }

    /// Whether there is more in a partition's directory than a creation leaves that never came to its first file, the topic's id.
    fn has_files(&self, directory: &Path) -> Result<bool, FsError> {
        let entries = match self.context.file_system.list(directory) {
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(false),
            result => result?,
        };
        let unfinished = |name: &str| name.strip_suffix(".tmp") == Some(PARTITION_METADATA_FILE);
        Ok(entries.iter().any(|entry| !unfinished(&entry.name)))
    }

    /// Opens the log of a partition that exists, and recovers it if the last process did not end in order.
    /// Blocks; several may be opened at once.
    ///
    /// # Errors
    /// As [`load`], and [`LogError::ForeignDirectory`].
    pub fn load(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<(Log, LoadReport), LogError> {
        self.begin()?;
        self.load_ahead(partition, topic_id, config)
    }

    /// The same, before it is decided that the broker starts: the mark of an orderly stop stays. Opening changes nothing that the
    /// mark promises; whoever writes to the log calls [`Self::begin`] before.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_ahead(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<(Log, LoadReport), LogError> {
        let directory = self.directory(partition);
        match topic_id_in(&self.context, &directory)? {
            Some(found) if found != topic_id => {
                return Err(LogError::ForeignDirectory {
                    directory,
                    found,
                    expected: topic_id,
                });
            }
            Some(_) => {}
            // A creation was interrupted, or the file is damaged; without it the next life could not be told from this one.
            None => self.write_topic_id(&directory, topic_id)?,
        }
        let hints = {
            let mut checkpoints = self.checkpoints.lock();
            checkpoints.lives.insert(partition.clone(), topic_id);
            let offset_in = |file: &OffsetCheckpoint| file.get(partition).copied().unwrap_or(Offset::ZERO);
            LoadHints {
                recovery_point: offset_in(&checkpoints.recovery_points),
                log_start: offset_in(&checkpoints.log_starts),
                cleaned_to: offset_in(&checkpoints.cleaned),
                clean: self.mark.is_promise(),
                cut_to: None,
                rewrite_from: None,
            }
        };
        self.open_log(&directory, partition, topic_id, config, hints)
    }

    /// Opens a latched log again: back to what was surely on the disk. Blocks.
    ///
    /// Where consumers only see what is synced, everything behind the last good sync is dropped: the system
    /// may show bytes that a power cut would take away. Where flushing is relaxed, what can be read is kept, and
    /// written once more.
    ///
    /// # Errors
    /// As [`load`].
    pub fn reopen(&self, log: &Log) -> Result<(Log, LoadReport), LogError> {
        let flushed = log.flushed();
        let is_durable = log.config().durable;
        let hints = LoadHints {
            recovery_point: log.recovery_point(),
            log_start: log.offsets().log_start,
            cleaned_to: self.cleaned_to(log.partition()).unwrap_or(Offset::ZERO),
            clean: false,
            cut_to: is_durable.then_some(flushed),
            rewrite_from: (!is_durable).then_some(flushed),
        };
        self.open_log(
            log.directory(),
            log.partition(),
            log.topic_id(),
            log.config().clone(),
            hints,
        )
    }

    /// Opens a log. When a sync fails at that, the next attempt writes once more what it was to bring to the disk.
    fn open_log(
        &self,
        directory: &Path,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        hints: LoadHints,
    ) -> Result<(Log, LoadReport), LogError> {
        let rewrite_from = if self.unsynced.lock().contains(directory) {
            Some(hints.recovery_point)
        } else {
            hints.rewrite_from
        };
        let hints = LoadHints {
            rewrite_from,
            ..hints
        };
        let result = load(&self.context, directory, partition, topic_id, config, hints);
        match &result {
            Ok(_) => {
                self.unsynced.lock().remove(directory);
            }
            Err(LogError::Storage(error)) if error.operation == FsOperation::Sync => {
                self.unsynced.lock().insert(directory.to_path_buf());
            }
            Err(_) => {}
        }
        result
    }

    /// Makes log starts durable. Blocks. Segments below them may be removed afterwards, not before.
    ///
    /// Only the logs named change; the others keep what was written for them before.
    ///
    /// # Errors
    /// The file system's; the former file is still there.
    pub fn write_log_starts(&self, entries: &[CheckpointEntry]) -> Result<(), FsError> {
        let mut checkpoints = self.checkpoints.lock();
        let mut merged = checkpoints.without_ended(&checkpoints.log_starts);
        merged.extend(checkpoints.current(entries));
        self.replace(LOG_START_FILE, &merged)?;
        checkpoints.log_starts = merged;
        checkpoints.forget_written();
        Ok(())
    }

    /// Makes recovery points durable. Blocks. Each must be a log's [`Log::recovery_point`], taken before.
    ///
    /// None goes back: compaction may have relied on a later one, and left gaps below it.
    ///
    /// # Errors
    /// The file system's; the former file is still there.
    pub fn write_recovery_points(&self, entries: &[CheckpointEntry]) -> Result<(), FsError> {
        let mut checkpoints = self.checkpoints.lock();
        let merged = checkpoints.points_with(entries);
        self.replace_recovery_points(&mut checkpoints, merged)
    }

    /// The same, unless the file says all of that already: what relaxed logs take in moves their points when they are flushed,
    /// seldom, and each write has syncs that others wait beside. It does not show whether the disk still takes a write.
    ///
    /// # Errors
    /// As [`Self::write_recovery_points`].
    pub fn write_moved_recovery_points(&self, entries: &[CheckpointEntry]) -> Result<(), FsError> {
        let mut checkpoints = self.checkpoints.lock();
        let merged = checkpoints.points_with(entries);
        if merged == checkpoints.recovery_points {
            return Ok(());
        }
        self.replace_recovery_points(&mut checkpoints, merged)
    }

    /// Memory follows the disk.
    fn replace_recovery_points(
        &self,
        checkpoints: &mut Checkpoints,
        points: OffsetCheckpoint,
    ) -> Result<(), FsError> {
        self.replace(RECOVERY_POINT_FILE, &points)?;
        checkpoints.recovery_points = points;
        checkpoints.forget_written();
        Ok(())
    }

    /// The recovery point of a partition as it stands on the disk.
    #[must_use]
    pub fn recovery_point_on_disk(&self, partition: &TopicPartition) -> Offset {
        let checkpoints = self.checkpoints.lock();
        let point = checkpoints.recovery_points.get(partition);
        point.copied().unwrap_or(Offset::ZERO)
    }

    /// Up to where a compacted log has been cleaned.
    #[must_use]
    pub fn cleaned_to(&self, partition: &TopicPartition) -> Option<Offset> {
        self.checkpoints.lock().cleaned.get(partition).copied()
    }

    /// Notes up to where logs have been cleaned, durably. Blocks.
    ///
    /// # Errors
    /// The file system's; the former file is still there.
    pub fn write_cleaned_to(&self, entries: &[CheckpointEntry]) -> Result<(), FsError> {
        let mut checkpoints = self.checkpoints.lock();
        let mut merged = checkpoints.without_ended(&checkpoints.cleaned);
        merged.extend(checkpoints.current(entries));
        self.replace(CLEANER_FILE, &merged)?;
        checkpoints.cleaned = merged;
        checkpoints.forget_written();
        Ok(())
    }

    /// Cuts off the end of a log. Durable when it returns; blocks.
    ///
    /// The recovery point goes back first: were it left behind the new end, the next opening would take the
    /// cut for damage.
    ///
    /// # Errors
    /// As [`Log::truncate_to`].
    pub fn truncate(&self, log: &mut Log, offset: Offset) -> Result<Offset, LogError> {
        let mut checkpoints = self.checkpoints.lock();
        let cleaned = checkpoints.cleaned.get_mut(log.partition());
        if let Some(cleaned) = cleaned.filter(|cleaned| offset < **cleaned) {
            *cleaned = offset;
            self.replace(CLEANER_FILE, &checkpoints.cleaned)?;
        }
        let known = checkpoints.recovery_points.get(log.partition()).copied();
        if known.is_some_and(|known| offset < known) {
            // The beginning of the segment: the cut may fall back to the beginning of a batch.
            let lowered = log.segment_base_at(offset);
            let mut points = checkpoints.recovery_points.clone();
            points.insert(log.partition().clone(), lowered);
            self.replace_recovery_points(&mut checkpoints, points)?;
        }
        log.truncate_to(offset)
    }

    /// The last act of an orderly stop, after every log was closed and the recovery points were written. Where one was not, nothing is
    /// marked.
    ///
    /// # Errors
    /// The file system's; the next start then recovers.
    pub fn mark_clean(&self) -> Result<(), FsError> {
        if self.is_disorderly.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (name, contents) = CleanMark::file();
        self.put(name, &contents)
    }

    /// Notes that `partition` now belongs to `topic_id`, and forgets what the checkpoints say of a former
    /// life, durably: they would cut or condemn the new one at the next start.
    fn begin_life(&self, partition: &TopicPartition, topic_id: TopicId) -> Result<(), FsError> {
        let mut checkpoints = self.checkpoints.lock();
        checkpoints.lives.insert(partition.clone(), topic_id);
        checkpoints.ended.remove(partition);
        // Memory follows the disk: what could not be written is tried again by the next creation.
        if checkpoints.recovery_points.contains_key(partition) {
            let mut rest = checkpoints.recovery_points.clone();
            rest.remove(partition);
            self.replace(RECOVERY_POINT_FILE, &rest)?;
            checkpoints.recovery_points = rest;
        }
        if checkpoints.log_starts.contains_key(partition) {
            let mut rest = checkpoints.log_starts.clone();
            rest.remove(partition);
            self.replace(LOG_START_FILE, &rest)?;
            checkpoints.log_starts = rest;
        }
        if checkpoints.cleaned.contains_key(partition) {
            let mut rest = checkpoints.cleaned.clone();
            rest.remove(partition);
            self.replace(CLEANER_FILE, &rest)?;
            checkpoints.cleaned = rest;
        }
        Ok(())
    }

    fn write_topic_id(&self, directory: &Path, topic_id: TopicId) -> Result<(), FsError> {
        let contents = partition_metadata::to_bytes(topic_id);
        self.context
            .file_system
            .replace(&directory.join(PARTITION_METADATA_FILE), &contents)
    }

    fn replace(&self, name: &str, offsets: &OffsetCheckpoint) -> Result<(), FsError> {
        self.put(name, &offset_checkpoint::to_bytes(offsets))
    }

    /// Replaces a file of the directory's own, durably.
    fn put(&self, name: &str, contents: &[u8]) -> Result<(), FsError> {
        self.check_there()?;
        let path = self.data_dir.join(name);
        self.noted(self.context.file_system.replace(&path, contents))
    }

    pub(super) fn directory(&self, partition: &TopicPartition) -> PathBuf {
        self.data_dir.join(partition.to_string())
    }
}

/// Makes the name of the data directory itself durable: a process that was killed may have made it and no more.
/// A parent that may not be looked into is another's, and so is the making of the name.
fn sync_own_name(file_system: &dyn FileSystem, data_dir: &Path) -> Result<(), FsError> {
    let parent = match data_dir.parent() {
        None => return Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    match file_system.sync_directory(parent) {
        Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}
