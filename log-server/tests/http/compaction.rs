//! A compacted topic is compacted when somebody asks, all of it; other topics are not, and who asks hears why.

use log_server::config::keys::BrokerConfig;
use serde_json::{Value, json};

use crate::client::{create_topic, get, post, send};
use crate::{config, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_compacted_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    // By itself it would not be cleaned as long as anything in it is clean.
    let configs = json!({"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "1.0"});
    let topic = json!({"name": "prices", "partitions": 2, "configs": configs});
    assert_eq!(post(address, "/v1/topics", &topic).await.status, 201);
    let write = async |price: i64| {
        let record = json!({"key": "tea", "value": price, "partition": 0});
        let written = post(
            address,
            "/v1/topics/prices/records",
            &json!({"records": [record]}),
        )
        .await;
        assert_eq!(written.status, 200, "{written:?}");
    };
    let compact = async || {
        let answer = send(address, "POST", "/v1/topics/prices/compact", &[], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["partitions"].as_array().unwrap().clone()
    };
    for price in 0..3 {
        write(price).await;
    }
    let rows = compact().await;
    let done = &rows[0]["compacted"];
    assert_eq!(
        [
            &done["from_offset"],
            &done["to_offset"],
            &done["records_before"],
            &done["records_after"]
        ],
        [0, 3, 3, 1]
    );
    assert!(
        done["bytes_after"].as_u64() < done["bytes_before"].as_u64(),
        "{done}"
    );
    assert_eq!(
        rows[1],
        json!({"partition": 1, "compacted": null, "held_back": null})
    );
    assert_eq!(compact().await[0]["compacted"], Value::Null);
    write(3).await;
    assert_eq!(compact().await[0]["compacted"]["to_offset"], 4);
    let read = get(address, "/v1/topics/prices/partitions/0/records?offset=0").await;
    let values: Vec<_> = read.json()["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["offset"].clone())
        .collect();
    assert_eq!(values, [3]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_compacted_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "events", 1).await;
    let ask = async |topic: &str| {
        let path = format!("/v1/topics/{topic}/compact");
        send(address, "POST", &path, &[], b"").await
    };
    let refused = ask("events").await.problem(409, "not_compacted");
    assert!(
        refused["detail"].as_str().unwrap().contains("cleanup.policy"),
        "{refused}"
    );
    ask("nothing").await.problem(404, "unknown_topic");
    get(address, "/v1/topics/events/compact")
        .await
        .problem(405, "method_not_allowed");
    broker.stop().await;

    let broker = start(BrokerConfig {
        log_cleaner_enable: false,
        ..config(directory.path())
    })
    .await;
    let path = "/v1/topics/events/compact";
    let refused = send(broker.http_address(), "POST", path, &[], b"").await;
    refused.problem(403, "policy_violation");
    broker.stop().await;
}
