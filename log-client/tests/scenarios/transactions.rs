//! What transactions must hold with any broker: records and offsets count together or not at all, readers of committed records see
//! nothing else, and of two producers with one name the newer one alone goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log_client::Error;
use log_client::admin::{Admin, NewTopic, TransactionFilter, TransactionState};
use log_client::config::{ConsumerConfig, IsolationLevel, ProducerConfig, StartAt, TransactionalConfig};
use log_client::consumer::{Consumer, ConsumerRecord};
use log_client::coordinator::CommittedOffset;
use log_client::error::TransactionErrorClass;
use log_client::exactly_once::{ExactlyOnce, Outcome};
use log_client::group::{AutoOffsetReset, GroupConfig, GroupConsumer, GroupMember};
use log_client::offsets::OffsetQuery;
use log_client::producer::{Producer, ProducerRecord, TransactionalProducer};
use log_core::model::{Offset, TimestampMs, TopicPartition};
use log_core::protocol::ErrorCode;

use super::{admin, create, eventually, unique};

/// A producer that may begin.
async fn transactional(config: TransactionalConfig) -> TransactionalProducer {
    let producer = TransactionalProducer::new(config).unwrap();
    producer.init_transactions().await.unwrap();
    producer
}

async fn send(producer: &TransactionalProducer, topic: &str, partition: i32, value: &str) {
    let record = ProducerRecord::new(topic, value.as_bytes()).with_partition(partition);
    drop(producer.send(&record).await.unwrap());
}

/// One transaction with a record for each partition.
async fn write(producer: &TransactionalProducer, topic: &str, partitions: i32, value: &str) {
    producer.begin_transaction().unwrap();
    for partition in 0..partitions {
        send(producer, topic, partition, value).await;
    }
}

fn reader(bootstrap: &str, isolation: IsolationLevel) -> Consumer {
    let mut config = ConsumerConfig::new(bootstrap);
    config.isolation = isolation;
    config.fetch_wait_max = Duration::from_millis(50);
    Consumer::new(config).unwrap()
}

fn text(record: &ConsumerRecord) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

/// All values of each partition up to where readers of this level stop now. Of each it is checked that the position ends there.
async fn values(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    isolation: IsolationLevel,
) -> Vec<Vec<String>> {
    let mut consumer = reader(bootstrap, isolation);
    let all: Vec<_> = (0..partitions)
        .map(|partition| TopicPartition::new(topic, partition))
        .collect();
    let queries = all
        .iter()
        .map(|partition| (partition.clone(), OffsetQuery::Latest));
    let ends: BTreeMap<_, _> = consumer
        .list_offsets(queries.collect())
        .await
        .into_iter()
        .map(|(partition, end)| (partition, end.unwrap().offset.unwrap()))
        .collect();
    let mut values = BTreeMap::new();
    for partition in &all {
        consumer.assign(partition.clone(), StartAt::Earliest);
        values.insert(partition.clone(), Vec::new());
    }
    let is_behind = |consumer: &Consumer| {
        let mut all = ends.iter();
        all.any(|(partition, end)| consumer.position(partition).is_none_or(|at| at < *end))
    };
    while ends.values().any(|end| Offset::ZERO < *end) && is_behind(&consumer) {
        for records in consumer.poll().await.unwrap() {
            let seen = values.get_mut(records.partition()).unwrap();
            seen.extend(records.into_records().unwrap().iter().map(text));
        }
    }
    values.into_values().collect()
}

pub(crate) async fn only_what_was_committed_is_read(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let topic = &unique("committed");
    create(admin, NewTopic::new(topic).with_partitions(2)).await;
    let producer = transactional(TransactionalConfig::new(bootstrap, topic)).await;
    let committed = |expected: &'static [&'static str]| async move {
        let seen = values(bootstrap, topic, 2, IsolationLevel::ReadCommitted).await;
        assert_eq!(seen, [expected, expected]);
    };

    write(&producer, topic, 2, "first").await;
    producer.commit_transaction().await.unwrap();
    // The markers may be written a moment later.
    eventually("the first transaction", || async {
        let seen = values(bootstrap, topic, 2, IsolationLevel::ReadCommitted).await;
        (seen == [["first"], ["first"]]).then_some(())
    })
    .await;

    write(&producer, topic, 2, "aborted").await;
    producer.flush().await;
    let open = values(bootstrap, topic, 2, IsolationLevel::ReadUncommitted).await;
    assert_eq!(open, [["first", "aborted"], ["first", "aborted"]]);
    committed(&["first"]).await;
    producer.abort_transaction().await.unwrap();

    write(&producer, topic, 2, "second").await;
    send(&producer, topic, 0, "more").await;
    producer.commit_transaction().await.unwrap();
    eventually("the second transaction", || async {
        let seen = values(bootstrap, topic, 2, IsolationLevel::ReadCommitted).await;
        (seen == [vec!["first", "second", "more"], vec!["first", "second"]]).then_some(())
    })
    .await;
    let all = values(bootstrap, topic, 1, IsolationLevel::ReadUncommitted).await;
    assert_eq!(all, [["first", "aborted", "second", "more"]]);

    // Nothing was sent: nothing is asked of the coordinator.
    producer.begin_transaction().unwrap();
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction().await.unwrap();
    // A record that was not sent yet is given up.
    producer.begin_transaction().unwrap();
    let record = ProducerRecord::new(topic, b"given up").with_partition(0);
    let delivery = producer.send(&record).await.unwrap();
    producer.abort_transaction().await.unwrap();
    match delivery.await {
        // It had left already.
        Ok(_) | Err(Error::TransactionAborted) => {}
        Err(error) => panic!("{error}"),
    }
    admin.delete_topics(&[topic]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn the_newer_of_two_producers_fences_the_other(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let topic = &unique("fenced");
    create(admin, NewTopic::new(topic)).await;
    let old = transactional(TransactionalConfig::new(bootstrap, topic)).await;
    write(&old, topic, 1, "old").await;
    old.flush().await;
    let new = transactional(TransactionalConfig::new(bootstrap, topic)).await;
    let refused = old.commit_transaction().await.unwrap_err();
    assert_eq!(
        refused.transaction_class(),
        TransactionErrorClass::Fenced,
        "{refused}"
    );
    let class = |error: Error| error.transaction_class();
    assert_eq!(
        old.abort_transaction().await.map_err(class),
        Err(TransactionErrorClass::Fenced)
    );
    assert_eq!(
        old.begin_transaction().map_err(class),
        Err(TransactionErrorClass::Fenced)
    );
    write(&new, topic, 1, "new").await;
    new.commit_transaction().await.unwrap();
    eventually("the new one's record", || async {
        let seen = values(bootstrap, topic, 1, IsolationLevel::ReadCommitted).await;
        (seen == [["new"]]).then_some(())
    })
    .await;
    admin.delete_topics(&[topic]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn a_record_that_fails_dooms_its_transaction(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let topic = &unique("doomed");
    let settings = NewTopic::new(topic)
        .with_partitions(2)
        .with_config("max.message.bytes", "1000");
    create(admin, settings).await;
    let mut config = TransactionalConfig::new(bootstrap, topic);
    // Each record travels alone.
    config.producer.batch_bytes = 1;
    let producer = transactional(config).await;
    let large = "x".repeat(5_000);
    for round in 0..3 {
        write(&producer, topic, 2, &format!("{round} lost")).await;
        send(&producer, topic, 1, &large).await;
        let refused = producer.commit_transaction().await.unwrap_err();
        assert_eq!(
            refused.transaction_class(),
            TransactionErrorClass::Abortable,
            "{refused}"
        );
        let record = ProducerRecord::new(topic, b"too late");
        let refused = producer.send(&record).await.unwrap_err();
        assert_eq!(refused.transaction_class(), TransactionErrorClass::Abortable);
        producer.abort_transaction().await.unwrap();
        write(&producer, topic, 2, &format!("{round} kept")).await;
        producer.commit_transaction().await.unwrap();
    }
    eventually("what was kept", || async {
        let seen = values(bootstrap, topic, 2, IsolationLevel::ReadCommitted).await;
        let kept = ["0 kept", "1 kept", "2 kept"];
        (seen == [kept, kept]).then_some(())
    })
    .await;
    // One that is not even taken does so, too, whatever the caller makes of the error.
    write(&producer, topic, 2, "beside it").await;
    let larger_than_a_request = vec![0; 2 << 20];
    let record = ProducerRecord::new(topic, &larger_than_a_request);
    let refused = producer.send(&record).await.unwrap_err();
    assert_eq!(refused.transaction_class(), TransactionErrorClass::Abortable);
    let refused = producer.commit_transaction().await.unwrap_err();
    assert_eq!(refused.transaction_class(), TransactionErrorClass::Abortable);
    producer.abort_transaction().await.unwrap();
    admin.delete_topics(&[topic]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn offsets_count_with_their_transaction(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let topic = &unique("offsets");
    create(admin, NewTopic::new(topic).with_partitions(2)).await;
    let group = GroupMember::nobody(topic);
    let reader = GroupConsumer::new(GroupConfig::new(bootstrap, topic)).unwrap();
    let partitions = [0, 1].map(|partition| TopicPartition::new(topic.as_str(), partition));
    // Whoever asks waits until it is decided.
    let committed = || async {
        let rows = reader.committed(&partitions).await.unwrap();
        let rows = rows
            .into_values()
            .map(|row| row.unwrap().map(|row| row.offset.get()));
        rows.collect::<Vec<_>>()
    };
    let offsets = |offset: i64| {
        let offset = CommittedOffset::new(Offset::new(offset));
        BTreeMap::from([(partitions[0].clone(), offset)])
    };
    let producer = transactional(TransactionalConfig::new(bootstrap, topic)).await;
    producer.begin_transaction().unwrap();
    producer
        .send_offsets_to_transaction(&offsets(5), &group)
        .await
        .unwrap();
    producer.abort_transaction().await.unwrap();
    assert_eq!(committed().await, [None, None]);

    write(&producer, topic, 2, "value").await;
    producer
        .send_offsets_to_transaction(&offsets(6), &group)
        .await
        .unwrap();
    producer
        .send_offsets_to_transaction(&offsets(7), &group)
        .await
        .unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(committed().await, [Some(7), None]);

    // A member that the group does not know: the transaction has to be aborted.
    let stranger = GroupMember {
        member_id: "stranger".to_owned(),
        epoch: 3,
        ..group.clone()
    };
    write(&producer, topic, 2, "stranger's").await;
    let refused = producer
        .send_offsets_to_transaction(&offsets(8), &stranger)
        .await
        .unwrap_err();
    assert_eq!(
        refused.transaction_class(),
        TransactionErrorClass::Abortable,
        "{refused}"
    );
    assert!(producer.commit_transaction().await.is_err());
    producer.abort_transaction().await.unwrap();
    assert_eq!(committed().await, [Some(7), None]);
    admin.delete_groups(&[topic]).await[0].as_ref().unwrap();
    admin.delete_topics(&[topic]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn an_open_transaction_is_listed_described_and_aborted(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let topic = &unique("open");
    create(admin, NewTopic::new(topic).with_partitions(2)).await;
    let partitions = [0, 1].map(|partition| TopicPartition::new(topic.as_str(), partition));
    let mut config = TransactionalConfig::new(bootstrap, topic);
    config.transaction_timeout = Duration::from_mins(15);
    let producer = transactional(config).await;
    write(&producer, topic, 2, "left open").await;
    producer.flush().await;

    let ongoing = TransactionFilter {
        states: vec![TransactionState::Ongoing],
        ..TransactionFilter::default()
    };
    let listed = admin.list_transactions(&ongoing).await.unwrap();
    let listed = listed.iter().find(|one| one.transactional_id == *topic).unwrap();
    let elsewhere = TransactionFilter {
        states: vec![TransactionState::Empty, TransactionState::CompleteCommit],
        producer_ids: [listed.producer_id].into(),
        ..TransactionFilter::default()
    };
    assert_eq!(admin.list_transactions(&elsewhere).await.unwrap(), []);
    let described = admin.describe_transactions(&[topic, "nobody's"]).await;
    let known = described[0].as_ref().unwrap();
    assert_eq!(
        (&known.state, known.producer_id, &known.partitions[..]),
        (&TransactionState::Ongoing, listed.producer_id, &partitions[..])
    );
    assert!(known.started.is_some());
    let unknown = described[1].as_ref().unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::TransactionalIdNotFound));

    let open = admin.open_transactions(&partitions).await.unwrap();
    let starts: Vec<_> = open.iter().map(|one| (&one.partition, one.start)).collect();
    assert_eq!(
        starts,
        [(&partitions[0], Offset::ZERO), (&partitions[1], Offset::ZERO)]
    );
    let hanging = admin
        .hanging_transactions(&partitions, TimestampMs::new(i64::MAX))
        .await;
    assert_eq!(hanging.unwrap(), [], "its coordinator will end it");
    let coordinated = admin.coordinated_transaction(&open[0]).await.unwrap();
    assert_eq!(coordinated.as_ref(), Some(known));

    admin.abort_transaction(&open[0]).await.unwrap();
    assert_eq!(admin.open_transactions(&partitions).await.unwrap(), open[1..]);
    let plain = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    let record = ProducerRecord::new(topic, b"behind it").with_partition(0);
    plain.send(&record).await.unwrap().await.unwrap();
    eventually("readers of the one partition go on", || async {
        let seen = values(bootstrap, topic, 2, IsolationLevel::ReadCommitted).await;
        (seen == [vec!["behind it"], vec![]]).then_some(())
    })
    .await;
    producer.abort_transaction().await.unwrap();
    eventually("the other partition's end", || async {
        let open = admin.open_transactions(&partitions).await.unwrap();
        open.is_empty().then_some(())
    })
    .await;
    admin.delete_topics(&[topic]).await.unwrap()[0].as_ref().unwrap();
}

pub(crate) async fn a_transaction_that_nobody_ends_is_aborted(bootstrap: &str) {
    let admin = &admin(bootstrap);
    let topic = &unique("left");
    create(admin, NewTopic::new(topic)).await;
    let mut config = TransactionalConfig::new(bootstrap, topic);
    config.transaction_timeout = Duration::from_secs(1);
    let producer = transactional(config).await;
    write(&producer, topic, 1, "left open").await;
    producer.flush().await;
    let plain = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    let record = ProducerRecord::new(topic, b"behind it");
    plain.send(&record).await.unwrap().await.unwrap();
    // It waits until the coordinator has aborted what stands before it.
    let mut consumer = reader(bootstrap, IsolationLevel::ReadCommitted);
    consumer.assign(TopicPartition::new(topic.as_str(), 0), StartAt::Earliest);
    let mut seen = Vec::new();
    while seen.is_empty() {
        let polled = tokio::time::timeout(Duration::from_secs(30), consumer.poll()).await;
        for records in polled.expect("the coordinator aborts it").unwrap() {
            seen.extend(records.into_records().unwrap().iter().map(text));
        }
    }
    assert_eq!(seen, ["behind it"]);
    let refused = producer.commit_transaction().await.unwrap_err();
    assert_eq!(
        refused.transaction_class(),
        TransactionErrorClass::Abortable,
        "{refused}"
    );
    producer.abort_transaction().await.unwrap();
    write(&producer, topic, 1, "in time").await;
    while let Err(refused) = producer.commit_transaction().await {
        // On a busy machine this one may last too long, too.
        assert_eq!(refused.transaction_class(), TransactionErrorClass::Abortable);
        producer.abort_transaction().await.unwrap();
        write(&producer, topic, 1, "in time").await;
    }
    eventually("the next transaction", || async {
        let seen = values(bootstrap, topic, 1, IsolationLevel::ReadCommitted).await;
        (seen == [["behind it", "in time"]]).then_some(())
    })
    .await;
    admin.delete_topics(&[topic]).await.unwrap()[0].as_ref().unwrap();
}

/// An instance of a loop that copies from one topic to another.
async fn instance(bootstrap: &str, number: usize, input: &str) -> ExactlyOnce {
    let mut group = GroupConfig::new(bootstrap, input);
    group.auto_offset_reset = AutoOffsetReset::Earliest;
    group.max_poll_records = 7;
    group.consumer.fetch_wait_max = Duration::from_millis(50);
    let producer = TransactionalConfig::new(bootstrap, &format!("{input}-{number}"));
    ExactlyOnce::start(group, producer, [input]).await.unwrap()
}

/// One step, which may fail on purpose.
async fn copy(instance: &mut ExactlyOnce, topic: &str, fails: bool) -> Result<(), Error> {
    let work = instance.next().await?;
    for record in work.records() {
        let value = format!("{}:{}", record.partition.partition, text(record));
        let key = record.partition.partition.to_string();
        let copied = ProducerRecord::new(topic, value.as_bytes()).with_key(key.as_bytes());
        work.send(&copied).await?;
    }
    if fails {
        return Ok(());
    }
    match work.commit().await? {
        Outcome::Committed | Outcome::Aborted(_) => Ok(()),
    }
}

/// Two instances copy, are replaced, fail on purpose, and are interrupted in the middle of their steps.
pub(crate) async fn each_record_is_transformed_once(bootstrap: &str) {
    let admin: &Admin = &admin(bootstrap);
    let (input, output) = (&unique("input"), &unique("output"));
    for topic in [input, output] {
        create(admin, NewTopic::new(topic).with_partitions(3)).await;
    }
    let producer = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    let mut expected = BTreeSet::new();
    for number in 0..60 {
        for partition in 0..3 {
            let value = number.to_string();
            let record = ProducerRecord::new(input, value.as_bytes()).with_partition(partition);
            drop(producer.send(&record).await.unwrap());
            expected.insert(format!("{partition}:{number}"));
        }
    }
    producer.flush().await;

    let mut random = fastrand::Rng::with_seed(7);
    let mut instances = Vec::new();
    for number in 0..2 {
        instances.push(instance(bootstrap, number, input).await);
    }
    let mut done = 0;
    let work = async {
        while done < expected.len() {
            let number = random.usize(..2);
            let patience = Duration::from_millis(random.u64(1..400));
            let fails = random.u8(..4) == 0;
            let step = copy(&mut instances[number], output, fails);
            // Whether a step that is interrupted counts the next one finds out.
            if let Ok(Err(error)) = tokio::time::timeout(patience, step).await {
                let class = error.transaction_class();
                assert_ne!(class, TransactionErrorClass::Fenced, "{error}");
                assert_ne!(class, TransactionErrorClass::Fatal, "{error}");
            }
            if random.u8(..12) == 0 {
                // Another one takes its name; then it cannot do anything but leave.
                let new = instance(bootstrap, number, input).await;
                let old = std::mem::replace(&mut instances[number], new);
                drop(old.close().await);
            }
            let seen = values(bootstrap, output, 3, IsolationLevel::ReadCommitted).await;
            done = seen.iter().map(Vec::len).sum();
        }
    };
    tokio::time::timeout(Duration::from_mins(3), work)
        .await
        .expect("all is copied in the end");
    for instance in instances {
        instance.close().await.unwrap();
    }
    let seen = values(bootstrap, output, 3, IsolationLevel::ReadCommitted).await;
    assert_eq!(
        seen.iter().map(Vec::len).sum::<usize>(),
        expected.len(),
        "{seen:?}"
    );
    assert_eq!(seen.iter().flatten().cloned().collect::<BTreeSet<_>>(), expected);
    for partition in 0..3 {
        let own = format!("{partition}:");
        let numbers = seen.iter().flatten().filter_map(|value| value.strip_prefix(&own));
        let numbers: Vec<u32> = numbers.map(|number| number.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    admin.delete_topics(&[input, output]).await.unwrap();
}
