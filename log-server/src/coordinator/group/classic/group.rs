//! A classic group: its members, its generation, and how far its rebalance is.
//!
//! | state | what goes on | leaves it when |
//! |---|---|---|
//! | Empty | nobody, or offsets alone | a member joins |
//! | `PreparingRebalance` | joins are collected, and wait | all have joined, or their time is up |
//! | `CompletingRebalance` | the generation stands, syncs wait for the leader's | the leader syncs |
//! | Stable | all read what they were given | a member joins, changes or goes |
//!
//! Records describe the group as it is in Stable and Empty. What happens on the way is soft: after a crash the
//! group is back where its last record left it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use log_core::model::TimestampMs;

use crate::coordinator::group::classic::member::{ClassicMember, Protocols};
use crate::coordinator::group::classic::reply::{Joined, JoinedMember};
use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::embedded::{CONSUMER, add_topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{CommitKind, Committer};
use crate::coordinator::group::record::{ClassicGroupValue, GroupRecord};

/// How far a classic group's rebalance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClassicState {
    /// No members.
    Empty,
    /// Joins are collected.
    PreparingRebalance,
    /// The leader has to assign.
    CompletingRebalance,
    /// All have what they are to have.
    Stable,
}

impl ClassicState {
    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A new group's members are waited for in steps, so that they do not come one rebalance after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// The step that runs.
    pub(super) step_ms: i64,
    /// What is left of the rebalance timeout behind the first step; not reduced by the step that runs.
    pub(super) remaining_ms: i64,
    /// A member came during this step, so another one follows.
    pub(super) member_added: bool,
}

/// A static member on its way from one member id to the next, while the record that says so is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) old_id: Arc<str>,
    pub(super) new_id: Arc<str>,
    pub(super) member: ClassicMember,
}

/// A classic group.
#[derive(Debug)]
pub struct ClassicGroup {
    pub(super) state: ClassicState,
    pub(super) state_since: Option<TimestampMs>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, ClassicMember>,
    /// Member ids by static id.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// How many members speak each protocol.
    protocol_counts: BTreeMap<Arc<str>, usize>,
    /// Ids that were given out (`MEMBER_ID_REQUIRED`), and whose owners have not joined yet.
    pub(super) pending_joins: BTreeSet<Arc<str>>,
    /// Members of this generation that have not synced.
    pub(super) pending_syncs: BTreeSet<Arc<str>>,
    awaiting_join_count: usize,
    /// In `PreparingRebalance` from Empty.
    pub(super) initial_delay: Option<InitialDelay>,
    pub(super) replacement: Option<Replacement>,
    /// `None` if they are not known.
    subscribed_topics: Option<BTreeSet<Arc<str>>>,
    /// A record says that the group exists. Otherwise it goes with its last member.
    pub(super) is_recorded: bool,
}

impl Default for ClassicGroup {
    /// A group without members that nobody described: it commits offsets, or is just beginning.
    fn default() -> Self {
        Self {
            state: ClassicState::Empty,
            state_since: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            protocol_counts: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            awaiting_join_count: 0,
            initial_delay: None,
            replacement: None,
            subscribed_topics: None,
            is_recorded: false,
        }
    }
}

impl ClassicGroup {
    /// A record speaks of the group, if only of its offsets: it does not go with its last member.
    pub(in crate::coordinator::group) fn has_a_record(&mut self) {
        self.is_recorded = true;
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> ClassicState {
        self.state
    }

    /// Its generation; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The protocol that was chosen.
    #[must_use]
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// Its members, by id.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<str>, &ClassicMember)> {
        self.members.iter()
    }

    /// Whether a commit or a call in the name of this member comes from one of the group's.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMemberId(member_id.to_owned());
        if let Some(instance_id) = instance_id {
            let current = self.static_members.get(instance_id).ok_or_else(unknown)?;
            if **current != *member_id {
                return Err(GroupError::FencedInstanceId);
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(unknown())
        }
    }

    /// Whether a member that speaks these protocols fits in with the others.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &Protocols) -> bool {
        if self.state == ClassicState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let spoken_by_all =
            |name: &Arc<str>| self.protocol_counts.get(name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.names().any(spoken_by_all)
    }

    /// Whether what members have was not assigned by one of them: the group was of the other protocol until its last record.
    pub(super) fn was_downgraded(&self) -> bool {
        self.state == ClassicState::Stable && self.leader.is_none()
    }

    pub(in crate::coordinator::group) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn has_all_joined(&self) -> bool {
        self.awaiting_join_count == self.members.len() && self.pending_joins.is_empty()
    }

    pub(super) fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    /// How long the slowest member may take; 0 without members.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms.max(0));
        i64::from(timeouts.max().unwrap_or(0))
    }

    pub(super) fn add(&mut self, id: Arc<str>, protocol_type: &str, member: ClassicMember) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.into());
        }
        if let Some(instance_id) = &member.instance_id {
            let before = self
                .static_members
                .insert(Arc::clone(instance_id), Arc::clone(&id));
            assert!(before.is_none(), "a static id has one member");
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&id));
        }
        self.pending_joins.remove(&id);
        self.count(&member);
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "a member is added once");
    }

    /// Takes a member, or an id that was given out, out of the group.
    pub(super) fn remove(&mut self, id: &str) -> Option<ClassicMember> {
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        let member = self.members.remove(id)?;
        self.discount(&member);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Changes a member, and keeps the books that depend on it.
    pub(super) fn update<R>(&mut self, id: &str, change: impl FnOnce(&mut ClassicMember) -> R) -> Option<R> {
        let (id, mut member) = self.members.remove_entry(id)?;
        self.discount(&member);
        let result = change(&mut member);
        self.count(&member);
        self.members.insert(id, member);
        Some(result)
    }

    /// Changes the state; when it became what it is belongs to it.
    pub(super) fn enter(&mut self, state: ClassicState, now: TimestampMs) {
        self.state = state;
        self.state_since = Some(now);
        self.initial_delay = None;
    }

    /// The generation that follows.
    pub(super) fn generation_after(&self) -> i32 {
        // A generation below 0 stands for "none". Kafka runs over here.
        self.generation.checked_add(1).unwrap_or(0)
    }

    /// Begins the next generation, with the protocol that its members chose.
    pub(super) fn next_generation(&mut self, protocol: Option<Arc<str>>) {
        self.generation = self.generation_after();
        self.protocol = protocol;
        self.pending_syncs.clear();
        self.find_subscribed_topics();
    }

    /// Makes sure that the leader is one of those who joined. Answers whether there is one.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &Arc<str>| {
            self.members
                .get(id)
                .is_some_and(|member| member.awaiting_join.is_some())
        };
        if !self.leader.as_ref().is_some_and(has_joined) {
            let Some(next) = self.members.keys().find(|id| has_joined(id)) else {
                return false;
            };
            self.leader = Some(Arc::clone(next));
        }
        true
    }

    /// Takes the tickets of all syncs that wait.
    pub(super) fn take_syncs(&mut self) -> Vec<(Arc<str>, Ticket)> {
        let members = self.members.iter_mut();
        members
            .filter_map(|(id, member)| Some((Arc::clone(id), member.awaiting_sync.take()?)))
            .collect()
    }

    fn count(&mut self, member: &ClassicMember) {
        self.awaiting_join_count += usize::from(member.awaiting_join.is_some());
        for name in member.protocols.names() {
            *self.protocol_counts.entry(Arc::clone(name)).or_default() += 1;
        }
    }

    fn discount(&mut self, member: &ClassicMember) {
        self.awaiting_join_count -= usize::from(member.awaiting_join.is_some());
        for name in member.protocols.names() {
            if let Some(count) = self.protocol_counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.protocol_counts.remove(name);
                }
            }
        }
    }

    /// All members as their leader is told of them.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter();
        members
            .map(|(id, member)| JoinedMember {
                member_id: Arc::clone(id),
                instance_id: member.instance_id.clone(),
                metadata: member.protocols.metadata(protocol).cloned().unwrap_or_default(),
            })
            .collect()
    }

    /// The current generation, as one of its members is told of it.
    pub(super) fn joined(&self, member_id: &Arc<str>) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: Arc::clone(member_id),
            members: Vec::new(),
        }
    }

    /// The group as a record describes it, stable or empty from now on.
    pub(super) fn value(
        &self,
        now: TimestampMs,
        assignments: &BTreeMap<Arc<str>, Bytes>,
    ) -> ClassicGroupValue {
        let members = self.members.iter().map(|(id, member)| {
            let mut value = member.value(id, self.protocol.as_deref());
            value.assignment = assignments.get(id).cloned().unwrap_or_default();
            value
        });
        ClassicGroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: now.get(),
            members: members.collect(),
        }
    }

    /// Looks anew which topics the members subscribed to.
    pub(super) fn find_subscribed_topics(&mut self) {
        self.subscribed_topics = self.read_subscribed_topics();
    }

    fn read_subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.protocols.metadata(self.protocol.as_deref()?)?;
            add_topics(metadata, &mut topics)?;
        }
        Some(topics)
    }
}

/// What offsets and administration ask of every group.
impl ClassicGroup {
    /// Kafka's name for its state.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// "consumer", "connect", …; empty for a group that only commits.
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// Whether it has no members; ids that were given out do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state == ClassicState::Empty
    }

    /// Whether this commit may be made. Commits without a generation are for groups without members.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_commit(&self, committer: &Committer<'_>) -> Result<(), GroupError> {
        let Committer {
            member_id,
            instance_id,
            generation_or_epoch: generation,
            kind,
        } = *committer;
        if generation < 0 && self.state == ClassicState::Empty {
            return Ok(());
        }
        let is_transactional = kind == CommitKind::Transactional;
        if 0 <= generation || !member_id.is_empty() || instance_id.is_some() {
            self.validate_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(GroupError::IllegalGeneration);
            }
        } else if !is_transactional && self.state != ClassicState::Empty {
            return Err(GroupError::UnknownMemberId(member_id.to_owned()));
        }
        if !is_transactional && self.state == ClassicState::CompletingRebalance {
            // The member knows of the generation, so it is not at fault: it has what is its own as soon as it syncs.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether offsets may be deleted.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_delete(&self) -> Result<(), GroupError> {
        if self.is_empty() || self.protocol_type() == CONSUMER {
            Ok(())
        } else {
            Err(GroupError::NonEmptyGroup)
        }
    }

    /// Whether the group may be deleted.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_delete(&self) -> Result<(), GroupError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(GroupError::NonEmptyGroup)
        }
    }

    /// Whether members read the topic, as far as is known: if it is not, they may.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type() == CONSUMER,
        }
    }

    /// The time from which a commit's retention counts; `None` while it may not expire.
    #[must_use]
    pub fn expiration_base_ms(&self, commit_timestamp_ms: i64) -> Option<i64> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(commit_timestamp_ms),
            (Some(_), ClassicState::Empty) => {
                Some(self.state_since.map_or(commit_timestamp_ms, TimestampMs::get))
            }
            (Some(_), ClassicState::Stable) if self.subscribed_topics.is_some() => Some(commit_timestamp_ms),
            _ => None,
        }
    }

    /// The records that end the group.
    pub fn delete_records(&self, group: &Arc<str>, records: &mut Vec<GroupRecord>) {
        records.push(GroupRecord::ClassicGroup {
            group: Arc::clone(group),
            value: None,
        });
    }
}

/// The protocol that most members like best, among those that all of them speak; of two that equally many like, the one that the
/// first member likes better. `None` without members.
pub(in crate::coordinator::group) fn select_protocol<'a>(
    members: impl Iterator<Item = &'a Protocols> + Clone,
) -> Option<Arc<str>> {
    let mut spoken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut member_count = 0;
    for protocols in members.clone() {
        member_count += 1;
        for name in protocols.names() {
            *spoken.entry(name).or_default() += 1;
        }
    }
    spoken.retain(|_, count| *count == member_count);
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for protocols in members.clone() {
        if let Some(name) = protocols.names().find(|name| spoken.contains_key(&***name)) {
            *votes.entry(name).or_default() += 1;
        }
    }
    let most = votes.values().max()?;
    let mut candidates = members.take(1).flat_map(Protocols::names);
    candidates.find(|name| votes.get(&***name) == Some(most)).cloned()
}
