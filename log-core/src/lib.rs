//! Partitioned commit log: record batches, segments, indexes, producer state, recovery.
//!
//! Synchronous and deterministic: no async, no threads, no sockets, no clock and no environment. Disk and
//! time come in through [`fs::FileSystem`] and [`clock::Clock`].
//!
//! Order of the modules, each using only those before it:
//! `model` ← `record` ← `index` ← `segment` ← `cleaner` ← `log` ← `log_manager`; `producer_state`, `leader_epoch` and
//! `checkpoint` stand beside `segment`. `protocol` is the wire codec's one boundary and shares nothing
//! with storage.

pub mod checkpoint;
pub mod cleaner;
pub mod clock;
pub mod config;
pub mod envelope;
pub mod fs;
pub mod index;
pub mod leader_epoch;
pub mod log;
pub mod log_manager;
pub mod model;
pub mod partitioner;
pub mod producer_state;
pub mod protocol;
pub mod record;
pub mod segment;
