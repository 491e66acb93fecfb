//! Pages of other sites that may ask (CORS): none, unless `http-cors-origins` lists them.
//! Browsers ask first, and keep the answer for a while.

use std::time::Duration;

use axum::http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser need not ask again whether it may.
const REMEMBERED: Duration = Duration::from_hours(1);

/// What such pages may read besides the body.
const EXPOSED: [HeaderName; 10] = [
    ETAG,
    LINK,
    LOCATION,
    RETRY_AFTER,
    HeaderName::from_static("x-next-offset"),
    HeaderName::from_static("x-log-start-offset"),
    HeaderName::from_static("x-last-stable-offset"),
    HeaderName::from_static("x-high-watermark"),
    HeaderName::from_static("x-offset"),
    HeaderName::from_static("x-timestamp"),
];

/// Tells browsers that pages of these origins may ask.
pub(super) fn layer(origins: &[String]) -> CorsLayer {
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::try_from(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([
            ACCEPT,
            CONTENT_ENCODING,
            CONTENT_TYPE,
            IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers(EXPOSED)
        .allow_private_network(true)
        .max_age(REMEMBERED)
}
