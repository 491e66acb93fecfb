//! What is known of a group from outside: what clients were told, until when members may live, what is committed.
//! The checks of the model stand here.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::{ProducerId, TopicId};
use log_core::record::control::TransactionOutcome;

use super::client::{Client, GROUP, Places};
use crate::coordinator::group::consumer::member::LEAVE_STATIC_EPOCH;
use crate::coordinator::group::context::Topics;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::MemberState;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::world::World;

/// What was done last, and may thus have changed what else must stay as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// A member's request; it may have made one go (itself, or the one whose place it takes).
    Request {
        goes: Option<Arc<str>>,
    },
    Commit {
        topic: Arc<str>,
        partition: i32,
        offset: i64,
    },
    /// A transaction commits an offset, or another one in its place.
    Pend {
        producer: ProducerId,
        topic: Arc<str>,
        partition: i32,
    },
    /// A transaction ends.
    Decide {
        producer: ProducerId,
        outcome: TransactionOutcome,
    },
    DeleteOffsets,
    DeleteGroup,
    DeleteTopic,
    Time,
    Crash,
    Nothing,
}

/// A group between two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glance {
    is_modern: bool,
    epoch: i32,
    is_empty: bool,
    /// A classic group that no record speaks of goes with its last member.
    is_recorded: bool,
}

fn glance(shard: &GroupShard) -> Option<Glance> {
    let group = shard.groups.get(GROUP)?;
    let (is_modern, epoch, is_recorded) = match group {
        Group::Classic(group) => (false, group.generation(), group.has_recorded()),
        Group::Consumer(group) => (true, group.epochs().0, true),
    };
    Some(Glance {
        is_modern,
        epoch,
        is_empty: group.is_empty(),
        is_recorded,
    })
}

/// Until when a KIP-848 member may be silent.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// Before, it must not be removed,
    earliest: SteadyMs,
    /// and from then on it must be gone.
    latest: SteadyMs,
    /// It has had to give something up since, at least.
    revoking_since: Option<SteadyMs>,
    rebalance_timeout_ms: i64,
}

/// How long a KIP-848 member that is heard of now may be silent.
fn session_ms(world: &World) -> i64 {
    let own = world.topics.group_overrides(GROUP).consumer_session_timeout_ms;
    own.unwrap_or(world.settings.consumer_session_timeout_ms).into()
}

/// A committed offset, and of which topic.
type Committed = (i64, TopicId);
/// For what it is committed.
type Place = (Arc<str>, i32);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Where the log ended when the group began anew, each time.
    lives: Vec<usize>,
    before: Option<Glance>,
    /// The last epoch that was answered, and durable.
    answered_epoch: i32,
    /// By life, epoch and partition: who was told that it is his.
    owners: BTreeMap<(usize, i32, TopicId, i32), Arc<str>>,
    sessions: BTreeMap<Arc<str>, Session>,
    stored: BTreeMap<Place, (Committed, i64)>,
    /// What transactions have yet to decide on.
    pending: BTreeMap<(ProducerId, Place), Committed>,
    /// What a client knows to be committed.
    acknowledged: BTreeMap<Place, Committed>,
    /// So many commands were refused by the log.
    refusals: u64,
}

impl Ledger {
    /// Which of the groups of this name it is.
    pub(super) fn life(&self) -> usize {
        self.lives.len()
    }

    /// A member was told that it may read these.
    pub(super) fn told(&mut self, life: usize, epoch: i32, places: &Places, name: &Arc<str>) {
        for (topic_id, partition) in places {
            let key = (life, epoch, *topic_id, *partition);
            let owner = self.owners.entry(key).or_insert_with(|| Arc::clone(name));
            assert_eq!(
                owner, name,
                "{partition} of {topic_id} has two owners in epoch {epoch}"
            );
        }
    }

    /// A durable epoch was answered.
    pub(super) fn answered(&mut self, life: usize, epoch: i32) {
        if life == self.life() {
            self.answered_epoch = self.answered_epoch.max(epoch);
        }
    }

    /// A commit was answered.
    pub(super) fn acknowledged(&mut self, topic: &Arc<str>, partition: i32, committed: Committed) {
        let key = (Arc::clone(topic), partition);
        // It may be gone again, if it was deleted before it was answered.
        let is_there = self
            .stored
            .get(&key)
            .is_some_and(|((offset, _), _)| committed.0 <= *offset);
        let is_newer = self
            .acknowledged
            .get(&key)
            .is_none_or(|(offset, _)| *offset < committed.0);
        if is_there && is_newer {
            self.acknowledged.insert(key, committed);
        }
    }

    /// A KIP-848 member was heard of; it may be that the command was refused by the log.
    pub(super) fn heard(&mut self, world: &World, id: &Arc<str>, accepted: bool, rebalance_timeout_ms: i32) {
        let ends = world.steady.saturating_plus(session_ms(world));
        let session = self.sessions.entry(Arc::clone(id)).or_insert(Session {
            earliest: SteadyMs::default(),
            latest: ends,
            revoking_since: None,
            rebalance_timeout_ms: i64::from(rebalance_timeout_ms),
        });
        session.rebalance_timeout_ms = session.rebalance_timeout_ms.min(i64::from(rebalance_timeout_ms));
        session.latest = if accepted { ends } else { session.latest.max(ends) };
        if accepted {
            session.earliest = ends;
        }
    }

    /// Looks whether everything holds after a command, or some of them.
    pub(super) fn look<'a>(
        &mut self,
        world: &mut World,
        cause: &Cause,
        clients: impl Iterator<Item = &'a Client> + Clone,
    ) {
        self.look_at_life(world, cause);
        self.look_at_offsets(world, cause);
        if let Some(Group::Consumer(group)) = world.shard.groups.get(GROUP) {
            group.assert_sound();
        }
        self.look_at_sessions(world, cause);
        check_readers(&world.shard, clients);
        if let Some(difference) = world.difference() {
            panic!("the log does not make what is there: {difference}");
        }
    }

    /// Epochs do not go back, unless the group is another.
    fn look_at_life(&mut self, world: &World, cause: &Cause) {
        if *cause == Cause::Crash {
            self.lives.retain(|at| *at <= world.end());
        }
        let now = glance(&world.shard);
        let is_another = match (self.before, now) {
            (None, Some(_)) => true,
            (Some(before), Some(now)) => before.is_modern != now.is_modern && before.is_empty,
            (Some(before), None) => {
                let may_go =
                    before.is_empty || !before.is_recorded || matches!(cause, Cause::Time | Cause::Crash);
                assert!(may_go, "a group with members is gone");
                true
            }
            (None, None) => false,
        };
        if *cause == Cause::Crash {
            assert!(
                self.answered_epoch <= now.map_or(0, |now| now.epoch),
                "epoch {} was answered, and after a crash it is {now:?}",
                self.answered_epoch
            );
        } else if is_another {
            self.lives.push(world.end());
            self.answered_epoch = 0;
        } else if let (Some(before), Some(now)) = (self.before, now) {
            assert!(
                before.epoch <= now.epoch,
                "the epoch went back: {before:?} {now:?}"
            );
        }
        self.before = now;
    }

    /// Commits change when somebody commits or deletes, and expire when they may.
    fn look_at_offsets(&mut self, world: &World, cause: &Cause) {
        let offsets = world.shard.offsets.of_group(GROUP);
        let now: BTreeMap<_, _> = offsets
            .map(|(topic, partition, view)| {
                let committed = (view.offset, view.topic_id);
                (
                    (Arc::clone(topic), partition),
                    (committed, view.commit_timestamp_ms),
                )
            })
            .collect();
        let has_members = glance(&world.shard).is_some_and(|now| !now.is_empty);
        let has_topic = |topic: &str, id| world.topics.by_name(topic).is_some_and(|facts| facts.id == id);
        let is_pending = |key: &Place| self.pending.keys().any(|(_, place)| place == key);
        // Offsets grow from one commit to the next, so that the larger is the one whose record stands last.
        let decided = |key: &Place| match cause {
            Cause::Decide {
                producer,
                outcome: TransactionOutcome::Commit,
            } => self.pending.get(&(*producer, key.clone())),
            _ => None,
        };
        for (key, (committed, at)) in &self.stored {
            if now.get(key).is_some_and(|(now, _)| now == committed) {
                continue;
            }
            let (topic, partition) = key;
            let may_change = match cause {
                Cause::Commit {
                    topic: of,
                    partition: at,
                    ..
                } => topic == of && partition == at,
                Cause::Decide { .. } => decided(key).is_some_and(|new| {
                    committed.0 < new.0 && now.get(key).is_some_and(|(now, _)| now == new)
                }),
                Cause::DeleteOffsets | Cause::DeleteGroup => !now.contains_key(key),
                Cause::DeleteTopic => !now.contains_key(key) && !has_topic(topic, committed.1),
                Cause::Time => {
                    let is_there = has_topic(topic, committed.1);
                    let is_old =
                        world.clock_was_set() || world.settings.offsets_retention_ms <= world.now.get() - at;
                    let may_expire = is_old && !has_members && !is_pending(key);
                    !now.contains_key(key) && (!is_there || may_expire)
                }
                Cause::Crash => true,
                Cause::Request { .. } | Cause::Pend { .. } | Cause::Nothing => false,
            };
            assert!(
                may_change,
                "{cause:?} changed the commit of {key:?}: {committed:?} {:?}",
                now.get(key)
            );
            if !now.contains_key(key) && *cause != Cause::Crash {
                self.acknowledged.remove(key);
            }
        }
        if *cause != Cause::Crash {
            for (key, (new, _)) in now.iter().filter(|(key, _)| !self.stored.contains_key(*key)) {
                let is_new = decided(key) == Some(new)
                    || matches!(cause, Cause::Commit { topic, partition, .. } if (topic, *partition) == (&key.0, key.1));
                assert!(is_new, "{cause:?} made a commit of {key:?}");
            }
            for (_, key) in self.pending.keys() {
                if let Some(decided) = decided(key) {
                    let stored = now.get(key).map(|(stored, _)| stored.0);
                    assert!(
                        stored.is_some_and(|stored| decided.0 <= stored),
                        "{decided:?} of {key:?} is lost"
                    );
                }
            }
        }
        self.look_at_pending(world, cause);
        for (key, (offset, _)) in &self.acknowledged {
            let stored = now.get(key).map(|((offset, _), _)| *offset);
            assert!(
                stored.is_some_and(|stored| *offset <= stored),
                "{offset} of {key:?} was answered, and now it is {stored:?}"
            );
        }
        if let Cause::Commit {
            topic,
            partition,
            offset,
        } = cause
        {
            let stored = now
                .get(&(Arc::clone(topic), *partition))
                .map(|((offset, _), _)| *offset);
            assert_eq!(stored, Some(*offset), "what was committed is not there");
        }
        self.stored = now;
    }

    /// Pending commits come by transactions, and stay until these end, or what they belong to goes.
    fn look_at_pending(&mut self, world: &World, cause: &Cause) {
        let rows = world.shard.pending.in_order().into_iter();
        let now: BTreeMap<_, _> = rows
            .map(|(producer, (_, topic, partition), value, _)| {
                ((producer, (topic, partition)), (value.offset, value.topic_id))
            })
            .collect();
        let before = std::mem::replace(&mut self.pending, now);
        if *cause == Cause::Crash {
            return;
        }
        let is_put = |(by, (of, at)): &(ProducerId, Place)| matches!(cause, Cause::Pend { producer, topic, partition } if (producer, topic, partition) == (by, of, at));
        for (key, committed) in &self.pending {
            assert!(
                before.get(key) == Some(committed) || is_put(key),
                "{cause:?} made {committed:?} of {key:?} pending"
            );
        }
        for (key, committed) in before.iter().filter(|(key, _)| !self.pending.contains_key(*key)) {
            let (by, (topic, _)) = key;
            let may_go = match cause {
                Cause::Decide { producer, .. } => producer == by,
                Cause::DeleteOffsets | Cause::DeleteGroup => true,
                // Offsets of deleted topics may be found later.
                Cause::DeleteTopic | Cause::Time => world
                    .topics
                    .by_name(topic)
                    .is_none_or(|facts| facts.id != committed.1),
                _ => false,
            };
            assert!(may_go, "{cause:?} made {committed:?} of {key:?} go");
        }
        if let Cause::Decide { producer, .. } = cause {
            assert!(
                self.pending.keys().all(|(by, _)| by != producer),
                "something of {producer:?} is pending still"
            );
        }
    }

    /// Members are gone when their time is up, and not before.
    fn look_at_sessions(&mut self, world: &World, cause: &Cause) {
        let none = BTreeMap::new();
        let members = match world.shard.groups.get(GROUP) {
            Some(Group::Consumer(group)) => group.all_members(),
            _ => &none,
        };
        let now = world.steady;
        if self.refusals < world.refusals {
            // Those who were to go may have another session, and it may be a shorter one than they had.
            self.refusals = world.refusals;
            let another = now.saturating_plus(session_ms(world));
            for session in self.sessions.values_mut() {
                session.earliest = session.earliest.min(another);
                session.latest = session.latest.max(now.saturating_plus(60_000));
            }
        }
        if *cause == Cause::Crash {
            self.begin_sessions(world);
        }
        self.sessions.retain(|id, session| {
            let member = members.get(id).filter(|member| !member.is_classic());
            let Some(member) = member else {
                let is_over = session.earliest <= now
                    || session
                        .revoking_since
                        .is_some_and(|since| since.saturating_plus(session.rebalance_timeout_ms) <= now);
                let may_go = match cause {
                    Cause::Crash => true,
                    Cause::Time => is_over,
                    Cause::Request { goes } => {
                        goes.as_ref() == Some(id) || session.earliest == SteadyMs::default()
                    }
                    _ => false,
                };
                assert!(
                    may_go,
                    "{cause:?} removed {id}, whose time was not up: {session:?} at {now:?}"
                );
                return false;
            };
            let is_away = member.current.epoch == LEAVE_STATIC_EPOCH;
            if member.current.state == MemberState::UnrevokedPartitions && !is_away {
                session.revoking_since.get_or_insert(now);
            } else {
                session.revoking_since = None;
            }
            assert!(
                now < session.latest,
                "{id} is a member still: {session:?} at {now:?}"
            );
            true
        });
        for (id, member) in members {
            assert!(
                member.is_classic() || self.sessions.contains_key(id),
                "{id} is a member, and was never heard of"
            );
        }
    }

    /// After a restart, everybody has all the time there is.
    fn begin_sessions(&mut self, world: &World) {
        let Some(Group::Consumer(group)) = world.shard.groups.get(GROUP) else {
            return;
        };
        for (id, member) in group.all_members() {
            if !member.is_classic() {
                self.heard(world, id, true, member.description.rebalance_timeout_ms);
                if let Some(session) = self.sessions.get_mut(id) {
                    session.revoking_since = None;
                }
            }
        }
    }
}

/// Nobody reads what another member reads.
pub(super) fn check_readers<'a>(shard: &GroupShard, clients: impl Iterator<Item = &'a Client>) {
    let mut readers: BTreeMap<(TopicId, i32), &Arc<str>> = BTreeMap::new();
    for client in clients.filter(|client| is_member(shard, client)) {
        for place in &client.reads {
            let other = readers.insert(*place, &client.id);
            assert_eq!(other, None, "{place:?} is read by {} too", client.id);
        }
    }
}

/// Whether a client is one of the group's, as far as the group knows. In a classic group that is a question of the generation, too: a static
/// member that is late stays a member, and others may be given what it has.
pub(super) fn is_member(shard: &GroupShard, client: &Client) -> bool {
    match shard.groups.get(GROUP) {
        Some(Group::Consumer(group)) => group.all_members().contains_key(&client.id) && !client.is_behind,
        Some(Group::Classic(group)) => group.has_member(&client.id) && group.generation() == client.epoch,
        None => false,
    }
}
