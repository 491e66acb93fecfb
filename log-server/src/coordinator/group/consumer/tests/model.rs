//! Random schedules of one KIP-848 group: joins, heartbeats with lost answers, leaves, time, topics that come, grow and go,
//! patterns, refused writes, restarts. Members of the classic protocol and commits are not among them.
//!
//! After each step: a partition is read by one member at most, as the members themselves believe it; epochs do not go back; what the log
//! makes is what the broker has at each restart. In the end, when all send heartbeats, the group settles: everybody has its target, and
//! every partition somebody is subscribed to has an owner. `STRATALOG_SEED` replays a run, `STRATALOG_SCHEDULES` says how many.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::TopicId;

use super::support::Broker;
use crate::coordinator::group::consumer::heartbeat::HeartbeatRequest;
use crate::coordinator::group::context::Topics;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::{MemberState, TopicPartitions};

/// A client as the protocol wants it: it reads what it was told last, and says so.
#[derive(Debug, Default)]
struct Client {
    epoch: i32,
    reads: Vec<TopicPartitions>,
    topics: Vec<&'static str>,
    regex: Option<&'static str>,
    /// Its last answer was lost, or it has only just begun: it says everything.
    says_all: bool,
    instance: Option<String>,
}

struct Model {
    broker: Broker,
    random: fastrand::Rng,
    clients: BTreeMap<String, Client>,
    lives: u32,
}

const TOPICS: [&str; 4] = ["t", "u", "v1", "v2"];
const REGEXES: [&str; 3] = ["v.*", "t|u", "nothing"];

impl Model {
    fn new(seed: u64) -> Self {
        let mut broker = Broker::new(&[("t", 4), ("v1", 2)]);
        let mut random = fastrand::Rng::with_seed(seed);
        if random.u8(..4) == 0 {
            broker.settings.consumer_assignment_interval_ms = 1_000;
        }
        broker.checks_replay = false;
        Self {
            broker,
            random,
            clients: BTreeMap::new(),
            lives: 0,
        }
    }

    fn pick(&mut self) -> Option<String> {
        let count = self.clients.len();
        (count != 0).then(|| {
            self.clients
                .keys()
                .nth(self.random.usize(..count))
                .unwrap()
                .clone()
        })
    }

    fn step(&mut self) {
        match self.random.u8(..100) {
            0..10 => self.begin(),
            10..15 => self.end(),
            15..20 => self.vanish(),
            20..30 => self.change_subscription(),
            30..38 => self.change_topics(),
            38..44 => {
                let by = [1, 1_000, 10_000, 50_000][self.random.usize(..4)];
                self.broker.advance(by);
            }
            44..47 => self.broker.refuse_writes = !self.broker.refuse_writes,
            47..50 => self.broker.restart(),
            _ => {
                if let Some(id) = self.pick() {
                    let lost = self.random.u8(..8) == 0;
                    self.beat(&id, lost);
                }
            }
        }
        self.check();
    }

    fn begin(&mut self) {
        if 6 <= self.clients.len() {
            return;
        }
        self.lives += 1;
        let mut client = Client {
            says_all: true,

            ..Client::default()
        };
        client.topics = TOPICS.into_iter().filter(|_| self.random.bool()).collect();
        if self.random.u8(..4) == 0 {
            client.regex = Some(REGEXES[self.random.usize(..3)]);
        }
        if self.random.u8(..4) == 0 {
            client.instance = Some(format!("i{}", self.random.u8(..2)));
        }
        self.clients.insert(format!("m{}", self.lives), client);
    }

    fn request(&self, id: &str, epoch: i32) -> HeartbeatRequest {
        let client = &self.clients[id];
        let mut request = Broker::beating("g", id, epoch);
        request.instance_id = client.instance.as_deref().map(Arc::from);
        if client.says_all {
            request.rebalance_timeout_ms = Some(30_000);
            request.subscribed_topics = Some(client.topics.iter().map(|name| Arc::from(*name)).collect());
            request.subscribed_regex = Some(client.regex.unwrap_or_default().into());
        }
        request.owned = Some(client.reads.clone());
        request
    }

    fn beat(&mut self, id: &str, lost: bool) {
        let epoch = self.clients[id].epoch;
        let request = self.request(id, epoch);
        let refused = self.broker.refuse_writes;
        let answer = self.broker.try_send(&request);
        let client = self.clients.get_mut(id).unwrap();
        match answer {
            _ if lost => client.says_all = true,
            None => {
                assert!(refused);
                client.says_all = true;
            }
            Some(Ok(answer)) => {
                assert!(
                    epoch <= answer.member_epoch,
                    "{id}: {epoch} to {}",
                    answer.member_epoch
                );
                client.epoch = answer.member_epoch;
                if let Some(assignment) = answer.assignment {
                    client.reads = assignment;
                }
                client.says_all = false;
            }
            Some(Err(
                GroupError::FencedMemberEpoch(_)
                | GroupError::UnknownMemberId(_)
                | GroupError::GroupIdNotFound(_),
            )) => {
                client.epoch = 0;
                client.reads.clear();
                client.says_all = true;
            }
            Some(Err(GroupError::UnreleasedInstanceId(_) | GroupError::FencedStaticMember(_))) => {
                self.clients.remove(id);
            }
            Some(Err(other)) => panic!("{id}: {other}"),
        }
    }

    fn end(&mut self) {
        let Some(id) = self.pick() else { return };
        let is_static = self.clients[&id].instance.is_some();
        let for_now = is_static && self.random.bool();
        let request = self.request(&id, if for_now { -2 } else { -1 });
        drop(self.broker.try_send(&request));
        self.clients.remove(&id);
    }

    /// A client dies without a word; what it read, it reads no longer.
    fn vanish(&mut self) {
        if let Some(id) = self.pick() {
            self.clients.remove(&id);
        }
    }

    fn change_subscription(&mut self) {
        let Some(id) = self.pick() else { return };
        let topics = TOPICS.into_iter().filter(|_| self.random.bool()).collect();
        let regex = (self.random.u8(..3) == 0).then(|| REGEXES[self.random.usize(..3)]);
        let client = self.clients.get_mut(&id).unwrap();
        (client.topics, client.regex, client.says_all) = (topics, regex, true);
    }

    fn change_topics(&mut self) {
        let name = TOPICS[self.random.usize(..4)];
        match self.broker.topics.by_name(name) {
            Some(_) if self.random.bool() => self.broker.topics.remove(name),
            Some(topic) => self
                .broker
                .topics
                .set(name, topic.partition_count + self.random.i32(1..3)),
            None => self.broker.topics.set(name, self.random.i32(1..6)),
        }
    }

    /// Nobody reads what another reads, unless its session may have ended without its knowing.
    fn check(&self) {
        let Some(Group::Consumer(group)) = self.broker.shard.groups.get("g") else {
            return;
        };
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for (id, member) in &group.members {
            let current = &member.current;
            for (topic_id, partition, since) in current.assigned.iter().chain(current.revoking.iter()) {
                assert!(since <= group.epoch);
                let before = owners.insert((topic_id, partition), id);
                assert_eq!(before, None, "{partition} of {topic_id} is {id}'s too");
                assert_eq!(group.owners.get(&(topic_id, partition)), Some(id));
            }
            assert!(current.epoch <= group.epoch && group.target_epoch <= group.epoch);
        }
        assert_eq!(owners.len(), group.owners.len());
    }

    /// What members say they read is what the group knows they read.
    fn check_clients(&self) {
        let Group::Consumer(group) = &self.broker.shard.groups["g"] else {
            return;
        };
        for (id, client) in &self.clients {
            let member = &group.members[&**id];
            assert_eq!(member.current.assigned.to_topics(), client.reads, "{id}");
            assert_eq!(member.current.state, MemberState::Stable, "{id}");
            assert_eq!(
                *group.target(id),
                crate::coordinator::group::consumer::assignment::Assignment::from_topics(&client.reads)
            );
        }
    }

    /// Everybody sends heartbeats until nothing changes.
    fn settle(&mut self) {
        self.broker.refuse_writes = false;
        self.broker.restart();
        // Those that are gone without a word are found out.
        for _ in 0..30 {
            for id in self.clients.keys().cloned().collect::<Vec<_>>() {
                if self.clients.contains_key(&id) {
                    self.beat(&id, false);
                    self.check();
                }
            }
            self.broker.advance(5_000);
        }
        if self.clients.is_empty() {
            return;
        }
        assert_eq!(self.broker.state("g"), "Stable", "{:?}", self.clients);
        self.check_clients();
        let Group::Consumer(group) = &self.broker.shard.groups["g"] else {
            panic!()
        };
        let mut expected = 0;
        for name in TOPICS {
            if let Some(topic) = self
                .broker
                .topics
                .by_name(name)
                .filter(|_| group.is_subscribed_to(name))
            {
                expected += usize::try_from(topic.partition_count).unwrap();
            }
        }
        assert_eq!(group.owners.len(), expected);
    }
}

#[test]
fn random_schedules_keep_one_owner_and_settle() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let (seed, schedules) = match number("STRATALOG_SEED") {
        Some(seed) => (seed, 1),
        None => (fastrand::u64(..), number("STRATALOG_SCHEDULES").unwrap_or(60)),
    };
    for schedule in 0..schedules {
        let seed = seed.wrapping_add(schedule);
        println!("STRATALOG_SEED={seed}");
        let mut model = Model::new(seed);
        for _ in 0..60 {
            model.step();
        }
        model.settle();
    }
}
