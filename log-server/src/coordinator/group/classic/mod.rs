//! The classic protocol: members join, one of them (the leader) assigns, all of them sync.
//! Any protocol type is served; what members tell each other is not looked into, but for the topics they read.

pub mod group;
pub mod heartbeat;
pub mod join;
pub mod leave;
pub mod member;
mod migration;
mod rebalance;
mod replay;
pub mod reply;
pub mod sync;
#[cfg(test)]
mod tests;
