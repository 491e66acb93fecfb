//! `LeaveGroup`, versions 0 to 5: members leave a classic group.
//!
//! - Up to version 2, one member, whose error is the request's.
//! - Version 3 (KIP-345): several at once, also by their static ids alone, as an administrator names them. Version 5 (KIP-800): the reason.

use std::sync::Arc;

use log_core::protocol::messages::leave_group_request::MemberIdentity;
use log_core::protocol::messages::leave_group_response::MemberResponse;
use log_core::protocol::messages::{LeaveGroupRequestData, LeaveGroupResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::coordinator::group::classic::leave::LeavingMember;
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string};

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: &LeaveGroupRequestData,
) -> LeaveGroupResponseData {
    let is_single = context.version() < 3;
    let leaving: Arc<[LeavingMember]> = if is_single {
        let member_id = request.member_id.as_str().into();
        Arc::new([LeavingMember {
            member_id,
            instance_id: None,
            reason: String::new(),
        }])
    } else {
        request.members.iter().map(from_wire).collect()
    };
    let named = Arc::clone(&leaving);
    let group: Arc<str> = request.group_id.as_str().into();
    let name = Arc::clone(&group);
    let answer = services.groups.run(&name, move |shard, context| {
        shard.leave_group(context, &group, &leaving)
    });
    let answer = answer.await.and_then(|answer| answer);
    let code = match &answer {
        Ok(outcomes) if is_single => code(outcomes.iter().find(|outcome| outcome.is_err())),
        Ok(_) => ErrorCode::None,
        Err(error) => group_error(error),
    };
    let outcomes = answer.ok().filter(|_| !is_single).unwrap_or_default();
    let members = named
        .iter()
        .zip(&outcomes)
        .map(|(member, outcome)| MemberResponse {
            member_id: kafka_string(&member.member_id),
            group_instance_id: member.instance_id.as_deref().map(kafka_string),
            error_code: self::code(Some(outcome)).code(),
            ..MemberResponse::default()
        });
    LeaveGroupResponseData {
        error_code: code.code(),
        members: members.collect(),
        ..LeaveGroupResponseData::default()
    }
}

fn from_wire(member: &MemberIdentity) -> LeavingMember {
    let text = |text: &KafkaString| Arc::<str>::from(text.as_str());
    LeavingMember {
        member_id: text(&member.member_id),
        instance_id: member.group_instance_id.as_ref().map(text),
        reason: member
            .reason
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

fn code(outcome: Option<&Result<(), GroupError>>) -> ErrorCode {
    match outcome {
        Some(Err(error)) => group_error(error),
        _ => ErrorCode::None,
    }
}
