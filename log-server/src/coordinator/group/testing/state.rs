//! Whether two shards are the same, as far as records say what they are.
//! Who waits, timers and what is remembered to save work are not compared.

use std::sync::Arc;

use crate::coordinator::group::group::Group;
use crate::coordinator::group::shard::GroupShard;

/// What is not the same, in words.
pub(crate) fn difference(one: &GroupShard, other: &GroupShard) -> Option<String> {
    offset_difference(one, other).or_else(|| {
        let mut names = one.groups.keys().chain(other.groups.keys());
        names.find_map(|name| group_difference(name, one, other))
    })
}

/// The same for a shard that works, whose classic groups may be on their way to the next record.
pub(crate) fn live_difference(live: &GroupShard, written: &GroupShard) -> Option<String> {
    let is_under_way = |name: &Arc<str>| match live.groups.get(name) {
        Some(Group::Classic(group)) => !group.is_at_rest() || !group.has_recorded(),
        Some(Group::Consumer(_)) | None => false,
    };
    offset_difference(live, written).or_else(|| {
        let names = live.groups.keys().chain(written.groups.keys());
        names
            .filter(|name| !is_under_way(name))
            .find_map(|name| group_difference(name, live, written))
    })
}

fn offset_difference(one: &GroupShard, other: &GroupShard) -> Option<String> {
    if !one.offsets.live_records().eq(other.offsets.live_records()) {
        return Some(format!("{:?}\n{:?}", one.offsets, other.offsets));
    }
    let (one, other) = (one.pending.in_order(), other.pending.in_order());
    (one != other).then(|| format!("{one:?}\n{other:?}"))
}

fn group_difference(name: &Arc<str>, one: &GroupShard, other: &GroupShard) -> Option<String> {
    let (one, other) = (one.groups.get(name), other.groups.get(name));
    let is_same = match (one, other) {
        (Some(Group::Classic(one)), Some(Group::Classic(other))) => one.is_as(other),
        (Some(Group::Consumer(one)), Some(Group::Consumer(other))) => one.is_as(other),
        (one, other) => one.is_none() && other.is_none(),
    };
    (!is_same).then(|| format!("{one:?}\n{other:?}"))
}
