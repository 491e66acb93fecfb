//! Producer state as a whole: Kafka's rules case by case; `snapshot` and `model` hold the rest.
//! A batch is a header here: the state never looks at records.

mod model;
mod snapshot;
mod verification;

use std::collections::BTreeMap;

use super::entry::{BatchMetadata, CompletedTransaction, ProducerStateEntry};
use super::manager::{ProducerStateError, ProducerStateManager, Verdict};
use super::snapshot::Snapshot;
use super::verification::{TransactionProof, TransactionalBatch};
use crate::model::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TransactionVersion,
};
use crate::record::batch_attributes::Attributes;
use crate::record::batch_header::BatchHeader;
use crate::record::control::{EndTransactionMarker, TransactionOutcome};

/// A batch of `count` records.
fn batch(producer_id: i64, epoch: i16, sequence: i32, base_offset: i64, count: u32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::new(base_offset),
        batch_length: 49,
        leader_epoch: LeaderEpoch::FIRST,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: count - 1,
        base_timestamp: TimestampMs::new(base_offset),
        max_timestamp: TimestampMs::new(base_offset * 10),
        producer_id: ProducerId::new(producer_id),
        producer_epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(sequence),
        record_count: count,
    }
}

fn transactional(header: BatchHeader) -> BatchHeader {
    BatchHeader {
        attributes: header.attributes.with_transactional(true),
        ..header
    }
}

fn control(producer_id: i64, epoch: i16, base_offset: i64) -> BatchHeader {
    let header = transactional(batch(producer_id, epoch, -1, base_offset, 1));
    BatchHeader {
        attributes: header.attributes.with_control(true),
        ..header
    }
}

const ABORT: EndTransactionMarker = EndTransactionMarker {
    outcome: TransactionOutcome::Abort,
    coordinator_epoch: 3,
};
const COMMIT: EndTransactionMarker = EndTransactionMarker {
    outcome: TransactionOutcome::Commit,
    coordinator_epoch: 3,
};

fn manager(headers: &[BatchHeader]) -> ProducerStateManager {
    let mut manager = ProducerStateManager::new(Offset::ZERO);
    for header in headers {
        manager.update(header);
    }
    manager
}

fn duplicate(base_offset: i64, last_offset: i64) -> Verdict {
    Verdict::Duplicate {
        base_offset: Offset::new(base_offset),
        last_offset: Offset::new(last_offset),
        timestamp: TimestampMs::new(base_offset * 10),
    }
}

fn out_of_order(epoch: i16, last: i32, found: i32) -> ProducerStateError {
    ProducerStateError::OutOfOrderSequence {
        producer_id: ProducerId::new(7),
        epoch: ProducerEpoch::new(epoch),
        last: Sequence::new(last),
        found: Sequence::new(found),
    }
}

const NEW: Result<Verdict, ProducerStateError> = Ok(Verdict::New);

/// The verdict on a batch; on one of a transaction after the coordinator was asked.
fn check(state: &ProducerStateManager, header: &BatchHeader) -> Result<Verdict, ProducerStateError> {
    let mut state = state.clone();
    let proof = verified(&mut state, header, TransactionVersion::V1)?;
    state.check(header, &proof)
}

fn check_unsequenced(state: &ProducerStateManager, header: &BatchHeader) -> Result<(), ProducerStateError> {
    let mut state = state.clone();
    let proof = verified(&mut state, header, TransactionVersion::V1)?;
    state.check_unsequenced(header, &proof)
}

fn verified(
    state: &mut ProducerStateManager,
    header: &BatchHeader,
    version: TransactionVersion,
) -> Result<TransactionProof, ProducerStateError> {
    if !header.attributes.is_transactional() {
        return Ok(TransactionProof::Ongoing);
    }
    let wanted = TransactionalBatch {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        version,
    };
    state.start_verification(&wanted, TimestampMs::new(0))
}

#[test]
fn a_producer_without_state_may_start_anywhere() {
    let manager = manager(&[batch(-1, -1, -1, 0, 5)]);
    assert_eq!(manager.map_end_offset(), Offset::new(5));
    for (epoch, sequence) in [(0, 0), (0, 17), (5, i32::MAX), (i16::MAX, 1)] {
        assert_eq!(check(&manager, &batch(7, epoch, sequence, 0, 3)), NEW);
    }
    assert_eq!(check(&manager, &batch(-1, -1, -1, 0, 3)), NEW);
    assert_eq!(manager.producer_count(), 0);
}

#[test]
fn sequences_follow_each_other_and_wrap() {
    let state = manager(&[batch(7, 0, 0, 0, 10)]);
    assert_eq!(check(&state, &batch(7, 0, 10, 0, 1)), NEW);
    assert_eq!(check(&state, &batch(7, 0, 11, 0, 1)), Err(out_of_order(0, 9, 11)));
    assert_eq!(check(&state, &batch(7, 0, 9, 0, 1)), Err(out_of_order(0, 9, 9)));
    assert_eq!(check(&state, &batch(7, 0, -1, 0, 1)), Err(out_of_order(0, 9, -1)));

    let state = manager(&[batch(7, 0, i32::MAX - 1, 0, 2)]);
    assert_eq!(check(&state, &batch(7, 0, 0, 0, 1)), NEW);
    assert_eq!(
        check(&state, &batch(7, 0, 1, 0, 1)),
        Err(out_of_order(0, i32::MAX, 1))
    );

    // A batch that itself goes over the end: 2³¹−2, 2³¹−1, 0, 1.
    let over = batch(7, 0, i32::MAX - 1, 100, 4);
    let state = manager(&[over]);
    assert_eq!(check(&state, &batch(7, 0, 2, 0, 1)), NEW);
    assert_eq!(check(&state, &over), Ok(duplicate(100, 103)));
    let entry = state.entry(ProducerId::new(7)).unwrap();
    assert_eq!(
        entry.last_batch().unwrap().first_sequence(),
        Sequence::new(i32::MAX - 1)
    );
}

#[test]
fn the_last_five_batches_are_known_and_no_more() {
    let headers: Vec<_> = (0..7).map(|n| batch(7, 0, 3 * n, 3 * i64::from(n), 3)).collect();
    let state = manager(&headers);
    for header in &headers[..2] {
        assert_eq!(
            check(&state, header),
            Err(out_of_order(0, 20, header.base_sequence.get()))
        );
    }
    for header in &headers[2..] {
        let base_offset = header.base_offset.get();
        let retry = BatchHeader {
            base_offset: Offset::ZERO,
            ..*header
        };
        assert_eq!(check(&state, &retry), Ok(duplicate(base_offset, base_offset + 2)));
    }
    // The same beginning with another end is no duplicate.
    assert_eq!(
        check(&state, &batch(7, 0, 18, 0, 2)),
        Err(out_of_order(0, 20, 18))
    );
}

#[test]
fn a_newer_epoch_begins_with_zero_and_fences_the_older() {
    let mut state = manager(&[batch(7, 1, 0, 0, 10)]);
    assert_eq!(check(&state, &batch(7, 2, 0, 0, 1)), NEW);
    assert_eq!(
        check(&state, &batch(7, 2, 10, 0, 1)),
        Err(out_of_order(2, -1, 10))
    );
    let fenced = |current, found| {
        Err(ProducerStateError::InvalidProducerEpoch {
            producer_id: ProducerId::new(7),
            current: ProducerEpoch::new(current),
            found: ProducerEpoch::new(found),
        })
    };
    assert_eq!(check(&state, &batch(7, 0, 0, 0, 10)), fenced(1, 0));
    assert_eq!(check(&state, &batch(7, -1, 10, 0, 1)), fenced(1, -1));
    assert_eq!(
        check(&state, &batch(8, -1, 10, 0, 1)).unwrap_err().to_string(),
        "producer 8: epoch -1 is older than -1"
    );
    state.update(&batch(7, 2, 0, 10, 1));
    // The batches of the old epoch are no longer duplicates.
    assert_eq!(check(&state, &batch(7, 1, 0, 0, 10)), fenced(2, 1));
    assert_eq!(check(&state, &batch(7, 2, 1, 0, 1)), NEW);
}

#[test]
fn a_marker_of_a_newer_epoch_makes_the_next_batch_begin_with_zero() {
    let mut state = manager(&[transactional(batch(7, 1, 0, 0, 10))]);
    let completed = state.end_transaction(&control(7, 2, 10), ABORT).unwrap();
    state.complete_transaction(&completed);
    assert_eq!(state.map_end_offset(), Offset::new(11));
    assert_eq!(
        check(&state, &batch(7, 2, 10, 0, 1)),
        Err(out_of_order(2, -1, 10))
    );
    assert_eq!(check(&state, &batch(7, 2, 0, 0, 1)), NEW);
    assert!(check(&state, &batch(7, 1, 0, 0, 10)).is_err());

    // A marker of the same epoch leaves the sequences as they are.
    let mut state = manager(&[transactional(batch(7, 1, 0, 0, 10))]);
    let completed = state.end_transaction(&control(7, 1, 10), COMMIT).unwrap();
    state.complete_transaction(&completed);
    assert_eq!(check(&state, &batch(7, 1, 10, 0, 1)), NEW);
    assert_eq!(
        check(&state, &transactional(batch(7, 1, 0, 0, 10))),
        Ok(duplicate(0, 9))
    );

    // A control batch whose marker compaction took still raises the epoch.
    state.update(&control(7, 4, 11));
    assert_eq!(check(&state, &batch(7, 4, 0, 0, 1)), NEW);
    assert!(check(&state, &batch(7, 3, 10, 0, 1)).is_err());
}

#[test]
fn a_plain_batch_within_a_transaction_is_refused() {
    let mut state = manager(&[batch(7, 0, 0, 0, 10), transactional(batch(7, 0, 10, 10, 5))]);
    let refused = ProducerStateError::InvalidTransactionState {
        producer_id: ProducerId::new(7),
        first_offset: Offset::new(10),
    };
    assert_eq!(check(&state, &batch(7, 0, 15, 0, 1)), Err(refused));
    assert_eq!(check_unsequenced(&state, &batch(7, 0, -1, 0, 1)), Err(refused));
    assert_eq!(check(&state, &transactional(batch(7, 0, 15, 0, 1))), NEW);
    // A retry of an earlier plain batch is still a duplicate, and what is out of order is that first.
    assert_eq!(check(&state, &batch(7, 0, 0, 0, 10)), Ok(duplicate(0, 9)));
    assert_eq!(
        check(&state, &batch(7, 0, 99, 0, 1)),
        Err(out_of_order(0, 14, 99))
    );
    let completed = state.end_transaction(&control(7, 0, 15), COMMIT).unwrap();
    state.complete_transaction(&completed);
    assert_eq!(check(&state, &batch(7, 0, 15, 0, 1)), NEW);
}

#[test]
fn batches_without_a_sequence_are_checked_for_their_epoch_alone() {
    let written = transactional(batch(7, 3, -1, 0, 2));
    let state = manager(&[written]);
    assert_eq!(check_unsequenced(&state, &written), Ok(()));
    assert_eq!(
        check_unsequenced(&state, &transactional(batch(7, 4, -1, 0, 2))),
        Ok(())
    );
    assert_eq!(
        check_unsequenced(&state, &transactional(batch(8, 0, -1, 0, 2))),
        Ok(())
    );
    assert!(check_unsequenced(&state, &transactional(batch(7, 2, -1, 0, 2))).is_err());
    // Nor are they ever taken for duplicates.
    assert_eq!(check(&state, &written), Err(out_of_order(3, -1, -1)));
    assert_eq!(check(&state, &transactional(batch(7, 3, 0, 0, 2))), NEW);
}

#[test]
fn markers_are_checked_for_both_epochs() {
    let mut state = manager(&[transactional(batch(7, 2, 0, 0, 1))]);
    let completed = state.end_transaction(&control(7, 2, 1), COMMIT).unwrap();
    state.complete_transaction(&completed);
    let older = EndTransactionMarker {
        coordinator_epoch: 2,
        ..COMMIT
    };
    assert_eq!(
        state.check_marker(&control(7, 2, 0), COMMIT, TransactionVersion::V1),
        Ok(())
    );
    assert_eq!(
        state.check_marker(&control(9, 0, 0), older, TransactionVersion::V1),
        Ok(())
    );
    assert!(
        state
            .check_marker(&control(7, 1, 0), COMMIT, TransactionVersion::V1)
            .is_err()
    );
    let fenced = ProducerStateError::CoordinatorFenced {
        producer_id: ProducerId::new(7),
        current: 3,
        found: 2,
    };
    assert_eq!(
        state.check_marker(&control(7, 2, 0), older, TransactionVersion::V1),
        Err(fenced)
    );
}

#[test]
fn transactions_hold_the_last_stable_offset_until_the_high_watermark_passes_their_markers() {
    let mut state = manager(&[
        transactional(batch(1, 0, 0, 0, 5)),
        transactional(batch(2, 0, 0, 5, 5)),
        transactional(batch(1, 0, 5, 10, 5)),
    ]);
    let offset = |offset| Some(Offset::new(offset));
    let ongoing: Vec<_> = state.ongoing_transactions().collect();
    assert_eq!(
        ongoing,
        [
            (Offset::new(0), ProducerId::new(1)),
            (Offset::new(5), ProducerId::new(2))
        ]
    );
    assert_eq!(state.first_unstable_offset(), offset(0));

    let first = state.end_transaction(&control(1, 0, 15), ABORT).unwrap();
    let expected = CompletedTransaction {
        producer_id: ProducerId::new(1),
        first_offset: Offset::new(0),
        last_offset: Offset::new(15),
        is_aborted: true,
    };
    assert_eq!(first, expected);
    assert_eq!(state.last_stable_offset(&first), Offset::new(5));
    assert_eq!(state.first_undecided_offset(), offset(0));
    state.complete_transaction(&first);
    assert_eq!(
        (state.first_undecided_offset(), state.first_unstable_offset()),
        (offset(5), offset(0))
    );

    let second = state.end_transaction(&control(2, 0, 16), COMMIT).unwrap();
    assert!(!second.is_aborted);
    assert_eq!(state.last_stable_offset(&second), Offset::new(17));
    state.complete_transaction(&second);
    assert_eq!(
        (state.first_undecided_offset(), state.first_unstable_offset()),
        (None, offset(0))
    );

    state.advance_high_watermark(Offset::new(15));
    assert_eq!(state.first_unstable_offset(), offset(0));
    state.advance_high_watermark(Offset::new(16));
    assert_eq!(state.first_unstable_offset(), offset(5));
    state.advance_high_watermark(Offset::new(17));
    assert_eq!(state.first_unstable_offset(), None);

    // A marker without records ends nothing.
    assert_eq!(state.end_transaction(&control(1, 0, 17), COMMIT), None);
    assert_eq!(state.end_transaction(&control(3, 0, 18), COMMIT), None);
}

#[test]
fn a_log_with_a_repeated_offset_does_not_panic() {
    let mut state = manager(&[
        transactional(batch(1, 0, 0, 0, 5)),
        transactional(batch(2, 0, 0, 0, 5)),
    ]);
    let first = state.end_transaction(&control(1, 0, 5), COMMIT).unwrap();
    state.complete_transaction(&first);
    assert_eq!(state.first_undecided_offset(), Some(Offset::ZERO));
    let second = state.end_transaction(&control(2, 0, 6), COMMIT).unwrap();
    state.complete_transaction(&second);
    assert_eq!(state.first_undecided_offset(), None);
}

#[test]
fn idle_producers_expire_by_the_clock_and_not_by_their_timestamps() {
    let at = TimestampMs::new;
    let mut state = manager(&[batch(1, 0, 0, 0, 1), transactional(batch(2, 0, 0, 1, 1))]);
    // The timestamps of these batches are decades old.
    assert_eq!(state.expire(at(1_700_000_000_000), 1000), 0);
    assert_eq!(state.expire(at(1_700_000_000_999), 1000), 0);
    state.update(&batch(1, 0, 1, 2, 1));
    assert_eq!(state.expire(at(1_700_000_001_500), 1000), 0);
    assert_eq!(state.expire(at(1_700_000_002_499), 1000), 0);
    assert_eq!(state.expire(at(1_700_000_002_500), 1000), 1);
    assert!(state.entry(ProducerId::new(1)).is_none());
    // An open transaction is not forgotten; when it ends, its producer was last active then.
    assert!(state.entry(ProducerId::new(2)).is_some());
    let completed = state.end_transaction(&control(2, 0, 3), COMMIT).unwrap();
    state.complete_transaction(&completed);
    assert_eq!(state.expire(at(1_700_000_009_000), 1000), 0);
    // A clock that is set back expires nothing.
    assert_eq!(state.expire(at(0), 1000), 0);
    assert_eq!(state.expire(at(1_700_000_010_000), 1000), 1);
    assert_eq!(state.producer_count(), 0);
}

#[test]
fn a_clock_that_was_ahead_for_a_while_keeps_no_producer_for_ever() {
    let at = TimestampMs::new;
    let mut state = manager(&[batch(1, 0, 0, 0, 1)]);
    assert_eq!(state.expire(at(4_000_000_000_000), 1000), 0);
    assert_eq!(state.expire(at(1_700_000_000_000), 1000), 0);
    assert_eq!(state.expire(at(1_700_000_001_000), 1000), 1);
}

#[test]
fn a_flood_of_producer_ids_is_bounded() {
    let mut state = ProducerStateManager::new(Offset::ZERO).with_producers_max(8);
    state.update(&transactional(batch(1000, 0, 0, 0, 1)));
    for id in 1..=1000 {
        state.update(&batch(id, 0, 0, id, 1));
        assert!(state.producer_count() <= 8);
    }
    // Those that wrote last are still known, and so is the one with a transaction.
    for id in [997, 998, 999, 1000] {
        assert!(state.entry(ProducerId::new(id)).is_some(), "{id}");
    }
    assert_eq!(check(&state, &batch(998, 0, 0, 0, 1)), Ok(duplicate(998, 998)));
}

fn assert_same(left: &ProducerStateManager, right: &ProducerStateManager) {
    let state = |manager: &ProducerStateManager| {
        let producers: BTreeMap<_, _> = manager
            .producers()
            .map(|(id, entry)| (id, entry.clone()))
            .collect();
        let ongoing: Vec<_> = manager.ongoing_transactions().collect();
        (producers, ongoing, manager.map_end_offset())
    };
    assert_eq!(state(left), state(right));
}

#[test]
fn the_first_sequence_of_a_batch_without_one_is_none() {
    let metadata = BatchMetadata::of(&control(7, 0, 5));
    assert_eq!(metadata.first_sequence(), Sequence::NONE);
    assert_eq!(metadata.base_offset(), Offset::new(5));
    assert_eq!(ProducerStateEntry::default().last_sequence(), Sequence::NONE);
}
