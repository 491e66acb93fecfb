//! `Produce`, versions 3 to 13 (0 to 2 are advertised for older librdkafka and refused, both as Kafka does).
//!
//! - What a request appends, it has appended when this returns, or when the wait that it begins with is over; later requests of the
//!   connection come behind it. Only the answer waits for the disk, and several requests wait for the same sync. Requests that came together, each with records for one
//!   partition, are appended together (`single`).
//! - `acks=0`: no answer, and an error closes the connection. Other values than −1, 0 and 1: `INVALID_REQUIRED_ACKS`.
//! - Version 7 (KIP-110) allows zstd. Version 8 (KIP-467) tells which records of a refused batch are at fault.
//! - Version 13 (KIP-516) names topics by id.
//! - The request's time limit bounds the wait for the disk (`REQUEST_TIMED_OUT`); below a second it counts as a second,
//!   because in Kafka one broker never makes its producers wait. It begins when the records are to be appended, as in Kafka. A request that
//!   is alone with its partition is answered when its sync ends, also after that time.
//! - Differs from Kafka: refusals carry a message where Kafka's carry none; null instead of records is `INVALID_RECORD`, where
//!   Kafka never answers; a partition named twice gets both batches.
//! - A batch that is to be written anew (`compression.type`) waits for a turn at that, and the connection's next request with it. The same
//!   limit bounds both waits together: where the turn does not come, nothing is appended. In Kafka a request waits as long for one
//!   of the threads that do it, and no limit holds.
//! - The first batch of a transaction on a partition waits for the coordinator's word (KIP-890, `transaction`); the connection's next
//!   request waits with it. Without a transactional id it is `TRANSACTIONAL_ID_AUTHORIZATION_FAILED` for the whole request, as in Kafka.

mod single;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use log_core::model::{TimestampMs, TopicId};
use log_core::producer_state::verification::TransactionProof;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use log_core::protocol::messages::{ProduceRequestData, ProduceResponseData};
use log_core::protocol::{ErrorCode, KafkaString, RequestPrefix};
use log_core::record::validator::ProduceError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use self::single::Single;
use self::transaction::{Proofs, Verification};
use crate::kafka::connection::{Answer, CloseReason, Dispatched};
use crate::kafka::error_map::{partition_error, record_errors};
use crate::kafka::request_context::RequestContext;
use crate::kafka::response::Response;
use crate::kafka::services::{Services, kafka_string, message};
use crate::metadata::topic_name;
use crate::partition::error::{DurableResult, PartitionError};
use crate::partition::partition::{Ack, Acks, Appended, Partition};

pub(crate) use self::single::Together;

/// The first version that names topics by id.
const BY_ID: i16 = 13;
/// The first version whose clients read zstd.
const ZSTD: i16 = 7;
/// How many refusals are named in the line about a connection that is closed for them.
const FAILURES_NAMED: usize = 3;
/// The shortest time that a producer waits.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Appends everything, and answers when it may.
pub(crate) fn handle(
    services: &Arc<Services>,
    context: &RequestContext,
    request: ProduceRequestData,
) -> Dispatched {
    match Single::of(services, context, request).and_then(Single::carry_out) {
        Ok(dispatched) => dispatched,
        Err(request) => handle_rows(services, context.prefix, request),
    }
}

/// Whether the connection's next request may have to wait until more is known than the request says.
fn may_wait(request: &ProduceRequestData) -> bool {
    transaction::is_transactional(request)
}

/// A request with records for any number of partitions, or of a transaction, or that has to wait for a turn.
fn handle_rows(services: &Arc<Services>, prefix: RequestPrefix, request: ProduceRequestData) -> Dispatched {
    let refusal = refuse_all(&request);
    let verified = refusal.map_or_else(
        || Verification::begin(services, prefix.api_version, &request),
        Err,
    );
    let services = Arc::clone(services);
    let (all_refused, proofs) = match verified {
        Ok(verification) if verification.asks_nobody() => (None, verification.into_proofs()),
        Ok(verification) => {
            return Dispatched::Begun(Box::pin(async move {
                let proofs = verification.ask(&services, prefix.api_version, &request).await;
                append(&services, prefix, request, None, &proofs).await
            }));
        }
        Err(error) => (Some(error), Proofs::default()),
    };
    let mut appending =
        Box::pin(async move { append(&services, prefix, request, all_refused, &proofs).await });
    // Most wait for nobody.
    match (&mut appending).now_or_never() {
        Some(dispatched) => dispatched,
        None => Dispatched::Begun(appending),
    }
}

async fn append(
    services: &Services,
    prefix: RequestPrefix,
    request: ProduceRequestData,
    all_refused: Option<ErrorCode>,
    proofs: &Proofs,
) -> Dispatched {
    let until = Instant::now() + wait(&request);
    let mut append = Append::of(services, prefix.api_version, &request);
    append.all_refused = all_refused;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for (place, topic) in (0..).zip(request.topic_data) {
        responses.push(append.topic(place, &topic, proofs, until).await);
    }
    append.answer(prefix, until, responses)
}

/// How long the producer waits for a turn and the disk.
fn wait(request: &ProduceRequestData) -> Duration {
    Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).max(WAIT_MIN)
}

fn acks(wire: i16) -> Option<Acks> {
    match wire {
        -1 => Some(Acks::All),
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        _ => None,
    }
}

fn unacknowledged(failures: &[String]) -> Answer {
    if failures.is_empty() {
        Answer::Silence
    } else {
        Answer::Close(CloseReason::UnacknowledgedProduceFailed(failures.join("; ")))
    }
}

/// Why nothing of the request is appended.
fn refuse_all(request: &ProduceRequestData) -> Option<ErrorCode> {
    let mut partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let is_transactional = |records: &Option<Bytes>| {
        let attributes = records.as_deref().and_then(BatchAttributes::peek);
        attributes.is_some_and(BatchAttributes::is_transactional)
    };
    let unnamed = request.transactional_id.is_none();
    (unnamed && partitions.any(|partition| is_transactional(&partition.records)))
        .then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

/// An append that waits for the disk: where its row stands, and who will tell.
struct Waiting {
    topic: usize,
    row: usize,
    durable: oneshot::Receiver<DurableResult>,
}

struct Append<'a> {
    services: &'a Services,
    version: i16,
    /// `None`: a value that does not exist.
    acks: Option<Acks>,
    all_refused: Option<ErrorCode>,
    waiting: Vec<Waiting>,
    /// For a client that gets no answer: the first few.
    failures: Vec<String>,
}

/// Why a batch was not appended.
struct Refusal {
    error: ErrorCode,
    cause: Option<PartitionError>,
    log_start: i64,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self {
            error,
            cause: None,
            log_start: -1,
        }
    }
}

impl Refusal {
    fn by(error: PartitionError, partition: &Partition) -> Self {
        Self {
            error: partition_error(&error),
            log_start: log_start_beside(&error, partition),
            cause: Some(error),
        }
    }
}

fn accepted(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset.get(),
        log_append_time_ms: appended.log_append_time.map_or(-1, TimestampMs::get),
        log_start_offset: appended.log_start.get(),
        ..PartitionProduceResponse::default()
    }
}

impl<'a> Append<'a> {
    fn of(services: &'a Services, version: i16, request: &ProduceRequestData) -> Self {
        Self {
            services,
            version,
            acks: acks(request.acks),
            all_refused: None,
            waiting: Vec::new(),
            failures: Vec::new(),
        }
    }

    async fn topic(
        &mut self,
        place: usize,
        topic: &TopicProduceData,
        proofs: &Proofs,
        until: Instant,
    ) -> TopicProduceResponse {
        let mut rows = Vec::with_capacity(topic.partition_data.len());
        for (row, data) in (0..).zip(&topic.partition_data) {
            let result = match proofs.at((place, row)) {
                Ok(proof) => self.partition(topic, data, proof, until).await,
                Err(refusal) => Err(refusal),
            };
            rows.push(match result {
                Ok(appended) => {
                    let partition_row = accepted(data.index, &appended);
                    if let Ack::WhenDurable(durable) = appended.ack {
                        self.waiting.push(Waiting {
                            topic: place,
                            row,
                            durable,
                        });
                    }
                    partition_row
                }
                Err(refusal) => self.refused(topic.name.as_str(), data.index, refusal),
            });
        }
        self.answered(topic, rows)
    }

    async fn partition(
        &self,
        topic: &TopicProduceData,
        data: &PartitionProduceData,
        proof: &TransactionProof,
        until: Instant,
    ) -> Result<Appended, Refusal> {
        let (partition, records, acks) = self.admit(topic, data)?;
        let appended = partition.append_in_transaction(records, acks, proof, until);
        let appended = appended.await;
        appended.map_err(|error| Refusal::by(error, &partition))
    }

    fn answered(
        &self,
        topic: &TopicProduceData,
        rows: Vec<PartitionProduceResponse>,
    ) -> TopicProduceResponse {
        TopicProduceResponse {
            // Copied: the name is a slice of the request, and the answer may wait.
            name: if BY_ID <= self.version {
                KafkaString::default()
            } else {
                kafka_string(topic.name.as_str())
            },
            topic_id: topic.topic_id,
            partition_responses: rows,
            ..TopicProduceResponse::default()
        }
    }

    /// The answer to a request all of whose rows are known, but for what the disk says.
    fn answer(
        self,
        prefix: RequestPrefix,
        until: Instant,
        responses: Vec<TopicProduceResponse>,
    ) -> Dispatched {
        let Self {
            acks,
            waiting,
            failures,
            ..
        } = self;
        let response = ProduceResponseData {
            responses,
            ..ProduceResponseData::default()
        };
        if acks == Some(Acks::None) {
            return Dispatched::Now(unacknowledged(&failures));
        }
        if waiting.is_empty() {
            return Dispatched::Now(Answer::from_response(Response::encode(prefix, &response)));
        }
        Dispatched::Later(Box::pin(async move {
            let response = await_disk(response, waiting, until).await;
            Answer::from_response(Response::encode(prefix, &response))
        }))
    }

    /// What is to be appended where, if anything may be.
    fn admit<'r>(
        &self,
        topic: &TopicProduceData,
        data: &'r PartitionProduceData,
    ) -> Result<(Arc<Partition>, &'r Bytes, Acks), Refusal> {
        if let Some(error) = self.all_refused {
            return Err(error.into());
        }
        let id = TopicId::from(topic.topic_id);
        let partition = find(self.services, self.version, topic.name.as_str(), id, data.index)?;
        let records = data
            .records
            .as_ref()
            .filter(|records| !records.is_empty())
            .ok_or(ErrorCode::InvalidRecord)?;
        let attributes = BatchAttributes::peek(records);
        if self.version < ZSTD && attributes.is_some_and(BatchAttributes::is_zstd) {
            return Err(ErrorCode::UnsupportedCompressionType.into());
        }
        let acks = self.acks.ok_or(ErrorCode::InvalidRequiredAcks)?;
        if topic_name::is_internal(&partition.name().topic) {
            return Err(ErrorCode::InvalidTopicException.into());
        }
        Ok((partition, records, acks))
    }

    fn refused(&mut self, name: &str, index: i32, refusal: Refusal) -> PartitionProduceResponse {
        let Refusal {
            error,
            cause,
            log_start,
        } = refusal;
        if self.acks == Some(Acks::None) {
            let why = cause
                .as_ref()
                .map_or_else(|| error.to_string(), ToString::to_string);
            if self.failures.len() < FAILURES_NAMED {
                let name: String = name.escape_debug().take(100).collect();
                self.failures.push(format!("{name}-{index}: {why}"));
            }
        }
        let faults = cause.as_ref().map(record_errors).unwrap_or_default();
        PartitionProduceResponse {
            index,
            error_code: error.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: log_start,
            record_errors: faults
                .into_iter()
                .map(|(batch_index, text)| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: Some(message(&text)),
                    ..BatchIndexAndErrorMessage::default()
                })
                .collect(),
            error_message: cause.as_ref().map(message),
            ..PartitionProduceResponse::default()
        }
    }
}

fn find(
    services: &Services,
    version: i16,
    name: &str,
    id: TopicId,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    if version < BY_ID {
        return services
            .partition(name, index)
            .ok_or(ErrorCode::UnknownTopicOrPartition);
    }
    services.partition_by_id(id, index).ok_or_else(|| {
        // The topic is known, and has fewer partitions.
        match services.partition_by_id(id, 0) {
            Some(_) => ErrorCode::UnknownTopicOrPartition,
            None => ErrorCode::UnknownTopicId,
        }
    })
}

/// Kafka tells the log start beside what the log itself refused, and −1 beside what it never saw.
fn log_start_beside(error: &PartitionError, partition: &Partition) -> i64 {
    let is_the_logs = match error {
        PartitionError::Producer(_) => true,
        PartitionError::Invalid(refusal) => matches!(
            **refusal,
            ProduceError::BaseOffset { .. }
                | ProduceError::Control
                | ProduceError::Sequence { .. }
                | ProduceError::Record(_)
                | ProduceError::InvalidRecords { .. }
                | ProduceError::InvalidTimestamps { .. }
        ),
        _ => false,
    };
    if is_the_logs {
        partition.offsets().log_start.get()
    } else {
        -1
    }
}

/// Completes the rows of those that wait, as far as the disk and the time allow.
async fn await_disk(
    mut response: ProduceResponseData,
    waiting: Vec<Waiting>,
    until: Instant,
) -> ProduceResponseData {
    for Waiting { topic, row, durable } in waiting {
        let (error, text) = match timeout_at(until, durable).await {
            Ok(Ok(Ok(()))) => continue,
            Ok(Ok(Err(error))) => (partition_error(&error), Some(message(&error))),
            // The partition went without a word.
            Ok(Err(_)) => (ErrorCode::NotLeaderOrFollower, None),
            Err(_) => (
                ErrorCode::RequestTimedOut,
                Some(message(&"the disk took too long")),
            ),
        };
        let topic = response
            .responses
            .get_mut(topic)
            .expect("a row waits in its topic");
        let row = topic
            .partition_responses
            .get_mut(row)
            .expect("a row waits at its place");
        *row = PartitionProduceResponse {
            index: row.index,
            error_code: error.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            error_message: text,
            ..PartitionProduceResponse::default()
        };
    }
    response
}

/// The attributes of a batch of format 2, before anything else of it is checked.
///
/// | position | field |
/// |---|---|
/// | 16 | magic |
/// | 21 | attributes, i16: bits 0–2 compression, 4 transactional |
#[derive(Debug, Clone, Copy)]
struct BatchAttributes(i16);

impl BatchAttributes {
    fn peek(records: &[u8]) -> Option<Self> {
        const MAGIC: usize = 16;
        const ATTRIBUTES: usize = 21;
        if records.get(MAGIC) != Some(&2) {
            return None;
        }
        let bytes = records.get(ATTRIBUTES..)?.first_chunk::<2>()?;
        Some(Self(i16::from_be_bytes(*bytes)))
    }

    fn is_zstd(self) -> bool {
        self.0 & 0x07 == 4
    }

    fn is_transactional(self) -> bool {
        self.0 & 0x10 != 0
    }
}
