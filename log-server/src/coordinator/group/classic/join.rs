//! A member joins: with an id of its own or without one, for the first time or again.
//!
//! Who is answered at once, and who waits for the others:
//!
//! | state | a new member | the leader again | a follower again |
//! |---|---|---|---|
//! | Empty | begins a rebalance | | |
//! | `PreparingRebalance` | waits | waits | waits |
//! | `CompletingRebalance` | begins a rebalance | unchanged: the generation | unchanged: the generation |
//! | Stable | begins a rebalance | begins a rebalance | unchanged: the generation |
//!
//! A member that comes with other protocols than before begins a rebalance, and a static member that comes without its id
//! takes the place of the one before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::classic::group::{ClassicState, Replacement, select_protocol};
use crate::coordinator::group::classic::member::{ClassicMember, Protocols};
use crate::coordinator::group::classic::rebalance::Work;
use crate::coordinator::group::classic::reply::{JoinRefused, Reply};
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{Group, check_length};
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::record::codec::NAME_BYTES_MAX;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::TimerKind;

/// So many ids of a shard's groups may be out whose owners have not joined: more than honest groups have at a time, for an id is redeemed at once, and
/// few enough to be remembered. A limit for each group would be none, for an id can begin a group. Kafka has no such limit, and counts them
/// in none of its others. When there is one too many, the oldest expires: with it whoever asks for ids and leaves them loses its own first.
const PENDING_JOINS_MAX: usize = 10_000;

/// A member's wish to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The group.
    pub group: Arc<str>,
    /// The id that the member was given; empty if it has none yet.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it comes from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// After how long without a heartbeat it is gone.
    pub session_timeout_ms: i32,
    /// How long a rebalance may wait for it.
    pub rebalance_timeout_ms: i32,
    /// "consumer", "connect", …
    pub protocol_type: Arc<str>,
    /// What it speaks.
    pub protocols: Protocols,
    /// Why, in the client's words, for the log.
    pub reason: String,
    /// A new member is given an id first and has to come again with it (KIP-394), so that one that never hears its answer
    /// leaves nobody behind.
    pub id_required: bool,
    /// The member understands that it leads without having to assign (KIP-814).
    pub may_skip_assignment: bool,
}

impl GroupShard {
    /// A member joins. It is answered through the context, now or later.
    pub fn join_group(&mut self, context: &mut Context<'_>, request: &JoinRequest, ticket: Ticket) {
        if let Err(error) = self.admit_to_group(context, request) {
            let member_id = Arc::clone(&request.member_id);
            let refused = Reply::Join(Err(JoinRefused { error, member_id }));
            context.replies.push((ticket, refused));
            return;
        }
        if let Some(Group::Consumer(_)) = self.groups.get(&request.group) {
            return self.join_consumer_group(context, request, ticket);
        }
        let name = Arc::clone(&request.group);
        if let Some(mut work) = self.classic_work(&name, context) {
            work.join(request, ticket);
        }
        self.forget_if_unused(&name);
    }

    /// What is checked before the group is looked at. A group that does not exist begins with a member without an id.
    fn admit_to_group(&mut self, context: &mut Context<'_>, request: &JoinRequest) -> Result<(), GroupError> {
        if request.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        request.check_lengths()?;
        let (min, max) = (
            context.settings.session_timeout_min_ms,
            context.settings.session_timeout_max_ms,
        );
        if request.session_timeout_ms < min || max < request.session_timeout_ms {
            return Err(GroupError::InvalidSessionTimeout { min, max });
        }
        if matches!(self.groups.get(&request.group), Some(Group::Consumer(group)) if group.is_empty()) {
            // It ends for a member that can begin a group, and for nobody else: its offsets are to stay with a group.
            if !request.member_id.is_empty() {
                return Err(GroupError::UnknownMemberId(request.member_id.as_ref().to_owned()));
            }
            if request.protocol_type.is_empty() || request.protocols.is_empty() {
                return Err(GroupError::InconsistentGroupProtocol);
            }
            self.end_empty_consumer_group(context, &request.group);
        }
        match self.groups.get(&request.group) {
            Some(Group::Classic(_) | Group::Consumer(_)) => Ok(()),
            None if request.member_id.is_empty() => {
                self.begin_classic_group(&request.group);
                Ok(())
            }
            None => Err(GroupError::UnknownMemberId(request.member_id.as_ref().to_owned())),
        }
    }
}

impl JoinRequest {
    /// Refuses what no record could hold: the group would never be stable again.
    fn check_lengths(&self) -> Result<(), GroupError> {
        check_length("the group id", &self.group)?;
        check_length("the member id", &self.member_id)?;
        check_length("the instance id", self.instance_id.as_deref().unwrap_or_default())?;
        check_length("the client id", &self.client_id)?;
        check_length("the protocol type", &self.protocol_type)?;
        let mut names = self.protocols.names();
        names.try_for_each(|name| check_length("a protocol's name", name))
    }

    /// An id for a member that has none: it begins with the name that the member has for itself, as far as there is room.
    fn new_member_id(&self, random: [u8; 16]) -> Arc<str> {
        let begin = self.instance_id.as_ref().unwrap_or(&self.client_id);
        let uuid = uuid(random);
        let room = NAME_BYTES_MAX - uuid.len() - 1;
        let end = (0..=room.min(begin.len())).rfind(|end| begin.is_char_boundary(*end));
        let begin = end.and_then(|end| begin.get(..end)).unwrap_or_default();
        format!("{begin}-{uuid}").into()
    }

    /// The member as it describes itself.
    fn member(&self, ticket: Option<Ticket>) -> ClassicMember {
        ClassicMember {
            instance_id: self.instance_id.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: ticket,
            awaiting_sync: None,
            is_new: true,
        }
    }
}

impl Work<'_, '_> {
    fn join(&mut self, request: &JoinRequest, ticket: Ticket) {
        if !self.has_room_for(&request.member_id) {
            self.remove_member(&request.member_id);
            let most = self.context.settings.size_max;
            self.refuse_join(ticket, "", GroupError::GroupMaxSizeReached(most));
            self.complete_join_if_ready();
        } else if !self.group.supports(&request.protocol_type, &request.protocols) {
            self.refuse_join(ticket, &request.member_id, GroupError::InconsistentGroupProtocol);
        } else if request.member_id.is_empty() {
            self.join_without_id(request, ticket);
        } else if self.group.pending_joins.contains(&request.member_id) && request.instance_id.is_none() {
            self.cancel_timer(&request.member_id, TimerKind::ClassicPendingJoin);
            self.add_member(&request.member_id, request, ticket);
        } else {
            self.join_again(request, ticket);
        }
    }

    /// While members rejoin, those that already wait count: the last ones to come find no room.
    fn has_room_for(&self, member_id: &str) -> bool {
        let most = self.context.settings.size_max;
        let member = self.group.members.get(member_id);
        match self.group.state {
            ClassicState::Empty => true,
            ClassicState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.group.awaiting_join_count() < most
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                member.is_some() || self.group.members.len() < most
            }
        }
    }

    fn join_without_id(&mut self, request: &JoinRequest, ticket: Ticket) {
        let id = request.new_member_id((self.context.random_id)());
        let before = request.instance_id.as_ref();
        match before.and_then(|instance_id| self.group.static_members.get(instance_id).cloned()) {
            Some(old_id) => self.replace_static_member(&old_id, id, request, ticket),
            None if request.id_required && request.instance_id.is_none() => {
                if PENDING_JOINS_MAX <= self.timers.pending_joins() {
                    self.timers.end_oldest_pending_join(self.context.steady);
                }
                self.group.pending_joins.insert(Arc::clone(&id));
                self.set_timer(
                    &id,
                    TimerKind::ClassicPendingJoin,
                    i64::from(request.session_timeout_ms),
                );
                self.refuse_join(ticket, &id, GroupError::MemberIdRequired);
            }
            None => self.add_member(&id, request, ticket),
        }
    }

    fn add_member(&mut self, id: &Arc<str>, request: &JoinRequest, ticket: Ticket) {
        if let Some(delay) = &mut self.group.initial_delay {
            delay.member_added = true;
        }
        self.group.add(
            Arc::clone(id),
            &request.protocol_type,
            request.member(Some(ticket)),
        );
        self.begin_first_wait(id);
        self.rebalance(&format!("a member joined: {}", request.reason));
    }

    /// A member that has an id, and does not come to redeem it.
    fn join_again(&mut self, request: &JoinRequest, ticket: Ticket) {
        let id = &request.member_id;
        if let Err(error) = self.group.validate_member(id, request.instance_id.as_deref()) {
            return self.refuse_join(ticket, id, error);
        }
        let member = self.group.members.get(id);
        let is_unchanged = member.is_some_and(|member| member.protocols == request.protocols);
        let is_leader = self.group.is_leader(id);
        match self.group.state {
            // It did not get its answer.
            ClassicState::CompletingRebalance if is_unchanged => {
                let mut joined = self.group.joined(id);
                if is_leader {
                    joined.members = self.group.joined_members();
                }
                self.answer(ticket, Reply::Join(Ok(joined)));
            }
            // A leader that joins again wants a rebalance, for reasons that its metadata need not show.
            ClassicState::Stable if is_unchanged && !is_leader => {
                let joined = self.group.joined(id);
                self.answer(ticket, Reply::Join(Ok(joined)));
            }
            _ => {
                self.update_member(id, request, ticket);
                self.rebalance(&format!("a member joined again: {}", request.reason));
            }
        }
    }

    /// A member waits for the next generation, as it describes itself now.
    fn update_member(&mut self, id: &Arc<str>, request: &JoinRequest, ticket: Ticket) {
        let before = self.group.update(id, |member| {
            member.protocols = request.protocols.clone();
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
            member.session_timeout_ms = request.session_timeout_ms;
            member.awaiting_join.replace(ticket)
        });
        if let Some(older) = before.flatten() {
            // The client gave that answer up, or it would not ask again.
            self.refuse_join(older, id, GroupError::RebalanceInProgress);
        }
    }

    /// A static member came back without its id, after a restart: it takes the place of the one before it, which is fenced. In a stable group it
    /// goes on with what that one had.
    fn replace_static_member(
        &mut self,
        old_id: &Arc<str>,
        new_id: Arc<str>,
        request: &JoinRequest,
        ticket: Ticket,
    ) {
        let Some(old) = self.group.members.get(old_id) else {
            return self.refuse_join(
                ticket,
                "",
                GroupError::UnknownMemberId(old_id.as_ref().to_owned()),
            );
        };
        let mut member = ClassicMember {
            assignment: old.assignment.clone(),
            client_id: Arc::clone(&old.client_id),
            client_host: Arc::clone(&old.client_host),
            is_new: false,
            ..request.member(Some(ticket))
        };
        if self.group.state == ClassicState::Stable {
            let others = self.group.members.iter().filter(|(id, _)| *id != old_id);
            let all = std::iter::once(&member.protocols).chain(others.map(|(_, other)| &other.protocols));
            if select_protocol(all) == self.group.protocol {
                member.awaiting_join = None;
                let replacement = Replacement {
                    old_id: Arc::clone(old_id),
                    new_id,
                    member,
                };
                return self.record_replacement(replacement, request, ticket);
            }
        }
        let was_leader = self.group.is_leader(old_id);
        self.fence(old_id);
        self.group
            .add(Arc::clone(&new_id), &request.protocol_type, member);
        if was_leader {
            self.group.leader = Some(Arc::clone(&new_id));
        }
        self.begin_session(&new_id);
        self.rebalance(&format!("a static member joined: {}", request.reason));
    }

    /// Takes a static member out whose place is taken.
    fn fence(&mut self, id: &Arc<str>) {
        self.cancel_timer(id, TimerKind::ClassicSession);
        let member = self.group.remove(id);
        if let Some(ticket) = member.as_ref().and_then(|member| member.awaiting_join) {
            self.refuse_join(ticket, id, GroupError::FencedInstanceId);
        }
        if let Some(ticket) = member.as_ref().and_then(|member| member.awaiting_sync) {
            self.answer(ticket, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
    }

    /// The new id is written down first, or a restart would bring the old one back. The generation stays.
    fn record_replacement(&mut self, replacement: Replacement, request: &JoinRequest, ticket: Ticket) {
        let Replacement {
            old_id,
            new_id,
            member,
        } = &replacement;
        let is_leader = self.group.is_leader(old_id);
        let mut value = self.group.value(self.context.now, &self.assignments());
        value.members.retain(|described| described.member_id != *old_id);
        value
            .members
            .push(member.value(new_id, self.group.protocol.as_deref()));
        value.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
        let mut joined = self.group.joined(new_id);
        if is_leader {
            value.leader = Some(Arc::clone(new_id));
            if request.may_skip_assignment {
                joined.leader = Arc::clone(new_id);
                joined.skip_assignment = true;
                joined.members = self.group.joined_members();
                for described in &mut joined.members {
                    if described.member_id == *old_id {
                        described.member_id = Arc::clone(new_id);
                        let protocol = self.group.protocol.as_deref().unwrap_or_default();
                        described.metadata = member.protocols.metadata(protocol).cloned().unwrap_or_default();
                    }
                }
            }
            // An older client is told the old id, so that it takes itself for a follower and assigns nothing.
        }
        self.cancel_timer(old_id, TimerKind::ClassicSession);
        self.set_timer(
            new_id,
            TimerKind::ClassicSession,
            i64::from(member.session_timeout_ms),
        );
        self.context.records.push(GroupRecord::ClassicGroup {
            group: Arc::clone(&self.name),
            value: Some(value),
        });
        self.group.replacement = Some(replacement);
        self.answer(ticket, Reply::Join(Ok(joined)));
    }

    /// What every member has.
    fn assignments(&self) -> BTreeMap<Arc<str>, Bytes> {
        let members = self.group.members.iter();
        members
            .map(|(id, member)| (Arc::clone(id), member.assignment.clone()))
            .collect()
    }
}

/// Random bits as a version 4 UUID, in the usual spelling.
fn uuid(mut bits: [u8; 16]) -> String {
    bits[6] = bits[6] & 0x0f | 0x40;
    bits[8] = bits[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bits));
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}
