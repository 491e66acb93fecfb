//! What a client must be able to do with any broker, as functions of the broker's address.
//!
//! Topics have random names, so that runs do not meet; each scenario deletes its own.

pub(crate) mod groups;
pub(crate) mod transactions;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use log_client::Error;
use log_client::admin::{
    Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigSource, ConfigType, GroupFilter, GroupState,
    GroupType, Intent, NewTopic,
};
use log_client::config::{Acks, ClientConfig, ConsumerConfig, OffsetReset, ProducerConfig, StartAt};
use log_client::consumer::{Consumer, ConsumerRecord};
use log_client::coordinator::CommittedOffset;
use log_client::metadata::TopicMetadata;
use log_client::offsets::{ListedOffset, OffsetQuery};
use log_client::producer::{Producer, ProducerRecord, RecordHeader, partition_for_key};
use log_core::model::{Offset, TimestampMs, TopicId, TopicPartition};
use log_core::protocol::ErrorCode;
use log_core::record::compression::Compression;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn admin(bootstrap: &str) -> Admin {
    Admin::new(ClientConfig::new(bootstrap)).unwrap()
}

fn unique(name: &str) -> String {
    format!("client-test-{name}-{:012x}", fastrand::u64(..1 << 48))
}

/// Asks again until there is an answer: a broker may carry out a change before it shows it.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"))
}

/// Waits until a topic has so many partitions, all with leaders.
async fn partitions_become(admin: &Admin, name: &str, count: usize) -> Arc<TopicMetadata> {
    eventually(&format!("{count} partitions of {name}"), || async {
        let described = admin.describe_topics(&[name]).await.unwrap().remove(0).ok()?;
        let led = described
            .partitions
            .iter()
            .filter(|partition| partition.leader.is_some());
        (led.count() == count).then_some(described)
    })
    .await
}

/// Creates a topic and waits until its partitions have leaders.
async fn create(admin: &Admin, topic: NewTopic) {
    let name = topic.name.clone();
    let partitions = usize::try_from(topic.partitions.unwrap_or(1)).unwrap();
    admin.create_topics(&[topic], Intent::Apply).await.unwrap()[0]
        .as_ref()
        .unwrap();
    partitions_become(admin, &name, partitions).await;
}

pub(crate) async fn topics_are_created_grown_described_and_deleted(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let name = unique("life");
    let topic = NewTopic::new(&name)
        .with_partitions(3)
        .with_config("retention.ms", "60000");

    let checked = admin
        .create_topics(std::slice::from_ref(&topic), Intent::ValidateOnly)
        .await
        .unwrap();
    assert!(checked[0].is_ok(), "{checked:?}");
    let missing = admin.describe_topics(&[&name]).await.unwrap();
    assert_eq!(
        missing[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::UnknownTopicOrPartition)
    );

    let both = [topic.clone(), NewTopic::new("not a valid name")];
    let created = admin.create_topics(&both, Intent::Apply).await.unwrap();
    let first = created[0].as_ref().unwrap();
    assert_eq!((first.name.as_str(), first.partitions), (name.as_str(), 3));
    assert_ne!(first.id, TopicId::ZERO);
    assert_eq!(
        created[1].as_ref().unwrap_err().code(),
        Some(ErrorCode::InvalidTopicException)
    );
    let again = admin.create_topics(&[topic], Intent::Apply).await.unwrap();
    assert_eq!(
        again[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::TopicAlreadyExists)
    );
    let bad = NewTopic::new(unique("bad")).with_config("no.such.setting", "1");
    let refused = admin.create_topics(&[bad], Intent::Apply).await.unwrap();
    assert_eq!(
        refused[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::InvalidConfig)
    );

    admin
        .create_partitions(&name, 5, Intent::ValidateOnly)
        .await
        .unwrap();
    admin.create_partitions(&name, 5, Intent::Apply).await.unwrap();
    let fewer = admin
        .create_partitions(&name, 2, Intent::Apply)
        .await
        .unwrap_err();
    assert_eq!(fewer.code(), Some(ErrorCode::InvalidPartitions));

    let described = partitions_become(admin, &name, 5).await;
    assert_eq!(described.id, first.id);
    let listed = admin.list_topics().await.unwrap();
    let listed = listed.iter().find(|topic| *topic.name == name).unwrap();
    assert_eq!(
        (listed.id, listed.partitions, listed.is_internal),
        (first.id, 5, false)
    );

    let deleted = admin
        .delete_topics(&[&name, "client-test-never-there"])
        .await
        .unwrap();
    assert!(deleted[0].is_ok());
    assert_eq!(
        deleted[1].as_ref().unwrap_err().code(),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
}

async fn setting(admin: &Admin, topic: &ConfigResource, name: &str) -> ConfigEntry {
    let entries = admin.describe_configs(std::slice::from_ref(topic)).await.unwrap();
    let entries = entries.into_iter().next().unwrap().unwrap();
    entries.into_iter().find(|entry| entry.name == name).unwrap()
}

async fn setting_becomes(admin: &Admin, topic: &ConfigResource, name: &str, value: &str) -> ConfigEntry {
    eventually(&format!("{name}={value}"), || async {
        let entry = setting(admin, topic, name).await;
        (entry.value.as_deref() == Some(value)).then_some(entry)
    })
    .await
}

pub(crate) async fn topic_settings_are_changed_and_taken_back(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("settings");
    create(&admin, NewTopic::new(&name)).await;
    let topic = ConfigResource::Topic(name.clone());
    let default = setting(&admin, &topic, "retention.ms").await;
    assert_eq!(
        (default.value.as_deref(), default.source, default.kind),
        (Some("604800000"), ConfigSource::Default, ConfigType::Long)
    );
    assert!(default.documentation.is_some_and(|text| !text.is_empty()));

    let set = |name: &str, value: &str| (name.to_owned(), ConfigChange::Set(value.to_owned()));
    let changes = [set("retention.ms", "1000"), set("max.message.bytes", "2000")];
    admin
        .alter_configs(&topic, &changes, Intent::ValidateOnly)
        .await
        .unwrap();
    let wrong = [set("retention.ms", "soon")];
    let refused = admin
        .alter_configs(&topic, &wrong, Intent::Apply)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidConfig));
    let untouched = setting(&admin, &topic, "retention.ms").await;
    assert_eq!(untouched.source, ConfigSource::Default);

    admin
        .alter_configs(&topic, &changes, Intent::Apply)
        .await
        .unwrap();
    let altered = setting_becomes(&admin, &topic, "retention.ms", "1000").await;
    assert_eq!(altered.source, ConfigSource::Topic);
    assert_eq!(altered.synonyms[0].source, ConfigSource::Topic);

    let back = [("retention.ms".to_owned(), ConfigChange::Delete)];
    admin.alter_configs(&topic, &back, Intent::Apply).await.unwrap();
    let restored = setting_becomes(&admin, &topic, "retention.ms", "604800000").await;
    assert_eq!(restored.source, ConfigSource::Default);
    setting_becomes(&admin, &topic, "max.message.bytes", "2000").await;

    let policies = [(
        "cleanup.policy".to_owned(),
        ConfigChange::Append("compact".to_owned()),
    )];
    admin
        .alter_configs(&topic, &policies, Intent::Apply)
        .await
        .unwrap();
    setting_becomes(&admin, &topic, "cleanup.policy", "delete,compact").await;
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn the_cluster_describes_itself(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("dirs");
    create(&admin, NewTopic::new(&name).with_partitions(2)).await;
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(!cluster.cluster_id.is_empty() && !cluster.brokers.is_empty());
    assert!(
        cluster
            .brokers
            .iter()
            .any(|broker| Some(broker.id) == cluster.controller)
    );
    let brokers: Vec<_> = cluster
        .brokers
        .iter()
        .map(|broker| ConfigResource::Broker(broker.id))
        .collect();
    for settings in admin.describe_configs(&brokers).await.unwrap() {
        let settings = settings.unwrap();
        assert!(
            settings
                .iter()
                .any(|entry| entry.name == "log.retention.ms" || entry.name == "log.retention.hours")
        );
    }
    eventually("both partitions in a log directory", || async {
        let dirs = admin.describe_log_dirs().await.unwrap();
        let replicas = dirs.iter().flat_map(|dir| &dir.replicas);
        let ours = replicas
            .filter(|replica| *replica.partition.topic == *name)
            .count();
        (ours == 2).then_some(())
    })
    .await;
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn groups_are_listed_described_and_deleted(bootstrap: &str) {
    let admin = admin(bootstrap);
    let (topic, group) = (unique("offsets"), unique("group"));
    create(&admin, NewTopic::new(&topic).with_partitions(3)).await;
    let partition = |index| TopicPartition::new(topic.as_str(), index);
    let committed = |offset, metadata: &str| CommittedOffset {
        metadata: metadata.to_owned(),
        ..CommittedOffset::new(Offset::new(offset))
    };
    let code = |result: &Result<(), Error>| result.as_ref().unwrap_err().code();

    let missing = admin.describe_groups(&[&group]).await.remove(0).unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::GroupIdNotFound), "{missing}");
    assert!(admin.list_group_offsets(&group, None).await.unwrap().is_empty());
    let deleted = admin.delete_groups(&[&group]).await;
    assert_eq!(code(&deleted[0]), Some(ErrorCode::GroupIdNotFound));

    let nowhere = TopicPartition::new("client-test-never-there", 0);
    let offsets = BTreeMap::from([
        (partition(0), committed(5, "five")),
        (partition(1), committed(7, "")),
        (nowhere.clone(), committed(1, "")),
    ]);
    let altered = admin.alter_group_offsets(&group, &offsets).await.unwrap();
    assert!(altered[&partition(0)].is_ok() && altered[&partition(1)].is_ok());
    assert_eq!(code(&altered[&nowhere]), Some(ErrorCode::UnknownTopicOrPartition));

    let all = admin.list_group_offsets(&group, None).await.unwrap();
    let offset_of = |index: i32| all[&partition(index)].as_ref().unwrap().clone();
    assert_eq!(all.len(), 2);
    assert_eq!(offset_of(0), Some(committed(5, "five")));
    assert_eq!(offset_of(1), Some(committed(7, "")));
    let some = admin
        .list_group_offsets(&group, Some(&[partition(0), partition(2)]))
        .await
        .unwrap();
    assert_eq!(some[&partition(0)].as_ref().unwrap(), &Some(committed(5, "five")));
    assert_eq!(some[&partition(2)].as_ref().unwrap(), &None);

    let listed = |states: &[GroupState], types: &[GroupType]| {
        let filter = GroupFilter {
            states: states.to_vec(),
            types: types.to_vec(),
        };
        let (admin, group) = (&admin, &group);
        async move {
            let groups = admin.list_groups(&filter).await.unwrap();
            groups.into_iter().find(|listing| listing.group_id == *group)
        }
    };
    let listing = listed(&[], &[]).await.unwrap();
    assert_eq!(listing.state, Some(GroupState::Empty));
    assert_eq!(listing.kind, Some(GroupType::Classic));
    let states = [GroupState::Empty, GroupState::Stable];
    assert_eq!(listed(&states, &[GroupType::Classic]).await, Some(listing));
    assert_eq!(listed(&[GroupState::Stable], &[]).await, None);
    assert_eq!(listed(&[], &[GroupType::Consumer]).await, None);

    let described = admin.describe_groups(&[&group]).await.remove(0).unwrap();
    assert_eq!(
        (described.kind, described.state, described.members.len()),
        (GroupType::Classic, GroupState::Empty, 0)
    );

    let forgotten = admin
        .delete_group_offsets(&group, &[partition(0), partition(2)])
        .await
        .unwrap();
    assert!(forgotten[&partition(0)].is_ok(), "{forgotten:?}");
    let rest = admin.list_group_offsets(&group, None).await.unwrap();
    assert_eq!(rest.keys().collect::<Vec<_>>(), [&partition(1)]);

    let deleted = admin.delete_groups(&[&group, "client-test-never-there"]).await;
    assert!(deleted[0].is_ok(), "{deleted:?}");
    assert_eq!(code(&deleted[1]), Some(ErrorCode::GroupIdNotFound));
    assert!(admin.list_group_offsets(&group, None).await.unwrap().is_empty());
    admin.delete_topics(&[&topic]).await.unwrap()[0].as_ref().unwrap();
}

/// The offset that answers `query` about one partition.
async fn offset(admin: &Admin, partition: &TopicPartition, query: OffsetQuery) -> ListedOffset {
    let mut answers = admin.list_offsets(vec![(partition.clone(), query)]).await;
    answers.remove(0).1.unwrap()
}

pub(crate) async fn records_of_every_codec_are_acknowledged_with_their_offsets(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("codecs");
    create(&admin, NewTopic::new(&name).with_partitions(3)).await;
    let mut ends = [0_i64; 3];
    for compression in CODECS {
        let producer = Producer::new(ProducerConfig {
            compression,
            ..ProducerConfig::new(bootstrap)
        })
        .unwrap();
        let mut deliveries = Vec::new();
        for number in 0..500 {
            let key = format!("client-{}", number % 17);
            let value = format!("{compression} {number}");
            let headers = [
                RecordHeader::new("codec", Some(b"x")),
                RecordHeader::new("empty", None),
            ];
            let record = ProducerRecord::new(&name, value.as_bytes())
                .with_key(key.as_bytes())
                .with_headers(&headers);
            let expected = partition_for_key(key.as_bytes(), 3);
            deliveries.push((expected, producer.send(&record).await.unwrap()));
        }
        for (partition, delivery) in deliveries {
            let metadata = delivery.await.unwrap();
            assert_eq!(usize::try_from(metadata.partition.partition).unwrap(), partition);
            assert_eq!(metadata.offset, Some(Offset::new(ends[partition])));
            ends[partition] += 1;
        }
        producer.close().await;
    }
    for (index, end) in (0..).zip(ends) {
        let partition = TopicPartition::new(name.as_str(), index);
        let latest = offset(&admin, &partition, OffsetQuery::Latest).await;
        assert_eq!(latest.offset, Some(Offset::new(end)));
    }
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn every_kind_of_acknowledgement_works(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("acks");
    create(&admin, NewTopic::new(&name)).await;
    let partition = TopicPartition::new(name.as_str(), 0);
    let mut expected = 0;
    for (acks, idempotent) in [
        (Acks::All, true),
        (Acks::All, false),
        (Acks::Leader, false),
        (Acks::None, false),
    ] {
        let producer = Producer::new(ProducerConfig {
            acks,
            idempotent,
            linger: Duration::ZERO,
            ..ProducerConfig::new(bootstrap)
        })
        .unwrap();
        for _ in 0..20 {
            let delivery = producer.send(&ProducerRecord::new(&name, b"v")).await.unwrap();
            let metadata = delivery.await.unwrap();
            let named = (acks != Acks::None).then_some(Offset::new(expected));
            assert_eq!(metadata.offset, named, "{acks:?}");
            expected += 1;
        }
        producer.close().await;
        // Nobody says when a record without acknowledgement is there.
        while offset(&admin, &partition, OffsetQuery::Latest).await.offset != Some(Offset::new(expected)) {
            tokio::task::yield_now().await;
        }
    }
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn offsets_are_found_by_time(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("times");
    create(&admin, NewTopic::new(&name).with_config("retention.ms", "-1")).await;
    let partition = TopicPartition::new(name.as_str(), 0);
    let producer = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    // Not in the order of time: 1000, 3000, 2000, 3000.
    for timestamp in [1000, 3000, 2000, 3000] {
        let record = ProducerRecord::new(&name, b"v").with_timestamp(TimestampMs::new(timestamp));
        producer.send(&record).await.unwrap().await.unwrap();
    }
    let found = |query| {
        let (admin, partition) = (admin.clone(), partition.clone());
        async move {
            let listed = offset(&admin, &partition, query).await;
            (
                listed.offset.map(Offset::get),
                listed.timestamp.map(TimestampMs::get),
            )
        }
    };
    let at = |timestamp| OffsetQuery::Timestamp(TimestampMs::new(timestamp));
    assert_eq!(found(at(0)).await, (Some(0), Some(1000)));
    assert_eq!(found(at(1001)).await, (Some(1), Some(3000)));
    assert_eq!(found(at(3000)).await, (Some(1), Some(3000)));
    assert_eq!(found(at(3001)).await, (None, None));
    assert_eq!(found(OffsetQuery::MaxTimestamp).await, (Some(1), Some(3000)));
    assert_eq!(found(OffsetQuery::Earliest).await, (Some(0), None));
    assert_eq!(found(OffsetQuery::Latest).await, (Some(4), None));

    let deleted = admin
        .delete_records(vec![(partition.clone(), Some(Offset::new(2)))])
        .await;
    assert_eq!(deleted[0].1.as_ref().unwrap(), &Offset::new(2));
    assert_eq!(found(OffsetQuery::Earliest).await, (Some(2), None));
    let beyond = admin
        .delete_records(vec![(partition.clone(), Some(Offset::new(99)))])
        .await;
    assert_eq!(
        beyond[0].1.as_ref().unwrap_err().code(),
        Some(ErrorCode::OffsetOutOfRange)
    );
    let all = admin.delete_records(vec![(partition.clone(), None)]).await;
    assert_eq!(all[0].1.as_ref().unwrap(), &Offset::new(4));
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn what_the_broker_refuses_is_reported(bootstrap: &str) {
    let admin = admin(bootstrap);
    let (compacted, small) = (unique("compacted"), unique("small"));
    create(
        &admin,
        NewTopic::new(&compacted).with_config("cleanup.policy", "compact"),
    )
    .await;
    create(
        &admin,
        NewTopic::new(&small).with_config("max.message.bytes", "1000"),
    )
    .await;
    let producer = Producer::new(ProducerConfig {
        linger: Duration::from_millis(50),
        ..ProducerConfig::new(bootstrap)
    })
    .unwrap();

    let keyless = producer
        .send(&ProducerRecord::new(&compacted, b"v"))
        .await
        .unwrap();
    let error = keyless.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRecord), "{error}");
    let keyed = ProducerRecord::new(&compacted, b"v").with_key(b"k");
    producer.send(&keyed).await.unwrap().await.unwrap();

    let mut deliveries = Vec::new();
    for number in 0..50_u8 {
        let value = [number; 100];
        deliveries.push(producer.send(&ProducerRecord::new(&small, &value)).await.unwrap());
    }
    let too_large = producer
        .send(&ProducerRecord::new(&small, &[0; 2000]))
        .await
        .unwrap();
    for (expected, delivery) in (0..).zip(deliveries) {
        let metadata = delivery.await.unwrap();
        assert_eq!(
            metadata.offset,
            Some(Offset::new(expected)),
            "a batch too large is split"
        );
    }
    let error = too_large.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge), "{error}");
    producer.close().await;
    for deleted in admin.delete_topics(&[&compacted, &small]).await.unwrap() {
        deleted.unwrap();
    }
}

/// Reads `count` records.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let polled = tokio::time::timeout(Duration::from_secs(30), consumer.poll()).await;
        for fetched in polled.expect("records come in time").unwrap() {
            records.extend(fetched.into_records().unwrap());
        }
    }
    assert_eq!(records.len(), count);
    records
}

pub(crate) async fn records_come_back_as_they_were_sent(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("round-trip");
    create(&admin, NewTopic::new(&name).with_partitions(2)).await;
    let mut sent = [Vec::new(), Vec::new()];
    for compression in CODECS {
        let producer = Producer::new(ProducerConfig {
            compression,
            linger: Duration::from_millis(1),
            ..ProducerConfig::new(bootstrap)
        })
        .unwrap();
        for number in 0..300_usize {
            let partition = number % 2;
            let key = (number % 3 > 0).then(|| format!("key {number}").into_bytes());
            let value = (number % 5 > 0).then(|| vec![u8::try_from(number % 251).unwrap(); number * 3]);
            let headers = [
                RecordHeader::new("h", value.as_deref().map(|value| &value[..2])),
                RecordHeader::new("", None),
            ];
            let record = ProducerRecord {
                topic: &name,
                partition: Some(i32::try_from(partition).unwrap()),
                timestamp: Some(TimestampMs::new(
                    1_600_000_000_000 + i64::try_from(number).unwrap(),
                )),
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers[..number % 3],
            };
            drop(producer.send(&record).await.unwrap());
            sent[partition].push((record.timestamp.unwrap(), key, value, number % 3));
        }
        producer.flush().await;
        producer.close().await;
    }
    for from in [0, 1, 444, 749] {
        let mut consumer = Consumer::new(ConsumerConfig {
            // Small enough that responses end inside of batches.
            partition_bytes_max: 10_000,
            offset_reset: OffsetReset::Fail,
            ..ConsumerConfig::new(bootstrap)
        })
        .unwrap();
        let start = StartAt::Offset(Offset::new(from));
        assert_eq!(consumer.assign_topic(&name, start).await.unwrap(), 2);
        let first = usize::try_from(from).unwrap();
        let records = read(&mut consumer, 2 * (750 - first)).await;
        let mut next = [first; 2];
        for record in records {
            let partition = usize::try_from(record.partition.partition).unwrap();
            let index = next[partition];
            next[partition] += 1;
            let (timestamp, key, value, headers) = &sent[partition][index];
            assert_eq!(record.offset.get(), i64::try_from(index).unwrap());
            assert_eq!(record.timestamp, *timestamp);
            assert_eq!(record.key.as_deref(), key.as_deref());
            assert_eq!(record.value.as_deref(), value.as_deref());
            assert_eq!(record.headers.len(), *headers);
            if *headers > 0 {
                let expected = value.as_ref().map(|value| &value[..2]);
                assert_eq!(&*record.headers[0].0, b"h");
                assert_eq!(record.headers[0].1.as_deref(), expected);
            }
        }
    }
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn reading_begins_where_it_was_asked_to(bootstrap: &str) {
    let admin = admin(bootstrap);
    let name = unique("starts");
    create(&admin, NewTopic::new(&name).with_config("retention.ms", "-1")).await;
    let producer = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    let mut deliveries = Vec::new();
    for number in 0..100 {
        let record = ProducerRecord::new(&name, b"v").with_timestamp(TimestampMs::new(number * 1000));
        deliveries.push(producer.send(&record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    for (start, first) in [
        (StartAt::Earliest, 0),
        (StartAt::Offset(Offset::new(42)), 42),
        (StartAt::Timestamp(TimestampMs::new(41_500)), 42),
        (StartAt::BeforeEnd(7), 93),
    ] {
        let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap)).unwrap();
        consumer.assign_topic(&name, start).await.unwrap();
        let records = read(&mut consumer, 100 - first).await;
        assert_eq!(
            records[0].offset.get(),
            i64::try_from(first).unwrap(),
            "{start:?}"
        );
    }

    // At the end a poll waits, and wakes when something comes.
    let partition = TopicPartition::new(name.as_str(), 0);
    let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap)).unwrap();
    consumer.assign(partition.clone(), StartAt::Latest);
    while consumer.position(&partition).is_none() {
        let poll = tokio::time::timeout(Duration::from_millis(20), consumer.poll()).await;
        assert!(poll.is_err());
    }
    let (records, delivery) = tokio::join!(read(&mut consumer, 1), async {
        let record = ProducerRecord::new(&name, b"late");
        producer.send(&record).await.unwrap().await.unwrap()
    });
    assert_eq!(records[0].offset, delivery.offset.unwrap());

    let outside = Offset::new(1_000_000);
    let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap)).unwrap();
    consumer.assign(partition, StartAt::Offset(outside));
    let error = consumer.poll().await.unwrap_err();
    assert!(matches!(error, Error::OffsetOutOfRange { position, .. } if position == outside));
    producer.close().await;
    admin.delete_topics(&[&name]).await.unwrap()[0].as_ref().unwrap();
}
