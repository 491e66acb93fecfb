//! The group consumer: a member of a group whose members share partitions between them.
//!
//! - `config`: settings
//! - `consumer`: what the application holds; it reads, and carries out what the group decides
//! - `positions`: where it is, and what of that the group knows
//! - `subscription`: what is wanted
//! - `listener`: what an application does when partitions come and go
//! - `rebalance`: giving partitions up and taking them on, step by step
//! - `buffer`: records that were fetched and are handed out one by one
//! - `committer`: offsets go to the coordinator in order
//! - `membership`, `modern`, `classic`: the task that keeps the member in the group, by either protocol
//! - `joining`: how a member of a classic group gets into the next generation
//! - `link`: what consumer and task know of each other
//! - `assignor`: who reads what, where a member works that out
//!
//! Heartbeats go on while the application works; nothing else happens behind its back. Partitions come and go
//! when it polls, and a position is committed automatically only by a poll that comes after the one that handed
//! the records out: what was not worked through is read again by somebody.

pub mod assignor;
mod buffer;
mod classic;
mod committer;
mod config;
mod consumer;
mod joining;
mod link;
mod listener;
mod membership;
mod modern;
mod positions;
mod rebalance;
mod subscription;

pub use crate::coordinator::GroupMember;
pub use committer::Commit;
pub use config::{AutoOffsetReset, GroupConfig, GroupProtocol};
pub use consumer::GroupConsumer;
pub use listener::{Rebalance, RebalanceListener};

#[cfg(test)]
mod tests;
