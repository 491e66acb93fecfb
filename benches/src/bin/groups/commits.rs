//! Groups that commit as fast as they are answered.
//! Committers are raw connections, all in one thread, so that the broker and not a client library is what is measured.

use std::time::Duration;

use log_bench::brokers::{Kind, own_cpu_seconds};
use log_bench::comparison::Better;
use log_bench::group_commits::{CommitLoad, TOPIC, Until, commit};
use log_bench::rounds::in_turn;
use log_client::admin::{Admin, ConfigChange, ConfigResource, Intent};
use log_client::config::ClientConfig;

use crate::turns::{OURS, Running, Session, Side, make_topic, milliseconds, number};

const KAFKA: Side = Side {
    kind: Kind::Kafka,
    name: "page cache",
    settings: &[],
};
const KAFKA_SYNCED: Side = Side {
    kind: Kind::Kafka,
    name: "synced",
    settings: &[],
};

/// The same Kafka serves both its sides, one after the other.
pub(crate) async fn compare(session: &mut Session<'_>) -> anyhow::Result<()> {
    let load = load(session);
    let mut brokers = Vec::new();
    for side in session.in_turn(&[OURS, KAFKA], 0) {
        brokers.push(prepared(session, side, &[], load).await?);
    }
    while let Some(round) = session.begin_round("commits")? {
        for side in session.in_turn(&[OURS, KAFKA, KAFKA_SYNCED], round) {
            let Some(running) = brokers.iter().find(|running| running.side.kind == side.kind) else {
                continue;
            };
            if side.kind == Kind::Kafka {
                sync_each(&running.broker.address, side == KAFKA_SYNCED).await?;
            }
            let what = format!("{} groups × {} partitions commit", load.groups, load.partitions);
            measure(session, running, side, load, &what).await?;
        }
    }
    Ok(())
}

/// Ours alone, by the number of partitions that groups are spread over.
pub(crate) async fn compare_partitions(session: &mut Session<'_>) -> anyhow::Result<()> {
    let load = load(session);
    let mut brokers = Vec::new();
    for count in &session.options.offsets_partitions {
        let settings = [("offsets.topic.num.partitions", &*count.to_string())];
        brokers.push((*count, prepared(session, OURS, &settings, load).await?));
    }
    while let Some(round) = session.begin_round("commits by partitions")? {
        for (count, running) in in_turn(&brokers, round) {
            let what = format!("offsets.topic.num.partitions={count}");
            measure(session, running, OURS, load, &what).await?;
        }
    }
    Ok(())
}

fn load(session: &Session<'_>) -> CommitLoad {
    let options = session.options;
    CommitLoad {
        groups: options.groups,
        partitions: options.partitions,
        connections: options.connections.unwrap_or(options.groups).min(options.groups),
    }
}

/// A broker with its topics, and a first commit of each group.
async fn prepared(
    session: &Session<'_>,
    side: Side,
    settings: &[(&str, &str)],
    load: CommitLoad,
) -> anyhow::Result<Running> {
    let running = session.start(side, settings).await?;
    make_topic(&running.broker.address, TOPIC, load.partitions).await?;
    commit(&running.broker.address, load, Until::Rounds(1)).await?;
    Ok(running)
}

async fn measure(
    session: &mut Session<'_>,
    running: &Running,
    side: Side,
    load: CommitLoad,
    what: &str,
) -> anyhow::Result<()> {
    // What was written before is not to be paid for here.
    rustix::fs::sync();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let time = Duration::from_secs(session.options.seconds);
    let (broker_cpu, own_cpu) = (running.broker.cpu_seconds()?, own_cpu_seconds()?);
    let figures = commit(&running.broker.address, load, Until::Elapsed(time)).await?;
    let broker_cpu = running.broker.cpu_seconds()? - broker_cpu;
    let own_cpu = own_cpu_seconds()? - own_cpu;
    let commits = number(figures.commits)?;
    let quantile = |thousandths| milliseconds(figures.quantile(thousandths));
    for (unit, better, value) in [
        ("commits/s", Better::More, figures.commits_per_second),
        ("ms, half of them", Better::Less, quantile(500)),
        ("ms, 99 %", Better::Less, quantile(990)),
        ("µs of broker CPU each", Better::Less, broker_cpu / commits * 1e6),
        (
            "µs of this program's CPU each",
            Better::Less,
            own_cpu / commits * 1e6,
        ),
    ] {
        session.add(side, what, unit, better, value);
    }
    Ok(())
}

/// Lets Kafka sync each append to its topic of offsets, or leave that to the system, as it does of itself.
async fn sync_each(address: &str, sync: bool) -> anyhow::Result<()> {
    let admin = Admin::new(ClientConfig::new(address))?;
    let resource = ConfigResource::Topic("__consumer_offsets".to_owned());
    let change = if sync {
        ConfigChange::Set("1".to_owned())
    } else {
        ConfigChange::Delete
    };
    let change = ("flush.messages".to_owned(), change);
    admin.alter_configs(&resource, &[change], Intent::Apply).await?;
    Ok(())
}
