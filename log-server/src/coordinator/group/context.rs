//! What a command is given, and what it gives back besides its answer.
//! The world outside (time, topics, chance) comes in here alone, so that a seed replays a run.

use std::ops::RangeInclusive;
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::{Offset, ProducerEpoch, ProducerId, TimestampMs, TopicId};

use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::settings::GroupSettings;

/// Stands for somebody whose answer comes later: a member that joined and waits for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a group has to know of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// Its partitions are 0 to this number, exclusive.
    pub partition_count: i32,
}

impl TopicFacts {
    /// Whether it has this partition.
    #[must_use]
    pub fn has_partition(&self, partition: i32) -> bool {
        0 <= partition && partition < self.partition_count
    }
}

/// Where the records of a partition begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// The first offset that can be read.
    pub start: Offset,
    /// The offset that the next record gets.
    pub end: Offset,
}

/// What a group sets itself, over the broker's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupOverrides {
    /// `consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub consumer_assignment_interval_ms: Option<i32>,
}

/// The topics as they are at the time of a command.
pub trait Topics {
    /// A number that grows whenever the answers of the others may change.
    fn version(&self) -> u64;
    /// By name.
    fn by_name(&self, name: &str) -> Option<TopicFacts>;
    /// By id.
    fn by_id(&self, id: TopicId) -> Option<TopicFacts>;
    /// The names of all that a pattern may match, in order; the broker's own topics are not among them.
    fn names(&self) -> Vec<Arc<str>>;
    /// Where a partition's records begin and end; `None` if that is not known, because it is off-line or not there.
    fn log_range(&self, topic: &str, partition: i32) -> Option<LogRange>;
    /// What a group sets itself. It stands in the same metadata.
    fn group_overrides(&self, _group: &str) -> GroupOverrides {
        GroupOverrides::default()
    }
}

/// A producer within a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionalProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// What a command sees, and where it puts its effects.
///
/// A command must not change what records describe: it adds records here, and the runtime replays them as soon as they are
/// in the log. What is not in any record (who waits, which timers run) it changes itself.
pub struct Context<'a> {
    /// The time of day, for what is written down.
    pub now: TimestampMs,
    /// The time on a clock that nobody can set, for how long something takes.
    pub steady: SteadyMs,
    /// The broker's settings for groups.
    pub settings: &'a GroupSettings,
    /// The topics.
    pub topics: &'a dyn Topics,
    /// Random bits for ids: from the system in a broker, from a seed in tests.
    pub random_id: &'a mut dyn FnMut() -> [u8; 16],
    /// To be written, in this order, as one batch: all of them survive, or none.
    pub records: Vec<GroupRecord>,
    /// The producer whose transaction the records belong to, if they do.
    pub transaction: Option<TransactionalProducer>,
    /// Answers for those who waited. They leave when the records are on the disk.
    pub replies: Vec<(Ticket, Reply)>,
}

impl<'a> Context<'a> {
    /// A context without effects.
    pub fn new(
        now: TimestampMs,
        steady: SteadyMs,
        settings: &'a GroupSettings,
        topics: &'a dyn Topics,
        random_id: &'a mut dyn FnMut() -> [u8; 16],
    ) -> Self {
        Self {
            now,
            steady,
            settings,
            topics,
            random_id,
            records: Vec::new(),
            transaction: None,
            replies: Vec::new(),
        }
    }
}

impl Context<'_> {
    /// After how long without a heartbeat a member of a KIP-848 group is gone.
    #[must_use]
    pub fn consumer_session_timeout_ms(&self, group: &str) -> i32 {
        let own = self.topics.group_overrides(group).consumer_session_timeout_ms;
        let range = &self.settings.consumer_session_timeout_range_ms;
        within(own, range).unwrap_or(self.settings.consumer_session_timeout_ms)
    }

    /// How often a member of a KIP-848 group is told to say something.
    #[must_use]
    pub fn consumer_heartbeat_interval_ms(&self, group: &str) -> i32 {
        let own = self.topics.group_overrides(group).consumer_heartbeat_interval_ms;
        let range = &self.settings.consumer_heartbeat_interval_range_ms;
        within(own, range).unwrap_or(self.settings.consumer_heartbeat_interval_ms)
    }

    /// How long after one assignment of a KIP-848 group the next may come.
    #[must_use]
    pub fn consumer_assignment_interval_ms(&self, group: &str) -> i32 {
        let own = self.topics.group_overrides(group).consumer_assignment_interval_ms;
        let range = &self.settings.consumer_assignment_interval_range_ms;
        within(own, range).unwrap_or(self.settings.consumer_assignment_interval_ms)
    }
}

/// A group's own value; the broker's range may have become narrower since it was set.
fn within(own: Option<i32>, range: &RangeInclusive<i32>) -> Option<i32> {
    own.map(|own| own.min(*range.end()).max(*range.start()))
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .field("steady", &self.steady)
            .field("records", &self.records)
            .field("replies", &self.replies)
            .finish_non_exhaustive()
    }
}
