//! The null broker: the least that a broker must do, in Kafka's framing, as the physical limit of a machine.
//!
//! It receives, checks the checksum of each batch, gives it its offset, writes it into prepared space, and answers. It
//! has no recovery, no validation of records, no idempotence, no retention, no limits. What is slow in it is the machine.
//!
//! | module | owns |
//! |---|---|
//! | `wire` | reading and writing the two requests that matter, in place |
//! | `segment` | a file of prepared space |
//! | `partition` | appending, syncing in groups, finding batches |
//! | `topics` | which topics there are |
//! | `produce` | Produce, answered while it is read |
//! | `fetch` | Fetch, from the file or from a map |
//! | `control` | what clients ask before: versions, metadata, topics, offsets, settings |
//! | `connection` | one connection, and the listener |

mod connection;
mod control;
mod fetch;
mod partition;
mod produce;
mod segment;
mod topics;
mod wire;

#[cfg(test)]
mod tests;

pub use connection::serve;

use std::path::PathBuf;

use clap::ValueEnum;

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// It is forgotten: the limit of the network and of the checksum.
    None,
    /// One `pwrite` into prepared space.
    Pwrite,
}

/// When a batch is acknowledged and shown to consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// When the page cache has it.
    None,
    /// When the `fdatasync` that began after its write has ended; all that wait share one.
    Fdatasync,
}

/// How the space of a segment is prepared before anything is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Space {
    /// Blocks are allocated; each sync of new ones converts them in the journal.
    Allocated,
    /// Zeros are written and synced: as in a segment that is used again, its pages are in the page cache.
    ZeroFilled,
}

/// How a fetch is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Send {
    /// From the file, by the kernel.
    Sendfile,
    /// From a map of the file, by a vectored write.
    Map,
}

/// What is left out or done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the segments are made; they go away with the broker.
    pub directory: PathBuf,
    /// What becomes of a batch.
    pub store: Store,
    /// When it is acknowledged.
    pub sync: Sync,
    /// How space is prepared.
    pub space: Space,
    /// How much at a time, unless a topic says `segment.bytes`. What a run writes should fit: the next
    /// segment is prepared on the spot.
    pub segment_bytes: u64,
    /// How a fetch is answered.
    pub send: Send,
}
