//! What can go wrong between a client and a cluster, classified by what to do about it.
//!
//! Every error answers three questions: may the same request be sent again ([`Error::is_retriable`]), is
//! the client's picture of the cluster stale ([`Error::wants_metadata`]), and what should the person in
//! front of it do ([`Error::advice`]). Errors are cheap to clone: one failed batch tells each of its records.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log_core::model::{Offset, TopicPartition};
use log_core::protocol::{ApiKey, CodecError, ErrorCode};

/// The result of a client operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a client operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address that was tried.
        address: Arc<str>,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A connection was lost with the request on its way: whether it was carried out is unknown.
    #[error("lost the connection to {address}: {reason}")]
    Disconnected {
        /// The other side.
        address: Arc<str>,
        /// How it was lost.
        reason: Arc<str>,
    },
    /// The broker did not answer in time: whether the request was carried out is unknown.
    #[error("{address} did not answer {api:?} within {} ms", after.as_millis())]
    RequestTimedOut {
        /// The other side.
        address: Arc<str>,
        /// The request.
        api: ApiKey,
        /// How long the client waited.
        after: Duration,
    },
    /// The broker answered with an error code.
    #[error("{0}")]
    Broker(Arc<BrokerError>),
    /// Broker and client have no version of the API in common.
    #[error("{address} does not serve {api:?} in a version that this client speaks (broker: {}, client: {}–{})",
        VersionRange(*broker), client.0, client.1)]
    UnsupportedApi {
        /// The other side.
        address: Arc<str>,
        /// The API.
        api: ApiKey,
        /// What the client speaks, lowest and highest.
        client: (i16, i16),
        /// What the broker offers, if it offers it at all.
        broker: Option<(i16, i16)>,
    },
    /// An answer that is not what the protocol says.
    #[error("{address} answered {api:?} with bytes that are not a response: {source}")]
    Malformed {
        /// The other side.
        address: Arc<str>,
        /// The request.
        api: ApiKey,
        /// What the codec said.
        source: Arc<CodecError>,
    },
    /// An answer that cannot be true, such as one that lacks the partition that was asked for.
    #[error("{address} answered {api:?} with nonsense: {what}")]
    Unexpected {
        /// The other side.
        address: Arc<str>,
        /// The request.
        api: ApiKey,
        /// What was wrong with it.
        what: Arc<str>,
    },
    /// A request that the protocol cannot express.
    #[error("{api:?} cannot be written: {source}")]
    Unwritable {
        /// The request.
        api: ApiKey,
        /// What the codec said.
        source: Arc<CodecError>,
    },
    /// No broker answered.
    #[error("no broker can be reached (tried {tried}); the last one: {last}")]
    NoBroker {
        /// The addresses that were tried.
        tried: Arc<str>,
        /// What the last one said.
        last: Box<Error>,
    },
    /// A broker that the metadata does not name (any more).
    #[error("the cluster has no broker {id}")]
    UnknownBroker {
        /// Its number.
        id: i32,
    },
    /// The partition has no leader that the cluster knows of.
    #[error("{partition} has no leader at the moment")]
    NoLeader {
        /// The partition.
        partition: TopicPartition,
    },
    /// The topic has fewer partitions.
    #[error("{topic} has {count} partitions, so there is no partition {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition that was asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// A record was not acknowledged before its delivery timeout.
    #[error("{partition}: not acknowledged within {} ms{}", after.as_millis(), LastError(last.as_deref()))]
    DeliveryTimedOut {
        /// Where it was to go.
        partition: TopicPartition,
        /// The delivery timeout.
        after: Duration,
        /// The last thing that went wrong on the way.
        last: Option<Box<Error>>,
    },
    /// An answer was lost, and the broker no longer knows whether it has the record. Sending it again could
    /// append it twice.
    #[error("{partition}: it is not known whether the record was appended; the last attempt: {last}")]
    OutcomeUnknown {
        /// Where it was to go.
        partition: TopicPartition,
        /// What the broker said when it was asked again.
        last: Box<Error>,
    },
    /// The producer's memory stayed full.
    #[error("the producer's {memory} bytes of buffer stayed full for {} ms", after.as_millis())]
    BufferFull {
        /// `buffer_memory`.
        memory: usize,
        /// `max_block`.
        after: Duration,
    },
    /// One record is larger than a request may be.
    #[error("a record of {size} bytes is larger than the {limit} bytes a request may have")]
    RecordTooLarge {
        /// The record's size in a batch of its own.
        size: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// The record stood in a batch with another that the broker refuses.
    #[error("not appended, because it shared a batch with a record that was refused: {first}")]
    InvalidNeighbour {
        /// What was wrong with the other one.
        first: Arc<str>,
    },
    /// A batch in a fetched response is damaged.
    #[error("{partition}: the batch at offset {offset} is damaged: {what}")]
    CorruptBatch {
        /// Where it was fetched from.
        partition: TopicPartition,
        /// The offset it claims, or the one that was asked for.
        offset: Offset,
        /// What is wrong with it.
        what: Arc<str>,
    },
    /// The position lies outside of what the partition holds.
    #[error("{partition}: offset {position} is outside of the log")]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was asked for.
        position: Offset,
    },
    /// The group has committed nothing for the partition, and the settings do not say where to begin.
    #[error("{partition}: the group {group} has committed no offset for it")]
    NoCommittedOffset {
        /// The group.
        group: Arc<str>,
        /// The partition.
        partition: TopicPartition,
    },
    /// The log was cut back behind the consumer's position: records that it was given exist no more.
    #[error("{partition}: the log now ends at {end}, before the position {position}")]
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The consumer's position.
        position: Offset,
        /// Where the log diverges from what the consumer has read.
        end: Offset,
    },
    /// The task that keeps the consumer in its group has ended, by a mistake of this library or with its runtime.
    #[error("the task that kept the consumer in its group has ended")]
    MembershipEnded,
    /// Something went wrong in a transaction that its end mends: abort it, and what was to be done can be done again.
    #[error("the transaction has to be aborted: {cause}")]
    TransactionAbortable {
        /// What went wrong.
        cause: Box<Error>,
    },
    /// Another producer has the transactional id, or the coordinator has forgotten it. This one can do nothing any more.
    #[error("the transactional producer is fenced: {cause}")]
    ProducerFenced {
        /// What the broker said.
        cause: Box<Error>,
    },
    /// The transactional producer cannot go on, and another one with the same settings could not either.
    #[error("the transactional producer cannot go on: {cause}")]
    TransactionFailed {
        /// What went wrong.
        cause: Box<Error>,
    },
    /// A call that does not fit what the transactional producer is doing: nothing was done.
    #[error("{0}")]
    TransactionState(&'static str),
    /// The record was given up, because its transaction was aborted. It was not appended.
    #[error("not appended, because its transaction was aborted")]
    TransactionAborted,
    /// The producer or connection was closed.
    #[error("the {0} is closed")]
    Closed(&'static str),
    /// Settings that contradict each other.
    #[error("{0}")]
    InvalidConfig(Arc<str>),
}

/// What to do about an error of a transactional producer (KIP-1050).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionErrorClass {
    /// The same call may succeed when it is made again.
    Retriable,
    /// Abort the transaction, and do it again.
    Abortable,
    /// Make a new producer, and do the transaction again with it. Kafka says "application recoverable".
    Fenced,
    /// Nothing helps but other settings, rights or code. Kafka says "invalid configuration".
    Fatal,
}

/// The error code of one response, with what it was about.
#[derive(Debug, Clone)]
pub struct BrokerError {
    /// The request.
    pub api: ApiKey,
    /// The code.
    pub code: ErrorCode,
    /// The topic, partition or resource it is about; empty when it is about the whole request.
    pub subject: String,
    /// What the broker added in words.
    pub message: Option<String>,
}

impl std::fmt::Display for BrokerError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.subject.is_empty() {
            write!(formatter, "{}: ", self.subject)?;
        }
        write!(formatter, "{:?}", self.code)?;
        match &self.message {
            Some(message) => write!(formatter, " ({message})"),
            None => write!(formatter, " ({})", self.code),
        }
    }
}

struct VersionRange(Option<(i16, i16)>);

impl std::fmt::Display for VersionRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some((lowest, highest)) => write!(formatter, "{lowest}–{highest}"),
            None => formatter.write_str("none"),
        }
    }
}

struct LastError<'a>(Option<&'a Error>);

impl std::fmt::Display for LastError<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(error) => write!(formatter, "; the last attempt: {error}"),
            None => Ok(()),
        }
    }
}

/// `Err` when `code` is an error, with what it is about.
pub(crate) fn check(api: ApiKey, code: i16, subject: &str, message: Option<&str>) -> Result<()> {
    let code = ErrorCode::from(code);
    if code.is_error() {
        Err(Error::broker(api, code, subject, message))
    } else {
        Ok(())
    }
}

impl Error {
    pub(crate) fn broker(
        api: ApiKey,
        code: ErrorCode,
        subject: impl Into<String>,
        message: Option<&str>,
    ) -> Self {
        Self::Broker(Arc::new(BrokerError {
            api,
            code,
            subject: subject.into(),
            message: message.filter(|text| !text.is_empty()).map(str::to_owned),
        }))
    }

    pub(crate) fn config(text: impl Into<Arc<str>>) -> Self {
        Self::InvalidConfig(text.into())
    }

    /// The broker's error code, when there is one behind it.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(error) => Some(error.code),
            Self::NoBroker { last, .. } | Self::OutcomeUnknown { last, .. } => last.code(),
            Self::DeliveryTimedOut { last, .. } => last.as_ref().and_then(|error| error.code()),
            Self::TransactionAbortable { cause }
            | Self::ProducerFenced { cause }
            | Self::TransactionFailed { cause } => cause.code(),
            _ => None,
        }
    }

    /// What to do about an error of a transactional producer.
    #[must_use]
    pub fn transaction_class(&self) -> TransactionErrorClass {
        match self {
            Self::TransactionAbortable { .. } => TransactionErrorClass::Abortable,
            Self::ProducerFenced { .. } => TransactionErrorClass::Fenced,
            _ if self.is_retriable() => TransactionErrorClass::Retriable,
            _ => TransactionErrorClass::Fatal,
        }
    }

    /// Whether the same request may succeed when it is sent again.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::RequestTimedOut { .. }
            | Self::NoBroker { .. }
            | Self::UnknownBroker { .. }
            | Self::NoLeader { .. }
            | Self::CorruptBatch { .. } => true,
            Self::Broker(error) => code_is_retriable(error.code),
            _ => false,
        }
    }

    /// Whether the client's picture of the cluster should be fetched again before the next attempt.
    #[must_use]
    pub fn wants_metadata(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::RequestTimedOut { .. }
            | Self::NoBroker { .. }
            | Self::UnknownBroker { .. }
            | Self::NoLeader { .. }
            | Self::NoSuchPartition { .. } => true,
            Self::Broker(error) => code_wants_metadata(error.code),
            _ => false,
        }
    }

    /// Whether the cause is that no broker could be reached or none answered.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::RequestTimedOut { .. }
            | Self::NoBroker { .. } => true,
            Self::DeliveryTimedOut { last, .. } => last.as_ref().is_some_and(|error| error.is_unreachable()),
            _ => false,
        }
    }

    /// What to do next, in a sentence; `None` where nothing better can be said than the error itself.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Connect { .. } | Self::NoBroker { .. } => {
                Some("Check that the broker runs and that the address and port are right.")
            }
            Self::Disconnected { .. } => {
                Some("Check the broker's log for the reason; the port may also speak another protocol.")
            }
            Self::RequestTimedOut { .. } => {
                Some("The broker is overloaded or hangs, or the port speaks another protocol.")
            }
            Self::UnsupportedApi { .. } => Some("Use a broker that serves this operation."),
            Self::NoLeader { .. } => Some("Wait until the broker that holds the partition is back."),
            Self::NoSuchPartition { .. } => Some("Choose a lower partition, or add partitions to the topic."),
            Self::OutcomeUnknown { .. } => Some("Look into the topic before you send it again."),
            Self::DeliveryTimedOut { last: Some(last), .. } => last.advice(),
            Self::DeliveryTimedOut { last: None, .. } | Self::BufferFull { .. } => {
                Some("Send more slowly, or allow more buffer memory or a longer timeout.")
            }
            Self::RecordTooLarge { .. } => Some(
                "Raise the producer's request_bytes_max and the topic's max.message.bytes, or send less.",
            ),
            Self::CorruptBatch { .. } => {
                Some("Check the broker's data directory with `stratalog log verify`.")
            }
            Self::NoCommittedOffset { .. } => {
                Some("Say where to begin: seek, or set auto.offset.reset to earliest or latest.")
            }
            Self::TransactionAbortable { cause } => {
                cause.advice().or(Some("Abort the transaction, and do it again."))
            }
            Self::ProducerFenced { .. } => {
                Some("Make a new producer; if two have the same transactional id, give one of them another.")
            }
            Self::TransactionFailed { cause } => cause.advice(),
            Self::MembershipEnded => Some("Subscribe again to join the group anew."),
            Self::OffsetOutOfRange { .. } => Some("Start from the earliest or the latest offset."),
            Self::LogTruncated { .. } => Some("Seek to the offset where the log ends, or start again."),
            Self::Broker(error) => code_advice(error.code),
            _ => None,
        }
    }
}

/// The codes after which the same request may succeed.
fn code_is_retriable(code: ErrorCode) -> bool {
    code_wants_metadata(code)
        || code.is_retriable()
        || matches!(
            code,
            ErrorCode::ConcurrentTransactions | ErrorCode::UnknownLeaderEpoch | ErrorCode::BrokerNotAvailable
        )
}

/// The codes that say: you asked the wrong broker, or about something that has changed.
fn code_wants_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::NotController
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::ListenerNotFound
            | ErrorCode::NetworkException
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
    )
}

fn code_advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            "List the topics to see which exist, or create it."
        }
        ErrorCode::TopicAlreadyExists => "Choose another name, or alter the topic that exists.",
        ErrorCode::InvalidTopicException => {
            "Names have 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'."
        }
        ErrorCode::InvalidConfig => "Describe a topic with all its settings to see their names and values.",
        ErrorCode::InvalidPartitions => "A topic has at least one partition and never loses one.",
        ErrorCode::InvalidReplicationFactor => "Ask for as many replicas as there are brokers, or for 1.",
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "Raise the topic's max.message.bytes, or send smaller records."
        }
        ErrorCode::KafkaStorageError => {
            "The broker's disk is full or failing; its log says which. Reads go on."
        }
        ErrorCode::OffsetOutOfRange => "Start from the earliest or the latest offset.",
        ErrorCode::UnsupportedCompressionType => "Choose another compression.",
        ErrorCode::InvalidRecord => "A compacted topic takes only records with a key.",
        ErrorCode::InvalidTimestamp => {
            "Check the unit of the timestamps (milliseconds), or the topic's message.timestamp limits."
        }
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed => "Ask for the right to do this, or use another account.",
        ErrorCode::SaslAuthenticationFailed => "Check the user name and the password.",
        ErrorCode::GroupIdNotFound => "List the groups to see which exist.",
        ErrorCode::TransactionalIdNotFound => {
            "List the transactions to see which transactional ids exist; one that is not used for long is forgotten."
        }
        ErrorCode::InconsistentGroupProtocol => {
            "Use the protocol, and one of the assignors, of those who are in the group; describing it shows them."
        }
        ErrorCode::NonEmptyGroup => "Stop the group's consumers first; describing the group shows them.",
        ErrorCode::GroupSubscribedToTopic => "Stop the group's consumers of the topic first.",
        ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::FencedMemberEpoch => {
            "The group has gone on without this member, or it has members that commit for themselves."
        }
        ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId => {
            "Another member has the same group.instance.id."
        }
        ErrorCode::RebalanceInProgress => "Poll, and commit after that.",
        ErrorCode::PolicyViolation => "A policy of the broker forbids it.",
        ErrorCode::ThrottlingQuotaExceeded => "The quota is used up; try again later.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_enough_to_return() {
        assert!(
            std::mem::size_of::<Error>() <= 72,
            "{}",
            std::mem::size_of::<Error>()
        );
    }

    #[test]
    fn codes_are_classified_as_the_java_client_classifies_them() {
        let check = |code, retriable, metadata| {
            let error = Error::broker(ApiKey::Produce, code, "t-0", None);
            assert_eq!(
                (error.is_retriable(), error.wants_metadata()),
                (retriable, metadata),
                "{code:?}"
            );
        };
        check(ErrorCode::NotLeaderOrFollower, true, true);
        check(ErrorCode::KafkaStorageError, true, true);
        check(ErrorCode::FencedLeaderEpoch, true, true);
        check(ErrorCode::InconsistentTopicId, true, true);
        check(ErrorCode::RequestTimedOut, true, false);
        check(ErrorCode::NotEnoughReplicas, true, false);
        check(ErrorCode::CorruptMessage, true, false);
        check(ErrorCode::MessageTooLarge, false, false);
        check(ErrorCode::InvalidRecord, false, false);
        check(ErrorCode::OutOfOrderSequenceNumber, false, false);
        check(ErrorCode::UnsupportedVersion, false, false);
        check(ErrorCode::Unknown(999), false, false);
    }

    #[test]
    fn the_text_says_what_and_what_to_do() {
        let error = Error::broker(
            ApiKey::Metadata,
            ErrorCode::UnknownTopicOrPartition,
            "orders",
            None,
        );
        assert_eq!(
            error.to_string(),
            "orders: UnknownTopicOrPartition (This server does not host this topic-partition.)"
        );
        assert_eq!(
            error.advice(),
            Some("List the topics to see which exist, or create it.")
        );
    }
}
