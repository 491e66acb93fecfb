//! Reading data directories while no broker uses them: for `stratalog log dump` and `stratalog log verify`.
//!
//! | module | owns |
//! |---|---|
//! | [`segment_walk`] | one `.log` file batch by batch, on past damage |
//! | [`finding`] | what is wrong, where, and how bad that is |
//! | [`index_check`] | a segment's indexes against its batches |
//! | [`snapshot_check`] | producer snapshots against the batches |
//! | [`transaction_check`] | which transactions were aborted, by the log alone |
//! | [`partition_check`] | one partition's directory |
//! | [`known_topics`] | what the metadata log says should be there |
//! | [`verify`] | a data directory as a whole |
//!
//! Everything is read by plain reads, never through maps, and nothing is changed. What is read is not trusted.

pub mod finding;
pub mod index_check;
pub mod known_topics;
pub mod partition_check;
pub mod segment_walk;
pub mod snapshot_check;
pub mod transaction_check;
pub mod verify;

#[cfg(test)]
mod tests;
