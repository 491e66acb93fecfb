//! Metadata and connections over brokers that come, go and disagree.
//! The brokers are scripts on loopback sockets (`testing`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::protocol::messages::{DescribeClusterRequestData, MetadataResponseData};

use super::*;
use crate::retry::Backoff;
use crate::testing::{Incoming, Reply, ScriptedBroker};

fn config(bootstrap: &str) -> ClientConfig {
    let quick = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(5),
    };
    ClientConfig {
        retry_backoff: quick,
        reconnect_backoff: quick,
        ..ClientConfig::new(bootstrap)
    }
}

/// A metadata response: one broker 1 on `port`, and each topic asked for with `code` and one partition.
fn metadata(request: &Incoming, port: u16, code: ErrorCode) -> Reply {
    let asked: MetadataRequestData = request.read();
    request.answer(&MetadataResponseData {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: KafkaString::from_static("127.0.0.1"),
            port: i32::from(port),
            ..MetadataResponseBroker::default()
        }],
        controller_id: 1,
        topics: asked
            .topics
            .unwrap()
            .into_iter()
            .map(|row| MetadataResponseTopic {
                error_code: code.code(),
                name: row.name,
                partitions: vec![MetadataResponsePartition {
                    leader_id: 1,
                    ..MetadataResponsePartition::default()
                }],
                ..MetadataResponseTopic::default()
            })
            .collect(),
        ..MetadataResponseData::default()
    })
}

#[tokio::test]
async fn one_address_that_answers_is_enough() {
    let gone = ScriptedBroker::serving(|_| Reply::Close).await;
    let broker = ScriptedBroker::serving(|request| metadata(&request, 9, ErrorCode::None)).await;
    let bootstrap = format!("{},{}", gone.address, broker.address);
    let cluster = Cluster::new(config(&bootstrap)).unwrap();
    let topic = cluster.topic("orders", cluster.api_deadline()).await.unwrap();
    assert_eq!((&*topic.name, topic.partitions.len()), ("orders", 1));
    assert_eq!(&*cluster.metadata().brokers[&1].address, "127.0.0.1:9");
}

#[tokio::test]
async fn when_nobody_answers_the_error_names_all_who_were_asked() {
    let gone = [
        ScriptedBroker::serving(|_| Reply::Close).await,
        ScriptedBroker::serving(|_| Reply::Close).await,
    ];
    let bootstrap = format!("{},{}", gone[0].address, gone[1].address);
    let cluster = Cluster::new(config(&bootstrap)).unwrap();
    let error = cluster.refresh(0).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&gone[0].address) && text.contains(&gone[1].address),
        "{text}"
    );
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn a_topic_in_the_making_is_waited_for_and_a_forbidden_one_is_not() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let broker = ScriptedBroker::serving(move |request| {
        let code = match count.fetch_add(1, Ordering::SeqCst) {
            0 => ErrorCode::UnknownTopicOrPartition,
            1 => ErrorCode::LeaderNotAvailable,
            2 => ErrorCode::None,
            _ => ErrorCode::TopicAuthorizationFailed,
        };
        metadata(&request, 9, code)
    })
    .await;
    let cluster = Cluster::new(config(&broker.address)).unwrap();
    cluster.topic("orders", cluster.api_deadline()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    let error = cluster
        .topic("secrets", cluster.api_deadline())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn many_who_find_the_picture_stale_cause_one_request() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let broker = ScriptedBroker::serving(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        metadata(&request, 9, ErrorCode::None)
    })
    .await;
    let cluster = Cluster::new(config(&broker.address)).unwrap();
    cluster.watch_topic("orders");
    let refreshes = (0..20).map(|_| cluster.refresh(0));
    futures_util::future::try_join_all(refreshes).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(cluster.metadata().generation, 1);
}

#[tokio::test]
async fn a_connection_is_shared_until_it_breaks() {
    let connections = Arc::new(AtomicUsize::new(0));
    let highest = Arc::clone(&connections);
    let port = Arc::new(AtomicUsize::new(0));
    let own_port = Arc::clone(&port);
    let broker = ScriptedBroker::serving(move |request| {
        highest.fetch_max(request.connection + 1, Ordering::SeqCst);
        match request.api {
            ApiKey::Metadata => {
                let port = u16::try_from(own_port.load(Ordering::SeqCst)).unwrap();
                metadata(&request, port, ErrorCode::None)
            }
            _ => Reply::Close,
        }
    })
    .await;
    port.store(usize::from(broker.port), Ordering::SeqCst);
    let cluster = Cluster::new(config(&broker.address)).unwrap();
    cluster.refresh(0).await.unwrap();
    let first = cluster.connection(1, Lane::General).await.unwrap();
    let again = cluster.connection(1, Lane::General).await.unwrap();
    assert!(first.is_open() && again.is_open());
    assert!(first.call(&DescribeClusterRequestData::default()).await.is_err());
    assert!(!again.is_open(), "both are one");
    let next = cluster.connection(1, Lane::General).await.unwrap();
    assert!(next.is_open());
    assert!(matches!(
        cluster.connection(2, Lane::General).await,
        Err(Error::UnknownBroker { id: 2 })
    ));
}
