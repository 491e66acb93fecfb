//! `http`: what the HTTP front costs, held to its goals.
//!
//! | `--only` | what is measured | wanted |
//! |---|---|---|
//! | `produce` | one small JSON record a request, 64 connections, beside an axum handler that does nothing | half of its requests a second |
//! | `stream` | NDJSON, beside Kafka's protocol | 300 MB/s, or 40 % of the Kafka path if that is less |
//! | `follow` | 5,000 records/s to 10 followers over SSE | p99 2 ms from the moment a record was due to be sent |
//! | `idle` | memory of 1,000 followers that are sent nothing | less than 50 MiB |
//! | `hostile` | 5,000 slow connections beside 5,000 records/s end to end over Kafka's protocol | the same p99, clear statuses |
//! | `scrape` | `/metrics` with 10,000 partitions | 100 ms, 1 MB |
//!
//! The broker is started in a directory of its own. Sides take turns within a round, each beginning with another one, the first round is
//! dropped, and ratios are taken within a round. The load is this one process; its own processor time is told beside the broker's.

mod bare;
mod client;
mod figures;
mod follow;
mod hostile;
mod idle;
mod kafka_load;
mod produce;
mod scrape;
mod servers;
mod stream;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use log_bench::load::local;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::figures::{Figures, Goal};
use crate::servers::Ours;

/// Measures the HTTP front.
#[derive(Debug, Parser)]
struct Options {
    /// What is measured; all, if nothing is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    /// How many rounds count; one more is run first and dropped.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each side is loaded in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Partitions of the topic that small records go to.
    #[arg(long, default_value_t = 1)]
    partitions: usize,
    /// Our server.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/stratalog"))]
    stratalog: PathBuf,
    /// Where the broker keeps its data.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/http"))]
    directory: PathBuf,
    /// Writes every figure to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Is the handler that does nothing, instead.
    #[arg(long, hide = true)]
    bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Produce,
    Stream,
    Follow,
    Idle,
    Hostile,
    Scrape,
}

/// What sections share.
#[derive(Debug)]
struct Session {
    options: Options,
    figures: Figures,
    /// Whether the round is one that counts.
    counts: bool,
}

impl Session {
    /// A broker with these settings besides its defaults.
    fn start(&self, settings: &[(&str, &str)]) -> anyhow::Result<Ours> {
        Ours::start(&self.options.stratalog, &self.options.directory, settings)
    }

    /// Notes a figure; those of the first round are only shown.
    fn add(&mut self, load: &str, figure: &str, goal: Goal, value: f64) {
        let dropped = if self.counts { "" } else { " (dropped)" };
        writeln!(std::io::stderr(), "{load}: {value:.3} {figure}{dropped}").ok();
        if self.counts {
            self.figures.add(load, figure, goal, value);
        }
    }

    /// The rounds: the first one warms up.
    fn begin_round(&mut self, round: usize) {
        self.counts = 0 < round;
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.bare {
        return bare::serve();
    }
    ensure!(
        options.stratalog.exists(),
        "{} is not there: `cargo build --release -p log-server -p log-bench` makes it",
        options.stratalog.display()
    );
    std::fs::create_dir_all(&options.directory)?;
    raise_file_limit();
    let mut session = Session {
        figures: Figures::new(facts(&options)),
        options,
        counts: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&mut session))?;
    write!(std::io::stdout(), "{}", session.figures.to_markdown())?;
    if let Some(path) = &session.options.json {
        std::fs::write(path, serde_json::to_string_pretty(&session.figures)?)?;
    }
    Ok(())
}

async fn run(session: &mut Session) -> anyhow::Result<()> {
    let only = session.options.only.clone();
    let is_wanted = |section| only.is_empty() || only.contains(&section);
    if is_wanted(Section::Produce) {
        produce::measure(session).await?;
    }
    if is_wanted(Section::Stream) {
        stream::measure(session).await?;
    }
    if is_wanted(Section::Follow) {
        follow::measure(session).await?;
    }
    if is_wanted(Section::Idle) {
        idle::measure(session).await?;
    }
    if is_wanted(Section::Hostile) {
        hostile::measure(session).await?;
    }
    if is_wanted(Section::Scrape) {
        scrape::measure(session).await?;
    }
    Ok(())
}

fn facts(options: &Options) -> Vec<(String, String)> {
    let machine = local::machine();
    let (cores, model) = (machine.cpus, machine.cpu_model.unwrap_or_default());
    let kernel = machine.kernel.unwrap_or_default();
    vec![
        ("machine".to_owned(), format!("{cores} cores, {model}, {kernel}")),
        ("rounds that count".to_owned(), options.rounds.to_string()),
        ("seconds a side in each".to_owned(), options.seconds.to_string()),
    ]
}

/// Thousands of connections are files, too.
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // Where it is too low after all, a connection says so.
    setrlimit(Resource::Nofile, limit).ok();
}
