//! One partition's batches between queue and acknowledgement: their order, their sequences, their retries.
//!
//! A state machine without sockets and clock; `sender` feeds it time and answers.
//!
//! Order. Up to five batches are on their way. As soon as one has to be sent again, no new one leaves: the
//! retries go in their old order, one at a time, each when nothing else is on its way. The first batch of an
//! epoch, and the first one after a failure, travels alone too: a broker that knows nothing of the producer
//! takes any sequence, so that the second batch could be appended where the first was refused.
//!
//! Idempotence (KIP-98, KIP-360). A batch gets its sequence when it first leaves and keeps it while it may be
//! in the log: then a second copy is recognised. When the broker says that it did not append a batch, and
//! nothing sent before it is open, there is a gap: nothing from there on can be in the log under its present
//! number. Once everything before the gap is settled, a new epoch numbers the rest from 0.
//!
//! | answer | the batch | the partition |
//! |---|---|---|
//! | appended, `DUPLICATE_SEQUENCE_NUMBER` | done | |
//! | `MESSAGE_TOO_LARGE`, several records | halves, with its sequences, retried | |
//! | `OUT_OF_ORDER_SEQUENCE_NUMBER`, `UNKNOWN_PRODUCER_ID`, earlier ones open | retried | |
//! | the same, nothing earlier open | retried | gap |
//! | `INVALID_PRODUCER_EPOCH`, `PRODUCER_FENCED` | retried | gap, and a new producer id |
//! | one of these where an earlier attempt may have been appended | failed as unknown | |
//! | retriable, or none at all | retried as it is, until its time is over; may be appended | |
//! | anything else, where an earlier attempt may have been appended | failed as unknown | |
//! | anything else | failed: it was not appended | gap |
//!
//! The Java client renumbers also what may have been appended, and so may append it twice.
//!
//! In a transaction nothing is numbered anew: where there would be a gap, the batch has failed, and with it the transaction. The
//! next one has another epoch, which the coordinator of transactions gives, and numbers from 0.
//!
//! - `sealed_batch`: one batch as it travels

mod sealed_batch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::protocol::ErrorCode;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use tokio::time::Instant;

use super::accumulator::{Accumulator, OpenBatch, PartitionQueue, Readiness};
use super::delivery::Outcome;
use crate::error::Error;
use crate::retry::Backoff;

pub(crate) use sealed_batch::SealedBatch;

/// A producer id and its epoch on one partition.
pub(crate) use crate::coordinator::ProducerIdentity as Identity;

/// How long to wait, at most, for the end of the transaction before.
const BETWEEN_TRANSACTIONS: Duration = Duration::from_millis(20);

/// The time limits and the like of all partitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub is_idempotent: bool,
    /// Whether batches belong to transactions, whose coordinator alone gives epochs. Then they are idempotent too.
    pub is_transactional: bool,
    pub in_flight_max: usize,
    pub delivery_timeout: Duration,
    pub backoff: Backoff,
    /// What batches are built with; splitting one builds two.
    pub options: BatchOptions,
}

/// What came back for a batch.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended {
        base_offset: Option<Offset>,
        log_append_time: Option<TimestampMs>,
    },
    Failed(Error),
    /// With a reason for each record that the broker minds.
    Refused {
        error: Error,
        records: Vec<(u32, Error)>,
    },
}

/// One partition's side of the sender.
#[derive(Debug)]
pub(crate) struct InOrder {
    pub(crate) queue: Arc<PartitionQueue>,
    /// The ordinals of the batches on their way.
    in_flight: Vec<u64>,
    /// Batches to be sent again, by ordinal.
    retries: VecDeque<SealedBatch>,
    not_before: Option<Instant>,
    failures: u32,
    next_ordinal: u64,
    identity: Option<Identity>,
    next_sequence: Sequence,
    numbering: Numbering,
    /// Whether the last answer says that the broker has taken a batch of this epoch.
    is_known: bool,
}

/// Whether batches can be numbered as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    Goes,
    /// From this ordinal on nothing is in the log under its number.
    Gap {
        from: u64,
        needs_id: bool,
    },
}

/// What the partition wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To send now.
    Send,
    /// To be asked again then.
    At(Instant),
    /// To be asked when an answer has come.
    Wait,
    /// To be given a producer id that is not this one.
    NewId(Option<ProducerId>),
    /// Nothing: it has no batches but those on their way.
    Nothing,
}

impl InOrder {
    pub(crate) fn new(queue: Arc<PartitionQueue>) -> Self {
        Self {
            queue,
            in_flight: Vec::new(),
            retries: VecDeque::new(),
            not_before: None,
            failures: 0,
            next_ordinal: 0,
            identity: None,
            next_sequence: Sequence::new(0),
            numbering: Numbering::Goes,
            is_known: false,
        }
    }

    /// What the partition wants at `now`; `current` is the producer id in use.
    pub(crate) fn wish(
        &self,
        accumulator: &Accumulator,
        policy: &Policy,
        current: Option<Identity>,
        now: Instant,
    ) -> Wish {
        if let Some(at) = self.not_before
            && now < at
        {
            return Wish::At(at);
        }
        let ready = if self.retries.is_empty() {
            match accumulator.readiness(&self.queue, now) {
                Readiness::Ready if self.in_flight.len() < policy.in_flight_max => true,
                Readiness::Ready => return Wish::Wait,
                Readiness::At(at) => return Wish::At(at),
                Readiness::Empty => return Wish::Nothing,
            }
        } else {
            self.in_flight.is_empty()
        };
        let must_be_alone = policy.is_idempotent && (self.numbering != Numbering::Goes || !self.is_known);
        if !ready || (must_be_alone && !self.in_flight.is_empty()) {
            return Wish::Wait;
        }
        if !policy.is_idempotent {
            return Wish::Send;
        }
        let own = self.identity.map(|identity| identity.id);
        let unusable = match self.numbering {
            _ if self.identity.is_none() => true,
            Numbering::Gap { needs_id, .. } if self.is_gap_next() => {
                needs_id || self.identity.is_some_and(|own| own.epoch.get() == i16::MAX)
            }
            Numbering::Gap { .. } | Numbering::Goes => false,
        };
        if unusable && current.is_none_or(|current| Some(current.id) == own) {
            return Wish::NewId(own);
        }
        Wish::Send
    }

    /// Whether everything before the gap is settled.
    fn is_gap_next(&self) -> bool {
        match self.numbering {
            Numbering::Goes => false,
            Numbering::Gap { from, .. } => {
                self.in_flight.is_empty() && self.retries.front().is_none_or(|next| from <= next.ordinal)
            }
        }
    }

    /// Takes note that nothing from `ordinal` on is in the log under its number.
    fn gap_at(&mut self, ordinal: u64, needs_id: bool) {
        self.numbering = match self.numbering {
            Numbering::Goes => Numbering::Gap {
                from: ordinal,
                needs_id,
            },
            Numbering::Gap {
                from,
                needs_id: before,
            } => Numbering::Gap {
                from: from.min(ordinal),
                needs_id: before || needs_id,
            },
        };
    }

    /// Whether the batch could be in the log under its number.
    fn may_be_appended(&self, batch: &SealedBatch) -> bool {
        let is_before_gap = match self.numbering {
            Numbering::Goes => true,
            Numbering::Gap { from, .. } => batch.ordinal < from,
        };
        batch.may_be_appended && is_before_gap
    }

    /// The batch that leaves now, after a [`Wish::Send`].
    pub(crate) fn take(&mut self, policy: &Policy, current: Option<Identity>) -> Option<SealedBatch> {
        if policy.is_idempotent {
            self.renumber_if_needed(policy, current);
        }
        let batch = match self.retries.pop_front() {
            Some(batch) => batch,
            None => self.seal(Accumulator::take(&self.queue)?, policy),
        };
        self.in_flight.push(batch.ordinal);
        Some(batch)
    }

    /// Numbers a batch that leaves for the first time.
    fn seal(&mut self, open: OpenBatch, policy: &Policy) -> SealedBatch {
        let OpenBatch {
            mut builder,
            claim,
            created,
            ..
        } = open;
        let record_count = builder.record_count();
        let base_sequence = self.next_sequence;
        let mut sequence_of_batch = Sequence::NONE;
        if let Some(identity) = self.identity.filter(|_| policy.is_idempotent) {
            builder.set_producer(producer(identity, base_sequence));
            self.next_sequence = base_sequence.plus(count(record_count));
            sequence_of_batch = base_sequence;
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += u64::from(record_count);
        SealedBatch {
            records: builder.build(),
            record_count,
            claim,
            created,
            ordinal,
            base_sequence: sequence_of_batch,
            may_be_appended: false,
            last_error: None,
        }
    }

    /// Takes a first identity, or behind a gap the next epoch or a new id, and numbers the rest from 0.
    fn renumber_if_needed(&mut self, policy: &Policy, current: Option<Identity>) {
        let identity = match (self.numbering, self.identity) {
            (Numbering::Goes, Some(own))
                if policy.is_transactional && current.is_some_and(|new| new != own) =>
            {
                current
            }
            (Numbering::Goes, Some(_)) => return,
            (Numbering::Gap { .. }, Some(_)) if !self.is_gap_next() => return,
            (Numbering::Gap { needs_id: false, .. }, Some(own)) if own.epoch.get() < i16::MAX => {
                Some(Identity {
                    id: own.id,
                    epoch: ProducerEpoch::new(own.epoch.get() + 1),
                })
            }
            (Numbering::Gap { .. }, Some(_)) | (_, None) => current,
        };
        assert!(
            self.in_flight.is_empty(),
            "a new epoch begins when nothing is on its way"
        );
        let Some(identity) = identity else { return };
        let mut next = Sequence::new(0);
        for batch in &mut self.retries {
            batch.renumber(producer(identity, next));
            next = next.plus(count(batch.record_count));
        }
        tracing::debug!(
            partition = %self.queue.partition,
            producer_id = %identity.id,
            epoch = %identity.epoch,
            "numbers batches from 0"
        );
        self.identity = Some(identity);
        self.next_sequence = next;
        self.numbering = Numbering::Goes;
        self.is_known = false;
    }

    /// Takes note of what came back for a batch. Returns the error that the cluster's picture may be stale
    /// for, if there was one.
    pub(crate) fn answered(
        &mut self,
        batch: SealedBatch,
        answer: Answer,
        policy: &Policy,
        now: Instant,
    ) -> Option<Error> {
        self.in_flight.retain(|ordinal| *ordinal != batch.ordinal);
        let (error, refused) = match answer {
            Answer::Appended {
                base_offset,
                log_append_time,
            } => {
                self.failures = 0;
                self.is_known = true;
                batch.claim.settle(Outcome::Appended {
                    base_offset,
                    log_append_time,
                });
                return None;
            }
            Answer::Failed(error) => (error, Vec::new()),
            Answer::Refused { error, records } => (error, records),
        };
        tracing::debug!(partition = %self.queue.partition, %error, "a batch was not appended");
        self.is_known = false;
        let code = error.code();
        match code {
            Some(ErrorCode::DuplicateSequenceNumber) => {
                batch.claim.settle(Outcome::Appended {
                    base_offset: None,
                    log_append_time: None,
                });
                return None;
            }
            Some(ErrorCode::MessageTooLarge) if batch.record_count > 1 => {
                self.split(batch, policy);
                return None;
            }
            Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId)
                if policy.is_idempotent =>
            {
                if self.is_first(&batch) && policy.is_transactional {
                    batch.fail_as_unknown(error);
                    return None;
                }
                if self.is_first(&batch) {
                    if code == Some(ErrorCode::OutOfOrderSequenceNumber) && self.may_be_appended(&batch) {
                        batch.fail_as_unknown(error);
                        return None;
                    }
                    self.gap_at(batch.ordinal, false);
                }
                self.retry(batch, error, policy, now);
                return None;
            }
            Some(ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced) if policy.is_idempotent => {
                if self.may_be_appended(&batch) || policy.is_transactional {
                    batch.fail_as_unknown(error);
                    return None;
                }
                self.gap_at(batch.ordinal, true);
                self.retry(batch, error, policy, now);
                return None;
            }
            _ => {}
        }
        if error.is_retriable() {
            let mut batch = batch;
            batch.may_be_appended = true;
            self.retry(batch, error.clone(), policy, now);
        } else {
            if self.may_be_appended(&batch) || code == Some(ErrorCode::UnknownServerError) {
                batch.fail_as_unknown(error);
                return None;
            }
            if policy.is_idempotent && !policy.is_transactional {
                self.gap_at(batch.ordinal, false);
            }
            let outcome = if refused.is_empty() {
                Outcome::Failed(error.clone())
            } else {
                Outcome::Refused {
                    records: refused.into(),
                }
            };
            batch.claim.settle(outcome);
        }
        error.wants_metadata().then_some(error)
    }

    /// Whether nothing that was sent before it is open.
    fn is_first(&self, batch: &SealedBatch) -> bool {
        let in_flight = self.in_flight.iter().copied();
        let retries = self.retries.iter().map(|retry| retry.ordinal);
        in_flight.chain(retries).all(|ordinal| batch.ordinal < ordinal)
    }

    fn retry(&mut self, mut batch: SealedBatch, error: Error, policy: &Policy, now: Instant) {
        if batch.created + policy.delivery_timeout <= now {
            batch.last_error = Some(error);
            return batch.expire(policy);
        }
        // Batches that fail together count once.
        if self.not_before.is_none_or(|at| at <= now) {
            self.failures += 1;
            let wait = policy.backoff.after(self.failures);
            // The markers of the transaction before are being written: that takes a moment.
            let is_short = error.code() == Some(ErrorCode::ConcurrentTransactions);
            self.not_before = Some(
                now + if is_short {
                    wait.min(BETWEEN_TRANSACTIONS)
                } else {
                    wait
                },
            );
        }
        batch.last_error = Some(error);
        self.put_back(batch);
    }

    fn put_back(&mut self, batch: SealedBatch) {
        let place = self
            .retries
            .partition_point(|retry| retry.ordinal < batch.ordinal);
        self.retries.insert(place, batch);
    }

    /// Makes two of a batch that is too large for the topic. Their sequences are those it had.
    fn split(&mut self, mut batch: SealedBatch, policy: &Policy) {
        let (first, second) = match batch.halves(policy) {
            Ok(halves) => halves,
            Err(error) => return batch.claim.settle(Outcome::Failed(error)),
        };
        let (first_count, second_count) = (first.record_count(), second.record_count());
        tracing::info!(
            partition = %self.queue.partition,
            records = batch.record_count,
            "a batch is too large for the topic and is split"
        );
        let second_claim = batch.claim.split_off(first_count);
        let second_sequence = if batch.base_sequence == Sequence::NONE {
            Sequence::NONE
        } else {
            batch.base_sequence.plus(count(first_count))
        };
        let tail = SealedBatch {
            records: self.built(second, second_sequence),
            record_count: second_count,
            claim: second_claim,
            created: batch.created,
            ordinal: batch.ordinal + u64::from(first_count),
            base_sequence: second_sequence,
            may_be_appended: batch.may_be_appended,
            last_error: None,
        };
        batch.records = self.built(first, batch.base_sequence);
        batch.record_count = first_count;
        self.put_back(batch);
        self.put_back(tail);
    }

    fn built(&self, mut builder: BatchBuilder, base_sequence: Sequence) -> Bytes {
        if let Some(identity) = self.identity.filter(|_| base_sequence != Sequence::NONE) {
            builder.set_producer(producer(identity, base_sequence));
        }
        builder.build()
    }

    /// Fails what has waited too long, and says when the next batch will have.
    pub(crate) fn expire(&mut self, policy: &Policy, now: Instant) -> Option<Instant> {
        while let Some(front) = self.retries.front() {
            let expires_at = front.created + policy.delivery_timeout;
            if now < expires_at {
                return Some(expires_at);
            }
            self.retries
                .pop_front()
                .into_iter()
                .for_each(|batch| batch.expire(policy));
        }
        while let Some(created) = Accumulator::oldest(&self.queue) {
            let expires_at = created + policy.delivery_timeout;
            if now < expires_at {
                return Some(expires_at);
            }
            if let Some(open) = Accumulator::take(&self.queue) {
                let error = Error::DeliveryTimedOut {
                    partition: self.queue.partition.clone(),
                    after: policy.delivery_timeout,
                    last: None,
                };
                open.claim.settle(Outcome::Failed(error));
            }
        }
        None
    }

    /// Fails what has never left.
    pub(crate) fn fail_unsent(&mut self, error: &Error) {
        while let Some(open) = Accumulator::take(&self.queue) {
            open.claim.settle(Outcome::Failed(error.clone()));
        }
    }

    /// Fails everything that is not on its way.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        for batch in std::mem::take(&mut self.retries) {
            if self.may_be_appended(&batch) {
                batch.fail_as_unknown(error.clone());
            } else {
                batch.claim.settle(Outcome::Failed(error.clone()));
            }
        }
        self.fail_unsent(error);
    }

    /// The size of the batch that would leave next, before compression if it has not been sent yet.
    pub(crate) fn next_size(&self) -> usize {
        self.retries.front().map_or_else(
            || Accumulator::next_size(&self.queue),
            |retry| retry.records.len(),
        )
    }

    /// Whether it has batches on their way or to be sent again.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.retries.is_empty()
    }
}

fn count(records: u32) -> i32 {
    i32::try_from(records).expect("a batch counts its records in an i32")
}

fn producer(identity: Identity, base_sequence: Sequence) -> BatchProducer {
    BatchProducer {
        id: identity.id,
        epoch: identity.epoch,
        base_sequence,
    }
}

#[cfg(test)]
mod tests;
