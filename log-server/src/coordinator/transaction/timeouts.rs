//! When a transactional id has to be looked at without anybody asking. Nothing here survives a restart: loading sets it anew.
//!
//! Deadlines are on the steady clock: whoever sets the time of day neither ends transactions nor makes them last. One
//! that was left behind by a refused command, or by a transaction that ended, is looked at in vain.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use log_core::clock::SteadyMs;

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// The transaction of this id has lasted too long.
    Transaction(Arc<str>),
    /// Transactional ids that nobody needs any longer are to be looked for.
    Expiry,
}

/// The deadlines of a shard.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    deadlines: HashMap<Arc<str>, SteadyMs>,
    order: BTreeSet<(SteadyMs, Arc<str>)>,
    expiry: Option<SteadyMs>,
}

impl Timeouts {
    /// Sets or moves the deadline of a transaction.
    pub(super) fn set(&mut self, transactional_id: &Arc<str>, deadline: SteadyMs) {
        let before = self.deadlines.insert(Arc::clone(transactional_id), deadline);
        if let Some(before) = before {
            self.order.remove(&(before, Arc::clone(transactional_id)));
        }
        self.order.insert((deadline, Arc::clone(transactional_id)));
    }

    /// Sets or moves the time at which ids are looked through.
    pub(super) fn set_expiry(&mut self, at: SteadyMs) {
        self.expiry = Some(at);
    }

    /// The first deadline of all.
    pub(super) fn next(&self) -> Option<SteadyMs> {
        let first = self.order.first().map(|(deadline, _)| *deadline);
        first.into_iter().chain(self.expiry).min()
    }

    /// Takes one of those that are due.
    pub(super) fn pop_due(&mut self, now: SteadyMs) -> Option<Due> {
        if self.expiry.is_some_and(|at| at <= now) {
            self.expiry = None;
            return Some(Due::Expiry);
        }
        if now < self.order.first()?.0 {
            return None;
        }
        let (_, transactional_id) = self.order.pop_first()?;
        self.deadlines.remove(&transactional_id);
        Some(Due::Transaction(transactional_id))
    }
}
