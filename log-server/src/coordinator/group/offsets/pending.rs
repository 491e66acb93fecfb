//! Offsets that a transaction has committed and not decided on.
//!
//! They lie beside the offsets that count until their transaction's marker stands in the log: then they take the others' place, or
//! are forgotten. A producer has at most one transaction, so its id stands for it.
//!
//! A partition's offset is the one whose record stands last in the log, whichever way it was committed, and not the one whose
//! transaction ended last. So a pending offset is overtaken by whatever was committed for its partition behind its record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log_core::model::ProducerId;

use crate::coordinator::group::record::OffsetCommitValue;

/// What is committed for: group, topic and partition.
pub(super) type Place = (Arc<str>, Arc<str>, i32);

/// What is pending of a group: by topic, partition and producer.
type OfGroup = BTreeMap<Arc<str>, BTreeMap<i32, BTreeMap<ProducerId, Pending>>>;

/// All pending offsets of a shard.
#[derive(Debug, Default)]
pub(in crate::coordinator::group) struct PendingOffsets {
    pub(super) groups: BTreeMap<Arc<str>, OfGroup>,
    /// Where each transaction has committed something.
    places: BTreeMap<ProducerId, BTreeSet<Place>>,
    /// Grows with each record, as offsets in the log do.
    clock: u64,
}

/// An offset that waits for its transaction.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) value: OffsetCommitValue,
    /// When its record came, on the store's clock.
    pub(super) at: u64,
    pub(super) is_overtaken: bool,
}

impl PendingOffsets {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// A transaction commits an offset, perhaps in the place of an earlier one of its own.
    pub(super) fn put(&mut self, producer: ProducerId, place: Place, value: &OffsetCommitValue) {
        self.clock += 1;
        let pending = Pending {
            value: value.clone(),
            at: self.clock,
            is_overtaken: false,
        };
        let (group, topic, partition) = place.clone();
        let of_group = self.groups.entry(group).or_default();
        let of_partition = of_group.entry(topic).or_default().entry(partition).or_default();
        of_partition.insert(producer, pending);
        self.places.entry(producer).or_default().insert(place);
    }

    /// Something was committed for the partition behind all that is pending.
    pub(super) fn overtake(&mut self, group: &str, topic: &str, partition: i32) {
        self.clock += 1;
        self.overtake_before(self.clock, group, topic, partition);
    }

    fn overtake_before(&mut self, at: u64, group: &str, topic: &str, partition: i32) {
        for pending in self.at_mut(group, topic, partition) {
            pending.is_overtaken |= pending.at < at;
        }
    }

    fn at_mut(&mut self, group: &str, topic: &str, partition: i32) -> impl Iterator<Item = &mut Pending> {
        let of_topic = self.groups.get_mut(group).and_then(|of| of.get_mut(topic));
        let of_partition = of_topic.and_then(|of| of.get_mut(&partition));
        of_partition.into_iter().flat_map(BTreeMap::values_mut)
    }

    /// What was committed for the partition is deleted, whoever did it.
    pub(super) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(of_group) = self.groups.get(group) else {
            return;
        };
        let of_partition = of_group.get(topic).and_then(|of| of.get(&partition));
        let producers: Vec<_> = of_partition
            .into_iter()
            .flat_map(BTreeMap::keys)
            .copied()
            .collect();
        let place = (Arc::from(group), Arc::from(topic), partition);
        for producer in producers {
            self.take_at(producer, &place);
            if let Some(places) = self.places.get_mut(&producer) {
                places.remove(&place);
                if places.is_empty() {
                    self.places.remove(&producer);
                }
            }
        }
    }

    /// A producer's transaction is aborted: nothing of it counts.
    pub(super) fn abort(&mut self, producer: ProducerId) {
        for place in self.places.remove(&producer).unwrap_or_default() {
            self.take_at(producer, &place);
        }
    }

    /// A producer's transaction is committed: what counts from now on, which is all but what was overtaken.
    pub(super) fn commit(&mut self, producer: ProducerId) -> Vec<(Place, OffsetCommitValue)> {
        let mut committed = Vec::new();
        for place in self.places.remove(&producer).unwrap_or_default() {
            let pending = self.take_at(producer, &place);
            let Some(pending) = pending.filter(|pending| !pending.is_overtaken) else {
                continue;
            };
            let (group, topic, partition) = &place;
            self.overtake_before(pending.at, group, topic, *partition);
            committed.push((place, pending.value));
        }
        committed
    }

    fn take_at(&mut self, producer: ProducerId, (group, topic, partition): &Place) -> Option<Pending> {
        let of_group = self.groups.get_mut(group)?;
        let of_topic = of_group.get_mut(topic)?;
        let of_partition = of_topic.get_mut(partition)?;
        let pending = of_partition.remove(&producer);
        if of_partition.is_empty() {
            of_topic.remove(partition);
        }
        if of_topic.is_empty() {
            of_group.remove(topic);
        }
        if of_group.is_empty() {
            self.groups.remove(group);
        }
        pending
    }

    /// Whether a transaction has yet to decide on the partition.
    pub(super) fn contains(&self, group: &str, topic: &str, partition: i32) -> bool {
        let of_topic = self.groups.get(group).and_then(|of| of.get(topic));
        of_topic.is_some_and(|of| of.contains_key(&partition))
    }

    /// The partitions of a group that transactions have yet to decide on, in order.
    pub(in crate::coordinator::group) fn of_group(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }

    /// Whether a transaction has yet to decide on anything of the group.
    pub(in crate::coordinator::group) fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }
}
