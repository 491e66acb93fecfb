//! Requests, checked against the state: each gives the record that carries it out, or the reason why not.
//!
//! Nothing here changes anything or touches the disk; the controller replays the records once they are durable.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use log_core::model::TopicId;

use super::error::ControllerError;
use super::image::{MetadataImage, TopicImage};
use super::records::MetadataRecord;
use super::topic_name;
use crate::config::alter::{Alteration, creation_overrides};
use crate::config::client_metrics::alter_subscription;
use crate::config::effective::{BrokerLayers, Overrides};
use crate::config::keys::BrokerConfig;

/// One request makes at most so many partitions: Kafka's limit, which keeps a slip of the hand from making a million.
pub const PARTITIONS_PER_REQUEST_MAX: i32 = 10_000;
/// So many producer ids are set aside at a time, as in Kafka.
pub const PRODUCER_ID_BLOCK: usize = 1000;

/// Subscriptions to clients' metrics, at most: each is compiled, and looked through for each client.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 takes the broker's default.
    pub partition_count: i32,
    /// How many replicas of each; -1 takes the broker's default.
    pub replication_factor: i16,
    /// Which nodes hold which partition, instead of the two numbers.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// What it sets itself.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partition_count: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

/// A topic that gets more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MorePartitions {
    /// Its name.
    pub topic: String,
    /// How many it is to have.
    pub partition_count: i32,
    /// Which nodes hold each of the new ones.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// A topic, by what the client knows of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicSelector {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// Whose settings are changed while they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerScope {
    /// All brokers.
    Cluster,
    /// One.
    Node(i32),
}

/// One thing that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Create a topic.
    CreateTopic(NewTopic),
    /// Delete a topic.
    DeleteTopic(TopicSelector),
    /// Add partitions.
    AddPartitions(MorePartitions),
    /// Change what a topic sets itself.
    AlterTopic(String, Alteration),
    /// Change settings while brokers run.
    AlterBroker(BrokerScope, Alteration),
    /// Change what a group sets itself.
    AlterGroup(String, Alteration),
    /// Change what a subscription to clients' metrics says.
    AlterSubscription(String, Alteration),
    /// A producer id; the controller plans those of all requests together, by [`plan_producer_ids`].
    ProducerId,
}

/// Plans the items of one request, one behind the other.
#[derive(Debug)]
pub struct Planner<'a> {
    config: &'a BrokerConfig,
    random: &'a mut fastrand::Rng,
    partitions_left: i32,
    repeated: BTreeSet<Subject>,
}

impl<'a> Planner<'a> {
    /// For one request with these items: who names a topic or broker twice is told so, for both.
    pub fn new(config: &'a BrokerConfig, random: &'a mut fastrand::Rng, items: &[Item]) -> Self {
        let mut seen = BTreeSet::new();
        let mut repeated = BTreeSet::new();
        for subject in items.iter().filter_map(subject) {
            if !seen.insert(subject.clone()) {
                repeated.insert(subject);
            }
        }
        Self {
            config,
            random,
            partitions_left: PARTITIONS_PER_REQUEST_MAX,
            repeated,
        }
    }

    /// The record that carries `item` out, given that `image` is the state; `None` when there is nothing to change.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn plan(
        &mut self,
        image: &MetadataImage,
        item: &Item,
    ) -> Result<Option<MetadataRecord>, ControllerError> {
        if subject(item).is_some_and(|subject| self.repeated.contains(&subject)) {
            return Err(ControllerError::InvalidRequest(
                "the request names it twice".to_owned(),
            ));
        }
        match item {
            Item::CreateTopic(topic) => self.create_topic(image, topic).map(Some),
            Item::DeleteTopic(selector) => self.delete_topic(image, selector).map(Some),
            Item::AddPartitions(more) => self.add_partitions(image, more).map(Some),
            Item::AlterTopic(name, alteration) => self.alter_topic(image, name, alteration),
            Item::AlterBroker(scope, alteration) => self.alter_broker(image, *scope, alteration),
            Item::AlterGroup(group, alteration) => self.alter_group(image, group, alteration),
            Item::AlterSubscription(name, alteration) => alter_one_subscription(image, name, alteration),
            Item::ProducerId => Ok(None),
        }
    }

    fn create_topic(
        &mut self,
        image: &MetadataImage,
        topic: &NewTopic,
    ) -> Result<MetadataRecord, ControllerError> {
        let NewTopic { name, configs, .. } = topic;
        topic_name::validate(name).map_err(|error| ControllerError::InvalidTopic(error.to_string()))?;
        if image.topic(name).is_some() {
            return Err(ControllerError::TopicExists(name.clone()));
        }
        if let Some(other) = image.topic_like(name) {
            return Err(ControllerError::InvalidTopic(format!(
                "topic {name} would be confused with topic {other}: dots and underscores count as the same"
            )));
        }
        let overrides = creation_overrides(image.layers(self.config), configs)
            // Whatever is wrong with a config here, Kafka answers INVALID_CONFIG.
            .map_err(|error| ControllerError::InvalidConfig(error.to_string()))?;
        let partition_count = if topic.assignments.is_empty() {
            self.counted(topic)?
        } else {
            self.assigned(topic)?
        };
        self.take_partitions(partition_count)?;
        Ok(MetadataRecord::TopicCreated {
            name: name.clone(),
            topic_id: self.new_topic_id(image).to_bytes(),
            partition_count,
            configs: overrides,
        })
    }

    fn counted(&self, topic: &NewTopic) -> Result<i32, ControllerError> {
        match topic.replication_factor {
            -1 | 1 => {}
            factor if factor < 1 => {
                return Err(ControllerError::InvalidReplicationFactor(
                    "the replication factor must be 1 or more, or -1 for the default".to_owned(),
                ));
            }
            factor => {
                return Err(ControllerError::InvalidReplicationFactor(format!(
                    "a replication factor of {factor} needs as many brokers, and there is one"
                )));
            }
        }
        match topic.partition_count {
            -1 => Ok(self.config.num_partitions),
            count if count < 1 => Err(ControllerError::InvalidPartitions(
                "a topic has 1 partition or more, or -1 for the default".to_owned(),
            )),
            count => Ok(count),
        }
    }

    fn assigned(&self, topic: &NewTopic) -> Result<i32, ControllerError> {
        if topic.replication_factor != -1 || topic.partition_count != -1 {
            return Err(ControllerError::InvalidRequest(
                "with an assignment, the number of partitions and the replication factor must be -1"
                    .to_owned(),
            ));
        }
        let mut indexes: Vec<i32> = Vec::with_capacity(topic.assignments.len());
        for (index, nodes) in &topic.assignments {
            self.check_assignment(nodes)?;
            indexes.push(*index);
        }
        indexes.sort_unstable();
        let is_row = (0_i32..)
            .zip(&indexes)
            .all(|(expected, index)| expected == *index);
        match i32::try_from(indexes.len()) {
            Ok(count) if is_row => Ok(count),
            _ => Err(ControllerError::InvalidReplicaAssignment(
                "the assigned partitions must be numbered from 0 on, each once".to_owned(),
            )),
        }
    }

    fn check_assignment(&self, nodes: &[i32]) -> Result<(), ControllerError> {
        let own = self.config.node_id;
        match nodes {
            [node] if *node == own => Ok(()),
            [] => Err(ControllerError::InvalidReplicaAssignment(
                "an assignment names no broker".to_owned(),
            )),
            nodes => Err(ControllerError::InvalidReplicaAssignment(
                match nodes.iter().find(|node| **node != own) {
                    Some(other) => {
                        format!("an assignment names broker {other}, and there is only broker {own}")
                    }
                    None => format!("an assignment names broker {own} more than once"),
                },
            )),
        }
    }

    fn take_partitions(&mut self, count: i32) -> Result<(), ControllerError> {
        if self.partitions_left < count {
            return Err(ControllerError::PolicyViolation(format!(
                "one request makes at most {PARTITIONS_PER_REQUEST_MAX} partitions"
            )));
        }
        self.partitions_left = self.partitions_left.saturating_sub(count);
        Ok(())
    }

    /// A random (version 4) id that no topic has or had. Not one that begins with a dash, which command lines would take for
    /// a flag; the ids 0 and 1, which Kafka reserves, are not of version 4.
    pub(super) fn new_topic_id(&mut self, image: &MetadataImage) -> TopicId {
        loop {
            let id = random_id(self.random);
            let is_taken = image.topic_by_id(id).is_some() || image.was_deleted(id);
            if !is_taken && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    fn delete_topic(
        &self,
        image: &MetadataImage,
        selector: &TopicSelector,
    ) -> Result<MetadataRecord, ControllerError> {
        let topic = match selector {
            TopicSelector::Name(name) => find(image, name)?,
            TopicSelector::Id(id) => image
                .topic_by_id(*id)
                .ok_or(ControllerError::UnknownTopicId(*id))?,
        };
        if !self.config.delete_topic_enable {
            return Err(ControllerError::TopicDeletionDisabled);
        }
        if topic.is_internal {
            return Err(ControllerError::InvalidTopic(format!(
                "topic {} is the broker's own and cannot be deleted",
                topic.name
            )));
        }
        Ok(MetadataRecord::TopicDeleted {
            topic_id: topic.id.to_bytes(),
        })
    }

    fn add_partitions(
        &mut self,
        image: &MetadataImage,
        more: &MorePartitions,
    ) -> Result<MetadataRecord, ControllerError> {
        let topic = find(image, &more.topic)?;
        if topic.is_internal {
            return Err(ControllerError::InvalidTopic(format!(
                "topic {} is the broker's own, and by its number of partitions it finds what stands in which",
                topic.name
            )));
        }
        let (before, after) = (topic.partition_count, more.partition_count);
        if after <= before {
            return Err(ControllerError::InvalidPartitions(format!(
                "topic {} has {before} partitions, and {after} are not more",
                topic.name
            )));
        }
        let added = after.saturating_sub(before);
        if let Some(assignments) = &more.assignments {
            if usize::try_from(added) != Ok(assignments.len()) {
                return Err(ControllerError::InvalidReplicaAssignment(format!(
                    "{added} partitions are to be added, and {} are assigned",
                    assignments.len()
                )));
            }
            assignments
                .iter()
                .try_for_each(|nodes| self.check_assignment(nodes))?;
        }
        self.take_partitions(added)?;
        Ok(MetadataRecord::PartitionsAdded {
            topic_id: topic.id.to_bytes(),
            partition_count: after,
        })
    }

    fn alter_topic(
        &self,
        image: &MetadataImage,
        name: &str,
        alteration: &Alteration,
    ) -> Result<Option<MetadataRecord>, ControllerError> {
        let topic = find(image, name)?;
        let configs = image
            .layers(self.config)
            .alter_topic(&topic.configs, alteration)
            .map_err(|error| ControllerError::from_alteration(&error))?;
        Ok(
            (configs != topic.configs).then(|| MetadataRecord::TopicConfigSet {
                topic_id: topic.id.to_bytes(),
                configs,
            }),
        )
    }

    fn alter_broker(
        &self,
        image: &MetadataImage,
        scope: BrokerScope,
        alteration: &Alteration,
    ) -> Result<Option<MetadataRecord>, ControllerError> {
        let (node_id, current) = match scope {
            BrokerScope::Cluster => (None, image.cluster_configs()),
            BrokerScope::Node(node_id) if node_id == self.config.node_id => {
                (Some(node_id), image.node_configs(node_id))
            }
            BrokerScope::Node(node_id) => {
                return Err(ControllerError::InvalidRequest(format!(
                    "there is no broker {node_id}; this is broker {}",
                    self.config.node_id
                )));
            }
        };
        let configs = image
            .layers(self.config)
            .alter_broker(current, alteration)
            .map_err(|error| ControllerError::from_alteration(&error))?;
        self.check_topics_under(image, node_id, &configs)?;
        Ok((configs != *current).then_some(MetadataRecord::BrokerConfigSet { node_id, configs }))
    }

    fn alter_group(
        &self,
        image: &MetadataImage,
        group: &str,
        alteration: &Alteration,
    ) -> Result<Option<MetadataRecord>, ControllerError> {
        let current = image.group_configs(group);
        let configs = image
            .layers(self.config)
            .alter_group(current, alteration)
            .map_err(|error| ControllerError::from_alteration(&error))?;
        Ok((configs != *current).then(|| MetadataRecord::GroupConfigSet {
            group: group.to_owned(),
            configs,
        }))
    }

    /// A new default must not contradict what a topic sets itself.
    fn check_topics_under(
        &self,
        image: &MetadataImage,
        node_id: Option<i32>,
        configs: &Overrides,
    ) -> Result<(), ControllerError> {
        let present = image.layers(self.config);
        let layers = match node_id {
            None => BrokerLayers {
                cluster: configs,
                ..present
            },
            Some(_) => BrokerLayers {
                node: configs,
                ..present
            },
        };
        let none = Overrides::new();
        layers
            .check_topic(&none)
            .map_err(|error| ControllerError::InvalidConfig(error.to_string()))?;
        for topic in image.topics() {
            layers.check_topic(&topic.configs).map_err(|error| {
                ControllerError::InvalidConfig(format!(
                    "topic {} would contradict itself: {error}",
                    topic.name
                ))
            })?;
        }
        Ok(())
    }
}

/// What an item is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Topic(TopicSelector),
    Broker(BrokerScope),
    Group(String),
    Subscription(String),
}

fn subject(item: &Item) -> Option<Subject> {
    let named = |name: &String| Some(Subject::Topic(TopicSelector::Name(name.clone())));
    match item {
        Item::CreateTopic(topic) => named(&topic.name),
        Item::DeleteTopic(selector) => Some(Subject::Topic(selector.clone())),
        Item::AddPartitions(more) => named(&more.topic),
        Item::AlterTopic(name, _) => named(name),
        Item::AlterBroker(scope, _) => Some(Subject::Broker(*scope)),
        Item::AlterGroup(group, _) => Some(Subject::Group(group.clone())),
        Item::AlterSubscription(name, _) => Some(Subject::Subscription(name.clone())),
        Item::ProducerId => None,
    }
}

/// No setting of the broker is behind those of a subscription.
fn alter_one_subscription(
    image: &MetadataImage,
    name: &str,
    alteration: &Alteration,
) -> Result<Option<MetadataRecord>, ControllerError> {
    let none = Overrides::new();
    let current = image.subscription_configs().get(name).unwrap_or(&none);
    let configs =
        alter_subscription(current, alteration).map_err(|error| ControllerError::from_alteration(&error))?;
    let is_one_more = current.is_empty() && !configs.is_empty();
    if is_one_more && SUBSCRIPTIONS_MAX <= image.subscription_configs().len() {
        return Err(ControllerError::InvalidRequest(format!(
            "there are {SUBSCRIPTIONS_MAX} subscriptions already"
        )));
    }
    Ok(
        (configs != *current).then(|| MetadataRecord::SubscriptionConfigSet {
            subscription: name.to_owned(),
            configs,
        }),
    )
}

fn find<'a>(image: &'a MetadataImage, name: &str) -> Result<&'a Arc<TopicImage>, ControllerError> {
    image
        .topic(name)
        .ok_or_else(|| ControllerError::UnknownTopic(name.to_owned()))
}

/// So many producer ids or more that nobody had, in whole blocks, and the record that notes them as used.
///
/// # Errors
/// When there are not so many left.
pub fn plan_producer_ids(
    image: &MetadataImage,
    count: usize,
) -> Result<(Range<i64>, MetadataRecord), ControllerError> {
    let first = image.next_producer_id().get();
    let blocks = count.div_ceil(PRODUCER_ID_BLOCK);
    let end = i64::try_from(blocks.saturating_mul(PRODUCER_ID_BLOCK))
        .ok()
        .and_then(|count| first.checked_add(count))
        .ok_or_else(|| ControllerError::InvalidRequest("all producer ids are used up".to_owned()))?;
    let record = MetadataRecord::ProducerIdBlock {
        next_producer_id: end,
    };
    Ok((first..end, record))
}

/// A random id of version 4 (RFC 9562).
pub(crate) fn random_id(random: &mut fastrand::Rng) -> TopicId {
    let mut number = random.u128(..);
    number &= !(0xf_u128 << 76 | 0b11_u128 << 62);
    number |= 0x4_u128 << 76 | 0b10_u128 << 62;
    TopicId::from_bytes(number.to_be_bytes())
}
