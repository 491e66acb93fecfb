//! `DescribeTopicPartitions`, version 0 (KIP-966): topics with their partitions, a page at a time.
//!
//! - Topics come in the order of their names. A page ends after a number of partitions, which the client and
//!   `max.request.partition.size.limit` bound; the cursor in the answer says where the next one begins.
//! - No topics means all of them. A cursor's topic must be among those named.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use log_core::protocol::messages::{DescribeTopicPartitionsRequestData, DescribeTopicPartitionsResponseData};
use log_core::protocol::{ErrorCode, KafkaUuid};

use crate::kafka::services::{NO_OPERATIONS, Services, TOPIC_OPERATIONS, kafka_string};
use crate::kafka::topic_view::{self, PartitionView};
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::topic_name;

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    request: &DescribeTopicPartitionsRequestData,
) -> DescribeTopicPartitionsResponseData {
    let cursor = request.cursor.as_deref();
    let (from, first) = cursor.map_or(("", 0), |cursor| {
        (cursor.topic_name.as_str(), cursor.partition_index)
    });
    let names: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    if first < 0 || (cursor.is_some() && !names.is_empty() && !names.contains(from)) {
        return refusal(&names);
    }
    let image = services.controller.image();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut page = Page {
        services,
        left: limit.min(services.config.max_request_partition_size_limit).max(1),
        topics: Vec::new(),
        next: None,
    };
    if names.is_empty() {
        page.fill(
            topic_view::topics_from(&image, from).map(Entry::Known),
            from,
            first,
        );
    } else {
        page.fill(names.range(from..).map(|name| entry(&image, name)), from, first);
    }
    DescribeTopicPartitionsResponseData {
        topics: page.topics,
        next_cursor: page.next.map(Box::new),
        ..DescribeTopicPartitionsResponseData::default()
    }
}

/// As Kafka refuses: the error at each topic.
fn refusal(names: &BTreeSet<&str>) -> DescribeTopicPartitionsResponseData {
    let topics = names.iter().map(|name| DescribeTopicPartitionsResponseTopic {
        topic_authorized_operations: NO_OPERATIONS,
        ..unknown(name, ErrorCode::InvalidRequest)
    });
    DescribeTopicPartitionsResponseData {
        topics: topics.collect(),
        ..DescribeTopicPartitionsResponseData::default()
    }
}

enum Entry<'a> {
    Known(&'a Arc<TopicImage>),
    Unknown(&'a str),
}

fn entry<'a>(image: &'a MetadataImage, name: &&'a str) -> Entry<'a> {
    let visible = image.topic(name).filter(|_| *name != topic_name::METADATA_TOPIC);
    visible.map_or(Entry::Unknown(name), Entry::Known)
}

struct Page<'a> {
    services: &'a Services,
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

impl Page<'_> {
    fn fill<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>, from: &str, first: i32) {
        for entry in entries {
            let topic = match entry {
                Entry::Known(topic) => topic,
                Entry::Unknown(name) => {
                    let error = match topic_name::validate(name) {
                        Ok(()) => ErrorCode::UnknownTopicOrPartition,
                        Err(_) => ErrorCode::InvalidTopicException,
                    };
                    self.topics.push(unknown(name, error));
                    continue;
                }
            };
            let first = if *topic.name == *from { first } else { 0 };
            if self.left == 0 {
                self.next = Some(cursor(topic, first));
                return;
            }
            let node = self.services.config.node_id;
            let views = topic_view::partitions(self.services, topic, first).take(self.left);
            let partitions: Vec<_> = views.map(|view| partition(node, view)).collect();
            self.left -= partitions.len();
            let behind = partitions
                .last()
                .map_or(first, |last| last.partition_index.saturating_add(1));
            self.topics.push(described(topic, partitions));
            if behind < topic.partition_count {
                self.next = Some(cursor(topic, behind));
                return;
            }
        }
    }
}

fn cursor(topic: &TopicImage, partition_index: i32) -> Cursor {
    Cursor {
        topic_name: kafka_string(&topic.name),
        partition_index,
        ..Cursor::default()
    }
}

fn described(
    topic: &TopicImage,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        name: Some(kafka_string(&topic.name)),
        topic_id: KafkaUuid::from(topic.id),
        is_internal: topic.is_internal,
        partitions,
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn unknown(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(kafka_string(name)),
        is_internal: topic_name::is_internal(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn partition(node: i32, view: PartitionView) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: match view.leader_epoch {
            Some(_) => ErrorCode::None.code(),
            None => ErrorCode::LeaderNotAvailable.code(),
        },
        partition_index: view.index,
        leader_id: view.leader_epoch.map_or(-1, |_| node),
        leader_epoch: view.leader_epoch.unwrap_or(-1),
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: if view.is_offline { vec![node] } else { Vec::new() },
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}
