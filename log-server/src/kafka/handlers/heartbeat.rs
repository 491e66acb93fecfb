//! `Heartbeat`, versions 0 to 4: a member of a classic group is there, and learns whether it has to join again.
//!
//! - Version 3 (KIP-345): static members.
//! - While the group is read from the log, every heartbeat is fine: the members' sessions begin when that is done.

use std::sync::Arc;

use log_core::protocol::messages::{HeartbeatRequestData, HeartbeatResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::coordinator::group::classic::heartbeat::HeartbeatRequest;
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::services::Services;

/// Answers one request.
pub(crate) async fn handle(services: &Services, request: &HeartbeatRequestData) -> HeartbeatResponseData {
    let text = |text: &KafkaString| Arc::<str>::from(text.as_str());
    let request = HeartbeatRequest {
        group: text(&request.group_id),
        member_id: text(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(text),
        generation: request.generation_id,
    };
    let group = Arc::clone(&request.group);
    let answer = services
        .groups
        .run(&group, move |shard, context| shard.heartbeat(context, &request));
    let code = match answer.await.and_then(|answer| answer) {
        Ok(()) | Err(GroupError::LoadInProgress) => ErrorCode::None,
        Err(error) => group_error(&error),
    };
    HeartbeatResponseData {
        error_code: code.code(),
        ..HeartbeatResponseData::default()
    }
}
