//! What tests of groups share: a shard with its log, a clock that stands still, clients that wait, and
//! random schedules. Compiled for tests alone.

pub(crate) mod schedules;
pub(crate) mod world;
