//! Followers over SSE: how long after the moment at which a record was due to be sent each of them has it.
//!
//! Records are produced one by one over Kafka's protocol, at times that were fixed beforehand, by this process: one clock. What is told therefore
//! holds the way to the broker, the append, and with a synced topic the disk, besides the way to the follower. How long the producer's
//! acknowledgements take stands beside it, and how long behind its own acknowledgement a record came: what following alone adds.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use log_bench::load::latency::Latencies;
use log_bench::load::local::own_cpu_s;
use log_bench::raw;
use log_bench::report::count;
use log_bench::rounds::in_turn;
use log_core::model::TimestampMs;
use log_core::protocol::KafkaString;
use log_core::protocol::messages::ProduceRequestData;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Session;
use crate::client::{Client, request};
use crate::figures::Goal;
use crate::servers::{Ours, Promise, rest};

const FOLLOWERS: usize = 10;
const RECORDS_PER_SECOND: u32 = 5_000;
const RECORD_BYTES: usize = 100;
const P99_MS: f64 = 2.0;
/// The first records find everything cold.
const WARM_UP: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);
const DIGITS: u8 = 3;
/// Names topics by name.
const PRODUCE_VERSION: i16 = 8;
const LENGTH_BYTES: usize = 4;

/// What is sent when.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    records: u32,
}

impl Schedule {
    fn due(self, number: u32) -> Instant {
        self.start + Duration::from_secs(1) / RECORDS_PER_SECOND * number
    }

    fn dues(self) -> impl Iterator<Item = Instant> {
        (0..self.records).map(move |number| self.due(number))
    }

    /// Which records count.
    fn counts(self, number: u32) -> bool {
        WARM_UP <= self.due(number) - self.start
    }

    /// How long after their moments in `since` the records had come, of those that count.
    fn late(self, times: &[Instant], since: impl Iterator<Item = Instant>) -> Latencies {
        let mut late = Latencies::new(DIGITS);
        for ((number, time), since) in (0..self.records).zip(times).zip(since) {
            if self.counts(number) {
                let nanoseconds = time.saturating_duration_since(since).as_nanos();
                late.add(u64::try_from(nanoseconds).unwrap_or(u64::MAX), 1);
            }
        }
        late
    }
}

pub(crate) async fn measure(session: &mut Session) -> anyhow::Result<()> {
    let ours = session.start(&[])?;
    for promise in Promise::BOTH {
        ours.make_topic(promise.name(), 1, promise).await?;
    }
    while let Some(round) = session.rounds.begin("SSE")? {
        for promise in in_turn(&Promise::BOTH, round) {
            follow(session, &ours, *promise).await?;
        }
    }
    Ok(())
}

async fn follow(session: &mut Session, ours: &Ours, promise: Promise) -> anyhow::Result<()> {
    rest().await;
    let topic = promise.name();
    let mut followers = Vec::with_capacity(FOLLOWERS);
    for _ in 0..FOLLOWERS {
        let mut follower = Client::connect(&ours.http).await?;
        let path = format!("/v1/topics/{topic}/follow");
        follower
            .open_stream(&request("GET", &path, &ours.http, &[], b""))
            .await?;
        followers.push(follower);
    }
    let time = WARM_UP + Duration::from_secs_f64(session.options.seconds);
    let schedule = Schedule {
        start: Instant::now() + Duration::from_millis(50),
        records: u32::try_from(time.as_millis())?.saturating_mul(RECORDS_PER_SECOND / 1000),
    };
    let (broker_cpu, own_cpu) = (ours.broker.cpu_seconds()?, own_cpu_s());
    let producer = Producer::connect(&ours.broker.address)?;
    let producer = producer.run(topic, schedule);
    let mut tasks = JoinSet::new();
    for follower in followers {
        tasks.spawn(receive(follower, schedule));
    }
    let mut seen = Vec::with_capacity(FOLLOWERS);
    while let Some(times) = tasks.join_next().await {
        seen.push(times??);
    }
    let acknowledged = producer.join();
    let acknowledged = acknowledged.map_err(|_| anyhow::anyhow!("the producer panicked"))??;
    let acknowledgements = schedule.late(&acknowledged, schedule.dues());
    let (mut arrivals, mut behind) = (Latencies::new(DIGITS), Latencies::new(DIGITS));
    for times in &seen {
        arrivals.merge(&schedule.late(times, schedule.dues()));
        behind.merge(&schedule.late(times, acknowledged.iter().copied()));
    }
    let deliveries = count(u64::from(schedule.records)) * count(u64::try_from(FOLLOWERS)?);
    let load = format!("SSE, 5,000 records/s to 10 followers, {topic}");
    let at = |latencies: &Latencies, percentile| latencies.percentile_us(percentile) / 1e3;
    for (figure, goal, value) in [
        ("ms, half of them", Goal::Told, at(&arrivals, 50.0)),
        ("ms, 99 %", Goal::AtMost(P99_MS), at(&arrivals, 99.0)),
        ("ms, 99.9 %", Goal::Told, at(&arrivals, 99.9)),
        (
            "ms to the producer's acknowledgement, 99 %",
            Goal::Told,
            at(&acknowledgements, 99.0),
        ),
        (
            "ms behind the acknowledgement, 99 %",
            Goal::AtMost(P99_MS),
            at(&behind, 99.0),
        ),
        (
            "µs of broker CPU a delivery",
            Goal::Told,
            (ours.broker.cpu_seconds()? - broker_cpu) * 1e6 / deliveries,
        ),
        (
            "µs of the load's CPU a delivery",
            Goal::Told,
            (own_cpu_s() - own_cpu) * 1e6 / deliveries,
        ),
    ] {
        session.add(&load, figure, goal, value);
    }
    Ok(())
}

/// Reads a follower's stream to the last record; gives when each one came.
async fn receive(mut follower: Client, schedule: Schedule) -> anyhow::Result<Vec<Instant>> {
    let mut times = Vec::with_capacity(usize::try_from(schedule.records)?);
    let mut next = 0;
    while next < schedule.records {
        let read = timeout(PATIENCE, follower.read()).await;
        read.with_context(|| format!("{next} of {} records came", schedule.records))??;
        let now = Instant::now();
        let input = follower.received();
        let Some(end) = input.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        for line in input.drain(..=end).as_slice().split(|byte| *byte == b'\n') {
            let Some(number) = number_in(line) else {
                continue;
            };
            ensure!(number == next, "record {number} came in the place of {next}");
            next += 1;
            times.push(now);
        }
    }
    Ok(times)
}

/// The number of the record that a line of the stream has, if it has one.
fn number_in(line: &[u8]) -> Option<u32> {
    const MARK: &str = "\"value\":\"";
    let text = std::str::from_utf8(line.strip_prefix(b"data: ")?).ok()?;
    let (_, value) = text.split_once(MARK)?;
    value.split(' ').next()?.parse().ok()
}

/// A value of so many bytes that begins with a number.
fn value(number: u32) -> String {
    format!("{number} {:x<width$}", "", width = RECORD_BYTES)
        .chars()
        .take(RECORD_BYTES)
        .collect()
}

/// A connection of Kafka's protocol that sends each record when it is due, whether or not those before are acknowledged.
#[derive(Debug)]
struct Producer {
    stream: TcpStream,
}

impl Producer {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends all records on a thread, and gives when they were acknowledged.
    fn run(
        self,
        topic: &'static str,
        schedule: Schedule,
    ) -> std::thread::JoinHandle<anyhow::Result<Vec<Instant>>> {
        std::thread::spawn(move || {
            let input = self.stream.try_clone()?;
            let (sent, waiting) = channel::<()>();
            let acknowledged = std::thread::spawn(move || acknowledged(input, &waiting));
            self.send(topic, schedule, &sent)?;
            drop(sent);
            let joined = acknowledged.join();
            joined.map_err(|_| anyhow::anyhow!("the reader of acknowledgements panicked"))?
        })
    }

    fn send(mut self, topic: &str, schedule: Schedule, sent: &Sender<()>) -> anyhow::Result<()> {
        for number in 0..schedule.records {
            let left = schedule.due(number).saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left);
            }
            self.stream.write_all(&frame(topic, number)?)?;
            sent.send(())?;
        }
        Ok(())
    }
}

fn acknowledged(mut input: TcpStream, waiting: &Receiver<()>) -> anyhow::Result<Vec<Instant>> {
    let mut times = Vec::new();
    while waiting.recv().is_ok() {
        let mut length = [0; LENGTH_BYTES];
        input.read_exact(&mut length)?;
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        input.read_exact(&mut answer)?;
        times.push(Instant::now());
        let answer = raw::decode::<ProduceRequestData>(Bytes::from(answer), PRODUCE_VERSION)?;
        let mut rows = answer
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses);
        ensure!(rows.all(|row| row.error_code == 0), "a record is refused");
    }
    Ok(times)
}

/// A Produce request of one record.
fn frame(topic: &str, number: u32) -> anyhow::Result<Bytes> {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now = TimestampMs::new(i64::try_from(now.as_millis())?);
    batch.append(now, None, Some(value(number).as_bytes()), &[])?;
    let request = ProduceRequestData {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from(topic.to_owned()),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch.build()),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    };
    raw::encode(&request, PRODUCE_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_again_in_the_stream() {
        assert_eq!(value(4711).len(), RECORD_BYTES);
        let line = format!(
            "data: {{\"offset\":5,\"key\":null,\"value\":\"{}\"}}",
            value(4711)
        );
        assert_eq!(number_in(line.as_bytes()), Some(4711));
        assert_eq!(number_in(b"id: 0:5"), None);
        assert_eq!(number_in(b"1a4\r"), None);
    }
}
