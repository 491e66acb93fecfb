//! The records of `__consumer_offsets`, as values. Their bytes are Kafka's, so that its tools and lag readers understand them.
//!
//! A value of `None` is a tombstone: what the key names is no more.

mod classic_group;
pub mod codec;
mod consumer_current_member;
mod consumer_group;
mod consumer_member;
mod consumer_regex;
mod consumer_target;
mod offset_commit;
mod partition_metadata;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::bytes::Bytes;
use log_core::model::TopicId;

/// One record: a key, and what it now stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// How far a group has read a partition.
    OffsetCommit {
        /// The group.
        group: Arc<str>,
        /// The topic, by name.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The commit.
        value: Option<OffsetCommitValue>,
    },
    /// A classic group after a rebalance.
    ClassicGroup {
        /// The group.
        group: Arc<str>,
        /// Its state.
        value: Option<ClassicGroupValue>,
    },
    /// A KIP-848 group's epoch.
    ConsumerGroup {
        /// The group.
        group: Arc<str>,
        /// Its state.
        value: Option<ConsumerGroupValue>,
    },
    /// What partitions a KIP-848 group's topics had (written by Kafka before 4.1; here only tombstones are).
    ConsumerPartitionMetadata {
        /// The group.
        group: Arc<str>,
        /// Not looked into: whether there is one.
        exists: bool,
    },
    /// A KIP-848 member as it described itself.
    ConsumerMember {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// What it said.
        value: Option<ConsumerMemberValue>,
    },
    /// The epoch of a KIP-848 group's target assignment.
    ConsumerTargetEpoch {
        /// The group.
        group: Arc<str>,
        /// The epoch.
        value: Option<ConsumerTargetEpochValue>,
    },
    /// What a KIP-848 member is to have.
    ConsumerTargetMember {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// Its partitions.
        value: Option<Vec<TopicPartitions>>,
    },
    /// What a KIP-848 member has.
    ConsumerCurrentMember {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// Its epoch and partitions.
        value: Option<ConsumerCurrentMemberValue>,
    },
    /// The topics that a pattern of a KIP-848 group matched.
    ConsumerRegex {
        /// The group.
        group: Arc<str>,
        /// The pattern.
        regex: Arc<str>,
        /// What it matched.
        value: Option<ConsumerRegexValue>,
    },
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitValue {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to remember.
    pub metadata: Arc<str>,
    /// When it was committed, milliseconds since 1970.
    pub commit_timestamp_ms: i64,
    /// When it expires, if the client said so (versions 2 to 4 of `OffsetCommit`).
    pub expire_timestamp_ms: Option<i64>,
    /// The topic's id; zero if unknown.
    pub topic_id: TopicId,
}

/// A classic group as it was when its leader had spoken, or when its last member had left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroupValue {
    /// "consumer", "connect", …; empty for a group that only commits.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Option<Arc<str>>,
    /// Since when it is as it is; -1 if unknown.
    pub state_timestamp_ms: i64,
    /// The members.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it came from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// How long a rebalance may wait for it.
    pub rebalance_timeout_ms: i32,
    /// After how long without a heartbeat it is gone.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

/// A KIP-848 group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerGroupValue {
    /// Its epoch.
    pub epoch: i32,
    /// A hash of the topics it reads; 0 if unknown.
    pub metadata_hash: i64,
}

/// What a KIP-848 member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberValue {
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it came from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Topics by name, in order.
    pub subscribed_topics: Vec<Arc<str>>,
    /// Topics by pattern.
    pub subscribed_regex: Option<Arc<str>>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// The assignor it wants.
    pub server_assignor: Option<Arc<str>>,
    /// If it speaks the classic protocol: what it said there.
    pub classic: Option<ClassicMemberMetadata>,
}

/// What a classic member of a KIP-848 group said when it joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    /// After how long without a heartbeat it is gone.
    pub session_timeout_ms: i32,
    /// Its protocols and their metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// The epoch of a target assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerTargetEpochValue {
    /// The group epoch that it was computed for.
    pub assignment_epoch: i32,
    /// When (Kafka's `AssignmentTimestamp`, since 4.3 a tagged field, tag 0; 0 if unknown).
    pub assignment_timestamp_ms: i64,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartitions {
    /// The topic.
    pub topic_id: TopicId,
    /// Its partitions, in order.
    pub partitions: Vec<i32>,
}

/// Partitions of one topic that a member has, and since which of its epochs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AssignedPartitions {
    /// The topic.
    pub topic_id: TopicId,
    /// Its partitions, in order.
    pub partitions: Vec<i32>,
    /// The epoch in which each came to the member, in the same order (Kafka's `AssignmentEpochs`, since 4.3 a tagged field of
    /// the topic, tag 0). Empty if it is not known: then it is the member's epoch.
    pub assignment_epochs: Vec<i32>,
}

/// Where a KIP-848 member stands on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has its target.
    Stable,
    /// It has to give partitions up.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// Written by a newer broker.
    Unknown,
}

/// A KIP-848 member's epoch and partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerCurrentMemberValue {
    /// Its epoch.
    pub member_epoch: i32,
    /// The epoch before.
    pub previous_member_epoch: i32,
    /// Where it stands.
    pub state: MemberState,
    /// What it reads.
    pub assigned: Vec<AssignedPartitions>,
    /// What it was told to give up and has not.
    pub pending_revocation: Vec<AssignedPartitions>,
}

/// What a pattern matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRegexValue {
    /// The topics, in order.
    pub topics: Vec<Arc<str>>,
    /// The version of the topics it was resolved against.
    pub version: i64,
    /// When.
    pub timestamp_ms: i64,
}
