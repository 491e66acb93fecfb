//! Settings against a real Kafka's.

mod alter;
mod describe;
