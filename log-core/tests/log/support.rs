//! A log beside a model of it: every verb is done to both, and after each opening they are compared.
//!
//! The model is a map from offset to record, the offset below which everything was acknowledged, and the
//! range in which the log may start. A crash may take records from the acknowledged end on, in whole
//! batches from the back, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use log_core::clock::{Clock, ManualClock};
use log_core::config::{LogConfig, TimestampType};
use log_core::fs::map::MapBudget;
use log_core::fs::mem::MemFileSystem;
use log_core::log::{AppendOutcome, Log, LogContext, LogError, ReadBound, ReadError, ReadRequest};
use log_core::log_manager::{CheckpointEntry, LogDirectory};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId, TopicPartition};
use log_core::producer_state::verification::TransactionalBatch;
use log_core::record::batch::batches;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::compression::Compression;
use log_core::record::validator::{ProduceRules, ValidatedBatch, validate_produce};
use log_core::segment::segment::Patience;

use crate::transactions::Transactions;

pub(crate) const TOPIC_ID: TopicId = TopicId::from_bytes(*b"one life a topic");

/// What the model knows of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelRecord {
    pub(crate) timestamp: i64,
    pub(crate) value: Vec<u8>,
}

/// A batch that an idempotent producer may send again.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) producer: ProducerId,
    pub(crate) sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) records: Vec<ModelRecord>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) files: MemFileSystem,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: LogConfig,
    pub(crate) manager: Option<LogDirectory>,
    pub(crate) log: Option<Log>,
    pub(crate) records: BTreeMap<i64, ModelRecord>,
    /// Base offsets of batches, and the log end: where a crash may cut.
    pub(crate) boundaries: Vec<i64>,
    pub(crate) acknowledged_end: i64,
    pub(crate) log_start: i64,
    pub(crate) durable_log_start: i64,
    /// The highest log start that anybody tried to make durable.
    pub(crate) attempted_log_start: i64,
    pub(crate) sent: Vec<Sent>,
    pub(crate) next_sequence: BTreeMap<ProducerId, i32>,
    pub(crate) transactions: Transactions,
    pub(crate) fault_planned: bool,
    pub(crate) log_of_deeds: Vec<String>,
    next_value: u64,
}

pub(crate) fn partition() -> TopicPartition {
    TopicPartition::new("events", 3)
}

pub(crate) fn context(files: &MemFileSystem, clock: &Arc<ManualClock>) -> LogContext {
    LogContext {
        file_system: Arc::new(files.clone()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
    }
}

/// Small limits, so that a short workload rolls, indexes and deletes.
pub(crate) fn small_config() -> LogConfig {
    LogConfig {
        segment_bytes_max: 4096,
        index_interval_bytes: 256,
        index_bytes_max: 4096,
        retention_ms: None,
        ..LogConfig::default()
    }
}

impl World {
    pub(crate) fn new(config: LogConfig) -> Self {
        let files = MemFileSystem::with_map_budget(MapBudget::new(4));
        let clock = Arc::new(ManualClock::new(TimestampMs::new(1_000_000)));
        let mut world = Self {
            files,
            clock,
            config,
            manager: None,
            log: None,
            records: BTreeMap::new(),
            boundaries: vec![0],
            acknowledged_end: 0,
            log_start: 0,
            durable_log_start: 0,
            attempted_log_start: 0,
            sent: Vec::new(),
            next_sequence: BTreeMap::new(),
            transactions: Transactions::default(),
            fault_planned: false,
            log_of_deeds: Vec::new(),
            next_value: 0,
        };
        world.open_manager().unwrap();
        let manager = world.manager.as_ref().unwrap();
        world.log = Some(
            manager
                .create(&partition(), TOPIC_ID, world.config.clone())
                .unwrap(),
        );
        world
    }

    fn open_manager(&mut self) -> Result<(), String> {
        let context = context(&self.files, &self.clock);
        let opened = LogDirectory::open(context, PathBuf::from("/data"));
        let (manager, _found) = opened.map_err(|error| format!("open data directory: {error}"))?;
        self.manager = Some(manager);
        Ok(())
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    pub(crate) fn end(&self) -> i64 {
        *self.boundaries.last().unwrap()
    }

    pub(crate) fn deed(&mut self, text: impl Into<String>) {
        self.log_of_deeds.push(text.into());
    }

    pub(crate) fn build(
        &mut self,
        count: usize,
        value_bytes: usize,
        codec: Compression,
        producer: Option<(ProducerId, i32)>,
    ) -> (Vec<ModelRecord>, ValidatedBatch) {
        let records = self.make_records(count, value_bytes);
        let batch = self.validate(&records, codec, producer);
        (records, batch)
    }

    /// A batch of a transaction, which says this of itself.
    pub(crate) fn build_of_transaction(
        &mut self,
        count: usize,
        batch: &TransactionalBatch,
    ) -> (Vec<ModelRecord>, ValidatedBatch) {
        let records = self.make_records(count, 24);
        let options = BatchOptions {
            producer: BatchProducer {
                id: batch.producer_id,
                epoch: batch.producer_epoch,
                base_sequence: batch.base_sequence,
            },
            transactional: true,
            ..BatchOptions::default()
        };
        let batch = self.validate_with(&records, options);
        (records, batch)
    }

    fn make_records(&mut self, count: usize, value_bytes: usize) -> Vec<ModelRecord> {
        let now = self.clock.now().get();
        (0..count)
            .map(|index| {
                self.next_value += 1;
                let mut value = self.next_value.to_be_bytes().to_vec();
                value.resize(value_bytes.max(8), (self.next_value % 251) as u8);
                // Times go up and down a little, as producers' do.
                let wobble = (self.next_value as i64 * 7919) % 50 - 25;
                ModelRecord {
                    timestamp: now + index as i64 + wobble,
                    value,
                }
            })
            .collect()
    }

    fn validate(
        &self,
        records: &[ModelRecord],
        codec: Compression,
        producer: Option<(ProducerId, i32)>,
    ) -> ValidatedBatch {
        let producer = producer.map_or_else(BatchProducer::default, |(id, sequence)| BatchProducer {
            id,
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(sequence),
        });
        let options = BatchOptions {
            compression: codec,
            producer,
            ..BatchOptions::default()
        };
        self.validate_with(records, options)
    }

    fn validate_with(&self, records: &[ModelRecord], options: BatchOptions) -> ValidatedBatch {
        let mut builder = BatchBuilder::new(options);
        for record in records {
            builder
                .append(TimestampMs::new(record.timestamp), None, Some(&record.value), &[])
                .unwrap();
        }
        let rules = ProduceRules {
            batch_bytes_max: 1 << 20,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            now: self.clock.now(),
            requires_keys: false,
            codec: None,
        };
        validate_produce(&builder.build(), &rules).expect("our own batch is valid")
    }

    /// Appends a new batch. An error leaves it open whether the batch survives a crash.
    pub(crate) fn append(
        &mut self,
        count: usize,
        value_bytes: usize,
        codec: Compression,
        producer: Option<ProducerId>,
    ) -> Result<(), String> {
        let producer = producer.map(|id| (id, *self.next_sequence.get(&id).unwrap_or(&0)));
        let (records, batch) = self.build(count, value_bytes, codec, producer);
        let base = self.end();
        self.deed(format!(
            "append {count} x {value_bytes} at {base} by {producer:?}"
        ));
        for (index, record) in records.iter().enumerate() {
            self.records.insert(base + index as i64, record.clone());
        }
        self.boundaries.push(base + count as i64);
        if let Some((id, sequence)) = producer {
            self.next_sequence.insert(id, sequence + count as i32);
            self.sent.push(Sent {
                producer: id,
                sequence,
                base_offset: base,
                records,
            });
        }
        match self.log().append_one(&batch) {
            Ok(AppendOutcome::Appended { base_offset, .. }) => {
                assert_eq!(base_offset.get(), base);
                Ok(())
            }
            Ok(outcome) => panic!("a new batch was {outcome:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends again one of a producer's last five batches: it must be recognised, with its offsets.
    pub(crate) fn retry(&mut self, sent: &Sent) -> Result<(), String> {
        self.deed(format!(
            "retry {:?} sequence {} of {}",
            sent.producer, sent.sequence, sent.base_offset
        ));
        let batch = self.validate(
            &sent.records,
            Compression::None,
            Some((sent.producer, sent.sequence)),
        );
        match self.log().append_one(&batch) {
            Ok(AppendOutcome::Duplicate {
                base_offset,
                last_offset,
                ..
            }) => {
                assert_eq!(base_offset.get(), sent.base_offset);
                assert_eq!(
                    last_offset.get(),
                    sent.base_offset + sent.records.len() as i64 - 1
                );
                Ok(())
            }
            Ok(outcome) => panic!("it became {outcome:?}\n{}", self.story()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), String> {
        let target = self.end();
        self.deed(format!("flush to {target}"));
        let Some(task) = self.log().begin_flush() else {
            return match self.log().latch_reason() {
                Some(reason) => Err(reason.to_string()),
                None => Ok(()),
            };
        };
        let result = task.run();
        match self.log().finish_flush(result) {
            Ok(offsets) => {
                assert_eq!(
                    offsets.high_watermark.get(),
                    target,
                    "group commit releases what was appended"
                );
                self.acknowledged_end = self.acknowledged_end.max(target);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn seal(&mut self) -> Result<(), String> {
        self.deed("seal");
        let mut outcome = Ok(());
        for task in self.log().take_seal_tasks() {
            let result = task.run();
            self.log().finish_seal(&task, &result);
            if let Err(error) = result {
                outcome = Err(error.to_string());
            }
        }
        outcome
    }

    pub(crate) fn checkpoint(&mut self) -> Result<(), String> {
        self.deed("checkpoint");
        let task = self.log().checkpoint_state().map_err(|error| error.to_string())?;
        task.run().map_err(|error| error.to_string())?;
        let offset = self.log().recovery_point();
        assert!(offset.get() <= self.acknowledged_end.max(self.end()));
        let entry = CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset,
        };
        let manager = self.manager.as_ref().unwrap();
        manager
            .write_recovery_points(&[entry])
            .map_err(|error| error.to_string())
    }

    /// Moves the log start as `DeleteRecords` does.
    pub(crate) fn delete_records(&mut self, to: i64) -> Result<(), String> {
        self.deed(format!("delete records below {to}"));
        let start = self
            .log()
            .advance_log_start(Offset::new(to))
            .map_err(|error| error.to_string())?;
        self.start_moved(start)
    }

    pub(crate) fn apply_retention(&mut self) -> Result<(), String> {
        self.deed("retention");
        let now = self.clock.now();
        self.log()
            .apply_retention(now)
            .map_err(|error| error.to_string())?;
        let start = self.log().offsets().log_start;
        self.start_moved(start)
    }

    fn start_moved(&mut self, start: Offset) -> Result<(), String> {
        self.log_start = self.log_start.max(start.get());
        self.attempted_log_start = self.attempted_log_start.max(start.get());
        let entry = CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset: start,
        };
        let manager = self.manager.as_ref().unwrap();
        manager
            .write_log_starts(&[entry])
            .map_err(|error| error.to_string())?;
        self.durable_log_start = self.durable_log_start.max(start.get());
        self.log()
            .reclaim(start)
            .run()
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// Cuts off the end, at `to` or at the beginning of the batch that holds it.
    pub(crate) fn truncate(&mut self, to: i64) -> Result<(), String> {
        self.deed(format!("truncate to {to}"));
        let manager = self.manager.as_ref().unwrap();
        let log = self.log.as_mut().unwrap();
        let begins_below_start = |base: &i64| *base <= to && *base < log.offsets().log_start.get();
        let inside = self.boundaries.iter().rev().find(|base| **base <= to);
        let refused = inside.is_some_and(begins_below_start);
        let end = match manager.truncate(log, Offset::new(to)) {
            Err(LogError::OffsetOutOfRange { .. }) if refused => {
                let flushed = log.flushed().get();
                self.acknowledged_end = self.acknowledged_end.max(flushed);
                return Ok(());
            }
            outcome => outcome.map_err(|error| error.to_string())?.get(),
        };
        assert!(end <= to, "{}", self.story());
        self.records.split_off(&end);
        self.log_start = self.log_start.min(end);
        self.boundaries.retain(|boundary| *boundary < end);
        self.boundaries.push(end);
        self.acknowledged_end = end;
        self.forget_sent(end);
        self.check();
        Ok(())
    }

    /// Batches from `end` on are not in the log, and nobody will send them again.
    pub(crate) fn forget_sent(&mut self, end: i64) {
        self.transactions.cut(end);
        self.sent.retain(|sent| sent.base_offset < end);
        self.next_sequence.clear();
        for sent in &self.sent {
            self.next_sequence
                .insert(sent.producer, sent.sequence + sent.records.len() as i32);
        }
    }

    /// An orderly stop and start.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.deed("restart");
        let end = self.end();
        self.log().close().map_err(|error| error.to_string())?;
        self.acknowledged_end = end;
        let start = self.log().offsets().log_start;
        let entry = CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset: start,
        };
        let manager = self.manager.as_ref().unwrap();
        manager
            .write_log_starts(&[entry])
            .map_err(|error| error.to_string())?;
        self.durable_log_start = start.get();
        let offset = Offset::new(end);
        let entry = CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset,
        };
        let manager = self.manager.as_ref().unwrap();
        manager
            .write_recovery_points(&[entry])
            .map_err(|error| error.to_string())?;
        manager.mark_clean().map_err(|error| error.to_string())?;
        self.log = None;
        self.manager = None;
        self.open_manager()?;
        self.load().map_err(|error| format!("load: {error}"))?;
        assert_eq!(
            self.log().offsets().log_end.get(),
            end,
            "an orderly stop loses nothing"
        );
        self.check();
        Ok(())
    }

    /// Continues on what a crash left.
    pub(crate) fn recover_on(&mut self, image: MemFileSystem) {
        self.deed("crash and recover");
        self.log = None;
        self.manager = None;
        self.files = image;
        self.open_manager().unwrap();
        self.load()
            .unwrap_or_else(|error| panic!("recovery failed: {error}\n{}", self.story()));
        self.settle();
        self.check();
    }

    /// What a start after a kill does with what that left: opens the log, completes its segments, writes the recovery point.
    pub(crate) fn start_on(&mut self, image: MemFileSystem) -> Result<(), String> {
        self.deed("start");
        self.log = None;
        self.manager = None;
        self.files = image;
        self.open_manager()?;
        self.load()?;
        self.settle();
        self.check();
        self.seal()?;
        self.checkpoint()
    }

    /// Opens a latched log again, as the server does.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        self.deed("reopen");
        let log = self.log.take().unwrap();
        match self.manager.as_ref().unwrap().reopen(&log) {
            Ok((log, _)) => {
                self.log = Some(log);
                // Opened again by the same process, the log starts where it did, durably or not.
                let durable_log_start = self.durable_log_start;
                self.settle();
                self.durable_log_start = durable_log_start;
                self.check();
                Ok(())
            }
            Err(error) => {
                self.log = Some(log);
                Err(error.to_string())
            }
        }
    }

    fn load(&mut self) -> Result<(), String> {
        let manager = self.manager.as_ref().unwrap();
        let (log, _report) = manager
            .load(&partition(), TOPIC_ID, self.config.clone())
            .map_err(|error| error.to_string())?;
        self.log = Some(log);
        Ok(())
    }

    /// Brings the model to what survived, which must be what may survive.
    fn settle(&mut self) {
        let offsets = self.log().offsets();
        let end = offsets.log_end.get();
        let story = self.story();
        assert!(
            self.acknowledged_end <= end,
            "acknowledged up to {}, survived up to {end}\n{story}",
            self.acknowledged_end
        );
        assert!(
            self.boundaries.contains(&end) || end == offsets.log_start.get(),
            "survived up to {end}, which is not between two batches\n{story}"
        );
        let start = offsets.log_start.get();
        assert!(
            self.durable_log_start <= start && start <= self.attempted_log_start,
            "the log starts at {start}, and was durably at {}\n{story}",
            self.durable_log_start
        );
        assert_eq!(
            offsets.high_watermark, offsets.log_end,
            "what survived is on the disk\n{story}"
        );
        self.log_start = start;
        self.records = self.records.split_off(&start.min(self.durable_log_start));
        self.records.split_off(&end);
        self.boundaries.retain(|boundary| *boundary < end);
        self.boundaries.push(end);
        self.forget_sent(end);
        self.acknowledged_end = end;
        self.durable_log_start = start;
        self.attempted_log_start = start;
    }

    /// Compares everything that can be read with the model.
    pub(crate) fn check(&mut self) {
        let story = self.story();
        let reader = self.log().reader();
        let offsets = reader.offsets();
        let bound = if self.config.durable {
            self.acknowledged_end
        } else {
            self.end()
        };
        assert_eq!(offsets.log_start.get(), self.log_start, "{story}");
        assert_eq!(offsets.log_end.get(), self.end(), "{story}");
        assert!(bound <= offsets.high_watermark.get(), "{story}");
        let mut found = BTreeMap::new();
        let mut next = offsets.log_start;
        while next < offsets.log_end {
            let slice = reader
                .read(ReadRequest {
                    offset: next,
                    bytes_max: 1000,
                    at_least_one_batch: true,
                    bound: ReadBound::LogEnd,
                    patience: Patience::MayBlock,
                })
                .unwrap_or_else(|error| panic!("read at {next}: {error}\n{story}"));
            assert!(
                !slice.records.is_empty(),
                "nothing at {next} of {offsets:?}\n{story}"
            );
            next = collect(&story, &slice.records, next, &mut found);
        }
        let expected: BTreeMap<i64, ModelRecord> = self
            .records
            .range(self.log_start..)
            .map(|(offset, record)| (*offset, record.clone()))
            .collect();
        assert!(
            found == expected,
            "records differ: {}\n{story}",
            difference(&found, &expected)
        );
        self.check_committed(self.log_start, 1000);
    }

    /// Looks at one offset with odd limits, as a client might ask.
    pub(crate) fn probe(&mut self, offset: i64, bytes_max: usize, at_least_one_batch: bool) {
        let story = self.story();
        let (start, end) = (self.log_start, self.end());
        let reader = self.log().reader();
        let request = ReadRequest {
            offset: Offset::new(offset),
            bytes_max,
            at_least_one_batch,
            bound: ReadBound::HighWatermark,
            patience: Patience::MayBlock,
        };
        match reader.read(request) {
            Err(ReadError::OffsetOutOfRange { .. }) => {
                assert!(
                    offset < start || end < offset,
                    "{offset} is inside of {start}..{end}\n{story}"
                );
            }
            Err(error) => panic!("probe at {offset}: {error}\n{story}"),
            Ok(slice) => {
                assert!(start <= offset && offset <= end, "{story}");
                let visible = reader.offsets().high_watermark.get();
                if offset < visible && at_least_one_batch {
                    let mut found = BTreeMap::new();
                    let next = collect(&story, &slice.records, Offset::new(offset), &mut found).get();
                    assert!(
                        offset < next && next <= visible,
                        "{offset}..{next} of {visible}\n{story}"
                    );
                    for (offset, record) in found {
                        assert_eq!(Some(&record), self.records.get(&offset), "{story}");
                    }
                } else if offset >= visible {
                    assert!(slice.records.is_empty(), "{story}");
                } else {
                    assert!(slice.records.len() <= bytes_max, "{story}");
                }
            }
        }
    }

    /// The first record, in offset order, that is `target` or younger.
    pub(crate) fn probe_time(&mut self, target: i64) {
        let story = self.story();
        let bound = self.log().offsets().high_watermark.get();
        let start = self.log_start;
        let expected = self
            .records
            .range(start..bound)
            .find(|(_, record)| target <= record.timestamp)
            .map(|(offset, record)| (*offset, record.timestamp));
        let found = self
            .log()
            .reader()
            .offset_for_timestamp(TimestampMs::new(target), ReadBound::HighWatermark)
            .unwrap_or_else(|error| panic!("look-up of {target}: {error}\n{story}"))
            .map(|found| (found.offset.get(), found.timestamp.get()));
        assert_eq!(
            found, expected,
            "look-up of {target} in {start}..{bound}\n{story}"
        );
    }

    pub(crate) fn probe_largest_time(&mut self) {
        let story = self.story();
        let bound = self.log().offsets().high_watermark.get();
        let mut expected: Option<(i64, i64)> = None;
        for (offset, record) in self.records.range(self.log_start..bound) {
            if expected.is_none_or(|(_, largest)| largest < record.timestamp) {
                expected = Some((*offset, record.timestamp));
            }
        }
        let found = self
            .log()
            .reader()
            .offset_of_max_timestamp(ReadBound::HighWatermark)
            .unwrap_or_else(|error| panic!("largest time: {error}\n{story}"))
            .map(|found| (found.offset.get(), found.timestamp.get()));
        assert_eq!(found, expected, "largest time\n{story}");
    }

    /// What has been done so far, for a failing test.
    pub(crate) fn story(&self) -> String {
        let last = self.log_of_deeds.len().saturating_sub(60);
        self.log_of_deeds[last..].join("\n")
    }
}

/// Adds the records at or behind `from` to `found`, and returns the offset behind the last whole batch.
fn collect(story: &str, bytes: &Bytes, from: Offset, found: &mut BTreeMap<i64, ModelRecord>) -> Offset {
    let mut next = from;
    let mut scratch = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap_or_else(|error| panic!("{error} behind {next}\n{story}"));
        batch.verify_checksum().expect("checksum");
        for record in batch.records(&mut scratch, 1 << 24).expect("records") {
            let record = record.expect("record");
            if from <= record.offset {
                let value = record.value.expect("a value").to_vec();
                let record_of_model = ModelRecord {
                    timestamp: record.timestamp.get(),
                    value,
                };
                found.insert(record.offset.get(), record_of_model);
            }
        }
        next = batch.header().next_offset();
    }
    next
}

fn difference(found: &BTreeMap<i64, ModelRecord>, expected: &BTreeMap<i64, ModelRecord>) -> String {
    let missing: Vec<_> = expected
        .keys()
        .filter(|offset| !found.contains_key(offset))
        .take(5)
        .collect();
    let extra: Vec<_> = found
        .keys()
        .filter(|offset| !expected.contains_key(offset))
        .take(5)
        .collect();
    let changed: Vec<_> = found
        .iter()
        .filter(|(offset, record)| expected.get(offset).is_some_and(|other| other != *record))
        .map(|(offset, _)| offset)
        .take(5)
        .collect();
    format!("missing {missing:?}, unexpected {extra:?}, changed {changed:?}")
}

/// The seed of this run, and how many runs: by the environment, so that a failure can be repeated.
pub(crate) fn seeds(default_count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("STRATALOG_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("STRATALOG_SEQUENCES").unwrap_or(default_count)).collect(),
    }
}
