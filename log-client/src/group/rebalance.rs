//! Carrying out what the group decides: partitions are given up first, then taken on.
//!
//! | step | what happens |
//! |---|---|
//! | 1 | the partitions that go are held back; with `enable.auto.commit` their positions are committed |
//! | 2 | the listener is told, and what it wants committed is |
//! | 3 | they are dropped; the new ones are read, each from where the listener, the group or the settings say |
//! | 4 | the membership is told, and tells the group |
//!
//! The steps are remembered in the consumer, so that a caller who stops waiting finds them where they were.
//! A loss may come in between: then there is nothing to commit.
//!
//! The group waits for the first three steps, for `max.poll.interval.ms` from when the order was given, and then goes
//! on without this member. Commits are tried until then, for `default.api.timeout.ms` at most, and once in any case,
//! however late the caller polls. When they fail, the partitions are given up nevertheless: whoever gets them reads
//! again what was not committed. The log says why, and [`GroupConsumer::unsubscribe`] and `close` return it.

use std::collections::BTreeSet;

use log_core::model::TopicPartition;
use tokio::time::Instant;

use super::committer::Commit;
use super::consumer::GroupConsumer;
use super::link::{Command, Given, Order, Partitions};
use super::listener::Rebalance;
use crate::error::Result;

/// A change that is being carried out.
#[derive(Debug)]
pub(super) struct Rebalancing {
    /// The order it answers; none when the application leaves.
    serial: Option<u64>,
    /// What is read then; none when that is not known yet.
    target: Option<Partitions>,
    revoked: Vec<TopicPartition>,
    commit: Commit,
    /// Whether the listener knows, and `commit` is what it asked for.
    is_told: bool,
    deadline: Instant,
}

impl Rebalancing {
    /// Whether the partition is being given up.
    pub(super) fn revokes(&self, partition: &TopicPartition) -> bool {
        self.revoked.contains(partition)
    }
}

/// Waits for the commit that a change is waiting for.
pub(super) async fn step(rebalancing: &mut Option<Rebalancing>) -> Result<()> {
    match rebalancing {
        Some(rebalancing) => (&mut rebalancing.commit).await,
        None => std::future::pending().await,
    }
}

impl GroupConsumer {
    /// Begins to carry an order out.
    pub(super) fn obey(&mut self, given: Given) {
        self.begin(Some(given.serial), given.order, given.at);
    }

    /// Begins to give up everything, because the application wants it.
    pub(super) fn release(&mut self) {
        self.begin(None, Order::Release, Instant::now());
    }

    /// Begins a change that the group has waited for since `since`.
    fn begin(&mut self, serial: Option<u64>, order: Order, since: Instant) {
        let target = match order {
            Order::Read(target) => Some(target),
            Order::Release => None,
            Order::Lose => {
                self.lose();
                self.settled(serial, false);
                return;
            }
        };
        let revoked: Vec<_> = self
            .owned
            .iter()
            .filter(|(partition, id)| {
                let kept = target.as_ref().and_then(|target| target.get(*partition));
                kept != Some(*id)
            })
            .map(|(partition, _)| partition.clone())
            .collect();
        if revoked.is_empty() {
            self.take_on(target);
            self.settled(serial, false);
            return;
        }
        for partition in &revoked {
            // One that is not read yet has nothing to be held back.
            self.consumer.pause(partition).ok();
        }
        let offsets = if self.config.enable_auto_commit {
            self.uncommitted(&revoked)
        } else {
            super::committer::Offsets::new()
        };
        let deadline = self
            .cluster()
            .api_deadline()
            .min(since + self.config.max_poll_interval);
        self.rebalancing = Some(Rebalancing {
            serial,
            target,
            revoked,
            commit: self.committer.commit(offsets, Some(deadline)),
            is_told: false,
            deadline,
        });
    }

    /// The commit that a change was waiting for is done.
    pub(super) fn stepped(&mut self, result: Result<()>) {
        let Some(mut rebalancing) = self.rebalancing.take() else {
            return;
        };
        if let Err(error) = result {
            tracing::warn!(
                group = self.config.group_id,
                %error,
                "offsets of partitions that are given up are not committed"
            );
            self.commit_error = Some(error);
        }
        if !rebalancing.is_told {
            rebalancing.is_told = true;
            let positions = rebalancing
                .revoked
                .iter()
                .filter_map(|partition| Some((partition.clone(), self.position(partition)?)));
            let mut change = Rebalance {
                positions: positions.collect(),
                ..Rebalance::default()
            };
            if let Some(listener) = &mut self.listener {
                listener.revoked(&rebalancing.revoked, &mut change);
            }
            rebalancing.commit = self.committer.commit(change.commits, Some(rebalancing.deadline));
            self.rebalancing = Some(rebalancing);
            return;
        }
        for partition in &rebalancing.revoked {
            self.drop_partition(partition);
        }
        self.take_on(rebalancing.target);
        self.settled(rebalancing.serial, true);
    }

    /// Reads what the target has on top of what is read already.
    fn take_on(&mut self, target: Option<Partitions>) {
        let Some(target) = target else { return };
        let added: Vec<_> = target
            .keys()
            .filter(|partition| !self.owned.contains_key(*partition))
            .cloned()
            .collect();
        self.owned = target;
        let mut change = Rebalance::default();
        if let Some(listener) = &mut self.listener {
            listener.assigned(&added, &mut change);
        }
        let added: BTreeSet<_> = added.into_iter().collect();
        self.paused.extend(
            change
                .paused
                .into_iter()
                .filter(|partition| added.contains(partition)),
        );
        let mut without_start = Vec::new();
        for partition in added {
            match change.sought.remove(&partition) {
                Some(start) => self.read(&partition, start),
                None => without_start.push(partition),
            }
        }
        self.look_up(without_start, std::time::Duration::ZERO);
    }

    fn settled(&mut self, serial: Option<u64>, gave_up: bool) {
        let Some(serial) = serial else { return };
        // The membership ends only after this handle, or with an error that the handle will see.
        self.commands
            .send(Command::Settled {
                serial,
                owned: self.owned.clone(),
                gave_up,
            })
            .ok();
    }

    /// Drops everything: others may be reading it.
    pub(super) fn lose(&mut self) {
        let told = self.rebalancing.take().filter(|rebalancing| rebalancing.is_told);
        let revoked = told.map(|rebalancing| rebalancing.revoked).unwrap_or_default();
        let lost: Vec<_> = std::mem::take(&mut self.owned).into_keys().collect();
        for partition in &lost {
            self.drop_partition(partition);
        }
        // Of what was being given up the listener knows already.
        let lost: Vec<_> = lost
            .into_iter()
            .filter(|partition| !revoked.contains(partition))
            .collect();
        if !lost.is_empty()
            && let Some(listener) = &mut self.listener
        {
            listener.lost(&lost);
        }
    }

    fn drop_partition(&mut self, partition: &TopicPartition) {
        self.owned.remove(partition);
        self.consumer.unassign(partition);
        self.buffer.forget(partition);
        self.starting.remove(partition);
        self.unstarted.remove(partition);
        self.paused.remove(partition);
        self.committed.remove(partition);
    }
}
