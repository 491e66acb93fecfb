//! The broker that keeps a group, or the transactions of a producer: found when it is first needed, forgotten when it says
//! that it is not the one.
//!
//! - `member`: who commits for a group
//! - `offsets`: committing, fetching and deleting a group's offsets
//! - `transactions`: what a transactional producer asks of both kinds of coordinators
//!
//! Everything about a group goes to its coordinator. Requests that wait for other members travel on a lane of
//! their own (`Lane::Group`), so that commits do not queue up behind them. Which members a group has and who
//! reads what is the business of `group` and `admin`.

mod member;
mod offsets;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use log_core::protocol::messages::FindCoordinatorRequestData;
use log_core::protocol::messages::find_coordinator_response::Coordinator as FoundCoordinator;
use log_core::protocol::{ApiKey, ErrorCode, KafkaString, Request};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use member::GroupMember;
pub use offsets::CommittedOffset;
pub(crate) use offsets::{CommitIdentity, may_pass};
pub(crate) use transactions::{ProducerIdentity, TransactionProtocol};

use crate::cluster::{Cluster, Lane};
use crate::connection::Connection;
use crate::error::{self, Error, Result};
use crate::metadata::BrokerId;
use crate::retry;

/// From this version on one request asks about several coordinators (KIP-699).
const VERSION_WITH_BATCHES: i16 = 4;

/// What a coordinator keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Group,
    Transactions,
}

impl Kind {
    /// The number in the request that looks for it.
    const fn code(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transactions => 1,
        }
    }
}

/// The coordinator of one group or of one transactional id. Clones share what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    cluster: Cluster,
    kind: Kind,
    /// The group, or the transactional id.
    key: Arc<str>,
    node: Arc<Mutex<Option<BrokerId>>>,
    lane: Lane,
}

impl Coordinator {
    /// The coordinator of a group.
    pub(crate) fn new(cluster: Cluster, group: &str) -> Self {
        Self::of(Kind::Group, cluster, group)
    }

    /// The coordinator of a transactional id.
    pub(crate) fn of_transactions(cluster: Cluster, transactional_id: &str) -> Self {
        Self::of(Kind::Transactions, cluster, transactional_id)
    }

    fn of(kind: Kind, cluster: Cluster, key: &str) -> Self {
        Self {
            cluster,
            kind,
            key: key.into(),
            node: Arc::default(),
            lane: Lane::General,
        }
    }

    /// The same coordinator, asked on another lane.
    pub(crate) fn on(&self, lane: Lane) -> Self {
        Self { lane, ..self.clone() }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The group or the transactional id, for words about either.
    pub(crate) fn name(&self) -> &str {
        &self.key
    }

    pub(crate) fn group(&self) -> &str {
        &self.key
    }

    /// The group's name as requests carry it.
    pub(crate) fn group_id(&self) -> KafkaString {
        self.key()
    }

    /// The transactional id.
    pub(crate) fn transactional_id(&self) -> &str {
        &self.key
    }

    /// The group or transactional id as requests carry it.
    fn key(&self) -> KafkaString {
        KafkaString::from(self.key.to_string())
    }

    /// The broker's number, asked for if it is not known; one attempt.
    pub(crate) async fn node(&self) -> Result<BrokerId> {
        let known = *self.node.lock();
        if let Some(node) = known {
            return Ok(node);
        }
        let found = self.find().await?;
        *self.node.lock() = Some(found);
        Ok(found)
    }

    async fn find(&self) -> Result<BrokerId> {
        let request = |version| {
            let mut request = FindCoordinatorRequestData {
                key_type: self.kind.code(),
                ..FindCoordinatorRequestData::default()
            };
            if version < VERSION_WITH_BATCHES {
                request.key = self.key();
            } else {
                request.coordinator_keys = vec![self.key()];
            }
            request
        };
        let response = self
            .cluster
            .call_any_in::<FindCoordinatorRequestData, _>(request)
            .await?;
        let row = response
            .coordinators
            .into_iter()
            .next()
            .unwrap_or_else(|| FoundCoordinator {
                node_id: response.node_id,
                error_code: response.error_code,
                error_message: response.error_message.clone(),
                ..FoundCoordinator::default()
            });
        let message = row.error_message.as_ref().map(KafkaString::as_str);
        error::check(ApiKey::FindCoordinator, row.error_code, &self.key, message)?;
        // It may have joined the cluster after the metadata were fetched.
        let metadata = self.cluster.metadata();
        if !metadata.brokers.contains_key(&row.node_id) {
            self.cluster.refresh(metadata.generation).await?;
        }
        Ok(row.node_id)
    }

    /// A connection to it; one attempt.
    pub(crate) async fn connection(&self, lane: Lane) -> Result<Connection> {
        let node = self.node().await?;
        let connection = self.cluster.connection(node, lane).await;
        if let Err(error) = &connection {
            self.note(error);
        }
        connection
    }

    /// Forgets where it is, if the error says that it may be elsewhere.
    pub(crate) fn note(&self, error: &Error) {
        if wants_coordinator(error) {
            *self.node.lock() = None;
        }
    }

    /// Sends what `request` makes for the connection, until `read` is content with the answer or `deadline`
    /// is over.
    pub(crate) async fn ask<R, T>(
        &self,
        deadline: Instant,
        request: impl Fn(&Connection) -> Result<(R, i16)>,
        read: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T>
    where
        R: Request,
    {
        let backoff = self.cluster.config().retry_backoff;
        let (request, read) = (&request, &read);
        retry::until(backoff, deadline, |_, left| async move {
            let result = self.ask_once(left, request, read).await;
            if let Err(error) = &result {
                self.note(error);
            }
            result
        })
        .await
    }

    fn unreachable(&self, api: ApiKey, after: Duration) -> Error {
        let node = *self.node.lock();
        let metadata = self.cluster.metadata();
        let broker = node.and_then(|node| metadata.brokers.get(&node));
        let address = broker.map_or_else(
            || self.cluster.config().bootstrap.join(", ").into(),
            |broker| Arc::clone(&broker.address),
        );
        Error::RequestTimedOut { address, api, after }
    }

    async fn ask_once<R, T>(
        &self,
        left: Duration,
        request: impl Fn(&Connection) -> Result<(R, i16)>,
        read: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T>
    where
        R: Request,
    {
        // A little time is left to every attempt, so that the last one is one.
        let deadline = Instant::now() + left.max(ATTEMPT_MIN);
        let connection = tokio::time::timeout_at(deadline, self.connection(self.lane))
            .await
            .unwrap_or_else(|_| Err(self.unreachable(R::API_KEY, left)))?;
        let (request, version) = request(&connection)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = connection.request_timeout().min(left.max(ATTEMPT_MIN));
        read(connection.call_version(&request, version, timeout).await?)
    }
}

/// The least time for connecting and for an answer.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Whether the error says that the coordinator is to be looked for again.
fn wants_coordinator(error: &Error) -> bool {
    error.is_unreachable()
        || matches!(error, Error::UnknownBroker { .. })
        || matches!(
            error.code(),
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
        )
}
