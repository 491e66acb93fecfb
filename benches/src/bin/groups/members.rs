//! Members that join and leave, on brokers that run side by side.
//! A member is a raw connection without a client library; all of them stand in one thread.

use log_bench::brokers::Kind;
use log_bench::comparison::Better;
use log_bench::group_members::{classic_first_assignment, modern_first_assignment};
use log_bench::group_rebalance::{Rebalanced, RebalancingGroup};
use log_bench::raw::Connection;

use crate::Section;
use crate::turns::{OURS, Running, Session, Side, make_topic, median, milliseconds, number};

const TOPIC: &str = "assigned";
const TOPIC_PARTITIONS: i32 = 6;
/// The large group reads so many topics, each of so many partitions.
const TOPICS: usize = 10;
const PARTITIONS_EACH: i32 = 100;
/// First assignments in a round, and rebalances of each kind.
const SAMPLES: usize = 5;

const KAFKA: Side = Side {
    kind: Kind::Kafka,
    name: "with its defaults",
    settings: &[],
};
const KAFKA_AT_ONCE: Side = Side {
    kind: Kind::Kafka,
    name: "without delays",
    settings: &[
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.consumer.assignment.interval.ms", "0"),
    ],
};

pub(crate) async fn compare(session: &mut Session<'_>, wanted: &[Section]) -> anyhow::Result<()> {
    let sides = [OURS, KAFKA, KAFKA_AT_ONCE];
    let mut brokers = Vec::new();
    for side in session.in_turn(&sides, 0) {
        let running = session.start(side, &[]).await?;
        let address = &running.broker.address;
        make_topic(address, TOPIC, TOPIC_PARTITIONS).await?;
        if wanted.contains(&Section::Rebalance) {
            for topic in topics() {
                make_topic(address, &topic, PARTITIONS_EACH).await?;
            }
        }
        make_topic(address, log_bench::group_commits::TOPIC, 1).await?;
        log_bench::group_commits::find_coordinator(address).await?;
        brokers.push(running);
    }
    while let Some(round) = session.begin_round("members")? {
        for side in session.in_turn(&sides, round) {
            let Some(running) = brokers.iter_mut().find(|running| running.side == side) else {
                continue;
            };
            running.broker.check_alive()?;
            if wanted.contains(&Section::Assignment) {
                assignments(session, running, round).await?;
            }
            if wanted.contains(&Section::Rebalance) {
                rebalances(session, running, round).await?;
            }
        }
    }
    Ok(())
}

async fn assignments(session: &mut Session<'_>, running: &Running, round: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(&running.broker.address).await?;
    // Each of them waits for three seconds.
    let samples = if running.side == KAFKA { 1 } else { SAMPLES };
    let mut times = Vec::with_capacity(samples);
    for sample in 0..samples {
        let group = format!("classic-{round}-{sample}");
        let time = classic_first_assignment(&mut connection, &group, TOPIC, TOPIC_PARTITIONS).await?;
        times.push(milliseconds(time));
    }
    let what = "first assignment, classic protocol";
    session.add(running.side, what, "ms", Better::Less, median(times)?);
    let mut times = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES {
        let group = format!("modern-{round}-{sample}");
        let time = modern_first_assignment(&mut connection, &group, TOPIC, TOPIC_PARTITIONS).await?;
        times.push(milliseconds(time));
    }
    let what = "first assignment, KIP-848";
    session.add(running.side, what, "ms", Better::Less, median(times)?);
    Ok(())
}

fn topics() -> Vec<String> {
    (0..TOPICS).map(|topic| format!("rebalanced-{topic}")).collect()
}

async fn rebalances(session: &mut Session<'_>, running: &Running, round: usize) -> anyhow::Result<()> {
    let members = session.options.members;
    let partitions = TOPICS * usize::try_from(PARTITIONS_EACH)?;
    let name = format!("large-{round}");
    let address = &running.broker.address;
    let mut group = RebalancingGroup::new(address, &name, &topics().join(","), partitions);
    let side = running.side;
    let head = format!("{members} members, {partitions} partitions");
    let all = group.join(members).await?;
    let what = format!("{head}: all join at once");
    session.add(side, &what, "ms", Better::Less, milliseconds(all.time));

    let cpu = running.broker.cpu_seconds()?;
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    let samples = if side == KAFKA { 2 } else { SAMPLES };
    for _ in 0..samples {
        joins.push(group.join(1).await?);
        leaves.push(group.leave().await?);
    }
    let cpu = (running.broker.cpu_seconds()? - cpu) * 1000.0;
    let times = |rebalances: &[Rebalanced]| {
        let times = rebalances.iter().map(|rebalance| milliseconds(rebalance.time));
        median(times.collect::<Vec<_>>())
    };
    let what = format!("{head}: one more joins");
    session.add(side, &what, "ms", Better::Less, times(&joins)?);
    let what = format!("{head}: one leaves");
    session.add(side, &what, "ms", Better::Less, times(&leaves)?);
    let all = joins.iter().chain(&leaves);
    let heartbeats: usize = all.map(|rebalance| rebalance.heartbeats).sum();
    let rebalances = number(joins.len() + leaves.len())?;
    let what = format!("{head}: a rebalance, by one member");
    session.add(side, &what, "ms of broker CPU", Better::Less, cpu / rebalances);
    session.add(
        side,
        &what,
        "heartbeats of all members",
        Better::Less,
        number(heartbeats)? / rebalances,
    );
    group.end().await
}
