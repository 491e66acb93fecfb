//! What a transactional producer asks: of the coordinator of its transactional id for a producer id, for partitions and groups to be
//! part of the transaction, for its end; of a group's coordinator to commit offsets with it.
//!
//! | | the first protocol | since KIP-890 |
//! |---|---|---|
//! | partitions | `AddPartitionsToTxn` before the first batch | the first batch does it |
//! | offsets | `AddOffsetsToTxn`, then `TxnOffsetCommit` | `TxnOffsetCommit` does it |
//! | the next transaction | has the same producer epoch | has the next one, which `EndTxn` tells |
//!
//! Which of the two it is, the cluster says by its feature `transaction.version`; the versions of all requests follow from that.

use std::collections::BTreeMap;

use log_core::model::{ProducerEpoch, ProducerId, TopicPartition};
use log_core::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use log_core::protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use log_core::protocol::messages::{
    AddOffsetsToTxnRequestData, AddPartitionsToTxnRequestData, EndTxnRequestData, InitProducerIdRequestData,
    TxnOffsetCommitRequestData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};
use tokio::time::Instant;

use super::member::GroupMember;
use super::{CommittedOffset, Coordinator};
use crate::by_leader::by_topic;
use crate::cluster::Lane;
use crate::connection::Connection;
use crate::error::{self, Error, Result};

/// The feature by which a cluster says which protocol it speaks,
const FEATURE: &str = "transaction.version";
/// and the level from which on it is that of KIP-890.
const LEVEL_OF_V2: i16 = 2;

/// The last version of `AddPartitionsToTxn` that clients send; later ones are for brokers.
const ADD_PARTITIONS_VERSION_MAX: i16 = 3;
/// The first version of `InitProducerId` that raises the epoch of a producer id (KIP-360).
const VERSION_WITH_BUMP: i16 = 3;
/// The first version of `TxnOffsetCommit` that says which member commits (KIP-447).
const VERSION_WITH_MEMBER: i16 = 3;

/// A producer id and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// How a cluster wants transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TransactionProtocol {
    #[default]
    V1,
    /// KIP-890.
    V2,
}

impl TransactionProtocol {
    /// The version to use of an API whose versions up to `last_of_v1` belong to the first protocol.
    fn version(self, connection: &Connection, api: ApiKey, last_of_v1: i16) -> Result<i16> {
        match self {
            Self::V1 => Ok(connection.version(api)?.min(last_of_v1)),
            Self::V2 => connection.version_from(api, last_of_v1 + 1),
        }
    }

    /// The version of `Produce`.
    pub(crate) fn produce_version(self, connection: &Connection) -> Result<i16> {
        self.version(connection, ApiKey::Produce, 11)
    }

    fn offset_commit_version(self, connection: &Connection) -> Result<i16> {
        self.version(connection, ApiKey::TxnOffsetCommit, 4)
    }

    fn end_version(self, connection: &Connection) -> Result<i16> {
        self.version(connection, ApiKey::EndTxn, 4)
    }
}

impl Coordinator {
    /// Which protocol the cluster speaks.
    pub(crate) async fn transaction_protocol(&self, deadline: Instant) -> Result<TransactionProtocol> {
        let backoff = self.cluster.config().retry_backoff;
        let connection =
            crate::retry::until(backoff, deadline, |_, _| self.connection(Lane::General)).await?;
        Ok(if LEVEL_OF_V2 <= connection.versions().feature(FEATURE) {
            TransactionProtocol::V2
        } else {
            TransactionProtocol::V1
        })
    }

    /// Asks for the producer id of the transactional id, and fences whoever had it before; what that one left open is
    /// aborted. A producer that has one already asks for its next epoch.
    pub(crate) async fn init_producer_id(
        &self,
        transaction_timeout_ms: i32,
        own: Option<ProducerIdentity>,
        deadline: Instant,
    ) -> Result<ProducerIdentity> {
        let request = InitProducerIdRequestData {
            transactional_id: Some(self.key()),
            transaction_timeout_ms,
            producer_id: own.map_or(ProducerId::NONE, |own| own.id).get(),
            producer_epoch: own.map_or(ProducerEpoch::NONE, |own| own.epoch).get(),
            ..InitProducerIdRequestData::default()
        };
        let lowest = if own.is_some() { VERSION_WITH_BUMP } else { 0 };
        self.ask(
            deadline,
            |connection| {
                let version = connection.version_from(ApiKey::InitProducerId, lowest)?;
                Ok((request.clone(), version))
            },
            |response| {
                error::check(ApiKey::InitProducerId, response.error_code, &self.key, None)?;
                Ok(ProducerIdentity {
                    id: ProducerId::new(response.producer_id),
                    epoch: ProducerEpoch::new(response.producer_epoch),
                })
            },
        )
        .await
    }

    /// Makes partitions part of the transaction, by the first protocol.
    pub(crate) async fn add_partitions(
        &self,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<()> {
        let rows = partitions.iter().map(|partition| (partition.clone(), ()));
        let topics = by_topic(rows)
            .into_iter()
            .map(|(topic, rows)| AddPartitionsToTxnTopic {
                name: KafkaString::from(topic.to_string()),
                partitions: rows.into_iter().map(|(index, ())| index).collect(),
                ..AddPartitionsToTxnTopic::default()
            });
        let request = AddPartitionsToTxnRequestData {
            v3_and_below_transactional_id: self.key(),
            v3_and_below_producer_id: producer.id.get(),
            v3_and_below_producer_epoch: producer.epoch.get(),
            v3_and_below_topics: topics.collect(),
            ..AddPartitionsToTxnRequestData::default()
        };
        self.ask(
            deadline,
            |connection| {
                let version = connection.version(ApiKey::AddPartitionsToTxn)?;
                Ok((request.clone(), version.min(ADD_PARTITIONS_VERSION_MAX)))
            },
            |response| {
                let api = ApiKey::AddPartitionsToTxn;
                error::check(api, response.error_code, &self.key, None)?;
                let mut refused = Ok(());
                for topic in &response.results_by_topic_v3_and_below {
                    for row in &topic.results_by_partition {
                        let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                        let checked =
                            error::check(api, row.partition_error_code, &partition.to_string(), None);
                        // Those that only were not tried, because of another one, say nothing about why.
                        let is_reason =
                            |error: &Error| error.code() != Some(ErrorCode::OperationNotAttempted);
                        match (&refused, checked) {
                            (Ok(()), checked) => refused = checked,
                            (Err(known), Err(error)) if !is_reason(known) && is_reason(&error) => {
                                refused = Err(error);
                            }
                            (Err(_), _) => {}
                        }
                    }
                }
                refused
            },
        )
        .await
    }

    /// Makes a group's offsets part of the transaction, by the first protocol.
    pub(crate) async fn add_offsets(
        &self,
        producer: ProducerIdentity,
        group_id: &str,
        deadline: Instant,
    ) -> Result<()> {
        let request = AddOffsetsToTxnRequestData {
            transactional_id: self.key(),
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            group_id: KafkaString::from(group_id.to_owned()),
            ..AddOffsetsToTxnRequestData::default()
        };
        self.ask(
            deadline,
            |connection| Ok((request.clone(), connection.version(ApiKey::AddOffsetsToTxn)?)),
            |response| error::check(ApiKey::AddOffsetsToTxn, response.error_code, &self.key, None),
        )
        .await
    }

    /// Commits offsets of this group with a transaction.
    pub(crate) async fn commit_in_transaction(
        &self,
        transactional_id: &str,
        protocol: TransactionProtocol,
        producer: ProducerIdentity,
        member: &GroupMember,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        deadline: Instant,
    ) -> Result<()> {
        let rows = offsets
            .iter()
            .map(|(partition, offset)| (partition.clone(), offset));
        let topics = by_topic(rows).into_iter().map(|(topic, rows)| {
            let rows = rows
                .into_iter()
                .map(|(partition_index, committed)| TxnOffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: committed.offset.get(),
                    committed_leader_epoch: committed.leader_epoch.get(),
                    committed_metadata: Some(KafkaString::from(committed.metadata.clone())),
                    ..TxnOffsetCommitRequestPartition::default()
                });
            TxnOffsetCommitRequestTopic {
                name: KafkaString::from(topic.to_string()),
                partitions: rows.collect(),
                ..TxnOffsetCommitRequestTopic::default()
            }
        });
        let request = TxnOffsetCommitRequestData {
            transactional_id: KafkaString::from(transactional_id.to_owned()),
            group_id: self.key(),
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            generation_id: member.epoch,
            member_id: KafkaString::from(member.member_id.clone()),
            group_instance_id: member.instance_id.clone().map(KafkaString::from),
            topics: topics.collect(),
            ..TxnOffsetCommitRequestData::default()
        };
        let api = ApiKey::TxnOffsetCommit;
        let is_member = 0 <= member.epoch || member.instance_id.is_some();
        self.ask(
            deadline,
            |connection| {
                let version = protocol.offset_commit_version(connection)?;
                if is_member && version < VERSION_WITH_MEMBER {
                    // Without it nobody would notice that the partitions have gone to another member.
                    connection.version_from(api, VERSION_WITH_MEMBER)?;
                }
                Ok((request.clone(), version))
            },
            |response| {
                let rows = response.topics.iter().flat_map(|topic| {
                    let rows = topic.partitions.iter();
                    rows.map(|row| {
                        (
                            TopicPartition::new(topic.name.as_str(), row.partition_index),
                            row.error_code,
                        )
                    })
                });
                let mut told = 0;
                for (partition, code) in rows {
                    error::check(api, code, &partition.to_string(), None)?;
                    told += 1;
                }
                if told < offsets.len() {
                    let what = Some("the response does not mention all partitions");
                    return Err(Error::broker(
                        api,
                        ErrorCode::NetworkException,
                        self.group(),
                        what,
                    ));
                }
                Ok(())
            },
        )
        .await
    }

    /// Ends the transaction, and answers who the producer is from then on.
    pub(crate) async fn end_transaction(
        &self,
        protocol: TransactionProtocol,
        producer: ProducerIdentity,
        is_commit: bool,
        deadline: Instant,
    ) -> Result<ProducerIdentity> {
        let request = EndTxnRequestData {
            transactional_id: self.key(),
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            committed: is_commit,
            ..EndTxnRequestData::default()
        };
        self.ask(
            deadline,
            |connection| Ok((request.clone(), protocol.end_version(connection)?)),
            |response| {
                error::check(ApiKey::EndTxn, response.error_code, &self.key, None)?;
                Ok(match protocol {
                    TransactionProtocol::V1 => producer,
                    TransactionProtocol::V2 => ProducerIdentity {
                        id: ProducerId::new(response.producer_id),
                        epoch: ProducerEpoch::new(response.producer_epoch),
                    },
                })
            },
        )
        .await
    }
}
