//! Random schedules of a classic group: clients join, sync, commit, leave and die, answers get lost, time jumps, writes are
//! refused, the broker crashes with more or less of its log on the disk.
//!
//! What holds after every step:
//! 1. in one generation, a partition has one owner;
//! 2. only a member of the group is given an assignment, and only an owner's commit is taken;
//! 3. everyone who waits is told once ([`World`] counts);
//! 4. the log makes the state that is there;
//! 5. generations that somebody synced, and commits that were acknowledged, are there after a crash, and do not go back.
//!
//! And in the end, when nothing is disturbed any longer, the group settles: those who live have all partitions, nobody waits.

mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::{Client, GROUP, PARTITIONS, Phase, SESSION_MS};

use crate::coordinator::group::classic::group::{ClassicGroup, ClassicState};
use crate::coordinator::group::classic::leave::LeavingMember;
use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::schedules;
use crate::coordinator::group::testing::world::{Told, World};

const TOPIC: &str = "t";

/// A question that was not answered yet: whose it is, and as whom he asked.
struct Question {
    client: usize,
    member: Arc<str>,
    name: Arc<str>,
    generation: i32,
}

struct Model {
    world: World,
    dice: fastrand::Rng,
    clients: Vec<Client>,
    open: BTreeMap<Ticket, Question>,
    /// Who was given a partition in a generation.
    owners: BTreeMap<(i32, u8), Arc<str>>,
    /// The last generation of which somebody has an assignment.
    synced_generation: i32,
    live_generation: i32,
    /// By partition: what a client knows to be committed.
    acknowledged: BTreeMap<u8, i64>,
    next_offset: i64,
    /// All answers so far are out, so that those to come are of the command that is carried out.
    is_prompt: bool,
}

#[test]
fn whatever_happens_a_partition_has_one_owner_and_the_group_settles() {
    schedules::play(5_000, |seed| Model::new(seed).play());
}

fn classic(shard: &GroupShard) -> Option<&ClassicGroup> {
    match shard.groups.get(GROUP)? {
        Group::Classic(group) => Some(group),
        Group::Consumer(_) => panic!("nobody speaks the other protocol"),
    }
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        world.topics.set(TOPIC, i32::from(PARTITIONS));
        world.sync_at_once = dice.bool();
        if dice.u8(..4) == 0 {
            world.settings.initial_rebalance_delay = std::time::Duration::from_secs(3);
        }
        if dice.u8(..6) == 0 {
            world.settings.size_max = dice.usize(1..4);
        }
        let count = dice.usize(1..6);
        let clients = (0..count).map(|number| Client {
            instance_id: (dice.u8(..3) == 0).then(|| format!("static{number}").into()),
            id: "".into(),
            generation: -1,
            phase: Phase::Out,
            protocols: match dice.u8(..2) {
                0 => vec!["sticky", "range"],
                _ => vec!["range", "sticky"],
            },
            rebalance_timeout_ms: dice.i32(4_000..30_000),
            version: if dice.bool() { 9 } else { dice.i16(0..9) },
            owned: Vec::new(),
        });
        let clients = clients.collect();
        Self {
            world,
            dice,
            clients,
            open: BTreeMap::new(),
            owners: BTreeMap::new(),
            synced_generation: 0,
            live_generation: 0,
            acknowledged: BTreeMap::new(),
            next_offset: 0,
            is_prompt: false,
        }
    }

    fn play(mut self) {
        for _ in 0..self.dice.usize(10..80) {
            self.is_prompt = self.world.sync_at_once && self.world.is_synced();
            self.disturb_or_go_on();
            self.look();
        }
        self.settle();
    }

    fn disturb_or_go_on(&mut self) {
        let at = self.dice.usize(..self.clients.len());
        match self.dice.u8(..40) {
            0..20 => self.go_on(at),
            20..24 => self.world.advance(self.dice.i64(0..4_000)),
            24 => self.world.advance(self.dice.i64(0..60_000)),
            25 | 26 => self.send_join(at),
            27 => {
                let id = &self.clients[at].id;
                // A leader that does not know what it leads would assign nothing, and be right.
                if !classic(&self.world.shard).is_some_and(|group| group.is_leader(id)) {
                    let stale = if self.dice.bool() { 1 } else { -1 };
                    self.clients[at].generation -= stale;
                    self.send_sync(at, BTreeMap::new());
                    self.clients[at].generation += stale;
                }
            }
            28 => {
                // A commit that was long on its way.
                self.clients[at].generation -= 1;
                self.commit(at);
                self.clients[at].generation += 1;
            }
            29 => self.leave(at),
            30 => self.clients[at].phase = Phase::Dead,
            31 | 32 => self.clients[at].restart(),
            33 => {
                // The answer is lost on its way; the client asks again.
                if matches!(self.clients[at].phase, Phase::Joining(_) | Phase::Syncing(_)) {
                    self.clients[at].phase = Phase::Out;
                }
            }
            34 => self.world.sync(),
            35 => self.world.sync_at_once = !self.world.sync_at_once,
            36 | 37 => self.world.refuse_writes = self.dice.u8(..3) == 0,
            // It likes another one better now.
            38 => self.clients[at].protocols.reverse(),
            _ => self.crash(),
        }
    }

    /// A client does what comes next for it.
    fn go_on(&mut self, at: usize) {
        match self.clients[at].phase.clone() {
            Phase::Out => self.send_join(at),
            Phase::Joined(assignments) => self.send_sync(at, assignments),
            Phase::Active if self.dice.bool() => self.commit(at),
            // Clients beat on while they wait.
            Phase::Active | Phase::Joining(_) | Phase::Syncing(_) => self.heartbeat(at),
            Phase::Dead => {}
        }
    }

    fn ask(&mut self, at: usize, ticket: Ticket) {
        let client = &self.clients[at];
        let question = Question {
            client: at,
            member: Arc::clone(&client.id),
            name: client.name(),
            generation: client.generation,
        };
        self.open.insert(ticket, question);
    }

    fn send_join(&mut self, at: usize) {
        if self.clients[at].phase == Phase::Dead {
            return;
        }
        let request = self.clients[at].join_request();
        let ticket = self
            .world
            .run_parked(|shard, context, ticket| shard.join_group(context, &request, ticket));
        self.ask(at, ticket);
        self.clients[at].phase = Phase::Joining(ticket);
    }

    fn send_sync(&mut self, at: usize, assignments: BTreeMap<Arc<str>, bytes::Bytes>) {
        if self.clients[at].phase == Phase::Dead {
            return;
        }
        let request = self.clients[at].sync_request(assignments);
        let ticket = self
            .world
            .run_parked(|shard, context, ticket| shard.sync_group(context, &request, ticket));
        self.ask(at, ticket);
        self.clients[at].phase = Phase::Syncing(ticket);
    }

    fn heartbeat(&mut self, at: usize) {
        let request = self.clients[at].heartbeat_request();
        let answer = self
            .world
            .run(|shard, context| shard.heartbeat(context, &request))
            .unwrap();
        if let (Err(error), Phase::Active) = (answer, &self.clients[at].phase) {
            self.clients[at].stumble(&error);
        }
    }

    fn leave(&mut self, at: usize) {
        let client = &self.clients[at];
        let by_admin = client.instance_id.is_some() && self.dice.bool();
        let leaving = LeavingMember {
            member_id: if by_admin {
                "".into()
            } else {
                Arc::clone(&client.id)
            },
            instance_id: client.instance_id.clone(),
            reason: String::new(),
        };
        // The answer is of no interest to who leaves.
        drop(
            self.world
                .run(|shard, context| shard.leave_group(context, GROUP, &[leaving])),
        );
        if !by_admin && self.clients[at].phase != Phase::Dead {
            self.clients[at].restart();
        }
    }

    /// Commits a partition that the client believes to own.
    fn commit(&mut self, at: usize) {
        let client = self.clients[at].clone();
        let Some(partition) = self.dice.choice(&client.owned).copied() else {
            return;
        };
        self.next_offset += 1;
        let offset = self.next_offset;
        let request = CommitRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&client.id),
            instance_id: client.instance_id.clone(),
            generation_or_epoch: client.generation,
            request_version: 8,
            retention_ms: None,
            topics: vec![CommitTopic {
                topic: TopicRef::Name(TOPIC.into()),
                partitions: vec![CommitPartition {
                    partition: i32::from(partition),
                    offset,
                    leader_epoch: -1,
                    metadata: None,
                }],
            }],
        };
        let answer = self
            .world
            .run(|shard, context| shard.commit_offsets(context, &request));
        match answer
            .map(|mut rows| rows.remove(0).remove(0))
            .and_then(|row| row)
        {
            Ok(()) => {
                let owner = self.owners.get(&(client.generation, partition));
                assert_eq!(
                    owner,
                    Some(&client.name()),
                    "a commit of somebody else's partition"
                );
                let generation = classic(&self.world.shard).map(ClassicGroup::generation);
                assert_eq!(
                    generation,
                    Some(client.generation),
                    "a commit of another generation"
                );
                if self.world.is_synced() {
                    self.acknowledged.insert(partition, offset);
                }
            }
            Err(error) => self.clients[at].stumble(&error),
        }
    }

    fn crash(&mut self) {
        self.look();
        let kept = self.dice.usize(..4);
        self.world.crash(kept);
        let generation = classic(&self.world.shard).map_or(0, ClassicGroup::generation);
        assert!(
            self.synced_generation <= generation,
            "a generation that was in use is gone"
        );
        self.live_generation = generation;
    }

    /// Hands out the answers that are there, and looks whether everything holds.
    fn look(&mut self) {
        let open: Vec<Ticket> = self.open.keys().copied().collect();
        for ticket in open {
            if let Some(told) = self.world.take(ticket) {
                let question = self.open.remove(&ticket).unwrap();
                self.check_answer(&question, &told);
                let client = &mut self.clients[question.client];
                if client.phase == Phase::Joining(ticket) || client.phase == Phase::Syncing(ticket) {
                    client.hear(told);
                }
            }
        }
        self.check_state();
    }

    fn check_answer(&mut self, question: &Question, told: &Told) {
        let Told::Reply(Reply::Sync(Ok(synced))) = told else {
            return;
        };
        self.synced_generation = self.synced_generation.max(question.generation);
        for partition in &synced.assignment {
            let key = (question.generation, *partition);
            let owner = self
                .owners
                .entry(key)
                .or_insert_with(|| Arc::clone(&question.name));
            assert_eq!(
                *owner, question.name,
                "partition {partition} of generation {} has two owners",
                question.generation
            );
        }
        if self.is_prompt {
            // It was answered by the last command, after which it is a member; unless time passed since.
            let group = classic(&self.world.shard).expect("a group that assigns is there");
            let may_be_gone =
                group.state() != ClassicState::Stable || group.generation() != question.generation;
            assert!(
                may_be_gone || group.members.contains_key(&question.member),
                "an assignment for a stranger"
            );
        }
    }

    fn check_state(&mut self) {
        for (partition, offset) in &self.acknowledged {
            let stored = self.world.shard.offsets.get(GROUP, TOPIC, i32::from(*partition));
            assert!(
                stored.is_some_and(|stored| *offset <= stored.offset),
                "a commit went back"
            );
        }
        let Some(group) = classic(&self.world.shard) else {
            // It went with its last member, and nobody ever read anything.
            assert_eq!(self.synced_generation, 0, "a group is gone");
            self.live_generation = 0;
            return;
        };
        assert!(
            self.live_generation <= group.generation(),
            "the generation went back"
        );
        self.live_generation = group.generation();
        let is_settled =
            matches!(group.state(), ClassicState::Stable | ClassicState::Empty) && group.is_recorded;
        if is_settled {
            let replayed = self.world.replayed();
            let written = classic(&replayed).expect("it was recorded");
            assert_eq!(described(group), described(written));
            let live: Vec<_> = self.world.shard.offsets.live_records().collect();
            assert_eq!(live, replayed.offsets.live_records().collect::<Vec<_>>());
        }
    }

    /// Nothing is disturbed any longer. Who lives goes on with its part; after some time all is well.
    fn settle(&mut self) {
        self.world.sync_at_once = true;
        self.world.refuse_writes = false;
        self.world.settings.size_max = usize::MAX;
        self.world.sync();
        self.look();
        let ids: BTreeSet<_> = self.clients.iter().map(Client::name).collect();
        assert!(ids.len() <= self.clients.len());
        // The longest anything takes: a join that nobody waits for any longer, then a rebalance and its sync.
        for _ in 0..200 {
            if self.is_well() {
                return;
            }
            for at in (0..self.clients.len()).cycle().take(4 * self.clients.len()) {
                match self.clients[at].phase {
                    Phase::Active => self.heartbeat(at),
                    _ => self.go_on(at),
                }
                self.look();
            }
            self.world.advance(i64::from(SESSION_MS) / 2);
            self.look();
        }
        panic!(
            "the group does not settle: {:?} {:?}",
            self.clients,
            classic(&self.world.shard)
        );
    }

    fn is_well(&self) -> bool {
        let living: Vec<&Client> = self
            .clients
            .iter()
            .filter(|client| client.phase != Phase::Dead)
            .collect();
        if living.iter().any(|client| client.phase != Phase::Active) {
            return false;
        }
        let Some(group) = classic(&self.world.shard) else {
            return living.is_empty();
        };
        let mut owned: Vec<u8> = living
            .iter()
            .flat_map(|client| client.owned.iter().copied())
            .collect();
        owned.sort_unstable();
        let is_current = living
            .iter()
            .all(|client| client.generation == group.generation());
        let has_all = living.is_empty() || owned.iter().copied().eq(0..PARTITIONS);
        let state = if living.is_empty() {
            ClassicState::Empty
        } else {
            ClassicState::Stable
        };
        group.state() == state && is_current && has_all && self.world.waiting_count() == 0
    }
}

/// What records say of a group.
fn described(group: &ClassicGroup) -> (i32, ClassicState, String) {
    let members: Vec<_> = group
        .members()
        .map(|(id, member)| member.value(id, group.protocol().map(|name| &**name)))
        .collect();
    let rest = (
        &group.protocol_type,
        &group.protocol,
        &group.leader,
        group.state_since,
        members,
    );
    (group.generation(), group.state(), format!("{rest:?}"))
}
