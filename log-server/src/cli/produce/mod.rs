//! `stratalog produce`: lines of files or of standard input become records.
//!
//! - `lines`: the input, line by line, each with its place
//! - `recipe`: what of a line becomes key, value, timestamp and headers
//! - `record`: a record as `consume` writes it
//! - `tally`: what became of the records
//!
//! Reading may block, and happens on a thread of its own, so that the command can be ended while it waits for input: what was
//! sent until then is delivered, counted and told.

mod lines;
mod recipe;
mod record;
mod tally;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use log_client::config::{Acks, ProducerConfig};
use log_client::producer::{Delivery, Producer, ProducerRecord, RecordHeader};
use log_core::record::compression::Compression;

use super::connection::ConnectionArgs;
use super::failure::{Failure, Outcome};
use super::output::Output;
use super::progress::Progress;
use super::signals::told_to_stop;
use super::units::{parse_bytes, parse_duration};
use lines::{Chunk, Lines};
use recipe::{Recipe, RecipeArgs};
use tally::Tally;

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// Where the records go
    topic: String,

    /// Files to read; '-' or none at all is standard input
    files: Vec<PathBuf>,

    #[command(flatten)]
    recipe: RecipeArgs,

    /// Send everything to this partition
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// A header for every record; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// The codec of batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value_t = Compression::None, value_name = "CODEC", help_heading = "Delivery")]
    compression: Compression,

    /// The codec's level
    #[arg(long, value_name = "LEVEL", help_heading = "Delivery")]
    compression_level: Option<i32>,

    /// What counts as delivered: all (on the disk), 1 (taken by the broker) or 0 (sent)
    #[arg(long, default_value = "all", value_parser = acks, help_heading = "Delivery")]
    acks: Acks,

    /// How long records wait for others to travel with
    #[arg(long, default_value = "5ms", value_name = "DURATION", value_parser = parse_duration, help_heading = "Delivery")]
    linger: Duration,

    /// The size of a batch before compression
    #[arg(long, default_value = "64k", value_name = "SIZE", value_parser = parse_bytes, help_heading = "Delivery")]
    batch_bytes: usize,

    /// The size of a record, and so of a line
    #[arg(long, default_value = "1m", value_name = "SIZE", value_parser = parse_bytes, help_heading = "Delivery")]
    max_record_bytes: usize,

    /// Go on after a record that could not be made or delivered
    #[arg(long)]
    keep_going: bool,

    /// Say nothing when all is well
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("not of the form name=value".to_owned()),
    }
}

fn acks(text: &str) -> Result<Acks, String> {
    text.parse().map_err(|error: log_client::Error| error.to_string())
}

pub(super) async fn run(
    arguments: &ProduceArgs,
    connection: &ConnectionArgs,
    output: &mut Output,
) -> Outcome {
    let recipe = Recipe::new(&arguments.recipe)?;
    let input = Lines::open(
        &arguments.files,
        recipe.takes_whole_files(),
        arguments.max_record_bytes,
    )?;
    let producer = Producer::new(config(arguments, connection))?;
    // Whoever waits at a terminal wants to know at once that nobody listens.
    producer.cluster().refresh(0).await?;

    let begin = Instant::now();
    let mut tally = Tally::new(arguments.keep_going);
    let sent = tokio::select! {
        sent = send_all(arguments, &recipe, input, &producer, &mut tally, output) => sent.map(|()| false),
        stopped = told_to_stop() => stopped.map(|()| true),
    };
    match sent {
        Ok(false) => {}
        Ok(true) => tally.interrupted(output),
        Err(failure) => tally.stopped(failure, output),
    }
    // What was sent before something went wrong is delivered all the same, unless somebody does not want to wait for it.
    let is_waited_for = tokio::select! {
        () = settle(&producer, &mut tally, output) => true,
        _ = told_to_stop() => false,
    };
    if !is_waited_for {
        tally.interrupted(output);
    }
    let elapsed = begin.elapsed();
    if output.is_json() {
        output.json(&tally.document(&arguments.topic, elapsed))?;
    } else {
        tally.show(output, &arguments.topic, elapsed)?;
    }
    tally.into_result()
}

async fn settle(producer: &Producer, tally: &mut Tally, output: &Output) {
    producer.close().await;
    tally.settle_all(output).await;
}

fn config(arguments: &ProduceArgs, connection: &ConnectionArgs) -> ProducerConfig {
    let mut config = ProducerConfig::new("");
    config.client = connection.config();
    config.client.auto_create_topics = true;
    let delivery_timeout = config.client.request_timeout.max(connection.timeout);
    ProducerConfig {
        acks: arguments.acks,
        idempotent: arguments.acks == Acks::All,
        compression: arguments.compression,
        compression_level: arguments.compression_level,
        batch_bytes: arguments.batch_bytes,
        linger: arguments.linger,
        // Room for what stands around the line in a request.
        request_bytes_max: arguments.max_record_bytes.saturating_add(4096),
        buffer_memory: (32 << 20_usize).max(arguments.max_record_bytes.saturating_mul(4)),
        max_block: connection.timeout,
        delivery_timeout: delivery_timeout + arguments.linger + Duration::from_secs(1),
        ..config
    }
}

/// Reads, makes and sends records until the input ends or a record ends the command; an error is one of the input.
async fn send_all(
    arguments: &ProduceArgs,
    recipe: &Recipe,
    mut input: Lines,
    producer: &Producer,
    tally: &mut Tally,
    output: &Output,
) -> Outcome {
    // With `--json` programs read standard error, whatever it is.
    let mut progress = if output.is_quiet() || output.is_json() || input.is_interactive() {
        Progress::hidden()
    } else {
        Progress::of_bytes(input.bytes_total(), "record")
    };
    let common: Vec<_> = arguments
        .headers
        .iter()
        .map(|(name, value)| RecordHeader::new(name, Some(value.as_bytes())))
        .collect();
    let mut chunk = Chunk::default();
    loop {
        let is_filled;
        (input, chunk, is_filled) = fill(input, chunk).await?;
        if !is_filled? {
            return Ok(());
        }
        for (place, line) in chunk.lines() {
            let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
            if place.line <= recipe.skipped_lines() && !recipe.takes_whole_files() {
                progress.advance(bytes);
                continue;
            }
            let went = match send_one(arguments, recipe, line, &common, producer).await {
                Ok(Some((delivery, size))) => {
                    tally.sent(place.clone(), size, delivery);
                    ControlFlow::Continue(())
                }
                Ok(None) => ControlFlow::Continue(()),
                Err(failure) => tally.refused(place, failure, output),
            };
            progress.record(bytes);
            if went.is_break() || tally.settle_some(output).is_break() {
                return Ok(());
            }
        }
    }
}

/// Reads the next lines on a thread that may wait for them.
async fn fill(mut input: Lines, mut chunk: Chunk) -> Outcome<(Lines, Chunk, Outcome<bool>)> {
    let reading = tokio::task::spawn_blocking(move || {
        let is_filled = input.fill(&mut chunk);
        (input, chunk, is_filled)
    });
    let read = reading.await;
    read.map_err(|error| Failure::new(format!("cannot read the input: {error}")))
}

/// Sends what a line becomes, if it becomes anything; also how large key and value are.
async fn send_one(
    arguments: &ProduceArgs,
    recipe: &Recipe,
    line: &[u8],
    common: &[RecordHeader<'_>],
    producer: &Producer,
) -> Outcome<Option<(Delivery, u64)>> {
    let Some(draft) = recipe.draft(line)? else {
        return Ok(None);
    };
    let own = draft.headers.iter().map(|(name, value)| RecordHeader {
        key: name,
        value: value.as_deref(),
    });
    let headers: Vec<_> = common.iter().copied().chain(own).collect();
    let record = ProducerRecord {
        topic: &arguments.topic,
        partition: arguments.partition.or(draft.partition),
        timestamp: draft.timestamp,
        key: draft.key.as_deref(),
        value: draft.value.as_deref(),
        headers: &headers,
    };
    let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    let delivery = producer.send(&record).await.map_err(Failure::from)?;
    Ok(Some((delivery, u64::try_from(size).unwrap_or(u64::MAX))))
}
