//! What a command is given, and what it gives back besides its answer.
//! Time comes in here alone, so that a seed replays a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::{ProducerEpoch, ProducerId, TimestampMs, TopicPartition};
use log_core::record::control::TransactionOutcome;

use crate::coordinator::transaction::record::TransactionRecord;
use crate::coordinator::transaction::settings::TransactionSettings;

/// A producer's id and epoch: which of all producers it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// A transaction that is decided: its markers are to be written to all its partitions, and then it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedTransaction {
    /// Whose.
    pub transactional_id: Arc<str>,
    /// The producer, with the epoch that its markers have.
    pub producer: ProducerIdentity,
    /// Which protocol ends it: with 2, its markers have a higher epoch than its records.
    pub client_version: i16,
    /// The decision.
    pub outcome: TransactionOutcome,
    /// Where markers are to be written.
    pub partitions: BTreeSet<TopicPartition>,
}

/// What a command sees, and where it puts its effects.
///
/// A command must not change what records describe: it adds records here, and the runtime replays them as soon as they are
/// in the log. Deadlines stand in no record; it changes them itself.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of day, for what is written down.
    pub now: TimestampMs,
    /// The time on a clock that nobody can set, for how long something takes.
    pub steady: SteadyMs,
    /// The broker's settings.
    pub settings: &'a TransactionSettings,
    /// To be written, in this order, as one batch: all of them survive, or none.
    pub records: Vec<TransactionRecord>,
    /// Decided transactions whose markers may be written when the records are on the disk.
    pub decided: Vec<DecidedTransaction>,
}

impl<'a> Context<'a> {
    /// A context without effects.
    #[must_use]
    pub fn new(now: TimestampMs, steady: SteadyMs, settings: &'a TransactionSettings) -> Self {
        Self {
            now,
            steady,
            settings,
            records: Vec::new(),
            decided: Vec::new(),
        }
    }
}
