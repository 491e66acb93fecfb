//! NDJSON is answered while it comes: what was written is told to a client that says nothing more, and what is refused is not overtaken.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::client::{create_topic, get, head, post, send};
use crate::{config, start};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const RECORDS: &str = "/v1/topics/t/records";

async fn count(address: SocketAddr) -> i64 {
    get(address, "/v1/topics/t").await.json()["records"]
        .as_i64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_written_whatever_is_waited_for_and_however_the_last_one_ends() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut written = 0;
    for acks in ["none", "leader", "all"] {
        for body in ["{}", "{}\n"] {
            let path = format!("{RECORDS}?acks={acks}");
            let answer = send(address, "POST", &path, &[NDJSON], body.as_bytes()).await;
            written += 1;
            let done = json!({"done": true, "lines": 1, "records": 1, "failed": 0});
            assert_eq!((answer.status, answer.json()), (200, done), "{acks} {body:?}");
            while count(address).await < written {
                tokio::task::yield_now().await;
            }
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_more_hears_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = head("POST", RECORDS, &[NDJSON, ("transfer-encoding", "chunked")]);
    stream
        .write_all(format!("{head}\r\n3\r\n{{}}\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut told = Value::Null;
    while told.is_null() {
        let line = lines.next_line().await.unwrap().unwrap();
        told = serde_json::from_str(&line)
            .ok()
            .filter(Value::is_object)
            .unwrap_or_default();
    }
    assert_eq!(told, json!({"acknowledged": 1}));
    broker.stop().await;
}

/// Each line makes a batch of its own; the second is refused, and the third may not overtake it unless the client says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_overtakes_a_line_that_was_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    let configs = json!({"cleanup.policy": "compact", "max.message.bytes": "1000"});
    let topic = json!({"name": "t", "partitions": 1, "configs": configs});
    assert_eq!(post(address, "/v1/topics", &topic).await.status, 201);
    let value = "x".repeat(800);
    let line = |key: Option<&str>| format!("{}\n", json!({"key": key, "value": value}));
    let body = [line(Some("a")), line(None), line(Some("b"))].concat();
    for (on_error, done, failed, total) in [("stop", false, 2, 1), ("skip", true, 1, 3)] {
        let path = format!("{RECORDS}?on_error={on_error}");
        let lines = send(address, "POST", &path, &[NDJSON], body.as_bytes())
            .await
            .lines();
        assert_eq!(
            (&lines[0]["line"], &lines[0]["error"]["code"]),
            (&json!(2), &json!("invalid_record"))
        );
        let end = lines.last().unwrap();
        assert_eq!(
            (&end["done"], &end["failed"]),
            (&json!(done), &json!(failed)),
            "{lines:?}"
        );
        assert_eq!(count(address).await, total);
    }
    broker.stop().await;
}
