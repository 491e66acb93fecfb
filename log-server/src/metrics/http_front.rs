//! What the HTTP front counts: connections, and how long requests take by route.
//!
//! Routes are the patterns of the router (`/v1/topics/{topic}`), so there are as many as the program has. A row is made when its route is first
//! asked for; after that a request finds it under a lock that is only read.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::metrics::counter::{Counter, Level};
use crate::metrics::histogram::{Counts, Histogram};

/// One method of one route with one class of statuses ("2xx").
#[derive(Debug)]
struct Row {
    route: Box<str>,
    method: &'static str,
    class: &'static str,
    times: Histogram,
}

impl Row {
    fn key(&self) -> (&str, &str, &str) {
        (&self.route, self.method, self.class)
    }
}

/// The numbers of the HTTP front.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    /// By route, method and class.
    rows: RwLock<Vec<Row>>,
    /// Connections that are open.
    pub connections: Arc<Level>,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that found `http-max-connections` open.
    pub refused: Counter,
    /// Answers that go on until somebody ends them: followers over SSE and WebSocket.
    pub streams: Arc<Level>,
}

/// So that nobody fills the memory, should a route ever be made from what a client sends.
const ROWS_MAX: usize = 500;

impl HttpMetrics {
    /// A request was answered; of a stream, its beginning.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, class) = (method_label(method), status_class(status));
        let key = (route, method, class);
        if let Some(row) = find(&self.rows.read(), key) {
            row.times.record(took);
            return;
        }
        let mut rows = self.rows.write();
        let place = rows.partition_point(|row| row.key() < key);
        let is_new = rows.get(place).is_none_or(|row| row.key() != key);
        if is_new && ROWS_MAX <= rows.len() {
            return;
        }
        if is_new {
            let row = Row {
                route: route.into(),
                method,
                class,
                times: Histogram::default(),
            };
            rows.insert(place, row);
        }
        if let Some(row) = rows.get(place) {
            row.times.record(took);
        }
    }

    /// Calls `visit` with every row: route, method, class of status, times.
    pub fn for_each(&self, mut visit: impl FnMut(&str, &'static str, &'static str, &Counts)) {
        for row in &*self.rows.read() {
            visit(&row.route, row.method, row.class, &row.times.counts());
        }
    }

    /// How many requests were answered.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.rows
            .read()
            .iter()
            .map(|row| row.times.counts().count())
            .sum()
    }
}

fn find<'a>(rows: &'a [Row], key: (&str, &str, &str)) -> Option<&'a Row> {
    let place = rows.binary_search_by(|row| row.key().cmp(&key)).ok()?;
    rows.get(place)
}

fn method_label(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS
        .into_iter()
        .find(|each| *each == method)
        .unwrap_or("other")
}

fn status_class(status: u16) -> &'static str {
    match status {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_by_method_route_and_class_and_bounded() {
        let http = HttpMetrics::default();
        let took = Duration::from_millis(1);
        http.answered("GET", "/v1/topics", 200, took);
        http.answered("GET", "/v1/topics", 204, took);
        http.answered("GET", "/v1/topics", 404, took);
        http.answered("BREW", "/v1/topics", 405, took);
        let mut rows = Vec::new();
        http.for_each(|_, method, class, counts| rows.push((method, class, counts.count())));
        assert_eq!(rows, [("GET", "2xx", 2), ("GET", "4xx", 1), ("other", "4xx", 1)]);
        for n in 0..2 * ROWS_MAX {
            http.answered("GET", &format!("/{n}"), 200, took);
        }
        assert_eq!(http.rows.read().len(), ROWS_MAX);
    }
}
