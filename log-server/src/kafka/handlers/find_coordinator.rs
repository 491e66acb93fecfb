//! `FindCoordinator`, versions 0 to 6: this node, for every group and every transactional id.
//!
//! - Version 4 (KIP-699) asks for many keys at once.
//! - Version 6 (KIP-932) adds share groups as a third kind, by keys of the form `group:topic id:partition`; below it that kind is
//!   `INVALID_REQUEST`, as is another form.
//! - The first question about a group makes `__consumer_offsets`; the answer comes when that is there. Kafka answers
//!   `COORDINATOR_NOT_AVAILABLE` meanwhile; we do where the group's partition is off-line or cannot be made.
//! - Differs from Kafka: a question about a transactional id or a share group makes no topic; those coordinators are not served yet,
//!   and their APIs not advertised.

use log_core::model::TopicId;
use log_core::protocol::messages::find_coordinator_response::Coordinator;
use log_core::protocol::messages::{FindCoordinatorRequestData, FindCoordinatorResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string, message};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Answers one request, as soon as the coordinators of all groups in it can be asked.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: FindCoordinatorRequestData,
) -> FindCoordinatorResponseData {
    let asks_for_many = 4 <= context.version();
    let keys = if asks_for_many {
        request.coordinator_keys
    } else {
        vec![request.key]
    };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = find(services, context, request.key_type, key.as_str()).await;
        coordinators.push(coordinator(services, context, key, found));
    }
    if asks_for_many {
        return FindCoordinatorResponseData {
            coordinators,
            ..FindCoordinatorResponseData::default()
        };
    }
    let found = coordinators.pop().unwrap_or_default();
    FindCoordinatorResponseData {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponseData::default()
    }
}

/// Whether this node coordinates it, now.
async fn find(
    services: &Services,
    context: &RequestContext,
    key_type: i8,
    key: &str,
) -> Result<(), (ErrorCode, String)> {
    match key_type {
        GROUP => match services.groups.ready(key).await {
            Ok(()) => Ok(()),
            Err(error) => Err((ErrorCode::CoordinatorNotAvailable, error.to_string())),
        },
        TRANSACTION => Ok(()),
        SHARE if 6 <= context.version() && is_share_partition(key) => Ok(()),
        kind => Err((
            ErrorCode::InvalidRequest,
            format!("there is no coordinator of kind {kind} for it"),
        )),
    }
}

fn coordinator(
    services: &Services,
    context: &RequestContext,
    key: KafkaString,
    found: Result<(), (ErrorCode, String)>,
) -> Coordinator {
    match found {
        Ok(()) => {
            let endpoint = &context.connection.advertised;
            Coordinator {
                key,
                node_id: services.config.node_id,
                host: kafka_string(&endpoint.host),
                port: i32::from(endpoint.port),
                error_code: ErrorCode::None.code(),
                // What Kafka writes, whatever it may mean to anyone.
                error_message: Some(KafkaString::from_static(if context.version() < 4 {
                    "NONE"
                } else {
                    ""
                })),
                ..Coordinator::default()
            }
        }
        Err((error, reason)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(message(&reason)),
            ..Coordinator::default()
        },
    }
}

fn is_share_partition(key: &str) -> bool {
    let mut parts = key.splitn(3, ':');
    let (group, id, partition) = (parts.next(), parts.next(), parts.next());
    group.is_some_and(|group| !group.is_empty())
        && id.is_some_and(|id| id.parse::<TopicId>().is_ok())
        && partition.is_some_and(|partition| partition.parse::<i32>().is_ok())
}
