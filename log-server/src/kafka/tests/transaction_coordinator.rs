//! Transactions with their coordinator: which partitions they may have, and that each of them ends.

use log_core::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use log_core::protocol::messages::describe_transactions_response::TransactionState;
use log_core::protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use log_core::protocol::messages::{
    AddPartitionsToTxnRequestData, DescribeTransactionsRequestData, EndTxnRequestData,
    InitProducerIdRequestData, WriteTxnMarkersRequestData,
};

use super::transactions::in_transaction;
use super::*;
use crate::coordinator::runtime::shard_topic::TRANSACTIONS_TOPIC;

/// A broker whose transactions stand in one partition.
fn start() -> Broker {
    Broker::start_with(BrokerConfig {
        transaction_state_log_partitions: 1,
        ..BrokerConfig::default()
    })
}

impl Client {
    /// Begins with a transactional id, as soon as its coordinator is there.
    async fn identity(&mut self, broker: &Broker, id: &str) -> BatchProducer {
        broker.services.transactions.ready(id).await.unwrap();
        let answer = async {
            loop {
                let request = InitProducerIdRequestData {
                    transactional_id: Some(string(id)),
                    transaction_timeout_ms: 60_000,
                    producer_id: -1,
                    producer_epoch: -1,
                    ..InitProducerIdRequestData::default()
                };
                let answer = self.call(4, request).await;
                match code(answer.error_code) {
                    ErrorCode::None => return answer,
                    ErrorCode::CoordinatorLoadInProgress => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                }
            }
        };
        let answer = timeout(HANG, answer).await.expect("the coordinator is read");
        BatchProducer {
            id: ProducerId::new(answer.producer_id),
            epoch: ProducerEpoch::new(answer.producer_epoch),
            base_sequence: Sequence::new(0),
        }
    }

    async fn describe(&mut self, id: &str) -> TransactionState {
        let request = DescribeTransactionsRequestData {
            transactional_ids: vec![string(id)],
            ..DescribeTransactionsRequestData::default()
        };
        self.call(0, request).await.transaction_states.remove(0)
    }
}

fn added(topics: &[&str]) -> Vec<AddPartitionsToTxnTopic> {
    let topic = |name: &&str| AddPartitionsToTxnTopic {
        name: string(name),
        partitions: vec![0],
        ..AddPartitionsToTxnTopic::default()
    };
    topics.iter().map(topic).collect()
}

#[tokio::test]
async fn producers_cannot_make_the_broker_s_topics_part_of_a_transaction() {
    let broker = start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let producer = client.identity(&broker, "t").await;
    let request = AddPartitionsToTxnRequestData {
        v3_and_below_transactional_id: string("t"),
        v3_and_below_producer_id: producer.id.get(),
        v3_and_below_producer_epoch: producer.epoch.get(),
        v3_and_below_topics: added(&[TRANSACTIONS_TOPIC, "a", "b"]),
        ..AddPartitionsToTxnRequestData::default()
    };
    let response = client.call(3, request).await;
    let told = response.results_by_topic_v3_and_below.iter();
    let told: Vec<_> = told
        .map(|topic| code(topic.results_by_partition[0].partition_error_code))
        .collect();
    assert_eq!(
        told,
        [
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::OperationNotAttempted,
            ErrorCode::UnknownTopicOrPartition
        ]
    );
    let row = client
        .produce(12, in_transaction(TRANSACTIONS_TOPIC, "x", producer))
        .await;
    assert_eq!(code(row.error_code), ErrorCode::InvalidTopicException);
    let state = client.describe("t").await;
    assert_eq!(state.transaction_state.as_str(), "Empty", "{state:?}");
}

/// Brokers before this one let them in, and from version 4 on `AddPartitionsToTxn` still does, as Kafka's. A marker that stood in such a
/// partition had its shard read again, decide again and write another one, for ever.
#[tokio::test]
async fn a_transaction_that_has_a_partition_of_its_own_coordinator_ends() {
    let broker = start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let producer = client.identity(&broker, "t").await;
    let request = AddPartitionsToTxnRequestData {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: string("t"),
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            topics: added(&[TRANSACTIONS_TOPIC, "a"]),
            ..AddPartitionsToTxnTransaction::default()
        }],
        ..AddPartitionsToTxnRequestData::default()
    };
    let response = client.call(5, request).await;
    for topic in &response.results_by_transaction[0].topic_results {
        assert_eq!(
            code(topic.results_by_partition[0].partition_error_code),
            ErrorCode::None
        );
    }
    let request = EndTxnRequestData {
        transactional_id: string("t"),
        producer_id: producer.id.get(),
        producer_epoch: producer.epoch.get(),
        committed: true,
        ..EndTxnRequestData::default()
    };
    assert_eq!(client.call(5, request).await.error_code, 0);
    let completed = async {
        while client.describe("t").await.transaction_state.as_str() != "CompleteCommit" {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, completed).await.expect("the transaction ends");
    // The other partition has its marker.
    let partition = broker.services.partition("a", 0).unwrap();
    assert_eq!(partition.offsets().high_watermark.get(), 1);
}

/// By the first protocol a producer says where it will write, and its epoch stays from one transaction to the next.
#[tokio::test]
async fn the_first_protocol_adds_partitions_before_it_writes_and_keeps_its_epoch() {
    let broker = start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let producer = client.identity(&broker, "t").await;
    let add = AddPartitionsToTxnRequestData {
        v3_and_below_transactional_id: string("t"),
        v3_and_below_producer_id: producer.id.get(),
        v3_and_below_producer_epoch: producer.epoch.get(),
        v3_and_below_topics: added(&["a"]),
        ..AddPartitionsToTxnRequestData::default()
    };
    let end = |committed| EndTxnRequestData {
        transactional_id: string("t"),
        producer_id: producer.id.get(),
        producer_epoch: producer.epoch.get(),
        committed,
        ..EndTxnRequestData::default()
    };
    let record = |sequence| {
        let producer = BatchProducer {
            base_sequence: Sequence::new(sequence),
            ..producer
        };
        in_transaction("a", "x", producer)
    };
    for (version, expected) in [
        (10, ErrorCode::InvalidTxnState),
        (11, ErrorCode::TransactionAbortable),
    ] {
        let row = client.produce(version, record(0)).await;
        assert_eq!(code(row.error_code), expected, "the coordinator was not told");
    }
    // The versions that clients of their time speak of each, from the first on.
    for (round, (add_version, version, end_version)) in (0..).zip([(0, 3, 0), (2, 9, 2), (3, 11, 4)]) {
        let response = client.call(add_version, add.clone()).await;
        let row = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(code(row.partition_error_code), ErrorCode::None);
        assert_eq!(client.describe("t").await.transaction_state.as_str(), "Ongoing");
        let row = client.produce(version, record(round)).await;
        assert_eq!(code(row.error_code), ErrorCode::None);

        let committed = round % 2 == 0;
        let response = client.call(end_version, end(committed)).await;
        assert_eq!(code(response.error_code), ErrorCode::None);
        let completed = async {
            loop {
                let described = client.describe("t").await;
                if described.transaction_state.as_str().starts_with("Complete") {
                    return described;
                }
                tokio::task::yield_now().await;
            }
        };
        let described = timeout(HANG, completed).await.expect("the transaction ends");
        assert_eq!(described.producer_epoch, producer.epoch.get());
        // An answer that was not heard: what was decided is said again, and nothing else is taken for it.
        let again = client.call(end_version, end(committed)).await;
        assert_eq!(code(again.error_code), ErrorCode::None);
        let other = client.call(end_version, end(!committed)).await;
        assert_eq!(code(other.error_code), ErrorCode::InvalidTxnState);
    }
    // Three records, each with its marker.
    let partition = broker.services.partition("a", 0).unwrap();
    assert_eq!(partition.offsets().last_stable.get(), 6);
}

/// A marker for the first partition of each topic.
fn marker(producer: BatchProducer, topics: &[&str]) -> WriteTxnMarkersRequestData {
    let topic = |name: &&str| WritableTxnMarkerTopic {
        name: string(name),
        partition_indexes: vec![0],
        ..WritableTxnMarkerTopic::default()
    };
    WriteTxnMarkersRequestData {
        markers: vec![WritableTxnMarker {
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            topics: topics.iter().map(topic).collect(),
            ..WritableTxnMarker::default()
        }],
        ..WriteTxnMarkersRequestData::default()
    }
}

#[tokio::test]
async fn markers_wait_for_their_disks_at_the_same_time() {
    let broker = start();
    for topic in ["a", "b"] {
        broker.create_topic(topic, 1, &[]).await;
    }
    broker.hold_syncs();
    let mut client = broker.connect();
    let producer = BatchProducer {
        id: ProducerId::new(7),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(0),
    };
    let id = client.send(1, &marker(producer, &["a", "b"])).await;
    assert!(client.is_quiet().await, "neither is on the disk");
    // One round of the disks is enough for both.
    broker.sync();
    let response = client.receive::<WriteTxnMarkersRequestData>(1, id).await;
    for topic in &response.markers[0].topics {
        assert_eq!(code(topic.partitions[0].error_code), ErrorCode::None);
    }
}

#[tokio::test]
async fn nobody_writes_a_marker_into_the_coordinator_s_log() {
    let broker = start();
    let mut client = broker.connect();
    let producer = client.identity(&broker, "t").await;
    let partition = broker.services.partition(TRANSACTIONS_TOPIC, 0).unwrap();
    let before = partition.offsets();
    let response = client.call(1, marker(producer, &[TRANSACTIONS_TOPIC])).await;
    let row = &response.markers[0].topics[0].partitions[0];
    assert_eq!(code(row.error_code), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(partition.offsets(), before);
}
