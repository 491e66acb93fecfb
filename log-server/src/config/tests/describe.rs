//! Rows and accepted values, compared with what a real Kafka 4.3.0 broker answered.
//! Its answers lie in `tests/fixtures/kafka-4.3.0`; what differs on purpose is named here.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::describe::Row;
use crate::config::effective::{BrokerLayers, Overrides, Source};
use crate::config::keys::{BrokerConfig, KEYS};
use crate::config::properties::Layers;
use crate::config::topic;
use crate::config::value::canonical;

/// What a real Kafka 4.3.0 broker answered for a fresh topic.
const KAFKA_ROWS: &str = include_str!("../../../tests/fixtures/kafka-4.3.0/topic-configs.json");
/// Which values of some nine hundred tried ones it accepted.
const KAFKA_VALUES: &str = include_str!("../../../tests/fixtures/kafka-4.3.0/topic-config-values.json");
/// What it answered for its own configs, as far as we have them too.
const KAFKA_BROKER_ROWS: &str = include_str!("../../../tests/fixtures/kafka-4.3.0/broker-configs.json");

#[derive(Debug, Deserialize)]
struct KafkaRow {
    name: String,
    value: Option<String>,
    r#type: String,
    source: i8,
    read_only: bool,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    synonyms: Vec<(String, String, i8)>,
}

#[derive(Debug, Deserialize)]
struct KafkaValues {
    accepted: Vec<String>,
    refused: Vec<String>,
}

fn with_layers<T>(check: impl FnOnce(BrokerLayers<'_>) -> T) -> T {
    let (config, none) = (BrokerConfig::default(), Overrides::new());
    check(BrokerLayers {
        config: &config,
        cluster: &none,
        node: &none,
    })
}

/// Our rows differ from Kafka's in these, and in nothing else.
fn expected(mut row: KafkaRow) -> KafkaRow {
    match row.name.as_str() {
        // A record is on the disk before it is acknowledged.
        "flush.messages" => {
            row.value = Some("1".to_owned());
            row.synonyms = vec![("log.flush.interval.messages".to_owned(), "1".to_owned(), 5)];
        }
        // Kafka's format step writes this default down as a setting of the cluster; there is no such step here.
        "min.insync.replicas" => {
            row.source = 5;
            row.synonyms.remove(0);
        }
        _ => {}
    }
    row
}

#[test]
fn topics_are_described_as_kafka_describes_them() {
    let ours = with_layers(|layers| layers.describe_topic(&Overrides::new()));
    let kafka: Vec<KafkaRow> = serde_json::from_str(KAFKA_ROWS).unwrap();
    assert_eq!(ours.len(), kafka.len());
    for (ours, kafka) in ours.iter().zip(kafka.into_iter().map(expected)) {
        assert_eq!(ours.name, kafka.name);
        assert_eq!(ours.value, kafka.value, "{}", ours.name);
        assert_eq!(ours.kind.to_string(), kafka.r#type, "{}", ours.name);
        assert_eq!(ours.source.wire_id(), kafka.source, "{}", ours.name);
        assert_eq!(
            (ours.is_read_only, ours.is_sensitive),
            (kafka.read_only, kafka.sensitive)
        );
        let synonyms: Vec<(String, String, i8)> = ours
            .synonyms
            .iter()
            .map(|synonym| {
                (
                    synonym.name.to_owned(),
                    synonym.value.clone(),
                    synonym.source.wire_id(),
                )
            })
            .collect();
        assert_eq!(synonyms, kafka.synonyms, "{}", ours.name);
    }
}

#[test]
fn values_are_accepted_and_refused_as_kafka_does() {
    // Spellings that only Java's parser of numbers takes for one.
    let stricter = [
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.cleanable.dirty.ratio", "0.5d"),
    ];
    let kafka: BTreeMap<String, KafkaValues> = serde_json::from_str(KAFKA_VALUES).unwrap();
    assert_eq!(kafka.len(), topic::TOPIC_KEYS.len());
    let none = Overrides::new();
    with_layers(|layers| {
        for (name, values) in &kafka {
            let accepts = |value: &str| {
                let overrides = Overrides::from([(name.clone(), value.to_owned())]);
                layers.check_topic(&overrides).is_ok()
            };
            for value in &values.accepted {
                let odd = stricter.contains(&(name.as_str(), value.as_str()));
                assert_eq!(accepts(value), !odd, "{name}={value:?}, which Kafka accepts");
            }
            for value in &values.refused {
                assert!(!accepts(value), "{name}={value:?}, which Kafka refuses");
            }
        }
        assert!(layers.check_topic(&none).is_ok());
    });
}

#[test]
fn shared_broker_keys_are_kafka_s() {
    // Ours on purpose: durable by default, bounded by default, for one broker.
    let different = [
        "group.consumer.assignment.interval.ms",
        "offsets.topic.num.partitions",
        "transaction.state.log.num.partitions",
        "log.flush.interval.messages",
        "max.connections",
        "num.recovery.threads.per.data.dir",
        "queued.max.request.bytes",
    ];
    // Kafka can change these while it runs, this broker cannot.
    let static_here = [
        "log.cleaner.threads",
        "max.connections",
        "max.connections.per.ip",
        "num.recovery.threads.per.data.dir",
    ];
    let kafka: Vec<KafkaRow> = serde_json::from_str(KAFKA_BROKER_ROWS).unwrap();
    let ours = with_layers(|layers| layers.describe_broker());
    let dotted = ours.iter().filter(|row| !row.name.contains('-'));
    // Known to Kafka, and not shown by it; or the machine's own, and not recorded.
    let hidden = [
        "producer.id.expiration.check.interval.ms",
        "group.consumer.regex.refresh.interval.ms",
        "telemetry.max.bytes",
        "log.dirs",
    ];
    for row in dotted.filter(|row| !hidden.contains(&row.name)) {
        let kafka = kafka
            .iter()
            .find(|kafka| kafka.name == row.name)
            .unwrap_or_else(|| panic!("{}", row.name));
        if !different.contains(&row.name) {
            assert_eq!(row.value, kafka.value, "{}", row.name);
        }
        assert_eq!(row.kind.to_string(), kafka.r#type, "{}", row.name);
        assert_eq!(
            row.is_read_only,
            kafka.read_only || static_here.contains(&row.name),
            "{}",
            row.name
        );
    }
}

#[test]
fn all_who_set_a_value_are_listed_best_first() {
    let mut layers = Layers::default();
    layers.flags([("log.retention.hours", "2")]);
    let config = layers.finish().unwrap();
    let cluster = Overrides::from([("log.retention.ms".to_owned(), "6".to_owned())]);
    let node = Overrides::from([("log.retention.ms".to_owned(), "7".to_owned())]);
    let topic = Overrides::from([("retention.ms".to_owned(), "8".to_owned())]);
    let layers = BrokerLayers {
        config: &config,
        cluster: &cluster,
        node: &node,
    };
    let find = |rows: Vec<Row>, name: &str| rows.into_iter().find(|row| row.name == name).unwrap();
    let row = find(layers.describe_topic(&topic), "retention.ms");
    let synonyms: Vec<(&str, &str, i8)> = row
        .synonyms
        .iter()
        .map(|synonym| (synonym.name, synonym.value.as_str(), synonym.source.wire_id()))
        .collect();
    let expected = [
        ("retention.ms", "8", 1),
        ("log.retention.ms", "7", 2),
        ("log.retention.ms", "6", 3),
        ("log.retention.hours", "2", 4),
        ("log.retention.hours", "168", 5),
    ];
    assert_eq!(synonyms, expected);
    assert_eq!(
        find(layers.describe_broker(), "log.retention.ms").source,
        Source::Node
    );
    let cluster_rows = layers.describe_cluster();
    assert_eq!(cluster_rows.len(), 1);
    assert_eq!(cluster_rows[0].value.as_deref(), Some("6"));
}

#[test]
fn every_default_of_the_table_is_canonical() {
    for key in KEYS.iter() {
        if let Some(default) = key.default {
            assert_eq!(
                canonical(key.kind, key.rule, default).unwrap(),
                default,
                "{}",
                key.name
            );
        }
        assert!(!key.doc.is_empty());
    }
    let mut names: Vec<&str> = KEYS.iter().map(|key| key.variable.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len(), "two keys share a variable");
}
