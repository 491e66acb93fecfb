//! The HTTP front. For now one route: `/healthz`. Everything else is a 404 that says what is coming.
//!
//! | module | owns |
//! |---|---|
//! | `health` | the answer of `/healthz` |
//! | `limits` | how many connections, and how long one may be silent |

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::shutdown::ShutdownSignal;

pub mod health;
mod limits;

use health::HealthSource;

/// Serves until "stop" is said, then finishes the requests that are being answered.
///
/// # Errors
/// Never in practice: errors of accepting are waited out.
pub async fn serve(
    listener: TcpListener,
    health: Arc<dyn HealthSource>,
    mut shutdown: ShutdownSignal,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(health::answer))
        .fallback(not_found)
        .with_state(health);
    axum::serve(limits::LimitedListener::new(listener), router)
        .with_graceful_shutdown(async move {
            shutdown.requested().await;
        })
        .await
}

/// The body of every answer that is not the one asked for.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    error: &'a str,
    message: String,
}

async fn not_found(uri: Uri) -> Response {
    let refusal = Refusal {
        error: "not_found",
        message: format!(
            "there is nothing at {}: this port serves /healthz, the HTTP API comes with a later release; \
             produce and fetch speak the Kafka protocol on the Kafka port",
            uri.path()
        ),
    };
    (StatusCode::NOT_FOUND, Json(refusal)).into_response()
}

#[cfg(test)]
mod tests;
