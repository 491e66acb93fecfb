//! Topics, settings and producer ids: state that is only what replaying the metadata log gives.
//!
//! | module | owns |
//! |---|---|
//! | [`topic_name`] | which names a topic may have |
//! | [`records`] | the records of the metadata log |
//! | [`image`] | the state they give, immutable once published |
//! | [`plan`] | requests checked against the state, and the records that answer them |
//! | [`snapshot`] | the state in a file, so that old records can go |
//! | [`metadata_log`] | the log on disk: append, load, snapshot, reclaim |
//! | [`controller`] | the one writer: plans, makes durable, tells the partitions, publishes |
//! | [`leftovers`] | what deleted topics left in the data directory |
//! | [`error`] | why a request was refused |

pub mod controller;
pub mod error;
pub mod image;
pub mod leftovers;
pub mod metadata_log;
pub mod plan;
pub mod records;
pub mod snapshot;
pub mod topic_name;

#[cfg(test)]
mod tests;
