//! Leases through the commands that the HTTP front calls: who gets records, whose token counts, and that a restart changes neither.

use std::collections::BTreeMap;

use log_core::model::{ProducerEpoch, ProducerId};
use log_core::record::control::TransactionOutcome::{Abort, Commit};

use super::{
    anonymous, commit, commit_ok, committed, fetch, id_of, named, with_member, without_member, world,
};
use crate::coordinator::group::context::TransactionalProducer;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::commit::TransactionalCommitRequest;
use crate::coordinator::group::offsets::lease::{Lease, LeaseId, LeaseToken};
use crate::coordinator::group::offsets::leasing::{LeaseError, LeasePlace, LeaseRequest, LeaseState};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::schedules::play;
use crate::coordinator::group::testing::world::World;

const SECOND_MS: i64 = 1_000;

fn survey(world: &mut World) -> Result<Vec<LeasePlace>, GroupError> {
    let topics = [id_of(world, "t")];
    world
        .run(|shard, context| shard.survey_leases(context, "g", &topics))
        .unwrap()
}

/// One partition of "t".
fn place(world: &mut World, partition: i32) -> LeasePlace {
    let places = survey(world).unwrap();
    assert_eq!(places.len(), 3);
    places[usize::try_from(partition).unwrap()].clone()
}

fn state(world: &mut World, partition: i32) -> LeaseState {
    place(world, partition).state
}

fn request(world: &World, committed: Option<i64>, from: i64, to: i64) -> LeaseRequest {
    LeaseRequest {
        group: "g".into(),
        topic: id_of(world, "t"),
        partition: 1,
        committed,
        from,
        to,
        lease_ms: 10 * SECOND_MS,
    }
}

fn try_lease(world: &mut World, request: &LeaseRequest) -> Result<Option<Lease>, GroupError> {
    world.run(|shard, context| shard.lease(context, request)).unwrap()
}

/// Leases from partition 1 of "t", for ten seconds.
fn lease(world: &mut World, committed: Option<i64>, from: i64, to: i64) -> Lease {
    let request = request(world, committed, from, to);
    try_lease(world, &request).unwrap().expect("it is free")
}

fn token(partition: i32, id: LeaseId) -> LeaseToken {
    LeaseToken {
        topic: "t".into(),
        partition,
        id,
    }
}

fn acknowledge(world: &mut World, lease: Lease) -> Result<i64, LeaseError> {
    let token = token(1, lease.id);
    world
        .run(|shard, context| shard.acknowledge_lease(context, &"g".into(), &token))
        .unwrap()
}

fn release(world: &mut World, lease: Lease) -> Result<i64, LeaseError> {
    let token = token(1, lease.id);
    world
        .run(|shard, context| shard.release_lease(context, &"g".into(), &token))
        .unwrap()
}

fn extend(world: &mut World, lease: Lease, lease_ms: i64) -> Result<Lease, LeaseError> {
    let token = token(1, lease.id);
    world
        .run(|shard, context| shard.extend_lease(context, &"g".into(), &token, lease_ms))
        .unwrap()
}

fn lost(committed: Option<i64>, leased_until_ms: Option<i64>) -> LeaseError {
    LeaseError::Lost {
        committed,
        leased_until_ms,
    }
}

#[test]
fn one_at_a_time_has_the_records_and_acknowledges_them() {
    let mut world = world();
    let free = place(&mut world, 1);
    assert_eq!((free.committed, free.state), (None, LeaseState::Free));
    let first = lease(&mut world, None, 0, 5);
    assert_eq!((first.from, first.to), (0, 5));
    assert_eq!(first.expires_ms, world.now.get() + 10 * SECOND_MS);
    let another = request(&world, Some(0), 0, 5);
    // What is answered is in the log: a crash between any two requests changes nothing.
    for _ in 0..2 {
        let held = place(&mut world, 1);
        assert_eq!((held.committed, held.state), (Some(0), LeaseState::Leased(first)));
        assert_eq!(state(&mut world, 0), LeaseState::Free);
        assert_eq!(try_lease(&mut world, &another), Ok(None));
        assert_eq!(committed(&mut world), "t-1=0");
        world.crash(0);
    }
    assert_eq!(acknowledge(&mut world, first), Ok(5));
    for _ in 0..2 {
        let free = place(&mut world, 1);
        assert_eq!((free.committed, free.state), (Some(5), LeaseState::Free));
        assert_eq!(acknowledge(&mut world, first), Err(lost(Some(5), None)));
        world.crash(0);
    }
    let second = lease(&mut world, Some(5), 5, 6);
    assert_ne!(second.id, first.id);
    assert_eq!(
        acknowledge(&mut world, first),
        Err(lost(Some(5), Some(second.expires_ms)))
    );
    assert_eq!(acknowledge(&mut world, second), Ok(6));
    assert_eq!(committed(&mut world), "t-1=6");
}

#[test]
fn a_kafka_client_sees_the_offset_and_the_lease_as_its_metadata() {
    let mut world = world();
    let held = lease(&mut world, None, 3, 5);
    let by_name = TopicRef::Name("t".into());
    let seen = fetch(&mut world, by_name.clone(), 1).unwrap().unwrap();
    assert_eq!((seen.offset, seen.leader_epoch), (3, -1));
    assert_eq!(&*seen.metadata, held.to_string());
    acknowledge(&mut world, held).unwrap();
    let seen = fetch(&mut world, by_name, 1).unwrap().unwrap();
    assert_eq!((seen.offset, &*seen.metadata), (5, ""));
}

#[test]
fn leases_that_hold_are_listed() {
    let mut world = world();
    let list = |world: &mut World| {
        let listed = world.run(|shard, context| shard.leases(context, "g")).unwrap();
        listed.map(|rows| rows.into_iter().map(|(_, _, lease)| lease).collect::<Vec<_>>())
    };
    assert_eq!(
        list(&mut world),
        Err(GroupError::GroupIdNotFound("Group g not found.".to_owned()))
    );
    commit_ok(&mut world, "t", &[(0, 7)]);
    let held = lease(&mut world, None, 0, 5);
    assert_eq!(list(&mut world), Ok(vec![held]));
    with_member(&mut world);
    assert_eq!(list(&mut world), Ok(Vec::new()));
    without_member(&mut world);
    assert_eq!(list(&mut world), Ok(vec![held]));
    world.advance(10 * SECOND_MS);
    assert_eq!(list(&mut world), Ok(Vec::new()));
}

#[test]
fn a_lease_ends_and_the_next_who_asks_has_the_records_again() {
    let mut world = world();
    let first = lease(&mut world, None, 0, 5);
    world.advance(10 * SECOND_MS - 1);
    assert_eq!(state(&mut world, 1), LeaseState::Leased(first));
    world.advance(1);
    assert_eq!(state(&mut world, 1), LeaseState::Free);
    assert_eq!(acknowledge(&mut world, first), Err(lost(Some(0), None)));
    assert_eq!(extend(&mut world, first, SECOND_MS), Err(lost(Some(0), None)));
    let second = lease(&mut world, Some(0), 0, 7);
    assert_eq!(
        release(&mut world, first),
        Err(lost(Some(0), Some(second.expires_ms)))
    );
    assert_eq!(acknowledge(&mut world, second), Ok(7));
}

#[test]
fn a_lease_that_is_extended_ends_so_long_from_then() {
    let mut world = world();
    let first = lease(&mut world, None, 0, 5);
    world.advance(9 * SECOND_MS);
    let extended = extend(&mut world, first, 20 * SECOND_MS).unwrap();
    assert_eq!(extended.expires_ms, world.now.get() + 20 * SECOND_MS);
    assert_eq!((extended.id, extended.to), (first.id, 5));
    world.crash(0);
    world.advance(20 * SECOND_MS - 1);
    assert_eq!(state(&mut world, 1), LeaseState::Leased(extended));
    let shorter = extend(&mut world, first, 5).unwrap();
    world.advance(4);
    assert_eq!(state(&mut world, 1), LeaseState::Leased(shorter));
    world.advance(1);
    assert_eq!(state(&mut world, 1), LeaseState::Free);
}

#[test]
fn records_that_are_given_back_are_free_at_once() {
    let mut world = world();
    let first = lease(&mut world, None, 4, 5);
    assert_eq!(release(&mut world, first), Ok(4));
    world.crash(0);
    let free = place(&mut world, 1);
    assert_eq!((free.committed, free.state), (Some(4), LeaseState::Free));
    assert_eq!(release(&mut world, first), Err(lost(Some(4), None)));
}

#[test]
fn who_comes_second_looks_again() {
    let mut world = world();
    let late = request(&world, None, 0, 5);
    let first = lease(&mut world, None, 0, 2);
    assert_eq!(try_lease(&mut world, &late), Ok(None), "it is leased");
    acknowledge(&mut world, first).unwrap();
    assert_eq!(
        try_lease(&mut world, &late),
        Ok(None),
        "it was leased and acknowledged between look and lease"
    );
    let in_time = request(&world, Some(2), 2, 5);
    assert!(try_lease(&mut world, &in_time).unwrap().is_some());
}

#[test]
fn whoever_commits_ends_the_lease() {
    let mut world = world();
    let first = lease(&mut world, None, 0, 5);
    commit_ok(&mut world, "t", &[(1, 3)]);
    let free = place(&mut world, 1);
    assert_eq!((free.committed, free.state), (Some(3), LeaseState::Free));
    assert_eq!(acknowledge(&mut world, first), Err(lost(Some(3), None)));
    // A client that commits what it read of the group elsewhere does not carry the lease there.
    let second = lease(&mut world, Some(3), 3, 5);
    let mut copied = anonymous(vec![named("t", &[(1, 4), (2, 4)])]);
    for row in &mut copied.topics[0].partitions {
        row.metadata = Some(second.to_string().into());
    }
    assert_eq!(commit(&mut world, &copied), [vec![Ok(()), Ok(())]]);
    assert_eq!(state(&mut world, 1), LeaseState::Free);
    assert_eq!(state(&mut world, 2), LeaseState::Free);
    assert_eq!(acknowledge(&mut world, second), Err(lost(Some(4), None)));
}

#[test]
fn a_group_with_members_reads_by_itself() {
    let mut world = world();
    let first = lease(&mut world, None, 0, 5);
    with_member(&mut world);
    let refused = || GroupError::NonEmptyGroup;
    assert_eq!(survey(&mut world), Err(refused()));
    let another = request(&world, Some(0), 0, 5);
    assert_eq!(try_lease(&mut world, &another), Err(refused()));
    assert_eq!(acknowledge(&mut world, first), Err(refused().into()));
    assert_eq!(extend(&mut world, first, 1), Err(refused().into()));
    assert_eq!(release(&mut world, first), Err(refused().into()));
    assert_eq!(committed(&mut world), "t-1=0");
    // When they are gone and have committed nothing here, the lease is what it was.
    without_member(&mut world);
    assert_eq!(acknowledge(&mut world, first), Ok(5));
}

#[test]
fn a_transaction_that_has_yet_to_decide_keeps_the_partition() {
    const PRODUCER: ProducerId = ProducerId::new(7);
    for (outcome, expected) in [(Abort, Ok(5)), (Commit, Err(lost(Some(2), None)))] {
        let mut world = world();
        let first = lease(&mut world, None, 0, 5);
        let pending = TransactionalCommitRequest {
            producer: TransactionalProducer {
                id: PRODUCER,
                epoch: ProducerEpoch::new(0),
            },
            group: "g".into(),
            member_id: "".into(),
            instance_id: None,
            generation_or_epoch: -1,
            topics: vec![named("t", &[(1, 2)])],
        };
        let answer = world.run(|shard, context| shard.commit_transactional_offsets(context, pending));
        assert_eq!(answer, Ok(vec![vec![Ok(())]]));
        assert_eq!(state(&mut world, 1), LeaseState::Undecided);
        assert_eq!(acknowledge(&mut world, first), Err(lost(Some(0), None)));
        let another = request(&world, Some(0), 0, 5);
        assert_eq!(try_lease(&mut world, &another), Ok(None));
        world.end_transaction(PRODUCER, outcome);
        assert_eq!(acknowledge(&mut world, first), expected);
    }
}

#[test]
fn a_topic_that_was_made_anew_has_no_leases() {
    let mut world = world();
    let first = lease(&mut world, None, 0, 5);
    let read_before = request(&world, Some(0), 0, 5);
    world.topics.set("t", 0);
    assert_eq!(
        acknowledge(&mut world, first),
        Err(GroupError::UnknownTopicOrPartition.into())
    );
    world.topics.set("t", 3);
    let free = place(&mut world, 1);
    assert_eq!((free.committed, free.state), (None, LeaseState::Free));
    assert_eq!(acknowledge(&mut world, first), Err(lost(None, None)));
    assert_eq!(
        try_lease(&mut world, &read_before),
        Err(GroupError::UnknownTopicId)
    );
}

#[test]
fn what_nobody_leased_is_refused() {
    let mut world = world();
    let unknown = Lease {
        id: LeaseId::new([1; 16]),
        from: 0,
        to: 1,
        expires_ms: i64::MAX,
    };
    assert_eq!(
        acknowledge(&mut world, unknown),
        Err(GroupError::GroupIdNotFound("Group g not found.".to_owned()).into())
    );
    let first = lease(&mut world, None, 0, 5);
    assert_eq!(
        acknowledge(&mut world, unknown),
        Err(lost(Some(0), Some(first.expires_ms)))
    );
    let elsewhere = token(2, first.id);
    let answer = world.run(|shard, context| shard.acknowledge_lease(context, &"g".into(), &elsewhere));
    assert_eq!(answer, Ok(Err(lost(None, None))));
    let mut nameless = request(&world, None, 0, 1);
    nameless.group = "g".repeat(40_000).into();
    assert_eq!(try_lease(&mut world, &nameless), Err(GroupError::InvalidGroupId));
}

#[test]
fn what_the_log_refuses_was_not_leased() {
    let mut world = world();
    world.settings.offset_metadata_bytes_max = 10;
    let too_long = request(&world, None, 0, 5);
    assert_eq!(
        try_lease(&mut world, &too_long),
        Err(GroupError::OffsetMetadataTooLarge(10))
    );
    world.settings.offset_metadata_bytes_max = 4096;
    world.refuse_writes = true;
    let wanted = request(&world, None, 0, 5);
    assert!(world.run(|shard, context| shard.lease(context, &wanted)).is_err());
    world.refuse_writes = false;
    let held = lease(&mut world, None, 0, 5);
    world.refuse_writes = true;
    let token = token(1, held.id);
    let refused = world.run(|shard, context| shard.acknowledge_lease(context, &"g".into(), &token));
    assert!(refused.is_err());
    world.refuse_writes = false;
    assert_eq!(acknowledge(&mut world, held), Ok(5));
}

/// What one partition is to be like, said the short way.
#[derive(Debug, Default)]
struct Model {
    committed: Option<i64>,
    lease: Option<Lease>,
}

impl Model {
    fn held(&self, now_ms: i64) -> Option<Lease> {
        self.lease.filter(|lease| now_ms < lease.expires_ms)
    }
}

/// Random holders, late ones among them, Kafka's commits, crashes and a full disk, against a few lines that say what holds.
#[test]
fn any_mix_of_holders_is_told_what_holds() {
    play(100, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = world();
        let mut model = Model::default();
        let mut ever: Vec<Lease> = Vec::new();
        let mut acknowledged: BTreeMap<i64, i64> = BTreeMap::new();
        for _ in 0..120 {
            let now = world.now.get();
            let some = (!ever.is_empty()).then(|| ever[rng.usize(..ever.len())]);
            let expected = |lease: Lease| match model.held(now) {
                Some(held) if held.id == lease.id => Ok(held),
                other => Err(lost(model.committed, other.map(|other| other.expires_ms))),
            };
            match (rng.u8(..12), some) {
                (0..=3, _) => {
                    let from = model.committed.unwrap_or(0);
                    let asked = request(&world, model.committed, from, from + rng.i64(1..5));
                    let leased = try_lease(&mut world, &asked).unwrap();
                    assert_eq!(leased.is_some(), model.held(now).is_none());
                    if let Some(lease) = leased {
                        assert!(ever.iter().all(|other| other.id != lease.id));
                        ever.push(lease);
                        model.lease = Some(lease);
                        model.committed = Some(from);
                    }
                }
                (4..=5, Some(lease)) => {
                    let expected = expected(lease).map(|lease| lease.to);
                    assert_eq!(acknowledge(&mut world, lease), expected);
                    if let Ok(to) = expected {
                        acknowledged.insert(lease.from, to);
                        (model.committed, model.lease) = (Some(to), None);
                    }
                }
                (6, Some(lease)) => {
                    let expected = expected(lease).map(|lease| lease.from);
                    assert_eq!(release(&mut world, lease), expected);
                    if expected.is_ok() {
                        model.lease = None;
                    }
                }
                (7, Some(lease)) => {
                    let lease_ms = rng.i64(1..20_000);
                    let expected = expected(lease).map(|lease| Lease {
                        expires_ms: now + lease_ms,
                        ..lease
                    });
                    assert_eq!(extend(&mut world, lease, lease_ms), expected);
                    model.lease = expected.ok().or(model.lease);
                }
                (8, _) if rng.u8(..4) == 0 => {
                    // Forward only, so that what was acknowledged stays in order.
                    let offset = model.committed.unwrap_or(0) + rng.i64(1..3);
                    commit_ok(&mut world, "t", &[(1, offset)]);
                    (model.committed, model.lease) = (Some(offset), None);
                }
                (9, _) => world.crash(0),
                (10, _) => world.advance(rng.i64(..15_000)),
                (11, Some(lease)) => {
                    world.refuse_writes = true;
                    let token = token(1, lease.id);
                    let answer = world.run(|shard: &mut GroupShard, context| {
                        shard.acknowledge_lease(context, &"g".into(), &token)
                    });
                    assert_eq!(answer.is_err(), expected(lease).is_ok());
                    world.refuse_writes = false;
                }
                _ => {}
            }
            let found = place(&mut world, 1);
            let held = model.held(world.now.get());
            let expected = held.map_or(LeaseState::Free, LeaseState::Leased);
            assert_eq!((found.committed, found.state), (model.committed, expected));
            assert_eq!(world.difference(), None);
        }
        let ends = acknowledged.values();
        let begins = acknowledged.keys().skip(1);
        assert!(
            ends.zip(begins).all(|(end, begin)| end <= begin),
            "{acknowledged:?}"
        );
    });
}
