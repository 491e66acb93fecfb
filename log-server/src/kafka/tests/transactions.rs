//! Transactions at the front: Produce within one, Fetch and `ListOffsets` of committed records, `DescribeProducers`.
//! The coordinator's part is played by the tests, which open and end transactions on the partition.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use log_core::model::TransactionVersion;
use log_core::producer_state::verification::TransactionalBatch;
use log_core::protocol::ApiKey;
use log_core::protocol::messages::describe_producers_request::TopicRequest;
use log_core::protocol::messages::{DescribeProducersRequestData, FetchRequestData, ListOffsetsRequestData};
use log_core::record::control::{EndTransactionMarker, TransactionEnd, TransactionOutcome};
use tokio::time::Instant;

use super::fetch::request as fetch_request;
use super::offsets::list_request;
use super::*;
use crate::kafka::connection::{Dispatch as _, Dispatched};
use crate::partition::partition::Acks;

const READ_COMMITTED: i8 = 1;

fn producer(id: i64, epoch: i16, base_sequence: i32) -> BatchProducer {
    BatchProducer {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(base_sequence),
    }
}

fn transactional(value: &str, producer: BatchProducer) -> Bytes {
    batch_with(
        &[value],
        BatchOptions {
            producer,
            transactional: true,
            ..BatchOptions::default()
        },
    )
}

pub(super) fn in_transaction(topic: &str, value: &str, producer: BatchProducer) -> ProduceRequestData {
    ProduceRequestData {
        transactional_id: Some(string("t")),
        ..produce_request(topic, 0, Some(transactional(value, producer)))
    }
}

/// Begins a transaction as if the coordinator had been asked.
fn begin(broker: &Broker, topic: &str, value: &str, producer: BatchProducer) {
    let partition = broker.services.partition(topic, 0).unwrap();
    let batch = TransactionalBatch {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.base_sequence,
        version: TransactionVersion::V2,
    };
    let proof = partition.start_verification(&batch).unwrap();
    partition
        .append_in_transaction(
            &transactional(value, producer),
            Acks::Leader,
            &proof,
            Instant::now(),
        )
        .now_or_never()
        .unwrap()
        .unwrap();
    broker.sync();
}

fn end(broker: &Broker, topic: &str, id: i64, epoch: i16, outcome: TransactionOutcome) {
    let end = TransactionEnd {
        producer_id: ProducerId::new(id),
        producer_epoch: ProducerEpoch::new(epoch),
        version: TransactionVersion::V2,
        marker: EndTransactionMarker {
            outcome,
            coordinator_epoch: 0,
        },
    };
    let partition = broker.services.partition(topic, 0).unwrap();
    partition.append_marker(end).unwrap();
    broker.sync();
}

#[tokio::test]
async fn within_an_open_transaction_nobody_is_asked() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    begin(&broker, "a", "x", producer(7, 0, 0));
    let mut client = broker.connect();
    for (version, sequence) in [(9, 1), (11, 2), (12, 3)] {
        let row = client
            .produce(version, in_transaction("a", "y", producer(7, 0, sequence)))
            .await;
        assert_eq!(
            (row.error_code, row.base_offset),
            (0, i64::from(sequence)),
            "{row:?}"
        );
    }
    // Sent again, after its transaction ended as well.
    end(&broker, "a", 7, 1, TransactionOutcome::Commit);
    let fenced = client
        .produce(12, in_transaction("a", "y", producer(7, 0, 4)))
        .await;
    assert_eq!(code(fenced.error_code), ErrorCode::InvalidProducerEpoch);
    // Nor for plain batches of a producer that has a transactional id.
    let plain = ProduceRequestData {
        transactional_id: Some(string("t")),
        ..produce_request("a", 0, Some(batch(&["plain"])))
    };
    assert_eq!(client.produce(9, plain).await.error_code, 0);
}

fn produce_frame(request: &ProduceRequestData, memory: &RequestMemory) -> Frame {
    let bytes = frame(ApiKey::Produce, 12, 1, |buffer| {
        request.write_to(buffer, 12).unwrap();
    });
    frame_of(&bytes, memory)
}

/// It went the long way, as if the coordinator had to be asked, and its turn ended with it.
#[tokio::test]
async fn within_an_open_transaction_a_request_is_carried_out_at_once() {
    let broker = Broker::start();
    for topic in ["a", "b"] {
        broker.create_topic(topic, 1, &[]).await;
        begin(&broker, topic, "x", producer(7, 0, 0));
    }
    let dispatcher = Dispatcher::new(Arc::clone(&broker.services));
    let memory = RequestMemory::new(1 << 20);
    let dispatch = |request| dispatcher.dispatch(&info(), produce_frame(&request, &memory));
    let one = in_transaction("a", "y", producer(7, 0, 1));
    assert!(matches!(dispatch(one), Dispatched::Unsynced(..)));
    let mut both = in_transaction("a", "z", producer(7, 0, 2));
    let other = in_transaction("b", "z", producer(7, 0, 1));
    both.topic_data.extend(other.topic_data);
    assert!(matches!(dispatch(both), Dispatched::Later(_)));
    let ends = ["a", "b"].map(|topic| {
        broker
            .services
            .partition(topic, 0)
            .unwrap()
            .offsets()
            .log_end
            .get()
    });
    assert_eq!(ends, [3, 2]);
    // Another producer's first batch.
    let first = in_transaction("a", "y", producer(8, 0, 0));
    assert!(matches!(dispatch(first), Dispatched::Begun(_)));
}

/// Requests that came together gave all of their memory back before the last of them was carried out.
#[tokio::test]
async fn a_request_that_waits_for_the_coordinator_keeps_its_memory() {
    const MEMORY: usize = 1 << 20;
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let dispatcher = Dispatcher::new(Arc::clone(&broker.services));
    let memory = RequestMemory::new(u64::try_from(MEMORY).unwrap());
    let plain = produce_frame(&produce_request("a", 0, Some(batch(&["x"]))), &memory);
    let asks = produce_frame(&in_transaction("a", "y", producer(7, 0, 0)), &memory);
    let held = asks.bytes.len();
    let under_way = dispatcher.dispatch_produces(&info(), &mut VecDeque::from([plain, asks]));
    assert!(matches!(
        under_way.as_slice(),
        [Dispatched::Unsynced(..), Dispatched::Begun(_)]
    ));
    assert_eq!(memory.free_bytes(), MEMORY - held);
    drop(under_way);
    assert_eq!(memory.free_bytes(), MEMORY);
}

#[tokio::test]
async fn a_request_is_of_one_producer() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut request = in_transaction("a", "x", producer(7, 0, 0));
    let other = in_transaction("a", "x", producer(8, 0, 0));
    request.topic_data.extend(other.topic_data);
    let response = broker.connect().call(12, request).await;
    for topic in &response.responses {
        let row = &topic.partition_responses[0];
        assert_eq!(code(row.error_code), ErrorCode::InvalidProducerIdMapping);
    }
}

#[tokio::test]
async fn later_requests_wait_behind_one_that_asks_the_coordinator() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let asks = client
        .send(12, &in_transaction("a", "x", producer(7, 0, 0)))
        .await;
    let plain = client
        .send(9, &produce_request("a", 0, Some(batch(&["y"]))))
        .await;
    // Whatever the coordinator says.
    client.receive::<ProduceRequestData>(12, asks).await;
    let response = client.receive::<ProduceRequestData>(9, plain).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn committed(topic: &str, from: i64, max_wait_ms: i32) -> FetchRequestData {
    FetchRequestData {
        isolation_level: READ_COMMITTED,
        max_wait_ms,
        ..fetch_request(12, topic, &[(0, from)])
    }
}

#[tokio::test]
async fn committed_readers_wait_for_the_marker_and_are_told_what_to_pass_over() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["plain"]).await;
    begin(&broker, "a", "x", producer(7, 0, 0));
    broker.append("a", 0, &["behind"]).await;

    let mut client = broker.connect();
    let response = client.call(12, committed("a", 0, 0)).await;
    let row = &response.responses[0].partitions[0];
    assert_eq!((row.high_watermark, row.last_stable_offset), (3, 1));
    assert_eq!(row.aborted_transactions, Some(vec![]));

    let id = client.send(12, &committed("a", 1, 20_000)).await;
    assert!(client.is_quiet().await, "the transaction is open");
    broker.append("a", 0, &["more"]).await;
    assert!(client.is_quiet().await, "it is still open");
    end(&broker, "a", 7, 1, TransactionOutcome::Abort);
    let response = client.receive::<FetchRequestData>(12, id).await;
    let row = &response.responses[0].partitions[0];
    assert_eq!((row.high_watermark, row.last_stable_offset), (5, 5));
    let aborted = row.aborted_transactions.as_ref().unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (7, 1));

    // Readers of everything get the list as null, and behind the marker there is nothing to tell.
    let response = client.call(12, fetch_request(12, "a", &[(0, 0)])).await;
    assert_eq!(response.responses[0].partitions[0].aborted_transactions, None);
    broker.append("a", 0, &["last"]).await;
    let response = client.call(12, committed("a", 5, 0)).await;
    assert_eq!(
        response.responses[0].partitions[0].aborted_transactions,
        Some(vec![])
    );
}

#[tokio::test]
async fn the_end_of_a_log_depends_on_who_asks() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["plain"]).await;
    begin(&broker, "a", "x", producer(7, 0, 0));
    let mut client = broker.connect();
    // The end, the largest time, a time: before and after the decision.
    for (decided, expected) in [(false, [1, 0, 0]), (true, [3, 0, 0])] {
        if decided {
            end(&broker, "a", 7, 1, TransactionOutcome::Commit);
        }
        for (timestamp, offset) in [-1, -3, NOW.get()].into_iter().zip(expected) {
            let request = ListOffsetsRequestData {
                isolation_level: READ_COMMITTED,
                ..list_request("a", 0, timestamp)
            };
            let response = client.call(7, request).await;
            let row = &response.topics[0].partitions[0];
            assert_eq!(
                (row.error_code, row.offset),
                (0, offset),
                "{timestamp}, {decided}"
            );
        }
        let all = client.call(7, list_request("a", 0, -1)).await;
        assert_eq!(all.topics[0].partitions[0].offset, if decided { 3 } else { 2 });
    }
}

#[tokio::test]
async fn producers_are_described() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    begin(&broker, "a", "x", producer(7, 3, 0));
    let topic = |name: &str, partition_indexes| TopicRequest {
        name: string(name),
        partition_indexes,
        ..TopicRequest::default()
    };
    let request = DescribeProducersRequestData {
        topics: vec![
            topic("a", vec![0, 1, 0]),
            topic("b", vec![0]),
            topic("no/topic", vec![0]),
        ],
        ..DescribeProducersRequestData::default()
    };
    let response = broker.connect().call(0, request).await;
    let rows: Vec<_> = response
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|row| {
            (
                row.partition_index,
                code(row.error_code),
                row.active_producers.len(),
            )
        })
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(
        rows,
        [
            (0, ErrorCode::None, 1),
            (1, unknown, 0),
            (0, unknown, 0),
            (0, ErrorCode::InvalidTopicException, 0)
        ]
    );
    let found = &response.topics[0].partitions[0].active_producers[0];
    assert_eq!(
        (found.producer_id, found.producer_epoch, found.last_sequence),
        (7, 3, 0)
    );
    assert_eq!(
        (
            found.last_timestamp,
            found.coordinator_epoch,
            found.current_txn_start_offset
        ),
        (NOW.get(), -1, 0)
    );
}
