//! The topics as commands about groups see them: one published state of the metadata.
//! A command sees one state from its beginning to its end.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::context::{TopicFacts, Topics};
use crate::metadata::image::{MetadataImage, TopicImage};

/// The topics of one state.
#[derive(Debug, Clone)]
pub(super) struct ImageTopics(pub(super) Arc<MetadataImage>);

impl Topics for ImageTopics {
    fn version(&self) -> u64 {
        self.0.version()
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        self.0.topic(name).map(|topic| facts(topic))
    }

    fn by_id(&self, id: TopicId) -> Option<TopicFacts> {
        self.0.topic_by_id(id).map(|topic| facts(topic))
    }

    fn names(&self) -> Vec<Arc<str>> {
        let topics = self.0.topics().filter(|topic| !topic.is_internal);
        topics.map(|topic| Arc::clone(&topic.name)).collect()
    }
}

fn facts(topic: &TopicImage) -> TopicFacts {
    TopicFacts {
        name: Arc::clone(&topic.name),
        id: topic.id,
        partition_count: topic.partition_count,
    }
}
