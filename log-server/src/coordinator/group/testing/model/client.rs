//! A client of either protocol: what it reads, what it believes, and what it makes of an answer.
//! It follows its protocol as far as the schedule lets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use log_core::model::TopicId;

use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::classic::reply::{Joined, JoinedMember};
use crate::coordinator::group::classic::sync::SyncRequest;
use crate::coordinator::group::consumer::heartbeat::HeartbeatRequest;
use crate::coordinator::group::consumer::tests::view;
use crate::coordinator::group::context::{Ticket, Topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::TopicPartitions;
use crate::coordinator::group::testing::world::FakeTopics;

pub(super) const GROUP: &str = "group";
/// Of classic members.
pub(super) const SESSION_MS: i32 = 6_000;

/// Partitions, wherever they come from.
pub(super) type Places = BTreeSet<(TopicId, i32)>;

/// By which protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Modern,
    /// It keeps what it reads while the group rebalances.
    Cooperative,
    Eager,
}

/// Where a client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// A classic client has to join.
    Out,
    Joining(Ticket),
    /// It has to sync; a leader has to say who gets what.
    Joined(BTreeMap<Arc<str>, Bytes>),
    Syncing(Ticket),
    /// It may say whatever it has to say.
    Idle,
    /// A heartbeat of a KIP-848 client is under way.
    Beating,
}

/// What becomes of a client that hears an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// It was told not to come back.
    Ends,
}

/// A client.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing of its own that it knows or does not"
)]
pub(super) struct Client {
    pub(super) speaks: Speaks,
    pub(super) instance_id: Option<Arc<str>>,
    /// Its member id; empty if a classic client has none.
    pub(super) id: Arc<str>,
    /// Its epoch or generation; 0 for a KIP-848 client that has to join.
    pub(super) epoch: i32,
    pub(super) phase: Phase,
    pub(super) topics: BTreeSet<&'static str>,
    pub(super) regex: Option<&'static str>,
    pub(super) assignor: Option<&'static str>,
    pub(super) rebalance_timeout_ms: i32,
    /// Of a classic client's requests.
    pub(super) version: i16,
    /// What a classic client speaks, as it likes it best.
    pub(super) protocols: Vec<&'static str>,
    /// What it reads.
    pub(super) reads: Places,
    /// What it was told to read, and is not there yet (KIP-848).
    pub(super) told: Option<Places>,
    /// It wants other topics, and has yet to say so.
    pub(super) has_news: bool,
    /// A classic client joins once more when it has its assignment, for topics may have changed while it was getting it.
    pub(super) looks_again: bool,
    /// It cannot know what arrived of what it said.
    pub(super) says_all: bool,
    /// It has given something up, or taken it on, and has yet to say so.
    pub(super) says_owned: bool,
    /// Of its last heartbeat.
    pub(super) asked: u64,
    /// What a classic client reads may be somebody else's by now: it was away, and has not got its new assignment yet.
    pub(super) is_behind: bool,
}

impl Client {
    pub(super) fn is_modern(&self) -> bool {
        self.speaks == Speaks::Modern
    }

    /// By whom a partition is owned: a static member is the same whatever its member id.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(self.instance_id.as_ref().unwrap_or(&self.id))
    }

    /// Whether it is subscribed to a topic.
    pub(super) fn wants(&self, name: &str) -> bool {
        let by_pattern = match self.regex {
            Some("v.*") => name.starts_with('v'),
            Some("t|u") => name == "t" || name == "u",
            _ => false,
        };
        by_pattern || self.topics.contains(name)
    }

    /// Gives up what it is to give up, and takes on what is its own.
    pub(super) fn reconcile(&mut self) {
        if let Some(told) = self.told.take() {
            self.reads = told;
            self.says_owned = true;
        }
    }

    /// A KIP-848 client's heartbeat.
    pub(super) fn beat(&mut self, epoch: i32) -> HeartbeatRequest {
        let says_all = std::mem::take(&mut self.says_all) | std::mem::take(&mut self.has_news);
        if says_all || self.says_owned {
            self.reconcile();
        }
        let says_owned = std::mem::take(&mut self.says_owned) || says_all;
        HeartbeatRequest {
            group_id: GROUP.into(),
            member_id: Arc::clone(&self.id),
            member_epoch: epoch,
            instance_id: self.instance_id.clone(),
            rack_id: None,
            rebalance_timeout_ms: says_all.then_some(self.rebalance_timeout_ms),
            subscribed_topics: says_all.then(|| self.topics.iter().map(|name| Arc::from(*name)).collect()),
            subscribed_regex: says_all.then(|| self.regex.unwrap_or_default().into()),
            server_assignor: self.assignor.map(Into::into),
            owned: says_owned.then(|| by_topic(&self.reads)),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            version: 1,
        }
    }

    /// A classic client's join. `names` knows the topics it reads.
    pub(super) fn join_request(&mut self, names: &BTreeMap<TopicId, &'static str>) -> JoinRequest {
        if self.speaks == Speaks::Eager {
            self.reads.clear();
        }
        self.has_news = false;
        let metadata = self.metadata(names);
        let offered = self
            .protocols
            .iter()
            .map(|name| ((*name).into(), metadata.clone()));
        JoinRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocol_type: "consumer".into(),
            protocols: Protocols::new(offered.collect()),
            reason: String::new(),
            id_required: 4 <= self.version,
            may_skip_assignment: 9 <= self.version,
        }
    }

    /// A classic client's sync.
    pub(super) fn sync_request(
        &self,
        generation: i32,
        assignments: BTreeMap<Arc<str>, Bytes>,
    ) -> SyncRequest {
        SyncRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            generation,
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments,
        }
    }

    /// A subscription as consumers write it.
    fn metadata(&self, names: &BTreeMap<TopicId, &'static str>) -> Bytes {
        let mut owned: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic_id, partition) in &self.reads {
            owned.entry(names[topic_id]).or_default().push(*partition);
        }
        let mut output = BytesMut::new();
        let put_name = |output: &mut BytesMut, name: &str| {
            output.put_i16(i16::try_from(name.len()).unwrap());
            output.put_slice(name.as_bytes());
        };
        let put_count = |output: &mut BytesMut, count: usize| output.put_i32(i32::try_from(count).unwrap());
        output.put_i16(3);
        put_count(&mut output, self.topics.len());
        for name in &self.topics {
            put_name(&mut output, name);
        }
        output.put_i32(-1);
        put_count(&mut output, owned.len());
        for (name, partitions) in &owned {
            put_name(&mut output, name);
            put_count(&mut output, partitions.len());
            for partition in partitions {
                output.put_i32(*partition);
            }
        }
        output.put_i32(self.epoch);
        output.put_i16(-1);
        output.freeze()
    }

    /// A classic client is in a generation.
    pub(super) fn hear_joined(&mut self, joined: &Joined, topics: &FakeTopics) {
        self.id = Arc::clone(&joined.member_id);
        self.epoch = joined.generation;
        let leads = !joined.members.is_empty() && !joined.skip_assignment;
        let assignments = if leads {
            lead(&joined.members, topics)
        } else {
            BTreeMap::new()
        };
        self.phase = Phase::Joined(assignments);
    }

    /// A classic client has its assignment. A cooperative one that gives something up joins again, so that others get it.
    pub(super) fn hear_synced(&mut self, assigned: Places) {
        let gives_up = self.speaks == Speaks::Cooperative && !self.reads.is_subset(&assigned);
        self.reads = assigned;
        self.is_behind = false;
        self.phase = if gives_up || self.has_news || std::mem::take(&mut self.looks_again) {
            Phase::Out
        } else {
            Phase::Idle
        };
    }

    /// A refusal of whatever it asked for.
    pub(super) fn hear_error(&mut self, error: &GroupError) -> Fate {
        match error {
            GroupError::FencedInstanceId | GroupError::FencedStaticMember(_) => return Fate::Ends,
            GroupError::FencedMemberEpoch(_)
            | GroupError::UnknownMemberId(_)
            | GroupError::GroupIdNotFound(_)
            | GroupError::GroupMaxSizeReached(_)
            | GroupError::UnreleasedInstanceId(_) => {
                self.forget();
                if !self.is_modern() {
                    self.id = "".into();
                }
            }
            GroupError::IllegalGeneration => self.forget(),
            GroupError::RebalanceInProgress => {
                if self.speaks == Speaks::Eager {
                    self.reads.clear();
                }
            }
            GroupError::NotAvailable(_) | GroupError::NotCoordinator => {}
            other => panic!("{self:?} is told {other}"),
        }
        self.says_all = true;
        self.phase = if self.is_modern() { Phase::Idle } else { Phase::Out };
        Fate::Lives
    }

    /// What it had is not its own any longer.
    fn forget(&mut self) {
        self.reads.clear();
        self.told = None;
        self.is_behind = false;
        self.epoch = if self.is_modern() { 0 } else { -1 };
    }

    /// Its connection is gone, and with it whatever it waited for.
    pub(super) fn lose_answer(&mut self) {
        self.says_all = true;
        if self.is_modern() {
            self.phase = Phase::Idle;
        } else if self.phase != Phase::Idle {
            self.phase = Phase::Out;
        }
    }
}

/// What a leader gives to whom: partitions in turn, but nothing that another member still reads.
fn lead(members: &[JoinedMember], topics: &FakeTopics) -> BTreeMap<Arc<str>, Bytes> {
    let mut subscribers: BTreeMap<Arc<str>, Vec<&Arc<str>>> = BTreeMap::new();
    let mut claims: BTreeMap<(Arc<str>, i32), BTreeSet<&Arc<str>>> = BTreeMap::new();
    for member in members {
        let (names, owned) = view::subscription(&member.metadata);
        for name in names {
            subscribers.entry(name).or_default().push(&member.member_id);
        }
        for (name, partitions) in owned {
            for partition in partitions {
                claims
                    .entry((Arc::clone(&name), partition))
                    .or_default()
                    .insert(&member.member_id);
            }
        }
    }
    let mut given: BTreeMap<&Arc<str>, view::Named> = BTreeMap::new();
    for (name, subscribers) in &subscribers {
        let count = topics.by_name(name).map_or(0, |facts| facts.partition_count);
        for (partition, taker) in (0..count).zip(subscribers.iter().cycle()) {
            let claimed = claims.get(&(Arc::clone(name), partition));
            if claimed.is_none_or(|claimed| claimed.iter().all(|by| by == taker)) {
                given
                    .entry(taker)
                    .or_default()
                    .push((Arc::clone(name), vec![partition]));
            }
        }
    }
    let members = members.iter().map(|member| &member.member_id);
    members
        .map(|id| (Arc::clone(id), view::write(given.get(id).unwrap_or(&Vec::new()))))
        .collect()
}

/// Partitions by topic, as KIP-848 clients tell them.
pub(super) fn by_topic(places: &Places) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic_id, partition) in places {
        topics.entry(*topic_id).or_default().push(*partition);
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions })
        .collect()
}

/// The partitions that an answer names.
pub(super) fn places(topics: &[TopicPartitions]) -> Places {
    let topics = topics.iter();
    topics
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| (topic.topic_id, *partition))
        })
        .collect()
}

/// The partitions of an assignment that still have a topic.
pub(super) fn named_places(assignment: &[u8], topics: &FakeTopics) -> Places {
    let named = view::assignment(assignment).into_iter();
    let found = named.filter_map(|(name, partitions)| Some((topics.by_name(&name)?.id, partitions)));
    found
        .flat_map(|(topic_id, partitions)| partitions.into_iter().map(move |partition| (topic_id, partition)))
        .collect()
}
