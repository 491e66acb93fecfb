//! The HTTP front. For now health, metrics, the console and its numbers. Everything else is a 404 that says what is coming.
//!
//! | module | owns |
//! |---|---|
//! | `health` | the answers of `/healthz` and `/readyz` |
//! | `limits` | how many connections, and how long one may be silent |
//! | `stats` | `/metrics`, and the numbers that the console plots |
//! | `timing` | how long requests take |

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::console;
use crate::metrics::http_front::HttpMetrics;
use crate::shutdown::ShutdownSignal;

pub mod health;
mod limits;
pub mod stats;
mod timing;

use health::HealthSource;
use stats::MetricsSource;

/// What the front shows.
#[derive(Debug)]
pub struct Sources {
    /// How the broker is.
    pub health: Arc<dyn HealthSource>,
    /// What it does.
    pub metrics: Arc<dyn MetricsSource>,
    /// What the front itself counts.
    pub front: Arc<HttpMetrics>,
}

/// Serves until "stop" is said, then finishes the requests that are being answered.
///
/// # Errors
/// Never in practice: errors of accepting are waited out.
pub async fn serve(listener: TcpListener, sources: Sources, mut shutdown: ShutdownSignal) -> io::Result<()> {
    let Sources {
        health,
        metrics,
        front,
    } = sources;
    let healths = Router::new()
        .route("/healthz", get(health::answer))
        .route("/readyz", get(health::ready))
        .with_state(health);
    let numbers = Router::new()
        .route("/metrics", get(stats::metrics))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/stats/groups", get(stats::lags))
        .route("/v1/stats/groups/{group}", get(stats::lag_history))
        .with_state(metrics);
    let router = healths
        .merge(numbers)
        .merge(console::routes())
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&front), timing::time));
    axum::serve(limits::LimitedListener::new(listener, front), router)
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
            "there is nothing at {}: this port serves /healthz, /readyz and /metrics, the HTTP API comes with a later release; \
             produce and fetch speak the Kafka protocol on the Kafka port",
            uri.path()
        ),
    };
    (StatusCode::NOT_FOUND, Json(refusal)).into_response()
}

#[cfg(test)]
mod tests;
