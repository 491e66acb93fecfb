//! What runs the state machines of `group`: it gives them time and topics, writes their records, and lets answers go when
//! those are on the disk.
//!
//! [`group_coordinator::GroupCoordinator`] is what the fronts call. Behind it stands one `host::ShardHost` for each partition of
//! `__consumer_offsets`, and one task for each host (`keeper`), which does what nobody asks for: loading, timers, late answers.

mod batch;
pub mod group_coordinator;
mod host;
mod keeper;
pub mod lag;
pub mod lag_watch;
mod load;
pub mod offsets_topic;
mod tidy;
mod topics;

#[cfg(test)]
mod tests;
