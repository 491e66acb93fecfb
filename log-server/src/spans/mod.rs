//! What requests took, as spans for a collector of traces: OpenTelemetry's protocol over HTTP.
//!
//! | module | owns |
//! |---|---|
//! | [`context`] | which trace a span belongs to, and `traceparent` |
//! | `export` | batches on their way to the collector |
//! | `message` | spans as a message |
//! | [`span`] | one request |
//! | [`tracer`] | which requests are looked at, and the queue |
//!
//! Off by default, and then nothing of it is there: the fronts are put together without it. A request that is not sampled pays one random number. One that
//! is never waits: its span goes into a queue with so many places, and is counted as dropped when there is none.

pub mod context;
mod export;
mod message;
pub mod span;
pub mod tracer;

#[cfg(test)]
mod tests;
