//! `PushTelemetry`, version 0 (KIP-714): a client's metrics, in OpenTelemetry's format.
//! Who may push when, and what is kept of it, is `telemetry`'s to say.

use std::sync::Arc;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::{PushTelemetryRequestData, PushTelemetryResponseData};

use crate::kafka::error_map::telemetry_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::Services;
use crate::telemetry::client::ClientInstanceId;
use crate::telemetry::instance::Push;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: PushTelemetryRequestData,
) -> PushTelemetryResponseData {
    let push = Push {
        subscription_id: request.subscription_id,
        is_terminating: request.terminating,
        compression: request.compression_type,
        bytes: request.metrics.len(),
    };
    let image = services.controller.image();
    let pushing = Arc::clone(&services.client_metrics).push(
        image.subscription_configs(),
        context.client(),
        ClientInstanceId::from_bytes(request.client_instance_id.to_bytes()),
        push,
        request.metrics,
    );
    let refusal = pushing.await.err();
    if let Some(error) = &refusal {
        tracing::debug!(
            peer = %context.connection.peer, client_id = context.client_id(), %error, "client metrics refused"
        );
    }
    PushTelemetryResponseData {
        error_code: refusal.as_ref().map_or(ErrorCode::None, telemetry_error).code(),
        ..PushTelemetryResponseData::default()
    }
}
