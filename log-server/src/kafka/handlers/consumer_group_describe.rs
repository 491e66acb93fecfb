//! `ConsumerGroupDescribe`, versions 0 and 1: KIP-848 groups, their members, what they have and are to have.
//! Version 1 adds which protocol each member speaks.

use std::sync::Arc;

use log_core::protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use log_core::protocol::messages::{ConsumerGroupDescribeRequestData, ConsumerGroupDescribeResponseData};
use log_core::protocol::{KafkaString, KafkaUuid};

use crate::coordinator::group::consumer::describe;
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::services::{GROUP_OPERATIONS, NO_OPERATIONS, Services, kafka_string, message};

const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    request: ConsumerGroupDescribeRequestData,
) -> ConsumerGroupDescribeResponseData {
    let authorized_operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        NO_OPERATIONS
    };
    let mut groups = Vec::with_capacity(request.group_ids.len());
    let mut group_ids = request.group_ids;
    // Names that no group can have are answered first, as Kafka does.
    group_ids.sort_by_key(|group_id| !group_id.as_str().is_empty());
    for group_id in group_ids {
        let name: Arc<str> = group_id.as_str().into();
        let described = if name.is_empty() {
            Err(GroupError::InvalidGroupId)
        } else {
            let asked = Arc::clone(&name);
            let describe = services.groups.run(&name, move |shard, context| {
                shard.describe_consumer_group(context, &asked)
            });
            describe.await.and_then(|described| described)
        };
        groups.push(match described {
            Ok(described) => to_wire(group_id, described, authorized_operations),
            Err(error) => DescribedGroup {
                error_code: group_error(&error).code(),
                error_message: (error != GroupError::InvalidGroupId).then(|| message(&error)),
                authorized_operations: NO_OPERATIONS,
                group_id,
                ..DescribedGroup::default()
            },
        });
    }
    ConsumerGroupDescribeResponseData {
        groups,
        ..ConsumerGroupDescribeResponseData::default()
    }
}

fn to_wire(
    group_id: KafkaString,
    group: describe::DescribedGroup,
    authorized_operations: i32,
) -> DescribedGroup {
    let text = |text: &Arc<str>| kafka_string(text);
    let members = group.members.into_iter().map(|described| {
        let description = &described.member.description;
        Member {
            member_id: text(&described.member_id),
            instance_id: description.instance_id.as_ref().map(text),
            rack_id: description.rack_id.as_ref().map(text),
            member_epoch: described.member.current.epoch,
            client_id: text(&description.client_id),
            client_host: text(&description.client_host),
            subscribed_topic_names: description.subscribed_topics.iter().map(text).collect(),
            // Kafka's members without a pattern have an empty one.
            subscribed_topic_regex: Some(
                description
                    .subscribed_regex
                    .as_ref()
                    .map(text)
                    .unwrap_or_default(),
            ),
            assignment: assignment(described.assigned),
            target_assignment: assignment(described.target),
            member_type: if described.member.is_classic() {
                CLASSIC
            } else {
                CONSUMER
            },
            ..Member::default()
        }
    });
    DescribedGroup {
        group_id,
        group_state: KafkaString::from_static(group.state_name),
        group_epoch: group.epoch,
        assignment_epoch: group.target_epoch,
        assignor_name: kafka_string(&group.assignor),
        members: members.collect(),
        authorized_operations,
        ..DescribedGroup::default()
    }
}

fn assignment(topics: Vec<describe::DescribedTopic>) -> Assignment {
    let topics = topics.into_iter().map(|topic| TopicPartitions {
        topic_id: KafkaUuid::from(topic.topic_id),
        topic_name: kafka_string(&topic.name),
        partitions: topic.partitions,
        ..TopicPartitions::default()
    });
    Assignment {
        topic_partitions: topics.collect(),
        ..Assignment::default()
    }
}
