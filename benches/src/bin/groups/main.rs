//! `groups`: consumer groups on our server and on a real Kafka, under the same raw requests.
//!
//! | `--only` | what is measured |
//! |---|---|
//! | `assignment` | from the join of a new group's only member until it knows its partitions, both protocols |
//! | `rebalance` | a KIP-848 group of 100 members over 1,000 partitions, when all, one more, or one less are there |
//! | `commits` | a thousand groups that commit offsets |
//! | `partitions` | the commits again, ours alone, over several numbers of partitions of `__consumer_offsets` |
//! | `start` | from a start until the offsets of all groups can be read |
//!
//! Brokers take turns within a round, the first round is dropped, and `--continue` adds rounds to those of an earlier run.
//! Ours answers when the disk has what it tells of. Kafka does when the page cache has it, and commits once more with
//! `flush.messages=1` on `__consumer_offsets`, where it syncs each append.

mod commits;
mod members;
mod start;
mod turns;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use log_bench::comparison::Comparison;
use log_bench::rounds::{Rounds, Setup, wanted};

use crate::turns::Session;

/// Compares consumer groups.
#[derive(Debug, Parser)]
struct Options {
    /// What is measured; all, if nothing is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    #[command(flatten)]
    setup: Setup,
    /// Groups that commit.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Partitions in each commit.
    #[arg(long, default_value_t = 10)]
    partitions: i32,
    /// Commits under way at once: one consumer of each group, without saying more.
    #[arg(long)]
    connections: Option<usize>,
    /// How long groups commit in each round, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Members of the group that rebalances.
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Offset commits in the log before the start that is measured.
    #[arg(long, default_value_t = 1_000_000)]
    start_commits: usize,
    /// The groups that made them: with few most of them are out of date, with many all count.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    start_groups: Vec<usize>,
    /// Only makes what `start` reads, which is kept for later runs.
    #[arg(long)]
    prepare: bool,
    /// Numbers of partitions of `__consumer_offsets` to compare.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 50])]
    offsets_partitions: Vec<u32>,
    /// Only our server.
    #[arg(long)]
    ours_only: bool,
    /// Adds to the figures that the file has.
    #[arg(long = "continue", requires = "json")]
    goes_on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Assignment,
    Rebalance,
    Commits,
    Partitions,
    Start,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let programs = options.setup.programs()?;
    let earlier = options.setup.json.as_ref();
    let comparison = match earlier.filter(|path| options.goes_on && path.exists()) {
        Some(path) => Comparison::from_json(&std::fs::read_to_string(path)?)
            .with_context(|| format!("figures in {}", path.display()))?,
        None => Comparison::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut session = Session {
        options: &options,
        programs: &programs,
        rounds: Rounds::new(&options.setup, comparison),
        round: Vec::new(),
    };
    if options.prepare {
        return runtime.block_on(start::prepare_all(&mut session));
    }
    runtime.block_on(run(&mut session))?;
    session.rounds.end(&session.rounds.figures.to_markdown())
}

async fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let sections = wanted(&session.options.only);
    for section in &sections {
        match section {
            // Whoever measures both does so in the same rounds.
            Section::Rebalance if sections.contains(&Section::Assignment) => {}
            Section::Assignment | Section::Rebalance => members::compare(session, &sections).await?,
            Section::Commits => commits::compare(session).await?,
            Section::Partitions => commits::compare_partitions(session).await?,
            Section::Start => start::compare(session).await?,
        }
    }
    Ok(())
}
