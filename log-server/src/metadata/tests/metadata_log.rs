//! Opening, snapshots, damage.
//! What a start finds, and what it does about it, is the table in `metadata_log.rs`.

use log_core::fs::FileSystem;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::model::Offset;

use super::*;
use crate::metadata::records::MetadataRecord;

fn ids(next_producer_id: i64) -> MetadataRecord {
    MetadataRecord::ProducerIdBlock { next_producer_id }
}

/// Appends `count` records, each by itself, with snapshots when they are due.
fn grow(log: &mut MetadataLog, image: &mut MetadataImage, count: i64) {
    for _ in 0..count {
        let record = ids(image.next_producer_id().get() + 1);
        log.append(std::slice::from_ref(&record)).unwrap();
        image.replay(&record).unwrap();
        log.snapshot_if_due(image).unwrap();
    }
}

fn names(file_system: &MemFileSystem, directory: &str, suffix: &str) -> Vec<String> {
    let entries = file_system.list(Path::new(directory)).unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with(suffix)).collect()
}

#[test]
fn a_new_directory_gets_a_cluster_id_and_keeps_it() {
    let file_system = MemFileSystem::new();
    let (log, image) = open_log(&file_system).unwrap();
    assert_eq!(image.cluster_id().len(), 22);
    drop(log);
    let (_log, again) = open_log(&file_system).unwrap();
    assert_eq!(again, image);
}

#[test]
fn the_state_survives_with_few_snapshots_and_few_segments() {
    let file_system = MemFileSystem::new();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    grow(&mut log, &mut image, 40);
    let log_directory = format!("{DATA_DIR}/{}", partition());
    assert_eq!(names(&file_system, DATA_DIR, ".snapshot").len(), 2);
    assert!(names(&file_system, &log_directory, ".log").len() <= 3);
    log.close(&image).unwrap();
    let (log, again) = open_log(&file_system).unwrap();
    assert_eq!(again, image);
    drop(log);
    let crashed = file_system.crash(CrashMode::SyncedOnly);
    assert_eq!(open_log(&crashed).unwrap().1, image);
}

#[test]
fn a_damaged_snapshot_costs_nothing_but_a_longer_replay() {
    let file_system = MemFileSystem::new();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    grow(&mut log, &mut image, 40);
    drop(log);
    let snapshots = names(&file_system, DATA_DIR, ".snapshot");
    let damage = |name: &str| {
        let path = Path::new(DATA_DIR).join(name);
        let mut bytes = file_system.read(&path, 1 << 20).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        file_system.replace(&path, &bytes).unwrap();
    };
    damage(&snapshots[1]);
    let (mut log, mut again) = open_log(&file_system).unwrap();
    assert_eq!(again, image);
    // The next snapshots take the damaged one's place.
    grow(&mut log, &mut again, 10);
    drop(log);
    assert_eq!(open_log(&file_system).unwrap().1, again);
    for name in names(&file_system, DATA_DIR, ".snapshot") {
        damage(&name);
    }
    let error = open_log(&file_system).unwrap_err();
    assert!(matches!(error, MetadataLogError::NoSnapshot { .. }), "{error}");
    assert!(error.to_string().contains("stratalog-metadata-"), "{error}");
}

#[test]
fn while_the_log_has_its_beginning_it_needs_no_snapshot() {
    let file_system = MemFileSystem::new();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    grow(&mut log, &mut image, 4);
    drop(log);
    let snapshots = names(&file_system, DATA_DIR, ".snapshot");
    assert_eq!(snapshots.len(), 1);
    file_system
        .remove_file(&Path::new(DATA_DIR).join(&snapshots[0]))
        .unwrap();
    assert_eq!(open_log(&file_system).unwrap().1, image);
}

#[test]
fn a_log_shorter_than_its_snapshot_is_refused() {
    let file_system = MemFileSystem::new();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    grow(&mut log, &mut image, 4);
    drop(log);
    let path = Path::new(DATA_DIR).join(&names(&file_system, DATA_DIR, ".snapshot")[0]);
    let sound = file_system.read(&path, 1 << 20).unwrap();
    let (manager, _) = open_manager(&file_system).unwrap();
    let snapshots = crate::metadata::snapshot::Snapshots::new(Arc::new(file_system.clone()), DATA_DIR.into());
    snapshots.write(&image, Offset::new(99)).unwrap();
    drop((manager, sound));
    let error = open_log(&file_system).unwrap_err();
    assert!(matches!(error, MetadataLogError::Shortened { .. }), "{error}");
}

/// The next start, with the reason gone, has nothing to recover; the mark goes with the first record.
#[test]
fn a_start_that_the_log_refuses_leaves_the_mark_of_an_orderly_stop() {
    let file_system = MemFileSystem::new();
    let (manager, found) = open_manager(&file_system).unwrap();
    let (mut log, mut image) = MetadataLog::open(Arc::clone(manager.first()), &found, TUNING).unwrap();
    grow(&mut log, &mut image, 4);
    log.close(&image).unwrap();
    manager.mark_clean().unwrap();
    drop((manager, found));
    let mark = Path::new(DATA_DIR).join(".kafka_cleanshutdown");
    let snapshots = crate::metadata::snapshot::Snapshots::new(Arc::new(file_system.clone()), DATA_DIR.into());
    let false_one = Offset::new(99);
    snapshots.write(&image, false_one).unwrap();
    open_log(&file_system).unwrap_err();
    assert!(file_system.exists(&mark).unwrap());

    snapshots.remove(false_one).unwrap();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    assert!(file_system.exists(&mark).unwrap());
    grow(&mut log, &mut image, 1);
    let after_power_cut = file_system.crash(CrashMode::SyncedOnly);
    assert!(!after_power_cut.exists(&mark).unwrap());
    assert_eq!(open_log(&after_power_cut).unwrap().1, image);
}

#[test]
fn partitions_without_a_metadata_log_are_refused() {
    let file_system = MemFileSystem::new();
    let (manager, _) = open_manager(&file_system).unwrap();
    let name = TopicPartition::new("t", 0);
    manager
        .create(&name, TopicId::from_bytes([1; 16]), LogConfig::default())
        .unwrap();
    drop(manager);
    let error = open_log(&file_system).unwrap_err();
    assert!(matches!(error, MetadataLogError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("t-0"), "{error}");
    assert!(
        names(&file_system, DATA_DIR, "metadata-0").is_empty(),
        "nothing was made"
    );
}

#[test]
fn damage_in_the_log_is_named() {
    let file_system = MemFileSystem::new();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    grow(&mut log, &mut image, 40);
    log.close(&image).unwrap();
    for name in names(&file_system, DATA_DIR, ".snapshot").iter().skip(1) {
        file_system.remove_file(&Path::new(DATA_DIR).join(name)).unwrap();
    }
    let directory = format!("{DATA_DIR}/{}", partition());
    let segments = names(&file_system, &directory, ".log");
    let path = Path::new(&directory).join(&segments[0]);
    let mut bytes = file_system.read(&path, 1 << 20).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    file_system.replace(&path, &bytes).unwrap();
    let error = open_log(&file_system).unwrap_err().to_string();
    assert!(error.contains("damaged at"), "{error}");
}

/// A batch whose checksums are right, and whose record means nothing to this version.
#[test]
fn a_record_of_a_later_version_is_refused_by_its_offset() {
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
    use log_core::record::validator::trust_own;

    let file_system = MemFileSystem::new();
    drop(open_log(&file_system).unwrap());
    let (manager, _) = open_manager(&file_system).unwrap();
    let id = TopicId::from_bytes(1_u128.to_be_bytes());
    let (mut log, _) = manager.load(&partition(), id, LogConfig::default()).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut value = ids(1).encode().unwrap();
    value[4] = 9;
    builder
        .append(TimestampMs::new(0), None, Some(&value), &[])
        .unwrap();
    log.append_one(&trust_own(builder.build()).unwrap()).unwrap();
    log.flush().unwrap();
    drop((log, manager));
    let error = open_log(&file_system).unwrap_err();
    assert!(
        matches!(&error, MetadataLogError::Value { offset, .. } if *offset == Offset::new(1)),
        "{error}"
    );
}

#[test]
fn after_a_failure_the_next_append_finds_the_log_as_it_was_promised() {
    for (target, kind) in [
        (FaultTarget::Sync, FaultKind::Io),
        (FaultTarget::Write, FaultKind::Io),
        (FaultTarget::Write, FaultKind::NoSpace),
        (FaultTarget::Allocate, FaultKind::NoSpace),
    ] {
        let file_system = MemFileSystem::new();
        let (mut log, mut image) = open_log(&file_system).unwrap();
        grow(&mut log, &mut image, 1);
        file_system.set_faults(FaultPlan::new().fail_once(target, 1, kind).only_in(".log"));
        let failed = log.append(&[ids(1_000_000)]);
        file_system.set_faults(FaultPlan::new());
        if failed.is_ok() {
            // The operation was not needed: space had been prepared.
            image.replay(&ids(1_000_000)).unwrap();
        }
        grow(&mut log, &mut image, 5);
        drop(log);
        let crashed = file_system.crash(CrashMode::SyncedOnly);
        assert_eq!(open_log(&crashed).unwrap().1, image, "{target:?} {kind:?}");
    }
}

#[test]
fn records_too_many_for_one_batch_are_kept_too() {
    let file_system = MemFileSystem::new();
    let (mut log, mut image) = open_log(&file_system).unwrap();
    let configs = || {
        let value = "0".repeat(32_000);
        crate::config::effective::Overrides::from([(
            "leader.replication.throttled.replicas".to_owned(),
            value,
        )])
    };
    let records: Vec<MetadataRecord> = (1..=100_u8)
        .map(|id| MetadataRecord::TopicCreated {
            name: format!("t{id}"),
            topic_id: [id; 16],
            partition_count: 1,
            configs: configs(),
        })
        .collect();
    log.append(&records).unwrap();
    for record in &records {
        image.replay(record).unwrap();
    }
    drop(log);
    assert_eq!(open_log(&file_system).unwrap().1, image);
}
