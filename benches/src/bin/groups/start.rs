//! From the start of a broker until the offsets of all groups can be read.
//!
//! What is read was written by the broker itself, which was stopped in order. It is made once and copied for each start, so that every
//! start finds the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use log_bench::brokers::{Broker, Kind};
use log_bench::comparison::Better;
use log_bench::group_commits::{CommitLoad, TOPIC, Until, commit, wait_until_served};

use crate::turns::{OURS, Session, Side, make_topic, milliseconds};

const KAFKA: Side = Side {
    kind: Kind::Kafka,
    name: "",
    settings: &[],
};
const SIDES: [Side; 2] = [OURS, KAFKA];
/// So many groups are asked for in one request.
const ASKED_MAX: usize = 10_000;
const CONNECTIONS_MAX: usize = 1000;

pub(crate) async fn compare(session: &mut Session<'_>) -> anyhow::Result<()> {
    prepare_all(session).await?;
    while let Some(round) = session.begin_round("start")? {
        for groups in session.options.start_groups.clone() {
            for side in session.in_turn(&SIDES, round) {
                measure(session, side, groups).await?;
            }
        }
    }
    Ok(())
}

/// Makes the data directories that are not there yet.
pub(crate) async fn prepare_all(session: &mut Session<'_>) -> anyhow::Result<()> {
    for groups in session.options.start_groups.clone() {
        for side in session.in_turn(&SIDES, 0) {
            let data = data(session, side, groups);
            if !data.exists() {
                prepare(session, side, groups, &data).await?;
            }
        }
    }
    Ok(())
}

fn data(session: &Session<'_>, side: Side, groups: usize) -> PathBuf {
    let options = session.options;
    let name = format!(
        "groups-start-{}-{}-of-{groups}x{}",
        side.kind.name(),
        options.start_commits,
        options.partitions
    );
    options.setup.directory.join(name)
}

async fn prepare(session: &Session<'_>, side: Side, groups: usize, data: &Path) -> anyhow::Result<()> {
    let options = session.options;
    let unfinished = data.with_extension("unfinished");
    let mut broker = Broker::start_fresh(side.kind, session.programs, &unfinished, &[]).await?;
    make_topic(&broker.address, TOPIC, options.partitions).await?;
    let load = CommitLoad {
        groups,
        partitions: options.partitions,
        connections: CONNECTIONS_MAX.min(groups),
    };
    let a_round = groups * usize::try_from(options.partitions)?;
    let rounds = options.start_commits.div_ceil(a_round);
    commit(&broker.address, load, Until::Rounds(rounds)).await?;
    // What it does to its log afterwards is part of what it finds at the start.
    tokio::time::sleep(Duration::from_secs(3)).await;
    broker.stop()?;
    Ok(std::fs::rename(&unfinished, data)?)
}

async fn measure(session: &mut Session<'_>, side: Side, groups: usize) -> anyhow::Result<()> {
    let prepared = data(session, side, groups);
    let data = prepared.with_extension("started");
    std::fs::remove_dir_all(&data).ok();
    let copied = Command::new("cp").arg("-a").arg(&prepared).arg(&data).status()?;
    ensure!(copied.success(), "{} cannot be copied", prepared.display());
    rustix::fs::sync();
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (broker, begun) = Broker::start_with(side.kind, session.programs, &data, side.settings)?;
    wait_until_served(&broker.address, groups.min(ASKED_MAX))
        .await
        .with_context(|| format!("{} does not serve its groups", side.kind.name()))?;
    let took = begun.elapsed();
    let (cpu, memory) = (broker.cpu_seconds()?, broker.memory()?);
    drop(broker);
    std::fs::remove_dir_all(&data)?;
    let what = format!(
        "start after {} offset commits of {groups} groups",
        session.options.start_commits
    );
    session.add(side, &what, "ms", Better::Less, milliseconds(took));
    session.add(side, &what, "s of broker CPU", Better::Less, cpu);
    session.add(side, &what, "MiB anonymous", Better::Less, memory.anonymous);
    Ok(())
}
