//! Who gets which producer id and epoch, and who is fenced by that.

use super::*;
use TransactionOutcome::{Abort, Commit};

#[test]
fn each_producer_fences_the_one_before() {
    let mut world = World::new();
    let first = world.init().unwrap();
    assert_eq!(first, identity(1_000, 0));
    let second = world.init().unwrap();
    assert_eq!(second, identity(1_000, 1));
    assert_eq!(world.add(first, "a", 2), Err(TransactionError::ProducerFenced));
    assert_eq!(world.end(first, Commit, 2), Err(TransactionError::ProducerFenced));
    assert_eq!(world.init_as(Some(first)), Err(TransactionError::ProducerFenced));
    world.add(second, "a", 2).unwrap();
}

#[test]
fn an_unknown_transactional_id_has_no_transaction() {
    let mut world = World::new();
    let nobody = identity(7, 0);
    assert_eq!(
        world.add(nobody, "a", 2),
        Err(TransactionError::InvalidProducerIdMapping)
    );
    assert_eq!(
        world.end(nobody, Commit, 2),
        Err(TransactionError::InvalidProducerIdMapping)
    );
    assert_eq!(
        world.end(nobody, Commit, 0),
        Err(TransactionError::InvalidProducerIdMapping)
    );
    let producer = world.init().unwrap();
    let other = identity(7, producer.epoch.get());
    assert_eq!(
        world.add(other, "a", 2),
        Err(TransactionError::InvalidProducerIdMapping)
    );
}

#[test]
fn a_timeout_has_limits() {
    let mut world = World::new();
    for (timeout_ms, is_refused) in [
        (0, true),
        (-1, true),
        (1, false),
        (900_000, false),
        (900_001, true),
    ] {
        let request = InitRequest {
            transactional_id: id(),
            timeout_ms,
            current: None,
        };
        let answer = world.identify(|shard, context, fresh| shard.init_producer(context, &request, fresh));
        let expected = TransactionError::InvalidTransactionTimeout { max: 900_000 };
        assert_eq!(answer == Err(expected), is_refused, "{timeout_ms}: {answer:?}");
    }
}

#[test]
fn a_producer_that_goes_on_may_repeat_its_question() {
    let mut world = World::new();
    let before = world.init().unwrap();
    let after = world.init_as(Some(before)).unwrap();
    assert_eq!(after, identity(1_000, 1));
    assert_eq!(world.init_as(Some(before)), Ok(after), "the answer was lost");
    // Somebody else begins, and nobody of before may go on.
    world.init().unwrap();
    assert_eq!(world.init_as(Some(before)), Err(TransactionError::ProducerFenced));
    assert_eq!(world.init_as(Some(after)), Err(TransactionError::ProducerFenced));
}

#[test]
fn a_late_copy_of_a_question_ends_nothing() {
    for epoch in [0, i16::MAX - 1] {
        let mut world = World::new();
        world.init().unwrap();
        let before = world.set_epoch(epoch);
        let after = world.init_as(Some(before)).unwrap();
        world.add(after, "a", 0).unwrap();
        let late = Err(TransactionError::ProducerFenced);
        assert_eq!(world.init_as(Some(before)), late, "while it goes on");
        assert_eq!(world.state(), TransactionState::Ongoing);
        world.end(after, Commit, 0).unwrap();
        world.markers_written();
        assert_eq!(world.init_as(Some(before)), late, "when it is over");
        assert_eq!(world.end(after, Commit, 0), Ok(after), "the answer was lost");
        // The producer itself may give up what it began.
        world.add(after, "a", 0).unwrap();
        let refused = Err(TransactionError::ConcurrentTransactions);
        assert_eq!(world.init_as(Some(after)), refused);
        assert_eq!(world.state(), TransactionState::PrepareAbort);
    }
}

#[test]
fn a_transactional_id_that_is_forgotten_begins_anew_whoever_asks() {
    let mut world = World::new();
    let gone = identity(7, 3);
    assert_eq!(world.init_as(Some(gone)), Ok(identity(1_000, 0)));
}

#[test]
fn another_producer_ends_what_the_first_began() {
    let mut world = World::new();
    let first = world.init().unwrap();
    world.add(first, "a", 2).unwrap();
    assert_eq!(world.init(), Err(TransactionError::ConcurrentTransactions));
    assert_eq!(world.state(), TransactionState::PrepareAbort);
    let [aborted] = world.decided.as_slice() else {
        panic!("{:?}", world.decided)
    };
    assert_eq!(
        aborted.producer,
        identity(1_000, 1),
        "the marker fences the first"
    );
    assert_eq!((aborted.outcome, &aborted.partitions), (Abort, &places(&["a"])));
    assert_eq!(world.init(), Err(TransactionError::ConcurrentTransactions));
    world.markers_written();
    assert_eq!(world.init(), Ok(identity(1_000, 2)));
    assert_eq!(world.end(first, Commit, 2), Err(TransactionError::ProducerFenced));
}

#[test]
fn an_exhausted_producer_id_is_followed_by_another() {
    let mut world = World::new();
    world.init().unwrap();
    let last = world.set_epoch(i16::MAX - 1);
    assert_eq!(world.init(), Ok(identity(1_001, 0)));
    assert_eq!(world.transaction().previous_producer_id, last.id);
    assert_eq!(
        world.init_as(Some(last)),
        Err(TransactionError::ProducerFenced),
        "a new one began"
    );

    let mut world = World::new();
    world.init().unwrap();
    let last = world.set_epoch(i16::MAX - 1);
    let next = world.init_as(Some(last)).unwrap();
    assert_eq!(next, identity(1_001, 0));
    assert_eq!(world.init_as(Some(last)), Ok(next), "the answer was lost");
}

#[test]
fn nobody_is_given_the_last_epoch() {
    let mut world = World::new();
    world.init().unwrap();
    let last = world.set_epoch(i16::MAX - 1);
    world.add(last, "a", 2).unwrap();
    world.pass(i64::from(TIMEOUT_MS));
    assert_eq!(
        world.transaction().producer,
        identity(1_000, i16::MAX),
        "it fences"
    );
    world.markers_written();
    // The producer does not know what became of its transaction, and must not go on with an epoch that cannot be fenced.
    assert_eq!(world.end(last, Abort, 2), Err(TransactionError::ProducerFenced));
    let fence = identity(1_000, i16::MAX);
    assert_eq!(world.add(fence, "a", 2), Err(TransactionError::ProducerFenced));
    assert_eq!(world.end(fence, Abort, 2), Err(TransactionError::ProducerFenced));
    assert_eq!(world.init_as(Some(last)), Ok(identity(1_001, 0)));
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let mut world = World::new();
    let producer = world.init().unwrap();
    world.add(producer, "a", 2).unwrap();
    let week = i64::try_from(world.settings.id_expiration.as_millis()).unwrap();
    let hour = i64::try_from(world.settings.id_expiration_check_interval.as_millis()).unwrap();
    world.pass(week + 2 * hour);
    // What was aborted without an end is not forgotten.
    assert_eq!(world.state(), TransactionState::PrepareAbort);
    world.markers_written();
    world.pass(week - 1);
    assert_eq!(world.state(), TransactionState::CompleteAbort);
    world.pass(hour + 1);
    assert!(world.shard.transactions.is_empty());
    assert_eq!(world.log.last().unwrap().value, None);
    world.reload();
    assert_eq!(world.init(), Ok(identity(1_001, 0)));
}
