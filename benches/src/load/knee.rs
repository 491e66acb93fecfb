//! The search for the rate at which a broker gives way: rates rise until one does not hold, then the space between is halved.
//!
//! A rate holds when at least 95 of 100 records of it are acknowledged in time and the p99 stays below a limit. Runs at several rates
//! share a topic; which of them are tried follows from what the earlier ones gave.

use super::result::{Knee, KneeStep};

/// A rate holds when so much of it is reached.
const SHARE_MIN: f64 = 0.95;
/// From one rate to the next, until one does not hold.
const RISE: f64 = 2.0;
/// How often the space between is halved.
const HALVINGS: usize = 4;
/// No broker is asked for more.
const RATE_MAX: f64 = 1e8;

/// What is known so far.
#[derive(Debug, Clone)]
pub struct Search {
    p99_limit_us: f64,
    first: f64,
    steps: Vec<KneeStep>,
    halvings: usize,
}

impl Search {
    /// A search that begins at a rate.
    #[must_use]
    pub fn new(first: f64, p99_limit_us: f64) -> Self {
        Self {
            p99_limit_us,
            first,
            steps: Vec::new(),
            halvings: 0,
        }
    }

    fn best(&self) -> Option<f64> {
        let held = self.steps.iter().filter(|step| step.held);
        held.map(|step| step.target_records_per_s).reduce(f64::max)
    }

    fn worst(&self) -> Option<f64> {
        let failed = self.steps.iter().filter(|step| !step.held);
        failed.map(|step| step.target_records_per_s).reduce(f64::min)
    }

    /// The rate to try next; none when the knee is known well enough.
    pub fn next_rate(&mut self) -> Option<f64> {
        match (self.best(), self.worst()) {
            (None, None) => Some(self.first),
            (Some(best), None) => Some(best * RISE).filter(|rate| *rate <= RATE_MAX),
            // Even the first was too much: down, but not for ever.
            (None, Some(worst)) => Some(worst / RISE).filter(|rate| self.first / 64.0 <= *rate),
            (Some(best), Some(worst)) => {
                self.halvings += 1;
                (self.halvings <= HALVINGS).then(|| f64::midpoint(best, worst))
            }
        }
    }

    /// What a rate gave. Returns whether it held.
    pub fn tried(&mut self, mut step: KneeStep) -> bool {
        step.held = self.reaches(&step) && step.latency.p99_us <= self.p99_limit_us;
        let held = step.held;
        self.steps.push(step);
        held
    }

    #[expect(clippy::unused_self, reason = "a question about a step of this search")]
    fn reaches(&self, step: &KneeStep) -> bool {
        SHARE_MIN * step.target_records_per_s <= step.records_per_s
    }

    /// What was found.
    #[must_use]
    pub fn knee(self) -> Knee {
        let lowest = self.worst();
        let failed = self
            .steps
            .iter()
            .find(|step| Some(step.target_records_per_s) == lowest);
        let gave_way = failed.map(|step| if self.reaches(step) { "p99" } else { "rate" }.to_owned());
        Knee {
            records_per_s: self.best(),
            gave_way,
            p99_limit_us: self.p99_limit_us,
            steps: self.steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::Latency;
    use super::*;

    /// A broker that reaches `peak`, with a p99 that rises with its load.
    fn found(peak: f64, first: f64, limit_us: f64) -> Knee {
        let mut search = Search::new(first, limit_us);
        while let Some(rate) = search.next_rate() {
            search.tried(KneeStep {
                target_records_per_s: rate,
                records_per_s: rate.min(peak),
                latency: Latency {
                    p99_us: 1000.0 / (1.0 - rate / peak).max(0.001),
                    ..Latency::default()
                },
                ..KneeStep::default()
            });
        }
        search.knee()
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for first in [1000.0, 1e6] {
            let knee = found(100_000.0, first, 2000.0);
            let rate = knee.records_per_s.unwrap();
            assert!((45_000.0..=50_000.0).contains(&rate), "{rate}");
            assert_eq!(knee.gave_way.as_deref(), Some("p99"));
            assert!(knee.steps.len() < 16, "{}", knee.steps.len());
        }
        let knee = found(100_000.0, 1000.0, 1e9);
        assert!((98_000.0..106_000.0).contains(&knee.records_per_s.unwrap()));
        assert_eq!(knee.gave_way.as_deref(), Some("rate"));
        assert_eq!(found(10.0, 1000.0, 1e9).records_per_s, None, "nothing holds");
    }
}
