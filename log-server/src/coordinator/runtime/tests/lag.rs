//! How far groups are behind on a real log, which is their own topic's: each commit is a record there.
//! Offsets outside a log are counted when somebody asks for them.

use std::collections::BTreeMap;

use super::*;
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, NamedBy};
use crate::coordinator::runtime::lag::{PartitionLag, find_times};
use crate::coordinator::runtime::lag_watch::{HISTORIES_MAX, LagWatch};

/// A commit for the partition that the group's own records stand in.
async fn commit_own(broker: &Broker, group: &str, offset: i64) {
    let partition = broker.partition_of(group).name().partition;
    let name: Arc<str> = group.into();
    let groups = Arc::clone(&broker.groups);
    let task = tokio::spawn(async move {
        let command = |_: &mut GroupShard, context: &mut Context<'_>| {
            let mut record = commit(&name, offset);
            if let GroupRecord::OffsetCommit { partition: place, .. } = &mut record {
                *place = partition;
            }
            context.records.push(record);
        };
        groups.run(&name, command).await
    });
    settle().await;
    broker.sync();
    end_of(task).await.unwrap();
}

async fn lag(broker: &Broker, group: &str) -> PartitionLag {
    let mut lag = timeout(HANG, broker.groups.lag(group)).await.unwrap().unwrap();
    assert_eq!(lag.len(), 1);
    lag.remove(0)
}

#[tokio::test]
async fn lag_counts_records_and_the_age_of_the_first_that_was_not_read() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let unknown = broker.groups.lag("g").await;
    assert_eq!(
        unknown,
        Err(GroupError::GroupIdNotFound("Group g not found.".to_owned()))
    );
    commit_own(&broker, "g", 0).await;
    broker.clock.set(NOW.saturating_plus(5_000));
    commit_own(&broker, "g", 1).await;
    broker.clock.set(NOW.saturating_plus(7_000));
    for (committed, records, time_ms) in [
        // The third record of the log is this commit.
        (1, 2, 2_000),
        (4, 0, 0),
        (5, 0, 0),
        // An offset that no log has: everything is unread.
        (-1, 6, 7_000),
        (99, 0, 0),
    ] {
        commit_own(&broker, "g", committed).await;
        let lag = lag(&broker, "g").await;
        assert_eq!(
            (lag.committed, lag.records, lag.time_ms),
            (committed, Some(records), Some(time_ms))
        );
    }
}

#[tokio::test]
async fn offsets_outside_their_log_are_counted_when_they_are_asked_for() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let request = FetchOffsetsRequest {
        group: "g".into(),
        member_id: None,
        member_epoch: -1,
        topics: None,
        require_stable: false,
    };
    let ask = async || {
        let fetched = broker.groups.fetch_offsets(request.clone(), NamedBy::Name);
        timeout(HANG, fetched).await.unwrap().unwrap();
        broker.groups.out_of_range_count()
    };
    commit_own(&broker, "g", 1).await;
    assert_eq!(ask().await, 0);
    commit_own(&broker, "g", 77).await;
    assert_eq!(ask().await, 1);
    assert_eq!(ask().await, 2);
    let seen = broker.groups.out_of_range();
    assert_eq!(seen.len(), 1);
    assert_eq!((&*seen[0].group, seen[0].committed, seen[0].count), ("g", 77, 2));
    assert_eq!((seen[0].range.start.get(), seen[0].range.end.get()), (0, 2));
}

#[tokio::test]
async fn the_watch_sees_all_groups_and_remembers_a_while() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let watch = LagWatch::default();
    watch.look(&broker.groups).await;
    assert_eq!(
        (watch.picture().at, watch.picture().group_count()),
        (Some(NOW), 0)
    );

    commit_own(&broker, "g", 0).await;
    broker.clock.set(NOW.saturating_plus(3_000));
    timeout(HANG, watch.look(&broker.groups)).await.unwrap();
    let picture = watch.picture();
    let [seen] = &picture.groups[..] else {
        panic!("{picture:?}");
    };
    assert_eq!(&*seen.group.group, "g");
    assert_eq!(
        (seen.records(), seen.time_ms(), seen.topics[0].partitions),
        (1, Some(3_000), 1)
    );

    commit_own(&broker, "g", 2).await;
    timeout(HANG, watch.look(&broker.groups)).await.unwrap();
    let records: Vec<_> = watch.history("g").iter().map(|point| point.records).collect();
    assert_eq!(records, [1, 0]);
    assert_eq!(watch.history("h"), []);
}

/// Groups that have committed, each in its own shard.
async fn commit_all(broker: &Broker, groups: &[String]) {
    let mut by_shard: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for group in groups {
        let shard = broker.partition_of(group).name().partition;
        by_shard.entry(shard).or_default().push(group.clone());
    }
    let commits = by_shard.into_values().map(|names| {
        let groups = Arc::clone(&broker.groups);
        tokio::spawn(async move {
            let command = |_: &mut GroupShard, context: &mut Context<'_>| {
                context.records.extend(names.iter().map(|name| commit(name, 0)));
            };
            groups.run(&names[0], command).await
        })
    });
    let commits: Vec<_> = commits.collect();
    settle().await;
    broker.sync();
    for commit in commits {
        end_of(commit).await.unwrap();
    }
}

#[tokio::test]
async fn all_groups_are_counted_and_the_first_thousand_looked_at() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let names: Vec<String> = (0..1_100).map(|n| format!("g{n:04}")).collect();
    commit_all(&broker, &names).await;
    let watch = LagWatch::default();
    timeout(HANG, watch.look(&broker.groups)).await.unwrap();
    let picture = watch.picture();
    assert_eq!(picture.states, BTreeMap::from([("Empty", 1_100)]));
    assert_eq!((picture.group_count(), picture.hidden_count()), (1_100, 100));
    let seen: Vec<_> = picture.groups.iter().map(|lag| &*lag.group.group).collect();
    assert_eq!(seen, names[..1_000]);
    assert_eq!(watch.history(&names[HISTORIES_MAX - 1]).len(), 1);
    assert_eq!(watch.history(&names[HISTORIES_MAX]), []);
    // A group that comes before the others takes the place of the last.
    commit_all(&broker, &["a".to_owned()]).await;
    timeout(HANG, watch.look(&broker.groups)).await.unwrap();
    assert_eq!(watch.history("a").len(), 1);
    assert_eq!(watch.history(&names[HISTORIES_MAX - 1]), []);
}

#[tokio::test]
async fn records_are_read_for_those_that_are_furthest_behind() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    commit_own(&broker, "g", 0).await;
    let behind = lag(&broker, "g").await;
    let mut lags: Vec<_> = (0..=1_000)
        .map(|records| PartitionLag {
            records: Some(1_000 - records),
            time_ms: None,
            ..behind.clone()
        })
        .collect();
    let further = PartitionLag {
        records: Some(1_001),
        ..lags[0].clone()
    };
    lags.push(further);
    find_times(
        lags.iter_mut().collect(),
        &broker.partitions,
        NOW.saturating_plus(7),
    );
    let unknown: Vec<_> = lags.iter().filter(|lag| lag.time_ms.is_none()).collect();
    let unknown: Vec<_> = unknown.iter().map(|lag| lag.records).collect();
    // Who is not behind was not looked at either.
    assert_eq!(unknown, [Some(1), Some(0)]);
    assert_eq!(lags[0].time_ms, Some(7));
}
