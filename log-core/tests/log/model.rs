//! Random sequences of everything a log can be asked for, compared with a map after each opening.
//!
//! `STRATALOG_SEQUENCES=10000` runs as many; a failure prints its seed, and `STRATALOG_SEED` repeats it.

use crate::support::{World, seeds, small_config};
use log_core::config::LogConfig;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::model::ProducerId;
use log_core::record::compression::Compression;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn config(random: &mut fastrand::Rng) -> LogConfig {
    LogConfig {
        segment_bytes_max: random.u64(1100..6000),
        index_interval_bytes: random.u64(0..900),
        index_bytes_max: random.u64(64..4096),
        retention_bytes: random.bool().then(|| random.u64(0..20_000)),
        retention_ms: random.bool().then(|| random.i64(100..50_000)),
        segment_ms: random.i64(500..100_000),
        durable: random.u8(0..4) != 0,
        ..small_config()
    }
}

/// Errors are allowed where a fault was planned; the log must then say so, and come back by reopening.
fn recover_from_fault(world: &mut World, outcome: Result<(), String>) {
    let Err(error) = outcome else { return };
    world.deed(format!("  failed: {error}"));
    let planned = std::mem::take(&mut world.fault_planned);
    assert!(planned, "failed without a fault: {error}\n{}", world.story());
    world.files.set_faults(FaultPlan::new());
    if world.log().latch_reason().is_some() {
        world.reopen().expect("the disk works again");
    } else {
        // Nothing was written, or a background task failed: what is visible is what was before.
        let end = world.log().offsets().log_end.get();
        world.records.split_off(&end);
        world.boundaries.retain(|boundary| *boundary <= end);
        world.forget_sent(end);
    }
}

fn step(world: &mut World, random: &mut fastrand::Rng) {
    let outcome = match random.u8(0..100) {
        0..16 => {
            let producer = ProducerId::new(random.i64(10..14));
            if random.u8(0..3) == 0 {
                world.end_transaction(producer, random.bool())
            } else {
                world.append_in_transaction(producer, random.usize(1..4))
            }
        }
        16..22 => {
            let producer = random.bool().then(|| ProducerId::new(random.i64(1..4)));
            let sizes: Vec<_> = (0..random.usize(1..9))
                .map(|_| (random.usize(1..4), random.usize(8..160)))
                .collect();
            world.append_run(&sizes, producer)
        }
        22..40 => {
            let producer = random.bool().then(|| ProducerId::new(random.i64(1..4)));
            let codec = CODECS[random.usize(..CODECS.len())];
            world.append(random.usize(1..6), random.usize(8..160), codec, producer)
        }
        40..48 => {
            let producer = ProducerId::new(random.i64(1..4));
            let recent: Vec<_> = world
                .sent
                .iter()
                .rev()
                .filter(|sent| sent.producer == producer)
                .take(5)
                .cloned()
                .collect();
            if recent.is_empty() {
                Ok(())
            } else {
                world.retry(&recent[random.usize(..recent.len())])
            }
        }
        48..62 => world.flush(),
        62..66 => world.seal(),
        66..70 => world.checkpoint(),
        70..73 => {
            let visible = world.log().offsets().high_watermark.get();
            world.delete_records(random.i64(world.log_start..=visible))
        }
        73..77 => {
            world.clock.advance(random.i64(0..20_000));
            world.apply_retention()
        }
        77..86 => {
            let offset = random.i64(world.log_start - 2..=world.end() + 2).max(0);
            world.probe(offset, random.usize(0..2000), random.bool());
            world.check_committed(offset, random.usize(0..2000));
            Ok(())
        }
        86..91 => {
            let now = log_core::clock::Clock::now(world.clock.as_ref()).get();
            world.probe_time(now - random.i64(-100..60_000));
            world.probe_largest_time();
            Ok(())
        }
        91..93 => {
            let target = match random.u8(0..4) {
                0 => FaultTarget::Write,
                1 => FaultTarget::Sync,
                2 => FaultTarget::Allocate,
                _ => FaultTarget::Create,
            };
            let kind = if random.bool() {
                FaultKind::Io
            } else {
                FaultKind::NoSpace
            };
            world.fault_planned = true;
            world
                .files
                .set_faults(FaultPlan::new().fail_once(target, random.u64(1..4), kind));
            Ok(())
        }
        93 => {
            world.files.set_faults(FaultPlan::new());
            let (start, end) = (world.log_start, world.end());
            world.truncate(random.i64(start..=end))
        }
        94..96 => {
            world.files.set_faults(FaultPlan::new());
            world.restart()
        }
        _ => {
            let mode = match random.u8(0..3) {
                0 => CrashMode::SyncedOnly,
                1 => CrashMode::All,
                _ => CrashMode::Random { seed: random.u64(..) },
            };
            // Where a log start outlived the records behind it, only the log knows what its producers did last: `regressions`
            // looks at that.
            let is_known = world.attempted_log_start <= world.acknowledged_end;
            if world.config.durable || mode == CrashMode::All || is_known {
                let image = world.files.crash(mode);
                world.recover_on(image);
            }
            Ok(())
        }
    };
    recover_from_fault(world, outcome);
}

#[test]
fn random_sequences_agree_with_a_map() {
    for seed in seeds(150) {
        let run = std::panic::catch_unwind(|| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut world = World::new(config(&mut random));
            for _ in 0..random.usize(20..150) {
                step(&mut world, &mut random);
            }
            world.check();
        });
        assert!(run.is_ok(), "failed with STRATALOG_SEED={seed}");
    }
}
