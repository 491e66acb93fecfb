//! The transactional producer against a coordinator in memory, by both protocols: whatever answer is lost, a transaction counts once
//! or not at all, and every error says what helps. What whole clusters do is tested against real brokers (`tests/scenarios`).

use std::time::Duration;

use log_core::model::Offset;
use log_core::protocol::{ApiKey, ErrorCode};
use log_core::record::control::TransactionOutcome::{Abort, Commit};

use super::*;
use crate::error::TransactionErrorClass;
use crate::retry::Backoff;
use crate::testing::fake_broker::{FakeBroker, Fault};

/// The levels of `transaction.version`: the first protocol, and KIP-890.
const LEVELS: [i16; 2] = [1, 2];

async fn broker(level: i16) -> FakeBroker {
    let broker = FakeBroker::start().await;
    broker.create("t", 2);
    broker.state().transactions.level = level;
    broker
}

fn config(broker: &FakeBroker) -> TransactionalConfig {
    let quick = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
    };
    let mut config = TransactionalConfig::new(broker.address(), "id");
    config.producer.client.retry_backoff = quick;
    config.producer.client.reconnect_backoff = quick;
    config.producer.linger = Duration::ZERO;
    config
}

async fn initialized(config: TransactionalConfig) -> TransactionalProducer {
    let producer = TransactionalProducer::new(config).unwrap();
    producer.init_transactions().await.unwrap();
    producer
}

async fn send(producer: &TransactionalProducer, partition: i32, value: &str) {
    let record = ProducerRecord::new("t", value.as_bytes()).with_partition(partition);
    drop(producer.send(&record).await.unwrap());
}

async fn commit_offset(producer: &TransactionalProducer, offset: i64) {
    let offset = CommittedOffset::new(Offset::new(offset));
    let offsets = BTreeMap::from([(TopicPartition::new("in", 0), offset)]);
    let group = GroupMember::nobody("g");
    producer
        .send_offsets_to_transaction(&offsets, &group)
        .await
        .unwrap();
}

fn class(error: &Error) -> TransactionErrorClass {
    error.transaction_class()
}

#[tokio::test]
async fn whichever_answer_is_lost_a_transaction_counts_once() {
    let apis = [
        ApiKey::InitProducerId,
        ApiKey::AddPartitionsToTxn,
        ApiKey::AddOffsetsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::EndTxn,
    ];
    let faults = [
        Fault::HangUpBefore,
        Fault::HangUpAfter,
        Fault::Pretend(ErrorCode::RequestTimedOut),
        Fault::Refuse(ErrorCode::ConcurrentTransactions),
        Fault::Refuse(ErrorCode::NotCoordinator),
    ];
    let cases = apis
        .iter()
        .flat_map(|api| faults.iter().map(move |fault| (*api, fault)));
    for (api, fault) in cases {
        for level in LEVELS {
            let broker = broker(level).await;
            let fails = || {
                let fault = (api, fault.clone());
                broker.state().transactions.faults.push_back(fault);
            };
            fails();
            let producer = initialized(config(&broker)).await;
            for (offset, value, ends) in [(1, "first", Commit), (2, "lost", Abort), (3, "second", Commit)] {
                if broker.state().transactions.faults.is_empty() && api != ApiKey::InitProducerId {
                    fails();
                }
                producer.begin_transaction().unwrap();
                for partition in [0, 1] {
                    send(&producer, partition, value).await;
                }
                commit_offset(&producer, offset).await;
                if ends == Commit {
                    producer.commit_transaction().await.unwrap();
                } else {
                    producer.flush().await;
                    producer.abort_transaction().await.unwrap();
                }
            }
            let case = format!("{api:?} {fault:?} at level {level}");
            let state = broker.state();
            assert_eq!(state.transactions.ended, [Commit, Abort, Commit], "{case}");
            let counts = ["first", "first", "second", "second"];
            assert_eq!(state.transactions.committed, counts, "{case}");
            let offset = state.group.offsets.get(&TopicPartition::new("in", 0));
            assert_eq!(offset, Some(&3), "{case}");
            let is_of_first = matches!(api, ApiKey::AddPartitionsToTxn | ApiKey::AddOffsetsToTxn);
            let is_met = state.transactions.faults.is_empty();
            assert_eq!(is_met, level < 2 || !is_of_first, "{case}");
        }
    }
}

#[tokio::test]
async fn a_transaction_that_timed_out_is_aborted_and_with_kip_890_the_producer_goes_on() {
    for commits_offset in [false, true] {
        let broker = broker(2).await;
        let producer = initialized(config(&broker)).await;
        producer.begin_transaction().unwrap();
        send(&producer, 0, "late").await;
        producer.flush().await;
        broker.state().transactions.time_out();
        let refused = if commits_offset {
            let offset = CommittedOffset::new(Offset::new(1));
            let offsets = BTreeMap::from([(TopicPartition::new("in", 0), offset)]);
            let group = GroupMember::nobody("g");
            producer.send_offsets_to_transaction(&offsets, &group).await
        } else {
            producer.commit_transaction().await
        };
        assert_eq!(class(&refused.unwrap_err()), TransactionErrorClass::Abortable);
        let refused = producer.commit_transaction().await.unwrap_err();
        assert_eq!(class(&refused), TransactionErrorClass::Abortable);
        producer.abort_transaction().await.unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, 0, "in time").await;
        producer.commit_transaction().await.unwrap();
        assert_eq!(broker.state().transactions.committed, ["in time"]);
    }
    // By the first protocol the coordinator takes the producer for one that is gone.
    let broker = broker(1).await;
    let producer = initialized(config(&broker)).await;
    producer.begin_transaction().unwrap();
    send(&producer, 0, "late").await;
    producer.flush().await;
    broker.state().transactions.time_out();
    let refused = producer.commit_transaction().await.unwrap_err();
    assert_eq!(class(&refused), TransactionErrorClass::Fenced);
}

#[tokio::test]
async fn whoever_is_fenced_learns_it_from_the_end_of_the_transaction() {
    for level in LEVELS {
        let broker = broker(level).await;
        let old = initialized(config(&broker)).await;
        old.begin_transaction().unwrap();
        send(&old, 0, "old").await;
        old.flush().await;
        let new = initialized(config(&broker)).await;
        send_and_commit(&new, "new").await;
        assert_eq!(
            class(&old.commit_transaction().await.unwrap_err()),
            TransactionErrorClass::Fenced
        );
        assert_eq!(
            class(&old.begin_transaction().unwrap_err()),
            TransactionErrorClass::Fenced
        );
        send_and_commit(&new, "newer").await;
        assert_eq!(broker.state().transactions.committed, ["new", "newer"]);
    }
}

async fn send_and_commit(producer: &TransactionalProducer, value: &str) {
    producer.begin_transaction().unwrap();
    send(producer, 0, value).await;
    producer.commit_transaction().await.unwrap();
}

#[tokio::test]
async fn a_transaction_ends_behind_what_was_asked_about_its_partitions() {
    let broker = broker(1).await;
    let mut config = config(&broker);
    config.producer.client.request_timeout = Duration::from_millis(100);
    let producer = initialized(config).await;
    producer.begin_transaction().unwrap();
    let never_answered = (ApiKey::AddPartitionsToTxn, Fault::Silence);
    broker.state().transactions.faults.push_back(never_answered);
    send(&producer, 0, "given up").await;
    while !broker.state().transactions.faults.is_empty() {
        tokio::task::yield_now().await;
    }
    producer.abort_transaction().await.unwrap();
    assert_eq!(broker.state().transactions.ended, [Abort]);
    send_and_commit(&producer, "kept").await;
    assert_eq!(broker.state().transactions.ended, [Abort, Commit]);
    assert_eq!(broker.state().transactions.committed, ["kept"]);
}

#[tokio::test]
async fn a_record_that_is_not_taken_dooms_its_transaction() {
    for level in LEVELS {
        let broker = broker(level).await;
        let mut config = config(&broker);
        config.producer.request_bytes_max = 10_000;
        let producer = initialized(config).await;
        producer.begin_transaction().unwrap();
        send(&producer, 0, "beside it").await;
        let large = vec![0; 20_000];
        let refused = producer
            .send(&ProducerRecord::new("t", &large))
            .await
            .unwrap_err();
        assert_eq!(class(&refused), TransactionErrorClass::Abortable);
        let refused = producer.commit_transaction().await.unwrap_err();
        assert_eq!(class(&refused), TransactionErrorClass::Abortable);
        producer.abort_transaction().await.unwrap();
        send_and_commit(&producer, "without it").await;
        assert_eq!(broker.state().transactions.committed, ["without it"]);
    }
}
