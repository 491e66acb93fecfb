//! A group over HTTP and a Kafka consumer of the same group: they share its offsets.

use log_client::group::{AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol};
use serde_json::{Value, json};

use crate::client::{create_topic, get, post, send};
use crate::{config, start};

/// When the first record was made.
const TIME: i64 = 1_769_860_800_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_shown_reset_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 2).await;
    let record = |number: i64| json!({"value": number, "partition": number % 2, "timestamp": TIME + number});
    let records: Vec<_> = (0..10).map(record).collect();
    assert_eq!(
        post(address, "/v1/topics/t/records", &json!({"records": records}))
            .await
            .status,
        200
    );
    get(address, "/v1/groups/g").await.problem(404, "unknown_group");
    get(address, "/v1/groups/g/lag")
        .await
        .problem(404, "unknown_group");

    let reset = async |body: Value| {
        let answer = post(address, "/v1/groups/g/offsets", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let rows = answer.json()["partitions"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| (row["before"].as_i64(), row["after"].as_i64()))
            .collect::<Vec<_>>()
    };
    let topics = json!([{"topic": "t"}]);
    let planned = reset(json!({"to": {"offset": 2}, "topics": topics, "dry_run": true})).await;
    assert_eq!(planned, [(None, Some(2)), (None, Some(2))]);
    get(address, "/v1/groups/g").await.problem(404, "unknown_group");
    assert_eq!(
        reset(json!({"to": {"offset": 2}, "topics": topics})).await,
        planned
    );
    assert_eq!(
        reset(json!({"to": {"shift": -1}})).await,
        [(Some(2), Some(1)), (Some(2), Some(1))]
    );
    let time = json!({"to": {"time": TIME + 6}, "topics": [{"topic": "t", "partitions": [1]}]});
    assert_eq!(reset(time).await, [(Some(1), Some(3))]);
    assert_eq!(
        reset(json!({"to": "latest", "dry_run": true})).await,
        [(Some(1), Some(5)), (Some(3), Some(5))]
    );
    assert_eq!(
        reset(json!({"to": {"offset": 99}, "dry_run": true})).await[0].1,
        Some(5)
    );
    let lag = get(address, "/v1/groups/g/lag").await.json();
    assert_eq!(
        (&lag["records"], &lag["partitions"][1]["committed"]),
        (&json!(6), &json!(3))
    );

    // A Kafka consumer of the group begins where that left it.
    let mut settings = GroupConfig::new(&broker.kafka_address().to_string(), "g");
    settings.group_protocol = GroupProtocol::Consumer;
    settings.auto_offset_reset = AutoOffsetReset::None;
    let mut consumer = GroupConsumer::new(settings).unwrap();
    consumer.subscribe(["t"]).unwrap();
    let mut offsets = vec![Vec::new(); 2];
    for _ in 0..6 {
        let record = consumer.next().await.unwrap();
        offsets[usize::try_from(record.partition.partition).unwrap()].push(record.offset.get());
    }
    assert_eq!(offsets, [vec![1, 2, 3, 4], vec![3, 4]]);
    let group = get(address, "/v1/groups/g").await.json();
    assert_eq!(
        (&group["type"], &group["state"]),
        (&json!("consumer"), &json!("Stable"))
    );
    assert_eq!(
        group["members"][0]["assigned"],
        json!([{"topic": "t", "partitions": [0, 1]}])
    );
    for dry_run in [true, false] {
        let body = json!({"to": "earliest", "dry_run": dry_run});
        post(address, "/v1/groups/g/offsets", &body)
            .await
            .problem(409, "group_not_empty");
    }
    send(address, "DELETE", "/v1/groups/g", &[], b"")
        .await
        .problem(409, "group_not_empty");
    consumer.close().await.unwrap();

    let lag = get(address, "/v1/groups/g/lag").await.json();
    assert_eq!(
        (&lag["records"], &lag["time_ms"]),
        (&json!(0), &json!(0)),
        "closing committed"
    );
    let listed = get(address, "/v1/groups?state=empty&search=G").await.json();
    assert_eq!(
        (&listed["total"], &listed["groups"][0]["group"]),
        (&json!(1), &json!("g"))
    );
    assert_eq!(get(address, "/v1/groups?state=stable").await.json()["total"], 0);
    assert_eq!(
        send(address, "DELETE", "/v1/groups/g", &[], b"").await.status,
        204
    );
    assert_eq!(get(address, "/v1/groups").await.json()["total"], 0);
    for (body, status, code) in [
        (json!({"to": "beginning"}), 400, "invalid_request"),
        (json!({}), 400, "invalid_request"),
        (
            json!({"to": "earliest", "topics": [{"topic": "none"}]}),
            404,
            "unknown_topic",
        ),
        (
            json!({"to": "earliest", "topics": [{"topic": "t", "partitions": [9]}]}),
            404,
            "unknown_partition",
        ),
    ] {
        post(address, "/v1/groups/h/offsets", &body)
            .await
            .problem(status, code);
    }
    broker.stop().await;
}
