//! The group consumer against a coordinator in memory: what it says and when, what it makes of errors, and in
//! which order its commits arrive. What whole groups do is tested against real brokers (`tests/scenarios`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log_core::model::{Offset, TimestampMs, TopicPartition};
use log_core::protocol::{ApiKey, ErrorCode};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use parking_lot::Mutex;

use super::assignor::Assignor;
use super::*;
use crate::coordinator::CommittedOffset;
use crate::error::Error;
use crate::retry::Backoff;
use crate::testing::fake_broker::FakeBroker;

fn config(broker: &FakeBroker) -> GroupConfig {
    let quick = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
    };
    let mut config = GroupConfig::new(broker.address(), "g");
    config.consumer.client.retry_backoff = quick;
    config.consumer.client.reconnect_backoff = quick;
    config.auto_offset_reset = AutoOffsetReset::Earliest;
    config.enable_auto_commit = false;
    config
}

/// A topic `t` with ten records in each of its partitions, of which the group reads those named.
async fn broker(partitions: usize, assigned: &[(&str, i32)]) -> FakeBroker {
    let broker = FakeBroker::start().await;
    broker.create("t", partitions);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..10 {
        builder
            .append(TimestampMs::new(0), None, Some(b"value"), &[])
            .unwrap();
    }
    let batch = builder.build();
    let mut state = broker.state();
    for partition in &mut state.topics.get_mut("t").unwrap().partitions {
        partition.store(&batch);
    }
    state.group.assign(assigned);
    drop(state);
    broker
}

fn subscribed(config: GroupConfig) -> GroupConsumer {
    let mut consumer = GroupConsumer::new(config).unwrap();
    consumer.subscribe(["t"]).unwrap();
    consumer
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

fn at(index: i32, offset: i64) -> BTreeMap<TopicPartition, CommittedOffset> {
    BTreeMap::from([(partition(index), CommittedOffset::new(Offset::new(offset)))])
}

/// Reads one by one, and lets others run meanwhile.
async fn take(consumer: &mut GroupConsumer, count: usize) -> Vec<(i32, i64)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let record = consumer.next().await.unwrap();
        taken.push((record.partition.partition, record.offset.get()));
    }
    taken
}

/// Lets others run until something is true of the broker.
async fn until(broker: &FakeBroker, is_true: impl Fn(&crate::testing::fake_group::FakeGroup) -> bool) {
    while !is_true(&broker.state().group) {
        tokio::task::yield_now().await;
    }
}

/// Polls, with interruptions, until something is true of the broker.
async fn poll_until(
    broker: &FakeBroker,
    consumer: &mut GroupConsumer,
    is_true: impl Fn(&crate::testing::fake_group::FakeGroup) -> bool,
) {
    while !is_true(&broker.state().group) {
        let turn = tokio::time::timeout(Duration::from_millis(1), consumer.poll()).await;
        if let Ok(polled) = turn {
            polled.unwrap();
        }
    }
}

#[tokio::test]
async fn heartbeats_go_on_while_the_caller_is_at_work_and_say_only_what_is_new() {
    let broker = broker(2, &[("t", 0), ("t", 1)]).await;
    let mut consumer = subscribed(config(&broker));
    assert_eq!(take(&mut consumer, 20).await.len(), 20);
    let so_far = broker.state().group.heartbeats.len();
    until(&broker, |group| so_far + 5 < group.heartbeats.len()).await;
    let heartbeats = broker.state().group.heartbeats.clone();
    let first = &heartbeats[0];
    assert_eq!((first.member_epoch, first.rebalance_timeout_ms), (0, 300_000));
    assert_eq!(first.subscribed_topic_names.as_ref().unwrap().len(), 1);
    assert_eq!(first.topic_partitions.as_deref(), Some(&[][..]));
    assert_eq!(first.member_id.len(), 22, "an id of its own");
    let said = heartbeats[1..]
        .iter()
        .filter(|heartbeat| heartbeat.topic_partitions.is_some());
    assert_eq!(said.count(), 1, "what it reads is said once");
    assert_eq!(broker.state().group.owned(), Some(vec![0, 1]));
    let last = heartbeats.last().unwrap();
    assert_eq!((last.member_epoch, last.rebalance_timeout_ms), (1, -1));
    assert_eq!(last.subscribed_topic_names, None);
    assert_eq!(last.member_id, first.member_id);
}

#[tokio::test]
async fn partitions_move_when_the_caller_polls() {
    let broker = broker(2, &[("t", 0)]).await;
    let mut consumer = subscribed(config(&broker));
    assert_eq!(take(&mut consumer, 3).await, [(0, 0), (0, 1), (0, 2)]);
    broker.state().group.assign(&[("t", 1)]);
    let so_far = broker.state().group.heartbeats.len();
    until(&broker, |group| so_far + 3 < group.heartbeats.len()).await;
    assert_eq!(
        broker.state().group.owned(),
        Some(vec![0]),
        "the caller is at work"
    );
    assert_eq!(consumer.assignment().collect::<Vec<_>>(), [&partition(0)]);
    // The rest of what was fetched is not handed out: it is somebody else's.
    assert_eq!(take(&mut consumer, 2).await, [(1, 0), (1, 1)]);
    until(&broker, |group| group.owned() == Some(vec![1])).await;
    assert!(
        consumer
            .seek(&partition(0), crate::config::StartAt::Earliest)
            .is_err()
    );
}

struct Notes(Arc<Mutex<Vec<&'static str>>>);

impl RebalanceListener for Notes {
    fn assigned(&mut self, _: &[TopicPartition], _: &mut Rebalance) {
        self.0.lock().push("assigned");
    }

    fn revoked(&mut self, _: &[TopicPartition], _: &mut Rebalance) {
        self.0.lock().push("revoked");
    }

    fn lost(&mut self, _: &[TopicPartition]) {
        self.0.lock().push("lost");
    }
}

#[tokio::test]
async fn a_member_that_is_fenced_loses_everything_and_joins_anew() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let broker = broker(1, &[("t", 0)]).await;
        let notes = Arc::new(Mutex::new(Vec::new()));
        let mut consumer = subscribed(config(&broker));
        consumer.set_listener(Notes(Arc::clone(&notes)));
        take(&mut consumer, 4).await;
        consumer.commit().await.unwrap();
        let member = consumer.member().unwrap();
        broker
            .state()
            .group
            .errors
            .push_back((ApiKey::ConsumerGroupHeartbeat, code));
        until(&broker, |group| group.errors.is_empty()).await;
        while consumer.member().is_some() {
            tokio::task::yield_now().await;
        }
        let refused = consumer.commit().await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::UnknownMemberId));
        assert_eq!(
            take(&mut consumer, 2).await,
            [(0, 4), (0, 5)],
            "from what was committed"
        );
        assert_eq!(*notes.lock(), ["assigned", "lost", "assigned"]);
        assert_eq!(consumer.member().unwrap().member_id, member.member_id);
        let joined = broker
            .state()
            .group
            .heartbeats
            .iter()
            .filter(|said| said.member_epoch == 0)
            .count();
        assert_eq!(joined, 2);
    }
}

#[tokio::test]
async fn errors_that_pass_are_waited_out_and_the_coordinator_is_looked_for_again() {
    let broker = broker(1, &[("t", 0)]).await;
    let heartbeat = |code| (ApiKey::ConsumerGroupHeartbeat, code);
    broker.state().group.errors.extend([
        (ApiKey::FindCoordinator, ErrorCode::CoordinatorNotAvailable),
        heartbeat(ErrorCode::CoordinatorLoadInProgress),
        heartbeat(ErrorCode::NotCoordinator),
        heartbeat(ErrorCode::CoordinatorNotAvailable),
        (ApiKey::OffsetCommit, ErrorCode::NotCoordinator),
        (ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress),
    ]);
    let mut consumer = subscribed(config(&broker));
    assert_eq!(take(&mut consumer, 10).await.len(), 10);
    consumer.commit().await.unwrap();
    let state = broker.state();
    assert!(state.group.errors.is_empty());
    // The first, its repetition, and one for each of three errors; a heartbeat beside the commit may look for itself once more.
    assert!((5..=6).contains(&state.group.lookups), "{}", state.group.lookups);
    assert_eq!(state.group.commits.len(), 1);
}

#[tokio::test]
async fn what_does_not_pass_is_told_until_the_next_subscription() {
    let broker = broker(1, &[("t", 0)]).await;
    let refused = (
        ApiKey::ConsumerGroupHeartbeat,
        ErrorCode::GroupAuthorizationFailed,
    );
    broker.state().group.errors.push_back(refused);
    let mut consumer = subscribed(config(&broker));
    for _ in 0..2 {
        let error = consumer.next().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::GroupAuthorizationFailed));
    }
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(take(&mut consumer, 10).await.len(), 10);
    consumer.unsubscribe().await.unwrap();
    assert!(matches!(consumer.poll().await, Err(Error::InvalidConfig(_))));
    let last = broker.state().group.heartbeats.last().unwrap().member_epoch;
    assert_eq!(last, -1, "it has left");
}

#[tokio::test]
async fn commits_arrive_in_the_order_of_the_calls() {
    let broker = broker(1, &[("t", 0)]).await;
    let mut consumer = subscribed(config(&broker));
    take(&mut consumer, 1).await;
    // The first needs several attempts; the others wait for it.
    for _ in 0..3 {
        let passing = (ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress);
        broker.state().group.errors.push_back(passing);
    }
    let cancelled = tokio::time::timeout(Duration::ZERO, consumer.commit_offsets(at(0, 3))).await;
    assert!(cancelled.is_err());
    let second = consumer.commit_offsets_async(at(0, 5));
    consumer.commit_offsets(at(0, 7)).await.unwrap();
    second.await.unwrap();
    let commits = broker.state().group.commits.clone();
    let offsets: Vec<_> = commits
        .iter()
        .map(|(_, offsets)| offsets[&partition(0)])
        .collect();
    assert_eq!(offsets, [3, 5, 7]);
}

#[tokio::test]
async fn a_commit_that_is_an_epoch_late_is_made_again() {
    let broker = broker(1, &[("t", 0)]).await;
    let mut consumer = subscribed(config(&broker));
    take(&mut consumer, 6).await;
    broker.state().group.bump();
    consumer.commit().await.unwrap();
    assert_eq!(broker.state().group.commits[0].0, 2, "by the epoch that is");
    assert_eq!(broker.state().group.offsets[&partition(0)], 6);
}

#[tokio::test]
async fn positions_are_committed_by_themselves_when_the_caller_comes_back() {
    let broker = broker(2, &[("t", 0), ("t", 1)]).await;
    let mut config = config(&broker);
    config.enable_auto_commit = true;
    config.auto_commit_interval = Duration::from_millis(1);
    let mut consumer = subscribed(config);
    let taken = take(&mut consumer, 13).await;
    poll_until(&broker, &mut consumer, |group| {
        group.offsets.get(&partition(0)) == Some(&10) && group.offsets.get(&partition(1)) == Some(&10)
    })
    .await;
    assert_eq!(taken.len(), 13);
    // Nothing has happened since: nothing is committed again.
    let commits = broker.state().group.commits.len();
    let so_far = broker.state().group.heartbeats.len();
    poll_until(&broker, &mut consumer, |group| {
        so_far + 5 < group.heartbeats.len()
    })
    .await;
    assert_eq!(broker.state().group.commits.len(), commits);
}

#[tokio::test]
async fn what_was_handed_out_last_is_committed_by_closing() {
    let broker = broker(1, &[("t", 0)]).await;
    let mut config = config(&broker);
    config.enable_auto_commit = true;
    config.auto_commit_interval = Duration::from_hours(1);
    let mut consumer = subscribed(config);
    take(&mut consumer, 4).await;
    consumer.close().await.unwrap();
    let state = broker.state();
    assert_eq!(state.group.offsets[&partition(0)], 4, "not what was only fetched");
    assert_eq!(state.group.heartbeats.last().unwrap().member_epoch, -1);
}

#[tokio::test]
async fn without_a_committed_offset_somebody_must_say_where_to_begin() {
    let broker = broker(1, &[("t", 0)]).await;
    let mut config = config(&broker);
    config.auto_offset_reset = AutoOffsetReset::None;
    let mut consumer = subscribed(config);
    for _ in 0..2 {
        let error = consumer.poll().await.unwrap_err();
        assert!(matches!(error, Error::NoCommittedOffset { .. }), "{error}");
    }
    let start = crate::config::StartAt::Offset(Offset::new(7));
    consumer.seek(&partition(0), start).unwrap();
    assert_eq!(take(&mut consumer, 3).await, [(0, 7), (0, 8), (0, 9)]);
}

fn classic(broker: &FakeBroker) -> GroupConfig {
    let mut config = config(broker);
    config.group_protocol = GroupProtocol::Classic;
    config.heartbeat_interval = Duration::from_millis(5);
    config
}

#[tokio::test]
async fn a_leader_that_cannot_see_a_topic_does_not_take_it_for_empty() {
    let broker = broker(2, &[]).await;
    broker.state().topic_error = Some(ErrorCode::LeaderNotAvailable);
    let mut consumer = subscribed(classic(&broker));
    poll_until(&broker, &mut consumer, |group| 3 <= group.joins).await;
    assert!(broker.state().group.worked_out.is_empty(), "nothing is known yet");
    broker.state().topic_error = None;
    assert_eq!(take(&mut consumer, 20).await.len(), 20);
    assert_eq!(broker.state().group.worked_out, [[partition(0), partition(1)]]);
}

#[tokio::test]
async fn a_leader_that_may_not_see_a_topic_says_so_and_leaves() {
    let broker = broker(1, &[]).await;
    broker.state().topic_error = Some(ErrorCode::TopicAuthorizationFailed);
    let mut consumer = subscribed(classic(&broker));
    let error = consumer.poll().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
    until(&broker, |group| group.leaves == 1).await;
    assert!(broker.state().group.worked_out.is_empty());
}

#[tokio::test]
async fn what_only_others_want_ends_nobody_who_leads() {
    for code in [
        ErrorCode::TopicAuthorizationFailed,
        ErrorCode::InvalidTopicException,
    ] {
        let broker = broker(1, &[]).await;
        broker.state().topics_refused.insert("secret", code);
        broker.state().group.wanted_by_another = vec!["secret".to_owned()];
        let mut consumer = subscribed(classic(&broker));
        assert_eq!(take(&mut consumer, 10).await.len(), 10, "{code:?}");
        assert_eq!(broker.state().group.worked_out, [[partition(0)]]);
        assert_eq!(broker.state().group.leaves, 0);
    }
}

#[tokio::test]
async fn a_topic_that_cannot_exist_has_no_partitions() {
    let broker = broker(1, &[]).await;
    let impossible = ("not/a/name", ErrorCode::InvalidTopicException);
    broker.state().topics_refused.extend([impossible]);
    let mut consumer = GroupConsumer::new(classic(&broker)).unwrap();
    consumer.subscribe(["t", "not/a/name"]).unwrap();
    assert_eq!(take(&mut consumer, 10).await.len(), 10);
    assert_eq!(broker.state().group.worked_out, [[partition(0)]]);
}

#[tokio::test]
async fn a_static_member_keeps_the_id_that_it_got_before_the_group_began_anew() {
    let broker = broker(1, &[]).await;
    let syncs = [
        ErrorCode::RebalanceInProgress,
        ErrorCode::CoordinatorLoadInProgress,
    ];
    let syncs = syncs.map(|code| (ApiKey::SyncGroup, code));
    broker.state().group.errors.extend(syncs);
    let mut config = classic(&broker);
    config.group_instance_id = Some("first".to_owned());
    let mut consumer = subscribed(config);
    assert_eq!(take(&mut consumer, 10).await.len(), 10);
    assert_eq!(broker.state().group.joined_as, ["", "member", "member"]);
}

#[tokio::test]
async fn a_heartbeat_between_a_join_and_the_next_is_one_of_the_generation_that_was_joined() {
    let broker = broker(1, &[]).await;
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut config = classic(&broker);
    config.assignors = vec![Assignor::CooperativeSticky];
    // A heartbeat is due between each attempt and the next.
    config.consumer.client.retry_backoff.first = 2 * config.heartbeat_interval;
    config.consumer.client.retry_backoff.longest = 2 * config.heartbeat_interval;
    let mut consumer = subscribed(config);
    consumer.set_listener(Notes(Arc::clone(&notes)));
    take(&mut consumer, 4).await;

    // All join, and the leader cannot see the topic for a while.
    broker.state().topic_error = Some(ErrorCode::LeaderNotAvailable);
    let rebalance = (ApiKey::Heartbeat, ErrorCode::RebalanceInProgress);
    broker.state().group.errors.push_back(rebalance);
    let joins = broker.state().group.joins;
    let beats = broker.state().group.beats;
    poll_until(&broker, &mut consumer, |group| {
        let is_lost = notes.lock().contains(&"lost");
        is_lost || (joins + 2 < group.joins && beats + 2 < group.beats)
    })
    .await;
    broker.state().topic_error = None;
    poll_until(&broker, &mut consumer, |group| 2 <= group.worked_out.len()).await;
    let beats = broker.state().group.beats;
    poll_until(&broker, &mut consumer, |group| beats + 2 < group.beats).await;
    assert_eq!(consumer.assignment().collect::<Vec<_>>(), [&partition(0)]);
    let notes = notes.lock().clone();
    assert!(
        !notes.contains(&"lost"),
        "it was a member all the while: {notes:?}"
    );
}

#[tokio::test]
async fn a_topic_that_does_not_exist_has_no_partitions() {
    let broker = broker(1, &[]).await;
    let mut config = classic(&broker);
    config.consumer.client.metadata_max_age = Duration::from_millis(10);
    let mut consumer = GroupConsumer::new(config).unwrap();
    consumer.subscribe(["t", "none"]).unwrap();
    assert_eq!(take(&mut consumer, 10).await.len(), 10);
    assert_eq!(broker.state().group.worked_out, [[partition(0)]]);
    // Once it is there, the leader sees it.
    broker.create("none", 1);
    poll_until(&broker, &mut consumer, |group| 2 <= group.worked_out.len()).await;
    let expected = [TopicPartition::new("none", 0), partition(0)];
    assert_eq!(broker.state().group.worked_out[1], expected);
}

#[tokio::test]
async fn partitions_of_a_membership_that_failed_are_lost() {
    let broker = broker(1, &[("t", 0)]).await;
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut consumer = subscribed(config(&broker));
    consumer.set_listener(Notes(Arc::clone(&notes)));
    take(&mut consumer, 4).await;
    consumer.commit().await.unwrap();
    let refused = (
        ApiKey::ConsumerGroupHeartbeat,
        ErrorCode::GroupAuthorizationFailed,
    );
    broker.state().group.errors.push_back(refused);
    until(&broker, |group| group.errors.is_empty()).await;
    while consumer.member().is_some() {
        tokio::task::yield_now().await;
    }
    // The caller subscribes before it hears of the end.
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(consumer.assignment().count(), 0);
    assert_eq!(*notes.lock(), ["assigned", "lost"]);
    assert_eq!(take(&mut consumer, 2).await, [(0, 4), (0, 5)]);
    assert_eq!(*notes.lock(), ["assigned", "lost", "assigned"]);
    let heartbeats = broker.state().group.heartbeats.clone();
    let joined = heartbeats.iter().filter(|said| said.member_epoch == 0);
    assert_eq!(joined.count(), 2);
}

#[tokio::test]
async fn partitions_are_lost_when_the_broker_ceases_to_serve_the_protocol() {
    let broker = broker(1, &[("t", 0)]).await;
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut consumer = subscribed(config(&broker));
    consumer.set_listener(Notes(Arc::clone(&notes)));
    take(&mut consumer, 4).await;
    consumer.commit().await.unwrap();
    broker.state().group.is_classic = true;
    until(&broker, |group| !group.worked_out.is_empty()).await;
    assert_eq!(take(&mut consumer, 2).await, [(0, 4), (0, 5)]);
    assert_eq!(*notes.lock(), ["assigned", "lost", "assigned"]);
}

#[tokio::test]
async fn a_membership_whose_task_has_died_is_an_error_until_the_next_subscription() {
    let broker = broker(1, &[("t", 0)]).await;
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut consumer = subscribed(config(&broker));
    consumer.set_listener(Notes(Arc::clone(&notes)));
    take(&mut consumer, 4).await;
    consumer.commit().await.unwrap();
    consumer.abort_membership();
    for _ in 0..2 {
        let error = consumer.poll().await.unwrap_err();
        assert!(matches!(error, Error::MembershipEnded), "{error}");
    }
    assert_eq!(consumer.assignment().count(), 0);
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(take(&mut consumer, 2).await, [(0, 4), (0, 5)]);
    assert_eq!(*notes.lock(), ["assigned", "lost", "assigned"]);
}

#[tokio::test]
async fn a_membership_that_is_slow_to_say_that_it_has_died_does_not_end_its_successor() {
    let broker = broker(1, &[("t", 0)]).await;
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut consumer = subscribed(config(&broker));
    consumer.set_listener(Notes(Arc::clone(&notes)));
    take(&mut consumer, 4).await;
    consumer.commit().await.unwrap();
    // Dead, and nobody has heard of it yet.
    let (commands, closed) = tokio::sync::mpsc::unbounded_channel();
    drop(closed);
    consumer.abort_membership();
    consumer.commands = commands;
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(*notes.lock(), ["assigned", "lost"]);
    assert_eq!(take(&mut consumer, 2).await, [(0, 4), (0, 5)]);
    assert_eq!(*notes.lock(), ["assigned", "lost", "assigned"]);
}

/// How long a group waits; longer than any machine is held up, so that no caller is taken for one who stays away.
const PATIENCE: Duration = Duration::from_mins(5);

/// A member that has read something of partition 0 of a group whose coordinator takes no commits.
async fn without_commits(broker: &FakeBroker) -> (GroupConsumer, Arc<Mutex<Vec<&'static str>>>) {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut config = config(broker);
    config.enable_auto_commit = true;
    config.auto_commit_interval = Duration::from_hours(1);
    config.max_poll_interval = PATIENCE;
    let mut consumer = subscribed(config);
    consumer.set_listener(Notes(Arc::clone(&notes)));
    take(&mut consumer, 3).await;
    broker.state().group.refuses_commits = Some(ErrorCode::CoordinatorLoadInProgress);
    (consumer, notes)
}

#[tokio::test]
async fn what_cannot_be_committed_is_given_up_before_the_group_goes_on_without_the_member() {
    let broker = broker(2, &[("t", 0)]).await;
    let (mut consumer, notes) = without_commits(&broker).await;
    let id = broker.state().topics["t"].id;
    // The group will wait for a second more.
    consumer.obey(link::Given {
        serial: 99,
        order: link::Order::Read([(partition(1), id)].into()),
        at: tokio::time::Instant::now() + Duration::from_secs(1) - PATIENCE,
    });
    poll_until(&broker, &mut consumer, |group| group.owned() == Some(vec![1])).await;
    assert!(1 < broker.state().group.commit_tries, "as long as there was time");
    assert_eq!(*notes.lock(), ["assigned", "revoked", "assigned"]);
}

#[tokio::test]
async fn what_the_group_has_waited_for_too_long_is_committed_in_one_attempt() {
    let broker = broker(1, &[("t", 0)]).await;
    let (mut consumer, notes) = without_commits(&broker).await;
    consumer.obey(link::Given {
        serial: 99,
        order: link::Order::Release,
        at: tokio::time::Instant::now() - PATIENCE,
    });
    while 0 < consumer.assignment().count() {
        tokio::time::timeout(Duration::from_millis(1), consumer.poll())
            .await
            .ok();
    }
    assert_eq!(*notes.lock(), ["assigned", "revoked"]);
    assert_eq!(broker.state().group.commit_tries, 1);
}

#[tokio::test]
async fn polls_can_be_bounded_by_the_number_of_records() {
    let broker = broker(2, &[("t", 0), ("t", 1)]).await;
    let mut config = config(&broker);
    config.max_poll_records = 3;
    config.enable_auto_commit = true;
    config.auto_commit_interval = Duration::from_hours(1);
    let mut consumer = subscribed(config);
    let mut taken = BTreeMap::new();
    let mut count = 0;
    while count < 20 {
        let records = consumer.poll_records().await.unwrap();
        assert!((1..=3).contains(&records.len()));
        count += records.len();
        for record in records {
            let expected = taken.entry(record.partition.partition).or_insert(0);
            assert_eq!(record.offset.get(), *expected, "{}", record.partition);
            *expected += 1;
            assert!(Some(record.offset) < consumer.position(&record.partition));
        }
    }
    assert_eq!(taken, BTreeMap::from([(0, 10), (1, 10)]));
}

#[tokio::test]
async fn a_member_says_where_it_stands() {
    let broker = broker(1, &[("t", 0)]).await;
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        let mut config = config(&broker);
        config.group_protocol = protocol;
        config.client_rack = Some("cellar".to_owned());
        let mut consumer = subscribed(config);
        take(&mut consumer, 1).await;
    }
    let state = broker.state();
    let rack = state.group.heartbeats[0].rack_id.clone();
    assert_eq!(rack.unwrap().as_str(), "cellar");
    assert_eq!(state.group.racks, [Some("cellar".to_owned())]);
}

#[tokio::test]
async fn the_consumer_can_be_moved_between_threads_and_read_as_a_stream() {
    use futures_util::StreamExt as _;
    let broker = broker(1, &[("t", 0)]).await;
    let mut consumer = subscribed(config(&broker));
    let task = tokio::spawn(async move {
        let offsets = consumer
            .stream()
            .take(10)
            .map(|record| record.unwrap().offset.get());
        offsets.collect::<Vec<_>>().await
    });
    assert_eq!(task.await.unwrap(), (0..10).collect::<Vec<_>>());
}
