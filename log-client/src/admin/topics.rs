//! Creating, listing, describing, growing and deleting topics.
//! Names, settings and numbers are the broker's to judge: they are sent as they are, and a refusal comes back
//! with its reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::TopicId;
use log_core::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use log_core::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use log_core::protocol::messages::delete_topics_request::DeleteTopicState;
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::messages::{
    CreatePartitionsRequestData, CreateTopicsRequestData, DeleteTopicsRequestData, MetadataRequestData,
};
use log_core::protocol::{ApiKey, KafkaString};
use tokio::time::Instant;

use super::{Admin, in_order, timeout_ms};
use crate::error::{self, Result};
use crate::metadata::{ClusterMetadata, TopicMetadata};

/// A topic to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; none leaves it to the broker.
    pub partitions: Option<i32>,
    /// How many replicas of each; none leaves it to the broker.
    pub replication_factor: Option<i16>,
    /// Settings other than the defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The topic with this number of partitions.
    #[must_use]
    pub fn with_partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// The topic with one more setting.
    #[must_use]
    pub fn with_config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// A topic that was created, or could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; [`TopicId::ZERO`] when it was only validated.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// A topic in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// Whether it belongs to the broker's own workings.
    pub is_internal: bool,
    /// How many partitions it has.
    pub partitions: usize,
    /// How many replicas its first partition has.
    pub replication_factor: usize,
}

/// Validates without changing anything, or does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Make the change.
    Apply,
    /// Say whether the change could be made.
    ValidateOnly,
}

impl Admin {
    /// Creates topics, or only checks whether they could be created; one result each, in their order.
    ///
    /// # Errors
    /// When no answer was had at all.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        intent: Intent,
    ) -> Result<Vec<Result<CreatedTopic>>> {
        let rows: Vec<_> = topics.iter().map(creatable).collect();
        self.tell(
            |left| CreateTopicsRequestData {
                topics: rows.clone(),
                timeout_ms: timeout_ms(left),
                validate_only: intent == Intent::ValidateOnly,
                ..CreateTopicsRequestData::default()
            },
            |response| {
                let rows = response.topics.into_iter().map(|row| {
                    let name = row.name.to_string();
                    let message = row.error_message.as_ref().map(KafkaString::as_str);
                    let checked = error::check(ApiKey::CreateTopics, row.error_code, &name, message);
                    let created = CreatedTopic {
                        name: name.clone(),
                        id: row.topic_id.into(),
                        partitions: row.num_partitions,
                        replication_factor: row.replication_factor,
                    };
                    (name, checked.map(|()| created))
                });
                in_order(topics.iter().map(|topic| &topic.name), &rows.collect())
            },
        )
        .await
    }

    /// Deletes topics; one result each, in the order of the names.
    ///
    /// # Errors
    /// When no answer was had at all.
    pub async fn delete_topics(&self, names: &[&str]) -> Result<Vec<Result<()>>> {
        let texts: Vec<_> = names.iter().map(|name| text(name)).collect();
        let rows: Vec<_> = texts
            .iter()
            .map(|name| DeleteTopicState {
                name: Some(name.clone()),
                ..DeleteTopicState::default()
            })
            .collect();
        self.tell(
            |left| DeleteTopicsRequestData {
                // Version 6 names topics in rows, those before it in a list of names.
                topics: rows.clone(),
                topic_names: texts.clone(),
                timeout_ms: timeout_ms(left),
                ..DeleteTopicsRequestData::default()
            },
            |response| {
                let rows = response.responses.into_iter().map(|row| {
                    let name = row.name.map(|name| name.to_string()).unwrap_or_default();
                    let message = row.error_message.as_ref().map(KafkaString::as_str);
                    let checked = error::check(ApiKey::DeleteTopics, row.error_code, &name, message);
                    (name, checked)
                });
                in_order(names.iter(), &rows.collect())
            },
        )
        .await
    }

    /// Grows a topic to `count` partitions.
    ///
    /// # Errors
    /// What the broker says, such as `INVALID_PARTITIONS` for a count that is not larger.
    pub async fn create_partitions(&self, topic: &str, count: i32, intent: Intent) -> Result<()> {
        let row = CreatePartitionsTopic {
            name: text(topic),
            count,
            ..CreatePartitionsTopic::default()
        };
        self.tell(
            |left| CreatePartitionsRequestData {
                topics: vec![row.clone()],
                timeout_ms: timeout_ms(left),
                validate_only: intent == Intent::ValidateOnly,
                ..CreatePartitionsRequestData::default()
            },
            |response| {
                response.results.iter().try_for_each(|row| {
                    let message = row.error_message.as_ref().map(KafkaString::as_str);
                    error::check(ApiKey::CreatePartitions, row.error_code, topic, message)
                })
            },
        )
        .await
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// When no answer was had.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let metadata = self.metadata_of(None).await?;
        let mut listings: Vec<_> = metadata
            .topics
            .values()
            .map(|topic| TopicListing {
                name: Arc::clone(&topic.name),
                id: topic.id,
                is_internal: topic.is_internal,
                partitions: topic.partitions.len(),
                replication_factor: topic.partitions.first().map_or(0, |first| first.replicas.len()),
            })
            .collect();
        listings.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(listings)
    }

    /// Topics with their partitions, leaders and replicas; one result each, in the order of the names.
    ///
    /// # Errors
    /// When no answer was had at all.
    pub async fn describe_topics(&self, names: &[&str]) -> Result<Vec<Result<Arc<TopicMetadata>>>> {
        let metadata = self.metadata_of(Some(names)).await?;
        Ok(names.iter().map(|name| metadata.topic(name).cloned()).collect())
    }

    /// Metadata of the named topics, or of all, without creating any.
    async fn metadata_of(&self, names: Option<&[&str]>) -> Result<ClusterMetadata> {
        let topics = names.map(|names| {
            let rows = names.iter().map(|name| MetadataRequestTopic {
                name: Some(text(name)),
                ..MetadataRequestTopic::default()
            });
            rows.collect()
        });
        let request = MetadataRequestData {
            topics,
            allow_auto_topic_creation: false,
            ..MetadataRequestData::default()
        };
        self.ask(
            |_| request.clone(),
            |response| Ok(ClusterMetadata::empty().merged(&response, Instant::now())),
        )
        .await
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    CreatableTopic {
        name: text(&topic.name),
        num_partitions: topic.partitions.unwrap_or(-1),
        replication_factor: topic.replication_factor.unwrap_or(-1),
        configs: topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: text(name),
                value: Some(text(value)),
                ..CreatableTopicConfig::default()
            })
            .collect(),
        ..CreatableTopic::default()
    }
}

fn text(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}
