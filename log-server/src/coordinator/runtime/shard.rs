//! What a host asks of the state machine that it runs, and what it gives it.
//!
//! One shard is what one partition of a topic holds. Hosts, loading, tidying and timers know no more of groups or
//! transactions than stands here.

use std::fmt;

use log_core::clock::SteadyMs;
use log_core::model::{ProducerEpoch, ProducerId, TimestampMs};
use log_core::record::batch_header::BatchHeader;
use log_core::record::control::TransactionOutcome;

use crate::config::keys::BrokerConfig;
use crate::coordinator::group::context::{Ticket, Topics};
use crate::coordinator::record::LogRecord;
use crate::metadata::plan::NewTopic;

/// A state machine whose state is what replaying its log gives.
pub(super) trait Shard: fmt::Debug + Default + Send + 'static {
    /// What its log holds.
    type Record: LogRecord;
    /// The broker's settings that concern it.
    type Settings: fmt::Debug + Send + Sync;
    /// What a command sees, and where it puts its effects.
    type Context<'a>;
    /// The answer of a request that waits for others.
    type Reply: fmt::Debug + Send;
    /// What it wants to be done outside when its records are on the disk.
    type Task: fmt::Debug + Send;

    /// What it holds, for people.
    const NOUN: &'static str;
    /// The topic whose partitions are its logs.
    const TOPIC: &'static str;

    /// That topic, to be created.
    fn new_topic(config: &BrokerConfig) -> NewTopic;

    /// A context without effects.
    fn context<'a>(world: World<'a>, settings: &'a Self::Settings) -> Self::Context<'a>;

    /// Takes the effects out of a context.
    fn take_effects(context: &mut Self::Context<'_>) -> Effects<Self>;

    /// Makes one record part of the state, live and at a start alike; `owner` is whose transaction its batch belongs to.
    fn replay(&mut self, record: &Self::Record, owner: Option<BatchOwner>);

    /// The same for the marker that ends a transaction in this partition.
    fn replay_marker(&mut self, producer_id: ProducerId, outcome: TransactionOutcome);

    /// Called once when the log has been replayed.
    fn loaded(&mut self, context: &mut Self::Context<'_>);

    /// When [`Self::tick`] has something to do, if nothing else happens before.
    fn next_deadline(&self) -> Option<SteadyMs>;

    /// Does the first thing that is due.
    fn tick(&mut self, context: &mut Self::Context<'_>);

    /// The log refused the records of the last command, and nothing was written.
    fn write_refused(&mut self, records: &[Self::Record], context: &mut Self::Context<'_>);
}

/// What is outside of a shard at the time of a command.
pub(super) struct World<'a> {
    /// The time of day, for what is written down.
    pub(super) now: TimestampMs,
    /// The time on a clock that nobody can set, for how long something takes.
    pub(super) steady: SteadyMs,
    /// The topics.
    pub(super) topics: &'a dyn Topics,
    /// Random bits.
    pub(super) random_id: &'a mut dyn FnMut() -> [u8; 16],
}

/// What a command does besides answering.
#[derive(Debug)]
pub(super) struct Effects<S: Shard> {
    /// To be written as one batch.
    pub(super) records: Vec<S::Record>,
    /// Whose transaction the batch belongs to.
    pub(super) owner: Option<BatchOwner>,
    /// Answers for those who waited, when the records are on the disk.
    pub(super) replies: Vec<(Ticket, S::Reply)>,
    /// Tasks that begin when the records are on the disk. A shard that is loaded asks for those again that did not come to their end.
    pub(super) tasks: Vec<S::Task>,
}

/// The producer whose transaction a batch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchOwner {
    pub(super) producer_id: ProducerId,
    pub(super) producer_epoch: ProducerEpoch,
}

impl BatchOwner {
    /// A batch's owner, if it belongs to a transaction.
    pub(super) fn of(batch: &BatchHeader) -> Option<Self> {
        batch.attributes.is_transactional().then_some(Self {
            producer_id: batch.producer_id,
            producer_epoch: batch.producer_epoch,
        })
    }
}
