//! Mistakes that were made once: each test is named after what must not happen again, and shows it in as few steps as
//! it takes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use log_core::clock::{Clock, ManualClock};
use log_core::config::{LogConfig, TimestampType};
use log_core::fs::FileSystem;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::log::{
    AppendOrigin, AppendOutcome, LoadReport, Log, LogContext, LogError, LogReader, ReadBound, ReadError,
    ReadRequest,
};
use log_core::log_manager::{CheckpointEntry, LogDirectory};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TransactionVersion};
use log_core::producer_state::verification::TransactionalBatch;
use log_core::record::batch::batches;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::validator::{ValidatedBatch, trust_own};
use log_core::segment::segment::Patience;
use parking_lot::Mutex;

use crate::hooked::HookedFileSystem;
use crate::support::{TOPIC_ID, partition, small_config};

const TIME: TimestampMs = TimestampMs::new(1_000_000);

fn open_on(file_system: Arc<dyn FileSystem>) -> LogDirectory {
    let context = LogContext {
        file_system,
        clock: Arc::new(ManualClock::new(TIME)) as Arc<dyn Clock>,
    };
    LogDirectory::open(context, PathBuf::from("/data")).unwrap().0
}

fn manager_of(files: &MemFileSystem) -> LogDirectory {
    open_on(Arc::new(files.clone()))
}

fn create(files: &MemFileSystem, config: LogConfig) -> (LogDirectory, Log) {
    let manager = manager_of(files);
    let log = manager.create(&partition(), TOPIC_ID, config).unwrap();
    (manager, log)
}

/// Opens the log of a crash's image.
fn load(files: &MemFileSystem, config: LogConfig) -> (LogDirectory, Log) {
    let manager = manager_of(files);
    let (log, _) = manager.load(&partition(), TOPIC_ID, config).unwrap();
    (manager, log)
}

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(partition().to_string()).join(name)
}

fn built(value: &[u8], timestamp: i64, options: BatchOptions) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(options);
    builder
        .append(TimestampMs::new(timestamp), None, Some(value), &[])
        .unwrap();
    trust_own(builder.build()).unwrap()
}

fn append_at(log: &mut Log, value: &str, timestamp: i64) {
    let batch = built(value.as_bytes(), timestamp, BatchOptions::default());
    log.append_one(&batch).unwrap();
}

fn append(log: &mut Log, value: &str) {
    append_at(log, value, TIME.get());
}

fn entry(offset: Offset) -> CheckpointEntry {
    CheckpointEntry {
        partition: partition(),
        topic_id: TOPIC_ID,
        offset,
    }
}

fn request(offset: i64) -> ReadRequest {
    ReadRequest {
        offset: Offset::new(offset),
        bytes_max: 1,
        at_least_one_batch: true,
        bound: ReadBound::HighWatermark,
        patience: Patience::MayBlock,
    }
}

fn value_at(reader: &LogReader, offset: i64) -> Result<String, ReadError> {
    let records: Bytes = reader.read(request(offset))?.records;
    let batch = batches(&records).next().expect("a batch").unwrap();
    assert_eq!(
        batch.header().base_offset,
        Offset::new(offset),
        "the batch that was asked for"
    );
    let mut scratch = Vec::new();
    let mut records = batch.records(&mut scratch, 1 << 20).unwrap();
    let value = records.next().unwrap().unwrap().value.unwrap().to_vec();
    Ok(String::from_utf8(value).unwrap())
}

/// Every offset up to the log's end, by itself.
fn values(log: &Log) -> Vec<String> {
    let reader = log.reader();
    let offsets = reader.offsets();
    (offsets.log_start.get()..offsets.high_watermark.get())
        .map(|offset| value_at(&reader, offset).unwrap_or_else(|error| panic!("at {offset}: {error}")))
        .collect()
}

fn stop_in_order(manager: LogDirectory, mut log: Log) {
    let offset = log.close().unwrap();
    manager.write_recovery_points(&[entry(offset)]).unwrap();
    manager.mark_clean().unwrap();
    drop(manager);
}

/// A task that was handed out never ran: its thread ended first. The next start believes that the segment was
/// completed, and took the space prepared behind its end for records.
#[test]
fn a_seal_task_that_never_ran_is_made_up_for_when_the_log_is_closed() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    for index in 0..10 {
        append(&mut log, &index.to_string());
    }
    log.roll().unwrap();
    append(&mut log, "10");
    log.flush().unwrap();
    assert_eq!(log.take_seal_tasks().len(), 1);
    stop_in_order(manager, log);

    let (_manager, log) = load(&files, small_config());
    let expected: Vec<String> = (0..=10).map(|index| index.to_string()).collect();
    assert_eq!(values(&log), expected);
    let length = files
        .open_read_only(&path("00000000000000000000.log"))
        .unwrap()
        .length()
        .unwrap();
    assert!(
        length < log.reader().size_in_bytes(),
        "cut to its records: {length}"
    );
}

/// A batch larger than `segment.bytes` was when the empty segment was made: it did not fit the segment's map.
#[test]
fn a_batch_is_readable_after_segment_bytes_was_raised() {
    let files = MemFileSystem::new();
    let (_manager, mut log) = create(&files, small_config());
    log.set_config(LogConfig {
        segment_bytes_max: 1 << 20,
        ..small_config()
    });
    let large = "x".repeat(10_000);
    append(&mut log, &large);
    append(&mut log, "small");
    log.flush().unwrap();
    assert_eq!(values(&log), [large, "small".to_owned()]);
}

/// Index files that were stored before their records were on the disk outlived a power cut that took the records. When others had
/// come in their places and a recovery point had passed them, the next opening took the entries for theirs.
#[test]
fn indexes_do_not_outlive_their_records() {
    indexes_go_with_their_records(FaultPlan::new());
    // What could not be read then may be read later.
    for target in [FaultTarget::Open, FaultTarget::Read] {
        let unreadable = [".index", ".timeindex"]
            .into_iter()
            .fold(FaultPlan::new(), |plan, kind| {
                plan.fail_once(target, 1, FaultKind::Io).only_in(kind)
            });
        indexes_go_with_their_records(unreadable);
    }
}

fn indexes_go_with_their_records(faults: FaultPlan) {
    let config = LogConfig {
        segment_bytes_max: 1 << 20,
        ..small_config()
    };
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, config.clone());
    let value = "v".repeat(200);
    for time in 0..4 {
        append_at(&mut log, &value, time);
    }
    log.flush().unwrap();
    for time in 4..20 {
        append_at(&mut log, &value, time);
    }
    log.checkpoint_state().unwrap().run().unwrap();
    manager
        .write_recovery_points(&[entry(log.recovery_point())])
        .unwrap();

    let files = files.crash(CrashMode::SyncedOnly);
    files.set_faults(faults);
    let (manager, mut log) = load(&files, config.clone());
    assert_eq!(log.offsets().log_end, Offset::new(4));
    // The same sizes, later times.
    for time in 100..120 {
        append_at(&mut log, &value, time);
    }
    log.flush().unwrap();
    manager
        .write_recovery_points(&[entry(log.recovery_point())])
        .unwrap();
    let (_manager, log) = load(&files.crash(CrashMode::All), config);
    for (time, expected) in [(3, 3), (4, 4), (10, 4), (101, 5), (119, 23)] {
        let found = log
            .reader()
            .offset_for_timestamp(TimestampMs::new(time), ReadBound::HighWatermark)
            .unwrap();
        let found = found.map(|found| found.offset.get());
        assert_eq!(found, Some(expected), "the first one from {time} on");
    }
}

/// The offset index was stored, the time index was not: the recovered segment did not know the largest times of
/// what the offset index covers.
#[test]
fn a_checkpoint_that_stops_between_the_indexes_costs_no_look_up_by_time() {
    let mut stop_at = 1;
    loop {
        let files = MemFileSystem::new();
        let (manager, mut log) = create(&files, small_config());
        let value = "v".repeat(200);
        // The largest stands in the middle, where a recovery does not look again.
        let times = [0, 1, 2, 3, 4, 100, 5, 6];
        for time in &times[..4] {
            append_at(&mut log, &value, *time);
        }
        log.flush().unwrap();
        log.checkpoint_state().unwrap().run().unwrap();
        for time in &times[4..] {
            append_at(&mut log, &value, *time);
        }
        log.flush().unwrap();
        manager
            .write_recovery_points(&[entry(log.recovery_point())])
            .unwrap();

        files.set_faults(FaultPlan::new().stop_at(stop_at));
        let is_complete = log.checkpoint_state().unwrap().run().is_ok();
        for mode in [CrashMode::SyncedOnly, CrashMode::All] {
            let (_manager, log) = load(&files.crash(mode), small_config());
            for time in [0, 3, 4, 7, 100] {
                let found = log
                    .reader()
                    .offset_for_timestamp(TimestampMs::new(time), ReadBound::HighWatermark)
                    .unwrap();
                let expected = time.min(5);
                assert_eq!(
                    found.map(|found| found.offset),
                    Some(Offset::new(expected)),
                    "{time}, stopped at {stop_at}, {mode:?}"
                );
            }
        }
        if is_complete {
            return;
        }
        stop_at += 1;
    }
}

/// A checkpoint of the active segment was under way while the segment was rolled and sealed, and put its older
/// indexes in the place of the final ones.
#[test]
fn a_checkpoint_never_overwrites_what_a_sealing_stored() {
    /// How long the checkpoint stands still for the sealing, which is to wait for it: not an expectation.
    const PATIENCE: Duration = Duration::from_millis(50);
    let files = MemFileSystem::new();
    let hooked = HookedFileSystem::new(&files);
    let manager = open_on(Arc::clone(&hooked) as Arc<dyn FileSystem>);
    let mut log = manager.create(&partition(), TOPIC_ID, small_config()).unwrap();
    let value = "v".repeat(200);
    for time in 0..3 {
        append_at(&mut log, &value, time);
    }
    let checkpoint = log.checkpoint_state().unwrap();
    let (go, going) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    hooked.before("index", move || {
        go.send(()).unwrap();
        is_done.recv_timeout(PATIENCE).ok();
    });
    std::thread::scope(|scope| {
        scope.spawn(|| checkpoint.run().unwrap());
        going.recv().unwrap();
        for time in 3..9 {
            append_at(&mut log, &value, time);
        }
        log.roll().unwrap();
        log.flush().unwrap();
        log.seal_all().unwrap();
        done.send(()).ok();
    });
    let found = log
        .reader()
        .offset_for_timestamp(TimestampMs::new(8), ReadBound::HighWatermark)
        .unwrap();
    assert_eq!(found.map(|found| found.offset), Some(Offset::new(8)));
}

/// The name that a failed roll leaves lies within the offsets of the segment that goes on. The next start took it
/// for the end of the log.
#[test]
fn what_a_failed_roll_leaves_hides_no_records() {
    for recovery_point in [0, 7] {
        let files = MemFileSystem::new();
        let (manager, mut log) = create(&files, small_config());
        for index in 0..10 {
            append(&mut log, &index.to_string());
        }
        log.flush().unwrap();
        manager
            .write_recovery_points(&[entry(Offset::new(recovery_point))])
            .unwrap();
        drop(files.create(&path("00000000000000000005.log")).unwrap());
        let (_manager, mut log) = load(&files.crash(CrashMode::All), small_config());
        append(&mut log, "10");
        log.flush().unwrap();
        let expected: Vec<String> = (0..=10).map(|index| index.to_string()).collect();
        assert_eq!(values(&log), expected);
    }
}

#[test]
fn segments_that_overlap_are_damage() {
    let files = MemFileSystem::new();
    let (_manager, mut log) = create(&files, small_config());
    for index in 0..10 {
        append(&mut log, &index.to_string());
    }
    log.flush().unwrap();
    let image = files.crash(CrashMode::All);
    image
        .replace(&path("00000000000000000005.log"), b"records")
        .unwrap();
    let error = manager_of(&image)
        .load(&partition(), TOPIC_ID, small_config())
        .unwrap_err();
    assert!(matches!(error, LogError::Damaged(_)), "{error}");
}

/// The last stable offset was taken before the producers heard of the batch that opens a transaction.
#[test]
fn a_relaxed_log_shows_no_open_transaction_to_committed_readers() {
    let config = LogConfig {
        durable: false,
        ..small_config()
    };
    let (_manager, mut log) = create(&MemFileSystem::new(), config);
    append(&mut log, "plain");
    begin_transaction(&mut log);
    let offsets = log.offsets();
    assert_eq!(offsets.high_watermark, Offset::new(2));
    assert_eq!(offsets.last_stable, Offset::new(1));
}

fn begin_transaction(log: &mut Log) {
    let options = BatchOptions {
        transactional: true,
        producer: BatchProducer {
            id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(0),
        },
        ..BatchOptions::default()
    };
    let first = TransactionalBatch {
        producer_id: options.producer.id,
        producer_epoch: options.producer.epoch,
        base_sequence: options.producer.base_sequence,
        version: TransactionVersion::V1,
    };
    let proof = log.start_verification(&first).unwrap();
    let batch = built(b"open", TIME.get(), options);
    log.append_proved(&batch, AppendOrigin::Client, &proof).unwrap();
}

/// A cut that failed half way had removed segments that the log still claimed to have on the disk: it could not be
/// opened again.
#[test]
fn a_log_whose_truncation_failed_can_be_opened_again() {
    let mut stop_at = 1;
    loop {
        let files = MemFileSystem::new();
        let (manager, mut log) = create(&files, small_config());
        for index in 0..9 {
            append(&mut log, &index.to_string());
            if index % 3 == 2 {
                log.roll().unwrap();
            }
        }
        log.flush().unwrap();
        log.seal_all().unwrap();
        files.set_faults(FaultPlan::new().stop_at(stop_at));
        let outcome = manager.truncate(&mut log, Offset::new(1));
        files.set_faults(FaultPlan::new());
        if outcome.is_ok() {
            return;
        }
        let (log, _) = manager
            .reopen(&log)
            .unwrap_or_else(|error| panic!("stopped at {stop_at}: {error}"));
        let left = values(&log);
        assert_eq!(
            left.first().map(String::as_str),
            Some("0"),
            "stopped at {stop_at}"
        );
        stop_at += 1;
    }
}

/// A cut that met damage behind its first step went on as if nothing had happened, with files that it had removed.
#[test]
fn a_truncation_that_meets_damage_latches_the_log() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    for index in 0..30 {
        append(&mut log, &format!("{index:0100}"));
    }
    log.flush().unwrap();
    let file = path("00000000000000000000.log");
    let mut damaged = files.read(&file, 1 << 20).unwrap();
    damaged[16] = 9; // the magic of the first batch
    files.replace(&file, &damaged).unwrap();
    let error = manager.truncate(&mut log, Offset::new(20)).unwrap_err();
    assert!(log.latch_reason().is_some(), "{error}");
    assert!(error.to_string().contains("magic"), "{error}");
}

/// A power cut took records of a relaxed log that had been deleted already: the log began anew behind them, and had forgotten
/// what its producers had done in those that were on the disk, or knew it as of the last checkpoint.
#[test]
fn a_log_that_begins_anew_at_its_log_start_knows_its_producers() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        durable: false,
        ..small_config()
    };
    let by_producer = |sequence| BatchOptions {
        producer: BatchProducer {
            id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(sequence),
        },
        ..BatchOptions::default()
    };
    let (manager, mut log) = create(&files, config.clone());
    let send = |log: &mut Log, sequence: i32| {
        let batch = built(b"value", TIME.get(), by_producer(sequence));
        log.append_one(&batch)
    };
    send(&mut log, 0).unwrap();
    log.flush().unwrap();
    log.checkpoint_state().unwrap().run().unwrap();
    send(&mut log, 1).unwrap();
    log.flush().unwrap();
    append(&mut log, "not on the disk");
    let start = log.advance_log_start(Offset::new(3)).unwrap();
    manager.write_log_starts(&[entry(start)]).unwrap();

    let (_manager, mut log) = load(&files.crash(CrashMode::SyncedOnly), config);
    assert_eq!(log.offsets().log_start, Offset::new(3));
    assert_eq!(log.offsets().log_end, Offset::new(3));
    let again = send(&mut log, 1).unwrap();
    assert!(matches!(again, AppendOutcome::Duplicate { .. }), "{again:?}");
    send(&mut log, 2).unwrap();
}

/// The records were deleted, and their files removed, while a reader was on its way to them.
#[test]
fn a_reader_whose_records_are_deleted_under_it_is_told_so() {
    let files = MemFileSystem::new();
    let hooked = HookedFileSystem::new(&files);
    let manager = open_on(Arc::clone(&hooked) as Arc<dyn FileSystem>);
    let mut log = manager.create(&partition(), TOPIC_ID, small_config()).unwrap();
    for index in 0..6 {
        append_at(&mut log, &index.to_string(), index);
        log.roll().unwrap();
    }
    log.flush().unwrap();
    log.seal_all().unwrap();
    let reader = log.reader();
    let log = Arc::new(Mutex::new(log));
    let delete_to = |offset: i64| {
        let log = Arc::clone(&log);
        move || {
            let mut log = log.lock();
            let start = log.advance_log_start(Offset::new(offset)).unwrap();
            log.reclaim(start).run().unwrap();
        }
    };
    hooked.before("00000000000000000001.log", delete_to(3));
    let error = value_at(&reader, 1).unwrap_err();
    assert!(
        matches!(error, ReadError::OffsetOutOfRange { log_start, .. } if log_start == Offset::new(3)),
        "{error:?}"
    );
    hooked.before("00000000000000000003.timeindex", delete_to(5));
    let found = reader
        .offset_for_timestamp(TimestampMs::new(0), ReadBound::HighWatermark)
        .unwrap();
    assert_eq!(found.map(|found| found.offset), Some(Offset::new(5)));
}

/// An index entry that leads behind the batch it names made readers skip what lies between.
#[test]
fn an_index_that_leads_astray_is_made_again() {
    for is_sealed in [true, false] {
        let files = MemFileSystem::new();
        let (manager, mut log) = create(&files, small_config());
        for index in 0..30 {
            append(&mut log, &format!("{index:0200}"));
        }
        log.flush().unwrap();
        log.roll().unwrap();
        append(&mut log, &format!("{:0200}", 30));
        stop_in_order(manager, log);
        let name = if is_sealed {
            "00000000000000000000.index"
        } else {
            "00000000000000000015.index"
        };
        let mut index = files.read(&path(name), 1 << 20).unwrap();
        // The second entry takes over the third one's position; the rest is sound.
        assert!(40 <= index.len(), "{}", index.len());
        let third = index[20..24].to_vec();
        index[12..16].copy_from_slice(&third);
        index.drain(16..24);
        files.replace(&path(name), &index).unwrap();

        let (_manager, log) = load(&files, small_config());
        let expected: Vec<String> = (0..=30).map(|index| format!("{index:0200}")).collect();
        assert_eq!(values(&log), expected);
    }
}

/// A sync failed, the process was killed, the next one saw the records in the system's memory and a second sync of
/// them succeed: it showed them, and a power cut took them away from under what came later.
#[test]
fn records_of_a_failed_sync_survive_a_kill_and_a_power_cut_or_are_not_shown() {
    for durable in [true, false] {
        let config = LogConfig {
            durable,
            segment_bytes_max: 1 << 20,
            ..small_config()
        };
        let files = MemFileSystem::new();
        let (_manager, mut log) = create(&files, config.clone());
        append(&mut log, "on the disk");
        log.flush().unwrap();
        // Over several pages, which the next append does not write again by chance.
        let in_doubt = "in doubt ".repeat(2000);
        append(&mut log, &in_doubt);
        files.set_faults(
            FaultPlan::new()
                .fail_once(FaultTarget::Sync, 1, FaultKind::Io)
                .only_in(".log"),
        );
        log.flush().unwrap_err();

        let killed = files.crash(CrashMode::All);
        let (_manager, mut log) = load(&killed, config.clone());
        append(&mut log, "acknowledged");
        log.flush().unwrap();
        let seen = values(&log);
        assert_eq!(seen, ["on the disk", in_doubt.as_str(), "acknowledged"]);
        let cut = killed.crash(CrashMode::SyncedOnly);
        let (_manager, log) = load(&cut, config);
        assert_eq!(values(&log), seen, "durable: {durable}");
        let left: Vec<String> = cut
            .list(&path(""))
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert!(!left.contains(&"failed-sync".to_owned()), "{left:?}");
    }
}

/// The same where the process lives on, and opens the log again.
#[test]
fn a_relaxed_log_brings_what_a_failed_sync_left_to_the_disk_when_it_is_opened_again() {
    let config = LogConfig {
        durable: false,
        segment_bytes_max: 1 << 20,
        ..small_config()
    };
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, config.clone());
    let (one, two) = ("one ".repeat(3000), "two ".repeat(3000));
    append(&mut log, &one);
    append(&mut log, &two);
    let slice = log.reader().read(request(0)).unwrap();
    files.set_faults(
        FaultPlan::new()
            .fail_once(FaultTarget::Sync, 1, FaultKind::Io)
            .only_in(".log"),
    );
    log.flush().unwrap_err();
    let (mut log, _) = manager.reopen(&log).unwrap();
    append(&mut log, "three");
    log.flush().unwrap();
    drop(slice);
    let (_manager, log) = load(&files.crash(CrashMode::SyncedOnly), config);
    assert_eq!(values(&log), [one, two, "three".to_owned()]);
}

/// The sync that recovery itself makes failed; the second attempt's succeeded without doing anything.
#[test]
fn a_recovery_whose_sync_failed_does_not_trust_the_next_one() {
    for takes_marks in [true, false] {
        let files = MemFileSystem::new();
        let (_manager, mut log) = create(&files, small_config());
        append(&mut log, "written");
        let killed = files.crash(CrashMode::All);
        let manager = manager_of(&killed);
        let mut plan = FaultPlan::new()
            .fail_once(FaultTarget::Sync, 1, FaultKind::Io)
            .only_in(".log");
        if !takes_marks {
            plan = plan
                .fail_once(FaultTarget::Create, 1, FaultKind::Io)
                .only_in("failed-sync");
        }
        killed.set_faults(plan);
        let error = manager.load(&partition(), TOPIC_ID, small_config()).unwrap_err();
        assert!(matches!(error, LogError::Storage(_)), "{error}");
        let (log, _) = manager.load(&partition(), TOPIC_ID, small_config()).unwrap();
        let seen = values(&log);
        let (_manager, log) = load(&killed.crash(CrashMode::SyncedOnly), small_config());
        assert_eq!(values(&log), seen, "marks: {takes_marks}");
    }
}

/// Deleted topics left their lines in the checkpoint files for ever.
#[test]
fn checkpoints_forget_deleted_partitions() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    append(&mut log, "x");
    log.flush().unwrap();
    manager.write_recovery_points(&[entry(Offset::new(1))]).unwrap();
    manager.write_log_starts(&[entry(Offset::new(1))]).unwrap();
    drop(log);
    manager.schedule_delete(&partition(), TOPIC_ID).unwrap();
    manager.write_recovery_points(&[]).unwrap();
    manager.write_log_starts(&[]).unwrap();
    for name in ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint"] {
        let contents = files.read(&Path::new("/data").join(name), 1 << 20).unwrap();
        assert_eq!(contents, b"0\n0\n", "{name}");
    }
}

/// Where much came in and no point had moved, the file was written again every second, with syncs beside those that producers wait
/// for.
#[test]
fn recovery_points_that_stand_where_they_stood_are_not_written_again() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    append(&mut log, "x");
    log.flush().unwrap();
    let point = [entry(log.recovery_point())];
    manager.write_moved_recovery_points(&point).unwrap();
    let before = files.counters();
    manager.write_moved_recovery_points(&point).unwrap();
    assert_eq!(files.counters(), before);
    // What was not written is not taken for it.
    append(&mut log, "y");
    log.flush().unwrap();
    let point = [entry(log.recovery_point())];
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io));
    manager.write_moved_recovery_points(&point).unwrap_err();
    manager.write_moved_recovery_points(&point).unwrap();
    drop(manager);
    let manager = manager_of(&files.crash(CrashMode::SyncedOnly));
    assert_eq!(manager.recovery_point_on_disk(&partition()), Offset::new(2));
    // A line of a partition that is gone is a change, too.
    manager.schedule_delete(&partition(), TOPIC_ID).unwrap();
    manager.write_moved_recovery_points(&[]).unwrap();
    assert_eq!(manager.recovery_point_on_disk(&partition()), Offset::ZERO);
}

/// What had been meant for the disk was taken for what it has: the second attempt cut the log and left its point behind the end.
#[test]
fn a_truncation_that_could_not_write_its_point_writes_it_when_it_is_tried_again() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    (0..5).for_each(|index| append(&mut log, &index.to_string()));
    log.flush().unwrap();
    manager
        .write_recovery_points(&[entry(log.recovery_point())])
        .unwrap();
    let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
    files.set_faults(fault.only_in("recovery-point"));
    manager.truncate(&mut log, Offset::new(2)).unwrap_err();
    manager.truncate(&mut log, Offset::new(2)).unwrap();
    drop((manager, log));
    let (_manager, log) = load(&files.crash(CrashMode::SyncedOnly), small_config());
    assert_eq!(values(&log), ["0", "1"]);
}

/// The first segments were gone and nobody said so.
#[test]
fn missing_first_segments_are_reported() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    append(&mut log, "0");
    log.roll().unwrap();
    append(&mut log, "1");
    stop_in_order(manager, log);
    let report = |files: &MemFileSystem| -> LoadReport {
        let manager = manager_of(files);
        manager.load(&partition(), TOPIC_ID, small_config()).unwrap().1
    };
    assert_eq!(report(&files.crash(CrashMode::All)).missing_before, None);
    files.remove_file(&path("00000000000000000000.log")).unwrap();
    assert_eq!(
        report(&files.crash(CrashMode::All)).missing_before,
        Some(Offset::new(1))
    );
}

/// A snapshot of the producers that the disk does not give back kept the whole log from opening.
#[test]
fn an_unreadable_snapshot_is_none() {
    let files = MemFileSystem::new();
    let (manager, mut log) = create(&files, small_config());
    append(&mut log, "x");
    stop_in_order(manager, log);
    let manager = manager_of(&files);
    files.set_faults(
        FaultPlan::new()
            .fail_from(FaultTarget::Read, 1, FaultKind::Io)
            .only_in(".snapshot"),
    );
    manager.load(&partition(), TOPIC_ID, small_config()).unwrap();
}

/// Headers of large batches lie further apart than the first look at the index's place reached.
#[test]
fn a_reader_that_must_not_block_never_touches_a_cold_page() {
    let files = MemFileSystem::new();
    let (_manager, mut log) = create(
        &files,
        LogConfig {
            segment_bytes_max: 1 << 20,
            ..small_config()
        },
    );
    for _ in 0..4 {
        append(&mut log, &"x".repeat(20_000));
    }
    log.flush().unwrap();
    let impatient = ReadRequest {
        patience: Patience::MustNotBlock,
        ..request(2)
    };
    assert!(log.reader().read(impatient).is_ok(), "just written");
    // As a system does that is short of memory, also with the segment that is appended to.
    files.drop_caches();
    assert!(matches!(log.reader().read(impatient), Err(ReadError::WouldBlock)));
    assert!(value_at(&log.reader(), 2).is_ok());
    assert!(log.reader().read(impatient).is_ok(), "brought in");
}

/// A reader at the last stable offset looked up the batch there, with the disk's help, only to find nothing.
#[test]
fn a_committed_reader_that_waits_asks_no_disk() {
    let files = MemFileSystem::new();
    let (_manager, mut log) = create(&files, small_config());
    append(&mut log, "x");
    begin_transaction(&mut log);
    log.flush().unwrap();
    files.drop_caches();
    let offsets = log.reader().offsets();
    assert_eq!((offsets.last_stable.get(), offsets.high_watermark.get()), (1, 2));
    let read = log.reader().read(ReadRequest {
        bound: ReadBound::LastStable,
        patience: Patience::MustNotBlock,
        ..request(1)
    });
    assert!(read.unwrap().records.is_empty());
}

/// Only a roll by size was foreseen, and the others made files on a runtime's thread.
#[test]
fn every_roll_is_foreseen() {
    let files = MemFileSystem::new();
    let (_manager, mut log) = create(
        &files,
        LogConfig {
            segment_ms: 1000,
            ..small_config()
        },
    );
    append(&mut log, "0");
    let batch = |later_ms| built(b"1", TIME.get() + later_ms, BatchOptions::default());
    assert!(!log.append_will_roll(&[batch(1000)]));
    assert!(log.append_will_roll(&[batch(1001)]));
    log.append_one(&batch(1001)).unwrap();
    assert_eq!(log.reader().segment_count(), 2);
    let large = built(&[0; 4000], TIME.get() + 1001, BatchOptions::default());
    assert!(log.append_will_roll(std::slice::from_ref(&large)));
}

/// What Kafka answers to a repeated batch (seen on 4.3.0): the batch's largest timestamp, also where it is the producer's.
#[test]
fn a_duplicate_is_answered_with_the_time_of_its_batch() {
    let (_manager, mut log) = create(&MemFileSystem::new(), small_config());
    let producer = BatchProducer {
        id: ProducerId::new(1),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(0),
    };
    for (timestamp_type, first) in [
        (TimestampType::CreateTime, None),
        (TimestampType::LogAppendTime, Some(TIME)),
    ] {
        let id = ProducerId::new(1 + i64::from(first.is_some()));
        let options = BatchOptions {
            producer: BatchProducer { id, ..producer },
            timestamp_type,
            ..BatchOptions::default()
        };
        let batch = built(b"x", TIME.get(), options);
        let appended = log.append_one(&batch).unwrap();
        assert!(
            matches!(appended, AppendOutcome::Appended { log_append_time, .. } if log_append_time == first),
            "{appended:?}"
        );
        let again = log.append_one(&batch).unwrap();
        assert!(
            matches!(
                again,
                AppendOutcome::Duplicate {
                    log_append_time: Some(TIME),
                    ..
                }
            ),
            "{again:?}"
        );
    }
}

/// An orderly stop takes a log that nobody wrote to for stored, and each start made again what was missing.
#[test]
fn what_an_orderly_stop_stored_and_is_gone_is_stored_by_the_next_one() {
    for gone in ["", ".index", ".timeindex", ".snapshot"] {
        let files = MemFileSystem::new();
        let (manager, mut log) = create(&files, small_config());
        append(&mut log, "a");
        log.close().unwrap();
        drop(log);
        manager.mark_clean().unwrap();
        drop(manager);
        let directory = path("");
        let names: Vec<_> = files
            .list(&directory)
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let lost: Vec<_> = names
            .iter()
            .filter(|name| !gone.is_empty() && name.ends_with(gone))
            .collect();
        assert_eq!(lost.len(), usize::from(!gone.is_empty()), "{names:?}");
        for name in lost {
            files.remove_file(&path(name)).unwrap();
        }
        let (_manager, mut log) = load(&files, small_config());
        assert_eq!(log.is_as_closed(), gone.is_empty(), "{gone}");
        log.close().unwrap();
        let mut again: Vec<_> = files
            .list(&directory)
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        again.sort();
        let mut names = names;
        names.sort();
        assert_eq!(again, names);
    }
}

/// After a kill the end of each segment was cut and synced twice, when the log was opened and when the segment was completed, and the
/// directory twice at the end of the opening.
#[test]
fn a_start_after_a_kill_syncs_nothing_twice() {
    let files = MemFileSystem::new();
    let config = LogConfig {
        segment_bytes_max: 300,
        ..small_config()
    };
    let (manager, mut log) = create(&files, config.clone());
    for index in 0..20 {
        append(&mut log, &format!("{index}"));
    }
    log.flush().unwrap();
    let count = u64::try_from(log.reader().segment_count()).unwrap();
    assert!(4 < count);
    drop((manager, log));

    let killed = files.crash(CrashMode::All);
    let manager = manager_of(&killed);
    let before = killed.counters();
    let (mut log, _) = manager.load(&partition(), TOPIC_ID, config.clone()).unwrap();
    let loaded = killed.counters();
    // Each segment, and the leader epochs with the names.
    assert_eq!(loaded.file_syncs - before.file_syncs, count + 1);
    assert_eq!(loaded.directory_syncs - before.directory_syncs, 1);
    log.seal_all().unwrap();
    let sealed = killed.counters();
    // A snapshot and two indexes, each put in its place.
    assert_eq!(sealed.file_syncs - loaded.file_syncs, 3 * (count - 1));
    assert_eq!(sealed.directory_syncs - loaded.directory_syncs, 3 * (count - 1));
    assert_eq!(sealed.length_changes, loaded.length_changes);

    manager
        .write_recovery_points(&[entry(log.recovery_point())])
        .unwrap();
    let (_manager, log) = load(&killed.crash(CrashMode::SyncedOnly), config);
    assert_eq!(
        values(&log),
        (0..20).map(|index| index.to_string()).collect::<Vec<_>>()
    );
}

/// A segment was cut, and the sync of that failed: the system took the length for synced, a second sync brought nothing to the disk, and
/// after a power cut the zeros behind the end were taken for records.
#[test]
fn a_cut_whose_sync_failed_is_made_again_before_the_segment_is_trusted() {
    for (recovery_point, is_killed) in [(0, false), (0, true), (1, true)] {
        cut_again(Offset::new(recovery_point), is_killed);
    }
}

fn cut_again(recovery_point: Offset, is_killed: bool) {
    let mut files = MemFileSystem::new();
    let (mut manager, mut log) = create(&files, small_config());
    append(&mut log, "a");
    log.flush().unwrap();
    manager.write_recovery_points(&[entry(recovery_point)]).unwrap();
    log.roll().unwrap();
    append(&mut log, "b");
    log.flush().unwrap();
    let name = path("00000000000000000000.log");
    let length = |files: &MemFileSystem| files.open_read_only(&name).unwrap().length().unwrap();
    let prepared = length(&files);
    let failing = FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io);
    files.set_faults(failing.only_in("00000000000000000000.log"));
    log.seal_all().unwrap_err();
    files.set_faults(FaultPlan::new());
    assert!(length(&files) < prepared);
    if is_killed {
        drop((manager, log));
        files = files.crash(CrashMode::All);
        (manager, log) = load(&files, small_config());
    }
    log.seal_all().unwrap();
    assert_eq!(log.recovery_point(), Offset::new(2));
    drop((manager, log));
    let survived = files.crash(CrashMode::SyncedOnly);
    assert_eq!(length(&survived), length(&files), "{recovery_point} {is_killed}");
}
