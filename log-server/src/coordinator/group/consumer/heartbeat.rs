//! The one request of the protocol: join, stay, change one's mind, report what was given up, leave.
//! The answer says what the member may read from now on; what it reads beyond that, it is to give up and to say so.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::leave::member_tombstones;
use crate::coordinator::group::consumer::member::{
    Current, JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Member, new_member,
};
use crate::coordinator::group::consumer::migration::{end_waiting, upgrade};
use crate::coordinator::group::consumer::reconcile::Step;
use crate::coordinator::group::consumer::regex;
use crate::coordinator::group::consumer::subscription::Outlook;
use crate::coordinator::group::consumer::target::{self, Target};
use crate::coordinator::group::consumer::timers;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{Group, check_length};
use crate::coordinator::group::record::{
    ConsumerGroupValue, ConsumerMemberValue, GroupRecord, MemberState, TopicPartitions,
};
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;

/// The longest interval, in milliseconds, of a member that waits for partitions others have not given up yet. It learns by asking that they
/// are free, and nobody reads them before: by the usual interval that would be five seconds.
const INTERVAL_WAITING_MS: i32 = 500;

/// `ConsumerGroupHeartbeat`. Where something is missing, the member has nothing new to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: Arc<str>,
    /// The member; may be empty in version 0, when it joins.
    pub member_id: Arc<str>,
    /// 0 to join, -1 to leave, -2 for a static member that will come back.
    pub member_epoch: i32,
    /// The static id.
    pub instance_id: Option<Arc<str>>,
    /// The rack.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: Option<i32>,
    /// Topics by name.
    pub subscribed_topics: Option<Vec<Arc<str>>>,
    /// Topics by pattern.
    pub subscribed_regex: Option<Arc<str>>,
    /// The assignor it wants.
    pub server_assignor: Option<Arc<str>>,
    /// What it reads.
    pub owned: Option<Vec<TopicPartitions>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it comes from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// The request's version.
    pub version: i16,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// The member, named by the coordinator if it had no name.
    pub member_id: Arc<str>,
    /// Its epoch.
    pub member_epoch: i32,
    /// When to ask again: sooner than usual while others have what will be its own; 0 for one that leaves.
    pub heartbeat_interval_ms: i32,
    /// What it may read, if that changed or it has to be told.
    pub assignment: Option<Vec<TopicPartitions>>,
}

impl HeartbeatRequest {
    fn check(&self, settings: &GroupSettings) -> Result<(), GroupError> {
        let refuse = |text: &str| Err(GroupError::InvalidRequest(text.to_owned()));
        let is_blank = |text: &Option<Arc<str>>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        let needs_member_id =
            1 <= self.version || JOIN_EPOCH < self.member_epoch || self.member_epoch == LEAVE_EPOCH;
        if needs_member_id && self.member_id.trim().is_empty() {
            return refuse("MemberId can't be empty.");
        }
        if self.group_id.trim().is_empty() {
            return refuse("GroupId can't be empty.");
        }
        if is_blank(&self.instance_id) {
            return refuse("InstanceId can't be empty.");
        }
        if is_blank(&self.rack_id) {
            return refuse("RackId can't be empty.");
        }
        self.check_lengths()?;
        match self.member_epoch {
            JOIN_EPOCH => {
                if self.rebalance_timeout_ms.is_none() {
                    return refuse("RebalanceTimeoutMs must be provided in first request.");
                }
                if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                    return refuse("TopicPartitions must be empty when (re-)joining.");
                }
                if self.subscribed_topics.is_none() && self.subscribed_regex.is_none() {
                    return refuse(
                        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                    );
                }
            }
            LEAVE_STATIC_EPOCH if self.instance_id.is_none() => return refuse("InstanceId can't be null."),
            epoch if epoch < LEAVE_STATIC_EPOCH => return refuse("MemberEpoch is invalid."),
            _ => {}
        }
        let Some(assignor) = &self.server_assignor else {
            return Ok(());
        };
        if settings.consumer_assignors.iter().any(|name| *name == **assignor) {
            return Ok(());
        }
        Err(GroupError::UnsupportedAssignor(format!(
            "ServerAssignor {assignor} is not supported. Supported assignors: {}.",
            settings.consumer_assignors.join(", ")
        )))
    }

    /// Refuses what no record could hold. The others are compared with what there is, or have limits of their own.
    fn check_lengths(&self) -> Result<(), GroupError> {
        check_length("GroupId", &self.group_id)?;
        check_length("MemberId", &self.member_id)?;
        check_length("InstanceId", self.instance_id.as_deref().unwrap_or_default())?;
        check_length("RackId", self.rack_id.as_deref().unwrap_or_default())?;
        check_length("ClientId", &self.client_id)?;
        let mut topics = self.subscribed_topics.iter().flatten();
        topics.try_for_each(|topic| check_length("a name in SubscribedTopicNames", topic))
    }

    /// Whether the member says all there is to say, as it does when it cannot know what arrived before.
    fn is_full(&self) -> bool {
        let says_topics = self.subscribed_topics.is_some() || self.subscribed_regex.is_some();
        self.rebalance_timeout_ms.is_some() && says_topics && self.owned.is_some()
    }

    /// What the member says of itself, on top of what it said before.
    fn describe(&self, before: &ConsumerMemberValue) -> ConsumerMemberValue {
        let topics = self.subscribed_topics.as_ref().map(|topics| {
            let mut topics = topics.clone();
            topics.sort_unstable();
            topics.dedup();
            topics
        });
        let regex = match &self.subscribed_regex {
            Some(regex) => Some(Arc::clone(regex)).filter(|regex| !regex.is_empty()),
            None => before.subscribed_regex.clone(),
        };
        ConsumerMemberValue {
            instance_id: self.instance_id.clone().or_else(|| before.instance_id.clone()),
            rack_id: self.rack_id.clone().or_else(|| before.rack_id.clone()),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            subscribed_topics: topics.unwrap_or_else(|| before.subscribed_topics.clone()),
            subscribed_regex: regex,
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
            server_assignor: self
                .server_assignor
                .clone()
                .or_else(|| before.server_assignor.clone()),
            classic: None,
        }
    }
}

impl GroupShard {
    /// Carries out a heartbeat.
    ///
    /// # Errors
    /// The request contradicts itself or the group, or the member is not one of the group's.
    pub fn consumer_heartbeat(
        &mut self,
        context: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatResponse, GroupError> {
        request.check(context.settings)?;
        let answer = if request.member_epoch < JOIN_EPOCH {
            self.consumer_leave(context, request)
        } else {
            self.beat(context, request)
        };
        if answer.is_err() {
            context.records.clear();
        }
        answer
    }

    fn beat(
        &mut self,
        context: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatResponse, GroupError> {
        let Self { groups, timers, .. } = self;
        let joins = request.member_epoch == JOIN_EPOCH;
        let mut group = match groups.get(&request.group_id) {
            Some(Group::Classic(classic)) if joins && !classic.is_empty() => {
                Cow::Owned(upgrade(classic, context, &request.group_id)?)
            }
            _ => group_for_heartbeat(groups, context, &request.group_id, joins)?,
        };
        check_not_full(&group, &request.member_id, context.settings)?;
        let mut member_id = Arc::clone(&request.member_id);
        if member_id.is_empty() {
            member_id = TopicId::from_bytes((context.random_id)()).to_string().into();
        }
        let before = find_member(&mut group, context, &member_id, request)?;
        let description = request.describe(&before.description);
        let outcome = step(
            &group,
            context,
            &member_id,
            &before,
            description,
            request.owned.as_deref(),
        )?;
        // Nothing is refused any more.
        let group = match group {
            Cow::Owned(group) => {
                if let Some(Group::Classic(classic)) = groups.get_mut(&request.group_id)
                    && !classic.is_empty()
                {
                    end_waiting(classic, timers, context, &group);
                }
                Cow::Owned(group)
            }
            Cow::Borrowed(_) => group,
        };
        timers::start_session(timers, context, &group.id, &member_id, &outcome.updated);
        timers::stop_classic(timers, &group.id, &member_id);
        if outcome.moved {
            timers::follow_state(timers, context, &group.id, &member_id, &outcome.updated);
        }
        if let Some(Group::Consumer(group)) = groups.get_mut(&request.group_id) {
            group.seen.topics_version = outcome.topics_version;
        }
        let current = &outcome.updated.current;
        let mut heartbeat_interval_ms = context.consumer_heartbeat_interval_ms(&request.group_id);
        if current.state == MemberState::UnreleasedPartitions {
            heartbeat_interval_ms = heartbeat_interval_ms.min(INTERVAL_WAITING_MS);
        }
        let tell = joins || request.is_full() || before.current.assigned != current.assigned;
        Ok(HeartbeatResponse {
            member_id,
            member_epoch: current.epoch,
            heartbeat_interval_ms,
            assignment: tell.then(|| current.assigned.to_topics()),
        })
    }
}

/// The group as this command has to see it.
fn group_for_heartbeat<'a>(
    groups: &'a BTreeMap<Arc<str>, Group>,
    context: &mut Context<'_>,
    group_id: &Arc<str>,
    joins: bool,
) -> Result<Cow<'a, ConsumerGroup>, GroupError> {
    let new_group = || Cow::Owned(ConsumerGroup::new(Arc::clone(group_id)));
    match groups.get(group_id) {
        Some(Group::Consumer(group)) => Ok(Cow::Borrowed(group)),
        Some(Group::Classic(group)) if joins && group.is_empty() => {
            context.records.push(GroupRecord::ClassicGroup {
                group: Arc::clone(group_id),
                value: None,
            });
            Ok(new_group())
        }
        Some(Group::Classic(_)) => Err(GroupError::GroupIdNotFound(format!(
            "Group {group_id} is not a consumer group."
        ))),
        None if joins => Ok(new_group()),
        None => Err(GroupError::GroupIdNotFound(format!(
            "Consumer group {group_id} not found."
        ))),
    }
}

/// Refuses one more member where there are as many as there may be.
pub(super) fn check_not_full(
    group: &ConsumerGroup,
    member_id: &str,
    settings: &GroupSettings,
) -> Result<(), GroupError> {
    if settings.consumer_size_max <= group.members.len() && !group.members.contains_key(member_id) {
        return Err(GroupError::GroupMaxSizeReached(settings.consumer_size_max));
    }
    Ok(())
}

/// The member as it is before this heartbeat; a static member that comes back gets the place of the one before.
fn find_member(
    group: &mut Cow<'_, ConsumerGroup>,
    context: &mut Context<'_>,
    member_id: &Arc<str>,
    request: &HeartbeatRequest,
) -> Result<Member, GroupError> {
    let joins = request.member_epoch == JOIN_EPOCH;
    let Some(instance_id) = &request.instance_id else {
        let member = match group.members.get(member_id) {
            None if joins => new_member(),
            _ => group.member(member_id)?.1.clone(),
        };
        check_epoch(&member, request)?;
        return Ok(member);
    };
    if !joins {
        let member = group.static_member(instance_id, member_id)?.1.clone();
        check_epoch(&member, request)?;
        return Ok(member);
    }
    let Some((holder_id, holder)) = group.holder(instance_id) else {
        return Ok(group.members.get(member_id).cloned().unwrap_or_else(new_member));
    };
    if **holder_id == **member_id && !holder.is_classic() && holder.current.epoch != LEAVE_STATIC_EPOCH {
        // It is the member itself, and did not hear that it has joined. Kafka 4.3 refuses it, which ends its client.
        return Ok(holder.clone());
    }
    if !holder.is_classic() {
        ConsumerGroup::check_released(holder_id, holder, instance_id, member_id)?;
    }
    let (holder_id, holder) = (Arc::clone(holder_id), holder.clone());
    Ok(replace_member(group, context, &holder_id, &holder, member_id))
}

/// Puts a member with another id, and no epoch yet, into the place of a static member.
pub(super) fn replace_member(
    group: &mut Cow<'_, ConsumerGroup>,
    context: &mut Context<'_>,
    holder_id: &Arc<str>,
    holder: &Member,
    member_id: &Arc<str>,
) -> Member {
    let member = Member {
        description: Arc::clone(&holder.description),
        current: Arc::new(Current {
            epoch: JOIN_EPOCH,
            previous_epoch: JOIN_EPOCH,
            ..(*holder.current).clone()
        }),
    };
    let target = group.target(holder_id);
    let group_id = || Arc::clone(&group.id);
    let mut records = member_tombstones(&group.id, holder_id);
    records.push(GroupRecord::ConsumerMember {
        group: group_id(),
        member: Arc::clone(member_id),
        value: Some((*member.description).clone()),
    });
    records.push(GroupRecord::ConsumerTargetMember {
        group: group_id(),
        member: Arc::clone(member_id),
        value: Some(target.to_topics()),
    });
    records.push(GroupRecord::ConsumerCurrentMember {
        group: group_id(),
        member: Arc::clone(member_id),
        value: Some(member.current.to_record()),
    });
    // What follows has to see the group without the member that was there before.
    let group = group.to_mut();
    for record in &records {
        group.replay(record);
    }
    context.records.append(&mut records);
    member
}

/// Compares the epoch that the member believes in with the one it has.
fn check_epoch(member: &Member, request: &HeartbeatRequest) -> Result<(), GroupError> {
    let (received, known) = (request.member_epoch, member.current.epoch);
    if received == JOIN_EPOCH || received == known {
        return Ok(());
    }
    // The answer with the newer epoch may have been lost: then the member has nothing that is not its own.
    let lost_an_answer = received < known && received == member.current.previous_epoch && {
        let owned = request.owned.as_deref();
        owned.is_some_and(|owned| member.current.assigned.contains_all(owned))
    };
    if lost_an_answer {
        return Ok(());
    }
    let than = if known < received { "greater" } else { "smaller" };
    Err(GroupError::FencedMemberEpoch(format!(
        "The consumer group member has a {than} member epoch ({received}) than the one known by the group coordinator ({known}). \
         The member must abandon all its partitions and rejoin."
    )))
}

/// What a heartbeat did.
pub(super) struct Outcome {
    pub(super) updated: Member,
    /// Whether epoch, state or partitions changed.
    moved: bool,
    /// The version of the topics that the group is known to fit.
    topics_version: Option<u64>,
}

/// Describes the member, raises the group epoch if that is called for, computes a target if there is a new epoch, and moves the
/// member towards it.
pub(super) fn step(
    group: &ConsumerGroup,
    context: &mut Context<'_>,
    member_id: &Arc<str>,
    before: &Member,
    description: ConsumerMemberValue,
    owned: Option<&[TopicPartitions]>,
) -> Result<Outcome, GroupError> {
    let names_changed = description.subscribed_topics != before.description.subscribed_topics;
    let mut updated = before.clone();
    if description != *before.description || !group.members.contains_key(member_id) {
        context.records.push(GroupRecord::ConsumerMember {
            group: Arc::clone(&group.id),
            member: Arc::clone(member_id),
            value: Some(description.clone()),
        });
        updated.description = Arc::new(description);
    }
    let resolved = regex::resolve(
        group,
        context,
        member_id,
        &before.description,
        &updated.description,
    )?;
    let regex_changed = before.description.subscribed_regex != updated.description.subscribed_regex;
    let regexes = &resolved.regexes;
    let outlook = Outlook::with(group, regexes, member_id, &updated);
    let must = names_changed || resolved.changed || group.has_target_of_leader();
    let (epoch, topics_version) = raise_epoch(&outlook, context, must);
    let target = if group.target_epoch < epoch && target::may_assign(group, context) {
        target::compute(&outlook, epoch, member_id, context)
    } else {
        Target {
            epoch: group.target_epoch,
            assignment: group.target(member_id),
        }
    };
    let next = Step {
        group,
        member_id,
        member: &updated,
        target: &target,
        topics: context.topics,
        regexes,
        owned,
        subscription_changed: names_changed || regex_changed,
    }
    .take()?;
    let moved = next.is_some();
    if let Some(next) = next {
        context.records.push(GroupRecord::ConsumerCurrentMember {
            group: Arc::clone(&group.id),
            member: Arc::clone(member_id),
            value: Some(next.to_record()),
        });
        updated.current = Arc::new(next);
    }
    Ok(Outcome {
        updated,
        moved,
        topics_version,
    })
}

/// Raises the group epoch if it must be, or if the topics are not what they were. Answers the epoch, and the version of the topics if
/// the group is known to fit it.
pub(super) fn raise_epoch(
    outlook: &Outlook<'_>,
    context: &mut Context<'_>,
    must: bool,
) -> (i32, Option<u64>) {
    let group = outlook.group;
    let version = Some(context.topics.version());
    if !must && group.seen.topics_version == version {
        return (group.epoch, version);
    }
    let metadata_hash = outlook.metadata_hash(context.topics);
    if !must && metadata_hash == group.metadata_hash {
        return (group.epoch, version);
    }
    // It is looked at again next time: these records may yet be refused.
    (add_epoch(group, context, metadata_hash), None)
}

/// Adds the record of the next group epoch.
pub(super) fn add_epoch(group: &ConsumerGroup, context: &mut Context<'_>, metadata_hash: i64) -> i32 {
    let epoch = group.epoch + 1;
    context.records.push(GroupRecord::ConsumerGroup {
        group: Arc::clone(&group.id),
        value: Some(ConsumerGroupValue { epoch, metadata_hash }),
    });
    if group.has_partition_metadata {
        context.records.push(GroupRecord::ConsumerPartitionMetadata {
            group: Arc::clone(&group.id),
            exists: false,
        });
    }
    epoch
}
