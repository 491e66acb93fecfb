//! What the coordinator of transactions refuses, in the field's words.
//! The fronts turn these into codes.

/// Why a command about a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The transactional id's partition is being read; ask again.
    #[error("the coordinator is loading the transaction's state: try again")]
    LoadInProgress,
    /// The transactional id's partition cannot be written or read now; ask again.
    #[error("the coordinator cannot serve the transaction now: {0}")]
    NotAvailable(String),
    /// The transactional id's partition cannot be read: its log is damaged, or its disk gone. That stays until somebody mends it.
    #[error("the coordinator cannot read the transaction's state: {0}")]
    Unreadable(String),
    /// The broker stops, or the transactional id's partition was lost.
    #[error("this broker no longer coordinates the transaction")]
    NotCoordinator,
    /// A request that contradicts itself.
    #[error("{0}")]
    InvalidRequest(String),
    /// Longer than `transaction.max.timeout.ms`, or none at all.
    #[error("the transaction's timeout must be between 1 and {max} ms")]
    InvalidTransactionTimeout {
        /// The broker's limit.
        max: i32,
    },
    /// The transactional id has another producer id, or is not known.
    #[error("the producer id is not that of the transactional id")]
    InvalidProducerIdMapping,
    /// Another producer with the transactional id began later.
    #[error("a newer producer with the same transactional id fenced this one")]
    ProducerFenced,
    /// An earlier transaction is being ended; ask again.
    #[error("the producer's last transaction is still being ended: try again")]
    ConcurrentTransactions,
    /// What is asked for does not follow from the state.
    #[error("the transaction is in a state in which that cannot be done")]
    InvalidTxnState,
    /// The partition is not part of the transaction: the producer has to abort it.
    #[error("the partition is not part of the transaction: abort it")]
    TransactionAbortable,
    /// Nobody knows the transactional id.
    #[error("there is no such transactional id")]
    TransactionalIdNotFound,
    /// No producer id can be given out now; ask again.
    #[error("no producer id can be given out: {0}")]
    NoProducerId(String),
}
