//! Stops at every write, sync and change of names of a scripted workload, and starts again from what is left.
//!
//! After each stop: the broker starts; the state is what was answered, or that and the one request that was under way, whole;
//! no producer id comes again; no directory belongs to nobody.

use std::collections::BTreeMap;

use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::FaultPlan;

use super::*;
use crate::config::alter::{Alteration, Change, Operation};
use crate::config::effective::Overrides;
use crate::metadata::plan::{BrokerScope, MorePartitions, TopicSelector};

/// What a client knows of the broker: topics with partitions and overrides, and settings of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    topics: BTreeMap<String, (i32, Overrides)>,
    cluster: Overrides,
}

impl Known {
    fn of(image: &MetadataImage) -> Self {
        let entry = |topic: &Arc<TopicImage>| {
            (
                topic.name.to_string(),
                (topic.partition_count, topic.configs.clone()),
            )
        };
        Self {
            topics: image.topics().map(entry).collect(),
            cluster: image.cluster_configs().clone(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Create(&'static str, i32),
    Extend(&'static str, i32),
    Delete(&'static str),
    Retain(&'static str, &'static str),
    RetainAll(&'static str),
    ProducerId,
}

const SCRIPT: [Step; 14] = [
    Step::Create("a", 2),
    Step::ProducerId,
    Step::Create("b", 1),
    Step::Retain("a", "1000"),
    Step::Delete("a"),
    Step::Create("a", 1),
    Step::Extend("b", 3),
    Step::RetainAll("2000"),
    Step::Create("c", 1),
    Step::ProducerId,
    Step::Delete("b"),
    Step::Retain("c", "3000"),
    Step::Delete("c"),
    Step::Create("d", 2),
];

fn overrides(name: &str, value: &str) -> Overrides {
    Overrides::from([(name.to_owned(), value.to_owned())])
}

fn set(name: &str, value: &str) -> Alteration {
    Alteration::Incremental(vec![Change {
        name: name.to_owned(),
        operation: Operation::Set,
        value: Some(value.to_owned()),
    }])
}

impl Step {
    /// What the client knows when the step succeeds.
    fn expect(self, known: &mut Known) {
        match self {
            Self::Create(name, count) => {
                known.topics.insert(name.to_owned(), (count, Overrides::new()));
            }
            Self::Extend(name, count) => known.topics.get_mut(name).unwrap().0 = count,
            Self::Delete(name) => {
                known.topics.remove(name);
            }
            Self::Retain(name, value) => {
                known.topics.get_mut(name).unwrap().1 = overrides("retention.ms", value);
            }
            Self::RetainAll(value) => known.cluster = overrides("log.retention.ms", value),
            Self::ProducerId => {}
        }
    }

    async fn run(self, node: &Node, highest_producer_id: &mut i64) -> Result<(), ControllerError> {
        let controller = &node.controller;
        match self {
            Self::Create(name, count) => node.create(name, count).await.map(drop),
            Self::Extend(name, partition_count) => {
                let more = MorePartitions {
                    topic: name.to_owned(),
                    partition_count,
                    assignments: None,
                };
                controller
                    .create_partitions(vec![more], false)
                    .await
                    .remove(0)
                    .map(drop)
            }
            Self::Delete(name) => {
                let topic = TopicSelector::Name(name.to_owned());
                controller.delete_topics(vec![topic]).await.remove(0).map(drop)
            }
            Self::Retain(name, value) => {
                let change = (name.to_owned(), set("retention.ms", value));
                controller
                    .alter_topic_configs(vec![change], false)
                    .await
                    .remove(0)
            }
            Self::RetainAll(value) => {
                let change = (BrokerScope::Cluster, set("log.retention.ms", value));
                controller
                    .alter_broker_configs(vec![change], false)
                    .await
                    .remove(0)
            }
            Self::ProducerId => {
                let id = controller.allocate_producer_id().await?;
                assert!(*highest_producer_id < id.get(), "producer id {id} came again");
                *highest_producer_id = id.get();
                Ok(())
            }
        }
    }
}

/// What the client was told before the broker stopped, and what it had asked last without an answer.
#[derive(Debug, Default)]
struct Told {
    known: Known,
    under_way: Option<Known>,
    highest_producer_id: i64,
    cluster_id: Option<Arc<str>>,
}

async fn run_script(file_system: &MemFileSystem) -> Told {
    let mut told = Told {
        highest_producer_id: -1,
        ..Told::default()
    };
    let Ok(node) = Node::start(file_system) else {
        return told;
    };
    told.cluster_id = Some(Arc::clone(node.controller.image().cluster_id()));
    for step in SCRIPT {
        let mut expected = told.known.clone();
        step.expect(&mut expected);
        match step.run(&node, &mut told.highest_producer_id).await {
            Ok(()) => told.known = expected,
            Err(ControllerError::Storage(_)) => {
                told.under_way = Some(expected);
                break;
            }
            Err(error) => panic!("{step:?}: {error}"),
        }
    }
    drop(node.controller.close());
    told
}

async fn check_survivor(image: &MemFileSystem, told: &Told, place: &str) {
    let node =
        Node::start(image).unwrap_or_else(|error| panic!("{place}: the broker does not start: {error}"));
    let state = node.controller.image();
    let found = Known::of(&state);
    let is_whole = found == told.known || told.under_way.as_ref() == Some(&found);
    assert!(is_whole, "{place}: found {found:?}, told {told:?}");
    if let Some(cluster_id) = &told.cluster_id {
        assert_eq!(state.cluster_id(), cluster_id, "{place}");
    }
    for topic in state.topics() {
        let count = usize::try_from(topic.partition_count).unwrap();
        assert_eq!(
            node.directories.served_count(topic.id),
            count,
            "{place}: {}",
            topic.name
        );
    }
    // What a start shows is safe from a power cut that follows at once.
    let again = Node::start(&image.crash(CrashMode::SyncedOnly))
        .unwrap_or_else(|error| panic!("{place}: the second start fails: {error}"));
    assert_eq!(
        again.controller.image(),
        state,
        "{place}: a second cut changed it"
    );
    drop(again);
    let id = node.controller.allocate_producer_id().await.unwrap();
    assert!(
        told.highest_producer_id < id.get(),
        "{place}: producer id {id} came again"
    );
    node.create("afterwards", 1)
        .await
        .unwrap_or_else(|error| panic!("{place}: {error}"));
    node.controller
        .close()
        .unwrap_or_else(|error| panic!("{place}: {error}"));
}

fn seeds() -> Vec<u64> {
    match std::env::var("STRATALOG_SEED") {
        Ok(seed) => vec![seed.parse().expect("STRATALOG_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    }
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_wherever_the_machine_stops() {
    let complete = MemFileSystem::new();
    let told = run_script(&complete).await;
    assert!(told.under_way.is_none());
    assert_eq!(told.known.topics.keys().collect::<Vec<_>>(), ["a", "d"]);
    let operation_count = complete.counters().operations();
    for stop_at in 1..=operation_count {
        let file_system = MemFileSystem::new();
        file_system.set_faults(FaultPlan::new().stop_at(stop_at));
        let told = run_script(&file_system).await;
        let mut modes = vec![CrashMode::SyncedOnly, CrashMode::All];
        modes.extend(seeds().into_iter().map(|seed| CrashMode::Random { seed }));
        for mode in modes {
            let place = format!("stopped at operation {stop_at} of {operation_count}, {mode:?}");
            check_survivor(&file_system.crash(mode), &told, &place).await;
        }
    }
}
