//! How far a group is behind, in records and in time, and which of its offsets lie outside their logs.
//!
//! The lag in time is the age of the first record that the group has yet to read: whoever watches it learns how late answers are,
//! whatever the traffic. An offset outside its log is one whose consumer will start anew, by its own `auto.offset.reset`; it is
//! said when somebody asks for it, and counted.
//!
//! The lag in records costs a few loads; that in time reads a record for each partition that is behind. So only the thousand that are
//! furthest behind get one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::config::TimestampType;
use log_core::model::{Offset, TimestampMs};
use log_core::record::batch::batches;
use log_core::record::batch_header::BatchHeader;
use log_core::segment::segment::Patience;
use parking_lot::Mutex;

use crate::coordinator::group::context::LogRange;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, FetchedTopic, NamedBy};
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::load::DECOMPRESSED_BYTES_MAX;
use crate::coordinator::runtime::topics::{range, range_of};
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Isolation, Partition, PartitionRead};
use crate::partition::registry::PartitionRegistry;
use crate::partition::throttle::Throttle;

/// So many records are read in one look, for the lag in time.
const TIMES_MAX: usize = 1_000;
/// So many offsets outside their logs are remembered one by one.
const COUNTED_MAX: usize = 1_000;

/// How far a group is behind on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset that the group reads, as it committed it.
    pub committed: i64,
    /// Where the log begins and ends for readers; `None` if it is off-line or gone.
    pub range: Option<LogRange>,
    /// How many records there are that the group has not read.
    pub records: Option<i64>,
    /// How old the first of them is; 0 if there is none. `None` if it cannot be read, or has no time, or a thousand others are further
    /// behind.
    pub time_ms: Option<i64>,
}

/// An offset outside its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// What the group committed.
    pub committed: i64,
    /// Where the log began and ended when this was last seen.
    pub range: LogRange,
    /// How often it was asked for.
    pub count: u64,
}

/// What was seen of offsets outside their logs.
#[derive(Debug, Default)]
pub(super) struct OutOfRangeWatch {
    throttle: Throttle,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    by_place: BTreeMap<(Arc<str>, Arc<str>, i32), OutOfRange>,
    total: u64,
    unsaid: u64,
}

impl GroupCoordinator {
    /// How far a group is behind on each partition that it has committed, by topic and partition.
    ///
    /// # Errors
    /// There is no such group, or it cannot be looked at now.
    pub async fn lag(&self, group: &str) -> Result<Vec<PartitionLag>, GroupError> {
        let name: Arc<str> = group.into();
        let committed = self
            .run(group, move |shard, _| shard.committed_offsets(&name))
            .await??;
        let partitions = Arc::clone(&self.hosts.context().partitions);
        let now = self.hosts.context().clock.now();
        let look = move || {
            let rows = committed.into_iter().map(|(topic, partition, committed)| {
                let log = partitions.get(&topic, partition);
                records_behind(log.as_deref(), topic, partition, committed)
            });
            let mut rows: Vec<PartitionLag> = rows.collect();
            find_times(rows.iter_mut().collect(), &partitions, now);
            rows
        };
        blocking(look).await.map_err(|_| GroupError::NotCoordinator)
    }

    /// The offsets that a group has committed, as [`GroupShard::fetch_offsets`](crate::coordinator::group::shard::GroupShard::fetch_offsets)
    /// gives them. Those outside their logs are said and counted.
    ///
    /// # Errors
    /// As there, or the group cannot be asked now.
    pub async fn fetch_offsets(
        &self,
        request: FetchOffsetsRequest,
        named_by: NamedBy,
    ) -> Result<Vec<FetchedTopic>, GroupError> {
        let group = Arc::clone(&request.group);
        let fetched = self
            .run(&group, move |shard, context| {
                shard.fetch_offsets(context, &request, named_by)
            })
            .await??;
        for topic in &fetched {
            for row in &topic.partitions {
                if let Ok(Some(offset)) = &row.committed {
                    self.watch_range(&group, &topic.name, row.partition, offset.offset);
                }
            }
        }
        Ok(fetched)
    }

    /// Offsets outside their logs that were asked for since the start, by group, topic and partition. At most a thousand are told one
    /// by one; [`Self::out_of_range_count`] knows of all.
    #[must_use]
    pub fn out_of_range(&self) -> Vec<OutOfRange> {
        self.out_of_range.seen.lock().by_place.values().cloned().collect()
    }

    /// How often offsets outside their logs were asked for since the start.
    #[must_use]
    pub fn out_of_range_count(&self) -> u64 {
        self.out_of_range.seen.lock().total
    }

    fn watch_range(&self, group: &Arc<str>, topic: &Arc<str>, partition: i32, committed: i64) {
        let Some(range) = range_of(&self.hosts.context().partitions, topic, partition) else {
            return;
        };
        if range.start.get() <= committed && committed <= range.end.get() {
            return;
        }
        let others = {
            let mut seen = self.out_of_range.seen.lock();
            seen.note(group, topic, partition, committed, range);
            if !self
                .out_of_range
                .throttle
                .is_due(self.hosts.context().clock.now())
            {
                seen.unsaid += 1;
                return;
            }
            std::mem::take(&mut seen.unsaid)
        };
        let new = if committed < range.start.get() {
            "earliest"
        } else {
            "latest"
        };
        tracing::warn!(
            %group, %topic, partition, committed, log_start = range.start.get(), log_end = range.end.get(), nearest = new, others,
            "a committed offset lies outside its partition's log: its consumer starts anew where its auto.offset.reset says"
        );
    }
}

impl Seen {
    fn note(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32, committed: i64, range: LogRange) {
        self.total += 1;
        let place = (Arc::clone(group), Arc::clone(topic), partition);
        if let Some(known) = self.by_place.get_mut(&place) {
            known.committed = committed;
            known.range = range;
            known.count += 1;
        } else if self.by_place.len() < COUNTED_MAX {
            let new = OutOfRange {
                group: Arc::clone(group),
                topic: Arc::clone(topic),
                partition,
                committed,
                range,
                count: 1,
            };
            self.by_place.insert(place, new);
        }
    }
}

/// The lag in records; that in time is known where there is none.
pub(super) fn records_behind(
    log: Option<&Partition>,
    topic: Arc<str>,
    partition: i32,
    committed: i64,
) -> PartitionLag {
    let range = log.and_then(range);
    let records = range.map(|range| range.end.minus(first_unread(committed, range)).max(0));
    PartitionLag {
        topic,
        partition,
        committed,
        range,
        records,
        time_ms: records.filter(|records| *records == 0),
    }
}

/// Finds the lag in time of those that are furthest behind. Blocks: records have to be read.
pub(super) fn find_times(lags: Vec<&mut PartitionLag>, partitions: &PartitionRegistry, now: TimestampMs) {
    let mut behind = lags;
    behind.retain(|lag| lag.records.is_some_and(|records| 0 < records));
    if TIMES_MAX < behind.len() {
        behind.sort_by_key(|lag| Reverse(lag.records));
        behind.truncate(TIMES_MAX);
    }
    for lag in behind {
        if let Some(log) = partitions.get(&lag.topic, lag.partition) {
            lag.time_ms = time_behind(&log, lag, now);
        }
    }
}

fn time_behind(log: &Partition, lag: &PartitionLag, now: TimestampMs) -> Option<i64> {
    let range = lag.range?;
    let time = first_time(log, first_unread(lag.committed, range), range.end)?;
    Some(now.saturating_since(time).max(0))
}

fn first_unread(committed: i64, range: LogRange) -> Offset {
    Offset::new(committed).max(range.start)
}

/// When the first record at or behind an offset was made. Blocks.
fn first_time(log: &Partition, from: Offset, end: Offset) -> Option<TimestampMs> {
    let mut scratch = Vec::new();
    let mut next = from;
    while next < end {
        let read = PartitionRead {
            offset: next,
            bytes_max: 1,
            at_least_one_batch: true,
            isolation: Isolation::Uncommitted,
        };
        let slice = log.read(&read, Patience::MayBlock).ok()?;
        let batch = batches(&slice.records).next()?.ok()?;
        if let Some(time) = time_in_header(batch.header(), from) {
            return Some(time);
        }
        if !batch.header().attributes.is_control() {
            for record in batch.records(&mut scratch, DECOMPRESSED_BYTES_MAX).ok()? {
                let record = record.ok()?;
                if from <= record.offset {
                    return Some(record.timestamp).filter(|time| *time != TimestampMs::NONE);
                }
            }
        }
        next = batch.header().next_offset();
    }
    None
}

/// The time of a batch's first record, where `from` is its offset and the header knows it: nothing has to be unpacked then. A producer's batch
/// says it. One that was compacted may have lost that record, and the field may hold another time.
fn time_in_header(header: &BatchHeader, from: Offset) -> Option<TimestampMs> {
    let attributes = header.attributes;
    let is_whole = u64::from(header.record_count) == u64::from(header.last_offset_delta) + 1;
    let is_its_time = attributes.timestamp_type() == TimestampType::CreateTime
        && !attributes.has_delete_horizon()
        && !attributes.is_control();
    let is_known = from == header.base_offset && is_whole && is_its_time;
    Some(header.base_timestamp).filter(|time| is_known && *time != TimestampMs::NONE)
}
