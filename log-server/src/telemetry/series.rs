//! The last values of a client's metrics: one series for each name and set of attributes, within a number of bytes.
//!
//! A gauge is what the last push said. A sum comes as what was added since the push before (the broker asks for that, as Kafka does), and is
//! added up here, from the first push that this broker saw.

use std::collections::BTreeMap;

use super::report::Report;

/// What one client's series may take: some seven hundred of Kafka's consumer, which has about thirty besides those of its partitions.
pub(super) const CLIENT_BYTES_MAX: usize = 512 << 10;
/// What a series takes besides its texts: its part of a tree, and a tree of its own, which has room for eleven attributes from the first on.
const SERIES_BYTES: usize = 512;
/// What an attribute takes besides its texts.
const LABEL_BYTES: usize = 64;

/// Names and values, by name.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// What tells one series from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The metric's name, such as `org.apache.kafka.producer.request.latency.avg`.
    pub name: Box<str>,
    /// What it was measured of, such as `node.id`.
    pub attributes: Labels,
}

impl SeriesKey {
    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        SERIES_BYTES + self.name.len() + label_bytes(&self.attributes)
    }
}

fn label_bytes(labels: &Labels) -> usize {
    let labels = labels.iter();
    labels
        .map(|(name, value)| LABEL_BYTES + name.len() + value.len())
        .sum()
}

/// The last value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The value; not a number where the client has measured nothing yet.
    pub value: f64,
    /// Whether it is a sum over time, and not a gauge.
    pub is_sum: bool,
}

/// What one series says in one push.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Which series.
    pub key: SeriesKey,
    /// The value.
    pub value: f64,
    /// Whether it is a sum over time, and not a gauge.
    pub is_sum: bool,
    /// Whether it is what was added since the push before.
    pub is_delta: bool,
}

/// All series of one client.
#[derive(Debug, Clone, Default)]
pub struct Series {
    labels: Labels,
    readings: BTreeMap<SeriesKey, Reading>,
    bytes: usize,
    left_out: usize,
}

impl Series {
    /// Takes the values of a push. Gauges that it does not name are gone.
    pub(super) fn take(&mut self, report: Report) {
        self.readings.retain(|_, reading| reading.is_sum);
        self.bytes = self.readings.keys().map(SeriesKey::bytes).sum();
        self.labels = report.labels;
        self.left_out = report.left_out;
        for point in report.points {
            let bytes = point.key.bytes();
            let before = self.readings.get(&point.key).copied();
            if before.is_none() && CLIENT_BYTES_MAX < self.bytes + bytes {
                self.left_out += 1;
                continue;
            }
            if before.is_none() {
                self.bytes += bytes;
            }
            let sum = before
                .filter(|_| point.is_delta)
                .map_or(0.0, |before| before.value);
            let reading = Reading {
                value: sum + point.value,
                is_sum: point.is_sum,
            };
            self.readings.insert(point.key, reading);
        }
    }

    /// What the client says of itself as a whole, such as its group.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesKey, Reading)> {
        self.readings.iter().map(|(key, reading)| (key, *reading))
    }

    /// Those whose names begin so.
    pub fn beginning_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a SeriesKey, Reading)> {
        let first = SeriesKey {
            name: prefix.into(),
            attributes: Labels::new(),
        };
        self.readings
            .range(first..)
            .take_while(move |(key, _)| key.name.starts_with(prefix))
            .map(|(key, reading)| (key, *reading))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.readings.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// How many of the last push there was no place for, or no use.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// What they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + label_bytes(&self.labels)
    }
}
