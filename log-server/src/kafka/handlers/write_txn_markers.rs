//! `WriteTxnMarkers`, versions 1 and 2: transactions are ended in partitions, whatever their coordinator knows of them.
//!
//! - Coordinators of other brokers would send it; here it is people who end a transaction that hangs, with the epochs that
//!   `DescribeProducers` shows.
//! - The answer comes when all markers are on the disk; they wait for their disks at the same time. A partition that does not exist, or
//!   is the transaction coordinator's own, is `UNKNOWN_TOPIC_OR_PARTITION`.
//! - Version 2 (KIP-1228) says which rules the transaction follows: by those of KIP-890 the marker's epoch must be the higher one.

use log_core::model::{ProducerEpoch, ProducerId, TopicPartition};
use log_core::protocol::messages::write_txn_markers_request::WritableTxnMarker;
use log_core::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use log_core::protocol::messages::{WriteTxnMarkersRequestData, WriteTxnMarkersResponseData};
use log_core::record::control::{EndTransactionMarker, TransactionEnd, TransactionOutcome};
use tokio::task::coop::consume_budget;

use crate::coordinator::runtime::markers::{MarkerError, transaction_version};
use crate::kafka::error_map::marker_error;
use crate::kafka::services::Services;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: WriteTxnMarkersRequestData,
) -> WriteTxnMarkersResponseData {
    let mut appended = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        appended.push(append(services, marker).await);
    }
    let mut markers = Vec::with_capacity(appended.len());
    for marker in appended {
        markers.push(marker.await);
    }
    WriteTxnMarkersResponseData {
        markers,
        ..WriteTxnMarkersResponseData::default()
    }
}

/// Appends a marker to all of its partitions, and gives what says when they are on the disk.
async fn append(
    services: &Services,
    marker: WritableTxnMarker,
) -> impl Future<Output = WritableTxnMarkerResult> + use<> {
    let end = end(&marker);
    let mut topics = Vec::with_capacity(marker.topics.len());
    for topic in marker.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let place = TopicPartition::new(topic.name.as_str(), index);
            partitions.push((index, services.transactions.write_marker(&place, end)));
            // There may be hundreds of thousands, and others use this thread.
            consume_budget().await;
        }
        topics.push((topic.name, partitions));
    }
    async move {
        let mut results = Vec::with_capacity(topics.len());
        for (name, partitions) in topics {
            results.push(WritableTxnMarkerTopicResult {
                name,
                partitions: written(partitions).await,
                ..WritableTxnMarkerTopicResult::default()
            });
        }
        WritableTxnMarkerResult {
            producer_id: marker.producer_id,
            topics: results,
            ..WritableTxnMarkerResult::default()
        }
    }
}

async fn written(
    partitions: Vec<(i32, impl Future<Output = Result<(), MarkerError>>)>,
) -> Vec<WritableTxnMarkerPartitionResult> {
    let mut results = Vec::with_capacity(partitions.len());
    for (partition_index, marker) in partitions {
        results.push(WritableTxnMarkerPartitionResult {
            partition_index,
            error_code: marker
                .await
                .map_or_else(|error| marker_error(&error).code(), |()| 0),
            ..WritableTxnMarkerPartitionResult::default()
        });
    }
    results
}

fn end(marker: &WritableTxnMarker) -> TransactionEnd {
    let outcome = if marker.transaction_result {
        TransactionOutcome::Commit
    } else {
        TransactionOutcome::Abort
    };
    TransactionEnd {
        producer_id: ProducerId::new(marker.producer_id),
        producer_epoch: ProducerEpoch::new(marker.producer_epoch),
        version: transaction_version(i16::from(marker.transaction_version)),
        marker: EndTransactionMarker {
            outcome,
            coordinator_epoch: marker.coordinator_epoch,
        },
    }
}
