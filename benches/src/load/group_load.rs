//! Groups of consumers that share the partitions of the topic, on log-client's group consumer: they follow the load and commit.
//!
//! Each group is one pass over all records. Its members come together before the first record is sent; where rebalances are asked for, one
//! after the other leaves while the load runs, and a new one joins in its place.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use log_client::coordinator::CommittedOffset;
use log_client::group::{AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol};
use log_core::model::{Offset, TopicPartition};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::group_member::{Beginning, Counts, Member, Shared, State};
use super::latency::Latencies;
use super::meter::{Meter, MeterMaker};
use super::plan::Plan;
use super::result::Groups;
use super::run_clock::{RunClock, nanoseconds};
use super::stage::Watcher;
use super::target::{Target, client_config};
use super::verify::Verifier;

/// How long members may take to share the partitions, and to see the last record. Members hear of a rebalance with a heartbeat, that is
/// every five seconds, and some need several.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often somebody who waits at a terminal is asked whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// Members commit themselves; the client's own commits are those of partitions that are given up.
const NO_COMMITS_MEANWHILE: Duration = Duration::from_hours(24 * 30);

/// What all members are made from.
struct Setup {
    plan: Plan,
    topic: String,
    partitions: usize,
    beginning: Beginning,
}

/// Groups at work.
pub struct GroupLoad {
    setup: Arc<Setup>,
    groups: Vec<Group>,
    /// Groups whose members change, until the load is over.
    changing: Vec<JoinHandle<Group>>,
    over: Option<watch::Sender<()>>,
    assigned_after: Duration,
}

/// What groups gave.
#[derive(Debug)]
pub struct GroupOutcome {
    /// What is told of them.
    pub groups: Groups,
    /// What their members counted.
    pub meters: Vec<Meter>,
    /// What each group saw.
    pub passes: Vec<Verifier>,
    /// What went wrong.
    pub errors: Vec<String>,
}

impl std::fmt::Debug for GroupLoad {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GroupLoad")
            .field("topic", &self.setup.topic)
            .field("groups", &self.setup.plan.groups)
            .finish_non_exhaustive()
    }
}

impl GroupLoad {
    /// Makes groups that begin at these offsets, and waits until every member and every partition has its place in each.
    ///
    /// # Errors
    /// When they do not come together.
    pub async fn start(
        plan: &Plan,
        target: &Target,
        run: u32,
        from: &BTreeMap<i32, i64>,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let setup = Arc::new(Setup {
            plan: plan.clone(),
            topic: target.topic.clone(),
            partitions: target.partitions,
            beginning: Arc::new(OnceLock::new()),
        });
        let mut load = Self {
            groups: (0..plan.groups)
                .map(|number| Group::new(&setup, number, run, from))
                .collect(),
            setup,
            changing: Vec::new(),
            over: None,
            assigned_after: Duration::ZERO,
        };
        if let Err(error) = load.come_together(target, from, watcher).await {
            // Nobody waits for the group's end: why it did not begin is what counts.
            load.finish(target, None).await.ok();
            return Err(error);
        }
        load.assigned_after = begun.elapsed();
        Ok(load)
    }

    async fn come_together(
        &mut self,
        target: &Target,
        from: &BTreeMap<i32, i64>,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<()> {
        for group in &mut self.groups {
            group.commit_start(target, from).await?;
            for index in 0..group.members.len() {
                group.begin(index)?;
            }
        }
        let latest = Instant::now() + PATIENCE;
        let partitions = self.setup.partitions;
        for group in &self.groups {
            let is_together = |state: &State| state.is_complete() && state.owned() == partitions;
            while !group.shared.wait_until(Instant::now() + LOOK, is_together).await {
                if watcher.is_interrupted() {
                    // The load sees it too, and ends at once.
                    return Ok(());
                }
                let failure = group.failure();
                ensure!(failure.is_none(), "{}", failure.unwrap_or_default());
                ensure!(
                    Instant::now() < latest,
                    "{}: members do not share all partitions after {PATIENCE:?}",
                    group.name
                );
            }
        }
        Ok(())
    }

    /// The load begins: ages of records are counted by this clock, and into meters like these.
    pub fn begin(&mut self, clock: RunClock, meters: MeterMaker) {
        self.setup.beginning.get_or_init(|| (clock, meters));
        if let Some(every) = self.setup.plan.rebalance_every {
            let (over, until) = watch::channel(());
            for group in std::mem::take(&mut self.groups) {
                self.changing
                    .push(tokio::spawn(group.change(every, until.clone())));
            }
            self.over = Some(over);
        }
    }

    /// Waits until each group has seen what is below these ends, lets the members leave and removes the groups.
    ///
    /// # Errors
    /// When a member panicked.
    pub async fn finish(
        mut self,
        target: &Target,
        ends: Option<&BTreeMap<i32, i64>>,
    ) -> anyhow::Result<GroupOutcome> {
        let plan = &self.setup.plan;
        let mut outcome = GroupOutcome {
            groups: Groups {
                groups: plan.groups,
                members: plan.groups * plan.members,
                protocol: if plan.is_classic { "classic" } else { "consumer" }.to_owned(),
                assigned_after_ms: self.assigned_after.as_secs_f64() * 1e3,
                ..Groups::default()
            },
            meters: Vec::new(),
            passes: Vec::new(),
            errors: Vec::new(),
        };
        drop(self.over.take());
        for task in self.changing {
            self.groups.push(task.await.context("a group panicked")?);
        }
        let (mut commits, mut rebalances) = (Latencies::new(3), Latencies::new(3));
        for group in &mut self.groups {
            if let Some(ends) = ends
                && outcome.errors.is_empty()
            {
                group.see_all(ends).await;
            }
            group.leave().await?;
            outcome.errors.extend(group.failure());
            for counts in std::mem::take(&mut group.counts) {
                commits.merge(&counts.commits);
                outcome.groups.commit_errors += counts.commit_errors;
                outcome.meters.extend(counts.meter);
            }
            rebalances.merge(&group.rebalances);
            outcome.passes.push(group.shared.take_verifier());
        }
        let told = &mut outcome.groups;
        told.commit_latency = commits.told("commit");
        told.commits = told.commit_latency.as_ref().map_or(0, |latency| latency.count);
        told.rebalance_latency = rebalances.told("rebalance");
        told.rebalances = told.rebalance_latency.as_ref().map_or(0, |latency| latency.count);
        let names: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
        for (name, deleted) in names.iter().zip(target.admin.delete_groups(&names).await) {
            let error = deleted
                .err()
                .map(|error| format!("delete the group {name}: {error}"));
            outcome.errors.extend(error);
        }
        Ok(outcome)
    }
}

/// One group.
struct Group {
    setup: Arc<Setup>,
    name: String,
    shared: Arc<Shared>,
    members: Vec<Option<Running>>,
    /// Of members that have left.
    counts: Vec<Counts>,
    /// From a member's leaving or coming until every partition had its owner.
    rebalances: Latencies,
}

/// A member at work.
struct Running {
    leave: oneshot::Sender<()>,
    task: JoinHandle<Counts>,
}

impl Group {
    fn new(setup: &Arc<Setup>, number: usize, run: u32, from: &BTreeMap<i32, i64>) -> Self {
        let members = setup.plan.members;
        Self {
            setup: Arc::clone(setup),
            name: format!("{}-{run:08x}-{number}", setup.topic),
            shared: Arc::new(Shared::new(run, members, from)),
            members: (0..members).map(|_| None).collect(),
            counts: Vec::new(),
            rebalances: Latencies::new(3),
        }
    }

    /// The group begins where the load will, whoever of its members reads a partition first.
    async fn commit_start(&self, target: &Target, from: &BTreeMap<i32, i64>) -> anyhow::Result<()> {
        let offset = |(partition, offset): (&i32, &i64)| {
            let partition = TopicPartition::new(self.setup.topic.as_str(), *partition);
            (partition, CommittedOffset::new(Offset::new(*offset)))
        };
        let offsets = from.iter().map(offset).collect();
        let rows = target.admin.alter_group_offsets(&self.name, &offsets).await?;
        for (partition, outcome) in rows {
            outcome.with_context(|| format!("{}: begin {partition}", self.name))?;
        }
        Ok(())
    }

    fn config(&self) -> GroupConfig {
        let plan = &self.setup.plan;
        let mut config = GroupConfig::new(&plan.bootstrap, &self.name);
        config.consumer.client = client_config(plan);
        config.consumer.fetch_wait_max = plan.fetch_wait;
        config.consumer.partition_bytes_max = i32::try_from(plan.fetch_bytes).unwrap_or(i32::MAX);
        // Every partition has a committed offset: a group without one has lost it.
        config.auto_offset_reset = AutoOffsetReset::None;
        config.auto_commit_interval = NO_COMMITS_MEANWHILE;
        config.heartbeat_interval = plan.heartbeat_interval;
        if plan.is_classic {
            config.group_protocol = GroupProtocol::Classic;
        }
        config
    }

    /// A member joins.
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        let setup = &self.setup;
        let mut consumer = GroupConsumer::new(self.config())?;
        consumer.subscribe([setup.topic.as_str()])?;
        let member = Member::new(
            index,
            Arc::clone(&self.shared),
            Arc::clone(&setup.beginning),
            setup.plan.commit_interval,
        );
        let (leave, told) = oneshot::channel();
        let task = tokio::spawn(member.run(consumer, told));
        if let Some(place) = self.members.get_mut(index) {
            *place = Some(Running { leave, task });
        }
        Ok(())
    }

    /// A member commits and leaves.
    async fn end(&mut self, index: usize) -> anyhow::Result<()> {
        let member = self.members.get_mut(index).and_then(Option::take);
        if let Some(member) = member {
            // One that has ended by itself hears nothing.
            member.leave.send(()).ok();
            self.counts.push(member.task.await.context("a member panicked")?);
            self.shared.left(index);
        }
        Ok(())
    }

    /// All members leave, at the same time.
    async fn leave(&mut self) -> anyhow::Result<()> {
        let members: Vec<Running> = self.members.iter_mut().filter_map(Option::take).collect();
        let mut tasks = Vec::new();
        for member in members {
            member.leave.send(()).ok();
            tasks.push(member.task);
        }
        for task in tasks {
            self.counts.push(task.await.context("a member panicked")?);
        }
        Ok(())
    }

    /// One member after the other makes place for a new one, so often, until the load is over.
    async fn change(mut self, every: Duration, mut over: watch::Receiver<()>) -> Self {
        for index in (0..self.members.len()).cycle() {
            let is_over = timeout(every, over.changed()).await.is_ok();
            // Who asked for rebalances has one, however short the load is.
            if is_over && !self.rebalances.is_empty() {
                break;
            }
            if let Err(error) = self.replace(index).await {
                self.shared.fail(format!("{error:#}"));
                break;
            }
        }
        self
    }

    /// A member leaves and a new one joins: two rebalances, each until every partition has its owner.
    async fn replace(&mut self, index: usize) -> anyhow::Result<()> {
        let (members, partitions) = (self.members.len(), self.setup.partitions);
        let begun = Instant::now();
        self.end(index).await?;
        if 1 < members {
            self.settled(begun, |state| state.owned() == partitions).await?;
        }
        let begun = Instant::now();
        self.begin(index)?;
        // Every member gets so many at least; others may have to give them up first.
        let share = partitions / members;
        self.settled(begun, |state| {
            state.owned() == partitions && state.owned_by(index).is_some_and(|owned| share <= owned)
        })
        .await
    }

    /// Waits for the end of a rebalance.
    async fn settled(&mut self, begun: Instant, is_so: impl Fn(&State) -> bool) -> anyhow::Result<()> {
        let is_settled = self.shared.wait_until(begun + PATIENCE, is_so).await;
        ensure!(is_settled, "a rebalance was not over after {PATIENCE:?}");
        self.rebalances.add(nanoseconds(begun.elapsed()), 1);
        Ok(())
    }

    /// Waits until the group has seen what is below these ends.
    async fn see_all(&self, ends: &BTreeMap<i32, i64>) {
        let latest = Instant::now() + PATIENCE;
        if !self.shared.wait_until(latest, |state| state.has_seen(ends)).await {
            self.shared
                .fail(format!("not all records were seen within {PATIENCE:?}"));
        }
    }

    fn failure(&self) -> Option<String> {
        let failure = self.shared.failure()?;
        Some(format!("{}: {failure}", self.name))
    }
}
