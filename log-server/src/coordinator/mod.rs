//! Coordinators: what clients agree on through the broker, kept as state machines over a log.
//!
//! A command with the time gives an answer and records; only replaying records changes what must survive, live and at a
//! start alike; the answer waits until the records are on the disk. The state machines know no threads, clocks or disks:
//! `group` and `transaction` decide, `runtime` writes, waits and tells the time.

pub mod group;
pub mod record;
pub mod runtime;
pub mod transaction;
