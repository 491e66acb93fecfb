//! What a group's coordinator refuses, in the field's words. The fronts turn these into codes and
//! statuses.

use log_core::producer_state::manager::ProducerStateError;

/// Why a command about a group is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group's partition is being read; ask again.
    #[error("the coordinator is loading the group's state: try again")]
    LoadInProgress,
    /// The group's partition cannot be written or read now; ask again.
    #[error("the coordinator cannot serve the group now: {0}")]
    NotAvailable(String),
    /// The group's partition cannot be read: its log is damaged, or its disk gone. That stays until somebody mends it.
    #[error("the coordinator cannot read the group's state: {0}")]
    Unreadable(String),
    /// The broker stops, or the group's partition was lost.
    #[error("this broker no longer coordinates the group")]
    NotCoordinator,
    /// A name that no group may have.
    #[error("the group id must not be empty")]
    InvalidGroupId,
    /// There is no such group, or it is of another kind.
    #[error("{0}")]
    GroupIdNotFound(String),
    /// The group is in use.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// The group's members read the topic.
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    /// No more members are admitted.
    #[error("The consumer group has reached its maximum capacity of {0} members.")]
    GroupMaxSizeReached(usize),
    /// The member is not, or no longer, one of the group's.
    #[error("{0}")]
    UnknownMemberId(String),
    /// Join again with the id in the answer.
    #[error("join again with the member id of this answer")]
    MemberIdRequired,
    /// A generation that is not the group's.
    #[error("the generation is not the group's")]
    IllegalGeneration,
    /// The group is changing; join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The member's protocols and the group's have none in common, or their type differs.
    #[error("the member's protocols do not fit the group's")]
    InconsistentGroupProtocol,
    /// Outside the broker's range.
    #[error("the session timeout must be between {min} and {max} ms")]
    InvalidSessionTimeout {
        /// The least.
        min: i32,
        /// The most.
        max: i32,
    },
    /// Another member took over the static id.
    #[error("another member joined with the same group.instance.id")]
    FencedInstanceId,
    /// The same in a KIP-848 group, where it is said which member.
    #[error("{0}")]
    FencedStaticMember(String),
    /// The static id's member has not left.
    #[error("{0}")]
    UnreleasedInstanceId(String),
    /// The member has to join again, from epoch 0.
    #[error("{0}")]
    FencedMemberEpoch(String),
    /// The member's epoch is behind; it learns the new one by its next heartbeat.
    #[error("{0}")]
    StaleMemberEpoch(String),
    /// An assignor that the broker does not have.
    #[error("{0}")]
    UnsupportedAssignor(String),
    /// A pattern that is not one.
    #[error("{0}")]
    InvalidRegularExpression(String),
    /// The version of the request cannot say what it would have to.
    #[error("{0}")]
    UnsupportedVersion(String),
    /// A request that contradicts itself.
    #[error("{0}")]
    InvalidRequest(String),
    /// A commit's text is too long.
    #[error("the commit's metadata is longer than {0} bytes")]
    OffsetMetadataTooLarge(usize),
    /// A partition that does not exist.
    #[error("there is no such topic or partition")]
    UnknownTopicOrPartition,
    /// A topic id that does not exist.
    #[error("there is no topic with this id")]
    UnknownTopicId,
    /// A commit of a transaction that is not under way, or of a producer that was replaced.
    #[error(transparent)]
    Producer(ProducerStateError),
    /// An offset that a transaction has not decided.
    #[error("a transaction has yet to decide on the offset")]
    UnstableOffsetCommit,
}
