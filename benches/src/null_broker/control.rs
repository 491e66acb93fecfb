//! What clients ask before they produce and fetch: versions, metadata, topics, offsets, settings.
//!
//! Each is asked once for a connection or a topic, so it goes through the codec.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{Bytes, BytesMut};
use log_core::protocol::messages::api_versions_response::ApiVersion;
use log_core::protocol::messages::create_topics_request::CreatableTopic;
use log_core::protocol::messages::create_topics_response::CreatableTopicResult;
use log_core::protocol::messages::delete_topics_response::DeletableTopicResult;
use log_core::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use log_core::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use log_core::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use log_core::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::protocol::messages::{
    ApiVersionsRequestData, ApiVersionsResponseData, CreateTopicsRequestData, CreateTopicsResponseData,
    DeleteTopicsRequestData, DeleteTopicsResponseData, DescribeClusterRequestData,
    DescribeClusterResponseData, DescribeConfigsRequestData, DescribeConfigsResponseData,
    InitProducerIdRequestData, InitProducerIdResponseData, ListOffsetsRequestData, ListOffsetsResponseData,
    MetadataRequestData, MetadataResponseData,
};
use log_core::protocol::{
    ApiKey, ErrorCode, KafkaString, Message, Request, RequestPrefix, read_body, read_request_header,
    write_response_header,
};

use super::topics::{Topic, Topics};
use super::{Sync, fetch, produce};

/// The only broker.
const NODE: i32 = 1;
const CLUSTER: &str = "null-broker";
/// Of a topic that a client asks for and nobody made.
const PARTITIONS: usize = 1;
const TIMESTAMP_EARLIEST: i64 = -2;

const VERSIONS: [(ApiKey, i16, i16); 10] = [
    (ApiKey::Produce, produce::VERSIONS.0, produce::VERSIONS.1),
    (ApiKey::Fetch, fetch::VERSIONS.0, fetch::VERSIONS.1),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 1, 12),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::DescribeCluster, 0, 1),
];

/// Whether the version is one of those that are told to clients.
pub(crate) fn is_served(api_key: i16, version: i16) -> bool {
    VERSIONS
        .iter()
        .any(|&(api, lowest, highest)| api as i16 == api_key && (lowest..=highest).contains(&version))
}

/// The answers that need more than the topics.
#[derive(Debug)]
pub(crate) struct Control {
    host: KafkaString,
    port: i32,
    producers: AtomicI64,
}

fn text(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

fn name_of(topic: &Topic) -> KafkaString {
    text(&String::from_utf8_lossy(&topic.name))
}

fn refused(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Control {
    pub(crate) fn new(address: std::net::SocketAddr) -> Self {
        Self {
            host: text(&address.ip().to_string()),
            port: i32::from(address.port()),
            producers: AtomicI64::new(1),
        }
    }

    /// Answers one request, or fails, which ends the connection.
    pub(crate) fn answer(&self, topics: &Topics, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut frame = Bytes::copy_from_slice(frame);
        let prefix = RequestPrefix::peek(&frame).ok_or_else(|| refused("a short frame"))?;
        let (key, version) = (prefix.api_key, prefix.api_version);
        if !is_served(key, version) {
            if key == ApiKey::ApiVersions as i16 {
                return write(out, prefix, 0, &versions(ErrorCode::UnsupportedVersion.code()));
            }
            return Err(refused(format!("API {key} in version {version} is not served")));
        }
        read_request_header(&mut frame, prefix).map_err(refused)?;
        let api = VERSIONS.iter().find(|(api, ..)| *api as i16 == key);
        match api.map(|(api, ..)| *api) {
            Some(ApiKey::ApiVersions) => respond(out, prefix, frame, |_: ApiVersionsRequestData| versions(0)),
            Some(ApiKey::Metadata) => respond(out, prefix, frame, |asked| self.metadata(topics, &asked)),
            Some(ApiKey::DescribeCluster) => {
                respond(out, prefix, frame, |_: DescribeClusterRequestData| self.cluster())
            }
            Some(ApiKey::CreateTopics) => respond(out, prefix, frame, |asked| create(topics, &asked)),
            Some(ApiKey::DeleteTopics) => respond(out, prefix, frame, |asked| delete(topics, asked)),
            Some(ApiKey::ListOffsets) => respond(out, prefix, frame, |asked| offsets(topics, asked)),
            Some(ApiKey::DescribeConfigs) => respond(out, prefix, frame, |asked| settings(topics, asked)),
            Some(ApiKey::InitProducerId) => respond(out, prefix, frame, |_: InitProducerIdRequestData| {
                InitProducerIdResponseData {
                    producer_id: self.producers.fetch_add(1, Ordering::Relaxed),
                    producer_epoch: 0,
                    ..InitProducerIdResponseData::default()
                }
            }),
            _ => Err(refused(format!("API {key} is not for here"))),
        }
    }

    fn metadata(&self, topics: &Topics, asked: &MetadataRequestData) -> MetadataResponseData {
        let rows = match &asked.topics {
            None => topics.all().iter().map(|topic| topic_row(topic)).collect(),
            Some(wanted) => wanted
                .iter()
                .map(|wanted| {
                    let topic = match &wanted.name {
                        Some(name) if asked.allow_auto_topic_creation => {
                            topics.create(name.as_bytes(), PARTITIONS, None).ok()
                        }
                        Some(name) => topics.named(name.as_bytes()),
                        None => {
                            let id = log_core::model::TopicId::from(wanted.topic_id);
                            topics.find(&id.to_bytes(), true)
                        }
                    };
                    topic.map_or_else(
                        || MetadataResponseTopic {
                            error_code: ErrorCode::UnknownTopicOrPartition.code(),
                            name: wanted.name.clone(),
                            topic_id: wanted.topic_id,
                            ..MetadataResponseTopic::default()
                        },
                        |topic| topic_row(&topic),
                    )
                })
                .collect(),
        };
        MetadataResponseData {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE,
                host: self.host.clone(),
                port: self.port,
                ..MetadataResponseBroker::default()
            }],
            cluster_id: Some(text(CLUSTER)),
            controller_id: NODE,
            topics: rows,
            ..MetadataResponseData::default()
        }
    }

    fn cluster(&self) -> DescribeClusterResponseData {
        DescribeClusterResponseData {
            cluster_id: text(CLUSTER),
            controller_id: NODE,
            brokers: vec![DescribeClusterBroker {
                broker_id: NODE,
                host: self.host.clone(),
                port: self.port,
                ..DescribeClusterBroker::default()
            }],
            ..DescribeClusterResponseData::default()
        }
    }
}

fn respond<R: Request>(
    out: &mut Vec<u8>,
    prefix: RequestPrefix,
    body: Bytes,
    answer: impl FnOnce(R) -> R::Response,
) -> io::Result<()> {
    let request = read_body::<R>(body, prefix.api_version).map_err(refused)?;
    write(out, prefix, prefix.api_version, &answer(request))
}

fn write(out: &mut Vec<u8>, prefix: RequestPrefix, version: i16, answer: &impl Message) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    write_response_header(&mut buffer, prefix.api_key, version, prefix.correlation_id).map_err(refused)?;
    answer.write_to(&mut buffer, version).map_err(refused)?;
    let length = u32::try_from(buffer.len()).map_err(refused)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&buffer);
    Ok(())
}

fn versions(error_code: i16) -> ApiVersionsResponseData {
    let rows = VERSIONS.iter().map(|&(api, lowest, highest)| ApiVersion {
        api_key: api as i16,
        min_version: lowest,
        max_version: highest,
        ..ApiVersion::default()
    });
    ApiVersionsResponseData {
        error_code,
        api_keys: rows.collect(),
        ..ApiVersionsResponseData::default()
    }
}

fn topic_row(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0_i32..)
        .zip(&topic.partitions)
        .map(|(index, _)| MetadataResponsePartition {
            partition_index: index,
            leader_id: NODE,
            leader_epoch: 0,
            replica_nodes: vec![NODE],
            isr_nodes: vec![NODE],
            ..MetadataResponsePartition::default()
        });
    MetadataResponseTopic {
        name: Some(name_of(topic)),
        topic_id: topic.id.into(),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}

fn create(topics: &Topics, asked: &CreateTopicsRequestData) -> CreateTopicsResponseData {
    let create = |wanted: &CreatableTopic| {
        let partitions = usize::try_from(wanted.num_partitions).unwrap_or(PARTITIONS);
        let segment_bytes = wanted
            .configs
            .iter()
            .find(|config| config.name.as_str() == "segment.bytes")
            .and_then(|config| config.value.as_ref()?.as_str().parse().ok());
        let mut row = CreatableTopicResult {
            name: wanted.name.clone(),
            num_partitions: wanted.num_partitions,
            replication_factor: 1,
            ..CreatableTopicResult::default()
        };
        if topics.named(wanted.name.as_bytes()).is_some() {
            row.error_code = ErrorCode::TopicAlreadyExists.code();
        } else if !asked.validate_only {
            match topics.create(wanted.name.as_bytes(), partitions, segment_bytes) {
                Ok(topic) => row.topic_id = topic.id.into(),
                Err(error) => {
                    row.error_code = ErrorCode::KafkaStorageError.code();
                    row.error_message = Some(text(&error.to_string()));
                }
            }
        }
        row
    };
    CreateTopicsResponseData {
        topics: asked.topics.iter().map(create).collect(),
        ..CreateTopicsResponseData::default()
    }
}

fn delete(topics: &Topics, asked: DeleteTopicsRequestData) -> DeleteTopicsResponseData {
    let by_name = asked.topic_names.into_iter().map(|name| {
        let topic = topics.named(name.as_bytes());
        (topic, Some(name), log_core::model::TopicId::from_bytes([0; 16]))
    });
    let by_state = asked.topics.into_iter().map(|state| {
        let id = log_core::model::TopicId::from(state.topic_id);
        let topic = match &state.name {
            Some(name) => topics.named(name.as_bytes()),
            None => topics.find(&id.to_bytes(), true),
        };
        (topic, state.name, id)
    });
    let rows = by_name.chain(by_state).map(|(topic, name, id)| match topic {
        Some(topic) => {
            topics.delete(&topic);
            DeletableTopicResult {
                name: Some(name_of(&topic)),
                topic_id: topic.id.into(),
                ..DeletableTopicResult::default()
            }
        }
        None => DeletableTopicResult {
            name,
            topic_id: id.into(),
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            ..DeletableTopicResult::default()
        },
    });
    DeleteTopicsResponseData {
        responses: rows.collect(),
        ..DeleteTopicsResponseData::default()
    }
}

/// The earliest offset is 0; any other time gives the latest.
fn offsets(topics: &Topics, asked: ListOffsetsRequestData) -> ListOffsetsResponseData {
    let rows = asked.topics.into_iter().map(|wanted| {
        let topic = topics.named(wanted.name.as_bytes());
        let partitions = wanted.partitions.iter().map(|row| {
            let partition = usize::try_from(row.partition_index)
                .ok()
                .and_then(|index| topic.as_ref()?.partitions.get(index));
            let (error_code, offset) = match partition {
                None => (ErrorCode::UnknownTopicOrPartition.code(), -1),
                Some(_) if row.timestamp == TIMESTAMP_EARLIEST => (0, 0),
                Some(partition) => (0, partition.high_watermark()),
            };
            ListOffsetsPartitionResponse {
                partition_index: row.partition_index,
                error_code,
                timestamp: -1,
                offset,
                leader_epoch: 0,
                ..ListOffsetsPartitionResponse::default()
            }
        });
        ListOffsetsTopicResponse {
            partitions: partitions.collect(),
            name: wanted.name.clone(),
            ..ListOffsetsTopicResponse::default()
        }
    });
    ListOffsetsResponseData {
        topics: rows.collect(),
        ..ListOffsetsResponseData::default()
    }
}

/// The one setting that a harness asks for: when records are acknowledged.
fn settings(topics: &Topics, asked: DescribeConfigsRequestData) -> DescribeConfigsResponseData {
    const STATIC_BROKER_CONFIG: i8 = 4;
    const LONG: i8 = 5;
    let flush_messages = match topics.settings().sync {
        Sync::Fdatasync => "1",
        Sync::None => "9223372036854775807",
    };
    let rows = asked.resources.into_iter().map(|resource| {
        const NAMES: [&str; 2] = ["flush.messages", "log.flush.interval.messages"];
        let of_topic = 2;
        let name = NAMES
            .get(usize::from(resource.resource_type != of_topic))
            .unwrap_or(&"");
        let is_asked = resource
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.iter().any(|key| key.as_str() == *name));
        let config = DescribeConfigsResourceResult {
            name: text(name),
            value: Some(text(flush_messages)),
            read_only: true,
            config_source: STATIC_BROKER_CONFIG,
            config_type: LONG,
            ..DescribeConfigsResourceResult::default()
        };
        DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: if is_asked { vec![config] } else { Vec::new() },
            ..DescribeConfigsResult::default()
        }
    });
    DescribeConfigsResponseData {
        results: rows.collect(),
        ..DescribeConfigsResponseData::default()
    }
}
