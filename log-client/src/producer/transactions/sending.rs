//! What the sender of a transactional producer has besides: it follows what callers decide about the transaction, and by the first
//! protocol it tells the coordinator of a partition before anything goes there.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::TopicPartition;

use super::state::{Permission, Transactions};
use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::producer::in_order::{Identity, InOrder};

/// The transactions of one producer, as its sender sees them.
#[derive(Debug)]
pub(crate) struct Transactional {
    coordinator: Coordinator,
    transactions: Arc<Transactions>,
    /// Partitions that the coordinator has yet to be told of.
    to_be_added: BTreeSet<TopicPartition>,
}

impl Transactional {
    pub(crate) fn new(coordinator: Coordinator, transactions: Arc<Transactions>) -> Self {
        Self {
            coordinator,
            transactions,
            to_be_added: BTreeSet::new(),
        }
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    pub(crate) fn transactions(&self) -> &Arc<Transactions> {
        &self.transactions
    }

    /// Gives up what callers and coordinator have given up, and answers who sends.
    pub(crate) fn follow<'a>(
        &mut self,
        partitions: impl Iterator<Item = &'a mut InOrder>,
    ) -> Option<Identity> {
        let permission = self.transactions.permission();
        if !matches!(permission, Permission::Send) {
            self.to_be_added.clear();
        }
        match permission {
            Permission::Send => {}
            Permission::GiveUp(error) => partitions.for_each(|partition| partition.fail_all(&error)),
            Permission::GiveUpUnsent => {
                partitions.for_each(|partition| partition.fail_unsent(&Error::TransactionAborted));
            }
        }
        self.transactions.identity()
    }

    /// Whether a batch may go to the partition. If so it probably will, and the coordinator may know of the transaction; if not,
    /// the partition is to be added.
    pub(crate) fn admits(&mut self, partition: &TopicPartition) -> bool {
        if !self.transactions.has(partition) {
            self.to_be_added.insert(partition.clone());
            return false;
        }
        self.transactions.started();
        true
    }

    /// Tells the coordinator of the partitions that wait for it, if there are some, and nothing else is asked about the transaction.
    pub(crate) fn begin_adding(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.to_be_added.is_empty() {
            return None;
        }
        let turn = self.transactions.try_turn()?;
        // Whoever ends the transaction may change it, and waits.
        let identity = self.transactions.identity()?;
        let partitions: Vec<_> = std::mem::take(&mut self.to_be_added)
            .into_iter()
            // While it was told of these, they were asked for again.
            .filter(|partition| !self.transactions.has(partition))
            .collect();
        if partitions.is_empty() {
            return None;
        }
        let (coordinator, transactions) = (self.coordinator.clone(), Arc::clone(&self.transactions));
        Some(async move {
            let deadline = coordinator.cluster().api_deadline();
            match coordinator.add_partitions(identity, &partitions, deadline).await {
                Ok(()) => transactions.added(partitions),
                Err(error) => transactions.adding_failed(error),
            }
            drop(turn);
        })
    }
}
