//! Micro benchmarks by layer, and the comparison with other Kafka-protocol brokers.
//!
//! | module | owns |
//! |---|---|
//! | [`case`] | a case, its samples, and the rounds in which cases take turns |
//! | [`report`] | medians and ratios as a table and as JSON |
//! | [`source`] | bytes and batches to work on |
//!
//! A machine that others use as well has no steady speed. So cases take turns within a round, a round's ratios are what
//! counts, medians over the rounds are told with their extremes, and CPU time stands beside elapsed time. Figures come with
//! the workload and the machine they belong to.

pub mod case;
pub mod report;
pub mod source;
