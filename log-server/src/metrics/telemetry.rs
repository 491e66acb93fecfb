//! What is counted of the metrics that clients push: those taken, and those refused by reason.
//! Pushes come every few minutes, so a lock is no matter.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::metrics::counter::Counter;

/// The numbers.
#[derive(Debug, Default)]
pub struct TelemetryMetrics {
    /// Pushes that were taken.
    pub pushes: Counter,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

impl TelemetryMetrics {
    /// A question or a push was refused.
    pub fn refused(&self, reason: &'static str) {
        *self.refusals.lock().entry(reason).or_default() += 1;
    }

    /// How many were, by reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().clone()
    }
}
