//! What a failing or full disk does: nobody is told what the disk does not have, and memory never keeps what it lost.

use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};

use super::*;

fn fail_one_sync() -> FaultPlan {
    FaultPlan::new()
        .fail_once(FaultTarget::Sync, 1, FaultKind::Io)
        .only_in(".log")
}

#[tokio::test]
async fn a_failed_sync_drops_the_shard_and_reads_it_again() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    broker.commit("g", 1).await.unwrap();
    let groups = Arc::clone(&broker.groups);
    let parked = tokio::spawn(async move { groups.run_parked("g", |_, _, _| ()).await });
    let lost = broker.begin("g", 2).await;
    let groups = Arc::clone(&broker.groups);
    let looked = tokio::spawn(async move { groups.run("g", |_, _| ()).await });
    settle().await;

    files.set_faults(fail_one_sync());
    broker.sync();
    assert_eq!(end_of(lost).await, Err(GroupError::NotCoordinator));
    assert_eq!(end_of(looked).await, Err(GroupError::NotCoordinator));
    assert_eq!(end_of(parked).await, Err(GroupError::NotCoordinator));
    let refused = broker.look("g").await;
    assert!(matches!(refused, Err(GroupError::NotAvailable(_))), "{refused:?}");

    let partition = broker.partition_of("g");
    partition.mend(&broker.manager).unwrap().unwrap();
    broker.commit_when_served("g", 3).await;
    let expected = [("g".to_owned(), 1), ("g".to_owned(), 3)];
    assert_eq!(commits_in(&partition), expected, "what was not promised is gone");
    let broker = Broker::ready(&files.crash(CrashMode::SyncedOnly)).await;
    assert_eq!(commits_in(&broker.partition_of("g")), expected);
}

#[tokio::test]
async fn a_log_that_was_cut_behind_our_back_is_noticed_before_anything_follows() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let partition = broker.partition_of("g");
    let lost = broker.begin("g", 1).await;
    files.set_faults(fail_one_sync());
    broker.sync();
    // The keeper has not had its turn: the shard still knows of offset 1.
    partition.mend(&broker.manager).unwrap().unwrap();
    let refused = broker.look("g").await;
    assert!(matches!(refused, Err(GroupError::NotAvailable(_))), "{refused:?}");
    assert_eq!(end_of(lost).await, Err(GroupError::NotCoordinator));
    broker.commit_when_served("g", 2).await;
    assert_eq!(commits_in(&partition), [("g".to_owned(), 2)]);
}

#[tokio::test]
async fn a_full_disk_refuses_a_command_and_spares_the_shard() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    broker.commit("g", 1).await.unwrap();
    let partition = broker.partition_of("g");
    files.set_space(1);
    let groups = Arc::clone(&broker.groups);
    let parked = tokio::spawn(async move { groups.run_parked("g", |_, _, _| ()).await });
    settle().await;
    // Space was prepared ahead; it ends some time.
    let mut kept = 1;
    let refused = loop {
        match broker.commit("g", kept + 1).await {
            Ok(offset) => kept = offset,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, GroupError::NotAvailable(_)), "{refused:?}");
    assert!(
        !parked.is_finished(),
        "who waits for something else goes on waiting"
    );
    broker.look("g").await.unwrap();
    files.set_space(64 << 30);
    broker.commit("g", 100_000).await.unwrap();
    let commits = commits_in(&partition);
    assert_eq!(commits.last(), Some(&("g".to_owned(), 100_000)));
    assert_eq!(commits.len(), usize::try_from(kept).unwrap() + 1);
}

#[tokio::test]
async fn a_failed_write_drops_one_shard_and_spares_the_others() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    let failing = broker.partition_of("g");
    files.set_faults(
        FaultPlan::new()
            .fail_once(FaultTarget::Write, 1, FaultKind::Io)
            .only_in(&failing.name().to_string()),
    );
    let refused = broker.commit("g", 1).await;
    assert!(matches!(refused, Err(GroupError::NotAvailable(_))), "{refused:?}");
    broker.commit(&broker.neighbour_of("g"), 1).await.unwrap();
    failing.mend(&broker.manager).unwrap().unwrap();
    broker.commit_when_served("g", 2).await;
    assert_eq!(commits_in(&failing), [("g".to_owned(), 2)]);
}
