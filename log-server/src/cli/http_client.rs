//! Requests to a broker's HTTP port, for what Kafka's protocol has no request for.
//!
//! One connection for each, and no limit to how long the broker may take once it has the request: whoever waits at a terminal can press
//! Ctrl-C. A problem document becomes a failure with its sentence.

use std::fmt::Display;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::{Failure, Kind, Outcome};
use super::text::shown;

/// An answer has a line for each partition, and a topic may have ten thousand.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A refusal, as the broker words it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The code of the problem document.
    pub(crate) code: String,
    pub(crate) failure: Failure,
}

/// Posts without a body, and gives the document that comes back, or the refusal.
pub(crate) async fn post(address: &str, path: &str, patience: Duration) -> Outcome<Result<Value, Refusal>> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, address)
        .body(Body::empty())
        .map_err(|error| Failure::usage(format!("{path:?} at {address:?} cannot be asked for: {error}")))?;
    let stream = timeout(patience, TcpStream::connect(address)).await;
    let stream = match stream {
        Ok(connected) => connected.map_err(|error| unreachable(address, &error))?,
        Err(_) => return Err(unreachable(address, &"nobody answers")),
    };
    let broken = |error: hyper::Error| Failure::new(format!("{address}: {error}")).advise(NOT_HTTP);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its error is the one that the request ends with.
    let connection = tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
    connection.abort();
    let body = body.map_err(|error| Failure::new(format!("{address}: {error}")))?;
    let document: Value = serde_json::from_slice(&body)
        .map_err(|_| Failure::new(format!("{address} answers {status} and no JSON")).advise(NOT_HTTP))?;
    Ok(if status.is_success() {
        Ok(document)
    } else {
        Err(Refusal::of(&document, status))
    })
}

const NOT_HTTP: &str = "is it the HTTP port of a Stratalog broker? --http HOST:PORT names another";

fn unreachable(address: &str, error: &dyn Display) -> Failure {
    let failure = Failure {
        kind: Kind::Unreachable,
        ..Failure::new(format!("cannot connect to {address}: {error}"))
    };
    failure.advise("is a broker's HTTP port there? --http HOST:PORT names another")
}

impl Refusal {
    fn of(problem: &Value, status: impl Display) -> Self {
        let field = |name: &str| problem.get(name).and_then(Value::as_str);
        let detail = field("detail").map_or_else(|| format!("refused: {status}"), str::to_owned);
        Self {
            code: field("code").unwrap_or_default().to_owned(),
            failure: Failure::new(shown(&detail).into_owned()),
        }
    }
}
