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

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use log_core::model::{Offset, TimestampMs};
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::http::error::record_problems;
use crate::http::problem::{Answer, Code, Problem};
use crate::http::produce::append::{acknowledged, append};
use crate::http::produce::batches::{Batches, Parts, Seat};
use crate::http::produce::idempotency::IdempotencyKey;
use crate::http::produce::record_input::{RecordInput, from_base64};
use crate::http::produce::{ProduceParameters, Terms, nothing_to_wait_for};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::partition::partition::Acks;

/// Records of one body. Each is answered by itself, which takes memory whatever its size.
const RECORDS_MAX: usize = 100_000;

/// Where records go, and what is to be waited for.
pub(super) struct Target {
    pub(super) services: Arc<Services>,
    pub(super) topic: Arc<TopicImage>,
    pub(super) terms: Terms,
    pub(super) key: Option<IdempotencyKey>,
}

/// A record's row in the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Row {
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
    pub(super) async fn write_json(&self, body: &[u8]) -> Answer {
        let mut gathering = self.gather()?;
        read_records(body, &mut gathering)?;
        self.write(gathering).await
    }

    /// Writes the body as the value of one record.
    pub(super) async fn write_raw(&self, parameters: &ProduceParameters, body: &[u8]) -> Answer {
        let key = match (&parameters.key, &parameters.key_base64) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(text)) => Some(from_base64("key_base64", text)?),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(Problem::invalid("key is given in more than one way")),
        };
        let mut gathering = self.gather()?;
        let seat = gathering.batches.add(Parts {
            partition: parameters.partition,
            timestamp: parameters.timestamp.map(|time| time.0),
            key: key.as_deref(),
            value: Some(body),
            headers: &[],
        });
        gathering.seats.push(seat.map_err(Box::new));
        self.write(gathering).await
    }

    fn gather(&self) -> Result<Gathering, Problem> {
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
        })
    }

    async fn write(&self, gathering: Gathering) -> Answer {
        let Gathering { batches, seats } = gathering;
        if self.key.is_some() {
            IdempotencyKey::check(&batches)?;
        }
        let appending: Vec<_> = batches
            .finish()
            .into_iter()
            .map(|batch| batch.map(|batch| append(batch, self.terms.acks)))
            .collect();
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
            let record_count = batch.batch.record_count;
            let outcome = match batch.result {
                Err(error) => Outcome::Refused(record_problems(&error, record_count)),
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
                        Err(problem) => Outcome::Refused(vec![problem; index(record_count)]),
                    }
                }
            };
            outcomes.push(outcome);
        }
        answer(seats.into_iter().map(|seat| row(seat, &outcomes)).collect())
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
            Row::Written {
                partition: seat.partition,
                offset: first.offset.plus(i64::from(seat.index)).get(),
                timestamp: timestamp.get(),
            }
        }
        Some(Outcome::Refused(problems)) => Row::Refused {
            error: Box::new(problems.get(index(seat.index)).cloned().unwrap_or_else(lost)),
        },
        None => Row::Refused {
            error: Box::new(lost()),
        },
    }
}

fn lost() -> Problem {
    Problem::new(Code::Internal, "the record's batch was lost")
}

fn answer(rows: Vec<Row>) -> Answer {
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
    Ok((status, Json(Rows { records: rows })).into_response())
}

/// Records on their way into batches, and where each found its place.
struct Gathering {
    batches: Batches,
    seats: Vec<Result<Seat, Box<Problem>>>,
}

impl Gathering {
    fn add(&mut self, record: &RecordInput<'_>) {
        let seat = add(&mut self.batches, record);
        self.seats.push(seat.map_err(Box::new));
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
    let wrong = |error: serde_json::Error| {
        if TOO_MANY == error.to_string().split(" at line").next().unwrap_or_default() {
            Problem::new(Code::TooLarge, TOO_MANY)
        } else {
            Problem::new(Code::InvalidRecord, error.to_string())
        }
    };
    let probe: Probe<'_> = serde_json::from_slice(body).map_err(wrong)?;
    let Some(records) = probe.records else {
        let record = serde_json::from_slice(body).map_err(wrong)?;
        gathering.add(&record);
        return Ok(());
    };
    let _: List = serde_json::from_slice(body).map_err(wrong)?;
    let mut deserializer = serde_json::Deserializer::from_str(records.get());
    RecordList(gathering)
        .deserialize(&mut deserializer)
        .map_err(wrong)?;
    if gathering.seats.is_empty() {
        return Err(Problem::new(Code::InvalidRecord, "there is no record"));
    }
    Ok(())
}

const TOO_MANY: &str = "a body has at most 100,000 records; NDJSON may have any number";

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
        while let Some(record) = records.next_element::<RecordInput<'de>>()? {
            if self.0.seats.len() == RECORDS_MAX {
                return Err(A::Error::custom(TOO_MANY));
            }
            self.0.add(&record);
        }
        Ok(())
    }
}
