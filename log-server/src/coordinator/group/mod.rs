//! Consumer groups: who reads which partition, and how far everyone has read.
//!
//! All groups of one partition of `__consumer_offsets` form a [`shard::GroupShard`], which one thread at a time works on.

pub mod admin;
pub mod classic;
pub mod consumer;
pub mod context;
mod embedded;
pub mod error;
pub mod group;
pub mod offsets;
pub mod record;
pub mod settings;
pub mod shard;
#[cfg(test)]
pub(crate) mod testing;
pub mod timers;
