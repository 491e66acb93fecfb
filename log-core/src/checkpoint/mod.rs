//! The small text files beside the logs, in Kafka's formats: they are parsed and produced here, and written
//! whole or not at all by `fs::FileSystem::replace`.
//!
//! | file | where | what |
//! |---|---|---|
//! | `recovery-point-offset-checkpoint` | data directory | [`offset_checkpoint`]: below which offset each log is on the disk |
//! | `log-start-offset-checkpoint` | data directory | [`offset_checkpoint`]: where each log starts, if not with its first segment |
//! | `replication-offset-checkpoint` | data directory | [`offset_checkpoint`]: the high watermarks |
//! | `.kafka_cleanshutdown` | data directory | [`clean_shutdown`]: the broker stopped in an orderly way |
//! | `leader-epoch-checkpoint` | partition | [`leader_epoch_checkpoint`]: where each leader epoch began |
//! | `partition.metadata` | partition | [`partition_metadata`]: the topic's id |
//!
//! None has a checksum. What they say must never be believed against the log: a recovery point behind the
//! log's end, say, is one that reached the disk before the log did.

pub mod clean_shutdown;
pub mod error;
pub mod leader_epoch_checkpoint;
mod lines;
pub mod offset_checkpoint;
pub mod partition_metadata;
