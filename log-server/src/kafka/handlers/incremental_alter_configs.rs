//! `IncrementalAlterConfigs`, versions 0 and 1 (KIP-339): sets and deletes single settings, appends to lists and takes from them.
//! What several changes come to is `config::alter`'s to say.

use log_core::protocol::messages::incremental_alter_configs_request::AlterableConfig;
use log_core::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use log_core::protocol::messages::{IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData};

use crate::config::alter::{Alteration, Change, Operation};
use crate::kafka::alteration::{self, Wanted};
use crate::kafka::services::Services;
use crate::metadata::error::ControllerError;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: IncrementalAlterConfigsRequestData,
) -> IncrementalAlterConfigsResponseData {
    let wanted = request.resources.into_iter().map(|resource| {
        let changes: Result<Vec<Change>, _> = resource.configs.iter().map(change).collect();
        Wanted {
            kind: resource.resource_type,
            name: resource.resource_name,
            alteration: changes.map(Alteration::Incremental),
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
    IncrementalAlterConfigsResponseData {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponseData::default()
    }
}

fn change(config: &AlterableConfig) -> Result<Change, ControllerError> {
    let operation = Operation::from_wire(config.config_operation).ok_or_else(|| {
        ControllerError::InvalidRequest(format!("there is no operation {}", config.config_operation))
    })?;
    Ok(Change {
        name: config.name.as_str().to_owned(),
        operation,
        value: config.value.as_ref().map(|value| value.as_str().to_owned()),
    })
}
