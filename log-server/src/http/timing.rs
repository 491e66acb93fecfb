//! How long requests take, by route and class of status. A route is the router's pattern, so what clients send makes no rows; what no route
//! fits is counted as one. Of an answer that goes on for ever it is the time to its head.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::metrics::http_front::HttpMetrics;

/// Around every route.
pub(super) async fn time(State(metrics): State<Arc<HttpMetrics>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    metrics.answered(
        method.as_str(),
        route,
        response.status().as_u16(),
        began.elapsed(),
    );
    response
}
