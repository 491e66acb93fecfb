//! Compaction against a model: whatever is cleaned, and wherever that is stopped, replaying the log by key gives what
//! replaying everything that was ever appended gives; and each record that is left stands at its offset as it was.
//!
//! Beside random sequences, one workload is stopped at every write, sync and change of a name. `STRATALOG_CRASH_SEEDS=n`
//! tries n random survivals at each point (default 2).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log_core::cleaner::{CleanError, Cleaning, Dirt, OffsetMap, Pace, Stopped};
use log_core::clock::ManualClock;
use log_core::config::{CleanupPolicy, LogConfig, TimestampType};
use log_core::fs::FileSystem;
use log_core::fs::map::MapBudget;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::FaultPlan;
use log_core::log::{AppendOutcome, Log, LogReader, ReadBound, ReadRequest};
use log_core::log_manager::{CheckpointEntry, LogManager};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::record::batch::batches;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::compression::Compression;
use log_core::record::validator::{ProduceRules, ValidatedBatch, validate_produce};
use log_core::segment::segment::Patience;

use crate::support::{TOPIC_ID, context, partition, seeds, small_config};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const DELETE_RETENTION_MS: i64 = 10_000;
/// Enough for every key of a workload.
const LARGE_MAP: u64 = 1 << 16;

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyedRecord {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

/// Never stops a cleaning.
struct Freely;

impl Pace for Freely {
    fn spend(&mut self, _bytes: u64) -> Result<(), Stopped> {
        Ok(())
    }
}

/// A compacted log and everything that was appended to it.
struct Keyed {
    files: MemFileSystem,
    clock: Arc<ManualClock>,
    config: LogConfig,
    manager: Option<LogManager>,
    log: Option<Log>,
    appended: BTreeMap<i64, KeyedRecord>,
    acknowledged_end: i64,
    /// When the cleaner first saw a tombstone.
    seen_at: BTreeMap<i64, i64>,
    next_sequence: i32,
    last_sent: Option<(i32, Vec<KeyedRecord>, i64)>,
    next_value: u64,
    deeds: Vec<String>,
}

fn compacted() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        delete_retention_ms: DELETE_RETENTION_MS,
        segment_bytes_max: 2000,
        ..small_config()
    }
}

impl Keyed {
    fn new(config: LogConfig) -> Self {
        let mut keyed = Self {
            files: MemFileSystem::with_map_budget(MapBudget::new(6)),
            clock: Arc::new(ManualClock::new(TimestampMs::new(1_000_000))),
            config,
            manager: None,
            log: None,
            appended: BTreeMap::new(),
            acknowledged_end: 0,
            seen_at: BTreeMap::new(),
            next_sequence: 0,
            last_sent: None,
            next_value: 0,
            deeds: Vec::new(),
        };
        keyed.open_manager();
        let log = keyed
            .manager()
            .create(&partition(), TOPIC_ID, keyed.config.clone())
            .unwrap();
        keyed.log = Some(log);
        keyed
    }

    fn open_manager(&mut self) {
        let context = context(&self.files, &self.clock);
        let (manager, _) = LogManager::open(context, PathBuf::from("/data")).unwrap();
        self.manager = Some(manager);
    }

    fn manager(&self) -> &LogManager {
        self.manager.as_ref().unwrap()
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn story(&self) -> String {
        let from = self.deeds.len().saturating_sub(60);
        self.deeds[from..].join("\n")
    }

    fn end(&self) -> i64 {
        self.appended.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }

    fn record(&mut self, key: u8, is_tombstone: bool) -> KeyedRecord {
        self.next_value += 1;
        let value = format!("{}-{}", self.next_value, "v".repeat(40)).into_bytes();
        KeyedRecord {
            key: vec![b'k', key],
            value: (!is_tombstone).then_some(value),
            timestamp: log_core::clock::Clock::now(&*self.clock).get() + i64::from(key % 3),
        }
    }

    fn batch(records: &[KeyedRecord], codec: Compression, sequence: Option<i32>) -> ValidatedBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            producer: sequence.map_or_else(BatchProducer::default, |sequence| BatchProducer {
                id: ProducerId::new(7),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(sequence),
            }),
            ..BatchOptions::default()
        });
        for record in records {
            let timestamp = TimestampMs::new(record.timestamp);
            builder
                .append(timestamp, Some(&record.key), record.value.as_deref(), &[])
                .unwrap();
        }
        let rules = ProduceRules {
            batch_bytes_max: 1 << 20,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            now: TimestampMs::new(0),
            requires_keys: true,
        };
        validate_produce(&builder.build(), &rules).unwrap()
    }

    fn append(
        &mut self,
        records: Vec<KeyedRecord>,
        codec: Compression,
        is_idempotent: bool,
    ) -> Result<(), String> {
        let sequence = is_idempotent.then_some(self.next_sequence);
        let batch = Self::batch(&records, codec, sequence);
        let outcome = self.log().append_one(&batch).map_err(|error| error.to_string())?;
        let AppendOutcome::Appended { base_offset, .. } = outcome else {
            panic!("{outcome:?}\n{}", self.story());
        };
        if let Some(sequence) = sequence {
            self.next_sequence += records.len() as i32;
            self.last_sent = Some((sequence, records.clone(), base_offset.get()));
        }
        for (offset, record) in (base_offset.get()..).zip(records) {
            self.deeds.push(format!("append {offset} {record:?}"));
            self.appended.insert(offset, record);
        }
        Ok(())
    }

    /// What the producer sent last is recognised, if it is still in the log.
    fn retry(&mut self) {
        let Some((sequence, records, base)) = self.last_sent.clone() else {
            return;
        };
        let batch = Self::batch(&records, Compression::None, Some(sequence));
        let outcome = self.log().append_one(&batch).unwrap();
        assert!(
            matches!(outcome, AppendOutcome::Duplicate { base_offset, .. } if base_offset.get() == base),
            "{outcome:?} instead of {base}\n{}",
            self.story()
        );
    }

    fn flush(&mut self) -> Result<(), String> {
        let end = self.end();
        self.log().flush().map_err(|error| error.to_string())?;
        self.acknowledged_end = end;
        self.log().seal_all().map_err(|error| error.to_string())
    }

    fn entry(offset: Offset) -> [CheckpointEntry; 1] {
        [CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset,
        }]
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        let task = self.log().checkpoint_state().map_err(|error| error.to_string())?;
        task.run().map_err(|error| error.to_string())?;
        let point = self.log().recovery_point();
        self.manager()
            .write_recovery_points(&Self::entry(point))
            .map_err(|error| error.to_string())
    }

    /// A cleaning as the server does it, with as much of it as `groups_max` allows. Returns up to where the log is clean.
    fn clean(&mut self, map_bytes: u64, chunk: u64, groups_max: usize) -> Result<i64, String> {
        let now = log_core::clock::Clock::now(&*self.clock);
        let on_disk = self.manager().recovery_point_on_disk(&partition());
        let checkpoint = self.manager().cleaned_to(&partition());
        let view = self.log().cleaner_view(on_disk);
        let config = self.config.clone();
        let dirt = Dirt::of(&view, checkpoint, &config, now).map_err(|error| error.to_string())?;
        self.deeds
            .push(format!("clean {dirt:?} at {now}, map {map_bytes}"));
        let to_clean = self.log().to_clean(&dirt).map_err(|error| error.to_string())?;
        let map = OffsetMap::new(map_bytes, 900);
        let mut cleaning =
            Cleaning::begin(to_clean, map, chunk, &mut Freely).map_err(|error| error.to_string())?;
        let end = cleaning.end().get();
        for (offset, record) in self.appended.range(..dirt.first_uncleanable.get()) {
            if record.value.is_none() {
                self.seen_at.entry(*offset).or_insert(now.get());
            }
        }
        for _ in 0..groups_max {
            let Some(group) = cleaning
                .next_group(&mut Freely)
                .map_err(|error| error.to_string())?
            else {
                self.manager()
                    .write_cleaned_to(&Self::entry(Offset::new(end)))
                    .map_err(|error| error.to_string())?;
                return Ok(end);
            };
            let Some(task) = self.log().begin_swap(group, on_disk) else {
                return Err("refused".to_owned());
            };
            let result = task.run();
            self.log()
                .finish_swap(result)
                .map_err(|error| error.to_string())?;
        }
        Ok(0)
    }

    fn restart(&mut self) -> Result<(), String> {
        self.deeds.push("restart".to_owned());
        let end = self.end();
        let closed = self.log().close().map_err(|error| error.to_string())?;
        self.manager()
            .write_recovery_points(&Self::entry(closed))
            .and_then(|()| self.manager().mark_clean())
            .map_err(|error| error.to_string())?;
        self.acknowledged_end = end;
        (self.log, self.manager) = (None, None);
        self.open_manager();
        self.load();
        Ok(())
    }

    fn recover_on(&mut self, image: MemFileSystem) {
        self.deeds.push("crash".to_owned());
        (self.log, self.manager) = (None, None);
        self.files = image;
        self.open_manager();
        self.load();
    }

    fn load(&mut self) {
        let story = self.story();
        let config = self.config.clone();
        let (log, _) = self
            .manager()
            .load(&partition(), TOPIC_ID, config)
            .unwrap_or_else(|error| panic!("load: {error}\n{story}"));
        let end = log.offsets().log_end.get();
        assert!(
            self.acknowledged_end <= end,
            "acknowledged up to {}, survived up to {end}\n{story}",
            self.acknowledged_end
        );
        self.appended.split_off(&end);
        self.acknowledged_end = end;
        if self.last_sent.as_ref().is_some_and(|(.., base)| end <= *base) {
            self.last_sent = None;
        }
        let sequences = self.log.insert(log).producers().entry(ProducerId::new(7));
        self.next_sequence = sequences.map_or(0, |entry| entry.last_sequence().get() + 1);
        self.check(0);
    }

    /// Compares what can be read with everything that was appended. Below `clean_end`, each key stands once.
    fn check(&mut self, clean_end: i64) {
        let story = self.story();
        let found = read_all(&self.log().reader(), &story);
        for (offset, record) in &found {
            assert_eq!(self.appended.get(offset), Some(record), "at {offset}\n{story}");
        }
        let history = |until: i64| {
            let mut last = BTreeMap::new();
            for (offset, record) in self.appended.range(..until) {
                last.insert(record.key.clone(), (*offset, record.value.is_some()));
            }
            last
        };
        for (key, (last, has_value)) in history(i64::MAX) {
            let of_key: Vec<i64> = found
                .iter()
                .filter(|(_, one)| one.key == key)
                .map(|(at, _)| *at)
                .collect();
            match of_key.last() {
                Some(found) => assert_eq!(*found, last, "the last record of {key:?}\n{story}"),
                None => assert!(!has_value, "{key:?} is gone, its last record was {last}\n{story}"),
            }
        }
        let clean: BTreeSet<i64> = history(clean_end).into_values().map(|(last, _)| last).collect();
        for offset in found.range(..clean_end).map(|(offset, _)| offset) {
            assert!(
                clean.contains(offset),
                "{offset} stands below {clean_end} and is not the last\n{story}"
            );
        }
        let now = log_core::clock::Clock::now(&*self.clock).get();
        for (offset, record) in self
            .appended
            .range(..clean_end)
            .filter(|(offset, _)| clean.contains(offset))
        {
            let may_be_gone = record.value.is_none()
                && self
                    .seen_at
                    .get(offset)
                    .is_some_and(|seen| seen + DELETE_RETENTION_MS <= now);
            assert!(
                found.contains_key(offset) || may_be_gone,
                "{offset} is gone too early\n{story}"
            );
        }
        for offset in self.appended.range(clean_end.max(0)..).map(|(offset, _)| offset) {
            let is_dirty = 0 < clean_end;
            assert!(
                !is_dirty || found.contains_key(offset),
                "{offset} is gone\n{story}"
            );
        }
    }
}

fn read_all(reader: &LogReader, story: &str) -> BTreeMap<i64, KeyedRecord> {
    let mut found = BTreeMap::new();
    let mut next = reader.offsets().log_start;
    let end = reader.offsets().high_watermark;
    let mut scratch = Vec::new();
    while next < end {
        let slice = reader
            .read(ReadRequest {
                offset: next,
                bytes_max: 700,
                at_least_one_batch: true,
                bound: ReadBound::HighWatermark,
                patience: Patience::MayBlock,
            })
            .unwrap_or_else(|error| panic!("read at {next}: {error}\n{story}"));
        let mut is_empty = true;
        for batch in batches(&slice.records) {
            let batch = batch.unwrap();
            batch.verify_checksum().unwrap();
            is_empty = false;
            assert!(
                next <= batch.header().last_offset(),
                "backwards at {next}\n{story}"
            );
            for record in batch.records(&mut scratch, 1 << 20).unwrap() {
                let record = record.unwrap();
                let one = KeyedRecord {
                    key: record.key.unwrap().to_vec(),
                    value: record.value.map(<[u8]>::to_vec),
                    timestamp: record.timestamp.get(),
                };
                assert!(
                    found.insert(record.offset.get(), one).is_none(),
                    "{} twice\n{story}",
                    record.offset
                );
            }
            next = batch.header().next_offset();
        }
        assert!(!is_empty, "nothing at {next} of {end}\n{story}");
    }
    found
}

fn random_records(keyed: &mut Keyed, rng: &mut fastrand::Rng) -> Vec<KeyedRecord> {
    (0..rng.usize(1..5))
        .map(|_| {
            let (key, is_tombstone) = (rng.u8(..12), rng.u8(..6) == 0);
            keyed.record(key, is_tombstone)
        })
        .collect()
}

#[test]
fn random_sequences_keep_the_last_record_of_each_key() {
    for seed in seeds(60) {
        let run = std::panic::catch_unwind(|| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut keyed = Keyed::new(compacted());
            for _ in 0..rng.usize(60..160) {
                match rng.u8(..20) {
                    0..12 => {
                        let records = random_records(&mut keyed, &mut rng);
                        let codec = CODECS[rng.usize(..CODECS.len())];
                        keyed.append(records, codec, rng.bool()).unwrap();
                    }
                    12 => keyed.flush().unwrap(),
                    13 => {
                        keyed.flush().unwrap();
                        keyed.checkpoint().unwrap();
                    }
                    14 | 15 => {
                        keyed.flush().unwrap();
                        keyed.checkpoint().unwrap();
                        let map_bytes = if rng.bool() { LARGE_MAP } else { rng.u64(48..300) };
                        let held = keyed.log().reader();
                        let end = keyed.clean(map_bytes, rng.u64(1..4000), usize::MAX).unwrap();
                        keyed.check(if map_bytes == LARGE_MAP { end } else { 0 });
                        read_all(&held, "through a reader from before");
                        keyed.log().reader().release_idle();
                    }
                    16 => keyed.clock.advance(rng.i64(0..DELETE_RETENTION_MS * 2)),
                    17 => keyed.restart().unwrap(),
                    18 => {
                        let mode = match rng.u8(..3) {
                            0 => CrashMode::SyncedOnly,
                            1 => CrashMode::All,
                            _ => CrashMode::Random { seed: rng.u64(..) },
                        };
                        let image = keyed.files.crash(mode);
                        keyed.recover_on(image);
                    }
                    _ => keyed.retry(),
                }
            }
            keyed.flush().unwrap();
            keyed.check(0);
        });
        assert!(run.is_ok(), "failed with STRATALOG_SEED={seed}");
    }
}

/// Cleanings of logs that were never cleaned, that were, and in which tombstones have become old.
fn workload(keyed: &mut Keyed) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..3 {
        for index in 0..18 {
            let records = random_records(keyed, &mut rng);
            keyed.append(records, CODECS[index % CODECS.len()], index % 2 == 0)?;
        }
        keyed.flush()?;
        keyed.checkpoint()?;
        keyed.clean(LARGE_MAP, 500, usize::MAX)?;
        keyed.clock.advance(DELETE_RETENTION_MS + 1);
    }
    Ok(())
}

#[test]
fn a_cleaning_may_stop_anywhere() {
    let operations = {
        let mut keyed = Keyed::new(compacted());
        let before = keyed.files.counters().operations();
        workload(&mut keyed).unwrap();
        keyed.check(0);
        keyed.files.counters().operations() - before
    };
    assert!(200 < operations, "the workload became too small: {operations}");
    let count = std::env::var("STRATALOG_CRASH_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    for stop_at in 1..=operations + 1 {
        let random = (0..count).map(|index| CrashMode::Random {
            seed: stop_at * 1000 + index,
        });
        for mode in [CrashMode::SyncedOnly, CrashMode::All].into_iter().chain(random) {
            let run = std::panic::catch_unwind(|| {
                let mut keyed = Keyed::new(compacted());
                keyed.files.set_faults(FaultPlan::new().stop_at(stop_at));
                let outcome = workload(&mut keyed);
                assert_eq!(outcome.is_ok(), operations < stop_at, "{outcome:?}");
                let image = keyed.files.crash(mode);
                keyed.recover_on(image);
                keyed.retry();
                let left: Vec<String> = keyed
                    .files
                    .list(Path::new("/data/events-3"))
                    .unwrap()
                    .into_iter()
                    .map(|entry| entry.name)
                    .filter(|name| [".cleaned", ".swap"].iter().any(|one| name.ends_with(one)))
                    .collect();
                assert!(left.is_empty(), "{left:?}");
                // The log goes on, is cleaned again, and survives a power cut.
                let record = keyed.record(1, false);
                keyed.append(vec![record], Compression::None, true).unwrap();
                keyed.flush().unwrap();
                keyed.log().roll().unwrap();
                keyed.flush().unwrap();
                keyed.checkpoint().unwrap();
                let end = keyed.clean(LARGE_MAP, 500, usize::MAX).unwrap();
                keyed.check(end);
                let image = keyed.files.crash(CrashMode::SyncedOnly);
                keyed.recover_on(image);
                keyed.check(end);
                keyed.retry();
            });
            assert!(
                run.is_ok(),
                "failed when stopped at operation {stop_at} of {operations}, {mode:?}"
            );
        }
    }
    println!(
        "{operations} stopping points, {} crashes each, 0 violations",
        2 + count
    );
}

/// A log of several segments, all but the active one on the disk and below the recovery point.
fn filled(config: LogConfig) -> Keyed {
    let mut keyed = Keyed::new(config);
    let mut rng = fastrand::Rng::with_seed(9);
    for index in 0..60 {
        let records = random_records(&mut keyed, &mut rng);
        keyed
            .append(records, CODECS[index % CODECS.len()], false)
            .unwrap();
    }
    keyed.flush().unwrap();
    keyed.checkpoint().unwrap();
    keyed
}

#[test]
fn readers_see_one_content_while_segments_are_swapped() {
    let mut keyed = filled(compacted());
    let reader = keyed.log().reader();
    let before = read_all(&reader, "before");
    let view = keyed.log().cleaner_view(Offset::new(i64::MAX));
    let (config, now) = (keyed.config.clone(), TimestampMs::new(0));
    let dirt = Dirt::of(&view, None, &config, now).unwrap();
    let to_clean = keyed.log().to_clean(&dirt).unwrap();
    let mut cleaning = Cleaning::begin(to_clean, OffsetMap::new(LARGE_MAP, 900), 500, &mut Freely).unwrap();
    let request = ReadRequest {
        offset: Offset::ZERO,
        bytes_max: 700,
        at_least_one_batch: true,
        bound: ReadBound::HighWatermark,
        patience: Patience::MayBlock,
    };
    let slice = reader.read(request).unwrap().records;
    let bytes = slice.to_vec();
    while let Some(group) = cleaning.next_group(&mut Freely).unwrap() {
        // Nothing of the old segments is open when the swap begins.
        reader.release_idle();
        reader.release_idle();
        let unswapped = read_all(&reader, "written aside");
        let task = keyed.log().begin_swap(group, Offset::new(i64::MAX)).unwrap();
        reader.release_idle();
        reader.release_idle();
        let done = task.run();
        reader.release_idle();
        reader.release_idle();
        // The files are others already; whoever still has the old segments reads them.
        assert_eq!(read_all(&reader, "files exchanged"), unswapped);
        assert_eq!(keyed.log().reclaim(Offset::new(i64::MAX)).run().unwrap(), 0);
        keyed.log().finish_swap(done).unwrap();
    }
    let after = read_all(&reader, "after");
    assert!(after.len() < before.len(), "{} of {}", after.len(), before.len());
    assert_eq!(slice, bytes, "a slice from before shows what it showed");
    keyed.check(dirt.first_uncleanable.get());
}

/// Reads all the time while the log is cleaned again and again.
#[test]
fn a_reader_on_another_thread_never_fails() {
    let mut keyed = filled(compacted());
    let is_over = Arc::new(AtomicBool::new(false));
    let (reader, over) = (keyed.log().reader(), Arc::clone(&is_over));
    let thread = std::thread::spawn(move || {
        let mut passes = 0;
        while !over.load(Ordering::Relaxed) || passes == 0 {
            read_all(&reader, "beside the cleaner");
            reader.release_idle();
            passes += 1;
        }
        passes
    });
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..40 {
        for _ in 0..12 {
            let records = random_records(&mut keyed, &mut rng);
            keyed.append(records, Compression::None, false).unwrap();
        }
        keyed.flush().unwrap();
        keyed.checkpoint().unwrap();
        keyed.clean(LARGE_MAP, 300, usize::MAX).unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(0 < thread.join().unwrap());
    keyed.check(0);
}

#[test]
fn what_the_recovery_point_does_not_cover_is_not_swapped() {
    let mut keyed = filled(compacted());
    let view = keyed.log().cleaner_view(Offset::new(i64::MAX));
    let config = keyed.config.clone();
    let dirt = Dirt::of(&view, None, &config, TimestampMs::new(0)).unwrap();
    let to_clean = keyed.log().to_clean(&dirt).unwrap();
    let mut cleaning = Cleaning::begin(to_clean, OffsetMap::new(LARGE_MAP, 900), 500, &mut Freely).unwrap();
    let group = cleaning.next_group(&mut Freely).unwrap().unwrap();
    assert!(keyed.log().begin_swap(group, Offset::new(3)).is_none());
    let nothing = Dirt::of(
        &keyed.log().cleaner_view(Offset::ZERO),
        None,
        &config,
        TimestampMs::new(0),
    )
    .unwrap();
    assert_eq!((nothing.cleanable_bytes, nothing.is_due(&config)), (0, false));
}

/// Without the checkpoint files nobody knows what was on the disk; then the cleaner's own tells a gap from a torn end.
#[test]
fn gaps_survive_the_loss_of_the_recovery_point() {
    let mut keyed = filled(compacted());
    let end = keyed.clean(LARGE_MAP, 500, usize::MAX).unwrap();
    let image = keyed.files.crash(CrashMode::SyncedOnly);
    image
        .remove_file(Path::new("/data/recovery-point-offset-checkpoint"))
        .unwrap();
    keyed.recover_on(image);
    keyed.check(end);
}

/// Compaction relied on the later point: were it taken back, the next recovery would cut the log at a gap.
#[test]
fn a_late_write_does_not_take_the_recovery_point_back() {
    let mut keyed = filled(compacted());
    let end = keyed.clean(LARGE_MAP, 500, usize::MAX).unwrap();
    let manager = keyed.manager();
    manager
        .write_recovery_points(&Keyed::entry(Offset::new(1)))
        .unwrap();
    let image = keyed.files.crash(CrashMode::SyncedOnly);
    image
        .remove_file(Path::new("/data/cleaner-offset-checkpoint"))
        .unwrap();
    keyed.recover_on(image);
    keyed.check(end);
}

#[test]
fn a_stopped_cleaning_changes_nothing() {
    struct Stops(u64);
    impl Pace for Stops {
        fn spend(&mut self, bytes: u64) -> Result<(), Stopped> {
            self.0 = self.0.checked_sub(bytes).ok_or(Stopped)?;
            Ok(())
        }
    }
    let mut keyed = filled(compacted());
    let before = read_all(&keyed.log().reader(), "before");
    let view = keyed.log().cleaner_view(Offset::new(i64::MAX));
    let dirt = Dirt::of(&view, None, &keyed.config.clone(), TimestampMs::new(0)).unwrap();
    let mut stops = 0;
    for bytes in (0..).step_by(700) {
        let to_clean = keyed.log().to_clean(&dirt).unwrap();
        let mut pace = Stops(bytes);
        let stopped = Cleaning::begin(to_clean, OffsetMap::new(LARGE_MAP, 900), 500, &mut pace)
            .and_then(|mut cleaning| cleaning.next_group(&mut pace).map(drop));
        if stopped.is_ok() {
            break;
        }
        assert!(
            matches!(stopped, Err(CleanError::Stopped)),
            "after {bytes}: {stopped:?}"
        );
        let files = keyed.files.list(Path::new("/data/events-3")).unwrap();
        assert!(!files.iter().any(|entry| entry.name.ends_with(".cleaned")));
        stops += 1;
    }
    assert!(5 < stops, "{stops}");
    assert_eq!(read_all(&keyed.log().reader(), "after"), before);
}
