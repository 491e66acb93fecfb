//! Look-ups by time in a segment whose indexes were thinned, stored, and cut by a recovery: what they find is compared with all records.

use std::path::PathBuf;
use std::sync::Arc;

use log_core::clock::ManualClock;
use log_core::config::LogConfig;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::log::{Log, LogContext, ReadBound};
use log_core::log_manager::{CheckpointEntry, LogDirectory};
use log_core::model::TimestampMs;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use log_core::record::validator::trust_own;
use log_core::segment::indexes::ENTRIES_MAX;

use crate::support::{TOPIC_ID, partition, small_config};

/// Enough for the indexes to be thinned, with an entry for each batch.
const BATCHES: usize = 4 * ENTRIES_MAX;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes_max: 8 << 20,
        index_interval_bytes: 0,
        index_bytes_max: 1 << 20,
        ..small_config()
    }
}

/// One batch of one record for each time.
struct Run {
    files: MemFileSystem,
    directory: LogDirectory,
    log: Log,
    times: Vec<i64>,
}

fn directory_of(files: &MemFileSystem) -> LogDirectory {
    let context = LogContext {
        file_system: Arc::new(files.clone()),
        clock: Arc::new(ManualClock::new(TimestampMs::new(1_000_000))),
    };
    LogDirectory::open(context, PathBuf::from("/data")).unwrap().0
}

impl Run {
    fn new() -> Self {
        let files = MemFileSystem::new();
        let directory = directory_of(&files);
        let log = directory.create(&partition(), TOPIC_ID, config()).unwrap();
        Self {
            files,
            directory,
            log,
            times: Vec::new(),
        }
    }

    fn append(&mut self, times: &[i64]) {
        for time in times {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            builder
                .append(TimestampMs::new(*time), None, Some(b"v"), &[])
                .unwrap();
            self.log.append_one(&trust_own(builder.build()).unwrap()).unwrap();
        }
        self.times.extend(times);
        self.log.flush().unwrap();
    }

    /// From here on a recovery verifies.
    fn store_point(&self) {
        let entry = CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset: self.log.recovery_point(),
        };
        self.directory.write_recovery_points(&[entry]).unwrap();
    }

    /// What is found after a crash, and after as many records more.
    fn crash_and_compare(mut self, cut: usize, name: &str) {
        self.files = self.files.crash(CrashMode::All);
        self.directory = directory_of(&self.files);
        (self.log, _) = self.directory.load(&partition(), TOPIC_ID, config()).unwrap();
        self.compare(cut, name);
        let more: Vec<i64> = self.times.iter().rev().copied().collect();
        self.append(&more);
        self.compare(cut, name);
    }

    /// All times around the batch where the indexes were cut, and some of the others.
    fn compare(&self, cut: usize, name: &str) {
        let reader = self.log.reader();
        let largest = self.times.iter().max().unwrap();
        let near = self.times[cut - 30]..self.times[cut + 30];
        for wanted in (0..=*largest).step_by(97).chain([*largest]).chain(near) {
            let first = self.times.iter().position(|time| wanted <= *time);
            let found = reader
                .offset_for_timestamp(TimestampMs::new(wanted), ReadBound::HighWatermark)
                .unwrap();
            let found = found.map(|found| usize::try_from(found.offset.get()).unwrap());
            assert_eq!(found, first, "{name}: the first one from {wanted} on");
        }
    }
}

/// Later and later, but one in ten is followed by smaller ones.
fn peaks() -> Vec<i64> {
    const TEN: [i64; 10] = [10, 20, 30, 40, 50, 80, 60, 65, 90, 95];
    let time = |batch: usize| (batch / 10 * 100) as i64 + TEN[batch % 10];
    (0..BATCHES).map(time).collect()
}

/// Later and later, but many of the same time.
fn ties() -> Vec<i64> {
    let time = |batch: usize| (batch / 8 * 8 + batch * 7919 % 5) as i64;
    (0..BATCHES).map(time).collect()
}

#[test]
fn look_ups_by_time_are_right_where_a_recovery_cuts_thinned_indexes() {
    for (name, times) in [("peaks", peaks()), ("ties", ties())] {
        for point in [1707, 2345, BATCHES - 100] {
            let mut run = Run::new();
            run.append(&times[..point]);
            run.store_point();
            run.append(&times[point..]);
            run.log.checkpoint_state().unwrap().run().unwrap();
            run.crash_and_compare(point, &format!("{name}, point at {point}"));
        }
    }
}

/// The index by time is thinned around the last entry of the older one by offset.
#[test]
fn look_ups_by_time_are_right_where_only_one_of_the_thinned_indexes_was_stored() {
    let times = peaks();
    for stored in [3007, 3017, 3027, 3037, 3047] {
        let mut run = Run::new();
        run.append(&times[..stored]);
        run.log.checkpoint_state().unwrap().run().unwrap();
        run.append(&times[stored..]);
        run.store_point();
        let failing = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
        run.files.set_faults(failing.only_in("0.index"));
        run.log.checkpoint_state().unwrap().run().unwrap_err();
        run.files.set_faults(FaultPlan::new());
        run.crash_and_compare(stored, &format!("one stored at {stored}"));
    }
}
