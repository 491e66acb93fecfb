//! A group changes its protocol while it works.
//!
//! - **Up**: a KIP-848 member joins a classic group of the protocol type `consumer`. Its members keep their ids, and what they were assigned
//!   becomes both what they have and their target, in an epoch that is the generation.
//! - **Down**: the last KIP-848 member goes, and classic ones remain. Their targets become their assignments, and they rebalance.
//! - An empty group of either protocol becomes one of the other when somebody joins.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use log_core::model::TopicId;

use crate::coordinator::group::classic::group::{ClassicGroup, select_protocol};
use crate::coordinator::group::classic::member::{ClassicMember, Protocols};
use crate::coordinator::group::classic::reply::{JoinRefused, Reply};
use crate::coordinator::group::consumer::assignment::{Assignment, OwnedPartitions};
use crate::coordinator::group::consumer::group::{ConsumerGroup, FIRST_EPOCH};
use crate::coordinator::group::consumer::member::Current;
use crate::coordinator::group::consumer::timers;
use crate::coordinator::group::context::{Context, Topics};
use crate::coordinator::group::embedded::{
    CONSUMER, EmbeddedAssignment, NamedPartitions, Subscription, read_assignment, read_subscription,
    write_assignment,
};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::{
    ClassicGroupValue, ClassicMemberMetadata, ClassicMemberValue, ConsumerGroupValue, ConsumerMemberValue,
    ConsumerTargetEpochValue, GroupRecord, MemberState,
};
use crate::coordinator::group::settings::MigrationPolicy;
use crate::coordinator::group::timers::Timers;

/// Makes a KIP-848 group of a classic one with members: the records, and the group as they make it. The classic group is left
/// alone, for the member that wants this may yet be refused; when it is not, [`end_waiting`] follows.
pub(super) fn upgrade(
    classic: &ClassicGroup,
    context: &mut Context<'_>,
    group_id: &Arc<str>,
) -> Result<ConsumerGroup, GroupError> {
    let refuse = |reason: &str| {
        let text = format!("Cannot upgrade classic group {group_id} to consumer group because {reason}.");
        Err(GroupError::GroupIdNotFound(text))
    };
    let policy = context.settings.consumer_migration_policy;
    if !matches!(policy, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade) {
        return refuse("online upgrade is disabled");
    }
    if classic.protocol_type() != CONSUMER {
        return refuse("the group does not use the consumer embedded protocol");
    }
    if context.settings.consumer_size_max < classic.members().count() {
        return refuse("the group size exceeds the consumer group maximum size");
    }
    let mut members = Vec::new();
    for (member_id, member) in classic.members() {
        let Some((subscription, assignment)) = read_member(classic, member) else {
            return refuse("the embedded consumer protocol is malformed");
        };
        if assignment.has_user_data {
            let text = format!(
                "Cannot upgrade classic group {group_id} to consumer group because an unsupported custom assignor is in use. \
                 Please refer to the documentation or switch to a default assignor before re-attempting the upgrade."
            );
            return Err(GroupError::GroupIdNotFound(text));
        }
        members.push((Arc::clone(member_id), member.clone(), subscription, assignment));
    }
    // Of a group whose first generation has not begun, too: epoch 0 is a newcomer's.
    let generation = classic.generation().max(FIRST_EPOCH);
    let records = upgrade_records(group_id, generation, &members, context.topics);
    let mut group = ConsumerGroup::new(Arc::clone(group_id));
    for record in &records {
        group.replay(record);
    }
    context.records.extend(records);
    Ok(group)
}

/// A classic group goes over: whoever waits in it is told to join again, and the sessions of all begin in the other protocol.
pub(super) fn end_waiting(
    classic: &mut ClassicGroup,
    timers: &mut Timers,
    context: &mut Context<'_>,
    group: &ConsumerGroup,
) {
    let (joins, syncs) = classic.take_waiting();
    for (member_id, ticket) in joins {
        let error = GroupError::RebalanceInProgress;
        context
            .replies
            .push((ticket, Reply::Join(Err(JoinRefused { error, member_id }))));
    }
    for (_, ticket) in syncs {
        context
            .replies
            .push((ticket, Reply::Sync(Err(GroupError::RebalanceInProgress))));
    }
    for (member_id, member) in &group.members {
        timers::start_session(timers, context, &group.id, member_id, member);
    }
    tracing::info!(
        group = &*group.id,
        members = group.members.len(),
        "a classic group goes over to KIP-848"
    );
}

fn read_member(group: &ClassicGroup, member: &ClassicMember) -> Option<(Subscription, EmbeddedAssignment)> {
    let chosen = group
        .protocol()
        .and_then(|protocol| member.protocols.metadata(protocol));
    let first = member.protocols.as_slice().first().map(|(_, metadata)| metadata);
    let subscription = read_subscription(chosen.or(first)?)?;
    Some((subscription, read_assignment(&member.assignment)?))
}

fn upgrade_records(
    group_id: &Arc<str>,
    generation: i32,
    members: &[(Arc<str>, ClassicMember, Subscription, EmbeddedAssignment)],
    topics: &dyn Topics,
) -> Vec<GroupRecord> {
    let group = || Arc::clone(group_id);
    let mut records = vec![GroupRecord::ClassicGroup {
        group: group(),
        value: None,
    }];
    for (member_id, member, subscription, _) in members {
        let classic = ClassicMemberMetadata {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.as_slice().to_vec(),
        };
        records.push(GroupRecord::ConsumerMember {
            group: group(),
            member: Arc::clone(member_id),
            value: Some(ConsumerMemberValue {
                instance_id: member.instance_id.clone(),
                rack_id: subscription.rack_id.clone(),
                client_id: Arc::clone(&member.client_id),
                client_host: Arc::clone(&member.client_host),
                subscribed_topics: in_order(&subscription.topics),
                subscribed_regex: None,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                server_assignor: None,
                classic: Some(classic),
            }),
        });
    }
    records.push(GroupRecord::ConsumerGroup {
        group: group(),
        value: Some(ConsumerGroupValue {
            epoch: generation,
            metadata_hash: 0,
        }),
    });
    // A leader may have given a partition to two members: the first of them has it.
    let mut taken = HashSet::new();
    let mut currents = Vec::new();
    for (member_id, _, _, assignment) in members {
        let mut target = Assignment::default();
        let mut assigned = OwnedPartitions::default();
        for (topic_id, partition) in places(&assignment.partitions, topics) {
            if taken.insert((topic_id, partition)) {
                target.add(topic_id, partition);
                assigned.add(topic_id, partition, generation);
            }
        }
        records.push(GroupRecord::ConsumerTargetMember {
            group: group(),
            member: Arc::clone(member_id),
            value: Some(target.to_topics()),
        });
        let current = Current {
            epoch: generation,
            previous_epoch: generation,
            state: MemberState::Stable,
            assigned,
            revoking: OwnedPartitions::default(),
        };
        currents.push(GroupRecord::ConsumerCurrentMember {
            group: group(),
            member: Arc::clone(member_id),
            value: Some(current.to_record()),
        });
    }
    records.push(GroupRecord::ConsumerTargetEpoch {
        group: group(),
        value: Some(ConsumerTargetEpochValue {
            assignment_epoch: generation,
            assignment_timestamp_ms: 0,
        }),
    });
    records.append(&mut currents);
    records
}

/// Topics in order, each once.
pub(super) fn in_order(topics: &[Arc<str>]) -> Vec<Arc<str>> {
    let mut topics = topics.to_vec();
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// The partitions of those topics that exist.
pub(super) fn places(named: &NamedPartitions, topics: &dyn Topics) -> Vec<(TopicId, i32)> {
    let mut places = Vec::new();
    for (name, partitions) in named {
        if let Some(topic) = topics.by_name(name) {
            places.extend(partitions.iter().map(|partition| (topic.id, *partition)));
        }
    }
    places
}

/// Partitions by name, for members of the classic protocol. Topics that are gone have no name.
pub(super) fn named(
    partitions: impl Iterator<Item = (TopicId, i32)>,
    topics: &dyn Topics,
) -> NamedPartitions {
    let mut by_name: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for (topic_id, partition) in partitions {
        if let Some(topic) = topics.by_id(topic_id) {
            by_name.entry(topic.name).or_default().push(partition);
        }
    }
    by_name.into_iter().collect()
}

/// What a classic member of a KIP-848 group is told of its assignment.
pub(super) fn embedded_assignment(
    description: &ConsumerMemberValue,
    partitions: impl Iterator<Item = (TopicId, i32)>,
    topics: &dyn Topics,
) -> Bytes {
    let classic = description.classic.as_ref();
    let metadata = classic.and_then(|classic| classic.protocols.first());
    let version = metadata.and_then(|(_, metadata)| read_subscription(metadata));
    write_assignment(
        version.map_or(0, |subscription| subscription.version),
        &named(partitions, topics),
    )
}

/// Whether a group is to become a classic one when these members have gone.
pub(super) fn is_to_downgrade(
    group: &ConsumerGroup,
    context: &Context<'_>,
    gone: &BTreeSet<Arc<str>>,
) -> bool {
    let staying = || group.members.iter().filter(|(id, _)| !gone.contains(*id));
    let policy = context.settings.consumer_migration_policy;
    matches!(
        policy,
        MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade
    ) && staying().all(|(_, member)| member.is_classic())
        && (1..=context.settings.size_max).contains(&staying().count())
}

/// Adds the records by which a group is a classic one, with the members that stay.
pub(super) fn downgrade(group: &ConsumerGroup, context: &mut Context<'_>, gone: &BTreeSet<Arc<str>>) {
    let staying: Vec<_> = group
        .members
        .iter()
        .filter(|(id, _)| !gone.contains(*id))
        .collect();
    let protocols: Vec<Protocols> = staying
        .iter()
        .map(|(_, member)| {
            let classic = member.description.classic.as_ref();
            Protocols::new(
                classic
                    .map(|classic| classic.protocols.clone())
                    .unwrap_or_default(),
            )
        })
        .collect();
    let protocol = select_protocol(protocols.iter());
    let members = staying
        .iter()
        .zip(&protocols)
        .map(|((member_id, member), protocols)| {
            let description = &member.description;
            let metadata = protocol
                .as_deref()
                .and_then(|protocol| protocols.metadata(protocol));
            let classic = description.classic.as_ref();
            ClassicMemberValue {
                member_id: Arc::clone(member_id),
                instance_id: description.instance_id.clone(),
                client_id: Arc::clone(&description.client_id),
                client_host: Arc::clone(&description.client_host),
                rebalance_timeout_ms: description.rebalance_timeout_ms,
                session_timeout_ms: classic.map_or(0, |classic| classic.session_timeout_ms),
                subscription: metadata.cloned().unwrap_or_default(),
                assignment: embedded_assignment(description, group.target(member_id).iter(), context.topics),
            }
        });
    let value = ClassicGroupValue {
        protocol_type: CONSUMER.into(),
        generation: group.epoch,
        protocol: protocol.clone(),
        // Nobody leads yet, and so a start that finds this record rebalances the group: what the others had is nobody's until then. Kafka writes
        // any member here, and forgets to rebalance when it dies in between.
        leader: None,
        state_timestamp_ms: context.now.get(),
        members: members.collect(),
    };
    group.delete_records(&group.id, &mut context.records);
    context.records.push(GroupRecord::ClassicGroup {
        group: Arc::clone(&group.id),
        value: Some(value),
    });
    tracing::info!(
        group = &*group.id,
        members = staying.len(),
        "a KIP-848 group becomes a classic one"
    );
}
