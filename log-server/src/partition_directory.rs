//! Where metadata and partitions meet: the registry of partitions as the controller sees it.
//!
//! Neither module knows the other. A topic's state becomes the specification of its partitions here, and nowhere else.

use std::sync::Arc;

use log_core::config::LogConfig;
use log_core::log::LogError;

use crate::config::keys::BrokerConfig;
use crate::metadata::controller::PartitionDirectory;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::partition::registry::{PartitionRegistry, TopicSpec};

/// The registry.
#[derive(Debug)]
pub struct RegistryDirectory {
    registry: Arc<PartitionRegistry>,
}

impl RegistryDirectory {
    /// Over the partitions that the controller is to command.
    #[must_use]
    pub fn new(registry: Arc<PartitionRegistry>) -> Self {
        Self { registry }
    }
}

impl PartitionDirectory for RegistryDirectory {
    fn create(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError> {
        self.registry.create(&topic_spec(topic, config))
    }

    fn extend(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError> {
        self.registry.extend(&topic_spec(topic, config))
    }

    fn withdraw(&self, topic: &TopicImage, partition_count: i32) -> Result<(), LogError> {
        let behind = partition_count..topic.partition_count;
        self.registry.discard(&topic.name, topic.id, behind)
    }

    fn delete(&self, topic: &TopicImage) -> Result<(), LogError> {
        let deleted = self.registry.delete(topic.id);
        // Also those that were made for a topic that then could not be completed: the registry never saw them.
        let all = 0..topic.partition_count;
        deleted.and(self.registry.discard(&topic.name, topic.id, all))
    }

    fn reconfigure(&self, topic: &TopicImage, config: &LogConfig) {
        self.registry.reconfigure(topic.id, &log_config(topic, config));
    }
}

/// All topics of `image`, as the registry loads them at a start.
#[must_use]
pub fn topic_specs(image: &MetadataImage, config: &BrokerConfig) -> Vec<TopicSpec> {
    let layers = image.layers(config);
    image
        .topics()
        .map(|topic| topic_spec(topic, &layers.log_config(&topic.configs)))
        .collect()
}

fn topic_spec(topic: &TopicImage, config: &LogConfig) -> TopicSpec {
    TopicSpec {
        name: Arc::clone(&topic.name),
        id: topic.id,
        partition_count: topic.partition_count,
        config: log_config(topic, config),
    }
}

/// What the broker itself keeps in a topic was promised to somebody (offsets, decisions about transactions): it is on the disk before
/// the answer, whatever the topic's settings say.
fn log_config(topic: &TopicImage, config: &LogConfig) -> LogConfig {
    LogConfig {
        durable: config.durable || topic.is_internal,
        ..*config
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use log_core::clock::ManualClock;
    use log_core::fs::FileSystem;
    use log_core::fs::mem::MemFileSystem;
    use log_core::fs::mem::crash::CrashMode;
    use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
    use log_core::log::LogContext;
    use log_core::log_manager::LogManager;
    use log_core::model::TimestampMs;

    use super::*;
    use crate::config::alter::{Alteration, Change, Operation};
    use crate::metadata::controller::Controller;
    use crate::metadata::error::ControllerError;
    use crate::metadata::leftovers::remove_leftovers;
    use crate::metadata::metadata_log::{self, MetadataLog, Tuning};
    use crate::metadata::plan::{MorePartitions, NewTopic, TopicSelector};
    use crate::partition::flusher::FlushQueue;

    /// A broker without fronts and threads of its partitions.
    struct Broker {
        registry: Arc<PartitionRegistry>,
        controller: Controller,
    }

    impl Broker {
        fn start(files: &MemFileSystem) -> Self {
            let context = LogContext {
                file_system: Arc::new(files.clone()),
                clock: Arc::new(ManualClock::new(TimestampMs::new(0))),
            };
            let config = Arc::new(BrokerConfig::default());
            let (manager, mut found) = LogManager::open(context, "/data".into()).unwrap();
            let manager = Arc::new(manager);
            let (log, image) =
                MetadataLog::open(Arc::clone(manager.first()), &found, Tuning::new(10)).unwrap();
            remove_leftovers(&manager, &mut found, &image).unwrap();
            let registry = PartitionRegistry::new(Arc::clone(&manager), FlushQueue::without_threads(), 2);
            let summary = registry.load(
                &topic_specs(&image, &config),
                &found,
                &[metadata_log::partition()],
            );
            assert_eq!((summary.offline, summary.strays), (0, 0));
            let directory = Arc::new(RegistryDirectory::new(Arc::clone(&registry)));
            Self {
                registry,
                controller: Controller::start(log, image, config, directory).unwrap(),
            }
        }

        async fn create(&self, name: &str, partition_count: i32) -> Result<Arc<TopicImage>, ControllerError> {
            let topic = NewTopic {
                partition_count,
                ..NewTopic::named(name)
            };
            self.controller.create_topics(vec![topic], false).await.remove(0)
        }

        async fn delete(&self, name: &str) {
            let topic = TopicSelector::Name(name.to_owned());
            self.controller
                .delete_topics(vec![topic])
                .await
                .remove(0)
                .unwrap();
        }
    }

    #[tokio::test]
    async fn topics_of_the_broker_are_never_relaxed() {
        let files = MemFileSystem::new();
        let broker = Broker::start(&files);
        for name in ["t", "__consumer_offsets"] {
            broker.create(name, 1).await.unwrap();
            let change = Alteration::Incremental(vec![Change {
                name: "flush.messages".to_owned(),
                operation: Operation::Set,
                value: Some("1000".to_owned()),
            }]);
            let changes = vec![(name.to_owned(), change)];
            let altered = broker.controller.alter_topic_configs(changes, false).await;
            assert!(matches!(altered[..], [Ok(())]));
        }
        let is_durable = |broker: &Broker, name| broker.registry.get(name, 0).unwrap().config().durable;
        assert!(!is_durable(&broker, "t"));
        assert!(is_durable(&broker, "__consumer_offsets"));
        let broker = Broker::start(&files.crash(CrashMode::SyncedOnly));
        assert!(!is_durable(&broker, "t"));
        assert!(is_durable(&broker, "__consumer_offsets"));
    }

    #[tokio::test]
    async fn partitions_follow_their_topics() {
        let files = MemFileSystem::new();
        let broker = Broker::start(&files);
        let topic = broker.create("t", 2).await.unwrap();
        assert!(
            broker
                .registry
                .get("t", 1)
                .is_some_and(|partition| partition.topic_id() == topic.id)
        );
        let more = MorePartitions {
            topic: "t".to_owned(),
            partition_count: 3,
            assignments: None,
        };
        broker
            .controller
            .create_partitions(vec![more], false)
            .await
            .remove(0)
            .unwrap();
        let change = Alteration::Incremental(vec![Change {
            name: "retention.ms".to_owned(),
            operation: Operation::Set,
            value: Some("7".to_owned()),
        }]);
        let changes = vec![("t".to_owned(), change)];
        broker
            .controller
            .alter_topic_configs(changes, false)
            .await
            .remove(0)
            .unwrap();
        for index in 0..3 {
            assert_eq!(
                broker.registry.get("t", index).unwrap().config().retention_ms,
                Some(7)
            );
        }
        broker.create("u", 1).await.unwrap();
        broker.delete("u").await;
        assert!(broker.registry.get("u", 0).is_none());

        let broker = Broker::start(&files.crash(CrashMode::SyncedOnly));
        assert_eq!(broker.registry.count(), 3);
        assert_eq!(
            broker.registry.get("t", 2).unwrap().config().retention_ms,
            Some(7)
        );
    }

    #[tokio::test]
    async fn a_full_disk_leaves_no_half_a_topic() {
        let files = MemFileSystem::new();
        let broker = Broker::start(&files);
        let fault = FaultPlan::new().fail_from(FaultTarget::Create, 1, FaultKind::NoSpace);
        files.set_faults(fault.only_in("t-1"));
        assert!(matches!(
            broker.create("t", 3).await,
            Err(ControllerError::Storage(_))
        ));
        assert_eq!(broker.registry.count(), 0);
        files.set_faults(FaultPlan::new());
        assert!(broker.create("t", 3).await.is_ok());
        let names: Vec<String> = files
            .list(Path::new("/data"))
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert!(!names.iter().any(|name| name.ends_with("-stray")), "{names:?}");
        let broker = Broker::start(&files.crash(CrashMode::SyncedOnly));
        assert_eq!(broker.registry.count(), 3);
    }

    /// They would be strays at the next start, or stand beside what another attempt makes elsewhere.
    #[tokio::test]
    async fn partitions_that_could_not_all_be_added_leave_nothing() {
        let files = MemFileSystem::new();
        let broker = Broker::start(&files);
        broker.create("t", 1).await.unwrap();
        let more = || {
            vec![MorePartitions {
                topic: "t".to_owned(),
                partition_count: 3,
                assignments: None,
            }]
        };
        let fault = FaultPlan::new().fail_from(FaultTarget::Create, 1, FaultKind::NoSpace);
        files.set_faults(fault.only_in("t-2"));
        let refused = broker.controller.create_partitions(more(), false).await.remove(0);
        assert!(matches!(refused, Err(ControllerError::Storage(_))), "{refused:?}");
        let stand = |index: i32| {
            files
                .exists(&Path::new("/data").join(format!("t-{index}")))
                .unwrap()
        };
        assert_eq!((0..3).map(stand).collect::<Vec<_>>(), [true, false, false]);
        broker.registry.remove_deleted();
        let entries = files.list(Path::new("/data")).unwrap();
        assert!(
            entries.iter().all(|entry| !entry.name.ends_with("-delete")),
            "{entries:?}"
        );

        files.set_faults(FaultPlan::new());
        let added = broker.controller.create_partitions(more(), false).await.remove(0);
        added.unwrap();
        let broker = Broker::start(&files.crash(CrashMode::SyncedOnly));
        assert_eq!(broker.registry.count(), 3);
    }
}
