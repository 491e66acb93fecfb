//! `cleaning`: our cleaner and Kafka's on the same data, one broker after the other on this machine.
//!
//! | step | what happens |
//! |---|---|
//! | 1 | a compacted topic of one partition gets its records; `min.cleanable.dirty.ratio=1` holds the cleaner off, which wants more than that |
//! | 2 | one record more, dated later than `segment.ms` allows, completes the active segment; everything is brought to the disk |
//! | 3 | the ratio becomes 0.01: the time begins, and ends when the cleaner's checkpoint stands at the end of those records |
//! | 4 | everything is read: each key must end with its latest value, in order, byte for byte |
//!
//! Both clean with one thread, without a limit on I/O and with 128 MiB for keys, as they do by default; only
//! `log.cleaner.backoff.ms` is shorter on both, so that nobody waits for the cleaner to look up. No round is dropped: what is
//! compared is one long piece of work, on a broker that was started for it.

mod dataset;
mod feed;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use log_bench::brokers::{Broker, Kind, Programs};
use log_bench::comparison::{Better, Comparison, Quantity};
use log_bench::load::local;
use log_bench::report::count;
use log_bench::rounds::{Setup, in_turn};
use log_client::admin::{Admin, ConfigChange, ConfigResource, Intent, NewTopic};
use log_client::config::ClientConfig;
use log_client::offsets::OffsetQuery;
use log_core::model::TopicPartition;
use log_core::record::compression::Compression;

use crate::dataset::Dataset;
use crate::feed::{TOPIC, Volume, check_left, produce, produce_last};
use crate::watch::{Cleaned, cleaned_to};

/// Compares cleaners.
#[derive(Debug, Parser)]
#[command(mut_arg("rounds", |arg| arg.help("How often each broker cleans; they take turns").default_value("1")))]
struct Options {
    #[command(flatten)]
    setup: Setup,
    /// How many MiB of values are produced.
    #[arg(long, default_value_t = 10 << 10)]
    mib: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1 << 10)]
    value_bytes: usize,
    /// Bytes of a batch before compression.
    #[arg(long, default_value_t = 64 << 10)]
    batch_bytes: usize,
    /// How many different keys there are for 100 records: about so many of them stay.
    #[arg(long, default_value_t = 15)]
    keys_percent: u64,
    /// Bytes of a segment; without it 1 GiB, Kafka's default, or an eighth of all where that is less.
    #[arg(long)]
    segment_bytes: Option<u64>,
    /// The codecs of the batches, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "none")]
    compression: Vec<Compression>,
    /// Only our server.
    #[arg(long)]
    ours_only: bool,
}

const MIB: u64 = 1 << 20;
/// Nobody produces for so long; the last record is dated later.
const SEGMENT_MS: i64 = 3_600_000;
/// What waits to be written is on the disk, and the disk at rest, before the time begins.
const REST: Duration = Duration::from_secs(2);

impl Options {
    fn dataset(&self, compression: Compression) -> anyhow::Result<Dataset> {
        let records = self.mib * MIB / u64::try_from(self.value_bytes.max(1))?;
        let keys = records * self.keys_percent / 100;
        Ok(Dataset::new(
            records,
            keys,
            self.value_bytes,
            self.batch_bytes,
            compression,
        ))
    }

    fn segment_bytes(&self) -> u64 {
        let eighth = self.mib * MIB / 8;
        self.segment_bytes.unwrap_or(eighth.clamp(MIB, 1 << 30))
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let programs = options.setup.programs()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut comparison = Comparison::default();
    comparison.facts = facts(&options);
    for round in 0..options.setup.rounds {
        for compression in options.compression.iter().copied() {
            for kind in in_turn(&Kind::ALL, round).copied() {
                if options.ours_only && kind != Kind::Stratalog {
                    continue;
                }
                let dataset = options.dataset(compression)?;
                let turn = runtime.block_on(turn(&options, &programs, kind, &dataset))?;
                note(&mut comparison, kind, &dataset, &turn)?;
                options.setup.keep(&comparison)?;
            }
        }
    }
    Ok(write!(std::io::stdout(), "{}", comparison.to_markdown())?)
}

fn facts(options: &Options) -> Vec<(String, String)> {
    let storage = local::storage_at(&options.setup.directory.to_string_lossy()).unwrap_or_default();
    let fact = |name: &str, value: String| (name.to_owned(), value);
    vec![
        fact("command", std::env::args().collect::<Vec<_>>().join(" ")),
        fact("machine", local::machine().to_string()),
        fact(
            "disk",
            format!(
                "{} on {}",
                storage.filesystem.unwrap_or_default(),
                storage.device.unwrap_or_default()
            ),
        ),
        fact("bytes of a segment", options.segment_bytes().to_string()),
    ]
}

/// What one broker showed.
struct Turn {
    produced: Volume,
    left: Volume,
    cleaned: Cleaned,
}

async fn turn(options: &Options, programs: &Programs, kind: Kind, dataset: &Dataset) -> anyhow::Result<Turn> {
    let data = Removed(options.setup.directory.join(format!("cleaning-{}", kind.name())));
    let settings = [("log.cleaner.backoff.ms", "100")];
    let mut broker = Broker::start_fresh(kind, programs, &data.0, &settings).await?;
    let admin = Admin::new(ClientConfig::new(&broker.address))?;
    make_topic(&admin, options.segment_bytes()).await?;

    say(kind, "producing");
    let produced = produce(&broker.address, dataset).await?;
    produce_last(&broker.address, dataset, 2 * SEGMENT_MS).await?;
    rustix::fs::sync();
    tokio::time::sleep(REST).await;

    say(kind, "cleaning");
    let logs = match kind {
        Kind::Stratalog => data.0.clone(),
        Kind::Kafka => data.0.join("logs"),
    };
    let checkpoint = logs.join("cleaner-offset-checkpoint");
    let release = alter(&admin, "min.cleanable.dirty.ratio", "0.01");
    let cleaned = cleaned_to(&mut broker, &checkpoint, TOPIC, dataset.records, release).await?;

    say(kind, "reading what is left");
    let left = check_left(&broker.address, dataset)
        .await
        .with_context(|| format!("what {} left", kind.name()))?;
    broker.stop()?;
    Ok(Turn {
        produced,
        left,
        cleaned,
    })
}

/// Makes the topic, and returns when its leader knows of it.
async fn make_topic(admin: &Admin, segment_bytes: u64) -> anyhow::Result<()> {
    let topic = NewTopic::new(TOPIC)
        .with_partitions(1)
        .with_config("cleanup.policy", "compact")
        .with_config("segment.bytes", segment_bytes.to_string())
        .with_config("min.cleanable.dirty.ratio", "1")
        .with_config("segment.ms", SEGMENT_MS.to_string())
        .with_config("message.timestamp.after.max.ms", i64::MAX.to_string())
        .with_config("flush.messages", i64::MAX.to_string());
    for made in admin.create_topics(&[topic], Intent::Apply).await? {
        made?;
    }
    let query = (TopicPartition::new(TOPIC, 0), OffsetQuery::Latest);
    for (_, listed) in admin.list_offsets(vec![query]).await {
        listed?;
    }
    Ok(())
}

async fn alter(admin: &Admin, name: &str, value: &str) -> anyhow::Result<()> {
    let change = (name.to_owned(), ConfigChange::Set(value.to_owned()));
    let topic = ConfigResource::Topic(TOPIC.to_owned());
    Ok(admin.alter_configs(&topic, &[change], Intent::Apply).await?)
}

fn note(comparison: &mut Comparison, kind: Kind, dataset: &Dataset, turn: &Turn) -> anyhow::Result<()> {
    let Turn {
        produced,
        left,
        cleaned,
    } = turn;
    let seconds = cleaned.took.as_secs_f64();
    let (before, after) = (count(produced.bytes), count(left.bytes));
    let load = format!(
        "{} records of {} B, {} keys, {}",
        dataset.records, dataset.value_bytes, dataset.keys, dataset.compression
    );
    let figures = [
        ("s", Better::Less, seconds),
        ("dirty MB/s", Better::More, before / 1e6 / seconds),
        (
            "s of broker CPU a dirty GB",
            Better::Less,
            cleaned.cpu_s / (before / 1e9),
        ),
        ("MiB anonymous before", Better::Less, cleaned.before.anonymous),
        ("MiB anonymous at most", Better::Less, cleaned.peak.anonymous),
        ("MiB resident at most", Better::Less, cleaned.peak.total),
        ("MB of batches before", Better::Less, before / 1e6),
        ("MB of batches after", Better::Less, after / 1e6),
        ("records after", Better::Less, count(left.records)),
    ];
    for (unit, better, value) in figures {
        writeln!(std::io::stderr(), "{}: {load}: {value:.3} {unit}", kind.name())?;
        let quantity = Quantity {
            load: load.clone(),
            unit: unit.into(),
            better,
        };
        comparison.add(kind, quantity, value);
    }
    Ok(())
}

fn say(kind: Kind, what: &str) {
    writeln!(std::io::stderr(), "{}: {what}", kind.name()).ok();
}

/// A directory that is removed with the value.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
