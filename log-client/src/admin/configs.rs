//! Settings of topics and brokers: describing them with where each value comes from, and changing them one
//! by one (KIP-339).

use log_core::protocol::messages::describe_configs_request::DescribeConfigsResource;
use log_core::protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use log_core::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use log_core::protocol::messages::{DescribeConfigsRequestData, IncrementalAlterConfigsRequestData};
use log_core::protocol::{ApiKey, KafkaString};

use super::Admin;
use super::topics::Intent;
use crate::error::{self, Result};
use crate::metadata::BrokerId;

/// What settings belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(BrokerId),
    /// All brokers, where nothing is set for one.
    AllBrokers,
    /// A group.
    Group(String),
}

impl ConfigResource {
    fn code(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::AllBrokers => 4,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Topic(name) | Self::Group(name) => name.clone(),
            Self::Broker(id) => id.to_string(),
            Self::AllBrokers => String::new(),
        }
    }
}

/// One setting and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none when it is secret or not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// What kind of value it has.
    pub kind: ConfigType,
    /// Whether it can only be set when the broker starts.
    pub is_read_only: bool,
    /// Whether its value is a secret.
    pub is_sensitive: bool,
    /// What else could have set it, strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it is for, if that was asked.
    pub documentation: Option<String>,
}

/// A place where a setting has a value too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name it has there.
    pub name: String,
    /// The value it has there.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the group.
    Group,
    /// Set for one broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// Set in the broker's file or on its command line.
    StaticBroker,
    /// Nobody has set it.
    Default,
    /// Another place, by its number in the protocol.
    Other(i8),
}

impl ConfigSource {
    fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            8 => Self::Group,
            other => Self::Other(other),
        }
    }

    /// Whether somebody has set the value, as opposed to the default.
    #[must_use]
    pub fn is_set(self) -> bool {
        self != Self::Default
    }
}

impl std::fmt::Display for ConfigSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic => formatter.write_str("topic"),
            Self::Group => formatter.write_str("group"),
            Self::DynamicBroker => formatter.write_str("broker (dynamic)"),
            Self::DynamicDefaultBroker => formatter.write_str("all brokers (dynamic)"),
            Self::StaticBroker => formatter.write_str("broker (static)"),
            Self::Default => formatter.write_str("default"),
            Self::Other(code) => write!(formatter, "source {code}"),
        }
    }
}

/// What kind of value a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it all")]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
    Unknown,
}

impl ConfigType {
    fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Boolean,
            2 => Self::String,
            3 => Self::Int,
            4 => Self::Short,
            5 => Self::Long,
            6 => Self::Double,
            7 => Self::List,
            8 => Self::Class,
            9 => Self::Password,
            _ => Self::Unknown,
        }
    }
}

/// One change of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Gives it this value.
    Set(String),
    /// Takes its value back, so that the default counts.
    Delete,
    /// Adds to a list.
    Append(String),
    /// Takes out of a list.
    Subtract(String),
}

impl Admin {
    /// The settings of each resource; one result each, in their order.
    ///
    /// # Errors
    /// When no answer was had at all.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Vec<Result<Vec<ConfigEntry>>>> {
        let mut all = Vec::with_capacity(resources.len());
        for resource in resources {
            all.push(self.describe_config(resource).await?);
        }
        Ok(all)
    }

    async fn describe_config(&self, resource: &ConfigResource) -> Result<Result<Vec<ConfigEntry>>> {
        let request = DescribeConfigsRequestData {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.code(),
                resource_name: KafkaString::from(resource.name()),
                configuration_keys: None,
                ..DescribeConfigsResource::default()
            }],
            include_synonyms: true,
            include_documentation: true,
            ..DescribeConfigsRequestData::default()
        };
        let subject = resource.name();
        let read = |response: log_core::protocol::messages::DescribeConfigsResponseData| {
            let mut entries = Vec::new();
            for row in &response.results {
                let message = row.error_message.as_ref().map(KafkaString::as_str);
                if let Err(error) = error::check(ApiKey::DescribeConfigs, row.error_code, &subject, message) {
                    return Ok(Err(error));
                }
                entries.extend(row.configs.iter().map(entry));
            }
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Ok(Ok(entries))
        };
        if let ConfigResource::Broker(id) = resource {
            // Only the broker itself knows its static settings.
            self.cluster.refresh(0).await?;
            return read(self.cluster.call(*id, &request).await?);
        }
        self.ask(|_| request.clone(), read).await
    }

    /// Changes settings of one resource, or only checks whether they could be changed.
    ///
    /// # Errors
    /// What the broker says; then nothing was changed.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(String, ConfigChange)],
        intent: Intent,
    ) -> Result<()> {
        let configs = changes
            .iter()
            .map(|(name, change)| {
                let (operation, value) = match change {
                    ConfigChange::Set(value) => (0, Some(value)),
                    ConfigChange::Delete => (1, None),
                    ConfigChange::Append(value) => (2, Some(value)),
                    ConfigChange::Subtract(value) => (3, Some(value)),
                };
                AlterableConfig {
                    name: KafkaString::from(name.clone()),
                    config_operation: operation,
                    value: value.map(|value| KafkaString::from(value.clone())),
                    ..AlterableConfig::default()
                }
            })
            .collect();
        let request = IncrementalAlterConfigsRequestData {
            resources: vec![AlterConfigsResource {
                resource_type: resource.code(),
                resource_name: KafkaString::from(resource.name()),
                configs,
                ..AlterConfigsResource::default()
            }],
            validate_only: intent == Intent::ValidateOnly,
            ..IncrementalAlterConfigsRequestData::default()
        };
        let subject = resource.name();
        self.tell(
            |_| request.clone(),
            |response| {
                response.responses.iter().try_for_each(|row| {
                    let message = row.error_message.as_ref().map(KafkaString::as_str);
                    error::check(ApiKey::IncrementalAlterConfigs, row.error_code, &subject, message)
                })
            },
        )
        .await
    }
}

fn entry(row: &DescribeConfigsResourceResult) -> ConfigEntry {
    let text = |text: &Option<KafkaString>| text.as_ref().map(ToString::to_string);
    ConfigEntry {
        name: row.name.to_string(),
        value: text(&row.value),
        source: ConfigSource::from_code(row.config_source),
        kind: ConfigType::from_code(row.config_type),
        is_read_only: row.read_only,
        is_sensitive: row.is_sensitive,
        synonyms: row
            .synonyms
            .iter()
            .map(|synonym| ConfigSynonym {
                name: synonym.name.to_string(),
                value: text(&synonym.value),
                source: ConfigSource::from_code(synonym.source),
            })
            .collect(),
        documentation: text(&row.documentation),
    }
}
