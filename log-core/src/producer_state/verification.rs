//! Transactions that have no batch on this partition yet: what stands between a batch that would begin one and the
//! coordinator's word that the partition is part of it (KIP-890).
//!
//! Without it, a batch that arrives late, after its transaction ended, would begin one that nobody ends. So the partition
//! gives out a guard first, then the coordinator is asked, and then the batch is appended with the guard, if that is still
//! the one that counts: a marker, or another batch of the producer, takes it back. A guard is known by its identity, so
//! that one that was given out before a marker is never taken for one that was given out behind it.
//!
//! Nothing of this is stored: after a restart clients are told `INVALID_TXN_STATE` and verify again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs, TransactionVersion};

/// More verifications than this are not kept for one partition. A client that begins one for each producer id there is
/// would otherwise fill the memory; those that it displaces are asked again.
pub const VERIFICATIONS_MAX: usize = 1 << 14;

/// Names one verification. Clones of it are the same, and nothing else is.
#[derive(Debug, Clone)]
pub struct VerificationGuard(Arc<()>);

impl VerificationGuard {
    fn new() -> Self {
        // More than a zero-sized allocation is not needed: an `Arc` has counts, so its address is its own.
        Self(Arc::new(()))
    }
}

impl PartialEq for VerificationGuard {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for VerificationGuard {}

/// By what a batch claims to belong to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionProof {
    /// Its producer has one open on the partition. Also for batches that are not transactional.
    Ongoing,
    /// The coordinator said so, after this guard was given out.
    Verified(VerificationGuard),
}

/// A batch that wants to be part of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionalBatch {
    /// Whose it is.
    pub producer_id: ProducerId,
    /// In which life of the producer.
    pub producer_epoch: ProducerEpoch,
    /// Its first record; [`Sequence::NONE`] when a coordinator writes it.
    pub base_sequence: Sequence,
    /// Which rules its producer follows.
    pub version: TransactionVersion,
}

/// A verification that has begun and led to no batch yet.
#[derive(Debug, Clone)]
pub(super) struct VerificationState {
    pub(super) guard: VerificationGuard,
    /// The lowest sequence that was seen. A higher one must not be first, or the lower one could never follow.
    pub(super) lowest_sequence: Sequence,
    pub(super) version: TransactionVersion,
    epoch: ProducerEpoch,
    since: TimestampMs,
}

/// The verifications of one partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Verifications {
    states: HashMap<ProducerId, VerificationState>,
}

impl Verifications {
    /// Begins one, or goes on with the one that the producer has.
    pub(super) fn begin(&mut self, batch: &TransactionalBatch, now: TimestampMs) -> VerificationGuard {
        if VERIFICATIONS_MAX <= self.states.len() && !self.states.contains_key(&batch.producer_id) {
            self.states.clear();
        }
        let fresh = || VerificationState {
            guard: VerificationGuard::new(),
            lowest_sequence: batch.base_sequence,
            version: batch.version,
            epoch: batch.producer_epoch,
            since: now,
        };
        let state = self.states.entry(batch.producer_id).or_insert_with(fresh);
        if state.epoch < batch.producer_epoch {
            state.epoch = batch.producer_epoch;
            state.lowest_sequence = batch.base_sequence;
        } else if state.epoch == batch.producer_epoch {
            state.lowest_sequence = state.lowest_sequence.min(batch.base_sequence);
        }
        state.guard.clone()
    }

    /// The one that counts for a producer.
    pub(super) fn get(&self, producer_id: ProducerId) -> Option<&VerificationState> {
        self.states.get(&producer_id)
    }

    /// Takes a producer's guard back: its transaction has begun here, or has ended.
    pub(super) fn end(&mut self, producer_id: ProducerId) {
        self.states.remove(&producer_id);
    }

    /// Forgets those that led to nothing for `expiration_ms`.
    pub(super) fn expire(&mut self, now: TimestampMs, expiration_ms: i64) {
        self.states
            .retain(|_, state| now.saturating_since(state.since) < expiration_ms);
    }
}
