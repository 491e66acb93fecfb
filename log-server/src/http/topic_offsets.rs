//! `GET /v1/topics/{topic}/offsets`.
//! It tells the offset of each partition at an end of its log, or at a time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, stream};
use log_core::model::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::http::parameters::{Parameters, Place, Time};
use crate::http::problem::{Answer, Problem};
use crate::http::services::Services;
use crate::partition::offset_query::OffsetQuery;
use crate::partition::partition::Isolation;

/// Partitions that are looked into at once: each look may wait for the disk on a thread of its own.
const LOOKS_MAX: usize = 8;

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Earliest,
    Latest,
    MaxTimestamp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OffsetsParameters {
    at: Option<At>,
    time: Option<Time>,
}

#[derive(Debug, Serialize)]
struct OffsetRow {
    partition: i32,
    offset: Option<i64>,
    timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Debug, Serialize)]
pub(crate) struct OffsetList {
    offsets: Vec<OffsetRow>,
}

/// Looks all partitions up.
pub(crate) async fn look_up(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    Parameters(asked): Parameters<OffsetsParameters>,
) -> Answer<Json<OffsetList>> {
    let query = match (asked.at, asked.time) {
        (None, Some(time)) => OffsetQuery::Timestamp(time.0),
        (Some(At::Earliest), None) => OffsetQuery::Earliest,
        (Some(At::Latest), None) => OffsetQuery::Latest,
        (Some(At::MaxTimestamp), None) => OffsetQuery::MaxTimestamp,
        _ => {
            return Err(Problem::invalid(
                "give at (earliest, latest or max_timestamp) or time",
            ));
        }
    };
    let topic = services.topic(&topic)?;
    let rows = stream::iter(0..topic.partition_count).map(|index| {
        let partition = services.partition(&topic, index);
        async move {
            let found = async { Ok(partition?.offset_for(query, Isolation::Uncommitted).await?) };
            row(index, found.await)
        }
    });
    let offsets = rows.buffered(LOOKS_MAX).collect().await;
    Ok(Json(OffsetList { offsets }))
}

fn row(partition: i32, found: Result<Option<log_core::log::OffsetAndTimestamp>, Problem>) -> OffsetRow {
    let mut row = OffsetRow {
        partition,
        offset: None,
        timestamp: None,
        error: None,
    };
    match found {
        Ok(None) => {}
        Ok(Some(found)) => {
            row.offset = Some(found.offset.get());
            row.timestamp = Some(found.timestamp)
                .filter(|time| *time != TimestampMs::NONE)
                .map(TimestampMs::get);
        }
        Err(problem) => row.error = Some(problem),
    }
    row
}
