//! `JoinGroup`, versions 0 to 9: a member of a classic group joins, and waits for the others.
//!
//! - Version 1 has a rebalance timeout; before, the session timeout is it.
//! - Version 4 (KIP-394): a new member is given an id first, and comes again with it.
//! - Version 5 (KIP-345): static members. Version 8 (KIP-800): the reason. Version 9 (KIP-814): a static leader that comes back need
//!   not assign again.
//! - While a member waits, its request's memory is free for others, and its connection reads no further request, as in Kafka.

use std::sync::Arc;

use bytes::Bytes;
use log_core::protocol::KafkaString;
use log_core::protocol::messages::join_group_response::JoinGroupResponseMember;
use log_core::protocol::messages::{JoinGroupRequestData, JoinGroupResponseData};

use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::classic::reply::{JoinRefused, Joined, Reply};
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string};

/// Answers one request when all members have joined. Nothing of the request itself is kept meanwhile.
pub(crate) fn handle(
    services: Arc<Services>,
    context: &RequestContext,
    request: &JoinGroupRequestData,
) -> impl Future<Output = JoinGroupResponseData> + Send + use<> {
    let version = context.version();
    let request = from_wire(context, request);
    async move {
        let group = Arc::clone(&request.group);
        let answer = services.groups.run_parked(&group, move |shard, context, ticket| {
            shard.join_group(context, &request, ticket);
        });
        match answer.await {
            Ok(Reply::Join(Ok(joined))) => joined_to_wire(joined, version),
            Ok(Reply::Join(Err(JoinRefused { error, member_id }))) => refused(&error, &member_id, version),
            Ok(Reply::Sync(_)) => unreachable!("a join is answered as one"),
            Err(error) => refused(&error, "", version),
        }
    }
}

fn from_wire(context: &RequestContext, request: &JoinGroupRequestData) -> JoinRequest {
    let text = |text: &KafkaString| Arc::<str>::from(text.as_str());
    let protocols = request.protocols.iter();
    let protocols =
        protocols.map(|protocol| (text(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)));
    JoinRequest {
        group: text(&request.group_id),
        member_id: text(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(text),
        client_id: context.client_id().into(),
        client_host: context.client_host().into(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match context.version() {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: text(&request.protocol_type),
        protocols: Protocols::new(protocols.collect()),
        reason: request
            .reason
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        id_required: 4 <= context.version(),
        may_skip_assignment: 9 <= context.version(),
    }
}

fn joined_to_wire(joined: Joined, version: i16) -> JoinGroupResponseData {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: kafka_string(&member.member_id),
        group_instance_id: member.instance_id.as_deref().map(kafka_string),
        metadata: member.metadata,
        ..JoinGroupResponseMember::default()
    });
    JoinGroupResponseData {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.as_deref().map(kafka_string),
        protocol_name: protocol_name(joined.protocol.as_deref(), version),
        leader: kafka_string(&joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: kafka_string(&joined.member_id),
        members: members.collect(),
        ..JoinGroupResponseData::default()
    }
}

fn refused(error: &GroupError, member_id: &str, version: i16) -> JoinGroupResponseData {
    JoinGroupResponseData {
        error_code: group_error(error).code(),
        generation_id: -1,
        protocol_type: None,
        protocol_name: protocol_name(None, version),
        member_id: kafka_string(member_id),
        ..JoinGroupResponseData::default()
    }
}

/// Before version 7 there is no null.
fn protocol_name(name: Option<&str>, version: i16) -> Option<KafkaString> {
    match name {
        None if version < 7 => Some(KafkaString::default()),
        name => name.map(kafka_string),
    }
}
