//! A compacted log beside a model of it: everything that was ever appended, by offset, and what became of transactions.
//!
//! Whatever is cleaned, each record that is left must stand at its offset as it was appended, and a reader of committed
//! records must end with the same value of each key as one who had read everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::cleaner::{CleanedGroup, Cleaning, Dirt, OffsetMap, Pace, Stopped, WriteSizes};
use log_core::clock::{Clock, ManualClock};
use log_core::config::{CleanupPolicy, LogConfig, TimestampType};
use log_core::fs::FileSystem;
use log_core::fs::map::MapBudget;
use log_core::fs::mem::MemFileSystem;
use log_core::log::{AppendOrigin, AppendOutcome, Log, LogReader, ReadBound, ReadRequest};
use log_core::log_manager::{CheckpointEntry, LogDirectory};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::producer_state::verification::TransactionProof;
use log_core::record::batch::Batch;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::compression::Compression;
use log_core::record::validator::{ProduceRules, ValidatedBatch, validate_produce};
use log_core::segment::segment::Patience;

use crate::support::{TOPIC_ID, context, partition, small_config};
use crate::transactions::{Transactions, for_each_committed};

pub(crate) const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
pub(crate) const DELETE_RETENTION_MS: i64 = 10_000;
/// Enough for every key of a workload.
pub(crate) const LARGE_MAP: u64 = 1 << 16;
/// Each new segment is swapped in alone.
pub(crate) const ONE_BY_ONE: WriteSizes = WriteSizes { chunk: 500, swap: 1 };
/// All of them are swapped in at once.
pub(crate) const TOGETHER: WriteSizes = WriteSizes {
    chunk: 500,
    swap: u64::MAX,
};
/// Where the files are.
pub(crate) const DIRECTORY: &str = "/data/events-3";
/// Of either version of the protocol.
pub(crate) const TRANSACTIONAL: [ProducerId; 2] = [ProducerId::new(10), ProducerId::new(11)];

const IDEMPOTENT: ProducerId = ProducerId::new(7);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyedRecord {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

/// Never stops a cleaning.
pub(crate) struct Freely;

impl Pace for Freely {
    fn spend(&mut self, _bytes: u64) -> Result<(), Stopped> {
        Ok(())
    }
}

/// A compacted log and everything that was appended to it.
pub(crate) struct Keyed {
    pub(crate) files: MemFileSystem,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: LogConfig,
    manager: Option<LogDirectory>,
    log: Option<Log>,
    /// Records, those of transactions too.
    appended: BTreeMap<i64, KeyedRecord>,
    transactions: Transactions,
    acknowledged_end: i64,
    /// When the cleaner first saw a tombstone.
    seen_at: BTreeMap<i64, i64>,
    next_sequence: i32,
    last_sent: Option<(i32, Vec<KeyedRecord>, i64)>,
    next_value: u64,
    deeds: Vec<String>,
}

pub(crate) fn compacted() -> LogConfig {
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

/// A log of several segments, all but the active one on the disk and below the recovery point.
pub(crate) fn filled(config: LogConfig) -> Keyed {
    let mut keyed = Keyed::new(config);
    let mut rng = fastrand::Rng::with_seed(9);
    for index in 0..60 {
        let records = keyed.random_records(&mut rng);
        keyed
            .append(records, CODECS[index % CODECS.len()], false)
            .unwrap();
    }
    keyed.flush().unwrap();
    keyed.checkpoint().unwrap();
    keyed
}

impl Keyed {
    pub(crate) fn new(config: LogConfig) -> Self {
        let mut keyed = Self {
            files: MemFileSystem::with_map_budget(MapBudget::new(6)),
            clock: Arc::new(ManualClock::new(TimestampMs::new(1_000_000))),
            config,
            manager: None,
            log: None,
            appended: BTreeMap::new(),
            transactions: Transactions::default(),
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
        let (manager, _) = LogDirectory::open(context, PathBuf::from("/data")).unwrap();
        self.manager = Some(manager);
    }

    pub(crate) fn manager(&self) -> &LogDirectory {
        self.manager.as_ref().unwrap()
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn story(&self) -> String {
        let from = self.deeds.len().saturating_sub(60);
        self.deeds[from..].join("\n")
    }

    fn end(&self) -> i64 {
        let records_end = self.appended.last_key_value().map_or(0, |(offset, _)| offset + 1);
        records_end.max(self.transactions.end())
    }

    pub(crate) fn record(&mut self, key: u8, is_tombstone: bool) -> KeyedRecord {
        self.next_value += 1;
        let value = format!("{}-{}", self.next_value, "v".repeat(40)).into_bytes();
        KeyedRecord {
            key: vec![b'k', key],
            value: (!is_tombstone).then_some(value),
            timestamp: self.clock.now().get() + i64::from(key % 3),
        }
    }

    pub(crate) fn random_records(&mut self, rng: &mut fastrand::Rng) -> Vec<KeyedRecord> {
        (0..rng.usize(1..5))
            .map(|_| {
                let (key, is_tombstone) = (rng.u8(..12), rng.u8(..6) == 0);
                self.record(key, is_tombstone)
            })
            .collect()
    }

    fn batch(records: &[KeyedRecord], options: BatchOptions) -> ValidatedBatch {
        let mut builder = BatchBuilder::new(options);
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
            codec: None,
        };
        validate_produce(&builder.build(), &rules).unwrap()
    }

    fn options(codec: Compression, sequence: Option<i32>) -> BatchOptions {
        BatchOptions {
            compression: codec,
            producer: sequence.map_or_else(BatchProducer::default, |sequence| BatchProducer {
                id: IDEMPOTENT,
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(sequence),
            }),
            ..BatchOptions::default()
        }
    }

    pub(crate) fn append(
        &mut self,
        records: Vec<KeyedRecord>,
        codec: Compression,
        is_idempotent: bool,
    ) -> Result<(), String> {
        let sequence = is_idempotent.then_some(self.next_sequence);
        let batch = Self::batch(&records, Self::options(codec, sequence));
        let outcome = self.log().append_one(&batch).map_err(|error| error.to_string())?;
        let AppendOutcome::Appended { base_offset, .. } = outcome else {
            panic!("{outcome:?}\n{}", self.story());
        };
        if let Some(sequence) = sequence {
            self.next_sequence += records.len() as i32;
            self.last_sent = Some((sequence, records.clone(), base_offset.get()));
        }
        self.note(base_offset.get(), records);
        Ok(())
    }

    /// Appends a batch to a producer's transaction, which begins with it if it has none open.
    pub(crate) fn append_in_transaction(
        &mut self,
        producer: ProducerId,
        records: Vec<KeyedRecord>,
        codec: Compression,
    ) -> Result<(), String> {
        let wanted = self.transactions.next_batch(producer);
        let options = BatchOptions {
            compression: codec,
            producer: BatchProducer {
                id: producer,
                epoch: wanted.producer_epoch,
                base_sequence: wanted.base_sequence,
            },
            transactional: true,
            ..BatchOptions::default()
        };
        let batch = Self::batch(&records, options);
        let (base, is_open) = (self.end(), self.transactions.is_open(producer));
        self.deeds.push(format!("at {base}: {wanted:?}"));
        let proof = self.log().start_verification(&wanted);
        let proof = proof.unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
        assert_eq!(proof == TransactionProof::Ongoing, is_open, "{}", self.story());
        self.log()
            .append_proved(&batch, AppendOrigin::Client, &proof)
            .map_err(|error| error.to_string())?;
        self.transactions.note_batch(base, &wanted, records.len());
        self.note(base, records);
        Ok(())
    }

    /// Ends a producer's transaction, if it has one open.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, is_abort: bool) -> Result<(), String> {
        if !self.transactions.is_open(producer) {
            return Ok(());
        }
        let end = self.transactions.next_marker(producer, is_abort);
        let base = self.end();
        self.deeds.push(format!("at {base}: {end:?}"));
        let marker = end.to_batch(self.clock.now(), self.config.timestamp_type);
        self.log()
            .append_marker(&marker)
            .map_err(|error| error.to_string())?;
        self.transactions.note_marker(base, &end);
        Ok(())
    }

    fn note(&mut self, base: i64, records: Vec<KeyedRecord>) {
        for (offset, record) in (base..).zip(records) {
            self.deeds.push(format!("append {offset} {record:?}"));
            self.appended.insert(offset, record);
        }
    }

    /// What the producer sent last is recognised, if it is still in the log.
    pub(crate) fn retry(&mut self) {
        let Some((sequence, records, base)) = self.last_sent.clone() else {
            return;
        };
        let batch = Self::batch(&records, Self::options(Compression::None, Some(sequence)));
        let outcome = self.log().append_one(&batch).unwrap();
        assert!(
            matches!(outcome, AppendOutcome::Duplicate { base_offset, .. } if base_offset.get() == base),
            "{outcome:?} instead of {base}\n{}",
            self.story()
        );
    }

    pub(crate) fn flush(&mut self) -> Result<(), String> {
        let end = self.end();
        self.log().flush().map_err(|error| error.to_string())?;
        self.acknowledged_end = end;
        self.log().seal_all().map_err(|error| error.to_string())
    }

    pub(crate) fn entry(offset: Offset) -> [CheckpointEntry; 1] {
        [CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset,
        }]
    }

    pub(crate) fn checkpoint(&mut self) -> Result<(), String> {
        let task = self.log().checkpoint_state().map_err(|error| error.to_string())?;
        task.run().map_err(|error| error.to_string())?;
        let point = self.log().recovery_point();
        self.manager()
            .write_recovery_points(&Self::entry(point))
            .map_err(|error| error.to_string())
    }

    /// How dirty the log is, whatever was cleaned before.
    pub(crate) fn dirt(&mut self) -> Dirt {
        let view = self.log().cleaner_view(Offset::new(i64::MAX));
        Dirt::of(&view, None, &self.config, TimestampMs::new(0)).unwrap()
    }

    /// Begins to clean all of it.
    pub(crate) fn begin_cleaning(&mut self, sizes: WriteSizes) -> Cleaning {
        let dirt = self.dirt();
        let log = self.log().begin_cleaning(&dirt).run().unwrap();
        Cleaning::begin(log, OffsetMap::new(LARGE_MAP, 900), sizes, &mut Freely).unwrap()
    }

    /// Puts cleaned segments in their places.
    pub(crate) fn swap(&mut self, cleaned: Vec<CleanedGroup>, recovery_point: Offset) -> Result<(), String> {
        let task = (self.log().begin_swap(cleaned, recovery_point)).ok_or("refused")?;
        let result = task.run();
        let finished = self.log().finish_swap(result);
        finished.map(drop).map_err(|error| error.to_string())
    }

    /// A cleaning as the server does it. Returns up to where the log is clean.
    pub(crate) fn clean(&mut self, map_bytes: u64, sizes: WriteSizes) -> Result<i64, String> {
        let now = self.clock.now();
        let on_disk = self.manager().recovery_point_on_disk(&partition());
        let checkpoint = self.manager().cleaned_to(&partition());
        let view = self.log().cleaner_view(on_disk);
        let dirt = Dirt::of(&view, checkpoint, &self.config, now).map_err(|error| error.to_string())?;
        self.deeds
            .push(format!("clean {dirt:?} at {now}, map {map_bytes}"));
        let begun = self.log().begin_cleaning(&dirt).run();
        let log = begun.map_err(|error| error.to_string())?;
        let map = OffsetMap::new(map_bytes, 900);
        let mut cleaning =
            Cleaning::begin(log, map, sizes, &mut Freely).map_err(|error| error.to_string())?;
        let end = cleaning.end().get();
        for (offset, record) in self.appended.range(..dirt.first_uncleanable.get()) {
            if record.value.is_none() {
                self.seen_at.entry(*offset).or_insert(now.get());
            }
        }
        loop {
            let cleaned = cleaning.next_groups(&mut Freely);
            let cleaned = cleaned.map_err(|error| error.to_string())?;
            if cleaned.is_empty() {
                break;
            }
            self.swap(cleaned, on_disk)?;
        }
        self.manager()
            .write_cleaned_to(&Self::entry(Offset::new(end)))
            .map_err(|error| error.to_string())?;
        Ok(end)
    }

    pub(crate) fn restart(&mut self) -> Result<(), String> {
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

    pub(crate) fn recover_on(&mut self, image: MemFileSystem) {
        self.deeds.push("crash".to_owned());
        (self.log, self.manager) = (None, None);
        self.files = image;
        self.open_manager();
        self.load();
    }

    /// The same, and only the log itself tells what producers did.
    pub(crate) fn recover_without_snapshots(&mut self, image: MemFileSystem) {
        self.deeds.push("producer snapshots are lost".to_owned());
        for name in names_in(&image) {
            if name.ends_with(".snapshot") {
                image.remove_file(&Path::new(DIRECTORY).join(name)).unwrap();
            }
        }
        self.recover_on(image);
    }

    /// Opens a log that refuses everything again.
    pub(crate) fn reopen(&mut self) {
        self.deeds.push("reopen".to_owned());
        let latched = self.log.take().unwrap();
        assert!(latched.latch_reason().is_some());
        let (log, _) = self.manager().reopen(&latched).unwrap();
        self.log = Some(log);
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
        self.transactions.cut(end);
        self.acknowledged_end = end;
        if self.last_sent.as_ref().is_some_and(|(.., base)| end <= *base) {
            self.last_sent = None;
        }
        let sequences = self.log.insert(log).producers().entry(IDEMPOTENT);
        self.next_sequence = sequences.map_or(0, |entry| entry.last_sequence().get() + 1);
        self.check(0);
    }

    /// Compares what can be read with everything that was appended. Below `clean_end`, each key stands once, and nothing that
    /// was aborted.
    pub(crate) fn check(&mut self, clean_end: i64) {
        let story = self.story();
        let reader = self.log().reader();
        let offsets = reader.offsets();
        let expected_stable =
            (self.transactions).last_stable(offsets.log_start.get(), offsets.high_watermark.get());
        assert_eq!(offsets.last_stable.get(), expected_stable, "{offsets:?}\n{story}");
        let dropped = self.transactions.dropped();
        let found = read_all(&reader, &story);
        for (offset, record) in &found {
            assert_eq!(self.appended.get(offset), Some(record), "at {offset}\n{story}");
        }
        let aborted: Vec<_> = (found.range(..clean_end).map(|(offset, _)| offset))
            .filter(|offset| dropped.contains(offset))
            .collect();
        assert!(aborted.is_empty(), "{aborted:?} stand below {clean_end}\n{story}");

        let committed = read_committed(&reader, &story);
        for (offset, record) in &committed {
            assert_eq!(found.get(offset), Some(record), "committed at {offset}\n{story}");
            assert!(!dropped.contains(offset), "{offset} was aborted\n{story}");
        }
        let history = |until: i64| {
            let mut last = BTreeMap::new();
            for (offset, record) in self.appended.range(..until.min(expected_stable)) {
                if !dropped.contains(offset) {
                    last.insert(record.key.clone(), (*offset, record.value.is_some()));
                }
            }
            last
        };
        for (key, (last, has_value)) in history(i64::MAX) {
            let of_key = committed.iter().filter(|(_, one)| one.key == key);
            match of_key.map(|(at, _)| *at).max() {
                Some(found) => assert_eq!(found, last, "the last record of {key:?}\n{story}"),
                None => assert!(!has_value, "{key:?} is gone, its last record was {last}\n{story}"),
            }
        }
        let clean: BTreeSet<i64> = history(clean_end).into_values().map(|(last, _)| last).collect();
        for offset in committed.range(..clean_end).map(|(offset, _)| offset) {
            assert!(
                clean.contains(offset),
                "{offset} stands below {clean_end} and is not the last\n{story}"
            );
        }
        let now = self.clock.now().get();
        for (offset, record) in
            (self.appended.range(..clean_end)).filter(|(offset, _)| clean.contains(offset))
        {
            let seen = self.seen_at.get(offset);
            let may_be_gone =
                record.value.is_none() && seen.is_some_and(|seen| seen + DELETE_RETENTION_MS <= now);
            assert!(
                committed.contains_key(offset) || may_be_gone,
                "{offset} is gone too early\n{story}"
            );
        }
        if 0 < clean_end {
            for offset in self.appended.range(clean_end..).map(|(offset, _)| offset) {
                assert!(
                    found.contains_key(offset) || dropped.contains(offset),
                    "{offset} is gone\n{story}"
                );
            }
        }
    }
}

/// The names of the log's files.
pub(crate) fn names_in(files: &MemFileSystem) -> Vec<String> {
    let entries = files.list(Path::new(DIRECTORY)).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// All records, whatever became of their transactions.
pub(crate) fn read_all(reader: &LogReader, story: &str) -> BTreeMap<i64, KeyedRecord> {
    read(reader, ReadBound::HighWatermark, story)
}

/// The records that a consumer of committed ones is given.
pub(crate) fn read_committed(reader: &LogReader, story: &str) -> BTreeMap<i64, KeyedRecord> {
    read(reader, ReadBound::LastStable, story)
}

fn read(reader: &LogReader, bound: ReadBound, story: &str) -> BTreeMap<i64, KeyedRecord> {
    let mut found = BTreeMap::new();
    let mut next = reader.offsets().log_start;
    let end = match bound {
        ReadBound::LastStable => reader.offsets().last_stable,
        _ => reader.offsets().high_watermark,
    };
    while next < end {
        let slice = reader
            .read(ReadRequest {
                offset: next,
                bytes_max: 700,
                at_least_one_batch: true,
                bound,
                patience: Patience::MayBlock,
            })
            .unwrap_or_else(|error| panic!("read at {next}: {error}\n{story}"));
        // Of all records, none is told to be aborted.
        let read_end = for_each_committed(&slice.records, &slice.aborted, |batch| {
            batch.verify_checksum().unwrap();
            take_records(batch, &mut found, story);
        });
        let read_end = read_end.unwrap_or_else(|| panic!("nothing at {next} of {end}\n{story}"));
        assert!(next < read_end, "backwards at {next}\n{story}");
        next = read_end;
    }
    found
}

fn take_records(batch: &Batch<'_>, found: &mut BTreeMap<i64, KeyedRecord>, story: &str) {
    let mut scratch = Vec::new();
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
}
