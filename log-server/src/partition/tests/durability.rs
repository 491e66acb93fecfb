//! Who is answered when, and that nobody is answered early.
//! Nothing is synced before the test says so, and a power cut takes what was not.

use std::fmt;
use std::time::Duration;

use log_core::clock::SteadyMs;
use log_core::config::CleanupPolicy;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::record::batch::Batch;
use log_core::record::batch_header::BatchHeader;
use log_core::record::compression::Compression;
use parking_lot::Mutex;

use super::runtime::runtime;
use super::*;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::housekeeping::{Housekeeper, Intervals};

fn is_woken(waiter: &FetchWaiter) -> bool {
    let mut future = std::pin::pin!(waiter.notified());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.as_mut().poll(&mut context).is_ready()
}

#[test]
fn acks_all_waits_for_the_disk_and_the_others_do_not() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    for acks in [Acks::None, Acks::Leader] {
        assert!(
            matches!(append(&partition, &["a"], acks).ack, Ack::Now),
            "{acks:?}"
        );
    }
    let mut appended = append(&partition, &["b", "c"], Acks::All);
    assert_eq!(appended.base_offset, Offset::new(2));
    assert_eq!(answer(&mut appended.ack), None);
    assert_eq!(partition.offsets().high_watermark, Offset::ZERO);
    assert_eq!(
        consume(&partition, 0),
        [""; 0],
        "nobody reads what is not on the disk"
    );

    storage.work();
    assert_eq!(answer(&mut appended.ack), Some(Ok(())));
    assert_eq!(partition.offsets().high_watermark, Offset::new(4));
    assert_eq!(consume(&partition, 0), ["a", "a", "b", "c"]);
}

#[test]
fn group_commit_answers_only_for_what_was_there_when_the_sync_began() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let mut before = append(&partition, &["before"], Acks::All);
    let task = partition.begin_flush().unwrap();
    let mut during = append(&partition, &["during"], Acks::All);
    let result = task.run();
    let mut after = append(&partition, &["after"], Acks::All);
    partition.finish_flush(result);

    assert_eq!(answer(&mut before.ack), Some(Ok(())));
    assert_eq!(answer(&mut during.ack), None);
    assert_eq!(answer(&mut after.ack), None);
    assert_eq!(partition.offsets().high_watermark, Offset::new(1));
    storage.work();
    assert_eq!(answer(&mut during.ack), Some(Ok(())));
    assert_eq!(answer(&mut after.ack), Some(Ok(())));
}

#[test]
fn many_requests_share_one_sync() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let mut acks: Vec<_> = (0..100)
        .map(|_| append(&partition, &["x"], Acks::All).ack)
        .collect();
    let syncs = files.counters().file_syncs;
    partition.finish_flush(partition.begin_flush().unwrap().run());
    assert_eq!(files.counters().file_syncs, syncs + 1);
    assert!(acks.iter_mut().all(|ack| answer(ack) == Some(Ok(()))));
    storage.work();
}

#[test]
fn a_duplicate_waits_for_the_sync_of_the_first() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let records = idempotent(&["once"], 0);
    let first = partition.append(&records, Acks::Leader).unwrap();
    let mut later = append(&partition, &["later"], Acks::All);
    let mut duplicate = partition.append(&records, Acks::All).unwrap();
    assert_eq!(duplicate.base_offset, first.base_offset);
    assert_eq!(
        answer(&mut duplicate.ack),
        None,
        "the first is not on the disk yet"
    );

    storage.work();
    assert_eq!(answer(&mut duplicate.ack), Some(Ok(())));
    assert_eq!(answer(&mut later.ack), Some(Ok(())));
    let again = partition.append(&records, Acks::All).unwrap();
    assert!(matches!(again.ack, Ack::Now), "it is on the disk by now");
    assert_eq!(consume(&partition, 0), ["once", "later"]);
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_and_what_was_read_does_too() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    append(&partition, &["kept"], Acks::All);
    storage.work();
    append(&partition, &["lost"], Acks::Leader);
    assert_eq!(consume(&partition, 0), ["kept"]);

    let (_storage, partition) =
        Storage::with_partition(&files.crash(CrashMode::SyncedOnly), LogConfig::default());
    assert_eq!(consume(&partition, 0), ["kept"]);
}

#[test]
fn a_roll_leaves_nothing_behind_unsynced() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        segment_bytes_max: 300,
        ..LogConfig::default()
    };
    let (storage, partition) = Storage::with_partition(&files, config.clone());
    let values: Vec<String> = (0..20).map(|index| format!("value {index}")).collect();
    let mut acks: Vec<_> = values
        .iter()
        .map(|value| append(&partition, &[value], Acks::All).ack)
        .collect();
    partition.finish_flush(partition.begin_flush().unwrap().run());
    assert!(acks.iter_mut().all(|ack| answer(ack) == Some(Ok(()))));

    let (_storage, reopened) = Storage::with_partition(&files.crash(CrashMode::SyncedOnly), config);
    assert_eq!(consume(&reopened, 0), values);
    storage.work();
    assert_eq!(consume(&partition, 0), values);
}

#[test]
fn relaxed_flushing_answers_at_once_and_flushes_after_count_or_time() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        durable: false,
        flush_messages: 3,
        flush_ms: 1000,
        ..LogConfig::default()
    };
    let (storage, partition) = Storage::with_partition(&files, config.clone());
    let on_disk = || {
        let (_storage, partition) =
            Storage::with_partition(&files.crash(CrashMode::SyncedOnly), config.clone());
        consume(&partition, 0).len()
    };
    assert!(matches!(append(&partition, &["1", "2"], Acks::All).ack, Ack::Now));
    assert_eq!(consume(&partition, 0), ["1", "2"], "seen at once");
    storage.work();
    assert_eq!(on_disk(), 0);
    append(&partition, &["3"], Acks::All);
    storage.work();
    assert_eq!(on_disk(), 3, "flush.messages");

    append(&partition, &["4"], Acks::All);
    storage.clock.advance(999);
    partition.flush_if_old();
    storage.work();
    assert_eq!(on_disk(), 3);
    storage.clock.advance(1);
    partition.flush_if_old();
    storage.work();
    assert_eq!(on_disk(), 4, "flush.ms");
}

#[test]
fn relaxed_logs_are_written_out_and_flushed_when_they_roll_or_are_checkpointed() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        segment_bytes_max: 9 << 20,
        ..relaxed()
    };
    let (storage, partition) = Storage::with_partition(&files, config.clone());
    let on_disk = || {
        let storage = Storage::open(&files.crash(CrashMode::SyncedOnly));
        storage.load_one(config.clone()).offsets().log_end.get()
    };
    let value = "v".repeat(1000 * 1000);
    let log = |partition: &Partition| {
        let mut writer = partition.writer.lock();
        writer.log().unwrap().wants_write_out().map(|task| task.range())
    };
    for _ in 0..6 {
        append(&partition, &[&value], Acks::All);
    }
    assert_eq!(log(&partition), None, "the appends themselves asked for it");
    storage.work();
    assert_eq!(on_disk(), 0, "asking promises nothing");
    for _ in 0..4 {
        append(&partition, &[&value], Acks::All);
    }
    storage.work();
    let rolled = on_disk();
    assert!(8 <= rolled, "{rolled}: the rolled segment is on the disk");
    assert_eq!(partition.recovery_point().unwrap().get(), rolled, "and complete");

    append(&partition, &["last"], Acks::All);
    storage.registry.checkpoint().unwrap();
    storage.work();
    assert_eq!(on_disk(), 11);
}

#[test]
fn who_waits_when_a_topic_becomes_relaxed_is_answered_by_the_disk() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let mut waiting = append(&partition, &["a"], Acks::All);
    storage.registry.reconfigure(partition.topic_id(), &relaxed());
    assert!(!partition.config().durable);
    assert_eq!(consume(&partition, 0), ["a"]);
    assert_eq!(answer(&mut waiting.ack), None, "it was promised the disk");
    storage.work();
    assert_eq!(
        answer(&mut waiting.ack),
        Some(Ok(())),
        "nobody has to append for it"
    );

    storage
        .registry
        .reconfigure(partition.topic_id(), &LogConfig::default());
    let mut waiting = append(&partition, &["b"], Acks::All);
    assert_eq!(answer(&mut waiting.ack), None);
    storage.work();
    assert_eq!(answer(&mut waiting.ack), Some(Ok(())));
}

/// What was appended while flushing was relaxed is visible, and on the disk only when it was synced.
#[test]
fn a_duplicate_of_what_was_relaxed_waits_where_the_topic_is_not_any_more() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let records = idempotent(&["once"], 0);
    assert!(matches!(
        partition.append(&records, Acks::All).unwrap().ack,
        Ack::Now
    ));
    storage
        .registry
        .reconfigure(partition.topic_id(), &LogConfig::default());
    let mut duplicate = partition.append(&records, Acks::All).unwrap();
    assert_eq!(answer(&mut duplicate.ack), None);
    storage.work();
    assert_eq!(answer(&mut duplicate.ack), Some(Ok(())));
}

#[test]
fn waiters_are_woken_when_something_can_be_read() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let waiter = FetchWaiter::new();
    let _guard = partition.watch(&waiter);
    append(&partition, &["a"], Acks::All);
    assert!(!is_woken(&waiter), "it is not on the disk yet");
    storage.work();
    assert!(is_woken(&waiter));
    assert!(!is_woken(&waiter));

    storage.registry.reconfigure(partition.topic_id(), &relaxed());
    is_woken(&waiter);
    append(&partition, &["b"], Acks::All);
    assert!(is_woken(&waiter));
    partition.end(PartitionError::Deleted);
    assert!(is_woken(&waiter));
    let late = FetchWaiter::new();
    let _guard = partition.watch(&late);
    assert!(is_woken(&late), "nobody waits for a partition that is gone");
}

#[test]
fn batches_are_checked_before_they_reach_the_log() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let mut damaged = batch(&["a"]).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let error = partition.append(&damaged.into(), Acks::All).unwrap_err();
    assert!(matches!(error, PartitionError::Invalid(_)), "{error:?}");
    let gap = partition.append(&idempotent(&["a"], 0), Acks::All);
    gap.unwrap();
    let error = partition.append(&idempotent(&["c"], 2), Acks::All).unwrap_err();
    assert!(matches!(error, PartitionError::Producer(_)), "{error:?}");
    assert_eq!(partition.offsets().log_end, Offset::new(1));
}

#[test]
fn compacted_topics_take_compressed_records_with_keys_only() {
    let config = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    };
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    let compressed = |key: Option<&[u8]>| {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: Compression::Lz4,
            ..BatchOptions::default()
        });
        builder.append(NOW, key, Some(b"value"), &[]).unwrap();
        builder.build()
    };
    let append = |records: Bytes| append_on_runtime(&partition, records);
    append(compressed(Some(b"key"))).unwrap();
    let error = append(compressed(None)).unwrap_err();
    assert!(matches!(error, PartitionError::Invalid(_)), "{error:?}");
}

/// Appends from a task, as a connection does: some checks leave the runtime's thread, which only a task can.
fn append_on_runtime(partition: &Arc<Partition>, records: Bytes) -> Result<(), PartitionError> {
    let runtime = runtime(1);
    let partition = Arc::clone(partition);
    let task = runtime.spawn(async move { partition.append(&records, Acks::Leader).map(drop) });
    runtime.in_time("the append ends", task)
}

#[test]
fn compressed_records_are_checked_to_the_last_however_many() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        // Little that stays little, little that becomes much, and much.
        for value in [vec![0; 100], vec![0; 300_000], incompressible(300_000)] {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            builder.append(NOW, None, Some(&value), &[]).unwrap();
            let plain = builder.build();
            let batch = Batch::parse(&plain).unwrap();
            let good = batch.body();
            append_on_runtime(&partition, compressed(batch.header(), codec, good)).unwrap();
            let longer = [good, b"!"].concat();
            let error =
                append_on_runtime(&partition, compressed(batch.header(), codec, &longer)).unwrap_err();
            assert!(matches!(error, PartitionError::Invalid(_)), "{codec}: {error:?}");
        }
    }
    assert_eq!(partition.offsets().log_end, Offset::new(12));
}

fn incompressible(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// A batch of that header around any body.
fn compressed(header: &BatchHeader, codec: Compression, body: &[u8]) -> Bytes {
    let mut packed = Vec::new();
    codec.compress(None, body, &mut packed);
    let mut header = BatchHeader {
        attributes: header.attributes.with_compression(codec),
        batch_length: u32::try_from(49 + packed.len()).unwrap(),
        ..*header
    };
    header.crc = header.compute_crc(&packed);
    [&header.to_bytes()[..], &packed].concat().into()
}

/// One that writes recovery points when so many bytes have come, and at no other time.
fn by_bytes(storage: &Storage, recovery_bytes: u64) -> Housekeeper {
    let intervals = Intervals {
        retention: Duration::MAX,
        recovery_points: Duration::MAX,
        recovery_bytes,
        producers: Duration::MAX,
        idle: Duration::MAX,
        mend: Duration::MAX,
        mend_max: Duration::MAX,
    };
    Housekeeper::new(Arc::clone(&storage.registry), &intervals)
}

fn on_disk(partition: &Partition) -> i64 {
    let directory = partition.log_directory();
    directory.recovery_point_on_disk(partition.name()).get()
}

#[test]
fn a_recovery_verifies_no_more_than_was_appended_since_the_last_look() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let mut housekeeper = by_bytes(&storage, 1000);
    let value = "v".repeat(500);
    append(&partition, &[&value], Acks::All);
    storage.work();
    housekeeper.tick(Duration::ZERO);
    assert_eq!(on_disk(&partition), 0, "little has come");
    append(&partition, &[&value], Acks::All);
    storage.work();
    append(&partition, &["not synced"], Acks::All);
    let second = Duration::from_secs(1);
    housekeeper.tick(second);
    assert_eq!(on_disk(&partition), 2);
    append(&partition, &["again little"], Acks::All);
    storage.work();
    housekeeper.tick(10 * second);
    append(&partition, &[&value, &value], Acks::All);
    storage.work();
    housekeeper.tick(10 * second);
    assert_eq!(on_disk(&partition), 6);
    append(&partition, &[&value, &value], Acks::All);
    storage.work();
    housekeeper.tick(10 * second);
    assert_eq!(on_disk(&partition), 6, "not so often");
    append(&partition, &["a", "b", "c", "d"], Acks::All);

    // What a start has verified and brought to the disk, the next one need not.
    let storage = Storage::open(&files.crash(CrashMode::SyncedOnly));
    let partition = storage.load_one(LogConfig::default());
    assert_eq!(partition.offsets().log_end.get(), 8);
    assert_eq!(on_disk(&partition), 8);
}

/// The point stood at the first segment that was rolled before the kill, for up to a minute.
#[test]
fn what_a_start_has_verified_the_next_one_need_not_across_segments_too() {
    let config = LogConfig {
        segment_bytes_max: 300,
        ..LogConfig::default()
    };
    for fails in [false, true] {
        let files = MemFileSystem::new();
        let (_storage, partition) = Storage::with_partition(&files, config.clone());
        for _ in 0..20 {
            append(&partition, &["value"], Acks::All);
        }
        partition.finish_flush(partition.begin_flush().unwrap().run());
        assert_eq!(partition.recovery_point(), Some(Offset::ZERO), "none is complete");

        let files = files.crash(CrashMode::SyncedOnly);
        if fails {
            let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
            files.set_faults(fault.only_in(".snapshot"));
        }
        let (storage, partition) = Storage::with_partition(&files, config.clone());
        let on_disk = || {
            let directory = partition.log_directory();
            directory.recovery_point_on_disk(partition.name()).get()
        };
        assert_eq!(partition.offsets().log_end.get(), 20);
        if fails {
            assert_eq!(on_disk(), 0, "it is served all the same");
            storage.registry.checkpoint().unwrap();
            storage.work();
            storage.registry.checkpoint().unwrap();
        }
        assert_eq!(on_disk(), 20);
    }
}

type Happening = Box<dyn FnMut(&ManualClock) + Send>;

/// A clock that lets something happen whenever somebody looks at it for how long a thing takes.
struct Meanwhile {
    clock: ManualClock,
    happens: Mutex<Option<Happening>>,
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

impl Clock for Meanwhile {
    fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    fn steady(&self) -> SteadyMs {
        let happens = self.happens.lock().take();
        if let Some(mut happens) = happens {
            happens(&self.clock);
            *self.happens.lock() = Some(happens);
        }
        self.clock.steady()
    }
}

/// A round over all partitions took seconds, and until its end nobody looked how much had come.
#[test]
fn a_recovery_verifies_no_more_where_a_checkpoint_of_all_partitions_takes_long() {
    let clock = Arc::new(Meanwhile {
        clock: ManualClock::new(NOW),
        happens: Mutex::default(),
    });
    let files = MemFileSystem::new();
    let storage = Storage::open_at(&files, Arc::clone(&clock) as Arc<dyn Clock>);
    let spec = topic("events", 1, 20, LogConfig::default());
    storage.registry.load(&[spec], &storage.found, &[]);
    let partition = storage.registry.get("events", 0).unwrap();
    let intervals = Intervals {
        retention: Duration::MAX,
        recovery_points: Duration::from_mins(1),
        recovery_bytes: 1000,
        producers: Duration::MAX,
        idle: Duration::MAX,
        mend: Duration::MAX,
        mend_max: Duration::MAX,
    };
    let mut housekeeper = Housekeeper::new(Arc::clone(&storage.registry), &intervals);

    // With each partition half a second passes, in which more comes than the bound lets.
    let (seen_in, seen) = mpsc::channel();
    let (queue, busy) = (storage.queue.clone(), Arc::clone(&partition));
    *clock.happens.lock() = Some(Box::new(move |clock| {
        let directory = busy.log_directory();
        let on_disk = directory.recovery_point_on_disk(busy.name()).get();
        seen_in.send((busy.offsets().log_end.get(), on_disk)).unwrap();
        clock.advance(500);
        append(&busy, &[&"v".repeat(1000)], Acks::All);
        queue.run_pending();
    }));
    housekeeper.tick(Duration::from_mins(1));
    clock.happens.lock().take();
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen.len(), 21, "at its beginning, and behind each partition");
    for (log_end, on_disk) in &seen {
        assert!(log_end - on_disk <= 3, "{seen:?}");
    }
    let mut points: Vec<_> = seen.iter().map(|(_, on_disk)| *on_disk).collect();
    points.dedup();
    assert!((8..=12).contains(&points.len()), "once a second: {points:?}");
    let on_disk = partition.log_directory().recovery_point_on_disk(partition.name());
    assert_eq!(on_disk, partition.offsets().log_end, "at its end");
}

#[test]
fn recovery_points_that_could_not_be_written_are_tried_again_soon() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let mut housekeeper = by_bytes(&storage, 1000);
    append(&partition, &[&"v".repeat(1000)], Acks::All);
    storage.work();
    let failing = FaultPlan::new().fail_from(FaultTarget::Sync, 1, FaultKind::Io);
    files.set_faults(failing.only_in("recovery-point-offset-checkpoint"));
    let second = Duration::from_secs(1);
    housekeeper.tick(second);
    files.set_faults(FaultPlan::new());
    housekeeper.tick(second + second / 2);
    assert_eq!(on_disk(&partition), 0, "not at once");
    housekeeper.tick(2 * second);
    assert_eq!(on_disk(&partition), 1);

    append(&partition, &["little"], Acks::All);
    storage.work();
    housekeeper.tick(4 * second);
    assert_eq!(on_disk(&partition), 1, "what was written waits for more again");
}
