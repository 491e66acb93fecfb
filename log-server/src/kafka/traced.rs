//! Kafka requests as spans: stands in front of the dispatcher where `otlp-endpoint` is set, and is not there otherwise.
//!
//! What a span tells is read off the request and its answer a second time, for the few requests that are looked at. A span ends when the
//! answer is ready, as `stratalog_request_seconds` does: of a Produce when the disk has its records and its turn has come.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use log_core::protocol::messages::{
    CreateTopicsRequestData, FetchRequestData, ListOffsetsRequestData, MetadataRequestData,
    OffsetCommitRequestData, ProduceRequestData, ProduceResponseData,
};
use log_core::protocol::{
    ApiKey, ErrorCode, Message, RequestPrefix, read_request_header, read_response_header,
};

use crate::kafka::apis::Admission;
use crate::kafka::connection::{Answer, AnswerFuture, Dispatch, Dispatched};
use crate::kafka::frame::Frame;
use crate::kafka::request_context::ConnectionInfo;
use crate::kafka::request_guard;
use crate::kafka::response::{LENGTH_BYTES, Response};
use crate::spans::span::OpenSpan;
use crate::spans::tracer::Tracer;

/// The part of a frame that a client's name is read from. Longer ones are not told.
const HEADER_BYTES_MAX: usize = 4 << 10;

/// A dispatcher, and a tracer that looks at what it does.
#[derive(Debug)]
pub(crate) struct Traced<D> {
    dispatch: D,
    tracer: Arc<Tracer>,
}

/// A request that is looked at.
struct Looked {
    span: OpenSpan,
    api: ApiKey,
    prefix: RequestPrefix,
    tracer: Arc<Tracer>,
}

impl<D> Traced<D> {
    pub(crate) fn new(dispatch: D, tracer: Arc<Tracer>) -> Self {
        Self { dispatch, tracer }
    }

    fn look(&self, connection: &ConnectionInfo, frame: &Frame) -> Option<Looked> {
        let Admission::Serve(served) = frame.admission else {
            return None;
        };
        let (api, prefix) = (served.key, frame.prefix);
        let mut span = self.tracer.begin(None, || format!("{api:?}"))?;
        span.tell("messaging.system", "kafka");
        span.tell("client.address", connection.peer.ip().to_canonical().to_string());
        span.tell("kafka.api_version", i64::from(prefix.api_version));
        let mut head = frame.bytes.slice(..frame.bytes.len().min(HEADER_BYTES_MAX));
        let available = head.len();
        if let Ok(header) = read_request_header(&mut head, prefix) {
            if let Some(client_id) = &header.client_id {
                span.tell("messaging.client.id", client_id.as_str());
            }
            let body = frame.bytes.slice(available - head.len()..);
            if let Some(count) = topic_count(api, body, prefix.api_version) {
                span.tell("kafka.topics", count);
            }
        }
        Some(Looked {
            span,
            api,
            prefix,
            tracer: Arc::clone(&self.tracer),
        })
    }
}

impl Looked {
    fn end(self, answer: &Answer) {
        let error = error_of(self.api, self.prefix, answer);
        self.tracer.take(self.span.end(error));
    }

    /// The same request, whose span ends with it.
    fn watch(self, dispatched: Dispatched) -> Dispatched {
        match dispatched {
            Dispatched::Now(answer) => {
                self.end(&answer);
                Dispatched::Now(answer)
            }
            Dispatched::Later(future) => Dispatched::Later(self.watch_answer(future)),
            Dispatched::Unsynced(future, unsynced) => {
                Dispatched::Unsynced(self.watch_answer(future), unsynced)
            }
            Dispatched::Barrier(future) => Dispatched::Barrier(self.watch_answer(future)),
            Dispatched::Begun(future) => Dispatched::Begun(Box::pin(async move { self.watch(future.await) })),
        }
    }

    fn watch_answer(self, future: AnswerFuture) -> AnswerFuture {
        Box::pin(async move {
            let answer = future.await;
            self.end(&answer);
            answer
        })
    }
}

impl<D: Dispatch> Dispatch for Traced<D> {
    fn dispatch(&self, connection: &Arc<ConnectionInfo>, frame: Frame) -> Dispatched {
        let looked = self.look(connection, &frame);
        let dispatched = self.dispatch.dispatch(connection, frame);
        match looked {
            Some(looked) => looked.watch(dispatched),
            None => dispatched,
        }
    }

    fn dispatch_produces(
        &self,
        connection: &Arc<ConnectionInfo>,
        frames: &mut VecDeque<Frame>,
    ) -> Vec<Dispatched> {
        let looked: Vec<_> = frames.iter().map(|frame| self.look(connection, frame)).collect();
        let dispatched = self.dispatch.dispatch_produces(connection, frames);
        // Those that were not carried out yet are looked at again, or not, when they are.
        let both = dispatched.into_iter().zip(looked);
        both.map(|(dispatched, looked)| match looked {
            Some(looked) => looked.watch(dispatched),
            None => dispatched,
        })
        .collect()
    }
}

/// How many topics a request names.
fn topic_count(api: ApiKey, body: Bytes, version: i16) -> Option<usize> {
    // What would cost more than it should is refused a moment later.
    request_guard::check(api, &body, version).ok()?;
    match api {
        ApiKey::Produce => count(body, version, |request: ProduceRequestData| {
            request.topic_data.len()
        }),
        ApiKey::Fetch => count(body, version, |request: FetchRequestData| request.topics.len()),
        ApiKey::ListOffsets => count(body, version, |request: ListOffsetsRequestData| {
            request.topics.len()
        }),
        ApiKey::OffsetCommit => count(body, version, |request: OffsetCommitRequestData| {
            request.topics.len()
        }),
        ApiKey::CreateTopics => count(body, version, |request: CreateTopicsRequestData| {
            request.topics.len()
        }),
        ApiKey::Metadata => count(body, version, |request: MetadataRequestData| {
            request.topics.map_or(0, |topics| topics.len())
        }),
        _ => None,
    }
}

fn count<M: Message>(mut body: Bytes, version: i16, count: impl FnOnce(M) -> usize) -> Option<usize> {
    M::read_from(&mut body, version).ok().map(count)
}

/// What went wrong: why the connection ends, or the first code of a Produce. Other answers have codes in many places, and few that mean a failure.
fn error_of(api: ApiKey, prefix: RequestPrefix, answer: &Answer) -> Option<String> {
    match answer {
        Answer::Close(reason) => Some(reason.to_string()),
        Answer::Respond(response) if api == ApiKey::Produce => produce_error(prefix, response),
        Answer::Respond(_) | Answer::Silence => None,
    }
}

fn produce_error(prefix: RequestPrefix, response: &Response) -> Option<String> {
    let mut bytes = response.first_slice().slice(LENGTH_BYTES..);
    read_response_header(&mut bytes, ApiKey::Produce, prefix.api_version).ok()?;
    let body = ProduceResponseData::read_from(&mut bytes, prefix.api_version).ok()?;
    let mut partitions = body.responses.iter().flat_map(|topic| &topic.partition_responses);
    let failed = partitions.find(|partition| partition.error_code != ErrorCode::None.code())?;
    Some(format!("{:?}", ErrorCode::from(failed.error_code)))
}
