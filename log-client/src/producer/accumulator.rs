//! Records on their way into batches: one queue per partition, filled by callers, emptied by the sender.
//!
//! A caller encodes its record straight into the last batch of the queue, under that queue's lock only.
//! The sender learns of partitions through a list of those that got something; a partition stands in it
//! once. Only the last batch of a queue takes records, and the first one leaves first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use log_core::model::{TimestampMs, TopicPartition};
use log_core::partitioner::partition_for_key;
use log_core::record::batch_builder::{AppendError, BatchBuilder, BatchOptions};
use log_core::record::record::{RecordHeader, record_size_max};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::books::Books;
use super::delivery::{Claim, Delivery, Ticket};
use super::partitioner::{Sticky, choose};
use crate::error::{Error, Result};
use crate::metadata::TopicMetadata;

/// A batch gets this much room at first, if the batches before it gave no hint.
const BATCH_CAPACITY_FIRST: usize = 1 << 10;

/// What a record consists of, all of it borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub timestamp: TimestampMs,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [RecordHeader<'a>],
}

impl Parts<'_> {
    /// What the record takes in a batch at most.
    pub(crate) fn size_max(&self) -> usize {
        record_size_max(self.key, self.value, self.headers)
    }
}

/// All that is queued.
#[derive(Debug)]
pub(crate) struct Accumulator {
    batch_bytes: usize,
    linger: Duration,
    options: BatchOptions,
    pub(crate) books: Arc<Books>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueues>>>,
    /// Queues that got something since the sender looked.
    fresh: Mutex<Vec<Arc<PartitionQueue>>>,
    is_closed: AtomicBool,
}

/// The queues of one topic.
#[derive(Debug)]
pub(crate) struct TopicQueues {
    /// When the metadata told of it for a record.
    learned_at: Mutex<Instant>,
    /// Whether the metadata are not kept fresh any more, because nothing was sent for long. The queues stay: the
    /// partitions' sequences go on where they were.
    is_forgotten: AtomicBool,
    /// What the metadata said last; queues of partitions beyond stay until they are empty.
    metadata: RwLock<Arc<TopicMetadata>>,
    queues: RwLock<Vec<Arc<PartitionQueue>>>,
    sticky: Mutex<Sticky>,
}

/// The queue of one partition.
#[derive(Debug)]
pub(crate) struct PartitionQueue {
    pub(crate) partition: TopicPartition,
    /// How many batches wait; read without the lock when a partition is chosen.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    /// The place of this partition in the sender's list, once it has one.
    pub(crate) slot: std::sync::OnceLock<usize>,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<OpenBatch>,
    /// Whether the sender knows that there is something here.
    is_listed: bool,
    /// The size of the last batch that left, as a guess at the next one's.
    size_hint: usize,
}

/// A batch that may still take records, if it is the last one.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) builder: BatchBuilder,
    pub(crate) claim: Claim,
    pub(crate) created: Instant,
    is_full: bool,
}

/// Whether the first batch of a queue may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// It lingers until then.
    At(Instant),
    Empty,
}

impl Accumulator {
    pub(crate) fn new(batch_bytes: usize, linger: Duration, options: BatchOptions, books: Books) -> Self {
        Self {
            batch_bytes,
            linger,
            options,
            books: Arc::new(books),
            topics: RwLock::default(),
            fresh: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The queues of a topic, if records have gone there before and its metadata are kept fresh.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicQueues>> {
        let topics = self.topics.read();
        let topic = topics.get(name)?;
        let is_forgotten = topic.is_forgotten.load(Ordering::Relaxed);
        (!is_forgotten).then(|| Arc::clone(topic))
    }

    /// The queues of a topic, brought up to what the metadata says now.
    pub(crate) fn update(&self, metadata: &Arc<TopicMetadata>) -> Arc<TopicQueues> {
        let mut topics = self.topics.write();
        let topic = topics.entry(Arc::clone(&metadata.name)).or_insert_with(|| {
            Arc::new(TopicQueues {
                learned_at: Mutex::new(Instant::now()),
                is_forgotten: AtomicBool::new(false),
                metadata: RwLock::new(Arc::clone(metadata)),
                queues: RwLock::default(),
                sticky: Mutex::default(),
            })
        });
        // In the order in which a record takes them: metadata, then queues. No record sees a partition without its queue.
        let mut known = topic.metadata.write();
        let mut queues = topic.queues.write();
        for index in queues.len()..metadata.partitions.len() {
            let index = i32::try_from(index).expect("partitions are counted by an i32");
            queues.push(Arc::new(PartitionQueue {
                partition: TopicPartition::new(Arc::clone(&metadata.name), index),
                waiting: AtomicUsize::new(0),
                queue: Mutex::default(),
                slot: std::sync::OnceLock::new(),
            }));
        }
        *known = Arc::clone(metadata);
        drop((queues, known));
        if topic.is_forgotten.swap(false, Ordering::Relaxed) {
            *topic.learned_at.lock() = Instant::now();
        }
        Arc::clone(topic)
    }

    /// The topics whose metadata are kept fresh, and when each was learned of.
    pub(crate) fn topics(&self) -> Vec<(Arc<str>, Instant)> {
        let topics = self.topics.read();
        let known = topics
            .iter()
            .filter(|(_, topic)| !topic.is_forgotten.load(Ordering::Relaxed));
        known
            .map(|(name, topic)| (Arc::clone(name), *topic.learned_at.lock()))
            .collect()
    }

    /// The next record asks for the topic's metadata again. False if it has records.
    pub(crate) fn forget(&self, name: &str) -> bool {
        let topics = self.topics.read();
        let Some(topic) = topics.get(name) else {
            return false;
        };
        let queues = topic.queues.read();
        let is_empty = queues.iter().all(|queue| queue.queue.lock().batches.is_empty());
        topic.is_forgotten.store(is_empty, Ordering::Relaxed);
        is_empty
    }

    /// Appends a record for which `reserved` bytes of memory were taken, to the given partition or to one
    /// that its key or chance decides.
    pub(crate) fn append(
        &self,
        topic: &TopicQueues,
        partition: Option<i32>,
        parts: &Parts<'_>,
        reserved: usize,
    ) -> Result<Delivery> {
        let metadata = topic.metadata.read();
        let count = metadata.partitions.len();
        if count == 0 {
            return Err(Error::NoSuchPartition {
                topic: Arc::clone(&metadata.name),
                partition: partition.unwrap_or(0),
                count,
            });
        }
        let index = match (partition, parts.key) {
            (Some(partition), _) => usize::try_from(partition).unwrap_or(usize::MAX),
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => {
                let mut sticky = topic.sticky.lock();
                let index = sticky.current(count, || topic.choose(&metadata));
                let queue = topic.queue(index, &metadata)?;
                let (delivery, is_full) = self.append_to(&queue, parts, reserved)?;
                sticky.appended(reserved, self.batch_bytes, is_full);
                return Ok(delivery);
            }
        };
        if count <= index {
            return Err(Error::NoSuchPartition {
                topic: Arc::clone(&metadata.name),
                partition: partition.unwrap_or(-1),
                count,
            });
        }
        let queue = topic.queue(index, &metadata)?;
        let (delivery, _) = self.append_to(&queue, parts, reserved)?;
        Ok(delivery)
    }

    /// Appends to the last batch of the queue, or to a new one; also says whether that batch is full now.
    fn append_to(
        &self,
        partition: &Arc<PartitionQueue>,
        parts: &Parts<'_>,
        reserved: usize,
    ) -> Result<(Delivery, bool)> {
        let mut queue = partition.queue.lock();
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Error::Closed("producer"));
        }
        let fits = queue.batches.back().is_some_and(|last| {
            !last.is_full && last.builder.estimated_size() + reserved <= self.batch_bytes
        });
        if !fits {
            if let Some(last) = queue.batches.back_mut() {
                last.is_full = true;
            }
            let capacity = queue.size_hint.max(BATCH_CAPACITY_FIRST).min(self.batch_bytes);
            queue.batches.push_back(OpenBatch {
                builder: BatchBuilder::with_capacity(self.options, capacity.max(reserved)),
                claim: Ticket::issue(partition.partition.clone(), Arc::clone(&self.books)),
                created: Instant::now(),
                is_full: false,
            });
            partition.waiting.store(queue.batches.len(), Ordering::Relaxed);
        }

        let batch = queue
            .batches
            .back_mut()
            .expect("there is one, or it was just made");
        let appended = batch
            .builder
            .append(parts.timestamp, parts.key, parts.value, parts.headers);
        let index = match appended {
            Ok(index) => index,
            Err(error) => {
                if batch.builder.is_empty() {
                    queue.batches.pop_back();
                    partition.waiting.store(queue.batches.len(), Ordering::Relaxed);
                }
                return Err(refused(&error, self.batch_bytes));
            }
        };
        let delivery = batch.claim.record(index, parts.timestamp, reserved);
        batch.is_full = self.batch_bytes <= batch.builder.estimated_size();
        let is_full = batch.is_full;
        let is_news = !queue.is_listed;
        queue.is_listed = true;
        drop(queue);

        if is_news {
            self.fresh.lock().push(Arc::clone(partition));
        }
        if is_news || is_full || !fits {
            self.books.wake.notify_one();
        }
        Ok((delivery, is_full))
    }

    /// The queues that got something since the last call.
    pub(crate) fn take_fresh(&self) -> Vec<Arc<PartitionQueue>> {
        std::mem::take(&mut *self.fresh.lock())
    }

    /// Whether the first batch of the queue may leave at `now`.
    pub(crate) fn readiness(&self, partition: &PartitionQueue, now: Instant) -> Readiness {
        let hurried = self.books.is_hurried() || self.is_closed();
        let mut queue = partition.queue.lock();
        let Some(first) = queue.batches.front() else {
            // From here on the next record makes news.
            queue.is_listed = false;
            return Readiness::Empty;
        };
        let leaves_at = first.created + self.linger;
        if hurried || first.is_full || queue.batches.len() > 1 || leaves_at <= now {
            Readiness::Ready
        } else {
            Readiness::At(leaves_at)
        }
    }

    /// Takes the first batch, which takes no more records.
    pub(crate) fn take(partition: &PartitionQueue) -> Option<OpenBatch> {
        let mut queue = partition.queue.lock();
        let batch = queue.batches.pop_front()?;
        queue.size_hint = batch.builder.estimated_size();
        partition.waiting.store(queue.batches.len(), Ordering::Relaxed);
        Some(batch)
    }

    /// The size of the first batch, before compression.
    pub(crate) fn next_size(partition: &PartitionQueue) -> usize {
        let queue = partition.queue.lock();
        queue
            .batches
            .front()
            .map_or(0, |first| first.builder.estimated_size())
    }

    /// When the first batch was begun.
    pub(crate) fn oldest(partition: &PartitionQueue) -> Option<Instant> {
        partition.queue.lock().batches.front().map(|first| first.created)
    }

    /// Whether no queue holds a record. Once it is closed none will hold one again: whoever was about to append
    /// looks whether it is closed under the lock that is taken here.
    pub(crate) fn is_drained(&self) -> bool {
        let topics: Vec<_> = self.topics.read().values().cloned().collect();
        topics.iter().all(|topic| {
            let queues = topic.queues.read();
            queues.iter().all(|queue| queue.queue.lock().batches.is_empty())
        })
    }

    /// Nothing is appended any more; what is queued leaves at once.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.books.close();
        self.books.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }
}

impl TopicQueues {
    fn queue(&self, index: usize, metadata: &TopicMetadata) -> Result<Arc<PartitionQueue>> {
        let queues = self.queues.read();
        queues.get(index).cloned().ok_or_else(|| Error::NoSuchPartition {
            topic: Arc::clone(&metadata.name),
            partition: -1,
            count: queues.len(),
        })
    }

    /// The partition for the next records without a key: one that has a leader, if there is one.
    fn choose(&self, metadata: &TopicMetadata) -> usize {
        let queues = self.queues.read();
        let waiting = |index: usize| {
            queues
                .get(index)
                .map_or(0, |queue| queue.waiting.load(Ordering::Relaxed))
        };
        let led: Vec<_> = metadata
            .partitions
            .iter()
            .enumerate()
            .filter(|(_, partition)| partition.leader.is_some())
            .map(|(index, _)| (index, waiting(index)))
            .collect();
        choose(&led, |total| fastrand::usize(..total))
            .unwrap_or_else(|| fastrand::usize(..metadata.partitions.len().max(1)))
    }
}

/// A record that does not fit the format; those that are merely too large were refused before.
fn refused(error: &AppendError, limit: usize) -> Error {
    match error {
        AppendError::TooLarge { used, .. } => Error::RecordTooLarge { size: *used, limit },
        AppendError::Offset { .. } | AppendError::Timestamp { .. } => Error::config(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use futures_util::FutureExt as _;
    use log_core::model::TopicId;

    use super::*;
    use crate::metadata::PartitionMetadata;

    const LINGER: Duration = Duration::from_millis(5);
    /// Longer than any healthy run.
    const HANG: Duration = Duration::from_mins(1);

    fn accumulator(batch_bytes: usize, partitions: i32) -> (Accumulator, Arc<TopicQueues>) {
        let accumulator = Accumulator::new(
            batch_bytes,
            LINGER,
            BatchOptions::default(),
            Books::new(1 << 20, None),
        );
        let topic = accumulator.update(&metadata(partitions));
        (accumulator, topic)
    }

    fn metadata(partitions: i32) -> Arc<TopicMetadata> {
        let partitions = (0..partitions).map(|partition| PartitionMetadata {
            partition,
            leader: Some(1),
            leader_epoch: log_core::model::LeaderEpoch::FIRST,
            replicas: Vec::new(),
            in_sync: Vec::new(),
            offline: Vec::new(),
        });
        Arc::new(TopicMetadata {
            name: "t".into(),
            id: TopicId::ZERO,
            is_internal: false,
            partitions: partitions.collect(),
        })
    }

    fn record<'a>(key: Option<&'a [u8]>, value: &'a [u8]) -> Parts<'a> {
        Parts {
            timestamp: TimestampMs::new(0),
            key,
            value: Some(value),
            headers: &[],
        }
    }

    fn append(
        (accumulator, topic): &(Accumulator, Arc<TopicQueues>),
        partition: Option<i32>,
        parts: Parts<'_>,
    ) -> Delivery {
        let size = parts.size_max();
        accumulator.append(topic, partition, &parts, size).unwrap()
    }

    /// Who learned of metadata took the two locks of a topic in the other order than who appends, and both waited for ever.
    #[test]
    fn records_are_appended_while_metadata_are_learned() {
        let both = Arc::new(accumulator(1 << 20, 2));
        let is_over = Arc::new(AtomicBool::new(false));
        let (learner, has_to_end) = (Arc::clone(&both), Arc::clone(&is_over));
        let learning = thread::spawn(move || {
            while !has_to_end.load(Ordering::SeqCst) {
                learner.0.update(&metadata(2));
            }
        });
        let (here, there) = mpsc::channel();
        let appending = thread::spawn(move || {
            for _ in 0..20_000 {
                drop(append(&both, None, record(None, b"x")));
            }
            here.send(()).ok();
        });
        // Two that wait for each other are left behind.
        there.recv_timeout(HANG).expect("nobody waits for ever");
        is_over.store(true, Ordering::SeqCst);
        learning.join().unwrap();
        appending.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_leaves_when_it_is_full_old_or_hurried() {
        let both = accumulator(1100, 1);
        let readiness = |queue: &PartitionQueue| both.0.readiness(queue, Instant::now());
        let first = append(&both, None, record(None, &[1; 300]));
        let queue = both.0.take_fresh().remove(0);
        assert!(matches!(readiness(&queue), Readiness::At(_)));
        {
            let _hurry = both.0.books.hurry();
            assert_eq!(readiness(&queue), Readiness::Ready);
        }
        assert!(matches!(readiness(&queue), Readiness::At(_)));
        tokio::time::advance(LINGER).await;
        assert_eq!(readiness(&queue), Readiness::Ready);

        let batch = Accumulator::take(&queue).unwrap();
        assert_eq!(batch.builder.record_count(), 1);
        assert_eq!(readiness(&queue), Readiness::Empty);
        drop(batch);
        assert!(first.now_or_never().unwrap().is_err());

        let deliveries: Vec<_> = (0..3)
            .map(|_| append(&both, None, record(None, &[1; 300])))
            .collect();
        assert!(matches!(readiness(&queue), Readiness::At(_)));
        drop(append(&both, None, record(None, &[1; 300])));
        assert_eq!(
            readiness(&queue),
            Readiness::Ready,
            "the fourth went into a second batch"
        );
        let full = Accumulator::take(&queue).unwrap();
        assert_eq!(full.builder.record_count(), 3);
        assert!(matches!(readiness(&queue), Readiness::At(_)));
        drop(deliveries);
    }

    #[tokio::test]
    async fn a_record_larger_than_a_batch_has_one_of_its_own() {
        let both = accumulator(100, 1);
        for _ in 0..3 {
            drop(append(&both, Some(0), record(None, &[1; 500])));
        }
        let queue = both.0.take_fresh().remove(0);
        let counts: Vec<_> = std::iter::from_fn(|| Accumulator::take(&queue))
            .map(|batch| batch.builder.record_count())
            .collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[tokio::test]
    async fn keys_choose_the_partition_and_new_partitions_join() {
        let both = accumulator(1000, 6);
        let of_key = |key: &[u8]| append(&both, None, record(Some(key), b"v")).partition().partition;
        let expected = |count: usize| i32::try_from(partition_for_key(b"foobar", count)).unwrap();
        assert_eq!(of_key(b"foobar"), expected(6));
        both.0.update(&metadata(50));
        assert_eq!(of_key(b"foobar"), expected(50));
        assert_eq!(
            append(&both, Some(49), record(None, b"v")).partition().partition,
            49
        );
        let parts = record(None, b"v");
        assert!(matches!(
            both.0.append(&both.1, Some(50), &parts, 10),
            Err(Error::NoSuchPartition {
                partition: 50,
                count: 50,
                ..
            })
        ));
    }

    #[tokio::test]
    async fn a_partition_is_news_once_until_it_was_found_empty() {
        let both = accumulator(1000, 1);
        drop(append(&both, None, record(None, b"v")));
        drop(append(&both, None, record(None, b"v")));
        let queue = both.0.take_fresh();
        assert_eq!(queue.len(), 1);
        drop(Accumulator::take(&queue[0]));
        drop(append(&both, None, record(None, b"v")));
        assert!(both.0.take_fresh().is_empty(), "the sender still looks at it");
        drop(Accumulator::take(&queue[0]));
        assert_eq!(both.0.readiness(&queue[0], Instant::now()), Readiness::Empty);
        drop(append(&both, None, record(None, b"v")));
        assert_eq!(both.0.take_fresh().len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_appended_after_the_end() {
        let both = accumulator(1000, 1);
        assert!(both.0.is_drained());
        let delivery = append(&both, None, record(None, b"v"));
        both.0.close();
        assert!(
            !both.0.is_drained(),
            "what came before the end is still to be sent"
        );
        drop(Accumulator::take(&both.0.take_fresh()[0]));
        assert!(both.0.is_drained() && delivery.now_or_never().is_some());
        let parts = record(None, b"v");
        assert!(matches!(
            both.0.append(&both.1, None, &parts, 10),
            Err(Error::Closed("producer"))
        ));
    }
}
