//! What is counted of spans on their way to a collector of traces.
//! A span that is dropped is one that nobody will see, so it must be seen that there were some.

use crate::metrics::counter::Counter;

/// The numbers.
#[derive(Debug, Default)]
pub struct SpanMetrics {
    /// Spans that a collector took.
    pub exported: Counter,
    /// Spans that found the queue full, or that the collector did not take.
    pub dropped: Counter,
}
