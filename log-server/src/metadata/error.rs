//! Why a request about metadata was refused: one small enum that both fronts translate, the Kafka front in
//! `kafka/error_map.rs`.

use std::sync::Arc;

use crate::config::alter::AlterError;

/// Why a request was refused or could not be carried out. The variants are Kafka's error codes, the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// `INVALID_TOPIC_EXCEPTION`: the name is not legal, is the broker's own, or collides with another.
    #[error("{0}")]
    InvalidTopic(String),
    /// `TOPIC_ALREADY_EXISTS`.
    #[error("topic {0} exists already")]
    TopicExists(String),
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    /// `UNKNOWN_TOPIC_ID`.
    #[error("there is no topic with id {0}")]
    UnknownTopicId(log_core::model::TopicId),
    /// `INVALID_PARTITIONS`.
    #[error("{0}")]
    InvalidPartitions(String),
    /// `INVALID_REPLICATION_FACTOR`.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// `INVALID_REPLICA_ASSIGNMENT`.
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// `INVALID_CONFIG`.
    #[error("{0}")]
    InvalidConfig(String),
    /// `INVALID_REQUEST`.
    #[error("{0}")]
    InvalidRequest(String),
    /// `POLICY_VIOLATION`.
    #[error("{0}")]
    PolicyViolation(String),
    /// `TOPIC_DELETION_DISABLED`.
    #[error("topics cannot be deleted: delete.topic.enable is false")]
    TopicDeletionDisabled,
    /// `KAFKA_STORAGE_ERROR`: the change did not reach the disk, and is not in force.
    #[error("{0}")]
    Storage(Arc<str>),
    /// `NOT_CONTROLLER`: the broker is stopping.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

impl ControllerError {
    /// A failed alteration, in Kafka's two codes for it.
    #[must_use]
    pub fn from_alteration(error: &AlterError) -> Self {
        match error {
            AlterError::Null { .. }
            | AlterError::Twice { .. }
            | AlterError::ReadOnly { .. }
            | AlterError::Subscription(_) => Self::InvalidRequest(error.to_string()),
            AlterError::NotAList { .. } | AlterError::Config(_) => Self::InvalidConfig(error.to_string()),
        }
    }
}
