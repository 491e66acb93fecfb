//! What retention lets go by time and size, the odd cases of times included, and when a segment is rolled for its age.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use log_core::clock::{Clock, ManualClock};
use log_core::config::LogConfig;
use log_core::fs::mem::MemFileSystem;
use log_core::log::{Log, LogContext};
use log_core::log_manager::LogManager;
use log_core::model::{Offset, TimestampMs, TopicPartition};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use log_core::record::validator::{ValidatedBatch, trust_own};

use crate::support::{TOPIC_ID, partition, small_config};

const NOW: i64 = 1_000_000;

fn manager() -> LogManager {
    let context = LogContext {
        file_system: Arc::new(MemFileSystem::new()),
        clock: Arc::new(ManualClock::new(TimestampMs::new(NOW))) as Arc<dyn Clock>,
    };
    LogManager::open(context, PathBuf::from("/data")).unwrap().0
}

fn batch(timestamp: i64) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder
        .append(TimestampMs::new(timestamp), None, Some(b"value"), &[])
        .unwrap();
    trust_own(builder.build()).unwrap()
}

/// A log of segments with one record each, at these times; the last one is the active segment.
fn log_of(config: LogConfig, timestamps: &[i64]) -> (LogManager, Log) {
    let manager = manager();
    let mut log = manager.create(&partition(), TOPIC_ID, config).unwrap();
    for (index, timestamp) in timestamps.iter().enumerate() {
        if 0 < index {
            log.roll().unwrap();
        }
        log.append_one(&batch(*timestamp)).unwrap();
    }
    log.flush().unwrap();
    (manager, log)
}

fn for_a_second() -> LogConfig {
    LogConfig {
        retention_ms: Some(1000),
        ..small_config()
    }
}

/// Where the log starts after retention at this time.
fn retained(log: &mut Log, now: i64) -> i64 {
    log.apply_retention(TimestampMs::new(now)).unwrap();
    log.offsets().log_start.get()
}

fn held_back(log: &Log, now: i64) -> usize {
    log.held_back_count(TimestampMs::new(now)).unwrap()
}

#[test]
fn segments_go_when_their_newest_record_is_too_old() {
    let (_manager, mut log) = log_of(for_a_second(), &[NOW, NOW + 500, NOW + 500, NOW + 900]);
    for (now, expected) in [(NOW + 1000, 0), (NOW + 1001, 1), (NOW + 1500, 1), (NOW + 1501, 3)] {
        assert_eq!(retained(&mut log, now), expected, "{now}");
        assert_eq!(held_back(&log, now), 0);
    }
    // Nobody writes any more: the last records go, too, and offsets go on behind them.
    assert_eq!(retained(&mut log, NOW + 1901), 4);
    assert_eq!(log.offsets().log_end, Offset::new(4));
}

#[test]
fn a_time_ahead_of_the_clock_keeps_its_segment_and_those_behind_it() {
    let ahead = NOW + 10_000;
    let (_manager, mut log) = log_of(for_a_second(), &[NOW, ahead, NOW, NOW + 5000, NOW]);
    // What is before it goes.
    assert_eq!(retained(&mut log, NOW + 1001), 1);
    // Held back are those with such a time, and those behind them that are old enough by themselves; not the active segment.
    for (now, expected) in [(NOW + 500, 2), (NOW + 1001, 3), (NOW + 5500, 2), (NOW + 6001, 3)] {
        assert_eq!(retained(&mut log, now), 1, "{now}");
        assert_eq!(held_back(&log, now), expected, "{now}");
    }
    // Its time has come: it is a segment like any other.
    assert_eq!(held_back(&log, ahead), 0);
    assert_eq!(retained(&mut log, ahead + 1000), 1);
    assert_eq!(retained(&mut log, ahead + 1001), 5);
}

#[test]
fn nothing_is_held_back_where_time_does_not_count() {
    let times = [NOW + 10_000, NOW, NOW];
    for config in [
        small_config(),
        LogConfig {
            cleanup_policy: log_core::config::CleanupPolicy {
                delete: false,
                compact: true,
            },
            ..for_a_second()
        },
    ] {
        let (_manager, log) = log_of(config, &times);
        assert_eq!(held_back(&log, NOW + 5000), 0);
    }
    // What somebody deleted waits for nobody.
    let (_manager, mut log) = log_of(for_a_second(), &times);
    assert_eq!(held_back(&log, NOW + 5000), 2);
    log.advance_log_start(Offset::new(2)).unwrap();
    assert_eq!(held_back(&log, NOW + 5000), 0);
}

/// A time ahead is no reason to keep more than is wanted.
#[test]
fn a_limit_in_bytes_holds_whatever_the_times_are() {
    let size = u64::try_from(batch(NOW).size()).unwrap();
    let config = LogConfig {
        retention_bytes: Some(2 * size),
        ..for_a_second()
    };
    let (_manager, mut log) = log_of(config, &[NOW + 10_000; 5]);
    assert_eq!(retained(&mut log, NOW), 3);
}

/// Records without a time are as old as the log has known them.
#[test]
fn records_without_a_time_go_when_they_were_there_for_long_enough() {
    let none = TimestampMs::NONE.get();
    let (_manager, mut log) = log_of(for_a_second(), &[none, none, none]);
    assert_eq!(retained(&mut log, NOW + 1000), 0);
    assert_eq!(retained(&mut log, NOW + 1001), 3);
}

/// The age of its first record at which a partition's segment is rolled.
fn roll_age(log: &mut Log) -> i64 {
    let (mut stays, mut rolls) = (0, 20_000);
    while stays + 1 < rolls {
        let age = i64::midpoint(stays, rolls);
        if log.append_will_roll(&[batch(NOW + age)]) {
            rolls = age;
        } else {
            stays = age;
        }
    }
    rolls
}

/// Partitions that began together do not roll together, and each keeps its own share over restarts.
#[test]
fn jitter_spreads_rolls_over_time() {
    let config = LogConfig {
        segment_ms: 10_000,
        segment_jitter_ms: 4000,
        ..small_config()
    };
    let manager = manager();
    let mut ages = BTreeSet::new();
    for index in 0..20 {
        let name = TopicPartition::new("events", index);
        let mut log = manager.create(&name, TOPIC_ID, config.clone()).unwrap();
        log.append_one(&batch(NOW)).unwrap();
        let age = roll_age(&mut log);
        assert!((6001..=10_001).contains(&age), "{age}");
        ages.insert(age);
        log.set_config(LogConfig {
            segment_jitter_ms: 0,
            ..config.clone()
        });
        assert_eq!(roll_age(&mut log), 10_001);
        log.close().unwrap();
        drop(log);
        let (mut log, _) = manager.load(&name, TOPIC_ID, config.clone()).unwrap();
        assert_eq!(roll_age(&mut log), age);
    }
    assert!(10 < ages.len(), "{ages:?}");
}
