//! Reading with a group, making other records of what was read, and writing those: each input record counts once.
//!
//! One transaction holds what was made of some records and the group's new offsets. Whatever happens in between (a crash, a
//! rebalance, a lost answer), both count or none does, and then the same records are read again. What is written counts
//! for those who read with [`IsolationLevel::ReadCommitted`], as this reader does itself.
//!
//! Who commits is the member as it was when it read: when the group has given its partitions to another one meanwhile, the
//! transaction is aborted. So instances may come and go, each with a transactional id of its own.
//!
//! A step that does not count is gone back over by what is remembered of it, and not by asking the group: it may have committed
//! nothing there yet, and the end of a partition, where a new group begins by default, lies behind those records by then.

use std::collections::BTreeMap;
use std::time::Duration;

use log_core::model::{Offset, TopicPartition};
use tokio::time::{Instant, timeout_at};

use crate::config::{IsolationLevel, StartAt, TransactionalConfig};
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
    /// The first record of the present step in each partition.
    begins: BTreeMap<TopicPartition, Offset>,
    close_timeout: Duration,
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
        let close_timeout = group.close_timeout;
        let mut consumer = GroupConsumer::new(group)?;
        let producer = TransactionalProducer::new(producer)?;
        // First, so that offsets which an earlier instance left undecided are decided when they are looked up.
        producer.init_transactions().await?;
        consumer.subscribe(topics)?;
        Ok(Self {
            consumer,
            producer,
            stage: Stage::Between,
            begins: BTreeMap::new(),
            close_timeout,
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
            // Nothing is waited for from here on: what was read is either handed out or gone back over.
            self.begins.clear();
            for record in &records {
                self.begins
                    .entry(record.partition.clone())
                    .or_insert(record.offset);
            }
            let offsets = self
                .consumer
                .positions(records.iter().map(|record| &record.partition));
            let member = self.consumer.member();
            // While the group is changing, nobody can say whose these records are.
            let Some(member) = member.filter(|_| self.consumer.is_up_to_date()) else {
                self.go_back();
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

    /// Reads the records of the present step again, where this instance still has their partitions.
    fn go_back(&mut self) {
        for (partition, offset) in std::mem::take(&mut self.begins) {
            // Another instance reads it where it fails.
            self.consumer.seek(&partition, StartAt::Offset(offset)).ok();
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
        self.go_back();
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

    /// Ends an open transaction, and then leaves the group, each within the group's `close_timeout`. A transaction that is not ended by
    /// then is left to its coordinator, which aborts it if it was not about to be committed.
    ///
    /// # Errors
    /// What ending the transaction or leaving the group fails with; [`Error::Closed`] when there was no time left.
    pub async fn close(mut self) -> Result<()> {
        let deadline = Instant::now() + self.close_timeout;
        let settled = timeout_at(deadline, self.settle()).await;
        let settled = settled.unwrap_or(Err(Error::Closed("transactional producer")));
        // It ends even if this stops waiting for it.
        timeout_at(deadline, self.producer.close()).await.ok();
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
    /// Of class [`TransactionErrorClass::Fenced`] or `Fatal`: a new loop has to go on. Whether this step counts the group's offsets
    /// know, from which that one goes on.
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

#[cfg(test)]
mod tests {
    use log_core::model::TimestampMs;
    use log_core::protocol::ApiKey;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};

    use super::*;
    use crate::group::AutoOffsetReset;
    use crate::retry::Backoff;
    use crate::testing::fake_broker::{FakeBroker, Fault};

    /// Topics `in`, with one old record in each of two partitions, and `out`.
    async fn broker() -> FakeBroker {
        let broker = FakeBroker::start().await;
        broker.create("in", 2);
        broker.create("out", 1);
        broker.state().transactions.level = 2;
        broker.state().group.assign(&[("in", 0), ("in", 1)]);
        store(&broker, 0, "old");
        store(&broker, 1, "old");
        broker
    }

    fn store(broker: &FakeBroker, partition: usize, value: &str) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(TimestampMs::new(0), None, Some(value.as_bytes()), &[])
            .unwrap();
        let mut state = broker.state();
        state.topics.get_mut("in").unwrap().partitions[partition].store(&builder.build());
    }

    /// A loop that reads what comes from now on.
    async fn started(broker: &FakeBroker, close_timeout: Duration) -> ExactlyOnce {
        let quick = Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(4),
        };
        let mut group = GroupConfig::new(broker.address(), "g");
        group.consumer.client.retry_backoff = quick;
        group.auto_offset_reset = AutoOffsetReset::Latest;
        group.close_timeout = close_timeout;
        let mut producer = TransactionalConfig::new(broker.address(), "id");
        producer.producer.client.retry_backoff = quick;
        let mut started = ExactlyOnce::start(group, producer, ["in"]).await.unwrap();
        for partition in [0, 1] {
            let partition = TopicPartition::new("in", partition);
            while started.consumer.position(&partition).is_none() {
                let turn = tokio::time::timeout(Duration::from_millis(1), started.next()).await;
                assert!(turn.is_err(), "there is nothing yet");
            }
        }
        started
    }

    /// Writes what was read; the values.
    async fn copy(work: &Work<'_>) -> Vec<String> {
        let mut values = Vec::new();
        for record in work.records() {
            let value = record.value.as_deref().unwrap();
            work.send(&ProducerRecord::new("out", value)).await.unwrap();
            values.push(String::from_utf8(value.to_vec()).unwrap());
        }
        work.owner.producer.flush().await;
        values
    }

    #[tokio::test]
    async fn a_first_step_that_is_undone_is_done_again_and_what_came_meanwhile_is_done_too() {
        let broker = broker().await;
        let mut copies = started(&broker, Duration::from_secs(30)).await;
        store(&broker, 0, "first");
        drop(copy(&copies.next().await.unwrap()).await);
        // The group has committed nothing: asked for it, it would begin at the end.
        store(&broker, 0, "second");
        store(&broker, 1, "third");
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let work = tokio::time::timeout(Duration::from_secs(20), copies.next()).await;
            let work = work.expect("something was passed over").unwrap();
            seen.extend(copy(&work).await);
            assert!(matches!(work.commit().await.unwrap(), Outcome::Committed));
        }
        assert_eq!(broker.state().transactions.committed, seen);
        seen.sort_unstable();
        assert_eq!(seen, ["first", "second", "third"]);
        copies.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_step_that_lasts_too_long_is_done_again() {
        let broker = broker().await;
        let mut copies = started(&broker, Duration::from_secs(30)).await;
        store(&broker, 0, "late");
        let work = copies.next().await.unwrap();
        copy(&work).await;
        broker.state().transactions.time_out();
        assert!(matches!(work.commit().await.unwrap(), Outcome::Aborted(_)));
        let work = copies.next().await.unwrap();
        assert_eq!(copy(&work).await, ["late"]);
        assert!(matches!(work.commit().await.unwrap(), Outcome::Committed));
        assert_eq!(broker.state().transactions.committed, ["late"]);
    }

    #[tokio::test]
    async fn a_coordinator_that_does_not_answer_holds_closing_up_for_so_long_only() {
        let broker = broker().await;
        let mut copies = started(&broker, Duration::from_millis(50)).await;
        store(&broker, 0, "left open");
        copy(&copies.next().await.unwrap()).await;
        let never_answered = (ApiKey::EndTxn, Fault::Silence);
        broker.state().transactions.faults.push_back(never_answered);
        let closed = copies.close().await;
        assert!(matches!(closed, Err(Error::Closed(_))), "{closed:?}");
    }
}
