//! A scripted workload is stopped at every write, sync, allocation and change of a directory it makes; what
//! a crash leaves is opened, compared, written to, stopped again in other ways, and compared again. So is a start after a kill.
//!
//! `STRATALOG_CRASH_SEEDS=n` tries n random survivals of the unsynced pages at each point (default 2).

use crate::support::{World, small_config};
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::FaultPlan;
use log_core::model::{Offset, ProducerId};
use log_core::record::compression::Compression;

/// Appends, group commits, rolls, seals, checkpoints, transactions, retries, deletions, retention and an orderly restart.
fn workload(world: &mut World) -> Result<(), String> {
    let producer = Some(ProducerId::new(7));
    let (first, second) = (ProducerId::new(10), ProducerId::new(11));
    for round in 0..4 {
        // One transaction within each round, one over two rounds, aborted in turns.
        world.append_in_transaction(first, 2)?;
        world.append_in_transaction(second, 1)?;
        for batch in 0..6 {
            let codec = if batch % 2 == 0 {
                Compression::None
            } else {
                Compression::Lz4
            };
            world.append(1 + batch % 3, 120, codec, producer)?;
            if batch % 2 == 1 {
                world.flush()?;
            }
            world.append(2, 300, Compression::None, None)?;
        }
        world.end_transaction(first, round % 2 == 0)?;
        world.append_in_transaction(second, 1)?;
        if round % 2 == 1 {
            world.end_transaction(second, round == 1)?;
        }
        world.flush()?;
        world.seal()?;
        if round % 2 == 0 {
            world.checkpoint()?;
        }
        world.append(3, 100, Compression::Zstd, producer)?;
        world.append_run(&[(1, 200), (2, 60), (1, 300), (2, 100)], producer)?;
        let visible = world.log().offsets().high_watermark.get();
        world.delete_records(i64::midpoint(world.log_start, visible))?;
        world.clock.advance(1000);
        world.apply_retention()?;
        if round == 2 {
            world.restart()?;
        }
    }
    world.flush()
}

fn world() -> World {
    let config = log_core::config::LogConfig {
        retention_bytes: Some(9000),
        segment_bytes_max: 3000,
        ..small_config()
    };
    World::new(config)
}

/// After any crash the log goes on as if nothing had been: it takes records, keeps them over a power cut
/// and an orderly stop, and still recognises what a producer sends again.
fn live_on(world: &mut World) {
    let producer = ProducerId::new(7);
    let recent: Vec<_> = world.sent.iter().rev().take(5).cloned().collect();
    for sent in recent {
        world.retry(&sent).expect("a retry is recognised after a crash");
    }
    world
        .append(2, 64, Compression::None, Some(producer))
        .expect("append after a crash");
    world
        .append_in_transaction(ProducerId::new(11), 1)
        .expect("a transaction after a crash");
    world.end_transaction(ProducerId::new(11), true).expect("its end");
    world.flush().expect("flush after a crash");
    let image = world.files.crash(CrashMode::SyncedOnly);
    world.recover_on(image);
    world
        .append(1, 64, Compression::None, Some(producer))
        .expect("append after two crashes");
    world.restart().expect("an orderly restart after two crashes");
}

#[test]
fn every_stopping_point_keeps_what_was_acknowledged() {
    let operations = {
        let mut world = world();
        let before = world.files.counters().operations();
        workload(&mut world).expect("the workload runs through");
        world.check();
        world.files.counters().operations() - before
    };
    assert!(
        300 < operations,
        "the workload became too small to mean anything: {operations} operations"
    );
    let seeds = std::env::var("STRATALOG_CRASH_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    for stop_at in 1..=operations + 1 {
        let modes = [CrashMode::SyncedOnly, CrashMode::All]
            .into_iter()
            .chain((0..seeds).map(|index| CrashMode::Random {
                seed: stop_at * 1000 + index,
            }));
        for mode in modes {
            let run = std::panic::catch_unwind(|| {
                let mut world = world();
                world.files.set_faults(FaultPlan::new().stop_at(stop_at));
                let outcome = workload(&mut world);
                assert_eq!(outcome.is_ok(), stop_at > operations, "{outcome:?}");
                let image = world.files.crash(mode);
                if mode == CrashMode::All {
                    // The start completes what the kill left half way, and then the power fails.
                    world.start_on(image).expect("a start after a kill");
                    let image = world.files.crash(CrashMode::SyncedOnly);
                    world.recover_on(image);
                } else {
                    world.recover_on(image);
                }
                live_on(&mut world);
            });
            assert!(
                run.is_ok(),
                "failed when stopped at operation {stop_at} of {operations}, {mode:?}"
            );
        }
    }
    println!(
        "{operations} stopping points, {} crashes each, 0 violations",
        2 + seeds
    );
}

/// Killed with five segments that were rolled and not completed, and records behind the last flush.
fn killed() -> (World, MemFileSystem) {
    let mut world = world();
    let producer = ProducerId::new(10);
    for round in 0..12 {
        world.append_in_transaction(producer, 2).unwrap();
        world
            .append(3, 300, Compression::None, Some(ProducerId::new(7)))
            .unwrap();
        world.end_transaction(producer, round % 3 == 0).unwrap();
        if round % 2 == 0 {
            world.flush().unwrap();
        }
    }
    assert_eq!(world.log().recovery_point(), Offset::ZERO);
    let image = world.files.crash(CrashMode::All);
    (world, image)
}

#[test]
fn every_stopping_point_of_a_start_after_a_kill_keeps_what_was_acknowledged() {
    let operations = {
        let (mut world, image) = killed();
        world.start_on(image).expect("the start runs through");
        assert!(5 < world.log().reader().segment_count());
        assert_eq!(world.log().recovery_point(), world.log().offsets().log_end);
        world.files.counters().operations()
    };
    assert!(
        60 < operations,
        "too small to mean anything: {operations} operations"
    );
    for stop_at in 1..=operations + 1 {
        let random = (0..4).map(|index| CrashMode::Random {
            seed: stop_at * 1000 + index,
        });
        for mode in [CrashMode::SyncedOnly, CrashMode::All].into_iter().chain(random) {
            let run = std::panic::catch_unwind(|| {
                let (mut world, image) = killed();
                image.set_faults(FaultPlan::new().stop_at(stop_at));
                let outcome = world.start_on(image);
                assert_eq!(outcome.is_ok(), stop_at > operations, "{outcome:?}");
                let image = world.files.crash(mode);
                world.recover_on(image);
                live_on(&mut world);
            });
            assert!(
                run.is_ok(),
                "failed when stopped at operation {stop_at} of {operations}, {mode:?}"
            );
        }
    }
}
