//! A topic is deleted and made anew, again and again, while producers write to it, readers wait on it, and housekeeping goes
//! round: each life has what was acknowledged in it and nothing of another, and the last one survives a power cut.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use log_core::fs::mem::crash::CrashMode;
use parking_lot::Mutex;

use super::*;
use crate::partition::flusher::Flusher;

const LIVES: u8 = 20;
const PRODUCERS: u64 = 3;
/// Each life goes on until so many records were acknowledged in it.
const RECORDS_PER_LIFE: u64 = 30;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes_max: 1000,
        ..LogConfig::default()
    }
}

struct World {
    storage: Storage,
    is_over: AtomicBool,
    /// Records that were acknowledged in the present life.
    acknowledged: Mutex<BTreeSet<String>>,
    count: AtomicU64,
}

impl World {
    fn produce(&self, producer: u64) {
        let mut number: u64 = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            let Some(partition) = self.storage.registry.get("events", 0) else {
                std::thread::yield_now();
                continue;
            };
            number += 1;
            let value = format!("{}:{producer}:{number}", partition.topic_id());
            let Ok(appended) = partition.append(&batch(&[value.as_str()]), Acks::All) else {
                continue;
            };
            let result = match appended.ack {
                Ack::Now => Ok(()),
                Ack::WhenDurable(answer) => answer.blocking_recv().expect("every answer is given"),
            };
            if result.is_ok() {
                self.acknowledged.lock().insert(value);
                self.count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn keep_house(&self) {
        while !self.is_over.load(Ordering::SeqCst) {
            self.storage.registry.for_each(|partition| {
                partition.checkpoint();
                partition.release_idle();
            });
            self.storage.registry.checkpoint().unwrap();
            std::thread::yield_now();
        }
    }

    /// Beside that, as in the broker.
    fn remove(&self) {
        while !self.is_over.load(Ordering::SeqCst) {
            self.storage.registry.for_each(|partition| {
                if let Some(log_start) = partition.apply_retention() {
                    partition.reclaim(log_start);
                }
            });
            self.storage.registry.remove_deleted();
            std::thread::yield_now();
        }
    }

    /// Waits until enough was acknowledged in this life, and looks at it.
    fn live(&self, id: TopicId) {
        while self.count.load(Ordering::SeqCst) < RECORDS_PER_LIFE {
            std::thread::yield_now();
        }
        let partition = self.storage.registry.get("events", 0).unwrap();
        // What was acknowledged before the look is in it.
        let acknowledged = self.acknowledged.lock().clone();
        check(&partition, id, &acknowledged);
    }
}

/// All records are of this life, and everything acknowledged is among them.
fn check(partition: &Partition, id: TopicId, acknowledged: &BTreeSet<String>) {
    let found: BTreeSet<String> = consume(partition, 0).into_iter().collect();
    let prefix = format!("{id}:");
    assert!(found.iter().all(|value| value.starts_with(&prefix)), "{found:?}");
    let of_this_life: BTreeSet<_> = acknowledged
        .iter()
        .filter(|value| value.starts_with(&prefix))
        .cloned()
        .collect();
    // A producer may count its last success of the life before in this one.
    assert!(RECORDS_PER_LIFE - PRODUCERS <= u64::try_from(of_this_life.len()).unwrap());
    let lost: Vec<_> = of_this_life.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn every_life_of_a_topic_under_load_has_its_own_records() {
    let files = MemFileSystem::new();
    let flusher = Flusher::start(2).unwrap();
    let storage = Storage::open_with(&files, flusher.queue());
    let world = World {
        storage,
        is_over: AtomicBool::new(false),
        acknowledged: Mutex::default(),
        count: AtomicU64::new(0),
    };
    let spec = |life| topic("events", life, 1, config());
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let world = &world;
            scope.spawn(move || world.produce(producer));
        }
        scope.spawn(|| world.keep_house());
        scope.spawn(|| world.remove());
        // Ends the others also when an assertion fails here.
        let _over = Over(&world.is_over);
        for life in 1..=LIVES {
            world.count.store(0, Ordering::SeqCst);
            world.storage.registry.create(&spec(life)).unwrap();
            world.live(spec(life).id);
            if life < LIVES {
                world.storage.registry.delete(spec(life).id).unwrap();
            }
        }
    });
    flusher.stop();
    let image = files.crash(CrashMode::SyncedOnly);
    let storage = Storage::open(&image);
    let summary = storage.registry.load(&[spec(LIVES)], &storage.found, &[]);
    assert_eq!(summary.offline, 0);
    let partition = storage.registry.get("events", 0).unwrap();
    check(&partition, spec(LIVES).id, &world.acknowledged.lock());
}
