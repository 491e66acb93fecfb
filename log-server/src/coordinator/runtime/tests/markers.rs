//! The end of a transaction: each of its partitions gets its marker, however long that takes, and none gets one that comes late.
//! The disk is synced when the test says so, and what fails does it once.

use std::collections::BTreeSet;
use std::pin::pin;

use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::model::TopicPartition;
use log_core::record::control::TransactionOutcome::Commit;

use super::*;
use crate::coordinator::runtime::host::Task;
use crate::coordinator::runtime::shard_topic::TRANSACTIONS_TOPIC;
use crate::coordinator::runtime::transaction_coordinator::{Admission, TransactionCoordinator};
use crate::coordinator::transaction::context::{DecidedTransaction, ProducerIdentity};
use crate::coordinator::transaction::end::EndRequest;
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::init::InitRequest;
use crate::coordinator::transaction::state::TransactionState;
use crate::metadata::plan::{NewTopic, TopicSelector};

const ID: &str = "t";
/// Before version 2 a marker has the epoch of its transaction, and nothing but care keeps a late one from ending the next.
const CLIENT_VERSION: i16 = 0;

/// A broker with a coordinator of transactions; both coordinators have one shard.
struct World {
    broker: Broker,
    transactions: Arc<TransactionCoordinator>,
}

impl World {
    async fn start(files: &MemFileSystem) -> Self {
        let config = BrokerConfig {
            offsets_topic_partitions: 1,
            transaction_state_log_partitions: 1,
            ..BrokerConfig::default()
        };
        let broker = Broker::start_with(files, config, TidyTuning::default());
        let transactions = TransactionCoordinator::start(
            Arc::clone(&broker.groups.hosts.context().controller),
            Arc::clone(&broker.partitions),
            Arc::clone(&broker.clock) as _,
            Arc::clone(&broker.groups),
        );
        broker.groups.ready("g").await.unwrap();
        transactions.ready(ID).await.unwrap();
        Self { broker, transactions }
    }

    /// With topics of one partition.
    async fn with_topics(files: &MemFileSystem, topics: &[&str]) -> Self {
        let world = Self::start(files).await;
        let new = topics.iter().map(|topic| NewTopic {
            partition_count: 1,
            ..NewTopic::named(*topic)
        });
        let controller = &world.transactions.hosts.context().controller;
        for made in controller.create_topics(new.collect(), false).await {
            made.unwrap();
        }
        world
    }

    async fn delete_topic(&self, topic: &str) {
        let controller = &self.transactions.hosts.context().controller;
        let topics = vec![TopicSelector::Name(topic.to_owned())];
        for deleted in controller.delete_topics(topics).await {
            deleted.unwrap();
        }
    }

    fn partition(&self, topic: &str) -> Arc<Partition> {
        self.broker.partitions.get(topic, 0).unwrap()
    }

    /// How many records a partition has: where nobody produces, these are markers.
    fn count(&self, topic: &str) -> i64 {
        end_offset(&self.partition(topic)).get()
    }

    /// The next sync of the partition's log fails.
    fn fail_sync_of(&self, topic: &str) {
        let log = format!("/{topic}-0/00000000000000000000.log");
        let plan = FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io);
        self.broker.files.set_faults(plan.only_in(&log));
    }

    fn mend(&self, topic: &str) {
        self.partition(topic).mend(&self.broker.manager).unwrap().unwrap();
    }

    /// What follows from what the disk has, and then the disk gets what that wrote.
    async fn step(&self) {
        settle().await;
        self.broker.sync();
    }

    /// The answer, with the disk at work until it comes.
    async fn answer<R>(&self, asked: impl Future<Output = R>) -> R {
        let mut asked = pin!(asked);
        let answer = async {
            loop {
                self.broker.sync();
                tokio::select! {
                    biased;
                    answer = &mut asked => return answer,
                    () = tokio::task::yield_now() => {}
                }
            }
        };
        timeout(HANG, answer).await.expect("it is answered")
    }

    /// A producer that begins a transaction in these topics.
    async fn begin(&self, topics: &[&str]) -> ProducerIdentity {
        let request = InitRequest {
            transactional_id: ID.into(),
            timeout_ms: 60_000,
            current: None,
        };
        let producer = self.answer(self.transactions.init_producer(request)).await;
        let producer = producer.unwrap();
        self.add(producer, topics).await;
        producer
    }

    async fn add(&self, producer: ProducerIdentity, topics: &[&str]) {
        let admission = Admission::Add {
            client_version: CLIENT_VERSION,
        };
        let admitted = self.transactions.admit(ID, producer, places(topics), admission);
        self.answer(admitted).await.unwrap();
    }

    /// The decision is on the disk, and nothing else.
    async fn commit(&self, producer: ProducerIdentity) {
        let request = EndRequest {
            transactional_id: ID.into(),
            producer,
            outcome: Commit,
            client_version: CLIENT_VERSION,
        };
        let transactions = Arc::clone(&self.transactions);
        let decided = tokio::spawn(async move { transactions.end_transaction(request).await });
        self.step().await;
        end_of(decided).await.unwrap();
    }

    async fn state(&self) -> TransactionState {
        let described = async {
            loop {
                match self.transactions.describe(ID).await {
                    Ok(transaction) => return transaction.state,
                    Err(
                        TransactionError::LoadInProgress
                        | TransactionError::NotAvailable(_)
                        | TransactionError::NotCoordinator,
                    ) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        self.answer(described).await
    }

    /// Returns when all markers are on the disk.
    async fn is_complete(&self) {
        let complete = async {
            while self.state().await != TransactionState::CompleteCommit {
                tokio::task::yield_now().await;
            }
        };
        timeout(HANG, complete)
            .await
            .expect("the transaction is complete");
    }

    /// The tries of a few rounds change nothing: it waits.
    async fn is_still_prepared(&self) {
        for _ in 0..3 {
            self.step().await;
        }
        assert_eq!(self.state().await, TransactionState::PrepareCommit);
    }
}

fn places(topics: &[&str]) -> BTreeSet<TopicPartition> {
    let places = topics.iter().map(|topic| TopicPartition::new(*topic, 0));
    places.collect()
}

#[tokio::test]
async fn a_partition_that_fails_gets_its_marker_when_it_is_back() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a", "b"]).await;
    let producer = world.begin(&["a", "b"]).await;
    world.commit(producer).await;
    world.fail_sync_of("a");
    world.is_still_prepared().await;
    assert!(world.partition("a").latch().is_some());
    world.mend("a");
    assert_eq!((world.count("a"), world.count("b")), (0, 1));
    world.is_complete().await;
    assert_eq!((world.count("a"), world.count("b")), (1, 1));
}

#[tokio::test]
async fn what_is_decided_is_carried_out_by_the_next_start() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a"]).await;
    let producer = world.begin(&["a"]).await;
    world.commit(producer).await;
    settle().await;
    assert_eq!(world.count("a"), 1, "not on the disk yet");
    let world = World::start(&files.crash(CrashMode::SyncedOnly)).await;
    world.is_complete().await;
    assert_eq!(world.count("a"), 1);
}

#[tokio::test]
async fn a_deleted_partition_needs_no_marker() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a", "b", "c"]).await;
    let producer = world.begin(&["a", "b", "c"]).await;
    world.delete_topic("a").await;
    world.commit(producer).await;
    world.fail_sync_of("b");
    world.is_still_prepared().await;
    // While its marker is tried again.
    world.delete_topic("b").await;
    world.is_complete().await;
    assert_eq!(world.count("c"), 1);
}

#[tokio::test]
async fn a_completion_that_the_disk_lost_is_repeated_by_the_next_shard_alone() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a"]).await;
    let producer = world.begin(&["a"]).await;
    world.commit(producer).await;
    world.step().await;
    assert_eq!(world.count("a"), 1, "the marker is on the disk");
    let decided = world.count(TRANSACTIONS_TOPIC);
    world.fail_sync_of(TRANSACTIONS_TOPIC);
    settle().await;
    assert_eq!(world.count(TRANSACTIONS_TOPIC), decided + 1, "it is complete");
    world.broker.sync();
    world.mend(TRANSACTIONS_TOPIC);
    assert_eq!(world.count(TRANSACTIONS_TOPIC), decided, "it is not");
    world.is_complete().await;
    assert_eq!(world.count("a"), 2, "once by each shard");

    // The task of the first shard, should it still be there: its marker would end the producer's next transaction.
    world.add(producer, &["a"]).await;
    let what = DecidedTransaction {
        transactional_id: ID.into(),
        producer,
        client_version: CLIENT_VERSION,
        outcome: Commit,
        partitions: places(&["a"]),
    };
    let task = |incarnation| Task {
        partition: 0,
        incarnation,
        what: what.clone(),
    };
    let place = TopicPartition::new("a", 0);
    assert!(world.transactions.append_decided(&task(0), &place).is_none());
    assert_eq!(world.count("a"), 2);
    let of_today = world.transactions.append_decided(&task(1), &place);
    assert!(of_today.unwrap().is_ok(), "it is the incarnation that counts");
}

#[tokio::test]
async fn a_group_s_shard_that_is_lost_sees_the_marker_when_it_is_back() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a"]).await;
    let producer = world.begin(&["a"]).await;
    let added = world.transactions.add_offsets(ID, producer, "g", CLIENT_VERSION);
    world.answer(added).await.unwrap();
    world.broker.pend(producer.id, "g", 5).await;
    let lost = world.broker.begin("g", 1).await;
    world.fail_sync_of(OFFSETS_TOPIC);
    world.broker.sync();
    assert_eq!(end_of(lost).await, Err(GroupError::NotCoordinator));
    world.commit(producer).await;
    world.is_still_prepared().await;
    assert_eq!(world.count("a"), 1);
    world.mend(OFFSETS_TOPIC);
    world.is_complete().await;
    assert_eq!(world.broker.standing("g").await, "5");
}

/// A marker may wait for the writer of its partition, and that for the disk.
#[tokio::test]
async fn a_marker_that_takes_its_time_holds_up_no_command() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a"]).await;
    let producer = world.begin(&["a"]).await;
    let (begun, begins) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel();
    let transactions = Arc::clone(&world.transactions);
    let marker = std::thread::spawn(move || {
        let host = transactions.hosts.at(0).unwrap();
        host.while_serving(0, || {
            begun.send(()).unwrap();
            left.recv_timeout(HANG).is_ok()
        })
    });
    begins.recv().unwrap();
    world.commit(producer).await;
    leave.send(()).unwrap();
    assert_eq!(marker.join().unwrap(), Some(true), "nobody waited for it");
}

/// And while it is under way, its shard may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_waits_for_the_markers_of_the_one_before() {
    let files = MemFileSystem::new();
    let world = World::with_topics(&files, &["a"]).await;
    world.begin(&["a"]).await;
    let (begun, begins) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel();
    let (note, notes) = std::sync::mpsc::channel();
    let transactions = Arc::clone(&world.transactions);
    let by_marker = note.clone();
    let marker = std::thread::spawn(move || {
        let host = transactions.hosts.at(0).unwrap();
        host.while_serving(0, || {
            begun.send(()).unwrap();
            left.recv_timeout(HANG).unwrap();
            by_marker.send("the marker").unwrap();
        })
    });
    begins.recv().unwrap();
    world.fail_sync_of(TRANSACTIONS_TOPIC);
    let lost = InitRequest {
        transactional_id: "u".into(),
        timeout_ms: 60_000,
        current: None,
    };
    let lost = world.answer(world.transactions.init_producer(lost)).await;
    assert_eq!(lost, Err(TransactionError::NotCoordinator));
    world.mend(TRANSACTIONS_TOPIC);
    let host = Arc::clone(world.transactions.hosts.at(0).unwrap());
    let next = tokio::spawn(async move {
        // The shard before may not know yet that its log failed: it is the one with the next number that counts.
        while host.while_serving(1, || ()).is_none() {
            tokio::task::yield_now().await;
        }
        note.send("the next shard").unwrap();
    });
    // Time for it to come too early.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    leave.send(()).unwrap();
    timeout(HANG, next).await.expect("it serves").unwrap();
    marker.join().unwrap().unwrap();
    let order: Vec<_> = notes.try_iter().collect();
    assert_eq!(order, ["the marker", "the next shard"]);
}
