//! `ApiVersions`, versions 0 to 4: which APIs in which versions, and which features.
//!
//! - The response header is always of version 0, so that a client that cannot know the broker's versions can read it.
//! - KIP-511: a version above ours is answered in the layout of version 0 with error 35 and the row of this API. A client
//!   then asks again in a version that both know.
//! - KIP-511: from version 3 on the client names its software; a name that is not one is `INVALID_REQUEST`.
//! - KIP-584: features. Of Kafka 4.3's only `metadata.version` is named: clients take group, share and transaction
//!   features as promises, and none of those is served yet. Tools read the release from it.

use log_core::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use log_core::protocol::messages::{ApiVersionsRequestData, ApiVersionsResponseData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString, RequestPrefix};

use crate::kafka::apis::{APIS, Api};
use crate::kafka::connection::Answer;
use crate::kafka::request_context::RequestContext;
use crate::kafka::response::Response;

/// The feature that stands for a Kafka release, from 3.3's level to 4.3's.
const METADATA_VERSION: (KafkaString, i16, i16) = (KafkaString::from_static("metadata.version"), 7, 30);

/// Answers a request in a version we know.
pub(crate) fn handle(context: &RequestContext, request: &ApiVersionsRequestData) -> ApiVersionsResponseData {
    let named = [&request.client_software_name, &request.client_software_version];
    if 3 <= context.version() && !named.iter().all(|text| is_software_name(text.as_str())) {
        return ApiVersionsResponseData {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ApiVersionsResponseData::default()
        };
    }
    tracing::debug!(
        peer = %context.connection.peer, client_id = context.client_id(),
        software = request.client_software_name.as_str(), version = request.client_software_version.as_str(),
        "client"
    );
    let (name, min_version, max_version) = METADATA_VERSION;
    ApiVersionsResponseData {
        api_keys: APIS.iter().map(row).collect(),
        supported_features: vec![SupportedFeatureKey {
            name: name.clone(),
            min_version,
            max_version,
            ..SupportedFeatureKey::default()
        }],
        // The features never change while a broker runs.
        finalized_features_epoch: 0,
        finalized_features: vec![FinalizedFeatureKey {
            name,
            max_version_level: max_version,
            min_version_level: max_version,
            ..FinalizedFeatureKey::default()
        }],
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
