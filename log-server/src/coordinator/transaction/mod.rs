//! Transactions, as a state machine over `__transaction_state`.
//!
//! A transactional id has one producer at a time, and at most one transaction. Each change of it is one record that says all there is to
//! know, so the state is the last record of each id. Commands stand with what they are about: `init` gives a producer its
//! identity and fences the one before, `partitions` lets partitions into a transaction, `end` decides it.
//!
//! ```text
//!          add partitions             end                       markers are on the disk
//!  Empty ────────────────► Ongoing ─────────► PrepareCommit ──────────────────────────► CompleteCommit ─┐
//!    ▲                        │    ─────────► PrepareAbort  ──────────────────────────► CompleteAbort  ─┤
//!    │                        └── timeout, or another producer: PrepareAbort                             │
//!    └───────────────────────────────────── init, or add partitions (Ongoing) ◄──────────────────────────┘
//! ```
//!
//! `Dead` and `PrepareEpochFence` are states that Kafka's broker passes through in memory; no record has them, and this one
//! does not need them.

pub mod admin;
pub mod context;
pub mod end;
pub mod error;
pub mod init;
pub mod partitions;
pub mod record;
pub mod settings;
pub mod shard;
pub mod state;
#[cfg(test)]
mod tests;
mod timeouts;
