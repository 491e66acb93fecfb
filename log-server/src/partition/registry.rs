//! All partitions of the broker: found by name or topic id, loaded, created, deleted, closed.
//!
//! A look-up takes no lock: the table is immutable and replaced as a whole, a topic with all its partitions at once.
//! Changes block (files are made, renamed, recovered) and are made one at a time.
//!
//! `loading.rs` fills it at a start.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use log_core::clock::Clock;
use log_core::config::LogConfig;
use log_core::fs::FsError;
use log_core::log::LogError;
use log_core::log_manager::{CheckpointEntry, LogManager};
use log_core::model::{TopicId, TopicPartition};
use parking_lot::Mutex;

use crate::metrics::logs::LogMetrics;
use crate::partition::checkpoints::Checkpoints;
use crate::partition::error::PartitionError;
use crate::partition::flusher::FlushQueue;
use crate::partition::partition::{Partition, PartitionContext};
use crate::partition::recompression::RecompressionTurns;

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
pub(super) struct Topic {
    name: Arc<str>,
    id: TopicId,
    partitions: Vec<Arc<Partition>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    by_name: HashMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl Table {
    pub(super) fn put(&mut self, topic: &Arc<Topic>) {
        self.by_name.insert(Arc::clone(&topic.name), Arc::clone(topic));
        self.by_id.insert(topic.id, Arc::clone(topic));
    }
}

/// All partitions of the broker.
#[derive(Debug)]
pub struct PartitionRegistry {
    pub(super) manager: Arc<LogManager>,
    /// One for each of the manager's directories, in their order.
    contexts: Vec<Arc<PartitionContext>>,
    metrics: Arc<LogMetrics>,
    pub(super) table: ArcSwap<Table>,
    /// Held by the one who changes the table.
    pub(super) change: Mutex<()>,
    /// How many logs are opened, made or closed at once.
    pub(super) thread_count: usize,
    /// Whether directories of deleted partitions wait for their removal.
    has_deleted: AtomicBool,
}

impl PartitionRegistry {
    /// A registry without partitions.
    pub(crate) fn new(
        manager: Arc<LogManager>,
        flush_queue: FlushQueue<Partition>,
        thread_count: usize,
    ) -> Arc<Self> {
        let of_first = PartitionContext {
            clock: Arc::clone(&manager.context().clock),
            flush_queue,
            checkpoints: Arc::new(Checkpoints::new(Arc::clone(manager.first()))),
            metrics: Arc::default(),
            recompression: RecompressionTurns::default(),
        };
        let of_others = manager
            .directories()
            .iter()
            .skip(1)
            .map(|directory| PartitionContext {
                checkpoints: Arc::new(Checkpoints::new(Arc::clone(directory))),
                ..of_first.clone()
            });
        let contexts = std::iter::once(of_first.clone())
            .chain(of_others)
            .map(Arc::new)
            .collect();
        Arc::new(Self {
            manager,
            contexts,
            metrics: of_first.metrics,
            table: ArcSwap::default(),
            change: Mutex::default(),
            thread_count,
            has_deleted: AtomicBool::new(true),
        })
    }

    /// What time it is.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.manager.context().clock
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
        &self.metrics
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

    /// Makes the partitions of a new topic. Durable, and served, when this returns. Blocks.
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
            .map(|log| Partition::new(self.context_of(log.partition()), log));
        let mut table = (**self.table.load()).clone();
        table.put(&topic_of(topic, known.iter().cloned().chain(made).collect()));
        self.table.store(Arc::new(table));
        // Whoever follows the whole topic wants those that were added, too.
        for partition in &known {
            partition.watchers.wake();
        }
        Ok(())
    }

    /// Makes the partitions that an existing topic lacks, unless a data directory is missing: an earlier attempt may have made them
    /// there, and they would come back beside those that are made now. Blocks.
    ///
    /// # Errors
    /// As [`Self::create`], and [`LogError::MissingDirectory`].
    pub fn extend(&self, topic: &TopicSpec) -> Result<(), LogError> {
        match self.manager.missing().into_iter().next() {
            Some(directory) => Err(LogError::MissingDirectory { directory }),
            None => self.create(topic),
        }
    }

    /// Renames the directories of partitions that were made and are not served, so that their files go. Blocks.
    ///
    /// # Errors
    /// The first that could not be renamed; the next start sets it aside.
    pub fn discard(&self, topic: &Arc<str>, id: TopicId, indexes: Range<i32>) -> Result<(), LogError> {
        let _change = self.change.lock();
        let mut result = Ok(());
        for index in indexes {
            let partition = TopicPartition::new(Arc::clone(topic), index);
            result = result.and(self.manager.schedule_delete(&partition, id));
        }
        self.has_deleted.store(true, Ordering::Release);
        result
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
        let named = table.by_name.get(&topic.name);
        if named.is_some_and(|named| named.id == topic_id) {
            table.by_name.remove(&topic.name);
        }
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

    /// Stores what partitions know that shortens a recovery, of one after the other, and calls `between` behind each: a thousand of them
    /// take seconds. Blocks.
    pub(crate) fn checkpoint_each(&self, mut between: impl FnMut()) {
        for partition in self.all() {
            partition.checkpoint();
            between();
        }
    }

    /// Stores from where a recovery must verify: one file for each directory. Blocks.
    ///
    /// # Errors
    /// The file system's; the former points are still there.
    pub(crate) fn write_recovery_points(&self) -> Result<(), FsError> {
        self.manager.write_recovery_points(&self.recovery_points())
    }

    /// The same where one has moved since. Blocks.
    ///
    /// # Errors
    /// As [`Self::write_recovery_points`].
    pub(crate) fn write_moved_recovery_points(&self) -> Result<(), FsError> {
        self.manager.write_moved_recovery_points(&self.recovery_points())
    }

    fn recovery_points(&self) -> Vec<CheckpointEntry> {
        let partitions = self.all();
        let entry = |partition: &Arc<Partition>| {
            Some(CheckpointEntry {
                partition: partition.name().clone(),
                topic_id: partition.topic_id(),
                offset: partition.recovery_point()?,
            })
        };
        partitions.iter().filter_map(entry).collect()
    }

    /// The log starts of each directory that serves.
    pub(crate) fn checkpoints(&self) -> impl Iterator<Item = &Arc<Checkpoints>> {
        let all = self.checkpoints_of_all();
        all.filter(|checkpoints| checkpoints.directory().is_online())
    }

    /// The same of those that were given up, too.
    pub(crate) fn checkpoints_of_all(&self) -> impl Iterator<Item = &Arc<Checkpoints>> {
        self.contexts.iter().map(|context| &context.checkpoints)
    }

    /// How many of the broker's directories do not serve.
    #[must_use]
    pub fn offline_directory_count(&self) -> usize {
        self.manager.offline_count()
    }

    /// Takes the partitions of directories that were given up off-line. Blocks.
    pub(crate) fn leave_failed_directories(&self) {
        let are_whole = self
            .manager
            .directories()
            .iter()
            .all(|directory| directory.is_online());
        if are_whole {
            return;
        }
        self.for_each(|partition| {
            if let Some(reason) = partition.log_directory().failure() {
                partition.leave_directory(&reason);
            }
        });
    }

    /// Closes every log in order: flushed, trimmed, with everything stored. Answers whether all of them were, so that
    /// the directory may be marked as cleanly left. Blocks.
    pub(crate) fn close_all(&self) -> bool {
        let _change = self.change.lock();
        let partitions = self.all();
        let closed = in_parallel(self.thread_count.max(SYNCING_THREADS), &partitions, close);
        let mut is_complete = true;
        let left = partitions
            .iter()
            .zip(&closed)
            .filter(|(_, closed)| closed.is_none());
        // Those that live nowhere, or in a directory that was given up, leave no other directory in disorder.
        let homes = left.filter_map(|(partition, _)| self.manager.home(partition.name()));
        for home in homes.filter(|home| home.is_online()) {
            is_complete = false;
            home.leave_disorderly();
        }
        let entries: Vec<_> = closed.into_iter().flatten().collect();
        let points = self.manager.write_recovery_points(&entries);
        let starts = self.checkpoints().map(|checkpoints| checkpoints.write());
        let written = starts.fold(points, Result::and);
        if let Err(error) = &written {
            tracing::error!(operation = "checkpoint", %error, "the next start recovers the logs");
            self.manager
                .directories()
                .iter()
                .for_each(|directory| directory.leave_disorderly());
        }
        is_complete && written.is_ok()
    }

    /// What the partitions of one directory share.
    pub(super) fn context_of(&self, name: &TopicPartition) -> Arc<PartitionContext> {
        let home = self.manager.home_or_first(name);
        let mut contexts = self.contexts.iter();
        let own = contexts.find(|context| Arc::ptr_eq(context.checkpoints.directory(), home));
        Arc::clone(own.expect("there is a context for each directory"))
    }
}

fn partition_of(topic: &Topic, partition: i32) -> Option<Arc<Partition>> {
    topic.partitions.get(usize::try_from(partition).ok()?).cloned()
}

pub(super) fn topic_of(spec: &TopicSpec, partitions: Vec<Arc<Partition>>) -> Arc<Topic> {
    Arc::new(Topic {
        name: Arc::clone(&spec.name),
        id: spec.id,
        partitions,
    })
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
pub(super) fn in_parallel<T: Sync, R: Send>(
    thread_count: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
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
