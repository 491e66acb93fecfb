//! One member of a classic group: how it described itself, what it was given, and who waits for an
//! answer in its name. What the others make of it is the group's.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::record::ClassicMemberValue;

/// Names of protocols with the member's metadata for each, the best-liked first; each name stands once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protocols(Vec<(Arc<str>, Bytes)>);

impl Protocols {
    /// As a request names them. Of a name that stands twice, the first counts.
    #[must_use]
    pub fn new(named: Vec<(Arc<str>, Bytes)>) -> Self {
        let mut seen = BTreeSet::new();
        Self(
            named
                .into_iter()
                .filter(|(name, _)| seen.insert(Arc::clone(name)))
                .collect(),
        )
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The metadata for a protocol.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&Bytes> {
        self.0
            .iter()
            .find(|(own, _)| **own == *name)
            .map(|(_, metadata)| metadata)
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[(Arc<str>, Bytes)] {
        &self.0
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it came from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// How long a rebalance may wait for it.
    pub rebalance_timeout_ms: i32,
    /// After how long without a heartbeat it is gone.
    pub session_timeout_ms: i32,
    /// What it speaks.
    pub protocols: Protocols,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// Its join waits for the others.
    pub(super) awaiting_join: Option<Ticket>,
    /// Its sync waits for the leader's.
    pub(super) awaiting_sync: Option<Ticket>,
    /// It never got an answer yet, so that it cannot send heartbeats, and its join may be that of a client long gone.
    pub(super) is_new: bool,
}

impl ClassicMember {
    /// A member as a record describes it: of its protocols, only the chosen one is known.
    pub(super) fn from_value(value: &ClassicMemberValue, protocol: Option<&Arc<str>>) -> Self {
        let named = protocol.map(|name| (Arc::clone(name), value.subscription.clone()));
        Self {
            instance_id: value.instance_id.clone(),
            client_id: Arc::clone(&value.client_id),
            client_host: Arc::clone(&value.client_host),
            rebalance_timeout_ms: match value.rebalance_timeout_ms {
                // Records of Kafka before 0.10.1 have none.
                -1 => value.session_timeout_ms,
                timeout => timeout,
            },
            session_timeout_ms: value.session_timeout_ms,
            protocols: Protocols(named.into_iter().collect()),
            assignment: value.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    /// The member as a record describes it.
    pub(super) fn value(&self, id: &Arc<str>, protocol: Option<&str>) -> ClassicMemberValue {
        let subscription = protocol.and_then(|name| self.protocols.metadata(name));
        ClassicMemberValue {
            member_id: Arc::clone(id),
            instance_id: self.instance_id.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: subscription.cloned().unwrap_or_default(),
            assignment: self.assignment.clone(),
        }
    }

    /// Whether it need not send heartbeats: it waits for an answer. A new member's waiting has a limit of its own.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
