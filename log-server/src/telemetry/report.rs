//! What one push says: OpenTelemetry's `MetricsData`, unpacked and read within limits.
//!
//! Gauges and sums of numbers are taken, which is all that Kafka's clients send; histograms and summaries are counted and passed over, as is what has
//! no place. Field numbers are those of `opentelemetry/proto/metrics/v1/metrics.proto`:
//!
//! ```text
//! MetricsData   1 resource metrics ─┐
//!   ResourceMetrics                 1 resource (1 attributes), 2 scope metrics ─┐
//!     ScopeMetrics                                                             2 metrics ─┐
//!       Metric        1 name, 5 gauge, 7 sum                                              │
//!         Sum         1 data points, 2 temporality (Gauge: 1 alone)                       │
//!           NumberDataPoint   4 double, 6 integer, 7 attributes
//!             KeyValue        1 key, 2 value: 1 text, 2 truth, 3 integer, 4 double
//! ```

use log_core::record::compression::Compression;

use super::client::beginning;
use super::error::TelemetryError;
use super::series::{CLIENT_BYTES_MAX, Labels, Point, SeriesKey};
use crate::protobuf::{Fields, Malformed, Value};

/// The longest text that is kept of a name or an attribute. Kafka's own names have a hundred characters, and a topic's 249.
const TEXT_BYTES_MAX: usize = 512;
/// So many attributes are kept of a series, or of a client as a whole.
const LABELS_MAX: usize = 16;
/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;

/// What a client pushed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What it says of itself as a whole.
    pub labels: Labels,
    /// The values.
    pub points: Vec<Point>,
    /// How many values there was no place for, or no use.
    pub left_out: usize,
}

impl Report {
    /// Unpacks what was pushed, to `bytes_max` at most, and reads it.
    ///
    /// # Errors
    /// When it becomes larger than that, or is not what it should be.
    pub fn unpack(compression: Compression, pushed: &[u8], bytes_max: usize) -> Result<Self, TelemetryError> {
        let mut bytes = Vec::new();
        let message = match compression {
            Compression::None => pushed,
            packed => {
                packed.decompress(pushed, &mut bytes, bytes_max)?;
                bytes.as_slice()
            }
        };
        Self::read(message).map_err(|malformed| TelemetryError::Unreadable(malformed.to_string()))
    }

    /// Reads a message. What it takes is bounded by what a client may have, not by what came.
    fn read(message: &[u8]) -> Result<Self, Malformed> {
        let mut reading = Reading::default();
        for resource_metrics in messages(message, 1) {
            let resource_metrics = resource_metrics?;
            for resource in messages(resource_metrics, 1) {
                add_labels(&mut reading.report.labels, resource?, 1)?;
            }
            for scope_metrics in messages(resource_metrics, 2) {
                for metric in messages(scope_metrics?, 2) {
                    reading.metric(metric?)?;
                }
            }
        }
        Ok(reading.report)
    }
}

#[derive(Debug, Default)]
struct Reading {
    report: Report,
    bytes: usize,
}

impl Reading {
    fn metric(&mut self, metric: &[u8]) -> Result<(), Malformed> {
        let name = last(metric, 1)?.map_or(Ok(""), Value::text)?;
        for field in Fields::of(metric) {
            match field? {
                (5, gauge) => self.points(name, gauge.bytes()?, false)?,
                (7, sum) => self.points(name, sum.bytes()?, true)?,
                // Histograms and summaries.
                (9..=11, _) => self.report.left_out += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn points(&mut self, name: &str, data: &[u8], is_sum: bool) -> Result<(), Malformed> {
        let temporality = last(data, 2)?.filter(|_| is_sum);
        let is_delta = temporality.map_or(Ok(0), Value::varint)? == DELTA;
        for point in messages(data, 1) {
            let point = point?;
            let Some(value) = value(point)? else {
                self.report.left_out += 1;
                continue;
            };
            let mut attributes = Labels::new();
            add_labels(&mut attributes, point, 7)?;
            let key = SeriesKey {
                name: shortened(name),
                attributes,
            };
            let bytes = self.bytes + key.bytes();
            if CLIENT_BYTES_MAX < bytes {
                self.report.left_out += 1;
                continue;
            }
            self.bytes = bytes;
            self.report.points.push(Point {
                key,
                value,
                is_sum,
                is_delta,
            });
        }
        Ok(())
    }
}

/// A point's number, if it has one.
fn value(point: &[u8]) -> Result<Option<f64>, Malformed> {
    let mut value = None;
    for field in Fields::of(point) {
        match field? {
            (4, double) => value = Some(f64::from_le_bytes(double.fixed64()?)),
            (6, integer) => value = Some(real(i64::from_le_bytes(integer.fixed64()?))),
            _ => {}
        }
    }
    Ok(value)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement's sixteen digits are enough, and JSON's readers have no more"
)]
fn real(integer: i64) -> f64 {
    integer as f64
}

/// Adds the pairs in a field of a message, as many as are kept.
fn add_labels(labels: &mut Labels, message: &[u8], field: u64) -> Result<(), Malformed> {
    for pair in messages(message, field) {
        let pair = pair?;
        let name = last(pair, 1)?.map_or(Ok(""), Value::text)?;
        let value = last(pair, 2)?.map_or(Ok(&[][..]), Value::bytes)?;
        let value = label(value)?;
        if labels.len() < LABELS_MAX {
            labels.insert(shortened(name), shortened(&value));
        }
    }
    Ok(())
}

/// An attribute's value as text; nothing where it is a list or bytes.
fn label(value: &[u8]) -> Result<String, Malformed> {
    let mut text = String::new();
    for field in Fields::of(value) {
        text = match field? {
            (1, value) => value.text()?.to_owned(),
            (2, value) => (value.varint()? != 0).to_string(),
            (3, value) => value.varint()?.cast_signed().to_string(),
            (4, value) => f64::from_le_bytes(value.fixed64()?).to_string(),
            _ => text,
        };
    }
    Ok(text)
}

fn shortened(text: &str) -> Box<str> {
    beginning(text, TEXT_BYTES_MAX).into()
}

/// The messages in a repeated field.
fn messages(message: &[u8], field: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |found| match found {
        Ok((number, value)) => (number == field).then(|| value.bytes()),
        Err(malformed) => Some(Err(malformed)),
    })
}

/// What counts of a field that stands once: the last, should it stand more often.
fn last(message: &[u8], field: u64) -> Result<Option<Value<'_>>, Malformed> {
    let mut found = None;
    for read in Fields::of(message) {
        let (number, value) = read?;
        if number == field {
            found = Some(value);
        }
    }
    Ok(found)
}
