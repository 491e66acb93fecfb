//! The coordinator of all groups, as the fronts call it.
//!
//! `__consumer_offsets` is made when somebody first asks for a group. From then on each of its partitions has a host, and each
//! group has its partition by its name.

use std::fmt;
use std::sync::{Arc, OnceLock};

use log_core::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::runtime::host::{HostContext, ShardHost};
use crate::coordinator::runtime::keeper::keep;
use crate::coordinator::runtime::lag::OutOfRangeWatch;
use crate::coordinator::runtime::offsets_topic::{OFFSETS_TOPIC, new_topic, partition_for};
use crate::coordinator::runtime::tidy::TidyTuning;
use crate::metadata::controller::Controller;
use crate::metadata::error::ControllerError;
use crate::partition::registry::PartitionRegistry;

/// Coordinates all groups of the broker.
pub struct GroupCoordinator {
    pub(super) context: Arc<HostContext>,
    pub(super) out_of_range: OutOfRangeWatch,
    /// One for each partition of the topic, once there is one.
    hosts: OnceLock<Box<[Arc<ShardHost>]>>,
    /// Held by the one who makes the topic.
    making: tokio::sync::Mutex<()>,
    /// How many shards are read at once.
    loading: Arc<Semaphore>,
    keepers: Mutex<Keepers>,
}

/// Shards by how they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Those that answer.
    pub serving: usize,
    /// Those whose log is being read.
    pub loading: usize,
    /// Those that wait for their log to be mended, or for somebody to mend it.
    pub absent: usize,
}

#[derive(Debug, Default)]
struct Keepers {
    tasks: Vec<JoinHandle<()>>,
    is_stopped: bool,
}

impl fmt::Debug for GroupCoordinator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GroupCoordinator").finish_non_exhaustive()
    }
}

impl GroupCoordinator {
    /// A coordinator; if the topic exists, its shards are being loaded when this returns. To be called on a runtime.
    #[must_use]
    pub fn start(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Self::start_with(controller, partitions, clock, TidyTuning::default())
    }

    /// The same, tidying up as a test wants it.
    pub(super) fn start_with(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        clock: Arc<dyn Clock>,
        tidying: TidyTuning,
    ) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = GroupSettings::from_config(controller.config());
        let coordinator = Arc::new(Self {
            context: Arc::new(HostContext {
                controller,
                partitions,
                clock,
                settings,
                tidying,
            }),
            out_of_range: OutOfRangeWatch::default(),
            hosts: OnceLock::new(),
            making: tokio::sync::Mutex::default(),
            loading: Arc::new(Semaphore::new(threads)),
            keepers: Mutex::default(),
        });
        let image = coordinator.context.controller.image();
        if let Some(topic) = image.topic(OFFSETS_TOPIC) {
            // Nobody waits for the first look.
            drop(coordinator.open(topic.partition_count));
        }
        coordinator
    }

    /// Returns when the group's coordinator can be asked: the topic is made if need be. A shard that is still being read counts:
    /// its groups are told to wait.
    ///
    /// # Errors
    /// The topic cannot be made, or the group's partition is off-line.
    pub async fn ready(&self, group: &str) -> Result<(), GroupError> {
        match self.host(group).await?.absence() {
            None | Some(GroupError::LoadInProgress) => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Runs a command of one group and answers when what it wrote is on the disk.
    ///
    /// # Errors
    /// The group's shard is not there, the log refuses the records, or they may not be on the disk.
    pub async fn run<R: Send + 'static>(
        &self,
        group: &str,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R + Send,
    ) -> Result<R, GroupError> {
        let pending = self.host(group).await?.begin(command)?;
        pending.finish().await
    }

    /// The same for a command whose answer comes later.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_parked(
        &self,
        group: &str,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>, Ticket) + Send,
    ) -> Result<Reply, GroupError> {
        let answer = self.host(group).await?.begin_parked(command)?;
        // A ticket that is thrown away unanswered is a mistake; the client is to look again.
        answer.await.unwrap_or(Err(GroupError::NotCoordinator))
    }

    /// Runs a command on every shard that is loaded (`ListGroups`); a shard that loads is an `Err` in its place. Nothing while
    /// there is no topic.
    pub async fn run_all<R: Send + 'static>(
        &self,
        command: impl Fn(&mut GroupShard, &mut Context<'_>) -> R + Send,
    ) -> Vec<Result<R, GroupError>> {
        let hosts = self.hosts.get().map_or(&[][..], |hosts| hosts);
        let begun: Vec<_> = hosts.iter().map(|host| host.begin(&command)).collect();
        let mut answers = Vec::with_capacity(begun.len());
        for pending in begun {
            answers.push(match pending {
                Ok(pending) => pending.finish().await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// How the shards are; none while there is no topic.
    #[must_use]
    pub fn shard_counts(&self) -> ShardCounts {
        let mut counts = ShardCounts::default();
        for host in self.hosts.get().into_iter().flatten() {
            match host.absence() {
                None => counts.serving += 1,
                Some(GroupError::LoadInProgress) => counts.loading += 1,
                Some(_) => counts.absent += 1,
            }
        }
        counts
    }

    /// Topics were deleted: what was committed of them is forgotten; where that is very much, the rest soon. A shard that is not
    /// loaded finds out when it is.
    pub async fn topics_deleted(&self) {
        drop(self.run_all(GroupShard::topics_deleted).await);
    }

    /// Ends the service: parked requests are answered, and no command is carried out any more. What was carried out
    /// before is still answered when it is on the disk.
    pub fn close(&self) {
        self.keepers.lock().is_stopped = true;
        for host in self.hosts.get().into_iter().flatten() {
            host.stop();
        }
    }

    /// Waits for the tasks behind a coordinator that was closed.
    pub async fn closed(&self) {
        let tasks = std::mem::take(&mut self.keepers.lock().tasks);
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the group coordinator panicked");
            }
        }
    }

    async fn host(&self, group: &str) -> Result<&Arc<ShardHost>, GroupError> {
        let hosts = match self.hosts.get() {
            Some(hosts) => hosts,
            None => self.make().await?,
        };
        let count = i32::try_from(hosts.len()).unwrap_or(i32::MAX);
        let index = usize::try_from(partition_for(group, count)).unwrap_or_default();
        hosts.get(index).ok_or(GroupError::NotCoordinator)
    }

    /// Makes the topic, and waits until its shards serve.
    async fn make(&self) -> Result<&[Arc<ShardHost>], GroupError> {
        let _turn = self.making.lock().await;
        if let Some(hosts) = self.hosts.get() {
            return Ok(hosts);
        }
        let controller = &self.context.controller;
        let config = controller.config();
        let topic = new_topic(
            config.offsets_topic_partitions,
            config.offsets_topic_segment_bytes,
        );
        let partition_count = match controller.create_topics(vec![topic], false).await.pop() {
            Some(Ok(topic)) => topic.partition_count,
            // It was made by hand.
            Some(Err(ControllerError::TopicExists(_))) => {
                let image = controller.image();
                image
                    .topic(OFFSETS_TOPIC)
                    .map_or(0, |topic| topic.partition_count)
            }
            Some(Err(error)) => {
                tracing::error!(topic = OFFSETS_TOPIC, operation = "create", %error, "groups are not served");
                return Err(GroupError::NotAvailable(error.to_string()));
            }
            None => 0,
        };
        for look in self.open(partition_count) {
            // The sender is dropped when the shard was looked at.
            drop(look.await);
        }
        self.hosts
            .get()
            .map(|hosts| &**hosts)
            .ok_or(GroupError::NotCoordinator)
    }

    /// Gives each partition its host and keeper. The receivers end when the first attempt to load has.
    fn open(&self, partition_count: i32) -> Vec<oneshot::Receiver<()>> {
        let partitions =
            (0..partition_count).map_while(|index| self.context.partitions.get(OFFSETS_TOPIC, index));
        let hosts: Box<[_]> = partitions
            .map(|partition| ShardHost::new(Arc::clone(&self.context), partition))
            .collect();
        if usize::try_from(partition_count) != Ok(hosts.len()) {
            // With fewer, groups would be looked for where they are not.
            tracing::error!(
                topic = OFFSETS_TOPIC,
                partition_count,
                found = hosts.len(),
                "partitions are missing"
            );
            return Vec::new();
        }
        let mut keepers = self.keepers.lock();
        if keepers.is_stopped {
            return Vec::new();
        }
        let mut looks = Vec::with_capacity(hosts.len());
        for host in &hosts {
            let (looked, look) = oneshot::channel();
            looks.push(look);
            let keeper = keep(Arc::clone(host), Arc::clone(&self.loading), Some(looked));
            keepers.tasks.push(tokio::spawn(keeper));
        }
        assert!(self.hosts.set(hosts).is_ok(), "the hosts are made once");
        looks
    }
}
