//! A producer of the raw load: one connection, batches made beforehand, a number of requests on their way.
//! When it sends is decided by its [`Pace`]; when its socket is ready, by the worker.
//!
//! A request that is refused is not sent again: its records count as not acknowledged. Who is patient sends others in their place.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use log_core::model::{ProducerEpoch, ProducerId};
use log_core::protocol::ErrorCode;

use super::batch_template::{BatchShape, BatchStamp, BatchTemplate};
use super::filling::Dice;
use super::meter::{Kind, Meter, Tally};
use super::pace::{Next, Pace};
use super::record_layout::Stamp;
use super::run_clock::{NEVER, RunClock, nanoseconds};
use super::socket::Socket;
use super::verify::Sent;
use super::wire::{ProduceFrame, correlation_of};

/// Who was refused for now sends nothing for so long.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What a producer is made from.
#[derive(Debug, Clone)]
pub struct ProducerSetup {
    /// The leader of its partitions.
    pub address: String,
    /// The topic.
    pub topic: String,
    /// Where its records go, in turn.
    pub partitions: Vec<i32>,
    /// How many partitions the topic has.
    pub partitions_in_all: u32,
    /// `acks` as in the protocol.
    pub acks: i16,
    /// The version of Produce.
    pub version: i16,
    /// Requests on their way.
    pub in_flight_max: usize,
    /// What its batches are like.
    pub shape: BatchShape,
    /// How many different batches it has; they take turns.
    pub templates: usize,
    /// Its id as an idempotent producer.
    pub idempotent: Option<(ProducerId, ProducerEpoch)>,
    /// How long it bears refusals of the kind that passes (`NOT_LEADER_OR_FOLLOWER`); with none the first one ends it. An idempotent producer
    /// has no use for it: behind a refusal its sequences have a gap.
    pub patience: Duration,
    /// The run, and its number in it.
    pub run: u32,
    /// Its number.
    pub number: u32,
    /// What its random choices follow from.
    pub seed: u64,
}

/// One partition it sends to.
#[derive(Debug)]
struct Lane {
    partition: i32,
    frame: ProduceFrame,
    next_sequence: u64,
    failed: Vec<Range<u64>>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    correlation: i32,
    lane: usize,
    first_sequence: u64,
    count: u64,
    bytes: u64,
    first_due: u64,
}

/// One connection that produces.
#[derive(Debug)]
pub struct RawProducer {
    setup: ProducerSetup,
    pace: Pace,
    socket: Socket,
    lanes: Vec<Lane>,
    next_lane: usize,
    templates: Vec<BatchTemplate>,
    next_template: usize,
    dice: Dice,
    in_flight: VecDeque<InFlight>,
    next_correlation: i32,
    is_ended: bool,
    /// Since when every request was refused.
    refused_since: Option<u64>,
    /// Nothing is sent before this moment.
    resume_at: u64,
    /// The first error of a request, in words.
    pub error: Option<String>,
}

impl RawProducer {
    /// Connects, and makes its batches.
    ///
    /// # Errors
    /// The system's and the codec's.
    pub fn connect(setup: ProducerSetup, pace: Pace, clock: &RunClock) -> anyhow::Result<Self> {
        let socket = Socket::connect(&setup.address)?;
        let lanes = setup
            .partitions
            .iter()
            .map(|&partition| {
                Ok(Lane {
                    partition,
                    frame: ProduceFrame::new(&setup.topic, partition, setup.acks, setup.version)?,
                    next_sequence: 0,
                    failed: Vec::new(),
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!lanes.is_empty(), "a producer needs a partition");
        let mut dice = Dice::new(setup.seed ^ (u64::from(setup.number) << 32));
        let timestamp = milliseconds(clock.since_1970(clock.now()));
        let templates = (0..setup.templates.max(1))
            .map(|_| BatchTemplate::new(setup.shape, timestamp, &mut dice))
            .collect();
        Ok(Self {
            // Not all begin at the same partition.
            next_lane: usize::try_from(setup.number)? % lanes.len(),
            setup,
            pace,
            socket,
            lanes,
            templates,
            next_template: 0,
            dice,
            in_flight: VecDeque::new(),
            next_correlation: 0,
            is_ended: false,
            refused_since: None,
            resume_at: 0,
            error: None,
        })
    }

    /// Its connection.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether nothing is left to send, and nothing on its way.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_ended && self.in_flight.is_empty() && !self.socket.is_blocked()
    }

    /// Ends it with what is on its way unanswered.
    pub fn give_up(&mut self, reason: &str, meter: &mut Meter) {
        self.is_ended = true;
        if !self.in_flight.is_empty() {
            self.error.get_or_insert_with(|| reason.to_owned());
        }
        for request in std::mem::take(&mut self.in_flight) {
            meter.produce_errors += 1;
            self.failed(&request);
        }
    }

    fn failed(&mut self, request: &InFlight) {
        if let Some(lane) = self.lanes.get_mut(request.lane) {
            let end = request.first_sequence + request.count;
            match lane.failed.last_mut() {
                Some(last) if last.end == request.first_sequence => last.end = end,
                _ => lane.failed.push(request.first_sequence..end),
            }
        }
    }

    /// Goes on with other records where the refusal may pass, or ends.
    fn refused(&mut self, code: ErrorCode, partition: i32, request: &InFlight, now: u64) {
        let since = *self.refused_since.get_or_insert(now);
        let patience = nanoseconds(self.setup.patience);
        if self.error.is_none() && code.is_retriable() && now.saturating_sub(since) < patience {
            self.pace.refused(request.count);
            self.resume_at = now.saturating_add(nanoseconds(REFUSED_PAUSE));
            // It may have sent its last record already.
            self.is_ended = false;
        } else {
            self.error
                .get_or_insert_with(|| format!("Produce to partition {partition}: {code:?}"));
            // A broker that refuses would be asked the same in a loop without end.
            self.is_ended = true;
        }
    }

    /// What it sent.
    pub fn sent(&self) -> impl Iterator<Item = Sent> {
        self.lanes.iter().map(|lane| Sent {
            producer: self.setup.number,
            partition: lane.partition.unsigned_abs(),
            count: lane.next_sequence,
            unacknowledged: lane.failed.clone(),
        })
    }

    /// Records that were due and never sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.pace.unsent()
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
                let answer = self.socket.answer(place);
                let request = self
                    .in_flight
                    .pop_front()
                    .context("an answer that nobody asked for")?;
                let correlation = correlation_of(answer)?;
                ensure!(
                    correlation == request.correlation,
                    "request {correlation} was answered before {}",
                    request.correlation
                );
                let lane = self.lanes.get(request.lane).context("a lane")?;
                let code = lane.frame.error_code(answer)?;
                if code == 0 {
                    self.refused_since = None;
                    acknowledged(&request, self.pace.period_ns(), now, meter);
                } else {
                    meter.produce_errors += 1;
                    let partition = lane.partition;
                    self.failed(&request);
                    self.refused(ErrorCode::from(code), partition, &request, now);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Sends what is due, and returns when it next has something to do.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn send(&mut self, clock: &RunClock, meter: &mut Meter) -> anyhow::Result<u64> {
        self.socket.flush()?;
        let mut wake = NEVER;
        while !self.is_ended && !self.socket.is_blocked() && self.in_flight.len() < self.setup.in_flight_max {
            let now = clock.now();
            if now < self.resume_at {
                wake = self.resume_at;
                break;
            }
            let full = self
                .templates
                .get(self.next_template)
                .map_or(1, BatchTemplate::records);
            match self.pace.next(now, full) {
                Next::Send { count, first_due } => self.send_batch(count, first_due, clock, meter)?,
                Next::Wait(until) => {
                    wake = until;
                    break;
                }
                Next::End => self.is_ended = true,
            }
        }
        if !self.socket.is_blocked() {
            self.socket.flush()?;
        }
        Ok(wake)
    }

    fn send_batch(
        &mut self,
        count: usize,
        first_due: u64,
        clock: &RunClock,
        meter: &mut Meter,
    ) -> anyhow::Result<()> {
        let lane_index = self.next_lane;
        self.next_lane = (lane_index + 1) % self.lanes.len();
        let lane = self.lanes.get_mut(lane_index).context("a lane")?;
        let template_index = self.next_template;
        self.next_template = (template_index + 1) % self.templates.len();
        let template = self.templates.get_mut(template_index).context("a batch")?;

        let intended_ns = clock.since_1970(first_due);
        // Sequences of the protocol wrap to 0 behind 2^31 - 1.
        let base_sequence = i32::try_from(lane.next_sequence & 0x7fff_ffff)?;
        let batch = template.stamp(
            count,
            &BatchStamp {
                first: Stamp {
                    run: self.setup.run,
                    producer: self.setup.number,
                    partition: lane.partition.unsigned_abs(),
                    sequence: lane.next_sequence,
                    intended_ns,
                },
                period_ns: self.pace.period_ns(),
                partitions: self.setup.partitions_in_all,
                producer: self
                    .setup
                    .idempotent
                    .map(|(id, epoch)| (id, epoch, base_sequence)),
                timestamp_ms: milliseconds(intended_ns),
            },
            &mut self.dice,
        );
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1) & i32::MAX;
        let request = InFlight {
            correlation,
            lane: lane_index,
            first_sequence: lane.next_sequence,
            count: u64::try_from(count)?,
            bytes: u64::try_from(batch.len())?,
            first_due,
        };
        lane.next_sequence += request.count;
        self.pace.sent(count);
        lane.frame
            .put_before(self.socket.output(), correlation, batch.len())?;
        let sent = self.socket.send(batch, lane.frame.after());
        if self.setup.acks == 0 {
            meter.produced(clock.now(), request.tally());
        } else {
            self.in_flight.push_back(request);
        }
        sent
    }
}

impl InFlight {
    fn tally(&self) -> Tally {
        Tally {
            records: self.count,
            bytes: self.bytes,
            requests: 1,
        }
    }
}

/// Counts a request that was acknowledged: in an open loop each record by its own time, in a closed one the request.
fn acknowledged(request: &InFlight, period_ns: f64, now: u64, meter: &mut Meter) {
    meter.produced(now, request.tally());
    if period_ns <= 0.0 {
        meter.latency(Kind::Produce, request.first_due, now, 1);
        return;
    }
    let mut due = request.first_due;
    let mut offset = 0.0;
    for _ in 0..request.count {
        meter.latency(Kind::Produce, due, now, 1);
        offset += period_ns;
        due = request.first_due.saturating_add(whole(offset));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a stretch of time of one batch"
)]
fn whole(nanoseconds: f64) -> u64 {
    nanoseconds as u64
}

/// Nanoseconds since 1970 as a record's timestamp.
fn milliseconds(since_1970_ns: u64) -> i64 {
    i64::try_from(since_1970_ns / 1_000_000).unwrap_or(i64::MAX)
}
