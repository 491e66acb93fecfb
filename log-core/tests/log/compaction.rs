//! Compaction against a model: whatever is cleaned, and wherever that is stopped, replaying the log by key gives what
//! replaying everything that was ever appended gives; and each record that is left stands at its offset as it was.
//!
//! Beside random sequences, one workload is stopped at every write, sync and change of a name. `STRATALOG_CRASH_SEEDS=n`
//! tries n random survivals at each point (default 2). In half of the recoveries, only the log itself tells what producers
//! did: what a cleaning leaves must be enough for that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log_core::cleaner::{CleanError, Cleaning, Dirt, OffsetMap, Pace, Stopped, WriteSizes};
use log_core::config::{CleanupPolicy, LogConfig};
use log_core::fs::FileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::log::{ReadBound, ReadRequest, RetentionOutcome, SwapError};
use log_core::model::{Offset, TimestampMs};
use log_core::record::compression::Compression;
use log_core::segment::segment::Patience;

use crate::keyed::{
    CODECS, DELETE_RETENTION_MS, DIRECTORY, Freely, Keyed, LARGE_MAP, ONE_BY_ONE, TOGETHER, TRANSACTIONAL,
    compacted, filled, names_in, read_all,
};
use crate::support::seeds;

/// As a recovery point: everything is on the disk.
const EVERYTHING: Offset = Offset::new(i64::MAX);

#[test]
fn random_sequences_keep_the_last_record_of_each_key() {
    for seed in seeds(60) {
        let run = std::panic::catch_unwind(|| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut keyed = Keyed::new(compacted());
            for _ in 0..rng.usize(60..160) {
                let (codec, producer) = (CODECS[rng.usize(..CODECS.len())], TRANSACTIONAL[rng.usize(..2)]);
                match rng.u8(..28) {
                    0..12 => {
                        let records = keyed.random_records(&mut rng);
                        keyed.append(records, codec, rng.bool()).unwrap();
                    }
                    12 => keyed.flush().unwrap(),
                    13 => {
                        keyed.flush().unwrap();
                        keyed.checkpoint().unwrap();
                    }
                    14 | 15 => {
                        keyed.flush().unwrap();
                        keyed.checkpoint().unwrap();
                        let map_bytes = if rng.bool() { LARGE_MAP } else { rng.u64(48..300) };
                        let held = keyed.log().reader();
                        let sizes = WriteSizes {
                            chunk: rng.u64(1..4000),
                            swap: rng.u64(1..8000),
                        };
                        let end = keyed.clean(map_bytes, sizes).unwrap();
                        keyed.check(if map_bytes == LARGE_MAP { end } else { 0 });
                        read_all(&held, "through a reader from before");
                        keyed.log().reader().release_idle();
                    }
                    16 => keyed.clock.advance(rng.i64(0..DELETE_RETENTION_MS * 2)),
                    17 => keyed.restart().unwrap(),
                    18 => {
                        let mode = match rng.u8(..3) {
                            0 => CrashMode::SyncedOnly,
                            1 => CrashMode::All,
                            _ => CrashMode::Random { seed: rng.u64(..) },
                        };
                        let image = keyed.files.crash(mode);
                        if rng.bool() {
                            keyed.recover_on(image);
                        } else {
                            keyed.recover_without_snapshots(image);
                        }
                    }
                    19 => keyed.retry(),
                    20..24 => {
                        let records = keyed.random_records(&mut rng);
                        keyed.append_in_transaction(producer, records, codec).unwrap();
                    }
                    _ => keyed.end_transaction(producer, rng.bool()).unwrap(),
                }
            }
            keyed.flush().unwrap();
            keyed.check(0);
        });
        assert!(run.is_ok(), "failed with STRATALOG_SEED={seed}");
    }
}

/// Cleanings of logs that were never cleaned, that were, and in which tombstones have become old.
fn workload(keyed: &mut Keyed) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(4);
    let [first, second] = TRANSACTIONAL;
    for (round, sizes) in [TOGETHER, ONE_BY_ONE, TOGETHER].into_iter().enumerate() {
        for index in 0..18 {
            let records = keyed.random_records(&mut rng);
            let codec = CODECS[index % CODECS.len()];
            match index {
                2 | 6 => keyed.append_in_transaction(first, records, codec)?,
                4 | 9 => keyed.append_in_transaction(second, records, codec)?,
                _ => keyed.append(records, codec, index % 2 == 0)?,
            }
            match index {
                8 => keyed.end_transaction(first, true)?,
                12 => keyed.end_transaction(second, round == 1)?,
                _ => {}
            }
        }
        keyed.flush()?;
        keyed.checkpoint()?;
        keyed.clean(LARGE_MAP, sizes)?;
        keyed.clock.advance(DELETE_RETENTION_MS + 1);
    }
    Ok(())
}

#[test]
fn a_cleaning_may_stop_anywhere() {
    let operations = {
        let mut keyed = Keyed::new(compacted());
        let before = keyed.files.counters().operations();
        workload(&mut keyed).unwrap();
        keyed.check(0);
        keyed.files.counters().operations() - before
    };
    assert!(200 < operations, "the workload became too small: {operations}");
    let count = std::env::var("STRATALOG_CRASH_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    for stop_at in 1..=operations + 1 {
        let random = (0..count).map(|index| CrashMode::Random {
            seed: stop_at * 1000 + index,
        });
        for mode in [CrashMode::SyncedOnly, CrashMode::All].into_iter().chain(random) {
            let run = std::panic::catch_unwind(|| {
                let mut keyed = Keyed::new(compacted());
                keyed.files.set_faults(FaultPlan::new().stop_at(stop_at));
                let outcome = workload(&mut keyed);
                assert_eq!(outcome.is_ok(), operations < stop_at, "{outcome:?}");
                let image = keyed.files.crash(mode);
                if stop_at % 2 == 0 {
                    keyed.recover_on(image);
                } else {
                    keyed.recover_without_snapshots(image);
                }
                keyed.retry();
                let unfinished = |name: &String| [".cleaned", ".swap"].iter().any(|one| name.ends_with(one));
                let left: Vec<_> = names_in(&keyed.files).into_iter().filter(unfinished).collect();
                assert!(left.is_empty(), "{left:?}");
                // The log goes on, is cleaned again, and survives a power cut.
                for producer in TRANSACTIONAL {
                    keyed.end_transaction(producer, stop_at % 3 == 0).unwrap();
                }
                let record = keyed.record(1, false);
                keyed.append(vec![record], Compression::None, true).unwrap();
                keyed.flush().unwrap();
                keyed.log().roll().unwrap();
                keyed.flush().unwrap();
                keyed.checkpoint().unwrap();
                let end = keyed.clean(LARGE_MAP, TOGETHER).unwrap();
                keyed.check(end);
                let image = keyed.files.crash(CrashMode::SyncedOnly);
                keyed.recover_without_snapshots(image);
                keyed.check(end);
                keyed.retry();
            });
            assert!(
                run.is_ok(),
                "failed when stopped at operation {stop_at} of {operations}, {mode:?}"
            );
        }
    }
    println!(
        "{operations} stopping points, {} crashes each, 0 violations",
        2 + count
    );
}

#[test]
fn readers_see_one_content_while_segments_are_swapped() {
    let mut keyed = filled(compacted());
    let reader = keyed.log().reader();
    let before = read_all(&reader, "before");
    let end = keyed.dirt().first_uncleanable;
    let mut cleaning = keyed.begin_cleaning(TOGETHER);
    let request = ReadRequest {
        offset: Offset::ZERO,
        bytes_max: 700,
        at_least_one_batch: true,
        bound: ReadBound::HighWatermark,
        patience: Patience::MayBlock,
    };
    let slice = reader.read(request).unwrap().records;
    let bytes = slice.to_vec();
    loop {
        let cleaned = cleaning.next_groups(&mut Freely).unwrap();
        if cleaned.is_empty() {
            break;
        }
        // Nothing of the old segments is open when the swap begins.
        reader.release_idle();
        reader.release_idle();
        let unswapped = read_all(&reader, "written aside");
        let task = keyed.log().begin_swap(cleaned, EVERYTHING).unwrap();
        reader.release_idle();
        reader.release_idle();
        let done = task.run();
        reader.release_idle();
        reader.release_idle();
        // The files are others already; whoever still has the old segments reads them.
        assert_eq!(read_all(&reader, "files exchanged"), unswapped);
        keyed.log().finish_swap(done).unwrap();
    }
    let after = read_all(&reader, "after");
    assert!(after.len() < before.len(), "{} of {}", after.len(), before.len());
    assert_eq!(slice, bytes, "a slice from before shows what it showed");
    keyed.check(end.get());
}

/// Reads all the time while the log is cleaned again and again.
#[test]
fn a_reader_on_another_thread_never_fails() {
    let mut keyed = filled(compacted());
    let is_over = Arc::new(AtomicBool::new(false));
    let (reader, over) = (keyed.log().reader(), Arc::clone(&is_over));
    let thread = std::thread::spawn(move || {
        let mut passes = 0;
        while !over.load(Ordering::Relaxed) || passes == 0 {
            read_all(&reader, "beside the cleaner");
            reader.release_idle();
            passes += 1;
        }
        passes
    });
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..40 {
        for _ in 0..12 {
            let records = keyed.random_records(&mut rng);
            keyed.append(records, Compression::None, false).unwrap();
        }
        keyed.flush().unwrap();
        keyed.checkpoint().unwrap();
        keyed.clean(LARGE_MAP, TOGETHER).unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(0 < thread.join().unwrap());
    keyed.check(0);
}

/// On a busy disk each sync waits for what others write; of a directory, one serves any number of names.
#[test]
fn segments_that_are_swapped_in_together_share_the_syncs_of_their_names() {
    let mut keyed = filled(compacted());
    let mut cleaning = keyed.begin_cleaning(TOGETHER);
    let cleaned = cleaning.next_groups(&mut Freely).unwrap();
    assert!(2 < cleaned.len(), "{}", cleaned.len());
    let before = keyed.files.counters().directory_syncs;
    keyed.swap(cleaned, EVERYTHING).unwrap();
    assert_eq!(keyed.files.counters().directory_syncs - before, 4);
    assert!(cleaning.next_groups(&mut Freely).unwrap().is_empty());
}

#[test]
fn what_the_recovery_point_does_not_cover_is_not_swapped() {
    let mut keyed = filled(compacted());
    let mut cleaning = keyed.begin_cleaning(ONE_BY_ONE);
    let cleaned = cleaning.next_groups(&mut Freely).unwrap();
    assert!(keyed.log().begin_swap(cleaned, Offset::new(3)).is_none());
    let nothing = Dirt::of(
        &keyed.log().cleaner_view(Offset::ZERO),
        None,
        &keyed.config.clone(),
        TimestampMs::new(0),
    )
    .unwrap();
    assert_eq!(
        (nothing.cleanable_bytes, nothing.is_due(&keyed.config)),
        (0, false)
    );
}

/// Retention took segments away from each cleaning that was longer than its rounds, so that none came to its end.
#[test]
fn retention_waits_for_a_cleaning() {
    let both = CleanupPolicy {
        delete: true,
        compact: true,
    };
    let mut keyed = filled(LogConfig {
        cleanup_policy: both,
        retention_bytes: Some(4000),
        ..compacted()
    });
    let before = keyed.log().reader().segment_count();
    let mut cleaning = keyed.begin_cleaning(ONE_BY_ONE);
    let retention = keyed.log().apply_retention(TimestampMs::new(0)).unwrap();
    let RetentionOutcome::Advanced {
        log_start,
        segment_count,
    } = retention
    else {
        panic!("{retention:?}");
    };
    assert_eq!(
        keyed.log().offsets().log_start,
        log_start,
        "readers see it at once"
    );
    assert!(keyed.log().reclaim(log_start).is_empty());
    loop {
        let cleaned = cleaning.next_groups(&mut Freely).unwrap();
        if cleaned.is_empty() {
            break;
        }
        keyed.swap(cleaned, EVERYTHING).unwrap();
        assert!(keyed.log().reclaim(log_start).is_empty());
    }
    drop(cleaning);
    assert!(0 < keyed.log().reclaim(log_start).run().unwrap());
    let after = keyed.log().reader().segment_count();
    assert!(
        after + segment_count <= before,
        "{after} of {before}, {segment_count}"
    );
    assert!(!read_all(&keyed.log().reader(), "after").is_empty());
}

/// For want of a descriptor nothing was exchanged, and the log refused everything all the same.
#[test]
fn a_swap_that_could_not_begin_changes_nothing() {
    let mut failures = 0;
    for nth in 1.. {
        let mut keyed = filled(compacted());
        keyed.restart().unwrap();
        let names = names_in(&keyed.files);
        let reader = keyed.log().reader();
        let mut cleaning = keyed.begin_cleaning(TOGETHER);
        let cleaned = cleaning.next_groups(&mut Freely).unwrap();
        let first = cleaned[0].old[0].base_offset();
        reader.release_idle();
        reader.release_idle();
        let task = keyed.log().begin_swap(cleaned, EVERYTHING).unwrap();
        let fault = FaultPlan::new().fail_once(FaultTarget::Open, nth, FaultKind::OutOfResources);
        keyed.files.set_faults(fault);
        let result = task.run();
        keyed.files.set_faults(FaultPlan::new());
        if result.is_ok() {
            keyed.log().finish_swap(result).unwrap();
            break;
        }
        failures += 1;
        let finished = keyed.log().finish_swap(result);
        assert!(
            matches!(finished, Err(SwapError::NotBegun(CleanError::Storage(_)))),
            "{finished:?}"
        );
        assert_eq!(keyed.log().latch_reason(), None);
        cleaning.give_up();
        assert_eq!(names_in(&keyed.files), names);
        // What nobody reads is closed: the file is looked for under its name.
        reader.release_idle();
        reader.release_idle();
        let log = Path::new(DIRECTORY).join(format!("{:020}.log", first.get()));
        let aside = log.with_extension("aside");
        keyed.files.rename(&log, &aside).unwrap();
        let request = ReadRequest {
            offset: first,
            bytes_max: 1,
            at_least_one_batch: true,
            bound: ReadBound::HighWatermark,
            patience: Patience::MayBlock,
        };
        assert!(reader.read(request).is_err());
        keyed.files.rename(&aside, &log).unwrap();
        let end = keyed.clean(LARGE_MAP, TOGETHER).unwrap();
        keyed.check(end);
    }
    assert!(1 < failures, "{failures}");
}

#[test]
fn a_swap_that_stopped_half_way_is_found_out_by_opening_the_log() {
    for target in [
        FaultTarget::Rename,
        FaultTarget::SyncDirectory,
        FaultTarget::Remove,
    ] {
        for nth in 1.. {
            let mut keyed = filled(compacted());
            let mut cleaning = keyed.begin_cleaning(TOGETHER);
            let cleaned = cleaning.next_groups(&mut Freely).unwrap();
            let task = keyed.log().begin_swap(cleaned, EVERYTHING).unwrap();
            keyed
                .files
                .set_faults(FaultPlan::new().fail_once(target, nth, FaultKind::Io));
            let result = task.run();
            keyed.files.set_faults(FaultPlan::new());
            if keyed.log().finish_swap(result).is_ok() {
                // Of one old segment, nothing is removed.
                assert!(1 < nth || target == FaultTarget::Remove, "{target:?}");
                break;
            }
            cleaning.give_up();
            keyed.reopen();
            keyed.check(0);
            let end = keyed.clean(LARGE_MAP, TOGETHER).unwrap();
            keyed.check(end);
        }
    }
}

/// Somebody took the new segment away: the old ones were removed all the same.
#[test]
fn without_the_new_segment_the_old_ones_stay() {
    for kind in ["log", "index", "timeindex"] {
        let mut keyed = filled(compacted());
        let mut cleaning = keyed.begin_cleaning(TOGETHER);
        let cleaned = cleaning.next_groups(&mut Freely).unwrap();
        // Those before it have their new names by then.
        let name = format!("{:020}.{kind}.cleaned", cleaned[1].old[0].base_offset().get());
        let task = keyed.log().begin_swap(cleaned, EVERYTHING).unwrap();
        keyed.files.remove_file(&Path::new(DIRECTORY).join(name)).unwrap();
        let finished = {
            let result = task.run();
            keyed.log().finish_swap(result)
        };
        assert!(matches!(finished, Err(SwapError::Unknown(_))), "{finished:?}");
        cleaning.give_up();
        keyed.reopen();
        keyed.check(0);
    }
}

/// Without the checkpoint files nobody knows what was on the disk; then the cleaner's own tells a gap from a torn end.
#[test]
fn gaps_survive_the_loss_of_the_recovery_point() {
    let mut keyed = filled(compacted());
    let end = keyed.clean(LARGE_MAP, TOGETHER).unwrap();
    let image = keyed.files.crash(CrashMode::SyncedOnly);
    image
        .remove_file(Path::new("/data/recovery-point-offset-checkpoint"))
        .unwrap();
    keyed.recover_on(image);
    keyed.check(end);
}

/// Compaction relied on the later point: were it taken back, the next recovery would cut the log at a gap.
#[test]
fn a_late_write_does_not_take_the_recovery_point_back() {
    let mut keyed = filled(compacted());
    let end = keyed.clean(LARGE_MAP, TOGETHER).unwrap();
    let manager = keyed.manager();
    manager
        .write_recovery_points(&Keyed::entry(Offset::new(1)))
        .unwrap();
    let image = keyed.files.crash(CrashMode::SyncedOnly);
    image
        .remove_file(Path::new("/data/cleaner-offset-checkpoint"))
        .unwrap();
    keyed.recover_on(image);
    keyed.check(end);
}

#[test]
fn a_stopped_cleaning_changes_nothing() {
    struct Stops(u64);
    impl Pace for Stops {
        fn spend(&mut self, bytes: u64) -> Result<(), Stopped> {
            self.0 = self.0.checked_sub(bytes).ok_or(Stopped)?;
            Ok(())
        }
    }
    let mut keyed = filled(compacted());
    let before = read_all(&keyed.log().reader(), "before");
    let dirt = keyed.dirt();
    let mut stops = 0;
    for bytes in (0..).step_by(700) {
        let to_clean = keyed.log().begin_cleaning(&dirt).run().unwrap();
        let mut pace = Stops(bytes);
        let stopped = Cleaning::begin(to_clean, OffsetMap::new(LARGE_MAP, 900), TOGETHER, &mut pace)
            .and_then(|mut cleaning| cleaning.next_groups(&mut pace).map(drop));
        if stopped.is_ok() {
            break;
        }
        assert!(
            matches!(stopped, Err(CleanError::Stopped)),
            "after {bytes}: {stopped:?}"
        );
        let names = names_in(&keyed.files);
        assert!(!names.iter().any(|name| name.ends_with(".cleaned")));
        stops += 1;
    }
    assert!(5 < stops, "{stops}");
    assert_eq!(read_all(&keyed.log().reader(), "after"), before);
}

/// What a small map does not take stands in a segment of which the rest is dirty: overdue, it was never due.
#[test]
fn the_rest_of_a_half_cleaned_segment_is_dirty() {
    let mut keyed = filled(LogConfig {
        max_compaction_lag_ms: 1000,
        ..compacted()
    });
    let segments_end = keyed.dirt().first_uncleanable;
    let mut checkpoint = Offset::ZERO;
    let mut steps = 0;
    while checkpoint < segments_end {
        keyed.clock.advance(2000);
        let view = keyed.log().cleaner_view(EVERYTHING);
        let now = log_core::clock::Clock::now(&*keyed.clock);
        let dirt = Dirt::of(&view, Some(checkpoint), &keyed.config, now).unwrap();
        assert!(
            dirt.is_due(&keyed.config),
            "at {checkpoint} of {segments_end}: {dirt:?}"
        );
        let log = keyed.log().begin_cleaning(&dirt).run().unwrap();
        let cleaning = Cleaning::begin(log, OffsetMap::new(48, 900), TOGETHER, &mut Freely).unwrap();
        assert!(checkpoint < cleaning.end());
        checkpoint = cleaning.end();
        steps += 1;
    }
    assert!(10 < steps, "{steps}");
}
