//! Groups that commit offsets: how many commits a broker answers in a second, how long each takes, and how soon after a start
//! the commits of all groups can be read again.
//!
//! Each connection is a consumer of its own: it sends one commit of all its partitions, waits for the answer, and sends the next. It
//! goes on with the next of its groups each time, where there are more groups than connections.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use log_core::protocol::KafkaString;
use log_core::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use log_core::protocol::messages::{
    FindCoordinatorRequestData, OffsetCommitRequestData, OffsetFetchRequestData,
};
use tokio::task::JoinSet;

use crate::raw::{Connection, decode, encode};

/// Served by every Kafka since 2.4, and by 4.x; they name topics by name.
const COMMIT_VERSION: i16 = 8;
const FETCH_VERSION: i16 = 8;
const FIND_VERSION: i16 = 4;
const PAUSE: Duration = Duration::from_millis(1);
const GIVE_UP: Duration = Duration::from_mins(2);
/// The topic whose offsets are committed.
pub const TOPIC: &str = "committed";

/// Who commits what.
#[derive(Debug, Clone, Copy)]
pub struct CommitLoad {
    /// How many groups.
    pub groups: usize,
    /// Partitions in each commit.
    pub partitions: i32,
    /// Commits under way at once.
    pub connections: usize,
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct CommitFigures {
    /// Requests that were answered in a second.
    pub commits_per_second: f64,
    /// All requests.
    pub commits: usize,
    /// How long each took, the shortest first.
    pub latencies: Vec<Duration>,
}

impl CommitFigures {
    /// The latency that this share of the commits did not exceed.
    #[must_use]
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let index = self.latencies.len().saturating_mul(thousandths) / 1000;
        let last = self.latencies.last().copied().unwrap_or_default();
        self.latencies.get(index).copied().unwrap_or(last)
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so much time.
    Elapsed(Duration),
    /// When every group has committed so often.
    Rounds(usize),
}

fn group_name(number: usize) -> KafkaString {
    KafkaString::from(format!("group-{number}"))
}

/// Lets the groups commit.
///
/// # Errors
/// When a commit is refused, or a connection breaks.
pub async fn commit(address: &str, load: CommitLoad, until: Until) -> anyhow::Result<CommitFigures> {
    find_coordinator(address).await?;
    // All of them are there before the first speaks: a broker that is slow to accept would be measured at fewer otherwise.
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(address).await?);
    }
    let mut consumers = JoinSet::new();
    let begun = Instant::now();
    for (first, mut connection) in connections.into_iter().enumerate() {
        consumers.spawn(async move {
            let mut latencies = Vec::new();
            let frames = (first..load.groups).step_by(load.connections);
            let frames: Vec<Bytes> = frames
                .map(|number| commit_frame(number, load.partitions))
                .collect::<anyhow::Result<_>>()?;
            let mut round = 0;
            loop {
                for frame in &frames {
                    let is_over = match until {
                        Until::Elapsed(time) => time <= begun.elapsed(),
                        Until::Rounds(rounds) => rounds <= round,
                    };
                    if is_over {
                        return anyhow::Ok(latencies);
                    }
                    let sent = Instant::now();
                    let answer = connection.exchange(frame).await?;
                    latencies.push(sent.elapsed());
                    check_commit(answer)?;
                }
                round += 1;
                if frames.is_empty() {
                    return anyhow::Ok(latencies);
                }
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(consumer) = consumers.join_next().await {
        latencies.extend(consumer??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let commits = latencies.len();
    Ok(CommitFigures {
        commits_per_second: f64::from(u32::try_from(commits)?) / seconds,
        commits,
        latencies,
    })
}

/// Returns when the offsets of every group can be read.
///
/// # Errors
/// When that takes longer than two minutes, or offsets are missing.
pub async fn wait_until_served(address: &str, groups: usize) -> anyhow::Result<()> {
    let until = Instant::now() + GIVE_UP;
    let request = OffsetFetchRequestData {
        groups: (0..groups)
            .map(|number| OffsetFetchRequestGroup {
                group_id: group_name(number),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: KafkaString::from(TOPIC.to_owned()),
                    partition_indexes: vec![0],
                    ..OffsetFetchRequestTopics::default()
                }]),
                ..OffsetFetchRequestGroup::default()
            })
            .collect(),
        ..OffsetFetchRequestData::default()
    };
    let frame = encode(&request, FETCH_VERSION)?;
    loop {
        match all_served(address, &frame).await {
            Ok(()) => return Ok(()),
            Err(error) if until < Instant::now() => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn all_served(address: &str, frame: &Bytes) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    let answer = connection.exchange(frame).await?;
    let answer = decode::<OffsetFetchRequestData>(answer, FETCH_VERSION)?;
    for group in &answer.groups {
        ensure!(group.error_code == 0, "error {}", group.error_code);
        for partition in group.topics.iter().flat_map(|topic| &topic.partitions) {
            ensure!(
                0 <= partition.committed_offset,
                "the offset of {} is missing",
                group.group_id.as_str()
            );
        }
    }
    Ok(())
}

/// Returns when groups have a coordinator, and each partition of its topic takes commits.
///
/// # Errors
/// When that takes longer than two minutes.
pub async fn find_coordinator(address: &str) -> anyhow::Result<()> {
    let request = FindCoordinatorRequestData {
        coordinator_keys: vec![group_name(0)],
        ..FindCoordinatorRequestData::default()
    };
    let frame = encode(&request, FIND_VERSION)?;
    let until = Instant::now() + GIVE_UP;
    loop {
        let mut connection = Connection::open(address).await?;
        let answer = connection.exchange(&frame).await?;
        let answer = decode::<FindCoordinatorRequestData>(answer, FIND_VERSION)?;
        let row = answer.coordinators.first().context("a row for the group")?;
        if row.error_code == 0 && can_commit(address).await? {
            return Ok(());
        }
        ensure!(Instant::now() < until, "no coordinator: error {}", row.error_code);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether every partition of the coordinator's topic takes commits.
async fn can_commit(address: &str) -> anyhow::Result<bool> {
    let mut connection = Connection::open(address).await?;
    for number in 0..1000 {
        let frame = commit_frame(number, 1)?;
        let answer = connection.exchange(&frame).await?;
        if check_commit(answer).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn commit_frame(group: usize, partitions: i32) -> anyhow::Result<Bytes> {
    let partitions = (0..partitions).map(|index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: 1_000_000,
        ..OffsetCommitRequestPartition::default()
    });
    let request = OffsetCommitRequestData {
        group_id: group_name(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: KafkaString::from(TOPIC.to_owned()),
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequestData::default()
    };
    encode(&request, COMMIT_VERSION)
}

fn check_commit(answer: Bytes) -> anyhow::Result<()> {
    let answer = decode::<OffsetCommitRequestData>(answer, COMMIT_VERSION)?;
    for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            bail!("a commit is refused with error {}", partition.error_code);
        }
    }
    Ok(())
}
