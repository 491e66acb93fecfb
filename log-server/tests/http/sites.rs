//! A page of another site, in a browser on the broker's machine, can neither write nor read.

use std::net::SocketAddr;

use log_server::config::keys::BrokerConfig;

use crate::client::{Response, create_topic, exchange, get};
use crate::{config, start};

async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    exchange(address, request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_hosts: vec!["log.example".to_owned()],
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let here = format!("host: {address}\r\n");
    // What a page can send without the browser asking first; and what is the broker's own site to the browser, under a name of the page's.
    for headers in [
        format!("{here}origin: https://evil.example\r\ncontent-type: text/plain\r\n"),
        format!("{here}origin: null\r\ncontent-type: text/plain\r\n"),
        "host: evil.example\r\norigin: http://evil.example\r\ncontent-type: text/plain\r\n".to_owned(),
    ] {
        for path in ["/v1/topics/t/records", "/v1/topics/t/records?raw=true"] {
            ask(address, "POST", path, &headers, "x")
                .await
                .problem(403, "foreign_site");
        }
    }
    for path in [
        "/v1/topics",
        "/metrics",
        "/healthz",
        "/",
        "/openapi.json",
        "/none",
    ] {
        let refused = ask(address, "GET", path, "host: evil.example\r\n", "").await;
        refused.problem(403, "foreign_site");
    }
    assert_eq!(get(address, "/v1/topics/t").await.json()["records"], 0);
    // The console, also behind a proxy, and whoever is no browser.
    for headers in [
        format!("{here}origin: http://{address}\r\ncontent-type: text/plain\r\n"),
        format!("{here}origin: https://log.example\r\ncontent-type: text/plain\r\n"),
        "host: log.example\r\norigin: https://log.example\r\ncontent-type: text/plain\r\n".to_owned(),
        "content-type: text/plain\r\n".to_owned(),
    ] {
        let written = ask(address, "POST", "/v1/topics/t/records", &headers, "x").await;
        assert_eq!(written.status, 200, "{headers} {written:?}");
    }
    // A value that is a script is none to a browser.
    let value = get(address, "/v1/topics/t/partitions/0/records?format=value").await;
    assert_eq!((value.status, value.text()), (200, "x"));
    assert_eq!(value.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(value.header("cross-origin-resource-policy"), Some("same-origin"));
    broker.stop().await;
}
