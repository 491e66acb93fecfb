//! The Stratalog broker: fronts above, partitions and metadata below, the log at the bottom.
//!
//! | module | owns |
//! |---|---|
//! | [`partition`] | partitions: append, read, acknowledge, flush, housekeeping |
//!
//! Direction: the fronts call `partition` and `metadata`; those call log-core; nothing points back.

pub mod partition;
