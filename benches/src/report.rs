//! What the rounds gave: medians with their extremes, and ratios within a round.
//!
//! A ratio is taken between two cases of the same round and then the median over the rounds: that carries further than
//! the ratio of two medians on a machine whose speed changes from minute to minute.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::case::Sample;

/// The samples of all cases, in the order the cases were given.
#[derive(Debug)]
pub struct Report {
    title: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    group: String,
    name: String,
    samples: Vec<Sample>,
}

impl Row {
    fn bytes_per_operation(&self) -> Option<u64> {
        let sample = self.samples.first()?;
        sample.bytes.checked_div(sample.operations)
    }
}

/// The middle of some figures, with the smallest and the largest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the figures are smaller.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of the figures; `None` when there are none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let count = figures.len();
        let upper = *figures.get(count / 2)?;
        let lower = *figures.get((count - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *figures.first()?,
            max: *figures.last()?,
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, min, max } = *self;
        write!(formatter, "{} ({}–{})", figure(median), figure(min), figure(max))
    }
}

/// Three significant digits, which is more than such figures are good for.
#[must_use]
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v < 0.000_5 => "0".to_owned(),
        v if v < 1.0 => format!("{value:.3}"),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A count as a figure; above 2^53 the last digits go, which no bench reaches.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench lie far below 2^53")]
#[must_use]
pub fn count(value: u64) -> f64 {
    value as f64
}

impl Sample {
    fn nanoseconds_per_operation(&self) -> f64 {
        self.elapsed.as_secs_f64() * 1e9 / count(self.operations.max(1))
    }

    fn cpu_nanoseconds_per_operation(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / count(self.operations.max(1))
    }

    fn megabytes_per_second(&self) -> f64 {
        count(self.bytes) / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn cpu_seconds_per_gigabyte(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / count(self.bytes.max(1))
    }
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

impl Report {
    /// A report on cases of these groups and names.
    pub(crate) fn new<'a>(title: &str, cases: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let rows = cases.map(|(group, name)| Row {
            group: group.clone(),
            name: name.clone(),
            samples: Vec::new(),
        });
        Self {
            title: title.to_owned(),
            rows: rows.collect(),
        }
    }

    /// Adds a sample of the case of that number.
    pub(crate) fn add(&mut self, case: usize, sample: Sample) {
        if let Some(row) = self.rows.get_mut(case) {
            row.samples.push(sample);
        }
    }

    /// One table for each group.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!("## {}\n", self.title);
        for rows in self.groups() {
            write_group(&mut text, &rows);
        }
        text
    }

    /// The groups in the order of their first cases.
    fn groups(&self) -> Vec<Vec<&Row>> {
        let mut groups: Vec<Vec<&Row>> = Vec::new();
        for row in &self.rows {
            let same = |rows: &&mut Vec<&Row>| rows.first().is_some_and(|first| first.group == row.group);
            match groups.iter_mut().find(same) {
                Some(rows) => rows.push(row),
                None => groups.push(vec![row]),
            }
        }
        groups
    }

    /// Every sample.
    ///
    /// # Errors
    /// None that these values can cause.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let rows: Vec<_> = (self.rows.iter())
            .map(|row| {
                let samples: Vec<_> = (row.samples.iter())
                    .map(|sample| {
                        serde_json::json!({
                            "operations": sample.operations,
                            "bytes": sample.bytes,
                            "elapsed_seconds": sample.elapsed.as_secs_f64(),
                            "cpu_seconds": sample.cpu.as_secs_f64(),
                            "p50_us": sample.latency_at(500).map(microseconds),
                            "p99_us": sample.latency_at(990).map(microseconds),
                        })
                    })
                    .collect();
                serde_json::json!({ "group": row.group, "case": row.name, "samples": samples })
            })
            .collect();
        serde_json::to_string_pretty(&serde_json::json!({ "title": self.title, "cases": rows }))
    }
}

/// One table: a title line of the columns that some row has, and a line for each row.
fn write_group(text: &mut String, rows: &[&Row]) {
    let Some(first) = rows.first() else {
        return;
    };
    let columns: Vec<Column> = Column::ALL
        .into_iter()
        .filter(|column| rows.iter().any(|row| column.of(row, first).is_some()))
        .collect();
    text.push('\n');
    let mut line = |cells: Vec<String>| {
        // Writing into a string does not fail.
        writeln!(text, "| {} |", cells.join(" | ")).ok();
    };
    let titles = columns.iter().map(|column| column.title().to_owned());
    line(std::iter::once(first.group.clone()).chain(titles).collect());
    line(vec!["---".to_owned(); columns.len() + 1]);
    for row in rows {
        let cells = columns.iter().map(|column| {
            let spread = column.of(row, first);
            spread.map_or_else(String::new, |spread| column.show(spread))
        });
        line(std::iter::once(row.name.clone()).chain(cells).collect());
    }
}

#[derive(Debug, Clone, Copy)]
enum Column {
    PerOperation,
    CpuPerOperation,
    Throughput,
    CpuPerGigabyte,
    Median,
    Tail,
    ElapsedRatio,
    CpuRatio,
}

impl Column {
    const ALL: [Self; 8] = [
        Self::PerOperation,
        Self::CpuPerOperation,
        Self::Throughput,
        Self::CpuPerGigabyte,
        Self::Median,
        Self::Tail,
        Self::ElapsedRatio,
        Self::CpuRatio,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::PerOperation => "ns each",
            Self::CpuPerOperation => "CPU ns each",
            Self::Throughput => "MB/s",
            Self::CpuPerGigabyte => "CPU s/GB",
            Self::Median => "p50 µs",
            Self::Tail => "p99 µs",
            Self::ElapsedRatio => "time, first = 1",
            Self::CpuRatio => "CPU, first = 1",
        }
    }

    fn of(self, row: &Row, first: &Row) -> Option<Spread> {
        let samples = &row.samples;
        let has_bytes = samples.iter().any(|sample| 0 < sample.bytes);
        let pairs = || samples.iter().zip(&first.samples);
        let is_comparable =
            row.name != first.name && row.bytes_per_operation() == first.bytes_per_operation();
        match self {
            Self::PerOperation => Spread::of(samples.iter().map(Sample::nanoseconds_per_operation)),
            Self::CpuPerOperation => Spread::of(samples.iter().map(Sample::cpu_nanoseconds_per_operation)),
            Self::Throughput if has_bytes => Spread::of(samples.iter().map(Sample::megabytes_per_second)),
            Self::CpuPerGigabyte if has_bytes => {
                Spread::of(samples.iter().map(Sample::cpu_seconds_per_gigabyte))
            }
            Self::Median => Spread::of(
                samples
                    .iter()
                    .filter_map(|sample| sample.latency_at(500))
                    .map(microseconds),
            ),
            Self::Tail => Spread::of(
                samples
                    .iter()
                    .filter_map(|sample| sample.latency_at(990))
                    .map(microseconds),
            ),
            Self::ElapsedRatio if is_comparable => Spread::of(pairs().map(|(sample, first)| {
                sample.nanoseconds_per_operation() / first.nanoseconds_per_operation()
            })),
            Self::CpuRatio if is_comparable => Spread::of(pairs().map(|(sample, first)| {
                sample.cpu_nanoseconds_per_operation() / first.cpu_nanoseconds_per_operation()
            })),
            _ => None,
        }
    }

    fn show(self, spread: Spread) -> String {
        match self {
            Self::CpuPerOperation | Self::CpuRatio | Self::ElapsedRatio => figure(spread.median),
            _ => spread.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_takes_the_middle() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]).unwrap().to_string(), "3.00 (3.00–3.00)");
        assert_eq!(
            spread(&[4.0, 1.0, 3.0, 2.0]).unwrap().to_string(),
            "2.50 (1.00–4.00)"
        );
        assert_eq!(
            spread(&[5.0, 1.0, 2.0, 900.0, 30.0]).unwrap().to_string(),
            "5.00 (1.00–900)"
        );
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let (group, first, second) = ("g".to_owned(), "a".to_owned(), "b".to_owned());
        let mut report = Report::new("t", [(&group, &first), (&group, &second)].into_iter());
        // The machine was four times slower in the second round; the ratio is 2 in both.
        for slowness in [1, 4, 1] {
            let sample = |nanoseconds: u64| Sample {
                operations: 1,
                elapsed: Duration::from_nanos(nanoseconds * slowness),
                ..Sample::default()
            };
            report.add(0, sample(100));
            report.add(1, sample(200));
        }
        let [first, second] = report.rows.as_slice() else {
            panic!("two rows");
        };
        let ratio = Column::ElapsedRatio.of(second, first).unwrap();
        assert_eq!(ratio.to_string(), "2.00 (2.00–2.00)");
        assert!(report.to_markdown().contains("| b | 200 (200–800) |"));
    }
}
