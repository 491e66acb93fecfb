//! Bodies come and go compressed, bombs are refused, allowed sites hear that they are, and who has a document is not sent it again.

use std::net::SocketAddr;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use log_core::record::compression::Compression;
use log_server::config::keys::BrokerConfig;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::client::{Response, create_topic, get, send};
use crate::{config, start};

const RECORDS: &str = "/v1/topics/t/records";
const ENCODINGS: [(&str, Compression); 2] = [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

fn packed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    codec.compress(None, bytes, &mut output);
    output
}

async fn unpacked(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    match codec {
        Compression::Gzip => GzipDecoder::new(bytes).read_to_end(&mut output).await,
        _ => ZstdDecoder::new(bytes).read_to_end(&mut output).await,
    }
    .unwrap();
    output
}

async fn post(address: SocketAddr, kind: &str, encoding: &str, body: &[u8]) -> Response {
    let headers = [("content-type", kind), ("content-encoding", encoding)];
    send(address, "POST", RECORDS, &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_come_and_answers_go_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let value = "twice as good ".repeat(200);
    let line = format!("{}\n", json!({"value": value}));
    for (name, codec) in ENCODINGS {
        for (kind, body) in [
            ("text/plain", value.clone()),
            ("application/json", line.clone()),
            ("application/x-ndjson", line.repeat(3)),
        ] {
            let written = post(address, kind, name, &packed(codec, body.as_bytes())).await;
            assert_eq!(written.status, 200, "{name} {kind} {written:?}");
        }
    }
    let path = "/v1/topics/t/partitions/0/records?limit=10";
    let plain = get(address, path).await;
    assert_eq!(plain.header("content-encoding"), None);
    let records = plain.json()["records"].as_array().unwrap().clone();
    assert_eq!(records.len(), 10);
    assert!(records.iter().all(|record| record["value"] == value.as_str()));
    for (name, codec) in ENCODINGS {
        let answer = send(address, "GET", path, &[("accept-encoding", name)], b"").await;
        assert_eq!(answer.header("content-encoding"), Some(name));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert!(answer.body.len() < plain.body.len() / 10);
        assert_eq!(unpacked(codec, &answer.body).await, plain.body);
        // What is short, or a stream, goes as it is.
        for path in ["/v1/topics", "/v1/topics/t/follow?offset=earliest&until=end"] {
            let answer = send(address, "GET", path, &[("accept-encoding", name)], b"").await;
            assert_eq!(
                (answer.status, answer.header("content-encoding")),
                (200, None),
                "{path}"
            );
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_too_much_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_request_max_bytes: 100_000,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    for (name, codec) in ENCODINGS {
        // Small, and larger than a body may be; and lines without end, of which none is.
        let body = packed(codec, &vec![b'x'; 200_000]);
        post(address, "text/plain", name, &body)
            .await
            .problem(413, "too_large");
        let lines = packed(codec, &vec![b'\n'; 8 << 20]);
        let answer = post(address, "application/x-ndjson", name, &lines).await;
        answer.problem(413, "too_large");
        post(address, "text/plain", name, b"neither of them")
            .await
            .problem(400, "invalid_request");
    }
    post(address, "text/plain", "br", b"x")
        .await
        .problem(415, "unsupported_media_type");
    assert_eq!(get(address, "/v1/topics/t").await.json()["records"], 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sites_that_are_allowed_may_ask_and_hear_so() {
    const ALLOWED: (&str, &str) = ("origin", "https://app.example");
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_cors_origins: vec![ALLOWED.1.to_owned()],
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let asks = [
        ALLOWED,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,idempotency-key"),
    ];
    let answer = send(address, "OPTIONS", RECORDS, &asks, b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(ALLOWED.1));
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("idempotency-key"), "{allowed}");
    let headers = [ALLOWED, ("content-type", "text/plain")];
    let written = send(address, "POST", RECORDS, &headers, b"x").await;
    assert_eq!(written.status, 200);
    assert_eq!(written.header("access-control-allow-origin"), Some(ALLOWED.1));
    for origin in [
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
    ] {
        let headers = [("origin", origin), ("content-type", "text/plain")];
        let refused = send(address, "POST", RECORDS, &headers, b"x").await;
        refused.problem(403, "foreign_site");
        assert_eq!(refused.header("access-control-allow-origin"), None);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_document_is_not_sent_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    for path in ["/", "/console/app.css", "/openapi.json"] {
        let first = get(address, path).await;
        assert_eq!(
            (first.status, first.header("cache-control")),
            (200, Some("no-cache"))
        );
        let tag = first.header("etag").unwrap();
        let headers = [("if-none-match", tag), ("accept-encoding", "gzip")];
        let again = send(address, "GET", path, &headers, b"").await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(again.header("etag"), Some(tag));
        let other = send(address, "GET", path, &[("if-none-match", "\"x\"")], b"").await;
        assert_eq!(other.body, first.body);
    }
    broker.stop().await;
}
