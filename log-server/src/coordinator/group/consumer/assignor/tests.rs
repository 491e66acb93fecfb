//! Assignors: every partition has one owner, loads are as equal as they can be, and nothing moves without need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log_core::model::TopicId;

use super::*;

/// Members by id: static id, topics, what they are to have.
struct Group {
    topics: Vec<TopicSpec>,
    members: BTreeMap<String, (Option<String>, Vec<usize>, Assignment)>,
}

impl Group {
    fn new(partition_counts: &[i32]) -> Self {
        let topics = (1..).zip(partition_counts).map(|(number, count)| TopicSpec {
            id: TopicId::from_bytes([number; 16]),
            partition_count: *count,
        });
        Self {
            topics: topics.collect(),
            members: BTreeMap::new(),
        }
    }

    fn join(&mut self, member_id: &str, topics: &[usize]) {
        let member = (None, topics.to_vec(), Assignment::default());
        self.members.insert(member_id.to_owned(), member);
    }

    fn assign(&mut self, assignor: Assignor) -> usize {
        let members = self
            .members
            .iter()
            .map(|(id, (instance_id, topics, target))| MemberSpec {
                member_id: id,
                instance_id: instance_id.as_deref(),
                topics: Arc::from(topics.as_slice()),
                target,
            });
        let spec = GroupSpec {
            topics: self.topics.clone(),
            members: members.collect(),
        };
        let assignments = assign(assignor, &spec);
        assert_eq!(assignments.len(), self.members.len());
        let mut moved = 0;
        for ((_, _, target), assignment) in self.members.values_mut().zip(assignments) {
            moved += assignment
                .iter()
                .filter(|(topic, partition)| !target.contains(*topic, *partition))
                .count();
            *target = assignment;
        }
        self.check_complete();
        moved
    }

    /// Every partition that somebody is subscribed to has one owner, who is subscribed to it.
    fn check_complete(&self) {
        let mut expected = BTreeSet::new();
        let mut owned = Vec::new();
        for (_, topics, target) in self.members.values() {
            for topic in topics {
                let topic = self.topics[*topic];
                expected.extend((0..topic.partition_count).map(|partition| (topic.id, partition)));
            }
            for (topic_id, partition) in target.iter() {
                assert!(topics.iter().any(|topic| self.topics[*topic].id == topic_id));
                owned.push((topic_id, partition));
            }
        }
        owned.sort_unstable();
        assert_eq!(owned, expected.into_iter().collect::<Vec<_>>());
    }

    fn loads(&self) -> Vec<usize> {
        self.members.values().map(|(_, _, target)| target.len()).collect()
    }

    fn partitions(&self, member_id: &str, topic: usize) -> Vec<i32> {
        self.members[member_id].2.of_topic(self.topics[topic].id).to_vec()
    }
}

#[test]
fn a_second_member_gets_half_and_the_first_keeps_the_rest() {
    let mut group = Group::new(&[6]);
    group.join("a", &[0]);
    assert_eq!(group.assign(Assignor::Uniform), 6);
    group.join("b", &[0]);
    assert_eq!(group.assign(Assignor::Uniform), 3);
    assert_eq!(group.partitions("a", 0), [0, 1, 2]);
    assert_eq!(group.partitions("b", 0), [3, 4, 5]);
    group.members.remove("a");
    assert_eq!(group.assign(Assignor::Uniform), 3);
}

#[test]
fn the_extra_partitions_stay_where_they_are() {
    let mut group = Group::new(&[7]);
    for member in ["a", "b", "c"] {
        group.join(member, &[0]);
        group.assign(Assignor::Uniform);
    }
    let holder = group.loads().iter().position(|load| *load == 3).unwrap();
    // The same group again: nothing moves, whoever holds the extra one.
    assert_eq!(group.assign(Assignor::Uniform), 0);
    let last: Vec<_> = group.members.keys().cloned().collect();
    group.members.remove(&last[(holder + 1) % 3]);
    assert_eq!(group.assign(Assignor::Uniform), 2);
    assert!(group.loads().iter().all(|load| (3..=4).contains(load)));
}

#[test]
fn each_member_gets_some_of_each_topic() {
    let mut group = Group::new(&[4, 4]);
    group.join("a", &[0, 1]);
    group.assign(Assignor::Uniform);
    group.join("b", &[0, 1]);
    group.assign(Assignor::Uniform);
    for topic in [0, 1] {
        assert_eq!(
            (
                group.partitions("a", topic).len(),
                group.partitions("b", topic).len()
            ),
            (2, 2)
        );
    }
}

#[test]
fn a_way_over_a_third_member_makes_loads_equal() {
    // a reads x, b reads x and y, c reads y and z, d reads z.
    let mut group = Group::new(&[3, 1, 1]);
    group.join("a", &[0]);
    group.join("b", &[0, 1]);
    group.assign(Assignor::Uniform);
    group.join("c", &[1, 2]);
    group.join("d", &[2]);
    group.assign(Assignor::Uniform);
    // b hands its y to c, c leaves z to d, and b takes an x from a.
    assert_eq!(group.loads().iter().max(), Some(&2));
    assert_eq!(group.loads().iter().sum::<usize>(), 5);
    assert!(group.loads().iter().all(|load| 1 <= *load));
}

#[test]
fn topics_that_shrank_or_are_gone_are_given_up() {
    let mut group = Group::new(&[4, 2]);
    group.join("a", &[0, 1]);
    group.assign(Assignor::Uniform);
    group.topics[0].partition_count = 2;
    group.members.get_mut("a").unwrap().1 = vec![0];
    group.assign(Assignor::Uniform);
    assert_eq!(group.partitions("a", 0), [0, 1]);
    assert_eq!(group.loads(), [2]);
}

#[test]
fn ranges_are_equal_for_topics_of_equal_size_and_follow_static_ids() {
    let mut group = Group::new(&[5, 5, 3]);
    for (member, instance_id) in [("a", None), ("b", Some("2")), ("c", Some("1"))] {
        group.join(member, &[0, 1, 2]);
        group.members.get_mut(member).unwrap().0 = instance_id.map(str::to_owned);
    }
    group.assign(Assignor::Range);
    for topic in [0, 1] {
        assert_eq!(group.partitions("c", topic), [0, 1]);
        assert_eq!(group.partitions("b", topic), [2, 3]);
        assert_eq!(group.partitions("a", topic), [4]);
    }
    assert_eq!(group.partitions("c", 2), [0]);
}

#[test]
fn ranges_count_only_subscribers() {
    let mut group = Group::new(&[4, 3]);
    group.join("a", &[0]);
    group.join("b", &[0, 1]);
    group.assign(Assignor::Range);
    assert_eq!(group.partitions("a", 0), [0, 1]);
    assert_eq!(group.partitions("b", 1), [0, 1, 2]);
}

/// Small groups at random: complete, as equal as possible, and no move without need.
#[test]
fn random_groups_are_complete_balanced_and_sticky() {
    let seed = std::env::var("STRATALOG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("STRATALOG_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let counts: Vec<i32> = (0..random.usize(1..4)).map(|_| random.i32(0..7)).collect();
        let mut group = Group::new(&counts);
        let same = random.bool();
        for _ in 0..random.usize(5..25) {
            if random.u8(..3) == 0 && !group.members.is_empty() {
                let ids: Vec<_> = group.members.keys().cloned().collect();
                group.members.remove(&ids[random.usize(..ids.len())]);
            } else {
                let topics: Vec<usize> = (0..counts.len()).filter(|_| same || random.bool()).collect();
                group.join(&format!("m{:02}", random.u8(..20)), &topics);
            }
            if random.u8(..8) == 0 {
                group.topics[random.usize(..counts.len())].partition_count = random.i32(0..9);
            }
            group.assign(Assignor::Range);
            if group.members.is_empty() {
                continue;
            }
            group.assign(Assignor::Uniform);
            assert_eq!(
                group.assign(Assignor::Uniform),
                0,
                "the same again moves something"
            );
            assert_no_way_down(&group);
        }
    }
}

/// No member can hand a partition on, even over others, to one with two partitions less.
fn assert_no_way_down(group: &Group) {
    let members: Vec<_> = group.members.values().collect();
    let edge = |from: usize, to: usize| {
        let reads = |topic: &usize| members[to].1.contains(topic);
        let held = |topic: &usize| !members[from].2.of_topic(group.topics[*topic].id).is_empty();
        from != to && (0..group.topics.len()).any(|topic| reads(&topic) && held(&topic))
    };
    for from in 0..members.len() {
        let mut reached = BTreeSet::from([from]);
        let mut queue = vec![from];
        while let Some(member) = queue.pop() {
            for next in 0..members.len() {
                if edge(member, next) && reached.insert(next) {
                    queue.push(next);
                }
            }
        }
        let least = reached
            .iter()
            .map(|member| members[*member].2.len())
            .min()
            .unwrap();
        assert!(members[from].2.len() <= least + 1, "{:?}", group.loads());
    }
}
