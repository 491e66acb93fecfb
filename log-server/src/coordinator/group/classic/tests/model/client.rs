//! A client of the classic protocol: what it knows, what it waits for, and what it makes of an answer.
//! It follows the protocol as far as the schedule lets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::classic::heartbeat::HeartbeatRequest;
use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::classic::reply::{JoinRefused, Joined, Reply};
use crate::coordinator::group::classic::sync::SyncRequest;
use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::testing::world::Told;

pub(super) const GROUP: &str = "group";
pub(super) const PARTITIONS: u8 = 6;
pub(super) const SESSION_MS: i32 = 6_000;

/// Where a client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has to join.
    Out,
    Joining(Ticket),
    /// It has to sync; a leader has to say who gets what.
    Joined(BTreeMap<Arc<str>, Bytes>),
    Syncing(Ticket),
    Active,
    /// It is no more.
    Dead,
}

/// A client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) id: Arc<str>,
    pub(super) generation: i32,
    pub(super) phase: Phase,
    /// Names of protocols. All clients know the same: after a crash only the chosen one is known to be spoken by a member.
    pub(super) protocols: Vec<&'static str>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) version: i16,
    /// What it was given.
    pub(super) owned: Vec<u8>,
}

impl Client {
    pub(super) fn join_request(&self) -> JoinRequest {
        let named = self
            .protocols
            .iter()
            .map(|name| ((*name).into(), Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t")));
        JoinRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocol_type: "consumer".into(),
            protocols: Protocols::new(named.collect()),
            reason: String::new(),
            id_required: 4 <= self.version,
            may_skip_assignment: 9 <= self.version,
        }
    }

    pub(super) fn sync_request(&self, assignments: BTreeMap<Arc<str>, Bytes>) -> SyncRequest {
        SyncRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            generation: self.generation,
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments,
        }
    }

    pub(super) fn heartbeat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            generation: self.generation,
        }
    }

    /// By whom a partition is owned: a static member is the same whatever its member id.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(self.instance_id.as_ref().unwrap_or(&self.id))
    }

    /// Takes an answer it waited for.
    pub(super) fn hear(&mut self, told: Told) {
        match told {
            Told::Reply(Reply::Join(Ok(joined))) => {
                self.id = Arc::clone(&joined.member_id);
                self.generation = joined.generation;
                self.phase = Phase::Joined(assign(&joined));
            }
            Told::Reply(Reply::Join(Err(JoinRefused { error, member_id }))) => {
                if error == GroupError::MemberIdRequired {
                    self.id = member_id;
                    self.phase = Phase::Out;
                } else {
                    self.stumble(&error);
                }
            }
            Told::Reply(Reply::Sync(Ok(synced))) => {
                self.owned = synced.assignment.to_vec();
                self.phase = Phase::Active;
            }
            Told::Reply(Reply::Sync(Err(error))) | Told::Failed(error) => self.stumble(&error),
        }
    }

    /// Takes a refusal.
    pub(super) fn stumble(&mut self, error: &GroupError) {
        self.phase = match error {
            GroupError::FencedInstanceId => Phase::Dead,
            _ => Phase::Out,
        };
        if matches!(
            error,
            GroupError::UnknownMemberId(_) | GroupError::GroupMaxSizeReached(_)
        ) {
            self.id = "".into();
            self.generation = -1;
        }
        self.owned.clear();
    }

    /// Begins anew, as another process.
    pub(super) fn restart(&mut self) {
        self.id = "".into();
        self.generation = -1;
        self.phase = Phase::Out;
        self.owned.clear();
    }
}

/// What a leader gives to whom: the partitions in turn.
fn assign(joined: &Joined) -> BTreeMap<Arc<str>, Bytes> {
    if joined.members.is_empty() || joined.skip_assignment {
        return BTreeMap::new();
    }
    let members = joined.members.iter().zip(0..);
    members
        .map(|(member, at)| {
            let mine =
                (0..PARTITIONS).filter(|partition| usize::from(*partition) % joined.members.len() == at);
            (Arc::clone(&member.member_id), mine.collect())
        })
        .collect()
}
