//! The protocol of KIP-848: members say what they want and have, the coordinator assigns, each step is
//! one heartbeat.
//!
//! A change of subscriptions or topics raises the *group epoch*; for each group epoch a *target assignment* is computed; each
//! member moves to it at its own pace: it gives up first, and gets what others have given up. Who has a partition is in records, so a
//! partition has one owner at all times, also across a crash.

pub mod assignment;
pub mod assignor;
mod classic_member;
pub mod describe;
pub mod group;
pub mod heartbeat;
mod leave;
pub mod member;
mod migration;
mod questions;
mod reconcile;
mod regex;
mod replay;
mod subscription;
mod target;
mod timers;

#[cfg(test)]
pub(in crate::coordinator::group) mod tests;
