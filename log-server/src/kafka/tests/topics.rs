//! Topics: seen, created by asking, created, enlarged, deleted, and described a page at a time.

use log_core::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use log_core::protocol::messages::delete_topics_request::DeleteTopicState;
use log_core::protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::messages::metadata_response::MetadataResponseTopic;
use log_core::protocol::messages::{
    CreatePartitionsRequestData, DeleteTopicsRequestData, DescribeClusterRequestData,
    DescribeLogDirsRequestData, DescribeTopicPartitionsRequestData, FindCoordinatorRequestData,
    InitProducerIdRequestData, MetadataRequestData, MetadataResponseData,
};

use super::*;

fn by_name(names: &[&str], allow_auto_topic_creation: bool) -> MetadataRequestData {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some(string(name)),
        ..MetadataRequestTopic::default()
    };
    MetadataRequestData {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation,
        ..MetadataRequestData::default()
    }
}

fn by_id(id: TopicId) -> MetadataRequestData {
    let mut request = by_name(&[""], true);
    let topic = &mut request.topics.as_mut().unwrap()[0];
    (topic.name, topic.topic_id) = (None, KafkaUuid::from(id));
    request
}

fn told(response: &MetadataResponseData) -> Vec<(&str, ErrorCode)> {
    let topic = |topic: &'_ MetadataResponseTopic| code(topic.error_code);
    response
        .topics
        .iter()
        .map(|one| (one.name.as_ref().map_or("", KafkaString::as_str), topic(one)))
        .collect()
}

#[tokio::test]
async fn every_version_shows_the_broker_and_its_topics() {
    let broker = Broker::start();
    let id = broker.create_topic("a", 2, &[]).await;
    let cluster_id = broker.services.controller.image().cluster_id().to_string();
    for version in 0..=13 {
        let response = broker.connect().call(version, by_name(&["a"], version < 4)).await;
        let node = &response.brokers[0];
        assert_eq!(
            (node.node_id, node.host.as_str(), node.port),
            (1, "127.0.0.1", 9092)
        );
        if 2 <= version {
            assert_eq!(response.cluster_id.as_ref().unwrap().as_str(), cluster_id);
        }
        if 1 <= version {
            assert_eq!(response.controller_id, 1);
        }
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 2));
        assert_eq!(
            TopicId::from(topic.topic_id),
            if 10 <= version { id } else { TopicId::ZERO }
        );
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!(
                (
                    partition.error_code,
                    partition.partition_index,
                    partition.leader_id
                ),
                (0, index, 1)
            );
            assert_eq!(
                (&partition.replica_nodes, &partition.isr_nodes),
                (&vec![1], &vec![1])
            );
            assert_eq!(partition.leader_epoch, if 7 <= version { 0 } else { -1 });
        }
    }
}

#[tokio::test]
async fn all_topics_are_asked_for_in_two_ways() {
    let broker = Broker::start();
    for name in ["b", "a"] {
        broker.create_topic(name, 1, &[]).await;
    }
    let none = || by_name(&[], true);
    let all = MetadataRequestData {
        topics: None,
        ..none()
    };
    let both = vec![("a", ErrorCode::None), ("b", ErrorCode::None)];
    assert_eq!(told(&broker.connect().call(0, none()).await), both);
    assert_eq!(told(&broker.connect().call(1, none()).await), vec![]);
    assert_eq!(told(&broker.connect().call(1, all.clone()).await), both);
    assert_eq!(
        told(&broker.connect().call(13, all).await),
        both,
        "the metadata log is not among them"
    );
}

#[tokio::test]
async fn a_topic_is_created_by_asking_if_both_sides_allow_it() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let response = client.call(12, by_name(&["new"], false)).await;
    assert_eq!(told(&response), [("new", unknown)]);
    let response = client
        .call(
            12,
            by_name(&["new", "bad name", "__cluster_metadata", "new"], true),
        )
        .await;
    let invalid = ErrorCode::InvalidTopicException;
    assert_eq!(
        told(&response),
        [
            ("new", ErrorCode::None),
            ("bad name", invalid),
            ("__cluster_metadata", unknown)
        ]
    );
    assert_eq!(response.topics[0].partitions[0].leader_id, 1);
    // A leader in an answer takes records at once.
    let row = client
        .produce(9, produce_request("new", 0, Some(batch(&["x"]))))
        .await;
    assert_eq!(row.error_code, 0);
    // Before version 4 the client cannot forbid it.
    let mut old = by_name(&["old"], true);
    old.allow_auto_topic_creation = true;
    assert_eq!(told(&client.call(1, old).await), [("old", ErrorCode::None)]);
    let response = client.call(12, by_name(&["__stratalog_metadata"], true)).await;
    assert_eq!(told(&response), [("__stratalog_metadata", unknown)]);

    let forbidding = Broker::start_with(BrokerConfig {
        auto_create_topics_enable: false,
        ..BrokerConfig::default()
    });
    let response = forbidding.connect().call(12, by_name(&["new"], true)).await;
    assert_eq!(told(&response), [("new", unknown)]);
}

#[tokio::test]
async fn topics_are_asked_for_by_id() {
    let broker = Broker::start();
    let id = broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    assert_eq!(told(&client.call(12, by_id(id)).await), [("a", ErrorCode::None)]);
    let response = client.call(12, by_id(TopicId::from_bytes([1; 16]))).await;
    assert_eq!(told(&response), [("", ErrorCode::UnknownTopicId)]);
    assert_eq!(response.topics[0].name, None);
    // Version 10 has the field and not the question.
    let mut request = by_id(id);
    request.topics.as_mut().unwrap()[0].name = Some(string("a"));
    let response = client.call(10, request).await;
    assert_eq!(
        (told(&response), response.brokers.len()),
        (vec![("a", ErrorCode::InvalidRequest)], 0)
    );
    let response = client.call(13, by_id(TopicId::ZERO)).await;
    assert_eq!(code(response.error_code), ErrorCode::InvalidRequest);
}

/// The bits that a real Kafka 4.3.0 broker without an authorizer answered.
#[tokio::test]
async fn authorized_operations_are_told_when_asked_for() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    for version in [9, 12] {
        for wanted in [false, true] {
            let request = MetadataRequestData {
                include_cluster_authorized_operations: wanted && version <= 10,
                include_topic_authorized_operations: wanted,
                ..by_name(&["a"], false)
            };
            let response = broker.connect().call(version, request).await;
            let topic = if wanted { 0x0df8 } else { i32::MIN };
            let cluster = if wanted && version <= 10 { 0x1fa0 } else { i32::MIN };
            assert_eq!(response.topics[0].topic_authorized_operations, topic);
            assert_eq!(response.cluster_authorized_operations, cluster);
        }
    }
    let request = DescribeClusterRequestData {
        include_cluster_authorized_operations: true,
        ..DescribeClusterRequestData::default()
    };
    let response = broker.connect().call(0, request).await;
    assert_eq!(
        (response.error_code, response.cluster_authorized_operations),
        (0, 0x1fa0)
    );
    assert_eq!((response.controller_id, response.brokers[0].broker_id), (1, 1));
}

#[tokio::test]
async fn a_broker_s_port_has_no_controllers() {
    let broker = Broker::start();
    for (endpoint_type, expected) in [
        (1, ErrorCode::None),
        (2, ErrorCode::MismatchedEndpointType),
        (7, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = DescribeClusterRequestData {
            endpoint_type,
            ..DescribeClusterRequestData::default()
        };
        let response = broker.connect().call(2, request).await;
        assert_eq!(code(response.error_code), expected);
    }
}

fn creation(names: &[(&str, i32, i16)], validate_only: bool) -> CreateTopicsRequestData {
    let topic = |(name, num_partitions, replication_factor): &(&str, i32, i16)| CreatableTopic {
        name: string(name),
        num_partitions: *num_partitions,
        replication_factor: *replication_factor,
        ..CreatableTopic::default()
    };
    CreateTopicsRequestData {
        topics: names.iter().map(topic).collect(),
        validate_only,
        ..CreateTopicsRequestData::default()
    }
}

#[tokio::test]
async fn topics_are_created_each_by_itself() {
    let broker = Broker::start();
    broker.create_topic("there", 1, &[]).await;
    let mut request = creation(
        &[
            ("a", 2, 1),
            ("defaults", -1, -1),
            ("there", 1, 1),
            ("none", 0, 1),
            ("three", 1, 3),
            ("zero", 1, 0),
            ("bad name", 1, 1),
            ("twice", 1, 1),
            ("twice", 1, 1),
            ("odd", 1, 1),
        ],
        false,
    );
    request
        .topics
        .last_mut()
        .unwrap()
        .configs
        .push(CreatableTopicConfig {
            name: string("no.such"),
            value: Some(string("x")),
            ..CreatableTopicConfig::default()
        });
    let response = broker.connect().call(7, request).await;
    let mut found: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), code(topic.error_code), topic.num_partitions))
        .collect();
    found.sort_unstable_by_key(|row| row.0);
    assert_eq!(
        found,
        [
            ("a", ErrorCode::None, 2),
            ("bad name", ErrorCode::InvalidTopicException, -1),
            ("defaults", ErrorCode::None, 1),
            ("none", ErrorCode::InvalidPartitions, -1),
            ("odd", ErrorCode::InvalidConfig, -1),
            ("there", ErrorCode::TopicAlreadyExists, -1),
            ("three", ErrorCode::InvalidReplicationFactor, -1),
            ("twice", ErrorCode::InvalidRequest, -1),
            ("zero", ErrorCode::InvalidReplicationFactor, -1),
        ]
    );
    for topic in &response.topics {
        assert_eq!(
            topic.error_message.is_some(),
            topic.error_code != 0,
            "{}",
            topic.name
        );
        let settings = topic.configs.as_ref().unwrap();
        assert_eq!(
            settings
                .iter()
                .any(|config| config.name.as_str() == "retention.ms"),
            topic.error_code == 0
        );
    }
}

#[tokio::test]
async fn validation_creates_nothing() {
    let broker = Broker::start();
    let response = broker.connect().call(7, creation(&[("a", 3, 1)], true)).await;
    assert_eq!(
        (response.topics[0].error_code, response.topics[0].num_partitions),
        (0, 3)
    );
    assert_eq!(TopicId::from(response.topics[0].topic_id), TopicId::ZERO);
    let response = broker.connect().call(12, by_name(&["a"], false)).await;
    assert_eq!(told(&response), [("a", ErrorCode::UnknownTopicOrPartition)]);
}

#[tokio::test]
async fn topics_are_enlarged() {
    let broker = Broker::start();
    broker.create_topic("a", 2, &[]).await;
    for (name, count, expected) in [
        ("a", 4, ErrorCode::None),
        ("a", 4, ErrorCode::InvalidPartitions),
        ("a", 3, ErrorCode::InvalidPartitions),
        ("nobody", 3, ErrorCode::UnknownTopicOrPartition),
    ] {
        let request = CreatePartitionsRequestData {
            topics: vec![CreatePartitionsTopic {
                name: string(name),
                count,
                ..CreatePartitionsTopic::default()
            }],
            ..CreatePartitionsRequestData::default()
        };
        let response = broker.connect().call(3, request).await;
        assert_eq!(
            code(response.results[0].error_code),
            expected,
            "{name} to {count}"
        );
    }
    let row = broker
        .connect()
        .produce(9, produce_request("a", 3, Some(batch(&["x"]))))
        .await;
    assert_eq!(row.error_code, 0);
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let broker = Broker::start();
    let a = broker.create_topic("a", 1, &[]).await;
    let b = broker.create_topic("b", 1, &[]).await;
    let state = |name: Option<&str>, id: TopicId| DeleteTopicState {
        name: name.map(string),
        topic_id: KafkaUuid::from(id),
        ..DeleteTopicState::default()
    };
    let unknown = TopicId::from_bytes([7; 16]);
    let request = DeleteTopicsRequestData {
        topics: vec![
            state(Some("a"), TopicId::ZERO),
            state(None, b),
            state(None, unknown),
            state(None, TopicId::ZERO),
            state(Some("b"), a),
            state(Some("nobody"), TopicId::ZERO),
        ],
        ..DeleteTopicsRequestData::default()
    };
    let response = broker.connect().call(6, request).await;
    let mut found: Vec<_> = response
        .responses
        .iter()
        .map(|row| {
            (
                code(row.error_code).code(),
                row.name.as_ref().map(ToString::to_string),
                TopicId::from(row.topic_id),
            )
        })
        .collect();
    found.sort();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        found,
        [
            (0, named("a"), a),
            (0, named("b"), b),
            (
                ErrorCode::UnknownTopicOrPartition.code(),
                named("nobody"),
                TopicId::ZERO
            ),
            (ErrorCode::InvalidRequest.code(), None, TopicId::ZERO),
            (ErrorCode::InvalidRequest.code(), named("b"), a),
            (ErrorCode::UnknownTopicId.code(), None, unknown),
        ]
    );
    broker.create_topic("c", 1, &[]).await;
    let request = DeleteTopicsRequestData {
        topic_names: ["c", "c"].map(string).into(),
        ..DeleteTopicsRequestData::default()
    };
    let response = broker.connect().call(5, request).await;
    let found: Vec<_> = response
        .responses
        .iter()
        .map(|row| code(row.error_code))
        .collect();
    assert_eq!(found, [ErrorCode::InvalidRequest]);
}

fn page(names: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequestData {
    let topic = |name: &&str| TopicRequest {
        name: string(name),
        ..TopicRequest::default()
    };
    DescribeTopicPartitionsRequestData {
        topics: names.iter().map(topic).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(name, partition_index)| {
            Box::new(Cursor {
                topic_name: string(name),
                partition_index,
                ..Cursor::default()
            })
        }),
        ..DescribeTopicPartitionsRequestData::default()
    }
}

/// The pages that a real Kafka 4.3.0 broker gave for the same questions.
#[tokio::test]
async fn partitions_are_described_a_page_at_a_time() {
    let broker = Broker::start();
    broker.create_topic("d1", 3, &[]).await;
    broker.create_topic("d2", 2, &[]).await;
    let both = &["d1", "d2"][..];
    for (request, expected, next) in [
        (
            page(both, 100, None),
            vec![("d1", vec![0, 1, 2]), ("d2", vec![0, 1])],
            None,
        ),
        (
            page(&[], 100, None),
            vec![("d1", vec![0, 1, 2]), ("d2", vec![0, 1])],
            None,
        ),
        (page(both, 2, None), vec![("d1", vec![0, 1])], Some(("d1", 2))),
        (page(both, 3, None), vec![("d1", vec![0, 1, 2])], Some(("d2", 0))),
        (page(both, 0, None), vec![("d1", vec![0])], Some(("d1", 1))),
        (
            page(both, 2, Some(("d1", 2))),
            vec![("d1", vec![2]), ("d2", vec![0])],
            Some(("d2", 1)),
        ),
        (
            page(both, 9, Some(("d1", 7))),
            vec![("d1", vec![]), ("d2", vec![0, 1])],
            None,
        ),
        (page(&[], 9, Some(("d2", 1))), vec![("d2", vec![1])], None),
    ] {
        let response = broker.connect().call(0, request.clone()).await;
        let found: Vec<(&str, Vec<i32>)> = response
            .topics
            .iter()
            .map(|topic| {
                let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
                (topic.name.as_ref().unwrap().as_str(), indexes.collect())
            })
            .collect();
        assert_eq!(found, expected, "{request:?}");
        let cursor = response
            .next_cursor
            .as_ref()
            .map(|cursor| (cursor.topic_name.as_str(), cursor.partition_index));
        assert_eq!(cursor, next);
    }
    for (request, expected) in [
        (page(&["nobody"], 9, None), ErrorCode::UnknownTopicOrPartition),
        (page(&["bad name"], 9, None), ErrorCode::InvalidTopicException),
        (page(&["d1"], 9, Some(("d2", 0))), ErrorCode::InvalidRequest),
        (page(&["d1"], 9, Some(("d1", -1))), ErrorCode::InvalidRequest),
    ] {
        let response = broker.connect().call(0, request).await;
        assert_eq!(code(response.topics[0].error_code), expected);
    }
}

#[tokio::test]
async fn every_coordinator_is_this_node() {
    let broker = Broker::start();
    for version in 0..=6 {
        for (key_type, expected) in [
            (0, ErrorCode::None),
            (1, ErrorCode::None),
            (
                2,
                if 6 <= version {
                    ErrorCode::None
                } else {
                    ErrorCode::InvalidRequest
                },
            ),
            (9, ErrorCode::InvalidRequest),
        ] {
            if version == 0 && key_type != 0 {
                continue;
            }
            let key = if key_type == 2 {
                "g:AAAAAAAAAAAAAAAAAAAAAQ:0"
            } else {
                "g"
            };
            let request = FindCoordinatorRequestData {
                key: string(if version < 4 { key } else { "" }),
                key_type,
                coordinator_keys: if version < 4 { vec![] } else { vec![string(key); 2] },
                ..FindCoordinatorRequestData::default()
            };
            let response = broker.connect().call(version, request).await;
            let (error, node, port) = match response.coordinators.first() {
                Some(first) => (first.error_code, first.node_id, first.port),
                None => (response.error_code, response.node_id, response.port),
            };
            let place = if expected == ErrorCode::None {
                (1, 9092)
            } else {
                (-1, -1)
            };
            assert_eq!(
                (code(error), (node, port)),
                (expected, place),
                "kind {key_type} in version {version}"
            );
            assert_eq!(response.coordinators.len(), if version < 4 { 0 } else { 2 });
        }
    }
}

#[tokio::test]
async fn producer_ids_are_given_out_once() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let ask = |producer_id, producer_epoch, transactional_id: Option<&str>| InitProducerIdRequestData {
        transactional_id: transactional_id.map(string),
        transaction_timeout_ms: 1000,
        producer_id,
        producer_epoch,
        ..InitProducerIdRequestData::default()
    };
    let mut seen = std::collections::HashSet::new();
    for version in 0..=5 {
        let response = client.call(version, ask(-1, -1, None)).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(0 <= response.producer_id && seen.insert(response.producer_id));
    }
    for (request, expected) in [
        (ask(5, 1, None), ErrorCode::None),
        (ask(5, -1, None), ErrorCode::InvalidRequest),
        (ask(-1, 1, None), ErrorCode::InvalidRequest),
        (ask(-1, -1, Some("")), ErrorCode::InvalidRequest),
        (ask(-1, -1, Some("id")), ErrorCode::None),
    ] {
        let response = client.call(4, request).await;
        assert_eq!(code(response.error_code), expected);
        assert_eq!(response.producer_id == -1, expected != ErrorCode::None);
    }
}

#[tokio::test]
async fn the_data_directory_is_described() {
    let broker = Broker::start();
    broker.create_topic("a", 2, &[]).await;
    broker.append("a", 1, &["x"]).await;
    let all = DescribeLogDirsRequestData {
        topics: None,
        ..DescribeLogDirsRequestData::default()
    };
    for version in 1..=5 {
        let response = broker.connect().call(version, all.clone()).await;
        let directory = &response.results[0];
        assert_eq!(
            (
                response.results.len(),
                directory.error_code,
                directory.topics.len()
            ),
            (1, 0, 1)
        );
        let sizes: Vec<_> = directory.topics[0]
            .partitions
            .iter()
            .map(|partition| (partition.partition_index, partition.partition_size))
            .collect();
        assert_eq!(sizes, [(0, 0), (1, i64::try_from(batch(&["x"]).len()).unwrap())]);
    }
}
