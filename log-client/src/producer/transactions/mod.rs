//! The transactional producer: records of many partitions, and the offsets of what they were made from, count together or not at all.
//!
//! - `state`: what the producer is doing, and which calls fit that
//! - `sending`: what the sender has to do with it
//!
//! Records travel as those of any producer do; what is special about them, `sender` and `in_order` ask `state`. Requests to
//! coordinators are made by whoever calls, but for those that tell of partitions before the first batch, which the sender makes.

mod sending;
mod state;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::TopicPartition;
use tokio::sync::RwLock;

use super::{Delivery, Producer, ProducerRecord};
use crate::cluster::Cluster;
use crate::config::TransactionalConfig;
use crate::coordinator::{CommittedOffset, Coordinator, GroupMember, TransactionProtocol};
use crate::error::{Error, Result};
pub(crate) use sending::Transactional;
#[cfg(test)]
pub(crate) use state::Permission;
pub(crate) use state::{End, Transactions};
use state::{Ending, Opened};

/// Sends records in transactions, one after the other.
///
/// Every error says by [`Error::transaction_class`] what to do about it: call again, abort, make a new producer, or give up. A call that
/// is cancelled can be made again. Dropping the producer leaves an open transaction to the coordinator, which aborts it after
/// `transaction_timeout`, or as soon as a producer with the same transactional id is initialized.
#[derive(Debug)]
pub struct TransactionalProducer {
    producer: Producer,
    config: TransactionalConfig,
    coordinator: Coordinator,
    transactions: Arc<Transactions>,
    /// Read by whoever sends, written by whoever ends: no record slips in between.
    gate: RwLock<()>,
}

impl TransactionalProducer {
    /// A producer. It does nothing before [`TransactionalProducer::init_transactions`].
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn new(config: TransactionalConfig) -> Result<Self> {
        config.validate()?;
        let transactions = Arc::new(Transactions::new());
        let cluster = Cluster::new(config.producer.client.clone())?;
        let coordinator = Coordinator::of_transactions(cluster.clone(), &config.transactional_id);
        let transactional = Transactional::new(coordinator.clone(), Arc::clone(&transactions));
        let producer = Producer::start(config.producer.clone(), cluster, Some(transactional));
        Ok(Self {
            producer,
            config,
            coordinator,
            transactions,
            gate: RwLock::default(),
        })
    }

    /// The cluster it sends to.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.producer.cluster()
    }

    /// Takes the transactional id over: whoever had it before is fenced, and what that one left open is ended. To be
    /// called once; when it fails with an error that may pass, again.
    ///
    /// # Errors
    /// What the coordinator says.
    pub async fn init_transactions(&self) -> Result<()> {
        let _alone = self.gate.write().await;
        self.transactions.may_initialize()?;
        let deadline = self.cluster().api_deadline();
        let timeout = self.config.transaction_timeout.as_millis();
        let timeout = i32::try_from(timeout).unwrap_or(i32::MAX);
        let protocol = self.coordinator.transaction_protocol(deadline).await?;
        let identity = self.coordinator.init_producer_id(timeout, None, deadline).await;
        let identity = identity.map_err(|error| self.transactions.refused(error))?;
        tracing::debug!(
            transactional_id = self.config.transactional_id, producer_id = %identity.id, epoch = %identity.epoch, ?protocol,
            "may begin transactions"
        );
        self.transactions.initialized(identity, protocol);
        Ok(())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::TransactionState`] while another one is under way, and what the producer has failed with for good.
    pub fn begin_transaction(&self) -> Result<()> {
        self.transactions.begin()
    }

    /// Takes a record over for the open transaction, as [`Producer::send`] does. Its delivery need not be awaited: when a record
    /// fails, the transaction cannot be committed.
    ///
    /// # Errors
    /// As [`Producer::send`]: then the transaction has to be aborted, too.
    pub async fn send(&self, record: &ProducerRecord<'_>) -> Result<Delivery> {
        let _open = self.gate.read().await;
        self.transactions.opened()?;
        let sent = self.producer.send(record).await;
        sent.map_err(|error| self.transactions.record_refused(&error))
    }

    /// Waits until every record that was sent before is acknowledged or has failed, as [`Producer::flush`] does. Committing does it, too.
    pub async fn flush(&self) {
        self.producer.flush().await;
    }

    /// Commits offsets of a group with the open transaction: they count if it is committed. `member` is who reads for the group
    /// ([`crate::group::GroupConsumer::member`]): should the group have given its partitions to somebody else meanwhile,
    /// the transaction has to be aborted.
    ///
    /// # Errors
    /// What the coordinators say.
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        member: &GroupMember,
    ) -> Result<()> {
        let _open = self.gate.read().await;
        let opened = self.transactions.opened()?;
        if offsets.is_empty() {
            return Ok(());
        }
        let sent = self.send_offsets(opened, offsets, member).await;
        sent.map_err(|error| self.transactions.refused(error))
    }

    async fn send_offsets(
        &self,
        opened: Opened,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        member: &GroupMember,
    ) -> Result<()> {
        let Opened { identity, protocol } = opened;
        let deadline = self.cluster().api_deadline();
        if protocol == TransactionProtocol::V1 {
            let added = self
                .coordinator
                .add_offsets(identity, &member.group_id, deadline)
                .await;
            if added.as_ref().err().is_none_or(Error::is_retriable) {
                self.transactions.started();
            }
            added?;
        }
        // Whatever becomes of the request, the coordinator may know of the transaction now.
        self.transactions.started();
        let id = &self.config.transactional_id;
        Coordinator::new(self.cluster().clone(), &member.group_id)
            .commit_in_transaction(id, protocol, identity, member, offsets, deadline)
            .await
    }

    /// Waits until all records are acknowledged, and commits the transaction. When this returns, its records and offsets count.
    ///
    /// # Errors
    /// After one that may pass, the transaction may be committed: the call has to be made again, and aborting is refused. After one
    /// that wants the transaction aborted, it is not.
    pub async fn commit_transaction(&self) -> Result<()> {
        let _alone = self.gate.write().await;
        if self.transactions.close()? {
            self.producer.flush().await;
        }
        self.end(End::Commit).await
    }

    /// Gives up the records that were not sent, waits for the others, and aborts the transaction: nothing of it counts.
    ///
    /// # Errors
    /// After one that may pass, the call has to be made again.
    pub async fn abort_transaction(&self) -> Result<()> {
        let _alone = self.gate.write().await;
        self.transactions.give_up()?;
        self.producer.flush().await;
        self.end(End::Abort).await
    }

    async fn end(&self, end: End) -> Result<()> {
        let _turn = self.transactions.turn().await;
        let Ending {
            identity,
            protocol,
            is_started,
            needs_epoch,
        } = self.transactions.ending(end)?;
        let refused = |error| self.transactions.refused(error);
        let deadline = self.cluster().api_deadline();
        let mut identity = identity;
        if is_started {
            let is_commit = end == End::Commit;
            let coordinator = &self.coordinator;
            let ended = coordinator.end_transaction(protocol, identity, is_commit, deadline);
            identity = ended.await.map_err(refused)?;
            self.transactions.renamed(identity);
        }
        if needs_epoch {
            let timeout = self.config.transaction_timeout.as_millis();
            let timeout = i32::try_from(timeout).unwrap_or(i32::MAX);
            let coordinator = &self.coordinator;
            let renamed = coordinator.init_producer_id(timeout, Some(identity), deadline);
            self.transactions.renamed(renamed.await.map_err(refused)?);
        }
        self.transactions.ended();
        Ok(())
    }

    /// Takes no more records and ends. An open transaction is left to the coordinator, which aborts it.
    pub async fn close(&self) {
        drop(self.transactions.give_up());
        self.producer.close().await;
    }
}
