//! The log against a model: random sequences, and a stop at every write and sync of a workload.
//! Both run on the file system in memory, which fails and crashes on purpose; a run that fails prints its
//! seed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, its helpers too; its size comes from the environment"
)]

mod compaction;
mod crash;
mod directories;
mod hooked;
mod keyed;
mod model;
mod regressions;
mod retention;
mod runs;
mod support;
mod thinned;
mod transactions;
