//! Which open transactions hang, whatever happens between the questions, and what is asked for when one is aborted.

use std::sync::Arc;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use log_core::protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use log_core::protocol::messages::list_transactions_response::TransactionState as ListedState;
use log_core::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use log_core::protocol::messages::{
    DescribeProducersResponseData, DescribeTransactionsResponseData, ListTransactionsRequestData,
    ListTransactionsResponseData, WriteTxnMarkersResponseData,
};
use parking_lot::Mutex;

use super::*;
use crate::config::ClientConfig;
use crate::testing::{Incoming, Reply, ScriptedBroker, directions};

const PRODUCER: i64 = 7;
const LAST_WRITTEN: i64 = 1_000;

/// What a coordinator knows of the producer.
#[derive(Debug, Clone, Copy)]
enum Known {
    Nothing,
    /// It is in a list, and forgotten when it is asked about.
    OnlyListed,
    /// Its transaction has the partition with this index of the topic.
    Partition(i32),
}

/// The one producer of the partition `t-0`, with a transaction from there on, if any.
fn producers(start: i64) -> DescribeProducersResponseData {
    let producer = ProducerState {
        producer_id: PRODUCER,
        producer_epoch: 3,
        last_timestamp: LAST_WRITTEN,
        coordinator_epoch: -1,
        current_txn_start_offset: start,
        ..ProducerState::default()
    };
    DescribeProducersResponseData {
        topics: vec![TopicResponse {
            name: KafkaString::from_static("t"),
            partitions: vec![PartitionResponse {
                active_producers: vec![producer],
                ..PartitionResponse::default()
            }],
            ..TopicResponse::default()
        }],
        ..DescribeProducersResponseData::default()
    }
}

fn coordinator(request: &Incoming, known: Known) -> Reply {
    let transactional_id = KafkaString::from_static("id");
    if request.api == ApiKey::ListTransactions {
        let asked: ListTransactionsRequestData = request.read();
        assert_eq!(asked.producer_id_filters, [PRODUCER]);
        let row = ListedState {
            transactional_id,
            producer_id: PRODUCER,
            ..ListedState::default()
        };
        return request.answer(&ListTransactionsResponseData {
            transaction_states: match known {
                Known::Nothing => Vec::new(),
                Known::OnlyListed | Known::Partition(_) => vec![row],
            },
            ..ListTransactionsResponseData::default()
        });
    }
    let mut row = TransactionState {
        transactional_id,
        transaction_state: KafkaString::from_static("Ongoing"),
        producer_id: PRODUCER,
        ..TransactionState::default()
    };
    match known {
        Known::Nothing | Known::OnlyListed => row.error_code = ErrorCode::TransactionalIdNotFound.code(),
        Known::Partition(index) => row.topics.push(TopicData {
            topic: KafkaString::from_static("t"),
            partitions: vec![index],
            ..TopicData::default()
        }),
    }
    request.answer(&DescribeTransactionsResponseData {
        transaction_states: vec![row],
        ..DescribeTransactionsResponseData::default()
    })
}

/// Where the transactions begin that are found to hang. The partition tells one after the other of `starts`.
async fn hanging(starts: Vec<i64>, known: Known, silent_since: i64) -> Vec<i64> {
    let mut starts = starts.into_iter();
    let broker = ScriptedBroker::serving(move |request| match request.api {
        ApiKey::DescribeProducers => request.answer(&producers(starts.next().expect("no more is asked"))),
        ApiKey::ListTransactions | ApiKey::DescribeTransactions => coordinator(&request, known),
        _ => directions(&request),
    })
    .await;
    let admin = Admin::new(ClientConfig::new(&broker.address)).unwrap();
    let found = admin
        .hanging_transactions(&[TopicPartition::new("t", 0)], TimestampMs::new(silent_since))
        .await
        .unwrap();
    found.iter().map(|one| one.start.get()).collect()
}

#[tokio::test]
async fn a_transaction_hangs_that_no_coordinator_means_to_end() {
    let (late, early) = (LAST_WRITTEN + 1, LAST_WRITTEN);
    for (starts, known, silent_since, expected) in [
        (vec![5, 5], Known::Nothing, late, vec![5]),
        (vec![5, 5], Known::OnlyListed, late, vec![5]),
        (vec![5, 5], Known::Partition(1), late, vec![5]),
        (vec![5], Known::Partition(0), late, vec![]),
        // It may be going on.
        (vec![5], Known::Nothing, early, vec![]),
        // None is open, so nobody is asked about it.
        (vec![-1], Known::Nothing, late, vec![]),
        // It was ended while the coordinator was asked, and another one may have begun.
        (vec![5, -1], Known::Partition(1), late, vec![]),
        (vec![5, 9], Known::Partition(1), late, vec![]),
    ] {
        let found = hanging(starts.clone(), known, silent_since).await;
        assert_eq!(found, expected, "{starts:?} {known:?} {silent_since}");
    }
}

#[tokio::test]
async fn an_abort_is_a_marker_with_the_epochs_of_the_partition() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let refusal = ErrorCode::InvalidProducerEpoch.code();
    let broker = ScriptedBroker::serving(move |request| match request.api {
        ApiKey::DescribeProducers => request.answer(&producers(5)),
        ApiKey::WriteTxnMarkers => {
            let mut seen = seen.lock();
            let row = WritableTxnMarkerPartitionResult {
                error_code: if seen.is_empty() { 0 } else { refusal },
                ..WritableTxnMarkerPartitionResult::default()
            };
            seen.push(request.read::<WriteTxnMarkersRequestData>());
            let topics = vec![WritableTxnMarkerTopicResult {
                name: KafkaString::from_static("t"),
                partitions: vec![row],
                ..WritableTxnMarkerTopicResult::default()
            }];
            let markers = vec![WritableTxnMarkerResult {
                producer_id: PRODUCER,
                topics,
                ..WritableTxnMarkerResult::default()
            }];
            request.answer(&WriteTxnMarkersResponseData {
                markers,
                ..WriteTxnMarkersResponseData::default()
            })
        }
        _ => directions(&request),
    })
    .await;
    let admin = Admin::new(ClientConfig::new(&broker.address)).unwrap();
    let open = admin
        .open_transactions(&[TopicPartition::new("t", 0)])
        .await
        .unwrap();
    admin.abort_transaction(&open[0]).await.unwrap();
    let refused = admin.abort_transaction(&open[0]).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidProducerEpoch));

    let asked = asked.lock();
    let marker = &asked[0].markers[0];
    assert_eq!(
        (
            marker.producer_id,
            marker.producer_epoch,
            marker.coordinator_epoch
        ),
        (PRODUCER, 3, 0)
    );
    assert!(!marker.transaction_result);
    assert_eq!(
        (
            marker.topics[0].name.as_str(),
            &marker.topics[0].partition_indexes[..]
        ),
        ("t", &[0][..])
    );
    assert_eq!(asked.len(), 2, "what is refused for good is not tried again");
}
