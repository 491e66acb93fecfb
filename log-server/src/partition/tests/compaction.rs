//! The cleaner on partitions: who is cleaned, who is not, and what the disk may do meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use log_core::config::CleanupPolicy;
use log_core::fs::FileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};

use super::*;
use crate::partition::cleaner::{CleanerSettings, CleanerThreads, LogCleaner, SettingsSource};
use crate::partition::partition::Condition;

const LOG: &str = "00000000000000000000.log";

pub(super) fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes_max: 300,
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    }
}

pub(super) const SETTINGS: CleanerSettings = CleanerSettings {
    threads: 1,
    dedupe_buffer_bytes: 1 << 20,
    load_per_mille: 900,
    io_buffer_bytes: 1 << 16,
    io_bytes_per_second: None,
    backoff: Duration::ZERO,
};

pub(super) fn cleaner(storage: &Storage) -> Arc<LogCleaner> {
    cleaner_with(storage, Box::new(|| SETTINGS))
}

pub(super) fn cleaner_with(storage: &Storage, settings: SettingsSource) -> Arc<LogCleaner> {
    LogCleaner::new(
        Arc::clone(&storage.registry),
        Arc::clone(&storage.manager),
        settings,
        &["tidy"],
    )
}

/// Records of one key, far more than a segment takes, all on the disk.
pub(super) fn fill(storage: &Storage, partition: &Partition) {
    for number in 0..30 {
        append(
            partition,
            &[&format!("{}-{number}", partition.name())],
            Acks::Leader,
        );
        storage.work();
    }
}

pub(super) fn filled(config: LogConfig) -> (Storage, Arc<Partition>) {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    fill(&storage, &partition);
    (storage, partition)
}

/// The number in each value that is left.
pub(super) fn left(partition: &Partition) -> Vec<usize> {
    let number = |value: &String| value.rsplit_once('-').unwrap().1.parse().unwrap();
    consume(partition, 0).iter().map(number).collect()
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_each_key() {
    let (storage, partition) = filled(compacted());
    let cleaner = cleaner(&storage);
    let before = partition.size_in_bytes();
    cleaner.clean_all();
    let kept = left(&partition);
    // The active segment is never cleaned.
    assert!(kept.len() < 6 && kept.ends_with(&[28, 29]), "{kept:?}");
    assert_eq!(partition.offsets().log_start, Offset::ZERO);
    assert!(partition.size_in_bytes() < before / 2);
    let report = cleaner.report();
    assert_eq!((report.cleanings, report.uncleanable.len()), (1, 0));
    cleaner.clean_all();
    assert_eq!(cleaner.report(), report, "there is nothing more to do");

    let image = storage.files.crash(CrashMode::SyncedOnly);
    let (_storage, partition) = Storage::with_partition(&image, compacted());
    assert_eq!(left(&partition), kept);
}

#[test]
fn other_topics_are_left_alone() {
    let storage = Storage::open(&MemFileSystem::new());
    let not_compacted = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: true,
            compact: false,
        },
        ..compacted()
    };
    let topics = [
        topic("plain", 1, 1, not_compacted.clone()),
        topic("tidy", 2, 1, compacted()),
    ];
    for one in &topics {
        storage.registry.create(one).unwrap();
        fill(&storage, &storage.registry.get(&one.name, 0).unwrap());
    }
    let cleaner = cleaner(&storage);
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 0);
    // The setting counts from the moment at which it changes, both ways.
    let plain = storage.registry.get("plain", 0).unwrap();
    storage.registry.reconfigure(topics[0].id, &compacted());
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 1);
    assert!(left(&plain).len() < 6);
    storage.registry.reconfigure(topics[0].id, &not_compacted);
    fill(&storage, &plain);
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 1);
}

#[test]
fn an_uncleanable_partition_is_reported_and_the_others_are_cleaned() {
    let files = MemFileSystem::new();
    let storage = Storage::open(&files);
    let topics = [topic("bad", 1, 1, compacted()), topic("good", 2, 1, compacted())];
    for one in &topics {
        storage.registry.create(one).unwrap();
        fill(&storage, &storage.registry.get(&one.name, 0).unwrap());
    }
    assert!(storage.registry.close_all());
    storage.manager.mark_clean().unwrap();
    drop(storage);
    let path = PathBuf::from("/data/bad-0").join(LOG);
    let mut bytes = files.read(&path, 1 << 20).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    files.replace(&path, &bytes).unwrap();

    let storage = Storage::open(&files);
    storage.registry.load(&topics, &storage.found, &[]);
    let cleaner = cleaner(&storage);
    cleaner.clean_all();
    let report = cleaner.report();
    let reasons: Vec<_> = report.uncleanable.iter().collect();
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0].0.to_string(), "bad-0");
    assert!(
        reasons[0].1.contains(LOG) && reasons[0].1.contains("checksum"),
        "{reasons:?}"
    );
    assert_eq!(report.cleanings, 1);
    let sizes = ["bad", "good"].map(|topic| storage.registry.get(topic, 0).unwrap().size_in_bytes());
    assert!(sizes[1] < sizes[0] / 2, "{sizes:?}");
    storage.registry.delete(topics[0].id).unwrap();
    cleaner.clean_all();
    assert!(cleaner.report().uncleanable.is_empty());
}

#[test]
fn a_swap_that_fails_latches_the_log_which_comes_back() {
    // Of each segment, the log is renamed twice: to its waiting name, and to its own.
    for nth in 1..=5 {
        let (storage, partition) = filled(compacted());
        let cleaner = cleaner(&storage);
        let fault = FaultPlan::new().fail_once(FaultTarget::Rename, nth, FaultKind::Io);
        storage.files.set_faults(fault.only_in(".log."));
        let seen = left(&partition);
        cleaner.clean_all();
        assert!(matches!(&*partition.condition(), Condition::Latched { .. }));
        let still_seen = left(&partition);
        assert!(
            seen.ends_with(&still_seen),
            "readers go on with what they have: {still_seen:?}"
        );
        assert!(10 < still_seen.len(), "{still_seen:?}");
        storage.files.set_faults(FaultPlan::new());
        assert!(partition.mend(&storage.manager).unwrap().is_ok());
        cleaner.clean_all();
        let kept = left(&partition);
        assert!(kept.len() < 6 && kept.ends_with(&[29]), "{kept:?}");
        append(&partition, &["events-0-30"], Acks::All);
        storage.work();
        assert_eq!(left(&partition).last(), Some(&30));
    }
}

/// The use that a swap is was never ended, and a deletion waited for it with the registry in its hand.
#[test]
fn a_swap_that_panics_sets_the_log_aside_and_holds_nobody_up() {
    let (storage, partition) = filled(compacted());
    let cleaner = cleaner(&storage);
    let fault = FaultPlan::new().fail_once(FaultTarget::Rename, 1, FaultKind::Panic);
    storage.files.set_faults(fault.only_in(".log."));
    let mut waiting = append(&partition, &["events-0-30"], Acks::All);
    cleaner.clean_all();
    assert!(matches!(
        answer(&mut waiting.ack),
        Some(Err(PartitionError::Offline { .. }))
    ));
    let registry = Arc::clone(&storage.registry);
    let deleted = in_time("the deletion goes on", move || {
        registry.delete(TopicId::from_bytes([1; 16]))
    });
    deleted.unwrap();
    // There is nothing left that could be cleaned.
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 0);
}

#[test]
fn a_full_disk_puts_a_cleaning_off() {
    let (storage, partition) = filled(compacted());
    let cleaner = cleaner(&storage);
    let fault = FaultPlan::new().fail_from(FaultTarget::Write, 1, FaultKind::NoSpace);
    storage.files.set_faults(fault.only_in(".cleaned"));
    cleaner.clean_all();
    assert_eq!(left(&partition).len(), 30);
    assert!(matches!(&*partition.condition(), Condition::Online(_)));
    assert_eq!(cleaner.report().cleanings, 0);
    storage.files.set_faults(FaultPlan::new());
    cleaner.clean_all();
    assert!(left(&partition).len() < 6);
}

/// One descriptor too few at the wrong moment, and a log refused everything, or was not compacted any more until a restart.
#[test]
fn a_shortage_of_files_puts_a_cleaning_off_and_nothing_else() {
    let config = LogConfig {
        max_compaction_lag_ms: 1 << 40,
        ..compacted()
    };
    let image = {
        let (storage, _partition) = filled(config.clone());
        assert!(storage.registry.close_all());
        storage.manager.mark_clean().unwrap();
        storage.files
    };
    for nth in 1.. {
        let (storage, partition) =
            Storage::with_partition(&image.crash(CrashMode::SyncedOnly), config.clone());
        let cleaner = cleaner(&storage);
        let fault = FaultPlan::new().fail_once(FaultTarget::Open, nth, FaultKind::OutOfResources);
        storage.files.set_faults(fault);
        cleaner.clean_all();
        storage.files.set_faults(FaultPlan::new());
        let report = cleaner.report();
        assert!(report.uncleanable.is_empty(), "the {nth}.: {report:?}");
        assert!(
            matches!(&*partition.condition(), Condition::Online(_)),
            "the {nth}."
        );
        if report.cleanings == 1 {
            assert!(10 < nth, "{nth}");
            break;
        }
        cleaner.clean_all();
        assert_eq!(cleaner.report().cleanings, 1);
        assert!(left(&partition).len() < 6);
    }
}

/// Without a limit to how long records may wait, nobody asks when they came.
#[test]
fn a_look_at_dirt_opens_no_file() {
    let files = {
        let (storage, _partition) = filled(compacted());
        assert!(storage.registry.close_all());
        storage.manager.mark_clean().unwrap();
        storage.files
    };
    let (storage, partition) = Storage::with_partition(&files, compacted());
    let fault = FaultPlan::new().fail_from(FaultTarget::Open, 1, FaultKind::OutOfResources);
    storage.files.set_faults(fault);
    let dirt = partition.dirt(None).unwrap().unwrap();
    assert!(dirt.is_due(&compacted()), "{dirt:?}");
}

/// Files are known by their names: a thread that hung in a topic's former life removed what another wrote for the next.
#[test]
fn a_cleaning_that_outlives_its_topic_keeps_the_next_life_waiting() {
    let (storage, former) = filled(compacted());
    let cleaner = cleaner(&storage);
    let taken = cleaner.take_dirtiest(&mut BTreeSet::new()).unwrap();
    storage.registry.delete(former.topic_id()).unwrap();
    storage.registry.remove_deleted();
    storage
        .registry
        .create(&topic("events", 2, 1, compacted()))
        .unwrap();
    let next = storage.registry.get("events", 0).unwrap();
    fill(&storage, &next);
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 0);
    drop(taken);
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 1);
    assert!(left(&next).len() < 6);
}

/// At a byte a second, the cleaning for which the limit was raised would have gone on waiting for days.
#[test]
fn a_changed_limit_counts_for_the_cleaning_under_way() {
    let config = LogConfig {
        segment_bytes_max: 50_000,
        ..compacted()
    };
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    let large = "v".repeat(40_000);
    for number in 0..20 {
        append(&partition, &[&format!("{large}-{number}")], Acks::Leader);
        storage.work();
    }
    let asked = AtomicUsize::new(0);
    let settings = move || CleanerSettings {
        io_bytes_per_second: (asked.fetch_add(1, Ordering::Relaxed) < 4).then_some(1),
        ..SETTINGS
    };
    let cleaner = cleaner_with(&storage, Box::new(settings));
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 1);
}

#[test]
fn the_threads_end_when_they_are_asked() {
    let (storage, _partition) = filled(compacted());
    let cleaner = cleaner(&storage);
    CleanerThreads::start(&cleaner).unwrap().stop();
    let after = cleaner.report();
    cleaner.clean_all();
    assert_eq!(cleaner.report(), after, "a stopped cleaner cleans nothing");
}
