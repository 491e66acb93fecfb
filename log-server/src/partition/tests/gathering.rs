//! That appends which come together enter the log by one call, each with its own answer, and that none is lost or written twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::runtime::TestRuntime;
use super::*;
use crate::partition::gathering::Gathering;

/// No test takes that long.
const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn what_several_tasks_bring_is_one_write_with_an_answer_for_each() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    let (first, gap) = (idempotent(&["first"], 0), idempotent(&["gap"], 5));
    partition.append(&first, Acks::Leader).unwrap();
    let writes = files.counters().writes;
    let brought = [
        (batch(&["a", "b"]), Acks::All),
        (gap, Acks::All),
        (first, Acks::All),
        (batch(&["c"]), Acks::All),
    ];
    let tasks = brought
        .iter()
        .map(|(batch, acks)| partition.append_together(batch, *acks, turns_until()));
    let [a, gap, again, c]: [_; 4] = join_all(tasks).await.try_into().unwrap();
    assert_eq!(files.counters().writes, writes + 1);

    let (mut a, mut c) = (a.unwrap(), c.unwrap());
    assert!(matches!(gap, Err(PartitionError::Producer(_))), "{gap:?}");
    let again = again.unwrap();
    assert!(again.is_duplicate && again.base_offset == Offset::ZERO);
    assert_eq!((a.base_offset, c.base_offset), (Offset::new(1), Offset::new(3)));
    assert_eq!((answer(&mut a.ack), answer(&mut c.ack)), (None, None));
    storage.work();
    assert_eq!(
        (answer(&mut a.ack), answer(&mut c.ack)),
        (Some(Ok(())), Some(Ok(())))
    );
    assert_eq!(consume(&partition, 0), ["first", "a", "b", "c"]);
}

#[tokio::test]
async fn each_waits_for_what_it_asked_for() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let batches: Vec<_> = ["a", "b", "c", "d"].map(|value| batch(&[value])).into();
    let acks = [Acks::Leader, Acks::All, Acks::All, Acks::None];
    let tasks = batches.iter().zip(acks);
    let tasks = tasks.map(|(batch, acks)| partition.append_together(batch, acks, turns_until()));
    let appended = join_all(tasks).await.into_iter().map(Result::unwrap);
    let waits: Vec<_> = appended
        .map(|appended| (appended.base_offset.get(), matches!(appended.ack, Ack::Now)))
        .collect();
    assert_eq!(waits, [(0, true), (1, false), (2, false), (3, true)]);
}

#[tokio::test]
async fn a_batch_whose_task_went_away_before_is_not_appended() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let (gone, kept) = (batch(&["gone"]), batch(&["kept"]));
    assert!(
        partition
            .append_together(&gone, Acks::All, turns_until())
            .now_or_never()
            .is_none()
    );
    let appended = partition
        .append_together(&kept, Acks::All, turns_until())
        .await
        .unwrap();
    assert_eq!(appended.base_offset, Offset::ZERO);
    assert_eq!(consume(&partition, 0), ["kept"]);
}

/// Tasks of several threads, which append and find their answers in any order.
#[test]
fn many_tasks_on_many_threads_get_an_offset_each() {
    const TASKS: usize = 64;
    const ROUNDS: usize = 20;
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let runtime = TestRuntime::new(4, 4);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let partition = Arc::clone(&partition);
            runtime.spawn(async move {
                let mut appended = Vec::new();
                for round in 0..ROUNDS {
                    let value = format!("{task} {round}");
                    let answer = partition
                        .append_together(&batch(&[&value]), Acks::All, turns_until())
                        .await
                        .unwrap();
                    appended.push((answer.base_offset.get(), value));
                }
                appended
            })
        })
        .collect();
    let appended: BTreeSet<_> = (tasks.into_iter())
        .flat_map(|task| runtime.in_time("each task gets its answers", task))
        .collect();
    let expected = (0..).zip(consume(&partition, 0));
    assert_eq!(appended, expected.collect());
    assert_eq!(appended.len(), TASKS * ROUNDS);
}

/// What is handed in while somebody appends, by a task that then waits for nothing but its answer.
#[test]
fn what_comes_during_an_append_is_appended_behind_it() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let writer = partition.writer.lock();
        let first = Arc::clone(&partition);
        let first = runtime.spawn(async move {
            first
                .append_together(&batch(&["first"]), Acks::All, turns_until())
                .await
        });
        let began = Instant::now();
        while !partition.gathering.is_taken() {
            assert!(began.elapsed() < LIMIT, "the first one does not append");
            std::thread::yield_now();
        }
        let late = batch(&["late"]);
        let mut late = Box::pin(partition.append_together(&late, Acks::All, turns_until()));
        for step in ["hands in", "finds somebody at it"] {
            assert!((&mut late).now_or_never().is_none(), "{step}");
        }
        drop(writer);
        let first = timeout(LIMIT, first).await.unwrap().unwrap().unwrap();
        let late = timeout(LIMIT, late).await.expect("it is forgotten").unwrap();
        assert_eq!((first.base_offset.get(), late.base_offset.get()), (0, 1));
    });
}

#[tokio::test]
async fn who_took_a_batch_and_broke_down_leaves_an_error() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let lost = batch(&["lost"]);
    let mut lost = Box::pin(partition.append_together(&lost, Acks::All, turns_until()));
    assert!((&mut lost).now_or_never().is_none(), "it hands in");
    partition.gathering.lose();
    let error = timeout(LIMIT, lost).await.expect("an answer").unwrap_err();
    assert_eq!(error, PartitionError::ShuttingDown);
    let kept = partition
        .append_together(&batch(&["kept"]), Acks::All, turns_until())
        .await
        .unwrap();
    assert_eq!(kept.base_offset, Offset::ZERO);
}

/// The right to append stayed with it: whatever small came over HTTP to that partition waited for ever.
#[tokio::test]
async fn who_breaks_down_before_it_took_what_was_handed_in_leaves_errors_and_the_right_to_append() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let broken = Gathering::begin_in_vain(&partition);
    let batches = ["waits for its answer", "has yet to come back"].map(|value| batch(&[value]));
    let mut lost = batches
        .each_ref()
        .map(|batch| Box::pin(partition.append_together(batch, Acks::All, turns_until())));
    for (task, steps) in lost.iter_mut().zip([2, 1]) {
        for _ in 0..steps {
            assert!((&mut *task).now_or_never().is_none());
        }
    }
    drop(broken);
    for lost in lost {
        let error = timeout(LIMIT, lost).await.expect("an answer").unwrap_err();
        assert_eq!(error, PartitionError::ShuttingDown);
    }
    let kept = batch(&["kept"]);
    let kept = timeout(LIMIT, partition.append_together(&kept, Acks::All, turns_until()));
    let kept = kept.await.expect("somebody appends").unwrap();
    assert_eq!(kept.base_offset, Offset::ZERO);
}
