//! A member of a KIP-848 group: what it says of itself, and where it stands on its way to its target.
//! Its id is given by who holds it: the group, by id.

use std::sync::Arc;

use crate::coordinator::group::consumer::assignment::OwnedPartitions;
use crate::coordinator::group::record::{ConsumerCurrentMemberValue, ConsumerMemberValue, MemberState};

/// The epoch by which a member joins.
pub const JOIN_EPOCH: i32 = 0;
/// The epoch by which a member leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch by which a static member leaves that wants to come back.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// A member. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it says of itself.
    pub description: Arc<ConsumerMemberValue>,
    /// Its epoch and partitions.
    pub current: Arc<Current>,
}

impl Member {
    /// Whether it speaks the classic protocol.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.description.classic.is_some()
    }
}

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its epoch.
    pub epoch: i32,
    /// The epoch before.
    pub previous_epoch: i32,
    /// What it has to do or wait for.
    pub state: MemberState,
    /// What it reads.
    pub assigned: OwnedPartitions,
    /// What it was told to give up and has not.
    pub revoking: OwnedPartitions,
}

impl Default for Current {
    /// Of a member that has only just been made.
    fn default() -> Self {
        Self {
            epoch: JOIN_EPOCH,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: OwnedPartitions::default(),
            revoking: OwnedPartitions::default(),
        }
    }
}

impl Current {
    /// Whether nothing is to be done until there is another target.
    #[must_use]
    pub fn is_at(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// As a record has it.
    #[must_use]
    pub fn to_record(&self) -> ConsumerCurrentMemberValue {
        ConsumerCurrentMemberValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state,
            assigned: self.assigned.to_record(),
            pending_revocation: self.revoking.to_record(),
        }
    }

    /// From a record.
    #[must_use]
    pub fn from_record(value: &ConsumerCurrentMemberValue) -> Self {
        // A static member that is away has an epoch below zero; what it has, it had before.
        let epoch = value.member_epoch.max(0);
        Self {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: value.state,
            assigned: OwnedPartitions::from_record(&value.assigned, epoch),
            revoking: OwnedPartitions::from_record(&value.pending_revocation, epoch),
        }
    }
}

/// A member that has neither said nor got anything.
#[must_use]
pub fn new_member() -> Member {
    Member {
        description: Arc::new(unknown_description()),
        current: Arc::new(Current::default()),
    }
}

/// What a member has said of itself before it said anything.
#[must_use]
pub fn unknown_description() -> ConsumerMemberValue {
    ConsumerMemberValue {
        instance_id: None,
        rack_id: None,
        client_id: "".into(),
        client_host: "".into(),
        subscribed_topics: Vec::new(),
        subscribed_regex: None,
        rebalance_timeout_ms: -1,
        server_assignor: None,
        classic: None,
    }
}
