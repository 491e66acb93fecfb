//! Partitions: what both fronts read and write, one level above the log.
//!
//! | module | owns |
//! |---|---|
//! | `ack_queue` | answers that wait for the disk |
//! | `error` | why a partition refused |
//! | `fetch_waiter` | fetches that wait for records |
//! | `flusher` | the threads that sync, and what they do behind the answers |

pub(crate) mod ack_queue;
pub mod error;
pub mod fetch_waiter;
pub(crate) mod flusher;
