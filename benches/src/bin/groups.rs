//! `groups`: a thousand groups that commit offsets, on our server and on a real Kafka, and how soon both read them after a start.
//!
//! Ours answers a commit when it is on the disk. Kafka does when the page cache has it, and is measured twice: as it is, and with
//! `flush.messages=1` on `__consumer_offsets`, where it syncs each append.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use log_bench::brokers::{Broker, Kind, Programs};
use log_bench::comparison::{Better, Comparison, Quantity};
use log_bench::group_commits::{CommitLoad, TOPIC, Until, commit, wait_until_served};
use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::ClientConfig;

/// Compares commits of many groups, and the start that follows.
#[derive(Debug, Parser)]
struct Options {
    /// How many rounds count.
    #[arg(long, default_value_t = 3)]
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
    /// How long groups commit, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Offset commits in the log before the start that is measured; 0 leaves that out.
    #[arg(long, default_value_t = 1_000_000)]
    start_commits: usize,
    /// The same commits by this many groups instead, so that more of them count.
    #[arg(long)]
    start_groups: Option<usize>,
    /// Only our server.
    #[arg(long)]
    ours_only: bool,
    /// Our server.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/stratalog"))]
    stratalog: PathBuf,
    /// Where both brokers keep their data.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compare"))]
    directory: PathBuf,
    /// Writes every figure to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A run on one broker, and whether Kafka syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    kind: Kind,
    synced: bool,
}

const VARIANTS: [Variant; 3] = [
    Variant {
        kind: Kind::Stratalog,
        synced: true,
    },
    Variant {
        kind: Kind::Kafka,
        synced: false,
    },
    Variant {
        kind: Kind::Kafka,
        synced: true,
    },
];

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut comparison = Comparison::default();
    for round in 0..options.rounds {
        for variant in VARIANTS {
            if options.ours_only && variant.kind != Kind::Stratalog {
                continue;
            }
            let data = options.directory.join(format!("groups-{}", variant.kind.name()));
            let outcome = runtime.block_on(measure(&options, &programs, variant, &data, &mut comparison));
            std::fs::remove_dir_all(&data).ok();
            outcome.with_context(|| format!("round {round}, {variant:?}"))?;
        }
    }
    writeln!(std::io::stdout(), "{}", comparison.to_markdown())?;
    if let Some(path) = &options.json {
        std::fs::write(path, comparison.to_json()?)?;
    }
    Ok(())
}

async fn measure(
    options: &Options,
    programs: &Programs,
    variant: Variant,
    data: &Path,
    comparison: &mut Comparison,
) -> anyhow::Result<()> {
    std::fs::remove_dir_all(data).ok();
    std::fs::create_dir_all(data.parent().context("a directory to work in")?)?;
    Broker::prepare(variant.kind, programs, data)?;
    let (mut broker, _) = Broker::start(variant.kind, programs, data)?;
    wait_for(&mut broker).await?;
    make_topic(&broker.address, options.partitions).await?;
    let load = CommitLoad {
        groups: options.groups,
        partitions: options.partitions,
        connections: options.connections.unwrap_or(options.groups).min(options.groups),
    };
    // The first commits make the coordinator's topic, and are not counted.
    commit(&broker.address, load, Until::Rounds(1)).await?;
    if variant == VARIANTS[2] {
        sync_commits(&broker.address).await?;
    }
    let cpu = broker.cpu_seconds()?;
    let figures = commit(
        &broker.address,
        load,
        Until::Elapsed(Duration::from_secs(options.seconds)),
    )
    .await?;
    let cpu = broker.cpu_seconds()? - cpu;
    let promise = if variant.synced { "synced" } else { "page cache" };
    let mut add = |what: String, unit, better, value| {
        let line = format!("{} {promise}: {what}: {value:.3} {unit}", variant.kind.name());
        writeln!(std::io::stdout(), "{line}").ok();
        let load = format!("{what} ({} {promise})", variant.kind.name());
        comparison.add(variant.kind, Quantity { load, unit, better }, value);
    };
    let what = format!("{} groups × {} partitions", load.groups, load.partitions);
    let commits = f64::from(u32::try_from(figures.commits)?);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    add(
        what.clone(),
        "commits/s",
        Better::More,
        figures.commits_per_second,
    );
    add(
        what.clone(),
        "ms, half",
        Better::Less,
        milliseconds(figures.quantile(500)),
    );
    add(
        what.clone(),
        "ms, 99 %",
        Better::Less,
        milliseconds(figures.quantile(990)),
    );
    add(what, "µs of CPU a commit", Better::Less, cpu / commits * 1e6);
    if 0 < options.start_commits {
        let groups = options.start_groups.unwrap_or(options.groups);
        let a_round = groups * usize::try_from(options.partitions)?;
        let start_load = CommitLoad {
            groups,
            connections: load.connections.min(groups),
            ..load
        };
        commit(
            &broker.address,
            start_load,
            Until::Rounds(options.start_commits.div_ceil(a_round)),
        )
        .await?;
        broker.stop()?;
        drop(broker);
        let (mut broker, begun) = Broker::start(variant.kind, programs, data)?;
        wait_for(&mut broker).await?;
        wait_until_served(&broker.address, groups.min(10_000)).await?;
        let what = format!("start after {} commits of {groups} groups", options.start_commits);
        add(what, "s", Better::Less, begun.elapsed().as_secs_f64());
        broker.stop()?;
        return Ok(());
    }
    broker.stop()
}

async fn wait_for(broker: &mut Broker) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_mins(1);
    while tokio::net::TcpStream::connect(&broker.address).await.is_err() {
        broker.check_alive()?;
        ensure!(Instant::now() < until, "nobody listens on {}", broker.address);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn make_topic(address: &str, partitions: i32) -> anyhow::Result<()> {
    let admin = Admin::new(ClientConfig::new(address))?;
    let topic = NewTopic::new(TOPIC).with_partitions(partitions);
    admin
        .create_topics(&[topic], Intent::Apply)
        .await?
        .into_iter()
        .try_for_each(|made| made.map(drop))?;
    Ok(())
}

async fn sync_commits(address: &str) -> anyhow::Result<()> {
    use log_client::admin::{ConfigChange, ConfigResource};
    let admin = Admin::new(ClientConfig::new(address))?;
    let resource = ConfigResource::Topic("__consumer_offsets".to_owned());
    let change = ("flush.messages".to_owned(), ConfigChange::Set("1".to_owned()));
    admin.alter_configs(&resource, &[change], Intent::Apply).await?;
    Ok(())
}
