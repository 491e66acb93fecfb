//! All transactional ids of one partition of `__transaction_state`, as a state machine.
//! What is here is common to all commands: replaying, loading, and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::clock::SteadyMs;

use crate::coordinator::transaction::context::{Context, DecidedTransaction};
use crate::coordinator::transaction::record::{Transaction, TransactionRecord};
use crate::coordinator::transaction::state::TransactionState;
use crate::coordinator::transaction::timeouts::{Due, Timeouts};

/// So many ids are forgotten by one command: their records are one batch.
const FORGOTTEN_MAX: usize = 1_000;
/// A transaction that could not be aborted, because the log refused, is tried again after so long.
const RETRY_MS: i64 = 1_000;

/// The transactional ids of one shard.
#[derive(Debug, Default)]
pub struct TransactionShard {
    pub(super) transactions: BTreeMap<Arc<str>, Transaction>,
    pub(super) timeouts: Timeouts,
}

impl TransactionShard {
    /// Makes one record part of the state, live and at a start alike.
    pub fn replay(&mut self, record: &TransactionRecord) {
        match &record.value {
            Some(value) => {
                let id = Arc::clone(&record.transactional_id);
                self.transactions.insert(id, value.clone());
            }
            None => drop(self.transactions.remove(&record.transactional_id)),
        }
    }

    /// Called once when the log has been replayed: what was decided is carried out, what goes on has a deadline again.
    pub fn loaded(&mut self, context: &mut Context<'_>) {
        self.set_expiry(context);
        for (id, transaction) in &self.transactions {
            if transaction.state.is_prepared() {
                context.decided.push(DecidedTransaction::of(id, transaction));
            }
            if transaction.state == TransactionState::Ongoing {
                let timeout = i64::from(transaction.timeout_ms);
                let left = timeout - context.now.saturating_since(transaction.started);
                // Whoever set the time of day meanwhile makes none last longer than it may.
                let left = left.max(0).min(timeout);
                self.timeouts.set(id, context.steady.saturating_plus(left));
            }
        }
    }

    /// When [`Self::tick`] has something to do, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<SteadyMs> {
        self.timeouts.next()
    }

    /// Does one thing that is due.
    pub fn tick(&mut self, context: &mut Context<'_>) {
        match self.timeouts.pop_due(context.steady) {
            None => {}
            Some(Due::Expiry) => self.forget_expired(context),
            Some(Due::Transaction(id)) => {
                let transaction = self.transactions.get(&id);
                let Some(transaction) = transaction.filter(|one| one.state == TransactionState::Ongoing)
                else {
                    return;
                };
                tracing::info!(
                    transactional_id = %id, producer_id = transaction.producer.id.get(), timeout_ms = transaction.timeout_ms,
                    "a transaction has lasted too long and is aborted"
                );
                let aborted = transaction.fenced(context.now);
                // Looked at in vain unless the log refuses.
                self.timeouts.set(&id, context.steady.saturating_plus(RETRY_MS));
                context.decide(&id, aborted);
            }
        }
    }

    /// Writes tombstones for ids that were not used for `transactional.id.expiration.ms`.
    fn forget_expired(&mut self, context: &mut Context<'_>) {
        let expiration = context.settings.id_expiration;
        let expiration = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        let is_expired = |transaction: &Transaction| {
            transaction.state.may_expire() && expiration <= context.now.saturating_since(transaction.updated)
        };
        let expired = self.transactions.iter().filter(|(_, one)| is_expired(one));
        let expired: Vec<_> = expired
            .map(|(id, _)| Arc::clone(id))
            .take(FORGOTTEN_MAX)
            .collect();
        if expired.len() < FORGOTTEN_MAX {
            self.set_expiry(context);
        } else {
            self.timeouts.set_expiry(context.steady);
        }
        let tombstones = expired.into_iter().map(|transactional_id| TransactionRecord {
            transactional_id,
            value: None,
        });
        context.records.extend(tombstones);
    }

    fn set_expiry(&mut self, context: &Context<'_>) {
        let interval = context.settings.id_expiration_check_interval;
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        self.timeouts.set_expiry(context.steady.saturating_plus(interval));
    }
}
