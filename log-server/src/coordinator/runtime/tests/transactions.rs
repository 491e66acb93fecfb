//! Offsets that are committed in transactions: through the log and back, whatever happens to the machine, and while the log is
//! kept short.

use std::collections::BTreeMap;

use log_core::fs::mem::crash::CrashMode;
use log_core::model::{ProducerEpoch, ProducerId, Sequence, TransactionVersion};
use log_core::producer_state::manager::ProducerStateError;
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::record::control::TransactionOutcome::{self, Abort, Commit};
use log_core::record::control::{EndTransactionMarker, TransactionEnd};

use super::tidying::{Syncing, TUNING, UNTOUCHED, one_partition};
use super::*;
use crate::coordinator::group::context::TransactionalProducer;
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, FetchOffsetsTopic, NamedBy};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::partition::partition::Ack;

const EPOCH: ProducerEpoch = ProducerEpoch::new(0);
const A: ProducerId = ProducerId::new(1);
const B: ProducerId = ProducerId::new(2);

impl Broker {
    /// What the handler does before the transaction coordinator is asked.
    async fn verification(&self, producer: ProducerId, group: &str) -> TransactionProof {
        let batch = TransactionalBatch {
            producer_id: producer,
            producer_epoch: EPOCH,
            base_sequence: Sequence::NONE,
            version: TransactionVersion::V1,
        };
        self.groups.start_verification(group, &batch).await.unwrap().1
    }

    /// Commits in a transaction, which the transaction coordinator knows of, and waits for the disk.
    async fn pend_proved(
        &self,
        producer: ProducerId,
        group: &str,
        offset: i64,
        proof: TransactionProof,
    ) -> Result<(), GroupError> {
        let (groups, name) = (Arc::clone(&self.groups), group.to_owned());
        let (done, carried_out) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let command = |_: &mut GroupShard, context: &mut Context<'_>| {
                context.transaction = Some(TransactionalProducer {
                    id: producer,
                    epoch: EPOCH,
                });
                context.records.push(commit(&name, offset));
                done.send(()).unwrap();
            };
            groups.run_in_transaction(&name, &proof, command).await
        });
        drop(carried_out.await);
        self.sync();
        end_of(task).await
    }

    pub(super) async fn pend(&self, producer: ProducerId, group: &str, offset: i64) {
        let proof = self.verification(producer, group).await;
        self.pend_proved(producer, group, offset, proof).await.unwrap();
    }

    /// Writes the marker into the group's partition, and waits for the disk.
    async fn end(&self, producer: ProducerId, group: &str, outcome: TransactionOutcome) {
        let end = TransactionEnd {
            producer_id: producer,
            producer_epoch: EPOCH,
            version: TransactionVersion::V1,
            marker: EndTransactionMarker {
                outcome,
                coordinator_epoch: 0,
            },
        };
        let partition = self.partition_of(group).name().partition;
        let ack = self.groups.append_marker(partition, end).unwrap();
        self.sync();
        if let Ack::WhenDurable(receiver) = ack {
            timeout(HANG, receiver)
                .await
                .expect("it is synced")
                .unwrap()
                .unwrap();
        }
    }

    /// Where a group stands: an offset, `-`, or `?` while a transaction is to decide.
    pub(super) async fn standing(&self, group: &str) -> String {
        let request = FetchOffsetsRequest {
            group: group.into(),
            member_id: None,
            member_epoch: -1,
            topics: Some(vec![FetchOffsetsTopic {
                topic: TopicRef::Name(OFFSETS_TOPIC.into()),
                partitions: vec![0],
            }]),
            require_stable: true,
        };
        let fetch = async || {
            loop {
                let ask = |shard: &mut GroupShard, context: &mut Context<'_>| {
                    shard.fetch_offsets(context, &request, NamedBy::Name)
                };
                match self.groups.run(group, ask).await {
                    Err(GroupError::LoadInProgress) => tokio::task::yield_now().await,
                    answer => return answer.unwrap().unwrap(),
                }
            }
        };
        let fetched = timeout(HANG, fetch()).await.expect("it is loaded");
        match &fetched[0].partitions[0].committed {
            Ok(Some(committed)) => committed.offset.to_string(),
            Ok(None) => "-".to_owned(),
            Err(GroupError::UnstableOffsetCommit) => "?".to_owned(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_transaction_decides_over_offsets_also_after_a_crash() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    broker.commit("g", 1).await.unwrap();
    broker.pend(A, "g", 5).await;
    assert_eq!(broker.standing("g").await, "?");
    // The shard serves on: who appends a marker is the one who appends everything.
    let broker = Broker::start(&files.crash(CrashMode::SyncedOnly));
    assert_eq!(broker.standing("g").await, "?");
    broker.pend(A, "g", 6).await;
    broker.end(A, "g", Commit).await;
    assert_eq!(broker.standing("g").await, "6");
    broker.pend(A, "g", 7).await;
    broker.end(A, "g", Abort).await;
    broker.commit("g", 8).await.unwrap();
    assert_eq!(broker.standing("g").await, "8");
    let files = broker.stop().await;
    let broker = Broker::start(&files);
    assert_eq!(broker.standing("g").await, "8");
}

#[tokio::test]
async fn a_marker_takes_back_the_proof_of_what_comes_late() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let proof = broker.verification(A, "g").await;
    broker.end(A, "g", Abort).await;
    let late = broker.pend_proved(A, "g", 5, proof).await;
    let refused = ProducerStateError::UnverifiedTransaction { producer_id: A };
    assert_eq!(late, Err(GroupError::Producer(refused)));
    // Nothing was written, and the shard goes on.
    assert_eq!(broker.standing("g").await, "-");
    broker.commit("g", 1).await.unwrap();
    assert_eq!(broker.standing("g").await, "1");
}

/// What the log means: of each group the last record that counts.
#[derive(Default)]
struct Model {
    clock: u64,
    last: BTreeMap<String, (u64, i64)>,
    pending: BTreeMap<ProducerId, BTreeMap<String, (u64, i64)>>,
}

impl Model {
    fn commit(&mut self, group: &str, offset: i64) {
        self.clock += 1;
        self.last.insert(group.to_owned(), (self.clock, offset));
    }

    fn pend(&mut self, producer: ProducerId, group: &str, offset: i64) {
        self.clock += 1;
        let of_producer = self.pending.entry(producer).or_default();
        of_producer.insert(group.to_owned(), (self.clock, offset));
    }

    fn end(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        let decided = self.pending.remove(&producer).unwrap_or_default();
        if outcome == Commit {
            for (group, record) in decided {
                let last = self.last.entry(group).or_insert(record);
                *last = record.max(*last);
            }
        }
    }

    fn standing(&self, group: &str) -> String {
        if self.pending.values().any(|pending| pending.contains_key(group)) {
            return "?".to_owned();
        }
        self.last
            .get(group)
            .map_or("-".to_owned(), |(_, offset)| offset.to_string())
    }

    async fn check(&self, broker: &Broker, what: &str) {
        for number in 0..5 {
            let group = format!("g{number}");
            assert_eq!(
                broker.standing(&group).await,
                self.standing(&group),
                "{group} {what}"
            );
        }
    }
}

/// Commits of both kinds go on while the log is tidied up, again and again; what it means never changes, neither for the shard
/// that lives nor for one that reads it anew.
#[tokio::test]
async fn a_log_with_transactions_is_made_short_and_means_the_same() {
    let seed =
        std::env::var("STRATALOG_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("STRATALOG_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut files = MemFileSystem::new();
    let mut model = Model::default();
    for round in 0..6 {
        let broker = Broker::start_with(&files, one_partition(), TUNING);
        // A long log is tidied up as soon as it was read.
        let syncing = Syncing::start(&broker);
        broker.groups.ready("g").await.unwrap();
        model.check(&broker, "after a start").await;
        let partition = broker.partition_of("g");
        let start = partition.offsets().log_start;
        let mut steps = 0;
        while partition.offsets().log_start == start {
            steps += 1;
            assert!(steps < 20_000, "the log is never tidied up");
            let group = format!("g{}", rng.u8(..5));
            let producer = if rng.bool() { A } else { B };
            let offset = i64::from(steps) + 100_000 * round;
            match rng.u8(..8) {
                0..=2 => {
                    broker.commit(&group, offset).await.unwrap();
                    model.commit(&group, offset);
                }
                3..=5 => {
                    broker.pend(producer, &group, offset).await;
                    model.pend(producer, &group, offset);
                }
                _ => {
                    let outcome = if rng.bool() { Commit } else { Abort };
                    broker.end(producer, &group, outcome).await;
                    model.end(producer, outcome);
                }
            }
        }
        model.check(&broker, "when the log was tidied up").await;
        broker.groups.close();
        broker.groups.closed().await;
        drop(syncing);
        files = files.crash(CrashMode::SyncedOnly);
    }
    let broker = Broker::start_with(&files, one_partition(), UNTOUCHED);
    model.check(&broker, "in the end").await;
    for producer in [A, B] {
        broker.end(producer, "g", Commit).await;
        model.end(producer, Commit);
    }
    model.check(&broker, "when all is decided").await;
}
