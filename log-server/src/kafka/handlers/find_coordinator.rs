//! `FindCoordinator`, versions 0 to 6: this node, for every group and every transactional id.
//!
//! - Version 4 (KIP-699) asks for many keys at once.
//! - Version 6 (KIP-932) adds share groups as a third kind, by keys of the form `group:topic id:partition`; below it that kind is
//!   `INVALID_REQUEST`, as is another form.
//! - The first question about a group makes `__consumer_offsets`, the first about a transactional id `__transaction_state`; the answer
//!   comes when that is there. Kafka answers `COORDINATOR_NOT_AVAILABLE` meanwhile; we do where the partition is off-line or cannot be made.
//! - Differs from Kafka: a question about a share group makes no topic; that coordinator is not served yet, and its APIs are not
//!   advertised.

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
        TRANSACTION => match services.transactions.ready(key).await {
            Ok(()) => Ok(()),
            Err(error) => Err((ErrorCode::CoordinatorNotAvailable, error.to_string())),
        },
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

/// A key as Kafka reads it: split at colons from the right, so that only the group may contain one; colons at the end do not count.
fn is_share_partition(key: &str) -> bool {
    let mut parts = key.trim_end_matches(':').rsplitn(3, ':');
    let (Some(partition), Some(id), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let is_blank = |character: char| character <= ' ';
    !group.trim_matches(is_blank).is_empty() && is_topic_id(id) && partition.parse::<i32>().is_ok()
}

/// Sixteen bytes in URL-safe base64, padded or not. Kafka does not look at the bits that are left over, so neither do we.
fn is_topic_id(text: &str) -> bool {
    const CHARACTERS: usize = 22;
    let digits = text.strip_suffix("==").unwrap_or(text).as_bytes();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    digits.len() == CHARACTERS && digits.iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts of a real Kafka 4.3's `SharePartitionKey`.
    #[test]
    fn a_share_key_names_group_topic_and_partition() {
        const ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
        for (key, expected) in [
            ("g:ID:0", true),
            ("g:ID:-1", true),
            ("g:ID:+1", true),
            ("g:ID:01", true),
            ("a:b:ID:0", true),
            ("g !:ID:0", true),
            ("g:ID==:0", true),
            ("g:ID:0::", true),
            ("g:AAAAAAAAAAAAAAAAAAAAAR:0", true),
            ("", false),
            ("::", false),
            ("g", false),
            ("g:ID", false),
            ("g:ID:", false),
            (":ID:0", false),
            (" :ID:0", false),
            ("\t:ID:0", false),
            ("g::0", false),
            ("g:ID=:0", false),
            ("g:IDA:0", false),
            ("g:AAAAAAAAAAAAAAAAAAAAA+:0", false),
            ("g:AAAAAAAAAAAAAAAAAAAAQ:0", false),
            ("g:ID: 0", false),
            ("g:ID:x", false),
            ("g:ID:0:1", false),
            ("g:ID:2147483648", false),
        ] {
            let key = key.replace("ID", ID);
            assert_eq!(is_share_partition(&key), expected, "{key:?}");
        }
    }
}
