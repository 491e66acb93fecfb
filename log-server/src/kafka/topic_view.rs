//! How `Metadata` and `DescribeTopicPartitions` see a topic's partitions: which have a leader, and in which epoch.
//!
//! A partition names a leader only when a Produce to it works: it is in the registry and its log is open.

use crate::kafka::services::Services;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::partition::partition::Condition;

use std::sync::Arc;

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionView {
    /// Which.
    pub(crate) index: i32,
    /// The leader's epoch; `None` when nobody leads.
    pub(crate) leader_epoch: Option<i32>,
    /// Whether its only replica cannot be read.
    pub(crate) is_offline: bool,
}

/// The partitions of a topic, from the one at `first` on.
pub(crate) fn partitions<'a>(
    services: &'a Services,
    topic: &'a TopicImage,
    first: i32,
) -> impl Iterator<Item = PartitionView> + 'a {
    (first..topic.partition_count).map(|index| {
        let partition = services.partitions.get_by_id(topic.id, index);
        let condition = partition.as_ref().map(|partition| partition.condition());
        let (serves, is_offline) = match condition.as_deref() {
            Some(Condition::Online(_) | Condition::Latched { .. }) => (true, false),
            Some(Condition::Offline { .. }) => (false, true),
            // Between the topic's record and its files, or between its deletion and the image.
            Some(Condition::Closed(_)) | None => (false, false),
        };
        let epoch = partition
            .filter(|_| serves)
            .map(|partition| partition.leader_epoch().get());
        PartitionView {
            index,
            leader_epoch: epoch,
            is_offline,
        }
    })
}

/// The topics that clients see, by name, from `name` on.
pub(crate) fn topics_from<'a>(
    image: &'a MetadataImage,
    name: &'a str,
) -> impl Iterator<Item = &'a Arc<TopicImage>> {
    image
        .topics_from(name)
        .filter(|topic| *topic.name != *METADATA_TOPIC)
}
