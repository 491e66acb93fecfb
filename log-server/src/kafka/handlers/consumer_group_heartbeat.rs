//! `ConsumerGroupHeartbeat`, versions 0 and 1: everything a KIP-848 member does.
//!
//! - Version 1 adds subscriptions by pattern, and member ids are the client's to make (KIP-1082); in version 0 the broker makes one.
//! - The answer names partitions only when they changed, or when the member joins or says everything it knows.

use std::sync::Arc;

use log_core::model::TopicId;
use log_core::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use log_core::protocol::messages::{ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData};
use log_core::protocol::{KafkaString, KafkaUuid};

use crate::coordinator::group::consumer::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::coordinator::group::record;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string, message};

/// "It did not change", for a timeout.
const UNCHANGED: i32 = -1;

/// Answers one request when what it changed is on the disk.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequestData,
) -> ConsumerGroupHeartbeatResponseData {
    let request = from_wire(context, &request);
    let group_id = Arc::clone(&request.group_id);
    let answer = services.groups.run(&group_id, move |shard, context| {
        shard.consumer_heartbeat(context, &request)
    });
    match answer.await.and_then(|answer| answer) {
        Ok(answer) => to_wire(answer),
        Err(error) => ConsumerGroupHeartbeatResponseData {
            error_code: group_error(&error).code(),
            error_message: Some(message(&error)),
            ..ConsumerGroupHeartbeatResponseData::default()
        },
    }
}

fn from_wire(context: &RequestContext, request: &ConsumerGroupHeartbeatRequestData) -> HeartbeatRequest {
    let text = |text: &KafkaString| Arc::<str>::from(text.as_str());
    let owned = request.topic_partitions.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| record::TopicPartitions {
            topic_id: TopicId::from(topic.topic_id),
            partitions: topic.partitions.clone(),
        });
        topics.collect()
    });
    HeartbeatRequest {
        group_id: text(&request.group_id),
        member_id: text(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(text),
        rack_id: request.rack_id.as_ref().map(text),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|timeout| *timeout != UNCHANGED),
        subscribed_topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(text).collect()),
        subscribed_regex: request.subscribed_topic_regex.as_ref().map(text),
        server_assignor: request.server_assignor.as_ref().map(text),
        owned,
        client_id: context.client_id().into(),
        client_host: context.client_host().into(),
        version: context.version(),
    }
}

fn to_wire(answer: HeartbeatResponse) -> ConsumerGroupHeartbeatResponseData {
    let assignment = answer.assignment.map(|topics| {
        let topics = topics.into_iter().map(|topic| TopicPartitions {
            topic_id: KafkaUuid::from(topic.topic_id),
            partitions: topic.partitions,
            ..TopicPartitions::default()
        });
        Box::new(Assignment {
            topic_partitions: topics.collect(),
            ..Assignment::default()
        })
    });
    ConsumerGroupHeartbeatResponseData {
        member_id: Some(kafka_string(&answer.member_id)),
        member_epoch: answer.member_epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponseData::default()
    }
}
