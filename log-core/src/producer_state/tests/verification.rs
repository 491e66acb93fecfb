//! The first batch of a transaction: appended only with the guard that counts, whatever came between.

use super::*;
use crate::producer_state::verification::VERIFICATIONS_MAX;

const V1: TransactionVersion = TransactionVersion::V1;
const V2: TransactionVersion = TransactionVersion::V2;

fn unverified(producer_id: i64) -> Result<Verdict, ProducerStateError> {
    Err(ProducerStateError::UnverifiedTransaction {
        producer_id: ProducerId::new(producer_id),
    })
}

#[test]
fn a_transaction_begins_with_a_proof_and_goes_on_without() {
    let mut state = manager(&[batch(7, 0, 0, 0, 2)]);
    let first = transactional(batch(7, 0, 2, 2, 1));
    assert_eq!(state.check(&first, &TransactionProof::Ongoing), unverified(7));
    assert_eq!(
        state.check_unsequenced(&first, &TransactionProof::Ongoing),
        unverified(7).map(|_| ())
    );
    let proof = verified(&mut state, &first, V1).unwrap();
    // Who asks again before the first batch is there gets the same.
    assert_eq!(verified(&mut state, &first, V1), Ok(proof.clone()));
    assert_eq!(state.check(&first, &proof), NEW);
    assert_eq!(state.check_unsequenced(&first, &proof), Ok(()));
    state.update(&first);

    let next = transactional(batch(7, 0, 3, 3, 1));
    assert_eq!(verified(&mut state, &next, V1), Ok(TransactionProof::Ongoing));
    for proof in [TransactionProof::Ongoing, proof.clone()] {
        assert_eq!(state.check(&next, &proof), NEW);
    }
    // A transaction of an older epoch is another one.
    let newer = transactional(batch(7, 1, 0, 3, 1));
    assert_eq!(state.check(&newer, &TransactionProof::Ongoing), unverified(7));
    let proof = verified(&mut state, &newer, V1).unwrap();
    assert_eq!(state.check(&newer, &proof), NEW);
    // Plain batches and their retries need none.
    assert_eq!(
        state.check(&batch(8, 0, 0, 3, 1), &TransactionProof::Ongoing),
        NEW
    );
    assert_eq!(
        state.check(&first, &TransactionProof::Ongoing),
        Ok(duplicate(2, 2))
    );
}

#[test]
fn a_proof_from_before_a_marker_is_none() {
    let mut state = manager(&[]);
    let late = transactional(batch(7, 0, 0, 0, 1));
    let old = verified(&mut state, &late, V1).unwrap();
    // The transaction is aborted before the batch arrives.
    assert_eq!(state.end_transaction(&control(7, 0, 0), ABORT), None);
    assert_eq!(state.check(&late, &old), unverified(7));
    // Not even beside a verification that the next transaction has begun.
    let new = verified(&mut state, &late, V1).unwrap();
    assert_ne!(new, old);
    assert_eq!(state.check(&late, &old), unverified(7));
    assert_eq!(state.check(&late, &new), NEW);
}

#[test]
fn the_lowest_sequence_that_was_seen_must_be_first() {
    let mut state = manager(&[]);
    let (low, high) = (
        transactional(batch(7, 0, 4, 0, 1)),
        transactional(batch(7, 0, 5, 0, 1)),
    );
    let proof = verified(&mut state, &high, V1).unwrap();
    assert_eq!(state.check(&high, &proof), NEW);
    verified(&mut state, &low, V1).unwrap();
    assert_eq!(state.check(&high, &proof), Err(out_of_order(0, -1, 5)));
    assert_eq!(state.check(&low, &proof), NEW);
    // A newer epoch begins anew.
    let newer = transactional(batch(7, 1, 9, 0, 1));
    verified(&mut state, &newer, V1).unwrap();
    assert_eq!(state.check(&newer, &proof), NEW);
}

#[test]
fn under_version_2_a_producer_that_is_not_known_begins_with_sequence_0() {
    for (version, sequence, expected) in [
        (V1, 0, NEW),
        (V1, 3, NEW),
        (V2, 0, NEW),
        (V2, 3, Err(out_of_order(0, -1, 3))),
    ] {
        let mut state = manager(&[]);
        let first = transactional(batch(7, 0, sequence, 0, 1));
        let proof = verified(&mut state, &first, version).unwrap();
        assert_eq!(state.check(&first, &proof), expected, "{version:?} {sequence}");
    }
}

#[test]
fn a_fenced_producer_begins_no_verification() {
    let mut state = manager(&[batch(7, 2, 0, 0, 1)]);
    let refused = verified(&mut state, &transactional(batch(7, 1, 0, 1, 1)), V2);
    assert!(matches!(
        refused,
        Err(ProducerStateError::InvalidProducerEpoch { .. })
    ));
}

#[test]
fn markers_of_version_2_are_of_a_newer_epoch_or_written_again() {
    let open = || manager(&[transactional(batch(7, 3, 0, 0, 1))]);
    let marker = |epoch| control(7, epoch, 1);
    for (epoch, version, is_good) in [
        (2, V1, false),
        (3, V1, true),
        (4, V1, true),
        (2, V2, false),
        (3, V2, false),
        (4, V2, true),
        (i16::MAX, V2, true),
    ] {
        let found = open().check_marker(&marker(epoch), COMMIT, version);
        assert_eq!(found.is_ok(), is_good, "{epoch} {version:?}: {found:?}");
    }
    let mut ended = open();
    ended.end_transaction(&marker(4), COMMIT);
    assert_eq!(ended.check_marker(&marker(4), COMMIT, V2), Ok(()));
    assert!(ended.check_marker(&marker(3), COMMIT, V2).is_err());
    let last = manager(&[transactional(batch(7, i16::MAX, 0, 0, 1))]);
    assert_eq!(last.check_marker(&marker(i16::MAX), ABORT, V2), Ok(()));
}

#[test]
fn verifications_expire_and_are_limited() {
    let mut state = manager(&[]);
    let wanted = |producer_id| transactional(batch(producer_id, 0, 0, 0, 1));
    let proof = verified(&mut state, &wanted(7), V1).unwrap();
    state.expire(TimestampMs::new(99), 100);
    assert_eq!(state.check(&wanted(7), &proof), NEW);
    state.expire(TimestampMs::new(100), 100);
    assert_eq!(state.check(&wanted(7), &proof), unverified(7));

    let proof = verified(&mut state, &wanted(7), V1).unwrap();
    for producer_id in 0..i64::try_from(VERIFICATIONS_MAX).unwrap() {
        verified(&mut state, &wanted(1000 + producer_id), V1).unwrap();
    }
    assert_eq!(state.check(&wanted(7), &proof), unverified(7));
}
