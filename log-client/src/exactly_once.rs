//! Reading with a group, making other records of what was read, and writing those: each input record counts once.
//!
//! One transaction holds what was made of some records and the group's new offsets. Whatever happens in between (a crash, a
//! rebalance, a lost answer), both count or none does, and then the same records are read again. What is written counts
//! for those who read with [`IsolationLevel::ReadCommitted`], as this reader does itself.
//!
//! Who commits is the member as it was when it read: when the group has given its partitions to another one meanwhile, the
//! transaction is aborted. So instances may come and go, each with a transactional id of its own.

use std::collections::BTreeMap;

use log_core::model::TopicPartition;

use crate::config::{IsolationLevel, TransactionalConfig};
use crate::consumer::ConsumerRecord;
use crate::coordinator::{CommittedOffset, GroupMember};
use crate::error::{Error, Result, TransactionErrorClass};
use crate::group::{GroupConfig, GroupConsumer};
use crate::producer::{ProducerRecord, TransactionalProducer};

/// Tries again while nothing but time is needed: a coordinator that is away comes back, and nothing else could be done meanwhile. A macro,
/// because the compiler cannot show yet that what awaits an asynchronous closure may change threads.
macro_rules! patiently {
    ($attempt:expr) => {
        loop {
            match $attempt.await {
                Err(error) if error.transaction_class() == TransactionErrorClass::Retriable => {
                    tracing::warn!(%error, "the end of a transaction is waited for");
                }
                done => break done,
            }
        }
    };
}

/// A loop of reading, transforming and writing, step by step.
#[derive(Debug)]
pub struct ExactlyOnce {
    consumer: GroupConsumer,
    producer: TransactionalProducer,
    stage: Stage,
}

/// What a step has left behind that did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Between,
    /// Nothing of it may count.
    Open,
    /// It may count already.
    Committing,
}

/// How a step ended.
#[derive(Debug)]
pub enum Outcome {
    /// What was made of the records counts, and they are done with.
    Committed,
    /// Nothing of it counts, for this reason; the next step reads the same records again, as far as this instance still has
    /// their partitions.
    Aborted(Error),
}

impl ExactlyOnce {
    /// Takes the transactional id over, and begins to read the topics as a member of the group. Of the group's settings
    /// `enable_auto_commit` and `isolation` have no effect.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], and what [`TransactionalProducer::init_transactions`] fails with.
    pub async fn start(
        group: GroupConfig,
        producer: TransactionalConfig,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let mut group = group;
        group.enable_auto_commit = false;
        group.consumer.isolation = IsolationLevel::ReadCommitted;
        let mut consumer = GroupConsumer::new(group)?;
        let producer = TransactionalProducer::new(producer)?;
        // First, so that offsets which an earlier instance left undecided are decided when they are looked up.
        producer.init_transactions().await?;
        consumer.subscribe(topics)?;
        Ok(Self {
            consumer,
            producer,
            stage: Stage::Between,
        })
    }

    /// The member that reads.
    #[must_use]
    pub fn consumer(&self) -> &GroupConsumer {
        &self.consumer
    }

    /// Waits for records, at most `max_poll_records`, and begins a transaction for what is made of them. A step that was dropped before
    /// its end is ended first: it counts if it was about to be committed, and is undone if not. This may be cancelled.
    ///
    /// # Errors
    /// What reading fails with; the next call goes on. An error of class [`TransactionErrorClass::Fenced`] or `Fatal` ends
    /// this loop: a new one goes on where this one was.
    pub async fn next(&mut self) -> Result<Work<'_>> {
        self.settle().await?;
        loop {
            let records = self.consumer.poll_records().await?;
            let offsets = self
                .consumer
                .positions(records.iter().map(|record| &record.partition));
            let member = self.consumer.member();
            // While the group is changing, nobody can say whose these records are.
            let Some(member) = member.filter(|_| self.consumer.is_up_to_date()) else {
                self.consumer.rewind();
                continue;
            };
            self.producer.begin_transaction()?;
            self.stage = Stage::Open;
            return Ok(Work {
                owner: self,
                records,
                offsets,
                member,
            });
        }
    }

    /// Ends what a step has left behind.
    async fn settle(&mut self) -> Result<()> {
        if self.stage == Stage::Committing && self.commit().await.is_ok() {
            return Ok(());
        }
        if self.stage == Stage::Between {
            return Ok(());
        }
        let aborted = patiently!(self.producer.abort_transaction());
        self.stage = Stage::Between;
        self.consumer.rewind();
        aborted
    }

    /// Commits. After an error that wants the transaction aborted, that is what is left to do.
    async fn commit(&mut self) -> Result<()> {
        let committed = patiently!(self.producer.commit_transaction());
        self.stage = match &committed {
            Ok(()) => Stage::Between,
            Err(_) => Stage::Open,
        };
        committed
    }

    /// Ends an open transaction, leaves the group and ends.
    ///
    /// # Errors
    /// What ending the transaction or leaving the group fails with.
    pub async fn close(mut self) -> Result<()> {
        let settled = self.settle().await;
        self.producer.close().await;
        self.consumer.close().await.and(settled)
    }
}

/// Records, and the transaction for what is made of them. Dropping it undoes it.
#[derive(Debug)]
pub struct Work<'a> {
    owner: &'a mut ExactlyOnce,
    records: Vec<ConsumerRecord>,
    /// Where the group goes on behind them.
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Who read them.
    member: GroupMember,
}

impl Work<'_> {
    /// What was read; at least one record.
    #[must_use]
    pub fn records(&self) -> &[ConsumerRecord] {
        &self.records
    }

    /// Writes a record that counts with this step. Waits only for memory and for the topic's metadata.
    ///
    /// # Errors
    /// As [`TransactionalProducer::send`]. After one the step cannot count any more.
    pub fn send<'a>(
        &'a self,
        record: &'a ProducerRecord<'a>,
    ) -> impl Future<Output = Result<()>> + Send + 'a {
        // Only this is held while it waits: the consumer is not for two threads at once.
        let producer = &self.owner.producer;
        // Should the record fail, the transaction is not committed.
        async move { producer.send(record).await.map(drop) }
    }

    /// Commits what was written, and that the records are done with. If this is cancelled, the next step finds out whether it counts.
    ///
    /// # Errors
    /// Of class [`TransactionErrorClass::Fenced`] or `Fatal`: it does not count, and a new loop has to go on.
    pub async fn commit(self) -> Result<Outcome> {
        let owner = self.owner;
        let sent = owner
            .producer
            .send_offsets_to_transaction(&self.offsets, &self.member)
            .await;
        let committed = match sent {
            Ok(()) => {
                owner.stage = Stage::Committing;
                owner.commit().await
            }
            Err(error) => Err(error),
        };
        match committed {
            Ok(()) => Ok(Outcome::Committed),
            Err(error) => {
                owner.settle().await?;
                Ok(Outcome::Aborted(error))
            }
        }
    }
}
