//! Offsets that are committed in transactions: when they count, when they are waited for, and what becomes of them when what
//! they belong to goes. What happens live is what a replay gives; each check here is made of both.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use log_core::model::{ProducerEpoch, ProducerId};
use log_core::record::control::TransactionOutcome::{self, Abort, Commit};

use super::{DAY_MS, anonymous, commit, commit_ok, named, with_member, without_member, world};
use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::consumer::member::{Current, unknown_description};
use crate::coordinator::group::context::TransactionalProducer;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::commit::{CommitAnswer, TransactionalCommitRequest};
use crate::coordinator::group::offsets::delete::DeleteOffsetsTopic;
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, FetchOffsetsTopic, NamedBy};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::record::{ConsumerGroupValue, GroupRecord};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::schedules::play;
use crate::coordinator::group::testing::world::World;

const A: ProducerId = ProducerId::new(100);
const B: ProducerId = ProducerId::new(7);

/// A commit in a transaction, by nobody in particular.
fn request(producer: ProducerId, topic: &str, rows: &[(i32, i64)]) -> TransactionalCommitRequest {
    TransactionalCommitRequest {
        producer: TransactionalProducer {
            id: producer,
            epoch: ProducerEpoch::new(0),
        },
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        generation_or_epoch: -1,
        topics: vec![named(topic, rows)],
    }
}

fn commit_in(world: &mut World, request: TransactionalCommitRequest) -> CommitAnswer {
    world
        .run(|shard, context| shard.commit_transactional_offsets(context, request))
        .unwrap()
}

fn pend(world: &mut World, producer: ProducerId, topic: &str, rows: &[(i32, i64)]) {
    let answer = commit_in(world, request(producer, topic, rows));
    assert!(answer.iter().flatten().all(Result::is_ok), "{answer:?}");
}

/// What a shard tells of partitions 0 and 1 of "t" and 0 of "u": an offset, `-`, or `?` where it is to be waited for.
fn told_by(shard: &GroupShard, world: &mut World, require_stable: bool) -> String {
    let request = FetchOffsetsRequest {
        group: "g".into(),
        member_id: None,
        member_epoch: -1,
        topics: Some(vec![
            FetchOffsetsTopic {
                topic: TopicRef::Name("t".into()),
                partitions: vec![0, 1],
            },
            FetchOffsetsTopic {
                topic: TopicRef::Name("u".into()),
                partitions: vec![0],
            },
        ]),
        require_stable,
    };
    let fetched = world
        .run(|_, context| shard.fetch_offsets(context, &request, NamedBy::Name))
        .unwrap()
        .unwrap();
    let rows = fetched.into_iter().flat_map(|topic| topic.partitions);
    let texts = rows.map(|row| match row.committed {
        Ok(Some(committed)) => committed.offset.to_string(),
        Ok(None) => "-".to_owned(),
        Err(GroupError::UnstableOffsetCommit) => "?".to_owned(),
        Err(error) => panic!("{error}"),
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// What both the living shard and a replayed one tell, to those who wait for transactions and to those who do not.
fn told(world: &mut World) -> (String, String) {
    let replayed = world.replayed();
    let of_replayed = [true, false].map(|stable| told_by(&replayed, world, stable));
    let living = std::mem::take(&mut world.shard);
    let [stable, any] = [true, false].map(|stable| told_by(&living, world, stable));
    world.shard = living;
    assert_eq!(of_replayed, [stable.clone(), any.clone()], "replayed differs");
    (stable, any)
}

fn check(world: &mut World, stable: &str, any: &str) {
    assert_eq!(told(world), (stable.to_owned(), any.to_owned()));
}

#[test]
fn an_offset_counts_when_its_transaction_is_committed() {
    let mut world = world();
    commit_ok(&mut world, "t", &[(0, 1)]);
    pend(&mut world, A, "t", &[(0, 5), (1, 6)]);
    check(&mut world, "? ? -", "1 - -");
    world.crash(0);
    check(&mut world, "? ? -", "1 - -");
    pend(&mut world, A, "t", &[(1, 7)]);
    world.end_transaction(A, Commit);
    check(&mut world, "5 7 -", "5 7 -");
    // The next one of the same producer is another.
    pend(&mut world, A, "u", &[(0, 9)]);
    check(&mut world, "5 7 ?", "5 7 -");
    world.end_transaction(A, Abort);
    check(&mut world, "5 7 -", "5 7 -");
    // A marker of a transaction that committed nothing here.
    world.end_transaction(B, Commit);
    check(&mut world, "5 7 -", "5 7 -");
}

#[test]
fn all_offsets_are_asked_for_and_one_is_undecided() {
    let mut world = world();
    commit_ok(&mut world, "t", &[(0, 1), (1, 2)]);
    pend(&mut world, A, "t", &[(1, 6), (2, 6)]);
    let mut request = FetchOffsetsRequest {
        group: "g".into(),
        member_id: None,
        member_epoch: -1,
        topics: None,
        require_stable: true,
    };
    for (require_stable, second) in [
        (true, Err(GroupError::UnstableOffsetCommit)),
        (false, Ok(Some(2))),
    ] {
        request.require_stable = require_stable;
        let fetched = world
            .run(|shard, context| shard.fetch_offsets(context, &request, NamedBy::Name))
            .unwrap()
            .unwrap();
        let rows = fetched.iter().flat_map(|topic| &topic.partitions);
        let rows: Vec<_> = rows
            .map(|row| row.committed.clone().map(|row| row.map(|row| row.offset)))
            .collect();
        // Partition 2 was never committed for: as in Kafka, it is not told of.
        assert_eq!(rows, [Ok(Some(1)), second]);
    }
}

#[test]
fn the_last_record_counts_and_not_the_last_transaction() {
    let mut world = world();
    // Behind its record somebody else commits.
    pend(&mut world, A, "t", &[(0, 5)]);
    commit_ok(&mut world, "t", &[(0, 1)]);
    // Two transactions, the earlier record's is committed last.
    pend(&mut world, A, "t", &[(1, 6)]);
    pend(&mut world, B, "t", &[(1, 7)]);
    check(&mut world, "? ? -", "1 - -");
    world.end_transaction(B, Commit);
    check(&mut world, "? ? -", "1 7 -");
    world.end_transaction(A, Commit);
    check(&mut world, "1 7 -", "1 7 -");
    // The later one is aborted: it overtook nothing.
    pend(&mut world, A, "t", &[(1, 8)]);
    pend(&mut world, B, "t", &[(1, 9)]);
    world.end_transaction(B, Abort);
    world.end_transaction(A, Commit);
    check(&mut world, "1 8 -", "1 8 -");
    // What was overtaken and is committed anew in the same transaction is the last one again.
    pend(&mut world, A, "t", &[(0, 20)]);
    commit_ok(&mut world, "t", &[(0, 21)]);
    pend(&mut world, A, "t", &[(0, 22)]);
    world.end_transaction(A, Commit);
    check(&mut world, "22 8 -", "22 8 -");
}

/// A KIP-848 group in epoch 3, perhaps with a member that has nothing, as their records say.
fn with_modern_group(world: &mut World, member: Option<&str>) {
    let mut records = vec![GroupRecord::ConsumerGroup {
        group: "g".into(),
        value: Some(ConsumerGroupValue {
            epoch: 3,
            metadata_hash: 0,
        }),
    }];
    if let Some(member) = member {
        let current = Current {
            epoch: 3,
            ..Current::default()
        };
        records.push(GroupRecord::ConsumerMember {
            group: "g".into(),
            member: member.into(),
            value: Some(unknown_description()),
        });
        records.push(GroupRecord::ConsumerCurrentMember {
            group: "g".into(),
            member: member.into(),
            value: Some(current.to_record()),
        });
    }
    world.run(|_, context| context.records.extend(records)).unwrap();
}

#[test]
fn who_may_commit_is_asked_of_the_group_but_for_its_state() {
    let by = |member: &str, generation| {
        let mut request = request(A, "t", &[(0, 1), (7, 1)]);
        request.member_id = member.into();
        request.generation_or_epoch = generation;
        request
    };
    // Each protocol has its own words.
    let code = |answer: CommitAnswer| -> Vec<Vec<Result<(), GroupError>>> {
        let wordless = |row: Result<(), GroupError>| match row {
            Err(GroupError::UnknownMemberId(_)) => Err(GroupError::UnknownMemberId(String::new())),
            row => row,
        };
        let rows = answer.into_iter();
        rows.map(|rows| rows.into_iter().map(wordless).collect())
            .collect()
    };
    let rows = |first| [vec![first, Err(GroupError::UnknownTopicOrPartition)]];
    for is_modern in [false, true] {
        let mut world = world();
        assert_eq!(
            commit_in(&mut world, by("m", 3)),
            rows(Err(GroupError::IllegalGeneration)),
            "there is no group"
        );
        if is_modern {
            with_modern_group(&mut world, Some("m"));
        } else {
            with_member(&mut world);
        }
        let unknown_member = || Err(GroupError::UnknownMemberId(String::new()));
        for (member, generation, expected) in [
            ("m", 3, Ok(())),
            ("m", 2, Err(GroupError::IllegalGeneration)),
            ("x", 3, unknown_member()),
            ("x", -1, unknown_member()),
            // A client of versions 0 to 2 cannot say who it is.
            ("", -1, Ok(())),
        ] {
            assert_eq!(
                code(commit_in(&mut world, by(member, generation))),
                rows(expected),
                "{member} {generation} {is_modern}"
            );
        }
        let mut with_static_id = by("", -1);
        with_static_id.instance_id = Some("i".into());
        assert_eq!(
            code(commit_in(&mut world, with_static_id)),
            rows(unknown_member())
        );
        let mut nameless = by("m", 3);
        nameless.group = "".into();
        let invalid = || Err(GroupError::InvalidGroupId);
        assert_eq!(commit_in(&mut world, nameless), [vec![invalid(), invalid()]]);
    }
}

#[test]
fn a_group_that_changes_its_protocol_keeps_what_is_pending() {
    let mut world = world();
    with_modern_group(&mut world, None);
    pend(&mut world, A, "t", &[(0, 5)]);
    let join = JoinRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: Protocols::new(vec![("range".into(), Bytes::new())]),
        reason: String::new(),
        id_required: true,
        may_skip_assignment: false,
    };
    // It is given an id, and never comes back with it.
    world.run_parked(|shard, context, ticket| shard.join_group(context, &join, ticket));
    assert_eq!(world.difference(), None);
    check(&mut world, "? - -", "- - -");
    world.end_transaction(A, Commit);
    world.advance(DAY_MS);
    assert_eq!(world.difference(), None);
    check(&mut world, "5 - -", "5 - -");
}

#[test]
fn what_is_deleted_does_not_come_back_with_the_transaction() {
    let mut world = world();
    commit_ok(&mut world, "t", &[(0, 1)]);
    pend(&mut world, A, "t", &[(0, 5), (1, 6)]);
    pend(&mut world, A, "u", &[(0, 7)]);
    let topics = [DeleteOffsetsTopic {
        topic: "t".into(),
        partitions: vec![0, 1],
    }];
    world
        .run(|shard, context| shard.delete_offsets(context, &"g".into(), &topics))
        .unwrap()
        .unwrap();
    check(&mut world, "- - ?", "- - -");
    world.end_transaction(A, Commit);
    check(&mut world, "- - 7", "- - 7");

    pend(&mut world, A, "t", &[(0, 8)]);
    world
        .run(|shard, context| shard.delete_group(context, &"g".into()))
        .unwrap()
        .unwrap();
    check(&mut world, "- - -", "- - -");
    world.end_transaction(A, Commit);
    check(&mut world, "- - -", "- - -");
    assert!(!world.shard.groups.contains_key("g") && !world.replayed().groups.contains_key("g"));

    pend(&mut world, B, "t", &[(0, 9)]);
    pend(&mut world, B, "u", &[(0, 9)]);
    world.topics.set("t", 0);
    world.run(GroupShard::topics_deleted).unwrap();
    world.topics.set("t", 2);
    world.end_transaction(B, Commit);
    check(&mut world, "- - 9", "- - 9");
}

/// Of a topic that was deleted and made anew before its offsets were forgotten.
#[test]
fn an_offset_of_the_topic_before_takes_nothing_along_that_is_pending() {
    for (outcome, told, kept) in [(Commit, "5 - -", 1), (Abort, "- - -", 0)] {
        let mut world = world();
        commit_ok(&mut world, "t", &[(0, 1), (1, 2)]);
        world.topics.set("t", 0);
        world.refuse_writes = true;
        world.run(GroupShard::topics_deleted).unwrap_err();
        world.refuse_writes = false;
        world.topics.set("t", 3);
        pend(&mut world, A, "t", &[(0, 5)]);
        world.advance(60_000);
        check(&mut world, "? - -", "- - -");
        assert_eq!(
            world.shard.offsets.count(),
            1,
            "partition 1 does not have to wait"
        );
        world.end_transaction(A, outcome);
        check(&mut world, told, told);
        world.advance(DAY_MS);
        check(&mut world, told, told);
        assert_eq!(world.shard.offsets.count(), kept);
    }
}

#[test]
fn nothing_expires_while_a_transaction_is_undecided() {
    let mut world = world();
    with_member(&mut world);
    let mut by_member = anonymous(vec![named("t", &[(0, 5), (1, 5)])]);
    by_member.member_id = "m".into();
    by_member.generation_or_epoch = 3;
    commit(&mut world, &by_member);
    for partition in [0, 1] {
        world.topics.set_range("t", partition, 9, 9);
    }
    without_member(&mut world);
    pend(&mut world, A, "t", &[(0, 6)]);
    world.advance(9 * DAY_MS);
    check(&mut world, "? - -", "5 - -");
    world.end_transaction(A, Abort);
    world.advance(DAY_MS);
    check(&mut world, "- - -", "- - -");
    assert!(!world.shard.groups.contains_key("g"));
    // A group that has nothing but an open transaction.
    pend(&mut world, A, "t", &[(0, 6)]);
    world.advance(9 * DAY_MS);
    assert!(world.shard.groups.contains_key("g"));
    world.end_transaction(A, Abort);
    world.advance(DAY_MS);
    assert!(!world.shard.groups.contains_key("g") && !world.replayed().groups.contains_key("g"));
}

#[test]
fn a_refused_write_leaves_nothing_pending() {
    let mut world = world();
    world.refuse_writes = true;
    let refused = world.run(|shard, context| {
        shard.commit_transactional_offsets(context, request(A, "t", &[(0, 2)]));
    });
    assert!(refused.is_err());
    world.refuse_writes = false;
    check(&mut world, "- - -", "- - -");
}

/// One thing that happens to the offset of a partition.
#[derive(Debug, Clone, Copy)]
enum Event {
    Put {
        producer: Option<ProducerId>,
        partition: i32,
        offset: i64,
    },
    Delete {
        partition: i32,
    },
    End {
        producer: ProducerId,
        outcome: TransactionOutcome,
    },
}

/// What the log says of each partition, read the slow way: by record, the last that counts is it.
fn expected(events: &[Event]) -> (String, String) {
    let ends = |from: usize, by: ProducerId| {
        events.iter().skip(from).find_map(|event| match event {
            Event::End { producer, outcome } if *producer == by => Some(*outcome),
            _ => None,
        })
    };
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    let mut open: BTreeSet<i32> = BTreeSet::new();
    for (index, event) in events.iter().enumerate() {
        match *event {
            Event::Put {
                producer,
                partition,
                offset,
            } => match producer.map_or(Some(Commit), |producer| ends(index, producer)) {
                Some(Commit) => drop(last.insert(partition, offset)),
                Some(Abort) => {}
                None => drop(open.insert(partition)),
            },
            Event::Delete { partition } => {
                last.remove(&partition);
                open.remove(&partition);
            }
            Event::End { .. } => {}
        }
    }
    let text = |partition: i32| last.get(&partition).map_or("-".to_owned(), ToString::to_string);
    let stable = |partition: i32| {
        if open.contains(&partition) {
            "?".to_owned()
        } else {
            text(partition)
        }
    };
    (
        format!("{} {} -", stable(0), stable(1)),
        format!("{} {} -", text(0), text(1)),
    )
}

/// Random commits of both kinds, deletions, ends and crashes, against what is read from the log the slow way.
#[test]
fn any_mix_of_commits_is_what_the_log_says() {
    play(200, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = world();
        let mut events = Vec::new();
        for step in 0..40 {
            let partition = rng.i32(0..2);
            let producer = if rng.bool() { A } else { B };
            let offset = step;
            match rng.u8(0..10) {
                0..=2 => {
                    commit_ok(&mut world, "t", &[(partition, offset)]);
                    events.push(Event::Put {
                        producer: None,
                        partition,
                        offset,
                    });
                }
                3..=5 => {
                    pend(&mut world, producer, "t", &[(partition, offset)]);
                    events.push(Event::Put {
                        producer: Some(producer),
                        partition,
                        offset,
                    });
                }
                6 if world.shard.groups.contains_key("g") => {
                    let topics = [DeleteOffsetsTopic {
                        topic: "t".into(),
                        partitions: vec![partition],
                    }];
                    world
                        .run(|shard, context| shard.delete_offsets(context, &"g".into(), &topics))
                        .unwrap()
                        .unwrap();
                    events.push(Event::Delete { partition });
                }
                7 => world.crash(0),
                _ => {
                    let outcome = if rng.bool() { Commit } else { Abort };
                    world.end_transaction(producer, outcome);
                    events.push(Event::End { producer, outcome });
                }
            }
            assert_eq!(told(&mut world), expected(&events), "{events:?}");
        }
    });
}
