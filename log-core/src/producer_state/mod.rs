//! What a log remembers of the producers that wrote to it, so that a retry is not appended twice (KIP-98).
//!
//! - [`entry`]: one producer on one partition: its epoch, its last five batches, its transaction
//! - [`manager`]: all producers of a partition: the changes after an append
//! - `check`: what is checked before an append
//! - [`verification`]: transactions whose first batch has yet to be proved to belong to them
//! - [`snapshot`]: the file that saves reading the whole log at the next opening

mod check;
pub mod entry;
pub mod manager;
pub mod snapshot;
pub mod verification;

#[cfg(test)]
mod tests;
