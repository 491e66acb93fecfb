//! Partitions become part of a transaction before its records are written there, so that its end reaches all of them.
//!
//! Older producers say beforehand which partitions they will write to, and a broker that appends asks whether they did (KIP-890). With
//! version 2 of the protocol, appending itself adds the partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::{ProducerEpoch, TopicPartition};

use crate::coordinator::transaction::context::{Context, ProducerIdentity};
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::record::{Transaction, TransactionRecord};
use crate::coordinator::transaction::shard::TransactionShard;
use crate::coordinator::transaction::state::TransactionState;

/// What there is to say of one partition that was asked about.
pub type Admitted = (TopicPartition, Result<(), TransactionError>);

/// Whose transaction is asked for, and which partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionsRequest {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// The producer.
    pub producer: ProducerIdentity,
    /// The partitions.
    pub partitions: BTreeSet<TopicPartition>,
}

impl TransactionShard {
    /// Makes partitions part of the producer's transaction, which begins with the first of them. `client_version` is the
    /// transaction version that the producer speaks.
    ///
    /// # Errors
    /// The producer is not the current one, or its last transaction is still being ended.
    pub fn add_partitions(
        &mut self,
        context: &mut Context<'_>,
        request: &PartitionsRequest,
        client_version: i16,
    ) -> Result<(), TransactionError> {
        let transaction = self.transactions.get(&request.transactional_id);
        let transaction = transaction.ok_or(TransactionError::InvalidProducerIdMapping)?;
        if transaction.state.is_prepared() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        transaction.check_producer(request.producer)?;
        let is_ongoing = transaction.state == TransactionState::Ongoing;
        if is_ongoing && request.partitions.is_subset(&transaction.partitions) {
            return Ok(());
        }
        let mut next = Transaction {
            state: TransactionState::Ongoing,
            previous_producer_id: transaction.producer.id,
            // Who begins has heard who it is: nobody has to ask that again.
            last_epoch: ProducerEpoch::NONE,
            updated: context.now,
            client_version,
            ..transaction.clone()
        };
        next.partitions.extend(request.partitions.iter().cloned());
        if !is_ongoing {
            next.started = context.now;
            let deadline = context.steady.saturating_plus(i64::from(next.timeout_ms));
            self.timeouts.set(&request.transactional_id, deadline);
        }
        context.records.push(TransactionRecord {
            transactional_id: Arc::clone(&request.transactional_id),
            value: Some(next),
        });
        Ok(())
    }

    /// Says of each partition whether it is part of the producer's transaction.
    ///
    /// # Errors
    /// The producer is not the current one, or its last transaction is still being ended.
    pub fn verify_partitions(&self, request: &PartitionsRequest) -> Result<Vec<Admitted>, TransactionError> {
        let transaction = self.transactions.get(&request.transactional_id);
        let transaction = transaction.ok_or(TransactionError::InvalidProducerIdMapping)?;
        transaction.check_producer(request.producer)?;
        if transaction.state.is_prepared() {
            return Err(TransactionError::ConcurrentTransactions);
        }
        let verdict = |place: &TopicPartition| {
            let is_part = transaction.partitions.contains(place);
            is_part
                .then_some(())
                .ok_or(TransactionError::TransactionAbortable)
        };
        let places = request.partitions.iter();
        Ok(places.map(|place| (place.clone(), verdict(place))).collect())
    }
}

impl Transaction {
    /// Whether a producer is the current one.
    pub(super) fn check_producer(&self, producer: ProducerIdentity) -> Result<(), TransactionError> {
        if producer.id != self.producer.id {
            Err(TransactionError::InvalidProducerIdMapping)
        } else if producer.epoch != self.producer.epoch || producer.is_last() {
            Err(TransactionError::ProducerFenced)
        } else {
            Ok(())
        }
    }
}
