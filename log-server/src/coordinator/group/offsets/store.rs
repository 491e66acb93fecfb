//! All committed offsets of a shard, kept small: a broker may hold millions.
//!
//! An offset takes 32 bytes in a tree of its group and topic; names are shared; what few commits have (metadata, an expiry, a topic id
//! other than the topic's) lies beside.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::record::{GroupRecord, OffsetCommitValue};

/// All committed offsets of a shard.
#[derive(Debug, Default)]
pub struct OffsetStore {
    groups: BTreeMap<Arc<str>, GroupOffsets>,
    /// The names of all topics in there, each once in memory.
    names: HashSet<Arc<str>>,
    count: usize,
}

/// What one group has committed.
#[derive(Debug, Default)]
struct GroupOffsets {
    topics: BTreeMap<Arc<str>, TopicOffsets>,
}

/// What a group has committed of one topic.
#[derive(Debug)]
struct TopicOffsets {
    /// The id that the first of the commits had.
    id: TopicId,
    partitions: BTreeMap<i32, Committed>,
}

#[derive(Debug)]
struct Committed {
    offset: i64,
    commit_timestamp_ms: i64,
    leader_epoch: i32,
    rare: Option<Box<Rare>>,
}

/// What most commits do not have.
#[derive(Debug, PartialEq, Eq)]
struct Rare {
    metadata: Box<str>,
    expire_timestamp_ms: Option<i64>,
    /// The topic's id, if it is not that of the group's other commits.
    topic_id: Option<TopicId>,
}

/// A committed offset, borrowed from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedOffset<'a> {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client wanted to remember.
    pub metadata: &'a str,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it expires, if the client said so.
    pub expire_timestamp_ms: Option<i64>,
    /// The topic's id; zero if unknown.
    pub topic_id: TopicId,
}

impl CommittedOffset<'_> {
    fn to_value(self) -> OffsetCommitValue {
        OffsetCommitValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.into(),
            commit_timestamp_ms: self.commit_timestamp_ms,
            expire_timestamp_ms: self.expire_timestamp_ms,
            topic_id: self.topic_id,
        }
    }
}

impl Committed {
    fn new(value: &OffsetCommitValue, topic_id: TopicId) -> Self {
        let rare = Rare {
            metadata: (&*value.metadata).into(),
            expire_timestamp_ms: value.expire_timestamp_ms,
            topic_id: (value.topic_id != topic_id).then_some(value.topic_id),
        };
        let is_plain =
            rare.metadata.is_empty() && rare.expire_timestamp_ms.is_none() && rare.topic_id.is_none();
        Self {
            offset: value.offset,
            commit_timestamp_ms: value.commit_timestamp_ms,
            leader_epoch: value.leader_epoch,
            rare: (!is_plain).then(|| Box::new(rare)),
        }
    }

    fn view(&self, topic_id: TopicId) -> CommittedOffset<'_> {
        let rare = self.rare.as_deref();
        CommittedOffset {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: rare.map_or("", |rare| &rare.metadata),
            commit_timestamp_ms: self.commit_timestamp_ms,
            expire_timestamp_ms: rare.and_then(|rare| rare.expire_timestamp_ms),
            topic_id: rare.and_then(|rare| rare.topic_id).unwrap_or(topic_id),
        }
    }
}

impl OffsetStore {
    /// How many offsets there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Stores a commit, or replaces the one before.
    pub(super) fn put(&mut self, group: &Arc<str>, topic: &str, partition: i32, value: &OffsetCommitValue) {
        if !self.groups.contains_key(group) {
            self.groups.insert(Arc::clone(group), GroupOffsets::default());
        }
        let Some(offsets) = self.groups.get_mut(group) else {
            return;
        };
        if !offsets.topics.contains_key(topic) {
            let new = TopicOffsets {
                id: value.topic_id,
                partitions: BTreeMap::new(),
            };
            offsets.topics.insert(shared(&mut self.names, topic), new);
        }
        let Some(topic) = offsets.topics.get_mut(topic) else {
            return;
        };
        let committed = Committed::new(value, topic.id);
        if topic.partitions.insert(partition, committed).is_none() {
            self.count += 1;
        }
    }

    /// Forgets a commit, if there is one.
    pub(super) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(offsets) = self.groups.get_mut(group) else {
            return;
        };
        let Some(of_topic) = offsets.topics.get_mut(topic) else {
            return;
        };
        if of_topic.partitions.remove(&partition).is_none() {
            return;
        }
        self.count -= 1;
        if !of_topic.partitions.is_empty() {
            return;
        }
        offsets.topics.remove(topic);
        if offsets.topics.is_empty() {
            self.groups.remove(group);
        }
        if self
            .names
            .get(topic)
            .is_some_and(|name| Arc::strong_count(name) == 1)
        {
            self.names.remove(topic);
        }
    }

    /// One commit.
    #[must_use]
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<CommittedOffset<'_>> {
        let topic = self.groups.get(group)?.topics.get(topic)?;
        let committed = topic.partitions.get(&partition)?;
        Some(committed.view(topic.id))
    }

    /// All commits of a group: topic, partition and commit, in this order.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32, CommittedOffset<'_>)> {
        self.groups.get(group).into_iter().flat_map(GroupOffsets::iter)
    }

    /// Whether a group has committed anything.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// All commits as records: what a log must hold to be replayed to this state.
    pub fn live_records(&self) -> impl Iterator<Item = GroupRecord> {
        self.groups.iter().flat_map(|(group, offsets)| {
            offsets
                .iter()
                .map(move |(topic, partition, view)| GroupRecord::OffsetCommit {
                    group: Arc::clone(group),
                    topic: Arc::clone(topic),
                    partition,
                    value: Some(view.to_value()),
                })
        })
    }
}

/// The name, once in memory.
fn shared(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let new: Arc<str> = name.into();
    names.insert(Arc::clone(&new));
    new
}

impl GroupOffsets {
    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, CommittedOffset<'_>)> {
        self.topics
            .iter()
            .flat_map(|(name, topic)| topic.iter().map(move |(partition, view)| (name, partition, view)))
    }
}

impl TopicOffsets {
    fn iter(&self) -> impl Iterator<Item = (i32, CommittedOffset<'_>)> {
        let partitions = self.partitions.iter();
        partitions.map(|(partition, committed)| (*partition, committed.view(self.id)))
    }
}
