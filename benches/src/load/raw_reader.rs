//! A reader of the raw load: one connection that passes over partitions. A cursor follows the end of its partition, or passes a
//! stretch of it once or again and again.
//!
//! Who follows asks for all of its partitions by one request, as clients do: answers come in the order of the requests, so a request for
//! one of them would hold the others up. Stretches of old records have a request each, all on their way at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context as _, ensure};
use log_core::protocol::ErrorCode;
use log_core::record::batch::{Batch, batches};

use super::meter::{Kind, Meter, Tally};
use super::run_clock::{NEVER, RunClock};
use super::socket::Socket;
use super::verify::Verifier;
use super::wire::{FetchFrame, FetchSize, FetchedRow, correlation_of};

/// A record does not decompress to more than that with its batch.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// How thoroughly records are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrutiny {
    /// Batches are counted.
    Counted,
    /// Checksums of batches and records are verified.
    Contents,
    /// And the sequences are followed.
    Complete,
}

/// Which part of a partition is read.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The partition.
    pub partition: i32,
    /// Where it begins.
    pub from: i64,
    /// Where it ends; a partition that grows gets its end late.
    pub until: Arc<AtomicI64>,
    /// Whether it begins again at its end.
    pub is_repeated: bool,
}

/// What a reader is made from.
#[derive(Debug, Clone)]
pub struct ReaderSetup {
    /// The leader of its partitions.
    pub address: String,
    /// The topic.
    pub topic: String,
    /// What it reads.
    pub stretches: Vec<Stretch>,
    /// How much at a time.
    pub size: FetchSize,
    /// The version of Fetch.
    pub version: i16,
    /// How thoroughly.
    pub scrutiny: Scrutiny,
    /// Whether it follows the ends, and the age of records counts.
    pub is_following: bool,
    /// Whether what arrives counts; the reading for verification alone does not.
    pub is_counted: bool,
    /// The run whose records are looked at.
    pub run: u32,
    /// Nothing is asked for from here on.
    pub until: u64,
}

/// Where a partition is read.
#[derive(Debug)]
struct Cursor {
    stretch: Stretch,
    offset: i64,
    is_done: bool,
}

/// What one request at a time asks for.
#[derive(Debug)]
struct Question {
    frame: FetchFrame,
    cursors: Vec<Cursor>,
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    correlation: i32,
    question: usize,
    at: u64,
}

/// One connection that reads.
#[derive(Debug)]
pub struct RawReader {
    setup: ReaderSetup,
    socket: Socket,
    questions: Vec<Question>,
    idle: VecDeque<usize>,
    in_flight: VecDeque<Asked>,
    next_correlation: i32,
    scratch: Vec<u8>,
    is_ended: bool,
    /// What it saw.
    pub verifier: Verifier,
    /// The first error, in words.
    pub error: Option<String>,
}

impl RawReader {
    /// Connects.
    ///
    /// # Errors
    /// The system's and the codec's.
    pub fn connect(setup: ReaderSetup) -> anyhow::Result<Self> {
        let socket = Socket::connect(&setup.address)?;
        let together = if setup.is_following {
            setup.stretches.len().max(1)
        } else {
            1
        };
        let questions = setup.stretches.chunks(together);
        let questions = questions
            .map(|stretches| Question::new(&setup, stretches))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            idle: (0..questions.len()).collect(),
            verifier: Verifier::new(setup.run),
            setup,
            socket,
            questions,
            in_flight: VecDeque::new(),
            next_correlation: 0,
            scratch: Vec::new(),
            is_ended: false,
            error: None,
        })
    }

    /// Its connection.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether nothing is left to read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty() && (self.is_ended || self.questions.iter().all(Question::is_done))
    }

    /// Ends it with what is on its way unanswered.
    pub fn give_up(&mut self, reason: &str, meter: &mut Meter) {
        if !self.is_done() {
            meter.fetch_errors += 1;
            self.error.get_or_insert_with(|| reason.to_owned());
        }
        self.is_ended = true;
        self.in_flight.clear();
    }

    /// Reads answers.
    ///
    /// # Errors
    /// When the connection broke, or what came is no answer.
    pub fn receive(&mut self, clock: &RunClock, meter: &mut Meter) -> anyhow::Result<()> {
        loop {
            let more = self.socket.receive()?;
            let now = clock.now();
            while let Some(place) = self.socket.next_answer()? {
                let asked = self
                    .in_flight
                    .pop_front()
                    .context("an answer that nobody asked for")?;
                let answer = self.socket.answer(place);
                let correlation = correlation_of(answer)?;
                ensure!(
                    correlation == asked.correlation,
                    "request {correlation} was answered before {}",
                    asked.correlation
                );
                let question = self.questions.get_mut(asked.question).context("a question")?;
                let mut tally = Tally {
                    requests: 1,
                    ..Tally::default()
                };
                for row in question.frame.read(answer)? {
                    let cursors = &mut question.cursors;
                    let Some(cursor) = cursors.iter_mut().find(|cursor| cursor.is_at(&row)) else {
                        continue;
                    };
                    if row.error != 0 {
                        meter.fetch_errors += 1;
                        let (partition, code) = (row.partition, ErrorCode::from(row.error));
                        self.error
                            .get_or_insert_with(|| format!("Fetch from partition {partition}: {code:?}"));
                        cursor.is_done = true;
                        continue;
                    }
                    let mut look = Look {
                        setup: &self.setup,
                        verifier: &mut self.verifier,
                        scratch: &mut self.scratch,
                        clock,
                        now,
                    };
                    tally.records += look.take(cursor, row.records, meter);
                    tally.bytes += u64::try_from(row.records.len())?;
                }
                if self.setup.is_counted && 0 < tally.records {
                    meter.fetched(now, tally);
                    meter.latency(Kind::Fetch, asked.at, now, 1);
                }
                question.turn_at_end();
                if !question.is_done() {
                    self.idle.push_back(asked.question);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Asks for what it is free to ask for, and returns when it next has something to do.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn send(&mut self, clock: &RunClock) -> anyhow::Result<u64> {
        self.socket.flush()?;
        let now = clock.now();
        if self.setup.until <= now {
            self.is_ended = true;
        }
        while !self.is_ended && !self.socket.is_blocked() {
            let Some(index) = self.idle.pop_front() else { break };
            let question = self.questions.get_mut(index).context("a question")?;
            question.turn_at_end();
            if question.is_done() {
                continue;
            }
            question.leave_out_done(&self.setup)?;
            let correlation = self.next_correlation;
            self.next_correlation = correlation.wrapping_add(1) & i32::MAX;
            let request = question.request(correlation);
            self.socket.output().extend_from_slice(request);
            self.in_flight.push_back(Asked {
                correlation,
                question: index,
                at: now,
            });
        }
        self.socket.flush()?;
        Ok(NEVER)
    }
}

impl Question {
    fn new(setup: &ReaderSetup, stretches: &[Stretch]) -> anyhow::Result<Self> {
        Ok(Self {
            frame: frame(setup, stretches.iter().map(|stretch| stretch.partition))?,
            cursors: stretches
                .iter()
                .map(|stretch| Cursor {
                    offset: stretch.from,
                    stretch: stretch.clone(),
                    is_done: false,
                })
                .collect(),
        })
    }

    fn is_done(&self) -> bool {
        self.cursors.iter().all(|cursor| cursor.is_done)
    }

    fn request(&mut self, correlation: i32) -> &[u8] {
        let offsets = self.cursors.iter().map(|cursor| cursor.offset);
        self.frame.request(correlation, offsets)
    }

    fn turn_at_end(&mut self) {
        self.cursors.iter_mut().for_each(Cursor::turn_at_end);
    }

    /// Asks no more for what is done while the rest goes on: an error, or records that are there, are answered at once, and so one request
    /// would chase the other. Nothing of it may be on its way.
    fn leave_out_done(&mut self, setup: &ReaderSetup) -> anyhow::Result<()> {
        if !self.cursors.iter().any(|cursor| cursor.is_done) {
            return Ok(());
        }
        self.cursors.retain(|cursor| !cursor.is_done);
        self.frame = frame(setup, self.cursors.iter().map(|cursor| cursor.stretch.partition))?;
        Ok(())
    }
}

fn frame(setup: &ReaderSetup, partitions: impl Iterator<Item = i32>) -> anyhow::Result<FetchFrame> {
    let partitions: Vec<_> = partitions.collect();
    FetchFrame::new(&setup.topic, &partitions, setup.size, setup.version)
}

impl Cursor {
    /// Whether a row is for it. One that was found to be done may have another row in the same answer.
    fn is_at(&self, row: &FetchedRow<'_>) -> bool {
        !self.is_done && self.stretch.partition == row.partition
    }

    /// Begins again, or ends, where its stretch does.
    fn turn_at_end(&mut self) {
        if self.stretch.until.load(Ordering::Acquire) <= self.offset {
            if self.stretch.is_repeated && self.stretch.from < self.offset {
                self.offset = self.stretch.from;
            } else {
                self.is_done = true;
            }
        }
    }
}

/// What it takes to look at the records of an answer.
struct Look<'a> {
    setup: &'a ReaderSetup,
    verifier: &'a mut Verifier,
    scratch: &'a mut Vec<u8>,
    clock: &'a RunClock,
    now: u64,
}

impl Look<'_> {
    /// Looks at the records behind the cursor, moves it on, and returns how many there were.
    fn take(&mut self, cursor: &mut Cursor, records: &[u8], meter: &mut Meter) -> u64 {
        let mut count = 0;
        for batch in batches(records) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    let partition = cursor.stretch.partition.unsigned_abs();
                    self.verifier
                        .damaged(partition, cursor.offset, &error.to_string());
                    cursor.is_done = true;
                    break;
                }
            };
            count += u64::from(batch.header().record_count);
            if self.setup.scrutiny != Scrutiny::Counted || self.setup.is_following {
                self.look_at(cursor, &batch, meter);
            }
            cursor.offset = batch.header().next_offset().get();
        }
        count
    }

    fn look_at(&mut self, cursor: &Cursor, batch: &Batch<'_>, meter: &mut Meter) {
        let partition = cursor.stretch.partition.unsigned_abs();
        let at = batch.header().base_offset.get();
        if self.setup.scrutiny != Scrutiny::Counted
            && let Err(error) = batch.verify_checksum()
        {
            self.verifier.damaged(partition, at, &error.to_string());
            return;
        }
        self.scratch.clear();
        let records = match batch.records(self.scratch, DECOMPRESSED_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => {
                self.verifier.damaged(partition, at, &error.to_string());
                return;
            }
        };
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.verifier.damaged(partition, at, &error.to_string());
                    return;
                }
            };
            if record.offset.get() < cursor.offset {
                continue;
            }
            let stamp = if self.setup.scrutiny == Scrutiny::Complete {
                self.verifier.take(partition, record.offset.get(), record.value)
            } else {
                self.verifier.glance(partition, record.offset.get(), record.value)
            };
            if let Some(stamp) = stamp
                && self.setup.is_following
            {
                let intended = self.clock.from_1970(stamp.intended_ns);
                meter.latency(Kind::EndToEnd, intended, self.now, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use log_core::protocol::messages::FetchRequestData;
    use log_core::protocol::{RequestPrefix, read_body, read_request_header};

    use super::*;

    /// The partitions that a request asks for, and from where.
    fn asked(request: &[u8]) -> Vec<(i32, i64)> {
        let mut bytes = Bytes::copy_from_slice(&request[4..]);
        let prefix = RequestPrefix::peek(&bytes).unwrap();
        read_request_header(&mut bytes, prefix).unwrap();
        let request: FetchRequestData = read_body(bytes, prefix.api_version).unwrap();
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let places = partitions.map(|asked| (asked.partition, asked.fetch_offset));
        places.collect()
    }

    /// An error is answered at once: who follows asked for it again and again.
    #[test]
    fn a_partition_that_failed_is_asked_for_no_more() {
        let stretch = |partition| Stretch {
            partition,
            from: 10 * i64::from(partition),
            until: Arc::new(AtomicI64::new(i64::MAX)),
            is_repeated: false,
        };
        let setup = ReaderSetup {
            address: String::new(),
            topic: "t".to_owned(),
            stretches: (1..4).map(stretch).collect(),
            size: FetchSize {
                bytes_min: 1,
                bytes_max: 1,
                wait_ms: 1,
            },
            version: 12,
            scrutiny: Scrutiny::Counted,
            is_following: true,
            is_counted: true,
            run: 0,
            until: NEVER,
        };
        let mut question = Question::new(&setup, &setup.stretches).unwrap();
        question.leave_out_done(&setup).unwrap();
        assert_eq!(asked(question.request(7)), [(1, 10), (2, 20), (3, 30)]);
        question.cursors[1].is_done = true;
        question.cursors[2].offset = 31;
        question.leave_out_done(&setup).unwrap();
        assert!(!question.is_done());
        assert_eq!(asked(question.request(8)), [(1, 10), (3, 31)]);
    }
}
