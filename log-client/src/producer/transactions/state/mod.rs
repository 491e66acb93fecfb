//! What a transactional producer is doing, as callers and the sender both see it. No requests are made here.
//!
//! | phase | begin | send | commit | abort | a record fails |
//! |---|---|---|---|---|---|
//! | `New`: no producer id yet | | | | | |
//! | `Ready` | → `Open` | | | | |
//! | `Open` | | yes | → `Closing` | → `Ending` | → `Doomed` |
//! | `Closing`: the last records are on their way | | | again | → `Ending` | → `Doomed` |
//! | `Doomed`: it can only be aborted | | the reason | the reason | → `Ending` | |
//! | `Ending`: the coordinator is asked to | | | again, if it was that | again, if it was that | |
//! | `Failed`: for good | the reason | the reason | the reason | the reason | |
//!
//! An end that was not answered may be carried out: it can only be asked for again, and not be decided otherwise.
//!
//! By the first protocol partitions are added while records are taken, and what the coordinator answers to that speaks for the
//! transaction that is open. So the two requests that could meet, the one that adds and the one that ends, take turns.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::TopicPartition;
use log_core::protocol::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::coordinator::{ProducerIdentity, TransactionProtocol};
use crate::error::{Error, Result, TransactionErrorClass};

/// How a transaction is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Abort,
}

#[derive(Debug, Clone)]
enum Phase {
    New,
    Ready,
    Open,
    Closing,
    Doomed(Error),
    Ending(End),
    Failed(Error),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    identity: Option<ProducerIdentity>,
    protocol: TransactionProtocol,
    /// By the first protocol: the partitions that the coordinator knows of.
    partitions: BTreeSet<TopicPartition>,
    /// Whether the coordinator may know of the transaction.
    is_started: bool,
    /// Whether sequences have gaps, so that the next transaction needs another epoch.
    has_gaps: bool,
}

/// The transactions of one producer.
#[derive(Debug)]
pub(crate) struct Transactions {
    state: Mutex<State>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The right to add partitions, or to end the transaction; the other has to wait.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// What the sender may do.
#[derive(Debug, Clone)]
pub(crate) enum Permission {
    /// Send.
    Send,
    /// Give up what was not sent, and what is to be sent again.
    GiveUp(Error),
    /// Give up what was not sent. What may be in the log is asked about on.
    GiveUpUnsent,
}

/// What has to be asked of the coordinator to end a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub identity: ProducerIdentity,
    pub protocol: TransactionProtocol,
    /// Whether it has to be told. A transaction without records and offsets is none for it.
    pub is_started: bool,
    /// Whether it has to be asked for another epoch afterwards.
    pub needs_epoch: bool,
}

/// What a request about an open transaction is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub identity: ProducerIdentity,
    pub protocol: TransactionProtocol,
}

impl Transactions {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::New,
                identity: None,
                protocol: TransactionProtocol::V1,
                partitions: BTreeSet::new(),
                is_started: false,
                has_gaps: false,
            }),
            turn: Arc::default(),
        }
    }

    /// Waits for the turn of whoever ends a transaction.
    pub(crate) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// The turn of whoever adds partitions, unless somebody has it.
    pub(crate) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Whether a producer id may be asked for.
    pub(crate) fn may_initialize(&self) -> Result<()> {
        match &self.state.lock().phase {
            Phase::New => Ok(()),
            Phase::Failed(error) => Err(error.clone()),
            _ => Err(Error::TransactionState("transactions were initialized before")),
        }
    }

    /// The coordinator has given an id.
    pub(crate) fn initialized(&self, identity: ProducerIdentity, protocol: TransactionProtocol) {
        let mut state = self.state.lock();
        state.identity = Some(identity);
        state.protocol = protocol;
        state.phase = Phase::Ready;
    }

    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Ready => {
                state.phase = Phase::Open;
                Ok(())
            }
            Phase::New => Err(Error::TransactionState("initialize transactions first")),
            Phase::Failed(error) => Err(error.clone()),
            _ => Err(Error::TransactionState(
                "a transaction is under way: commit or abort it first",
            )),
        }
    }

    /// Who sends, while a transaction is open.
    pub(crate) fn opened(&self) -> Result<Opened> {
        let state = self.state.lock();
        match (&state.phase, state.identity) {
            (Phase::Open, Some(identity)) => Ok(Opened {
                identity,
                protocol: state.protocol,
            }),
            (Phase::Doomed(error) | Phase::Failed(error), _) => Err(error.clone()),
            _ => Err(Error::TransactionState("no transaction is open: begin one first")),
        }
    }

    /// The coordinator may know of the transaction from now on.
    pub(crate) fn started(&self) {
        self.state.lock().is_started = true;
    }

    /// No record is taken for the transaction any more; it is to be committed. False when that was said before and the
    /// coordinator has been asked.
    pub(crate) fn close(&self) -> Result<bool> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Open | Phase::Closing => {
                state.phase = Phase::Closing;
                Ok(true)
            }
            Phase::Ending(End::Commit) => Ok(false),
            Phase::Ending(End::Abort) => Err(Error::TransactionState("the transaction is being aborted")),
            Phase::Doomed(error) | Phase::Failed(error) => Err(error.clone()),
            Phase::New | Phase::Ready => Err(Error::TransactionState("no transaction is open")),
        }
    }

    /// No record of the transaction counts any more; it is to be aborted.
    pub(crate) fn give_up(&self) -> Result<()> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Open | Phase::Closing | Phase::Doomed(_) | Phase::Ending(End::Abort) => {
                state.phase = Phase::Ending(End::Abort);
                Ok(())
            }
            Phase::Ending(End::Commit) => Err(Error::TransactionState(
                "the transaction may be committed already: commit it again to know",
            )),
            Phase::Failed(error) => Err(error.clone()),
            Phase::New | Phase::Ready => Err(Error::TransactionState("no transaction is open")),
        }
    }

    /// All records have their answers: what is to be asked of the coordinator.
    pub(crate) fn ending(&self, end: End) -> Result<Ending> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Doomed(error) | Phase::Failed(error) => return Err(error.clone()),
            Phase::Closing => {}
            Phase::Ending(decided) if *decided == end => {}
            // Whoever closes the producer gives records up that somebody else is about to commit.
            Phase::Ending(_) => return Err(Error::TransactionState("the transaction is ended otherwise")),
            Phase::New | Phase::Ready | Phase::Open => {
                return Err(Error::TransactionState("no transaction is ending"));
            }
        }
        let identity = state
            .identity
            .ok_or(Error::TransactionState("initialize transactions first"))?;
        state.phase = Phase::Ending(end);
        Ok(Ending {
            identity,
            protocol: state.protocol,
            is_started: state.is_started,
            needs_epoch: state.has_gaps && !(state.is_started && state.protocol == TransactionProtocol::V2),
        })
    }

    /// The coordinator has ended the transaction; this is who the producer is now, if there is more to ask for.
    pub(crate) fn renamed(&self, identity: ProducerIdentity) {
        let mut state = self.state.lock();
        state.identity = Some(identity);
        state.is_started = false;
    }

    /// The transaction is over.
    pub(crate) fn ended(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ready;
        state.is_started = false;
        state.has_gaps = false;
        state.partitions.clear();
    }

    /// A record that was taken has failed: what stands in the log is not what the caller meant.
    pub(crate) fn record_failed(&self, error: &Error) {
        let mut state = self.state.lock();
        // What aborting gives up was never numbered.
        if !matches!(error, Error::TransactionAborted) {
            state.has_gaps = true;
        }
        state.lack_record(error);
    }

    /// A record was not taken, nor was it numbered. The error as callers are to see it.
    pub(crate) fn record_refused(&self, error: &Error) -> Error {
        self.state.lock().lack_record(error)
    }

    /// A coordinator has refused: the error as callers are to see it.
    pub(crate) fn refused(&self, error: Error) -> Error {
        let mut state = self.state.lock();
        let class = match (class_of_answer(&error), error.code(), &state.phase) {
            // By KIP-890 whoever asks twice is known by the epoch before: so the coordinator has aborted it, by its timeout. Asked
            // to abort it, it tells who the producer is now.
            (_, Some(ErrorCode::InvalidTxnState), Phase::Ending(End::Commit))
            // Perhaps that, perhaps another producer has the transactional id: the end of the transaction shows.
            | (_, Some(ErrorCode::InvalidProducerEpoch), Phase::Open | Phase::Closing) => {
                TransactionErrorClass::Abortable
            }
            (class, ..) => class,
        };
        match class {
            TransactionErrorClass::Retriable => error,
            TransactionErrorClass::Abortable => {
                let error = abortable(&error);
                if matches!(
                    state.phase,
                    Phase::Open | Phase::Closing | Phase::Ending(End::Commit)
                ) {
                    state.phase = Phase::Doomed(error.clone());
                }
                error
            }
            TransactionErrorClass::Fenced => {
                let error = fenced(&error);
                state.phase = Phase::Failed(error.clone());
                error
            }
            TransactionErrorClass::Fatal => {
                let error = failed(&error);
                state.phase = Phase::Failed(error.clone());
                error
            }
        }
    }

    // What the sender asks.

    /// Who sends now; `None` before the first transaction.
    pub(crate) fn identity(&self) -> Option<ProducerIdentity> {
        self.state.lock().identity
    }

    pub(crate) fn protocol(&self) -> TransactionProtocol {
        self.state.lock().protocol
    }

    pub(crate) fn permission(&self) -> Permission {
        match &self.state.lock().phase {
            Phase::Doomed(error) | Phase::Failed(error) => Permission::GiveUp(error.clone()),
            Phase::Ending(End::Abort) => Permission::GiveUpUnsent,
            Phase::New | Phase::Ready | Phase::Open | Phase::Closing | Phase::Ending(End::Commit) => {
                Permission::Send
            }
        }
    }

    /// Whether batches may go to the partition; by the first protocol the coordinator has to know of it first.
    pub(crate) fn has(&self, partition: &TopicPartition) -> bool {
        let state = self.state.lock();
        state.protocol == TransactionProtocol::V2 || state.partitions.contains(partition)
    }

    /// The coordinator knows of these partitions.
    pub(crate) fn added(&self, partitions: Vec<TopicPartition>) {
        let mut state = self.state.lock();
        state.is_started = true;
        state.partitions.extend(partitions);
    }

    /// The coordinator does not take partitions into the transaction, or does not answer.
    pub(crate) fn adding_failed(&self, error: Error) {
        if error.is_retriable() {
            // It may have taken them.
            self.started();
        }
        let error = self.refused(error);
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open | Phase::Closing) {
            state.phase = Phase::Doomed(abortable(&error));
        }
    }
}

impl State {
    /// The open transaction would count without a record that the caller meant to be in it: it must not be committed. The error as
    /// callers are to see it.
    fn lack_record(&mut self, error: &Error) -> Error {
        let (told, is_final) = match class_of_delivery(error) {
            TransactionErrorClass::Fenced => (fenced(error), true),
            TransactionErrorClass::Fatal => (failed(error), true),
            TransactionErrorClass::Abortable | TransactionErrorClass::Retriable => (abortable(error), false),
        };
        if matches!(self.phase, Phase::Open | Phase::Closing) {
            self.phase = if is_final {
                Phase::Failed(told.clone())
            } else {
                Phase::Doomed(told.clone())
            };
        }
        told
    }
}

fn abortable(error: &Error) -> Error {
    Error::TransactionAbortable {
        cause: Box::new(error.clone()),
    }
}

fn fenced(error: &Error) -> Error {
    Error::ProducerFenced {
        cause: Box::new(error.clone()),
    }
}

fn failed(error: &Error) -> Error {
    Error::TransactionFailed {
        cause: Box::new(error.clone()),
    }
}

/// What the failure of a record means for its transaction. A leader that minds the epoch may only be behind: the end of the
/// transaction shows.
fn class_of_delivery(error: &Error) -> TransactionErrorClass {
    if matches!(error, Error::Closed(_)) {
        return TransactionErrorClass::Fatal;
    }
    match error.code() {
        Some(ErrorCode::ProducerFenced) => TransactionErrorClass::Fenced,
        Some(
            ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::UnsupportedVersion,
        ) => TransactionErrorClass::Fatal,
        _ => TransactionErrorClass::Abortable,
    }
}

/// What a coordinator's answer means, as the Java client takes it.
fn class_of_answer(error: &Error) -> TransactionErrorClass {
    if error.is_retriable() {
        return TransactionErrorClass::Retriable;
    }
    match error.code() {
        Some(
            ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::UnknownProducerId,
        ) => TransactionErrorClass::Fenced,
        Some(
            ErrorCode::TransactionAbortable
            | ErrorCode::FencedInstanceId
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::StaleMemberEpoch
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::RebalanceInProgress
            | ErrorCode::OffsetMetadataTooLarge
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::OperationNotAttempted,
        ) => TransactionErrorClass::Abortable,
        _ => TransactionErrorClass::Fatal,
    }
}

#[cfg(test)]
mod tests;
