//! Random schedules of one group that speaks both protocols, or the classic one alone: clients of KIP-848 and classic ones (eager or cooperative)
//! join, read, commit, also in transactions, change their minds, leave and die; static members come back; the group goes from one protocol to the
//! other and back; answers get lost, time passes or is set, topics come, grow and go, settings change, writes are refused, syncs come late or
//! fail, the log is tidied up, and the broker crashes with more or less of what was not synced.
//!
//! What holds after every step ([`Ledger`], and [`World`] for the third and the fourth):
//! 1. a partition has one owner per epoch among what members were told, and nobody who is a member reads what another member reads;
//! 2. nobody who is not a member is given an assignment, commits or fetches, and nobody commits what another member reads; a KIP-848 member is
//!    gone when its time is up, and not before;
//! 3. every parked ticket is answered once;
//! 4. the log makes the state that is there; a tidied log makes the same as the whole one, also in the midst of the tidying;
//! 5. commits change by commits and deletions alone, and expire when they may; those that were answered do not get lost or go back; those of a
//!    transaction count from its end on, if it is committed;
//! 6. epochs do not go back; those that were answered are there after a crash.
//!
//! And in the end, when nothing is disturbed any longer, the group settles within a bounded number of heartbeats: every partition of
//! a topic that somebody subscribed to is read by one of its subscribers, all have their targets, nobody waits, and it stays so for
//! longer than a classic member's session.
//!
//! `STRATALOG_SEED` replays a run; docs/TESTING.md says how to play many.

mod client;
mod commits;
mod ledger;
mod requests;
mod settling;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::TopicId;

use client::{Client, GROUP, Phase, Places, Speaks, places};
use ledger::{Cause, Ledger};

use crate::coordinator::group::consumer::heartbeat::HeartbeatResponse;
use crate::coordinator::group::context::{GroupOverrides, Ticket, Topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::offsets::commit::CommitRequest;
use crate::coordinator::group::settings::MigrationPolicy;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::schedules;
use crate::coordinator::group::testing::world::World;

const TOPICS: [&str; 4] = ["t", "u", "v1", "v2"];
const REGEXES: [&str; 3] = ["v.*", "t|u", "nothing"];
const CLIENTS_MAX: usize = 5;
/// No client has this number.
const NOBODY: u32 = 0;

/// An answer that waits for the disk.
struct Mail {
    /// The disk must have so much of the log.
    at: usize,
    /// Which of the groups of this name it is from, as soon as that is known.
    life: Option<usize>,
    client: u32,
    content: Content,
}

enum Content {
    Beat {
        epoch: i32,
        name: Arc<str>,
        /// Which of the client's heartbeats.
        asked: u64,
        answer: Result<HeartbeatResponse, GroupError>,
    },
    ClassicBeat {
        epoch: i32,
        answer: Result<(), GroupError>,
    },
    Committed {
        topic: Arc<str>,
        partition: i32,
        committed: (i64, TopicId),
    },
}

/// Somebody's join or sync that was not answered yet.
struct Question {
    client: u32,
    member: Arc<str>,
    name: Arc<str>,
    epoch: i32,
    /// What it is answered, as soon as that is known.
    said: Option<Said>,
}

/// What an answer meant when it was given.
struct Said {
    life: usize,
    /// Records say that this epoch is there.
    is_durable: bool,
    assigned: Places,
}

/// A commit on its way.
struct Late {
    client: u32,
    name: Arc<str>,
    request: CommitRequest,
}

struct Model {
    world: World,
    dice: fastrand::Rng,
    clients: BTreeMap<u32, Client>,
    born: u32,
    /// What clients speak.
    spoken: Vec<Speaks>,
    mail: Vec<Mail>,
    open: BTreeMap<Ticket, Question>,
    late: Vec<Late>,
    ledger: Ledger,
    /// The names of all topics that ever were.
    names: BTreeMap<TopicId, &'static str>,
    next_offset: i64,
    was_modern: bool,
    is_settling: bool,
    /// Somebody wants to know what goes on: `STRATALOG_TELL` is set.
    is_told: bool,
}

#[test]
fn whatever_happens_the_group_keeps_its_word_and_settles() {
    schedules::play(3_000, |seed| Model::new(seed).play());
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        world.sync_at_once = dice.bool();
        let settings = &mut world.settings;
        settings.consumer_migration_policy = match dice.u8(..10) {
            0 => MigrationPolicy::Disabled,
            1 => MigrationPolicy::Upgrade,
            2 => MigrationPolicy::Downgrade,
            _ => MigrationPolicy::Bidirectional,
        };
        if dice.u8(..4) == 0 {
            settings.consumer_assignment_interval_ms = dice.i32(1..10_000);
        }
        if dice.u8(..8) == 0 {
            settings.initial_rebalance_delay = std::time::Duration::from_secs(3);
        }
        if dice.u8(..8) == 0 {
            settings.size_max = dice.usize(1..4);
            settings.consumer_size_max = dice.usize(1..4);
        }
        if dice.u8(..3) == 0 {
            settings.offsets_retention_ms = 30_000;
            settings.offsets_retention_check_interval_ms = 10_000;
        }
        let classic = if dice.bool() {
            Speaks::Cooperative
        } else {
            Speaks::Eager
        };
        let spoken = if dice.u8(..4) == 0 {
            vec![classic]
        } else {
            vec![Speaks::Modern, classic]
        };
        let mut model = Self {
            world,
            dice,
            clients: BTreeMap::new(),
            born: 0,
            spoken,
            mail: Vec::new(),
            open: BTreeMap::new(),
            late: Vec::new(),
            ledger: Ledger::default(),
            names: BTreeMap::new(),
            next_offset: 0,
            was_modern: false,
            is_settling: false,
            is_told: std::env::var_os("STRATALOG_TELL").is_some(),
        };
        model.set_topic("t", 3);
        model.set_topic("v1", 2);
        model
    }

    fn play(mut self) {
        for _ in 0..2 {
            let cause = self.begin();
            self.look(&cause);
        }
        for _ in 0..self.dice.usize(10..70) {
            let cause = self.disturb_or_go_on();
            self.look(&cause);
        }
        self.settle();
    }

    /// Does one thing, and answers what it may have changed.
    fn disturb_or_go_on(&mut self) -> Cause {
        match self.dice.u8(..100) {
            0..7 => return self.begin(),
            7..10 => return self.leave(),
            10..12 => {
                if let Some(at) = self.pick() {
                    self.clients.remove(&at);
                }
            }
            12..16 => self.change_mind(),
            16..20 => return self.change_topics(),
            20..24 => return self.pass(4_000),
            24..27 => return self.pass(20_000),
            27 => return self.pass(70_000),
            28..31 => self.world.sync(),
            31 => self.world.sync_at_once = !self.world.sync_at_once,
            32..34 => self.world.refuse_writes = self.dice.u8(..3) == 0,
            34..37 => return self.crash(),
            37..39 => {
                if let Some(at) = self.pick() {
                    self.clients.get_mut(&at).unwrap().lose_answer();
                }
            }
            39..42 if !self.world.refuse_writes => self.world.tidy(self.dice.usize(1..12)),
            42 => self.change_overrides(),
            // Somebody sets the time of day; nobody's session is the longer or shorter for it.
            43 => {
                self.world.now = self
                    .world
                    .now
                    .saturating_plus(self.dice.i64(-3_600_000..3_600_000));
            }
            44 => return self.arrive_late(),
            45 => return self.delete_offsets(),
            46 => return self.delete_group(),
            47 => return self.remove_static(),
            48..50 => self.fetch(),
            50 => self.send_stray_sync(),
            51..56 => return self.pend(),
            56..59 => return self.decide(),
            _ => {
                if let Some(at) = self.pick() {
                    return self.go_on(at);
                }
            }
        }
        Cause::Nothing
    }

    fn pick(&mut self) -> Option<u32> {
        let count = self.clients.len();
        (count != 0).then(|| *self.clients.keys().nth(self.dice.usize(..count)).unwrap())
    }

    /// A client begins.
    fn begin(&mut self) -> Cause {
        if CLIENTS_MAX <= self.clients.len() {
            return Cause::Nothing;
        }
        self.born += 1;
        let speaks = self.spoken[self.dice.usize(..self.spoken.len())];
        let is_modern = speaks == Speaks::Modern;
        let mut protocols = vec!["sticky", "other"];
        self.dice.shuffle(&mut protocols);
        let client = Client {
            speaks,
            instance_id: (self.dice.u8(..4) == 0).then(|| format!("static{}", self.dice.u8(..2)).into()),
            id: if is_modern {
                format!("m{}", self.born).into()
            } else {
                "".into()
            },
            epoch: if is_modern { 0 } else { -1 },
            phase: if is_modern { Phase::Idle } else { Phase::Out },
            topics: TOPICS.into_iter().filter(|_| self.dice.bool()).collect(),
            regex: (is_modern && self.dice.u8(..4) == 0).then(|| REGEXES[self.dice.usize(..3)]),
            assignor: None,
            rebalance_timeout_ms: self.dice.i32(4_000..30_000),
            version: if self.dice.bool() { 9 } else { self.dice.i16(0..9) },
            protocols,
            reads: Places::new(),
            told: None,
            has_news: false,
            looks_again: false,
            says_all: true,
            says_owned: false,
            asked: 0,
            is_behind: false,
        };
        self.clients.insert(self.born, client);
        self.go_on(self.born)
    }

    fn change_mind(&mut self) {
        let Some(at) = self.pick() else { return };
        let topics = TOPICS.into_iter().filter(|_| self.dice.bool()).collect();
        let regex = (self.dice.u8(..3) == 0).then(|| REGEXES[self.dice.usize(..3)]);
        let assignor = [None, Some("uniform"), Some("range")][self.dice.usize(..3)];
        let likes_another = self.dice.bool();
        let client = self.clients.get_mut(&at).unwrap();
        client.topics = topics;
        client.has_news = true;
        if client.is_modern() {
            (client.regex, client.assignor) = (regex, assignor.or(client.assignor));
            return;
        }
        if likes_another {
            client.protocols.reverse();
        }
        if client.phase == Phase::Idle {
            client.phase = Phase::Out;
        }
    }

    fn set_topic(&mut self, name: &'static str, partition_count: i32) {
        self.world.topics.set(name, partition_count);
        for partition in 0..partition_count {
            // No records are there, so that commits may expire.
            self.world.topics.set_range(name, partition, 0, 0);
        }
        if let Some(facts) = self.world.topics.by_name(name) {
            self.names.insert(facts.id, name);
        }
    }

    fn change_topics(&mut self) -> Cause {
        let name = TOPICS[self.dice.usize(..TOPICS.len())];
        let more = self.dice.i32(1..4);
        let count = self.world.topics.by_name(name).map(|facts| facts.partition_count);
        match count {
            Some(_) if self.dice.bool() => {
                self.world.topics.set(name, 0);
                // If the log refuses it, the offsets are found later.
                drop(self.world.run(GroupShard::topics_deleted));
                if self.dice.bool() {
                    self.set_topic(name, more);
                }
                return Cause::DeleteTopic;
            }
            Some(count) => self.set_topic(name, (count + more).min(6)),
            None => self.set_topic(name, more),
        }
        Cause::Nothing
    }

    fn change_overrides(&mut self) {
        let interval = self.dice.i32(0..5_000);
        let overrides = GroupOverrides {
            consumer_session_timeout_ms: self.dice.bool().then(|| self.dice.i32(45_000..=60_000)),
            consumer_heartbeat_interval_ms: None,
            consumer_assignment_interval_ms: self.dice.bool().then_some(interval),
        };
        self.world.topics.set_overrides(overrides);
    }

    fn pass(&mut self, most_ms: i64) -> Cause {
        self.world.advance(self.dice.i64(0..most_ms));
        Cause::Time
    }

    /// The broker dies, or a sync fails: who waits learns that, and begins again with what it has.
    fn crash(&mut self) -> Cause {
        self.look(&Cause::Nothing);
        let kept = self.dice.usize(..4);
        self.world.crash(kept);
        let synced = self.world.synced();
        for mail in std::mem::take(&mut self.mail) {
            if mail.at <= synced && self.dice.bool() {
                self.mail.push(mail);
            }
        }
        for client in self.clients.values_mut() {
            if client.phase != Phase::Idle {
                client.lose_answer();
            }
        }
        Cause::Crash
    }

    /// Hands out the answers that are there, and looks whether everything holds.
    fn look(&mut self, cause: &Cause) {
        if self.is_told {
            println!("{} {cause:?}", self.world.now.get());
            for records in self.world.news() {
                println!("    {records:?}");
            }
        }
        self.note_protocol();
        self.ledger.look(&mut self.world, cause, self.clients.values());
        for mail in &mut self.mail {
            mail.life.get_or_insert(self.ledger.life());
        }
        self.understand(cause);
        self.deliver();
        ledger::check_readers(&self.world.shard, self.clients.values());
    }

    /// What a classic group gave to a static member may be somebody else's when that member is late, and what its leader took from a member may
    /// be somebody else's before that member has heard of it. When the group goes over to KIP-848, as in Kafka, such a member counts as one that
    /// is not there, until it has asked again.
    fn note_protocol(&mut self) {
        let was_modern = std::mem::replace(&mut self.was_modern, false);
        if let Some(Group::Consumer(group)) = self.world.shard.groups.get(GROUP) {
            self.was_modern = true;
            if was_modern {
                return;
            }
            for client in self.clients.values_mut().filter(|client| !client.is_modern()) {
                let member = group.all_members().get(&client.id);
                client.is_behind = member.is_some_and(|member| {
                    let given = places(&member.current.assigned.to_topics());
                    let has_to_hear = client.phase != Phase::Idle && !client.reads.is_subset(&given);
                    has_to_hear || member.current.previous_epoch != client.epoch
                });
            }
        }
    }
}
