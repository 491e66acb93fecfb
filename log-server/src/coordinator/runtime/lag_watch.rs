//! The lag of all groups, looked at every few seconds for those who ask often: metrics, and the console's plots.
//!
//! A look must stay cheap with many groups. All are counted, by state; the first thousand by name are asked what they have committed, and of those
//! the first two hundred are remembered. How far they are behind in time is found as `lag` does it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use log_core::model::TimestampMs;
use parking_lot::Mutex;

use crate::coordinator::group::admin::census::Census;
use crate::coordinator::group::admin::list::ListedGroup;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::lag::{PartitionLag, find_times, records_behind};
use crate::partition::offset_query::blocking;
use crate::partition::registry::PartitionRegistry;

/// So many groups are looked at, the first by name.
const GROUPS_MAX: usize = 1_000;
/// So many looks are remembered: half an hour at five seconds,
const POINTS_MAX: usize = 360;
/// of so many groups, the first by name.
pub const HISTORIES_MAX: usize = 200;

/// How far a group is behind on one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLag {
    /// The topic.
    pub topic: Arc<str>,
    /// Partitions that the group has committed.
    pub partitions: usize,
    /// Records that it has not read, over all of them.
    pub records: i64,
    /// Age of the oldest of those; `None` if it could not be found, or not all were looked at.
    pub time_ms: Option<i64>,
}

/// How far a group is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLag {
    /// The group.
    pub group: ListedGroup,
    /// By topic.
    pub topics: Vec<TopicLag>,
}

impl GroupLag {
    /// Over all topics.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.topics.iter().map(|topic| topic.records).sum()
    }

    /// Of the topic that is furthest behind; `None` if one is not known.
    #[must_use]
    pub fn time_ms(&self) -> Option<i64> {
        let mut times = self.topics.iter().map(|topic| topic.time_ms);
        times.try_fold(0, |most, time| Some(most.max(time?)))
    }
}

/// All groups at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LagPicture {
    /// When; nothing before the first look.
    pub at: Option<TimestampMs>,
    /// Those that were looked at, by name.
    pub groups: Vec<GroupLag>,
    /// All that there are, by Kafka's name for their state.
    pub states: BTreeMap<&'static str, usize>,
}

impl LagPicture {
    /// Groups that there are.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.states.values().sum()
    }

    /// Groups whose lag was not looked at: there are too many, or what they have committed is being read.
    #[must_use]
    pub fn hidden_count(&self) -> usize {
        self.group_count().saturating_sub(self.groups.len())
    }
}

/// One group's lag at one moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagPoint {
    /// When.
    pub at: TimestampMs,
    /// In records.
    pub records: i64,
    /// In time.
    pub time_ms: Option<i64>,
}

/// What was seen last, and a while before.
#[derive(Debug, Default)]
pub struct LagWatch {
    picture: ArcSwap<LagPicture>,
    histories: Mutex<BTreeMap<Arc<str>, VecDeque<LagPoint>>>,
}

impl LagWatch {
    /// What was seen last.
    #[must_use]
    pub fn picture(&self) -> Arc<LagPicture> {
        self.picture.load_full()
    }

    /// What was seen of a group, the oldest first.
    #[must_use]
    pub fn history(&self, group: &str) -> Vec<LagPoint> {
        let histories = self.histories.lock();
        histories.get(group).into_iter().flatten().copied().collect()
    }

    /// Looks at all groups.
    pub async fn look(&self, coordinator: &GroupCoordinator) {
        let shards = coordinator.run_all(|shard, _| shard.census(GROUPS_MAX)).await;
        let mut all = Census::default();
        for census in shards.into_iter().flatten() {
            all.add(census, GROUPS_MAX);
        }
        let mut committed = Vec::with_capacity(all.first.len());
        for group in all.first {
            let name = Arc::clone(&group.group);
            let offsets = coordinator
                .run(&group.group, move |shard, _| shard.committed_offsets(&name))
                .await;
            // Gone since it was listed, or its shard is being read: it comes with the next look.
            if let Ok(Ok(offsets)) = offsets {
                committed.push((group, offsets));
            }
        }
        let now = coordinator.hosts.context().clock.now();
        let partitions = Arc::clone(&coordinator.hosts.context().partitions);
        let Ok(groups) = blocking(move || lags(committed, &partitions, now)).await else {
            return;
        };
        let picture = LagPicture {
            at: Some(now),
            groups,
            states: all.states,
        };
        self.remember(&picture, now);
        self.picture.store(Arc::new(picture));
    }

    fn remember(&self, picture: &LagPicture, at: TimestampMs) {
        let remembered = picture.groups.get(..HISTORIES_MAX).unwrap_or(&picture.groups);
        let mut histories = self.histories.lock();
        let is_there = |name: &Arc<str>| {
            let place = remembered.binary_search_by(|lag| lag.group.group.cmp(name));
            place.is_ok()
        };
        histories.retain(|name, _| is_there(name));
        for lag in remembered {
            let name = &lag.group.group;
            let points = histories.entry(Arc::clone(name)).or_default();
            if POINTS_MAX <= points.len() {
                points.pop_front();
            }
            points.push_back(LagPoint {
                at,
                records: lag.records(),
                time_ms: lag.time_ms(),
            });
        }
    }
}

/// A group with what it has committed: topic, partition, offset.
type Committed = (ListedGroup, Vec<(Arc<str>, i32, i64)>);

/// Blocks.
fn lags(committed: Vec<Committed>, partitions: &PartitionRegistry, now: TimestampMs) -> Vec<GroupLag> {
    let mut rows: Vec<(usize, PartitionLag)> = Vec::new();
    let mut groups = Vec::with_capacity(committed.len());
    for (place, (group, offsets)) in committed.into_iter().enumerate() {
        groups.push(GroupLag {
            group,
            topics: Vec::new(),
        });
        rows.extend(offsets.into_iter().map(|(topic, partition, offset)| {
            let log = partitions.get(&topic, partition);
            (place, records_behind(log.as_deref(), topic, partition, offset))
        }));
    }
    find_times(rows.iter_mut().map(|(_, lag)| lag).collect(), partitions, now);
    for (place, lag) in &rows {
        // A topic that is gone, or off-line: nobody can be behind on it.
        if let (Some(group), Some(records)) = (groups.get_mut(*place), lag.records) {
            group.add(lag, records);
        }
    }
    groups
}

impl GroupLag {
    fn add(&mut self, lag: &PartitionLag, records: i64) {
        if self.topics.last().is_none_or(|last| last.topic != lag.topic) {
            self.topics.push(TopicLag {
                topic: Arc::clone(&lag.topic),
                partitions: 0,
                records: 0,
                time_ms: Some(0),
            });
        }
        if let Some(topic) = self.topics.last_mut() {
            topic.partitions += 1;
            topic.records += records;
            topic.time_ms = topic.time_ms.and_then(|most| Some(most.max(lag.time_ms?)));
        }
    }
}
