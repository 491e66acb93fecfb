//! Why a host does not carry out a command.
//! Each kind of coordinator says it in its own words.

use log_core::producer_state::manager::ProducerStateError;

use crate::coordinator::group::error::GroupError;
use crate::coordinator::transaction::error::TransactionError;

/// What a host refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HostError {
    /// The partition is being read; ask again.
    #[error("the coordinator is loading its state: try again")]
    LoadInProgress,
    /// The partition cannot be written or read now; ask again.
    #[error("the coordinator cannot serve now: {0}")]
    NotAvailable(String),
    /// The partition cannot be read: its log is damaged, or its disk gone. That stays until somebody mends it.
    #[error("the coordinator cannot read its state: {0}")]
    Unreadable(String),
    /// The broker stops, or the shard was lost.
    #[error("this broker no longer coordinates it")]
    NotCoordinator,
    /// The records that the command would need cannot be written.
    #[error("{0}")]
    InvalidRequest(String),
    /// They belong to a transaction that is not under way, or to a producer that was replaced.
    #[error(transparent)]
    Producer(ProducerStateError),
}

impl From<HostError> for GroupError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::LoadInProgress => Self::LoadInProgress,
            HostError::NotAvailable(reason) => Self::NotAvailable(reason),
            HostError::Unreadable(reason) => Self::Unreadable(reason),
            HostError::NotCoordinator => Self::NotCoordinator,
            HostError::InvalidRequest(reason) => Self::InvalidRequest(reason),
            HostError::Producer(error) => Self::Producer(error),
        }
    }
}

impl From<HostError> for TransactionError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::LoadInProgress => Self::LoadInProgress,
            HostError::NotAvailable(reason) => Self::NotAvailable(reason),
            HostError::Unreadable(reason) => Self::Unreadable(reason),
            HostError::NotCoordinator => Self::NotCoordinator,
            HostError::InvalidRequest(reason) => Self::InvalidRequest(reason),
            // No record of a transaction's own state is part of a transaction.
            HostError::Producer(error) => Self::InvalidRequest(error.to_string()),
        }
    }
}
