//! What a failing or full disk does to answers, readers and later writes.
//! The disk fails by plan, and time passes when the test says so.

use std::time::Duration;

use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::model::LeaderEpoch;

use super::*;
use crate::partition::disk::SpaceLevel;
use crate::partition::flusher::Flusher;
use crate::partition::housekeeping::{Intervals, Watch};
use crate::partition::partition::Condition;

const SECOND: Duration = Duration::from_secs(1);

fn intervals() -> Intervals {
    Intervals {
        retention: 300 * SECOND,
        recovery_points: 60 * SECOND,
        recovery_bytes: 1 << 20,
        producers: 600 * SECOND,
        idle: 300 * SECOND,
        mend: SECOND,
        mend_max: 30 * SECOND,
    }
}

pub(super) fn watch(storage: &Storage) -> Watch {
    Watch::new(
        Arc::clone(&storage.registry),
        Arc::clone(&storage.manager),
        intervals(),
    )
}

fn fail_syncs(times: u64) -> FaultPlan {
    (1..=times).fold(FaultPlan::new(), |plan, nth| {
        plan.fail_once(FaultTarget::Sync, nth, FaultKind::Io)
            .only_in(".log")
    })
}

#[test]
fn a_failed_sync_latches_and_nobody_behind_it_is_ever_told_otherwise() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["kept"], Acks::All);
    storage.work();
    let epoch = partition.leader_epoch();

    files.set_faults(fail_syncs(1));
    let mut first = append(&partition, &["one"], Acks::All);
    let mut second = append(&partition, &["two"], Acks::All);
    storage.work();
    assert!(is_latched(&mut first.ack));
    assert!(is_latched(&mut second.ack));
    assert!(
        partition.latch().unwrap().contains("flush"),
        "{:?}",
        partition.latch()
    );

    // The disk is well again, but nobody opened the log anew.
    let refused = partition.append(&batch(&["three"]), Acks::All).unwrap_err();
    assert!(matches!(refused, PartitionError::Latched { .. }), "{refused:?}");
    storage.work();
    assert_eq!(consume(&partition, 0), ["kept"], "readers go on");

    let report = partition.mend(&storage.manager).unwrap().unwrap();
    assert!(report.epoch_raised);
    assert_eq!(partition.latch(), None);
    assert_eq!(partition.leader_epoch(), epoch.next());
    assert_eq!(
        partition.offsets().log_end,
        Offset::new(1),
        "what the failed sync left is gone"
    );
    let mut fourth = append(&partition, &["four"], Acks::All);
    assert_eq!(fourth.base_offset, Offset::new(1));
    storage.work();
    assert_eq!(answer(&mut fourth.ack), Some(Ok(())));
    assert_eq!(consume(&partition, 0), ["kept", "four"]);

    let (_storage, partition) =
        Storage::with_partition(&files.crash(CrashMode::SyncedOnly), LogConfig::default());
    assert_eq!(consume(&partition, 0), ["kept", "four"]);
}

/// The thread of a request that syncs itself finds out what a flusher would have found out.
#[test]
fn a_sync_that_fails_on_a_requests_own_thread_latches_and_tells_everybody() {
    let files = MemFileSystem::new();
    let flusher = Flusher::start(1).unwrap();
    let storage = Storage::open_with(&files, flusher.queue());
    let partition = storage.load_one(LogConfig::default());
    let append = |values: &[&str]| {
        let batch = partition
            .try_validated(&batch(values), &mut None)
            .unwrap()
            .unwrap();
        partition.append_unsynced(&[batch], Acks::All).pop().unwrap()
    };
    let mut kept = append(&["kept"]).unwrap();
    assert_eq!(answer(&mut kept.ack), None, "nobody was asked to sync");
    partition.sync_here();
    assert_eq!(answer(&mut kept.ack), Some(Ok(())));

    files.set_faults(fail_syncs(1));
    let mut first = append(&["one"]).unwrap();
    let mut second = append(&["two"]).unwrap();
    partition.sync_here();
    assert!(is_latched(&mut first.ack) && is_latched(&mut second.ack));
    assert!(matches!(append(&["three"]), Err(PartitionError::Latched { .. })));
    assert_eq!(consume(&partition, 0), ["kept"], "readers go on");
    partition.mend(&storage.manager).unwrap().unwrap();
    assert_eq!(partition.offsets().log_end, Offset::new(1));
    flusher.stop();
}

#[test]
fn retries_after_a_latch_are_appended_once() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    partition.append(&idempotent(&["a"], 0), Acks::All).unwrap();
    storage.work();
    files.set_faults(fail_syncs(1));
    let lost = idempotent(&["b"], 1);
    let mut ack = partition.append(&lost, Acks::All).unwrap().ack;
    storage.work();
    assert!(is_latched(&mut ack));
    partition.mend(&storage.manager).unwrap().unwrap();

    let retried = partition.append(&lost, Acks::All).unwrap();
    assert_eq!(retried.base_offset, Offset::new(1));
    let again = partition.append(&lost, Acks::All).unwrap();
    assert_eq!(again.base_offset, Offset::new(1));
    storage.work();
    assert_eq!(consume(&partition, 0), ["a", "b"]);
}

#[test]
fn a_failed_write_latches_one_log_and_spares_its_neighbour() {
    let files = MemFileSystem::new();
    let storage = Storage::open(&files);
    let config = LogConfig::default();
    storage
        .registry
        .load(&[topic("events", 1, 2, config)], &storage.found, &[]);
    let (broken, sound) = (
        storage.registry.get("events", 0).unwrap(),
        storage.registry.get("events", 1).unwrap(),
    );
    let mut waiting = append(&broken, &["waiting"], Acks::All);
    files.set_faults(
        FaultPlan::new()
            .fail_from(FaultTarget::Write, 1, FaultKind::Io)
            .only_in("events-0"),
    );
    let refused = broken.append(&batch(&["x"]), Acks::All).unwrap_err();
    assert!(matches!(refused, PartitionError::Latched { .. }), "{refused:?}");
    assert!(is_latched(&mut waiting.ack), "its log may be torn behind it");

    let mut fine = append(&sound, &["fine"], Acks::All);
    storage.work();
    assert_eq!(answer(&mut fine.ack), Some(Ok(())));
}

#[test]
fn a_full_disk_refuses_writes_and_resumes_by_itself() {
    let files = MemFileSystem::new();
    files.set_space(1 << 20);
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let value = "v".repeat(10_000);
    let mut count = 0;
    let error = loop {
        match partition.append(&batch(&[&value]), Acks::All) {
            Ok(mut appended) => {
                storage.work();
                assert_eq!(answer(&mut appended.ack), Some(Ok(())));
                count += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PartitionError::DiskFull { .. }), "{error:?}");
    assert!(50 < count, "{count}");
    assert_eq!(
        partition.latch(),
        None,
        "nothing was written, so nothing is in doubt"
    );
    assert_eq!(consume(&partition, 0).len(), count);

    files.set_space(2 << 20);
    let mut resumed = append(&partition, &["resumed"], Acks::All);
    storage.work();
    assert_eq!(answer(&mut resumed.ack), Some(Ok(())));
    assert_eq!(consume(&partition, 0).len(), count + 1);
}

#[test]
fn records_can_be_deleted_on_a_disk_that_is_full_to_the_last_block() {
    const TOTAL: u64 = 64 << 20;
    let files = MemFileSystem::new();
    files.set_space(TOTAL);
    let config = LogConfig {
        segment_bytes_max: 4000,
        ..LogConfig::default()
    };
    let (storage, partition) = Storage::with_partition(&files, config.clone());
    let mut watch = watch(&storage);
    watch.tick(Duration::ZERO);
    for _ in 0..20 {
        append(&partition, &[&"v".repeat(1000)], Acks::All);
    }
    storage.work();
    files.set_space(1);
    let delete = |before| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(partition.delete_records(Some(Offset::new(before))))
    };
    // What is in use counts against the disk's new size, so removing the reserve gives nothing back yet.
    assert!(matches!(delete(1), Err(PartitionError::DiskFull { .. })));

    files.set_space(TOTAL);
    watch.tick(2 * SECOND);
    let used = TOTAL - storage.manager.first().space().unwrap().available;
    files.set_space(used);
    assert_eq!(storage.manager.first().space().unwrap().available, 0);
    assert_eq!(delete(10), Ok(Offset::new(10)));
    assert!(0 < storage.manager.first().space().unwrap().available);
    let (_storage, reopened) = Storage::with_partition(&files.crash(CrashMode::SyncedOnly), config);
    assert_eq!(reopened.offsets().log_start, Offset::new(10));
}

#[test]
fn mending_is_tried_later_and_later_and_at_once_when_space_returns() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["kept"], Acks::All);
    storage.work();
    files.set_faults(fail_syncs(1));
    append(&partition, &["lost"], Acks::All);
    storage.work();
    assert!(partition.latch().is_some());

    // The file with the raised epoch is refused: reopening cannot succeed.
    files.set_faults(
        FaultPlan::new()
            .fail_from(FaultTarget::Create, 1, FaultKind::NoSpace)
            .only_in("leader-epoch"),
    );
    storage
        .registry
        .checkpoints()
        .next()
        .unwrap()
        .reserve()
        .take(storage.manager.first().space().unwrap());
    let mut watch = watch(&storage);
    let mut tried_at = Vec::new();
    for tenth in 0..600 {
        let before = files.counters().operations();
        watch.tick(SECOND / 10 * tenth);
        if before < files.counters().operations() {
            tried_at.push(tenth / 10);
        }
    }
    assert_eq!(tried_at, [1, 3, 7, 15, 31]);

    files.set_faults(FaultPlan::new());
    files.set_space(64 << 30);
    watch.tick(61 * SECOND);
    assert_eq!(partition.latch(), None, "space returned");
    assert_eq!(consume(&partition, 0), ["kept"]);
}

#[test]
fn a_log_that_fails_again_soon_is_mended_more_patiently() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let mut watch = watch(&storage);
    let latch = || {
        files.set_faults(fail_syncs(1));
        append(&partition, &["x"], Acks::All);
        storage.work();
        files.set_faults(FaultPlan::new());
        assert!(partition.latch().is_some());
    };
    latch();
    watch.tick(Duration::ZERO);
    assert!(partition.latch().is_some(), "not at once");
    watch.tick(SECOND);
    assert_eq!(partition.latch(), None);
    latch();
    watch.tick(2 * SECOND);
    watch.tick(3 * SECOND);
    assert!(partition.latch().is_some(), "two seconds this time");
    watch.tick(4 * SECOND);
    assert_eq!(partition.latch(), None);

    watch.tick(40 * SECOND);
    latch();
    watch.tick(40 * SECOND);
    watch.tick(41 * SECOND);
    assert_eq!(partition.latch(), None, "long whole, so one second again");
}

#[test]
fn a_partition_that_cannot_be_loaded_is_known_and_comes_back_when_the_disk_does() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["a"], Acks::All);
    storage.work();
    let files = files.crash(CrashMode::SyncedOnly);
    drop((storage, partition));

    let storage = Storage::open(&files);
    files.set_faults(
        FaultPlan::new()
            .fail_from(FaultTarget::Open, 1, FaultKind::Io)
            .only_in("events-0"),
    );
    let topics = [topic("events", 1, 2, LogConfig::default())];
    let summary = storage.registry.load(&topics, &storage.found, &[]);
    assert_eq!((summary.online, summary.offline), (1, 1));
    let partition = storage.registry.get("events", 0).unwrap();
    let read = PartitionRead {
        offset: Offset::ZERO,
        bytes_max: 1,
        at_least_one_batch: true,
        isolation: Isolation::Uncommitted,
    };
    let error = partition.read(&read, Patience::MayBlock).unwrap_err();
    assert!(matches!(error, PartitionError::Offline { .. }), "{error:?}");
    let error = partition.append(&batch(&["b"]), Acks::All).unwrap_err();
    assert!(matches!(error, PartitionError::Offline { .. }), "{error:?}");
    assert!(partition.mend(&storage.manager).unwrap().is_err());
    assert!(!storage.registry.close_all(), "not a clean stop");

    let storage = Storage::open(&{
        drop((storage, partition));
        files.crash(CrashMode::All)
    });
    storage.files.set_faults(
        FaultPlan::new()
            .fail_once(FaultTarget::Open, 1, FaultKind::Io)
            .only_in("events-0"),
    );
    storage.registry.load(&topics, &storage.found, &[]);
    let partition = storage.registry.get("events", 0).unwrap();
    partition.mend(&storage.manager).unwrap().unwrap();
    assert_eq!(consume(&partition, 0), ["a"]);
    append(&partition, &["b"], Acks::All);
    storage.work();
    assert_eq!(consume(&partition, 0), ["a", "b"]);
}

#[test]
fn a_panic_while_flushing_leaves_nobody_waiting_and_acknowledges_nothing() {
    use crate::partition::flusher::FlushTarget;
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let mut waiting = append(&partition, &["a"], Acks::All);
    let task = partition.begin_flush().unwrap();
    partition.abandon();
    assert!(matches!(
        answer(&mut waiting.ack),
        Some(Err(PartitionError::Offline { .. }))
    ));
    drop(task);
    let error = partition.append(&batch(&["b"]), Acks::All).unwrap_err();
    assert!(matches!(error, PartitionError::Offline { .. }), "{error:?}");
    assert!(
        partition.end(PartitionError::ShuttingDown).is_none(),
        "it does not hang either"
    );
}

#[test]
fn reads_without_a_log_are_counted_as_refused() {
    use crate::partition::flusher::FlushTarget;
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    append(&partition, &["a"], Acks::Leader);
    storage.work();
    let read = PartitionRead {
        offset: Offset::ZERO,
        bytes_max: 1,
        at_least_one_batch: true,
        isolation: Isolation::Uncommitted,
    };
    let refused = || -> u64 {
        let reads = &storage.registry.metrics().reads_refused;
        reads.by_label().map(|(_, count)| count).sum()
    };
    partition.check_readable().unwrap();
    partition.read(&read, Patience::MayBlock).unwrap();
    assert_eq!(refused(), 0);
    partition.abandon();
    partition.check_readable().unwrap_err();
    partition.read(&read, Patience::MayBlock).unwrap_err();
    assert_eq!(refused(), 2);
}

#[test]
fn epochs_of_a_new_partition_begin_at_zero() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    assert_eq!(partition.leader_epoch(), LeaderEpoch::FIRST);
    assert!(matches!(*partition.condition(), Condition::Online(_)));
}

#[test]
fn levels_of_space() {
    let level = |total, available| SpaceLevel::of(log_core::fs::Space { total, available });
    assert_eq!(level(1000, 1000), SpaceLevel::Enough);
    assert_eq!(level(1000, 49), SpaceLevel::Low);
    assert_eq!(level(1000, 9), SpaceLevel::Critical);
    let tera = 1 << 40;
    assert_eq!(level(tera, 4 << 30), SpaceLevel::Enough);
    assert_eq!(level(tera, 1 << 30), SpaceLevel::Low);
    assert_eq!(level(tera, 1 << 27), SpaceLevel::Critical);
}
