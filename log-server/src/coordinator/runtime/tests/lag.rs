//! How far groups are behind on a real log, which is their own topic's: each commit is a record there.
//! Offsets outside a log are counted when somebody asks for them.

use super::*;
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, NamedBy};
use crate::coordinator::runtime::lag::PartitionLag;
use crate::coordinator::runtime::lag_watch::LagWatch;

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
    assert_eq!((watch.picture().at, watch.picture().group_count), (Some(NOW), 0));

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
