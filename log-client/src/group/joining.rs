//! How a member of a classic group gets into the next generation: `JoinGroup`, then `SyncGroup`, and in between,
//! for the one who leads, working out who reads what.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use log_core::protocol::messages::{JoinGroupRequestData, JoinGroupResponseData, SyncGroupRequestData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::assignor::{Assignments, Assignor, Member, PartitionCounts};
use crate::admin::Admin;
use crate::cluster::{Cluster, Lane};
use crate::consumer_protocol::{Assignment, decode_assignment, decode_subscription, encode_assignment};
use crate::coordinator::Coordinator;
use crate::error::{self, Error, Result};

/// A member's place in a generation.
pub(super) struct Joined {
    pub(super) member_id: String,
    pub(super) generation: i32,
    pub(super) assignment: Assignment,
    /// What the leader based its work on; none for those who do not lead.
    pub(super) counts: Option<PartitionCounts>,
}

/// Why an attempt failed.
pub(super) struct NotJoined {
    pub(super) error: Error,
    /// The id that the coordinator knows the member by, if it said so before.
    pub(super) member_id: Option<String>,
    /// The generation that the member has joined, though it has no assignment of it.
    pub(super) generation: Option<i32>,
}

impl From<Error> for NotJoined {
    fn from(error: Error) -> Self {
        Self {
            error,
            member_id: None,
            generation: None,
        }
    }
}

/// One attempt to get into the next generation: `JoinGroup`, then `SyncGroup`.
pub(super) struct Joining {
    pub(super) coordinator: Coordinator,
    pub(super) request: JoinGroupRequestData,
    pub(super) timeout: Duration,
}

impl Joining {
    pub(super) async fn join(self) -> Result<Joined, NotJoined> {
        let connection = self.coordinator.connection(Lane::Group).await?;
        let version = connection.version(ApiKey::JoinGroup)?;
        let response = connection
            .call_version(&self.request, version, self.timeout)
            .await?;
        let checked = error::check(
            ApiKey::JoinGroup,
            response.error_code,
            self.coordinator.group(),
            None,
        );
        let generation = checked.is_ok().then_some(response.generation_id);
        let is_named = checked.is_ok() || response.error_code == ErrorCode::MemberIdRequired.code();
        let member_id = is_named.then(|| response.member_id.to_string());
        let synced = match checked {
            Ok(()) => self.sync(response).await,
            Err(error) => Err(error),
        };
        synced.map_err(|error| NotJoined {
            error,
            member_id,
            generation,
        })
    }

    /// What follows when everybody has joined.
    async fn sync(self, response: JoinGroupResponseData) -> Result<Joined> {
        let leads = response.leader == response.member_id;
        let (assignments, counts) = if leads {
            self.lead(&response).await?
        } else {
            (Vec::new(), None)
        };
        let request = SyncGroupRequestData {
            group_id: self.request.group_id.clone(),
            generation_id: response.generation_id,
            member_id: response.member_id.clone(),
            group_instance_id: self.request.group_instance_id.clone(),
            protocol_type: Some(self.request.protocol_type.clone()),
            protocol_name: response.protocol_name.clone(),
            assignments,
            ..SyncGroupRequestData::default()
        };
        let connection = self.coordinator.connection(Lane::Group).await?;
        let version = connection.version(ApiKey::SyncGroup)?;
        let synced = connection.call_version(&request, version, self.timeout).await?;
        error::check(
            ApiKey::SyncGroup,
            synced.error_code,
            self.coordinator.group(),
            None,
        )?;
        let assignment = decode_assignment(&synced.assignment).map_err(|error| {
            // Another member's doing, so trying again is no use.
            Error::broker(
                ApiKey::SyncGroup,
                ErrorCode::InconsistentGroupProtocol,
                self.coordinator.group(),
                Some(&error.to_string()),
            )
        })?;
        Ok(Joined {
            member_id: response.member_id.to_string(),
            generation: response.generation_id,
            assignment,
            counts,
        })
    }

    /// Works out who reads what, for all members.
    async fn lead(
        &self,
        response: &JoinGroupResponseData,
    ) -> Result<(Vec<SyncGroupRequestAssignment>, Option<PartitionCounts>)> {
        let mut members = Vec::with_capacity(response.members.len());
        for row in &response.members {
            let subscription = decode_subscription(&row.metadata).map_err(|error| {
                Error::broker(
                    ApiKey::JoinGroup,
                    ErrorCode::InconsistentGroupProtocol,
                    self.coordinator.group(),
                    Some(&error.to_string()),
                )
            })?;
            members.push(Member {
                id: row.member_id.to_string(),
                instance_id: row.group_instance_id.as_ref().map(ToString::to_string),
                subscription,
            });
        }
        let topics: BTreeSet<&str> = members
            .iter()
            .flat_map(|member| &member.subscription.topics)
            .map(String::as_str)
            .collect();
        let me = members
            .iter()
            .find(|member| member.id == response.member_id.as_str());
        let own = |topic: &str| {
            let topics = me.map(|member| &member.subscription.topics);
            topics.is_some_and(|topics| topics.iter().any(|own| own == topic))
        };
        let counts = partition_counts(self.coordinator.cluster(), topics.into_iter(), own).await?;
        if response.skip_assignment {
            // A static leader that is back: what the group reads stays as it is (KIP-814).
            return Ok((Vec::new(), Some(counts)));
        }
        let name = response.protocol_name.as_ref().map(KafkaString::as_str);
        let assignor: Assignor = name.unwrap_or_default().parse()?;
        let assignments = assignor.assign(&members, &counts);
        Ok((encoded(assignments)?, Some(counts)))
    }
}

fn encoded(assignments: Assignments) -> Result<Vec<SyncGroupRequestAssignment>> {
    assignments
        .into_iter()
        .map(|(member, partitions)| {
            let bytes: Bytes =
                encode_assignment(&Assignment { partitions }).map_err(|source| Error::Unwritable {
                    api: ApiKey::SyncGroup,
                    source: Arc::new(source),
                })?;
            Ok(SyncGroupRequestAssignment {
                member_id: KafkaString::from(member),
                assignment: bytes,
                ..SyncGroupRequestAssignment::default()
            })
        })
        .collect()
}

/// How many partitions the topics have; those that do not exist have none, and may get some later.
///
/// A topic that exists and cannot be described for a reason that passes is an error: to take it for one without
/// partitions would leave it unread by the whole group. One that this member may not describe is an error if it
/// wants to read it (`is_own`); what only others want must not end its membership, and after it that of every other
/// leader.
pub(super) async fn partition_counts<'a>(
    cluster: &Cluster,
    topics: impl Iterator<Item = &'a str>,
    is_own: impl Fn(&str) -> bool,
) -> Result<PartitionCounts> {
    let names: Vec<&str> = topics.collect();
    if names.is_empty() {
        return Ok(PartitionCounts::new());
    }
    let described = Admin::on(cluster.clone()).describe_topics(&names).await?;
    let counts = names.into_iter().zip(described).map(|(name, topic)| {
        let count = match topic {
            Ok(topic) => topic.partitions.len(),
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => 0,
            Err(error)
                if error.code() == Some(ErrorCode::InvalidTopicException)
                    || !(error.is_retriable() || is_own(name)) =>
            {
                tracing::warn!(topic = name, %error, "a topic that a member wants is assigned to nobody");
                0
            }
            Err(error) => return Err(error),
        };
        Ok((Arc::from(name), i32::try_from(count).unwrap_or(i32::MAX)))
    });
    counts.collect()
}
