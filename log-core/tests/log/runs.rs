//! Several batches appended at once: one write for those that stand together, and for each the outcome that it would have
//! had alone.

use std::path::PathBuf;
use std::sync::Arc;

use log_core::clock::{Clock, ManualClock};
use log_core::config::LogConfig;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::log::{AppendError, AppendOutcome, Log, LogContext};
use log_core::log_manager::LogDirectory;
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::compression::Compression;
use log_core::record::validator::{ValidatedBatch, trust_own};

use crate::support::{Sent, TOPIC_ID, World, partition, small_config};

const TIME: TimestampMs = TimestampMs::new(1_000_000);

impl World {
    /// Appends as many new batches as there are sizes, by one call. As with [`World::append`], an error leaves it open which of
    /// them survive a crash.
    pub(crate) fn append_run(
        &mut self,
        sizes: &[(usize, usize)],
        producer: Option<ProducerId>,
    ) -> Result<(), String> {
        let mut sequence = producer.map_or(0, |id| *self.next_sequence.get(&id).unwrap_or(&0));
        let mut run = Vec::new();
        for (count, value_bytes) in sizes {
            let producer = producer.map(|id| (id, sequence));
            run.push(self.build(*count, *value_bytes, Compression::None, producer));
            sequence += *count as i32;
        }
        self.deed(format!("append {sizes:?} at {} by {producer:?}", self.end()));
        let (records, batches): (Vec<_>, Vec<_>) = run.into_iter().unzip();
        let outcomes = self.log().append(&batches);
        let mut result = Ok(());
        for ((records, batch), outcome) in records.into_iter().zip(&batches).zip(outcomes) {
            let base = self.end();
            match outcome {
                Ok(AppendOutcome::Appended { base_offset, .. }) => assert_eq!(base_offset.get(), base),
                Ok(outcome) => panic!("a new batch was {outcome:?}"),
                Err(error) => {
                    result = result.and(Err(error.to_string()));
                    if !matches!(error, AppendError::Latched(_)) {
                        continue;
                    }
                }
            }
            for (index, record) in records.iter().enumerate() {
                self.records.insert(base + index as i64, record.clone());
            }
            let count = records.len();
            self.boundaries.push(base + count as i64);
            if let Some(producer) = producer {
                let sequence = batch.header().base_sequence.get();
                self.next_sequence.insert(producer, sequence + count as i32);
                self.sent.push(Sent {
                    producer,
                    sequence,
                    base_offset: base,
                    records,
                });
            }
        }
        result
    }
}

fn log(files: &MemFileSystem, config: LogConfig) -> Log {
    let context = LogContext {
        file_system: Arc::new(files.clone()),
        clock: Arc::new(ManualClock::new(TIME)) as Arc<dyn Clock>,
    };
    let (manager, _) = LogDirectory::open(context, PathBuf::from("/data")).unwrap();
    manager.create(&partition(), TOPIC_ID, config).unwrap()
}

fn batch(sequence: i32) -> ValidatedBatch {
    let options = BatchOptions {
        producer: BatchProducer {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(sequence),
        },
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    builder.append(TIME, None, Some(&[1; 100]), &[]).unwrap();
    trust_own(builder.build()).unwrap()
}

fn batches(sequences: &[i32]) -> Vec<ValidatedBatch> {
    sequences.iter().copied().map(batch).collect()
}

fn base(outcome: &Result<AppendOutcome, AppendError>) -> Option<i64> {
    match outcome {
        Ok(AppendOutcome::Appended { base_offset, .. }) => Some(base_offset.get()),
        _ => None,
    }
}

#[test]
fn batches_that_stand_together_are_one_write() {
    let files = MemFileSystem::new();
    let mut log = log(&files, small_config());
    log.append_one(&batch(0)).unwrap();
    // A second write would fail.
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Write, 2, FaultKind::Io));
    let bases: Vec<_> = log.append(&batches(&[1, 2, 3, 4])).iter().map(base).collect();
    assert_eq!(bases, [Some(1), Some(2), Some(3), Some(4)]);
    assert!(log.append_one(&batch(5)).is_err(), "the fault was there");
}

#[test]
fn each_batch_of_a_run_has_the_outcome_that_it_would_have_alone() {
    let files = MemFileSystem::new();
    let mut log = log(&files, small_config());
    log.append_one(&batch(0)).unwrap();
    let outcomes = log.append(&batches(&[1, 1, 0, 5, 2, 2]));
    let bases: Vec<_> = outcomes.iter().map(base).collect();
    assert_eq!(bases, [Some(1), None, None, None, Some(2), None]);
    for (place, expected) in [(1, 1), (2, 0), (5, 2)] {
        let duplicate = matches!(
            &outcomes[place],
            Ok(AppendOutcome::Duplicate { base_offset, .. }) if base_offset.get() == expected
        );
        assert!(duplicate, "{:?}", outcomes[place]);
    }
    assert!(matches!(outcomes[3], Err(AppendError::Producer(_))));
    assert_eq!(log.offsets().log_end, Offset::new(3));
}

#[test]
fn a_run_goes_on_in_the_next_segment() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        segment_bytes_max: 1000,
        ..small_config()
    };
    let mut log = log(&files, config);
    let sequences: Vec<i32> = (0..20).collect();
    let bases: Vec<_> = log.append(&batches(&sequences)).iter().map(base).collect();
    let expected: Vec<_> = (0..20).map(Some).collect();
    assert_eq!(bases, expected);
    log.flush().unwrap();
    assert_eq!(log.offsets().high_watermark, Offset::new(20));
}

#[test]
fn what_finds_no_space_in_a_run_is_refused_and_leaves_no_trace() {
    let files = MemFileSystem::new();
    let mut log = log(&files, small_config());
    log.append_one(&batch(0)).unwrap();
    files.set_faults(FaultPlan::new().fail_from(FaultTarget::Allocate, 1, FaultKind::NoSpace));
    // More than was prepared.
    let sequences: Vec<i32> = (1..12).collect();
    let many = batches(&sequences);
    let mut log_end = 1;
    for _ in 0..20 {
        for outcome in log.append(&many) {
            match outcome {
                Ok(AppendOutcome::Appended { .. }) => log_end += 1,
                Ok(AppendOutcome::Duplicate { .. })
                | Err(AppendError::Storage(_) | AppendError::Producer(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(log.offsets().log_end, Offset::new(log_end));
    assert!(log.latch_reason().is_none());
    files.set_faults(FaultPlan::new());
    let next = i32::try_from(log_end).unwrap();
    assert_eq!(
        base(&log.append_one(&batch(next))),
        Some(log_end),
        "no sequence was passed over"
    );
}

#[test]
fn a_run_whose_write_fails_is_nobodys_success() {
    let files = MemFileSystem::new();
    let mut log = log(&files, small_config());
    log.append_one(&batch(0)).unwrap();
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Write, 1, FaultKind::Io));
    let outcomes = log.append(&batches(&[1, 2, 1, 0, 9, 3]));
    for (place, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(AppendError::Producer(_)) => assert_eq!(place, 4),
            Err(AppendError::Latched(_)) => assert_ne!(place, 4),
            other => panic!("{place}: {other:?}"),
        }
    }
    assert_eq!(log.offsets().log_end, Offset::new(1));
    assert!(log.latch_reason().is_some());
}
