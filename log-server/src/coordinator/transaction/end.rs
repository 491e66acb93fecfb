//! A transaction is decided, and, when its markers are on the disk, complete.
//!
//! With version 2 of the protocol (KIP-890) each decision raises the epoch: markers have the new one, so that nothing of the transaction can
//! be written behind them, and the producer goes on with it. An answer that was not heard is recognised by the epoch before. Such a
//! producer may also abort what it never began, because it may not know.
//!
//! | state, version 2 | commit | abort |
//! |---|---|---|
//! | Ongoing | `PrepareCommit` | `PrepareAbort` |
//! | Empty | refused | `PrepareAbort`, without partitions |
//! | `PrepareCommit`, `PrepareAbort` | ask again | ask again |
//! | `CompleteCommit`, asked by the epoch before | done | refused |
//! | `CompleteAbort`, asked by the epoch before | refused | done |
//! | either, asked by the current epoch | refused | `PrepareAbort`, without partitions |
//!
//! Before version 2 the epoch stays: Ongoing is decided, a decision that was carried out is done when asked for again, and
//! everything else is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::{ProducerEpoch, ProducerId, TimestampMs};
use log_core::record::control::TransactionOutcome;

use crate::coordinator::transaction::context::{Context, DecidedTransaction, ProducerIdentity};
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::init::Identified;
use crate::coordinator::transaction::record::{Transaction, TransactionRecord};
use crate::coordinator::transaction::shard::TransactionShard;
use crate::coordinator::transaction::state::TransactionState;

/// The version of the protocol that raises the epoch with each decision.
pub const EPOCH_BUMP: i16 = 2;
/// The last epoch of a producer id. No producer is given it: it fences the one before.
const LAST_EPOCH: i16 = i16::MAX;

/// Who decides, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndRequest {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// The producer.
    pub producer: ProducerIdentity,
    /// The decision.
    pub outcome: TransactionOutcome,
    /// The transaction version that the producer speaks.
    pub client_version: i16,
}

/// What follows from a request.
enum Verdict {
    /// It was carried out before.
    Done,
    Decide,
}

impl TransactionShard {
    /// Decides a transaction. The answer is the producer's identity from now on; `fresh` is a producer id that nobody has.
    ///
    /// # Errors
    /// The producer is not the current one, the last decision is still being carried out, or there is nothing to decide.
    pub fn end_transaction(
        &mut self,
        context: &mut Context<'_>,
        request: &EndRequest,
        fresh: Option<ProducerId>,
    ) -> Result<Identified, TransactionError> {
        let transaction = self.transactions.get(&request.transactional_id);
        let transaction = transaction.ok_or(TransactionError::InvalidProducerIdMapping)?;
        let bumps = EPOCH_BUMP <= request.client_version;
        let verdict = if bumps {
            transaction.judge(request)?
        } else {
            transaction.judge_before_bumps(request)?
        };
        if matches!(verdict, Verdict::Done) {
            return Ok(Identified::Done(transaction.producer));
        }
        let next_id = if bumps && transaction.producer.is_exhausted() {
            let Some(id) = fresh else {
                return Ok(Identified::NeedsProducerId);
            };
            id
        } else {
            ProducerId::NONE
        };
        let decided = transaction.decided(request.outcome, request.client_version, next_id, context.now);
        let producer = decided.producer_after();
        context.decide(&request.transactional_id, decided);
        Ok(Identified::Done(producer))
    }

    /// All markers of a decided transaction are on the disk: it is complete. Nothing happens if that is known, or if it is another.
    pub fn complete_transaction(&mut self, context: &mut Context<'_>, decided: &DecidedTransaction) {
        let Some(transaction) = self.transactions.get(&decided.transactional_id) else {
            return;
        };
        if !transaction.state.is_prepared() || transaction.producer != decided.producer {
            return;
        }
        context.records.push(TransactionRecord {
            transactional_id: Arc::clone(&decided.transactional_id),
            value: Some(transaction.completed(context.now)),
        });
    }
}

impl Transaction {
    /// With version 2.
    fn judge(&self, request: &EndRequest) -> Result<Verdict, TransactionError> {
        use TransactionOutcome::{Abort, Commit};
        use TransactionState::{CompleteAbort, CompleteCommit, Empty, Ongoing};
        if self.state.is_prepared() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        let asked = request.producer;
        let is_complete = matches!(self.state, CompleteCommit | CompleteAbort);
        // Otherwise it is not its end that has raised the epoch since: another producer has fenced the one that asks.
        let bumped = EPOCH_BUMP <= self.client_version;
        let repeats_last = bumped
            && asked.id == self.previous_producer_id
            && asked.is_exhausted()
            && self.producer.epoch.get() == 0;
        if asked.id != self.producer.id && !(is_complete && repeats_last) {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        let repeats = repeats_last
            || (bumped && asked.id == self.producer.id && asked.next_epoch() == self.producer.epoch);
        let is_current = asked == self.producer && !asked.is_last();
        let may_ask = is_current || (is_complete && repeats && !self.producer.is_last());
        if !may_ask {
            return Err(TransactionError::ProducerFenced);
        }
        match (self.state, request.outcome) {
            (Ongoing, _) | (Empty, Abort) => Ok(Verdict::Decide),
            (CompleteCommit, Commit) | (CompleteAbort, Abort) if !is_current => Ok(Verdict::Done),
            (CompleteCommit | CompleteAbort, Abort) if is_current => Ok(Verdict::Decide),
            _ => Err(TransactionError::InvalidTxnState),
        }
    }

    /// Before version 2.
    fn judge_before_bumps(&self, request: &EndRequest) -> Result<Verdict, TransactionError> {
        use TransactionOutcome::{Abort, Commit};
        use TransactionState::{CompleteAbort, CompleteCommit, Ongoing};
        self.check_producer(request.producer)?;
        if self.state.is_prepared() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        match (self.state, request.outcome) {
            (Ongoing, _) => Ok(Verdict::Decide),
            (CompleteCommit, Commit) | (CompleteAbort, Abort) => Ok(Verdict::Done),
            _ => Err(TransactionError::InvalidTxnState),
        }
    }

    /// This transaction, decided.
    fn decided(
        &self,
        outcome: TransactionOutcome,
        client_version: i16,
        next_producer_id: ProducerId,
        now: TimestampMs,
    ) -> Self {
        let bumps = EPOCH_BUMP <= client_version;
        let producer = self.producer;
        let epoch = if bumps {
            producer.next_epoch()
        } else {
            producer.epoch
        };
        Self {
            producer: ProducerIdentity { epoch, ..producer },
            previous_producer_id: producer.id,
            next_producer_id,
            last_epoch: if bumps { producer.epoch } else { self.last_epoch },
            state: match outcome {
                TransactionOutcome::Commit => TransactionState::PrepareCommit,
                TransactionOutcome::Abort => TransactionState::PrepareAbort,
            },
            started: if self.state == TransactionState::Ongoing {
                self.started
            } else {
                now
            },
            updated: now,
            client_version,
            ..self.clone()
        }
    }

    /// This transaction, aborted without its producer, which is fenced by that.
    pub(super) fn fenced(&self, now: TimestampMs) -> Self {
        self.decided(TransactionOutcome::Abort, EPOCH_BUMP, ProducerId::NONE, now)
    }

    fn completed(&self, now: TimestampMs) -> Self {
        Self {
            producer: self.producer_after(),
            previous_producer_id: self.producer.id,
            next_producer_id: ProducerId::NONE,
            state: if self.state == TransactionState::PrepareCommit {
                TransactionState::CompleteCommit
            } else {
                TransactionState::CompleteAbort
            },
            partitions: BTreeSet::new(),
            updated: now,
            ..self.clone()
        }
    }

    /// Who the producer is when the transaction is complete.
    fn producer_after(&self) -> ProducerIdentity {
        if self.next_producer_id == ProducerId::NONE {
            self.producer
        } else {
            ProducerIdentity::first(self.next_producer_id)
        }
    }
}

impl ProducerIdentity {
    /// The first producer with an id.
    #[must_use]
    pub fn first(id: ProducerId) -> Self {
        Self {
            id,
            epoch: ProducerEpoch::new(0),
        }
    }

    /// The epoch behind its own; the last one has none.
    #[must_use]
    pub fn next_epoch(self) -> ProducerEpoch {
        ProducerEpoch::new(self.epoch.get().saturating_add(1))
    }

    /// Whether no later producer can have the same id: one more epoch is needed to fence this one.
    #[must_use]
    pub fn is_exhausted(self) -> bool {
        LAST_EPOCH - 1 <= self.epoch.get()
    }

    /// Whether it is there to fence, and nobody's.
    #[must_use]
    pub fn is_last(self) -> bool {
        self.epoch.get() == LAST_EPOCH
    }
}

impl DecidedTransaction {
    /// What is to be done for a decided transaction.
    pub(super) fn of(transactional_id: &Arc<str>, transaction: &Transaction) -> Self {
        Self {
            transactional_id: Arc::clone(transactional_id),
            producer: transaction.producer,
            client_version: transaction.client_version,
            outcome: if transaction.state == TransactionState::PrepareCommit {
                TransactionOutcome::Commit
            } else {
                TransactionOutcome::Abort
            },
            partitions: transaction.partitions.clone(),
        }
    }
}

impl Context<'_> {
    /// Writes a decision down, and has it carried out.
    pub(super) fn decide(&mut self, transactional_id: &Arc<str>, decided: Transaction) {
        self.decided
            .push(DecidedTransaction::of(transactional_id, &decided));
        self.records.push(TransactionRecord {
            transactional_id: Arc::clone(transactional_id),
            value: Some(decided),
        });
    }
}
