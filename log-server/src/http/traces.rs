//! HTTP requests as spans, in the trace that `traceparent` names, or in one of their own.
//! Stands around the routes where `otlp-endpoint` is set, and is not there otherwise.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::spans::context::TraceParent;
use crate::spans::tracer::Tracer;

/// Methods that have a name in spans: those of HTTP, and PATCH. A client may make up others, of any length.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// Around every route. The span of an answer that goes on for ever ends with its head.
pub(super) async fn trace(State(tracer): State<Arc<Tracer>>, request: Request, next: Next) -> Response {
    let header = request.headers().get("traceparent");
    let parent = header.and_then(|header| TraceParent::parse(header.to_str().ok()?));
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str);
    let method = request.method();
    let is_known = METHODS.contains(method);
    let name = || {
        if is_known {
            format!("{method} {route}")
        } else {
            format!("HTTP {route}")
        }
    };
    let Some(mut span) = tracer.begin(parent, name) else {
        return next.run(request).await;
    };
    // As OpenTelemetry has it: there are not to be any number of names.
    if is_known {
        span.tell("http.request.method", method.as_str());
    } else {
        span.tell("http.request.method", "_OTHER");
        span.tell("http.request.method_original", method.as_str());
    }
    span.tell("http.route", route);
    let response = next.run(request).await;
    let status = response.status();
    span.tell("http.response.status_code", i64::from(status.as_u16()));
    // As OpenTelemetry has it: what a client did wrong is no failure of the server.
    let error = status.is_server_error().then(|| status.to_string());
    tracer.take(span.end(error));
    response
}
