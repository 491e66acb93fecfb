//! Clients' own metrics (KIP-714) through the whole front: subscriptions are settings, a client asks, pushes, and is shown.

use log_core::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use log_core::protocol::messages::{
    ApiVersionsRequestData, GetTelemetrySubscriptionsRequestData, IncrementalAlterConfigsRequestData,
    ListConfigResourcesRequestData, PushTelemetryRequestData,
};

use super::*;
use crate::telemetry::client::ClientInstanceId;

/// `MetricsData` with the gauge `g`, which is 1.
const METRICS: [u8; 22] = [
    0x0a, 20, 0x12, 18, 0x12, 16, 0x0a, 1, b'g', 0x2a, 11, 0x0a, 9, 0x21, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f,
];

async fn subscribe(broker: &Broker, name: &str, configs: &[(&str, &str)]) -> ErrorCode {
    let config = |(name, value): &(&str, &str)| AlterableConfig {
        name: string(name),
        value: Some(string(value)),
        ..AlterableConfig::default()
    };
    let request = IncrementalAlterConfigsRequestData {
        resources: vec![AlterConfigsResource {
            resource_type: 16,
            resource_name: string(name),
            configs: configs.iter().map(config).collect(),
            ..AlterConfigsResource::default()
        }],
        ..IncrementalAlterConfigsRequestData::default()
    };
    code(broker.connect().call(1, request).await.responses[0].error_code)
}

#[tokio::test]
async fn subscriptions_are_settings_and_listed() {
    let broker = Broker::start();
    assert_eq!(
        subscribe(&broker, "java", &[("metrics", "*"), ("interval.ms", "1000")]).await,
        ErrorCode::None
    );
    assert_eq!(
        subscribe(&broker, "java", &[("interval.ms", "1")]).await,
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        subscribe(&broker, "java", &[("match", "colour=red")]).await,
        ErrorCode::InvalidConfig
    );
    for (version, resource_types) in [(0, vec![]), (1, vec![16])] {
        let request = ListConfigResourcesRequestData {
            resource_types,
            ..ListConfigResourcesRequestData::default()
        };
        let listed = broker.connect().call(version, request).await.config_resources;
        let names: Vec<_> = listed.iter().map(|one| one.resource_name.as_str()).collect();
        assert_eq!(names, ["java"], "version {version}");
    }
}

#[tokio::test]
async fn a_client_asks_pushes_and_is_shown() {
    let broker = Broker::start();
    subscribe(
        &broker,
        "all",
        &[
            ("metrics", "*"),
            ("interval.ms", "1000"),
            ("match", "client_software_name=a-.*"),
        ],
    )
    .await;
    let mut client = broker.connect();
    let hello = ApiVersionsRequestData {
        client_software_name: string("a-library"),
        client_software_version: string("1.2"),
        ..ApiVersionsRequestData::default()
    };
    assert_eq!(client.call(3, hello).await.error_code, 0);
    let asked = client
        .call(0, GetTelemetrySubscriptionsRequestData::default())
        .await;
    assert_eq!((asked.error_code, asked.push_interval_ms), (0, 1000));
    assert_eq!(
        (asked.telemetry_max_bytes, asked.delta_temporality),
        (1 << 20, true)
    );
    assert_eq!(asked.accepted_compression_types, [4, 3, 1, 2]);
    let push = |metrics: &'static [u8], terminating| PushTelemetryRequestData {
        client_instance_id: asked.client_instance_id,
        subscription_id: asked.subscription_id,
        terminating,
        metrics: Bytes::from_static(metrics),
        ..PushTelemetryRequestData::default()
    };
    assert_eq!(client.call(0, push(&METRICS, false)).await.error_code, 0);
    let early = client.call(0, push(&METRICS, false)).await;
    assert_eq!(code(early.error_code), ErrorCode::ThrottlingQuotaExceeded);
    let clients = broker.services.client_metrics.clients();
    assert_eq!(&*clients[0].client.software.name, "a-library");
    let values: Vec<_> = clients[0]
        .series
        .iter()
        .map(|(key, reading)| (&*key.name, reading.value))
        .collect();
    assert_eq!(values, [("g", 1.0)]);
    assert_eq!(client.call(0, push(&[], true)).await.error_code, 0);
    let ended = client.call(0, push(&[], false)).await;
    assert_eq!(code(ended.error_code), ErrorCode::InvalidRequest);
}

/// What a client says of its library: kept from version 3 on, the last time counts, and as much as is needed of it.
#[tokio::test]
async fn a_library_is_what_the_client_said_last() {
    let broker = Broker::start();
    let mut client = broker.connect();
    for (version, name, expected) in [
        (0, String::new(), "unknown"),
        (3, "first".to_owned(), "first"),
        (4, "n".repeat(600_000), &*"n".repeat(128)),
    ] {
        let hello = ApiVersionsRequestData {
            client_software_name: string(&name),
            client_software_version: string("1.2"),
            ..ApiVersionsRequestData::default()
        };
        assert_eq!(client.call(version, hello).await.error_code, 0);
        let asked = client
            .call(0, GetTelemetrySubscriptionsRequestData::default())
            .await;
        let id = ClientInstanceId::from_bytes(asked.client_instance_id.to_bytes());
        let shown = broker.services.client_metrics.client(id).unwrap();
        assert_eq!(&*shown.client.software.name, expected, "version {version}");
    }
}

/// Larger than any other structure may be, and told by its code.
#[tokio::test]
async fn a_push_that_is_too_large_is_told_so() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let asked = client
        .call(0, GetTelemetrySubscriptionsRequestData::default())
        .await;
    let push = PushTelemetryRequestData {
        client_instance_id: asked.client_instance_id,
        subscription_id: asked.subscription_id,
        metrics: Bytes::from(vec![0; (1 << 20) + 1]),
        ..PushTelemetryRequestData::default()
    };
    let refused = client.call(0, push).await;
    assert_eq!(code(refused.error_code), ErrorCode::TelemetryTooLarge);
}
