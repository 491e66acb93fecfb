//! `DescribeConfigs`, versions 1 to 4: settings with values, sources, types and synonyms.
//!
//! - Resources: topics, groups (which need not exist), this broker by its node id, and with an empty name what was set for all brokers while
//!   they run, and subscriptions to clients' metrics (KIP-714). Broker loggers are answered as having no settings, and groups without those of share
//!   and streams groups.
//! - A resource named twice is answered once, where Kafka answers twice.
//! - Version 3 (KIP-569): types and, if asked for, documentation.

use std::collections::HashSet;

use log_core::protocol::messages::describe_configs_request::DescribeConfigsResource;
use log_core::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use log_core::protocol::messages::{DescribeConfigsRequestData, DescribeConfigsResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::config::client_metrics::describe_subscription;
use crate::config::describe::Row;
use crate::config::effective::Overrides;
use crate::kafka::config_resource::ConfigResource;
use crate::kafka::error_map::controller_error;
use crate::kafka::services::{Services, kafka_string, message};
use crate::metadata::error::ControllerError;
use crate::metadata::plan::BrokerScope;
use crate::metadata::topic_name;

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    request: DescribeConfigsRequestData,
) -> DescribeConfigsResponseData {
    let (with_synonyms, with_documentation) = (request.include_synonyms, request.include_documentation);
    // One answer has hundreds of times the size of what asks for it: it is given once, however often it is asked for.
    let mut seen = HashSet::new();
    let mut resources = request.resources;
    resources.retain(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    let results = resources.into_iter().map(|resource| {
        let described = describe(services, &resource);
        let row = |row| setting(row, with_synonyms, with_documentation);
        let (configs, error) = match described {
            Ok(rows) => {
                let wanted = rows.into_iter().filter(|row| is_wanted(&resource, row.name));
                (wanted.map(row).collect(), None)
            }
            Err(error) => (Vec::new(), Some(error)),
        };
        DescribeConfigsResult {
            error_code: error.as_ref().map_or(ErrorCode::None, controller_error).code(),
            // Beside no error Kafka writes an empty text, not null.
            error_message: Some(error.as_ref().map_or_else(KafkaString::default, message)),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
            ..DescribeConfigsResult::default()
        }
    });
    DescribeConfigsResponseData {
        results: results.collect(),
        ..DescribeConfigsResponseData::default()
    }
}

fn describe(services: &Services, resource: &DescribeConfigsResource) -> Result<Vec<Row>, ControllerError> {
    let node_id = services.config.node_id;
    let image = services.controller.image();
    let layers = image.layers(&services.config);
    match ConfigResource::new(resource.resource_type, resource.resource_name.as_str(), node_id)? {
        ConfigResource::Topic(name) => {
            topic_name::validate(&name).map_err(|error| ControllerError::InvalidTopic(error.to_string()))?;
            let topic = image.topic(&name).ok_or(ControllerError::UnknownTopic(name))?;
            Ok(layers.describe_topic(&topic.configs))
        }
        ConfigResource::Broker(BrokerScope::Cluster) => Ok(layers.describe_cluster()),
        ConfigResource::Broker(BrokerScope::Node(_)) => Ok(layers.describe_broker()),
        ConfigResource::Group(name) => Ok(layers.describe_group(image.group_configs(&name))),
        ConfigResource::Subscription(name) => {
            let none = Overrides::new();
            let own = image.subscription_configs().get(&*name);
            Ok(describe_subscription(own.unwrap_or(&none)))
        }
        ConfigResource::Nothing => Ok(Vec::new()),
    }
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    keys.is_empty() || keys.iter().any(|key| key.as_bytes() == name.as_bytes())
}

fn setting(row: Row, with_synonyms: bool, with_documentation: bool) -> DescribeConfigsResourceResult {
    let is_sensitive = row.is_sensitive;
    let shown = |value: String| (!is_sensitive).then(|| KafkaString::from(value));
    let synonyms = row.synonyms.into_iter().filter(|_| with_synonyms);
    DescribeConfigsResourceResult {
        name: KafkaString::from_static(row.name),
        value: row.value.and_then(shown),
        read_only: row.is_read_only,
        config_source: row.source.wire_id(),
        is_sensitive,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: KafkaString::from_static(synonym.name),
                value: shown(synonym.value),
                source: synonym.source.wire_id(),
                ..DescribeConfigsSynonym::default()
            })
            .collect(),
        config_type: row.kind.wire_id(),
        documentation: with_documentation.then(|| kafka_string(&row.documentation)),
        ..DescribeConfigsResourceResult::default()
    }
}
