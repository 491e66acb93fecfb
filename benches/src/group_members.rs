//! The first member of a new group: how long after it joins it knows its partitions, under either protocol.
//!
//! The clock begins with the first request in which the member asks to be let in, and ends with the answer that says what it has.
//! Connections and the look-up of the coordinator stand before that.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use log_core::protocol::messages::consumer_group_heartbeat_response::Assignment;
use log_core::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use log_core::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use log_core::protocol::messages::{
    ConsumerGroupHeartbeatRequestData, ConsumerProtocolAssignmentData, ConsumerProtocolSubscriptionData,
    JoinGroupRequestData, LeaveGroupRequestData, SyncGroupRequestData, consumer_protocol_assignment,
    leave_group_request,
};
use log_core::protocol::{ErrorCode, KafkaString, Message};

use crate::raw::Connection;

const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const LEAVE_VERSION: i16 = 5;
/// The version of the texts that consumers of the classic protocol send each other.
const TEXT_VERSION: i16 = 1;
pub(crate) const HEARTBEAT_VERSION: i16 = 1;
pub(crate) const REBALANCE_TIMEOUT_MS: i32 = 60_000;
const PROTOCOL: &str = "range";
/// A member that was told nothing new asks again after this time.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);
const GIVE_UP: Duration = Duration::from_secs(30);

pub(crate) fn text(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

/// A classic member joins a new group, leads it, and gets all partitions. Afterwards it leaves.
///
/// # Errors
/// The broker refuses.
pub async fn classic_first_assignment(
    connection: &mut Connection,
    group: &str,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<Duration> {
    let subscription = encode_text(&ConsumerProtocolSubscriptionData {
        topics: vec![text(topic)],
        ..ConsumerProtocolSubscriptionData::default()
    })?;
    let mut join = JoinGroupRequestData {
        group_id: text(group),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        protocol_type: text("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: text(PROTOCOL),
            metadata: subscription,
            ..JoinGroupRequestProtocol::default()
        }],
        ..JoinGroupRequestData::default()
    };
    let begun = Instant::now();
    let mut joined = connection.call(&join, JOIN_VERSION).await?;
    if ErrorCode::from(joined.error_code) == ErrorCode::MemberIdRequired {
        join.member_id = joined.member_id;
        joined = connection.call(&join, JOIN_VERSION).await?;
    }
    ensure!(joined.error_code == 0, "JoinGroup: error {}", joined.error_code);
    ensure!(joined.leader == joined.member_id, "the only member leads");
    let assignment = encode_text(&ConsumerProtocolAssignmentData {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic: text(topic),
            partitions: (0..partitions).collect(),
            ..consumer_protocol_assignment::TopicPartition::default()
        }],
        ..ConsumerProtocolAssignmentData::default()
    })?;
    let sync = SyncGroupRequestData {
        group_id: text(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: joined.protocol_type,
        protocol_name: joined.protocol_name,
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: assignment.clone(),
            ..SyncGroupRequestAssignment::default()
        }],
        ..SyncGroupRequestData::default()
    };
    let synced = connection.call(&sync, SYNC_VERSION).await?;
    let took = begun.elapsed();
    ensure!(synced.error_code == 0, "SyncGroup: error {}", synced.error_code);
    ensure!(synced.assignment == assignment, "it gets what the leader said");
    let leave = LeaveGroupRequestData {
        group_id: text(group),
        members: vec![leave_group_request::MemberIdentity {
            member_id: joined.member_id,
            ..leave_group_request::MemberIdentity::default()
        }],
        ..LeaveGroupRequestData::default()
    };
    let left = connection.call(&leave, LEAVE_VERSION).await?;
    ensure!(left.error_code == 0, "LeaveGroup: error {}", left.error_code);
    Ok(took)
}

/// A member of KIP-848 joins a new group and gets all partitions. Afterwards it leaves.
///
/// # Errors
/// The broker refuses.
pub async fn modern_first_assignment(
    connection: &mut Connection,
    group: &str,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<Duration> {
    let mut heartbeat = joining(group, &format!("{group}-member"), topic);
    let begun = Instant::now();
    loop {
        let answer = connection.call(&heartbeat, HEARTBEAT_VERSION).await?;
        let took = begun.elapsed();
        ensure!(
            answer.error_code == 0,
            "ConsumerGroupHeartbeat: error {}",
            answer.error_code
        );
        heartbeat = still_there(&heartbeat, answer.member_epoch);
        let has_all = answer.assignment.as_deref().map(count) == Some(usize::try_from(partitions)?);
        if has_all {
            heartbeat.member_epoch = -1;
            connection.call(&heartbeat, HEARTBEAT_VERSION).await?;
            return Ok(took);
        }
        ensure!(took < GIVE_UP, "no assignment after {took:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The first heartbeat of a member.
pub(crate) fn joining(group: &str, member: &str, topic: &str) -> ConsumerGroupHeartbeatRequestData {
    ConsumerGroupHeartbeatRequestData {
        group_id: text(group),
        member_id: text(member),
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        subscribed_topic_names: Some(topic.split(',').map(text).collect()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequestData::default()
    }
}

/// A heartbeat that says nothing new.
pub(crate) fn still_there(
    before: &ConsumerGroupHeartbeatRequestData,
    epoch: i32,
) -> ConsumerGroupHeartbeatRequestData {
    ConsumerGroupHeartbeatRequestData {
        group_id: before.group_id.clone(),
        member_id: before.member_id.clone(),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequestData::default()
    }
}

/// How many partitions an assignment has.
pub(crate) fn count(assignment: &Assignment) -> usize {
    let topics = assignment.topic_partitions.iter();
    topics.map(|topic| topic.partitions.len()).sum()
}

/// A text that members send each other: its version stands in front.
fn encode_text<M: Message>(message: &M) -> anyhow::Result<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&TEXT_VERSION.to_be_bytes());
    message.write_to(&mut bytes, TEXT_VERSION).context("encode")?;
    Ok(bytes.freeze())
}
