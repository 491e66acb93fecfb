//! Groups: which there are, who is in them and what they read, and deleting them.
//!
//! Groups are known to their coordinators alone: a list is put together from all brokers, and a description is
//! asked of the coordinator, first as of a consumer group (KIP-848), then as of a classic one.

use std::collections::BTreeMap;

use log_core::model::TopicPartition;
use log_core::protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as DescribedConsumerGroup, Member,
};
use log_core::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use log_core::protocol::messages::{
    ConsumerGroupDescribeRequestData, DeleteGroupsRequestData, DescribeGroupsRequestData,
    ListGroupsRequestData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::Admin;
use crate::cluster::Lane;
use crate::consumer_protocol::{PROTOCOL_TYPE, decode_assignment, decode_subscription};
use crate::coordinator::Coordinator;
use crate::error::{self, Error, Result};
use crate::metadata::BrokerId;

/// From this version on the list has states and can be filtered by them.
const VERSION_WITH_STATES: i16 = 4;

/// From this version on the list has types and can be filtered by them.
const VERSION_WITH_TYPES: i16 = 5;

/// What a group is doing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// A consumer group that works out who reads what.
    Assigning,
    /// A consumer group whose members move towards what they are to read.
    Reconciling,
    /// A classic group whose members join again.
    PreparingRebalance,
    /// A classic group whose leader works out who reads what.
    CompletingRebalance,
    /// Every member reads what it is to read.
    Stable,
    /// It does not exist, or is about to end.
    Dead,
    /// Another state, by its name in the protocol.
    Other(String),
}

impl GroupState {
    /// The state with this name in the protocol.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "Empty" => Self::Empty,
            "Assigning" => Self::Assigning,
            "Reconciling" => Self::Reconciling,
            "PreparingRebalance" => Self::PreparingRebalance,
            "CompletingRebalance" => Self::CompletingRebalance,
            "Stable" => Self::Stable,
            "Dead" => Self::Dead,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Its name in the protocol.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
            Self::Other(name) => name,
        }
    }
}

impl std::fmt::Display for GroupState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What kind of group it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupType {
    /// Its members work out who does what (`JoinGroup`); not only consumers use it.
    Classic,
    /// The coordinator works out who reads what (KIP-848).
    Consumer,
    /// Its members share partitions record by record (KIP-932).
    Share,
    /// Kafka Streams (KIP-1071).
    Streams,
    /// Another kind, by its name in the protocol.
    Other(String),
}

impl GroupType {
    /// The kind with this name in the protocol, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "classic" => Self::Classic,
            "consumer" => Self::Consumer,
            "share" => Self::Share,
            "streams" => Self::Streams,
            _ => Self::Other(name.to_owned()),
        }
    }

    /// Its name in the protocol.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
            Self::Other(name) => name,
        }
    }
}

impl std::fmt::Display for GroupType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which groups a list is to have; no states or no types means all.
#[derive(Debug, Clone, Default)]
pub struct GroupFilter {
    /// Groups in one of these states.
    pub states: Vec<GroupState>,
    /// Groups of one of these kinds.
    pub types: Vec<GroupType>,
}

/// A group in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub group_id: String,
    /// What its members do, such as "consumer"; empty for a classic group that only has offsets.
    pub protocol_type: String,
    /// What it is doing, if the broker says.
    pub state: Option<GroupState>,
    /// What kind of group it is, if the broker says.
    pub kind: Option<GroupType>,
    /// The broker that keeps it.
    pub coordinator: BrokerId,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group_id: String,
    /// What kind of group it is.
    pub kind: GroupType,
    /// What it is doing.
    pub state: GroupState,
    /// What its members do, such as "consumer".
    pub protocol_type: String,
    /// What works out who reads what; empty while nothing does.
    pub assignor: String,
    /// Counts the changes of a consumer group.
    pub group_epoch: Option<i32>,
    /// The change for which who reads what was worked out.
    pub assignment_epoch: Option<i32>,
    /// The broker that keeps it.
    pub coordinator: BrokerId,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
}

impl GroupDescription {
    /// Who reads a partition.
    #[must_use]
    pub fn owner(&self, partition: &TopicPartition) -> Option<&MemberDescription> {
        self.members
            .iter()
            .find(|member| member.assignment.contains(partition))
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// The name it keeps over restarts, if it has one.
    pub instance_id: Option<String>,
    /// How it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Where it stands, if it says.
    pub rack_id: Option<String>,
    /// Counts its steps, in a consumer group.
    pub epoch: Option<i32>,
    /// Whether it takes part in a consumer group by the classic protocol.
    pub is_classic: bool,
    /// The topics it wants to read by name.
    pub topics: Vec<String>,
    /// The expression for the topics it wants to read, if it gave one.
    pub topic_regex: Option<String>,
    /// What it reads.
    pub assignment: Vec<TopicPartition>,
    /// What it is to read, in a consumer group.
    pub target: Option<Vec<TopicPartition>>,
}

impl Admin {
    /// The groups of all brokers, by name.
    ///
    /// # Errors
    /// When one of the brokers does not answer, or cannot filter as asked.
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<Vec<GroupListing>> {
        self.cluster.refresh(self.cluster.metadata().generation).await?;
        let brokers: Vec<_> = self.cluster.metadata().brokers.keys().copied().collect();
        let lists = brokers.into_iter().map(|broker| self.groups_of(broker, filter));
        let lists = futures_util::future::try_join_all(lists).await?;
        // A group that moves while the brokers are asked may be told of twice.
        let groups: BTreeMap<_, _> = lists
            .into_iter()
            .flatten()
            .map(|group| (group.group_id.clone(), group))
            .collect();
        Ok(groups.into_values().collect())
    }

    async fn groups_of(&self, broker: BrokerId, filter: &GroupFilter) -> Result<Vec<GroupListing>> {
        let request = ListGroupsRequestData {
            states_filter: filter.states.iter().map(|state| text(state.name())).collect(),
            types_filter: filter.types.iter().map(|kind| text(kind.name())).collect(),
            ..ListGroupsRequestData::default()
        };
        let lowest = if !filter.types.is_empty() {
            VERSION_WITH_TYPES
        } else if !filter.states.is_empty() {
            VERSION_WITH_STATES
        } else {
            0
        };
        let backoff = self.cluster.config().retry_backoff;
        crate::retry::until(backoff, self.deadline(), |_, _| async {
            let connection = self.cluster.connection(broker, Lane::General).await?;
            let version = connection.version_from(ApiKey::ListGroups, lowest)?;
            let response = connection
                .call_version(&request, version, connection.request_timeout())
                .await?;
            error::check(ApiKey::ListGroups, response.error_code, "", None)?;
            Ok(response
                .groups
                .iter()
                .map(|row| GroupListing {
                    group_id: row.group_id.to_string(),
                    protocol_type: row.protocol_type.to_string(),
                    state: said(&row.group_state).map(GroupState::from_name),
                    kind: said(&row.group_type).map(GroupType::from_name),
                    coordinator: broker,
                })
                .collect())
        })
        .await
    }

    /// Describes groups, classic ones and consumer groups; one result each, in their order. A group that does
    /// not exist is `GROUP_ID_NOT_FOUND`.
    pub async fn describe_groups(&self, groups: &[&str]) -> Vec<Result<GroupDescription>> {
        let described = groups.iter().map(|group| self.describe_group(group));
        futures_util::future::join_all(described).await
    }

    async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        let coordinator = Coordinator::new(self.cluster.clone(), group);
        match self.describe_consumer_group(&coordinator).await {
            Err(error) if is_of_another_kind(&error) => {}
            described => return described,
        }
        match self.describe_classic_group(&coordinator).await {
            // It may have changed its kind between the two questions.
            Err(unknown) if unknown.code() == Some(ErrorCode::GroupIdNotFound) => {
                self.describe_consumer_group(&coordinator).await.map_err(|error| {
                    if is_of_another_kind(&error) {
                        unknown
                    } else {
                        error
                    }
                })
            }
            described => described,
        }
    }

    async fn describe_consumer_group(&self, coordinator: &Coordinator) -> Result<GroupDescription> {
        let request = ConsumerGroupDescribeRequestData {
            group_ids: vec![coordinator.group_id()],
            ..ConsumerGroupDescribeRequestData::default()
        };
        let row = self
            .ask_about(coordinator, request, |response| {
                let row = response.groups.into_iter().next()?;
                Some((row.error_code, row.error_message.clone(), row))
            })
            .await?;
        Ok(described_consumer_group(&row, coordinator.node().await?))
    }

    async fn describe_classic_group(&self, coordinator: &Coordinator) -> Result<GroupDescription> {
        let request = DescribeGroupsRequestData {
            groups: vec![coordinator.group_id()],
            ..DescribeGroupsRequestData::default()
        };
        let row = self
            .ask_about(coordinator, request, |response| {
                let row = response.groups.into_iter().next()?;
                Some((row.error_code, row.error_message.clone(), row))
            })
            .await?;
        if row.group_state.as_str() == "Dead" && row.members.is_empty() {
            // Versions before 6 say so in this way.
            return Err(Error::broker(
                ApiKey::DescribeGroups,
                ErrorCode::GroupIdNotFound,
                coordinator.group(),
                None,
            ));
        }
        Ok(described_classic_group(&row, coordinator.node().await?))
    }

    /// Deletes groups and their offsets; one result each, in their order. A group with members is
    /// `NON_EMPTY_GROUP`.
    pub async fn delete_groups(&self, groups: &[&str]) -> Vec<Result<()>> {
        let deleted = groups.iter().map(|group| self.delete_group(group));
        futures_util::future::join_all(deleted).await
    }

    async fn delete_group(&self, group: &str) -> Result<()> {
        let coordinator = Coordinator::new(self.cluster.clone(), group);
        let request = DeleteGroupsRequestData {
            groups_names: vec![coordinator.group_id()],
            ..DeleteGroupsRequestData::default()
        };
        self.ask_about(&coordinator, request, |response| {
            Some((response.results.first()?.error_code, None, ()))
        })
        .await
    }
}

/// Whether the answer says that it may be a group of another kind.
fn is_of_another_kind(error: &Error) -> bool {
    matches!(error, Error::UnsupportedApi { .. })
        || matches!(
            error.code(),
            Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion)
        )
}

fn described_consumer_group(row: &DescribedConsumerGroup, coordinator: BrokerId) -> GroupDescription {
    let mut members: Vec<_> = row.members.iter().map(member_of_consumer_group).collect();
    members.sort_unstable_by(|one, other| one.member_id.cmp(&other.member_id));
    GroupDescription {
        group_id: row.group_id.to_string(),
        kind: GroupType::Consumer,
        state: GroupState::from_name(row.group_state.as_str()),
        protocol_type: PROTOCOL_TYPE.to_owned(),
        assignor: row.assignor_name.to_string(),
        group_epoch: Some(row.group_epoch),
        assignment_epoch: Some(row.assignment_epoch),
        coordinator,
        members,
    }
}

fn member_of_consumer_group(row: &Member) -> MemberDescription {
    let own = |text: &Option<KafkaString>| text.as_ref().map(ToString::to_string);
    MemberDescription {
        member_id: row.member_id.to_string(),
        instance_id: own(&row.instance_id),
        client_id: row.client_id.to_string(),
        client_host: row.client_host.to_string(),
        rack_id: own(&row.rack_id),
        epoch: Some(row.member_epoch),
        is_classic: row.member_type == 0,
        topics: row
            .subscribed_topic_names
            .iter()
            .map(ToString::to_string)
            .collect(),
        topic_regex: own(&row.subscribed_topic_regex).filter(|regex| !regex.is_empty()),
        assignment: partitions(&row.assignment),
        target: Some(partitions(&row.target_assignment)),
    }
}

fn partitions(assignment: &Assignment) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for topic in &assignment.topic_partitions {
        let name: std::sync::Arc<str> = topic.topic_name.as_str().into();
        let rows = topic.partitions.iter();
        partitions.extend(rows.map(|index| TopicPartition::new(std::sync::Arc::clone(&name), *index)));
    }
    partitions.sort_unstable();
    partitions
}

fn described_classic_group(row: &DescribedGroup, coordinator: BrokerId) -> GroupDescription {
    let protocol_type = row.protocol_type.to_string();
    let mut members: Vec<_> = row
        .members
        .iter()
        .map(|member| member_of_classic_group(member, &protocol_type))
        .collect();
    members.sort_unstable_by(|one, other| one.member_id.cmp(&other.member_id));
    GroupDescription {
        group_id: row.group_id.to_string(),
        kind: GroupType::Classic,
        state: GroupState::from_name(row.group_state.as_str()),
        protocol_type,
        assignor: row.protocol_data.to_string(),
        group_epoch: None,
        assignment_epoch: None,
        coordinator,
        members,
    }
}

fn member_of_classic_group(row: &DescribedGroupMember, protocol_type: &str) -> MemberDescription {
    // Only consumers say in these bytes what is understood here.
    let is_consumer = protocol_type == PROTOCOL_TYPE;
    let mut assignment = Vec::new();
    let mut topics = Vec::new();
    if is_consumer && let Ok(decoded) = decode_assignment(&row.member_assignment) {
        assignment = decoded.partitions;
        assignment.sort_unstable();
    }
    if is_consumer && let Ok(decoded) = decode_subscription(&row.member_metadata) {
        topics = decoded.topics;
    }
    MemberDescription {
        member_id: row.member_id.to_string(),
        instance_id: row.group_instance_id.as_ref().map(ToString::to_string),
        client_id: row.client_id.to_string(),
        client_host: row.client_host.to_string(),
        rack_id: None,
        epoch: None,
        is_classic: true,
        topics,
        topic_regex: None,
        assignment,
        target: None,
    }
}

/// A text, if it says anything: versions without the field leave it empty.
fn said(text: &KafkaString) -> Option<&str> {
    Some(text.as_str()).filter(|text| !text.is_empty())
}

fn text(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

#[cfg(test)]
mod tests;
