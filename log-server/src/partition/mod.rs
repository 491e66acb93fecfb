//! Partitions: what both fronts read and write, one level above the log.
//!
//! | module | owns |
//! |---|---|
//! | `ack_queue` | answers that wait for the disk |
//! | `checkpoints` | the checkpoint files of all partitions |
//! | `cleaner` | the threads that compact logs |
//! | `cleaning` | one partition as they see it |
//! | `compaction` | compactions that somebody asks for |
//! | `counting` | what goes in and out, counted |
//! | `error` | why a partition refused |
//! | `fetch_waiter` | fetches that wait for records |
//! | `flusher` | the threads that sync, and what they do behind the answers |
//! | `housekeeping` | what is done now and then: retention, checkpoints, mending, space |
//! | `offset_query` | `ListOffsets` |
//! | `partition` | one partition: append, read, watch |
//! | `patient_read` | reads that wait for a disk |
//! | `registry` | all partitions: found, loaded, made, deleted, closed |
//! | `reserve` | a little space kept back for a full disk |
//! | `throttle` | log lines that would repeat |
//! | `transactions` | first batches, markers, open transactions |
//! | `unsynced` | appends whose sync the caller asks for |
//! | `upkeep` | flush, latch, reopen, retention, checkpoints, end |
//! | `validation` | what a topic demands of a batch |
//! | `writer` | the log behind its lock |

pub(crate) mod ack_queue;
pub(crate) mod checkpoints;
pub mod cleaner;
mod cleaning;
pub mod compaction;
mod counting;
pub mod error;
pub mod fetch_waiter;
pub(crate) mod flusher;
pub(crate) mod housekeeping;
pub mod offset_query;
pub mod partition;
mod patient_read;
pub mod registry;
pub(crate) mod reserve;
pub(crate) mod throttle;
pub mod transactions;
mod unsynced;
mod upkeep;
mod validation;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
