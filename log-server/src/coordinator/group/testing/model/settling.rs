//! In the end nothing is disturbed any longer: who lives goes on with its part, and after some time all is well.

use std::collections::BTreeSet;

use super::client::{Client, GROUP, Phase, Places, SESSION_MS};
use super::ledger::Cause;
use super::{Model, TOPICS};

use crate::coordinator::group::context::Topics;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::MemberState;
use crate::coordinator::group::settings::MigrationPolicy;

/// So long is a round, in which each client says something several times: less than a third of a session.
const ROUND_MS: i64 = 1_900;
/// Who is gone without a word is gone for the others after this many rounds: a new classic member has five minutes.
const ROUNDS_MAX: usize = 250;
/// When all members are there that are to be there, and nobody else, so many rounds are enough.
const ROUNDS_TOGETHER_MAX: usize = 25;

impl Model {
    pub(super) fn may_upgrade(&self) -> bool {
        matches!(
            self.world.settings.consumer_migration_policy,
            MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade
        )
    }

    pub(super) fn settle(&mut self) {
        self.calm();
        let (mut together, mut well_since, mut epoch) = (0, None, 0);
        for _ in 0..ROUNDS_MAX {
            if self.is_well() {
                let now = self.world.steady;
                let well_ms = now.saturating_since(*well_since.get_or_insert(now));
                // A classic member that nobody hears of is gone by then.
                if i64::from(SESSION_MS) < well_ms {
                    return assert_eq!(self.world.waiting_count(), 0, "somebody waits for nothing");
                }
            } else {
                assert_eq!(well_since, None, "all was well, and nobody did anything");
                together = if self.is_together() && epoch == self.epoch() {
                    together + 1
                } else {
                    0
                };
                assert!(
                    together < ROUNDS_TOGETHER_MAX,
                    "the members do not converge: {}",
                    self.describe()
                );
            }
            epoch = self.epoch();
            self.round();
            assert!(
                well_since.is_none() || epoch == self.epoch() || self.clients.is_empty(),
                "another epoch, without a reason: {}",
                self.describe()
            );
        }
        panic!("the group does not settle: {}", self.describe());
    }

    fn calm(&mut self) {
        self.is_settling = true;
        self.late.clear();
        self.world.sync_at_once = true;
        self.world.refuse_writes = false;
        (
            self.world.settings.size_max,
            self.world.settings.consumer_size_max,
        ) = (usize::MAX, usize::MAX);
        self.world.sync();
        self.look(&Cause::Nothing);
        while !self.world.shard.pending.in_order().is_empty() {
            let cause = self.decide();
            self.look(&cause);
        }
        // Clients look at the topics from time to time; who leads a classic group joins again when they are not as they were.
        for client in self.clients.values_mut().filter(|client| !client.is_modern()) {
            if client.phase == Phase::Idle {
                client.phase = Phase::Out;
            } else {
                // What it is given next may be of topics as they were, or what a static id had.
                client.looks_again = true;
            }
        }
    }

    fn round(&mut self) {
        for _ in 0..4 {
            for at in self.clients.keys().copied().collect::<Vec<_>>() {
                if let Some(client) = self.clients.get_mut(&at) {
                    client.reconcile();
                    let cause = self.go_on(at);
                    self.look(&cause);
                }
            }
        }
        self.world.advance(ROUND_MS);
        self.look(&Cause::Time);
    }

    fn epoch(&self) -> i32 {
        match self.world.shard.groups.get(GROUP) {
            Some(Group::Consumer(group)) => group.epochs().0,
            Some(Group::Classic(group)) => group.generation(),
            None => 0,
        }
    }

    /// Whether the group has the members that live, and nobody else.
    fn is_together(&self) -> bool {
        if self.clients.values().any(|client| client.epoch <= 0) {
            return false;
        }
        let alive: BTreeSet<_> = self.clients.values().map(|client| client.id.clone()).collect();
        match self.world.shard.groups.get(GROUP) {
            Some(Group::Consumer(group)) => group.all_members().keys().eq(&alive),
            Some(Group::Classic(group)) => group.members().map(|(id, _)| id).eq(&alive),
            None => alive.is_empty(),
        }
    }

    /// Whether everybody has what it is to have, and every partition that is wanted is read.
    fn is_well(&self) -> bool {
        let is_quiet = |client: &Client| {
            let has_to_say = client.has_news || client.is_modern() && client.says_all;
            client.phase == Phase::Idle && client.told.is_none() && !has_to_say
        };
        if !self.is_together() || !self.clients.values().all(is_quiet) {
            return false;
        }
        let state = if self.clients.is_empty() {
            "Empty"
        } else {
            "Stable"
        };
        let is_settled = match self.world.shard.groups.get(GROUP) {
            Some(Group::Consumer(group)) => {
                let mut members = group.all_members().iter();
                group.state_name() == state
                    && members.all(|(id, member)| {
                        member.current.state == MemberState::Stable && group.has_its_target(id)
                    })
            }
            Some(Group::Classic(group)) => group.state_name() == state,
            None => self.clients.is_empty(),
        };
        let mut read = Places::new();
        for (at, client) in &self.clients {
            assert!(
                !is_settled || self.is_current(*at),
                "{} does not know its epoch",
                client.id
            );
            read.extend(
                client
                    .reads
                    .iter()
                    .filter(|(topic_id, _)| client.wants(self.names[topic_id])),
            );
        }
        is_settled
            && read == self.wanted()
            && self.clients.values().all(|client| client.reads.is_subset(&read))
    }

    /// All partitions of topics that somebody subscribed to.
    fn wanted(&self) -> Places {
        let mut wanted = Places::new();
        for name in TOPICS {
            let is_wanted = self.clients.values().any(|client| client.wants(name));
            if let Some(facts) = self.world.topics.by_name(name).filter(|_| is_wanted) {
                wanted.extend((0..facts.partition_count).map(|partition| (facts.id, partition)));
            }
        }
        wanted
    }

    fn describe(&self) -> String {
        format!("{:#?}\n{:#?}", self.clients, self.world.shard.groups.get(GROUP))
    }
}
