//! Each request gives its record, or the reason why not.
//! Planning is a function of the state and the request, so that no disk and no thread is needed here.

use std::collections::BTreeSet;

use log_core::model::TopicId;

use crate::config::alter::Alteration;
use crate::config::alter::{Change, Operation};
use crate::config::effective::Overrides;
use crate::config::keys::BrokerConfig;
use crate::config::properties::Layers;
use crate::metadata::error::ControllerError;
use crate::metadata::image::MetadataImage;
use crate::metadata::plan::{
    BrokerScope, Item, MorePartitions, NewTopic, Planner, TopicSelector, plan_producer_ids,
};
use crate::metadata::records::MetadataRecord;

const SEED: u64 = 7;

/// A state with topics `a.b` (3 partitions) and `__consumer_offsets`.
fn image() -> MetadataImage {
    let mut image = MetadataImage::default();
    for (name, id, partition_count) in [("a.b", 1, 3), ("__consumer_offsets", 2, 50)] {
        image
            .replay(&MetadataRecord::TopicCreated {
                name: name.to_owned(),
                topic_id: [id; 16],
                partition_count,
                configs: Overrides::new(),
            })
            .unwrap();
    }
    image
}

fn plan_all(items: &[Item], flags: &[(&str, &str)]) -> Vec<Result<Option<MetadataRecord>, ControllerError>> {
    let mut layers = Layers::default();
    layers.flags(flags.iter().copied());
    let config = layers.finish().unwrap();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut planner = Planner::new(&config, &mut random, items);
    let mut image = image();
    items
        .iter()
        .map(|item| {
            let record = planner.plan(&image, item)?;
            if let Some(record) = &record {
                image.replay(record).unwrap();
            }
            Ok(record)
        })
        .collect()
}

fn plan(item: Item) -> Result<Option<MetadataRecord>, ControllerError> {
    plan_all(&[item], &[]).remove(0)
}

/// How many partitions the topic would get, or the name of the error.
fn check_creation(topic: NewTopic, expected: Result<i32, &str>) {
    let text = format!("{topic:?}");
    match (plan(Item::CreateTopic(topic)), expected) {
        (Ok(Some(MetadataRecord::TopicCreated { partition_count, .. })), Ok(expected)) => {
            assert_eq!(partition_count, expected, "{text}");
        }
        (Err(error), Err(expected)) => {
            assert!(format!("{error:?}").starts_with(expected), "{text}: {error:?}");
        }
        (result, expected) => panic!("{text}: {result:?}, expected {expected:?}"),
    }
}

#[test]
fn names_are_checked_as_kafka_checks_them() {
    for (name, expected) in [
        ("t", Ok(1)),
        ("a.b", Err("TopicExists")),
        ("a_b", Err("InvalidTopic")),
        ("", Err("InvalidTopic")),
        ("t/u", Err("InvalidTopic")),
        ("__stratalog_metadata", Err("InvalidTopic")),
        ("__transaction_state", Ok(1)),
    ] {
        check_creation(NewTopic::named(name), expected);
    }
}

#[test]
fn numbers_of_partitions_and_replicas() {
    for (partition_count, replication_factor, expected) in [
        (-1, -1, Ok(1)),
        (5, 1, Ok(5)),
        (10_000, -1, Ok(10_000)),
        (10_001, 1, Err("PolicyViolation")),
        (0, 1, Err("InvalidPartitions")),
        (-2, 1, Err("InvalidPartitions")),
        (1, 0, Err("InvalidReplicationFactor")),
        (1, -2, Err("InvalidReplicationFactor")),
        (1, 2, Err("InvalidReplicationFactor")),
    ] {
        let topic = NewTopic {
            partition_count,
            replication_factor,
            ..NewTopic::named("t")
        };
        check_creation(topic, expected);
    }
    let item = Item::CreateTopic(NewTopic::named("t"));
    let planned = plan_all(&[item], &[("num.partitions", "7")]).remove(0);
    assert!(matches!(
        planned,
        Ok(Some(MetadataRecord::TopicCreated {
            partition_count: 7,
            ..
        }))
    ));
}

#[test]
fn assignments_must_name_this_node_once() {
    for (assignments, expected) in [
        (vec![(0, vec![1])], Ok(1)),
        (vec![(1, vec![1]), (0, vec![1])], Ok(2)),
        (vec![(1, vec![1])], Err("InvalidReplicaAssignment")),
        (vec![(0, vec![1]), (0, vec![1])], Err("InvalidReplicaAssignment")),
        (vec![(0, vec![])], Err("InvalidReplicaAssignment")),
        (vec![(0, vec![2])], Err("InvalidReplicaAssignment")),
        (vec![(0, vec![1, 2])], Err("InvalidReplicaAssignment")),
        (vec![(0, vec![1, 1])], Err("InvalidReplicaAssignment")),
    ] {
        check_creation(
            NewTopic {
                assignments,
                ..NewTopic::named("t")
            },
            expected,
        );
    }
    let assignments = vec![(0, vec![1])];
    let both = NewTopic {
        partition_count: 1,
        assignments,
        ..NewTopic::named("t")
    };
    check_creation(both, Err("InvalidRequest"));
}

#[test]
fn configs_are_checked_and_kept_in_their_canonical_spelling() {
    let with = |name: &str, value: Option<&str>| NewTopic {
        configs: vec![(name.to_owned(), value.map(str::to_owned))],
        ..NewTopic::named("t")
    };
    check_creation(with("no.such", Some("1")), Err("InvalidConfig"));
    check_creation(with("retention.ms", None), Err("InvalidConfig"));
    check_creation(with("retention.ms", Some("x")), Err("InvalidConfig"));
    let Ok(Some(MetadataRecord::TopicCreated { configs, .. })) =
        plan(Item::CreateTopic(with("retention.ms", Some(" +7 "))))
    else {
        panic!("a sound topic is created");
    };
    assert_eq!(configs["retention.ms"], "7");
}

#[test]
fn ids_are_random_and_harmless() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let image = MetadataImage::default();
    let config = BrokerConfig::default();
    let mut planner = Planner::new(&config, &mut random, &[]);
    let mut seen = BTreeSet::new();
    for _ in 0..10_000 {
        let id = planner.new_topic_id(&image);
        assert!(!id.to_string().starts_with('-'), "{id}");
        let bytes = id.to_bytes();
        assert_eq!((bytes[6] >> 4, bytes[8] >> 6), (4, 2), "{id} is of version 4");
        assert!(seen.insert(id), "{id} twice");
    }
}

#[test]
fn a_request_that_names_a_topic_twice_is_told_so() {
    let items = ["e", "f", "e"].map(|name| Item::CreateTopic(NewTopic::named(name)));
    let planned = plan_all(&items, &[]);
    assert!(matches!(planned[0], Err(ControllerError::InvalidRequest(_))));
    assert!(planned[1].is_ok());
    assert!(matches!(planned[2], Err(ControllerError::InvalidRequest(_))));
    // Names that would be confused are only known one after the other.
    let items = ["c.d", "c_d"].map(|name| Item::CreateTopic(NewTopic::named(name)));
    let planned = plan_all(&items, &[]);
    assert!(planned[0].is_ok());
    assert!(matches!(planned[1], Err(ControllerError::InvalidTopic(_))));
}

#[test]
fn the_partitions_of_a_request_are_bounded_together() {
    let items = ["e", "f"].map(|name| {
        Item::CreateTopic(NewTopic {
            partition_count: 6000,
            ..NewTopic::named(name)
        })
    });
    let planned = plan_all(&items, &[]);
    assert!(planned[0].is_ok());
    assert!(matches!(planned[1], Err(ControllerError::PolicyViolation(_))));
}

#[test]
fn deletion() {
    let by_name = |name: &str| plan(Item::DeleteTopic(TopicSelector::Name(name.to_owned())));
    let by_id = |id: u8| {
        plan(Item::DeleteTopic(TopicSelector::Id(TopicId::from_bytes(
            [id; 16],
        ))))
    };
    let deleted = Ok(Some(MetadataRecord::TopicDeleted { topic_id: [1; 16] }));
    assert_eq!(by_name("a.b"), deleted);
    assert_eq!(by_id(1), deleted);
    assert!(matches!(by_name("a_b"), Err(ControllerError::UnknownTopic(_))));
    assert!(matches!(by_id(9), Err(ControllerError::UnknownTopicId(_))));
    assert!(matches!(
        by_name("__consumer_offsets"),
        Err(ControllerError::InvalidTopic(_))
    ));
    let item = Item::DeleteTopic(TopicSelector::Name("a.b".to_owned()));
    let planned = plan_all(&[item], &[("delete.topic.enable", "false")]).remove(0);
    assert_eq!(planned, Err(ControllerError::TopicDeletionDisabled));
}

#[test]
fn more_partitions() {
    let check = |topic: &str, partition_count: i32, assignments: Option<Vec<Vec<i32>>>, expected: &str| {
        let item = Item::AddPartitions(MorePartitions {
            topic: topic.to_owned(),
            partition_count,
            assignments,
        });
        let planned = format!("{:?}", plan(item));
        assert!(planned.contains(expected), "{planned}");
    };
    check("a.b", 5, None, "PartitionsAdded");
    check("a.b", 5, Some(vec![vec![1], vec![1]]), "PartitionsAdded");
    check("a.b", 3, None, "InvalidPartitions");
    check("a.b", -1, None, "InvalidPartitions");
    check("a.b", 5, Some(vec![vec![1]]), "InvalidReplicaAssignment");
    check("a.b", 5, Some(vec![vec![1], vec![2]]), "InvalidReplicaAssignment");
    check("a.b", 1_000_000, None, "PolicyViolation");
    check("nope", 5, None, "UnknownTopic");
}

#[test]
fn settings_change_whole_or_not_at_all() {
    let set = |name: &str, value: &str| {
        Alteration::Incremental(vec![Change {
            name: name.to_owned(),
            operation: Operation::Set,
            value: Some(value.to_owned()),
        }])
    };
    let topic = |name: &str, alteration| plan(Item::AlterTopic(name.to_owned(), alteration));
    assert!(matches!(
        topic("a.b", set("retention.ms", "5")),
        Ok(Some(MetadataRecord::TopicConfigSet { .. }))
    ));
    assert_eq!(topic("a.b", Alteration::Incremental(Vec::new())), Ok(None));
    assert!(matches!(
        topic("nope", set("retention.ms", "5")),
        Err(ControllerError::UnknownTopic(_))
    ));
    assert!(matches!(
        topic("a.b", set("retention.ms", "x")),
        Err(ControllerError::InvalidConfig(_))
    ));
    let broker = |scope, alteration| plan(Item::AlterBroker(scope, alteration));
    assert!(matches!(
        broker(BrokerScope::Node(1), set("log.retention.ms", "5")),
        Ok(Some(MetadataRecord::BrokerConfigSet { node_id: Some(1), .. }))
    ));
    assert!(matches!(
        broker(BrokerScope::Node(2), set("log.retention.ms", "5")),
        Err(ControllerError::InvalidRequest(_))
    ));
    assert!(matches!(
        broker(BrokerScope::Cluster, set("num.partitions", "5")),
        Err(ControllerError::InvalidRequest(_))
    ));
    // A default that a topic's own setting contradicts is refused.
    let items = [
        Item::AlterTopic("a.b".to_owned(), set("max.compaction.lag.ms", "50")),
        Item::AlterBroker(
            BrokerScope::Cluster,
            set("log.cleaner.min.compaction.lag.ms", "100"),
        ),
    ];
    let planned = plan_all(&items, &[]);
    assert!(planned[0].is_ok());
    assert!(matches!(&planned[1], Err(ControllerError::InvalidConfig(reason)) if reason.contains("a.b")));
}

#[test]
fn subscriptions_are_bounded_by_their_number() {
    let set = |subscription: usize, interval: Option<&str>| {
        let change = Change {
            name: "interval.ms".to_owned(),
            operation: interval.map_or(Operation::Delete, |_| Operation::Set),
            value: interval.map(str::to_owned),
        };
        Item::AlterSubscription(subscription.to_string(), Alteration::Incremental(vec![change]))
    };
    let mut items: Vec<_> = (0..=1000)
        .map(|subscription| set(subscription, Some("1000")))
        .collect();
    let results = plan_all(&items, &[]);
    assert!(results[..1000].iter().all(Result::is_ok));
    assert!(matches!(results[1000], Err(ControllerError::InvalidRequest(_))));
    // Those there are can be changed, and one that goes makes room.
    items.truncate(1000);
    let mut image = image();
    for record in plan_all(&items, &[]) {
        image.replay(&record.unwrap().unwrap()).unwrap();
    }
    let config = BrokerConfig::default();
    let mut random = fastrand::Rng::with_seed(SEED);
    let items = [set(7, Some("2000")), set(8, None), set(1000, Some("1000"))];
    let mut planner = Planner::new(&config, &mut random, &items);
    for item in &items {
        let record = planner.plan(&image, item).unwrap().unwrap();
        image.replay(&record).unwrap();
    }
}

#[test]
fn producer_ids_come_in_blocks() {
    let mut image = image();
    for (count, expected) in [(1, 0..1000), (1000, 1000..2000), (1001, 2000..4000)] {
        let (ids, record) = plan_producer_ids(&image, count).unwrap();
        assert_eq!(ids, expected);
        image.replay(&record).unwrap();
    }
    let next_producer_id = i64::MAX - 10;
    image
        .replay(&MetadataRecord::ProducerIdBlock { next_producer_id })
        .unwrap();
    assert!(plan_producer_ids(&image, 1).is_err());
}
