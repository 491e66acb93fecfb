//! A shard with a clock, topics and a log, for tests: every command's records are replayed at once, and what was replayed from
//! the beginning gives the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::{TimestampMs, TopicId};

use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::consumer::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::coordinator::group::context::{Context, LogRange, Ticket, TopicFacts, Topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{CommitKind, Committer, Group};
use crate::coordinator::group::record::{GroupRecord, TopicPartitions};
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;

/// Topics that a test sets.
#[derive(Debug, Default)]
pub(crate) struct SetTopics {
    topics: BTreeMap<String, TopicFacts>,
    version: u64,
}

impl SetTopics {
    pub(crate) fn set(&mut self, name: &str, partition_count: i32) {
        self.version += 1;
        let [high, low] = u16::try_from(self.version).unwrap().to_be_bytes();
        let id = self.topics.get(name).map_or(
            TopicId::from_bytes([9, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            |topic| topic.id,
        );
        let facts = TopicFacts {
            name: name.into(),
            id,
            partition_count,
        };
        self.topics.insert(name.to_owned(), facts);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.version += 1;
        self.topics.remove(name);
    }
}

impl Topics for SetTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        self.topics.get(name).cloned()
    }

    fn by_id(&self, id: TopicId) -> Option<TopicFacts> {
        self.topics.values().find(|topic| topic.id == id).cloned()
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.topics
            .values()
            .map(|topic| Arc::clone(&topic.name))
            .collect()
    }

    fn log_range(&self, _topic: &str, _partition: i32) -> Option<LogRange> {
        None
    }
}

/// The time of day at the beginning.
const TIME_OF_DAY: i64 = 1_700_000_000_000;

pub(crate) struct Broker {
    pub(crate) shard: GroupShard,
    pub(crate) topics: SetTopics,
    pub(crate) settings: GroupSettings,
    pub(crate) log: Vec<GroupRecord>,
    pub(crate) refuse_writes: bool,
    now: i64,
    /// By how much somebody has set the time of day.
    pub(crate) clock_step: i64,
    next_id: u8,
}

impl Broker {
    pub(crate) fn new(topics: &[(&str, i32)]) -> Self {
        let mut broker = Self {
            shard: GroupShard::default(),
            topics: SetTopics::default(),
            settings: GroupSettings::default(),
            log: Vec::new(),
            refuse_writes: false,
            now: 0,
            clock_step: 0,
            next_id: 0,
        };
        for (name, count) in topics {
            broker.topics.set(name, *count);
        }
        broker
    }

    /// Runs a command as the runtime would.
    pub(crate) fn run<R>(&mut self, command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R) -> R {
        self.run_with_replies(command).0
    }

    /// The same, for whom it answered.
    pub(crate) fn parked(
        &mut self,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>),
    ) -> Vec<(Ticket, Reply)> {
        self.run_with_replies(command).1
    }

    fn run_with_replies<R>(
        &mut self,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R,
    ) -> (R, Vec<(Ticket, Reply)>) {
        let mut random_id = || {
            self.next_id += 1;
            [self.next_id; 16]
        };
        let now = TimestampMs::new(TIME_OF_DAY + self.now + self.clock_step);
        let steady = SteadyMs::new(self.now);
        let mut context = Context::new(now, steady, &self.settings, &self.topics, &mut random_id);
        let answer = command(&mut self.shard, &mut context);
        let records = std::mem::take(&mut context.records);
        if self.refuse_writes && !records.is_empty() {
            self.shard.write_refused(&records, &mut context);
            return (answer, context.replies);
        }
        let replies = context.replies;
        for record in &records {
            self.shard.replay(record);
        }
        self.log.extend(records);
        self.assert_replayed();
        (answer, replies)
    }

    /// The state is what the log says.
    fn assert_replayed(&self) {
        let mut loaded = GroupShard::default();
        for record in &self.log {
            loaded.replay(record);
        }
        assert_eq!(hard_state(&loaded), hard_state(&self.shard));
    }

    /// Lets time pass, and what is due happen.
    pub(crate) fn advance(&mut self, milliseconds: i64) {
        self.now += milliseconds;
        while self.run(GroupShard::tick) {}
    }

    pub(crate) fn send(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatResponse, GroupError> {
        self.run(|shard, context| shard.consumer_heartbeat(context, request))
    }

    /// The broker dies and reads its log.
    pub(crate) fn restart(&mut self) {
        self.assert_replayed();
        self.shard = GroupShard::default();
        for record in &self.log {
            self.shard.replay(record);
        }
        self.run(GroupShard::loaded);
    }

    /// A member that says everything, as when it joins.
    pub(crate) fn joining(group: &str, member: &str, topics: &[&str]) -> HeartbeatRequest {
        HeartbeatRequest {
            rebalance_timeout_ms: Some(30_000),
            subscribed_topics: Some(topics.iter().map(|topic| Arc::from(*topic)).collect()),
            owned: Some(Vec::new()),
            ..Self::beating(group, member, 0)
        }
    }

    /// A member that has nothing to say.
    pub(crate) fn beating(group: &str, member: &str, epoch: i32) -> HeartbeatRequest {
        HeartbeatRequest {
            group_id: group.into(),
            member_id: member.into(),
            member_epoch: epoch,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: None,
            subscribed_topics: None,
            subscribed_regex: None,
            server_assignor: None,
            owned: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            version: 1,
        }
    }

    pub(crate) fn join(
        &mut self,
        group: &str,
        member: &str,
        topics: &[&str],
    ) -> Result<HeartbeatResponse, GroupError> {
        self.send(&Self::joining(group, member, topics))
    }

    pub(crate) fn beat(
        &mut self,
        group: &str,
        member: &str,
        epoch: i32,
    ) -> Result<HeartbeatResponse, GroupError> {
        self.send(&Self::beating(group, member, epoch))
    }

    /// A member that says which partitions of the topic `t` it has.
    pub(crate) fn own(
        &mut self,
        group: &str,
        member: &str,
        epoch: i32,
        partitions: &[i32],
    ) -> Result<HeartbeatResponse, GroupError> {
        let topic_id = self.topics.by_name("t").map(|topic| topic.id);
        let owned = topic_id
            .filter(|_| !partitions.is_empty())
            .map(|topic_id| TopicPartitions {
                topic_id,
                partitions: partitions.to_vec(),
            });
        let mut request = Self::beating(group, member, epoch);
        request.owned = Some(owned.into_iter().collect());
        self.send(&request)
    }

    pub(crate) fn join_static(
        &mut self,
        group: &str,
        member: &str,
        instance: &str,
        topics: &[&str],
    ) -> Result<HeartbeatResponse, GroupError> {
        let mut request = Self::joining(group, member, topics);
        request.instance_id = Some(instance.into());
        self.send(&request)
    }

    pub(crate) fn leave_static(
        &mut self,
        group: &str,
        member: &str,
        instance: &str,
        epoch: i32,
    ) -> Result<HeartbeatResponse, GroupError> {
        let mut request = Self::beating(group, member, epoch);
        request.instance_id = Some(instance.into());
        self.send(&request)
    }

    /// Whether a member may commit offsets of the topic `t`.
    pub(crate) fn commit(
        &self,
        group: &str,
        member: &str,
        epoch: i32,
        version: i16,
        partitions: &[i32],
    ) -> Result<(), GroupError> {
        let Group::Consumer(group) = &self.shard.groups[group] else {
            panic!("not of KIP-848");
        };
        let topic_id = self.topics.by_name("t").unwrap().id;
        let mut partitions = partitions.iter().map(|partition| (topic_id, "t", *partition));
        let committer = Committer {
            member_id: member,
            instance_id: None,
            generation_or_epoch: epoch,
            kind: CommitKind::Plain {
                request_version: version,
            },
        };
        group.validate_offset_commit(&committer, &mut partitions)
    }

    pub(crate) fn delete(&mut self, name: &str) -> Result<(), GroupError> {
        self.run(|shard, context| {
            let group = &shard.groups[name];
            group.validate_delete()?;
            group.delete_records(&name.into(), &mut context.records);
            Ok(())
        })
    }

    /// The patterns of a group and what they matched.
    pub(crate) fn regexes(&self, group: &str) -> Vec<String> {
        let Group::Consumer(group) = &self.shard.groups[group] else {
            panic!("not of KIP-848");
        };
        let regexes = group.regexes.iter();
        regexes
            .map(|(regex, value)| format!("{regex}: {}", value.topics.join(" ")))
            .collect()
    }

    pub(crate) fn state(&self, group: &str) -> &'static str {
        match &self.shard.groups[group] {
            Group::Consumer(group) => group.state().name(),
            Group::Classic(_) => "classic",
        }
    }
}

/// The partitions of an answer with one topic.
pub(crate) fn topics(answer: &HeartbeatResponse) -> Option<Vec<i32>> {
    let topics = answer.assignment.as_ref()?;
    Some(topics.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

/// What a restart must find again.
pub(crate) fn hard_state(shard: &GroupShard) -> Vec<String> {
    let groups = shard.groups.values().filter_map(|group| match group {
        Group::Consumer(group) => {
            let mut group = group.clone();
            group.seen = crate::coordinator::group::consumer::group::Seen::default();
            let mut owners: Vec<_> = std::mem::take(&mut group.owners).into_iter().collect();
            owners.sort_unstable();
            Some(format!("{group:?} {owners:?}"))
        }
        Group::Classic(_) => None,
    });
    groups.collect()
}
