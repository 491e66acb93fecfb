//! Verifying a data directory that a real log wrote, sound and with every byte of it damaged in turn.
//!
//! The directory is on a disk in memory: one partition of three segments, written by an idempotent producer, closed in
//! order. A check of damage changes one file, verifies, and looks at what was found.

mod transactions;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::clock::ManualClock;
use log_core::config::LogConfig;
use log_core::fs::FileSystem;
use log_core::fs::mem::MemFileSystem;
use log_core::log::LogContext;
use log_core::log_manager::{CheckpointEntry, LogDirectory};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId, TopicPartition};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::compression::Compression;
use log_core::record::validator::trust_own;

use super::finding::Severity;
use super::partition_check::Depth;
use super::verify::{DataDirectory, LastStop, Report, WhileInUse};

const DATA_DIR: &str = "/data";
const TOPIC_ID: TopicId = TopicId::from_bytes(*b"one life a topic");
const RECORDS_PER_BATCH: i32 = 3;
const BATCHES: i32 = 12;

fn partition() -> TopicPartition {
    TopicPartition::new("events", 0)
}

fn neighbour() -> TopicPartition {
    TopicPartition::new("events", 1)
}

/// How a directory is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Orderly,
    Killed,
}

fn written(ending: Ending) -> MemFileSystem {
    let files = MemFileSystem::new();
    let context = LogContext {
        file_system: Arc::new(files.clone()),
        clock: Arc::new(ManualClock::new(TimestampMs::new(1_000_000))),
    };
    let (manager, _) = LogDirectory::open(context, PathBuf::from(DATA_DIR)).unwrap();
    let config = LogConfig {
        segment_bytes_max: 1000,
        index_interval_bytes: 200,
        index_bytes_max: 4096,
        ..LogConfig::default()
    };
    // A second one, empty, so that the topic's id is known from elsewhere too.
    let mut neighbour = manager.create(&neighbour(), TOPIC_ID, config.clone()).unwrap();
    let mut log = manager.create(&partition(), TOPIC_ID, config).unwrap();
    for batch in 0..BATCHES {
        log.append_one(&trust_own(batch_of(batch)).unwrap()).unwrap();
        log.flush().unwrap();
        log.seal_all().unwrap();
    }
    if ending == Ending::Orderly {
        neighbour.close().unwrap();
        let offset = log.close().unwrap();
        let entry = CheckpointEntry {
            partition: partition(),
            topic_id: TOPIC_ID,
            offset,
        };
        manager.write_recovery_points(&[entry]).unwrap();
        manager.mark_clean().unwrap();
    }
    files
}

fn batch_of(index: i32) -> bytes::Bytes {
    let codecs = [Compression::None, Compression::Zstd];
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: codecs[usize::try_from(index).unwrap() % codecs.len()],
        producer: BatchProducer {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(1),
            base_sequence: Sequence::new(index * RECORDS_PER_BATCH),
        },
        ..BatchOptions::default()
    });
    for record in 0..RECORDS_PER_BATCH {
        let timestamp = TimestampMs::new(i64::from(1_000_000 + index * 10 + record));
        let value = format!("batch {index}, record {record}, and some more to fill it");
        builder
            .append(timestamp, Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build()
}

fn verify(files: &MemFileSystem) -> Report {
    let directory = open(files);
    directory.verify(Depth::Records, |_, _| {}).unwrap()
}

fn open(files: &MemFileSystem) -> DataDirectory {
    DataDirectory::open(Arc::new(files.clone()), Path::new(DATA_DIR), WhileInUse::Refuse).unwrap()
}

fn in_partition(name: &str) -> PathBuf {
    Path::new(DATA_DIR).join(partition().to_string()).join(name)
}

/// The names of the partition's files that end like this.
fn names(files: &MemFileSystem, suffix: &str) -> Vec<String> {
    let directory = Path::new(DATA_DIR).join(partition().to_string());
    let entries = files.list(&directory).unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name.ends_with(suffix))
        .collect()
}

fn read(files: &MemFileSystem, path: &Path) -> Vec<u8> {
    files.read(path, 1 << 20).unwrap()
}

/// Verifies with other contents of a file, and puts the former ones back.
fn with(files: &MemFileSystem, path: &Path, contents: &[u8]) -> Report {
    let before = read(files, path);
    files.replace(path, contents).unwrap();
    let report = verify(files);
    files.replace(path, &before).unwrap();
    report
}

fn told(report: &Report) -> String {
    let lines: Vec<String> = report
        .findings
        .list()
        .iter()
        .map(|finding| {
            format!(
                "{} {} {:?} {:?}: {}",
                finding.severity,
                finding.path.display(),
                finding.position,
                finding.offsets,
                finding.what
            )
        })
        .collect();
    lines.join("\n")
}

#[test]
fn a_sound_directory_is_sound_however_it_was_left() {
    for ending in [Ending::Orderly, Ending::Killed] {
        let files = written(ending);
        let report = verify(&files);
        assert!(report.findings.list().is_empty(), "{}", told(&report));
        let (name, tally) = &report.partitions[0];
        assert_eq!(*name, partition());
        assert_eq!((tally.batches, tally.records), (12, 36));
        assert_eq!(
            (tally.start, tally.end),
            (Some(Offset::ZERO), Some(Offset::new(36)))
        );
        assert!(3 <= tally.segments && 0 < tally.index_entries, "{tally:?}");
        let expected = match ending {
            Ending::Orderly => LastStop::Clean,
            Ending::Killed => LastStop::Unclean,
        };
        assert_eq!(open(&files).last_stop(), expected);
    }
}

#[test]
fn every_damaged_byte_of_a_closed_directory_is_found() {
    let files = written(Ending::Orderly);
    let mut checked = 0;
    for name in names(&files, "") {
        let path = in_partition(&name);
        let sound = read(&files, &path);
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x40;
            let report = with(&files, &path, &damaged);
            assert!(!report.findings.is_sound(), "{name}, byte {at} is not missed");
            checked += 1;
        }
    }
    assert!(1000 < checked, "{checked}");
}

#[test]
fn every_shortened_log_is_found() {
    let files = written(Ending::Orderly);
    for name in names(&files, ".log") {
        let path = in_partition(&name);
        let sound = read(&files, &path);
        for length in 0..sound.len() {
            let report = with(&files, &path, &sound[..length]);
            assert!(
                0 < report.findings.count(Severity::Damage),
                "{name} cut to {length}"
            );
        }
    }
}

#[test]
fn damage_is_told_with_its_place_and_offsets() {
    let files = written(Ending::Orderly);
    let logs = names(&files, ".log");
    let path = in_partition(&logs[0]);
    let mut damaged = read(&files, &path);
    let second = log_core::record::batch_header::framed_size(&damaged).unwrap();
    damaged[second + 80] ^= 1;
    let report = with(&files, &path, &damaged);
    let [finding] = report.findings.list() else {
        panic!("{}", told(&report))
    };
    assert_eq!(finding.severity, Severity::Damage);
    assert_eq!(finding.partition, Some(partition()));
    assert_eq!(finding.path, path);
    assert_eq!(finding.position.unwrap().get(), u64::try_from(second).unwrap());
    assert_eq!(finding.offsets, Some((Offset::new(3), Offset::new(5))));
    assert!(finding.what.contains("checksum"), "{}", finding.what);
    assert_eq!(
        report.partitions[0].1.batches, 11,
        "the others are checked all the same"
    );
}

#[test]
fn a_torn_end_is_damage_after_an_orderly_stop_and_a_note_after_a_kill() {
    for (ending, damage) in [(Ending::Orderly, 1), (Ending::Killed, 0)] {
        let files = written(ending);
        let path = in_partition(names(&files, ".log").last().unwrap());
        let mut torn = read(&files, &path);
        while torn.last() == Some(&0) {
            torn.pop();
        }
        let batch = batch_of(BATCHES);
        torn.extend_from_slice(&batch[..batch.len() - 1]);
        let report = with(&files, &path, &torn);
        assert_eq!(
            report.findings.count(Severity::Damage),
            damage,
            "{}",
            told(&report)
        );
        assert_eq!(
            report.findings.count(Severity::Note),
            1 - damage,
            "{}",
            told(&report)
        );
    }
}

#[test]
fn what_is_missing_is_found() {
    let check = |suffix: &str, which: usize, severity: Severity| {
        let files = written(Ending::Orderly);
        let name = &names(&files, suffix)[which];
        files.remove_file(&in_partition(name)).unwrap();
        let report = verify(&files);
        assert!(0 < report.findings.count(severity), "{name}: {}", told(&report));
    };
    check(".log", 1, Severity::Damage);
    check(".index", 0, Severity::Repairable);
    check(".timeindex", 1, Severity::Repairable);
    check("partition.metadata", 0, Severity::Repairable);
    let last = names(&written(Ending::Orderly), ".log").len() - 1;
    check(".log", last, Severity::Damage);
}

#[test]
fn a_directory_in_use_is_refused_or_read_on_demand() {
    let files = written(Ending::Orderly);
    let _held = files.lock_directory(Path::new(DATA_DIR)).unwrap();
    let opened =
        |while_in_use| DataDirectory::open(Arc::new(files.clone()), Path::new(DATA_DIR), while_in_use);
    assert!(
        opened(WhileInUse::Refuse)
            .unwrap_err()
            .to_string()
            .contains("running")
    );
    assert_eq!(opened(WhileInUse::Read).unwrap().last_stop(), LastStop::Running);
}

#[test]
fn one_partition_can_be_verified_alone_and_nonsense_is_named() {
    let files = written(Ending::Orderly);
    let opened =
        |path: &str| DataDirectory::open(Arc::new(files.clone()), Path::new(path), WhileInUse::Refuse);
    let directory = opened("/data/events-0").unwrap();
    assert_eq!(
        (directory.path(), directory.partitions()),
        (Path::new(DATA_DIR), &[partition()][..])
    );
    assert!(
        opened("/nowhere")
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
    files.create_directory(Path::new("/empty")).unwrap();
    assert!(
        opened("/empty")
            .unwrap_err()
            .to_string()
            .contains("nothing of a broker's")
    );
}
