//! A load of a given shape on a broker that does not speak Kafka's protocol.
//!
//! Records are encoded once for each stream; where they are followed, the moment each was due is patched into its value.
//! Each producing connection has a thread that writes and one that reads acknowledgements; a batch takes a place before
//! it is sent and gives it back when it is acknowledged, and there are as many places as batches may be on their way. In an open loop latency counts from the moment a record was due.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use serde_json::Value;

use super::peer::Peer;
use super::protocol::{Follow, Input, Protocol, Reading};
use super::server::Server;
use super::shape::{Shape, Work};
use crate::load::latency::Latencies;
use crate::load::local;
use crate::load::result::{BrokerTruth, Cost, Durability, Flow, Moment, Process, RunResult, SCHEMA_VERSION};
use crate::load::worker::wake_in_time;
use crate::report::count;
use crate::source;

const STRETCH: Duration = Duration::from_millis(500);
/// How long readers may wait for records that are there.
const DRAIN_MAX: Duration = Duration::from_secs(10);
const STAMP_BYTES: usize = 8;
const DIGITS: u8 = 3;

/// A batch as it is sent, again and again.
struct Encoded {
    bytes: Vec<u8>,
    values_at: Vec<usize>,
    /// Behind each record.
    ends: Vec<usize>,
}

impl Encoded {
    fn new(
        protocol: &dyn Protocol,
        stream: &TcpStream,
        shape: &Shape,
        partition: usize,
    ) -> anyhow::Result<Self> {
        let mut encoded = Self {
            bytes: Vec::new(),
            values_at: Vec::new(),
            ends: Vec::new(),
        };
        // Letters: a value must not look like a part of a protocol.
        let letters = source::bytes(shape.record_bytes);
        let value: Vec<u8> = letters.iter().map(|byte| b'a' + byte % 26).collect();
        for _ in 0..shape.batch_records {
            let (record, value_at) = protocol.record(partition, &value);
            encoded.values_at.push(encoded.bytes.len() + value_at);
            encoded.bytes.extend_from_slice(&record);
            encoded.ends.push(encoded.bytes.len());
        }
        protocol.address_to(stream, &mut encoded.bytes)?;
        Ok(encoded)
    }

    fn stamp(&mut self, record: usize, nanoseconds: u64) {
        let place = self.values_at.get(record).copied();
        let place = place.and_then(|at| self.bytes.get_mut(at..at + STAMP_BYTES));
        if let Some(place) = place {
            place.copy_from_slice(&nanoseconds.to_le_bytes());
        }
    }

    fn first(&self, records: usize) -> &[u8] {
        let end = records.checked_sub(1).and_then(|last| self.ends.get(last));
        self.bytes
            .get(..end.copied().unwrap_or_default())
            .unwrap_or_default()
    }
}

/// What all threads of a load share.
struct Field<'a> {
    protocol: &'a dyn Protocol,
    shape: &'a Shape,
    address: &'a str,
    begun: Instant,
    /// Nothing more is to be sent.
    is_over: AtomicBool,
    /// Nothing more was sent, and all of it is acknowledged.
    is_settled: AtomicBool,
    produced: AtomicU64,
    fetched: AtomicU64,
    acknowledged: Mutex<Latencies>,
    arrived: Mutex<Latencies>,
    failures: Mutex<Vec<String>>,
}

/// What was sent together.
struct Sent {
    first_due: u64,
    period: f64,
    count: usize,
}

impl Field<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn counts(&self, moment: u64) -> bool {
        let moment = Duration::from_nanos(moment);
        self.shape.warm_up <= moment && moment < self.shape.warm_up.saturating_add(self.shape.duration)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn note(&self, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.push(format!("{error:#}"));
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn write(
        &self,
        stream: &TcpStream,
        (places, queue): (&SyncSender<()>, &Sender<Sent>),
        producer: usize,
    ) -> anyhow::Result<()> {
        wake_in_time();
        let shape = self.shape;
        let mut batches = Vec::new();
        for partition in 0..shape.partitions {
            batches.push(Encoded::new(self.protocol, stream, shape, partition)?);
        }
        let producers = u64::try_from(shape.producers)?;
        let records_max = shape
            .records
            .map_or(u64::MAX, |records| records.div_ceil(producers));
        let period = shape.rate.map(|rate| 1e9 * count(producers) / rate);
        let batch_max = u64::try_from(shape.batch_records)?;
        let is_stamped = shape.work == Work::EndToEnd;
        let (mut sent, mut turn, mut writer) = (0, producer, stream);
        while sent < records_max && !self.is_over() {
            // Waits while as many batches as allowed are on their way.
            if places.send(()).is_err() {
                break;
            }
            let (first_due, ready) = match period {
                None => (self.now(), batch_max),
                Some(period) => {
                    let due = nanoseconds(count(sent) * period);
                    let now = self.now();
                    if now < due {
                        thread::sleep(Duration::from_nanos(due - now));
                    }
                    let passed = count(self.now().saturating_sub(due)) / period;
                    (due, nanoseconds(passed).saturating_add(1))
                }
            };
            let size = ready.min(batch_max).min(records_max - sent);
            let records = usize::try_from(size)?;
            let place = turn % shape.partitions;
            let batch = batches.get_mut(place).context("a batch for each stream")?;
            let period = period.unwrap_or_default();
            if is_stamped {
                for record in 0..records {
                    let after = nanoseconds(count(u64::try_from(record)?) * period);
                    batch.stamp(record, first_due + after);
                }
            }
            let entry = Sent {
                first_due,
                period,
                count: records,
            };
            if queue.send(entry).is_err() {
                break;
            }
            writer.write_all(batch.first(records))?;
            sent += size;
            turn += 1;
        }
        Ok(())
    }

    fn read_acknowledgements(
        &self,
        stream: TcpStream,
        queue: &Receiver<Sent>,
        places: Receiver<()>,
    ) -> anyhow::Result<()> {
        let mut input = Input::new(stream);
        let mut latencies = Latencies::new(DIGITS);
        while let Ok(sent) = queue.recv() {
            for record in 0..sent.count {
                self.protocol.read_acknowledgement(&mut input)?;
                let now = self.now();
                if self.counts(now) {
                    let after = nanoseconds(count(u64::try_from(record)?) * sent.period);
                    latencies.add(now.saturating_sub(sent.first_due + after), 1);
                }
            }
            self.produced
                .fetch_add(u64::try_from(sent.count)?, Ordering::Relaxed);
            places.recv().ok();
        }
        // Whoever waits for a place after a failure waits no longer.
        drop(places);
        let mut all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        all.merge(&latencies);
        Ok(())
    }

    fn produce(&self, producer: usize) -> anyhow::Result<()> {
        let stream = self.protocol.connect(self.address)?;
        let reading = stream.try_clone()?;
        let (queue, waiting) = mpsc::channel();
        let (places, taken) = mpsc::sync_channel(self.shape.in_flight);
        thread::scope(|scope| {
            let end = stream.try_clone()?;
            scope.spawn(move || {
                let outcome = self.read_acknowledgements(reading, &waiting, taken);
                if outcome.is_err() {
                    // Nobody reads any more; whoever writes must not wait for it.
                    end.shutdown(Shutdown::Both).ok();
                }
                self.note(outcome);
            });
            let outcome = self.write(&stream, (&places, &queue), producer);
            drop(queue);
            outcome
        })
    }

    fn follow(&self, mut follower: Box<dyn Follow>) -> anyhow::Result<()> {
        let mut latencies = Latencies::new(DIGITS);
        let size = self.shape.record_bytes;
        // Before the last acknowledgement nobody knows how many there are.
        let is_settled = || self.is_settled.load(Ordering::Acquire);
        let until =
            || is_settled() && self.produced.load(Ordering::Relaxed) <= self.fetched.load(Ordering::Relaxed);
        // An answer that has begun comes to its end.
        follower.stream().set_read_timeout(Some(DRAIN_MAX))?;
        let mut ended_at = None;
        while !until() && ended_at.is_none_or(|ended: Instant| ended.elapsed() < DRAIN_MAX) {
            if is_settled() {
                ended_at = ended_at.or_else(|| Some(Instant::now()));
            }
            let mut arrived = 0;
            follower.next(size, &mut |value| {
                arrived += 1;
                let now = self.now();
                let due = value
                    .first_chunk()
                    .map_or(now, |stamp| u64::from_le_bytes(*stamp));
                if self.counts(now) {
                    latencies.add(now.saturating_sub(due), 1);
                }
            })?;
            self.fetched.fetch_add(arrived, Ordering::Relaxed);
        }
        anyhow::ensure!(until(), "not all records arrived within {DRAIN_MAX:?}");
        let mut all = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        all.merge(&latencies);
        Ok(())
    }

    /// One pass over the streams whose turn it is with this reader, until all of their records were seen.
    fn replay(&self, reader: usize, expected: &[AtomicU64]) -> anyhow::Result<()> {
        for (partition, left) in expected
            .iter()
            .enumerate()
            .skip(reader)
            .step_by(self.shape.readers)
        {
            let mut follower = self.protocol.read(self.address, partition, Reading::FromStart)?;
            let mut left = left.load(Ordering::Relaxed);
            let mut latest = Instant::now() + DRAIN_MAX;
            while 0 < left {
                let mut arrived = 0;
                follower.next(self.shape.record_bytes, &mut |_| arrived += 1)?;
                if 0 < arrived {
                    latest = Instant::now() + DRAIN_MAX;
                }
                anyhow::ensure!(Instant::now() < latest, "{left} records are not there");
                self.fetched.fetch_add(arrived, Ordering::Relaxed);
                left = left.saturating_sub(arrived);
            }
        }
        Ok(())
    }
}

/// A number of nanoseconds; what is below 0 is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and fractions of a nanosecond do not count"
)]
fn nanoseconds(value: f64) -> u64 {
    value as u64
}

/// Runs the load, and tells of it in the form of `stratalog bench`; what is the machine's is taken from `like`, a result of
/// the same load on another broker.
///
/// # Errors
/// When the load cannot be put on it.
pub fn run(
    protocol: &dyn Protocol,
    peer: Peer,
    server: &Server,
    shape: &Shape,
    like: &RunResult,
) -> anyhow::Result<RunResult> {
    let version = protocol.make_streams(&server.address, shape.partitions)?;
    let expected: Vec<AtomicU64> = (0..shape.partitions).map(|_| AtomicU64::new(0)).collect();
    if shape.work == Work::Fetch {
        prefill(protocol, server, shape, &expected)?;
    }
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let field = Field {
        protocol,
        shape,
        address: &server.address,
        begun: Instant::now(),
        is_over: AtomicBool::new(false),
        is_settled: AtomicBool::new(false),
        produced: AtomicU64::new(0),
        fetched: AtomicU64::new(0),
        acknowledged: Mutex::new(Latencies::new(DIGITS)),
        arrived: Mutex::new(Latencies::new(DIGITS)),
        failures: Mutex::default(),
    };
    let watched = load(&field, server, &expected)?;
    protocol.remove_streams(&server.address, shape.partitions)?;
    let failures = field
        .failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    anyhow::ensure!(
        failures.is_empty(),
        "{}: {}",
        protocol.product(),
        failures.join("; ")
    );
    let record_bytes = u64::try_from(shape.record_bytes)?;
    let flow = |records: u64, latency| Flow {
        records,
        bytes: records * record_bytes,
        requests: records,
        records_per_s: count(records) / watched.seconds,
        mb_per_s: count(records * record_bytes) / 1e6 / watched.seconds,
        requests_per_s: count(records) / watched.seconds,
        target_records_per_s: shape.rate,
        latency,
        ..Flow::default()
    };
    let told = |latencies: Mutex<Latencies>| {
        latencies
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .told("record")
    };
    let moved = (watched.produced + watched.fetched) * record_bytes;
    let gigabytes = count(moved.max(1)) / 1e9;
    Ok(RunResult {
        schema_version: SCHEMA_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        label: peer.label().to_owned(),
        workload: like.workload.clone(),
        command: std::env::args().collect(),
        started_at_ms: u64::try_from(since_1970.as_millis())?,
        seed: like.seed,
        plan: without_topic_settings(&like.plan),
        machine: like.machine.clone(),
        broker: BrokerTruth {
            address: server.address.clone(),
            product: protocol.product().to_owned(),
            version: Some(version),
            brokers: 1,
            durability: Durability {
                mode: peer.durability(),
                acks: "all".to_owned(),
                replication_factor: 1,
                ..Durability::default()
            },
            topic: "load".to_owned(),
            partitions: shape.partitions,
            process: Some(Process {
                pid: server.pid(),
                name: protocol.product().to_owned(),
                command: server.program.name().to_owned(),
            }),
            storage: like.broker.storage.clone(),
        },
        warm_up_s: watched.warm_up,
        measured_s: watched.seconds,
        produced: (0 < watched.produced).then(|| flow(watched.produced, told(field.acknowledged))),
        fetched: (0 < watched.fetched).then(|| flow(watched.fetched, None)),
        end_to_end: if shape.work == Work::EndToEnd {
            told(field.arrived)
        } else {
            None
        },
        cost: Cost {
            client_cpu_s: watched.own_cpu,
            client_cpu_s_per_gb: Some(watched.own_cpu / gigabytes),
            broker_cpu_s: Some(watched.broker_cpu),
            broker_cpu_s_per_gb: Some(watched.broker_cpu / gigabytes),
            broker_rss_before_bytes: Some(watched.before.rss_bytes),
            broker_rss_max_bytes: Some(watched.largest.rss_bytes),
            broker_rss_after_bytes: Some(watched.after.rss_bytes),
            broker_anonymous_after_bytes: Some(watched.after.anonymous_bytes),
            broker_anonymous_max_bytes: Some(watched.largest.anonymous_bytes),
            ..Cost::default()
        },
        timeline: watched.timeline,
        ..RunResult::default()
    })
}

/// The plan of a broker that has no topics to be set.
fn without_topic_settings(plan: &Value) -> Value {
    let mut plan = plan.clone();
    if let Some(settings) = plan.get_mut("topic_configs") {
        *settings = Value::Array(Vec::new());
    }
    plan
}

/// What was seen while the load ran.
struct Watched {
    warm_up: f64,
    seconds: f64,
    produced: u64,
    fetched: u64,
    own_cpu: f64,
    broker_cpu: f64,
    before: local::Usage,
    largest: local::Usage,
    after: local::Usage,
    timeline: Vec<Moment>,
}

fn usage(server: &Server) -> anyhow::Result<local::Usage> {
    local::usage_of(server.pid()).context("the broker has ended")
}

fn load(field: &Field<'_>, server: &Server, expected: &[AtomicU64]) -> anyhow::Result<Watched> {
    let shape = field.shape;
    let mut followers = Vec::new();
    if shape.work == Work::EndToEnd {
        for partition in 0..shape.partitions {
            followers.push(field.protocol.read(field.address, partition, Reading::New)?);
        }
    }
    let before = usage(server)?;
    thread::scope(|scope| {
        let mut workers = Vec::new();
        if shape.work == Work::Fetch {
            for reader in 0..shape.readers {
                workers.push(scope.spawn(move || field.note(field.replay(reader, expected))));
            }
        } else {
            for producer in 0..shape.producers {
                workers.push(scope.spawn(move || field.note(field.produce(producer))));
            }
        }
        for follower in followers {
            scope.spawn(|| field.note(field.follow(follower)));
        }
        let watched = watch(field, server, before, || {
            workers.iter().all(thread::ScopedJoinHandle::is_finished)
        });
        field.is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            let ended = worker.join();
            field.note(ended.map_err(|_| anyhow::anyhow!("a thread of the load panicked")));
        }
        field.is_settled.store(true, Ordering::Release);
        watched
    })
}

/// Samples until the time is up, or all is done.
fn watch(
    field: &Field<'_>,
    server: &Server,
    before: local::Usage,
    is_done: impl Fn() -> bool,
) -> anyhow::Result<Watched> {
    let shape = field.shape;
    // One pass over old records has no warm-up and ends when it has seen all.
    let warm_up = if shape.work == Work::Fetch {
        Duration::ZERO
    } else {
        shape.warm_up
    };
    let counted = || {
        (
            field.produced.load(Ordering::Relaxed),
            field.fetched.load(Ordering::Relaxed),
        )
    };
    let until = |moment: Duration| {
        while field.begun.elapsed() < moment && !is_done() {
            let left = moment.saturating_sub(field.begun.elapsed());
            thread::sleep(left.min(Duration::from_millis(5)));
        }
    };
    let bytes = u64::try_from(shape.record_bytes)?;
    let (mut timeline, mut largest) = (Vec::new(), before);
    let (mut from, mut at_begin) = (None, Duration::ZERO);
    let (mut last, mut last_at, mut last_usage) = (counted(), Duration::ZERO, before);
    loop {
        if from.is_none() && warm_up <= field.begun.elapsed() {
            at_begin = field.begun.elapsed();
            from = Some((counted(), usage(server)?, local::own_cpu_s()));
        }
        let end = warm_up.saturating_add(shape.duration);
        if is_done() || end <= field.begun.elapsed() {
            break;
        }
        let mut next = last_at.saturating_add(STRETCH).min(end);
        if from.is_none() {
            next = next.min(warm_up);
        }
        until(next);
        let (now, at, used) = (counted(), field.begun.elapsed(), usage(server)?);
        largest.rss_bytes = largest.rss_bytes.max(used.rss_bytes);
        largest.anonymous_bytes = largest.anonymous_bytes.max(used.anonymous_bytes);
        timeline.push(Moment {
            at_s: at.as_secs_f64(),
            length_s: at.saturating_sub(last_at).as_secs_f64(),
            produced_records: now.0 - last.0,
            produced_bytes: (now.0 - last.0) * bytes,
            fetched_records: now.1 - last.1,
            fetched_bytes: (now.1 - last.1) * bytes,
            broker_cpu_s: Some(used.cpu_s - last_usage.cpu_s),
            broker_rss_bytes: Some(used.rss_bytes),
            broker_anonymous_bytes: Some(used.anonymous_bytes),
            ..Moment::default()
        });
        (last, last_at, last_usage) = (now, at, used);
    }
    let (begin, used_before, own_before) = from.context("the load ended within the warm-up")?;
    let (now, after) = (counted(), usage(server)?);
    Ok(Watched {
        warm_up: at_begin.as_secs_f64(),
        seconds: field.begun.elapsed().saturating_sub(at_begin).as_secs_f64(),
        produced: now.0 - begin.0,
        fetched: now.1 - begin.1,
        own_cpu: local::own_cpu_s() - own_before,
        broker_cpu: after.cpu_s - used_before.cpu_s,
        before,
        largest,
        after,
        timeline,
    })
}

/// Produces what is to be read, as fast as it goes.
fn prefill(
    protocol: &dyn Protocol,
    server: &Server,
    shape: &Shape,
    expected: &[AtomicU64],
) -> anyhow::Result<()> {
    let stream = protocol.connect(&server.address)?;
    let mut input = Input::new(stream.try_clone()?);
    let mut left = usize::try_from(shape.prefill_records)?;
    let mut batches = Vec::new();
    for partition in 0..shape.partitions {
        batches.push(Encoded::new(protocol, &stream, shape, partition)?);
    }
    for (batch, written) in batches.iter().zip(expected).cycle() {
        let records = left.min(shape.batch_records);
        if records == 0 {
            break;
        }
        (&stream).write_all(batch.first(records))?;
        for _ in 0..records {
            protocol.read_acknowledgement(&mut input)?;
        }
        written.fetch_add(u64::try_from(records)?, Ordering::Relaxed);
        left -= records;
    }
    Ok(())
}
