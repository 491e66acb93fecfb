//! `CreateTopics`, versions 2 to 7.
//!
//! - Version 4 (KIP-464): −1 partitions and replicas stand for the broker's defaults, here in all versions.
//! - Version 5 (KIP-525): the answer tells the number of partitions and all settings. Version 7: the topic's id.
//! - The topics are on the disk, and take records, when the answer leaves. The request's time limit is not looked at.

use std::collections::HashMap;

use log_core::protocol::messages::create_topics_request::CreatableTopic;
use log_core::protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use log_core::protocol::messages::{CreateTopicsRequestData, CreateTopicsResponseData};
use log_core::protocol::{ErrorCode, KafkaString, KafkaUuid};

use crate::kafka::error_map::controller_error;
use crate::kafka::services::{Services, message};
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::plan::NewTopic;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: CreateTopicsRequestData,
) -> CreateTopicsResponseData {
    let (topics, mut results) = take_repeated(request.topics);
    let names: Vec<KafkaString> = topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = topics.into_iter().map(new_topic).collect();
    let created = services
        .controller
        .create_topics(topics, request.validate_only)
        .await;
    let image = services.controller.image();
    results.extend(names.into_iter().zip(created).map(|(name, result)| match result {
        Ok(topic) => CreatableTopicResult {
            topic_id: if request.validate_only {
                KafkaUuid::ZERO
            } else {
                KafkaUuid::from(topic.id)
            },
            num_partitions: topic.partition_count,
            replication_factor: 1,
            configs: Some(settings(services, &image, &topic)),
            ..row(name)
        },
        Err(error) => CreatableTopicResult {
            error_code: controller_error(&error).code(),
            error_message: Some(message(&error)),
            ..row(name)
        },
    }));
    CreateTopicsResponseData {
        topics: results,
        ..CreateTopicsResponseData::default()
    }
}

/// Topics that are named once, and one refusal for each that is not.
fn take_repeated(topics: Vec<CreatableTopic>) -> (Vec<CreatableTopic>, Vec<CreatableTopicResult>) {
    let mut counts: HashMap<KafkaString, usize> = HashMap::new();
    for topic in &topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let topics = topics
        .into_iter()
        .filter(|topic| counts.get(&topic.name) == Some(&1))
        .collect();
    let repeated = counts.into_iter().filter(|(_, count)| 1 < *count);
    let refused = repeated.map(|(name, _)| CreatableTopicResult {
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some(message(&"the request names it twice")),
        ..row(name)
    });
    (topics, refused.collect())
}

fn row(name: KafkaString) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let text = |text: KafkaString| text.as_str().to_owned();
    let assignments = topic.assignments.into_iter();
    NewTopic {
        name: text(topic.name),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|assigned| (assigned.partition_index, assigned.broker_ids))
            .collect(),
        configs: topic
            .configs
            .into_iter()
            .map(|config| (text(config.name), config.value.map(text)))
            .collect(),
    }
}

fn settings(services: &Services, image: &MetadataImage, topic: &TopicImage) -> Vec<CreatableTopicConfigs> {
    let rows = image.layers(&services.config).describe_topic(&topic.configs);
    let setting = |row: crate::config::describe::Row| CreatableTopicConfigs {
        name: KafkaString::from_static(row.name),
        value: row.value.filter(|_| !row.is_sensitive).map(KafkaString::from),
        read_only: row.is_read_only,
        config_source: row.source.wire_id(),
        is_sensitive: row.is_sensitive,
        ..CreatableTopicConfigs::default()
    };
    rows.into_iter().map(setting).collect()
}
