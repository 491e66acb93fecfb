//! The state machine of transactions, without a log: what is answered, what is written, and what replaying that gives.
//!
//! | file | what it proves |
//! |---|---|
//! | `identity` | who gets which epoch, and who is fenced |
//! | `decisions` | what may follow what, by both versions of the protocol |
//! | `model` | random schedules with crashes, refused writes and reloads |
//! | `records` | the bytes of Kafka's own records |

mod decisions;
mod identity;
mod model;
mod records;

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::{ProducerEpoch, ProducerId, TimestampMs, TopicPartition};
use log_core::record::control::TransactionOutcome;

use crate::coordinator::transaction::context::{Context, DecidedTransaction, ProducerIdentity};
use crate::coordinator::transaction::end::EndRequest;
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::init::{Identified, InitRequest};
use crate::coordinator::transaction::partitions::PartitionsRequest;
use crate::coordinator::transaction::record::{Transaction, TransactionRecord};
use crate::coordinator::transaction::settings::TransactionSettings;
use crate::coordinator::transaction::shard::TransactionShard;
use crate::coordinator::transaction::state::TransactionState;

const NOW: i64 = 1_700_000_000_000;
const ID: &str = "tx";
const TIMEOUT_MS: i32 = 60_000;

/// A shard with a clock, producer ids and a log in memory.
struct World {
    shard: TransactionShard,
    settings: TransactionSettings,
    /// Milliseconds since the beginning, on both clocks.
    elapsed: i64,
    next_producer_id: i64,
    log: Vec<TransactionRecord>,
    /// Decided transactions whose markers were not written yet.
    decided: Vec<DecidedTransaction>,
    /// The log refuses the next records.
    refuses: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            shard: TransactionShard::default(),
            settings: TransactionSettings::default(),
            elapsed: 0,
            next_producer_id: 1_000,
            log: Vec::new(),
            decided: Vec::new(),
            refuses: false,
        };
        world.run(TransactionShard::loaded);
        world
    }

    /// Runs a command, writes and replays its records. `None`: the log refused them.
    fn try_run<R>(
        &mut self,
        command: impl FnOnce(&mut TransactionShard, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let now = TimestampMs::new(NOW + self.elapsed);
        let mut context = Context::new(now, SteadyMs::new(self.elapsed), &self.settings);
        let answer = command(&mut self.shard, &mut context);
        let Context { records, decided, .. } = context;
        if !records.is_empty() && std::mem::take(&mut self.refuses) {
            return None;
        }
        for record in &records {
            self.shard.replay(record);
        }
        self.log.extend(records);
        self.decided.extend(decided);
        Some(answer)
    }

    fn run<R>(&mut self, command: impl FnOnce(&mut TransactionShard, &mut Context<'_>) -> R) -> R {
        self.try_run(command).expect("the log takes it")
    }

    /// Runs a command that may need a producer id, as the coordinator does.
    fn identify(
        &mut self,
        mut command: impl FnMut(
            &mut TransactionShard,
            &mut Context<'_>,
            Option<ProducerId>,
        ) -> Result<Identified, TransactionError>,
    ) -> Result<ProducerIdentity, TransactionError> {
        let mut fresh = None;
        loop {
            match self.run(|shard, context| command(shard, context, fresh))? {
                Identified::Done(producer) => return Ok(producer),
                Identified::NeedsProducerId => {
                    assert_eq!(fresh, None, "one producer id is enough");
                    fresh = Some(ProducerId::new(self.next_producer_id));
                    self.next_producer_id += 1;
                }
            }
        }
    }

    fn init(&mut self) -> Result<ProducerIdentity, TransactionError> {
        self.init_as(None)
    }

    fn init_as(&mut self, current: Option<ProducerIdentity>) -> Result<ProducerIdentity, TransactionError> {
        let request = InitRequest {
            transactional_id: ID.into(),
            timeout_ms: TIMEOUT_MS,
            current,
        };
        self.identify(|shard, context, fresh| shard.init_producer(context, &request, fresh))
    }

    /// Adds partition 0 of a topic.
    fn add(&mut self, producer: ProducerIdentity, topic: &str, version: i16) -> Result<(), TransactionError> {
        let request = asked(producer, &[topic]);
        self.run(|shard, context| shard.add_partitions(context, &request, version))
    }

    fn end(
        &mut self,
        producer: ProducerIdentity,
        outcome: TransactionOutcome,
        client_version: i16,
    ) -> Result<ProducerIdentity, TransactionError> {
        let request = EndRequest {
            transactional_id: ID.into(),
            producer,
            outcome,
            client_version,
        };
        self.identify(|shard, context, fresh| shard.end_transaction(context, &request, fresh))
    }

    /// All markers of all decided transactions are on the disk.
    fn markers_written(&mut self) {
        for decided in std::mem::take(&mut self.decided) {
            self.run(|shard, context| shard.complete_transaction(context, &decided));
        }
    }

    /// The shard is lost, and read again from the log.
    fn reload(&mut self) {
        self.shard = TransactionShard::default();
        self.decided.clear();
        for record in &self.log {
            let record = TransactionRecord {
                value: record.value.clone().map(without_last_epoch),
                ..record.clone()
            };
            self.shard.replay(&record);
        }
        self.run(TransactionShard::loaded);
    }

    /// Time passes, and what is due by then is done.
    fn pass(&mut self, ms: i64) {
        self.elapsed += ms;
        while self
            .shard
            .next_deadline()
            .is_some_and(|due| due <= SteadyMs::new(self.elapsed))
        {
            self.run(TransactionShard::tick);
        }
    }

    fn transaction(&self) -> &Transaction {
        &self.shard.transactions[ID]
    }

    fn state(&self) -> TransactionState {
        self.transaction().state
    }

    /// Sets the epoch of the id's producer, as if it had begun so often.
    fn set_epoch(&mut self, epoch: i16) -> ProducerIdentity {
        let mut transaction = self.transaction().clone();
        transaction.producer.epoch = ProducerEpoch::new(epoch);
        transaction.previous_producer_id = transaction.producer.id;
        transaction.last_epoch = ProducerEpoch::NONE;
        let producer = transaction.producer;
        self.run(|_, context| {
            context.records.push(TransactionRecord {
                transactional_id: ID.into(),
                value: Some(transaction),
            });
        });
        producer
    }
}

/// What a restart forgets.
fn without_last_epoch(transaction: Transaction) -> Transaction {
    Transaction {
        last_epoch: ProducerEpoch::NONE,
        ..transaction
    }
}

fn asked(producer: ProducerIdentity, topics: &[&str]) -> PartitionsRequest {
    PartitionsRequest {
        transactional_id: ID.into(),
        producer,
        partitions: places(topics),
    }
}

fn places(topics: &[&str]) -> BTreeSet<TopicPartition> {
    topics
        .iter()
        .map(|topic| TopicPartition::new(*topic, 0))
        .collect()
}

fn identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
    }
}

fn id() -> Arc<str> {
    ID.into()
}
