//! From a request to a socket: RFC 6455, section 4.2. What is not one is told what to ask for.
//!
//! Whose page asks was looked at before (`sites`): browsers let any page open a socket to anywhere.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::response::{IntoResponse, Response};
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::http::problem::{Code, Problem};

/// The answer that ends the connection's HTTP; or what is missing of a request for a socket.
pub(super) fn accept(request: &Request) -> Result<Response, String> {
    create_response_with_body(request, Body::empty).map_err(|error| match error {
        Error::Protocol(error) => error.to_string(),
        error => error.to_string(),
    })
}

/// What a request is told that is none for a socket.
pub(super) fn refusal(reason: &str) -> Response {
    let head = [
        (CONNECTION, "upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
    ];
    let text = format!("this route is a WebSocket (RFC 6455): {reason}");
    (head, Problem::new(Code::UpgradeRequired, text)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    /// The status for the RFC's own example, with one header changed.
    fn status(changed: &str, value: &str) -> StatusCode {
        let mut request = Request::builder();
        for (name, usual) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ] {
            request = request.header(name, if name == changed { value } else { usual });
        }
        let answer = accept(&request.body(Body::empty()).unwrap());
        answer.unwrap_or_else(|reason| refusal(&reason)).status()
    }

    #[test]
    fn what_asks_for_a_socket_gets_one() {
        assert_eq!(status("", ""), StatusCode::SWITCHING_PROTOCOLS);
        for (name, value) in [
            ("connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", ""),
            ("sec-websocket-key", "dGhlIHNhbXBsZQ=="),
        ] {
            assert_eq!(
                status(name, value),
                StatusCode::UPGRADE_REQUIRED,
                "{name} {value}"
            );
        }
    }
}
