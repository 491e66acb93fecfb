//! Which requests are looked at, and the queue of their spans.
//! Whoever looks never waits: not for the queue, and not for the collector.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::context::{SpanContext, TraceParent};
use super::export::Exporter;
use super::span::{OpenSpan, Span, Value};
use crate::metrics::spans::SpanMetrics;
use crate::shutdown::ShutdownSignal;

/// Spans that wait to be sent; some hundred bytes each, and never more than a few texts of 256.
const QUEUE_LENGTH: usize = 8192;

/// Where spans go, and how many.
#[derive(Debug, Clone)]
pub struct TracerSettings {
    /// `http://host:port`, with the beginning of a path or without (`otlp-endpoint`).
    pub endpoint: String,
    /// The share of requests that are looked at (`otlp-sample-ratio`), of those that belong to nobody's trace.
    pub sample_ratio: f64,
    /// What is told of this broker with all of them.
    pub resource: Vec<(&'static str, Value)>,
}

/// Looks at some requests.
#[derive(Debug)]
pub struct Tracer {
    sample_ratio: f64,
    queue: mpsc::Sender<Span>,
    metrics: Arc<SpanMetrics>,
}

impl Tracer {
    /// A tracer, and the task that sends what it saw, until "stop" is said.
    #[must_use]
    pub fn start(
        settings: TracerSettings,
        metrics: Arc<SpanMetrics>,
        shutdown: ShutdownSignal,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let (queue, spans) = mpsc::channel(QUEUE_LENGTH);
        let tracer = Self::new(settings.sample_ratio, queue, Arc::clone(&metrics));
        let exporter = Exporter::new(settings, spans, metrics);
        (Arc::new(tracer), tokio::spawn(exporter.run(shutdown)))
    }

    /// A tracer whose spans somebody else takes out of the queue.
    pub(crate) fn new(sample_ratio: f64, queue: mpsc::Sender<Span>, metrics: Arc<SpanMetrics>) -> Self {
        Self {
            sample_ratio,
            queue,
            metrics,
        }
    }

    /// Begins a span, if this request is one to look at. One that belongs to somebody else's trace is when that trace is recorded, whatever the share:
    /// as OpenTelemetry's samplers that go by the parent.
    #[must_use]
    pub fn begin(&self, parent: Option<TraceParent>, name: impl FnOnce() -> String) -> Option<OpenSpan> {
        let context = match parent {
            Some(parent) => parent.is_sampled.then(|| SpanContext::child_of(&parent))?,
            None => (fastrand::f64() < self.sample_ratio).then(SpanContext::root)?,
        };
        Some(OpenSpan::begin(context, name()))
    }

    /// Takes what a request was. It never waits.
    pub fn take(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.dropped.add(1);
        }
    }
}
