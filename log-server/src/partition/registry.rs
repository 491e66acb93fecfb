//! All partitions of the broker: found by name or topic id, loaded, created, deleted, closed.
//!
//! A look-up takes no lock: the table is immutable and replaced as a whole, a topic with all its partitions at once.
//! Changes block (files are made, renamed, recovered) and are made one at a time.
//!
//! What is found on the disk at start, against what the metadata says:
//!
//! | the directory | decision |
//! |---|---|
//! | is there, with the topic's id or without any | loaded; recovered if the last stop was not in order |
//! | is there and cannot be loaded | the partition is off-line, with the reason; the others serve |
//! | is missing | made anew: the broker stopped between the topic's record and its files, or somebody removed it |
//! | carries another topic's id | set aside under another name, and made anew |
//! | belongs to no topic | set aside under another name |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use log_core::config::LogConfig;
use log_core::fs::FsError;
use log_core::log::{LoadReport, Log, LogError};
use log_core::log_manager::{CheckpointEntry, Found, FoundPartition, LogManager};
use log_core::model::{TopicId, TopicPartition};
use parking_lot::Mutex;

use crate::metrics::logs::LogMetrics;
use crate::partition::checkpoints::Checkpoints;
use crate::partition::error::PartitionError;
use crate::partition::flusher::FlushQueue;
use crate::partition::partition::{Condition, Partition, PartitionContext};
use crate::partition::reserve::SpaceReserve;

/// Logs that are made or closed at once, at least: each waits for the disk several times, and a disk does many at once.
const SYNCING_THREADS: usize = 16;

/// A topic as the metadata knows it.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: i32,
    /// The settings of its logs.
    pub config: LogConfig,
}

/// A topic with its partitions, by index.
#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    id: TopicId,
    partitions: Vec<Arc<Partition>>,
}

#[derive(Debug, Clone, Default)]
struct Table {
    by_name: HashMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl Table {
    fn put(&mut self, topic: &Arc<Topic>) {
        self.by_name.insert(Arc::clone(&topic.name), Arc::clone(topic));
        self.by_id.insert(topic.id, Arc::clone(topic));
    }
}

/// All partitions of the broker.
#[derive(Debug)]
pub struct PartitionRegistry {
    manager: Arc<LogManager>,
    context: Arc<PartitionContext>,
    table: ArcSwap<Table>,
    /// Held by the one who changes the table.
    change: Mutex<()>,
    /// How many logs are opened, made or closed at once.
    thread_count: usize,
    /// Whether directories of deleted partitions wait for their removal.
    has_deleted: AtomicBool,
}

/// What loading found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Partitions that serve.
    pub online: usize,
    /// Partitions that could not be loaded.
    pub offline: usize,
    /// Directories set aside.
    pub strays: usize,
    /// Bytes whose checksums were verified because the last stop was not in order.
    pub bytes_verified: u64,
}

impl PartitionRegistry {
    /// A registry without partitions.
    pub(crate) fn new(
        manager: Arc<LogManager>,
        flush_queue: FlushQueue<Partition>,
        thread_count: usize,
    ) -> Arc<Self> {
        let context = PartitionContext {
            clock: Arc::clone(&manager.context().clock),
            flush_queue,
            checkpoints: Arc::new(Checkpoints::new(Arc::clone(&manager))),
            metrics: Arc::default(),
        };
        Arc::new(Self {
            manager,
            context: Arc::new(context),
            table: ArcSwap::default(),
            change: Mutex::default(),
            thread_count,
            has_deleted: AtomicBool::new(true),
        })
    }

    /// The partition of a topic by name.
    #[must_use]
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let table = self.table.load();
        partition_of(table.by_name.get(topic)?, partition)
    }

    /// The partition of a topic by id.
    #[must_use]
    pub fn get_by_id(&self, topic_id: TopicId, partition: i32) -> Option<Arc<Partition>> {
        let table = self.table.load();
        partition_of(table.by_id.get(&topic_id)?, partition)
    }

    /// What all partitions count together.
    #[must_use]
    pub fn metrics(&self) -> &Arc<LogMetrics> {
        &self.context.metrics
    }

    /// Calls `visit` with every topic there is now and its partitions, in no order.
    pub fn for_each_topic(&self, mut visit: impl FnMut(&Arc<str>, &[Arc<Partition>])) {
        let table = self.table.load_full();
        for topic in table.by_name.values() {
            visit(&topic.name, &topic.partitions);
        }
    }

    /// Calls `visit` with every partition there is now, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Partition>)) {
        let table = self.table.load_full();
        for topic in table.by_name.values() {
            topic.partitions.iter().for_each(&mut visit);
        }
    }

    /// All partitions, by topic and index.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let table = self.table.load();
        let mut topics: Vec<_> = table.by_name.values().collect();
        topics.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        topics
            .into_iter()
            .flat_map(|topic| topic.partitions.iter().cloned())
            .collect()
    }

    /// How many partitions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let table = self.table.load();
        table.by_name.values().map(|topic| topic.partitions.len()).sum()
    }

    /// Makes the files say what the metadata says, and serves what can be served. `owned` are partitions that are
    /// neither in `topics` nor strays. Blocks.
    ///
    /// # Panics
    /// On a negative number of partitions.
    pub fn load(&self, topics: &[TopicSpec], found: &Found, owned: &[TopicPartition]) -> LoadSummary {
        let _change = self.change.lock();
        let mut summary = LoadSummary::default();
        let mut directories: BTreeMap<&TopicPartition, &FoundPartition> = found
            .partitions
            .iter()
            .map(|found| (&found.partition, found))
            .collect();
        for partition in owned {
            directories.remove(partition);
        }
        let mut jobs = Vec::new();
        for topic in topics {
            for index in 0..topic.partition_count {
                let name = TopicPartition::new(Arc::clone(&topic.name), index);
                let directory = directories.remove(&name);
                let is_ours = directory.is_some_and(|found| found.topic_id.is_none_or(|id| id == topic.id));
                if let Some(foreign) = directory.filter(|_| !is_ours) {
                    summary.strays += self.set_aside(foreign);
                }
                jobs.push((topic, name, is_ours));
            }
        }
        for stray in directories.into_values() {
            summary.strays += self.set_aside(stray);
        }

        let opened = in_parallel(self.thread_count, &jobs, |(topic, name, exists)| {
            if !exists && !found.partitions.is_empty() {
                tracing::warn!(partition = %name, "the directory is missing; the partition starts empty");
            }
            self.open_partition(topic, name, *exists)
        });
        let mut opened = opened.into_iter();
        let mut table = (**self.table.load()).clone();
        for topic in topics {
            let count = usize::try_from(topic.partition_count).expect("a topic has partitions");
            let mut partitions = Vec::with_capacity(count);
            for (partition, bytes_verified) in opened.by_ref().take(count) {
                match &*partition.condition() {
                    Condition::Offline { .. } | Condition::Closed(_) => summary.offline += 1,
                    Condition::Online(_) | Condition::Latched { .. } => summary.online += 1,
                }
                summary.bytes_verified += bytes_verified;
                partitions.push(partition);
            }
            table.put(&topic_of(topic, partitions));
        }
        self.table.store(Arc::new(table));
        summary
    }

    /// Makes the partitions of a new topic, or those that an existing one lacks. Durable, and served, when this returns.
    /// Blocks.
    ///
    /// # Errors
    /// The file system's. What was made stays; a second call goes on from there.
    ///
    /// # Panics
    /// Never: a topic has no more than 2³¹ partitions.
    pub fn create(&self, topic: &TopicSpec) -> Result<(), LogError> {
        let _change = self.change.lock();
        let known = self
            .table
            .load()
            .by_id
            .get(&topic.id)
            .map_or_else(Vec::new, |topic| topic.partitions.clone());
        let first = i32::try_from(known.len()).expect("a partition's index is an i32");
        let missing: Vec<_> = (first..topic.partition_count)
            .map(|index| TopicPartition::new(Arc::clone(&topic.name), index))
            .collect();
        let made = in_parallel(self.thread_count.max(SYNCING_THREADS), &missing, |name| {
            self.create_log(name, topic)
        });
        let logs = made.into_iter().collect::<Result<Vec<_>, _>>()?;
        let made = logs
            .into_iter()
            .map(|log| Partition::new(Arc::clone(&self.context), log));
        let mut table = (**self.table.load()).clone();
        table.put(&topic_of(topic, known.iter().cloned().chain(made).collect()));
        self.table.store(Arc::new(table));
        // Whoever follows the whole topic wants those that were added, too.
        for partition in &known {
            partition.watchers.wake();
        }
        Ok(())
    }

    /// Deletes a topic: nobody finds it from now on, whoever waits is told, and the directories are renamed, durably. The
    /// files go in the background. An unknown topic is fine. Blocks.
    ///
    /// # Errors
    /// A directory could not be renamed; it is set aside at the next start.
    pub fn delete(&self, topic_id: TopicId) -> Result<(), LogError> {
        let _change = self.change.lock();
        let mut table = (**self.table.load()).clone();
        let Some(topic) = table.by_id.remove(&topic_id) else {
            return Ok(());
        };
        table.by_name.remove(&topic.name);
        self.table.store(Arc::new(table));
        let mut result = Ok(());
        for partition in &topic.partitions {
            drop(partition.end(PartitionError::Deleted));
            if let Err(error) = self.manager.schedule_delete(partition.name(), topic_id) {
                tracing::error!(partition = %partition.name(), operation = "delete", %error, "the directory stays");
                result = Err(error);
            }
        }
        self.has_deleted.store(true, Ordering::Release);
        result
    }

    /// Gives a topic's logs other settings. Blocks.
    pub fn reconfigure(&self, topic_id: TopicId, config: &LogConfig) {
        let topic = self.table.load().by_id.get(&topic_id).cloned();
        for partition in topic.iter().flat_map(|topic| &topic.partitions) {
            partition.set_config(config);
        }
    }

    /// Removes the files of deleted partitions. Blocks.
    pub(crate) fn remove_deleted(&self) {
        if !self.has_deleted.swap(false, Ordering::Acquire) {
            return;
        }
        match self.manager.remove_deleted() {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "directories of deleted partitions removed"),
            Err(error) => {
                tracing::warn!(operation = "remove deleted partitions", %error, "tried again later");
                self.has_deleted.store(true, Ordering::Release);
            }
        }
    }

    /// Stores what shortens recovery, and the recovery points. Blocks.
    ///
    /// # Errors
    /// The file system's; the former points are still there.
    pub(crate) fn write_recovery_points(&self) -> Result<(), FsError> {
        let partitions = self.all();
        for partition in &partitions {
            partition.checkpoint();
        }
        let entry = |partition: &Arc<Partition>| {
            Some(CheckpointEntry {
                partition: partition.name().clone(),
                topic_id: partition.topic_id(),
                offset: partition.recovery_point()?,
            })
        };
        let entries: Vec<_> = partitions.iter().filter_map(entry).collect();
        self.manager.write_recovery_points(&entries)
    }

    /// The space that is kept back.
    pub(crate) fn reserve(&self) -> Arc<SpaceReserve> {
        self.context.checkpoints.reserve()
    }

    /// Makes log starts that moved durable. Blocks.
    ///
    /// # Errors
    /// The file system's; they are tried again the next time.
    pub(crate) fn write_log_starts(&self) -> Result<(), FsError> {
        self.context.checkpoints.write()
    }

    /// Closes every log in order: flushed, trimmed, with everything stored. Answers whether all of them were, so that
    /// the directory may be marked as cleanly left. Blocks.
    pub(crate) fn close_all(&self) -> bool {
        let _change = self.change.lock();
        let partitions = self.all();
        let closed = in_parallel(self.thread_count.max(SYNCING_THREADS), &partitions, close);
        let is_complete = closed.iter().all(Option::is_some);
        let entries: Vec<_> = closed.into_iter().flatten().collect();
        let written = self
            .manager
            .write_recovery_points(&entries)
            .and_then(|()| self.write_log_starts());
        if let Err(error) = &written {
            tracing::error!(operation = "checkpoint", %error, "the next start recovers the logs");
        }
        is_complete && written.is_ok()
    }

    fn open_partition(
        &self,
        topic: &TopicSpec,
        name: &TopicPartition,
        exists: bool,
    ) -> (Arc<Partition>, u64) {
        let context = Arc::clone(&self.context);
        match self.open_log(name, topic, exists) {
            Ok((log, report)) => {
                log_report(name, &report);
                (Partition::new(context, log), report.bytes_verified)
            }
            Err(error) => {
                let directory = self.manager.data_dir().join(name.to_string());
                let can_mend = matches!(error, LogError::Storage(_));
                let advice = if can_mend {
                    "it is tried again as long as the broker runs".to_owned()
                } else {
                    let directory = directory.display();
                    format!(
                        "look at it with `stratalog log verify {directory}`, restore it from a copy or delete the topic"
                    )
                };
                tracing::error!(partition = %name, operation = "load", %error, "off-line, the others serve; {advice}");
                let reason = format!("{error}; {advice}");
                let config = topic.config.clone();
                (
                    Partition::offline(context, name.clone(), topic.id, config, &reason, can_mend),
                    0,
                )
            }
        }
    }

    fn open_log(
        &self,
        name: &TopicPartition,
        topic: &TopicSpec,
        exists: bool,
    ) -> Result<(Log, LoadReport), LogError> {
        if exists {
            self.manager.load(name, topic.id, topic.config.clone())
        } else {
            Ok((self.create_log(name, topic)?, LoadReport::default()))
        }
    }

    fn create_log(&self, name: &TopicPartition, topic: &TopicSpec) -> Result<Log, LogError> {
        match self.manager.create(name, topic.id, topic.config.clone()) {
            Err(LogError::ForeignDirectory { directory, found, .. }) => {
                // A deletion that could not rename it.
                self.set_aside(&FoundPartition {
                    partition: name.clone(),
                    topic_id: Some(found),
                    directory,
                });
                self.manager.create(name, topic.id, topic.config.clone())
            }
            result => result,
        }
    }

    fn set_aside(&self, found: &FoundPartition) -> usize {
        let directory = found.directory.display();
        match self.manager.set_aside_stray(found) {
            Ok(()) => {
                tracing::warn!(partition = %found.partition, %directory, "no such topic is known: set aside as a stray");
                1
            }
            Err(error) => {
                tracing::error!(partition = %found.partition, %directory, %error, "a stray directory stays");
                0
            }
        }
    }
}

fn partition_of(topic: &Topic, partition: i32) -> Option<Arc<Partition>> {
    topic.partitions.get(usize::try_from(partition).ok()?).cloned()
}

fn topic_of(spec: &TopicSpec, partitions: Vec<Arc<Partition>>) -> Arc<Topic> {
    Arc::new(Topic {
        name: Arc::clone(&spec.name),
        id: spec.id,
        partitions,
    })
}

pub(crate) fn log_report(partition: &TopicPartition, report: &LoadReport) {
    for (file, bytes, cause) in &report.torn {
        tracing::warn!(%partition, file = %file.display(), bytes, %cause, "a torn end was cut off; it was never acknowledged");
    }
    if 0 < report.swaps_completed {
        tracing::info!(%partition, segments = report.swaps_completed, "compacted segments were put in their places");
    }
    if let Some(first) = report.missing_before {
        tracing::warn!(
            %partition, log_start = %first,
            "the first segments are missing; they were removed by hand, or by retention on a full disk before a crash"
        );
    }
    if 0 < report.segments_removed {
        tracing::warn!(%partition, segments = report.segments_removed, "segments behind a torn end were removed");
    }
}

/// Closes one log; `None` when it could not be done in order.
fn close(partition: &Arc<Partition>) -> Option<CheckpointEntry> {
    let mut log = partition.end(PartitionError::ShuttingDown)?;
    match log.close() {
        Ok(offset) => Some(CheckpointEntry {
            partition: partition.name().clone(),
            topic_id: partition.topic_id(),
            offset,
        }),
        Err(error) => {
            tracing::error!(partition = %partition.name(), operation = "close", %error, "the next start recovers it");
            None
        }
    }
}

/// Does `work` for every item on at most `thread_count` threads, this one among them, and returns the results in
/// the items' order.
fn in_parallel<T: Sync, R: Send>(thread_count: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take_turns = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let helper_count = thread_count.min(items.len()).saturating_sub(1);
    let mut results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..helper_count).map(|_| scope.spawn(take_turns)).collect();
        let mut results = take_turns();
        for helper in helpers {
            match helper.join() {
                Ok(done) => results.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
