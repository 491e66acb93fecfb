//! Everybody gets as many partitions as the others, as far as subscriptions allow, and keeps what it has as far as that allows.
//!
//! - Where all are subscribed to the same topics, everybody gets ⌊partitions ÷ members⌋ or one more. Those who have more now
//!   keep the extra ones, the others give up what is above their share, from the topics of which they have the most; so no
//!   more moves than has to. The cost is O(partitions × log topics + members).
//! - Otherwise, free partitions go to the subscriber with the fewest, the topics with the fewest subscribers first. Then, as
//!   long as some member can hand a partition on, over any number of others, so that it ends with one that has at least two
//!   less, the shortest such way is gone. When there is none, the loads are as equal as the subscriptions allow (no assignment
//!   has a smaller sum of squares). A way is found in O(members + subscriptions); there are at most as many as partitions,
//!   and when one member joins, about as many as it is to get.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::assignor::GroupSpec;

/// The partitions of one member: by the place of the topic, in order.
type Held = BTreeMap<usize, Vec<i32>>;

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Assignment> {
    if group.members.is_empty() {
        return Vec::new();
    }
    let mut draft = Draft::keeping(group);
    if group.is_homogeneous() {
        draft.even_out(group);
    } else {
        let subscribers = group.subscribers();
        draft.give_to_the_least_loaded(&subscribers);
        draft.balance(group, &subscribers);
    }
    draft.finish(group)
}

/// An assignment in the making.
struct Draft {
    held: Vec<Held>,
    loads: Vec<usize>,
    /// Partitions that nobody holds, by topic, in order.
    free: Vec<Vec<i32>>,
}

impl Draft {
    /// Everybody keeps what it is to have now, if it exists, it is subscribed to it and nobody else has it.
    fn keeping(group: &GroupSpec<'_>) -> Self {
        let places = group.place_of_topic();
        let counts = group.topics.iter();
        let mut is_free: Vec<Vec<bool>> = counts
            .map(|topic| vec![true; usize::try_from(topic.partition_count).unwrap_or(0)])
            .collect();
        let mut held: Vec<Held> = Vec::with_capacity(group.members.len());
        for member in &group.members {
            let mut keeps = Held::new();
            for (topic_id, partition) in member.target.iter() {
                let Some(topic) = places.get(&topic_id).copied() else {
                    continue;
                };
                if member.topics.binary_search(&topic).is_err() {
                    continue;
                }
                let index = usize::try_from(partition).unwrap_or(usize::MAX);
                let slot = is_free.get_mut(topic).and_then(|slots| slots.get_mut(index));
                if let Some(slot) = slot.filter(|slot| **slot) {
                    *slot = false;
                    keeps.entry(topic).or_default().push(partition);
                }
            }
            held.push(keeps);
        }
        let free = is_free.into_iter().map(|slots| {
            let partitions = (0..).zip(slots);
            partitions
                .filter_map(|(partition, free)| free.then_some(partition))
                .collect()
        });
        Self {
            loads: held
                .iter()
                .map(|held| held.values().map(Vec::len).sum())
                .collect(),
            free: free.collect(),
            held,
        }
    }

    /// For members that are all subscribed to the same.
    fn even_out(&mut self, group: &GroupSpec<'_>) {
        // What nobody is subscribed to is nobody's.
        let subscribed = group
            .members
            .first()
            .map(|member| &*member.topics)
            .unwrap_or_default();
        for (topic, free) in self.free.iter_mut().enumerate() {
            if subscribed.binary_search(&topic).is_err() {
                free.clear();
            }
        }
        let total: usize = self.loads.iter().sum::<usize>() + self.free.iter().map(Vec::len).sum::<usize>();
        let (each, extra) = (total / group.members.len(), total % group.members.len());
        let mut shares = vec![each; self.loads.len()];
        // The extra partitions stay where more than the least share is already.
        let richer =
            (0..shares.len()).filter(|member| self.loads.get(*member).is_some_and(|load| each < *load));
        let others =
            (0..shares.len()).filter(|member| self.loads.get(*member).is_some_and(|load| *load <= each));
        for member in richer.chain(others).take(extra).collect::<Vec<_>>() {
            if let Some(share) = shares.get_mut(member) {
                *share += 1;
            }
        }
        let mut wanting = VecDeque::new();
        for (member, share) in shares.into_iter().enumerate() {
            self.trim(member, share);
            let load = self.loads.get(member).copied().unwrap_or(0);
            if load < share {
                wanting.push_back((member, share - load));
            }
        }
        // Round about, so that everybody gets some of each topic.
        let free = std::mem::take(&mut self.free).into_iter().enumerate();
        for (topic, mut partitions) in free {
            partitions.sort_unstable();
            for partition in partitions {
                let (member, wants) = wanting.pop_front().expect("the shares add up to the partitions");
                self.give(member, topic, partition);
                if 1 < wants {
                    wanting.push_back((member, wants - 1));
                }
            }
        }
    }

    /// Takes from a member what it has above its share: always of the topic it has the most of, the last partition of it.
    fn trim(&mut self, member: usize, share: usize) {
        let (Some(held), Some(load)) = (self.held.get_mut(member), self.loads.get_mut(member)) else {
            return;
        };
        if *load <= share {
            return;
        }
        let mut most: BinaryHeap<(usize, usize)> = held
            .iter()
            .map(|(topic, partitions)| (partitions.len(), *topic))
            .collect();
        while share < *load {
            let Some((count, topic)) = most.pop() else { return };
            let partition = held.get_mut(&topic).and_then(Vec::pop);
            if let (Some(partition), Some(free)) = (partition, self.free.get_mut(topic)) {
                free.push(partition);
                *load -= 1;
                most.push((count - 1, topic));
            }
        }
    }

    fn give_to_the_least_loaded(&mut self, subscribers: &[Vec<usize>]) {
        let mut topics: Vec<usize> = (0..subscribers.len()).collect();
        topics.sort_by_key(|topic| subscribers.get(*topic).map(Vec::len));
        for topic in topics {
            let of_topic = subscribers.get(topic).into_iter().flatten();
            let load = |member: &usize| self.loads.get(*member).copied().unwrap_or(0);
            let mut least: BinaryHeap<_> = of_topic.map(|member| Reverse((load(member), *member))).collect();
            for partition in self.free.get_mut(topic).map(std::mem::take).unwrap_or_default() {
                let Some(Reverse((load, member))) = least.pop() else {
                    break;
                };
                self.give(member, topic, partition);
                least.push(Reverse((load + 1, member)));
            }
        }
    }

    fn give(&mut self, member: usize, topic: usize, partition: i32) {
        if let (Some(held), Some(load)) = (self.held.get_mut(member), self.loads.get_mut(member)) {
            held.entry(topic).or_default().push(partition);
            *load += 1;
        }
    }

    /// Hands partitions on until that makes nothing more equal.
    fn balance(&mut self, group: &GroupSpec<'_>, subscribers: &[Vec<usize>]) {
        loop {
            let mut order: Vec<usize> = (0..group.members.len()).collect();
            order.sort_by_key(|member| Reverse(self.loads.get(*member).copied()));
            let mut moved = false;
            for member in order {
                while let Some(way) = self.way_down(member, subscribers) {
                    self.hand_on(&way);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The shortest way from a member to one that has at least two partitions less: who gets one of which topic, from whom.
    /// The last step stands first.
    fn way_down(&self, from: usize, subscribers: &[Vec<usize>]) -> Option<Vec<Step>> {
        let load = |member: usize| self.loads.get(member).copied().unwrap_or(0);
        let enough = load(from).checked_sub(2)?;
        let mut came: Vec<Option<Step>> = vec![None; self.held.len()];
        let mut seen_topics = vec![false; subscribers.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(giver) = queue.pop_front() {
            for (topic, partitions) in self.held.get(giver).into_iter().flatten() {
                let seen = seen_topics.get_mut(*topic)?;
                if *seen || partitions.is_empty() {
                    continue;
                }
                *seen = true;
                let mut best: Option<usize> = None;
                for taker in subscribers.get(*topic).into_iter().flatten().copied() {
                    let place = came.get_mut(taker)?;
                    if taker == from || place.is_some() {
                        continue;
                    }
                    *place = Some(Step {
                        giver,
                        taker,
                        topic: *topic,
                    });
                    if best.is_none_or(|best| load(taker) < load(best)) {
                        best = Some(taker);
                    }
                    queue.push_back(taker);
                }
                if let Some(end) = best.filter(|best| load(*best) <= enough) {
                    let last = came.get(end).copied().flatten();
                    let steps = std::iter::successors(last, |step| came.get(step.giver).copied().flatten());
                    return Some(steps.collect());
                }
            }
        }
        None
    }

    fn hand_on(&mut self, way: &[Step]) {
        for step in way {
            let held = self
                .held
                .get_mut(step.giver)
                .and_then(|held| held.get_mut(&step.topic));
            let partition = held
                .and_then(Vec::pop)
                .expect("a way begins where there is a partition");
            if let Some(load) = self.loads.get_mut(step.giver) {
                *load -= 1;
            }
            self.give(step.taker, step.topic, partition);
        }
    }

    fn finish(self, group: &GroupSpec<'_>) -> Vec<Assignment> {
        let members = self.held.into_iter().map(|held| {
            let mut assignment = Assignment::default();
            for (topic, mut partitions) in held {
                let Some(topic) = group.topics.get(topic) else {
                    continue;
                };
                partitions.sort_unstable();
                for partition in partitions {
                    assignment.add(topic.id, partition);
                }
            }
            assignment
        });
        members.collect()
    }
}

/// A partition of a topic goes from one member to another.
#[derive(Debug, Clone, Copy)]
struct Step {
    giver: usize,
    taker: usize,
    topic: usize,
}
