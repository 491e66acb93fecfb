//! The topics as commands about groups see them: one published state of the metadata, and the logs as they are now.
//! A command sees one state from its beginning to its end.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::config::group_keys::{ASSIGNMENT_INTERVAL, HEARTBEAT_INTERVAL, SESSION_TIMEOUT, number};
use crate::coordinator::group::context::{GroupOverrides, LogRange, TopicFacts, Topics};
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;

/// The topics of one state, and their logs.
#[derive(Debug, Clone)]
pub(super) struct ImageTopics {
    pub(super) image: Arc<MetadataImage>,
    pub(super) partitions: Arc<PartitionRegistry>,
}

impl Topics for ImageTopics {
    fn version(&self) -> u64 {
        self.image.version()
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        self.image.topic(name).map(|topic| facts(topic))
    }

    fn by_id(&self, id: TopicId) -> Option<TopicFacts> {
        self.image.topic_by_id(id).map(|topic| facts(topic))
    }

    fn names(&self) -> Vec<Arc<str>> {
        let topics = self.image.topics().filter(|topic| !topic.is_internal);
        topics.map(|topic| Arc::clone(&topic.name)).collect()
    }

    fn log_range(&self, topic: &str, partition: i32) -> Option<LogRange> {
        range_of(&self.partitions, topic, partition)
    }

    fn group_overrides(&self, group: &str) -> GroupOverrides {
        let configs = self.image.group_configs(group);
        GroupOverrides {
            consumer_session_timeout_ms: number(configs, SESSION_TIMEOUT),
            consumer_heartbeat_interval_ms: number(configs, HEARTBEAT_INTERVAL),
            consumer_assignment_interval_ms: number(configs, ASSIGNMENT_INTERVAL),
        }
    }
}

fn facts(topic: &TopicImage) -> TopicFacts {
    TopicFacts {
        name: Arc::clone(&topic.name),
        id: topic.id,
        partition_count: topic.partition_count,
    }
}

/// Where a partition begins and ends for readers, if it is there.
pub(super) fn range_of(partitions: &PartitionRegistry, topic: &str, partition: i32) -> Option<LogRange> {
    range(&*partitions.get(topic, partition)?)
}

/// The same of a partition at hand.
pub(super) fn range(partition: &Partition) -> Option<LogRange> {
    let condition = partition.condition();
    let offsets = condition.reader().ok()?.offsets();
    Some(LogRange {
        start: offsets.log_start,
        end: offsets.high_watermark,
    })
}
