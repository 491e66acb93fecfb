//! What is not a request is refused with a status that says why, at once and without much memory; the connection of an answered request may still
//! be sending.

use log_server::config::keys::BrokerConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Response, create_topic, exchange, finish, get, head, post, send};
use crate::{config, start};

const JSON: (&str, &str) = ("content-type", "application/json");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const RECORDS: &str = "/v1/topics/t/records";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_wrong_are_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    for (path, status, code) in [
        ("/v1", 404, "not_found"),
        ("/v1/topics/../../etc/passwd", 404, "not_found"),
        ("/v1/topics/%2e%2e%2f%2e%2e%2fetc", 404, "unknown_topic"),
        ("/v1/topics/..", 404, "unknown_topic"),
        ("/v1/topics/%00", 404, "unknown_topic"),
        ("/v1/topics/__stratalog_metadata", 404, "unknown_topic"),
        ("/v1/topics/%ff", 404, "not_found"),
        ("/v1/topics/none/partitions/0/records", 404, "unknown_topic"),
        ("/v1/topics/t/partitions/1/records", 404, "unknown_partition"),
        ("/v1/topics/t/partitions/-1/records", 404, "unknown_partition"),
        ("/v1/topics/t/partitions/x/records", 404, "not_found"),
        (
            "/v1/topics/t/partitions/0/records?offset=5",
            416,
            "offset_out_of_range",
        ),
        (
            "/v1/topics/t/partitions/0/records?offset=x",
            400,
            "invalid_request",
        ),
        (
            "/v1/topics/t/partitions/0/records?offset=0&time=0",
            400,
            "invalid_request",
        ),
        (
            "/v1/topics/t/partitions/0/records?ofset=0",
            400,
            "invalid_request",
        ),
        (
            "/v1/topics/t/partitions/0/records?limit=0",
            400,
            "invalid_request",
        ),
        (
            "/v1/topics/t/partitions/0/records?bytes=999999999999",
            400,
            "invalid_request",
        ),
        (
            "/v1/topics/t/partitions/0/records?wait_ms=-1",
            400,
            "invalid_request",
        ),
        ("/v1/topics/t/partitions/0/records?format=value", 404, "no_record"),
        ("/v1/topics/t/offsets", 400, "invalid_request"),
        ("/v1/topics?limit=1001", 400, "invalid_request"),
    ] {
        let answer = get(address, path).await;
        answer.problem(status, code);
    }
    let range = get(address, "/v1/topics/t/partitions/0/records?offset=5")
        .await
        .json();
    assert_eq!(
        (&range["log_start_offset"], &range["high_watermark"]),
        (&json!(0), &json!(0))
    );
    let refused = send(address, "PUT", "/v1/topics", &[], b"").await;
    refused.problem(405, "method_not_allowed");
    assert!(refused.header("allow").unwrap().contains("POST"));

    for (kind, body, status, code) in [
        ("", "{}", 415, "unsupported_media_type"),
        (
            "application/x-www-form-urlencoded",
            "a=b",
            415,
            "unsupported_media_type",
        ),
        ("application/json", "", 400, "invalid_record"),
        ("application/json", "[]", 400, "invalid_record"),
        ("application/json", "{\"records\": []}", 400, "invalid_record"),
        ("application/json", "{\"records\": {}}", 400, "invalid_record"),
        (
            "application/json",
            "{\"records\": [], \"more\": 1}",
            400,
            "invalid_record",
        ),
        (
            "application/json",
            "{\"records\": [{\"valeu\": 1}]}",
            400,
            "invalid_record",
        ),
        ("application/json", "{\"value\": 1} x", 400, "invalid_record"),
        (
            "application/json",
            "{\"value\": 1, \"timestamp\": 32503680000000}",
            400,
            "invalid_timestamp",
        ),
        ("application/x-ndjson", "{\"value\": 1", 400, "invalid_record"),
        // By the order of their fields nobody means them.
        ("application/x-ndjson", "[1, 2]", 400, "invalid_record"),
        ("application/json", "[[{\"value\": 1}]]", 400, "invalid_record"),
        (
            "application/json",
            "{\"records\": [[1, 2]]}",
            400,
            "invalid_record",
        ),
        (
            "application/json",
            "{\"headers\": [[\"a\", \"v\"]]}",
            400,
            "invalid_record",
        ),
    ] {
        send(
            address,
            "POST",
            RECORDS,
            &[("content-type", kind)],
            body.as_bytes(),
        )
        .await
        .problem(status, code);
    }
    let deep = "[".repeat(100_000);
    send(address, "POST", RECORDS, &[JSON], deep.as_bytes())
        .await
        .problem(400, "invalid_record");
    let internal = "/v1/topics/__consumer_offsets/records";
    assert_eq!(send(address, "POST", internal, &[JSON], b"{}").await.status, 404);
    for (body, status, code) in [
        (json!({"name": "t"}), 409, "topic_exists"),
        (json!({"name": "a/b"}), 400, "invalid_topic"),
        (json!({"name": "u", "partitions": 0}), 400, "invalid_partitions"),
        (
            json!({"name": "u", "configs": {"retention.mss": "1"}}),
            400,
            "invalid_config",
        ),
        (
            json!({"name": "u", "replication_factor": 3}),
            400,
            "invalid_request",
        ),
        (json!({"nam": "u"}), 400, "invalid_request"),
        (json!(["u", 1, 1]), 400, "invalid_request"),
        (json!({"name": "u".repeat(2 << 20)}), 413, "too_large"),
    ] {
        post(address, "/v1/topics", &body).await.problem(status, code);
    }
    assert_eq!(get(address, "/v1/topics/t").await.json()["records"], 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_request_max_bytes: 100_000,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    // Announced: not a byte of it is waited for.
    let announced = format!(
        "{}content-type: text/plain\r\ncontent-length: 99999999999\r\n\r\n",
        head("POST", RECORDS, &[])
    );
    exchange(address, announced.as_bytes())
        .await
        .problem(413, "too_large");
    // Not announced, and sent to the end by a client that does not listen meanwhile: the answer still arrives.
    for kind in ["text/plain", "application/json", "application/x-ndjson"] {
        let mut request = head(
            "POST",
            RECORDS,
            &[("content-type", kind), ("transfer-encoding", "chunked")],
        )
        .into_bytes();
        request.extend_from_slice(b"\r\n");
        for _ in 0..50 {
            request.extend_from_slice(b"2000\r\n");
            request.extend_from_slice(&[b' '; 0x2000]);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        exchange(address, &request).await.problem(413, "too_large");
    }
    let many = format!("{{\"records\": [{}{{}}]}}", "{},".repeat(30_000));
    assert!(many.len() < 100_000);
    assert_eq!(
        send(address, "POST", RECORDS, &[JSON], many.as_bytes())
            .await
            .status,
        200
    );
    let path = format!("/v1/topics/{}", "x".repeat(70_000));
    assert!([414, 431].contains(&get(address, &path).await.status));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_share_a_memory_that_has_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_queued_max_request_bytes: 1 << 20,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let answer = send(
        address,
        "POST",
        RECORDS,
        &[("content-type", "text/plain")],
        &vec![b'x'; 600 << 10],
    )
    .await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    // What was paid is given back.
    let small = vec![b'x'; 400 << 10];
    for _ in 0..5 {
        assert_eq!(
            send(
                address,
                "POST",
                RECORDS,
                &[("content-type", "text/plain")],
                &small
            )
            .await
            .status,
            200
        );
    }
    broker.stop().await;
}

/// An answer waits in memory until its client took it, so answers pay for it too; and what a small body makes of mistakes is no smaller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_share_the_memory_of_bodies() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_queued_max_request_bytes: 1 << 20,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let text = [("content-type", "text/plain")];
    for _ in 0..4 {
        let written = send(address, "POST", RECORDS, &text, &vec![b'x'; 400 << 10]).await;
        assert_eq!(written.status, 200);
    }
    let records = "/v1/topics/t/partitions/0/records";
    for _ in 0..3 {
        let refused = get(address, &format!("{records}?bytes=1500000")).await;
        refused.problem(503, "overloaded");
        let page = get(address, &format!("{records}?bytes=1")).await;
        assert_eq!(page.json()["records"].as_array().unwrap().len(), 1);
    }
    let mistakes = format!("{{\"records\": [{}{{}}]}}", "{\"partition\": 9},".repeat(4000));
    assert!(mistakes.len() < 100_000);
    let refused = send(address, "POST", RECORDS, &[JSON], mistakes.as_bytes()).await;
    refused.problem(503, "overloaded");
    assert_eq!(get(address, "/v1/topics/t").await.json()["records"], 4);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stop_and_connections_that_say_nothing_are_given_up() {
    let directory = tempfile::tempdir().unwrap();
    // Long enough for a request to follow its connection on a busy machine.
    let short = std::time::Duration::from_millis(300);
    let broker = start(BrokerConfig {
        http_read_timeout: short,
        http_idle_timeout: short,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    for kind in [JSON, NDJSON] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let half = format!(
            "{}content-length: 100\r\n\r\n{{\"value\"",
            head("POST", RECORDS, &[kind])
        );
        stream.write_all(half.as_bytes()).await.unwrap();
        finish(stream).await.problem(408, "request_timeout");
    }
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "who said nothing is told nothing");
    for half in ["GET /healthz HTT", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        finish(stream).await.problem(408, "request_timeout");
    }
    // Also behind a request that was answered.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let one_and_a_half = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /he";
    stream.write_all(one_and_a_half.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<_> = answers
        .split("HTTP/1.1 ")
        .filter_map(|answer| answer.split(' ').next())
        .collect();
    assert_eq!(statuses, ["", "200", "408"]);
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01".as_slice(),
        b"\0\0\0\x12\0\x12\0\x04",
        b"GET / SMTP\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        // A reset is as good an answer.
        stream.read_to_end(&mut rest).await.ok();
        assert!(rest.is_empty() || Response::parse(&rest).status == 400);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_max_connections: 2,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        open.push(stream);
    }
    let refused = finish(TcpStream::connect(address).await.unwrap()).await;
    refused.problem(503, "overloaded");
    // Also a client that has asked already: what it sent must not destroy the answer.
    for _ in 0..20 {
        get(address, "/healthz").await.problem(503, "overloaded");
    }
    drop(open);
    // The broker hears of their end in its own time.
    while get(address, "/healthz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    broker.stop().await;
}
