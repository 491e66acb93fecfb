//! The partitions of a topic.
//! They are listed with their offsets and sizes, and added to.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use log_core::log::LogOffsets;
use log_core::model::Offset;
use serde::{Deserialize, Serialize};

use crate::http::body::read_json;
use crate::http::page::{Page, Paging, address, limit, segment};
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::Answer;
use crate::http::services::Services;
use crate::http::topics::{TopicDocument, single};
use crate::metadata::image::TopicImage;
use crate::metadata::plan::MorePartitions;
use crate::partition::partition::Condition;

#[derive(Debug, Serialize)]
struct PartitionRow {
    partition: i32,
    condition: &'static str,
    error: Option<String>,
    leader_epoch: Option<i32>,
    log_start_offset: i64,
    last_stable_offset: i64,
    high_watermark: i64,
    log_end_offset: i64,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct PartitionList {
    partitions: Vec<PartitionRow>,
    total: usize,
    next: Option<String>,
}

/// `GET /v1/topics/{topic}/partitions`.
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    Parameters(asked): Parameters<Paging>,
) -> Answer<Json<PartitionList>> {
    let limit = limit(asked.limit)?;
    let topic = services.topic(&topic)?;
    let after = asked.after.unwrap_or(-1);
    let page = Page::cut(0..topic.partition_count, limit, |index| after < *index);
    let last = page.rows.last().filter(|_| page.has_more);
    let next = last.map(|last| {
        let path = format!("/v1/topics/{}/partitions", segment(&topic.name));
        let parameters = [
            ("after", Some(last.to_string())),
            ("limit", Some(limit.to_string())),
        ];
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| (*name, value.as_deref()))
            .collect();
        address(&path, &parameters)
    });
    Ok(Json(PartitionList {
        partitions: page
            .rows
            .iter()
            .map(|index| row(&services, &topic, *index))
            .collect(),
        total: page.total,
        next,
    }))
}

fn row(services: &Services, topic: &TopicImage, index: i32) -> PartitionRow {
    let partition = services.partitions.get_by_id(topic.id, index);
    let condition = partition.as_ref().map(|partition| partition.condition());
    let (name, has_log) = match condition.as_deref() {
        Some(Condition::Online(_)) => ("online", true),
        Some(Condition::Latched { .. }) => ("latched", true),
        Some(Condition::Offline { .. } | Condition::Closed(_)) | None => ("offline", false),
    };
    let nothing = LogOffsets::at(Offset::ZERO);
    let offsets = partition
        .as_ref()
        .map_or(nothing, |partition| partition.offsets());
    PartitionRow {
        partition: index,
        condition: name,
        error: partition.as_ref().and_then(|partition| partition.latch()),
        leader_epoch: partition
            .as_ref()
            .filter(|_| has_log)
            .map(|partition| partition.leader_epoch().get()),
        log_start_offset: offsets.log_start.get(),
        last_stable_offset: offsets.last_stable.get(),
        high_watermark: offsets.high_watermark.get(),
        log_end_offset: offsets.log_end.get(),
        size_bytes: partition.map_or(0, |partition| partition.size_in_bytes()),
    }
}

/// How many partitions there are to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    count: i32,
    #[serde(default)]
    validate_only: bool,
}

/// `POST /v1/topics/{topic}/partitions`.
pub(crate) async fn add(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<TopicDocument>> {
    let wanted: Wanted = read_json(&services, &headers, body).await?;
    let topic = services.topic(&topic)?;
    let more = MorePartitions {
        topic: topic.name.to_string(),
        partition_count: wanted.count,
        assignments: None,
    };
    let changed = services
        .controller
        .create_partitions(vec![more], wanted.validate_only)
        .await;
    let topic = single(changed)?;
    Ok(Json(TopicDocument::of(&services, &topic)))
}
