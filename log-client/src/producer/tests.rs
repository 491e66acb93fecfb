//! The producer against a broker that follows Kafka's rules and fails on demand.
//!
//! What must hold whatever happens: an acknowledged record is there once, at the offset that was named, in
//! the order of `send`; and no record is there twice.

use std::collections::HashSet;
use std::time::Duration;

use log_core::protocol::ErrorCode;
use log_core::record::compression::Compression;

use super::*;
use crate::config::Acks;
use crate::retry::Backoff;
use crate::testing::fake_broker::{FakeBroker, Fault};

fn config(broker: &FakeBroker) -> ProducerConfig {
    let quick = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
    };
    let mut config = ProducerConfig::new(broker.address());
    config.client.retry_backoff = quick;
    config.client.reconnect_backoff = quick;
    config.linger = Duration::ZERO;
    config
}

async fn broker(partitions: usize) -> FakeBroker {
    let broker = FakeBroker::start().await;
    broker.create("t", partitions);
    broker
}

async fn send(producer: &Producer, partition: i32, value: &str) -> Delivery {
    let record = ProducerRecord::new("t", value.as_bytes()).with_partition(partition);
    producer.send(&record).await.unwrap()
}

fn text(values: Vec<Vec<u8>>) -> Vec<String> {
    values
        .into_iter()
        .map(|value| String::from_utf8(value).unwrap())
        .collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn topics_without_records_are_forgotten_and_found_again_with_their_sequences() {
    let broker = broker(1).await;
    broker.create("busy", 1);
    let mut config = config(&broker);
    config.metadata_max_idle = Duration::from_millis(20);
    config.client.metadata_max_age = Duration::from_millis(5);
    let producer = Producer::new(config).unwrap();
    for value in ["0", "1"] {
        send(&producer, 0, value).await.await.unwrap();
    }
    let is_asked_for = || {
        let state = broker.state();
        state
            .topics_asked
            .last()
            .unwrap()
            .iter()
            .any(|topic| topic == "t")
    };
    while is_asked_for() {
        producer
            .send(&ProducerRecord::new("busy", b"value"))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    while producer.cluster().metadata().topic("t").is_ok() {
        tokio::task::yield_now().await;
    }
    let first = send(&producer, 0, "2").await;
    let second = send(&producer, 0, "3").await;
    assert_eq!(first.await.unwrap().offset, Some(log_core::model::Offset::new(2)));
    assert_eq!(
        second.await.unwrap().offset,
        Some(log_core::model::Offset::new(3))
    );
    assert_eq!(text(broker.values("t", 0)), numbered(0..4));
}

#[tokio::test]
async fn a_topic_that_was_never_found_is_not_asked_for_any_more() {
    let broker = broker(1).await;
    let denied = ("denied", ErrorCode::TopicAuthorizationFailed);
    broker.state().topics_refused.extend([denied]);
    let producer = Producer::new(config(&broker)).unwrap();
    send(&producer, 0, "0").await.await.unwrap();
    let error = producer
        .send(&ProducerRecord::new("denied", b"value"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
    // Another caller stops waiting for a topic that may yet come.
    let missing = ProducerRecord::new("missing", b"value");
    tokio::select! {
        sent = producer.send(&missing) => panic!("{sent:?}"),
        () = async {
            let is_asked_for = || broker.state().topics_asked.last().unwrap().iter().any(|topic| topic == "missing");
            while !is_asked_for() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    let cluster = producer.cluster();
    cluster.refresh(cluster.metadata().generation).await.unwrap();
    assert_eq!(broker.state().topics_asked.last().unwrap(), &["t"]);
    broker.create("missing", 1);
    producer.send(&missing).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn records_arrive_in_order_and_know_their_offsets() {
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let broker = broker(2).await;
        let producer = Producer::new(ProducerConfig {
            compression,
            batch_bytes: 300,
            ..config(&broker)
        })
        .unwrap();
        let mut deliveries = Vec::new();
        for number in 0..500 {
            deliveries.push(send(&producer, number % 2, &number.to_string()).await);
        }
        for (number, delivery) in (0..).zip(deliveries) {
            let metadata = delivery.await.unwrap();
            assert_eq!(metadata.partition.partition, number % 2);
            assert_eq!(metadata.offset.unwrap().get(), i64::from(number / 2));
        }
        let expected: Vec<_> = (0..500).step_by(2).map(|number| number.to_string()).collect();
        assert_eq!(text(broker.values("t", 0)), expected, "{compression}");
        producer.close().await;
        assert!(matches!(
            producer.send(&ProducerRecord::new("t", b"late")).await,
            Err(Error::Closed("producer"))
        ));
    }
}

#[tokio::test]
async fn close_waits_for_what_lingers_and_flush_does_not_linger() {
    let broker = broker(1).await;
    let config = ProducerConfig {
        linger: Duration::from_mins(1),
        ..config(&broker)
    };
    let producer = Producer::new(config).unwrap();
    let first = send(&producer, 0, "0").await;
    producer.flush().await;
    assert_eq!(broker.values("t", 0).len(), 1);
    let second = send(&producer, 0, "1").await;
    producer.close().await;
    assert_eq!(text(broker.values("t", 0)), ["0", "1"]);
    assert_eq!(first.await.unwrap().offset.unwrap().get(), 0);
    assert_eq!(second.await.unwrap().offset.unwrap().get(), 1);
}

#[tokio::test]
async fn a_producer_that_is_dropped_leaves_nobody_waiting() {
    let broker = broker(1).await;
    let config = ProducerConfig {
        linger: Duration::from_mins(1),
        ..config(&broker)
    };
    let producer = Producer::new(config).unwrap();
    let delivery = send(&producer, 0, "0").await;
    drop(producer);
    assert!(matches!(delivery.await, Err(Error::Closed("producer"))));
}

#[tokio::test]
async fn keyless_records_visit_all_partitions_and_keys_stay() {
    let broker = broker(3).await;
    let producer = Producer::new(ProducerConfig {
        batch_bytes: 200,
        ..config(&broker)
    })
    .unwrap();
    let mut seen = HashSet::new();
    let mut count = 0;
    while seen.len() < 3 {
        let delivery = producer.send(&ProducerRecord::new("t", &[7; 50])).await.unwrap();
        seen.insert(delivery.partition().partition);
        count += 1;
        assert!(count < 10_000, "the odds of this are nil");
    }
    let expected = i32::try_from(partition_for_key(b"client-1", 3)).unwrap();
    for _ in 0..20 {
        let record = ProducerRecord::new("t", b"v").with_key(b"client-1");
        let delivery = producer.send(&record).await.unwrap();
        assert_eq!(delivery.partition().partition, expected);
    }
    producer.flush().await;
}

#[tokio::test]
async fn send_waits_while_memory_is_full() {
    let broker = broker(1).await;
    let producer = Producer::new(ProducerConfig {
        buffer_memory: 4000,
        batch_bytes: 1000,
        linger: Duration::from_mins(1),
        ..config(&broker)
    })
    .unwrap();
    let mut deliveries = Vec::new();
    for number in 0..200 {
        deliveries.push(send(&producer, 0, &format!("{number:0200}")).await);
    }
    producer.flush().await;
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(broker.values("t", 0).len(), 200);
    let huge = vec![0; 5000];
    assert!(matches!(
        producer.send(&ProducerRecord::new("t", &huge)).await,
        Err(Error::RecordTooLarge { limit: 4000, .. })
    ));
}

#[tokio::test]
async fn with_acks_none_a_record_is_done_when_it_is_sent() {
    let broker = broker(1).await;
    let producer = Producer::new(ProducerConfig {
        acks: Acks::None,
        idempotent: false,
        ..config(&broker)
    })
    .unwrap();
    for number in 0..50 {
        let metadata = send(&producer, 0, &number.to_string()).await.await.unwrap();
        assert_eq!(metadata.offset, None);
    }
    producer.close().await;
    // The socket has them; the broker reads them in its own time.
    while broker.values("t", 0).len() < 50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(text(broker.values("t", 0)), numbered(0..50));
}

/// Sends `count` records one batch each, with `fault` for the n-th batch that reaches the broker; returns
/// the values there and the results.
async fn with_faults(
    count: usize,
    fault: impl Fn(usize) -> Fault + Send + 'static,
) -> (Vec<String>, Vec<Result<RecordMetadata>>) {
    let broker = broker(1).await;
    broker.state().fault = Box::new(move |_, _, number| fault(number));
    let mut config = config(&broker);
    config.batch_bytes = 1;
    config.client.request_timeout = Duration::from_millis(60);
    let producer = Producer::new(config).unwrap();
    let mut deliveries = Vec::new();
    for number in 0..count {
        deliveries.push(send(&producer, 0, &number.to_string()).await);
    }
    let results = futures_util::future::join_all(deliveries).await;
    (text(broker.values("t", 0)), results)
}

#[tokio::test]
async fn whatever_passes_is_tried_again_without_loss_duplicate_or_disorder() {
    let faults = [
        Fault::Refuse(ErrorCode::NotLeaderOrFollower),
        Fault::Refuse(ErrorCode::KafkaStorageError),
        Fault::Refuse(ErrorCode::OutOfOrderSequenceNumber),
        Fault::Refuse(ErrorCode::UnknownProducerId),
        Fault::Refuse(ErrorCode::InvalidProducerEpoch),
        Fault::Pretend(ErrorCode::RequestTimedOut),
        Fault::Pretend(ErrorCode::NotEnoughReplicasAfterAppend),
        Fault::HangUpBefore,
        Fault::HangUpAfter,
        Fault::Silence,
    ];
    for fault in faults {
        for faulty in [vec![0], vec![3], vec![2, 4], vec![5, 6, 7]] {
            let one = fault.clone();
            let numbers = faulty.clone();
            let fault_of = move |number| {
                if numbers.contains(&number) {
                    one.clone()
                } else {
                    Fault::None
                }
            };
            let (values, results) = with_faults(20, fault_of).await;
            assert_eq!(values, numbered(0..20), "{fault:?} at {faulty:?}");
            for (number, result) in (0..).zip(results) {
                assert_eq!(
                    result.unwrap().offset.unwrap().get(),
                    number,
                    "{fault:?} at {faulty:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_refused_for_good_does_not_hold_up_the_rest() {
    let (values, results) = with_faults(20, |number| match number {
        3 => Fault::Refuse(ErrorCode::InvalidRecord),
        _ => Fault::None,
    })
    .await;
    let refused: Vec<_> = (0..)
        .zip(&results)
        .filter(|(_, result)| result.is_err())
        .collect();
    assert_eq!(refused.len(), 1);
    let (number, Err(error)) = refused[0] else {
        panic!()
    };
    assert_eq!(error.code(), Some(ErrorCode::InvalidRecord));
    assert!(error.to_string().contains("no key"), "{error}");
    let mut expected = numbered(0..20);
    expected.remove(number);
    assert_eq!(values, expected);
}

#[tokio::test]
async fn a_broker_that_lost_its_memory_of_the_producer_is_told_again() {
    let broker = broker(1).await;
    let producer = Producer::new(config(&broker)).unwrap();
    for number in 0..5 {
        send(&producer, 0, &number.to_string()).await.await.unwrap();
    }
    broker.state().topics.get_mut("t").unwrap().partitions[0].forget_producers();
    for number in 5..10 {
        send(&producer, 0, &number.to_string()).await.await.unwrap();
    }
    assert_eq!(text(broker.values("t", 0)), numbered(0..10));
}

#[tokio::test]
async fn a_batch_too_large_for_the_topic_is_split() {
    for compression in [Compression::None, Compression::Lz4] {
        let broker = broker(1).await;
        broker.state().batch_bytes_max = 700;
        let producer = Producer::new(ProducerConfig {
            compression,
            batch_bytes: 16 << 10,
            linger: Duration::from_mins(1),
            ..config(&broker)
        })
        .unwrap();
        let mut deliveries = Vec::new();
        let values: Vec<String> = (0..200)
            .map(|number| format!("{number}-{}", "x".repeat(fastrand::usize(..40))))
            .collect();
        for value in &values {
            deliveries.push(send(&producer, 0, value).await);
        }
        let huge: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(1000)
            .collect();
        let too_large = send(&producer, 0, &huge).await;
        let last = send(&producer, 0, "last").await;
        producer.flush().await;
        for (number, delivery) in (0..).zip(deliveries) {
            assert_eq!(delivery.await.unwrap().offset.unwrap().get(), number);
        }
        assert_eq!(
            too_large.await.unwrap_err().code(),
            Some(ErrorCode::MessageTooLarge)
        );
        assert_eq!(last.await.unwrap().offset.unwrap().get(), 200);
        let mut expected = values;
        expected.push("last".to_owned());
        assert_eq!(text(broker.values("t", 0)), expected);
    }
}

#[tokio::test]
async fn a_recreated_topic_is_found_by_its_new_id() {
    let broker = broker(1).await;
    let producer = Producer::new(config(&broker)).unwrap();
    send(&producer, 0, "0").await.await.unwrap();
    broker.create("t", 1);
    let metadata = send(&producer, 0, "1").await.await.unwrap();
    assert_eq!(metadata.offset.unwrap().get(), 0);
    assert_eq!(text(broker.values("t", 0)), ["1"]);
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_fails_with_the_reason() {
    let broker = broker(1).await;
    broker.state().fault = Box::new(|_, _, _| Fault::Refuse(ErrorCode::NotEnoughReplicas));
    let mut config = config(&broker);
    config.client.request_timeout = Duration::from_millis(20);
    config.delivery_timeout = Duration::from_millis(50);
    let producer = Producer::new(config).unwrap();
    let error = send(&producer, 0, "0").await.await.unwrap_err();
    assert!(
        matches!(&error, Error::DeliveryTimedOut { last: Some(_), .. }),
        "{error}"
    );
    assert_eq!(error.code(), Some(ErrorCode::NotEnoughReplicas));
    broker.state().fault = Box::new(|_, _, _| Fault::None);
    send(&producer, 0, "1").await.await.unwrap();
    assert_eq!(text(broker.values("t", 0)), ["1"]);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_waited_for_and_then_reported() {
    let broker = broker(1).await;
    let producer = Producer::new(ProducerConfig {
        max_block: Duration::from_millis(20),
        ..config(&broker)
    })
    .unwrap();
    let error = producer
        .send(&ProducerRecord::new("nowhere", b"v"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let record = ProducerRecord::new("t", b"v").with_partition(1);
    let error = producer.send(&record).await.unwrap_err();
    assert!(matches!(
        error,
        Error::NoSuchPartition {
            partition: 1,
            count: 1,
            ..
        }
    ));
    assert!(
        broker.state().requests.len() < 30,
        "it must not hammer the broker"
    );
}

/// One seed, many faults: three partitions, several senders' worth of records, everything goes wrong.
async fn storm(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = broker(3).await;
    let mut faults = random.fork();
    let rate = random.usize(1..40);
    broker.state().fault = Box::new(move |_, _, number| {
        // It ends some time, so that everything can be delivered.
        if 400 < number || rate < faults.usize(..100) {
            return Fault::None;
        }
        match faults.u8(..12) {
            0 => Fault::HangUpBefore,
            1 | 2 => Fault::HangUpAfter,
            3 => Fault::Pretend(ErrorCode::RequestTimedOut),
            4 => Fault::Refuse(ErrorCode::OutOfOrderSequenceNumber),
            5 => Fault::Refuse(ErrorCode::NotLeaderOrFollower),
            6 => Fault::Refuse(ErrorCode::InvalidTimestamp),
            7 => Fault::Refuse(ErrorCode::KafkaStorageError),
            8 => Fault::Silence,
            9 => Fault::Refuse(ErrorCode::MessageTooLarge),
            10 => Fault::Refuse(ErrorCode::InvalidProducerEpoch),
            _ => Fault::Pretend(ErrorCode::NotEnoughReplicasAfterAppend),
        }
    });
    let mut config = config(&broker);
    config.batch_bytes = random.usize(20..400);
    config.in_flight_max = random.usize(1..=5);
    config.linger = Duration::from_millis(random.u64(..2));
    config.client.request_timeout = Duration::from_millis(30);
    config.compression = [Compression::None, Compression::Lz4][random.usize(..2)];
    let producer = Producer::new(config).unwrap();

    let mut sent = Vec::new();
    for number in 0..600 {
        let partition = random.i32(0..3);
        sent.push((
            partition,
            number,
            send(&producer, partition, &number.to_string()).await,
        ));
        if random.u8(..20) == 0 {
            tokio::task::yield_now().await;
        }
    }
    producer.flush().await;
    let mut acknowledged: [Vec<(i64, String)>; 3] = Default::default();
    let mut unknown: [HashSet<String>; 3] = Default::default();
    for (partition, number, delivery) in sent {
        match delivery.await {
            Ok(metadata) => {
                let offset = metadata.offset.unwrap().get();
                acknowledged[usize::try_from(partition).unwrap()].push((offset, number.to_string()));
            }
            Err(Error::OutcomeUnknown { .. }) => {
                unknown[usize::try_from(partition).unwrap()].insert(number.to_string());
            }
            Err(error) => assert!(
                matches!(
                    error.code(),
                    Some(ErrorCode::InvalidTimestamp | ErrorCode::MessageTooLarge)
                ),
                "seed {seed}: record {number}: {error}"
            ),
        }
    }
    for (partition, acknowledged) in acknowledged.iter().enumerate() {
        let values = text(broker.values("t", partition));
        let distinct: HashSet<_> = values.iter().collect();
        assert_eq!(
            distinct.len(),
            values.len(),
            "seed {seed}: a record is there twice"
        );
        let known = |(_, value): &(i64, String)| !unknown[partition].contains(value);
        let there: Vec<_> = (0..).zip(values).filter(known).collect();
        assert_eq!(*acknowledged, there, "seed {seed}: partition {partition}");
    }
}

#[tokio::test]
async fn nothing_is_lost_doubled_or_reordered_in_a_storm_of_faults() {
    let given = std::env::var("STRATALOG_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = given.map_or_else(|| (0..40).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    for seed in seeds {
        storm(seed).await;
    }
}
