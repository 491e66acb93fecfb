//! How far a group has read, as a member asks before it begins to read, or anybody else.
//! Nothing here changes anything.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::store::CommittedOffset;
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::shard::GroupShard;

/// A group, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsetsRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member, for groups of KIP-848; anybody else has none.
    pub member_id: Option<Arc<str>>,
    /// The member's epoch; negative without one.
    pub member_epoch: i32,
    /// Which partitions; `None` for all that the group has committed.
    pub topics: Option<Vec<FetchOffsetsTopic>>,
    /// Whether an offset that a transaction is about to change is refused ([`GroupError::UnstableOffsetCommit`]).
    pub require_stable: bool,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsetsTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// What a group has committed of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic, as it was asked for.
    pub topic: TopicRef,
    /// Its name; empty if there is no topic with that id.
    pub name: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The commit, if there is one.
    pub committed: Result<Option<FetchedOffset>, GroupError>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// What the client wanted to remember.
    pub metadata: Arc<str>,
}

impl FetchedOffset {
    fn new(committed: CommittedOffset<'_>) -> Self {
        Self {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.into(),
        }
    }
}

/// Whether answers name topics by name or by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// By name.
    Name,
    /// By id.
    Id,
}

impl GroupShard {
    /// The offsets that a group has committed. A group that does not exist has committed nothing.
    ///
    /// # Errors
    /// A member of a KIP-848 group is none, or not of this epoch.
    pub fn fetch_offsets(
        &self,
        context: &Context<'_>,
        request: &FetchOffsetsRequest,
        named_by: NamedBy,
    ) -> Result<Vec<FetchedTopic>, GroupError> {
        if let Some(group) = self.groups.get(&request.group) {
            group.validate_offset_fetch(request.member_id.as_deref(), request.member_epoch)?;
        }
        let Some(topics) = &request.topics else {
            return Ok(self.fetch_all_offsets(context, request, named_by));
        };
        let fetched = topics
            .iter()
            .map(|asked| self.fetch_of_topic(context, request, asked));
        Ok(fetched.collect())
    }

    /// All that a group has committed: topic, partition and offset, in this order.
    ///
    /// # Errors
    /// There is no such group.
    pub fn committed_offsets(&self, group: &str) -> Result<Vec<(Arc<str>, i32, i64)>, GroupError> {
        if !self.groups.contains_key(group) {
            return Err(GroupError::GroupIdNotFound(format!("Group {group} not found.")));
        }
        let offsets = self.offsets.of_group(group);
        let rows = offsets.map(|(topic, partition, view)| (Arc::clone(topic), partition, view.offset));
        Ok(rows.collect())
    }

    fn fetch_of_topic(
        &self,
        context: &Context<'_>,
        request: &FetchOffsetsRequest,
        asked: &FetchOffsetsTopic,
    ) -> FetchedTopic {
        let group = &request.group;
        // Commits of a topic that is gone are told by its name until they are gone too.
        let topic = match (&asked.topic, asked.topic.resolve(context.topics)) {
            (_, Ok(topic)) => Ok((topic.name, topic.id)),
            (TopicRef::Name(name), Err(_)) => Ok((Arc::clone(name), TopicId::ZERO)),
            (TopicRef::Id(_), Err(error)) => Err(error),
        };
        let look_up = |partition| {
            let (name, id) = topic.as_ref().map_err(Clone::clone)?;
            self.check_stable(request, name, partition)?;
            let committed = self.offsets.get(group, name, partition);
            let of_this_topic = committed.filter(|committed| is_same(committed.topic_id, *id));
            Ok(of_this_topic.map(FetchedOffset::new))
        };
        let partitions = asked.partitions.iter().map(|partition| FetchedPartition {
            partition: *partition,
            committed: look_up(*partition),
        });
        FetchedTopic {
            topic: asked.topic.clone(),
            name: topic
                .as_ref()
                .map(|(name, _)| Arc::clone(name))
                .unwrap_or_default(),
            partitions: partitions.collect(),
        }
    }

    fn check_stable(
        &self,
        request: &FetchOffsetsRequest,
        topic: &str,
        partition: i32,
    ) -> Result<(), GroupError> {
        if request.require_stable && self.pending.contains(&request.group, topic, partition) {
            return Err(GroupError::UnstableOffsetCommit);
        }
        Ok(())
    }

    /// Topics that no longer exist have no id to be named by. What was committed of a topic that was made anew since is told to nobody.
    fn fetch_all_offsets(
        &self,
        context: &Context<'_>,
        request: &FetchOffsetsRequest,
        named_by: NamedBy,
    ) -> Vec<FetchedTopic> {
        let mut fetched: Vec<FetchedTopic> = Vec::new();
        let mut last: Option<&Arc<str>> = None;
        let mut is_named = true;
        let mut id = TopicId::ZERO;
        for (name, partition, committed) in self.offsets.of_group(&request.group) {
            if last != Some(name) {
                last = Some(name);
                let facts = context.topics.by_name(name);
                id = facts.as_ref().map_or(TopicId::ZERO, |topic| topic.id);
                let topic = match named_by {
                    NamedBy::Name => Some(TopicRef::Name(Arc::clone(name))),
                    NamedBy::Id => facts.map(|topic| TopicRef::Id(topic.id)),
                };
                is_named = topic.is_some();
                fetched.extend(topic.map(|topic| FetchedTopic {
                    topic,
                    name: Arc::clone(name),
                    partitions: Vec::new(),
                }));
            }
            let is_told = is_named && is_same(committed.topic_id, id);
            if let Some(topic) = fetched.last_mut().filter(|_| is_told) {
                let stable = self.check_stable(request, name, partition);
                topic.partitions.push(FetchedPartition {
                    partition,
                    committed: stable.map(|()| Some(FetchedOffset::new(committed))),
                });
            }
        }
        fetched.retain(|topic| !topic.partitions.is_empty());
        fetched
    }
}

/// Whether a commit for one id is one for the other: a topic that was deleted and made anew is another one.
pub(super) fn is_same(committed: TopicId, asked: TopicId) -> bool {
    committed == asked || committed == TopicId::ZERO || asked == TopicId::ZERO
}
