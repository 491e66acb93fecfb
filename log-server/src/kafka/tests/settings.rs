//! Settings: described with their sources, altered one at a time or all at once.

use log_core::protocol::messages::describe_configs_request::DescribeConfigsResource;
use log_core::protocol::messages::describe_configs_response::DescribeConfigsResult;
use log_core::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use log_core::protocol::messages::{
    AlterConfigsRequestData, DescribeConfigsRequestData, IncrementalAlterConfigsRequestData,
    alter_configs_request,
};

use super::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

async fn describe(broker: &Broker, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let request = DescribeConfigsRequestData {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: string(name),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| string(key)).collect()),
            ..DescribeConfigsResource::default()
        }],
        include_synonyms: true,
        include_documentation: true,
        ..DescribeConfigsRequestData::default()
    };
    broker.connect().call(4, request).await.results.remove(0)
}

async fn alter(broker: &Broker, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> ErrorCode {
    let change = |(name, operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: string(name),
        config_operation: *operation,
        value: value.map(string),
        ..AlterableConfig::default()
    };
    let request = IncrementalAlterConfigsRequestData {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: string(name),
            configs: changes.iter().map(change).collect(),
            ..AlterConfigsResource::default()
        }],
        ..IncrementalAlterConfigsRequestData::default()
    };
    let response = broker.connect().call(1, request).await;
    let row = &response.responses[0];
    assert_eq!(row.error_message.is_some(), row.error_code != 0);
    code(row.error_code)
}

#[tokio::test]
async fn settings_are_described_with_source_type_and_synonyms() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[("retention.ms", "5")]).await;
    let described = describe(&broker, TOPIC, "a", Some(&["retention.ms", "no.such"])).await;
    assert_eq!((described.error_code, described.configs.len()), (0, 1));
    let row = &described.configs[0];
    assert_eq!(
        (row.name.as_str(), row.value.as_ref().unwrap().as_str()),
        ("retention.ms", "5")
    );
    assert_eq!(
        (
            row.config_source,
            row.config_type,
            row.read_only,
            row.is_sensitive
        ),
        (1, 5, false, false)
    );
    let synonyms: Vec<_> = row
        .synonyms
        .iter()
        .map(|synonym| (synonym.name.as_str(), synonym.source))
        .collect();
    assert_eq!(synonyms[0], ("retention.ms", 1));
    assert!(row.documentation.is_some());
    let all = describe(&broker, TOPIC, "a", None).await.configs.len();
    assert!(20 < all, "{all}");
    assert_eq!(describe(&broker, TOPIC, "a", Some(&[])).await.configs.len(), all);
    assert!(20 < describe(&broker, BROKER, "1", None).await.configs.len());
}

#[tokio::test]
async fn what_has_no_settings_is_told_by_its_code() {
    let broker = Broker::start();
    for (kind, name, expected) in [
        (TOPIC, "nobody", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "bad name", ErrorCode::InvalidTopicException),
        (BROKER, "x", ErrorCode::InvalidRequest),
        (BROKER, "7", ErrorCode::InvalidRequest),
        (BROKER, "", ErrorCode::None),
        (8, "1", ErrorCode::None),
        (16, "m", ErrorCode::None),
        (32, "g", ErrorCode::None),
        (32, "", ErrorCode::InvalidRequest),
        (99, "x", ErrorCode::InvalidRequest),
    ] {
        let described = describe(&broker, kind, name, None).await;
        assert_eq!(code(described.error_code), expected, "{kind} {name:?}");
        // A group has settings before it has members, a subscription before somebody made it.
        let has_settings = [(16, "m"), (32, "g")].contains(&(kind, name));
        assert_eq!(described.configs.is_empty(), !has_settings, "{kind} {name:?}");
    }
}

/// The codes of a real Kafka 4.3.0 broker.
#[tokio::test]
async fn settings_are_altered_one_at_a_time() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let long = "x".repeat(32_768 - 4);
    for (kind, name, changes, expected) in [
        (TOPIC, "a", vec![("retention.ms", 0, Some("5"))], ErrorCode::None),
        (
            TOPIC,
            "a",
            vec![("cleanup.policy", 2, Some("compact"))],
            ErrorCode::None,
        ),
        (
            TOPIC,
            "a",
            vec![("cleanup.policy", 3, Some("delete"))],
            ErrorCode::None,
        ),
        (TOPIC, "a", vec![("retention.ms", 1, None)], ErrorCode::None),
        (
            TOPIC,
            "a",
            vec![("cleanup.policy", 9, Some("compact"))],
            ErrorCode::InvalidRequest,
        ),
        (
            TOPIC,
            "nobody",
            vec![("retention.ms", 0, Some("5"))],
            ErrorCode::UnknownTopicOrPartition,
        ),
        (TOPIC, "a", vec![("x.y", 0, Some("5"))], ErrorCode::InvalidConfig),
        (
            TOPIC,
            "a",
            vec![("retention.ms", 0, None)],
            ErrorCode::InvalidRequest,
        ),
        (
            TOPIC,
            "a",
            vec![("retention.ms", 0, Some("1")), ("retention.ms", 0, Some("2"))],
            ErrorCode::InvalidRequest,
        ),
        (
            TOPIC,
            "a",
            vec![("retention.ms", 2, Some("1"))],
            ErrorCode::InvalidConfig,
        ),
        (
            TOPIC,
            "a",
            vec![("leader.replication.throttled.replicas", 0, Some(long.as_str()))],
            ErrorCode::InvalidConfig,
        ),
        (
            BROKER,
            "1",
            vec![("num.partitions", 0, Some("1"))],
            ErrorCode::InvalidRequest,
        ),
        (
            BROKER,
            "9",
            vec![("log.retention.ms", 0, Some("1"))],
            ErrorCode::InvalidRequest,
        ),
        (
            BROKER,
            "",
            vec![("log.retention.ms", 0, Some("100"))],
            ErrorCode::None,
        ),
        (
            99,
            "x",
            vec![("retention.ms", 0, Some("1"))],
            ErrorCode::InvalidRequest,
        ),
        (
            8,
            "1",
            vec![("kafka", 0, Some("DEBUG"))],
            ErrorCode::InvalidRequest,
        ),
    ] {
        assert_eq!(
            alter(&broker, kind, name, &changes).await,
            expected,
            "{name} {changes:?}"
        );
    }
    let row = describe(&broker, TOPIC, "a", Some(&["cleanup.policy", "retention.ms"])).await;
    let values: Vec<_> = row
        .configs
        .iter()
        .map(|row| row.value.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(values, ["compact", "100"], "and the new default counts");
    let partition = broker.services.partition("a", 0).unwrap();
    assert!(
        partition.config().cleanup_policy.compact,
        "the log has the new settings"
    );
}

#[tokio::test]
async fn settings_are_replaced_all_at_once() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[("retention.ms", "5")]).await;
    let replace = |names: &[&str], validate_only| AlterConfigsRequestData {
        resources: names
            .iter()
            .map(|name| alter_configs_request::AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: string(name),
                configs: vec![alter_configs_request::AlterableConfig {
                    name: string("segment.ms"),
                    value: Some(string("9000")),
                    ..alter_configs_request::AlterableConfig::default()
                }],
                ..alter_configs_request::AlterConfigsResource::default()
            })
            .collect(),
        validate_only,
        ..AlterConfigsRequestData::default()
    };
    let sources = async || {
        let described = describe(&broker, TOPIC, "a", Some(&["retention.ms", "segment.ms"])).await;
        described
            .configs
            .iter()
            .map(|row| row.config_source)
            .collect::<Vec<_>>()
    };
    for (request, expected, after) in [
        (replace(&["a"], true), vec![ErrorCode::None], [1, 5]),
        (
            replace(&["a", "a"], false),
            vec![ErrorCode::InvalidRequest; 2],
            [1, 5],
        ),
        (
            replace(&["nobody", "a"], false),
            vec![ErrorCode::UnknownTopicOrPartition, ErrorCode::None],
            [5, 1],
        ),
    ] {
        let response = broker.connect().call(2, request).await;
        let found: Vec<_> = response
            .responses
            .iter()
            .map(|row| code(row.error_code))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(sources().await, after);
    }
}

/// One of a kind that does not exist, named over and over by a request as large as it may be: each is compared with none but itself.
#[tokio::test]
async fn a_request_full_of_resources_is_answered() {
    let broker = Broker::start();
    let count = 100_000;
    let request = AlterConfigsRequestData {
        resources: (0..count)
            .map(|number| alter_configs_request::AlterConfigsResource {
                resource_type: 99,
                resource_name: string(&number.to_string()),
                ..alter_configs_request::AlterConfigsResource::default()
            })
            .collect(),
        ..AlterConfigsRequestData::default()
    };
    let response = broker.connect().call(2, request).await;
    assert_eq!(response.responses.len(), count);
    assert!(
        response
            .responses
            .iter()
            .all(|row| code(row.error_code) == ErrorCode::InvalidRequest)
    );
}

#[tokio::test]
async fn a_resource_named_often_is_described_once() {
    let broker = Broker::start();
    let resource = |kind, name| DescribeConfigsResource {
        resource_type: kind,
        resource_name: string(name),
        ..DescribeConfigsResource::default()
    };
    let request = DescribeConfigsRequestData {
        resources: vec![
            resource(BROKER, "1"),
            resource(TOPIC, "nobody"),
            resource(BROKER, "1"),
            resource(TOPIC, "1"),
        ],
        ..DescribeConfigsRequestData::default()
    };
    let response = broker.connect().call(4, request).await;
    let rows = response.results.iter();
    let told: Vec<_> = rows
        .map(|row| (row.resource_type, row.resource_name.as_str()))
        .collect();
    assert_eq!(told, [(BROKER, "1"), (TOPIC, "nobody"), (TOPIC, "1")]);
}
