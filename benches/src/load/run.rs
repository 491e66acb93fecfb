//! A run from its plan to its result: topic, old records, load, verification, cleaning up.
//! It puts the parts together; what a connection does, how records are judged and what is told stands in theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use log_client::config::Acks;

use super::batch_template::BatchShape;
use super::group_load::GroupLoad;
use super::knee::Search;
use super::local;
use super::meter::{Kind, Window};
use super::pace::{Drive, Pace};
use super::plan::{Plan, Workload};
use super::raw_producer::{ProducerSetup, RawProducer};
use super::raw_reader::{RawReader, ReaderSetup, Scrutiny, Stretch};
use super::result::{BrokerTruth, KneeStep, RunResult, Verification};
use super::run_clock::{NEVER, RunClock, nanoseconds};
use super::socket::Socket;
use super::stage::{Outcome, Stage, Watcher};
use super::summary;
use super::target::Target;
use super::verify::{Sent, together};
use super::wire::FetchSize;
use super::worker::Role;

/// How many different batches a producer has, where sizes or keys vary; they share this much memory at most.
const TEMPLATES: usize = 16;
const TEMPLATE_BYTES_MAX: usize = 2 << 20;
/// Where a search for the knee begins, in records a second.
const KNEE_FIRST: f64 = 1000.0;
/// Records that nobody acknowledges have arrived when the ends have stood still for so long.
const SETTLE: Duration = Duration::from_millis(500);
/// Answers are waited for so long behind the end of the load.
const GRACE: Duration = Duration::from_secs(10);

/// What a load is made of besides its plan.
#[derive(Clone, Copy)]
struct Site<'a> {
    plan: &'a Plan,
    target: &'a Target,
    run: u32,
    broker: Option<u32>,
}

/// Runs a plan.
///
/// # Errors
/// When the broker cannot be reached or refuses; records that are wrong are told in the result.
pub async fn run(plan: &Plan, watcher: &dyn Watcher) -> anyhow::Result<RunResult> {
    let mut target = Target::open(plan).await?;
    if target.is_own {
        let stays = if plan.keep_topic {
            "it stays"
        } else {
            "it is removed at the end"
        };
        watcher.phase(&format!(
            "topic {} with {} partitions; {stays}",
            target.topic, target.partitions
        ));
    }
    let outcome = on_target(plan, &mut target, watcher).await;
    let removed = target.remove(plan.keep_topic).await.context("remove the topic");
    let mut result = outcome?;
    if let Err(error) = removed {
        result.warnings.push(format!("{error:#}"));
    }
    Ok(result)
}

async fn on_target(plan: &Plan, target: &mut Target, watcher: &dyn Watcher) -> anyhow::Result<RunResult> {
    let truth = target.truth(plan).await;
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Records of an earlier run with the same seed are not this run's.
    let run = u32::try_from((plan.seed ^ nanoseconds(started_at) >> 10) & 0xffff_ffff)?;
    let site = Site {
        plan,
        target,
        run,
        broker: truth.process.as_ref().map(|process| process.pid),
    };
    let mut old = Vec::new();
    let mut warnings = Vec::new();
    if 0 < plan.prefill_bytes {
        watcher.phase("producing old records");
        old = site.prefill(watcher).await?;
    }
    if plan.cold {
        let evicted = local::evict(&target.directories);
        if evicted == 0 {
            warnings.push("the broker's files are not on this machine: old records were not cold".to_owned());
        }
    }
    watcher.phase("load");
    let mut knee = None;
    let mut outcome = match plan.knee_p99 {
        Some(limit) => {
            let mut search = Search::new(plan.rate.unwrap_or(KNEE_FIRST), limit.as_secs_f64() * 1e6);
            let outcome = site.find_knee(&mut old, &mut search, watcher).await?;
            knee = Some(search.knee());
            outcome
        }
        None => site.load(&old, watcher).await?,
    };
    let verification = if plan.verify && !outcome.is_interrupted {
        watcher.phase("verifying");
        let new = std::mem::take(&mut outcome.sent);
        site.verify(&old, &new, &mut outcome, watcher).await?
    } else {
        None
    };
    let mut result = summary::result_of(plan, truth, &outcome);
    result.started_at_ms = u64::try_from(started_at.as_millis())?;
    result.verification = verification;
    result.knee = knee;
    result.warnings.append(&mut warnings);
    Ok(result)
}

impl Site<'_> {
    fn shape(&self) -> BatchShape {
        let plan = self.plan;
        BatchShape {
            batch_bytes: plan.batch_bytes,
            records_max: plan.batch_records,
            sizes: plan.sizes,
            keys: plan.keys,
            entropy: plan.entropy,
            compression: plan.compression,
            is_stamped: plan.verify || self.has_tails(),
        }
    }

    fn has_tails(&self) -> bool {
        0 < self.plan.fan_out + self.plan.groups
    }

    /// Which connection gets which partitions: by leader, and evenly.
    fn shares(&self, connections: usize) -> Vec<(usize, Vec<i32>)> {
        let leaders = self.target.leaders.len();
        let mut shares = Vec::new();
        for (index, leader) in self.target.leaders.iter().enumerate() {
            // Each leader needs one connection at least.
            let here = (connections / leaders + usize::from(index < connections % leaders)).max(1);
            for number in 0..here {
                let partitions = &leader.partitions;
                let own: Vec<i32> = if here <= partitions.len() {
                    partitions.iter().copied().skip(number).step_by(here).collect()
                } else {
                    partitions.iter().copied().cycle().skip(number).take(1).collect()
                };
                shares.push((index, own));
            }
        }
        shares
    }

    async fn add_producers(
        &self,
        stage: &mut Stage,
        clock: &RunClock,
        connections: usize,
        first_number: usize,
        patience: Duration,
        mut pace_of: impl FnMut(u64, u64) -> Pace,
    ) -> anyhow::Result<()> {
        let plan = self.plan;
        let shares = self.shares(connections);
        let count = u64::try_from(shares.len())?;
        let varies = !matches!(plan.sizes, super::filling::Sizes::Fixed(_));
        let templates = if varies {
            (TEMPLATE_BYTES_MAX / plan.batch_bytes.max(1)).clamp(1, TEMPLATES)
        } else {
            1
        };
        for (number, (leader, partitions)) in (0..).zip(shares) {
            let leader = self.target.leaders.get(leader).context("a leader")?;
            let idempotent = if plan.idempotent {
                Some(self.target.producer_id().await?)
            } else {
                None
            };
            let setup = ProducerSetup {
                address: leader.address.clone(),
                topic: self.target.topic.clone(),
                partitions,
                partitions_in_all: u32::try_from(self.target.partitions)?,
                acks: plan.acks.code(),
                version: leader.produce_version,
                in_flight_max: plan.in_flight,
                shape: self.shape(),
                templates,
                idempotent,
                patience,
                run: self.run,
                number: u32::try_from(first_number)? + u32::try_from(number)?,
                seed: plan.seed,
            };
            let producer = RawProducer::connect(setup, pace_of(number, count), clock)?;
            stage.add(Role::Producer(Box::new(producer)), None);
        }
        Ok(())
    }

    fn add_readers(
        &self,
        stage: &mut Stage,
        connections: usize,
        pass: usize,
        template: &ReaderSetup,
        stretch_of: &dyn Fn(i32) -> Vec<Stretch>,
    ) -> anyhow::Result<()> {
        // More connections than partitions share the stretches of one.
        for (leader, partitions) in self.shares(connections.min(self.target.partitions)) {
            let leader = self.target.leaders.get(leader).context("a leader")?;
            let setup = ReaderSetup {
                address: leader.address.clone(),
                version: leader.fetch_version,
                stretches: partitions
                    .iter()
                    .flat_map(|partition| stretch_of(*partition))
                    .collect(),
                ..template.clone()
            };
            stage.add(Role::Reader(Box::new(RawReader::connect(setup)?)), Some(pass));
        }
        Ok(())
    }

    fn reader(&self, scrutiny: Scrutiny) -> ReaderSetup {
        ReaderSetup {
            address: String::new(),
            topic: self.target.topic.clone(),
            stretches: Vec::new(),
            size: FetchSize {
                bytes_min: 1,
                bytes_max: i32::try_from(self.plan.fetch_bytes).unwrap_or(i32::MAX),
                wait_ms: i32::try_from(self.plan.fetch_wait.as_millis()).unwrap_or(i32::MAX),
            },
            version: 0,
            scrutiny,
            is_following: false,
            is_counted: true,
            run: self.run,
            until: NEVER,
        }
    }

    /// Produces what readers of old records read; nothing of it counts, so refusals that pass do not either.
    async fn prefill(&self, watcher: &dyn Watcher) -> anyhow::Result<Vec<Sent>> {
        let plan = Plan {
            idempotent: false,
            ..self.plan.clone()
        };
        let site = Site { plan: &plan, ..*self };
        let clock = RunClock::start();
        let mut stage = site.stage(clock, Duration::ZERO, NEVER, Kind::Produce);
        let records = plan.prefill_bytes / u64::try_from(plan.sizes.mean().max(1))?;
        let (connections, patience) = (plan.producers.max(4), plan.timeout);
        site.add_producers(&mut stage, &clock, connections, 0, patience, |number, count| {
            Pace::new(Drive::Closed, 0, NEVER, share(records, number, count))
        })
        .await?;
        let outcome = stage.run(watcher, None, async || Ok(())).await?;
        if let Some(error) = outcome.errors.into_iter().next() {
            anyhow::bail!("producing old records: {error}");
        }
        Ok(outcome.sent)
    }

    fn stage(&self, clock: RunClock, warm_up: Duration, until: u64, shown: Kind) -> Stage {
        let load = self.plan.load().as_secs();
        let stretch = match load {
            0..30 => Duration::from_millis(250),
            30..600 => Duration::from_secs(1),
            _ => Duration::from_secs(10),
        };
        let window = Window {
            from: nanoseconds(warm_up),
            until,
            stretch: nanoseconds(stretch),
        };
        let grace = if until == NEVER { Duration::ZERO } else { GRACE };
        Stage::new(clock, window, shown, self.plan.threads, grace, self.broker)
    }

    /// The load itself, and the groups that follow it.
    async fn load(&self, old: &[Sent], watcher: &dyn Watcher) -> anyhow::Result<Outcome> {
        if self.plan.groups == 0 {
            return self.load_without(old, None, watcher).await;
        }
        watcher.phase("groups come together");
        let from = self.target.ends().await?;
        let mut groups = GroupLoad::start(self.plan, self.target, self.run, &from, watcher).await?;
        let outcome = self.load_without(old, Some(&mut groups), watcher).await;
        let ends = match &outcome {
            Ok(outcome) if !outcome.is_interrupted => self.final_ends().await.ok(),
            _ => None,
        };
        let told = groups.finish(self.target, ends.as_ref()).await?;
        let mut outcome = outcome?;
        for meter in &told.meters {
            outcome.meter.merge(meter);
        }
        outcome.stretches = outcome.meter.stretches();
        // A group that did not see all is a failure of the run, as a reader that did not is.
        outcome.meter.fetch_errors += u64::try_from(told.errors.len())?;
        outcome.groups = Some(told.groups);
        outcome.group_passes = told.passes;
        outcome.errors.extend(told.errors);
        Ok(outcome)
    }

    /// The load without groups; some that wait for it are told when it begins.
    async fn load_without(
        &self,
        old: &[Sent],
        groups: Option<&mut GroupLoad>,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<Outcome> {
        let plan = self.plan;
        let has_producers = plan.workload != Workload::Fetch && 0 < plan.producers;
        let begins = self.target.beginnings().await?;
        let ends = self.target.ends().await?;
        // Readers that follow the end learn where it is when nothing more comes.
        let late_ends: BTreeMap<i32, Arc<AtomicI64>> = ends
            .keys()
            .map(|partition| (*partition, Arc::new(AtomicI64::new(i64::MAX))))
            .collect();
        let mut idle = Vec::new();
        for _ in 0..plan.idle_connections {
            let leader = self.target.leaders.first().context("a leader")?;
            idle.push(Socket::connect(&leader.address)?);
        }
        let clock = RunClock::start();
        let load = nanoseconds(plan.load());
        let shown = match (self.has_tails(), has_producers) {
            (true, _) => Kind::EndToEnd,
            (false, true) => Kind::Produce,
            (false, false) => Kind::Fetch,
        };
        let mut stage = self.stage(clock, plan.warm_up, load, shown);
        if let Some(groups) = groups {
            groups.begin(clock, stage.meters(shown));
        }
        for socket in idle {
            stage.add(Role::Idle(Box::new(socket)), None);
        }
        let offset_of =
            |offsets: &BTreeMap<i32, i64>, partition| offsets.get(&partition).copied().unwrap_or(0);
        for pass in 0..plan.fan_out {
            let setup = ReaderSetup {
                is_following: true,
                ..self.reader(if plan.verify {
                    Scrutiny::Complete
                } else {
                    Scrutiny::Counted
                })
            };
            self.add_readers(&mut stage, plan.readers, pass, &setup, &|partition| {
                vec![Stretch {
                    partition,
                    from: offset_of(&ends, partition),
                    until: late_ends.get(&partition).cloned().unwrap_or_default(),
                    is_repeated: false,
                }]
            })?;
        }
        for replay in 0..plan.replays {
            let setup = ReaderSetup {
                until: load,
                ..self.reader(if plan.verify {
                    Scrutiny::Contents
                } else {
                    Scrutiny::Counted
                })
            };
            let lanes = i64::try_from(plan.in_flight.max(1))?;
            self.add_readers(
                &mut stage,
                plan.readers,
                plan.fan_out + replay,
                &setup,
                &|partition| {
                    let (from, until) = (offset_of(&begins, partition), offset_of(&ends, partition));
                    // Each request on its way reads a stretch of its own.
                    (0..lanes)
                        .map(|lane| Stretch {
                            partition,
                            from: from + (until - from) * lane / lanes,
                            until: Arc::new(AtomicI64::new(from + (until - from) * (lane + 1) / lanes)),
                            is_repeated: plan.records.is_none(),
                        })
                        .collect()
                },
            )?;
        }
        if has_producers {
            let first = usize::try_from(old.iter().map(|sent| sent.producer + 1).max().unwrap_or_default())?;
            // Connections are open and batches made before the first record is due.
            let start = clock.now() + nanoseconds(Duration::from_millis(20));
            let (connections, none) = (plan.producers, Duration::ZERO);
            self.add_producers(&mut stage, &clock, connections, first, none, |number, count| {
                let records = plan
                    .records
                    .map_or(NEVER, |records| share(records, number, count));
                Pace::new(self.drive(count), start, load, records)
            })
            .await?;
        }
        let planned = plan.records.is_none().then(|| plan.load());
        stage
            .run(watcher, planned, async || {
                for (partition, end) in self.final_ends().await? {
                    if let Some(place) = late_ends.get(&partition) {
                        place.store(end, Ordering::Release);
                    }
                }
                Ok(())
            })
            .await
    }

    /// Runs one rate after the other. Gives the outcome of the best, with the records of the last to be verified, and puts those of the
    /// others to the old ones.
    async fn find_knee(
        &self,
        old: &mut Vec<Sent>,
        search: &mut Search,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<Outcome> {
        let mut best: Option<Outcome> = None;
        while let Some(rate) = search.next_rate() {
            let plan = Plan {
                rate: Some(rate),
                ..self.plan.clone()
            };
            watcher.phase(&format!("{} records/s", crate::report::figure(rate)));
            let site = Site { plan: &plan, ..*self };
            let mut outcome = site.load(old, watcher).await?;
            let told = summary::result_of(&plan, BrokerTruth::default(), &outcome);
            let produced = told.produced.clone().unwrap_or_default();
            let is_best = search.tried(KneeStep {
                target_records_per_s: rate,
                records_per_s: produced.records_per_s,
                mb_per_s: produced.mb_per_s,
                held: false,
                latency: summary::decisive(&told)
                    .map(|(_, latency)| latency.clone())
                    .unwrap_or_default(),
            });
            let is_interrupted = outcome.is_interrupted;
            // Readers of one step saw its records alone: all are read back at the end.
            outcome.passes.clear();
            outcome.group_passes.clear();
            old.append(&mut outcome.sent);
            if is_best || best.is_none() {
                best = Some(outcome);
            }
            if is_interrupted {
                break;
            }
        }
        best.context("a search tries one rate at least")
    }

    /// The ends when nothing more is sent. Where nobody waited for acknowledgements, records may still be on their way.
    async fn final_ends(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        let mut ends = self.target.ends().await?;
        if self.plan.acks != Acks::None {
            return Ok(ends);
        }
        loop {
            tokio::time::sleep(SETTLE).await;
            let later = self.target.ends().await?;
            if later == ends {
                return Ok(ends);
            }
            ends = later;
        }
    }

    fn drive(&self, connections: u64) -> Drive {
        match self.plan.rate {
            None => Drive::Closed,
            Some(rate) => Drive::Open {
                period_ns: 1e9 * crate::report::count(connections) / rate.max(f64::MIN_POSITIVE),
                linger_ns: nanoseconds(self.plan.linger),
            },
        }
    }

    /// Readers and groups that followed the end have seen all; where there were none, everything is read once more.
    async fn verify(
        &self,
        old: &[Sent],
        new: &[Sent],
        outcome: &mut Outcome,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<Option<Verification>> {
        if old.is_empty() && new.is_empty() {
            return Ok(None);
        }
        // A reader that did not come to the end says nothing about what it did not see.
        let has_seen_all = outcome.errors.is_empty() && self.plan.knee_p99.is_none();
        let tails = if has_seen_all { self.plan.fan_out } else { 0 };
        let mut verdicts = Vec::new();
        for (index, pass) in std::mem::take(&mut outcome.passes).into_iter().enumerate() {
            // A pass over old records is repeated and ends anywhere: its contents alone count.
            let is_whole = index < tails;
            if is_whole || self.plan.fan_out <= index {
                verdicts.push(pass.conclude(if is_whole { new } else { &[] }));
            }
        }
        let groups = std::mem::take(&mut outcome.group_passes);
        let have_groups_seen_all = has_seen_all && !groups.is_empty();
        if have_groups_seen_all {
            verdicts.extend(groups.into_iter().map(|pass| pass.conclude(new)));
        }
        if tails == 0 && !have_groups_seen_all {
            let all = [old, new].concat();
            verdicts.push(self.read_back(&all, outcome, watcher).await?);
        }
        Ok(together(verdicts))
    }

    async fn read_back(
        &self,
        sent: &[Sent],
        outcome: &mut Outcome,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<Verification> {
        let (begins, ends) = (self.target.beginnings().await?, self.final_ends().await?);
        let clock = RunClock::start();
        let mut stage = self.stage(clock, Duration::ZERO, NEVER, Kind::Fetch);
        let setup = self.reader(Scrutiny::Complete);
        self.add_readers(&mut stage, self.plan.threads, 0, &setup, &|partition| {
            vec![Stretch {
                partition,
                from: begins.get(&partition).copied().unwrap_or(0),
                until: Arc::new(AtomicI64::new(ends.get(&partition).copied().unwrap_or(0))),
                is_repeated: false,
            }]
        })?;
        let mut read = stage.run(watcher, None, async || Ok(())).await?;
        outcome.errors.append(&mut read.errors);
        let pass = read.passes.pop().unwrap_or_default();
        Ok(pass.conclude(sent))
    }
}

/// One connection's share of a number of records.
fn share(records: u64, number: u64, count: u64) -> u64 {
    records / count + u64::from(number < records % count)
}
