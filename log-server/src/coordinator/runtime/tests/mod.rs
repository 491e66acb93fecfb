//! The coordinator over real partitions and metadata on a file system in memory, which fails and crashes on purpose.
//!
//! | file | what it proves |
//! |---|---|
//! | `answers` | who is answered when, and that nobody is answered early |
//! | `failures` | what a failing or full disk does to answers and state |
//! | `lag` | how far groups are behind |
//! | `markers` | every partition of a decided transaction gets its marker, and none comes late |
//! | `tidying` | the log is kept short, and says the same wherever that is interrupted |
//! | `transactions` | offsets that count when their transaction is committed |
//! | `starts` | the topic is made, shards are loaded, and the end |

mod answers;
mod failures;
mod lag;
mod markers;
mod starts;
mod tidying;
mod transactions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log_core::clock::ManualClock;
use log_core::fs::mem::MemFileSystem;
use log_core::log::LogContext;
use log_core::log_manager::LogManager;
use log_core::model::{Offset, TimestampMs, TopicId};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::keys::BrokerConfig;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::{GroupRecord, OffsetCommitValue};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::record::LogRecord as _;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::load;
use crate::coordinator::runtime::shard_topic::{OFFSETS_TOPIC, partition_for};
use crate::coordinator::runtime::tidy::TidyTuning;
use crate::metadata::controller::Controller;
use crate::metadata::leftovers::remove_leftovers;
use crate::metadata::metadata_log::{self, MetadataLog, Tuning};
use crate::partition::flusher::FlushQueue;
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;
use crate::partition_directory::{RegistryDirectory, topic_specs};

const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);
/// Longer than any healthy test; what waits so long would wait for ever.
const HANG: Duration = Duration::from_secs(30);

/// A broker without fronts, whose disk is synced when the test says so.
struct Broker {
    files: MemFileSystem,
    clock: Arc<ManualClock>,
    queue: FlushQueue<Partition>,
    manager: Arc<LogManager>,
    partitions: Arc<PartitionRegistry>,
    groups: Arc<GroupCoordinator>,
}

impl Broker {
    fn start(files: &MemFileSystem) -> Self {
        Self::start_with(files, BrokerConfig::default(), TidyTuning::default())
    }

    fn start_with(files: &MemFileSystem, config: BrokerConfig, tidying: TidyTuning) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let context = LogContext {
            file_system: Arc::new(files.clone()),
            clock: Arc::clone(&clock) as _,
        };
        let config = Arc::new(config);
        let (manager, mut found) = LogManager::open(context, PathBuf::from("/data")).unwrap();
        let manager = Arc::new(manager);
        let (log, image) = MetadataLog::open(Arc::clone(manager.first()), &found, Tuning::new(1000)).unwrap();
        remove_leftovers(&manager, &mut found, &image).unwrap();
        let queue = FlushQueue::without_threads();
        let partitions = PartitionRegistry::new(Arc::clone(&manager), queue.clone(), 1);
        let owned = [metadata_log::partition()];
        partitions.load(&topic_specs(&image, &config), &found, &owned);
        let directory = RegistryDirectory::new(Arc::clone(&partitions));
        let controller = Controller::start(log, image, config, Arc::new(directory)).unwrap();
        let groups = GroupCoordinator::start_with(
            Arc::new(controller),
            Arc::clone(&partitions),
            Arc::clone(&clock) as _,
            tidying,
        );
        Self {
            files: files.clone(),
            clock,
            queue,
            manager,
            partitions,
            groups,
        }
    }

    /// With the topic made and its shards loaded.
    async fn ready(files: &MemFileSystem) -> Self {
        let broker = Self::start(files);
        broker.groups.ready("g").await.unwrap();
        broker
    }

    /// What the flusher's threads would do.
    fn sync(&self) {
        self.queue.run_pending();
    }

    /// The partition that a group's records stand in.
    fn partition_of(&self, group: &str) -> Arc<Partition> {
        let count = (0..).take_while(|index| self.partitions.get(OFFSETS_TOPIC, *index).is_some());
        let count = i32::try_from(count.count()).unwrap();
        let index = partition_for(group, count);
        self.partitions.get(OFFSETS_TOPIC, index).unwrap()
    }

    /// A group whose records stand in another partition.
    fn neighbour_of(&self, group: &str) -> String {
        let names = (0..1000).map(|number| format!("g{number}"));
        let is_elsewhere = |name: &String| self.partition_of(name).name() != self.partition_of(group).name();
        names.into_iter().find(is_elsewhere).unwrap()
    }

    /// A command that is carried out now and answered some time.
    async fn begin(&self, group: &str, offset: i64) -> JoinHandle<Result<i64, GroupError>> {
        let groups = Arc::clone(&self.groups);
        let name: Arc<str> = group.into();
        let (done, carried_out) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let command = |_: &mut GroupShard, context: &mut Context<'_>| {
                context.records.push(commit(&name, offset));
                done.send(()).unwrap();
                offset
            };
            groups.run(&name, command).await
        });
        // Not carried out at all if this fails; the task's answer says why.
        drop(carried_out.await);
        task
    }

    /// Commits, and waits for the disk.
    async fn commit(&self, group: &str, offset: i64) -> Result<i64, GroupError> {
        let task = self.begin(group, offset).await;
        self.sync();
        end_of(task).await
    }

    /// Commits as soon as the shard serves again.
    async fn commit_when_served(&self, group: &str, offset: i64) {
        let again = async {
            loop {
                match self.commit(group, offset).await {
                    Ok(_) => return,
                    Err(
                        GroupError::LoadInProgress | GroupError::NotAvailable(_) | GroupError::Unreadable(_),
                    ) => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        timeout(HANG, again).await.expect("the shard comes back");
    }

    /// A command that reads, and writes nothing.
    async fn look(&self, group: &str) -> Result<(), GroupError> {
        let looked = self.groups.run(group, |_, _| ());
        timeout(HANG, looked).await.expect("it ends")
    }

    /// Closes everything in order.
    async fn stop(self) -> MemFileSystem {
        self.groups.close();
        self.groups.closed().await;
        self.sync();
        assert!(self.partitions.close_all());
        self.files
    }
}

/// A commit for partition 0 of the one topic that is always there: what is committed of others is forgotten.
fn commit(group: &str, offset: i64) -> GroupRecord {
    GroupRecord::OffsetCommit {
        group: group.into(),
        topic: OFFSETS_TOPIC.into(),
        partition: 0,
        value: Some(OffsetCommitValue {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp_ms: NOW.get(),
            expire_timestamp_ms: None,
            topic_id: TopicId::ZERO,
        }),
    }
}

/// The offsets that a partition's records commit, in order, with their groups.
fn commits_in(partition: &Partition) -> Vec<(String, i64)> {
    let offsets = partition.offsets();
    let mut found = Vec::new();
    load::walk(
        partition,
        offsets.log_start,
        offsets.high_watermark,
        |_, record| {
            let decoded = GroupRecord::decode(record.key.unwrap(), record.value).unwrap();
            if let Some(GroupRecord::OffsetCommit {
                group,
                value: Some(value),
                ..
            }) = decoded
            {
                found.push((group.to_string(), value.offset));
            }
            Ok(())
        },
    )
    .unwrap();
    found
}

fn end_offset(partition: &Partition) -> Offset {
    partition.offsets().log_end
}

async fn end_of<R>(task: JoinHandle<R>) -> R {
    timeout(HANG, task).await.expect("it ends").unwrap()
}

/// Lets every task that can go on do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
