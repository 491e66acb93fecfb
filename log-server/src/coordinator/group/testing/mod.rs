//! What tests of groups share: a shard with its log, a clock that stands still, and clients that wait.
//! Compiled for tests alone.

pub(crate) mod world;
