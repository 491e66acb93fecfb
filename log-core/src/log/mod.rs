//! The log of one partition: a row of segments with one writer and any number of readers.
//!
//! | file | what it does |
//! |---|---|
//! | `log.rs` | [`Log`], the writer, and what it shares with readers |
//! | `offsets.rs` | the four offsets and their order |
//! | `append.rs` | stamp, check, write, roll |
//! | `flush.rs` | group commit in three steps: begin, run, finish |
//! | `failed_sync.rs` | the mark that a failed sync leaves for the next process |
//! | `read.rs` | [`LogReader`]: records by offset, look-up by time |
//! | `retention.rs` | what may go, and how it goes |
//! | `truncate.rs` | cutting off the end |
//! | `transactions.rs` | how they begin and end, and which were aborted |
//! | `clean.rs` | what may be compacted, and the swap of cleaned segments |
//! | `checkpoint.rs` | what makes the next recovery short, and closing |
//! | `loader.rs` | opening and recovery, by a decision table |
//! | `recovery_scan.rs` | the look at one segment |
//! | `producer_replay.rs` | the producers' state |
//! | `leader_epochs.rs` | the epochs and their file |

pub mod append;
pub mod checkpoint;
pub mod clean;
pub mod error;
pub mod failed_sync;
pub mod flush;
pub mod leader_epochs;
pub mod loader;
#[expect(clippy::module_inception, reason = "one noun per file: the log itself")]
pub mod log;
pub mod offsets;
mod producer_replay;
pub mod read;
mod recovery_scan;
pub mod retention;
mod transactions;
pub mod truncate;

pub use append::{AppendOrigin, AppendOutcome};
pub use clean::{CleaningTask, SwapDone, SwapError, SwapTask};
pub use error::{AppendError, Damage, LatchReason, LogError, ReadError};
pub use flush::{FlushDone, FlushTask, PrepareTask, SealTask, WriteOutTask};
pub use loader::{LoadHints, LoadReport};
pub use log::{Log, LogContext};
pub use offsets::LogOffsets;
pub use read::{LogReader, OffsetAndTimestamp, ReadBound, ReadRequest, ReadSlice};
pub use retention::{ReclaimTask, RetentionOutcome};
