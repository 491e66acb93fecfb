//! One partition's state machine against a simulated network and a broker with Kafka's rules, step by step
//! in an order that a seed decides: requests wait on the wire, answers wait on the way back, connections
//! break with both under way, and what a dead connection still carries reaches the broker late or never.
//!
//! Whatever happens, no record is appended twice, and those that were acknowledged stand in the log in the
//! order in which they were sent, at the offsets that were named.
//!
//! A third of the runs are in transactions, of either protocol: a failure dooms the one that is open, some are aborted without one,
//! and the next one goes on with the identity that the end of the one before gives.

use std::collections::HashSet;

use futures_util::FutureExt as _;
use log_core::model::{LeaderEpoch, TopicId};
use log_core::protocol::ApiKey;

use super::super::accumulator::{Parts, TopicQueues};
use super::super::books::Books;
use super::super::delivery::Delivery;
use super::super::transactions::{End, Permission, Transactions};
use super::*;
use crate::coordinator::TransactionProtocol;
use crate::metadata::{PartitionMetadata, TopicMetadata};
use crate::testing::fake_broker::FakePartition;

struct Simulation {
    random: fastrand::Rng,
    transactions: Option<Arc<Transactions>>,
    topic: Arc<TopicQueues>,
    /// How many records the caller has not sent yet.
    unsent: usize,
    accumulator: Accumulator,
    partition: InOrder,
    policy: Policy,
    current: Identity,
    now: Instant,
    broker: FakePartition,
    /// What the broker has not read, oldest first, and what it has answered.
    wire: VecDeque<SealedBatch>,
    answers: VecDeque<(SealedBatch, Answer)>,
    /// What connections that are closed still carry.
    ghosts: VecDeque<Bytes>,
    fault_percent: u8,
    is_calm: bool,
    deliveries: Vec<(String, Delivery)>,
}

fn send(accumulator: &Accumulator, topic: &TopicQueues, number: usize) -> (String, Delivery) {
    let value = number.to_string();
    let parts = Parts {
        timestamp: TimestampMs::new(0),
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    };
    let delivery = accumulator.append(topic, None, &parts, parts.size_max()).unwrap();
    (value, delivery)
}

fn error(code: ErrorCode) -> Answer {
    Answer::Failed(Error::broker(ApiKey::Produce, code, "t-0", None))
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let options = BatchOptions::default();
        let current = Identity {
            id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
        };
        let transactions = (random.u8(..3) == 0).then(|| {
            let transactions = Arc::new(Transactions::new());
            let protocols = [TransactionProtocol::V1, TransactionProtocol::V2];
            transactions.initialized(current, protocols[random.usize(..2)]);
            transactions.begin().unwrap();
            transactions
        });
        let accumulator = Accumulator::new(
            random.usize(1..300),
            Duration::ZERO,
            options,
            Books::new(1 << 20, transactions.clone()),
        );
        let policy = Policy {
            is_transactional: transactions.is_some(),
            is_idempotent: true,
            in_flight_max: random.usize(1..=5),
            delivery_timeout: Duration::from_secs(if random.bool() { 1000 } else { 2 }),
            backoff: Backoff {
                first: Duration::from_millis(100),
                longest: Duration::from_secs(1),
            },
            options,
        };
        let metadata = TopicMetadata {
            name: "t".into(),
            id: TopicId::ZERO,
            is_internal: false,
            partitions: vec![PartitionMetadata {
                partition: 0,
                leader: Some(1),
                leader_epoch: LeaderEpoch::FIRST,
                replicas: Vec::new(),
                in_sync: Vec::new(),
                offline: Vec::new(),
            }],
        };
        let topic = accumulator.update(&Arc::new(metadata));
        let deliveries = vec![send(&accumulator, &topic, 0)];
        let queue = accumulator.take_fresh().remove(0);
        let mut simulation = Self {
            fault_percent: random.u8(..60),
            unsent: random.usize(..80),
            random,
            transactions,
            topic,
            accumulator,
            partition: InOrder::new(queue),
            policy,
            current,
            now: Instant::now(),
            broker: FakePartition::default(),
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            ghosts: VecDeque::new(),
            is_calm: false,
            deliveries,
        };
        simulation.send_some();
        simulation
    }

    /// The caller sends what it has, or a part of it in this transaction.
    fn send_some(&mut self) {
        let count = match self.transactions {
            Some(_) => self.random.usize(..=self.unsent),
            None => self.unsent,
        };
        for _ in 0..count {
            let number = self.deliveries.len();
            self.deliveries.push(send(&self.accumulator, &self.topic, number));
        }
        self.unsent -= count;
    }

    /// Follows what has become of the transaction. If all its records are settled it ends, and the next one begins.
    fn follow(&mut self, is_settled: bool) {
        let Some(transactions) = self.transactions.clone() else {
            return;
        };
        match transactions.permission() {
            Permission::Send => {}
            Permission::GiveUp(error) => self.partition.fail_all(&error),
            Permission::GiveUpUnsent => self.partition.fail_unsent(&Error::TransactionAborted),
        }
        if !is_settled {
            return;
        }
        // A failure may have come just now.
        let end = match transactions.close() {
            Ok(_) => End::Commit,
            Err(_) => End::Abort,
        };
        if end == End::Abort {
            transactions.give_up().unwrap();
        }
        let ending = transactions.ending(end).unwrap();
        if ending.needs_epoch || (ending.is_started && ending.protocol == TransactionProtocol::V2) {
            self.current.epoch = ProducerEpoch::new(self.current.epoch.get() + 1);
            transactions.renamed(self.current);
        }
        transactions.ended();
        transactions.begin().unwrap();
        self.send_some();
    }

    fn run(&mut self) {
        for step in 0.. {
            assert!(step < 100_000, "it does not come to an end");
            self.is_calm = 2000 < step;
            let is_over = self.wire.is_empty() && self.answers.is_empty() && self.partition.is_idle();
            match self.random.u8(..10) {
                0..4 => {
                    let wish = self.client_sends();
                    let is_settled = is_over && wish == Wish::Nothing;
                    if is_settled && self.unsent == 0 && !self.is_doomed() {
                        return;
                    }
                    self.follow(is_settled);
                }
                4..7 => self.broker_reads(),
                7 | 8 => self.answer_arrives(),
                _ if self.is_calm => {}
                _ => self.trouble(),
            }
        }
    }

    fn is_doomed(&self) -> bool {
        let transactions = self.transactions.as_ref();
        transactions.is_some_and(|transactions| transactions.opened().is_err())
    }

    fn client_sends(&mut self) -> Wish {
        self.partition.expire(&self.policy, self.now);
        let wish = self
            .partition
            .wish(&self.accumulator, &self.policy, Some(self.current), self.now);
        match wish {
            Wish::Send => {
                let batch = self.partition.take(&self.policy, Some(self.current));
                self.wire.extend(batch);
                if let Some(transactions) = &self.transactions {
                    transactions.started();
                }
            }
            Wish::NewId(_) => self.current.id = ProducerId::new(self.current.id.get() + 1),
            Wish::At(at) => self.now = at,
            Wish::Wait | Wish::Nothing => {}
        }
        assert!(self.wire.len() + self.answers.len() <= 5);
        wish
    }

    fn broker_reads(&mut self) {
        let Some(batch) = self.wire.pop_front() else {
            return;
        };
        let is_faulty = !self.is_calm && self.random.u8(..100) < self.fault_percent;
        let refusals = [
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::InvalidTimestamp,
            ErrorCode::MessageTooLarge,
            ErrorCode::OutOfOrderSequenceNumber,
            ErrorCode::InvalidProducerEpoch,
        ];
        let answer = match self.random.u8(..8) {
            kind @ 0..5 if is_faulty && !self.broker.has(&batch.records) => {
                error(refusals[usize::from(kind)])
            }
            kind @ 5..8 if is_faulty => {
                // Appended or not, the client is told nothing about it.
                self.broker.append(&batch.records).ok();
                error(if kind == 5 {
                    ErrorCode::RequestTimedOut
                } else {
                    ErrorCode::KafkaStorageError
                })
            }
            _ => match self.broker.append(&batch.records) {
                Ok(offset) => Answer::Appended {
                    base_offset: Some(Offset::new(offset)),
                    log_append_time: None,
                },
                Err(code) => error(code),
            },
        };
        self.answers.push_back((batch, answer));
    }

    fn answer_arrives(&mut self) {
        if let Some((batch, answer)) = self.answers.pop_front() {
            self.partition.answered(batch, answer, &self.policy, self.now);
        }
    }

    fn trouble(&mut self) {
        match self.random.u8(..9) {
            // The connection breaks: nothing that is under way is answered any more.
            0 => {
                let unanswered = self.answers.drain(..).map(|(batch, _)| batch);
                let unread = self
                    .wire
                    .drain(..)
                    .inspect(|batch| self.ghosts.push_back(batch.records.clone()));
                for batch in unanswered.chain(unread).collect::<Vec<_>>() {
                    let lost = error(ErrorCode::NetworkException);
                    self.partition.answered(batch, lost, &self.policy, self.now);
                }
            }
            // Something of an old connection is read after all.
            1..4 => {
                if let Some(records) = self.ghosts.pop_front() {
                    self.broker.append(&records).ok();
                }
            }
            4 => self.ghosts.clear(),
            // The caller changes its mind.
            6 if self.random.u8(..4) == 0 => {
                if let Some(transactions) = &self.transactions {
                    transactions.give_up().ok();
                }
            }
            // The right to write is taken away for a moment: what waits fails, what is on its way does not know.
            5 if self.random.u8(..4) == 0 => {
                let code = ErrorCode::TopicAuthorizationFailed;
                self.partition
                    .fail_all(&Error::broker(ApiKey::Metadata, code, "t", None));
            }
            _ => self.now += Duration::from_millis(self.random.u64(..400)),
        }
    }

    fn check(self, seed: u64) {
        let values: Vec<_> = self
            .broker
            .values()
            .into_iter()
            .map(|value| String::from_utf8(value).unwrap())
            .collect();
        let distinct: HashSet<_> = values.iter().collect();
        assert_eq!(distinct.len(), values.len(), "seed {seed}: twice in {values:?}");
        let mut unknown = HashSet::new();
        let mut acknowledged = Vec::new();
        for (value, delivery) in self.deliveries {
            match delivery.now_or_never().expect("the run is over") {
                Ok(metadata) => acknowledged.push((metadata.offset.unwrap().get(), value)),
                Err(Error::OutcomeUnknown { .. } | Error::DeliveryTimedOut { .. }) => {
                    unknown.insert(value);
                }
                Err(_) => {}
            }
        }
        let there: Vec<_> = (0..)
            .zip(values)
            .filter(|(_, value)| !unknown.contains(value))
            .collect();
        assert_eq!(acknowledged, there, "seed {seed}");
    }
}

#[tokio::test]
async fn no_interleaving_loses_doubles_or_reorders_records() {
    let given = std::env::var("STRATALOG_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let first = given.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    for seed in first..first + if given.is_some() { 1 } else { 3000 } {
        let mut simulation = Simulation::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run()));
        assert!(outcome.is_ok(), "seed {seed}");
        simulation.check(seed);
    }
}
