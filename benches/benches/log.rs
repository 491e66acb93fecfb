//! The log of one partition, layer by layer: checks on the way in, append and flush, reads and look-ups, recovery.
//!
//! Appends are compared with the bare system calls they end in, reads with nothing: they do not copy. An append
//! that is "flushed" is on the disk when it returns. "Prepared" calls for zero-filled space between the timed appends whenever the
//! log wants some, as the server's background does: its CPU time counts, its elapsed time does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser as _;
use log_bench::case::{Case, Options, Sample, Watch};
use log_bench::source;
use log_core::clock::ManualClock;
use log_core::config::{LogConfig, TimestampType};
use log_core::fs::os::OsFileSystem;
use log_core::index::offset_index::OffsetIndex;
use log_core::index::time_index::TimeIndex;
use log_core::log::{Log, LogContext, ReadBound, ReadError, ReadRequest};
use log_core::log_manager::LogDirectory;
use log_core::model::{FilePosition, Offset, TimestampMs, TopicId, TopicPartition};
use log_core::record::batch::batches;
use log_core::record::compression::{Codec, Compression};
use log_core::record::crc32c;
use log_core::record::validator::{ProduceRules, ValidatedBatch, validate_produce};
use log_core::segment::segment::Patience;
use log_core::segment::space::Preparer;
use rustix::fs::FallocateFlags;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const RECORD_BYTES: usize = KIB;
const APPEND_BYTES: u64 = 256 << 20;
const DURABLE_BYTES: u64 = 64 << 20;
const DURABLE_APPENDS_MAX: u64 = 400;
const READ_LOG_BYTES: u64 = 256 << 20;
const SIZES: [usize; 4] = [KIB, 16 * KIB, 64 * KIB, MIB];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let workplace = options.workplace(env!("CARGO_TARGET_TMPDIR"))?;
    let mut cases = Vec::new();
    checks(&options, &mut cases);
    recompressions(&options, &mut cases);
    relaxed_appends(&options, workplace.path(), &mut cases)?;
    durable_appends(&options, workplace.path(), &mut cases)?;
    reads(&options, workplace.path(), &mut cases)?;
    indexes(&options, &mut cases)?;
    recoveries(&options, workplace.path(), &mut cases)?;
    options.run("The log of one partition", cases)
}

fn size_name(bytes: usize) -> String {
    match bytes {
        bytes if bytes < KIB => format!("{bytes} B"),
        bytes if bytes < MIB => format!("{} KiB", bytes / KIB),
        bytes => format!("{} MiB", bytes / MIB),
    }
}

/// How often something of `bytes` fits into `total`.
fn turns(total: u64, bytes: usize) -> u64 {
    (total / u64::try_from(bytes).unwrap_or(u64::MAX)).max(1)
}

// -- checks

fn checks(options: &Options, cases: &mut Vec<Case<'_>>) {
    let total = options.volume(512 << 20);
    for size in [100, KIB, 16 * KIB, 64 * KIB, MIB] {
        let data = source::bytes(size);
        cases.push(Case::new("CRC-32C", size_name(size), move || {
            Watch::repeat(turns(total, size), size, |_| Ok(crc32c(&data)))
        }));
    }
    let shapes = [
        (KIB, KIB - 100),
        (16 * KIB, KIB),
        (64 * KIB, KIB),
        (MIB, KIB),
        (MIB, 100),
    ];
    for (batch_bytes, record_bytes) in shapes {
        let batch = source::batch(batch_bytes, record_bytes, Compression::None);
        let name = format!("{} of {record_bytes} B records", size_name(batch_bytes));
        cases.push(Case::new("validate a produced batch", name, move || {
            let rules = source::rules();
            Watch::repeat(turns(total / 4, batch.len()), batch.len(), |_| {
                Ok(validate_produce(&batch, &rules)?)
            })
        }));
    }
    let sizes = [
        (KIB, 100),
        (4 * KIB, KIB),
        (16 * KIB, KIB),
        (64 * KIB, KIB),
        (MIB, KIB),
        (MIB, 100),
    ];
    for (batch_bytes, record_bytes) in sizes {
        for compression in Compression::ALL {
            let batch = source::batch_of_events(batch_bytes, record_bytes, compression);
            let name = format!(
                "{} of {record_bytes} B records, {compression}, {} B",
                size_name(batch_bytes),
                batch.len()
            );
            cases.push(Case::new("validate a batch of text", name, move || {
                let rules = source::rules();
                // Counted by what the records are, compressed or not.
                Watch::repeat(turns(total / 4, batch_bytes), batch_bytes, |_| {
                    Ok(validate_produce(&batch, &rules)?)
                })
            }));
        }
    }
}

/// A batch in the topic's codec, from none and to none from lz4: what `compression.type` costs.
fn recompressions(options: &Options, cases: &mut Vec<Case<'_>>) {
    let total = options.volume(128 << 20);
    for (batch_bytes, record_bytes) in [(KIB, 100), (16 * KIB, KIB), (MIB, KIB)] {
        for compression in Compression::ALL {
            let batch = match compression {
                Compression::None => source::batch_of_events(batch_bytes, record_bytes, Compression::Lz4),
                _ => source::batch_of_events(batch_bytes, record_bytes, Compression::None),
            };
            let name = format!(
                "{} of {record_bytes} B records, to {compression}",
                size_name(batch_bytes)
            );
            cases.push(Case::new("write a batch of text anew", name, move || {
                let rules = ProduceRules {
                    codec: Some(Codec {
                        compression,
                        level: None,
                    }),
                    ..source::rules()
                };
                Watch::repeat(turns(total / 4, batch_bytes), batch_bytes, |_| {
                    Ok(validate_produce(&batch, &rules)?)
                })
            }));
        }
    }
}

// -- appends

fn validated(batch_bytes: usize) -> anyhow::Result<ValidatedBatch> {
    let record_bytes = RECORD_BYTES.min(batch_bytes.saturating_sub(100));
    let batch = source::batch(batch_bytes, record_bytes, Compression::None);
    Ok(validate_produce(&batch, &source::rules())?)
}

fn relaxed_appends<'a>(
    options: &Options,
    directory: &'a Path,
    cases: &mut Vec<Case<'a>>,
) -> anyhow::Result<()> {
    for size in SIZES {
        let total = options.volume(if size == KIB {
            APPEND_BYTES / 4
        } else {
            APPEND_BYTES
        });
        let group = format!("append {}, page cache", size_name(size));
        let batch = validated(size)?;
        let times = turns(total, batch.size());
        let bytes = Bytes::from(source::bytes(batch.size()));
        cases.push(Case::new(
            &group,
            "pwrite, allocated in steps of 16 MiB",
            move || bare_appends(directory, times, &bytes, None),
        ));
        cases.push(Case::new(&group, "Log::append_one", move || {
            let mut world = World::create(directory, relaxed())?;
            Watch::repeat(times, batch.size(), |_| Ok(world.log.append_one(&batch)?))
        }));
    }
    Ok(())
}

fn durable_appends<'a>(
    options: &Options,
    directory: &'a Path,
    cases: &mut Vec<Case<'a>>,
) -> anyhow::Result<()> {
    for size in SIZES {
        let batch = validated(size)?;
        let times = turns(DURABLE_BYTES, size).min(options.times(DURABLE_APPENDS_MAX));
        let group = format!("append {}, flushed each time", size_name(size));
        let bytes = Bytes::from(source::bytes(batch.size()));
        cases.push(Case::new(&group, "pwrite and fdatasync, prepared", move || {
            bare_appends(directory, times, &bytes, Some(64 * KIB))
        }));
        for (name, prepares) in [("Log, prepared", true), ("Log, not prepared", false)] {
            let batch = batch.clone();
            cases.push(Case::new(&group, name, move || {
                flushed_appends(directory, times, &batch, prepares)
            }));
        }
    }
    let batch = validated(KIB)?;
    let times = options.times(DURABLE_APPENDS_MAX);
    for together in [1_u64, 8, 64] {
        let (name, batch) = (format!("{together} to a flush"), batch.clone());
        cases.push(Case::new("append 1 KiB, group commit", name, move || {
            let mut world = World::create(directory, LogConfig::default())?;
            Watch::repeat(times, batch.size(), |turn| {
                world.prepare()?;
                world.log.append_one(&batch)?;
                if (turn + 1) % together == 0 {
                    world.log.flush()?;
                }
                Ok(())
            })
        }));
    }
    Ok(())
}

fn flushed_appends(
    directory: &Path,
    times: u64,
    batch: &ValidatedBatch,
    prepares: bool,
) -> anyhow::Result<Sample> {
    let mut world = World::create(directory, LogConfig::default())?;
    let mut watch = Watch::start();
    for _ in 0..times {
        if prepares {
            world.prepare()?;
        }
        watch.time(|| {
            world.log.append_one(batch)?;
            world.log.flush()?;
            anyhow::Ok(())
        })?;
    }
    Ok(watch.stop(times, times * u64::try_from(batch.size())?))
}

/// What the log's appends end in. `fill_step`: the file is filled with zeros by such calls, and each append is synced.
fn bare_appends(
    directory: &Path,
    times: u64,
    bytes: &[u8],
    fill_step: Option<usize>,
) -> anyhow::Result<Sample> {
    const STEP: u64 = 16 << 20;
    let path = directory.join("bare.log");
    let mut open = std::fs::OpenOptions::new();
    let file = open.read(true).write(true).create_new(true).open(&path)?;
    let _removed_in_the_end = Removed(path);
    let (length, total) = (u64::try_from(bytes.len())?, times * u64::try_from(bytes.len())?);
    let mut allocated = 0;
    if let Some(step) = fill_step {
        let zeros = vec![0; step];
        while allocated < total {
            allocated += u64::try_from(rustix::io::pwrite(&file, &zeros, allocated)?)?;
        }
        file.sync_data()?;
    }
    let mut position = 0;
    let mut watch = Watch::start();
    for _ in 0..times {
        if allocated < position + length {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), allocated, STEP)?;
            allocated += STEP;
        }
        if fill_step.is_some() {
            watch.time(|| {
                rustix::io::pwrite(&file, bytes, position)?;
                rustix::fs::fdatasync(&file)
            })?;
        } else {
            rustix::io::pwrite(&file, bytes, position)?;
        }
        position += length;
    }
    Ok(watch.stop(times, total))
}

// -- reads

fn reads<'a>(options: &Options, directory: &'a Path, cases: &mut Vec<Case<'a>>) -> anyhow::Result<()> {
    let batch = source::batch(16 * KIB, RECORD_BYTES, Compression::None);
    let total = options.volume(READ_LOG_BYTES);
    let times = options.times(20_000);
    for (state, is_sealed) in [("active segment", false), ("sealed segment", true)] {
        let mut world = World::create(&directory.join(format!("reads-{is_sealed}")), relaxed())?;
        for later_ms in 0..i64::try_from(turns(total, 16 * KIB))? {
            world.log.append_one(&appended_at(&batch, later_ms)?)?;
        }
        if is_sealed {
            world.log.roll()?;
            world.log.flush()?;
            world.log.seal_all()?;
        }
        let world = Arc::new(world);
        for size in [16 * KIB, 64 * KIB, MIB] {
            let ways = [
                ("", Patience::MustNotBlock, false),
                (", may block", Patience::MayBlock, false),
                (", each page touched", Patience::MustNotBlock, true),
            ];
            for (what, patience, touches) in ways {
                let world = Arc::clone(&world);
                let group = format!("read {} at random offsets", size_name(size));
                cases.push(Case::new(group, format!("{state}{what}"), move || {
                    let mut offsets = Offsets::below(world.log.offsets().high_watermark);
                    world.warm_up()?;
                    Watch::repeat(times, size, |_| {
                        world.read(offsets.next(), size, patience, touches)
                    })
                }));
            }
        }
        let name = format!("in the {state}");
        cases.push(Case::new("offset for a timestamp", name, move || {
            let reader = world.log.reader();
            let mut later_ms = Offsets::below(Offset::new(i64::try_from(turns(total, 16 * KIB))?));
            Watch::repeat(times, 0, |_| {
                let target = source::TIMESTAMP.saturating_plus(later_ms.next().get());
                Ok(reader.offset_for_timestamp(target, ReadBound::HighWatermark)?)
            })
        }));
    }
    Ok(())
}

/// The batch as a topic takes it whose records carry the time of the append, each batch a later one.
fn appended_at(batch: &Bytes, later_ms: i64) -> anyhow::Result<ValidatedBatch> {
    let rules = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        now: source::TIMESTAMP.saturating_plus(later_ms),
        ..source::rules()
    };
    Ok(validate_produce(batch, &rules)?)
}

/// Offsets in no order, always the same ones.
struct Offsets {
    state: u64,
    end: u64,
}

impl Offsets {
    fn below(end: Offset) -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            end: u64::try_from(end.get()).unwrap_or(1).max(1),
        }
    }

    fn next(&mut self) -> Offset {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        Offset::new(i64::try_from(self.state % self.end).unwrap_or(0))
    }
}

fn indexes(options: &Options, cases: &mut Vec<Case<'_>>) -> anyhow::Result<()> {
    const ENTRIES: i64 = 262_144;
    let times = options.times(2_000_000);
    let mut offsets = OffsetIndex::new(Offset::ZERO, 10 << 20);
    let mut timestamps = TimeIndex::new(Offset::ZERO, 10 << 20);
    for entry in 1..=ENTRIES {
        let position = FilePosition::new(u64::try_from(entry)? * 4096);
        offsets.try_push(Offset::new(entry * 4), position)?;
        timestamps.try_push(TimestampMs::new(entry * 10), Offset::new(entry * 4))?;
    }
    cases.push(Case::new(
        "look-up among 262,144 entries",
        "offset index",
        move || {
            let mut wanted = Offsets::below(Offset::new(ENTRIES * 4));
            Watch::repeat(times, 0, |_| Ok(offsets.lookup(wanted.next())))
        },
    ));
    cases.push(Case::new(
        "look-up among 262,144 entries",
        "time index",
        move || {
            let mut wanted = Offsets::below(Offset::new(ENTRIES * 10));
            Watch::repeat(times, 0, |_| {
                Ok(timestamps.lookup(TimestampMs::new(wanted.next().get())))
            })
        },
    ));
    Ok(())
}

// -- recovery

fn recoveries<'a>(options: &Options, directory: &'a Path, cases: &mut Vec<Case<'a>>) -> anyhow::Result<()> {
    for size in [KIB, 16 * KIB, MIB] {
        let directory = directory.join(format!("recovery-{size}"));
        let batch = validated(size)?;
        let times = turns(options.volume(READ_LOG_BYTES), batch.size());
        let mut world = World::create_in(&directory, relaxed())?;
        for _ in 0..times {
            world.log.append_one(&batch)?;
        }
        world.log.flush()?;
        world.leave();
        let name = format!("{} batches", size_name(size));
        cases.push(Case::new(
            "recover after a kill, from the page cache",
            name,
            move || recover(&directory, times * u64::try_from(batch.size())?),
        ));
    }
    Ok(())
}

fn recover(directory: &Path, expected: u64) -> anyhow::Result<Sample> {
    let watch = Watch::start();
    let (manager, found) = LogDirectory::open(context(), directory.to_path_buf())?;
    anyhow::ensure!(!found.clean, "the stop was not clean");
    let (log, report) = manager.load(&partition(), TOPIC_ID, relaxed())?;
    let sample = watch.stop(1, report.bytes_verified);
    anyhow::ensure!(report.bytes_verified == expected, "{report:?}");
    drop(log);
    Ok(sample)
}

// -- the world around a log

const TOPIC_ID: TopicId = TopicId::from_bytes(*b"measured, always");

fn partition() -> TopicPartition {
    TopicPartition::new("measured", 0)
}

fn context() -> LogContext {
    LogContext {
        file_system: Arc::new(OsFileSystem::new()),
        clock: Arc::new(ManualClock::new(source::TIMESTAMP)),
    }
}

/// Acknowledged from the page cache, as Kafka does by default.
fn relaxed() -> LogConfig {
    LogConfig {
        durable: false,
        flush_messages: i64::MAX,
        ..LogConfig::default()
    }
}

/// A data directory with one log.
struct World {
    log: Log,
    directory: Option<Removed>,
    _manager: LogDirectory,
}

impl World {
    /// A new one, which is removed in the end.
    fn create(parent: &Path, config: LogConfig) -> anyhow::Result<Self> {
        let directory = parent.join("data");
        let mut world = Self::create_in(&directory, config)?;
        world.directory = Some(Removed(directory));
        Ok(world)
    }

    fn create_in(directory: &Path, config: LogConfig) -> anyhow::Result<Self> {
        let (manager, _) = LogDirectory::open(context(), directory.to_path_buf())?;
        let log = manager.create(&partition(), TOPIC_ID, config)?;
        Ok(Self {
            log,
            directory: None,
            _manager: manager,
        })
    }

    /// Ends without the order of a clean stop.
    fn leave(self) {
        drop(self);
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        while let Some(task) = self.log.wants_preparation() {
            task.run(Preparer::Writer)?;
        }
        Ok(())
    }

    /// Brings in what a kernel that pages out eagerly has taken away, and the index of a sealed segment.
    fn warm_up(&self) -> anyhow::Result<()> {
        let offsets = self.log.offsets();
        let mut next = offsets.log_start;
        while next < offsets.high_watermark {
            let slice = self.read_slice(next, MIB, Patience::MayBlock)?;
            let last = batches(&slice).filter_map(Result::ok).last();
            next = last.context("a batch")?.header().next_offset();
        }
        Ok(())
    }

    /// As a fetch does: a read that must not wait, and when it would, one that may.
    fn read(
        &self,
        offset: Offset,
        bytes_max: usize,
        patience: Patience,
        touches: bool,
    ) -> anyhow::Result<u8> {
        let records = match self.read_slice(offset, bytes_max, patience) {
            Err(ReadError::WouldBlock) => self.read_slice(offset, bytes_max, Patience::MayBlock)?,
            outcome => outcome?,
        };
        let first = *records.first().context("a record")?;
        if !touches {
            return Ok(first);
        }
        Ok(records.iter().step_by(4096).fold(0, |sum, byte| sum ^ byte))
    }

    fn read_slice(&self, offset: Offset, bytes_max: usize, patience: Patience) -> Result<Bytes, ReadError> {
        let request = ReadRequest {
            offset,
            bytes_max,
            at_least_one_batch: true,
            bound: ReadBound::HighWatermark,
            patience,
        };
        Ok(self.log.reader().read(request)?.records)
    }
}

/// A file or directory that is removed with the value.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if self.0.is_dir() {
            std::fs::remove_dir_all(&self.0).ok();
        } else {
            std::fs::remove_file(&self.0).ok();
        }
    }
}
