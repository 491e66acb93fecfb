//! The HTTP port answers `/healthz` and refuses the rest in plain words, and it stops when it is told to.
//! Over a real socket, on a port that the system chooses.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::health::{Health, PartitionCounts, Status};
use super::*;
use crate::shutdown::{Shutdown, StopReason};

struct Fixed;

impl HealthSource for Fixed {
    fn health(&self) -> Health {
        Health {
            status: Status::Degraded,
            version: "0.0.0",
            cluster_id: "a-cluster".to_owned(),
            uptime_ms: 7,
            partitions: PartitionCounts {
                online: 3,
                latched: 1,
                offline: 0,
            },
            disk_available_bytes: Some(1),
            resident_bytes: None,
        }
    }
}

async fn request(address: SocketAddr, line: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn health_is_served_and_the_rest_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let server = tokio::spawn(serve(listener, Arc::new(Fixed), shutdown.signal()));

    let (status, body) = request(address, "GET /healthz").await;
    assert_eq!(status, 200);
    assert_eq!(body["status"], "degraded");
    assert_eq!(body["partitions"]["latched"], 1);

    let (status, body) = request(address, "GET /v1/topics").await;
    assert_eq!(status, 404);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("comes with a later release"),
        "{body}"
    );
    assert_eq!(request(address, "POST /healthz").await.0, 405);

    shutdown.request(StopReason::Asked);
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
