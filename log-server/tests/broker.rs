//! The broker as a whole, in this process and on a real directory: it starts, says where it is, refuses what it cannot use
//! with what to do about it, and stops so that the next start has nothing to recover.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use log_server::broker::{Broker, StartError};
use log_server::config::keys::BrokerConfig;
use log_server::shutdown::{Shutdown, StopReason};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn config(directory: &Path) -> BrokerConfig {
    BrokerConfig {
        data_dirs: vec![directory.join("data")],
        kafka_listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        ready_file: Some(directory.join("ready")),
        ..BrokerConfig::default()
    }
}

async fn start(config: BrokerConfig) -> Result<Broker, StartError> {
    Broker::start(config, Shutdown::new(), Instant::now()).await
}

async fn get(address: SocketAddr, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).await.expect("the broker answers");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the broker answers");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("the broker answers");
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("the broker answers").1)
        .expect("the broker answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_says_so_and_leaves_the_directory_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("data/.kafka_cleanshutdown");
    let mut cluster_ids = Vec::new();
    for _ in 0..2 {
        let broker = start(config(directory.path())).await.unwrap();
        assert!(!marker.exists(), "the mark holds for one start");
        let ready: Value =
            serde_json::from_slice(&fs::read(directory.path().join("ready")).unwrap()).unwrap();
        assert_eq!(ready["kafka"], broker.kafka_address().to_string());
        assert_eq!(ready["http"], broker.http_address().to_string());
        let health = get(broker.http_address(), "/healthz").await;
        assert_eq!(health["status"], "ok", "{health}");
        cluster_ids.push(health["cluster_id"].clone());
        TcpStream::connect(broker.kafka_address()).await.unwrap();
        let addresses = [broker.kafka_address(), broker.http_address()];
        broker.stop().await;
        for address in addresses {
            assert!(TcpStream::connect(address).await.is_err());
        }
        assert!(marker.exists());
        assert!(!directory.path().join("ready").exists());
    }
    assert_eq!(cluster_ids[0], cluster_ids[1], "one directory, one cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_when_it_is_told_to_by_whom_it_was_started() {
    let directory = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let broker = Broker::start(config(directory.path()), shutdown.clone(), Instant::now())
        .await
        .unwrap();
    let stopping = tokio::spawn(broker.stop_when_asked());
    shutdown.request(StopReason::Asked);
    tokio::time::timeout(Duration::from_secs(30), stopping)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_cannot_use_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await.unwrap();

    let error = start(config(directory.path())).await.unwrap_err().to_string();
    assert!(
        error.contains("another broker uses it") && error.contains("--data-dir"),
        "{error}"
    );

    let other = tempfile::tempdir().unwrap();
    let taken = BrokerConfig {
        kafka_listen: broker.kafka_address().to_string(),
        ..config(other.path())
    };
    let error = start(taken).await.unwrap_err().to_string();
    assert!(
        error.contains("--kafka-listen") && error.contains(&broker.kafka_address().to_string()),
        "{error}"
    );
    assert!(
        !other.path().join("data").exists(),
        "nothing was touched before the port was found taken"
    );

    let taken = BrokerConfig {
        http_listen: broker.http_address().to_string(),
        ..config(other.path())
    };
    let error = start(taken).await.unwrap_err().to_string();
    assert!(error.contains("--http-listen"), "{error}");

    fs::write(other.path().join("data"), "a file").unwrap();
    let error = start(config(other.path())).await.unwrap_err().to_string();
    assert!(
        error.contains("data directory") && error.contains("--data-dir"),
        "{error}"
    );

    let unready = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        ready_file: Some(unready.path().join("missing/ready")),
        ..config(unready.path())
    };
    let error = start(config).await.unwrap_err().to_string();
    assert!(error.contains("--ready-file"), "{error}");
    broker.stop().await;
}
