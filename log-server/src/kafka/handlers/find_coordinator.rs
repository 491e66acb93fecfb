//! `FindCoordinator`, versions 0 to 6: this node, for every group and every transactional id.
//!
//! - Version 4 (KIP-699) asks for many keys at once.
//! - Version 6 (KIP-932) adds share groups as a third kind, by keys of the form `group:topic id:partition`; below it that kind is
//!   `INVALID_REQUEST`, as is another form.
//! - Differs from Kafka: the first question creates no internal topic and is never answered `COORDINATOR_NOT_AVAILABLE`.
//!   The coordinators themselves are not served yet, and their APIs not advertised.

use log_core::model::TopicId;
use log_core::protocol::messages::find_coordinator_response::Coordinator;
use log_core::protocol::messages::{FindCoordinatorRequestData, FindCoordinatorResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string, message};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    context: &RequestContext,
    request: FindCoordinatorRequestData,
) -> FindCoordinatorResponseData {
    let has_coordinator = |key: &KafkaString| match request.key_type {
        GROUP | TRANSACTION => true,
        SHARE => 6 <= context.version() && is_share_partition(key.as_str()),
        _ => false,
    };
    let find = |key: KafkaString| {
        let endpoint = &context.connection.advertised;
        let (error, node_id, host, port) = if has_coordinator(&key) {
            let host = kafka_string(&endpoint.host);
            (
                ErrorCode::None,
                services.config.node_id,
                host,
                i32::from(endpoint.port),
            )
        } else {
            (ErrorCode::InvalidRequest, -1, KafkaString::default(), -1)
        };
        let error_message = match error {
            // What Kafka writes, whatever it may mean to anyone.
            ErrorCode::None if context.version() < 4 => Some(KafkaString::from_static("NONE")),
            ErrorCode::None => Some(KafkaString::default()),
            _ => Some(message(&format!(
                "there is no coordinator of kind {} for it",
                request.key_type
            ))),
        };
        Coordinator {
            key,
            node_id,
            host,
            port,
            error_code: error.code(),
            error_message,
            ..Coordinator::default()
        }
    };
    if 4 <= context.version() {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponseData {
            coordinators,
            ..FindCoordinatorResponseData::default()
        };
    }
    let found = find(request.key);
    FindCoordinatorResponseData {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponseData::default()
    }
}

fn is_share_partition(key: &str) -> bool {
    let mut parts = key.splitn(3, ':');
    let (group, id, partition) = (parts.next(), parts.next(), parts.next());
    group.is_some_and(|group| !group.is_empty())
        && id.is_some_and(|id| id.parse::<TopicId>().is_ok())
        && partition.is_some_and(|partition| partition.parse::<i32>().is_ok())
}
