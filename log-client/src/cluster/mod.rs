//! A cluster as a client sees it: its metadata, kept fresh, and one connection per broker and lane.
//!
//! Connections are opened when they are first asked for and shared. Two callers that find the metadata
//! stale cause one request. Retrying is `retry`'s; what the metadata says is `metadata`'s.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use log_core::model::{LeaderEpoch, TopicPartition};
use log_core::protocol::messages::MetadataRequestData;
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::{ApiKey, KafkaString, Request};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::config::{ClientConfig, joined};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::metadata::{BrokerId, ClusterMetadata, TopicMetadata};
use crate::retry;

/// Keeps long polls apart from requests that should be answered at once: a broker answers in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Requests that are answered at once.
    General,
    /// Fetches that wait for records.
    Fetch,
    /// Requests of group members that wait for other members.
    Group,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    /// The n-th bootstrap address, whichever broker that may be.
    Bootstrap(usize),
    /// A broker of the metadata.
    Broker(BrokerId),
}

/// A handle to the cluster; clones share metadata and connections.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    metadata: RwLock<Arc<ClusterMetadata>>,
    /// The topics that a refresh asks for.
    topics: Mutex<BTreeSet<Arc<str>>>,
    /// Held while one refresh is under way.
    refreshing: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<(Peer, Lane), SharedSlot>>,
}

type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

/// The place of one connection.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    failures: u32,
    not_before: Option<Instant>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("bootstrap", &self.inner.config.bootstrap)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Names a cluster; nothing is sent until something is asked of it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn new(config: ClientConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                metadata: RwLock::new(Arc::new(ClusterMetadata::empty())),
                topics: Mutex::default(),
                refreshing: tokio::sync::Mutex::default(),
                slots: Mutex::default(),
            }),
        })
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The picture as it is.
    #[must_use]
    pub fn metadata(&self) -> Arc<ClusterMetadata> {
        Arc::clone(&self.inner.metadata.read())
    }

    /// When an operation that begins now has to be over.
    #[must_use]
    pub fn api_deadline(&self) -> Instant {
        Instant::now() + self.inner.config.api_timeout
    }

    /// A topic, asked for until it is there or `deadline` is over.
    ///
    /// # Errors
    /// What the last attempt ended in.
    pub async fn topic(&self, name: &str, deadline: Instant) -> Result<Arc<TopicMetadata>> {
        if let Ok(topic) = self.metadata().topic(name) {
            return Ok(Arc::clone(topic));
        }
        retry::until(self.inner.config.retry_backoff, deadline, |_, _| async {
            // Somebody else who looked for it may have given up meanwhile, and had it forgotten.
            self.watch_topic(name);
            self.refresh(self.metadata().generation).await?;
            self.metadata().topic(name).cloned()
        })
        .await
    }

    /// The leader of a partition and its epoch, asked for until it is known or `deadline` is over.
    ///
    /// # Errors
    /// What the last attempt ended in.
    pub async fn leader(
        &self,
        partition: &TopicPartition,
        deadline: Instant,
    ) -> Result<(BrokerId, LeaderEpoch)> {
        self.topic(&partition.topic, deadline).await?;
        retry::until(
            self.inner.config.retry_backoff,
            deadline,
            |failures, _| async move {
                if failures > 0 {
                    self.refresh(self.metadata().generation).await?;
                }
                self.metadata().leader(partition)
            },
        )
        .await
    }

    /// Whether the picture has reached the age at which it should be fetched again.
    #[must_use]
    pub fn is_stale(&self, metadata: &ClusterMetadata) -> bool {
        metadata
            .fetched_at
            .is_none_or(|at| self.inner.config.metadata_max_age <= at.elapsed())
    }

    /// Makes later refreshes ask for `topic` too.
    pub fn watch_topic(&self, topic: &str) {
        let mut topics = self.inner.topics.lock();
        if !topics.contains(topic) {
            topics.insert(topic.into());
        }
    }

    /// Later refreshes do not ask for `topic` any more, and forget it.
    pub fn forget_topic(&self, topic: &str) {
        self.inner.topics.lock().remove(topic);
    }

    /// Fetches the picture again, unless it is newer than `seen` already.
    ///
    /// # Errors
    /// [`Error::NoBroker`] and what a metadata request can end in.
    pub async fn refresh(&self, seen: u64) -> Result<()> {
        let _turn = self.inner.refreshing.lock().await;
        if seen < self.metadata().generation {
            return Ok(());
        }
        let topics = self
            .inner
            .topics
            .lock()
            .iter()
            .map(|name| topic_row(name))
            .collect();
        let request = MetadataRequestData {
            topics: Some(topics),
            allow_auto_topic_creation: self.inner.config.auto_create_topics,
            ..MetadataRequestData::default()
        };
        let response = self.call_any(&request).await?;
        let mut merged = self.metadata().merged(&response, Instant::now());
        {
            let topics = self.inner.topics.lock();
            merged.topics.retain(|name, _| topics.contains(name));
            merged.refused.retain(|name, _| topics.contains(name));
        }
        tracing::debug!(
            generation = merged.generation,
            brokers = merged.brokers.len(),
            topics = merged.topics.len(),
            "fetched the cluster's metadata"
        );
        *self.inner.metadata.write() = Arc::new(merged);
        Ok(())
    }

    /// Sends a request to any broker that answers, each at most once.
    ///
    /// # Errors
    /// [`Error::NoBroker`] when none can be reached, and what the request itself ends in.
    pub async fn call_any<R: Request>(&self, request: &R) -> Result<R::Response> {
        self.call_any_in::<R, &R>(|_| request).await
    }

    /// As [`Cluster::call_any`], with a request that depends on the version it goes out in.
    ///
    /// # Errors
    /// As [`Cluster::call_any`].
    pub(crate) async fn call_any_in<R: Request, B: Borrow<R>>(
        &self,
        request: impl Fn(i16) -> B,
    ) -> Result<R::Response> {
        let request = &request;
        let mut last = None;
        let mut tried: Vec<Arc<str>> = Vec::new();
        for peer in self.candidates() {
            let attempt = async {
                let connection = self.connect(peer, Lane::General).await?;
                let version = connection.version(R::API_KEY)?;
                let request = request(version);
                let timeout = connection.request_timeout();
                connection.call_version(request.borrow(), version, timeout).await
            };
            match attempt.await {
                Ok(response) => return Ok(response),
                Err(error) if error.is_unreachable() => {
                    tracing::debug!(%error, "trying the next broker");
                    last = Some(error);
                    if let Ok(address) = self.address_of(peer)
                        && !tried.contains(&address)
                    {
                        tried.push(address);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::NoBroker {
            tried: joined(&tried),
            last: Box::new(last.unwrap_or(Error::Closed("cluster"))),
        })
    }

    /// Sends a request to one broker.
    ///
    /// # Errors
    /// Of the connection, and what the request itself ends in.
    pub async fn call<R: Request>(&self, broker: BrokerId, request: &R) -> Result<R::Response> {
        self.connection(broker, Lane::General).await?.call(request).await
    }

    /// The broker that takes changes to topics, as a `KRaft` cluster names one at random.
    ///
    /// # Errors
    /// What fetching the metadata can end in.
    pub async fn controller(&self) -> Result<BrokerId> {
        let metadata = self.metadata();
        if metadata.controller.is_none() {
            self.refresh(metadata.generation).await?;
        }
        self.metadata().controller.ok_or_else(|| {
            Error::broker(
                ApiKey::Metadata,
                log_core::protocol::ErrorCode::NotController,
                "the cluster",
                Some("no controller is known"),
            )
        })
    }

    /// A connection to a broker of the metadata.
    ///
    /// # Errors
    /// [`Error::Connect`] and what the exchange of versions can end in.
    pub async fn connection(&self, broker: BrokerId, lane: Lane) -> Result<Connection> {
        self.connect(Peer::Broker(broker), lane).await
    }

    /// A connection that is open already; the lock of its slot may be held by someone who is connecting.
    #[must_use]
    pub fn open_connection(&self, broker: BrokerId, lane: Lane) -> Option<Connection> {
        let slot = self.slot(Peer::Broker(broker), lane);
        let slot = slot.try_lock().ok()?;
        slot.connection.clone().filter(Connection::is_open)
    }

    fn slot(&self, peer: Peer, lane: Lane) -> SharedSlot {
        Arc::clone(self.inner.slots.lock().entry((peer, lane)).or_default())
    }

    async fn connect(&self, peer: Peer, lane: Lane) -> Result<Connection> {
        let slot = self.slot(peer, lane);
        let mut slot = slot.lock().await;
        let address = self.address_of(peer)?;
        if let Some(connection) = &slot.connection
            && connection.is_open()
            && connection.address() == &address
        {
            return Ok(connection.clone());
        }
        if let Some(not_before) = slot.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        match Connection::open(&address, &self.inner.config).await {
            Ok(connection) => {
                *slot = Slot {
                    connection: Some(connection.clone()),
                    ..Slot::default()
                };
                Ok(connection)
            }
            Err(error) => {
                slot.connection = None;
                slot.failures += 1;
                let wait = self.inner.config.reconnect_backoff.after(slot.failures);
                slot.not_before = Some(Instant::now() + wait);
                Err(error)
            }
        }
    }

    fn address_of(&self, peer: Peer) -> Result<Arc<str>> {
        match peer {
            Peer::Bootstrap(index) => {
                let address = self.inner.config.bootstrap.get(index);
                address
                    .map(|address| address.as_str().into())
                    .ok_or(Error::Closed("bootstrap address"))
            }
            Peer::Broker(id) => {
                let metadata = self.metadata();
                let broker = metadata.brokers.get(&id);
                broker
                    .map(|broker| Arc::clone(&broker.address))
                    .ok_or(Error::UnknownBroker { id })
            }
        }
    }

    /// Everybody who might answer a question about the cluster: first those with an open connection, then
    /// the other brokers, then the addresses given by hand, which outlive every broker.
    fn candidates(&self) -> Vec<Peer> {
        let mut brokers: Vec<_> = self
            .metadata()
            .brokers
            .keys()
            .copied()
            .map(Peer::Broker)
            .collect();
        let mut bootstrap: Vec<_> = (0..self.inner.config.bootstrap.len())
            .map(Peer::Bootstrap)
            .collect();
        fastrand::shuffle(&mut brokers);
        fastrand::shuffle(&mut bootstrap);
        brokers.sort_by_key(|peer| match peer {
            Peer::Broker(id) => self.open_connection(*id, Lane::General).is_none(),
            Peer::Bootstrap(_) => true,
        });
        brokers.extend(bootstrap);
        brokers
    }
}

fn topic_row(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(KafkaString::from(name.to_owned())),
        ..MetadataRequestTopic::default()
    }
}

#[cfg(test)]
mod tests;
