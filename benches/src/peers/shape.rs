//! What a load asks for, read from the plan that a result of `stratalog bench` tells.
//! What a broker without Kafka's protocol cannot be asked for is refused in words, not left out in silence.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Readers know values by their size: other parts of an answer, such as the id of an entry, are shorter than this.
const RECORD_BYTES_MIN: usize = 48;

/// The shape of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What is done.
    pub work: Work,
    /// How large a value is.
    pub record_bytes: usize,
    /// How many records are sent together.
    pub batch_records: usize,
    /// Connections that produce.
    pub producers: usize,
    /// Batches on their way on each.
    pub in_flight: usize,
    /// Streams.
    pub partitions: usize,
    /// Records a second in all; none is as fast as answers come.
    pub rate: Option<f64>,
    /// Before figures are taken.
    pub warm_up: Duration,
    /// While figures are taken.
    pub duration: Duration,
    /// The load ends after so many records.
    pub records: Option<u64>,
    /// What is produced before old records are read.
    pub prefill_records: u64,
    /// Connections that read.
    pub readers: usize,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Producers alone.
    Produce,
    /// Readers that pass over what was produced before, once.
    Fetch,
    /// Producers, and a reader that follows each stream.
    EndToEnd,
}

impl Shape {
    /// Reads it from a workload and its plan.
    ///
    /// # Errors
    /// When the load is one that only brokers of Kafka's protocol can be asked for.
    pub fn of(workload: &str, plan: &Value) -> anyhow::Result<Self> {
        let work = match workload {
            "produce" | "partitions" => Work::Produce,
            "fetch" => Work::Fetch,
            "end-to-end" => Work::EndToEnd,
            other => bail!("{other} is for brokers of Kafka's protocol"),
        };
        let number = |key: &str| plan.get(key).and_then(Value::as_u64);
        let whole = |key: &str| -> anyhow::Result<usize> {
            let value = number(key).with_context(|| format!("the plan says no {key}"))?;
            Ok(usize::try_from(value)?)
        };
        let time = |key: &str| {
            let seconds = plan.pointer(&format!("/{key}/secs")).and_then(Value::as_u64);
            let nanoseconds = plan.pointer(&format!("/{key}/nanos")).and_then(Value::as_u64);
            let nanoseconds = u32::try_from(nanoseconds.unwrap_or_default()).unwrap_or_default();
            Duration::new(seconds.unwrap_or_default(), nanoseconds)
        };
        let fixed = plan.pointer("/sizes/fixed").and_then(Value::as_u64);
        let record_bytes = fixed.context("values of different sizes are for brokers of Kafka's protocol")?;
        let record_bytes = usize::try_from(record_bytes)?;
        anyhow::ensure!(
            RECORD_BYTES_MIN <= record_bytes,
            "values of less than {RECORD_BYTES_MIN} bytes are for brokers of Kafka's protocol"
        );
        let codec = plan.get("compression").and_then(Value::as_str).unwrap_or("none");
        anyhow::ensure!(codec == "none", "compression is for brokers of Kafka's protocol");
        let fitting = whole("batch_bytes")? / record_bytes.max(1);
        let prefill_bytes = number("prefill_bytes").unwrap_or_default();
        Ok(Self {
            work,
            record_bytes,
            batch_records: fitting.min(whole("batch_records").unwrap_or(usize::MAX)).max(1),
            producers: whole("producers")?.max(1),
            in_flight: whole("in_flight")?.max(1),
            partitions: whole("partitions")?.max(1),
            rate: plan.get("rate").and_then(Value::as_f64),
            warm_up: time("warm_up"),
            duration: time("duration"),
            records: number("records"),
            prefill_records: prefill_bytes / u64::try_from(record_bytes.max(1))?,
            readers: whole("readers")?.max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shape_is_that_of_the_plan() {
        let plan = json!({
            "producers": 4, "in_flight": 5, "batch_bytes": 65536, "batch_records": 10, "sizes": { "fixed": 1024 },
            "partitions": 2, "rate": 5000.0, "warm_up": { "secs": 1, "nanos": 500_000_000 },
            "duration": { "secs": 10, "nanos": 0 }, "records": null, "prefill_bytes": 2048, "readers": 1,
            "compression": "none"
        });
        let shape = Shape::of("produce", &plan).unwrap();
        assert_eq!(
            (shape.record_bytes, shape.batch_records, shape.producers),
            (1024, 10, 4)
        );
        assert_eq!((shape.rate, shape.prefill_records), (Some(5000.0), 2));
        assert_eq!(shape.warm_up, Duration::from_millis(1500));
        assert!(Shape::of("groups", &plan).is_err());
        let mut other = plan.clone();
        other["sizes"] = json!({ "uniform": [1, 2] });
        assert!(Shape::of("produce", &other).is_err());
        other["sizes"] = json!({ "fixed": 16 });
        assert!(Shape::of("produce", &other).is_err());
        other = plan;
        other["compression"] = json!("zstd");
        assert!(Shape::of("produce", &other).is_err());
    }
}
