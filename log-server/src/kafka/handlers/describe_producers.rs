//! `DescribeProducers`, version 0 (KIP-664): who wrote to a partition lately, and who has a transaction open there.
//!
//! By this and `DescribeTransactions` an administrator finds a transaction that nobody will end. A partition that is named twice is
//! told once.

use std::collections::HashSet;
use std::sync::Arc;

use log_core::protocol::messages::describe_producers_request::TopicRequest;
use log_core::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use log_core::protocol::messages::{DescribeProducersRequestData, DescribeProducersResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::kafka::error_map::partition_error;
use crate::kafka::services::{Services, message};
use crate::metadata::topic_name;
use crate::partition::offset_query::blocking;
use crate::partition::transactions::ActiveProducer;

/// Answers one request, one partition after the other.
pub(crate) async fn handle(
    services: Arc<Services>,
    request: DescribeProducersRequestData,
) -> DescribeProducersResponseData {
    let mut told = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(describe(&services, topic, &mut told).await);
    }
    DescribeProducersResponseData {
        topics,
        ..DescribeProducersResponseData::default()
    }
}

async fn describe(
    services: &Services,
    topic: TopicRequest,
    told: &mut HashSet<(KafkaString, i32)>,
) -> TopicResponse {
    let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
    for &index in &topic.partition_indexes {
        if told.insert((topic.name.clone(), index)) {
            partitions.push(partition(services, topic.name.as_str(), index).await);
        }
    }
    TopicResponse {
        name: topic.name,
        partitions,
        ..TopicResponse::default()
    }
}

async fn partition(services: &Services, topic: &str, index: i32) -> PartitionResponse {
    let row = PartitionResponse {
        partition_index: index,
        ..PartitionResponse::default()
    };
    let refused = |error: ErrorCode, text: Option<KafkaString>| PartitionResponse {
        error_code: error.code(),
        error_message: text,
        ..row.clone()
    };
    if let Err(error) = topic_name::validate(topic) {
        return refused(ErrorCode::InvalidTopicException, Some(message(&error)));
    }
    let Some(partition) = services.partition(topic, index) else {
        return refused(ErrorCode::UnknownTopicOrPartition, None);
    };
    let found = blocking(move || partition.active_producers()).await;
    match found.and_then(|found| found) {
        Ok(producers) => PartitionResponse {
            active_producers: producers.iter().map(state).collect(),
            ..row
        },
        Err(error) => refused(partition_error(&error), Some(message(&error))),
    }
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id.get(),
        producer_epoch: i32::from(producer.producer_epoch.get()),
        last_sequence: producer.last_sequence.get(),
        last_timestamp: producer.last_timestamp.get(),
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer
            .transaction_first_offset
            .map_or(-1, log_core::model::Offset::get),
        ..ProducerState::default()
    }
}
