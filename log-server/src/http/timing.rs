//! How long requests take, by route and class of status. A route is the router's pattern, so what clients send makes no rows; what no route
//! fits is counted as one. Of an answer that goes on for ever it is the time to its head.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::response::Response;

use crate::metrics::http_front::HttpMetrics;

/// A request that is being answered.
pub(super) struct Timing {
    began: Instant,
    method: Method,
    route: Option<MatchedPath>,
}

impl Timing {
    pub(super) fn begin(request: &Request) -> Self {
        Self {
            began: Instant::now(),
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }

    pub(super) fn end(self, metrics: &HttpMetrics, response: &Response) {
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
        let status = response.status().as_u16();
        metrics.answered(self.method.as_str(), route, status, self.began.elapsed());
    }
}
