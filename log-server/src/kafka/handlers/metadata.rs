//! `Metadata`, versions 0 to 13: brokers, topics, partitions and their leaders.
//!
//! - Version 0: an empty list means all topics. From 1 on null means all, and an empty list none.
//! - Version 4 (KIP-204): the client may forbid that a topic it names is created; before, it may not.
//! - Version 7 (KIP-320): leader epochs. Version 8 (KIP-430): authorized operations, of the cluster up to 10.
//! - Version 10 (KIP-516): topic ids; from 12 on topics can be asked for by id, and then are not created.
//! - The broker is named by the address through which this client came, unless another is configured.
//! - Differs from Kafka: a topic that is created by the question is in the answer with its leaders, and
//!   a leader in an answer is one that takes records. Kafka answers `LEADER_NOT_AVAILABLE` first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use log_core::model::TopicId;
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::protocol::messages::{MetadataRequestData, MetadataResponseData};
use log_core::protocol::{ErrorCode, KafkaString, KafkaUuid};

use crate::kafka::error_map::controller_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{CLUSTER_OPERATIONS, NO_OPERATIONS, Services, TOPIC_OPERATIONS, kafka_string};
use crate::kafka::topic_view::{self, PartitionView};
use crate::metadata::error::ControllerError;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::plan::NewTopic;
use crate::metadata::topic_name::{self, TopicNameError};

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: MetadataRequestData,
) -> MetadataResponseData {
    let version = context.version();
    let asked = Asked::new(version, &request);
    let topics = match asked {
        Asked::Refused => return refusal(version, &request),
        Asked::All => {
            let image = services.controller.image();
            let topics = topic_view::topics_from(&image, "");
            topics.map(|topic| describe(services, topic)).collect()
        }
        Asked::ByName(names) => {
            let may_create = services.config.auto_create_topics_enable
                && (version < 4 || request.allow_auto_topic_creation);
            by_name(services, version, names, may_create).await
        }
        Asked::ById(ids) => by_id(services, &ids),
    };
    let mut response = MetadataResponseData {
        brokers: vec![broker(services, context)],
        cluster_id: Some(kafka_string(services.controller.image().cluster_id())),
        controller_id: services.config.node_id,
        topics,
        cluster_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseData::default()
    };
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    if 8 <= version && request.include_topic_authorized_operations {
        for topic in response.topics.iter_mut().filter(|topic| topic.name.is_some()) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    response
}

/// What a request wants.
enum Asked<'a> {
    All,
    /// Each once, in the order of the request.
    ByName(Vec<&'a str>),
    ById(Vec<TopicId>),
    /// A topic without name and id, or by an id in a version that has none.
    Refused,
}

impl<'a> Asked<'a> {
    fn new(version: i16, request: &'a MetadataRequestData) -> Self {
        let topics = match &request.topics {
            None => return Self::All,
            Some(topics) if topics.is_empty() && version == 0 => return Self::All,
            Some(topics) => topics,
        };
        let id_of = |topic: &MetadataRequestTopic| TopicId::from(topic.topic_id);
        let is_odd = |topic: &MetadataRequestTopic| topic.name.is_none() || id_of(topic) != TopicId::ZERO;
        let is_nothing = |topic: &MetadataRequestTopic| topic.name.is_none() && id_of(topic) == TopicId::ZERO;
        if topics.iter().any(|topic| {
            if version < 12 {
                is_odd(topic)
            } else {
                is_nothing(topic)
            }
        }) {
            return Self::Refused;
        }
        let ids = once(topics.iter().map(id_of).filter(|id| *id != TopicId::ZERO));
        if ids.is_empty() {
            let names = topics.iter().filter_map(|topic| topic.name.as_ref());
            Self::ByName(once(names.map(KafkaString::as_str)))
        } else {
            Self::ById(ids)
        }
    }
}

fn once<T: Copy + Eq + std::hash::Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(*item)).collect()
}

/// As Kafka refuses: without brokers, with the error at each topic, and at the top where the version has one.
fn refusal(version: i16, request: &MetadataRequestData) -> MetadataResponseData {
    let error_code = ErrorCode::InvalidRequest.code();
    let topics = request
        .topics
        .iter()
        .flatten()
        .map(|topic| MetadataResponseTopic {
            error_code,
            // Null is for version 12 and later only.
            name: Some(topic.name.clone().unwrap_or_default()),
            topic_id: topic.topic_id,
            topic_authorized_operations: NO_OPERATIONS,
            ..MetadataResponseTopic::default()
        });
    MetadataResponseData {
        error_code: if 13 <= version { error_code } else { 0 },
        topics: topics.collect(),
        cluster_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseData::default()
    }
}

fn broker(services: &Services, context: &RequestContext) -> MetadataResponseBroker {
    let endpoint = &context.connection.advertised;
    MetadataResponseBroker {
        node_id: services.config.node_id,
        host: kafka_string(&endpoint.host),
        port: i32::from(endpoint.port),
        ..MetadataResponseBroker::default()
    }
}

async fn by_name(
    services: &Services,
    version: i16,
    names: Vec<&str>,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let mut image = services.controller.image();
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| find(&image, name).is_none())
        .collect();
    let mut refused: HashMap<&str, ErrorCode> = HashMap::new();
    if may_create && !missing.is_empty() {
        refused = create(services, version, &missing).await;
        image = services.controller.image();
    }
    let answer = |name: &str| {
        if let Some(topic) = find(&image, name) {
            return describe(services, topic);
        }
        let refusal = refused.get(name).copied();
        let error = refusal.unwrap_or_else(|| unknown_name(name));
        missing_topic(name, error)
    };
    names.into_iter().map(answer).collect()
}

/// Creates topics with the broker's defaults; those that could not be, with the code for each.
async fn create<'a>(services: &Services, version: i16, names: &[&'a str]) -> HashMap<&'a str, ErrorCode> {
    let legal: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| topic_name::validate(name).is_ok())
        .collect();
    let topics = legal.iter().map(|name| NewTopic::named(*name)).collect();
    let results = services.controller.create_topics(topics, false).await;
    let mut refused = HashMap::new();
    for (name, result) in legal.into_iter().zip(results) {
        let error = match result {
            // Another client was quicker.
            Ok(_) | Err(ControllerError::TopicExists(_)) => continue,
            Err(error) => error,
        };
        let code = match controller_error(&error) {
            // Codes that a client does not expect from Metadata; it shall ask again.
            ErrorCode::KafkaStorageError | ErrorCode::NotController if version < 1 => {
                ErrorCode::LeaderNotAvailable
            }
            ErrorCode::KafkaStorageError | ErrorCode::NotController => ErrorCode::UnknownTopicOrPartition,
            code => code,
        };
        // One line for all of them: clients ask several times a second, and may ask for many.
        if refused.is_empty()
            && let Some(left_out) = services.lines.admit()
        {
            let topic = name;
            tracing::warn!(topic, %error, left_out, "a client asked for a topic that cannot be created");
        }
        refused.insert(name, code);
    }
    refused
}

fn by_id(services: &Services, ids: &[TopicId]) -> Vec<MetadataResponseTopic> {
    let image = services.controller.image();
    let answer = |id: &TopicId| match image.topic_by_id(*id) {
        Some(topic) => describe(services, topic),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicId.code(),
            name: None,
            topic_id: KafkaUuid::from(*id),
            topic_authorized_operations: NO_OPERATIONS,
            ..MetadataResponseTopic::default()
        },
    };
    ids.iter().map(answer).collect()
}

/// A topic that clients see.
fn find<'a>(image: &'a MetadataImage, name: &str) -> Option<&'a Arc<TopicImage>> {
    image.topic(name).filter(|_| name != topic_name::METADATA_TOPIC)
}

fn unknown_name(name: &str) -> ErrorCode {
    match topic_name::validate(name) {
        Ok(()) | Err(TopicNameError::Reserved) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

fn missing_topic(name: &str, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: error.code(),
        name: Some(kafka_string(name)),
        is_internal: topic_name::is_internal(name),
        topic_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseTopic::default()
    }
}

fn describe(services: &Services, topic: &TopicImage) -> MetadataResponseTopic {
    let node = services.config.node_id;
    let partition = |view: PartitionView| MetadataResponsePartition {
        error_code: match view.leader_epoch {
            Some(_) => ErrorCode::None.code(),
            None => ErrorCode::LeaderNotAvailable.code(),
        },
        partition_index: view.index,
        leader_id: view.leader_epoch.map_or(-1, |_| node),
        leader_epoch: view.leader_epoch.unwrap_or(-1),
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        offline_replicas: if view.is_offline { vec![node] } else { Vec::new() },
        ..MetadataResponsePartition::default()
    };
    MetadataResponseTopic {
        name: Some(kafka_string(&topic.name)),
        topic_id: KafkaUuid::from(topic.id),
        is_internal: topic.is_internal,
        partitions: topic_view::partitions(services, topic, 0)
            .map(partition)
            .collect(),
        topic_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseTopic::default()
    }
}
