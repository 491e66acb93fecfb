//! Requests that are not what they seem: heads, paths, parameters and bodies that are broken, ambiguous or a trick. Each is refused with a status
//! that says why, or the connection ends; none is taken for two, none reaches a file, and the broker goes on.

use std::net::SocketAddr;

use log_server::config::keys::BrokerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{Response, create_topic, get, head, send};
use crate::{config, start};

const JSON: (&str, &str) = ("content-type", "application/json");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const RECORDS: &str = "/v1/topics/t/records";

/// All that comes back for some bytes until the broker ends the connection; nothing, if it just ends it.
async fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The broker may be done with it before all is said.
    stream.write_all(bytes).await.ok();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.ok();
    heard
}

/// The statuses of the answers, one after the other; bodies have none in them.
fn statuses(heard: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(heard);
    let lines = text.split("HTTP/1.").skip(1);
    lines
        .map(|line| line.get(2..5).unwrap().parse().unwrap())
        .collect()
}

async fn count(address: SocketAddr) -> Value {
    get(address, "/v1/topics/t").await.json()["records"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_broken_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    let many = "x: y\r\n".repeat(200);
    let endless = format!("x: {}", "y".repeat(200_000));
    for (request, expected) in [
        ("GET /healthz\r\n\r\n", 400),
        ("GET /healthz HTTP/3.0\r\nhost: localhost\r\n\r\n", 400),
        ("GET  /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        ("GET /heal thz HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        ("GET /heal\0thz HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        ("G@T /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nbad name: x\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n: x\r\n\r\n", 400),
        (
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\n folded: x\r\n\r\n",
            400,
        ),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost localhost\r\n\r\n", 400),
        (&format!("GET /healthz HTTP/1.1\r\n{many}\r\n"), 431),
        (&format!("GET /healthz HTTP/1.1\r\n{endless}"), 431),
        (&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000)), 431),
        (
            "BREW /v1/topics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            405,
        ),
        (
            "OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            404,
        ),
        (
            "CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            403,
        ),
        (
            "GET http://evil.example/v1/topics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            403,
        ),
        (
            "GET /healthz HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
            403,
        ),
    ] {
        let found = statuses(&say(address, request.as_bytes()).await);
        let shown = request.get(..60).unwrap_or(request);
        assert_eq!(found, [expected], "{shown:?}");
    }
    // HTTP/2 has no place here, and its clients understand no refusal in words.
    assert_eq!(say(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, b"");
    broker.stop().await;
}

/// A body whose end two readers would see in two places hides a request from one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_one_end() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let hidden = "DELETE /v1/topics/t HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!(
            "POST {RECORDS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
        )
    };
    for request in [
        post(
            "content-length: 2\r\ncontent-length: 60\r\n",
            &format!("{{}}{hidden}"),
        ),
        post("content-length: 2, 60\r\n", &format!("{{}}{hidden}")),
        post("content-length: -2\r\n", "{}"),
        post("content-length: +2\r\n", "{}"),
        post("content-length: 0x2\r\n", "{}"),
        post("content-length: 99999999999999999999999999\r\n", "{}"),
        post("transfer-encoding: gzip\r\n", "{}"),
        post("transfer-encoding: chunked, identity\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"),
        post(
            "transfer-encoding: chunked\r\n",
            "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        ),
        post("transfer-encoding: chunked\r\n", &format!("2\r\n{{}}X{hidden}")),
        post(
            "transfer-encoding: chunked\r\n",
            &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(100_000)),
        ),
    ] {
        let found = statuses(&say(address, request.as_bytes()).await);
        let shown = request.get(60..180).unwrap_or(&request);
        assert_eq!(found.len(), 1, "{found:?} {shown:?}");
        assert!((400..500).contains(&found[0]), "{found:?} {shown:?}");
    }
    assert_eq!(count(address).await, 0);
    // A length beside chunks: who would go by the length sees the hidden request.
    let both = post(
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        &format!("{:x}\r\n{hidden}\r\n0\r\n\r\n{last}", hidden.len()),
    );
    let heard = say(address, both.as_bytes()).await;
    assert!(
        !statuses(&heard).contains(&204),
        "{}",
        String::from_utf8_lossy(&heard)
    );
    assert_eq!(get(address, "/v1/topics/t").await.status, 200);
    // Two that are sent together are two.
    let two = format!("{}{last}", post("content-length: 2\r\n", "{}"));
    assert_eq!(statuses(&say(address, two.as_bytes()).await), [200, 200]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_lead_nowhere_but_to_routes() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    for path in [
        "/../../etc/passwd",
        "//etc/passwd",
        "/./healthz",
        "/healthz/",
        "/healthz/../healthz",
        "/healthz%00",
        "/healthz;x=y",
        "/HEALTHZ",
        "/v1",
        "/v1/",
        "/v2/topics",
        "/v1//topics",
        "/v1/topics/",
        "/v1/topics/t/../t",
        "/v1/topics/t%2fpartitions",
        "/v1/topics/%2e%2e%2ft",
        "/v1/topics/..%5ct",
        "/v1/topics/%c0%ae%c0%ae",
        "/v1/topics/%ff",
        "/v1/topics/%zz",
        "/v1/topics/%",
        "/v1/topics/t%",
        "/v1/topics/t%00",
        "/v1/topics/t%0d%0aset-cookie:%20a=b",
        "/v1/topics/t/partitions/00x0/records",
        "/v1/topics/t/partitions/4294967296/records",
        "/v1/topics/t/partitions/%30%30/records/x",
        "/v1/groups/",
        "/v1/groups/none%2fleases",
        "/console/",
        "/console/../app.css",
        "/console/%2e%2e/app.css",
        "/console/js/../app.css",
        "/console/..%2f..%2f..%2fetc%2fpasswd",
        "/console//app.css",
        "/console/app.css/",
        "/console/app.css%00",
        "/console/app.css%00.js",
        "/console/C:%5cwindows",
        "/console//etc/passwd",
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 404, "{path} {answer:?}");
        assert!(answer.header("set-cookie").is_none(), "{path}");
        if !path.starts_with("/console") {
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json"),
                "{path}"
            );
        }
    }
    broker.stop().await;
}

/// Each operation of the document, with places that are not there, so that nothing but the parameter is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_passes_over_a_parameter_that_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    let document = get(address, "/openapi.json").await.json();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/") {
            // Who looks whether the broker lives may add what it likes.
            continue;
        }
        let place = path.replace("{partition}", "0").replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys() {
            let path = format!("{place}?no_such_parameter=1");
            let answer = send(address, &method.to_uppercase(), &path, &[JSON], b"{}").await;
            let problem = answer.problem(400, "invalid_request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("no_such_parameter"), "{method} {path}: {detail}");
            asked += 1;
        }
    }
    assert!(30 < asked, "the document has lost its operations");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_what_they_should_be_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let many = "&p=".repeat(3000);
    for query in [
        "limit=1&limit=2",
        "limit=-1",
        "limit=1e3",
        "limit=0x10",
        "limit=%20",
        "limit=",
        "limit=99999999999999999999999999",
        "limit[]=1",
        "limit=1%00",
        "limit=%ff",
        "offset=9223372036854775808",
        "offset=1.5",
        "time=yesterday",
        "time=-1",
        "time=9999-99-99",
        "wait_ms=60001",
        "wait_ms=-1",
        "encoding=BASE64",
        "encoding=",
        "format=xml",
        "isolation=none",
        "Limit=1",
        "=",
        "=1",
        &many,
    ] {
        let path = format!("/v1/topics/t/partitions/0/records?{query}");
        let shown = query.get(..40).unwrap_or(query);
        let answer = get(address, &path).await;
        assert_eq!(answer.status, 400, "{shown} {answer:?}");
        answer.problem(400, "invalid_request");
        assert!(answer.body.len() < 2000, "{shown}: what was sent comes back");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_what_they_say_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let long_number = format!("{{\"partition\": {}}}", "9".repeat(10_000));
    for body in [
        b"\xff\xfe{}".as_slice(),
        b"\xef\xbb\xbf{}",
        b"{\"value\": \"\xff\"}",
        b"{\"value\": \"\\ud800\"}",
        b"{\"value\": \"\0\"}",
        b"{\"value\": 1",
        b"{\"value\": 01}",
        b"{\"value\": NaN}",
        b"{\"value\": 1, \"value\": 2}",
        b"{'value': 1}",
        b"{\"value\": 1,}",
        b"{\"value\": 1} {\"value\": 2}",
        b"{\"partition\": 1.5}",
        b"{\"partition\": \"0\"}",
        b"{\"timestamp\": -1}",
        b"{\"timestamp\": 1e400}",
        b"{\"value_base64\": \"****\"}",
        b"{\"headers\": {\"a\": 1}}",
        b"{\"headers\": [{\"value\": 1}]}",
        b"null",
        b"\"text\"",
        b"",
        long_number.as_bytes(),
    ] {
        for kind in [JSON, NDJSON] {
            if kind == NDJSON && (body.is_empty() || body.starts_with(b"{\"value\": 1} {")) {
                continue;
            }
            let answer = send(address, "POST", RECORDS, &[kind], body).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!(answer.status, 400, "{kind:?} {shown} {answer:?}");
            answer.problem(400, "invalid_record");
        }
    }
    for (encoding, body, status) in [
        ("gzip", b"{}".as_slice(), 400),
        ("gzip", b"\x1f\x8b\x08", 400),
        ("zstd", b"{}", 400),
        ("zstd", b"\x28\xb5\x2f\xfd", 400),
        ("br", b"{}", 415),
        ("gzip, gzip", b"{}", 415),
        ("gzip, identity", b"{}", 415),
        ("", b"{}", 415),
    ] {
        let encoding = ("content-encoding", encoding);
        let answer = send(address, "POST", RECORDS, &[JSON, encoding], body).await;
        assert_eq!(answer.status, status, "{encoding:?} {body:?} {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    for kind in [
        "application/xml",
        "application/json/x",
        "json",
        "*/*",
        "multipart/form-data; boundary=x",
        "\u{1}",
    ] {
        let answer = send(address, "POST", RECORDS, &[("content-type", kind)], b"{}").await;
        assert!([400, 415].contains(&answer.status), "{kind:?} {answer:?}");
    }
    assert_eq!(count(address).await, 0);
    broker.stop().await;
}

/// Lines that have no end, bodies that are never finished, and answers that nobody takes, from many at once: each costs what the broker has for
/// all of them together, and a request that comes then is told so or served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_ends_at_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_request_max_bytes: 100_000,
        http_queued_max_request_bytes: 1 << 20,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for kind in [JSON, NDJSON, ("content-type", "text/plain")] {
        let start = format!(
            "{}\r\n",
            head("POST", RECORDS, &[kind, ("transfer-encoding", "chunked")])
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        // It never ends, but for the broker's refusal.
        let mut sent = 0;
        while stream.write_all(piece.as_bytes()).await.is_ok() && sent < (64 << 20) {
            sent += piece.len();
        }
        assert!(sent < (64 << 20), "{kind:?}: {sent} bytes of one body were taken");
    }
    // Halves of bodies that wait for their other half.
    let half = format!(
        "{}content-length: 99000\r\n\r\n{}",
        head("POST", RECORDS, &[JSON]),
        " ".repeat(98_000)
    );
    let mut waiting = JoinSet::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        waiting.spawn(async move {
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            first
        });
    }
    // Twelve megabytes are wanted for them, and there is one: most are told so, and the others wait for their halves.
    for _ in 0..50 {
        assert_eq!(&waiting.join_next().await.unwrap().unwrap(), b"HTTP/1.1 503");
    }
    assert_eq!(get(address, "/healthz").await.status, 200);
    drop(waiting);
    // The broker hears of their end in its own time.
    loop {
        let answer: Response = send(
            address,
            "POST",
            RECORDS,
            &[JSON],
            json!({"value": 1}).to_string().as_bytes(),
        )
        .await;
        if answer.status == 200 {
            break;
        }
        answer.problem(503, "overloaded");
    }
    broker.stop().await;
}
