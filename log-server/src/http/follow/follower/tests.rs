//! A follower over partitions in memory, on a clock that stands still until somebody waits.

use std::path::PathBuf;

use log_core::clock::ManualClock;
use log_core::config::LogConfig;
use log_core::fs::mem::MemFileSystem;
use log_core::log::LogContext;
use log_core::log_manager::LogManager;
use log_core::model::TimestampMs;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use tokio::sync::Semaphore;

use super::*;
use crate::http::memory::BodyMemory;
use crate::partition::flusher::FlushQueue;
use crate::partition::partition::Acks;
use crate::partition::registry::TopicSpec;
use crate::shutdown::Shutdown;

const TOPIC: TopicId = TopicId::from_bytes([1; 16]);

struct Storage {
    registry: Arc<PartitionRegistry>,
    shutdown: Shutdown,
}

impl Storage {
    fn with_partitions(count: i32) -> Self {
        let context = LogContext {
            file_system: Arc::new(MemFileSystem::new()),
            clock: Arc::new(ManualClock::new(TimestampMs::new(1))),
        };
        let (manager, _) = LogManager::open(context, PathBuf::from("/data")).unwrap();
        let registry = PartitionRegistry::new(Arc::new(manager), FlushQueue::without_threads(), 1);
        let storage = Self {
            registry,
            shutdown: Shutdown::new(),
        };
        storage.grow_to(count);
        storage
    }

    fn grow_to(&self, partition_count: i32) {
        let topic = TopicSpec {
            name: "events".into(),
            id: TOPIC,
            partition_count,
            config: LogConfig {
                durable: false,
                flush_messages: i64::MAX,
                ..LogConfig::default()
            },
        };
        self.registry.create(&topic).unwrap();
    }

    fn write(&self, partition: i32, key: &str) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(TimestampMs::new(1), Some(key.as_bytes()), Some(b"x"), &[])
            .unwrap();
        let partition = self.registry.get_by_id(TOPIC, partition).unwrap();
        partition.append(&builder.build(), Acks::Leader).unwrap();
    }

    /// A follower of all partitions that wants the records of one key.
    fn follow(&self, key: &str) -> Follower {
        let wishes = Wishes {
            form: Form::Sse,
            isolation: Isolation::Uncommitted,
            filter: Arc::new(Filter::new(Some(key), None, None, None).unwrap()),
            encodings: Encodings::default(),
            limit: None,
            heartbeat: Duration::from_secs(15),
        };
        let means = ReadingMeans {
            memory: BodyMemory::new(1 << 20),
            decoders: Arc::new(Semaphore::new(1)),
            shutdown: self.shutdown.signal(),
        };
        let growth = Growth {
            registry: Arc::clone(&self.registry),
            topic: TOPIC,
        };
        Follower::new(Vec::new(), Vec::new(), Some(growth), wishes, means)
    }
}

async fn next(follower: &mut Follower) -> String {
    String::from_utf8(follower.next().await.unwrap().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_finds_nothing_does_not_silence_the_heartbeat() {
    let storage = Storage::with_partitions(1);
    storage.write(0, "other");
    let mut follower = storage.follow("wanted");
    // As long as the reader of a long log that has nothing for it.
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(next(&mut follower).await, "id: 0:0\n\n");
    assert_eq!(next(&mut follower).await, "id: 0:1\n\n");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_are_followed_from_their_first_record_on() {
    let storage = Storage::with_partitions(1);
    let mut follower = storage.follow("wanted");
    storage.write(0, "wanted");
    assert!(next(&mut follower).await.starts_with("id: 0:1\n"));
    storage.grow_to(2);
    storage.write(1, "wanted");
    let began = Instant::now();
    assert!(next(&mut follower).await.starts_with("id: 0:1,1:1\n"));
    // One that waits is woken, and does not wait for its next heartbeat.
    let (found, ()) = tokio::join!(next(&mut follower), async {
        tokio::task::yield_now().await;
        storage.grow_to(3);
        storage.write(2, "wanted");
    });
    assert!(found.starts_with("id: 0:1,1:1,2:1\n"), "{found}");
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "the clock moves only while all wait"
    );
    storage.grow_to(i32::try_from(PARTITIONS_MAX).unwrap() + 1);
    assert!(next(&mut follower).await.starts_with("event: problem\n"));
    assert!(follower.next().await.is_none());
}
