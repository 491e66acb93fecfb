//! `SyncGroup`, versions 0 to 5: a member of a classic group fetches what the leader gave it; the leader brings it.
//!
//! - Version 3 (KIP-345): static members. From version 5 (KIP-559) on, the member says the protocol it means, and has to.
//! - Nobody is answered before the assignment is on the disk.

use std::sync::Arc;

use bytes::Bytes;
use log_core::protocol::KafkaString;
use log_core::protocol::messages::{SyncGroupRequestData, SyncGroupResponseData};

use crate::coordinator::group::classic::reply::{Reply, Synced};
use crate::coordinator::group::classic::sync::SyncRequest;
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string};

/// Answers one request when the leader has assigned. Nothing of the request itself is kept meanwhile.
pub(crate) fn handle(
    services: Arc<Services>,
    context: &RequestContext,
    request: &SyncGroupRequestData,
) -> impl Future<Output = SyncGroupResponseData> + Send + use<> {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let is_complete = context.version() < 5 || says_protocol;
    let request = from_wire(request);
    async move {
        if !is_complete {
            return refused(&GroupError::InconsistentGroupProtocol);
        }
        let group = Arc::clone(&request.group);
        let answer = services.groups.run_parked(&group, move |shard, context, ticket| {
            shard.sync_group(context, &request, ticket);
        });
        match answer.await {
            Ok(Reply::Sync(Ok(synced))) => to_wire(synced),
            Ok(Reply::Sync(Err(error))) | Err(error) => refused(&error),
            Ok(Reply::Join(_)) => unreachable!("a sync is answered as one"),
        }
    }
}

fn from_wire(request: &SyncGroupRequestData) -> SyncRequest {
    let text = |text: &KafkaString| Arc::<str>::from(text.as_str());
    let assignments = request.assignments.iter();
    SyncRequest {
        group: text(&request.group_id),
        member_id: text(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(text),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(text),
        protocol: request.protocol_name.as_ref().map(text),
        assignments: assignments
            .map(|to| (text(&to.member_id), Bytes::copy_from_slice(&to.assignment)))
            .collect(),
    }
}

fn to_wire(synced: Synced) -> SyncGroupResponseData {
    SyncGroupResponseData {
        protocol_type: synced.protocol_type.as_deref().map(kafka_string),
        protocol_name: synced.protocol.as_deref().map(kafka_string),
        assignment: synced.assignment,
        ..SyncGroupResponseData::default()
    }
}

fn refused(error: &GroupError) -> SyncGroupResponseData {
    SyncGroupResponseData {
        error_code: group_error(error).code(),
        ..SyncGroupResponseData::default()
    }
}
