//! `AlterConfigs`, versions 0 to 2: replaces all that was set for a topic or broker. Old tools use it; its successor changes one
//! setting at a time.

use log_core::protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use log_core::protocol::messages::{AlterConfigsRequestData, AlterConfigsResponseData};

use crate::config::alter::Alteration;
use crate::kafka::alteration::{self, Wanted};
use crate::kafka::services::Services;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: AlterConfigsRequestData,
) -> AlterConfigsResponseData {
    let wanted = request.resources.into_iter().map(|resource| {
        let entry = |config: log_core::protocol::messages::alter_configs_request::AlterableConfig| {
            (
                config.name.as_str().to_owned(),
                config.value.map(|value| value.as_str().to_owned()),
            )
        };
        Wanted {
            kind: resource.resource_type,
            name: resource.resource_name,
            alteration: Ok(Alteration::Replace(
                resource.configs.into_iter().map(entry).collect(),
            )),
        }
    });
    let outcomes = alteration::carry_out(services, wanted.collect(), request.validate_only).await;
    let responses = outcomes.into_iter().map(|outcome| AlterConfigsResourceResponse {
        error_code: outcome.error.code(),
        error_message: outcome.message,
        resource_type: outcome.kind,
        resource_name: outcome.name,
        ..AlterConfigsResourceResponse::default()
    });
    AlterConfigsResponseData {
        responses: responses.collect(),
        ..AlterConfigsResponseData::default()
    }
}
