//! Workers that are no members compete for a group's records: each stretch has one holder, a restart changes nothing, and Kafka consumers of the same group go on
//! where workers ended, and the other way round.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use log_client::group::{AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol};
use serde_json::{Value, json};

use crate::client::{Response, create_topic, get, post, send};
use crate::{config, start};

/// Longer than any healthy run: who waits so long in vain was not woken.
const WAIT: &str = "wait_ms=60000";

/// Leases from the topic "t".
async fn lease(address: SocketAddr, more: &str) -> Response {
    let path = format!("/v1/groups/g/leases?topics=t&{more}");
    send(address, "POST", &path, &[], b"").await
}

/// Leases what is there.
async fn leased(address: SocketAddr, more: &str) -> Value {
    let answer = lease(address, more).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Does something with a lease.
async fn act(address: SocketAddr, lease: &Value, verb: &str) -> Response {
    let token = lease["token"].as_str().unwrap();
    let path = format!("/v1/groups/g/leases/{token}/{verb}");
    send(address, "POST", &path, &[], b"").await
}

/// Writes values to a partition of "t".
async fn write(address: SocketAddr, partition: i32, values: &[i64]) {
    let records: Vec<_> = values
        .iter()
        .map(|value| json!({"value": value, "partition": partition}))
        .collect();
    let answer = post(address, "/v1/topics/t/records", &json!({"records": records})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn offsets(lease: &Value) -> Vec<i64> {
    let records = lease["records"].as_array().unwrap().iter();
    records.map(|record| record["offset"].as_i64().unwrap()).collect()
}

fn place(lease: &Value) -> (i64, i64, i64) {
    let number = |name: &str| lease[name].as_i64().unwrap();
    (number("partition"), number("offset"), number("next_offset"))
}

fn is_nothing(lease: &Value) -> bool {
    lease["token"].is_null() && lease["records"] == json!([])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_leased_until_they_are_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 2).await;
    assert!(is_nothing(&leased(address, "").await), "there are no records");
    write(address, 0, &[0, 1, 2, 3, 4]).await;
    write(address, 1, &[0, 1]).await;

    let first = leased(address, "limit=3").await;
    assert_eq!((place(&first), offsets(&first)), ((0, 0, 3), vec![0, 1, 2]));
    assert_eq!(
        (&first["topic"], &first["records"][2]["value"]),
        (&json!("t"), &json!("2"))
    );
    let second = leased(address, "limit=3&encoding=json").await;
    assert_eq!(place(&second), (1, 0, 2));
    assert_eq!(second["records"][1]["value_json"], json!(1));
    assert!(is_nothing(&leased(address, "").await), "both are leased");

    let listed = get(address, "/v1/groups/g/leases").await.json();
    let row = |lease: &Value| {
        let mut row = lease.clone();
        row["records"].take();
        row["token"].take();
        row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        row
    };
    assert_eq!(listed, json!({"leases": [row(&first), row(&second)]}));

    let longer = act(address, &first, "extend?lease_ms=3600000").await.json();
    assert_eq!(
        (place(&longer), &longer["token"]),
        (place(&first), &first["token"])
    );
    assert!(first["expires"].as_i64() < longer["expires"].as_i64());
    let ended = act(address, &first, "acknowledge").await;
    assert_eq!(ended.status, 200);
    assert_eq!(
        ended.json(),
        json!({"topic": "t", "partition": 0, "committed": 3})
    );
    let given_back = act(address, &second, "release").await.json();
    assert_eq!(given_back, json!({"topic": "t", "partition": 1, "committed": 0}));

    // Partition 0 was served before the other.
    let third = leased(address, "").await;
    assert_eq!(place(&third), (0, 3, 5));
    let fourth = leased(address, "bytes=1").await;
    assert_eq!(place(&fourth), (1, 0, 1));
    for verb in ["acknowledge", "release", "extend"] {
        let lost = act(address, &second, verb).await.problem(409, "lease_lost");
        assert_eq!(
            (&lost["committed"], &lost["leased_until"]),
            (&json!(0), &fourth["expires"])
        );
    }
    act(address, &fourth, "acknowledge").await;
    act(address, &third, "acknowledge").await;
    let again = act(address, &third, "acknowledge").await;
    assert_eq!(again.problem(409, "lease_lost")["committed"], 5);
    let lag = get(address, "/v1/groups/g/lag").await.json();
    assert_eq!(lag["records"], 1);
    assert_eq!(get(address, "/v1/groups/g").await.json()["state"], "Empty");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_ask_at_once_get_different_partitions() {
    const PARTITIONS: i32 = 6;
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", PARTITIONS).await;
    for partition in 0..PARTITIONS {
        write(address, partition, &[1, 2]).await;
    }
    let workers: Vec<_> = (0..PARTITIONS + 2)
        .map(|_| tokio::spawn(async move { leased(address, "").await }))
        .collect();
    let (mut partitions, mut without) = (BTreeSet::new(), 0);
    for worker in workers {
        let lease = worker.await.unwrap();
        if is_nothing(&lease) {
            without += 1;
        } else {
            assert!(partitions.insert(place(&lease).0), "{lease}");
        }
    }
    assert_eq!((partitions.len(), without), (6, 2));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_partition_is_kept_waiting_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 3).await;
    for partition in 0..3 {
        write(address, partition, &[1, 2]).await;
    }
    for partition in 0..3 {
        let lease = leased(address, "limit=1").await;
        assert_eq!(place(&lease), (partition, 0, 1));
        assert_eq!(act(address, &lease, "acknowledge").await.status, 200);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_records_as_soon_as_there_are_some() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    // Who is not woken waits in vain: these leases outlast the wait.
    let long = "lease_ms=600000&wait_ms=60000";
    let one = format!("limit=1&{long}");
    for round in 0..10 {
        // They come,
        let ((), first) = tokio::join!(write(address, 0, &[1, 2]), leased(address, &one));
        assert_eq!(place(&first), (0, 2 * round, 2 * round + 1));
        // or another acknowledges those before them,
        let (acknowledged, second) = tokio::join!(act(address, &first, "acknowledge"), leased(address, long));
        assert_eq!(acknowledged.status, 200);
        assert_eq!(offsets(&second), [2 * round + 1]);
        // or gives them back,
        let (released, third) = tokio::join!(
            act(address, &second, "release"),
            leased(address, "lease_ms=100&wait_ms=60000")
        );
        assert_eq!(released.status, 200);
        // or does not come back at all.
        let fourth = leased(address, WAIT).await;
        assert_eq!((place(&third), place(&fourth)), (place(&second), place(&second)));
        act(address, &third, "acknowledge")
            .await
            .problem(409, "lease_lost");
        assert_eq!(act(address, &fourth, "acknowledge").await.status, 200);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_two_requests_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = start(config(directory.path())).await;
    create_topic(broker.http_address(), "t", 1).await;
    write(broker.http_address(), 0, &[1, 2, 3]).await;
    for number in 0..3 {
        let lease = leased(broker.http_address(), "limit=1").await;
        assert_eq!(place(&lease), (0, number, number + 1));
        broker.stop().await;
        broker = start(config(directory.path())).await;
        let address = broker.http_address();
        assert!(is_nothing(&when_loaded(address).await));
        assert_eq!(act(address, &lease, "extend").await.status, 200);
        assert_eq!(act(address, &lease, "acknowledge").await.status, 200);
        broker.stop().await;
        broker = start(config(directory.path())).await;
        when_loaded(broker.http_address()).await;
        let lost = act(broker.http_address(), &lease, "acknowledge").await;
        lost.problem(409, "lease_lost");
    }
    broker.stop().await;
}

/// Asks until the state of the groups is read, and gives back what it gets.
async fn when_loaded(address: SocketAddr) -> Value {
    loop {
        let answer = lease(address, "limit=1").await;
        if answer.status != 503 {
            let lease = answer.json();
            if !is_nothing(&lease) {
                assert_eq!(act(address, &lease, "release").await.status, 200);
            }
            return lease;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_consumers_of_the_group_and_workers_go_on_where_the_others_ended() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let directory = tempfile::tempdir().unwrap();
        let broker = start(config(directory.path())).await;
        let address = broker.http_address();
        create_topic(address, "t", 1).await;
        write(address, 0, &[0, 1, 2, 3, 4, 5]).await;
        let first = leased(address, "limit=2").await;
        assert_eq!(act(address, &first, "acknowledge").await.status, 200);
        let second = leased(address, "limit=1").await;
        assert_eq!(place(&second), (0, 2, 3));

        let mut settings = GroupConfig::new(&broker.kafka_address().to_string(), "g");
        settings.group_protocol = protocol;
        settings.auto_offset_reset = AutoOffsetReset::None;
        let mut consumer = GroupConsumer::new(settings).unwrap();
        consumer.subscribe(["t"]).unwrap();
        let record = consumer.next().await.unwrap();
        assert_eq!(record.offset.get(), 2, "what was leased was not acknowledged");
        lease(address, "").await.problem(409, "group_not_empty");
        for verb in ["acknowledge", "release", "extend"] {
            act(address, &second, verb).await.problem(409, "group_not_empty");
        }
        assert_eq!(consumer.next().await.unwrap().offset.get(), 3);
        consumer.close().await.unwrap();

        let lost = act(address, &second, "acknowledge").await;
        let committed = lost.problem(409, "lease_lost")["committed"].clone();
        let third = leased(address, "").await;
        assert_eq!(third["offset"], committed);
        assert!((3..=4).contains(&committed.as_i64().unwrap()), "{committed}");
        assert_eq!(act(address, &third, "acknowledge").await.json()["committed"], 6);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_lease_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 2).await;
    let token = format!("t:0:{}", "0".repeat(32));
    for (path, status, code) in [
        ("g/leases".to_owned(), 400, "invalid_request"),
        ("g/leases?topics=".to_owned(), 400, "invalid_request"),
        ("g/leases?topics=t,".to_owned(), 400, "invalid_request"),
        ("g/leases?topics=none".to_owned(), 404, "unknown_topic"),
        ("g/leases?topics=t&limit=0".to_owned(), 400, "invalid_request"),
        (
            "g/leases?topics=t&bytes=99999999".to_owned(),
            400,
            "invalid_request",
        ),
        ("g/leases?topics=t&lease_ms=99".to_owned(), 400, "invalid_request"),
        (
            "g/leases?topics=t&lease_ms=3600001".to_owned(),
            400,
            "invalid_request",
        ),
        (
            "g/leases?topics=t&wait_ms=60001".to_owned(),
            400,
            "invalid_request",
        ),
        (
            "g/leases?topics=t&leasems=1000".to_owned(),
            400,
            "invalid_request",
        ),
        ("g/leases/0/acknowledge".to_owned(), 400, "invalid_request"),
        (
            format!("g/leases/{token}/extend?lease_ms=-1"),
            400,
            "invalid_request",
        ),
        (format!("g/leases/{token}/acknowledge"), 404, "unknown_group"),
        (format!("g/leases/{token}/take"), 404, "not_found"),
    ] {
        let path = format!("/v1/groups/{path}");
        send(address, "POST", &path, &[], b"").await.problem(status, code);
    }
    for path in ["/v1/groups/g", "/v1/groups/g/leases"] {
        get(address, path).await.problem(404, "unknown_group");
    }
    assert_eq!(lease(address, "").await.status, 200);
    get(address, "/v1/groups/g").await.problem(404, "unknown_group");

    write(address, 0, &[1]).await;
    let first = leased(address, "").await;
    let unknown = act(address, &json!({ "token": token }), "acknowledge").await;
    assert_eq!(
        unknown.problem(409, "lease_lost")["leased_until"],
        first["expires"]
    );
    let elsewhere = format!("t:7:{}", "0".repeat(32));
    let unknown = act(address, &json!({ "token": elsewhere }), "acknowledge").await;
    assert_eq!(unknown.problem(409, "lease_lost")["committed"], Value::Null);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_read_from_its_first_record() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    write(address, 0, &[0, 1, 2]).await;
    let first = leased(address, "").await;
    act(address, &first, "acknowledge").await;
    assert_eq!(
        send(address, "DELETE", "/v1/topics/t", &[], b"").await.status,
        204
    );
    create_topic(address, "t", 1).await;
    write(address, 0, &[0, 1]).await;
    let anew = leased(address, "").await;
    assert_eq!(place(&anew), (0, 0, 2));
    broker.stop().await;
}

/// A stop of the broker ends a wait with what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_wait() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let waits = tokio::spawn(async move { leased(address, WAIT).await });
    while !get(address, "/metrics")
        .await
        .text()
        .contains("\nstratalog_waiting_fetches 1\n")
    {}
    broker.stop().await;
    assert!(is_nothing(&waits.await.unwrap()));
}
