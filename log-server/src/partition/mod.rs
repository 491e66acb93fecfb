//! Partitions: what both fronts read and write, one level above the log.
//!
//! | module | owns |
//! |---|---|
//! | `ack_queue` | answers that wait for the disk |
//! | `checkpoints` | log starts of one directory, on their way to its disk |
//! | `cleaner` | the threads that compact logs |
//! | `cleaning` | one partition as they see it |
//! | `compaction` | compactions that somebody asks for |
//! | `counting` | what goes in and out, counted |
//! | `disk` | the space of one directory's disk |
//! | `error` | why a partition refused |
//! | `fetch_waiter` | fetches that wait for records |
//! | `flusher` | the threads that sync, and what they do behind the answers |
//! | `gathering` | appends of several tasks that come together |
//! | `housekeeping` | what is done now and then: checkpoints, mending, space |
//! | `loading` | what a start makes of the partitions on the disk |
//! | `log_dirs` | the directories as clients are shown them |
//! | `offset_query` | `ListOffsets` |
//! | `partition` | one partition: append, read, watch |
//! | `patient_read` | reads that wait for a disk |
//! | `recompression` | whose turn it is to write a batch in another codec |
//! | `recovery` | what keeps a recovery short: checkpoints, recovery points |
//! | `registry` | all partitions: found, made, deleted, closed |
//! | `removal` | retention, and the directories of deleted partitions |
//! | `reserve` | a little space kept back for a full disk |
//! | `throttle` | log lines that would repeat |
//! | `transactions` | first batches, markers, open transactions |
//! | `unsynced` | appends whose sync the caller asks for |
//! | `upkeep` | flush, latch, reopen, retention, end |
//! | `validation` | what a topic demands of a batch |
//! | `writer` | the log behind its lock |

pub(crate) mod ack_queue;
pub(crate) mod checkpoints;
pub mod cleaner;
mod cleaning;
pub mod compaction;
mod counting;
pub(crate) mod disk;
pub mod error;
pub mod fetch_waiter;
pub(crate) mod flusher;
mod gathering;
pub(crate) mod housekeeping;
pub(crate) mod loading;
pub mod log_dirs;
pub mod offset_query;
pub mod partition;
mod patient_read;
pub(crate) mod recompression;
mod recovery;
pub mod registry;
pub(crate) mod removal;
pub(crate) mod reserve;
pub(crate) mod throttle;
pub mod transactions;
mod unsynced;
mod upkeep;
mod validation;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
