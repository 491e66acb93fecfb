//! The web console: files within the program, so that it works without a network, and nothing is built to run it.
//!
//! They are plain modules that a browser loads as they stand in `assets/`; what others wrote lies in `assets/vendor`, with
//! its release in the name and its hash in a test. The policy in front of them lets a page load and ask nothing but this
//! broker, so that what stands in a record can never become a script.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::entity_tag::EntityTag;

/// What a page of the console may do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const INDEX: &str = "index.html";

/// One file.
#[derive(Debug, Clone, Copy)]
struct Asset {
    path: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal)*) => {
        &[$(Asset { path: $path, bytes: include_bytes!(concat!("assets/", $path)) }),*]
    };
}

/// All of them; a test compares the list with the folder.
const ASSETS: &[Asset] = assets! {
    "app.css"
    "icon.svg"
    "index.html"
    "js/api.js"
    "js/app.js"
    "js/format.js"
    "js/json.js"
    "js/plot.js"
    "js/record.js"
    "js/router.js"
    "js/theme.js"
    "js/ui.js"
    "js/views/broker.js"
    "js/views/clients.js"
    "js/views/configs.js"
    "js/views/group.js"
    "js/views/groups.js"
    "js/views/overview.js"
    "js/views/produce.js"
    "js/views/record.js"
    "js/views/records.js"
    "js/views/tail.js"
    "js/views/topic.js"
    "js/views/topics.js"
    "vendor/htm-preact-3.1.1.js"
    "vendor/uPlot-1.6.32.css"
    "vendor/uPlot-1.6.32.js"
};

/// What a browser that has a file is to compare with: all files together, because one of an older program does not fit the others.
static TAG: LazyLock<EntityTag> = LazyLock::new(|| EntityTag::of(ASSETS.iter().map(|asset| asset.bytes)));

/// The routes of the console.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |asked: HeaderMap| answer(INDEX, &asked)))
        .route(
            "/console/{*path}",
            get(async |Path(path): Path<String>, asked: HeaderMap| answer(&path, &asked)),
        )
}

fn answer(path: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type(path))),
        (header::ETAG, TAG.value()),
        // "Ask whether it is still so": a browser must not put files of two releases together.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if TAG.is_known(asked) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.bytes).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
