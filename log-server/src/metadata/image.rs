//! The state of the metadata: what replaying the records gives.
//!
//! Only [`MetadataImage::replay`] changes a field, live and at start alike. A published image is never changed; the
//! controller replays into a copy and publishes that.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use log_core::model::{ProducerId, TopicId};

use super::records::MetadataRecord;
use super::topic_name;
use crate::config::effective::{BrokerLayers, Overrides};
use crate::config::keys::BrokerConfig;

/// So many deleted topics are remembered, so that a directory that a crash left behind is known to be rubbish. An
/// older one is set aside instead of removed.
const DELETED_REMEMBERED: usize = 10_000;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// The identity of this life of the name.
    pub id: TopicId,
    /// Its partitions are 0 to this number, exclusive.
    pub partition_count: i32,
    /// What it sets itself, checked and canonical.
    pub configs: Overrides,
    /// Whether it belongs to the broker.
    pub is_internal: bool,
}

/// A record that contradicts those before it: the log is damaged or was written by something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The topic it is about does not exist.
    #[error("it is about topic id {0}, which does not exist")]
    NoSuchTopic(TopicId),
    /// The topic it creates exists.
    #[error("it creates topic {0}, whose name or id is taken")]
    TopicTaken(String),
    /// A number of partitions that cannot be.
    #[error("it gives topic {topic} {found} partitions after {before}")]
    PartitionCount {
        /// The topic.
        topic: Arc<str>,
        /// How many it had.
        before: i32,
        /// How many it would have.
        found: i32,
    },
    /// The cluster gets another id.
    #[error("it gives cluster {0} another id")]
    ClusterTaken(Arc<str>),
    /// Producer ids would be handed out again.
    #[error("it takes the next producer id from {before} back to {found}")]
    ProducerIdsReused {
        /// Where it was.
        before: ProducerId,
        /// Where it would be.
        found: i64,
    },
}

/// How many records of the log led to a state. Two states are the same whatever led to them.
#[derive(Debug, Clone, Copy, Default)]
struct Version(u64);

impl PartialEq for Version {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Version {}

/// Subscriptions to clients' metrics, by name. Whoever works with them sees by the pointer whether they are still the same.
pub type SubscriptionConfigs = Arc<BTreeMap<Arc<str>, Overrides>>;

/// Everything the metadata log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataImage {
    version: Version,
    cluster_id: Arc<str>,
    topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    names: HashMap<TopicId, Arc<str>>,
    /// From [`topic_name::folded`] names to the topics that have them.
    folded_names: HashMap<String, Arc<str>>,
    cluster_configs: Overrides,
    node_configs: BTreeMap<i32, Overrides>,
    group_configs: BTreeMap<Arc<str>, Overrides>,
    subscription_configs: SubscriptionConfigs,
    next_producer_id: ProducerId,
    deleted: VecDeque<TopicId>,
}

impl Default for MetadataImage {
    /// The state before the first record.
    fn default() -> Self {
        Self {
            version: Version::default(),
            cluster_id: Arc::from(""),
            topics: BTreeMap::new(),
            names: HashMap::new(),
            folded_names: HashMap::new(),
            cluster_configs: Overrides::new(),
            node_configs: BTreeMap::new(),
            group_configs: BTreeMap::new(),
            subscription_configs: SubscriptionConfigs::default(),
            next_producer_id: ProducerId::new(0),
            deleted: VecDeque::new(),
        }
    }
}

static NO_OVERRIDES: Overrides = Overrides::new();

impl MetadataImage {
    /// Grows with every record, and never falls, not even by a restart: the next offset of the metadata log.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.0
    }

    /// Says how many records of the log led to a state that did not come from replaying all of them.
    pub(super) fn set_version(&mut self, version: u64) {
        self.version = Version(version);
    }

    /// The cluster's id; empty before the first record.
    #[must_use]
    pub fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with that id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// All topics, by name.
    #[must_use]
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topics whose names come at or behind `name`: what a paged answer goes on with.
    pub fn topics_from<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        let from = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.topics.range::<str, _>(from).map(|(_, topic)| topic)
    }

    /// The topic whose name differs from this one at most in dots and underscores.
    #[must_use]
    pub fn topic_like(&self, name: &str) -> Option<&Arc<str>> {
        self.folded_names.get(&topic_name::folded(name))
    }

    /// Whether a topic with this id existed and was deleted not long ago.
    #[must_use]
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// Settings made for all brokers while they run.
    #[must_use]
    pub fn cluster_configs(&self) -> &Overrides {
        &self.cluster_configs
    }

    /// Settings made for one broker while it runs.
    #[must_use]
    pub fn node_configs(&self, node_id: i32) -> &Overrides {
        self.node_configs.get(&node_id).unwrap_or(&NO_OVERRIDES)
    }

    /// What a group sets itself.
    #[must_use]
    pub fn group_configs(&self, group: &str) -> &Overrides {
        self.group_configs.get(group).unwrap_or(&NO_OVERRIDES)
    }

    /// The groups that set something themselves, by name.
    pub fn configured_groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.group_configs.keys()
    }

    /// The subscriptions to clients' metrics.
    #[must_use]
    pub fn subscription_configs(&self) -> &SubscriptionConfigs {
        &self.subscription_configs
    }

    /// The settings of the broker that was started with `config`, those made while it runs included.
    #[must_use]
    pub fn layers<'a>(&'a self, config: &'a BrokerConfig) -> BrokerLayers<'a> {
        BrokerLayers {
            config,
            cluster: &self.cluster_configs,
            node: self.node_configs(config.node_id),
        }
    }

    /// The first producer id that no block contains.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Makes the change that `record` stands for.
    ///
    /// # Errors
    /// When it contradicts the state; then nothing changes.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::ClusterCreated { cluster_id } => {
                if !self.cluster_id.is_empty() {
                    return Err(ReplayError::ClusterTaken(Arc::clone(&self.cluster_id)));
                }
                self.cluster_id = Arc::from(cluster_id.as_str());
            }
            MetadataRecord::TopicCreated {
                name,
                topic_id,
                partition_count,
                configs,
            } => self.add_topic(TopicImage {
                name: Arc::from(name.as_str()),
                id: TopicId::from_bytes(*topic_id),
                partition_count: *partition_count,
                configs: configs.clone(),
                is_internal: topic_name::is_internal(name),
            })?,
            MetadataRecord::TopicDeleted { topic_id } => self.remove_topic(TopicId::from_bytes(*topic_id)),
            MetadataRecord::PartitionsAdded {
                topic_id,
                partition_count,
            } => self.set_partition_count(*topic_id, *partition_count, |before, after| before < after)?,
            MetadataRecord::PartitionsWithdrawn {
                topic_id,
                partition_count,
            } => self.set_partition_count(*topic_id, *partition_count, |before, after| after < before)?,
            MetadataRecord::TopicConfigSet { topic_id, configs } => {
                self.topic_mut(*topic_id)?.configs.clone_from(configs);
            }
            MetadataRecord::BrokerConfigSet {
                node_id: None,
                configs,
            } => {
                self.cluster_configs.clone_from(configs);
            }
            MetadataRecord::BrokerConfigSet {
                node_id: Some(node_id),
                configs,
            } => {
                self.node_configs.insert(*node_id, configs.clone());
            }
            MetadataRecord::GroupConfigSet { group, configs } if configs.is_empty() => {
                self.group_configs.remove(group.as_str());
            }
            MetadataRecord::GroupConfigSet { group, configs } => {
                self.group_configs.insert(group.as_str().into(), configs.clone());
            }
            MetadataRecord::SubscriptionConfigSet {
                subscription,
                configs,
            } => {
                let all = Arc::make_mut(&mut self.subscription_configs);
                if configs.is_empty() {
                    all.remove(subscription.as_str());
                } else {
                    all.insert(subscription.as_str().into(), configs.clone());
                }
            }
            MetadataRecord::ProducerIdBlock { next_producer_id } => {
                if *next_producer_id < self.next_producer_id.get() {
                    return Err(ReplayError::ProducerIdsReused {
                        before: self.next_producer_id,
                        found: *next_producer_id,
                    });
                }
                self.next_producer_id = ProducerId::new(*next_producer_id);
            }
        }
        self.version.0 += 1;
        Ok(())
    }

    /// Records that give this state when they are replayed into an empty one.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let deleted = self.deleted.iter().map(|id| MetadataRecord::TopicDeleted {
            topic_id: id.to_bytes(),
        });
        let topics = self.topics.values().map(|topic| MetadataRecord::TopicCreated {
            name: topic.name.to_string(),
            topic_id: topic.id.to_bytes(),
            partition_count: topic.partition_count,
            configs: topic.configs.clone(),
        });
        let nodes = self
            .node_configs
            .iter()
            .map(|(node_id, configs)| MetadataRecord::BrokerConfigSet {
                node_id: Some(*node_id),
                configs: configs.clone(),
            });
        let groups = self
            .group_configs
            .iter()
            .map(|(group, configs)| MetadataRecord::GroupConfigSet {
                group: group.to_string(),
                configs: configs.clone(),
            });
        let subscriptions = self.subscription_configs.iter().map(|(subscription, configs)| {
            MetadataRecord::SubscriptionConfigSet {
                subscription: subscription.to_string(),
                configs: configs.clone(),
            }
        });
        let mut records = vec![
            MetadataRecord::ClusterCreated {
                cluster_id: self.cluster_id.to_string(),
            },
            MetadataRecord::ProducerIdBlock {
                next_producer_id: self.next_producer_id.get(),
            },
            MetadataRecord::BrokerConfigSet {
                node_id: None,
                configs: self.cluster_configs.clone(),
            },
        ];
        records.extend(nodes);
        records.extend(groups);
        records.extend(subscriptions);
        records.extend(deleted);
        records.extend(topics);
        records
    }

    fn add_topic(&mut self, topic: TopicImage) -> Result<(), ReplayError> {
        if self.topics.contains_key(&topic.name) || self.names.contains_key(&topic.id) {
            return Err(ReplayError::TopicTaken(topic.name.to_string()));
        }
        if topic.partition_count < 1 {
            return Err(ReplayError::PartitionCount {
                topic: topic.name,
                before: 0,
                found: topic.partition_count,
            });
        }
        self.names.insert(topic.id, Arc::clone(&topic.name));
        self.folded_names
            .insert(topic_name::folded(&topic.name), Arc::clone(&topic.name));
        self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        Ok(())
    }

    /// A topic that is not there was deleted before a snapshot, which remembers it all the same.
    fn remove_topic(&mut self, id: TopicId) {
        if let Some(name) = self.names.remove(&id) {
            self.topics.remove(&name);
            let folded = topic_name::folded(&name);
            if self.folded_names.get(&folded) == Some(&name) {
                self.folded_names.remove(&folded);
            }
        }
        self.deleted.push_back(id);
        if DELETED_REMEMBERED < self.deleted.len() {
            self.deleted.pop_front();
        }
    }

    fn set_partition_count(
        &mut self,
        topic_id: [u8; 16],
        partition_count: i32,
        is_sound: impl Fn(i32, i32) -> bool,
    ) -> Result<(), ReplayError> {
        let topic = self.topic_mut(topic_id)?;
        if partition_count < 1 || !is_sound(topic.partition_count, partition_count) {
            return Err(ReplayError::PartitionCount {
                topic: Arc::clone(&topic.name),
                before: topic.partition_count,
                found: partition_count,
            });
        }
        topic.partition_count = partition_count;
        Ok(())
    }

    fn topic_mut(&mut self, topic_id: [u8; 16]) -> Result<&mut TopicImage, ReplayError> {
        let id = TopicId::from_bytes(topic_id);
        let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
        topic.map(Arc::make_mut).ok_or(ReplayError::NoSuchTopic(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(name: &str, id: u8, partition_count: i32) -> MetadataRecord {
        MetadataRecord::TopicCreated {
            name: name.to_owned(),
            topic_id: [id; 16],
            partition_count,
            configs: Overrides::from([("retention.ms".to_owned(), "7".to_owned())]),
        }
    }

    fn replayed(records: &[MetadataRecord]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for record in records {
            image.replay(record).unwrap();
        }
        image
    }

    fn history() -> Vec<MetadataRecord> {
        let configs = |value: &str| Overrides::from([("log.retention.ms".to_owned(), value.to_owned())]);
        vec![
            MetadataRecord::ClusterCreated {
                cluster_id: "c".to_owned(),
            },
            created("a.b", 1, 1),
            created("z", 2, 3),
            MetadataRecord::PartitionsAdded {
                topic_id: [1; 16],
                partition_count: 4,
            },
            MetadataRecord::TopicConfigSet {
                topic_id: [2; 16],
                configs: Overrides::new(),
            },
            MetadataRecord::TopicDeleted { topic_id: [1; 16] },
            created("a.b", 3, 2),
            MetadataRecord::PartitionsAdded {
                topic_id: [3; 16],
                partition_count: 9,
            },
            MetadataRecord::PartitionsWithdrawn {
                topic_id: [3; 16],
                partition_count: 2,
            },
            MetadataRecord::BrokerConfigSet {
                node_id: None,
                configs: configs("1"),
            },
            MetadataRecord::BrokerConfigSet {
                node_id: Some(1),
                configs: configs("2"),
            },
            MetadataRecord::GroupConfigSet {
                group: "g".to_owned(),
                configs: configs("3"),
            },
            MetadataRecord::SubscriptionConfigSet {
                subscription: "s".to_owned(),
                configs: configs("4"),
            },
            MetadataRecord::SubscriptionConfigSet {
                subscription: "gone".to_owned(),
                configs: configs("5"),
            },
            MetadataRecord::SubscriptionConfigSet {
                subscription: "gone".to_owned(),
                configs: Overrides::new(),
            },
            MetadataRecord::ProducerIdBlock {
                next_producer_id: 1000,
            },
        ]
    }

    #[test]
    fn state_is_what_the_records_say() {
        let image = replayed(&history());
        assert_eq!(&**image.cluster_id(), "c");
        let topic = image.topic("a.b").unwrap();
        assert_eq!(
            (topic.id, topic.partition_count),
            (TopicId::from_bytes([3; 16]), 2)
        );
        assert_eq!(image.topic_by_id(topic.id), Some(topic));
        assert_eq!(image.topic_by_id(TopicId::from_bytes([1; 16])), None);
        assert!(image.was_deleted(TopicId::from_bytes([1; 16])));
        assert!(!image.was_deleted(topic.id));
        assert_eq!(image.topic_like("a_b").map(|name| &**name), Some("a.b"));
        assert!(image.topic("z").unwrap().configs.is_empty());
        assert_eq!(image.topics_from("b").count(), 1);
        assert_eq!(image.next_producer_id(), ProducerId::new(1000));
        assert_eq!(image.node_configs(1)["log.retention.ms"], "2");
        assert!(image.node_configs(2).is_empty());
        let subscriptions: Vec<&str> = image.subscription_configs().keys().map(|name| &**name).collect();
        assert_eq!(subscriptions, ["s"]);
    }

    #[test]
    fn the_records_of_an_image_give_the_image() {
        let image = replayed(&history());
        assert_eq!(replayed(&image.to_records()), image);
    }

    #[test]
    fn contradictions_change_nothing() {
        let image = replayed(&history());
        for record in [
            MetadataRecord::ClusterCreated {
                cluster_id: "d".to_owned(),
            },
            created("z", 9, 1),
            created("y", 2, 1),
            created("y", 9, 0),
            MetadataRecord::PartitionsAdded {
                topic_id: [2; 16],
                partition_count: 3,
            },
            MetadataRecord::PartitionsAdded {
                topic_id: [9; 16],
                partition_count: 3,
            },
            MetadataRecord::PartitionsWithdrawn {
                topic_id: [2; 16],
                partition_count: 0,
            },
            MetadataRecord::PartitionsWithdrawn {
                topic_id: [2; 16],
                partition_count: 3,
            },
            MetadataRecord::TopicConfigSet {
                topic_id: [9; 16],
                configs: Overrides::new(),
            },
            MetadataRecord::ProducerIdBlock {
                next_producer_id: 999,
            },
        ] {
            let mut changed = image.clone();
            assert!(changed.replay(&record).is_err(), "{record:?}");
            assert_eq!(changed, image, "{record:?}");
        }
    }

    #[test]
    fn the_memory_of_deleted_topics_is_bounded() {
        let mut image = MetadataImage::default();
        for number in 0..=DELETED_REMEMBERED {
            let topic_id = (number as u128).to_be_bytes();
            image.replay(&MetadataRecord::TopicDeleted { topic_id }).unwrap();
        }
        assert!(!image.was_deleted(TopicId::ZERO));
        assert!(image.was_deleted(TopicId::from_bytes(1_u128.to_be_bytes())));
    }
}
