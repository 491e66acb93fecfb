//! `WriteTxnMarkers`, versions 1 and 2: transactions are ended in partitions, whatever their coordinator knows of them.
//!
//! - Coordinators of other brokers would send it; here it is people who end a transaction that hangs, with the epochs that
//!   `DescribeProducers` shows.
//! - The answer comes when all markers are on the disk. A partition that does not exist is `UNKNOWN_TOPIC_OR_PARTITION`.
//! - Version 2 (KIP-1228) says which rules the transaction follows: by those of KIP-890 the marker's epoch must be the higher one.

use log_core::model::{ProducerEpoch, ProducerId, TopicPartition};
use log_core::protocol::messages::write_txn_markers_request::WritableTxnMarker;
use log_core::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use log_core::protocol::messages::{WriteTxnMarkersRequestData, WriteTxnMarkersResponseData};
use log_core::record::control::{EndTransactionMarker, TransactionEnd, TransactionOutcome};

use crate::coordinator::runtime::markers::transaction_version;
use crate::kafka::error_map::marker_error;
use crate::kafka::services::Services;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: WriteTxnMarkersRequestData,
) -> WriteTxnMarkersResponseData {
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write(services, marker).await);
    }
    WriteTxnMarkersResponseData {
        markers,
        ..WriteTxnMarkersResponseData::default()
    }
}

async fn write(services: &Services, marker: WritableTxnMarker) -> WritableTxnMarkerResult {
    let end = end(&marker);
    let mut topics = Vec::with_capacity(marker.topics.len());
    for topic in marker.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition_index in topic.partition_indexes {
            let place = TopicPartition::new(topic.name.as_str(), partition_index);
            let written = services.transactions.write_marker(&place, end).await;
            partitions.push(WritableTxnMarkerPartitionResult {
                partition_index,
                error_code: written.map_or_else(|error| marker_error(&error).code(), |()| 0),
                ..WritableTxnMarkerPartitionResult::default()
            });
        }
        topics.push(WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions,
            ..WritableTxnMarkerTopicResult::default()
        });
    }
    WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics,
        ..WritableTxnMarkerResult::default()
    }
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
