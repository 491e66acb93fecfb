//! Settings of topics, of the broker, and of subscriptions to clients' metrics.
//! They are shown with their source and meaning, and changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::config::alter::{Alteration, Change, Operation};
use crate::config::client_metrics::describe_subscription;
use crate::config::describe::Row;
use crate::config::effective::{Overrides, Source};
use crate::config::value::Kind;
use crate::http::body::read_json;
use crate::http::page::matches;
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::{Answer, Problem};
use crate::http::services::Services;
use crate::http::topics::single;
use crate::metadata::plan::BrokerScope;

/// The parameters of both lists.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigParameters {
    #[serde(default)]
    search: String,
}

#[derive(Debug, Serialize)]
struct ConfigRow {
    name: &'static str,
    value: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    source: &'static str,
    read_only: bool,
    synonyms: Vec<Synonym>,
    meaning: String,
}

#[derive(Debug, Serialize)]
struct Synonym {
    name: &'static str,
    value: String,
    source: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConfigList {
    configs: Vec<ConfigRow>,
}

/// `GET /v1/topics/{topic}/configs`.
pub(crate) async fn of_topic(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    Parameters(asked): Parameters<ConfigParameters>,
) -> Answer<Json<ConfigList>> {
    topic_configs(&services, &topic, &asked.search)
}

/// `GET /v1/configs`.
pub(crate) async fn of_broker(
    State(services): State<Arc<Services>>,
    Parameters(asked): Parameters<ConfigParameters>,
) -> Json<ConfigList> {
    broker_configs(&services, &asked.search)
}

fn topic_configs(services: &Services, topic: &str, search: &str) -> Answer<Json<ConfigList>> {
    let topic = services.topic(topic)?;
    let image = services.controller.image();
    Ok(list(
        image.layers(&services.config).describe_topic(&topic.configs),
        search,
    ))
}

fn broker_configs(services: &Services, search: &str) -> Json<ConfigList> {
    let image = services.controller.image();
    list(image.layers(&services.config).describe_broker(), search)
}

fn list(rows: Vec<Row>, search: &str) -> Json<ConfigList> {
    let rows = rows.into_iter().filter(|row| matches(row.name, search));
    Json(ConfigList {
        configs: rows.map(shown).collect(),
    })
}

fn shown(row: Row) -> ConfigRow {
    let is_secret = row.is_sensitive;
    let synonyms = row.synonyms.into_iter().filter(|_| !is_secret);
    ConfigRow {
        name: row.name,
        value: row.value.filter(|_| !is_secret),
        kind: kind_name(row.kind),
        source: source_name(row.source),
        read_only: row.is_read_only,
        synonyms: synonyms
            .map(|synonym| Synonym {
                name: synonym.name,
                value: synonym.value,
                source: source_name(synonym.source),
            })
            .collect(),
        meaning: row.documentation.into_owned(),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::String => "string",
        Kind::Short => "short",
        Kind::Int => "int",
        Kind::Long => "long",
        Kind::Double => "double",
        Kind::List => "list",
    }
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Topic => "topic",
        Source::Node => "broker",
        Source::Cluster => "cluster",
        Source::Static => "static",
        Source::Default => "default",
        Source::Group => "group",
        Source::Subscription => "subscription",
    }
}

/// What is to be changed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    set: BTreeMap<String, String>,
    append: BTreeMap<String, String>,
    subtract: BTreeMap<String, String>,
    delete: Vec<String>,
    validate_only: bool,
}

impl Wanted {
    fn alteration(self) -> Result<Alteration, Problem> {
        let valued = |changes: BTreeMap<String, String>, operation| {
            changes.into_iter().map(move |(name, value)| Change {
                name,
                operation,
                value: Some(value),
            })
        };
        let deleted = self.delete.into_iter().map(|name| Change {
            name,
            operation: Operation::Delete,
            value: None,
        });
        let changes: Vec<_> = valued(self.set, Operation::Set)
            .chain(valued(self.append, Operation::Append))
            .chain(valued(self.subtract, Operation::Subtract))
            .chain(deleted)
            .collect();
        if changes.is_empty() {
            return Err(Problem::invalid(
                "body: nothing is to be changed; give set, append, subtract or delete",
            ));
        }
        Ok(Alteration::Incremental(changes))
    }
}

/// `PATCH /v1/topics/{topic}/configs`.
pub(crate) async fn alter_topic(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ConfigList>> {
    let wanted: Wanted = read_json(&services, &headers, body).await?;
    let topic = services.topic(&topic)?;
    let validate_only = wanted.validate_only;
    let changes = vec![(topic.name.to_string(), wanted.alteration()?)];
    single(
        services
            .controller
            .alter_topic_configs(changes, validate_only)
            .await,
    )?;
    topic_configs(&services, &topic.name, "")
}

/// `PATCH /v1/configs`.
pub(crate) async fn alter_broker(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ConfigList>> {
    let wanted: Wanted = read_json(&services, &headers, body).await?;
    let validate_only = wanted.validate_only;
    let scope = BrokerScope::Node(services.config.node_id);
    let changes = vec![(scope, wanted.alteration()?)];
    single(
        services
            .controller
            .alter_broker_configs(changes, validate_only)
            .await,
    )?;
    Ok(broker_configs(&services, ""))
}

#[derive(Debug, Serialize)]
struct SubscriptionRow {
    name: String,
    configs: Overrides,
}

#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionList {
    subscriptions: Vec<SubscriptionRow>,
}

/// `GET /v1/subscriptions`.
pub(crate) async fn subscriptions(State(services): State<Arc<Services>>) -> Json<SubscriptionList> {
    let image = services.controller.image();
    let rows = image
        .subscription_configs()
        .iter()
        .map(|(name, configs)| SubscriptionRow {
            name: name.to_string(),
            configs: configs.clone(),
        });
    Json(SubscriptionList {
        subscriptions: rows.collect(),
    })
}

/// `GET /v1/subscriptions/{subscription}/configs`.
pub(crate) async fn of_subscription(
    State(services): State<Arc<Services>>,
    Place(name): Place<String>,
) -> Json<ConfigList> {
    subscription_configs(&services, &name)
}

fn subscription_configs(services: &Services, name: &str) -> Json<ConfigList> {
    let image = services.controller.image();
    let none = Overrides::new();
    let own = image.subscription_configs().get(name).unwrap_or(&none);
    list(describe_subscription(own), "")
}

/// `PATCH /v1/subscriptions/{subscription}/configs`.
pub(crate) async fn alter_subscription(
    State(services): State<Arc<Services>>,
    Place(name): Place<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ConfigList>> {
    let wanted: Wanted = read_json(&services, &headers, body).await?;
    let validate_only = wanted.validate_only;
    let changes = vec![(name.clone(), wanted.alteration()?)];
    single(
        services
            .controller
            .alter_subscriptions(changes, validate_only)
            .await,
    )?;
    Ok(subscription_configs(&services, &name))
}
