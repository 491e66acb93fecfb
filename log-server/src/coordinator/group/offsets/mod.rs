//! How far groups have read: committed offsets, by group, topic and partition.
//! They belong to a group, and outlive its members.

pub mod commit;
pub mod delete;
pub(super) mod expiry;
pub mod fetch;
pub mod lease;
pub mod leasing;
pub(super) mod pending;
mod replay;
pub mod store;
pub mod topic_ref;

#[cfg(test)]
mod tests;
