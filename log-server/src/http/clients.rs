//! Clients that push their own metrics (KIP-714), with the last values of these.
//!
//! The list shows of each client the metrics that are asked for by the beginnings of their names, and few of them; one client is shown with all.
//! A page of it ends where it has its number of clients, or its number of bytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use log_core::model::TimestampMs;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::config::value::split_list;
use crate::http::page::{Page, address, limit, matches};
use crate::http::parameters::{Parameters, Place, shortened};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::services::Services;
use crate::telemetry::manager::ClientView;
use crate::telemetry::series::{Labels, Reading, SeriesKey};

/// Metrics of each client in the list, at most: a page has a thousand clients.
const LISTED_METRICS_MAX: usize = 20;
/// A page gets no other client when it has so many bytes: what clients call themselves and are asked for may be long.
const PAGE_BYTES_MAX: usize = 1 << 20;

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
            client_id: view.client.client_id().to_owned(),
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
    clients: Vec<Box<RawValue>>,
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
        [view.client.client_id(), &*software.name, &*software.version]
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
    Ok(Json(ClientList::cut(found, &asked, limit)))
}

impl ClientList {
    /// A page of those that were found, which stand in order.
    fn cut(found: Vec<(String, ClientView)>, asked: &ListParameters, limit: usize) -> Self {
        let page = Page::cut(found.into_iter(), limit, |(place, _)| {
            asked.after.is_empty() || asked.after < *place
        });
        let beginnings = beginnings(&asked.metrics);
        let mut clients = Vec::new();
        let (mut bytes, mut last) = (0, None);
        for (place, view) in &page.rows {
            if PAGE_BYTES_MAX <= bytes {
                break;
            }
            let metrics = beginnings
                .iter()
                .flat_map(|beginning| view.series.beginning_with(beginning));
            let metrics = metrics.take(LISTED_METRICS_MAX).map(MetricRow::of);
            let client = to_raw_value(&ClientDocument::of(view, metrics.collect()));
            let client = client.expect("it is made of texts and numbers");
            bytes += client.get().len();
            clients.push(client);
            last = Some(place);
        }
        let has_more = page.has_more || clients.len() < page.rows.len();
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let next = last.filter(|_| has_more).map(|place| {
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
        Self {
            clients,
            total: page.total,
            next,
        }
    }
}

/// Beginnings of names, in order, such that no metric has two of them; an empty one is none.
fn beginnings(text: &str) -> Vec<&str> {
    let mut beginnings = split_list(text);
    beginnings.retain(|beginning| !beginning.is_empty());
    beginnings.sort_unstable();
    // Behind a beginning stand all that begin with it.
    beginnings.dedup_by(|longer, beginning| longer.starts_with(*beginning));
    beginnings
}

/// Clients stand in the order of their names, and those of one name in that of their ids.
fn place(view: &ClientView) -> String {
    format!("{}/{}", view.client.client_id(), view.id)
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

#[cfg(test)]
mod tests {
    use log_core::clock::ManualClock;

    use super::*;
    use crate::config::effective::Overrides;
    use crate::metadata::image::SubscriptionConfigs;
    use crate::telemetry::client::{Client, ClientInstanceId, ClientSoftware, ConnectionLife};
    use crate::telemetry::manager::ClientMetricsManager;

    #[test]
    fn no_metric_is_asked_for_twice() {
        for (text, expected) in [
            ("", &[][..]),
            (",,, ,", &[]),
            ("b.,a.,b.", &["a.", "b."]),
            ("a.b.c,a.b,,a.c,a.b.", &["a.b", "a.c"]),
        ] {
            assert_eq!(beginnings(text), expected, "{text}");
        }
    }

    /// Five clients, of each of which a list of half a page is wanted.
    #[test]
    fn a_page_ends_when_it_is_long() {
        let clock = Arc::new(ManualClock::new(TimestampMs::new(0)));
        let manager = ClientMetricsManager::new(clock, 1 << 20);
        let metrics = "m".repeat(PAGE_BYTES_MAX / 2);
        let settings = Overrides::from([("metrics".to_owned(), metrics)]);
        let configs = SubscriptionConfigs::new([(Arc::from("all"), settings)].into());
        let connection = ConnectionLife::default();
        for name in ["a", "b", "c", "d", "e"] {
            let address = "127.0.0.1:5000".parse().unwrap();
            let client = Client::new(Some(name), ClientSoftware::unknown(), address, connection.watch());
            manager.ask(&configs, client, ClientInstanceId::NONE).unwrap();
        }
        let mut found: Vec<_> = manager
            .clients()
            .into_iter()
            .map(|view| (place(&view), view))
            .collect();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let asked = |after: &str| ListParameters {
            after: after.to_owned(),
            ..ListParameters::default()
        };
        let mut after = String::new();
        for (expected, has_more) in [(2, true), (2, true), (1, false)] {
            let list = ClientList::cut(found.clone(), &asked(&after), 100);
            assert_eq!((list.clients.len(), list.next.is_some()), (expected, has_more));
            assert_eq!(list.total, 5);
            let shown = found.iter().position(|(place, _)| after < *place).unwrap() + expected;
            after.clone_from(&found[shown - 1].0);
            assert!(
                list.next
                    .is_none_or(|next| next.ends_with(&crate::http::page::segment(&after)))
            );
        }
    }
}
