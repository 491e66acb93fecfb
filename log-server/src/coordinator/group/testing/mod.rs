//! What tests of groups share: a shard with its log, a clock that stands still, clients that wait, and
//! random schedules. Compiled for tests alone.

mod model;
pub(crate) mod schedules;
pub(crate) mod state;
pub(crate) mod world;
