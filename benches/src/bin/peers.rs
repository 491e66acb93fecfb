//! `peers`: the same load on our server and on its peers, in alternation, on this machine.
//!
//! All peers run side by side; each round loads every one of them once, beginning with another one each time, and the first
//! round is dropped. What is loaded is said as to `stratalog bench`, behind `--`; of several loads, each behind a `--` of its own, a
//! peer does one after the other when its turn comes. Medians, extremes and ratios within a round are printed, and written as
//! JSON and as an HTML page on request.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use log_bench::load::result::RunResult;
use log_bench::page;
use log_bench::peers::foreign;
use log_bench::peers::nats::Nats;
use log_bench::peers::peer::{Peer, Program};
use log_bench::peers::protocol::Protocol;
use log_bench::peers::redis::Redis;
use log_bench::peers::server::{Places, Server};
use log_bench::peers::shape::Shape;
use log_bench::versus;
use log_bench::versus::subject::Group;
use log_bench::versus::table::to_markdown;

/// Loads our server and its peers in alternation.
#[derive(Debug, Parser)]
struct Options {
    /// Who; the first is what the others are compared with.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "stratalog,stratalog-relaxed,kafka,null,null-synced,redis,nats"
    )]
    peers: Vec<Peer>,
    /// How many rounds count; one more is run first and dropped.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Our server, which is also the load.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/stratalog"))]
    stratalog: PathBuf,
    /// The null broker.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/null_broker"))]
    null_broker: PathBuf,
    /// Where data are kept while it runs, and programs that are fetched.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers"))]
    directory: PathBuf,
    /// What the null broker prepares for each partition; more than one run writes to it.
    #[arg(long, default_value_t = 256 << 20)]
    null_segment_bytes: u64,
    /// Writes every result to this file, as a list.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Writes an HTML page to this file.
    #[arg(long)]
    page: Option<PathBuf>,
    /// The load, as to `stratalog bench`; behind another -- another one.
    #[arg(last = true, required = true)]
    load: Vec<String>,
}

impl Options {
    fn loads(&self) -> Vec<&[String]> {
        self.load.split(|word| word == "--").collect()
    }
}

/// What waits to be written is on the disk, the files of the run before are gone, and the disk is at rest, before a run.
const REST: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.peers.iter().any(|peer| peer.speaks_kafka()),
        "at least one peer must speak Kafka's protocol: the others take the shape of the load from its result"
    );
    std::fs::create_dir_all(&options.directory)?;
    let places = Places {
        stratalog: options.stratalog.clone(),
        null_broker: options.null_broker.clone(),
        scripts: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
        cache: options.directory.join("cache"),
        data: options.directory.join("data"),
        null_segment_bytes: options.null_segment_bytes,
    };
    for program in [&places.stratalog, &places.null_broker] {
        ensure!(
            program.exists(),
            "{} is not there: `cargo build --release -p log-server -p log-bench` makes it",
            program.display()
        );
    }
    let results = rounds(&options, &places)?;
    write!(std::io::stdout(), "{}", to_markdown(&Group::all(&results)))?;
    if let Some(path) = &options.output {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &options.page {
        let title = format!("Peers: {}", options.load.join(" "));
        std::fs::write(path, page::render(&title, &results))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn rounds(options: &Options, places: &Places) -> anyhow::Result<Vec<RunResult>> {
    let mut programs: Vec<Program> = options.peers.iter().map(|peer| peer.program()).collect();
    let mut servers: Vec<Server> = Vec::new();
    programs.dedup();
    for program in programs {
        if servers.iter().all(|server| server.program != program) {
            servers.push(Server::start(program, places)?);
        }
    }
    // Whoever speaks Kafka's protocol begins the first round: the others take the shape of the load from there.
    let mut first = options.peers.clone();
    first.sort_by_key(|peer| !peer.speaks_kafka());
    let loads = options.loads();
    let mut like: Vec<Option<RunResult>> = vec![None; loads.len()];
    let mut results: Vec<Measured> = Vec::new();
    for round in 0..=options.rounds {
        let mut order = if round == 0 {
            first.clone()
        } else {
            options.peers.clone()
        };
        let turn = round.saturating_sub(1) % order.len();
        order.rotate_left(turn);
        for peer in order {
            let server = servers.iter().find(|server| server.program == peer.program());
            let server = server.context("every peer has a process")?;
            for (number, (load, like)) in loads.iter().zip(&mut like).enumerate() {
                rustix::fs::sync();
                std::thread::sleep(REST);
                let result = run(options, load, peer, server, like.as_ref())?;
                say(peer, round, &result)?;
                if 0 < round {
                    let place = options.peers.iter().position(|other| *other == peer);
                    results.push((number, place, result.clone()));
                }
                if peer.speaks_kafka() {
                    like.get_or_insert(result);
                }
            }
        }
    }
    // By load, then in the order in which peers were named; rounds stay in theirs.
    results.sort_by_key(|(load, peer, _)| (*load, *peer));
    Ok(results.into_iter().map(|(_, _, result)| result).collect())
}

/// A result, with the places of its load and of its peer.
type Measured = (usize, Option<usize>, RunResult);

fn run(
    options: &Options,
    load: &[String],
    peer: Peer,
    server: &Server,
    like: Option<&RunResult>,
) -> anyhow::Result<RunResult> {
    if peer.speaks_kafka() {
        return bench(options, load, peer, server);
    }
    let like = like.context("a result to take the shape from")?;
    let shape = Shape::of(&like.workload, &like.plan)?;
    let protocol: &dyn Protocol = if peer == Peer::Nats { &Nats } else { &Redis };
    foreign::run(protocol, peer, server, &shape, like)
}

/// A run of `stratalog bench`.
fn bench(options: &Options, load: &[String], peer: Peer, server: &Server) -> anyhow::Result<RunResult> {
    let file = options.directory.join("result.json");
    let mut command = Command::new(&options.stratalog);
    command.arg("bench").args(load);
    command.args(["--bootstrap", &server.address, "--label", peer.label()]);
    if let Some(setting) = peer.topic_setting() {
        command.args(["--topic-config", setting]);
    }
    command.arg("--output").arg(&file).arg("--quiet");
    let done = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    let mut results = versus::read(&file)?;
    std::fs::remove_file(&file)?;
    let mut result = results.pop().context("a result")?;
    // The null broker tells what it is set to, as ours and Kafka do; who has no word for it is known here.
    if result.broker.durability.mode == log_bench::load::result::DurabilityMode::Unknown {
        result.broker.durability.mode = peer.durability();
    }
    Ok(result)
}

fn say(peer: Peer, round: usize, result: &RunResult) -> anyhow::Result<()> {
    let shown = versus::quantity::QUANTITIES.iter().filter_map(|quantity| {
        let value = quantity.of(result)?;
        Some(format!("{} {}", quantity.name, quantity.unit.show(value)))
    });
    let shown: Vec<String> = shown.collect();
    let dropped = if round == 0 { " (dropped)" } else { "" };
    Ok(writeln!(
        std::io::stderr(),
        "round {round}{dropped}, {}, {}: {}",
        peer.label(),
        peer.durability(),
        shown.join(", ")
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_told_apart() {
        let options = Options::parse_from("peers --rounds 2 -- produce -c 1 -- fetch --fetch 64k".split(' '));
        assert_eq!(options.rounds, 2);
        let loads: Vec<String> = options.loads().iter().map(|load| load.join(" ")).collect();
        assert_eq!(loads, ["produce -c 1", "fetch --fetch 64k"]);
        let options = Options::parse_from(["peers", "--", "produce"]);
        assert_eq!(options.loads(), [["produce"]]);
        assert!(Options::try_parse_from(["peers"]).is_err(), "no load at all");
    }
}
