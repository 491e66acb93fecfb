//! NDJSON as fast as it is taken, on four connections; and Kafka's protocol on as many, by `stratalog bench produce`.
//! Bytes are those of the bodies, and of the batches: the values are as long in both.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use log_bench::load::local::own_cpu_s;
use log_bench::report::count;
use log_bench::rounds::in_turn;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::client::{Client, Head, request};
use crate::figures::Goal;
use crate::servers::{Ours, Promise, rest};
use crate::{Session, kafka_load};

const CONNECTIONS: usize = 4;
/// As many as `stratalog bench produce` is told to use.
const PARTITIONS: usize = 8;
/// What a value of the Kafka path has, and about what a line has.
const LINE_BYTES: usize = 1 << 10;
/// Lines of events as they are mostly sent: told, and held to nothing.
const SHORT_LINE_BYTES: usize = 200;
/// What leaves in one call.
const CHUNK_BYTES: usize = 256 << 10;
/// What is wanted, whichever is less.
const MEGABYTES: f64 = 300.0;
const SHARE: f64 = 0.4;
/// A run is short: each second is half a gigabyte for the disk.
const SECONDS_MAX: f64 = 1.5;

pub(crate) async fn measure(session: &mut Session) -> anyhow::Result<()> {
    let ours = session.start(&[])?;
    while let Some(round) = session.rounds.begin("NDJSON")? {
        for promise in in_turn(&Promise::BOTH, round).copied() {
            let name = promise.name();
            let kafka = kafka_path(session, &ours, promise).await?;
            let found = lines(session, &ours, promise, LINE_BYTES).await?;
            let load = format!("NDJSON, lines of 1 KiB, {name} / Kafka path");
            session.add(&load, "of its MB/s", Goal::Told, found / kafka);
            let wanted = MEGABYTES.min(SHARE * kafka);
            session.add(&load, "of what is wanted", Goal::AtLeast(1.0), found / wanted);
            lines(session, &ours, promise, SHORT_LINE_BYTES).await?;
        }
    }
    Ok(())
}

/// MB/s of batches of 64 KiB over Kafka's protocol.
async fn kafka_path(session: &mut Session, ours: &Ours, promise: Promise) -> anyhow::Result<f64> {
    rest().await;
    let seconds = session.options.seconds.min(SECONDS_MAX);
    let topic_config = format!("flush.messages={}", promise.flush_messages());
    let result = kafka_load::run(
        session,
        ours,
        &[
            "produce",
            "--connections",
            &CONNECTIONS.to_string(),
            "--partitions",
            &PARTITIONS.to_string(),
            "--duration",
            &format!("{:.0}ms", seconds * 1e3),
            "--warm-up",
            "200ms",
            "--topic-config",
            &topic_config,
        ],
    )?;
    let produced = result.produced.context("something was produced")?;
    let load = format!("Kafka path, batches of 64 KiB, {}", promise.name());
    session.add(&load, "MB/s", Goal::Told, produced.mb_per_s);
    Ok(produced.mb_per_s)
}

/// MB/s of lines that are acknowledged.
async fn lines(
    session: &mut Session,
    ours: &Ours,
    promise: Promise,
    line_bytes: usize,
) -> anyhow::Result<f64> {
    let topic = format!("lines-{line_bytes}-{}", promise.name());
    ours.make_topic(&topic, PARTITIONS, promise).await?;
    rest().await;
    let line = line(line_bytes);
    let chunk = chunk(&line);
    let time = Duration::from_secs_f64(session.options.seconds.min(SECONDS_MAX));
    let (broker_cpu, own_cpu) = (ours.broker.cpu_seconds()?, own_cpu_s());
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(&ours.http).await?;
        let head = format!(
            "POST /v1/topics/{topic}/records HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-ndjson\r\n\
             transfer-encoding: chunked\r\n\r\n",
            ours.http
        );
        tasks.spawn(send(client, head, chunk.clone(), began + time));
    }
    let mut records = 0_u64;
    while let Some(sent) = tasks.join_next().await {
        records += sent??;
    }
    let bytes = count(records) * count(u64::try_from(line.len())?);
    let megabytes_per_second = bytes / 1e6 / began.elapsed().as_secs_f64();
    let length = if line_bytes == LINE_BYTES {
        "1 KiB"
    } else {
        "200 B"
    };
    let load = format!("NDJSON, lines of {length}, {}", promise.name());
    for (figure, value) in [
        ("MB/s", megabytes_per_second),
        (
            "s of broker CPU a GB",
            (ours.broker.cpu_seconds()? - broker_cpu) * 1e9 / bytes,
        ),
        ("s of the load's CPU a GB", (own_cpu_s() - own_cpu) * 1e9 / bytes),
    ] {
        session.add(&load, figure, Goal::Told, value);
    }
    let mut client = Client::connect(&ours.http).await?;
    let delete = request("DELETE", &format!("/v1/topics/{topic}"), &ours.http, &[], b"");
    let status = client.exchange(&delete).await?;
    ensure!(status == 204, "a topic cannot be deleted: {status}");
    Ok(megabytes_per_second)
}

/// Sends lines until it is time, and reads what becomes of them meanwhile; gives how many were written.
async fn send(client: Client, head: String, chunk: Vec<u8>, until: Instant) -> anyhow::Result<u64> {
    let (mut input, mut output) = client.into_stream().into_split();
    let sending = async {
        output.write_all(head.as_bytes()).await?;
        while Instant::now() < until {
            output.write_all(&chunk).await?;
        }
        output.write_all(b"0\r\n\r\n").await
    };
    let reading = async {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            let read = input.read_buf(&mut answer).await?;
            ensure!(read != 0, "the connection was closed");
            let head = Head::find(&answer)?;
            let is_fine = head.is_none_or(|head| head.status == 200);
            ensure!(is_fine, "lines are refused with {head:?}");
        }
        anyhow::Ok(answer)
    };
    let (sent, answer) = tokio::join!(sending, reading);
    sent?;
    let answer = String::from_utf8(answer?)?;
    let end = answer.lines().find(|line| line.starts_with("{\"done\":"));
    let end: Value = serde_json::from_str(end.context("the end of the answer")?)?;
    let field = |name: &str| end.get(name).cloned().unwrap_or_default();
    ensure!(field("done") == true && field("failed") == 0, "{end}");
    field("records").as_u64().context("a number of records")
}

/// An event as a line of so many bytes, its end included.
fn line(bytes: usize) -> Vec<u8> {
    let front = r#"{"value":{"event":"purchase","user":4711,"session":"1f3a9c02","amount":129,"note":""#;
    let back = "\"}}\n";
    let note = "tea and ".bytes().cycle();
    let note = note.take(bytes.saturating_sub(front.len() + back.len()));
    front.bytes().chain(note).chain(back.bytes()).collect()
}

/// Lines, as a chunk of a body of unknown length.
fn chunk(line: &[u8]) -> Vec<u8> {
    let lines = line.repeat(CHUNK_BYTES / line.len().max(1));
    [format!("{:x}\r\n", lines.len()).as_bytes(), &lines, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_of_their_length() {
        for bytes in [LINE_BYTES, SHORT_LINE_BYTES] {
            let line = line(bytes);
            assert_eq!(line.len(), bytes);
            let value: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(value["value"]["amount"], 129);
        }
        let chunk = chunk(&line(LINE_BYTES));
        assert!(chunk.starts_with(b"40000\r\n{") && chunk.ends_with(b"}}\n\r\n"));
    }
}
