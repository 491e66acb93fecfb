//! The last quarter of an hour, second by second: what the console's plots show as soon as it is opened.
//! A sample is what happened since the one before; rates are by second, times are quantiles in microseconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::http::health::Health;
use crate::http::stats::{BusyTopic, DiskOutlook, Stats};
use crate::metrics::front::Waited;
use crate::metrics::histogram::Counts;
use crate::metrics::logs::TrafficCounts;
use crate::monitor::topics::{Rates, TopicRate, totals, whole};
use crate::monitor::{Parts, SAMPLE_INTERVAL};
use crate::partition::disk::SpaceGauge;
use crate::system::process::{ProcessStatus, processor_time};

/// A quarter of an hour.
const SAMPLES_MAX: usize = 900;
/// The busiest topics are found anew after so many samples.
const TOPICS_EVERY: u64 = 3;
const BUSIEST: usize = 8;

/// What a row holds.
const COLUMNS: [&str; 17] = [
    "at_ms",
    "received_bytes",
    "received_records",
    "sent_bytes",
    "sent_records",
    "requests",
    "http_requests",
    "produce_p50_us",
    "produce_p99_us",
    "fetch_p50_us",
    "fetch_p99_us",
    "sync_p50_us",
    "sync_p99_us",
    "processors",
    "anonymous_bytes",
    "connections",
    "waiting_fetches",
];

/// Values in the order of [`COLUMNS`]; nothing where nothing happened that could have taken time.
type Row = [Option<f64>; COLUMNS.len()];

/// The counters as they were at the last sample.
#[derive(Debug)]
struct Before {
    at: Instant,
    traffic: TrafficCounts,
    requests: u64,
    http_requests: u64,
    produce: Counts,
    fetch: Counts,
    syncs: Counts,
    processors: Duration,
}

impl Before {
    fn now(parts: &Parts) -> Self {
        let (front, logs) = (&parts.front, parts.registry.metrics());
        let produce = front.times_of("Produce", Waited::No);
        Self {
            at: Instant::now(),
            traffic: logs.totals(),
            requests: front.request_count(),
            http_requests: parts.http.request_count(),
            produce: produce.plus(&front.times_of("Produce", Waited::Yes)),
            fetch: front.times_of("Fetch", Waited::No),
            syncs: logs.syncs.counts(),
            processors: processor_time(),
        }
    }
}

/// The samples, and what the next one is compared with.
#[derive(Debug, Default)]
pub(super) struct History {
    before: Option<Before>,
    rows: VecDeque<Row>,
    taken: u64,
    rates: Rates,
    rates_at: Option<Instant>,
    busiest: Vec<TopicRate>,
}

impl History {
    /// Takes a sample. The first one only begins.
    pub(super) fn take(&mut self, parts: &Parts, now_ms: u64) {
        if self.taken.is_multiple_of(TOPICS_EVERY) {
            let now = Instant::now();
            let since = self.rates_at.replace(now).map_or(SAMPLE_INTERVAL, |at| now - at);
            self.busiest = self.rates.look(&totals(&parts.registry), since, BUSIEST);
        }
        self.taken += 1;
        let now = Before::now(parts);
        if let Some(before) = &self.before {
            if SAMPLES_MAX <= self.rows.len() {
                self.rows.pop_front();
            }
            self.rows.push_back(row(before, &now, parts, now_ms));
        }
        self.before = Some(now);
    }

    /// What came after a moment, and how everything is now.
    pub(super) fn stats(
        &self,
        parts: &Parts,
        health: Health,
        disks: Vec<DiskOutlook>,
        since_ms: u64,
    ) -> Stats {
        let is_new = |row: &&Row| {
            row.first()
                .copied()
                .flatten()
                .is_some_and(|at| whole(since_ms) < at)
        };
        let mut topics = 0;
        parts.registry.for_each_topic(|_, _| topics += 1);
        Stats {
            interval_ms: u64::try_from(SAMPLE_INTERVAL.as_millis()).unwrap_or(u64::MAX),
            columns: &COLUMNS,
            rows: self.rows.iter().filter(is_new).map(|row| row.to_vec()).collect(),
            busiest: self
                .busiest
                .iter()
                .map(|rate| BusyTopic {
                    topic: rate.name.to_string(),
                    received_bytes: round(rate.received_bytes),
                    sent_bytes: round(rate.sent_bytes),
                })
                .collect(),
            health,
            topics,
            disk_total_bytes: parts.space.tightest().and_then(SpaceGauge::total),
            disk_full_in_hours: (disks.iter())
                .filter_map(|disk| disk.full_in_hours)
                .min_by(f64::total_cmp),
            disks,
            kafka_connections: parts.front.connections.get(),
            http_connections: parts.http.connections.get(),
            http_streams: parts.http.streams.get(),
            waiting_fetches: parts.registry.metrics().waiting_fetches.get(),
            memory_maps: parts.maps.used(),
            memory_maps_max: parts.maps.max(),
        }
    }
}

fn row(before: &Before, now: &Before, parts: &Parts, now_ms: u64) -> Row {
    let seconds = (now.at - before.at).as_secs_f64().max(0.001);
    let rate = |now: u64, before: u64| Some(round(whole(now.saturating_sub(before)) / seconds));
    let quantile = |now: &Counts, before: &Counts, per_mille| {
        let took = now.clone().since(before).quantile(per_mille)?;
        Some(round(took.as_secs_f64() * 1e6))
    };
    let processors = now.processors.saturating_sub(before.processors).as_secs_f64() / seconds;
    let (traffic, earlier) = (&now.traffic, &before.traffic);
    [
        Some(whole(now_ms)),
        rate(traffic.received_bytes, earlier.received_bytes),
        rate(traffic.received_records, earlier.received_records),
        rate(traffic.sent_bytes, earlier.sent_bytes),
        rate(traffic.sent_records, earlier.sent_records),
        rate(now.requests, before.requests),
        rate(now.http_requests, before.http_requests),
        quantile(&now.produce, &before.produce, 500),
        quantile(&now.produce, &before.produce, 990),
        quantile(&now.fetch, &before.fetch, 500),
        quantile(&now.fetch, &before.fetch, 990),
        quantile(&now.syncs, &before.syncs, 500),
        quantile(&now.syncs, &before.syncs, 990),
        Some((processors * 1000.0).round() / 1000.0),
        ProcessStatus::read().anonymous_bytes.map(whole),
        Some(whole(
            parts.front.connections.get() + parts.http.connections.get(),
        )),
        Some(whole(parts.registry.metrics().waiting_fetches.get())),
    ]
}

/// To a tenth: the rest is noise that costs bytes in each answer.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
