//! Settings against a real Kafka's.
//! Layers, values and tables have their own tests in the files they stand in.

mod alter;
mod describe;
