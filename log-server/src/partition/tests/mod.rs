//! Partitions over the file system in memory, which fails and crashes on purpose.
//!
//! | file | what it proves |
//! |---|---|
//! | `durability` | who is answered when, and that nobody is answered early |
//! | `directories` | what becomes of the partitions of several data directories when one of them fails or is missing |
//! | `failures` | what a failing or full disk does to answers, readers and later writes |
//! | `gathering` | that appends of several tasks are one write, and none is lost or written twice |
//! | `life` | starting, creating, deleting, closing; what housekeeping does |
//! | `transactions` | who may begin and end one, what committed readers see, what survives |
//! | `recompression` | topics that name a codec |
//! | `recreation` | a topic deleted and made anew under load |
//! | `compaction` | what the cleaner does, and what the disk does to it |
//! | `requested` | compactions that somebody asks for |
//! | `runtime` | that nobody holds the threads up that serve everybody |
//! | `concurrency` | many threads at once: what was acknowledged survives a power cut at any moment |

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use log_core::clock::{Clock, ManualClock};
use log_core::config::LogConfig;
use log_core::fs::FsError;
use log_core::fs::mem::MemFileSystem;
use log_core::log::LogContext;
use log_core::log_manager::{Found, LogManager};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId};
use log_core::record::batch::batches;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::segment::segment::Patience;

use super::error::{DurableResult, PartitionError};
use super::flusher::FlushQueue;
use super::partition::{Ack, Acks, Appended, Isolation, Partition, PartitionRead};
use super::registry::{PartitionRegistry, TopicSpec};

mod compaction;
mod concurrency;
mod directories;
mod durability;
mod failures;
mod gathering;
mod life;
mod recompression;
mod recreation;
mod requested;
pub(super) mod runtime;
mod transactions;

/// Longer than any healthy run.
pub(super) const HANG: Duration = Duration::from_secs(30);
const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);

/// A broker's storage without threads: [`Storage::work`] does what they would do.
struct Storage {
    files: MemFileSystem,
    clock: Arc<ManualClock>,
    queue: FlushQueue<Partition>,
    manager: Arc<LogManager>,
    registry: Arc<PartitionRegistry>,
    found: Found,
}

impl Storage {
    fn open(files: &MemFileSystem) -> Self {
        Self::open_with(files, FlushQueue::without_threads())
    }

    fn open_with(files: &MemFileSystem, queue: FlushQueue<Partition>) -> Self {
        Self::open_in(files, queue, &["/data"])
    }

    fn open_in(files: &MemFileSystem, queue: FlushQueue<Partition>, paths: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let shown = Arc::clone(&clock) as Arc<dyn Clock>;
        Self::open_by(files, queue, paths, clock, shown)
    }

    /// With a clock that the test has made; [`Self::clock`] moves nothing.
    fn open_at(files: &MemFileSystem, shown: Arc<dyn Clock>) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        Self::open_by(files, FlushQueue::without_threads(), &["/data"], clock, shown)
    }

    fn open_by(
        files: &MemFileSystem,
        queue: FlushQueue<Partition>,
        paths: &[&str],
        clock: Arc<ManualClock>,
        shown: Arc<dyn Clock>,
    ) -> Self {
        let context = LogContext {
            file_system: Arc::new(files.clone()),
            clock: shown,
        };
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let (manager, found) = LogManager::open_all(context, &paths).unwrap();
        let mut random = fastrand::Rng::new();
        manager.claim("cluster", || random.u128(..).to_string()).unwrap();
        let manager = Arc::new(manager);
        let registry = PartitionRegistry::new(Arc::clone(&manager), queue.clone(), 2);
        Self {
            files: files.clone(),
            clock,
            queue,
            manager,
            registry,
            found,
        }
    }

    /// With one topic of one partition.
    fn with_partition(files: &MemFileSystem, config: LogConfig) -> (Self, Arc<Partition>) {
        let storage = Self::open(files);
        let partition = storage.load_one(config);
        (storage, partition)
    }

    fn load_one(&self, config: LogConfig) -> Arc<Partition> {
        let topic = topic("events", 1, 1, config);
        self.registry.load(&[topic], &self.found, &[]);
        self.registry.get("events", 0).unwrap()
    }

    /// Everything the threads would do.
    fn work(&self) {
        self.queue.run_pending();
    }
}

fn topic(name: &str, id: u8, partition_count: i32, config: LogConfig) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        id: TopicId::from_bytes([id; 16]),
        partition_count,
        config,
    }
}

fn relaxed() -> LogConfig {
    LogConfig {
        durable: false,
        flush_messages: i64::MAX,
        ..LogConfig::default()
    }
}

/// A batch of one record for each value.
fn batch(values: &[&str]) -> Bytes {
    batch_from(values, BatchProducer::default())
}

fn idempotent(values: &[&str], base_sequence: i32) -> Bytes {
    let producer = BatchProducer {
        id: ProducerId::new(7),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(base_sequence),
    };
    batch_from(values, producer)
}

fn batch_from(values: &[&str], producer: BatchProducer) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer,
        ..BatchOptions::default()
    });
    for value in values {
        builder
            .append(NOW, Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build()
}

/// What a consumer sees from `offset` on, to the end.
fn consume(partition: &Partition, offset: i64) -> Vec<String> {
    let mut values = Vec::new();
    let mut scratch = Vec::new();
    let mut next = Offset::new(offset);
    loop {
        let read = PartitionRead {
            offset: next,
            bytes_max: 1 << 20,
            at_least_one_batch: true,
            isolation: Isolation::Uncommitted,
        };
        let slice = partition.read(&read, Patience::MayBlock).unwrap();
        if slice.records.is_empty() {
            return values;
        }
        for batch in batches(&slice.records) {
            let batch = batch.unwrap();
            batch.verify_checksum().unwrap();
            for record in batch.records(&mut scratch, 1 << 20).unwrap() {
                let record = record.unwrap();
                if offset <= record.offset.get() {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
            next = batch.header().next_offset();
        }
    }
}

impl PartitionRegistry {
    /// What housekeeping does now and then, where nothing comes in meanwhile.
    fn checkpoint(&self) -> Result<(), FsError> {
        self.checkpoint_each(|| {});
        self.write_recovery_points()
    }
}

impl Partition {
    /// As [`Self::append_produced`], where nobody waits for a turn.
    pub(crate) fn append(&self, records: &Bytes, acks: Acks) -> Result<Appended, PartitionError> {
        let appending = self.append_produced(records, acks, turns_until());
        appending.now_or_never().expect("a turn is free")
    }
}

fn append(partition: &Partition, values: &[&str], acks: Acks) -> Appended {
    partition.append(&batch(values), acks).unwrap()
}

/// For who waits for a turn at writing a batch anew.
fn turns_until() -> tokio::time::Instant {
    tokio::time::Instant::now() + HANG
}

/// Asks for an answer that has not come yet, or has.
fn answer(ack: &mut Ack) -> Option<DurableResult> {
    match ack {
        Ack::Now => Some(Ok(())),
        Ack::WhenDurable(receiver) => receiver.try_recv().ok(),
    }
}

fn is_latched(ack: &mut Ack) -> bool {
    matches!(answer(ack), Some(Err(PartitionError::Latched { .. })))
}

/// What `work` gives, on a thread of its own: where that hangs, the test fails and says `what` did not happen.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (here, there) = mpsc::channel();
    std::thread::spawn(move || here.send(work()).ok());
    there.recv_timeout(HANG).expect(what)
}

/// Ends the run of several threads when the one who holds it does, by a failed assertion perhaps.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
