//! What may follow what, by both versions of the protocol, with the answers of a real Kafka 4.3.

use super::*;
use TransactionError::{ConcurrentTransactions, InvalidTxnState, ProducerFenced};
use TransactionOutcome::{Abort, Commit};

#[test]
fn with_version_2_each_decision_raises_the_epoch() {
    let mut world = World::new();
    let first = world.init().unwrap();
    world.add(first, "a", 2).unwrap();
    world.add(first, "b", 2).unwrap();
    let second = world.end(first, Commit, 2).unwrap();
    assert_eq!(second, identity(1_000, 1));
    let [decided] = world.decided.as_slice() else {
        panic!("{:?}", world.decided)
    };
    assert_eq!((decided.producer, decided.outcome), (second, Commit));
    assert_eq!(decided.partitions, places(&["a", "b"]));
    assert_eq!(world.add(second, "a", 2), Err(ConcurrentTransactions));
    assert_eq!(world.end(first, Commit, 2), Err(ConcurrentTransactions));
    assert_eq!(world.end(first, Abort, 2), Err(ConcurrentTransactions));
    world.markers_written();
    assert_eq!(world.state(), TransactionState::CompleteCommit);
    // The answer was lost.
    assert_eq!(world.end(first, Commit, 2), Ok(second));
    assert_eq!(world.end(first, Abort, 2), Err(InvalidTxnState));
    assert_eq!(
        world.end(second, Commit, 2),
        Err(InvalidTxnState),
        "nothing was begun"
    );
    world.add(second, "a", 2).unwrap();
    assert_eq!(world.end(first, Commit, 2), Err(ProducerFenced));
}

#[test]
fn a_producer_of_version_2_that_one_of_version_1_has_fenced_is_not_taken_for_it() {
    for outcome in [Commit, Abort] {
        let mut world = World::new();
        let old = world.init().unwrap();
        let new = world.init().unwrap();
        world.add(new, "a", 1).unwrap();
        world.end(new, outcome, 1).unwrap();
        world.markers_written();
        assert_eq!(world.end(old, outcome, 2), Err(ProducerFenced), "{outcome:?}");
        assert_eq!(world.end(new, outcome, 1), Ok(new), "the answer was lost");
    }
}

#[test]
fn with_version_2_what_was_never_begun_can_be_aborted() {
    let mut world = World::new();
    let first = world.init().unwrap();
    assert_eq!(world.end(first, Commit, 2), Err(InvalidTxnState));
    let second = world.end(first, Abort, 2).unwrap();
    assert_eq!(second, identity(1_000, 1));
    assert!(world.decided[0].partitions.is_empty());
    world.markers_written();
    assert_eq!(world.end(first, Abort, 2), Ok(second), "the answer was lost");
    assert_eq!(world.end(first, Commit, 2), Err(InvalidTxnState));
    let third = world.end(second, Abort, 2).unwrap();
    assert_eq!(
        third,
        identity(1_000, 2),
        "the producer may not know what it added"
    );
}

#[test]
fn with_version_2_the_last_epoch_is_followed_by_another_producer_id() {
    let mut world = World::new();
    world.init().unwrap();
    let last = world.set_epoch(i16::MAX - 1);
    world.add(last, "a", 2).unwrap();
    let next = world.end(last, Commit, 2).unwrap();
    assert_eq!(next, identity(1_001, 0));
    assert_eq!(world.decided[0].producer, identity(1_000, i16::MAX));
    assert_eq!(world.add(next, "a", 2), Err(ConcurrentTransactions));
    world.reload();
    world.markers_written();
    assert_eq!(world.transaction().producer, next);
    assert_eq!(world.end(last, Commit, 2), Ok(next), "the answer was lost");
    assert_eq!(world.end(last, Abort, 2), Err(InvalidTxnState));
    world.add(next, "a", 2).unwrap();
}

#[test]
fn before_version_2_the_epoch_stays() {
    let mut world = World::new();
    let producer = world.init().unwrap();
    assert_eq!(world.end(producer, Abort, 0), Err(InvalidTxnState));
    for outcome in [Commit, Abort] {
        world.add(producer, "a", 0).unwrap();
        assert_eq!(world.end(producer, outcome, 0), Ok(producer));
        assert_eq!(world.end(producer, outcome, 0), Err(ConcurrentTransactions));
        world.markers_written();
        assert_eq!(
            world.end(producer, outcome, 0),
            Ok(producer),
            "the answer was lost"
        );
        let other = if outcome == Commit { Abort } else { Commit };
        assert_eq!(world.end(producer, other, 0), Err(InvalidTxnState));
    }
}

#[test]
fn a_transaction_that_lasts_too_long_is_aborted() {
    for version in [0, 2] {
        let mut world = World::new();
        let producer = world.init().unwrap();
        world.add(producer, "a", version).unwrap();
        world.pass(i64::from(TIMEOUT_MS) - 1);
        world.add(producer, "b", version).unwrap();
        assert_eq!(world.state(), TransactionState::Ongoing);
        world.pass(1);
        assert_eq!(
            world.state(),
            TransactionState::PrepareAbort,
            "adding does not make it younger"
        );
        world.markers_written();
        assert_eq!(world.state(), TransactionState::CompleteAbort);
        let refused = if version == 0 {
            ProducerFenced
        } else {
            InvalidTxnState
        };
        assert_eq!(world.end(producer, Commit, version), Err(refused));
    }
}

#[test]
fn a_reload_does_not_make_a_transaction_younger() {
    let mut world = World::new();
    let producer = world.init().unwrap();
    world.add(producer, "a", 2).unwrap();
    world.elapsed += 50_000;
    world.reload();
    world.pass(9_999);
    assert_eq!(world.state(), TransactionState::Ongoing);
    world.pass(1);
    assert_eq!(world.state(), TransactionState::PrepareAbort);
}

#[test]
fn a_refused_abort_is_tried_again() {
    let mut world = World::new();
    let producer = world.init().unwrap();
    world.add(producer, "a", 2).unwrap();
    world.elapsed += i64::from(TIMEOUT_MS);
    world.refuses = true;
    assert!(world.try_run(TransactionShard::tick).is_none());
    assert_eq!(world.state(), TransactionState::Ongoing);
    world.pass(1_000);
    assert_eq!(world.state(), TransactionState::PrepareAbort);
}

#[test]
fn what_was_decided_is_carried_out_after_a_reload() {
    for outcome in [Commit, Abort] {
        let mut world = World::new();
        let producer = world.init().unwrap();
        world.add(producer, "a", 2).unwrap();
        world.end(producer, outcome, 2).unwrap();
        let before = world.decided.clone();
        world.reload();
        assert_eq!(world.decided, before);
        world.markers_written();
        world.reload();
        assert!(world.decided.is_empty());
    }
}

#[test]
fn markers_of_an_earlier_transaction_complete_nothing() {
    let mut world = World::new();
    let first = world.init().unwrap();
    world.add(first, "a", 2).unwrap();
    let second = world.end(first, Commit, 2).unwrap();
    let stale = world.decided.clone();
    world.markers_written();
    world.add(second, "a", 2).unwrap();
    world.end(second, Abort, 2).unwrap();
    for decided in &stale {
        world.run(|shard, context| shard.complete_transaction(context, decided));
    }
    assert_eq!(world.state(), TransactionState::PrepareAbort);
}

#[test]
fn partitions_are_verified() {
    let mut world = World::new();
    let producer = world.init().unwrap();
    let ask = |world: &World, producer| world.shard.verify_partitions(&asked(producer, &["a", "b"]));
    let abortable = Err(TransactionError::TransactionAbortable);
    let verdicts = |first: Result<(), _>, second: Result<(), _>| {
        let place = |topic| TopicPartition::new(topic, 0);
        Ok(vec![(place("a"), first), (place("b"), second)])
    };
    assert_eq!(
        ask(&world, producer),
        verdicts(abortable.clone(), abortable.clone())
    );
    world.add(producer, "b", 0).unwrap();
    assert_eq!(ask(&world, producer), verdicts(abortable, Ok(())));
    let other = identity(1_000, 7);
    assert_eq!(ask(&world, other), Err(ProducerFenced));
    world.end(producer, Commit, 0).unwrap();
    assert_eq!(ask(&world, producer), Err(ConcurrentTransactions));
}

#[test]
fn partitions_that_are_part_already_write_nothing() {
    let mut world = World::new();
    let producer = world.init().unwrap();
    world.add(producer, "a", 2).unwrap();
    let written = world.log.len();
    world.add(producer, "a", 2).unwrap();
    assert_eq!(world.log.len(), written);
}
