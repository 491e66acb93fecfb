//! `ApiVersions`, versions 0 to 4: which APIs in which versions, and which features.
//!
//! - The response header is always of version 0, so that a client that cannot know the broker's versions can read it.
//! - KIP-511: a version above ours is answered in the layout of version 0 with error 35 and the row of this API. A client
//!   then asks again in a version that both know.
//! - KIP-511: from version 3 on the client names its software; a name that is not one is `INVALID_REQUEST`.
//! - KIP-584: features. Of Kafka 4.3's only `metadata.version`, from which tools read the release, and `transaction.version` are named:
//!   clients take features as promises. By `transaction.version` 2 (KIP-890) a producer's epoch rises with each transaction.
//! - A feature that may be off is hidden from versions below 4, whose clients take a lowest level of 0 for an error (KAFKA-17492).

use log_core::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use log_core::protocol::messages::{ApiVersionsRequestData, ApiVersionsResponseData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString, RequestPrefix};

use crate::kafka::apis::{APIS, Api};
use crate::kafka::connection::Answer;
use crate::kafka::request_context::RequestContext;
use crate::kafka::response::Response;
use crate::telemetry::client::ClientSoftware;

/// A feature, and the levels at which this broker could have it; it has the highest.
struct Feature {
    name: KafkaString,
    min: i16,
    max: i16,
}

static FEATURES: [Feature; 2] = [
    // The release, from 3.3's level to 4.3's.
    Feature {
        name: KafkaString::from_static("metadata.version"),
        min: 7,
        max: 30,
    },
    Feature {
        name: KafkaString::from_static("transaction.version"),
        min: 0,
        max: 2,
    },
];

/// Answers a request in a version we know.
pub(crate) fn handle(context: &RequestContext, request: &ApiVersionsRequestData) -> ApiVersionsResponseData {
    let named = [&request.client_software_name, &request.client_software_version];
    if 3 <= context.version() && !named.iter().all(|text| is_software_name(text.as_str())) {
        return ApiVersionsResponseData {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ApiVersionsResponseData::default()
        };
    }
    if 3 <= context.version() {
        let [name, version] = named.map(KafkaString::as_str);
        context
            .connection
            .set_software(ClientSoftware::new(name, version));
    }
    tracing::debug!(
        connection = context.connection.id, peer = %context.connection.peer, client_id = context.client_id(),
        software = request.client_software_name.as_str(), version = request.client_software_version.as_str(),
        "client"
    );
    let is_shown = |feature: &&Feature| 0 < feature.min || 4 <= context.version();
    let supported = FEATURES
        .iter()
        .filter(is_shown)
        .map(|feature| SupportedFeatureKey {
            name: feature.name.clone(),
            min_version: feature.min,
            max_version: feature.max,
            ..SupportedFeatureKey::default()
        });
    let finalized = FEATURES.iter().map(|feature| FinalizedFeatureKey {
        name: feature.name.clone(),
        max_version_level: feature.max,
        min_version_level: feature.max,
        ..FinalizedFeatureKey::default()
    });
    ApiVersionsResponseData {
        api_keys: APIS.iter().map(row).collect(),
        supported_features: supported.collect(),
        // The features never change while a broker runs.
        finalized_features_epoch: 0,
        finalized_features: finalized.collect(),
        ..ApiVersionsResponseData::default()
    }
}

/// Answers a request in a version we do not know.
pub(crate) fn too_new(prefix: RequestPrefix) -> Answer {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions);
    let response = ApiVersionsResponseData {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: own.map(row).collect(),
        ..ApiVersionsResponseData::default()
    };
    Answer::from_response(Response::encode_as(prefix, 0, &response))
}

fn row(api: &Api) -> ApiVersion {
    ApiVersion {
        api_key: api.key as i16,
        min_version: api.advertised_min,
        max_version: api.served_max,
        ..ApiVersion::default()
    }
}

/// Letters and digits, and between them dots and dashes.
fn is_software_name(text: &str) -> bool {
    let is_alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    is_alphanumeric(bytes.first())
        && is_alphanumeric(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}
