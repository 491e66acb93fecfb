//! All hosts of one coordinator: one for each partition of its topic, and each name's by Kafka's rule.
//!
//! The topic is made when somebody first asks. From then on each of its partitions has a host, and each host its keeper.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::coordinator::runtime::error::HostError;
use crate::coordinator::runtime::host::{HostContext, ShardHost};
use crate::coordinator::runtime::keeper::{Turns, keep};
use crate::coordinator::runtime::shard::Shard;
use crate::coordinator::runtime::shard_topic::partition_for;
use crate::coordinator::runtime::standing::Standing;
use crate::metadata::error::ControllerError;

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

/// The hosts of one topic.
pub(super) struct ShardHosts<S: Shard> {
    context: Arc<HostContext<S>>,
    /// One for each partition of the topic, once there is one.
    hosts: OnceLock<Box<[Arc<ShardHost<S>>]>>,
    /// Held by the one who makes the topic.
    making: tokio::sync::Mutex<()>,
    turns: Turns,
    keepers: Mutex<Keepers>,
}

#[derive(Debug, Default)]
struct Keepers {
    tasks: Vec<JoinHandle<()>>,
    is_stopped: bool,
}

impl<S: Shard> fmt::Debug for ShardHosts<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ShardHosts")
            .field("topic", &S::TOPIC)
            .finish_non_exhaustive()
    }
}

impl<S: Shard> ShardHosts<S> {
    /// The hosts; if the topic exists, its shards are being loaded when this returns. To be called on a runtime.
    pub(super) fn start(context: HostContext<S>) -> Self {
        let hosts = Self {
            context: Arc::new(context),
            hosts: OnceLock::new(),
            making: tokio::sync::Mutex::default(),
            turns: Turns::new(),
            keepers: Mutex::default(),
        };
        let image = hosts.context.controller.image();
        if let Some(topic) = image.topic(S::TOPIC) {
            // Nobody waits for the first look.
            drop(hosts.open(topic.partition_count));
        }
        hosts
    }

    /// What they share.
    pub(super) fn context(&self) -> &Arc<HostContext<S>> {
        &self.context
    }

    /// Those that there are: none while there is no topic.
    pub(super) fn all(&self) -> &[Arc<ShardHost<S>>] {
        self.hosts.get().map_or(&[][..], |hosts| hosts)
    }

    /// The host of a partition.
    pub(super) fn at(&self, partition: i32) -> Option<&Arc<ShardHost<S>>> {
        self.all().get(usize::try_from(partition).ok()?)
    }

    /// Returns when the name's shard can be asked: the topic is made if need be. A shard that is still being read counts.
    pub(super) async fn ready(&self, name: &str) -> Result<(), HostError> {
        let host = self.host(name).await?;
        if host.standing() != Standing::Absent {
            return Ok(());
        }
        match host.absence() {
            None | Some(HostError::LoadInProgress) => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Runs a command on every shard; one that is not there is an `Err` in its place.
    pub(super) async fn run_all<R: Send + 'static>(
        &self,
        command: impl Fn(&mut S, &mut S::Context<'_>) -> R + Send,
    ) -> Vec<Result<R, HostError>> {
        let begun: Vec<_> = self.all().iter().map(|host| host.begin(&command)).collect();
        let mut answers = Vec::with_capacity(begun.len());
        for pending in begun {
            answers.push(match pending {
                Ok(pending) => pending.finish().await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// How the shards are; none while there is no topic. Never waits.
    pub(super) fn counts(&self) -> ShardCounts {
        let mut counts = ShardCounts::default();
        for host in self.all() {
            match host.standing() {
                Standing::Serving => counts.serving += 1,
                Standing::Loading => counts.loading += 1,
                Standing::Absent => counts.absent += 1,
            }
        }
        counts
    }

    /// Ends the service: no command is carried out any more. What was carried out before is still answered when it is on the disk.
    pub(super) fn close(&self) {
        self.keepers.lock().is_stopped = true;
        for host in self.all() {
            host.stop();
        }
    }

    /// Waits for the tasks behind hosts that were closed.
    pub(super) async fn closed(&self) {
        let tasks = std::mem::take(&mut self.keepers.lock().tasks);
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(topic = S::TOPIC, %error, "a task of the coordinator panicked");
            }
        }
    }

    /// The host of a name's shard. The topic is made if need be.
    pub(super) async fn host(&self, name: &str) -> Result<&Arc<ShardHost<S>>, HostError> {
        let hosts = match self.hosts.get() {
            Some(hosts) => hosts,
            None => self.make().await?,
        };
        let count = i32::try_from(hosts.len()).unwrap_or(i32::MAX);
        let index = usize::try_from(partition_for(name, count)).unwrap_or_default();
        hosts.get(index).ok_or(HostError::NotCoordinator)
    }

    /// Makes the topic, and waits until its shards serve.
    async fn make(&self) -> Result<&[Arc<ShardHost<S>>], HostError> {
        let _turn = self.making.lock().await;
        if let Some(hosts) = self.hosts.get() {
            return Ok(hosts);
        }
        let controller = &self.context.controller;
        let topic = S::new_topic(controller.config());
        let partition_count = match controller.create_topics(vec![topic], false).await.pop() {
            Some(Ok(topic)) => topic.partition_count,
            // It was made by hand.
            Some(Err(ControllerError::TopicExists(_))) => {
                let image = controller.image();
                image.topic(S::TOPIC).map_or(0, |topic| topic.partition_count)
            }
            Some(Err(error)) => {
                tracing::error!(topic = S::TOPIC, operation = "create", %error, "{} are not served", S::NOUN);
                return Err(HostError::NotAvailable(error.to_string()));
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
            .ok_or(HostError::NotCoordinator)
    }

    /// Gives each partition its host and keeper. The receivers end when the first attempt to load has.
    fn open(&self, partition_count: i32) -> Vec<oneshot::Receiver<()>> {
        let partitions = (0..partition_count).map_while(|index| self.context.partitions.get(S::TOPIC, index));
        let hosts: Box<[_]> = partitions
            .map(|partition| ShardHost::new(Arc::clone(&self.context), partition))
            .collect();
        if usize::try_from(partition_count) != Ok(hosts.len()) {
            // With fewer, names would be looked for where they are not.
            tracing::error!(
                topic = S::TOPIC,
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
            let keeper = keep(Arc::clone(host), self.turns.clone(), Some(looked));
            keepers.tasks.push(tokio::spawn(keeper));
        }
        assert!(self.hosts.set(hosts).is_ok(), "the hosts are made once");
        looks
    }
}
