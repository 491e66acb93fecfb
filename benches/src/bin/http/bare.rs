//! The least that an HTTP server of this kind does: axum takes a body whole and answers with as many bytes as ours does.
//! It stands on the same router, the same HTTP and a runtime with as many threads; what ours does besides is what ours costs.

use std::io::Write as _;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use tokio::net::TcpListener;

/// Where it is reached.
const PATH: &str = "/v1/topics/{topic}/records";
/// What ours answers to one record.
const ANSWER: &str = r#"{"records":[{"partition":0,"offset":1234567,"timestamp":1769860800000}]}"#;

/// Serves until it is ended. Prints `listening on ADDRESS` when clients can come.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
        let listener = listener.tap_io(|stream| {
            stream.set_nodelay(true).ok();
        });
        let router: Router = Router::new().route(PATH, post(take));
        Ok(axum::serve(listener, router).await?)
    })
}

async fn take(body: Bytes) -> impl IntoResponse {
    std::hint::black_box(&body);
    ([(CONTENT_TYPE, "application/json")], ANSWER)
}
