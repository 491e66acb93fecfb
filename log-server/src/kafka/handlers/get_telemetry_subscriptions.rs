//! `GetTelemetrySubscriptions`, version 0 (KIP-714): which of its metrics a client is to push, how often, and packed by which codecs.
//!
//! - A client that has no id yet (all zeros) gets one.
//! - Where no subscription wants anything of it, it gets an empty list, and asks again after the usual interval.
//! - Kafka serves this only where a plugin takes the metrics; here they are always taken.

use log_core::model::TopicId;
use log_core::protocol::messages::{
    GetTelemetrySubscriptionsRequestData, GetTelemetrySubscriptionsResponseData,
};
use log_core::protocol::{KafkaString, KafkaUuid};
use log_core::record::compression::Compression;

use crate::kafka::error_map::telemetry_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::Services;
use crate::telemetry::client::ClientInstanceId;

/// The codecs that are taken, the one that is liked best first, as in Kafka.
const ACCEPTED: [Compression; 4] = [
    Compression::Zstd,
    Compression::Lz4,
    Compression::Gzip,
    Compression::Snappy,
];

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    context: &RequestContext,
    request: &GetTelemetrySubscriptionsRequestData,
) -> GetTelemetrySubscriptionsResponseData {
    let asked = services.client_metrics.ask(
        services.controller.image().subscription_configs(),
        context.client(),
        ClientInstanceId::from_bytes(request.client_instance_id.to_bytes()),
    );
    let (id, wanted) = match asked {
        Ok(told) => told,
        Err(error) => {
            return GetTelemetrySubscriptionsResponseData {
                error_code: telemetry_error(&error).code(),
                ..GetTelemetrySubscriptionsResponseData::default()
            };
        }
    };
    let metrics = wanted.metrics.iter();
    GetTelemetrySubscriptionsResponseData {
        client_instance_id: KafkaUuid::from(TopicId::from_bytes(id.to_bytes())),
        subscription_id: wanted.subscription_id(id),
        accepted_compression_types: ACCEPTED.map(|codec| codec.id().cast_signed()).to_vec(),
        push_interval_ms: wanted.interval_ms,
        telemetry_max_bytes: i32::try_from(services.client_metrics.bytes_max()).unwrap_or(i32::MAX),
        delta_temporality: true,
        requested_metrics: metrics.map(|name| KafkaString::from(name.clone())).collect(),
        ..GetTelemetrySubscriptionsResponseData::default()
    }
}
