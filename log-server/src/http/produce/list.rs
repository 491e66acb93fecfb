//! A body of one or many records: read whole, written whole, answered record by record.
//!
//! | what became of the records | status | body |
//! |---|---|---|
//! | all were written | 200 | where each one is |
//! | some | 207 | the same, and problems in the places of the others |
//! | none | that of the first problem | the first problem |
//! | an `Idempotency-Key` was used for others | 422 | that problem |

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use log_core::model::{Offset, TimestampMs};
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::http::body::WholeBody;
use crate::http::memory::{BodyMemory, Held};
use crate::http::object::Object;
use crate::http::problem::{Answer, Code, Problem};
use crate::http::produce::append::{acknowledged, append_body};
use crate::http::produce::batches::{Batches, Parts, Seat};
use crate::http::produce::idempotency::IdempotencyKey;
use crate::http::produce::record_input::{RecordInput, from_base64};
use crate::http::produce::{ProduceParameters, Terms, nothing_to_wait_for};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::partition::partition::Acks;
use crate::partition::writer::off_runtime;

/// Records of one body. Each is answered by itself, which takes memory whatever its size.
const RECORDS_MAX: usize = 100_000;
/// What a record takes of the answer, with its place until then.
const ROW_BYTES: usize = 128;
/// What a record takes that is refused: its problem, and the document that is made of it.
const PROBLEM_BYTES: usize = 512;
/// Rows are paid for in steps of this size.
const STEP_BYTES: usize = 64 << 10;
/// A body up to this size is taken apart on the runtime's thread.
pub(super) const QUICK_BYTES_MAX: usize = 64 << 10;

/// Where records go, and what is to be waited for.
pub(super) struct Target {
    pub(super) services: Arc<Services>,
    pub(super) topic: Arc<TopicImage>,
    pub(super) terms: Terms,
    pub(super) key: Option<IdempotencyKey>,
}

/// What became of a record, in the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    Written {
        partition: i32,
        offset: i64,
        timestamp: i64,
    },
    Refused {
        error: Box<Problem>,
    },
}

#[derive(Serialize)]
struct Rows {
    records: Vec<Row>,
}

impl Target {
    /// Writes a JSON body.
    pub(super) async fn write_json(&self, body: WholeBody) -> Answer {
        let mut gathering = self.gather(body.held)?;
        let mut read = || read_records(&body.bytes, &mut gathering);
        if body.bytes.len() <= QUICK_BYTES_MAX {
            read()?;
        } else {
            off_runtime(read)?;
        }
        drop(body.bytes);
        self.write(gathering).await
    }

    /// Writes the body as the value of one record.
    pub(super) async fn write_raw(&self, parameters: &ProduceParameters, body: WholeBody) -> Answer {
        let key = match (&parameters.key, &parameters.key_base64) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(text)) => Some(from_base64("key_base64", text)?),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(Problem::invalid("key is given in more than one way")),
        };
        let mut gathering = self.gather(body.held)?;
        let seat = gathering.batches.add(Parts {
            partition: parameters.partition,
            timestamp: parameters.timestamp.map(|time| time.0),
            key: key.as_deref(),
            value: Some(&body.bytes),
            headers: &[],
        });
        gathering.seats.push(seat.map_err(Box::new));
        drop(body.bytes);
        self.write(gathering).await
    }

    fn gather(&self, held: Held) -> Result<Gathering, Problem> {
        let batches = match &self.key {
            None => Batches::new(&self.services, &self.topic),
            Some(_) if self.terms.acks != Acks::All => {
                return Err(Problem::invalid("an Idempotency-Key needs acks=all"));
            }
            Some(key) => Batches::of_producer(
                &self.services,
                &self.topic,
                key.producer(self.topic.id),
                key.sticky(self.topic.partition_count),
            ),
        };
        Ok(Gathering {
            batches,
            seats: Vec::new(),
            memory: self.services.memory.clone(),
            cost: held.bytes(),
            held,
            stopped: None,
        })
    }

    async fn write(&self, gathering: Gathering) -> Answer {
        let Gathering {
            batches, seats, held, ..
        } = gathering;
        if self.key.is_some() {
            IdempotencyKey::check(&batches)?;
        }
        let appending = append_body(batches.finish(), self.terms.acks).await;
        if self.terms.acks == Acks::None {
            return Ok(nothing_to_wait_for());
        }
        let until = self.terms.until();
        let mut outcomes = Vec::with_capacity(appending.len());
        for batch in appending {
            let Some(batch) = batch else {
                outcomes.push(Outcome::Refused(Vec::new()));
                continue;
            };
            let outcome = match batch.result {
                Err(problems) => Outcome::Refused(problems),
                Ok(mut placed) => {
                    let first = First {
                        offset: placed.base_offset,
                        append_time: placed.log_append_time.filter(|_| !placed.is_duplicate),
                    };
                    let seen = match acknowledged(&mut placed.ack, until).await {
                        Ok(()) if placed.is_duplicate => {
                            IdempotencyKey::compare(&batch.batch, placed.base_offset).await
                        }
                        Ok(()) => Ok(None),
                        Err(problem) => Err(problem),
                    };
                    match seen {
                        Ok(times) => Outcome::Written(first, times),
                        Err(problem) => Outcome::Refused(vec![problem; batch.batch.record_count()]),
                    }
                }
            };
            outcomes.push(outcome);
        }
        let rows: Vec<_> = seats.into_iter().map(|seat| row(seat, &outcomes)).collect();
        answer(rows, held)
    }
}

/// Where a batch begins.
struct First {
    offset: Offset,
    append_time: Option<TimestampMs>,
}

enum Outcome {
    /// With the times that its records have, if it was written before.
    Written(First, Option<Vec<TimestampMs>>),
    /// A problem for each record.
    Refused(Vec<Problem>),
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn row(seat: Result<Seat, Box<Problem>>, outcomes: &[Outcome]) -> Row {
    let seat = match seat {
        Ok(seat) => seat,
        Err(error) => return Row::Refused { error },
    };
    match outcomes.get(seat.batch) {
        Some(Outcome::Written(first, times)) => {
            let before = times
                .as_ref()
                .and_then(|times| times.get(index(seat.index)).copied());
            let timestamp = before.or(first.append_time).unwrap_or(seat.timestamp);
            written(&seat, first.offset, timestamp)
        }
        Some(Outcome::Refused(problems)) => Row::Refused {
            error: Box::new(problems.get(index(seat.index)).cloned().unwrap_or_else(lost)),
        },
        None => Row::Refused {
            error: Box::new(lost()),
        },
    }
}

/// Where a record is whose batch begins at `base`.
pub(super) fn written(seat: &Seat, base: Offset, timestamp: TimestampMs) -> Row {
    Row::Written {
        partition: seat.partition,
        offset: base.plus(i64::from(seat.index)).get(),
        timestamp: timestamp.get(),
    }
}

pub(super) fn lost() -> Problem {
    Problem::new(Code::Internal, "the record's batch was lost")
}

/// The answer, which keeps what was paid for it until it was sent.
fn answer(rows: Vec<Row>, held: Held) -> Answer {
    let is_about_the_key =
        |row: &&Row| matches!(row, Row::Refused { error } if error.code() == Code::IdempotencyKeyReused);
    // Such a body was not meant, wherever else some of it may look right.
    if let Some(Row::Refused { error }) = rows.iter().find(is_about_the_key) {
        return Err(Problem::clone(error));
    }
    let refused = rows
        .iter()
        .filter(|row| matches!(row, Row::Refused { .. }))
        .count();
    if 0 < refused && refused == rows.len() {
        let first = rows.into_iter().next();
        return Err(match first {
            Some(Row::Refused { error }) => *error,
            _ => lost(),
        });
    }
    let status = if refused == 0 {
        StatusCode::OK
    } else {
        StatusCode::MULTI_STATUS
    };
    let body = serde_json::to_vec(&Rows { records: rows }).expect("rows are JSON");
    let json = [(CONTENT_TYPE, "application/json")];
    Ok((status, json, Body::from(held.with(body))).into_response())
}

/// Records on their way into batches, and where each found its place.
struct Gathering {
    batches: Batches,
    seats: Vec<Result<Seat, Box<Problem>>>,
    memory: BodyMemory,
    held: Held,
    /// What body, batches and answer take.
    cost: usize,
    /// Why no more is taken in, and nothing written.
    stopped: Option<Problem>,
}

impl Gathering {
    /// Takes a record in. What is wrong with it is its own affair; what stands in the way of all of them is an error.
    fn add(&mut self, record: &RecordInput<'_>) -> Result<(), Problem> {
        if self.seats.len() == RECORDS_MAX {
            let text = "a body has at most 100,000 records; NDJSON may have any number";
            return Err(Problem::new(Code::TooLarge, text));
        }
        let seat = add(&mut self.batches, record);
        self.cost += ROW_BYTES + if seat.is_ok() { 0 } else { PROBLEM_BYTES };
        self.seats.push(seat.map_err(Box::new));
        // A few rows are within what the body paid for.
        if STEP_BYTES < self.cost {
            self.memory
                .grow(&mut self.held, self.cost.next_multiple_of(STEP_BYTES))?;
        }
        Ok(())
    }
}

/// Takes a record in; what is wrong with it is its own affair.
pub(super) fn add(batches: &mut Batches, record: &RecordInput<'_>) -> Result<Seat, Problem> {
    let (key, value) = (record.key()?, record.value()?);
    let mut parts = Parts {
        partition: record.partition,
        timestamp: record.timestamp.map(|time| time.0),
        key: key.as_deref(),
        value: value.as_deref(),
        headers: &[],
    };
    if !record.has_headers() {
        return batches.add(parts);
    }
    let values = record.header_values()?;
    let headers = record.headers(&values);
    parts.headers = &headers;
    batches.add(parts)
}

/// Reads a body: `{"records": [...]}`, or a record without the list around it.
fn read_records(body: &[u8], gathering: &mut Gathering) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow)]
        records: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        #[serde(rename = "records")]
        _records: serde::de::IgnoredAny,
    }
    let wrong = |error: serde_json::Error| Problem::new(Code::InvalidRecord, error.to_string());
    let records = if may_be_a_list(body) {
        let Object(Probe { records }) = serde_json::from_slice(body).map_err(wrong)?;
        records
    } else {
        None
    };
    let Some(records) = records else {
        let Object(record) = serde_json::from_slice(body).map_err(wrong)?;
        return gathering.add(&record);
    };
    let _: Object<List> = serde_json::from_slice(body).map_err(wrong)?;
    let mut deserializer = serde_json::Deserializer::from_str(records.get());
    let read = RecordList(gathering).deserialize(&mut deserializer);
    if let Some(problem) = gathering.stopped.take() {
        return Err(problem);
    }
    read.map_err(wrong)?;
    if gathering.seats.is_empty() {
        return Err(Problem::new(Code::InvalidRecord, "there is no record"));
    }
    Ok(())
}

/// Whether a body may have the field `records`, whose letters can also be written as `\u0072`. Most bodies are one record, and need not be read twice to
/// know it.
fn may_be_a_list(body: &[u8]) -> bool {
    [b"records".as_slice(), b"\\u"]
        .iter()
        .any(|sign| memchr::memmem::find(body, sign).is_some())
}

/// Takes the records of a list in one by one, so that no list of them is made.
struct RecordList<'g>(&'g mut Gathering);

impl<'de> DeserializeSeed<'de> for RecordList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RecordList<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        while let Some(Object(record)) = records.next_element::<Object<RecordInput<'de>>>()? {
            if let Err(problem) = self.0.add(&record) {
                self.0.stopped = Some(problem);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
