//! The log is kept short, says the same to whoever reads it from its start, and never loses an answered commit, wherever the machine stops.

use std::collections::BTreeMap;

use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};

use super::*;

pub(super) const TUNING: TidyTuning = TidyTuning {
    bytes_min: 3000,
    chunk_bytes: 200,
};

/// Never.
pub(super) const UNTOUCHED: TidyTuning = TidyTuning {
    bytes_min: u64::MAX,
    ..TUNING
};

pub(super) fn one_partition() -> BrokerConfig {
    BrokerConfig {
        offsets_topic_partitions: 1,
        ..BrokerConfig::default()
    }
}

/// Does what the flusher does, on a thread of its own, as long as it lives.
pub(super) struct Syncing(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Syncing {
    pub(super) fn start(broker: &Broker) -> Self {
        let queue = broker.queue.clone();
        let (alive, end) = std::sync::mpsc::channel();
        let work = move || {
            while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                queue.run_pending();
                std::thread::yield_now();
            }
        };
        Self(Some((alive, std::thread::spawn(work))))
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let (alive, thread) = self.0.take().unwrap();
        drop(alive);
        thread.join().unwrap();
    }
}

/// What a reader that begins at the log start knows in the end.
fn last_commits(partition: &Partition) -> BTreeMap<String, i64> {
    let offsets = partition.offsets();
    let mut last = BTreeMap::new();
    load::walk(
        partition,
        offsets.log_start,
        offsets.high_watermark,
        |_, record| {
            match GroupRecord::decode(record.key.unwrap(), record.value).unwrap() {
                Some(GroupRecord::OffsetCommit { group, value, .. }) => match value {
                    Some(value) => drop(last.insert(group.to_string(), value.offset)),
                    None => drop(last.remove(&*group)),
                },
                other => panic!("{other:?}"),
            }
            Ok(())
        },
    )
    .unwrap();
    last
}

/// A broker whose log holds so many commits of each of ten groups, and has not been tidied up.
async fn with_history(files: &MemFileSystem, rounds: i64) -> BTreeMap<String, i64> {
    let broker = Broker::start_with(files, one_partition(), UNTOUCHED);
    let mut model = BTreeMap::new();
    broker.groups.ready("g").await.unwrap();
    for round in 0..rounds {
        for number in 0..10 {
            let group = format!("g{number}");
            broker.commit(&group, round).await.unwrap();
            model.insert(group, round);
        }
    }
    // A tombstone stands for nothing.
    let gone = broker.groups.run("g9", |_, context| {
        let GroupRecord::OffsetCommit {
            group,
            topic,
            partition,
            ..
        } = commit("g9", 0)
        else {
            unreachable!()
        };
        context.records.push(GroupRecord::OffsetCommit {
            group,
            topic,
            partition,
            value: None,
        });
    });
    let (gone, ()) = tokio::join!(gone, async { broker.sync() });
    gone.unwrap();
    model.remove("g9");
    broker.stop().await;
    model
}

/// Lets a broker commit until its log was tidied up, and answers what was committed, and what may have been.
async fn commit_until_tidied(
    broker: &Broker,
    model: &mut BTreeMap<String, i64>,
    first: i64,
) -> Result<(), (String, i64)> {
    let partition = broker.partition_of("g");
    for offset in first..first + 10_000 {
        if Offset::ZERO < partition.offsets().log_start {
            return Ok(());
        }
        let group = format!("g{}", offset % 5);
        match end_of(broker.begin(&group, offset).await).await {
            Ok(_) => {
                model.insert(group, offset);
            }
            Err(GroupError::LoadInProgress) => settle().await,
            Err(_) => return Err((group, offset)),
        }
    }
    panic!("the log is never tidied up");
}

#[tokio::test]
async fn a_long_log_is_made_short_while_commits_go_on() {
    let files = MemFileSystem::new();
    let mut model = with_history(&files, 20).await;
    let broker = Broker::start_with(&files, one_partition(), TUNING);
    let partition = broker.partition_of("g");
    let history_end = partition.offsets().log_end;
    let syncing = Syncing::start(&broker);
    commit_until_tidied(&broker, &mut model, 1000).await.unwrap();
    broker.groups.close();
    broker.groups.closed().await;
    drop(syncing);
    assert_eq!(last_commits(&partition), model);
    // Nothing of it stands where it stood, however many commits came meanwhile.
    assert!(history_end <= partition.offsets().log_start);
    let files = files.crash(CrashMode::SyncedOnly);
    let broker = Broker::start_with(&files, one_partition(), UNTOUCHED);
    assert_eq!(last_commits(&broker.partition_of("g")), model);
}

#[tokio::test]
async fn no_answered_commit_is_lost_wherever_the_machine_stops() {
    let history = MemFileSystem::new();
    let model = with_history(&history, 10).await;
    let mut stop = 1;
    loop {
        let files = history.crash(CrashMode::All);
        let broker = Broker::start_with(&files, one_partition(), TUNING);
        let begun = files.counters().operations();
        files.set_faults(FaultPlan::new().stop_at(begun + stop));
        let syncing = Syncing::start(&broker);
        let mut known = model.clone();
        let outcome = commit_until_tidied(&broker, &mut known, 1000).await;
        broker.groups.close();
        broker.groups.closed().await;
        drop(syncing);
        for mode in [
            CrashMode::SyncedOnly,
            CrashMode::All,
            CrashMode::Random { seed: stop },
        ] {
            let image = files.crash(mode);
            let restarted = Broker::start_with(&image, one_partition(), UNTOUCHED);
            let mut found = last_commits(&restarted.partition_of("g"));
            if found != known
                && let Err((group, offset)) = &outcome
            {
                // The one that was under way may have come through.
                assert_eq!(
                    found.get(group),
                    Some(offset),
                    "stop {stop}, {mode:?}: {found:?}, and answered was {known:?}"
                );
                found.insert(group.clone(), known.get(group).copied().unwrap_or(*offset));
                known.entry(group.clone()).or_insert(*offset);
            }
            assert_eq!(found, known, "stop {stop}, {mode:?}");
        }
        if outcome.is_ok() {
            break;
        }
        stop += 1;
    }
    assert!(15 < stop, "{stop} places to stop at are too few");
}

#[tokio::test]
async fn a_disk_that_fails_in_the_middle_ends_the_round_and_nothing_else() {
    let history = MemFileSystem::new();
    let before = with_history(&history, 20).await;
    for nth in 1..8 {
        let files = history.crash(CrashMode::All);
        let mut model = before.clone();
        let broker = Broker::start_with(&files, one_partition(), TUNING);
        let partition = broker.partition_of("g");
        files.set_faults(
            FaultPlan::new()
                .fail_once(FaultTarget::Sync, nth, FaultKind::Io)
                .only_in(".log"),
        );
        let syncing = Syncing::start(&broker);
        let mut offset = 1000;
        // A commit that shares the sync that fails is refused; the next one comes when the log is mended.
        while commit_until_tidied(&broker, &mut model, offset).await.is_err() {
            if let Some(mended) = partition.mend(&broker.manager) {
                mended.unwrap();
            }
            settle().await;
            offset += 10_000;
        }
        broker.groups.close();
        broker.groups.closed().await;
        drop(syncing);
        assert_eq!(last_commits(&partition), model, "sync {nth}");
    }
}

/// After a start all of them began at once, each on a thread of its own, with all of its keys in memory.
#[tokio::test]
async fn few_logs_are_tidied_up_at_once_and_in_the_end_all_are() {
    const PARTITIONS: i32 = 6;
    let config = BrokerConfig {
        offsets_topic_partitions: PARTITIONS,
        ..BrokerConfig::default()
    };
    let files = MemFileSystem::new();
    let broker = Broker::start_with(&files, config.clone(), UNTOUCHED);
    broker.groups.ready("g").await.unwrap();
    for round in 0..60 {
        let mut names = (0..1000).map(|number| format!("g{number}"));
        for index in 0..PARTITIONS {
            let group = names.find(|name| partition_for(name, PARTITIONS) == index);
            broker.commit(&group.unwrap(), round).await.unwrap();
        }
    }
    let files = broker.stop().await;

    // Nobody syncs: who has begun waits for what it has written again.
    let broker = Broker::start_with(&files, config, TUNING);
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|index| broker.partitions.get(OFFSETS_TOPIC, index).unwrap())
        .collect();
    let count = |is_so: fn(&Partition) -> bool| partitions.iter().filter(|one| is_so(one)).count();
    let is_at_it = |partition: &Partition| {
        let offsets = partition.offsets();
        offsets.high_watermark < offsets.log_end
    };
    let begun = async {
        while count(is_at_it) < 2 {
            settle().await;
        }
    };
    let begun = timeout(HANG, begun).await;
    let mut at_once = count(is_at_it);
    for _ in 0..1000 {
        settle().await;
        at_once = at_once.max(count(is_at_it));
    }
    // What is seen is judged when nobody waits for the disk any more: else a test that fails would never end.
    let syncing = Syncing::start(&broker);
    let tidied = async {
        while count(|partition| Offset::ZERO < partition.offsets().log_start) < partitions.len() {
            settle().await;
        }
    };
    let tidied = timeout(HANG, tidied).await;
    broker.groups.close();
    broker.groups.closed().await;
    drop(syncing);
    assert_eq!((begun, at_once, tidied), (Ok(()), 2, Ok(())));
}
