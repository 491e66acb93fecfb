//! A case to measure, and the rounds in which all cases take turns.
//!
//! Every round runs every case once, each time beginning with another one, so that slow minutes and whatever a case leaves
//! behind (page cache, dirty pages) fall on all of them. The first round warms up and is dropped.

use std::hint::black_box;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};

use crate::report::Report;

/// How a bench program is called: `cargo bench -p log-bench --bench NAME -- OPTIONS`.
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// Only cases whose group and name contain this.
    pub filter: Option<String>,
    /// How many rounds count; one more is run first and dropped.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Where files are made: the file system there is what is measured. By default below `target/`.
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// Also writes every sample to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Given by `cargo bench`. Without it each case runs once on little data, which only shows that it works.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// One run of one case.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// What was done, counted.
    pub operations: u64,
    /// What was moved.
    pub bytes: u64,
    /// How long it took. Where operations were timed one by one, what lies between them does not count.
    pub elapsed: Duration,
    /// What the process spent on it, in user space and in the kernel, between operations as well.
    pub cpu: Duration,
    /// Of the single operations, in order of size; empty where they were not timed one by one.
    pub latencies: Vec<Duration>,
}

impl Sample {
    /// The latency that a share of all operations did not exceed.
    #[must_use]
    pub fn latency_at(&self, per_mille: usize) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.get(last * per_mille / 1000).copied()
    }
}

/// Measures a stretch of work.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    cpu_begun: Duration,
    latencies: Vec<Duration>,
}

impl Watch {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            latencies: Vec::new(),
            cpu_begun: process_cpu(),
            begun: Instant::now(),
        }
    }

    /// Does one operation and notes how long it took.
    ///
    /// # Errors
    /// What the operation fails with.
    pub fn time<E>(&mut self, operation: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let begun = Instant::now();
        operation()?;
        self.latencies.push(begun.elapsed());
        Ok(())
    }

    /// Calls `operation` with 0, 1, 2 … until it has been done so often, as one stretch.
    ///
    /// # Errors
    /// What the operation fails with.
    pub fn repeat<T>(
        times: u64,
        bytes_each: usize,
        mut operation: impl FnMut(u64) -> anyhow::Result<T>,
    ) -> anyhow::Result<Sample> {
        let watch = Self::start();
        for turn in 0..times {
            black_box(operation(turn)?);
        }
        Ok(watch.stop(times, times * u64::try_from(bytes_each)?))
    }

    /// Ends now.
    #[must_use]
    pub fn stop(mut self, operations: u64, bytes: u64) -> Sample {
        let elapsed = self.begun.elapsed();
        let cpu = process_cpu().saturating_sub(self.cpu_begun);
        let elapsed = if self.latencies.is_empty() {
            elapsed
        } else {
            self.latencies.iter().sum()
        };
        self.latencies.sort_unstable();
        Sample {
            operations,
            bytes,
            elapsed,
            cpu,
            latencies: self.latencies,
        }
    }
}

/// What this process has spent so far.
fn process_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

/// Something to measure. Cases of one group do the same thing in different ways; the first of them is
/// what the others are compared with.
pub struct Case<'a> {
    /// What is done.
    pub group: String,
    /// In which way.
    pub name: String,
    run: Box<dyn FnMut() -> anyhow::Result<Sample> + 'a>,
}

impl std::fmt::Debug for Case<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.group, self.name)
    }
}

impl<'a> Case<'a> {
    /// A case; `run` prepares, measures with a [`Watch`] and tidies up.
    pub fn new(
        group: impl Into<String>,
        name: impl Into<String>,
        run: impl FnMut() -> anyhow::Result<Sample> + 'a,
    ) -> Self {
        Self {
            group: group.into(),
            name: name.into(),
            run: Box::new(run),
        }
    }
}

impl Options {
    /// How much a case should move: `full` bytes, or next to nothing when only showing that it works.
    #[must_use]
    pub fn volume(&self, full: u64) -> u64 {
        if self.bench { full } else { full.min(2 << 20) }
    }

    /// How often a case that does something small should do it.
    #[must_use]
    pub fn times(&self, full: u64) -> u64 {
        if self.bench { full } else { full.min(100) }
    }

    /// A new directory to work in, which goes away with the value. `scratch` is below the build directory.
    ///
    /// # Errors
    /// The system's.
    pub fn workplace(&self, scratch: &str) -> anyhow::Result<Workplace> {
        let parent = self.directory.clone().unwrap_or_else(|| PathBuf::from(scratch));
        let path = parent.join(format!("log-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Workplace { path })
    }

    /// Runs the cases in rounds, prints the tables and writes the samples.
    ///
    /// # Errors
    /// The first failure of a case, and those of writing.
    pub fn run(&self, title: &str, mut cases: Vec<Case<'_>>) -> anyhow::Result<()> {
        if let Some(wanted) = &self.filter {
            cases.retain(|case| format!("{case:?}").contains(wanted));
        }
        anyhow::ensure!(!cases.is_empty(), "no case contains that");
        let mut report = Report::new(title, cases.iter().map(|case| (&case.group, &case.name)));
        let rounds = if self.bench { self.rounds } else { 0 };
        let shows_progress = self.bench && std::io::stderr().is_terminal();
        for round in 0..=rounds {
            for place in 0..cases.len() {
                let index = (place + round * 7) % cases.len();
                let case = cases.get_mut(index).context("a case of that number")?;
                if shows_progress {
                    write!(std::io::stderr(), "\r\x1b[Kround {round} of {rounds}: {case:?}")?;
                }
                let sample = (case.run)().with_context(|| format!("{case:?}"))?;
                if 0 < round || rounds == 0 {
                    report.add(index, sample);
                }
            }
        }
        if shows_progress {
            write!(std::io::stderr(), "\r\x1b[K")?;
        }
        write!(std::io::stdout(), "{}", report.to_markdown())?;
        if let Some(path) = &self.json {
            std::fs::write(path, report.to_json()?).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// A directory that is removed with all that is in it.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
}

impl Workplace {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok();
    }
}
