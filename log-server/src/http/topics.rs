//! Topics.
//! They are listed, created, described and deleted.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use log_core::config::LogConfig;
use serde::{Deserialize, Serialize};

use crate::config::effective::Overrides;
use crate::http::body::read_json;
use crate::http::page::{Page, address, limit, matches, segment};
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::metadata::plan::{NewTopic, TopicSelector};
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::partition::partition::Condition;

/// A row of the list.
#[derive(Debug, Serialize)]
struct TopicRow {
    name: String,
    id: String,
    partitions: i32,
    internal: bool,
    records: i64,
    size_bytes: u64,
    durability: Mode,
    partitions_not_online: usize,
}

/// A topic by itself.
#[derive(Debug, Serialize)]
pub(super) struct TopicDocument {
    name: String,
    id: String,
    partitions: i32,
    internal: bool,
    records: i64,
    size_bytes: u64,
    durability: Durability,
    configs: Overrides,
    partitions_not_online: usize,
}

/// What `acks=all` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    OnDisk,
    Relaxed,
}

#[derive(Debug, Serialize)]
struct Durability {
    mode: Mode,
    flush_messages: Option<i64>,
    flush_ms: Option<i64>,
    meaning: &'static str,
}

impl Durability {
    fn of(config: &LogConfig) -> Self {
        let unless_never = |number: i64| (number != i64::MAX).then_some(number);
        Self {
            mode: mode(config),
            flush_messages: unless_never(config.flush_messages),
            flush_ms: unless_never(config.flush_ms),
            meaning: if config.durable {
                "acks=all is answered when the records are on the disk"
            } else {
                "acks=all is answered from memory; the disk has the records later, as flush_messages, flush_ms or the system say"
            },
        }
    }
}

fn mode(config: &LogConfig) -> Mode {
    if config.durable {
        Mode::OnDisk
    } else {
        Mode::Relaxed
    }
}

/// What all partitions of a topic are together.
#[derive(Debug, Default)]
struct Sum {
    records: i64,
    size_bytes: u64,
    not_online: usize,
}

fn sum(services: &Services, topic: &TopicImage) -> Sum {
    let mut sum = Sum::default();
    for index in 0..topic.partition_count {
        let Some(partition) = services.partitions.get_by_id(topic.id, index) else {
            sum.not_online += 1;
            continue;
        };
        let offsets = partition.offsets();
        sum.records += offsets.high_watermark.minus(offsets.log_start);
        sum.size_bytes += partition.size_in_bytes();
        if !matches!(&*partition.condition(), Condition::Online(_)) {
            sum.not_online += 1;
        }
    }
    sum
}

impl TopicDocument {
    pub(super) fn of(services: &Services, topic: &TopicImage) -> Self {
        let Sum {
            records,
            size_bytes,
            not_online,
        } = sum(services, topic);
        let image = services.controller.image();
        let config = image.layers(&services.config).log_config(&topic.configs);
        Self {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partition_count,
            internal: topic.is_internal,
            records,
            size_bytes,
            durability: Durability::of(&config),
            configs: topic.configs.clone(),
            partitions_not_online: not_online,
        }
    }
}

/// The parameters of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParameters {
    #[serde(default)]
    search: String,
    #[serde(default)]
    internal: bool,
    limit: Option<usize>,
    #[serde(default)]
    after: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct TopicList {
    topics: Vec<TopicRow>,
    total: usize,
    next: Option<String>,
}

/// `GET /v1/topics`.
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    Parameters(asked): Parameters<ListParameters>,
) -> Answer<Json<TopicList>> {
    let limit = limit(asked.limit)?;
    let image = services.controller.image();
    let is_wanted = |topic: &&Arc<TopicImage>| {
        *topic.name != *METADATA_TOPIC
            && (asked.internal || !topic.is_internal)
            && matches(&topic.name, &asked.search)
    };
    let found = image.topics_from("").filter(is_wanted);
    let page = Page::cut(found, limit, |topic| {
        asked.after.is_empty() || *asked.after < *topic.name
    });
    let layers = image.layers(&services.config);
    let rows = page.rows.iter().map(|topic| {
        let sum = sum(&services, topic);
        TopicRow {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partition_count,
            internal: topic.is_internal,
            records: sum.records,
            size_bytes: sum.size_bytes,
            durability: mode(&layers.log_config(&topic.configs)),
            partitions_not_online: sum.not_online,
        }
    });
    let last = page.rows.last().filter(|_| page.has_more);
    let next = last.map(|last| {
        let search = Some(&*asked.search).filter(|search| !search.is_empty());
        address(
            "/v1/topics",
            &[
                ("search", search),
                ("internal", asked.internal.then_some("true")),
                ("limit", Some(&limit.to_string())),
                ("after", Some(&last.name)),
            ],
        )
    });
    Ok(Json(TopicList {
        topics: rows.collect(),
        total: page.total,
        next,
    }))
}

/// A topic to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    #[serde(default)]
    configs: std::collections::BTreeMap<String, Option<String>>,
    #[serde(default)]
    validate_only: bool,
}

/// `POST /v1/topics`.
pub(crate) async fn create(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let wanted: Wanted = read_json(&services, &headers, body).await?;
    let broker_decides = -1;
    if wanted.partitions == Some(broker_decides) {
        // Kafka's protocol says it so; here a number that is not given is the broker's to decide.
        let text = "a topic has 1 partition or more";
        return Err(Problem::new(Code::InvalidPartitions, text));
    }
    let topic = NewTopic {
        partition_count: wanted.partitions.unwrap_or(broker_decides),
        replication_factor: wanted.replication_factor.unwrap_or(-1),
        configs: wanted.configs.into_iter().collect(),
        ..NewTopic::named(wanted.name)
    };
    let created = services
        .controller
        .create_topics(vec![topic], wanted.validate_only)
        .await;
    let topic = single(created)?;
    let document = Json(TopicDocument::of(&services, &topic));
    if wanted.validate_only {
        return Ok(document.into_response());
    }
    let location = [(LOCATION, format!("/v1/topics/{}", segment(&topic.name)))];
    Ok((StatusCode::CREATED, location, document).into_response())
}

/// `GET /v1/topics/{topic}`.
pub(crate) async fn describe(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
) -> Answer<Json<TopicDocument>> {
    let topic = services.topic(&topic)?;
    Ok(Json(TopicDocument::of(&services, &topic)))
}

/// `DELETE /v1/topics/{topic}`.
pub(crate) async fn remove(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
) -> Answer<StatusCode> {
    let topic = services.topic(&topic)?;
    let selector = TopicSelector::Name(topic.name.to_string());
    single(services.controller.delete_topics(vec![selector]).await)?;
    services.groups.topics_deleted().await;
    Ok(StatusCode::NO_CONTENT)
}

/// The result of a request about one thing.
pub(super) fn single<T, E: Into<Problem>>(results: Vec<Result<T, E>>) -> Result<T, Problem> {
    match results.into_iter().next() {
        Some(result) => result.map_err(Into::into),
        None => Err(Problem::new(Code::Internal, "the request was not carried out")),
    }
}
