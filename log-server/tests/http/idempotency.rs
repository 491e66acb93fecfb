//! `Idempotency-Key`: a body that comes twice is written once, within a run of the broker and across runs; another body under the same key is
//! refused.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{Response, create_topic, get, post, send};
use crate::{config, start};

async fn write(address: SocketAddr, key: &str, body: &Value) -> Response {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    send(
        address,
        "POST",
        "/v1/topics/orders/records",
        &headers,
        body.to_string().as_bytes(),
    )
    .await
}

async fn count(address: SocketAddr) -> i64 {
    get(address, "/v1/topics/orders").await.json()["records"]
        .as_i64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_again_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "orders", 3).await;
    // Over all partitions, with and without keys, several batches in one of them.
    let large = "x".repeat(600 << 10);
    let records: Vec<_> = (0..30)
        .map(|number| match number % 10 {
            0 => json!({"value": number}),
            1 => json!({"key": "large", "value": large}),
            _ => {
                json!({"key": number.to_string(), "value": number, "headers": [{"name": "a", "value": "b"}]})
            }
        })
        .collect();
    let body = json!({"records": records});
    let first = write(address, "one", &body).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(count(address).await, 30);
    let again = write(address, "one", &body).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let other_key = write(address, "two", &json!({"value": 1})).await;
    assert_eq!((other_key.status, count(address).await), (200, 31));

    let mut other = body.clone();
    other["records"][2]["value"] = json!("other");
    write(address, "one", &other)
        .await
        .problem(422, "idempotency_key_reused");
    let fewer = json!({"records": &records[..20]});
    let refused = write(address, "one", &fewer).await;
    assert_ne!(refused.status, 200, "{refused:?}");
    assert_eq!(count(address).await, 31);
    broker.stop().await;

    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    let again = write(address, "one", &body).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert_eq!(count(address).await, 31);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_its_limits() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "orders", 1).await;
    let large = "x".repeat(600 << 10);
    let records: Vec<_> = (0..6).map(|_| json!({"value": large})).collect();
    write(address, "k", &json!({"records": records}))
        .await
        .problem(413, "too_large");
    assert_eq!(count(address).await, 0);
    write(address, &"k".repeat(300), &json!({"value": 1}))
        .await
        .problem(400, "invalid_request");
    let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "k")];
    let path = "/v1/topics/orders/records";
    send(address, "POST", path, &headers, b"{}")
        .await
        .problem(400, "invalid_request");
    broker.stop().await;
}

/// A body makes two batches of one partition, and the first is refused: were the second written, the body could not be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_refused_in_part_can_be_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    let topic = json!({
        "name": "orders",
        "partitions": 2,
        "configs": {"cleanup.policy": "compact", "max.message.bytes": "2000"},
    });
    assert_eq!(post(address, "/v1/topics", &topic).await.status, 201);
    let text = "x".repeat(900);
    // A compacted topic takes no record without a key.
    let refused = json!({"value": "without a key", "partition": 0});
    let record = |partition: i32| json!({"key": "k", "value": text, "partition": partition});
    let body = json!({"records": [refused, record(0), record(0), record(0), record(1)]});
    for headers in [
        vec![("content-type", "application/json"), ("idempotency-key", "k")],
        vec![("content-type", "application/json")],
    ] {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let path = "/v1/topics/orders/records";
            let answer = send(address, "POST", path, &headers, body.to_string().as_bytes()).await;
            assert_eq!(answer.status, 207, "{answer:?}");
            let codes: Vec<_> = answer.json()["records"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["error"]["code"].as_str().unwrap_or_default().to_owned())
                .collect();
            answers.push(codes);
        }
        let refused = [
            "invalid_record",
            "batch_refused",
            "batch_refused",
            "batch_refused",
            "",
        ];
        assert_eq!(answers, [refused, refused]);
    }
    let partitions = get(address, "/v1/topics/orders/partitions").await.json();
    assert_eq!(partitions["partitions"][0]["log_end_offset"], 0);
    assert_eq!(partitions["partitions"][1]["log_end_offset"], 3);
    broker.stop().await;
}
