//! The classic protocol, one exchange after the other, through the commands that handlers call.
//!
//! [`Scene`] is a group with clients that speak in few words; what they are told comes back as text.

mod joining;
mod leaving;
mod view;
mod writing;

use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::classic::group::ClassicGroup;
use crate::coordinator::group::classic::heartbeat::HeartbeatRequest;
use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::leave::LeavingMember;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::classic::reply::{JoinRefused, Joined, Reply, Synced};
use crate::coordinator::group::classic::sync::SyncRequest;
use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{CommitKind, Committer, Group};
use crate::coordinator::group::testing::world::{Told, World};

const GROUP: &str = "group";
const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 60_000;

/// A group and its clients.
struct Scene {
    world: World,
}

/// A join as a client without an id would send it.
fn joining(id: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member_id: id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: i32::try_from(SESSION_MS).unwrap(),
        rebalance_timeout_ms: i32::try_from(REBALANCE_MS).unwrap(),
        protocol_type: "consumer".into(),
        protocols: protocols(&[("range", b"\0\0\0\0\0\x01\0\x01t")]),
        reason: String::new(),
        id_required: false,
        may_skip_assignment: true,
    }
}

/// A member that commits offsets.
fn committer<'a>(member_id: &'a str, instance_id: Option<&'a str>, kind: CommitKind) -> Committer<'a> {
    Committer {
        member_id,
        instance_id,
        generation_or_epoch: 1,
        kind,
    }
}

const PLAIN: CommitKind = CommitKind::Plain { request_version: 8 };

fn protocols(named: &[(&str, &'static [u8])]) -> Protocols {
    let named = named.iter();
    Protocols::new(
        named
            .map(|(name, metadata)| ((*name).into(), Bytes::from_static(metadata)))
            .collect(),
    )
}

impl Scene {
    fn new() -> Self {
        Self { world: World::new(1) }
    }

    fn send_join(&mut self, request: &JoinRequest) -> Ticket {
        self.world
            .run_parked(|shard, context, ticket| shard.join_group(context, request, ticket))
    }

    /// A join that must be answered at once.
    fn join(&mut self, request: &JoinRequest) -> Result<Joined, JoinRefused> {
        let ticket = self.send_join(request);
        self.joined(ticket)
    }

    fn joined(&mut self, ticket: Ticket) -> Result<Joined, JoinRefused> {
        match self.world.take(ticket) {
            Some(Told::Reply(Reply::Join(reply))) => reply,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn join_error(&mut self, ticket: Ticket) -> GroupError {
        self.joined(ticket).unwrap_err().error
    }

    fn send_sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> Ticket {
        let assignments = assignments.iter();
        let request = SyncRequest {
            group: GROUP.into(),
            member_id: id.into(),
            instance_id: None,
            generation,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments: assignments
                .map(|(id, bytes)| ((*id).into(), Bytes::from_static(bytes)))
                .collect(),
        };
        self.world
            .run_parked(|shard, context, ticket| shard.sync_group(context, &request, ticket))
    }

    fn synced(&mut self, ticket: Ticket) -> Result<Bytes, GroupError> {
        match self.world.take(ticket) {
            Some(Told::Reply(Reply::Sync(reply))) => reply.map(|Synced { assignment, .. }| assignment),
            Some(Told::Failed(error)) => Err(error),
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    /// A sync that must be answered at once.
    fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: &[(&str, &'static [u8])],
    ) -> Result<Bytes, GroupError> {
        let ticket = self.send_sync(id, generation, assignments);
        self.synced(ticket)
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), GroupError> {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            member_id: id.into(),
            instance_id: None,
            generation,
        };
        self.world
            .run(|shard, context| shard.heartbeat(context, &request))
            .unwrap()
    }

    fn leave(&mut self, id: &str) -> Result<(), GroupError> {
        let leaving = LeavingMember {
            member_id: id.into(),
            instance_id: None,
            reason: String::new(),
        };
        let left = self
            .world
            .run(|shard, context| shard.leave_group(context, GROUP, &[leaving]))
            .unwrap();
        left.unwrap().remove(0)
    }

    fn group(&self) -> &ClassicGroup {
        match self.world.shard.groups.get(GROUP) {
            Some(Group::Classic(group)) => group,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> &'static str {
        self.group().state_name()
    }

    /// A stable group of this many members; their ids, the leader's first.
    fn stable(&mut self, members: usize) -> Vec<Arc<str>> {
        let mut ids = vec![self.join(&joining("")).unwrap().member_id];
        for _ in 1..members {
            let newcomer = self.send_join(&joining(""));
            let others: Vec<Ticket> = ids.iter().map(|id| self.send_join(&joining(id))).collect();
            ids.push(self.joined(newcomer).unwrap().member_id);
            for other in others {
                self.joined(other).unwrap();
            }
        }
        let generation = self.group().generation();
        let leader = self.group().leader.clone().unwrap();
        ids.retain(|id| *id != leader);
        ids.insert(0, leader);
        let followers: Vec<Ticket> = ids[1..]
            .iter()
            .map(|id| self.send_sync(id, generation, &[]))
            .collect();
        self.sync(&ids[0].clone(), generation, &[(&*ids[0], b"mine")])
            .unwrap();
        for follower in followers {
            self.synced(follower).unwrap();
        }
        assert_eq!(self.state(), "Stable");
        ids
    }
}
