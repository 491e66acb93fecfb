//! `ListConfigResources`, versions 0 and 1: what has settings, or could have.
//!
//! - Version 0 lists subscriptions to client metrics.
//! - Version 1 (KIP-1142) lists kinds of choice, or all: every topic, this broker twice (as itself and for its loggers), subscriptions to
//!   client metrics, and the groups that set something themselves. A kind that no resource has is `UNSUPPORTED_VERSION`.

use log_core::protocol::messages::list_config_resources_response::ConfigResource;
use log_core::protocol::messages::{ListConfigResourcesRequestData, ListConfigResourcesResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::kafka::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string};

const KINDS: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    context: &RequestContext,
    request: &ListConfigResourcesRequestData,
) -> ListConfigResourcesResponseData {
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !KINDS.contains(kind)) {
        return ListConfigResourcesResponseData {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ListConfigResourcesResponseData::default()
        };
    }
    let wanted = |kind: &i8| match context.version() {
        0 => *kind == CLIENT_METRICS,
        _ => asked.is_empty() || asked.contains(kind),
    };
    let mut config_resources = Vec::new();
    for kind in KINDS.into_iter().filter(wanted) {
        let names = names(services, kind).into_iter();
        config_resources.extend(names.map(|resource_name| ConfigResource {
            resource_name,
            resource_type: kind,
            ..ConfigResource::default()
        }));
    }
    ListConfigResourcesResponseData {
        config_resources,
        ..ListConfigResourcesResponseData::default()
    }
}

fn names(services: &Services, kind: i8) -> Vec<KafkaString> {
    let image = services.controller.image();
    match kind {
        TOPIC => image.topics().map(|topic| kafka_string(&topic.name)).collect(),
        BROKER | BROKER_LOGGER => vec![kafka_string(&services.config.node_id.to_string())],
        CLIENT_METRICS => image
            .subscription_configs()
            .keys()
            .map(|name| kafka_string(name))
            .collect(),
        GROUP => image
            .configured_groups()
            .map(|group| kafka_string(group))
            .collect(),
        _ => Vec::new(),
    }
}
