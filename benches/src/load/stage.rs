//! One stretch of load: connections are opened, workers run in threads of their own, and somebody watches until all are done.
//! What runs is decided by whoever fills the stage; here it is driven, watched, sampled and summed up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::local::{self, Usage};
use super::meter::{Board, Kind, Meter, MeterMaker, Stretch, Window};
use super::result::Groups;
use super::run_clock::{RunClock, nanoseconds};
use super::verify::{Sent, Verifier};
use super::worker::{Role, Worker};

/// Between two looks at the load.
const LOOK: Duration = Duration::from_millis(50);

/// What whoever watches sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live {
    /// What runs, counted from its start.
    pub elapsed: Duration,
    /// How long it is to run; nobody knows where a count ends it.
    pub planned: Option<Duration>,
    /// Whether this is still the warm-up.
    pub is_warm_up: bool,
    /// Records acknowledged so far.
    pub produced_records: u64,
    /// Their bytes.
    pub produced_bytes: u64,
    /// Records that arrived so far.
    pub fetched_records: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// The latest p99.
    pub p99: Duration,
}

/// Whoever watches a run.
pub trait Watcher: Sync {
    /// A new part of the run begins.
    fn phase(&self, what: &str);
    /// How it stands, several times a second.
    fn look(&self, live: &Live);
    /// Whether the run is to end now.
    fn is_interrupted(&self) -> bool;
}

/// What the machine and the broker had spent at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// When, in seconds of the run.
    pub at_s: f64,
    /// The broker.
    pub broker: Option<Usage>,
    /// This program.
    pub own_cpu_s: f64,
    /// The machine.
    pub machine_cpu_s: Option<f64>,
}

/// What a stage gave.
#[derive(Debug)]
pub struct Outcome {
    /// All workers' counts.
    pub meter: Meter,
    /// The timeline.
    pub stretches: Vec<Stretch>,
    /// At the start, at the end of each stretch, and at the end.
    pub samples: Vec<Sample>,
    /// At the end of the warm-up.
    pub at_from: Sample,
    /// At the end of the load.
    pub at_until: Sample,
    /// What was sent.
    pub sent: Vec<Sent>,
    /// What the readers saw, by pass.
    pub passes: Vec<Verifier>,
    /// What groups saw, each of them one pass.
    pub group_passes: Vec<Verifier>,
    /// What groups did.
    pub groups: Option<Groups>,
    /// Records that were due and never sent.
    pub unsent: u64,
    /// What went wrong, in words.
    pub errors: Vec<String>,
    /// Whether somebody ended it early.
    pub is_interrupted: bool,
}

/// A load to run.
#[derive(Debug)]
pub struct Stage {
    clock: RunClock,
    window: Window,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    workers: Vec<Worker>,
    next_worker: usize,
    passes: Vec<(usize, usize, usize)>,
    broker: Option<u32>,
}

impl Stage {
    /// An empty one. `grace` is how long answers are waited for behind the end.
    #[must_use]
    pub fn new(
        clock: RunClock,
        window: Window,
        shown: Kind,
        threads: usize,
        grace: Duration,
        broker: Option<u32>,
    ) -> Self {
        let board = Arc::new(Board::default());
        let stop = Arc::new(AtomicBool::new(false));
        let give_up_at = window.until.saturating_add(nanoseconds(grace));
        let workers = (0..threads.max(1))
            .map(|_| {
                let meter = Meter::new(window, shown, Arc::clone(&board));
                Worker::new(meter, clock, give_up_at, Arc::clone(&stop))
            })
            .collect();
        Self {
            clock,
            window,
            board,
            stop,
            workers,
            next_worker: 0,
            passes: Vec::new(),
            broker,
        }
    }

    /// One more connection. Readers name the pass they belong to.
    pub fn add(&mut self, role: Role, pass: Option<usize>) {
        let index = self.next_worker;
        self.next_worker = (index + 1) % self.workers.len();
        if let Some(worker) = self.workers.get_mut(index) {
            if let Some(pass) = pass {
                self.passes.push((pass, index, worker.roles.len()));
            }
            worker.roles.push(role);
        }
    }

    /// Makes meters for those who take part beside the workers.
    #[must_use]
    pub fn meters(&self, shown: Kind) -> MeterMaker {
        let (window, board) = (self.window, Arc::clone(&self.board));
        Arc::new(move || Meter::new(window, shown, Arc::clone(&board)))
    }

    fn sample(&self) -> Sample {
        Sample {
            at_s: seconds(self.clock.now()),
            broker: self.broker.and_then(local::usage_of),
            own_cpu_s: local::own_cpu_s(),
            machine_cpu_s: local::machine_cpu_s(),
        }
    }

    /// Runs it to its end. `producers_done` is called once, when nothing more is produced while readers still read.
    ///
    /// # Errors
    /// The system's.
    pub async fn run(
        mut self,
        watcher: &dyn Watcher,
        planned: Option<Duration>,
        mut producers_done: impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let producing = Arc::new(AtomicUsize::new(0));
        let running = Arc::new(AtomicUsize::new(self.workers.len()));
        producing.store(self.workers.iter().map(Worker::producers).sum(), Ordering::SeqCst);
        let has_producers = 0 < producing.load(Ordering::SeqCst);
        let mut threads = Vec::new();
        for mut worker in std::mem::take(&mut self.workers) {
            let running = Arc::clone(&running);
            let producing = Arc::clone(&producing);
            let thread = std::thread::Builder::new().name("load".to_owned());
            threads.push(
                thread
                    .spawn(move || {
                        let outcome = worker.run(&producing);
                        running.fetch_sub(1, Ordering::SeqCst);
                        (worker, outcome)
                    })
                    .context("start a thread")?,
            );
        }
        let mut samples = vec![self.sample()];
        let (mut at_from, mut at_until) = (None, None);
        let mut has_told = false;
        let mut is_interrupted = false;
        while 0 < running.load(Ordering::SeqCst) {
            tokio::time::sleep(LOOK).await;
            let now = self.clock.now();
            let stretch = samples.last().map_or(0.0, |sample| sample.at_s);
            if self.window.from <= now && at_from.is_none() {
                at_from = Some(self.sample());
            }
            let is_over =
                self.window.until <= now || (has_producers && producing.load(Ordering::SeqCst) == 0);
            if is_over && at_until.is_none() && at_from.is_some() {
                at_until = Some(self.sample());
            }
            if stretch + seconds(self.window.stretch) <= seconds(now) {
                samples.push(self.sample());
            }
            watcher.look(&self.live(now, planned));
            if watcher.is_interrupted() {
                is_interrupted = true;
                self.stop.store(true, Ordering::Relaxed);
            }
            if !has_told && producing.load(Ordering::SeqCst) == 0 {
                has_told = true;
                producers_done().await?;
            }
        }
        samples.push(self.sample());
        let end = samples.last().copied().unwrap_or_default();
        let begin = samples.first().copied().unwrap_or_default();
        let mut done = Vec::new();
        for thread in threads {
            let (worker, outcome) = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of the load panicked"))?;
            outcome?;
            done.push(worker);
        }
        Ok(self.sum_up(
            done,
            samples,
            at_from.unwrap_or(begin),
            at_until.unwrap_or(end),
            is_interrupted,
        ))
    }

    fn live(&self, now: u64, planned: Option<Duration>) -> Live {
        let board = &self.board;
        Live {
            elapsed: Duration::from_nanos(now),
            planned,
            is_warm_up: now < self.window.from,
            produced_records: board.produced_records.load(Ordering::Relaxed),
            produced_bytes: board.produced_bytes.load(Ordering::Relaxed),
            fetched_records: board.fetched_records.load(Ordering::Relaxed),
            fetched_bytes: board.fetched_bytes.load(Ordering::Relaxed),
            p99: Duration::from_nanos(board.p99_ns.load(Ordering::Relaxed)),
        }
    }

    fn sum_up(
        &self,
        mut workers: Vec<Worker>,
        samples: Vec<Sample>,
        at_from: Sample,
        at_until: Sample,
        is_interrupted: bool,
    ) -> Outcome {
        let mut meter = Meter::new(self.window, Kind::Produce, Arc::clone(&self.board));
        let (mut sent, mut unsent, mut errors) = (Vec::new(), 0, Vec::new());
        let mut passes: Vec<Verifier> = Vec::new();
        for worker in &mut workers {
            meter.merge(&worker.meter);
            for role in &mut worker.roles {
                match role {
                    Role::Producer(producer) => {
                        sent.extend(producer.sent());
                        unsent += producer.unsent();
                        errors.extend(producer.error.take());
                    }
                    Role::Reader(reader) => errors.extend(reader.error.take()),
                    Role::Idle(_) => {}
                }
            }
        }
        for &(pass, worker, role) in &self.passes {
            let role = workers
                .get_mut(worker)
                .and_then(|worker| worker.roles.get_mut(role));
            if let Some(Role::Reader(reader)) = role {
                if passes.len() <= pass {
                    passes.resize_with(pass + 1, Verifier::default);
                }
                if let Some(place) = passes.get_mut(pass) {
                    place.merge(std::mem::take(&mut reader.verifier));
                }
            }
        }
        Outcome {
            meter,
            stretches: self.board.stretches(),
            samples,
            at_from,
            at_until,
            sent,
            passes,
            group_passes: Vec::new(),
            groups: None,
            unsent,
            errors,
            is_interrupted,
        }
    }
}

/// Nanoseconds as seconds.
#[must_use]
pub fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}
