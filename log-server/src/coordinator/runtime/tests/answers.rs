//! Who is answered when: an answer leaves when the disk has what it tells of, and what it may have seen.

use std::sync::mpsc;
use std::thread;

use super::*;

#[tokio::test]
async fn a_commit_is_answered_by_the_sync_that_covers_it() {
    let broker = Broker::ready(&MemFileSystem::new()).await;
    let first = broker.begin("g", 1).await;
    let second = broker.begin("g", 2).await;
    settle().await;
    assert!(!first.is_finished() && !second.is_finished());
    assert_eq!(
        commits_in(&broker.partition_of("g")),
        [],
        "nothing is on the disk"
    );
    broker.sync();
    assert_eq!(end_of(first).await, Ok(1));
    assert_eq!(end_of(second).await, Ok(2));
    let expected = [("g".to_owned(), 1), ("g".to_owned(), 2)];
    assert_eq!(commits_in(&broker.partition_of("g")), expected);
}

#[tokio::test]
async fn a_command_that_only_looks_waits_for_what_it_may_have_seen() {
    let broker = Broker::ready(&MemFileSystem::new()).await;
    broker.look("g").await.unwrap();
    let written = broker.begin("g", 1).await;
    let groups = Arc::clone(&broker.groups);
    let looked = tokio::spawn(async move { groups.run("g", |_, _| ()).await });
    settle().await;
    assert!(!looked.is_finished());
    broker.sync();
    assert_eq!(end_of(looked).await, Ok(()));
    assert_eq!(end_of(written).await, Ok(1));
    broker.look("g").await.unwrap();
}

#[tokio::test]
async fn a_command_s_records_are_one_batch() {
    let broker = Broker::ready(&MemFileSystem::new()).await;
    let partition = broker.partition_of("g");
    let groups = Arc::clone(&broker.groups);
    let task = tokio::spawn(async move {
        let command = |_: &mut GroupShard, context: &mut Context<'_>| {
            context.records.extend((0..3).map(|offset| commit("g", offset)));
        };
        groups.run("g", command).await
    });
    settle().await;
    broker.sync();
    end_of(task).await.unwrap();
    assert_eq!(end_offset(&partition), Offset::new(3));
    let read = crate::partition::partition::PartitionRead {
        offset: Offset::ZERO,
        bytes_max: 1 << 20,
        at_least_one_batch: true,
        isolation: crate::partition::partition::Isolation::Uncommitted,
    };
    let patience = log_core::segment::segment::Patience::MayBlock;
    let slice = partition.read(&read, patience).unwrap();
    let batches: Vec<_> = log_core::record::batch::batches(&slice.records).collect();
    assert_eq!(batches.len(), 1);
}

#[tokio::test]
async fn every_shard_is_asked() {
    let broker = Broker::start(&MemFileSystem::new());
    assert_eq!(broker.groups.run_all(|_, _| ()).await, []);
    broker.groups.ready("g").await.unwrap();
    let answers = broker.groups.run_all(|_, _| 7).await;
    assert!(!answers.is_empty() && answers.iter().all(|answer| *answer == Ok(7)));
}

#[tokio::test]
async fn a_parked_request_hears_of_the_end() {
    let broker = Broker::ready(&MemFileSystem::new()).await;
    let groups = Arc::clone(&broker.groups);
    let parked = tokio::spawn(async move { groups.run_parked("g", |_, _, _| ()).await });
    settle().await;
    assert!(!parked.is_finished());
    let written = broker.begin("g", 1).await;
    broker.groups.close();
    assert_eq!(end_of(parked).await, Err(GroupError::NotCoordinator));
    assert_eq!(broker.look("g").await, Err(GroupError::NotCoordinator));
    broker.sync();
    assert_eq!(end_of(written).await, Ok(1), "it was carried out before");
    broker.groups.closed().await;
}

/// Holds a group's shard, as a disk would that an append waits for, until the sender is dropped.
fn hold(broker: &Broker, group: &str) -> (mpsc::Sender<()>, thread::JoinHandle<Result<(), GroupError>>) {
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (groups, name) = (Arc::clone(&broker.groups), group.to_owned());
    let runtime = tokio::runtime::Handle::current();
    let thread = thread::spawn(move || {
        let command = move |_: &mut GroupShard, _: &mut Context<'_>| {
            entered.send(()).unwrap();
            assert!(released.recv().is_err());
        };
        runtime.block_on(groups.run(&name, command))
    });
    has_entered.recv_timeout(HANG).unwrap();
    (release, thread)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_shard_that_waits_for_its_disk_holds_up_nobody_else() {
    let broker = Broker::ready(&MemFileSystem::new()).await;
    let other = broker.neighbour_of("g");
    let (release, held) = hold(&broker, "g");

    let groups = Arc::clone(&broker.groups);
    let (count, counted) = mpsc::channel();
    thread::spawn(move || count.send(groups.shard_counts()));
    let counts = counted.recv_timeout(HANG);

    // Both on the one thread of the runtime, in this order.
    let groups = Arc::clone(&broker.groups);
    let waits = tokio::spawn(async move { groups.run("g", |_, _| ()).await });
    let groups = Arc::clone(&broker.groups);
    let (answer, answered) = mpsc::channel();
    let goes_on = tokio::spawn(async move { answer.send(groups.run(&other, |_, _| ()).await) });
    let answered = answered.recv_timeout(HANG);

    drop(release);
    held.join().unwrap().unwrap();
    assert_eq!(end_of(waits).await, Ok(()));
    end_of(goes_on).await.unwrap();
    assert_eq!(counts.unwrap().loading, 0);
    assert_eq!(answered, Ok(Ok(())));
}
