//! Clients that push their own metrics (KIP-714), with the last values of these.
//!
//! The list shows of each client the metrics that are asked for by the beginnings of their names, and few of them; one client is shown with all.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use log_core::model::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::config::value::split_list;
use crate::http::page::{Page, address, limit, matches};
use crate::http::parameters::{Parameters, Place, shortened};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::services::Services;
use crate::telemetry::manager::ClientView;
use crate::telemetry::series::{Labels, Reading, SeriesKey};

/// Metrics of each client in the list, at most: a page has a thousand clients.
const LISTED_METRICS_MAX: usize = 20;

/// The parameters of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParameters {
    #[serde(default)]
    search: String,
    /// Beginnings of names, parted by commas.
    #[serde(default)]
    metrics: String,
    limit: Option<usize>,
    #[serde(default)]
    after: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ClientDocument {
    client_instance_id: String,
    client_id: String,
    software: String,
    software_version: String,
    address: String,
    connected: bool,
    terminating: bool,
    /// Beginnings of names.
    requested: Vec<String>,
    interval_ms: i32,
    last_push: Option<i64>,
    labels: Labels,
    series: usize,
    left_out: usize,
    metrics: Vec<MetricRow>,
}

#[derive(Debug, Serialize)]
struct MetricRow {
    name: String,
    kind: &'static str,
    attributes: Labels,
    /// Nothing where the client has measured nothing yet.
    value: Option<f64>,
}

impl MetricRow {
    fn of((key, reading): (&SeriesKey, Reading)) -> Self {
        Self {
            name: key.name.to_string(),
            kind: if reading.is_sum { "sum" } else { "gauge" },
            attributes: key.attributes.clone(),
            value: Some(reading.value).filter(|value| value.is_finite()),
        }
    }
}

impl ClientDocument {
    fn of(view: &ClientView, metrics: Vec<MetricRow>) -> Self {
        Self {
            client_instance_id: view.id.to_string(),
            client_id: view.client.client_id.to_string(),
            software: view.client.software.name.to_string(),
            software_version: view.client.software.version.to_string(),
            address: view.client.address.to_string(),
            connected: view.client.connection.is_open(),
            terminating: view.is_terminating,
            requested: view.wanted.metrics.clone(),
            interval_ms: view.wanted.interval_ms,
            last_push: view.pushed_at.map(TimestampMs::get),
            labels: view.series.labels().clone(),
            series: view.series.len(),
            left_out: view.series.left_out(),
            metrics,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ClientList {
    clients: Vec<ClientDocument>,
    total: usize,
    next: Option<String>,
}

/// `GET /v1/clients`.
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    Parameters(asked): Parameters<ListParameters>,
) -> Answer<Json<ClientList>> {
    let limit = limit(asked.limit)?;
    let is_found = |view: &ClientView| {
        let software = &view.client.software;
        [&*view.client.client_id, &*software.name, &*software.version]
            .iter()
            .any(|text| matches(text, &asked.search))
    };
    let mut found: Vec<(String, ClientView)> = services
        .sources
        .clients
        .clients()
        .into_iter()
        .filter(is_found)
        .map(|view| (place(&view), view))
        .collect();
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let page = Page::cut(found.into_iter(), limit, |(place, _)| {
        asked.after.is_empty() || asked.after < *place
    });
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let last = page.rows.last().filter(|_| page.has_more);
    let next = last.map(|(place, _)| {
        address(
            "/v1/clients",
            &[
                ("search", some(&asked.search).as_deref()),
                ("metrics", some(&asked.metrics).as_deref()),
                ("limit", Some(&limit.to_string())),
                ("after", Some(place)),
            ],
        )
    });
    let beginnings = split_list(&asked.metrics);
    let clients = page.rows.iter().map(|(_, view)| {
        let metrics = beginnings
            .iter()
            .flat_map(|beginning| view.series.beginning_with(beginning));
        let metrics = metrics.take(LISTED_METRICS_MAX).map(MetricRow::of);
        ClientDocument::of(view, metrics.collect())
    });
    Ok(Json(ClientList {
        clients: clients.collect(),
        total: page.total,
        next,
    }))
}

/// Clients stand in the order of their names, and those of one name in that of their ids.
fn place(view: &ClientView) -> String {
    format!("{}/{}", view.client.client_id, view.id)
}

/// `GET /v1/clients/{client}`.
pub(crate) async fn describe(
    State(services): State<Arc<Services>>,
    Place(client): Place<String>,
) -> Answer<Json<ClientDocument>> {
    let view = client
        .parse()
        .ok()
        .and_then(|id| services.sources.clients.client(id));
    let view = view.ok_or_else(|| {
        let client = shortened(&client);
        Problem::new(Code::UnknownClient, format!("no client {client} came lately"))
    })?;
    let metrics = view.series.iter().map(MetricRow::of).collect();
    Ok(Json(ClientDocument::of(&view, metrics)))
}
