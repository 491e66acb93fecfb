//! Histograms of latencies and what is told of them.
//! Three significant digits from a nanosecond to ten minutes; what takes longer counts as ten minutes.

use hdrhistogram::Histogram;

use super::result::Latency;
use crate::report::count;

const LONGEST_NS: u64 = 600_000_000_000;

/// Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// None yet, kept to so many significant digits.
    ///
    /// # Panics
    /// Never: the bounds are constants that fit.
    #[must_use]
    pub fn new(digits: u8) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, digits.clamp(1, 4));
        Self {
            histogram: histogram.expect("the bounds fit each other"),
        }
    }

    /// One more, of so many things.
    pub fn add(&mut self, nanoseconds: u64, times: u64) {
        self.histogram.saturating_record_n(nanoseconds.max(1), times);
    }

    /// All of another one.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds.
        self.histogram.add(&other.histogram).ok();
    }

    /// None again.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// What so many of a hundred are not above, in microseconds.
    #[must_use]
    pub fn percentile_us(&self, percentile: f64) -> f64 {
        count(self.histogram.value_at_percentile(percentile)) / 1e3
    }

    /// What is told of them; nothing when there are none.
    #[must_use]
    pub fn told(&self, of: &str) -> Option<Latency> {
        if self.is_empty() {
            return None;
        }
        let at = |percentile| self.percentile_us(percentile);
        // Ten points for each halving of what is left above: even on the axis on which such curves are drawn.
        let mut curve: Vec<(f64, f64)> = self
            .histogram
            .iter_quantiles(5)
            .map(|step| {
                let value = count(step.value_iterated_to()) / 1e3;
                (step.quantile_iterated_to() * 100.0, value)
            })
            .collect();
        curve.dedup_by(|one, other| one.0 <= other.0);
        Some(Latency {
            of: of.to_owned(),
            count: self.histogram.len(),
            min_us: count(self.histogram.min()) / 1e3,
            mean_us: self.histogram.mean() / 1e3,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            p9999_us: at(99.99),
            max_us: count(self.histogram.max()) / 1e3,
            curve,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_added() {
        let mut all = Latencies::new(3);
        assert_eq!(all.told("record"), None);
        for milliseconds in 1..=10_000 {
            all.add(milliseconds * 1_000_000, 1);
        }
        let told = all.told("record").unwrap();
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.002;
        assert!(near(told.p50_us, 5e6) && near(told.p99_us, 9.9e6) && near(told.p9999_us, 9.999e6));
        assert!(near(told.max_us, 1e7) && near(told.mean_us, 5e6) && told.count == 10_000);
        assert!(told.curve.is_sorted(), "{:?}", told.curve);
        assert!(told.curve.last().unwrap().0 >= 99.99);
        all.add(u64::MAX, 3);
        assert!(
            near(all.told("record").unwrap().max_us, 6e8),
            "ten minutes at most"
        );
    }
}
