//! `CreatePartitions`, versions 0 to 3. A topic named twice is refused once.
//! Which numbers are right, and when a partition is ready, is the controller's to say.

use std::collections::HashMap;

use log_core::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use log_core::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use log_core::protocol::messages::{CreatePartitionsRequestData, CreatePartitionsResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::kafka::error_map::controller_error;
use crate::kafka::services::{Services, message};
use crate::metadata::plan::MorePartitions;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: CreatePartitionsRequestData,
) -> CreatePartitionsResponseData {
    let mut counts: HashMap<KafkaString, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let once: Vec<_> = request
        .topics
        .into_iter()
        .filter(|topic| counts.get(&topic.name) == Some(&1))
        .collect();
    let repeated = counts.into_iter().filter(|(_, count)| 1 < *count);
    let mut results: Vec<_> = repeated
        .map(|(name, _)| {
            row(
                name,
                ErrorCode::InvalidRequest,
                Some(message(&"the request names it twice")),
            )
        })
        .collect();
    let names: Vec<KafkaString> = once.iter().map(|topic| topic.name.clone()).collect();
    let more = once.into_iter().map(more_partitions).collect();
    let made = services
        .controller
        .create_partitions(more, request.validate_only)
        .await;
    results.extend(names.into_iter().zip(made).map(|(name, result)| match result {
        Ok(_) => row(name, ErrorCode::None, None),
        Err(error) => row(name, controller_error(&error), Some(message(&error))),
    }));
    CreatePartitionsResponseData {
        results,
        ..CreatePartitionsResponseData::default()
    }
}

fn row(
    name: KafkaString,
    error: ErrorCode,
    error_message: Option<KafkaString>,
) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult {
        name,
        error_code: error.code(),
        error_message,
        ..CreatePartitionsTopicResult::default()
    }
}

fn more_partitions(topic: CreatePartitionsTopic) -> MorePartitions {
    let assignments = topic.assignments;
    MorePartitions {
        topic: topic.name.as_str().to_owned(),
        partition_count: topic.count,
        assignments: assignments.map(|all| all.into_iter().map(|assigned| assigned.broker_ids).collect()),
    }
}
