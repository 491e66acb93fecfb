//! Where a group stands: what it has committed, what the logs hold, and how long its records wait.
//!
//! The lag in time is the age of the first record that the group has yet to read, which takes a look at that
//! record. It is a courtesy: what is not had soon is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log_client::admin::{Admin, GroupDescription};
use log_client::config::{ConsumerConfig, OffsetReset, StartAt};
use log_client::consumer::{Consumer, PartitionRecords};
use log_client::coordinator::CommittedOffset;
use log_client::offsets::OffsetQuery;
use log_core::model::{Offset, TimestampMs, TopicPartition};

use crate::cli::age::{age, now};
use crate::cli::failure::Outcome;

/// How long the first waiting records may be looked for.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What is fetched of one partition to see one record; a larger batch comes whole when it is first in line.
const LOOK_BYTES: i32 = 64 << 10;

/// Where a log begins and ends for readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogRange {
    pub(super) start: Offset,
    pub(super) end: Offset,
}

/// Where a group stands in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) partition: TopicPartition,
    /// Where it goes on; none while it has committed nothing.
    pub(super) committed: Option<CommittedOffset>,
    /// None when the partition is gone or out of reach.
    pub(super) log: Option<LogRange>,
    /// How old the first record is that it has yet to read.
    pub(super) behind: Option<Duration>,
}

impl Standing {
    /// How many records the group has yet to read, those that compaction took included.
    pub(super) fn lag(&self) -> Option<u64> {
        let next = self.next()?;
        u64::try_from(self.log?.end.minus(next)).ok()
    }

    /// The first offset that there is to be read.
    fn next(&self) -> Option<Offset> {
        let (committed, log) = (self.committed.as_ref()?, self.log?);
        Some(committed.offset.clamp(log.start, log.end.max(log.start)))
    }

    /// What is wrong with a committed offset that lies outside of the log.
    pub(super) fn out_of_range(&self) -> Option<String> {
        let (committed, log) = (self.committed.as_ref()?.offset, self.log?);
        let partition = &self.partition;
        let place = if committed < log.start {
            format!("before the log's start {}", log.start)
        } else if log.end < committed {
            format!("behind the log's end {}", log.end)
        } else {
            return None;
        };
        Some(format!(
            "{partition}: the committed offset {committed} is {place}; its consumer begins anew, by its own auto.offset.reset"
        ))
    }
}

/// Where the group stands in each partition that it has committed or that one of its members reads.
pub(super) async fn standings(admin: &Admin, group: &GroupDescription) -> Outcome<Vec<Standing>> {
    let mut committed = BTreeMap::new();
    for (partition, row) in admin.list_group_offsets(&group.group_id, None).await? {
        committed.insert(partition, row?);
    }
    let read = group.members.iter().flat_map(|member| &member.assignment);
    let partitions: BTreeSet<_> = committed.keys().chain(read).cloned().collect();
    let ranges = log_ranges(admin, &partitions).await?;
    let mut standings: Vec<_> = partitions
        .into_iter()
        .map(|partition| Standing {
            committed: committed.remove(&partition).flatten(),
            log: ranges.get(&partition).copied(),
            behind: None,
            partition,
        })
        .collect();
    measure(admin, &mut standings).await;
    Ok(standings)
}

/// The ranges of those partitions that are there and can be reached.
pub(super) async fn log_ranges(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
) -> Outcome<BTreeMap<TopicPartition, LogRange>> {
    let cluster = admin.cluster();
    for partition in partitions {
        cluster.watch_topic(&partition.topic);
    }
    // A partition that is gone is not waited for.
    cluster.refresh(cluster.metadata().generation).await?;
    let metadata = cluster.metadata();
    let led = partitions
        .iter()
        .filter(|partition| metadata.leader(partition).is_ok());
    let led: Vec<_> = led.cloned().collect();
    let ask = |query: OffsetQuery| {
        let queries = led.iter().map(|partition| (partition.clone(), query)).collect();
        admin.list_offsets(queries)
    };
    let (starts, ends) = tokio::join!(ask(OffsetQuery::Earliest), ask(OffsetQuery::Latest));
    let mut ranges = BTreeMap::new();
    for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
        if let (Ok(start), Ok(end)) = (start, end) {
            let start = start.offset.unwrap_or_default();
            // Records may have been deleted between the two questions.
            let end = end.offset.unwrap_or_default().max(start);
            ranges.insert(partition, LogRange { start, end });
        }
    }
    Ok(ranges)
}

/// Fills in how long the first records wait.
async fn measure(admin: &Admin, standings: &mut [Standing]) {
    let mut waiting = BTreeMap::new();
    for standing in &mut *standings {
        match standing.lag() {
            Some(0) => standing.behind = Some(Duration::ZERO),
            Some(_) => waiting.extend(standing.next().map(|next| (standing.partition.clone(), next))),
            None => {}
        }
    }
    if waiting.is_empty() {
        return;
    }
    let mut found = BTreeMap::new();
    // Whatever was found until then counts.
    tokio::time::timeout(LOOK_MAX, look(admin, waiting, &mut found))
        .await
        .ok();
    let now = now();
    for standing in standings {
        if let Some(timestamp) = found.get(&standing.partition) {
            standing.behind = age(*timestamp, now);
        }
    }
}

/// Looks at one record of each partition, from the given offsets on.
async fn look(
    admin: &Admin,
    waiting: BTreeMap<TopicPartition, Offset>,
    found: &mut BTreeMap<TopicPartition, TimestampMs>,
) {
    let config = ConsumerConfig {
        client: admin.cluster().config().clone(),
        partition_bytes_max: LOOK_BYTES,
        // What is deleted meanwhile is not waited for.
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::new("")
    };
    let Ok(mut consumer) = Consumer::new(config) else {
        return;
    };
    for (partition, offset) in waiting {
        consumer.assign(partition, StartAt::Offset(offset));
    }
    let mut scratch = Vec::new();
    while consumer.assignment().next().is_some() {
        let Ok(pieces) = consumer.poll().await else { return };
        for piece in pieces {
            if let Some(timestamp) = first_time(&piece, &mut scratch) {
                consumer.unassign(piece.partition());
                found.insert(piece.partition().clone(), timestamp);
            }
        }
    }
}

fn first_time(piece: &PartitionRecords, scratch: &mut Vec<u8>) -> Option<TimestampMs> {
    let mut first = None;
    // What stands before damage is seen.
    piece
        .visit(scratch, |record| {
            first.get_or_insert(record.timestamp);
        })
        .ok();
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(committed: Option<i64>, log: Option<(i64, i64)>) -> Standing {
        Standing {
            partition: TopicPartition::new("t", 0),
            committed: committed.map(|offset| CommittedOffset::new(Offset::new(offset))),
            log: log.map(|(start, end)| LogRange {
                start: Offset::new(start),
                end: Offset::new(end),
            }),
            behind: None,
        }
    }

    #[test]
    fn lag_counts_what_there_is_to_be_read() {
        for (committed, log, expected) in [
            (Some(5), Some((0, 12)), Some(7)),
            (Some(12), Some((0, 12)), Some(0)),
            (Some(5), Some((10, 12)), Some(2)),
            (Some(50), Some((10, 12)), Some(0)),
            (None, Some((0, 12)), None),
            (Some(5), None, None),
        ] {
            assert_eq!(
                standing(committed, log).lag(),
                expected,
                "{committed:?} in {log:?}"
            );
        }
    }

    #[test]
    fn an_offset_outside_of_the_log_is_told() {
        let told = |committed| standing(Some(committed), Some((10, 12))).out_of_range();
        assert_eq!(told(10), None);
        assert_eq!(told(12), None);
        assert!(told(9).unwrap().contains("9 is before the log's start 10"));
        assert!(told(13).unwrap().contains("13 is behind the log's end 12"));
    }
}
