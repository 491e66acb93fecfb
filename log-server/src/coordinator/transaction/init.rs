//! A producer begins with a transactional id: it gets an identity, and the producer before it is fenced.
//!
//! | state | answer |
//! |---|---|
//! | unknown | a new producer id with epoch 0 |
//! | Ongoing, asked by the current producer or by one that does not say who it is | the transaction is aborted, with an epoch that fences its producer; who asked has to ask again |
//! | Ongoing, asked by the producer before | fenced |
//! | `PrepareCommit`, `PrepareAbort` | the new producer has to ask again |
//! | Empty, `CompleteCommit`, `CompleteAbort` | the next epoch, or a new producer id where the epochs are used up |
//!
//! A producer that goes on after an error says which one it is (KIP-360); only the one that is current may, or the one before it, which
//! did not hear the answer to the same question. Once a transaction has begun, the answer was heard: the same question is a late copy
//! then, and nothing comes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::{ProducerEpoch, ProducerId, TimestampMs};

use crate::coordinator::transaction::context::{Context, ProducerIdentity};
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::record::{Transaction, TransactionRecord};
use crate::coordinator::transaction::shard::TransactionShard;
use crate::coordinator::transaction::state::TransactionState;

/// Who asks for an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitRequest {
    /// With which transactional id.
    pub transactional_id: Arc<str>,
    /// How long its transactions may take.
    pub timeout_ms: i32,
    /// Which producer it is, if it goes on after an error.
    pub current: Option<ProducerIdentity>,
}

/// What a command says that may need a new producer id, which comes from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identified {
    /// The producer's identity from now on.
    Done(ProducerIdentity),
    /// Nothing was done: ask again, with a new producer id.
    NeedsProducerId,
}

impl TransactionShard {
    /// Gives a producer its identity. `fresh` is a producer id that nobody has.
    ///
    /// # Errors
    /// The producer is fenced, has to ask again, or asks for a timeout that is none.
    pub fn init_producer(
        &mut self,
        context: &mut Context<'_>,
        request: &InitRequest,
        fresh: Option<ProducerId>,
    ) -> Result<Identified, TransactionError> {
        let max = context.settings.timeout_max_ms;
        if !(1..=max).contains(&request.timeout_ms) {
            return Err(TransactionError::InvalidTransactionTimeout { max });
        }
        let Some(transaction) = self.transactions.get(&request.transactional_id) else {
            let Some(id) = fresh else {
                return Ok(Identified::NeedsProducerId);
            };
            return Ok(Identified::Done(begin(context, request, &Transaction::first(id))));
        };
        if transaction.state.is_prepared() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        if !request
            .current
            .is_none_or(|current| transaction.may_continue(current))
        {
            return Err(TransactionError::ProducerFenced);
        }
        if transaction.state == TransactionState::Ongoing {
            // A late copy of a question must not abort what began after its answer, as it does in Kafka.
            if request
                .current
                .is_some_and(|current| current != transaction.producer)
            {
                return Err(TransactionError::ProducerFenced);
            }
            let aborted = transaction.fenced(context.now);
            context.decide(&request.transactional_id, aborted);
            return Err(TransactionError::ConcurrentTransactions);
        }
        let producer = transaction.producer;
        // The last epoch is nobody's: who fenced the producer of the one before has taken it.
        let continues = |current: ProducerIdentity| {
            let repeats = producer.is_last() && current.epoch == transaction.last_epoch;
            current.epoch == producer.epoch || repeats
        };
        let next = if producer.is_exhausted() && request.current.is_none_or(continues) {
            let Some(id) = fresh else {
                return Ok(Identified::NeedsProducerId);
            };
            let last_epoch = request.current.map_or(ProducerEpoch::NONE, |_| producer.epoch);
            transaction.with_producer(ProducerIdentity::first(id), last_epoch)
        } else {
            transaction.next_epoch(request.current)?
        };
        Ok(Identified::Done(begin(context, request, &next)))
    }
}

/// Writes a producer down that has yet to begin its first transaction.
fn begin(context: &mut Context<'_>, request: &InitRequest, transaction: &Transaction) -> ProducerIdentity {
    let transaction = Transaction {
        timeout_ms: request.timeout_ms,
        state: TransactionState::Empty,
        partitions: BTreeSet::new(),
        started: TimestampMs::NONE,
        updated: context.now,
        ..transaction.clone()
    };
    let producer = transaction.producer;
    context.records.push(TransactionRecord {
        transactional_id: Arc::clone(&request.transactional_id),
        value: Some(transaction),
    });
    producer
}

impl Transaction {
    /// What is known of a transactional id that nobody used yet.
    fn first(id: ProducerId) -> Self {
        Self {
            producer: ProducerIdentity::first(id),
            // As Kafka writes it.
            previous_producer_id: id,
            next_producer_id: ProducerId::NONE,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms: 0,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            started: TimestampMs::NONE,
            updated: TimestampMs::NONE,
            client_version: 0,
        }
    }

    /// Whether a producer that says who it is can be this one, or the one before whose question was answered and not heard.
    fn may_continue(&self, claimed: ProducerIdentity) -> bool {
        claimed.id == self.producer.id || (claimed.id == self.previous_producer_id && claimed.is_exhausted())
    }

    fn with_producer(&self, producer: ProducerIdentity, last_epoch: ProducerEpoch) -> Self {
        Self {
            producer,
            last_epoch,
            previous_producer_id: self.producer.id,
            ..self.clone()
        }
    }

    fn next_epoch(&self, current: Option<ProducerIdentity>) -> Result<Self, TransactionError> {
        let producer = self.producer;
        let (epoch, last_epoch) = match current {
            None => (producer.next_epoch(), ProducerEpoch::NONE),
            Some(current) if current.epoch == producer.epoch => (producer.next_epoch(), producer.epoch),
            // The same question again: nobody else began meanwhile, or there would be no last epoch.
            Some(current) if current.epoch == self.last_epoch => (producer.epoch, self.last_epoch),
            Some(_) => return Err(TransactionError::ProducerFenced),
        };
        Ok(self.with_producer(ProducerIdentity { epoch, ..producer }, last_epoch))
    }
}
