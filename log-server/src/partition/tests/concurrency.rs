//! Many threads at once, over a disk that sometimes fails: what was acknowledged survives a power cut at any moment,
//! in the order in which each producer sent it, and once.
//!
//! Threads append with a sequence of their own and wait for the answer; another thread takes images of what a power
//! cut would leave and notes what had been acknowledged before. At the end each image is opened and read.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use parking_lot::Mutex;

use super::*;
use crate::partition::flusher::Flusher;

const PARTITIONS: i32 = 2;
const PRODUCERS: u64 = 4;
const RECORDS: u64 = 60;
const IMAGES: usize = 6;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes_max: 2000,
        ..LogConfig::default()
    }
}

/// The sequence number up to which each producer's records were acknowledged, by partition.
type Acknowledged = BTreeMap<(i32, u64), u64>;

struct World {
    storage: Storage,
    acknowledged: Mutex<Acknowledged>,
    is_over: AtomicBool,
}

impl World {
    /// Sends one after the other until each is acknowledged, as an idempotent producer does.
    fn produce(&self, producer: u64, mut random: fastrand::Rng) {
        let mut sent: BTreeMap<i32, u64> = BTreeMap::new();
        for _ in 0..RECORDS {
            let index = random.i32(0..PARTITIONS);
            let partition = self.storage.registry.get("events", index).unwrap();
            let sequence = sent.entry(index).or_default();
            let value = format!("{producer}:{sequence}");
            let identity = BatchProducer {
                id: ProducerId::new(i64::try_from(producer).unwrap()),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(i32::try_from(*sequence).unwrap()),
            };
            let records = batch_from(&[&value], identity);
            while send(&partition, &records, random.bool()).is_err() {
                assert!(
                    !self.is_over.load(Ordering::SeqCst),
                    "nobody mends the log any more"
                );
                std::thread::yield_now();
            }
            *sequence += 1;
            self.acknowledged.lock().insert((index, producer), *sequence);
        }
    }

    /// Lets a sync fail now and then, and mends what that latches.
    fn trouble(&self, mut random: fastrand::Rng) {
        let _over = Over(&self.is_over);
        while !self.is_over.load(Ordering::SeqCst) {
            let plan = FaultPlan::new().fail_once(FaultTarget::Sync, random.u64(1..40), FaultKind::Io);
            self.storage.files.set_faults(plan.only_in(".log"));
            for _ in 0..random.u32(1..50) {
                self.mend();
                std::thread::yield_now();
            }
        }
        self.storage.files.set_faults(FaultPlan::new());
        self.mend();
    }

    fn mend(&self) {
        self.storage.registry.for_each(|partition| {
            if let Some(Err(error)) = partition.mend(&self.storage.manager) {
                assert!(error.to_string().contains(".log"), "{error}");
            }
        });
    }
}

/// Leaves the sync to others, or does it itself as a request does that is alone.
fn send(partition: &Partition, records: &Bytes, syncs_itself: bool) -> DurableResult {
    let appended = if syncs_itself {
        let batch = partition
            .try_validated(records, &mut None)
            .expect("nothing is written anew")?;
        let appended = partition.append_unsynced(&[batch], Acks::All).pop();
        partition.sync_here();
        appended.expect("a result for the batch")
    } else {
        partition.append(records, Acks::All)
    };
    match appended?.ack {
        Ack::Now => Ok(()),
        Ack::WhenDurable(answer) => answer.blocking_recv().expect("every answer is given"),
    }
}

fn check(image: &MemFileSystem, acknowledged: &Acknowledged) {
    let storage = Storage::open(image);
    let topics = [topic("events", 1, PARTITIONS, config())];
    let summary = storage.registry.load(&topics, &storage.found, &[]);
    assert_eq!(summary.offline, 0);
    for index in 0..PARTITIONS {
        let partition = storage.registry.get("events", index).unwrap();
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        for value in consume(&partition, 0) {
            let (producer, sequence) = value.split_once(':').unwrap();
            let expected = next.entry(producer.parse().unwrap()).or_default();
            assert_eq!(
                sequence.parse(),
                Ok(*expected),
                "partition {index}, producer {producer}"
            );
            *expected += 1;
        }
        for ((_, producer), count) in acknowledged.iter().filter(|((at, _), _)| *at == index) {
            let survived = next.get(producer).copied().unwrap_or(0);
            assert!(
                *count <= survived,
                "partition {index}, producer {producer}: {count} acknowledged, {survived} left"
            );
        }
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let files = MemFileSystem::new();
    let flusher = Flusher::start(2).unwrap();
    let storage = Storage::open_with(&files, flusher.queue());
    storage
        .registry
        .create(&topic("events", 1, PARTITIONS, config()))
        .unwrap();
    let world = World {
        storage,
        acknowledged: Mutex::default(),
        is_over: AtomicBool::new(false),
    };
    let mut images = Vec::new();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (1..=PRODUCERS)
            .map(|producer| {
                let random = random.fork();
                let world = &world;
                scope.spawn(move || world.produce(producer, random))
            })
            .collect();
        let trouble = random.fork();
        scope.spawn(|| world.trouble(trouble));
        let total = usize::try_from(PRODUCERS * RECORDS).unwrap();
        let done = || world.acknowledged.lock().values().sum::<u64>();
        while images.len() < IMAGES && producers.iter().any(|producer| !producer.is_finished()) {
            let goal = (images.len() + 1) * total / (IMAGES + 1);
            if done() < u64::try_from(goal).unwrap() {
                std::thread::yield_now();
                continue;
            }
            let acknowledged = world.acknowledged.lock().clone();
            let mode = if random.bool() {
                CrashMode::SyncedOnly
            } else {
                CrashMode::Random { seed: random.u64(..) }
            };
            images.push((files.crash(mode), acknowledged));
        }
        for producer in producers {
            producer.join().unwrap();
        }
        world.is_over.store(true, Ordering::SeqCst);
    });
    flusher.stop();
    images.push((
        files.crash(CrashMode::SyncedOnly),
        world.acknowledged.lock().clone(),
    ));
    for (image, acknowledged) in &images {
        check(image, acknowledged);
    }
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes() {
    let seeds: Vec<u64> = match env::var("STRATALOG_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..8).map(|_| fastrand::u64(..)).collect(),
    };
    for seed in seeds {
        let (done_in, done) = std::sync::mpsc::channel();
        let runner = std::thread::spawn(move || {
            run(seed);
            done_in.send(()).unwrap();
        });
        // Somebody who is never answered would hang the test instead of failing it.
        let result = done.recv_timeout(Duration::from_mins(2));
        assert!(result.is_ok(), "STRATALOG_SEED={seed}: {result:?}");
        runner.join().unwrap();
    }
}
