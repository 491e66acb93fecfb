//! Compactions that somebody asks for: what they clean, what they leave, and who is refused.

use std::pin::Pin;

use futures_util::FutureExt;

use super::compaction::{SETTINGS, cleaner, cleaner_with, compacted, fill, filled, left};
use super::transactions::{COMMIT, end, producer, write};
use super::*;
use crate::partition::cleaner::{CleanerSettings, LogCleaner};
use crate::partition::compaction::{Compaction, CompactionError, HeldBack};

/// Never due by itself.
fn patient() -> LogConfig {
    LogConfig {
        min_cleanable_dirty_per_million: 1_000_000,
        ..compacted()
    }
}

type Outcome = Result<Compaction, CompactionError>;
type Answer = Pin<Box<dyn Future<Output = Outcome>>>;

fn ask(cleaner: &LogCleaner, partition: &Arc<Partition>) -> Answer {
    Box::pin(cleaner.compact(partition))
}

fn answered(answer: &mut Answer) -> Option<Outcome> {
    answer.now_or_never()
}

/// Asks, and does what the threads would do until there is an answer.
fn compact(storage: &Storage, cleaner: &LogCleaner, partition: &Arc<Partition>) -> Outcome {
    let mut answer = ask(cleaner, partition);
    for _ in 0..3 {
        cleaner.clean_requested();
        if let Some(outcome) = answered(&mut answer) {
            return outcome;
        }
        storage.work();
    }
    panic!("there is no answer");
}

/// What was cleaned: from, to, and the records before and after.
fn told(outcome: Outcome) -> Option<(i64, i64, u64, u64)> {
    let compaction = outcome.unwrap();
    assert_eq!(compaction.held_back, None);
    let done = compaction.compacted?;
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    Some((
        done.from.get(),
        done.to.get(),
        done.records_before,
        done.records_after,
    ))
}

#[test]
fn all_that_is_there_is_compacted() {
    let (storage, partition) = filled(patient());
    let cleaner = cleaner(&storage);
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 0, "it is not dirty enough by itself");
    assert_eq!(
        told(compact(&storage, &cleaner, &partition)),
        Some((0, 30, 30, 1))
    );
    assert_eq!(left(&partition), [29], "also what stood in the active segment");
    assert_eq!(told(compact(&storage, &cleaner, &partition)), None);
    assert_eq!(cleaner.report().cleanings, 1);

    append(&partition, &["events-0-30"], Acks::Leader);
    storage.work();
    assert_eq!(
        told(compact(&storage, &cleaner, &partition)),
        Some((30, 31, 2, 1))
    );
    assert_eq!(left(&partition), [30]);
}

#[test]
fn a_log_that_relaxes_flushing_is_brought_to_the_disk_first() {
    let config = LogConfig {
        durable: false,
        flush_messages: i64::MAX,
        ..patient()
    };
    let (storage, partition) = filled(config);
    let cleaner = cleaner(&storage);
    assert_eq!(
        told(compact(&storage, &cleaner, &partition)),
        Some((0, 30, 30, 1))
    );
    assert_eq!(left(&partition), [29]);
}

#[test]
fn many_keys_take_several_rounds() {
    let config = LogConfig {
        segment_bytes_max: 1_000,
        ..patient()
    };
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    for number in 0..80 {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let (key, value) = (format!("key-{}", number % 40), format!("events-0-{number}"));
        builder
            .append(NOW, Some(key.as_bytes()), Some(value.as_bytes()), &[])
            .unwrap();
        partition.append(&builder.build(), Acks::Leader).unwrap();
        storage.work();
    }
    let small = CleanerSettings {
        // Room for nine keys.
        dedupe_buffer_bytes: 240,
        ..SETTINGS
    };
    let cleaner = cleaner_with(&storage, Box::new(move || small));
    assert_eq!(
        told(compact(&storage, &cleaner, &partition)),
        Some((0, 80, 80, 40))
    );
    assert_eq!(left(&partition), (40..80).collect::<Vec<_>>());
    assert!(5 < cleaner.report().cleanings, "{:?}", cleaner.report());
}

#[test]
fn nobody_else_cleans_what_waits_for_the_disk() {
    let (storage, partition) = filled(compacted());
    let cleaner = cleaner(&storage);
    let mut answer = ask(&cleaner, &partition);
    cleaner.clean_requested();
    assert!(
        answered(&mut answer).is_none(),
        "the rolled segment is not on the disk"
    );
    cleaner.clean_all();
    assert_eq!(cleaner.report().cleanings, 0);
    let mut second = ask(&cleaner, &partition);
    cleaner.clean_requested();
    assert!(matches!(
        answered(&mut second),
        Some(Err(CompactionError::UnderWay))
    ));
    storage.work();
    cleaner.clean_requested();
    assert_eq!(told(answered(&mut answer).unwrap()), Some((0, 30, 30, 1)));
}

#[test]
fn a_request_that_nobody_waits_for_is_taken_back() {
    let (storage, partition) = filled(patient());
    let cleaner = cleaner(&storage);
    drop(ask(&cleaner, &partition));
    let mut begun = ask(&cleaner, &partition);
    cleaner.clean_requested();
    assert!(answered(&mut begun).is_none());
    drop(begun);
    storage.work();
    cleaner.clean_requested();
    assert_eq!(cleaner.report().cleanings, 0);
    assert_eq!(
        told(compact(&storage, &cleaner, &partition)),
        Some((0, 30, 30, 1))
    );
}

#[test]
fn what_may_not_be_cleaned_yet_is_left() {
    let config = LogConfig {
        min_compaction_lag_ms: 1_000,
        ..patient()
    };
    let (storage, partition) = filled(config);
    let cleaner = cleaner(&storage);
    let segments = || partition.condition().reader().unwrap().segment_count();
    let before = segments();
    let nothing = |held_back| Compaction {
        compacted: None,
        held_back: Some(held_back),
    };
    assert_eq!(
        compact(&storage, &cleaner, &partition).unwrap(),
        nothing(HeldBack::MinCompactionLag)
    );
    assert_eq!(segments(), before, "nothing was rolled for nothing");
    storage.clock.advance(1_000);
    assert_eq!(
        told(compact(&storage, &cleaner, &partition)),
        Some((0, 30, 30, 1))
    );
}

#[test]
fn an_open_transaction_is_not_passed() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), patient());
    write(&partition, "events-0-0", producer(7, 0, 0));
    fill(&storage, &partition);
    let cleaner = cleaner(&storage);
    let outcome = compact(&storage, &cleaner, &partition).unwrap();
    assert_eq!(
        (outcome.compacted, outcome.held_back),
        (None, Some(HeldBack::OpenTransaction))
    );
    partition.append_marker(end(7, 0, COMMIT)).unwrap();
    storage.work();
    let (from, to, before, after) = told(compact(&storage, &cleaner, &partition)).unwrap();
    assert_eq!((from, to), (0, partition.offsets().log_end.get()));
    assert!(after < before, "{after} of {before}");
}

#[test]
fn who_cannot_be_served_hears_why() {
    let storage = Storage::open(&MemFileSystem::new());
    let plain = LogConfig {
        cleanup_policy: LogConfig::default().cleanup_policy,
        ..compacted()
    };
    let topics = [
        topic("plain", 1, 1, plain.clone()),
        topic("tidy", 2, 1, compacted()),
        topic("events", 3, 1, patient()),
    ];
    for one in &topics {
        storage.registry.create(one).unwrap();
        fill(&storage, &storage.registry.get(&one.name, 0).unwrap());
    }
    let cleaner = cleaner(&storage);
    let [plain_one, tidy, events] =
        ["plain", "tidy", "events"].map(|name| storage.registry.get(name, 0).unwrap());
    let refusal = |partition: &Arc<Partition>| answered(&mut ask(&cleaner, partition)).unwrap().unwrap_err();
    assert!(matches!(refusal(&plain_one), CompactionError::NotCompacted));
    assert!(matches!(refusal(&tidy), CompactionError::KeepsItselfShort));

    let mut waiting = ask(&cleaner, &events);
    cleaner.clean_requested();
    storage.registry.reconfigure(topics[2].id, &plain);
    cleaner.clean_requested();
    assert!(matches!(
        answered(&mut waiting),
        Some(Err(CompactionError::NotCompacted))
    ));
    storage.registry.reconfigure(topics[2].id, &patient());
    let mut waiting = ask(&cleaner, &events);
    cleaner.clean_requested();
    storage.registry.delete(topics[2].id).unwrap();
    cleaner.clean_requested();
    assert!(matches!(
        answered(&mut waiting),
        Some(Err(CompactionError::Partition(PartitionError::Deleted)))
    ));
}
