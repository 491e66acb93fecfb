//! Commits, their way back, and their end, through the commands that handlers call and the log behind them.

mod leases;
mod transactions;
mod view;

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::context::Topics as _;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::delete::DeleteOffsetsTopic;
use crate::coordinator::group::offsets::fetch::{
    FetchOffsetsRequest, FetchOffsetsTopic, FetchedOffset, NamedBy,
};
use crate::coordinator::group::offsets::store::OffsetStore;
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::record::{
    ClassicGroupValue, ClassicMemberValue, GroupRecord, OffsetCommitValue,
};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::world::World;
use crate::kafka::test_support::fuzz;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A world with the topics "t" (three partitions) and "u" (one).
fn world() -> World {
    let mut world = World::new(1);
    world.topics.set("t", 3);
    world.topics.set("u", 1);
    world.run(GroupShard::loaded).unwrap();
    world
}

fn row(partition: i32, offset: i64) -> CommitPartition {
    CommitPartition {
        partition,
        offset,
        leader_epoch: -1,
        metadata: None,
    }
}

fn named(topic: &str, rows: &[(i32, i64)]) -> CommitTopic {
    CommitTopic {
        topic: TopicRef::Name(topic.into()),
        partitions: rows
            .iter()
            .map(|(partition, offset)| row(*partition, *offset))
            .collect(),
    }
}

/// A commit by nobody in particular.
fn anonymous(topics: Vec<CommitTopic>) -> CommitRequest {
    CommitRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        generation_or_epoch: -1,
        request_version: 9,
        retention_ms: None,
        topics,
    }
}

fn commit(world: &mut World, request: &CommitRequest) -> Vec<Vec<Result<(), GroupError>>> {
    world
        .run(|shard, context| shard.commit_offsets(context, request))
        .unwrap()
}

fn commit_ok(world: &mut World, topic: &str, rows: &[(i32, i64)]) {
    let answer = commit(world, &anonymous(vec![named(topic, rows)]));
    assert!(answer.iter().flatten().all(Result::is_ok), "{answer:?}");
}

/// What "g" has committed, as `topic-partition=offset`.
fn committed(world: &mut World) -> String {
    let request = FetchOffsetsRequest {
        group: "g".into(),
        member_id: None,
        member_epoch: -1,
        topics: None,
        require_stable: false,
    };
    let fetched = world
        .run(|shard, context| shard.fetch_offsets(context, &request, NamedBy::Name))
        .unwrap()
        .unwrap();
    let mut texts = Vec::new();
    for topic in fetched {
        let TopicRef::Name(name) = topic.topic else {
            panic!("asked by name");
        };
        for row in topic.partitions {
            let offset = row.committed.unwrap().unwrap().offset;
            texts.push(format!("{name}-{}={offset}", row.partition));
        }
    }
    texts.join(" ")
}

fn fetch(world: &mut World, topic: TopicRef, partition: i32) -> Result<Option<FetchedOffset>, GroupError> {
    let request = FetchOffsetsRequest {
        group: "g".into(),
        member_id: None,
        member_epoch: -1,
        topics: Some(vec![FetchOffsetsTopic {
            topic,
            partitions: vec![partition],
        }]),
        require_stable: true,
    };
    let fetched = world
        .run(|shard, context| shard.fetch_offsets(context, &request, NamedBy::Name))
        .unwrap()
        .unwrap();
    fetched[0].partitions[0].committed.clone()
}

fn id_of(world: &World, topic: &str) -> TopicId {
    world.topics.by_name(topic).unwrap().id
}

/// A classic group with one member that reads "t", as its record says.
fn with_member(world: &mut World) {
    let subscription: &'static [u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
    let record = GroupRecord::ClassicGroup {
        group: "g".into(),
        value: Some(ClassicGroupValue {
            protocol_type: "consumer".into(),
            generation: 3,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            state_timestamp_ms: world.now.get(),
            members: vec![ClassicMemberValue {
                member_id: "m".into(),
                instance_id: None,
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 60_000,
                session_timeout_ms: i32::MAX,
                subscription: subscription.into(),
                assignment: subscription.into(),
            }],
        }),
    };
    world.run(|_, context| context.records.push(record)).unwrap();
}

/// Its last member is gone.
fn without_member(world: &mut World) {
    let record = GroupRecord::ClassicGroup {
        group: "g".into(),
        value: Some(ClassicGroupValue {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: None,
            leader: None,
            state_timestamp_ms: world.now.get(),
            members: Vec::new(),
        }),
    };
    world.run(|_, context| context.records.push(record)).unwrap();
}

#[test]
fn what_was_committed_is_fetched_live_and_after_a_crash() {
    let mut world = world();
    let mut request = anonymous(vec![named("t", &[(0, 5), (2, 7)]), named("u", &[(0, 9)])]);
    request.topics[0].partitions[0].metadata = Some("remember".into());
    request.topics[0].partitions[0].leader_epoch = 4;
    assert_eq!(commit(&mut world, &request), [vec![Ok(()), Ok(())], vec![Ok(())]]);
    commit_ok(&mut world, "t", &[(2, 8)]);
    let expected = Ok(Some(FetchedOffset {
        offset: 5,
        leader_epoch: 4,
        metadata: "remember".into(),
    }));
    let id = id_of(&world, "t");
    for _ in 0..2 {
        assert_eq!(committed(&mut world), "t-0=5 t-2=8 u-0=9");
        assert_eq!(fetch(&mut world, TopicRef::Name("t".into()), 0), expected);
        assert_eq!(fetch(&mut world, TopicRef::Id(id), 0), expected);
        assert_eq!(fetch(&mut world, TopicRef::Id(id), 1), Ok(None));
        assert_eq!(fetch(&mut world, TopicRef::Name("unknown".into()), 0), Ok(None));
        world.crash(0);
    }
}

#[test]
fn a_partition_that_does_not_exist_has_an_error_of_its_own() {
    let mut world = world();
    let mut by_id = named("t", &[(0, 1)]);
    by_id.topic = TopicRef::Id(TopicId::from_bytes([9; 16]));
    let request = anonymous(vec![
        named("t", &[(2, 1), (3, 1), (-1, 1)]),
        named("no", &[(0, 1)]),
        by_id,
    ]);
    let unknown = || Err(GroupError::UnknownTopicOrPartition);
    assert_eq!(
        commit(&mut world, &request),
        [
            vec![Ok(()), unknown(), unknown()],
            vec![unknown()],
            vec![Err(GroupError::UnknownTopicId)],
        ]
    );
    assert_eq!(committed(&mut world), "t-2=1");
}

#[test]
fn metadata_is_measured_in_what_java_counts() {
    let mut world = world();
    world.settings.offset_metadata_bytes_max = 4;
    for (text, fits) in [
        ("", true),
        ("mmmm", true),
        ("mmmmm", false),
        ("ääää", true),
        ("😀😀", true),
        ("😀😀m", false),
    ] {
        let mut request = anonymous(vec![named("t", &[(0, 1), (1, 1)])]);
        request.topics[0].partitions[0].metadata = Some(text.into());
        let too_large = Err(GroupError::OffsetMetadataTooLarge(4));
        let expected = if fits { Ok(()) } else { too_large };
        assert_eq!(commit(&mut world, &request), [vec![expected, Ok(())]], "{text}");
    }
}

#[test]
fn a_group_that_is_not_there_is_made_by_nobody_and_unknown_to_members() {
    let mut world = world();
    for (version, error) in [
        (8, GroupError::IllegalGeneration),
        (9, GroupError::GroupIdNotFound("Group g not found.".to_owned())),
    ] {
        let mut request = anonymous(vec![named("t", &[(0, 1), (7, 1)])]);
        request.generation_or_epoch = 0;
        request.request_version = version;
        let rows = vec![Err(error), Err(GroupError::UnknownTopicOrPartition)];
        assert_eq!(commit(&mut world, &request), [rows]);
        // Nothing is left that the group could be asked for.
        request.topics[0].partitions.remove(0);
        assert_eq!(
            commit(&mut world, &request),
            [vec![Err(GroupError::UnknownTopicOrPartition)]]
        );
    }
    assert_eq!(world.log, [] as [Vec<GroupRecord>; 0]);
    let mut long = anonymous(vec![named("t", &[(0, 1)])]);
    long.group = "g".repeat(32_768).into();
    assert_eq!(commit(&mut world, &long), [vec![Err(GroupError::InvalidGroupId)]]);
}

#[test]
fn a_group_with_members_takes_commits_of_its_members_alone() {
    let mut world = world();
    with_member(&mut world);
    let by = |member: &str, generation_or_epoch| {
        let mut request = anonymous(vec![named("t", &[(0, 1)])]);
        request.member_id = member.into();
        request.generation_or_epoch = generation_or_epoch;
        request
    };
    assert_eq!(commit(&mut world, &by("m", 3)), [vec![Ok(())]]);
    let refused = [
        (by("", -1), GroupError::UnknownMemberId(String::new())),
        (by("x", 3), GroupError::UnknownMemberId("x".to_owned())),
        (by("m", 2), GroupError::IllegalGeneration),
    ];
    for (request, error) in refused {
        assert_eq!(commit(&mut world, &request), [vec![Err(error)]]);
    }
}

#[test]
fn a_member_that_commits_is_alive() {
    let mut world = world();
    with_member(&mut world);
    world.crash(0);
    let mut request = anonymous(vec![named("t", &[(0, 1)])]);
    request.member_id = "m".into();
    request.generation_or_epoch = 3;
    let session = i64::from(i32::MAX);
    for _ in 0..3 {
        world.advance(session - 1);
        assert_eq!(commit(&mut world, &request), [vec![Ok(())]]);
    }
    world.advance(session);
    assert_eq!(
        commit(&mut world, &request),
        [vec![Err(GroupError::UnknownMemberId("m".to_owned()))]]
    );
}

#[test]
fn a_topic_made_anew_has_no_commits() {
    let mut world = world();
    commit_ok(&mut world, "t", &[(0, 5)]);
    let before = id_of(&world, "t");
    world.topics.set("t", 0);
    // Until the offsets are gone they are told by name, as nobody can tell that it is another topic's.
    assert_eq!(
        fetch(&mut world, TopicRef::Name("t".into()), 0)
            .unwrap()
            .unwrap()
            .offset,
        5
    );
    assert_eq!(
        fetch(&mut world, TopicRef::Id(before), 0),
        Err(GroupError::UnknownTopicId)
    );
    world.topics.set("t", 1);
    assert_eq!(fetch(&mut world, TopicRef::Name("t".into()), 0), Ok(None));
    assert_eq!(committed(&mut world), "");
    let now = id_of(&world, "t");
    assert_eq!(fetch(&mut world, TopicRef::Id(now), 0), Ok(None));
    commit_ok(&mut world, "t", &[(0, 1)]);
    assert_eq!(
        fetch(&mut world, TopicRef::Id(now), 0).unwrap().unwrap().offset,
        1
    );
}

#[test]
fn offsets_of_a_deleted_topic_go_at_once_and_the_group_stays() {
    let mut world = world();
    with_member(&mut world);
    for (topic, rows) in [("t", [(0, 1), (1, 2)].as_slice()), ("u", &[(0, 3)])] {
        let mut request = anonymous(vec![named(topic, rows)]);
        request.member_id = "m".into();
        request.generation_or_epoch = 3;
        commit(&mut world, &request);
    }
    world.topics.set("t", 0);
    world.run(GroupShard::topics_deleted).unwrap();
    assert_eq!(committed(&mut world), "u-0=3");
    // The broker was down when the other one was deleted.
    world.topics.set("u", 0);
    world.crash(0);
    world.advance(0);
    assert_eq!(committed(&mut world), "");
    assert!(world.shard.groups.contains_key("g"));
}

#[test]
fn many_offsets_go_in_steps() {
    let mut world = world();
    world.topics.set("wide", 5_000);
    let rows: Vec<_> = (0..5_000).map(|partition| (partition, 1)).collect();
    commit_ok(&mut world, "wide", &rows);
    world.topics.set("wide", 0);
    world.run(GroupShard::topics_deleted).unwrap();
    world.advance(10_000);
    assert_eq!(committed(&mut world), "");
    assert!(world.log.iter().skip(1).all(|records| records.len() <= 1_000));
    // A disk that is full is not asked again and again, and what was refused is tried later.
    world.topics.set("wide", 5_000);
    commit_ok(&mut world, "wide", &rows);
    world.topics.set("wide", 0);
    world.refuse_writes = true;
    world.run(GroupShard::topics_deleted).unwrap_err();
    world.advance(10_000);
    world.refuse_writes = false;
    world.advance(DAY_MS);
    assert_eq!(committed(&mut world), "");
}

#[test]
fn what_the_log_refuses_to_forget_is_looked_for_again() {
    let mut world = world();
    commit_ok(&mut world, "t", &[(0, 5)]);
    world.topics.set("t", 0);
    world.refuse_writes = true;
    world.run(GroupShard::topics_deleted).unwrap_err();
    world.advance(5 * 60_000);
    assert_eq!(committed(&mut world), "t-0=5");
    assert!(world.refusals < 15, "{} times in five minutes", world.refusals);
    world.refuse_writes = false;
    // Sooner than expired offsets are looked for.
    world.advance(60_000);
    assert_eq!(committed(&mut world), "");
}

#[test]
fn an_offset_expires_when_nobody_reads_it_and_its_records_are_gone() {
    for (range, is_kept) in [
        // It is read up to the end, or within, or the first is next.
        (Some((0, 5)), true),
        (Some((0, 9)), true),
        (Some((5, 9)), true),
        // What comes next is gone, or everything is, or it was never there, or nobody knows.
        (Some((6, 9)), false),
        (Some((5, 5)), false),
        (Some((0, 4)), false),
        (None, true),
    ] {
        let mut world = world();
        commit_ok(&mut world, "t", &[(0, 5)]);
        if let Some((start, end)) = range {
            world.topics.set_range("t", 0, start, end);
        }
        world.advance(7 * DAY_MS - 1);
        assert_eq!(committed(&mut world), "t-0=5", "{range:?}");
        world.advance(DAY_MS);
        assert_eq!(committed(&mut world) == "t-0=5", is_kept, "{range:?}");
        assert_eq!(world.shard.groups.contains_key("g"), is_kept, "{range:?}");
        assert_eq!(world.replayed().groups.contains_key("g"), is_kept, "{range:?}");
    }
}

#[test]
fn nothing_expires_while_there_are_members_and_time_counts_from_the_last_one() {
    let mut world = world();
    with_member(&mut world);
    for topic in ["t", "u"] {
        let mut request = anonymous(vec![named(topic, &[(0, 5)])]);
        request.member_id = "m".into();
        request.generation_or_epoch = 3;
        commit(&mut world, &request);
        world.topics.set_range(topic, 0, 9, 9);
    }
    world.advance(8 * DAY_MS);
    let both = "t-0=5 u-0=5";
    assert_eq!(committed(&mut world), both, "the member does not read u");
    without_member(&mut world);
    world.advance(6 * DAY_MS);
    assert_eq!(committed(&mut world), both);
    world.advance(2 * DAY_MS);
    assert_eq!(committed(&mut world), "");
    assert!(!world.shard.groups.contains_key("g"));
}

#[test]
fn an_expiry_of_the_clients_own_holds() {
    let mut world = world();
    let mut request = anonymous(vec![named("t", &[(0, 5)])]);
    request.request_version = 4;
    request.retention_ms = Some(60_000);
    commit(&mut world, &request);
    world.topics.set_range("t", 0, 0, 9);
    world.crash(0);
    world.advance(59_999);
    assert_eq!(committed(&mut world), "t-0=5");
    world.advance(600_000);
    assert_eq!(committed(&mut world), "");
}

#[test]
fn offsets_are_deleted_unless_a_member_reads_them() {
    let mut world = world();
    let delete = |world: &mut World, topic: &str, partitions: &[i32]| {
        let topics = [DeleteOffsetsTopic {
            topic: topic.into(),
            partitions: partitions.to_vec(),
        }];
        world
            .run(|shard, context| shard.delete_offsets(context, &"g".into(), &topics))
            .unwrap()
    };
    assert_eq!(
        delete(&mut world, "t", &[0]),
        Err(GroupError::GroupIdNotFound("Group g not found.".to_owned()))
    );
    commit_ok(&mut world, "t", &[(0, 1), (1, 2)]);
    commit_ok(&mut world, "u", &[(0, 3)]);
    let unknown = Err(GroupError::UnknownTopicOrPartition);
    assert_eq!(
        delete(&mut world, "t", &[0, 2, 3]),
        Ok(vec![vec![Ok(()), Ok(()), unknown]])
    );
    assert_eq!(committed(&mut world), "t-1=2 u-0=3");
    with_member(&mut world);
    assert_eq!(
        delete(&mut world, "t", &[1]),
        Ok(vec![vec![Err(GroupError::SubscribedToTopic)]])
    );
    assert_eq!(delete(&mut world, "u", &[0]), Ok(vec![vec![Ok(())]]));
    assert_eq!(committed(&mut world), "t-1=2");
}

#[test]
fn a_refused_write_changes_nothing() {
    let mut world = world();
    commit_ok(&mut world, "t", &[(0, 1)]);
    world.refuse_writes = true;
    let request = anonymous(vec![named("t", &[(0, 2)])]);
    assert!(
        world
            .run(|shard, context| shard.commit_offsets(context, &request))
            .is_err()
    );
    world.refuse_writes = false;
    assert_eq!(committed(&mut world), "t-0=1");
}

/// Random commits and deletions against a plain map, and the store made again from its records.
#[test]
fn the_store_is_a_map() {
    fuzz(50, |rng| {
        let mut store = OffsetStore::default();
        let mut map = std::collections::BTreeMap::new();
        for _ in 0..rng.usize(..200) {
            let group: Arc<str> = format!("g{}", rng.u8(..3)).into();
            let topic: Arc<str> = format!("t{}", rng.u8(..3)).into();
            let partition = rng.i32(..4);
            let key = (Arc::clone(&group), Arc::clone(&topic), partition);
            if rng.u8(..3) == 0 {
                store.remove(&group, &topic, partition);
                map.remove(&key);
                continue;
            }
            let value = OffsetCommitValue {
                offset: rng.i64(..),
                leader_epoch: rng.i32(..),
                metadata: if rng.bool() { "m" } else { "" }.into(),
                commit_timestamp_ms: rng.i64(..),
                expire_timestamp_ms: rng.bool().then_some(7),
                topic_id: TopicId::from_bytes([rng.u8(..3); 16]),
            };
            store.put(&group, &topic, partition, &value);
            map.insert(key, value);
        }
        let stored: Vec<_> = store.live_records().collect();
        let expected: Vec<_> = map
            .into_iter()
            .map(|((group, topic, partition), value)| GroupRecord::OffsetCommit {
                group,
                topic,
                partition,
                value: Some(value),
            })
            .collect();
        assert_eq!(stored, expected);
        assert_eq!(store.count(), expected.len());
    });
}
