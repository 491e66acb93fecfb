//! Transactions as their coordinators know them: which transactional ids there are, and what is known of each.
//!
//! Transactional ids are known to their coordinators alone: a list is put together from all brokers, and a description is asked of
//! the coordinator. What a partition knows of transactions is the business of `producers`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use log_core::model::{ProducerEpoch, ProducerId, TimestampMs, TopicPartition};
use log_core::protocol::messages::describe_transactions_response::TransactionState as DescribedState;
use log_core::protocol::messages::{DescribeTransactionsRequestData, ListTransactionsRequestData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::Admin;
use crate::cluster::Lane;
use crate::coordinator::Coordinator;
use crate::error::{self, Result};
use crate::metadata::BrokerId;

/// From this version on a list can be filtered by age (KIP-994).
const VERSION_WITH_AGE: i16 = 1;

/// Where a transactional id stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// Its producer has begun nothing yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// It is decided: markers are being written that commit it.
    PrepareCommit,
    /// It is decided: markers are being written that abort it.
    PrepareAbort,
    /// The last one was committed.
    CompleteCommit,
    /// The last one was aborted.
    CompleteAbort,
    /// Its producer is being fenced.
    PrepareEpochFence,
    /// It is being forgotten.
    Dead,
    /// Another state, by its name in the protocol.
    Other(String),
}

impl TransactionState {
    /// The state with this name in the protocol.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "Empty" => Self::Empty,
            "Ongoing" => Self::Ongoing,
            "PrepareCommit" => Self::PrepareCommit,
            "PrepareAbort" => Self::PrepareAbort,
            "CompleteCommit" => Self::CompleteCommit,
            "CompleteAbort" => Self::CompleteAbort,
            "PrepareEpochFence" => Self::PrepareEpochFence,
            "Dead" => Self::Dead,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Its name in the protocol.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::PrepareEpochFence => "PrepareEpochFence",
            Self::Dead => "Dead",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which transactional ids a list is to have; no states or no producer ids means all.
#[derive(Debug, Clone, Default)]
pub struct TransactionFilter {
    /// Those in one of these states.
    pub states: Vec<TransactionState>,
    /// Those of these producer ids.
    pub producer_ids: BTreeSet<ProducerId>,
    /// Those whose transaction began longer ago than this.
    pub older_than: Option<Duration>,
}

/// A transactional id in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionListing {
    /// The transactional id.
    pub transactional_id: String,
    /// Its producer id.
    pub producer_id: ProducerId,
    /// Where it stands.
    pub state: TransactionState,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// All that a coordinator knows of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The transactional id.
    pub transactional_id: String,
    /// Where it stands.
    pub state: TransactionState,
    /// Its producer id.
    pub producer_id: ProducerId,
    /// Its producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// How long its transactions may take.
    pub timeout: Duration,
    /// When its transaction began, if it has one.
    pub started: Option<TimestampMs>,
    /// The partitions in which its transaction is to be ended.
    pub partitions: Vec<TopicPartition>,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

impl Admin {
    /// The transactional ids of all brokers, by name.
    ///
    /// # Errors
    /// When one of the brokers does not answer, or cannot filter as asked.
    pub async fn list_transactions(&self, filter: &TransactionFilter) -> Result<Vec<TransactionListing>> {
        self.cluster.refresh(self.cluster.metadata().generation).await?;
        let brokers: Vec<_> = self.cluster.metadata().brokers.keys().copied().collect();
        let lists = brokers
            .into_iter()
            .map(|broker| self.transactions_of(broker, filter));
        let lists = futures_util::future::try_join_all(lists).await?;
        // One that moves while the brokers are asked may be told of twice.
        let all: BTreeMap<_, _> = lists
            .into_iter()
            .flatten()
            .map(|one| (one.transactional_id.clone(), one))
            .collect();
        Ok(all.into_values().collect())
    }

    async fn transactions_of(
        &self,
        broker: BrokerId,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionListing>> {
        let in_ms = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let states = filter.states.iter();
        let request = ListTransactionsRequestData {
            state_filters: states
                .map(|state| KafkaString::from(state.name().to_owned()))
                .collect(),
            producer_id_filters: filter.producer_ids.iter().map(|id| id.get()).collect(),
            duration_filter: filter.older_than.map_or(-1, in_ms),
            ..ListTransactionsRequestData::default()
        };
        let lowest = filter.older_than.map_or(0, |_| VERSION_WITH_AGE);
        let backoff = self.cluster.config().retry_backoff;
        crate::retry::until(backoff, self.deadline(), |_, _| async {
            let connection = self.cluster.connection(broker, Lane::General).await?;
            let version = connection.version_from(ApiKey::ListTransactions, lowest)?;
            let response = connection
                .call_version(&request, version, connection.request_timeout())
                .await?;
            error::check(ApiKey::ListTransactions, response.error_code, "", None)?;
            let rows = response.transaction_states.into_iter();
            Ok(rows
                .map(|row| TransactionListing {
                    transactional_id: row.transactional_id.to_string(),
                    producer_id: ProducerId::new(row.producer_id),
                    state: TransactionState::from_name(row.transaction_state.as_str()),
                    coordinator: broker,
                })
                .collect())
        })
        .await
    }

    /// Describes transactional ids; one result each, in their order. One that its coordinator does not know is
    /// `TRANSACTIONAL_ID_NOT_FOUND`.
    pub async fn describe_transactions(&self, ids: &[&str]) -> Vec<Result<TransactionDescription>> {
        let described = ids.iter().map(|id| self.describe_transaction(id));
        futures_util::future::join_all(described).await
    }

    async fn describe_transaction(&self, id: &str) -> Result<TransactionDescription> {
        let coordinator = Coordinator::of_transactions(self.cluster.clone(), id);
        let request = DescribeTransactionsRequestData {
            transactional_ids: vec![KafkaString::from(id.to_owned())],
            ..DescribeTransactionsRequestData::default()
        };
        let row = self
            .ask_about(&coordinator, request, |response| {
                let row = response.transaction_states.into_iter().next()?;
                Some((row.error_code, None, row))
            })
            .await?;
        Ok(described(&row, coordinator.node().await?))
    }

    /// What coordinators know of the transactions of these producers. A producer is missing that no coordinator knows.
    ///
    /// # Errors
    /// When a coordinator does not answer.
    pub(super) async fn transactions_of_producers(
        &self,
        producer_ids: BTreeSet<ProducerId>,
    ) -> Result<BTreeMap<ProducerId, TransactionDescription>> {
        let filter = TransactionFilter {
            producer_ids,
            ..TransactionFilter::default()
        };
        let listed = self.list_transactions(&filter).await?;
        let ids: Vec<&str> = listed.iter().map(|one| one.transactional_id.as_str()).collect();
        let mut found = BTreeMap::new();
        for described in self.describe_transactions(&ids).await {
            match described {
                Ok(one) => drop(found.insert(one.producer_id, one)),
                // It was forgotten between the two questions.
                Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn described(row: &DescribedState, coordinator: BrokerId) -> TransactionDescription {
    let mut partitions = Vec::new();
    for topic in &row.topics {
        let rows = topic.partitions.iter();
        partitions.extend(rows.map(|index| TopicPartition::new(topic.topic.as_str(), *index)));
    }
    partitions.sort_unstable();
    let timeout = u64::try_from(row.transaction_timeout_ms).unwrap_or_default();
    TransactionDescription {
        transactional_id: row.transactional_id.to_string(),
        state: TransactionState::from_name(row.transaction_state.as_str()),
        producer_id: ProducerId::new(row.producer_id),
        producer_epoch: ProducerEpoch::new(row.producer_epoch),
        timeout: Duration::from_millis(timeout),
        started: Some(TimestampMs::new(row.transaction_start_time_ms)).filter(|at| 0 <= at.get()),
        partitions,
        coordinator,
    }
}
