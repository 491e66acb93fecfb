//! The text that Prometheus reads (exposition format 0.0.4): for each metric its meaning, its kind, and a line for each set of labels.
//! The caller keeps the lines of a metric together; [`Page::begin`] checks that none comes twice.

use std::fmt::Write as _;

use crate::metrics::catalogue::{Family, Kind};
use crate::metrics::histogram::{Counts, shown_bounds};

/// What the answer is called in HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page under way.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    begun: Vec<&'static str>,
}

impl Page {
    /// A page that expects so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            begun: Vec::new(),
        }
    }

    /// Begins a metric.
    pub fn begin(&mut self, family: &'static Family) -> Samples<'_> {
        debug_assert!(!self.begun.contains(&family.name), "{} comes twice", family.name);
        self.begun.push(family.name);
        let Family { name, kind, help, .. } = family;
        let text = &mut self.text;
        push(
            text,
            format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()),
        );
        Samples { text, family }
    }

    /// A metric with one line and no labels.
    pub fn one(&mut self, family: &'static Family, value: impl Into<Number>) {
        self.begin(family).sample(&[], value);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// The lines of one metric.
#[derive(Debug)]
pub struct Samples<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// A line; values of labels in the order of the family's names.
    pub fn sample(&mut self, labels: &[&str], value: impl Into<Number>) {
        self.line("", labels, None, value.into());
    }

    /// The lines of a histogram.
    pub fn histogram(&mut self, labels: &[&str], counts: &Counts) {
        debug_assert_eq!(self.family.kind, Kind::Histogram);
        for (place, bound_ns) in shown_bounds() {
            let bound = std::time::Duration::from_nanos(bound_ns)
                .as_secs_f64()
                .to_string();
            self.line("_bucket", labels, Some(&bound), counts.up_to(place).into());
        }
        self.line("_bucket", labels, Some("+Inf"), counts.count().into());
        self.line("_sum", labels, None, counts.sum_seconds().into());
        self.line("_count", labels, None, counts.count().into());
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: Number) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        let names = self.family.labels.iter().copied().chain(["le"]);
        let values = labels.iter().copied().chain(bound);
        let mut opening = '{';
        for (name, value) in names.zip(values) {
            self.text.push(opening);
            self.text.push_str(name);
            self.text.push_str("=\"");
            push_escaped(self.text, value);
            self.text.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.text.push('}');
        }
        match value {
            Number::Whole(value) => push(self.text, format_args!(" {value}\n")),
            Number::Real(value) if value == f64::INFINITY => self.text.push_str(" +Inf\n"),
            Number::Real(value) => push(self.text, format_args!(" {value}\n")),
        }
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}

fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

/// A value.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// A count or a size.
    Whole(u64),
    /// Seconds, mostly.
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::histogram::Histogram;

    const PLAIN: Family = Family {
        name: "a_total",
        kind: Kind::Counter,
        labels: &[],
        help: "As.",
    };
    const LABELLED: Family = Family {
        name: "b",
        kind: Kind::Gauge,
        labels: &["topic", "kind"],
        help: "Bs.",
    };
    const TIMES: Family = Family {
        name: "c_seconds",
        kind: Kind::Histogram,
        labels: &["api"],
        help: "Cs.",
    };

    #[test]
    fn lines_are_what_prometheus_reads() {
        let mut page = Page::default();
        page.one(&PLAIN, 7_u64);
        let mut samples = page.begin(&LABELLED);
        samples.sample(&["x\"y\\z\n", "k"], 0.5);
        samples.sample(&["", "k"], f64::INFINITY);
        assert_eq!(
            page.finish(),
            "# HELP a_total As.\n# TYPE a_total counter\na_total 7\n# HELP b Bs.\n# TYPE b gauge\n\
             b{topic=\"x\\\"y\\\\z\\n\",kind=\"k\"} 0.5\nb{topic=\"\",kind=\"k\"} +Inf\n"
        );
    }

    #[test]
    fn a_histogram_adds_up() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(60));
        histogram.record(Duration::from_mins(1));
        let mut page = Page::default();
        page.begin(&TIMES).histogram(&["Fetch"], &histogram.counts());
        let text = page.finish();
        for line in [
            "c_seconds_bucket{api=\"Fetch\",le=\"0.00005\"} 0",
            "c_seconds_bucket{api=\"Fetch\",le=\"0.0001\"} 1",
            "c_seconds_bucket{api=\"Fetch\",le=\"10\"} 1",
            "c_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 2",
            "c_seconds_sum{api=\"Fetch\"} 60.00006",
            "c_seconds_count{api=\"Fetch\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
