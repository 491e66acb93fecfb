//! The topic is made at the first question, shards are loaded at a start, and what is damaged is not guessed at.

use log_core::fs::mem::crash::CrashMode;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use log_core::record::validator::trust_own;

use super::*;
use crate::coordinator::runtime::keeper::damaged_file;
use crate::partition::partition::Ack;

#[tokio::test]
async fn the_first_question_makes_the_topic_once() {
    let files = MemFileSystem::new();
    let broker = Broker::start(&files);
    assert!(broker.partitions.get(OFFSETS_TOPIC, 0).is_none());
    let (first, second) = tokio::join!(broker.groups.ready("a"), broker.groups.ready("b"));
    assert_eq!((first, second), (Ok(()), Ok(())));
    let partition = broker.partitions.get(OFFSETS_TOPIC, 0).unwrap();
    assert!(partition.config().durable && partition.config().cleanup_policy.compact);
    assert!(!partition.config().cleanup_policy.delete);
}

#[tokio::test]
async fn a_group_can_be_asked_without_looking_for_its_coordinator() {
    let broker = Broker::start(&MemFileSystem::new());
    broker.look("g").await.unwrap();
}

#[tokio::test]
async fn without_space_for_the_topic_there_is_no_coordinator_yet() {
    let files = MemFileSystem::new();
    let broker = Broker::start(&files);
    files.set_space(1);
    let refused = broker.groups.ready("g").await;
    assert!(matches!(refused, Err(GroupError::NotAvailable(_))), "{refused:?}");
    files.set_space(64 << 30);
    broker.groups.ready("g").await.unwrap();
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_stop_and_after_a_crash() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    broker.commit("g", 1).await.unwrap();
    let files = broker.stop().await;
    let broker = Broker::start(&files);
    broker.commit_when_served("g", 2).await;
    let _lost = broker.begin("g", 3).await;
    let broker = Broker::start(&files.crash(CrashMode::SyncedOnly));
    broker.commit_when_served("g", 4).await;
    let expected = [1, 2, 4].map(|offset| ("g".to_owned(), offset));
    assert_eq!(commits_in(&broker.partition_of("g")), expected);
}

fn append_raw(broker: &Broker, key: &[u8], value: &[u8]) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW, Some(key), Some(value), &[]).unwrap();
    let batch = trust_own(builder.build()).unwrap();
    let appended = broker.partition_of("g").append_own(&batch).unwrap();
    broker.sync();
    assert!(matches!(appended.ack, Ack::WhenDurable(_)));
}

#[tokio::test]
async fn records_of_unknown_kinds_are_passed_over() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    broker.commit("g", 1).await.unwrap();
    append_raw(&broker, &[0, 99, 1], b"?");
    let files = broker.stop().await;
    let broker = Broker::start(&files);
    broker.commit_when_served("g", 2).await;
    assert_eq!(end_offset(&broker.partition_of("g")), Offset::new(3));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_ends_the_load_and_spares_the_others() {
    let files = MemFileSystem::new();
    let broker = Broker::ready(&files).await;
    broker.commit("g", 1).await.unwrap();
    append_raw(&broker, &[0, 1, 0], b"?");
    let files = broker.stop().await;
    let broker = Broker::start(&files);
    let refused = timeout(HANG, async {
        loop {
            match broker.look("g").await {
                Err(GroupError::LoadInProgress) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    });
    let Ok(Err(GroupError::Unreadable(reason))) = refused.await else {
        panic!("it must not be served")
    };
    assert!(reason.contains("offset 1"), "{reason}");
    let partition = broker.partition_of("g");
    let file = damaged_file(&partition, &load::load::<GroupShard>(&partition).unwrap_err()).unwrap();
    let expected = format!("{}/00000000000000000000.log", partition.name());
    assert!(file.ends_with(&expected), "{file:?}, {expected}");
    assert_eq!(
        broker.groups.ready("g").await,
        Err(GroupError::Unreadable(reason))
    );
    broker.commit_when_served(&broker.neighbour_of("g"), 1).await;
}
