//! `GET /v1/topics/{topic}/follow`: records as they come, as server-sent events or as NDJSON; and what a socket follows.
//!
//! Positions go out with each record, so that a reader which comes back with them goes on where it was. The stream is driven by whoever reads it.
//!
//! | module | owns |
//! |---|---|
//! | `event` | what goes out, in all forms |
//! | `filter` | which records are wanted |
//! | `follower` | a reader of several partitions |
//! | `passage` | a stretch of one partition on its way out |
//! | `position` | places in several partitions as text |

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;

use crate::http::cursor::{end_for, start_offset};
use crate::http::fetch::{IsolationParameter, accepted};
use crate::http::parameters::{Parameters, Place, Start, Time};
use crate::http::problem::{Answer, Problem};
use crate::http::record_output::{Encoding, Encodings};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;

mod event;
mod filter;
mod follower;
mod passage;
mod position;

use event::Form;
use filter::Filter;
use follower::{Cursor, Follower, Growth, PARTITIONS_MAX, Wishes, too_many_partitions};
use position::Positions;

const HEARTBEAT_MS: u64 = 15_000;
const HEARTBEAT_MS_LEAST: u64 = 1000;
const HEARTBEAT_MS_MOST: u64 = 60_000;

/// The parameters of the route.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowParameters {
    offset: Option<Start>,
    time: Option<Time>,
    partitions: Option<String>,
    until: Option<Until>,
    limit: Option<u64>,
    key: Option<String>,
    key_base64: Option<String>,
    pointer: Option<String>,
    equals: Option<String>,
    encoding: Option<Encoding>,
    key_encoding: Option<Encoding>,
    isolation: Option<IsolationParameter>,
    heartbeat_ms: Option<u64>,
    position: Option<String>,
    format: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    /// Where the partitions end when the request comes.
    End,
}

impl FollowParameters {
    /// What of it concerns each record, checked.
    fn wishes(&self, form: Form) -> Result<Wishes, Problem> {
        let filter = Filter::new(
            self.key.as_deref(),
            self.key_base64.as_deref(),
            self.pointer.as_deref(),
            self.equals.as_deref(),
        )?;
        Ok(Wishes {
            form,
            isolation: self.isolation.unwrap_or_default().isolation(),
            filter: Arc::new(filter),
            encodings: Encodings {
                key: self.key_encoding.unwrap_or_default(),
                value: self.encoding.unwrap_or_default(),
            },
            limit: self.limit,
            heartbeat: self.heartbeat()?,
        })
    }

    /// How often something is sent.
    pub(super) fn heartbeat(&self) -> Result<Duration, Problem> {
        let heartbeat_ms = self.heartbeat_ms.unwrap_or(HEARTBEAT_MS);
        if !(HEARTBEAT_MS_LEAST..=HEARTBEAT_MS_MOST).contains(&heartbeat_ms) {
            let text = format!("heartbeat_ms is {HEARTBEAT_MS_LEAST} to {HEARTBEAT_MS_MOST}");
            return Err(Problem::invalid(text));
        }
        Ok(Duration::from_millis(heartbeat_ms))
    }

    /// Whether partitions that are added while the stream goes on belong to it.
    fn is_about_the_whole_topic(&self) -> bool {
        self.partitions.is_none() && self.until.is_none()
    }
}

/// Follows a topic.
pub(crate) async fn follow(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    Parameters(asked): Parameters<FollowParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    let topic = services.topic(&topic)?;
    let form = match asked.format {
        Some(form) => form,
        None => Form::accepted(accepted(&headers)?),
    };
    if asked.limit == Some(0) {
        return Err(Problem::invalid("limit is 1 or more"));
    }
    let follower = follower(&services, &topic, &asked, form, &headers).await?;
    let streams = services.sources.front.streams.hold();
    let events = pieces(follower).map(move |piece| {
        let _open = &streams;
        Ok::<_, std::convert::Infallible>(piece)
    });
    let head = [(CONTENT_TYPE, form.media_type()), (CACHE_CONTROL, "no-store")];
    Ok((head, Body::from_stream(events)).into_response())
}

/// What a socket is sent of the records that it asks for: messages, each with a line break behind it.
pub(super) type Messages = BoxStream<'static, Bytes>;

/// Follows a topic for a socket. One that wants no record (`limit=0`) only writes.
pub(super) async fn messages(
    services: &Services,
    topic: &TopicImage,
    asked: &FollowParameters,
    headers: &HeaderMap,
) -> Result<Option<Messages>, Problem> {
    if asked.format.is_some() {
        return Err(Problem::invalid("format: a socket has messages alone"));
    }
    if asked.limit == Some(0) {
        return Ok(None);
    }
    let follower = follower(services, topic, asked, Form::Message, headers).await?;
    Ok(Some(pieces(follower).boxed()))
}

fn pieces(follower: Follower) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((piece, follower))
    })
}

/// A follower at the positions with which a reader comes back, or where it asks to begin.
///
/// | the id | the partition begins |
/// |---|---|
/// | there is none | where `offset` or `time` says |
/// | has its position, and the log has it | there |
/// | has its position, and the log ends before it: made anew, or its end was lost with an unclean stop | at the log's end, and a gap is told |
/// | does not name it: it was added while nobody read | at its first record |
async fn follower(
    services: &Services,
    topic: &TopicImage,
    asked: &FollowParameters,
    form: Form,
    headers: &HeaderMap,
) -> Result<Follower, Problem> {
    let wishes = asked.wishes(form)?;
    let resumed = Positions::of_request(headers, asked.position.as_deref())?;
    let indexes = position::partitions(asked.partitions.as_deref(), topic.partition_count)?;
    if PARTITIONS_MAX < indexes.len() {
        return Err(too_many_partitions());
    }
    if 1 < indexes.len() && matches!(asked.offset, Some(Start::Offset(_))) {
        return Err(Problem::invalid(
            "an offset is one of a single partition: name it with partitions=0",
        ));
    }
    let start = match (asked.offset, asked.time) {
        (None, None) => Some(Start::Latest),
        (start, _) => start,
    };
    let isolation = wishes.isolation;
    let (mut cursors, mut gaps) = (Vec::with_capacity(indexes.len()), Vec::new());
    for index in indexes {
        let partition = services.partition(topic, index)?;
        let offsets = partition.condition().reader()?.offsets();
        let next = match resumed.get(index) {
            Some(next) if offsets.high_watermark < next => {
                gaps.push(wishes.form.gap(index, next, offsets.high_watermark));
                offsets.high_watermark
            }
            // What is gone by now is told as a gap when it is read.
            Some(next) => next,
            None if !resumed.is_empty() && asked.partitions.is_none() => offsets.log_start,
            None => start_offset(&partition, start, asked.time, isolation).await?,
        };
        cursors.push(Cursor {
            end: asked.until.map(|Until::End| end_for(isolation, &offsets)),
            partition,
            index,
            next,
        });
    }
    let growth = asked.is_about_the_whole_topic().then(|| Growth {
        registry: Arc::clone(&services.partitions),
        topic: topic.id,
    });
    let means = services.reading_means();
    Ok(Follower::new(cursors, gaps, growth, wishes, means))
}
