//! What clients send, and how answers come back to them: when the disk has what they tell of.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::client::{Fate, GROUP, Phase, Places, by_topic, named_places, places};
use super::ledger::{Cause, is_member};
use super::{Content, Mail, Model, NOBODY, Question, Said};

use crate::coordinator::group::classic::heartbeat::HeartbeatRequest as ClassicHeartbeatRequest;
use crate::coordinator::group::classic::leave::LeavingMember;
use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::consumer::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::testing::world::Told;

impl Model {
    /// A client does what comes next for it.
    pub(super) fn go_on(&mut self, at: u32) -> Cause {
        if self.is_told {
            println!("{at} goes on: {:?}", self.clients[&at]);
        }
        let wants_to_commit = !self.is_settling && self.dice.u8(..3) == 0;
        let client = self.clients.get_mut(&at).unwrap();
        match client.phase.clone() {
            Phase::Idle if wants_to_commit && 0 < client.epoch => return self.commit(at),
            Phase::Idle if client.is_modern() => {
                if self.dice.bool() {
                    client.reconcile();
                }
                return self.beat(at);
            }
            Phase::Beating => return Cause::Nothing,
            Phase::Out => return self.join(at),
            Phase::Joined(assignments) => return self.sync(at, assignments),
            // Clients beat on while they wait.
            Phase::Idle | Phase::Joining(_) | Phase::Syncing(_) => self.classic_beat(at),
        }
        Cause::Request { goes: None }
    }

    /// The member that a static id belongs to now.
    fn holder(&self, instance_id: Option<&Arc<str>>) -> Option<Arc<str>> {
        let Some(Group::Consumer(group)) = self.world.shard.groups.get(GROUP) else {
            return None;
        };
        let instance_id = instance_id?;
        let mut members = group.all_members().iter();
        let holder = members.find(|(_, member)| member.description.instance_id.as_ref() == Some(instance_id));
        holder.map(|(id, _)| Arc::clone(id))
    }

    pub(super) fn post(&mut self, client: u32, content: Content) {
        let mail = Mail {
            at: self.world.end(),
            life: None,
            client,
            content,
        };
        self.mail.push(mail);
    }

    /// A heartbeat of KIP-848.
    fn beat(&mut self, at: u32) -> Cause {
        let client = self.clients.get_mut(&at).unwrap();
        let (epoch, name, timeout) = (client.epoch, client.name(), client.rebalance_timeout_ms);
        let request = client.beat(epoch);
        client.phase = Phase::Beating;
        client.asked += 1;
        let asked = client.asked;
        let id = Arc::clone(&client.id);
        let goes = self.holder(request.instance_id.as_ref()).filter(|_| epoch == 0);
        let may_beat = self.may_beat(&request);
        let answer = self
            .world
            .run(|shard, context| shard.consumer_heartbeat(context, &request));
        let was_refused = answer.is_err();
        let answer = answer.and_then(|answer| answer);
        if let Ok(answer) = &answer {
            assert!(may_beat, "{id} is not fenced in epoch {epoch}");
            self.check_told(&id, answer);
        }
        if answer.is_ok() || was_refused {
            self.ledger.heard(&self.world, &id, answer.is_ok(), timeout);
        }
        self.post(
            at,
            Content::Beat {
                epoch,
                name,
                asked,
                answer,
            },
        );
        Cause::Request { goes }
    }

    /// Whether a client is what it says it is: one that joins, a member in its epoch, or one that did not hear of its last epoch, and has
    /// nothing that is not its own.
    fn may_beat(&self, request: &HeartbeatRequest) -> bool {
        let Some(Group::Consumer(group)) = self.world.shard.groups.get(GROUP) else {
            return request.member_epoch == 0;
        };
        let current = group
            .all_members()
            .get(&request.member_id)
            .map(|member| &member.current);
        let is_at = |epoch: i32| current.is_some_and(|current| current.epoch == epoch);
        let was_at = |epoch: i32| {
            current.is_some_and(|current| {
                let assigned = places(&current.assigned.to_topics());
                let owned = request.owned.as_deref().map(places);
                current.previous_epoch == epoch && owned.is_some_and(|owned| owned.is_subset(&assigned))
            })
        };
        let epoch = request.member_epoch;
        epoch == 0 || is_at(epoch) || was_at(epoch)
    }

    /// Only a member is told that it may read something.
    fn check_told(&self, id: &Arc<str>, answer: &HeartbeatResponse) {
        let Some(Group::Consumer(group)) = self.world.shard.groups.get(GROUP) else {
            panic!("{id} is a member of no group");
        };
        let member = group.all_members().get(id).expect("only members are answered");
        assert_eq!(member.current.epoch, answer.member_epoch);
        if let Some(assignment) = &answer.assignment {
            assert_eq!(
                member.current.assigned.to_topics(),
                *assignment,
                "{id} is told what is not its own"
            );
        }
    }

    fn join(&mut self, at: u32) -> Cause {
        let is_member = self.has_member(&self.clients[&at].id);
        let client = self.clients.get_mut(&at).unwrap();
        // Its session has ended without its knowing. In a KIP-848 group it is a member again by joining, and learns by its sync what is its own.
        client.is_behind |= !is_member;
        let request = client.join_request(&self.names);
        let instance_id = client.instance_id.clone();
        let goes = self
            .holder(instance_id.as_ref())
            .filter(|_| request.member_id.is_empty());
        let ticket = self
            .world
            .run_parked(|shard, context, ticket| shard.join_group(context, &request, ticket));
        self.ask(at, ticket);
        self.clients.get_mut(&at).unwrap().phase = Phase::Joining(ticket);
        Cause::Request { goes }
    }

    fn sync(&mut self, at: u32, assignments: BTreeMap<Arc<str>, Bytes>) -> Cause {
        let client = &self.clients[&at];
        let request = client.sync_request(client.epoch, assignments);
        let ticket = self
            .world
            .run_parked(|shard, context, ticket| shard.sync_group(context, &request, ticket));
        self.ask(at, ticket);
        self.clients.get_mut(&at).unwrap().phase = Phase::Syncing(ticket);
        Cause::Request { goes: None }
    }

    fn ask(&mut self, at: u32, ticket: Ticket) {
        let client = &self.clients[&at];
        let question = Question {
            client: at,
            member: Arc::clone(&client.id),
            name: client.name(),
            epoch: client.epoch,
            said: None,
        };
        self.open.insert(ticket, question);
    }

    /// A sync of somebody who does not lead arrives, of another generation than its client is in by now. The client does not hear the answer.
    pub(super) fn send_stray_sync(&mut self) {
        let Some(at) = self.pick() else { return };
        let client = &self.clients[&at];
        // A leader that does not know what it leads would assign nothing, and be right.
        let leads = match self.world.shard.groups.get(GROUP) {
            Some(Group::Classic(group)) => group.is_leader(&client.id),
            Some(Group::Consumer(_)) | None => false,
        };
        if client.is_modern() || leads {
            return;
        }
        let epoch = client.epoch + if self.dice.bool() { 1 } else { -1 };
        let request = client.sync_request(epoch, BTreeMap::new());
        let question = Question {
            client: NOBODY,
            member: Arc::clone(&client.id),
            name: client.name(),
            epoch,
            said: None,
        };
        let ticket = self
            .world
            .run_parked(|shard, context, ticket| shard.sync_group(context, &request, ticket));
        self.open.insert(ticket, question);
    }

    fn classic_beat(&mut self, at: u32) {
        let client = &self.clients[&at];
        let request = ClassicHeartbeatRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&client.id),
            instance_id: client.instance_id.clone(),
            generation: client.epoch,
        };
        let answer = self
            .world
            .run(|shard, context| shard.heartbeat(context, &request));
        let answer = answer.and_then(|answer| answer);
        let epoch = request.generation;
        if answer.is_ok() {
            assert!(
                self.has_member(&request.member_id),
                "{} is no member",
                request.member_id
            );
        }
        self.post(at, Content::ClassicBeat { epoch, answer });
    }

    pub(super) fn has_member(&self, id: &Arc<str>) -> bool {
        match self.world.shard.groups.get(GROUP) {
            Some(Group::Consumer(group)) => group.all_members().contains_key(id),
            Some(Group::Classic(group)) => group.has_member(id),
            None => false,
        }
    }

    /// A client says that it goes, and is gone.
    pub(super) fn leave(&mut self) -> Cause {
        let Some(at) = self.pick() else {
            return Cause::Nothing;
        };
        let mut client = self.clients.remove(&at).unwrap();
        let goes = Some(Arc::clone(&client.id));
        if client.is_modern() {
            let for_now = client.instance_id.is_some() && self.dice.bool();
            let request = client.beat(if for_now { -2 } else { -1 });
            drop(
                self.world
                    .run(|shard, context| shard.consumer_heartbeat(context, &request)),
            );
        } else {
            self.send_leave(Arc::clone(&client.id), client.instance_id);
        }
        Cause::Request { goes }
    }

    fn send_leave(&mut self, member_id: Arc<str>, instance_id: Option<Arc<str>>) {
        let leaving = LeavingMember {
            member_id,
            instance_id,
            reason: String::new(),
        };
        drop(
            self.world
                .run(|shard, context| shard.leave_group(context, GROUP, &[leaving])),
        );
    }

    /// An administrator takes a static member out, whoever it is.
    pub(super) fn remove_static(&mut self) -> Cause {
        let instance_id: Arc<str> = format!("static{}", self.dice.u8(..2)).into();
        let goes = self.holder(Some(&instance_id));
        self.send_leave("".into(), Some(instance_id));
        Cause::Request { goes }
    }

    /// Sees what the last command said to those who wait, in the light of how things are now.
    pub(super) fn understand(&mut self, cause: &Cause) {
        let is_modern = matches!(self.world.shard.groups.get(GROUP), Some(Group::Consumer(_)));
        for (ticket, reply) in std::mem::take(&mut self.world.said) {
            let question = self.open.get(&ticket).expect("only who asked is answered");
            let (mut is_durable, mut assigned) = (is_modern, Places::new());
            match &reply {
                Reply::Sync(Ok(synced)) => {
                    is_durable = true;
                    assigned = named_places(&synced.assignment, &self.world.topics);
                    assert!(
                        *cause == Cause::Time || self.has_member(&question.member),
                        "{} is assigned {assigned:?}, and is no member",
                        question.member
                    );
                }
                Reply::Join(Ok(joined)) => assert!(
                    *cause == Cause::Time || self.has_member(&joined.member_id),
                    "{} joined, and is no member",
                    joined.member_id
                ),
                Reply::Sync(Err(_)) | Reply::Join(Err(_)) => is_durable = false,
            }
            let life = self.ledger.life();
            self.open.get_mut(&ticket).unwrap().said = Some(Said {
                life,
                is_durable,
                assigned,
            });
        }
    }

    /// Answers leave, as far as the disk has what they tell of. Some are lost on their way.
    pub(super) fn deliver(&mut self) {
        let synced = self.world.synced();
        let (ready, waiting) = std::mem::take(&mut self.mail)
            .into_iter()
            .partition(|mail: &Mail| mail.at <= synced);
        self.mail = waiting;
        for mail in ready {
            self.hand_out(mail);
        }
        let open: Vec<Ticket> = self.open.keys().copied().collect();
        for ticket in open {
            if let Some(told) = self.world.take(ticket) {
                let question = self.open.remove(&ticket).unwrap();
                self.answer(ticket, question, told);
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        !self.is_settling && self.dice.u8(..16) == 0
    }

    fn hand_out(&mut self, mail: Mail) {
        let is_lost = self.is_lost();
        let life = mail.life.expect("every command is looked at");
        let fate = match mail.content {
            Content::Beat {
                epoch,
                name,
                asked,
                answer,
            } => {
                if let Ok(answer) = &answer {
                    let told = places(answer.assignment.as_deref().unwrap_or_default());
                    self.ledger.told(life, answer.member_epoch, &told, &name);
                    self.ledger.answered(life, answer.member_epoch);
                }
                match self.clients.get(&mail.client) {
                    Some(client) if client.phase == Phase::Beating && client.asked == asked => {
                        self.hear_beat(mail.client, epoch, answer, is_lost)
                    }
                    // It began anew meanwhile.
                    _ => Fate::Lives,
                }
            }
            Content::ClassicBeat { epoch, answer } => {
                let Some(client) = self.clients.get_mut(&mail.client) else {
                    return;
                };
                match answer {
                    Err(error) if client.phase == Phase::Idle && client.epoch == epoch && !is_lost => {
                        client.hear_error(&error)
                    }
                    _ => Fate::Lives,
                }
            }
            Content::Committed {
                topic,
                partition,
                committed,
            } => {
                self.ledger.acknowledged(&topic, partition, committed);
                Fate::Lives
            }
        };
        if fate == Fate::Ends {
            self.clients.remove(&mail.client);
        }
    }

    fn hear_beat(
        &mut self,
        at: u32,
        epoch: i32,
        answer: Result<HeartbeatResponse, GroupError>,
        is_lost: bool,
    ) -> Fate {
        let settles = self.is_settling;
        let may_upgrade = self.may_upgrade();
        let is_double = self.has_double(at);
        let client = self.clients.get_mut(&at).unwrap();
        if is_lost {
            client.lose_answer();
            return Fate::Lives;
        }
        match answer {
            Ok(answer) => {
                assert!(
                    epoch <= answer.member_epoch,
                    "{} goes back from {epoch} to {}",
                    client.id,
                    answer.member_epoch
                );
                client.epoch = answer.member_epoch;
                client.phase = Phase::Idle;
                if let Some(assignment) = &answer.assignment {
                    client.told = Some(places(assignment));
                    // It holds on to nothing that is not in the answer when it says the next time what it has.
                    client.says_owned |= by_topic(&client.reads) != *assignment;
                }
                Fate::Lives
            }
            // The group cannot be one of its protocol.
            Err(GroupError::GroupIdNotFound(_)) if epoch == 0 && settles && !may_upgrade => Fate::Ends,
            // The other one lives, and the id stays with it.
            Err(GroupError::UnreleasedInstanceId(_)) if is_double && settles => Fate::Ends,
            Err(error) => client.hear_error(&error),
        }
    }

    /// Whether another client has the same static id.
    fn has_double(&self, at: u32) -> bool {
        let instance_id = self
            .clients
            .get(&at)
            .and_then(|client| client.instance_id.as_ref());
        let mut others = self.clients.iter().filter(|(other, _)| **other != at);
        instance_id.is_some() && others.any(|(_, other)| other.instance_id.as_ref() == instance_id)
    }

    fn answer(&mut self, ticket: Ticket, question: Question, told: Told) {
        let is_lost = self.is_lost();
        if let (Told::Reply(reply), Some(said)) = (&told, &question.said) {
            let epoch = match reply {
                Reply::Join(Ok(joined)) => joined.generation,
                _ => question.epoch,
            };
            self.ledger.told(said.life, epoch, &said.assigned, &question.name);
            if said.is_durable {
                self.ledger.answered(said.life, epoch);
            }
        }
        let Some(client) = self.clients.get_mut(&question.client) else {
            return;
        };
        if client.phase != Phase::Joining(ticket) && client.phase != Phase::Syncing(ticket) {
            return;
        }
        if is_lost {
            return client.lose_answer();
        }
        let fate = match told {
            Told::Reply(Reply::Join(Ok(joined))) => {
                client.hear_joined(&joined, &self.world.topics);
                Fate::Lives
            }
            Told::Reply(Reply::Sync(Ok(_))) => {
                client.hear_synced(question.said.map(|said| said.assigned).unwrap_or_default());
                Fate::Lives
            }
            Told::Reply(Reply::Join(Err(refused))) if refused.error == GroupError::MemberIdRequired => {
                client.id = refused.member_id;
                client.phase = Phase::Out;
                Fate::Lives
            }
            Told::Reply(Reply::Join(Err(refused))) => client.hear_error(&refused.error),
            Told::Reply(Reply::Sync(Err(error))) | Told::Failed(error) => client.hear_error(&error),
        };
        if fate == Fate::Ends {
            self.clients.remove(&question.client);
        }
    }

    /// Whether a client is a member that knows what it is.
    pub(super) fn is_current(&self, at: u32) -> bool {
        is_member(&self.world.shard, &self.clients[&at])
    }
}
