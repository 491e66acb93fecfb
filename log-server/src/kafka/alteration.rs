//! What `AlterConfigs` and `IncrementalAlterConfigs` share: each resource is changed whole or not at all, each has its own outcome, and
//! one that is named twice is refused both times.

use std::collections::HashMap;

use log_core::protocol::{ErrorCode, KafkaString};

use crate::config::alter::Alteration;
use crate::kafka::config_resource::ConfigResource;
use crate::kafka::error_map::controller_error;
use crate::kafka::services::{Services, message};
use crate::metadata::error::ControllerError;

/// One resource of a request.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The resource's kind, as it came.
    pub(crate) kind: i8,
    /// Its name, as it came.
    pub(crate) name: KafkaString,
    /// What is to be done, unless that is nonsense already.
    pub(crate) alteration: Result<Alteration, ControllerError>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The resource's kind, as it came.
    pub(crate) kind: i8,
    /// Its name, as it came.
    pub(crate) name: KafkaString,
    /// The code.
    pub(crate) error: ErrorCode,
    /// The reason.
    pub(crate) message: Option<KafkaString>,
}

/// Carries out the changes, in the order of the request.
pub(crate) async fn carry_out(services: &Services, wanted: Vec<Wanted>, validate_only: bool) -> Vec<Outcome> {
    let names: Vec<(i8, KafkaString)> = wanted
        .iter()
        .map(|wanted| (wanted.kind, wanted.name.clone()))
        .collect();
    let mut times_named: HashMap<(i8, &KafkaString), usize> = HashMap::with_capacity(names.len());
    for (kind, name) in &names {
        *times_named.entry((*kind, name)).or_default() += 1;
    }
    let mut results: Vec<Option<Result<(), ControllerError>>> = Vec::with_capacity(wanted.len());
    let (mut topics, mut brokers, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut subscriptions = Vec::new();
    for (place, wanted) in wanted.into_iter().enumerate() {
        results.push(
            match (resource(services, &times_named, &wanted), wanted.alteration) {
                (Err(error), _) | (_, Err(error)) => Some(Err(error)),
                (Ok(ConfigResource::Topic(name)), Ok(alteration)) => {
                    topics.push((place, (name, alteration)));
                    None
                }
                (Ok(ConfigResource::Broker(scope)), Ok(alteration)) => {
                    brokers.push((place, (scope, alteration)));
                    None
                }
                (Ok(ConfigResource::Group(name)), Ok(alteration)) => {
                    groups.push((place, (name, alteration)));
                    None
                }
                (Ok(ConfigResource::Subscription(name)), Ok(alteration)) => {
                    subscriptions.push((place, (name, alteration)));
                    None
                }
                (Ok(ConfigResource::Nothing), Ok(_)) => Some(Err(ControllerError::InvalidRequest(
                    "this kind of resource has no settings here".to_owned(),
                ))),
            },
        );
    }
    let (topic_places, topics): (Vec<usize>, Vec<_>) = topics.into_iter().unzip();
    let (broker_places, brokers): (Vec<usize>, Vec<_>) = brokers.into_iter().unzip();
    let (group_places, groups): (Vec<usize>, Vec<_>) = groups.into_iter().unzip();
    let (subscription_places, subscriptions): (Vec<usize>, Vec<_>) = subscriptions.into_iter().unzip();
    let mut made = Vec::new();
    if !topics.is_empty() {
        let outcomes = services
            .controller
            .alter_topic_configs(topics, validate_only)
            .await;
        made.extend(topic_places.into_iter().zip(outcomes));
    }
    if !brokers.is_empty() {
        let outcomes = services
            .controller
            .alter_broker_configs(brokers, validate_only)
            .await;
        made.extend(broker_places.into_iter().zip(outcomes));
    }
    if !groups.is_empty() {
        let outcomes = services
            .controller
            .alter_group_configs(groups, validate_only)
            .await;
        made.extend(group_places.into_iter().zip(outcomes));
    }
    if !subscriptions.is_empty() {
        let outcomes = services
            .controller
            .alter_subscriptions(subscriptions, validate_only)
            .await;
        made.extend(subscription_places.into_iter().zip(outcomes));
    }
    for (place, result) in made {
        if let Some(slot) = results.get_mut(place) {
            *slot = Some(result);
        }
    }
    let outcome = |((kind, name), result): ((i8, KafkaString), Option<Result<(), ControllerError>>)| {
        let error = result.expect("every resource has a result").err();
        Outcome {
            kind,
            name,
            error: error.as_ref().map_or(ErrorCode::None, controller_error),
            message: error.as_ref().map(message),
        }
    };
    names.into_iter().zip(results).map(outcome).collect()
}

fn resource(
    services: &Services,
    times_named: &HashMap<(i8, &KafkaString), usize>,
    wanted: &Wanted,
) -> Result<ConfigResource, ControllerError> {
    if times_named.get(&(wanted.kind, &wanted.name)) != Some(&1) {
        return Err(ControllerError::InvalidRequest(
            "the request names it twice".to_owned(),
        ));
    }
    ConfigResource::new(wanted.kind, wanted.name.as_str(), services.config.node_id)
}
