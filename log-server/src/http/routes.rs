//! The table of routes: method, path, handler.
//! The router is made of it, and `openapi.json` is held to it by a test.

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, patch, post};

use super::health::HealthSource;
use super::services::{Services, Sources};
use super::sites::Sites;
use super::stats::MetricsSource;
use super::surroundings::{Surround, Surroundings};
use super::{
    clients, cluster, compaction, configs, cors, fetch, follow, group_offsets, groups, health, leases,
    openapi, partitions, produce, socket, stats, topic_offsets, topics,
};
use crate::http::memory::BodyMemory;
use crate::http::parameters::refuse_parameters;
use crate::http::problem::{Code, Problem};
use crate::metrics::http_front::HttpMetrics;

/// One route, whose handler uses `S`.
pub(crate) struct Route<S> {
    /// In upper case.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the handler knows it; the test of the document asks")
    )]
    pub(crate) method: &'static str,
    /// With names in braces.
    pub(crate) path: &'static str,
    handler: MethodRouter<S>,
}

fn route<S>(method: &'static str, path: &'static str, handler: MethodRouter<S>) -> Route<S> {
    Route {
        method,
        path,
        handler,
    }
}

/// One that has no parameters, and refuses them as the others refuse those that they do not know.
fn bare<S>(method: &'static str, path: &'static str, handler: MethodRouter<S>) -> Route<S>
where
    S: Clone + Send + Sync + 'static,
{
    // A method that the path does not have is refused as on the other routes.
    route(method, path, handler.route_layer(from_fn(refuse_parameters)))
}

/// Records, topics, groups, the broker.
pub(crate) fn api_routes() -> Vec<Route<Arc<Services>>> {
    vec![
        route("GET", "/openapi.json", get(openapi::document)),
        route("GET", "/v1/topics", get(topics::list)),
        bare("POST", "/v1/topics", post(topics::create)),
        bare("GET", "/v1/topics/{topic}", get(topics::describe)),
        bare("DELETE", "/v1/topics/{topic}", delete(topics::remove)),
        route("GET", "/v1/topics/{topic}/configs", get(configs::of_topic)),
        bare("PATCH", "/v1/topics/{topic}/configs", patch(configs::alter_topic)),
        route("GET", "/v1/topics/{topic}/partitions", get(partitions::list)),
        bare("POST", "/v1/topics/{topic}/partitions", post(partitions::add)),
        route("GET", "/v1/topics/{topic}/offsets", get(topic_offsets::look_up)),
        bare("POST", "/v1/topics/{topic}/compact", post(compaction::compact)),
        route("POST", "/v1/topics/{topic}/records", post(produce::produce)),
        route(
            "GET",
            "/v1/topics/{topic}/partitions/{partition}/records",
            get(fetch::fetch),
        ),
        route("GET", "/v1/topics/{topic}/follow", get(follow::follow)),
        route("GET", "/v1/topics/{topic}/socket", get(socket::open)),
        route("GET", "/v1/groups", get(groups::list)),
        bare("GET", "/v1/groups/{group}", get(groups::describe)),
        bare("DELETE", "/v1/groups/{group}", delete(groups::remove)),
        bare("GET", "/v1/groups/{group}/lag", get(groups::lag)),
        bare("POST", "/v1/groups/{group}/offsets", post(group_offsets::reset)),
        bare("GET", "/v1/groups/{group}/leases", get(leases::list)),
        route("POST", "/v1/groups/{group}/leases", post(leases::take)),
        bare(
            "POST",
            "/v1/groups/{group}/leases/{token}/acknowledge",
            post(leases::acknowledge),
        ),
        route(
            "POST",
            "/v1/groups/{group}/leases/{token}/extend",
            post(leases::extend),
        ),
        bare(
            "POST",
            "/v1/groups/{group}/leases/{token}/release",
            post(leases::release),
        ),
        route("GET", "/v1/clients", get(clients::list)),
        bare("GET", "/v1/clients/{client}", get(clients::describe)),
        bare("GET", "/v1/subscriptions", get(configs::subscriptions)),
        bare(
            "GET",
            "/v1/subscriptions/{subscription}/configs",
            get(configs::of_subscription),
        ),
        bare(
            "PATCH",
            "/v1/subscriptions/{subscription}/configs",
            patch(configs::alter_subscription),
        ),
        bare("GET", "/v1/cluster", get(cluster::describe)),
        bare("GET", "/v1/log-directories", get(cluster::log_directories)),
        route("GET", "/v1/configs", get(configs::of_broker)),
        bare("PATCH", "/v1/configs", patch(configs::alter_broker)),
    ]
}

/// Whether the broker serves.
pub(crate) fn health_routes() -> Vec<Route<Arc<dyn HealthSource>>> {
    vec![
        route("GET", "/healthz", get(health::answer)),
        route("GET", "/readyz", get(health::ready)),
    ]
}

/// What it does.
pub(crate) fn metrics_routes() -> Vec<Route<Arc<dyn MetricsSource>>> {
    vec![
        route("GET", "/metrics", get(stats::metrics)),
        route("GET", "/v1/stats", get(stats::stats)),
        route("GET", "/v1/stats/groups", get(stats::lags)),
        bare("GET", "/v1/stats/groups/{group}", get(stats::lag_history)),
    ]
}

fn router<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>, state: S) -> Router {
    let with_route = |router: Router<S>, route: Route<S>| router.route(route.path, route.handler);
    routes
        .into_iter()
        .fold(Router::new(), with_route)
        .with_state(state)
}

/// The API.
pub(super) fn api(services: Arc<Services>) -> Router {
    router(api_routes(), services)
}

/// What is to be watched of the broker.
pub(super) fn watching(sources: &Sources) -> Router {
    router(health_routes(), Arc::clone(&sources.health))
        .merge(router(metrics_routes(), Arc::clone(&sources.metrics)))
}

/// Routes, with what stands around all of them.
pub(super) fn complete(routes: Router, front: &Arc<HttpMetrics>, sites: Sites, memory: BodyMemory) -> Router {
    let mut routes = routes.fallback(not_found);
    if !sites.origins().is_empty() {
        routes = routes.layer(cors::layer(sites.origins()));
    }
    routes.layer(Surround::with(Surroundings {
        front: Arc::clone(front),
        sites,
        memory,
    }))
}

async fn not_found(uri: Uri) -> Problem {
    let path = crate::http::parameters::shortened(uri.path());
    Problem::new(
        Code::NotFound,
        format!("there is nothing at {path}; /openapi.json lists what there is"),
    )
}
