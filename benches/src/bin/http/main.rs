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

use clap::{Parser, ValueEnum};
use log_bench::brokers::Programs;
use log_bench::load::local;
use log_bench::rounds::{Rounds, Setup, wanted};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::figures::{Figures, Goal};
use crate::servers::Ours;

/// Measures the HTTP front.
#[derive(Debug, Parser)]
#[command(mut_arg("directory", |arg| arg.default_value(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/http"))))]
struct Options {
    /// What is measured; all, if nothing is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    #[command(flatten)]
    setup: Setup,
    /// How long each side is loaded in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Partitions of the topic that small records go to.
    #[arg(long, default_value_t = 1)]
    partitions: usize,
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
    programs: Programs,
    rounds: Rounds<Figures>,
}

impl Session {
    /// A broker with these settings besides its defaults.
    fn start(&self, settings: &[(&str, &str)]) -> anyhow::Result<Ours> {
        Ours::start(&self.programs, &self.options.setup.directory, settings)
    }

    /// Notes a figure; those of the first round are only shown.
    fn add(&mut self, load: &str, figure: &str, goal: Goal, value: f64) {
        self.rounds.say(&format!("{load}: {value:.3} {figure}"));
        if self.rounds.counts() {
            self.rounds.figures.add(load, figure, goal, value);
        }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.bare {
        return bare::serve();
    }
    raise_file_limit();
    let mut session = Session {
        programs: options.setup.programs()?,
        rounds: Rounds::new(&options.setup, Figures::new(facts(&options))),
        options,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&mut session))?;
    session.rounds.end(&session.rounds.figures.to_markdown())
}

async fn run(session: &mut Session) -> anyhow::Result<()> {
    for section in wanted(&session.options.only) {
        session
            .rounds
            .say(&format!("{section:?}: brokers and topics are made"));
        match section {
            Section::Produce => produce::measure(session).await?,
            Section::Stream => stream::measure(session).await?,
            Section::Follow => follow::measure(session).await?,
            Section::Idle => idle::measure(session).await?,
            Section::Hostile => hostile::measure(session).await?,
            Section::Scrape => scrape::measure(session).await?,
        }
    }
    Ok(())
}

fn facts(options: &Options) -> Vec<(String, String)> {
    vec![
        ("machine".to_owned(), local::machine().to_string()),
        ("rounds that count".to_owned(), options.setup.rounds.to_string()),
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
