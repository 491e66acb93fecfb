//! Transactions are listed and described.
//! That changes nothing; a hanging transaction is ended by a marker in its partition, not here.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::{ProducerId, TimestampMs};

use crate::coordinator::transaction::context::Context;
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::record::Transaction;
use crate::coordinator::transaction::shard::TransactionShard;
use crate::coordinator::transaction::state::TransactionState;
use crate::pattern::WholeNamePattern;

/// Which transactions to list.
#[derive(Debug, Default)]
pub struct TransactionFilter {
    /// Those of these states; `None` for all.
    pub states: Option<BTreeSet<TransactionState>>,
    /// Those of these producers; empty for all.
    pub producer_ids: BTreeSet<ProducerId>,
    /// Those that began longer ago than so many milliseconds; `None` for all.
    pub longer_than_ms: Option<i64>,
    /// Those whose transactional id matches; `None` for all.
    pub pattern: Option<WholeNamePattern>,
}

/// A transactional id in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Its producer id.
    pub producer_id: ProducerId,
    /// Its state.
    pub state: TransactionState,
}

impl TransactionFilter {
    fn lets_through(&self, id: &str, transaction: &Transaction, now: TimestampMs) -> bool {
        let states = self.states.as_ref();
        let has_state = states.is_none_or(|states| states.contains(&transaction.state));
        let has_id = self.producer_ids.is_empty() || self.producer_ids.contains(&transaction.producer.id);
        // What never began counts as having begun long ago, as in Kafka.
        let age = now.saturating_since(transaction.started);
        let is_old = self.longer_than_ms.is_none_or(|least| least < age);
        has_state && has_id && is_old && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(id))
    }
}

impl TransactionShard {
    /// The transactional ids that pass a filter.
    #[must_use]
    pub fn list_transactions(
        &self,
        context: &Context<'_>,
        filter: &TransactionFilter,
    ) -> Vec<ListedTransaction> {
        let all = self.transactions.iter();
        all.filter(|(id, transaction)| filter.lets_through(id, transaction, context.now))
            .map(|(id, transaction)| ListedTransaction {
                transactional_id: Arc::clone(id),
                producer_id: transaction.producer.id,
                state: transaction.state,
            })
            .collect()
    }

    /// All that is known of a transactional id.
    ///
    /// # Errors
    /// That is nothing.
    pub fn describe_transaction(&self, transactional_id: &str) -> Result<Transaction, TransactionError> {
        let transaction = self.transactions.get(transactional_id);
        transaction
            .cloned()
            .ok_or(TransactionError::TransactionalIdNotFound)
    }
}
