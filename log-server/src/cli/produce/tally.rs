//! What became of the records: counted as their deliveries settle, in the order in which they were sent.
//! It sends nothing itself, and says how far it came when asked.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::FutureExt as _;
use log_client::Error;
use log_client::producer::{Delivery, RecordMetadata};
use serde_json::{Value as Json, json};

use super::lines::Place;
use crate::cli::failure::{Failure, Kind, Outcome};
use crate::cli::output::Output;
use crate::cli::units::{Bytes, Count, Took, counted, per_second};

/// So many failures are told one by one; the rest are counted.
const FAILURES_SHOWN: u64 = 10;

/// The count.
#[derive(Debug)]
pub(super) struct Tally {
    keep_going: bool,
    waiting: VecDeque<Waiting>,
    delivered: u64,
    bytes: u64,
    failed: u64,
    /// What the command ends in: the first failure, or what stopped it. All others are told at once.
    last_word: Option<Failure>,
    /// The last record that was sent.
    last: Option<Place>,
    partitions: BTreeMap<i32, Span>,
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    bytes: u64,
    delivery: Delivery,
}

/// What went to one partition.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    records: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Tally {
    pub(super) fn new(keep_going: bool) -> Self {
        Self {
            keep_going,
            waiting: VecDeque::new(),
            delivered: 0,
            bytes: 0,
            failed: 0,
            last_word: None,
            last: None,
            partitions: BTreeMap::new(),
        }
    }

    /// A record is on its way.
    pub(super) fn sent(&mut self, place: Place, bytes: u64, delivery: Delivery) {
        self.last = Some(place.clone());
        self.waiting.push_back(Waiting {
            place,
            bytes,
            delivery,
        });
    }

    /// A record could not be made or sent: `Break` when that ends the command.
    pub(super) fn refused(&mut self, place: &Place, failure: Failure, output: &Output) -> ControlFlow<()> {
        // Without a broker every other record would fail alike.
        let is_everybodys = matches!(failure.kind, Kind::Unreachable | Kind::Usage);
        let failure = failure.during(place);
        if self.keep_going && is_everybodys {
            self.failed += 1;
            self.stopped(failure, output);
            return ControlFlow::Break(());
        }
        self.note(failure, output);
        self.go_on()
    }

    /// Something else than a record ends the command.
    pub(super) fn stopped(&mut self, why: Failure, output: &Output) {
        if let Some(first) = self.last_word.replace(why) {
            output.fail(&first);
        }
    }

    /// Somebody ends the command.
    pub(super) fn interrupted(&mut self, output: &Output) {
        if self
            .last_word
            .as_ref()
            .is_some_and(|word| word.kind == Kind::Interrupted)
        {
            return;
        }
        let message = match &self.last {
            Some(place) => format!("interrupted behind {place}"),
            None => "interrupted before anything was sent".to_owned(),
        };
        let kind = Kind::Interrupted;
        self.stopped(
            Failure {
                kind,
                ..Failure::new(message)
            },
            output,
        );
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.keep_going || self.last_word.is_none() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Counts deliveries that are settled, as far as they stand at the front; `Break` when one of them ends the command.
    pub(super) fn settle_some(&mut self, output: &Output) -> ControlFlow<()> {
        while let Some(front) = self.waiting.front_mut() {
            let Some(result) = (&mut front.delivery).now_or_never() else {
                break;
            };
            if let Some(settled) = self.waiting.pop_front() {
                self.settled(&settled.place, settled.bytes, result, output);
            }
        }
        self.go_on()
    }

    /// Waits for all that are left. If this is cancelled, those that have no answer yet stay.
    pub(super) async fn settle_all(&mut self, output: &Output) {
        while let Some(front) = self.waiting.front_mut() {
            let result = (&mut front.delivery).await;
            if let Some(settled) = self.waiting.pop_front() {
                self.settled(&settled.place, settled.bytes, result, output);
            }
        }
    }

    fn settled(&mut self, place: &Place, bytes: u64, result: Result<RecordMetadata, Error>, output: &Output) {
        match result {
            Ok(metadata) => {
                self.delivered += 1;
                self.bytes += bytes;
                let span = self.partitions.entry(metadata.partition.partition).or_default();
                span.add(metadata.offset.map(log_core::model::Offset::get));
            }
            Err(error) => self.note(Failure::from(error).during(place), output),
        }
    }

    /// Takes note of a failure, and tells it if it is not the first, which the command ends in.
    fn note(&mut self, failure: Failure, output: &Output) {
        self.failed += 1;
        if self.last_word.is_none() {
            self.last_word = Some(failure);
        } else if self.failed <= FAILURES_SHOWN {
            output.fail(&failure);
        }
    }

    /// How many records were sent and not waited for.
    fn unanswered(&self) -> u64 {
        u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn into_result(self) -> Outcome {
        match self.last_word {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// What was done, for people: a remark, and where the records are.
    pub(super) fn show(&self, output: &mut Output, topic: &str, elapsed: Duration) -> Outcome {
        output.remark(format_args!(
            "Sent {} ({}) to {} in {}: {} records/s, {}/s",
            counted(self.delivered, "record"),
            Bytes(self.bytes),
            output.remarks.strong(topic),
            Took(elapsed),
            Count(per_second(self.delivered, elapsed)),
            Bytes(per_second(self.bytes, elapsed)),
        ));
        if 0 < self.failed {
            output.warn(format_args!("{} failed", counted(self.failed, "record")));
        }
        if 0 < self.unanswered() {
            let unanswered = counted(self.unanswered(), "record");
            output.warn(format_args!(
                "{unanswered} without an answer: nobody knows whether they were taken"
            ));
        }
        if output.is_quiet() {
            return Ok(());
        }
        let mut table = output
            .palette
            .table(&["#partition", "#records", "#first", "#last"]);
        let known = |offset: Option<i64>| offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
        for (partition, span) in &self.partitions {
            table.add_row([
                partition.to_string(),
                span.records.to_string(),
                known(span.first),
                known(span.last),
            ]);
        }
        output.table(&table)
    }

    pub(super) fn document(&self, topic: &str, elapsed: Duration) -> Json {
        let partitions: Vec<_> = self
            .partitions
            .iter()
            .map(|(partition, span)| {
                json!({
                    "partition": partition,
                    "records": span.records,
                    "first_offset": span.first,
                    "last_offset": span.last,
                })
            })
            .collect();
        json!({
            "topic": topic,
            "records": self.delivered,
            "bytes": self.bytes,
            "failed": self.failed,
            "unanswered": self.unanswered(),
            "seconds": elapsed.as_secs_f64(),
            "records_per_second": per_second(self.delivered, elapsed),
            "bytes_per_second": per_second(self.bytes, elapsed),
            "partitions": partitions,
        })
    }
}

impl Span {
    fn add(&mut self, offset: Option<i64>) {
        self.records += 1;
        self.first = [self.first, offset].into_iter().flatten().min();
        self.last = [self.last, offset].into_iter().flatten().max();
    }
}
