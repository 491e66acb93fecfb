//! Records are leased to somebody who is no member of the group, one stretch of a partition at a time.
//!
//! Each of these commands is an ordinary commit, or none: a lease commits the offset at which it begins, with itself as metadata ([`Lease`]); acknowledging it commits
//! the offset behind it, without. A command that changes a lease compares it with the one that is committed, in the same moment.
//!
//! | the partition | is leased | a token of it |
//! |---|---|---|
//! | the group has members | no: they read it | counts for nothing |
//! | a transaction has yet to decide on its offset | no: nobody knows where the group stands | counts for nothing until then |
//! | has a lease that holds | no | counts if it is this lease's |
//! | has a lease that has ended, or none | yes | counts for nothing: the next one may have the records already |
//!
//! So each record is leased until some holder of it acknowledged, and one behind it never before that.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::context::{Context, TopicFacts};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::fetch::is_same;
use crate::coordinator::group::offsets::lease::{Lease, LeaseId, LeaseToken};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::shard::GroupShard;

/// The version of `OffsetCommit` whose errors are the clearest.
const COMMIT_VERSION: i16 = 9;
/// What an `OffsetCommit` says of somebody who is no member.
const NO_GENERATION: i32 = -1;
/// The leader epoch of a record is not known to who leases.
const NO_EPOCH: i32 = -1;

/// A partition as somebody sees it who looks for records to lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasePlace {
    /// The topic.
    pub topic: TopicFacts,
    /// The partition.
    pub partition: i32,
    /// What the group has committed, if anything.
    pub committed: Option<i64>,
    /// When it did; before all others if it never did.
    pub committed_at_ms: i64,
    /// Whether it can be leased.
    pub state: LeaseState,
}

/// Whether a partition can be leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Nobody has it.
    Free,
    /// Somebody has it until the lease ends.
    Leased(Lease),
    /// A transaction has yet to decide where the group stands.
    Undecided,
}

/// Records that somebody has read and wants to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The group.
    pub group: Arc<str>,
    /// The topic that they were read from.
    pub topic: TopicId,
    /// The partition.
    pub partition: i32,
    /// What the group had committed when it was looked at.
    pub committed: Option<i64>,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
    /// For how long.
    pub lease_ms: i64,
}

/// Why a token counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Because of the group.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The lease has ended, was given back or acknowledged, or somebody committed over it. What holds now:
    #[error("the lease has ended, or the group's offset was set since")]
    Lost {
        /// What the group has committed.
        committed: Option<i64>,
        /// When the lease ends that somebody else has.
        leased_until_ms: Option<i64>,
    },
}

impl GroupShard {
    /// All partitions of topics, as somebody sees them who looks for records to lease. Topics that are gone are left out.
    ///
    /// # Errors
    /// The group has members.
    pub fn survey_leases(
        &self,
        context: &Context<'_>,
        group: &str,
        topics: &[TopicId],
    ) -> Result<Vec<LeasePlace>, GroupError> {
        self.check_leasing(group)?;
        let topics = topics.iter().filter_map(|id| context.topics.by_id(*id));
        let places = topics.flat_map(|topic| {
            let partitions = 0..topic.partition_count;
            partitions.map(move |partition| self.lease_place(context, group, topic.clone(), partition))
        });
        Ok(places.collect())
    }

    /// The leases of a group that hold, by topic and partition.
    ///
    /// # Errors
    /// There is no such group.
    pub fn leases(
        &self,
        context: &Context<'_>,
        group: &str,
    ) -> Result<Vec<(Arc<str>, i32, Lease)>, GroupError> {
        if !self.groups.contains_key(group) {
            return Err(unknown_group(group));
        }
        if self.check_leasing(group).is_err() {
            return Ok(Vec::new());
        }
        let places = self.offsets.of_group(group).filter_map(|(name, partition, _)| {
            let topic = context.topics.by_name(name)?;
            let place = self.lease_place(context, group, topic, partition);
            match place.state {
                LeaseState::Leased(lease) => Some((place.topic.name, partition, lease)),
                LeaseState::Free | LeaseState::Undecided => None,
            }
        });
        Ok(places.collect())
    }

    /// Leases records, unless somebody came first: then there is nothing, and the partition has to be looked at again.
    ///
    /// # Errors
    /// The group has members, the topic is gone, or the commit is refused.
    pub fn lease(
        &mut self,
        context: &mut Context<'_>,
        request: &LeaseRequest,
    ) -> Result<Option<Lease>, GroupError> {
        self.check_leasing(&request.group)?;
        let topic = TopicRef::Id(request.topic).resolve(context.topics)?;
        let place = self.lease_place(context, &request.group, topic, request.partition);
        if place.state != LeaseState::Free || place.committed != request.committed {
            return Ok(None);
        }
        let lease = Lease {
            id: LeaseId::new((context.random_id)()),
            from: request.from,
            to: request.to,
            expires_ms: context.now.saturating_plus(request.lease_ms).get(),
        };
        self.commit_for_lease(context, &request.group, &place, lease.from, Some(lease))?;
        Ok(Some(lease))
    }

    /// The records are done with: commits the offset behind them, which is the answer.
    ///
    /// # Errors
    /// The token counts for nothing, or the commit is refused.
    pub fn acknowledge_lease(
        &mut self,
        context: &mut Context<'_>,
        group: &Arc<str>,
        token: &LeaseToken,
    ) -> Result<i64, LeaseError> {
        self.end_lease(context, group, token, |lease| lease.to)
    }

    /// Gives the records back: the next one who asks gets them. Answers where they begin.
    ///
    /// # Errors
    /// The token counts for nothing, or the commit is refused.
    pub fn release_lease(
        &mut self,
        context: &mut Context<'_>,
        group: &Arc<str>,
        token: &LeaseToken,
    ) -> Result<i64, LeaseError> {
        self.end_lease(context, group, token, |lease| lease.from)
    }

    /// Lets the lease end so long from now.
    ///
    /// # Errors
    /// The token counts for nothing, or the commit is refused.
    pub fn extend_lease(
        &mut self,
        context: &mut Context<'_>,
        group: &Arc<str>,
        token: &LeaseToken,
        lease_ms: i64,
    ) -> Result<Lease, LeaseError> {
        let (place, before) = self.held_lease(context, group, token)?;
        let lease = Lease {
            expires_ms: context.now.saturating_plus(lease_ms).get(),
            ..before
        };
        self.commit_for_lease(context, group, &place, lease.from, Some(lease))?;
        Ok(lease)
    }

    /// Ends the lease that a token is of, and commits where the group stands without it.
    fn end_lease(
        &mut self,
        context: &mut Context<'_>,
        group: &Arc<str>,
        token: &LeaseToken,
        stands_at: impl FnOnce(&Lease) -> i64,
    ) -> Result<i64, LeaseError> {
        let (place, lease) = self.held_lease(context, group, token)?;
        let offset = stands_at(&lease);
        self.commit_for_lease(context, group, &place, offset, None)?;
        Ok(offset)
    }

    /// A group without members has leases; one that does not exist begins with its first.
    fn check_leasing(&self, group: &str) -> Result<(), GroupError> {
        match self.groups.get(group) {
            Some(group) if !group.is_empty() => Err(GroupError::NonEmptyGroup),
            Some(_) | None => Ok(()),
        }
    }

    fn lease_place(
        &self,
        context: &Context<'_>,
        group: &str,
        topic: TopicFacts,
        partition: i32,
    ) -> LeasePlace {
        let committed = self.offsets.get(group, &topic.name, partition);
        let committed = committed.filter(|committed| is_same(committed.topic_id, topic.id));
        let lease = committed.as_ref().and_then(Lease::of);
        let state = match lease.filter(|lease| lease.holds_at(context.now)) {
            _ if self.pending.contains(group, &topic.name, partition) => LeaseState::Undecided,
            Some(lease) => LeaseState::Leased(lease),
            None => LeaseState::Free,
        };
        LeasePlace {
            topic,
            partition,
            committed: committed.map(|committed| committed.offset),
            committed_at_ms: committed.map_or(i64::MIN, |committed| committed.commit_timestamp_ms),
            state,
        }
    }

    /// The lease that a token is of.
    fn held_lease(
        &self,
        context: &Context<'_>,
        group: &str,
        token: &LeaseToken,
    ) -> Result<(LeasePlace, Lease), LeaseError> {
        if !self.groups.contains_key(group) {
            return Err(unknown_group(group).into());
        }
        self.check_leasing(group)?;
        let topic = TopicRef::Name(Arc::clone(&token.topic)).resolve(context.topics)?;
        let place = self.lease_place(context, group, topic, token.partition);
        let leased_until_ms = match place.state {
            LeaseState::Leased(lease) if lease.id == token.id => return Ok((place, lease)),
            LeaseState::Leased(other) => Some(other.expires_ms),
            LeaseState::Free | LeaseState::Undecided => None,
        };
        Err(LeaseError::Lost {
            committed: place.committed,
            leased_until_ms,
        })
    }

    fn commit_for_lease(
        &mut self,
        context: &mut Context<'_>,
        group: &Arc<str>,
        place: &LeasePlace,
        offset: i64,
        lease: Option<Lease>,
    ) -> Result<(), GroupError> {
        let request = CommitRequest {
            group: Arc::clone(group),
            member_id: "".into(),
            instance_id: None,
            generation_or_epoch: NO_GENERATION,
            request_version: COMMIT_VERSION,
            retention_ms: None,
            topics: vec![CommitTopic {
                topic: TopicRef::Id(place.topic.id),
                partitions: vec![CommitPartition {
                    partition: place.partition,
                    offset,
                    leader_epoch: NO_EPOCH,
                    metadata: lease.map(|lease| lease.to_string().into()),
                }],
            }],
        };
        let answer = self.commit_offsets(context, &request);
        answer.into_iter().flatten().collect()
    }
}

fn unknown_group(group: &str) -> GroupError {
    GroupError::GroupIdNotFound(format!("Group {group} not found."))
}
