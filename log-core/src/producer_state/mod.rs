//! What a log remembers of the producers that wrote to it, so that a retry is not appended twice (KIP-98).
//!
//! - [`entry`]: one producer on one partition: its epoch, its last five batches, its transaction
//! - [`manager`]: all producers of a partition: the checks before an append, the changes after it
//! - [`snapshot`]: the file that saves reading the whole log at the next opening

pub mod entry;
pub mod manager;
pub mod snapshot;

#[cfg(test)]
mod tests;
