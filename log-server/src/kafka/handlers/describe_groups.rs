//! `DescribeGroups`, versions 0 to 6: classic groups and their members. Groups of KIP-848 have `ConsumerGroupDescribe`.
//!
//! - Version 3 (KIP-430) may ask which operations are allowed, 4 (KIP-345) tells static ids.
//! - Version 6 (KIP-1043) says `GROUP_ID_NOT_FOUND` of a group that is not there, or of the other protocol; before, such a group is `Dead`.

use std::sync::Arc;

use log_core::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use log_core::protocol::messages::{DescribeGroupsRequestData, DescribeGroupsResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::coordinator::group::admin::describe::DescribedMember;
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{GROUP_OPERATIONS, NO_OPERATIONS, Services, kafka_string, message};

/// The version that has an error for a group that is not there.
const NOT_FOUND_SINCE: i16 = 6;
const DEAD: &str = "Dead";

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeGroupsRequestData,
) -> DescribeGroupsResponseData {
    let operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        NO_OPERATIONS
    };
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(describe(services, context, group, operations).await);
    }
    DescribeGroupsResponseData {
        groups,
        ..DescribeGroupsResponseData::default()
    }
}

async fn describe(
    services: &Services,
    context: &RequestContext,
    group: KafkaString,
    operations: i32,
) -> DescribedGroup {
    let name: Arc<str> = group.as_str().into();
    let asked = Arc::clone(&name);
    let described = services
        .groups
        .run(&name, move |shard, _| shard.describe_classic_group(&asked))
        .await;
    let answer = DescribedGroup {
        group_id: group,
        authorized_operations: operations,
        ..DescribedGroup::default()
    };
    match described.and_then(|described| described) {
        Ok(described) => DescribedGroup {
            group_state: kafka_string(described.state),
            protocol_type: kafka_string(&described.protocol_type),
            protocol_data: kafka_string(&described.protocol),
            members: described.members.into_iter().map(member).collect(),
            ..answer
        },
        Err(GroupError::GroupIdNotFound(_)) if context.version() < NOT_FOUND_SINCE => DescribedGroup {
            group_state: KafkaString::from_static(DEAD),
            ..answer
        },
        Err(error) => {
            let code = group_error(&error);
            let is_dead = code == ErrorCode::GroupIdNotFound;
            DescribedGroup {
                error_code: code.code(),
                error_message: is_dead.then(|| message(&error)),
                group_state: KafkaString::from_static(if is_dead { DEAD } else { "" }),
                authorized_operations: NO_OPERATIONS,
                ..answer
            }
        }
    }
}

fn member(described: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: kafka_string(&described.member_id),
        group_instance_id: described.instance_id.as_deref().map(kafka_string),
        client_id: kafka_string(&described.client_id),
        client_host: kafka_string(&described.client_host),
        member_metadata: described.metadata,
        member_assignment: described.assignment,
        ..DescribedGroupMember::default()
    }
}
