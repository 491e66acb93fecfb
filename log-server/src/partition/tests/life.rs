//! Starting, creating, deleting, closing; what housekeeping does.
//! A restart is a crash or an orderly stop of the file system in memory, and a second opening.

use std::sync::mpsc;
use std::time::Duration;

use log_core::fs::FileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::model::TopicPartition;

use super::*;
use crate::partition::flusher::FlushTarget;
use crate::partition::housekeeping::{Housekeeper, Intervals};
use crate::partition::offset_query::OffsetQuery;
use crate::partition::partition::{Condition, Remedy};
use crate::partition::removal::Removal;
use crate::partition::upkeep::UseGuard;

fn path(name: &str) -> PathBuf {
    PathBuf::from("/data").join(name)
}

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes_max: 300,
        ..LogConfig::default()
    }
}

fn every_second() -> Intervals {
    let second = Duration::from_secs(1);
    Intervals {
        retention: second,
        recovery_points: second,
        recovery_bytes: 1 << 20,
        producers: second,
        idle: second,
        mend: second,
        mend_max: second,
    }
}

fn housekeeper(storage: &Storage) -> Housekeeper {
    Housekeeper::new(Arc::clone(&storage.registry), &every_second())
}

fn removal(storage: &Storage) -> Removal {
    Removal::new(Arc::clone(&storage.registry), &every_second())
}

/// Runs a future that waits for blocking threads only.
fn wait<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn partitions_are_found_by_name_and_by_id() {
    let storage = Storage::open(&MemFileSystem::new());
    let (one, two) = (
        topic("one", 1, 2, LogConfig::default()),
        topic("two", 2, 1, LogConfig::default()),
    );
    storage.registry.create(&one).unwrap();
    storage.registry.create(&two).unwrap();
    assert_eq!(storage.registry.count(), 3);
    assert_eq!(
        storage.registry.get("one", 1).unwrap().name().to_string(),
        "one-1"
    );
    assert_eq!(
        storage.registry.get_by_id(two.id, 0).unwrap().name().to_string(),
        "two-0"
    );
    for (name, index) in [("one", 2), ("one", -1), ("three", 0)] {
        assert!(storage.registry.get(name, index).is_none(), "{name}-{index}");
    }
    let names: Vec<_> = storage
        .registry
        .all()
        .iter()
        .map(|partition| partition.name().to_string())
        .collect();
    assert_eq!(names, ["one-0", "one-1", "two-0"]);

    let held = storage.registry.get("one", 0).unwrap();
    let more = TopicSpec {
        partition_count: 4,
        ..one
    };
    storage.registry.create(&more).unwrap();
    assert!(Arc::ptr_eq(&held, &storage.registry.get("one", 0).unwrap()));
    assert!(storage.registry.get("one", 3).is_some());
}

#[test]
fn a_creation_that_failed_goes_on_from_where_it_was() {
    let files = MemFileSystem::new();
    let storage = Storage::open(&files);
    let topic = topic("events", 1, 3, LogConfig::default());
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Create, 2, FaultKind::NoSpace));
    storage.registry.create(&topic).unwrap_err();
    assert!(
        storage.registry.get("events", 0).is_none(),
        "all partitions at once or none"
    );
    storage.registry.create(&topic).unwrap();
    append(&storage.registry.get("events", 2).unwrap(), &["a"], Acks::All);
}

#[test]
fn a_deleted_topic_is_gone_for_everybody_and_may_come_again() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["a"; 10], Acks::All);
    storage.work();
    wait(partition.delete_records(Some(Offset::new(5)))).unwrap();
    storage.registry.checkpoint().unwrap();
    let mut waiting = append(&partition, &["b"], Acks::All);

    storage.registry.delete(partition.topic_id()).unwrap();
    assert_eq!(answer(&mut waiting.ack), Some(Err(PartitionError::Deleted)));
    assert!(storage.registry.get("events", 0).is_none());
    let refused = partition.append(&batch(&["c"]), Acks::All).unwrap_err();
    assert_eq!(refused, PartitionError::Deleted);
    assert_eq!(
        wait(partition.offset_for(OffsetQuery::Latest, Isolation::Uncommitted)),
        Err(PartitionError::Deleted)
    );
    storage.work();

    // The same name, another life: nothing of the first one's checkpoints may touch it.
    let again = topic("events", 2, 1, LogConfig::default());
    storage.registry.create(&again).unwrap();
    let fresh = storage.registry.get("events", 0).unwrap();
    append(&fresh, &["x"], Acks::All);
    storage.work();
    storage.registry.remove_deleted();
    let names = |files: &MemFileSystem| {
        let entries = files.list(&path("")).unwrap();
        entries
            .into_iter()
            .filter(|entry| entry.is_directory)
            .map(|entry| entry.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&files), ["events-0"]);

    let storage = Storage::open(&files.crash(CrashMode::SyncedOnly));
    storage.registry.load(&[again], &storage.found, &[]);
    assert_eq!(consume(&storage.registry.get("events", 0).unwrap(), 0), ["x"]);
}

#[test]
fn what_is_on_the_disk_is_made_to_fit_what_the_metadata_says() {
    let files = MemFileSystem::new();
    let storage = Storage::open(&files);
    for (name, id) in [("kept", 1), ("forgotten", 2), ("recreated", 3), ("owned", 4)] {
        let topic = topic(name, id, 1, LogConfig::default());
        storage.registry.create(&topic).unwrap();
        append(&storage.registry.get(name, 0).unwrap(), &[name], Acks::All);
    }
    storage.work();
    let files = files.crash(CrashMode::SyncedOnly);

    let storage = Storage::open(&files);
    let topics = [
        topic("kept", 1, 1, LogConfig::default()),
        topic("recreated", 9, 1, LogConfig::default()),
        topic("missing", 5, 1, LogConfig::default()),
    ];
    let owned = [TopicPartition::new("owned", 0)];
    let summary = storage.registry.load(&topics, &storage.found, &owned);
    assert_eq!((summary.online, summary.offline, summary.strays), (3, 0, 2));
    let end = |name| storage.registry.get(name, 0).unwrap().offsets().log_end.get();
    assert_eq!((end("kept"), end("recreated"), end("missing")), (1, 0, 0));
    let directories: Vec<_> = files
        .list(&path(""))
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let strays = directories.iter().filter(|name| name.ends_with("-stray")).count();
    assert_eq!(strays, 2, "{directories:?}");
    assert!(directories.contains(&"owned-0".to_owned()));
}

/// With ten thousand partitions it wrote for minutes after each start, of partitions that nobody had touched.
#[test]
fn a_checkpoint_after_an_orderly_stop_stores_what_came_since_and_nothing_else() {
    let files = MemFileSystem::new();
    let operations = || {
        let counters = files.counters();
        (counters.creations, counters.file_syncs, counters.directory_syncs)
    };
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let before = operations();
    partition.checkpoint();
    assert_eq!(operations(), before, "there is nothing in it");
    append(&partition, &["a"], Acks::All);
    storage.work();
    assert!(storage.registry.close_all());
    storage.manager.mark_clean().unwrap();
    drop((storage, partition));

    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let before = operations();
    partition.checkpoint();
    assert_eq!(operations(), before, "the stop stored it");
    append(&partition, &["b"], Acks::All);
    storage.work();
    let before = operations();
    partition.checkpoint();
    assert_ne!(operations(), before, "this is new");
    drop((storage, partition));

    let files = files.crash(CrashMode::SyncedOnly);
    let (_storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let before = files.counters();
    partition.checkpoint();
    assert_ne!(files.counters(), before, "nothing was stored by a kill");
}

#[test]
fn damage_before_the_recovery_point_takes_one_partition_off_line() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["a"], Acks::All);
    append(&partition, &["b"], Acks::All);
    storage.work();
    storage.registry.checkpoint().unwrap();
    let files = files.crash(CrashMode::SyncedOnly);
    let log = files.open(&path("events-0/00000000000000000000.log")).unwrap();
    log.write_at(16, &[std::io::IoSlice::new(&[9])]).unwrap();

    let storage = Storage::open(&files);
    let partition = storage.load_one(LogConfig::default());
    let reason = partition.latch().unwrap();
    for part in [
        "00000000000000000000.log",
        "stratalog log verify",
        "/data/events-0",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(matches!(
        *partition.condition(),
        Condition::Offline {
            remedy: Remedy::Restart,
            ..
        }
    ));
    assert!(
        partition.mend(&storage.manager).is_none(),
        "trying again would not help"
    );
}

#[test]
fn an_orderly_stop_leaves_everything_on_the_disk_and_answers_everyone() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let mut waiting = append(&partition, &["a", "b"], Acks::All);
    assert!(storage.registry.close_all());
    storage.manager.mark_clean().unwrap();
    assert_eq!(
        answer(&mut waiting.ack),
        Some(Err(PartitionError::ShuttingDown)),
        "told before the log was closed"
    );
    let refused = partition.append(&batch(&["c"]), Acks::All).unwrap_err();
    assert_eq!(refused, PartitionError::ShuttingDown);
    drop((storage, partition));

    let storage = Storage::open(&files.crash(CrashMode::SyncedOnly));
    assert!(storage.found.clean);
    let partition = storage.load_one(LogConfig::default());
    assert_eq!(consume(&partition, 0), ["a", "b"]);
    assert_eq!(
        partition.leader_epoch().get(),
        0,
        "nothing was lost, so clients need not look"
    );
}

#[test]
fn deleted_records_stay_deleted() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, small_segments());
    for index in 0..20 {
        append(&partition, &[&format!("{index}")], Acks::All);
    }
    storage.work();
    assert_eq!(
        wait(partition.delete_records(Some(Offset::new(7)))),
        Ok(Offset::new(7))
    );
    assert_eq!(
        wait(partition.delete_records(Some(Offset::new(3)))),
        Ok(Offset::new(7)),
        "never back"
    );
    let error = wait(partition.delete_records(Some(Offset::new(21)))).unwrap_err();
    assert!(
        matches!(error, PartitionError::OffsetOutOfRange { .. }),
        "{error:?}"
    );
    assert_eq!(consume(&partition, 7).len(), 13);

    let (_storage, reopened) = Storage::with_partition(&files.crash(CrashMode::SyncedOnly), small_segments());
    assert_eq!(reopened.offsets().log_start, Offset::new(7));

    assert_eq!(wait(partition.delete_records(None)), Ok(Offset::new(20)));
    assert_eq!(consume(&partition, 20), [""; 0]);
}

#[test]
fn deleting_records_is_not_answered_before_it_is_durable() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["a", "b"], Acks::All);
    storage.work();
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io));
    let error = wait(partition.delete_records(Some(Offset::new(1)))).unwrap_err();
    assert!(matches!(error, PartitionError::Storage { .. }), "{error:?}");
    assert_eq!(
        wait(partition.delete_records(Some(Offset::new(1)))),
        Ok(Offset::new(1))
    );
}

#[test]
fn offsets_are_found_by_their_special_values_and_by_time() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let ask = |query| wait(partition.offset_for(query, Isolation::Uncommitted)).unwrap();
    assert_eq!(ask(OffsetQuery::MaxTimestamp), None);
    append(&partition, &["a", "b"], Acks::All);
    assert_eq!(
        ask(OffsetQuery::Latest).unwrap().offset,
        Offset::ZERO,
        "not on the disk yet"
    );
    storage.work();
    append(&partition, &["unseen"], Acks::All);
    let latest = ask(OffsetQuery::Latest).unwrap();
    assert_eq!(
        (latest.offset, latest.timestamp),
        (Offset::new(2), TimestampMs::NONE)
    );
    for query in [OffsetQuery::Earliest, OffsetQuery::EarliestLocal] {
        assert_eq!(ask(query).unwrap().offset, Offset::ZERO);
    }
    assert_eq!(ask(OffsetQuery::LatestTiered), None);
    let found = ask(OffsetQuery::Timestamp(NOW)).unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset::ZERO, NOW));
    assert_eq!(ask(OffsetQuery::Timestamp(NOW.saturating_plus(1))), None);
    let max = ask(OffsetQuery::MaxTimestamp).unwrap();
    assert_eq!(max.timestamp, NOW);
}

#[test]
fn segments_that_a_time_ahead_holds_back_are_counted() {
    let config = LogConfig {
        retention_ms: Some(1000),
        timestamp_after_max_ms: i64::MAX,
        ..small_segments()
    };
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let ahead = NOW.saturating_plus(3_600_000);
    builder
        .append(ahead, None, Some(b"from a clock that is wrong"), &[])
        .unwrap();
    partition.append(&builder.build(), Acks::All).unwrap();
    for index in 0..30 {
        append(&partition, &[&format!("{index}")], Acks::All);
    }
    storage.work();
    storage.clock.advance(2000);
    let mut removal = removal(&storage);
    removal.tick(Duration::from_secs(1));
    let sealed = partition.condition().reader().unwrap().segment_count() - 1;
    assert!(1 < sealed);
    assert_eq!(
        (partition.held_back_segments(), partition.offsets().log_start),
        (sealed, Offset::ZERO)
    );
    storage.clock.advance(3_600_000);
    removal.tick(Duration::from_secs(2));
    assert_eq!(
        (partition.held_back_segments(), partition.offsets().log_start),
        (0, Offset::new(31))
    );
}

#[test]
fn retention_frees_space_even_on_a_full_disk() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        retention_bytes: Some(1000),
        ..small_segments()
    };
    let (storage, partition) = Storage::with_partition(&files, config.clone());
    for index in 0..30 {
        append(&partition, &[&format!("{index}")], Acks::All);
    }
    storage.work();
    let segments = || {
        files
            .list(&path("events-0"))
            .unwrap()
            .iter()
            .filter(|entry| std::path::Path::new(&entry.name).extension() == Some("log".as_ref()))
            .count()
    };
    let before = segments();
    files.set_faults(
        FaultPlan::new()
            .fail_from(FaultTarget::Create, 1, FaultKind::NoSpace)
            .only_in("log-start"),
    );
    let mut removal = removal(&storage);
    removal.tick(Duration::ZERO);
    assert_eq!(segments(), before, "not due yet");
    removal.tick(Duration::from_secs(1));
    assert!(segments() < before);
    let start = partition.offsets().log_start;
    assert!(Offset::ZERO < start);
    assert_eq!(consume(&partition, start.get()).last().unwrap(), "29");
    assert!(partition.size_in_bytes() <= 1300);

    // Another failure than a lack of space puts it off.
    files.set_faults(
        FaultPlan::new()
            .fail_from(FaultTarget::Create, 1, FaultKind::Io)
            .only_in("log-start"),
    );
    storage.clock.advance(8 * 24 * 60 * 60 * 1000);
    let before = segments();
    removal.tick(Duration::from_secs(2));
    assert!(before <= segments());
    files.set_faults(FaultPlan::new());
    removal.tick(Duration::from_secs(3));
    assert!(segments() <= before);
    assert_eq!(consume(&partition, 30), [""; 0], "time is up for all of it");
    assert_eq!(partition.offsets().log_start, Offset::new(30));
}

/// On a slow disk many GiB took long to remove, and the recovery points stood still meanwhile.
#[test]
fn recovery_points_do_not_wait_for_what_is_removed() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        retention_bytes: Some(1000),
        ..small_segments()
    };
    let (storage, partition) = Storage::with_partition(&files, config.clone());
    storage.registry.create(&topic("gone", 2, 1, config)).unwrap();
    for index in 0..30 {
        append(&partition, &[&format!("{index}")], Acks::All);
    }
    storage.work();
    storage.registry.delete(TopicId::from_bytes([2; 16])).unwrap();
    let is_waiting = || {
        let entries = files.list(std::path::Path::new("/data")).unwrap();
        entries.iter().any(|entry| entry.name.starts_with("gone"))
    };
    housekeeper(&storage).tick(Duration::from_secs(1));
    let directory = partition.log_directory();
    assert_eq!(
        directory.recovery_point_on_disk(partition.name()),
        Offset::new(30)
    );
    assert!(is_waiting());
    assert_eq!(partition.offsets().log_start, Offset::ZERO);

    removal(&storage).tick(Duration::from_secs(1));
    assert!(!is_waiting());
    assert!(Offset::ZERO < partition.offsets().log_start);
}

#[test]
fn housekeeping_shortens_the_next_recovery() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    for _ in 0..100 {
        append(&partition, &["x"], Acks::All);
    }
    storage.work();
    let verified = |files: &MemFileSystem| {
        let storage = Storage::open(&files.crash(CrashMode::SyncedOnly));
        let topics = [topic("events", 1, 1, LogConfig::default())];
        storage.registry.load(&topics, &storage.found, &[]).bytes_verified
    };
    assert!(0 < verified(&files));
    housekeeper(&storage).tick(Duration::from_secs(1));
    assert_eq!(verified(&files), 0);
}

/// A topic with a history is deleted and created again, and the machine stops at every step of that: the new life must not
/// be cut or condemned by what the checkpoints say of the old one.
#[test]
fn a_recreated_topic_survives_a_stop_at_every_step() {
    let (old, new) = (
        topic("events", 1, 1, LogConfig::default()),
        topic("events", 2, 1, LogConfig::default()),
    );
    let mut step = 1;
    loop {
        let files = MemFileSystem::new();
        let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
        append(&partition, &["old"; 10], Acks::All);
        storage.work();
        wait(partition.delete_records(Some(Offset::new(5)))).unwrap();
        storage.registry.checkpoint().unwrap();

        files.set_faults(FaultPlan::new().stop_at(step));
        let deleted = storage.registry.delete(old.id).is_ok();
        let created = storage.registry.create(&new).is_ok();
        let acknowledged = created && {
            let partition = storage.registry.get("events", 0).unwrap();
            let mut appended = partition.append(&batch(&["new"]), Acks::All).ok();
            storage.work();
            appended
                .as_mut()
                .is_some_and(|appended| answer(&mut appended.ack) == Some(Ok(())))
        };
        for mode in [
            CrashMode::SyncedOnly,
            CrashMode::All,
            CrashMode::Random { seed: step },
        ] {
            let storage = Storage::open(&files.crash(mode));
            let summary = storage
                .registry
                .load(std::slice::from_ref(&new), &storage.found, &[]);
            let context = format!("step {step}, {mode:?}, deleted {deleted}, created {created}");
            assert_eq!(summary.offline, 0, "{context}");
            let partition = storage.registry.get("events", 0).unwrap();
            let left = consume(&partition, partition.offsets().log_start.get());
            assert!(left.iter().all(|value| value == "new"), "{context}: {left:?}");
            assert!(!acknowledged || left == ["new"], "{context}: {left:?}");
        }
        if acknowledged {
            return;
        }
        step += 1;
    }
}

/// Deletes the partition on another thread, and returns when that stands at the wait for the log's uses. The receiver
/// hears of its end.
fn end_in_background(partition: &Arc<Partition>) -> mpsc::Receiver<()> {
    let (ended_in, ended) = mpsc::channel();
    let generation = partition.writer.lock().generation();
    let ending = Arc::clone(partition);
    std::thread::spawn(move || {
        drop(ending.end(PartitionError::Deleted));
        ended_in.send(()).ok();
    });
    let ending = Arc::clone(partition);
    in_time("the deletion begins", move || {
        while ending.writer.lock().generation() == generation {
            std::thread::yield_now();
        }
    });
    ended
}

/// The deletion waited for the flush, the flush panicked, and nobody told the deletion.
#[test]
fn a_flush_that_panics_lets_go_of_a_deletion_that_waits_for_it() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    append(&partition, &["a"], Acks::All);
    let task = partition.begin_flush().unwrap();
    let ended = end_in_background(&partition);
    drop(task);
    partition.abandon();
    ended.recv_timeout(HANG).expect("the deletion goes on");
}

/// Segments are removed by their names. A topic that was deleted and made anew meanwhile lost the new life's files.
#[test]
fn a_partition_does_not_end_while_its_segments_are_removed() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), small_segments());
    for index in 0..20 {
        append(&partition, &[&format!("{index}")], Acks::All);
    }
    storage.work();
    let start = {
        let mut writer = partition.writer.lock();
        writer.log().unwrap().advance_log_start(Offset::new(10)).unwrap()
    };
    let task = partition.begin_reclaim(start).expect("segments lie below");
    let ended = end_in_background(&partition);
    assert!(ended.try_recv().is_err(), "it waits");
    task.run().unwrap();
    drop(UseGuard(&partition));
    ended.recv_timeout(HANG).expect("the deletion goes on");
}
