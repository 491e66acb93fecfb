//! What members of a group must be able to do with any broker: share partitions, hand them over without a record
//! lost or read twice, come back to where they were, and be replaced when they fall silent.
//!
//! Members take turns in one task: each polls for a moment and is then interrupted, so that every wait is
//! cancelled again and again. The dead member of the consumer protocol is missed after a second where the broker
//! allows groups that setting (`group.consumer.min.session.timeout.ms`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log_client::admin::{Admin, ConfigChange, ConfigResource, GroupState, GroupType, Intent, NewTopic};
use log_client::config::{ProducerConfig, StartAt};
use log_client::coordinator::CommittedOffset;
use log_client::group::assignor::Assignor;
use log_client::group::{
    AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol, Rebalance, RebalanceListener,
};
use log_client::producer::{Producer, ProducerRecord};
use log_core::model::{Offset, TopicPartition};
use log_core::protocol::ErrorCode;

use super::{admin, create, eventually, partitions_become, unique};

/// How a group works out who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Consumer,
    ClassicEager,
    ClassicCooperative,
}

const KINDS: [Kind; 3] = [Kind::Consumer, Kind::ClassicEager, Kind::ClassicCooperative];

fn config(bootstrap: &str, group: &str, kind: Kind) -> GroupConfig {
    let mut config = GroupConfig::new(bootstrap, group);
    config.auto_offset_reset = AutoOffsetReset::Earliest;
    config.session_timeout = Duration::from_secs(6);
    config.heartbeat_interval = Duration::from_millis(300);
    config.consumer.fetch_wait_max = Duration::from_millis(50);
    config.consumer.client.metadata_max_age = Duration::from_millis(500);
    match kind {
        Kind::Consumer => config.group_protocol = GroupProtocol::Consumer,
        Kind::ClassicEager => config.group_protocol = GroupProtocol::Classic,
        Kind::ClassicCooperative => {
            config.group_protocol = GroupProtocol::Classic;
            config.assignors = vec![Assignor::CooperativeSticky];
        }
    }
    config
}

/// Makes the broker quick to miss a member, and to hear of changes.
async fn impatient(admin: &Admin, group: &str) {
    let times = [
        ("consumer.heartbeat.interval.ms", "300"),
        ("consumer.session.timeout.ms", "2000"),
    ];
    set(admin, group, &times).await;
}

/// Sets a group's own times.
async fn set(admin: &Admin, group: &str, times: &[(&str, &str)]) {
    let changes: Vec<_> = times
        .iter()
        .map(|(name, value)| ((*name).to_owned(), ConfigChange::Set((*value).to_owned())))
        .collect();
    let group = ConfigResource::Group(group.to_owned());
    admin
        .alter_configs(&group, &changes, Intent::Apply)
        .await
        .unwrap();
}

/// Members of one group, and what they have read.
struct Members {
    consumers: BTreeMap<&'static str, GroupConsumer>,
    /// In order, from each partition, whoever read it.
    seen: BTreeMap<TopicPartition, Vec<i64>>,
}

impl Members {
    fn new() -> Self {
        Self {
            consumers: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn join(&mut self, name: &'static str, config: GroupConfig, topic: &str) {
        let mut consumer = GroupConsumer::new(config).unwrap();
        consumer.subscribe([topic]).unwrap();
        self.consumers.insert(name, consumer);
    }

    /// Lets members take turns until `is_enough`.
    async fn until(&mut self, what: &str, mut is_enough: impl FnMut(&Self) -> bool) {
        let turns = async {
            while !is_enough(self) {
                for consumer in self.consumers.values_mut() {
                    let turn = tokio::time::timeout(Duration::from_millis(20), consumer.poll());
                    let Ok(polled) = turn.await else { continue };
                    for records in polled.unwrap() {
                        let seen = self.seen.entry(records.partition().clone()).or_default();
                        for record in records.into_records().unwrap() {
                            seen.push(record.offset.get());
                        }
                    }
                }
            }
        };
        let turns = tokio::time::timeout(Duration::from_mins(2), turns).await;
        assert!(
            turns.is_ok(),
            "never seen: {what}; {:?}, {:?}",
            self.shares(),
            self.seen
        );
    }

    /// How many partitions each member has; a partition must not have two readers.
    fn shares(&self) -> Vec<usize> {
        let mut all = BTreeSet::new();
        let mut shares = Vec::new();
        for consumer in self.consumers.values() {
            shares.push(consumer.assignment().count());
            for partition in consumer.assignment() {
                assert!(all.insert(partition.clone()), "{partition} has two readers");
            }
        }
        shares
    }

    async fn shares_become(&mut self, expected: &[usize]) {
        self.until(&format!("shares of {expected:?}"), |members| {
            members.shares() == expected
        })
        .await;
    }

    /// Waits until every one of `count` partitions was read up to `end`.
    async fn read_up_to(&mut self, count: usize, end: i64) {
        self.until(&format!("{count} partitions read up to {end}"), |members| {
            let ends = members.seen.values().filter_map(|seen| seen.iter().max());
            ends.filter(|last| **last == end - 1).count() == count
        })
        .await;
    }

    /// Every record was read, each once and in order.
    fn assert_exactly_once(&self, end: i64) {
        let expected: Vec<_> = (0..end).collect();
        for (partition, seen) in &self.seen {
            assert_eq!(*seen, expected, "{partition}");
        }
    }

    /// Every record was read.
    fn assert_at_least_once(&self, end: i64) {
        let expected: BTreeSet<_> = (0..end).collect();
        for (partition, seen) in &self.seen {
            assert_eq!(
                seen.iter().copied().collect::<BTreeSet<_>>(),
                expected,
                "{partition}"
            );
        }
    }

    async fn close(&mut self, name: &str) {
        self.consumers.remove(name).unwrap().close().await.unwrap();
    }
}

/// Sends `count` records to each partition.
async fn produce(bootstrap: &str, topic: &str, partitions: i32, count: usize) {
    let producer = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    let mut deliveries = Vec::new();
    for _ in 0..count {
        for partition in 0..partitions {
            let record = ProducerRecord::new(topic, b"value").with_partition(partition);
            deliveries.push(producer.send(&record).await.unwrap());
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close().await;
}

async fn committed(admin: &Admin, group: &str) -> Vec<i64> {
    let offsets = admin.list_group_offsets(group, None).await.unwrap();
    let offsets = offsets
        .into_values()
        .map(|row| row.unwrap().unwrap().offset.get());
    offsets.collect()
}

pub(crate) async fn members_share_partitions_and_hand_them_over(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for kind in KINDS {
        share_and_hand_over(bootstrap, kind).await;
    }
}

async fn share_and_hand_over(bootstrap: &str, kind: Kind) {
    let admin = admin(bootstrap);
    let (topic, group) = (unique("shared"), unique("group"));
    create(&admin, NewTopic::new(&topic).with_partitions(6)).await;
    impatient(&admin, &group).await;
    let config = || config(bootstrap, &group, kind);
    let mut members = Members::new();

    produce(bootstrap, &topic, 6, 20).await;
    members.join("a", config(), &topic);
    members.read_up_to(6, 20).await;
    members.join("b", config(), &topic);
    members.shares_become(&[3, 3]).await;
    produce(bootstrap, &topic, 6, 10).await;
    members.read_up_to(6, 30).await;
    members.assert_exactly_once(30);

    let described = admin.describe_groups(&[&group]).await.remove(0).unwrap();
    assert_eq!(described.state, GroupState::Stable, "{kind:?}");
    assert_eq!(described.kind == GroupType::Consumer, kind == Kind::Consumer);
    assert_eq!(described.members.len(), 2);
    let assigned: BTreeSet<_> = described
        .members
        .iter()
        .flat_map(|member| member.assignment.clone())
        .collect();
    assert_eq!(assigned.len(), 6, "{kind:?}: {described:?}");

    // One leaves.
    members.close("b").await;
    members.shares_become(&[6]).await;
    produce(bootstrap, &topic, 6, 10).await;
    members.read_up_to(6, 40).await;
    members.assert_exactly_once(40);

    // One falls silent.
    members.join("c", config(), &topic);
    members.shares_become(&[3, 3]).await;
    drop(members.consumers.remove("c"));
    produce(bootstrap, &topic, 6, 10).await;
    members.shares_become(&[6]).await;
    members.read_up_to(6, 50).await;
    members.assert_at_least_once(50);

    members.close("a").await;
    assert_eq!(committed(&admin, &group).await, [50; 6], "{kind:?}");
    let described = admin.describe_groups(&[&group]).await.remove(0).unwrap();
    assert_eq!((described.state, described.members.len()), (GroupState::Empty, 0));
    assert!(admin.delete_groups(&[&group]).await[0].is_ok());
    admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn members_of_both_protocols_share_a_group(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for classic in [Kind::ClassicEager, Kind::ClassicCooperative] {
        let admin = admin(bootstrap);
        let (topic, group) = (unique("mixed"), unique("group"));
        create(&admin, NewTopic::new(&topic).with_partitions(6)).await;
        impatient(&admin, &group).await;
        produce(bootstrap, &topic, 6, 10).await;
        let mut members = Members::new();
        members.join("a", config(bootstrap, &group, Kind::Consumer), &topic);
        members.read_up_to(6, 10).await;
        members.join("b", config(bootstrap, &group, classic), &topic);
        members.shares_become(&[3, 3]).await;
        produce(bootstrap, &topic, 6, 10).await;
        members.read_up_to(6, 20).await;
        members.assert_exactly_once(20);
        let described = admin.describe_groups(&[&group]).await.remove(0).unwrap();
        assert_eq!(described.kind, GroupType::Consumer);
        assert_eq!(described.members.len(), 2);

        // The one that stays may be of either kind.
        members.close("a").await;
        members.shares_become(&[6]).await;
        produce(bootstrap, &topic, 6, 10).await;
        members.read_up_to(6, 30).await;
        members.assert_exactly_once(30);
        members.join("d", config(bootstrap, &group, Kind::Consumer), &topic);
        members.shares_become(&[3, 3]).await;
        members.close("b").await;
        members.close("d").await;
        assert_eq!(committed(&admin, &group).await, [30; 6], "{classic:?}");
        admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
    }
}

/// Reads `count` records one by one.
async fn take(consumer: &mut GroupConsumer, count: usize) -> Vec<(i32, i64)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(Duration::from_mins(2), consumer.next());
        let record = next.await.expect("records come in time").unwrap();
        taken.push((record.partition.partition, record.offset.get()));
    }
    taken
}

pub(crate) async fn a_member_comes_back_to_what_it_committed(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for kind in KINDS {
        let admin = admin(bootstrap);
        let (topic, group) = (unique("commits"), unique("group"));
        create(&admin, NewTopic::new(&topic)).await;
        impatient(&admin, &group).await;
        produce(bootstrap, &topic, 1, 20).await;
        let partition = TopicPartition::new(topic.as_str(), 0);
        let consumer = |group: &str| {
            let mut config = config(bootstrap, group, kind);
            config.enable_auto_commit = false;
            let mut consumer = GroupConsumer::new(config).unwrap();
            consumer.subscribe([topic.as_str()]).unwrap();
            consumer
        };
        let first_of = |count: i64| (0..count).map(|offset| (0, offset)).collect::<Vec<_>>();

        let mut one = consumer(&group);
        assert!(
            one.commit_offsets(BTreeMap::from([(
                partition.clone(),
                CommittedOffset::new(Offset::new(1))
            )]))
            .await
            .is_err(),
            "not a member yet"
        );
        assert_eq!(take(&mut one, 5).await, first_of(5));
        assert_eq!(one.position(&partition), Some(Offset::new(5)));
        assert_eq!(one.current_lag(&partition), Some(15));
        assert_eq!(one.lag().await[&partition].as_ref().unwrap(), &Some(15));
        one.commit().await.unwrap();
        assert_eq!(take(&mut one, 2).await, [(0, 5), (0, 6)]);
        assert_eq!(committed(&admin, &group).await, [5], "the last two are not");
        let own = one.committed(std::slice::from_ref(&partition)).await.unwrap();
        assert_eq!(
            own[&partition].as_ref().unwrap().as_ref().unwrap().offset.get(),
            5
        );
        one.close().await.unwrap();

        let mut two = consumer(&group);
        assert_eq!(take(&mut two, 3).await, [(0, 5), (0, 6), (0, 7)]);
        let older = two.commit_async();
        let noted = CommittedOffset {
            metadata: "by hand".to_owned(),
            ..CommittedOffset::new(Offset::new(12))
        };
        let newer = two.commit_offsets_async(BTreeMap::from([(partition.clone(), noted.clone())]));
        newer.await.unwrap();
        older.await.unwrap();
        let all = admin.list_group_offsets(&group, None).await.unwrap();
        assert_eq!(all[&partition].as_ref().unwrap(), &Some(noted));
        drop(two);

        // Nobody has told the group, which goes on with the next one when it misses the last.
        let mut three = consumer(&group);
        assert_eq!(take(&mut three, 1).await, [(0, 12)]);
        three.seek(&partition, StartAt::Offset(Offset::new(3))).unwrap();
        assert_eq!(take(&mut three, 2).await, [(0, 3), (0, 4)]);
        three.pause(std::slice::from_ref(&partition)).unwrap();
        let paused = tokio::time::timeout(Duration::from_millis(100), three.next()).await;
        assert!(paused.is_err(), "{paused:?}");
        three.resume(std::slice::from_ref(&partition)).unwrap();
        assert_eq!(take(&mut three, 1).await, [(0, 5)]);
        let refused = admin
            .alter_group_offsets(
                &group,
                &BTreeMap::from([(partition.clone(), CommittedOffset::new(Offset::ZERO))]),
            )
            .await
            .unwrap();
        assert_eq!(
            refused[&partition].as_ref().unwrap_err().code(),
            Some(ErrorCode::UnknownMemberId),
            "{kind:?}: the group has a member"
        );
        assert_eq!(
            admin.delete_groups(&[&group]).await[0]
                .as_ref()
                .unwrap_err()
                .code(),
            Some(ErrorCode::NonEmptyGroup)
        );
        three.close().await.unwrap();
        admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
    }
}

pub(crate) async fn a_pattern_finds_topics_and_partitions_of_the_future(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for kind in KINDS {
        let admin = admin(bootstrap);
        let (prefix, group) = (unique("pattern"), unique("group"));
        impatient(&admin, &group).await;
        let topics: Vec<_> = ["one", "two", "three"]
            .iter()
            .map(|end| format!("{prefix}-{end}"))
            .collect();
        let other = format!("not-{prefix}-one");
        for topic in [&topics[0], &topics[1], &other] {
            create(&admin, NewTopic::new(topic).with_partitions(2)).await;
            produce(bootstrap, topic, 2, 5).await;
        }
        let mut members = Members::new();
        let mut consumer = GroupConsumer::new(config(bootstrap, &group, kind)).unwrap();
        consumer.subscribe_pattern(&format!("{prefix}-.*")).unwrap();
        members.consumers.insert("a", consumer);
        members.read_up_to(4, 5).await;
        create(&admin, NewTopic::new(&topics[2]).with_partitions(2)).await;
        produce(bootstrap, &topics[2], 2, 5).await;
        members.read_up_to(6, 5).await;
        members.assert_exactly_once(5);

        // Topics grow, too.
        admin
            .create_partitions(&topics[0], 3, Intent::Apply)
            .await
            .unwrap();
        partitions_become(&admin, &topics[0], 3).await;
        let grown = TopicPartition::new(topics[0].as_str(), 2);
        let producer = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
        let record = ProducerRecord::new(&topics[0], b"value").with_partition(2);
        producer.send(&record).await.unwrap().await.unwrap();
        members
            .until("the new partition", |members| members.seen.contains_key(&grown))
            .await;
        assert_eq!(members.seen[&grown], [0], "{kind:?}: read from its start");
        assert!(!members.seen.keys().any(|partition| *partition.topic == *other));
        members.close("a").await;
        let all: Vec<_> = topics
            .iter()
            .map(String::as_str)
            .chain([other.as_str()])
            .collect();
        admin.delete_topics(&all).await.unwrap();
    }
}

/// Notes what it is told.
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{what} {}", partitions.len()));
    }
}

impl RebalanceListener for Diary {
    fn assigned(&mut self, partitions: &[TopicPartition], rebalance: &mut Rebalance) {
        let is_first = self.0.lock().unwrap().is_empty();
        self.note("assigned", partitions);
        for partition in partitions.iter().filter(|_| is_first) {
            rebalance.seek(partition.clone(), StartAt::Offset(Offset::new(2)));
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition], rebalance: &mut Rebalance) {
        self.note("revoked", partitions);
        for partition in partitions {
            // One that goes again before its start was looked up has none.
            if let Some(position) = rebalance.position(partition) {
                rebalance.commit(partition.clone(), CommittedOffset::new(position));
            }
        }
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.note("lost", partitions);
    }
}

pub(crate) async fn a_listener_hears_of_every_change_once(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for kind in KINDS {
        let admin = admin(bootstrap);
        let (topic, group) = (unique("listener"), unique("group"));
        create(&admin, NewTopic::new(&topic).with_partitions(2)).await;
        impatient(&admin, &group).await;
        produce(bootstrap, &topic, 2, 10).await;
        let diary = Arc::new(Mutex::new(Vec::new()));
        let mut members = Members::new();
        let mut quiet = config(bootstrap, &group, kind);
        quiet.enable_auto_commit = false;
        members.join("a", quiet.clone(), &topic);
        let listener = Diary(Arc::clone(&diary));
        members.consumers.get_mut("a").unwrap().set_listener(listener);
        members.read_up_to(2, 10).await;
        for seen in members.seen.values() {
            assert_eq!(*seen, (2..10).collect::<Vec<_>>(), "the listener has sought");
        }
        members.join("b", quiet, &topic);
        members.shares_become(&[1, 1]).await;
        members.close("a").await;
        // A change that gives it nothing may come after it has begun to leave.
        let mut noted = diary.lock().unwrap().clone();
        noted.retain(|line| line != "assigned 0");
        let expected: &[&str] = match kind {
            Kind::ClassicEager => &["assigned 2", "revoked 2", "assigned 1", "revoked 1"],
            Kind::ClassicCooperative | Kind::Consumer => &["assigned 2", "revoked 1", "revoked 1"],
        };
        assert_eq!(noted, expected, "{kind:?}");
        // What was revoked from the first was committed by its listener; what the second got it read from there.
        members.shares_become(&[2]).await;
        members.close("b").await;
        assert_eq!(committed(&admin, &group).await, [10, 10], "{kind:?}");
        admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
    }
}

pub(crate) async fn a_member_that_does_not_poll_loses_its_partitions(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for kind in KINDS {
        let admin = admin(bootstrap);
        let (topic, group) = (unique("absent"), unique("group"));
        create(&admin, NewTopic::new(&topic).with_partitions(2)).await;
        impatient(&admin, &group).await;
        produce(bootstrap, &topic, 2, 10).await;
        let diary = Arc::new(Mutex::new(Vec::new()));
        let mut members = Members::new();
        let mut hasty = config(bootstrap, &group, kind);
        hasty.max_poll_interval = Duration::from_secs(1);
        members.join("a", hasty, &topic);
        members.read_up_to(2, 10).await;
        let listener = Diary(Arc::clone(&diary));
        members.consumers.get_mut("a").unwrap().set_listener(listener);
        eventually("the group without its member", || async {
            let described = admin.describe_groups(&[&group]).await.remove(0).unwrap();
            (described.state == GroupState::Empty).then_some(())
        })
        .await;
        let commit = members.consumers.get_mut("a").unwrap().commit().await;
        assert_eq!(commit.unwrap_err().code(), Some(ErrorCode::UnknownMemberId));
        members
            .until("the member back", |_| diary.lock().unwrap().len() == 2)
            .await;
        assert_eq!(*diary.lock().unwrap(), ["lost 2", "assigned 2"], "{kind:?}");
        members.shares_become(&[2]).await;
        members.close("a").await;
        admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
    }
}

pub(crate) async fn a_static_member_keeps_its_place(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    for kind in KINDS {
        let admin = admin(bootstrap);
        let (topic, group) = (unique("static"), unique("group"));
        create(&admin, NewTopic::new(&topic).with_partitions(4)).await;
        impatient(&admin, &group).await;
        produce(bootstrap, &topic, 4, 10).await;
        let called = |name: &str| {
            let mut config = config(bootstrap, &group, kind);
            config.group_instance_id = Some(name.to_owned());
            config.session_timeout = Duration::from_secs(30);
            config
        };
        set(&admin, &group, &[("consumer.session.timeout.ms", "30000")]).await;
        let mut members = Members::new();
        members.join("a", called("first"), &topic);
        members.join("b", called("second"), &topic);
        members.shares_become(&[2, 2]).await;
        members.read_up_to(4, 10).await;
        let own: Vec<_> = members.consumers["a"].assignment().cloned().collect();
        members.close("a").await;
        produce(bootstrap, &topic, 4, 10).await;
        members.join("a", called("first"), &topic);
        members.shares_become(&[2, 2]).await;
        members.read_up_to(4, 20).await;
        members.assert_exactly_once(20);
        let again: Vec<_> = members.consumers["a"].assignment().cloned().collect();
        assert_eq!(own, again, "{kind:?}: the same name has the same partitions");
        let described = admin.describe_groups(&[&group]).await.remove(0).unwrap();
        let names: BTreeSet<_> = described
            .members
            .iter()
            .map(|member| member.instance_id.clone())
            .collect();
        assert_eq!(
            names,
            BTreeSet::from([Some("first".to_owned()), Some("second".to_owned())])
        );
        drop(members);
        admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
    }
}
