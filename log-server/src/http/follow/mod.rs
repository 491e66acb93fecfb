//! `GET /v1/topics/{topic}/follow`: records as they come, as server-sent events or as NDJSON.
//!
//! A follower is a set of [`Cursor`]s, one for each partition, and nothing else: no record waits in memory but those that are being sent. The
//! stream is driven by whoever reads it. Positions go out with each record, so that a reader which comes back with them goes on where it was.
//!
//! | module | owns |
//! |---|---|
//! | `event` | what goes out, in both forms |
//! | `filter` | which records are wanted |
//! | `position` | places in several partitions as text |

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use log_core::model::Offset;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use crate::http::cursor::{end_for, is_quick, reading, start_offset, walk};
use crate::http::fetch::{IsolationParameter, accepted};
use crate::http::parameters::{Parameters, Place, Start, Time};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::record_output::{Encoding, Encodings, write_record};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::metrics::counter::Held;
use crate::partition::error::PartitionError;
use crate::partition::fetch_waiter::{FetchWaiter, WatchGuard};
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Isolation, Partition, PartitionSlice};
use crate::shutdown::ShutdownSignal;

mod event;
mod filter;
mod position;

use event::Form;
use filter::Filter;
use position::Positions;

/// Partitions of one follower: each record carries the places in all of them.
const PARTITIONS_MAX: usize = 256;
/// What is read of a partition at once.
const READ_BYTES: usize = 256 << 10;
/// What is sent at once.
const SEND_BYTES: usize = 64 << 10;
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
    format: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    /// Where the partitions end when the request comes.
    End,
}

/// A partition and where its follower stands in it.
#[derive(Debug)]
struct Cursor {
    partition: Arc<Partition>,
    index: i32,
    next: Offset,
    /// Where it is done.
    end: Option<Offset>,
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
    let heartbeat_ms = asked.heartbeat_ms.unwrap_or(HEARTBEAT_MS);
    if !(HEARTBEAT_MS_LEAST..=HEARTBEAT_MS_MOST).contains(&heartbeat_ms) {
        let text = format!("heartbeat_ms is {HEARTBEAT_MS_LEAST} to {HEARTBEAT_MS_MOST}");
        return Err(Problem::invalid(text));
    }
    let filter = Filter::new(
        asked.key.as_deref(),
        asked.key_base64.as_deref(),
        asked.pointer.as_deref(),
        asked.equals.as_deref(),
    )?;
    let isolation = asked.isolation.unwrap_or_default().isolation();
    let cursors = cursors(&services, &topic, &asked, isolation, &headers).await?;
    let waiter = FetchWaiter::new();
    // First watch, then look: what comes between the two is seen by the look.
    let watches = cursors
        .iter()
        .map(|cursor| cursor.partition.watch(&waiter))
        .collect();
    let follower = Follower {
        shutdown: services.shutdown.clone(),
        _counted: services.sources.front.streams.hold(),
        services,
        form,
        isolation,
        filter: Arc::new(filter),
        encodings: Encodings {
            key: asked.key_encoding.unwrap_or_default(),
            value: asked.encoding.unwrap_or_default(),
        },
        cursors,
        turn: 0,
        left: asked.limit,
        heartbeat: Duration::from_millis(heartbeat_ms),
        sent_at: Instant::now(),
        waiter,
        _watches: watches,
        output: VecDeque::new(),
        is_over: false,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), follower))
    });
    let head = [(CONTENT_TYPE, form.media_type()), (CACHE_CONTROL, "no-store")];
    Ok((head, Body::from_stream(events)).into_response())
}

/// Where a follower begins: at the positions that it comes back with, or as it asks.
async fn cursors(
    services: &Services,
    topic: &TopicImage,
    asked: &FollowParameters,
    isolation: Isolation,
    headers: &HeaderMap,
) -> Result<Vec<Cursor>, Problem> {
    let indexes = position::partitions(asked.partitions.as_deref(), topic.partition_count)?;
    if PARTITIONS_MAX < indexes.len() {
        let text = format!(
            "at most {PARTITIONS_MAX} partitions can be followed at once: name some with partitions=0,1,2"
        );
        return Err(Problem::invalid(text));
    }
    if 1 < indexes.len() && matches!(asked.offset, Some(Start::Offset(_))) {
        return Err(Problem::invalid(
            "an offset is one of a single partition: name it with partitions=0",
        ));
    }
    let resumed = Positions::from_headers(headers)?;
    let start = match (asked.offset, asked.time) {
        (None, None) => Some(Start::Latest),
        (start, _) => start,
    };
    let mut cursors = Vec::with_capacity(indexes.len());
    for index in indexes {
        let partition = services.partition(topic, index)?;
        let offsets = partition.condition().reader()?.offsets();
        let next = match resumed.get(index) {
            // What is gone by now is told as a gap; what is not there yet was lost with an unclean stop, and is waited for.
            Some(next) => next,
            None => start_offset(&partition, start, asked.time, isolation).await?,
        };
        cursors.push(Cursor {
            end: asked.until.map(|Until::End| end_for(isolation, &offsets)),
            partition,
            index,
            next,
        });
    }
    Ok(cursors)
}

/// A reader, and what it has yet to be sent.
struct Follower {
    services: Arc<Services>,
    form: Form,
    isolation: Isolation,
    filter: Arc<Filter>,
    encodings: Encodings,
    cursors: Vec<Cursor>,
    /// Whose turn it is, so that a busy partition does not keep the others waiting.
    turn: usize,
    /// Records that are yet wanted.
    left: Option<u64>,
    heartbeat: Duration,
    sent_at: Instant,
    shutdown: ShutdownSignal,
    waiter: Arc<FetchWaiter>,
    _watches: Vec<WatchGuard>,
    _counted: Held,
    output: VecDeque<Bytes>,
    is_over: bool,
}

impl Follower {
    /// The next piece of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.output.pop_front() {
                self.sent_at = Instant::now();
                return Some(piece);
            }
            if self.is_over {
                return None;
            }
            if self.shutdown.is_requested() {
                self.end("stopping");
                continue;
            }
            if let Some(place) = self.readable() {
                if let Err(problem) = self.read(place).await {
                    self.output.push_back(self.form.problem(&problem));
                    self.is_over = true;
                }
                continue;
            }
            if self.cursors.iter().all(Cursor::is_done) {
                self.end("until");
                continue;
            }
            let heartbeat = self.sent_at + self.heartbeat;
            tokio::select! {
                biased;
                () = self.waiter.notified() => {}
                _ = self.shutdown.requested() => {}
                () = sleep_until(heartbeat) => {
                    let heartbeat = self.form.heartbeat(&self.positions());
                    self.output.push_back(heartbeat);
                }
            }
        }
    }

    fn end(&mut self, reason: &str) {
        self.output.push_back(self.form.end(reason));
        self.is_over = true;
    }

    fn positions(&self) -> Positions {
        self.cursors
            .iter()
            .map(|cursor| (cursor.index, cursor.next))
            .collect()
    }

    /// A cursor that has something to read or to tell, the next in turn first.
    fn readable(&mut self) -> Option<usize> {
        let count = self.cursors.len();
        let place = (0..count).map(|step| (self.turn + step) % count).find(|place| {
            let cursor = self.cursors.get(*place);
            cursor.is_some_and(|cursor| cursor.has_news(self.isolation))
        })?;
        self.turn = place + 1;
        Some(place)
    }

    /// Reads on in one partition, and puts what is wanted of it into the output.
    async fn read(&mut self, place: usize) -> Result<(), Problem> {
        let Some(cursor) = self.cursors.get(place) else {
            return Ok(());
        };
        let (index, from, end) = (cursor.index, cursor.next, cursor.end);
        let read = reading(from, READ_BYTES, self.isolation);
        let slice = match cursor.partition.read_patiently(read).await {
            Ok(slice) => slice,
            Err(PartitionError::OffsetOutOfRange { log_start, .. }) if from < log_start => {
                self.output.push_back(self.form.gap(index, from, log_start));
                self.moved(place, log_start);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let passage = Passage {
            form: self.form,
            filter: Arc::clone(&self.filter),
            encodings: self.encodings,
            positions: self.positions(),
            index,
            end,
            left: self.left.unwrap_or(u64::MAX),
        };
        let passed = if is_quick(&slice) {
            passage.make(&slice, from)?
        } else {
            let turn = Arc::clone(&self.services.decoders).acquire_owned().await;
            let turn = turn.map_err(|_| Problem::new(Code::Stopping, "the broker is stopping"))?;
            blocking(move || {
                let passed = passage.make(&slice, from);
                drop(turn);
                passed
            })
            .await??
        };
        if let Some(cursor) = self.cursors.get(place) {
            cursor
                .partition
                .count_sent_records(passed.records, passed.bytes.len());
        }
        self.moved(place, passed.next);
        if !passed.bytes.is_empty() {
            self.output.push_back(Bytes::from(passed.bytes));
        }
        if let Some(left) = &mut self.left {
            *left -= passed.records;
            if *left == 0 {
                self.end("limit");
            }
        }
        // Readers that are far behind must not hold the thread.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn moved(&mut self, place: usize, next: Offset) {
        if let Some(cursor) = self.cursors.get_mut(place) {
            cursor.next = next;
        }
    }
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| end <= self.next)
    }

    fn has_news(&self, isolation: Isolation) -> bool {
        if self.is_done() {
            return false;
        }
        let condition = self.partition.condition();
        let Ok(reader) = condition.reader() else {
            // Why not is for the reader to hear.
            return true;
        };
        let offsets = reader.offsets();
        self.next < offsets.log_start || self.next < end_for(isolation, &offsets)
    }
}

/// A stretch of one partition on its way out.
struct Passage {
    form: Form,
    filter: Arc<Filter>,
    encodings: Encodings,
    positions: Positions,
    index: i32,
    end: Option<Offset>,
    left: u64,
}

struct Passed {
    bytes: Vec<u8>,
    next: Offset,
    records: u64,
}

impl Passage {
    fn make(mut self, slice: &PartitionSlice, from: Offset) -> Result<Passed, Problem> {
        let (mut bytes, mut document, mut records) = (Vec::new(), Vec::new(), 0);
        let next = walk(slice, from, |record| {
            if self.end.is_some_and(|end| end <= record.offset) {
                return ControlFlow::Break(());
            }
            if self.filter.wants(record) {
                document.clear();
                write_record(&mut document, record, Some(self.index), self.encodings);
                self.positions.set(self.index, record.offset.plus(1));
                self.form.write_record(&mut bytes, &document, &self.positions);
                records += 1;
            }
            if records == self.left || SEND_BYTES <= bytes.len() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(Passed { bytes, next, records })
    }
}
