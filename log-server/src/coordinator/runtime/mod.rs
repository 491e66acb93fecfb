//! What runs the state machines of coordinators: it gives them time and topics, writes their records, and lets answers go when
//! those are on the disk.
//!
//! [`group_coordinator::GroupCoordinator`] is what the fronts call. Behind it stands one `host::ShardHost` for each partition of
//! `__consumer_offsets`, and one task for each host (`keeper`), which does what nobody asks for: loading, timers, late answers.
//! What all of that asks of a state machine is `shard::Shard`.

mod batch;
mod error;
pub mod group_coordinator;
mod host;
pub mod hosts;
mod keeper;
pub mod lag;
pub mod lag_watch;
mod load;
pub mod markers;
mod serving;
mod shard;
pub mod shard_topic;
mod standing;
mod tidy;
mod topics;
pub mod transaction_coordinator;

#[cfg(test)]
mod tests;
