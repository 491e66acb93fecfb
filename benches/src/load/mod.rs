//! The load harness: it drives any broker of the Kafka protocol, verifies what comes back, and says what the figures mean.
//!
//! From the bottom up:
//!
//! | module | owns |
//! |---|---|
//! | [`run_clock`] | the time of a run |
//! | [`record_layout`] | what stands in a value, so that it can be verified |
//! | [`filling`] | sizes, keys and bytes, from a seed |
//! | [`batch_template`] | a batch that is made once and sent often |
//! | [`wire`] | requests that are patched, answers that are read in place |
//! | [`socket`] | one connection that never waits |
//! | [`latency`] | histograms |
//! | [`meter`] | what is counted, by worker and by stretch of time |
//! | [`verify`] | lost, duplicated, reordered, corrupt |
//! | [`pace`] | when a record is due: closed and open loop |
//! | [`raw_producer`], [`raw_reader`] | what connections do |
//! | [`worker`] | a thread and its connections |
//! | [`stage`] | one stretch of load, watched |
//! | [`plan`] | what a run is to do |
//! | [`local`] | this machine, and a broker's process on it |
//! | [`target`] | the broker and its topic |
//! | [`result`] | what a run gave, as it is written to JSON |
//! | [`summary`] | from counts to the result |
//! | [`group_load`], `group_member` | groups of consumers that follow the load |
//! | [`knee`] | the search for the rate at which a broker gives way |
//! | [`run`] | a run from its plan to its result |

pub mod batch_template;
pub mod filling;
pub mod group_load;
mod group_member;
pub mod knee;
pub mod latency;
pub mod local;
pub mod meter;
pub mod pace;
pub mod plan;
pub mod raw_producer;
pub mod raw_reader;
pub mod record_layout;
pub mod result;
pub mod run;
pub mod run_clock;
pub mod socket;
pub mod stage;
pub mod summary;
pub mod target;
pub mod verify;
pub mod wire;
pub mod worker;

#[cfg(test)]
mod tests;
