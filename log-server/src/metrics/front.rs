//! What the Kafka front counts: how long requests take by API, connections, bytes, and why clients were sent away.
//! An API is known by its number; whoever makes this says which there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::metrics::counter::{Counter, Level};
use crate::metrics::histogram::{Counts, Histogram};

/// Why a connection was refused or ended by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `max.connections`.
    TooManyConnections,
    /// `max.connections.per.ip`.
    TooManyFromAddress,
    /// A request longer or shorter than one may be.
    Length,
    /// Bytes that are not what their API and version say.
    Malformed,
    /// An API that is not served.
    UnknownApi,
    /// A version that is not served.
    UnsupportedVersion,
    /// HTTP, TLS or something else.
    WrongProtocol,
    /// A request that began and did not end.
    Incomplete,
    /// Answers that the client did not take.
    SlowReader,
    /// A failed produce that wanted no answer.
    Unacknowledged,
}

/// All of them with their labels.
const REFUSALS: [(Refusal, &str); 10] = [
    (Refusal::TooManyConnections, "max.connections"),
    (Refusal::TooManyFromAddress, "max.connections.per.ip"),
    (Refusal::Length, "length"),
    (Refusal::Malformed, "malformed"),
    (Refusal::UnknownApi, "unknown_api"),
    (Refusal::UnsupportedVersion, "unsupported_version"),
    (Refusal::WrongProtocol, "wrong_protocol"),
    (Refusal::Incomplete, "incomplete"),
    (Refusal::SlowReader, "slow_reader"),
    (Refusal::Unacknowledged, "unacknowledged_produce"),
];

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It went its way without a stop, or held up what came behind it.
    No,
    /// Beside later requests: a Produce for the disk, a Fetch for records or for the disk.
    Yes,
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    api_key: i16,
    began: Instant,
}

impl Stopwatch {
    /// A request of this API begins now.
    #[must_use]
    pub fn start(api_key: i16) -> Self {
        Self {
            api_key,
            began: Instant::now(),
        }
    }
}

/// One API.
#[derive(Debug)]
struct Api {
    name: String,
    at_once: Histogram,
    later: Option<Histogram>,
}

/// The numbers of the Kafka front.
#[derive(Debug)]
pub struct FrontMetrics {
    /// By API number.
    apis: Box<[Option<Api>]>,
    /// Connections that are open.
    pub connections: Arc<Level>,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Bytes of requests.
    pub received_bytes: Counter,
    /// Bytes of answers.
    pub sent_bytes: Counter,
    refusals: [AtomicU64; REFUSALS.len()],
}

impl FrontMetrics {
    /// For these APIs: number, name, and whether its answers may come beside later requests.
    #[must_use]
    pub fn new(apis: impl IntoIterator<Item = (i16, String, bool)>) -> Self {
        let mut rows: Vec<Option<Api>> = Vec::new();
        for (key, name, may_wait) in apis {
            let Ok(place) = usize::try_from(key) else {
                continue;
            };
            if rows.len() <= place {
                rows.resize_with(place + 1, || None);
            }
            let api = Api {
                name,
                at_once: Histogram::default(),
                later: may_wait.then(Histogram::default),
            };
            if let Some(row) = rows.get_mut(place) {
                *row = Some(api);
            }
        }
        Self {
            apis: rows.into(),
            connections: Arc::default(),
            accepted: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            refusals: [const { AtomicU64::new(0) }; REFUSALS.len()],
        }
    }

    /// A request's answer is ready to be sent since `at`.
    pub fn answered(&self, request: Stopwatch, at: Instant, waited: Waited) {
        let place = usize::try_from(request.api_key).ok();
        let Some(Some(api)) = place.and_then(|place| self.apis.get(place)) else {
            return;
        };
        let histogram = match (waited, &api.later) {
            (Waited::Yes, Some(later)) => later,
            _ => &api.at_once,
        };
        histogram.record(at.saturating_duration_since(request.began));
    }

    /// A connection was refused, or is ended.
    pub fn refused(&self, refusal: Refusal) {
        let place = REFUSALS.iter().position(|(each, _)| *each == refusal);
        if let Some(count) = place.and_then(|place| self.refusals.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The refusals by label.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Ordering::Relaxed));
        REFUSALS.iter().map(|(_, label)| *label).zip(counts)
    }

    /// The times of the APIs that were used, by name: those answered at once, those that waited.
    pub fn times(&self) -> impl Iterator<Item = (&str, Waited, Counts)> {
        self.apis.iter().flatten().flat_map(|api| {
            let later = api.later.as_ref().map(|times| (Waited::Yes, times));
            let all = [(Waited::No, &api.at_once)].into_iter().chain(later);
            all.map(|(waited, times)| (&*api.name, waited, times.counts()))
                .filter(|(_, _, counts)| 0 < counts.count())
        })
    }

    /// The times of one API.
    #[must_use]
    pub fn times_of(&self, name: &str, waited: Waited) -> Counts {
        let found = self
            .times()
            .find(|(api, each, _)| (*api, *each) == (name, waited));
        found.map(|(_, _, counts)| counts).unwrap_or_default()
    }

    /// How many requests were answered.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.times().map(|(_, _, counts)| counts.count()).sum()
    }

    /// Adds a time that no request took, for tests of what shows them.
    #[cfg(test)]
    pub(crate) fn record(&self, api_key: i16, waited: Waited, took: std::time::Duration) {
        let at = Instant::now();
        let began = at.checked_sub(took).unwrap();
        self.answered(Stopwatch { api_key, began }, at, waited);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_stand_with_their_api() {
        let apis = [
            (0, "Produce", true),
            (1, "Fetch", true),
            (18, "ApiVersions", false),
        ];
        let front = FrontMetrics::new(apis.map(|(key, name, waits)| (key, name.to_owned(), waits)));
        front.record(18, Waited::Yes, Duration::from_millis(2));
        front.record(1, Waited::Yes, Duration::from_millis(3));
        front.record(1, Waited::No, Duration::from_millis(4));
        front.record(7, Waited::No, Duration::from_millis(5));
        front.record(-1, Waited::No, Duration::from_millis(5));
        let seen: Vec<_> = front
            .times()
            .map(|(api, waited, counts)| (api, waited, counts.count()))
            .collect();
        assert_eq!(
            seen,
            [
                ("Fetch", Waited::No, 1),
                ("Fetch", Waited::Yes, 1),
                ("ApiVersions", Waited::No, 1)
            ]
        );
        assert_eq!(front.request_count(), 3);
        let waited = front.times_of("Fetch", Waited::Yes).quantile(500).unwrap();
        assert!(
            Duration::from_millis(3) <= waited && waited < Duration::from_millis(4),
            "{waited:?}"
        );
    }

    #[test]
    fn every_refusal_has_a_place_and_a_label() {
        let front = FrontMetrics::new([]);
        for (refusal, _) in REFUSALS {
            front.refused(refusal);
        }
        assert!(
            front
                .refusals()
                .all(|(label, count)| !label.is_empty() && count == 1)
        );
    }
}
