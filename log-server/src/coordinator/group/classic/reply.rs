//! What joins and syncs are answered. Such an answer may come long after its question, for a member waits for the others.
//! Each question's [`Ticket`](crate::coordinator::group::context::Ticket) is answered once.

use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::error::GroupError;

/// An answer that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of a join.
    Join(Result<Joined, JoinRefused>),
    /// Of a sync.
    Sync(Result<Synced, GroupError>),
}

/// The generation that a member now belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// "consumer", "connect", …
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that all members speak.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    pub leader: Arc<str>,
    /// The leader is told who there is, but nothing new is to be assigned (KIP-814).
    pub skip_assignment: bool,
    /// The member that is answered.
    pub member_id: Arc<str>,
    /// All members in the order of their ids; for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member as its group's leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// What it said for the chosen protocol.
    pub metadata: Bytes,
}

/// A join that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The id to go on with; empty for a member that has to begin without one.
    pub member_id: Arc<str>,
}

/// What the leader gave a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// "consumer", "connect", …
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that all members speak.
    pub protocol: Option<Arc<str>>,
    /// In the protocol's own form; empty if the leader gave the member nothing.
    pub assignment: Bytes,
}
