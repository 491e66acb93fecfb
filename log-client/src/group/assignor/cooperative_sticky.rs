//! `cooperative-sticky`: members keep what they have, as far as nobody has two more than another who wants the
//! same; and a partition that changes hands is left out until its old reader has given it up, which makes the
//! group work things out once more (KIP-429).
//!
//! What a member says it has counts only in the newest generation that anybody names: an older claim is of
//! somebody who missed a round. Two who claim the same partition in the same generation both lose it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Buf as _;
use log_core::model::TopicPartition;

use super::{Assignments, Member, PartitionCounts, empty, in_order};
use crate::consumer_protocol::Subscription;

pub(super) fn assign(members: &[Member], counts: &PartitionCounts) -> Assignments {
    let ordered = in_order(members);
    let mut assignments = empty(members);
    let mut free = all_partitions(&ordered, counts);
    for (partition, member) in claims(&ordered) {
        let is_wanted = ordered
            .iter()
            .any(|other| other.id == member && other.wants(&partition.topic));
        if is_wanted && free.remove(&partition) {
            give(&mut assignments, &member, partition);
        }
    }
    hand_out(free, &ordered, &mut assignments);
    balance(&ordered, &mut assignments);
    leave_out_what_moves(members, &mut assignments);
    for partitions in assignments.values_mut() {
        partitions.sort_unstable();
    }
    assignments
}

fn give(assignments: &mut Assignments, member: &str, partition: TopicPartition) {
    if let Some(partitions) = assignments.get_mut(member) {
        partitions.push(partition);
    }
}

/// All partitions that somebody wants.
fn all_partitions(members: &[&Member], counts: &PartitionCounts) -> BTreeSet<TopicPartition> {
    let mut all = BTreeSet::new();
    for (topic, count) in counts {
        if members.iter().any(|member| member.wants(topic)) {
            all.extend((0..*count).map(|index| TopicPartition::new(Arc::clone(topic), index)));
        }
    }
    all
}

/// What members have, where that is not in dispute.
fn claims(members: &[&Member]) -> BTreeMap<TopicPartition, String> {
    let newest = members
        .iter()
        .filter_map(|member| generation(&member.subscription))
        .max();
    let mut claims: BTreeMap<TopicPartition, Vec<&str>> = BTreeMap::new();
    for member in members {
        if generation(&member.subscription) != newest {
            continue;
        }
        for partition in &member.subscription.owned {
            claims.entry(partition.clone()).or_default().push(&member.id);
        }
    }
    claims
        .into_iter()
        .filter_map(|(partition, claimants)| match claimants.as_slice() {
            [only] => Some((partition, (*only).to_owned())),
            _ => None,
        })
        .collect()
}

/// The generation in which a member got what it has. Before version 2 of the encoding it stood in the bytes
/// that belong to this assignor.
fn generation(subscription: &Subscription) -> Option<i32> {
    subscription.generation.or_else(|| {
        let mut bytes = subscription.user_data.clone()?;
        bytes.try_get_i32().ok().filter(|generation| 0 <= *generation)
    })
}

/// Gives what nobody has to whoever wants it and has least. Topics that few want come first, while those few
/// still have room.
fn hand_out(free: BTreeSet<TopicPartition>, members: &[&Member], assignments: &mut Assignments) {
    let wanting = |topic: &str| members.iter().filter(|member| member.wants(topic)).count();
    let mut free: Vec<_> = free
        .into_iter()
        .map(|partition| (wanting(&partition.topic), partition))
        .collect();
    free.sort_unstable();
    for (_, partition) in free {
        let least = members
            .iter()
            .filter(|member| member.wants(&partition.topic))
            .min_by_key(|member| assignments.get(&member.id).map_or(0, Vec::len));
        if let Some(member) = least {
            give(assignments, &member.id, partition);
        }
    }
}

/// Moves partitions from those who have most to those who have at least two less and want them, until there is
/// nothing to be moved. Each move makes the loads more equal, so this ends.
fn balance(members: &[&Member], assignments: &mut Assignments) {
    while let Some((from, place, to)) = next_move(members, assignments) {
        let Some(partitions) = assignments.get_mut(&from) else {
            return;
        };
        let partition = partitions.remove(place);
        give(assignments, &to, partition);
    }
}

fn next_move(members: &[&Member], assignments: &Assignments) -> Option<(String, usize, String)> {
    let load = |member: &Member| assignments.get(&member.id).map_or(0, Vec::len);
    let mut by_load: Vec<_> = members.iter().map(|member| (load(member), *member)).collect();
    by_load.sort_by_key(|(load, _)| *load);
    for (most, from) in by_load.iter().rev() {
        let Some(partitions) = assignments.get(&from.id) else {
            continue;
        };
        for (least, to) in &by_load {
            if *most < least + 2 {
                break;
            }
            // The last ones go first: what was got last is missed least.
            let place = partitions
                .iter()
                .rposition(|partition| to.wants(&partition.topic));
            if let Some(place) = place {
                return Some((from.id.clone(), place, to.id.clone()));
            }
        }
    }
    None
}

/// Takes partitions back out that another member says it has: it gives them up first.
fn leave_out_what_moves(members: &[Member], assignments: &mut Assignments) {
    let mut owners: BTreeMap<&TopicPartition, Vec<&str>> = BTreeMap::new();
    for member in members {
        for partition in &member.subscription.owned {
            owners.entry(partition).or_default().push(&member.id);
        }
    }
    for (member, partitions) in assignments {
        partitions.retain(|partition| {
            owners
                .get(partition)
                .is_none_or(|owners| owners.iter().all(|owner| owner == member))
        });
    }
}
