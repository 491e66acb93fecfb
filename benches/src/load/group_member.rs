//! A member of a group under load: it reads what the group gives it, checks the records together with its group, and commits now and then.
//!
//! It gives partitions up in order: what it has seen is committed before, so that whoever gets them goes on behind it. A record that comes
//! to a group twice is therefore a mistake of somebody, unless a member was taken for dead, which is told.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log_client::consumer::PartitionRecords;
use log_client::group::{GroupConsumer, Rebalance, RebalanceListener};
use log_core::model::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::latency::Latencies;
use super::meter::{Kind, Meter, MeterMaker, Tally};
use super::run_clock::{RunClock, nanoseconds};
use super::verify::Verifier;

/// What members learn when the load begins: the clock that ages of records are counted by, and meters to count with.
pub(super) type Beginning = Arc<OnceLock<(RunClock, MeterMaker)>>;

/// What a group's members have in common.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// How a group stands.
#[derive(Debug)]
pub(super) struct State {
    /// What the group saw, whichever member had the partition.
    pub(super) verifier: Verifier,
    /// The next offset of each partition.
    next: BTreeMap<i32, i64>,
    /// How many partitions each member has; none for one that is not in the group yet, or no more.
    members: Vec<Option<usize>>,
    /// Why the group cannot go on.
    failure: Option<String>,
}

impl State {
    /// How many partitions have an owner.
    pub(super) fn owned(&self) -> usize {
        self.members.iter().flatten().sum()
    }

    /// How many partitions a member has; none while it is not in the group.
    pub(super) fn owned_by(&self, member: usize) -> Option<usize> {
        self.members.get(member).copied().flatten()
    }

    /// Whether all members are in the group.
    pub(super) fn is_complete(&self) -> bool {
        self.members.iter().all(Option::is_some)
    }

    /// Whether everything below these ends was seen.
    pub(super) fn has_seen(&self, ends: &BTreeMap<i32, i64>) -> bool {
        let is_seen =
            |(partition, end): (&i32, &i64)| self.next.get(partition).is_some_and(|next| end <= next);
        ends.iter().all(is_seen)
    }
}

impl Shared {
    /// A group of so many members that begins at these offsets, and looks at the records of that run.
    pub(super) fn new(run: u32, members: usize, from: &BTreeMap<i32, i64>) -> Self {
        Self {
            state: Mutex::new(State {
                verifier: Verifier::new(run),
                next: from.clone(),
                members: vec![None; members],
                failure: None,
            }),
            changed: Notify::new(),
        }
    }

    /// Waits until the group stands like this; not if that takes too long or the group cannot go on.
    pub(super) async fn wait_until(&self, latest: Instant, is_so: impl Fn(&State) -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                if is_so(&state) || state.failure.is_some() {
                    return state.failure.is_none();
                }
            }
            if timeout_at(latest, changed).await.is_err() {
                return false;
            }
        }
    }

    /// Why the group cannot go on; nothing when it can.
    pub(super) fn failure(&self) -> Option<String> {
        self.state.lock().failure.clone()
    }

    /// The group cannot go on. The first reason counts: others mostly follow from it.
    pub(super) fn fail(&self, reason: String) {
        self.state.lock().failure.get_or_insert(reason);
        self.changed.notify_waiters();
    }

    /// What the group saw; nothing stays behind.
    pub(super) fn take_verifier(&self) -> Verifier {
        std::mem::take(&mut self.state.lock().verifier)
    }

    /// A member is in the group no more.
    pub(super) fn left(&self, member: usize) {
        self.count_partitions(member, |_| None);
    }

    fn count_partitions(&self, member: usize, change: impl FnOnce(usize) -> Option<usize>) {
        if let Some(count) = self.state.lock().members.get_mut(member) {
            *count = change(count.unwrap_or_default());
        }
        self.changed.notify_waiters();
    }
}

/// Tells the group which partitions a member has.
struct Ownership {
    shared: Arc<Shared>,
    member: usize,
}

impl RebalanceListener for Ownership {
    fn assigned(&mut self, partitions: &[TopicPartition], _: &mut Rebalance) {
        self.shared
            .count_partitions(self.member, |count| Some(count + partitions.len()));
    }

    fn revoked(&mut self, partitions: &[TopicPartition], _: &mut Rebalance) {
        self.shared
            .count_partitions(self.member, |count| Some(count.saturating_sub(partitions.len())));
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.shared
            .count_partitions(self.member, |count| Some(count.saturating_sub(partitions.len())));
        self.shared
            .fail("a member was taken for dead and lost its partitions".to_owned());
    }
}

/// What a member counted.
#[derive(Debug)]
pub(super) struct Counts {
    /// Records and their ages; none when nothing came.
    pub(super) meter: Option<Meter>,
    /// How long commits took.
    pub(super) commits: Latencies,
    /// Commits that failed.
    pub(super) commit_errors: u64,
}

/// One member.
pub(super) struct Member {
    index: usize,
    shared: Arc<Shared>,
    beginning: Beginning,
    commit_interval: Duration,
    counts: Counts,
    scratch: Vec<u8>,
}

impl Member {
    /// The member of that number, which commits so often.
    pub(super) fn new(
        index: usize,
        shared: Arc<Shared>,
        beginning: Beginning,
        commit_interval: Duration,
    ) -> Self {
        Self {
            index,
            shared,
            beginning,
            commit_interval,
            counts: Counts {
                meter: None,
                commits: Latencies::new(3),
                commit_errors: 0,
            },
            scratch: Vec::new(),
        }
    }

    /// Takes part until it is told to leave.
    pub(super) async fn run(mut self, mut consumer: GroupConsumer, leave: oneshot::Receiver<()>) -> Counts {
        consumer.set_listener(Ownership {
            shared: Arc::clone(&self.shared),
            member: self.index,
        });
        let followed = self.follow(&mut consumer, leave).await;
        let closed = consumer.close().await.map_err(anyhow::Error::from);
        if let Err(error) = followed.and(closed) {
            self.shared.fail(format!("a member of a group: {error:#}"));
        }
        if let Some(meter) = &mut self.counts.meter {
            meter.publish();
        }
        self.counts
    }

    async fn follow(
        &mut self,
        consumer: &mut GroupConsumer,
        mut leave: oneshot::Receiver<()>,
    ) -> anyhow::Result<()> {
        // There is something to commit from the first record behind a commit on.
        let mut commit_at: Option<Instant> = None;
        loop {
            let commit_is_due = async move {
                match commit_at {
                    Some(moment) => sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut leave => return Ok(()),
                () = commit_is_due => {
                    self.commit(consumer).await;
                    commit_at = None;
                }
                arrived = consumer.poll() => {
                    for piece in arrived? {
                        self.take(&piece)?;
                        commit_at.get_or_insert(Instant::now() + self.commit_interval);
                    }
                }
            }
        }
    }

    async fn commit(&mut self, consumer: &mut GroupConsumer) {
        if consumer.assignment().next().is_none() {
            return;
        }
        let begun = Instant::now();
        match consumer.commit().await {
            Ok(()) => self.counts.commits.add(nanoseconds(begun.elapsed()), 1),
            // What was refused because the group moves on is committed again when partitions are given up.
            Err(_) => self.counts.commit_errors += 1,
        }
    }

    fn take(&mut self, piece: &PartitionRecords) -> anyhow::Result<()> {
        let partition = piece.partition().partition;
        let (mut now, mut meter) = (0, None);
        if let Some((clock, make)) = self.beginning.get() {
            now = clock.now();
            meter = Some((clock, self.counts.meter.get_or_insert_with(|| make())));
        }
        let mut tally = Tally {
            records: 0,
            bytes: u64::try_from(piece.bytes().len())?,
            requests: 1,
        };
        {
            let mut state = self.shared.state.lock();
            piece.visit(&mut self.scratch, |record| {
                tally.records += 1;
                let stamp = state
                    .verifier
                    .take(partition.unsigned_abs(), record.offset.get(), record.value);
                if let (Some(stamp), Some((clock, meter))) = (stamp, &mut meter) {
                    meter.latency(Kind::EndToEnd, clock.from_1970(stamp.intended_ns), now, 1);
                }
            })?;
            let next = state.next.entry(partition).or_default();
            *next = piece.next_offset().get().max(*next);
        }
        self.shared.changed.notify_waiters();
        if let Some((_, meter)) = meter {
            meter.fetched(now, tally);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody waits for so long: what is waited for comes.
    const PATIENCE: Duration = Duration::from_mins(1);

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(1, 2, &BTreeMap::from([(0, 5), (1, 7)])))
    }

    #[tokio::test]
    async fn a_group_is_waited_for_until_it_stands_as_wished() {
        let shared = shared();
        assert!(
            !shared
                .wait_until(Instant::now(), |state| state.owned() == 3)
                .await
        );
        let waiting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let patience = Instant::now() + PATIENCE;
                shared.wait_until(patience, |state| state.owned() == 3).await
            }
        });
        tokio::task::yield_now().await;
        let mut ownership = Ownership {
            shared: Arc::clone(&shared),
            member: 1,
        };
        let partitions: Vec<_> = (0..3).map(|number| TopicPartition::new("t", number)).collect();
        ownership.assigned(&partitions, &mut Rebalance::default());
        assert!(waiting.await.unwrap());
        ownership.revoked(&partitions[..2], &mut Rebalance::default());
        let one_is_in = |state: &State| state.owned_by(0).is_none() && state.owned_by(1) == Some(1);
        assert!(
            shared
                .wait_until(Instant::now(), |state| one_is_in(state) && !state.is_complete())
                .await
        );
        ownership.lost(&partitions[2..]);
        assert!(shared.failure().unwrap().contains("dead"));
        let patience = Instant::now() + PATIENCE;
        assert!(
            !shared.wait_until(patience, |state| state.owned() == 0).await,
            "a group that failed is nothing to build on"
        );
    }

    #[test]
    fn all_is_seen_at_the_ends() {
        let shared = shared();
        let has_seen = |ends: [(i32, i64); 2]| shared.state.lock().has_seen(&BTreeMap::from(ends));
        assert!(has_seen([(0, 5), (1, 7)]), "nothing came");
        assert!(!has_seen([(0, 5), (1, 8)]));
        shared.state.lock().next.insert(1, 8);
        assert!(has_seen([(0, 5), (1, 8)]));
        assert!(!has_seen([(0, 5), (2, 1)]), "a partition that nobody knew");
    }
}
