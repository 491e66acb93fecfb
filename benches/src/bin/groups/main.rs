//! `groups`: consumer groups on our server and on a real Kafka, under the same raw requests.
//!
//! | `--only` | what is measured |
//! |---|---|
//! | `assignment` | from the join of a new group's only member until it knows its partitions, both protocols |
//! | `rebalance` | a KIP-848 group of 100 members over 1,000 partitions, when all, one more, or one less are there |
//! | `commits` | a thousand groups that commit offsets |
//! | `start` | from a start until the offsets of all groups can be read |
//! | `partitions` | the commits again, ours alone, over several numbers of partitions of `__consumer_offsets` |
//!
//! Brokers take turns within a round, the first round is dropped, and `--continue` adds rounds to those of an earlier run.
//! Ours answers when the disk has what it tells of. Kafka does when the page cache has it, and commits once more with
//! `flush.messages=1` on `__consumer_offsets`, where it syncs each append.

mod commits;
mod members;
mod start;
mod turns;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use log_bench::brokers::Programs;
use log_bench::comparison::Comparison;

use crate::turns::Session;

/// Compares consumer groups.
#[derive(Debug, Parser)]
struct Options {
    /// What is measured; all, if nothing is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    /// How many rounds count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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
    /// Our server.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/stratalog"))]
    stratalog: PathBuf,
    /// Where the brokers keep their data.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compare"))]
    directory: PathBuf,
    /// Writes every figure to this file, after each round.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Adds to the figures that the file has.
    #[arg(long = "continue", requires = "json")]
    goes_on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Assignment,
    Rebalance,
    Commits,
    Start,
    Partitions,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = Programs {
        stratalog: options.stratalog.clone(),
        peers: manifest.join("peers"),
        clients: options.directory.join("clients"),
    };
    ensure!(
        programs.stratalog.exists(),
        "{} is not there: run `cargo build --release` first",
        programs.stratalog.display()
    );
    std::fs::create_dir_all(&options.directory)?;
    let earlier = options
        .json
        .as_ref()
        .filter(|path| options.goes_on && path.exists());
    let comparison = match earlier {
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
        comparison,
        round: Vec::new(),
    };
    runtime.block_on(run(&options, &mut session))?;
    writeln!(std::io::stdout(), "{}", session.comparison.to_markdown())?;
    Ok(())
}

async fn run(options: &Options, session: &mut Session<'_>) -> anyhow::Result<()> {
    if options.prepare {
        return start::prepare_all(session).await;
    }
    let is_wanted = |section| options.only.is_empty() || options.only.contains(&section);
    if is_wanted(Section::Assignment) || is_wanted(Section::Rebalance) {
        let (assignment, rebalance) = (is_wanted(Section::Assignment), is_wanted(Section::Rebalance));
        members::compare(
            session,
            members::Wanted {
                assignment,
                rebalance,
            },
        )
        .await?;
    }
    if is_wanted(Section::Commits) {
        commits::compare(session).await?;
    }
    if is_wanted(Section::Partitions) {
        commits::compare_partitions(session).await?;
    }
    if is_wanted(Section::Start) {
        start::compare(session).await?;
    }
    Ok(())
}
