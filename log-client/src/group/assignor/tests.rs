//! The assignors by example, and `cooperative-sticky` over random groups: fair, sticky, and nobody gets what
//! another still has.

use super::*;

fn member(id: &str, topics: &[&str], owned: &[(&str, i32)]) -> Member {
    Member {
        id: id.to_owned(),
        instance_id: None,
        subscription: Subscription {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            owned: owned
                .iter()
                .map(|(topic, index)| TopicPartition::new(*topic, *index))
                .collect(),
            generation: (!owned.is_empty()).then_some(5),
            ..Subscription::default()
        },
    }
}

fn counts(topics: &[(&str, i32)]) -> PartitionCounts {
    topics
        .iter()
        .map(|(topic, count)| (Arc::from(*topic), *count))
        .collect()
}

/// The assignment as text: `a: t-0 t-1, b: t-2`.
fn assigned(assignor: Assignor, members: &[Member], topics: &[(&str, i32)]) -> String {
    let assignments = assignor.assign(members, &counts(topics));
    let rows = assignments.iter().map(|(member, partitions)| {
        let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        format!("{member}: {}", partitions.join(" "))
    });
    rows.collect::<Vec<_>>().join(", ")
}

#[test]
fn range_gives_neighbours_and_the_rest_to_the_first() {
    let both = [member("b", &["t", "u"], &[]), member("a", &["t", "u"], &[])];
    assert_eq!(
        assigned(Assignor::Range, &both, &[("t", 3), ("u", 3)]),
        "a: t-0 t-1 u-0 u-1, b: t-2 u-2"
    );
    let mut named = both.clone();
    named[0].instance_id = Some("z".to_owned());
    assert_eq!(
        assigned(Assignor::Range, &named, &[("t", 3)]),
        "a: t-2, b: t-0 t-1",
        "a member with a name of its own comes first"
    );
    let mixed = [member("a", &["t"], &[]), member("b", &["u"], &[])];
    assert_eq!(
        assigned(Assignor::Range, &mixed, &[("t", 2), ("u", 1), ("v", 7)]),
        "a: t-0 t-1, b: u-0"
    );
    assert_eq!(assigned(Assignor::Range, &both, &[("t", 1)]), "a: t-0, b: ");
}

/// The examples of Kafka's documentation.
#[test]
fn round_robin_goes_round() {
    let both = [member("C0", &["t0", "t1"], &[]), member("C1", &["t0", "t1"], &[])];
    assert_eq!(
        assigned(Assignor::RoundRobin, &both, &[("t0", 3), ("t1", 3)]),
        "C0: t0-0 t0-2 t1-1, C1: t0-1 t1-0 t1-2"
    );
    let uneven = [
        member("C0", &["t0"], &[]),
        member("C1", &["t0", "t1"], &[]),
        member("C2", &["t0", "t1", "t2"], &[]),
    ];
    assert_eq!(
        assigned(Assignor::RoundRobin, &uneven, &[("t0", 1), ("t1", 2), ("t2", 3)]),
        "C0: t0-0, C1: t1-0, C2: t1-1 t2-0 t2-1 t2-2"
    );
    assert_eq!(
        assigned(Assignor::RoundRobin, &uneven[..1], &[("none", 4)]),
        "C0: "
    );
}

#[test]
fn a_sticky_partition_moves_in_two_steps() {
    let old: Vec<_> = (0..6).map(|index| ("t", index)).collect();
    let first = [member("a", &["t"], &old), member("b", &["t"], &[])];
    assert_eq!(
        assigned(Assignor::CooperativeSticky, &first, &[("t", 6)]),
        "a: t-0 t-1 t-2, b: ",
        "three are on their way"
    );
    let second = [member("a", &["t"], &old[..3]), member("b", &["t"], &[])];
    assert_eq!(
        assigned(Assignor::CooperativeSticky, &second, &[("t", 6)]),
        "a: t-0 t-1 t-2, b: t-3 t-4 t-5"
    );
}

#[test]
fn an_old_claim_and_a_disputed_one_do_not_count() {
    let mut late = member("b", &["t"], &[("t", 0), ("t", 1)]);
    late.subscription.generation = Some(4);
    let current = member("a", &["t"], &[("t", 0)]);
    assert_eq!(
        assigned(Assignor::CooperativeSticky, &[current, late], &[("t", 2)]),
        "a: , b: t-1",
        "b must first hear that it has lost t-0"
    );
}

#[test]
fn names_are_kafkas() {
    for assignor in Assignor::ALL {
        assert_eq!(assignor.name().parse::<Assignor>().unwrap(), assignor);
    }
    let class = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    assert_eq!(class.parse::<Assignor>().unwrap(), Assignor::CooperativeSticky);
    assert!("sticky".parse::<Assignor>().is_err());
}

/// Members come, go and change their minds; in each round they keep what they were left with.
fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let topics = ["t", "u", "v"];
    let counts: PartitionCounts = topics
        .iter()
        .map(|topic| (Arc::from(*topic), random.i32(0..9)))
        .collect();
    let mut members: Vec<Member> = Vec::new();
    let mut number = 0;
    for generation in 0..30 {
        if members.is_empty() || random.u8(..3) == 0 {
            let wanted: Vec<_> = topics.into_iter().filter(|_| random.u8(..4) > 0).collect();
            members.push(member(&format!("m{number}"), &wanted, &[]));
            number += 1;
        } else if random.u8(..4) == 0 {
            members.swap_remove(random.usize(..members.len()));
        }
        // What moves is given up in one round and taken on in the next; where members want different topics,
        // what is handed out then may make one more move worth it.
        let mut rounds = 0;
        loop {
            assert!(rounds < 6, "seed {seed}: the group does not settle");
            let before: Vec<_> = members
                .iter()
                .map(|member| member.subscription.owned.clone())
                .collect();
            one_round(seed, &mut members, &counts, 6 * generation + rounds);
            rounds += 1;
            let after = members.iter().map(|member| &member.subscription.owned);
            if after.eq(&before) {
                break;
            }
        }
        check_settled(seed, &members, &counts);
    }
}

/// Works out who reads what, and lets everybody take it.
fn one_round(seed: u64, members: &mut [Member], counts: &PartitionCounts, generation: i32) {
    let assignments = Assignor::CooperativeSticky.assign(members, counts);
    let mut readers: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
    for (id, partitions) in &assignments {
        for partition in partitions {
            assert_eq!(
                readers.insert(partition, id),
                None,
                "seed {seed}: {partition} twice"
            );
            let owner = members
                .iter()
                .find(|member| member.subscription.owned.contains(partition));
            assert!(
                owner.is_none_or(|owner| owner.id == *id),
                "seed {seed}: {partition} is taken from under its reader"
            );
        }
    }
    for member in members {
        let own = assignments[&member.id].clone();
        assert!(
            own.iter().all(|partition| member.wants(&partition.topic)),
            "seed {seed}"
        );
        member.subscription.owned = own;
        member.subscription.generation = Some(generation);
    }
}

/// Everything that is wanted is read, nobody could take work off another, and another round changes nothing.
fn check_settled(seed: u64, members: &[Member], counts: &PartitionCounts) {
    let load = |member: &Member| member.subscription.owned.len();
    let wanted: i32 = counts
        .iter()
        .filter(|(topic, _)| members.iter().any(|member| member.wants(topic)))
        .map(|(_, count)| count)
        .sum();
    let read: usize = members.iter().map(load).sum();
    assert_eq!(i32::try_from(read).unwrap(), wanted, "seed {seed}");
    for one in members {
        for other in members {
            let could = one
                .subscription
                .owned
                .iter()
                .any(|partition| other.wants(&partition.topic));
            assert!(!could || load(one) < load(other) + 2, "seed {seed}: {members:?}");
        }
    }
    let again = Assignor::CooperativeSticky.assign(members, counts);
    for member in members {
        assert_eq!(again[&member.id], member.subscription.owned, "seed {seed}");
    }
}

#[test]
fn sticky_groups_settle_fairly_and_nothing_is_read_twice() {
    let given = std::env::var("STRATALOG_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let first = given.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    for seed in first..first + if given.is_some() { 1 } else { 500 } {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
