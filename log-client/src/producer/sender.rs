//! The producer's one task: takes batches that are ready, groups them by leader, sends, and hands the
//! answers to the partitions they belong to.
//!
//! Everything it waits for is in one place: news from callers, answers, connections, metadata, the producer
//! id, and the next moment at which something is due. Rules about order and sequences are `in_order`'s, what
//! requests and responses say is `exchange`'s.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use log_core::model::{ProducerEpoch, ProducerId, TopicId};
use log_core::protocol::ApiKey;
use log_core::protocol::messages::{InitProducerIdRequestData, ProduceResponseData};
use tokio::time::Instant;

use super::accumulator::{Accumulator, PartitionQueue};
use super::exchange::{TopicKey, answer, exchange, produce_request, rows_of, unanswered};
use super::in_order::{Answer, Identity, InOrder, Policy, SealedBatch, Wish};
use super::transactions::Transactional;
use crate::cluster::{Cluster, Lane};
use crate::config::ProducerConfig;
use crate::connection::Connection;
use crate::error::{self, Result};
use crate::metadata::{BrokerId, ClusterMetadata};
use crate::retry;

/// From this version on requests name topics by id (KIP-516).
const VERSION_WITH_TOPIC_IDS: i16 = 13;

/// Part of each request besides its batches, per partition; only to stay below the limit.
const PARTITION_OVERHEAD: usize = 64;

pub(super) struct Sender {
    cluster: Cluster,
    accumulator: Arc<Accumulator>,
    config: ProducerConfig,
    policy: Policy,
    partitions: Vec<Partition>,
    /// Partitions that have something to send, or may have.
    active: Vec<usize>,
    /// Where the next round begins, so that no partition is always last.
    rotation: usize,
    brokers: HashMap<BrokerId, BrokerState>,
    identity: Option<Identity>,
    is_fetching_identity: bool,
    transactional: Option<Transactional>,
    refresh: Refresh,
    work: FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>,
}

struct Partition {
    in_order: InOrder,
    /// Whether it stands in the list of active ones.
    is_active: bool,
    /// When it was last given something to send.
    used_at: Instant,
}

#[derive(Default)]
struct BrokerState {
    connection: Option<Connection>,
    is_connecting: bool,
    in_flight: usize,
}

/// The metadata's state, as far as the sender drives it.
#[derive(Default)]
struct Refresh {
    is_running: bool,
    is_wanted: bool,
    failures: u32,
    not_before: Option<Instant>,
}

enum Event {
    Answered(Box<Answered>),
    Connected(BrokerId, Result<Connection>),
    Refreshed(Result<()>),
    Identified(Result<Identity>),
    /// The coordinator has answered about partitions; what, `transactions` knows.
    Added,
}

struct Answered {
    broker: BrokerId,
    batches: Vec<(usize, SealedBatch)>,
    /// The topic's id of each batch, where the request named it.
    topic_ids: Vec<TopicId>,
    result: Result<Option<ProduceResponseData>>,
}

/// A request in the making.
#[derive(Default)]
struct Draft {
    batches: Vec<(usize, SealedBatch)>,
    bytes: usize,
}

impl Sender {
    pub(super) fn new(
        cluster: Cluster,
        accumulator: Arc<Accumulator>,
        config: ProducerConfig,
        policy: Policy,
        transactional: Option<Transactional>,
    ) -> Self {
        Self {
            cluster,
            accumulator,
            config,
            policy,
            partitions: Vec::new(),
            active: Vec::new(),
            rotation: 0,
            brokers: HashMap::new(),
            identity: None,
            is_fetching_identity: false,
            transactional,
            refresh: Refresh::default(),
            work: FuturesUnordered::new(),
        }
    }

    /// Runs until the accumulator is closed and empty.
    pub(super) async fn run(mut self) {
        let accumulator = Arc::clone(&self.accumulator);
        loop {
            let due = self.turn(Instant::now());
            if self.is_done() {
                return;
            }
            tokio::select! {
                () = accumulator.books.wake.notified() => {}
                Some(event) = self.work.next(), if !self.work.is_empty() => {
                    self.handle(event);
                    while let Some(Some(event)) = self.work.next().now_or_never() {
                        self.handle(event);
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        self.accumulator.is_closed()
            && self.active.is_empty()
            && self
                .partitions
                .iter()
                .all(|partition| partition.in_order.is_idle())
            // Last, because it is the one that a record on its way into a queue cannot slip past.
            && self.accumulator.is_drained()
    }

    /// Sends what can be sent, and says when to look again at the latest.
    fn turn(&mut self, now: Instant) -> Instant {
        for queue in self.accumulator.take_fresh() {
            self.activate(queue, now);
        }
        if let Some(transactional) = &mut self.transactional {
            let partitions = self.partitions.iter_mut();
            self.identity = transactional.follow(partitions.map(|partition| &mut partition.in_order));
        }
        let metadata = self.cluster.metadata();
        let mut due = now + self.config.client.metadata_max_age;
        while self.round(&metadata, now, &mut due) {}
        self.keep_fresh(&metadata, now, &mut due);
        due
    }

    fn activate(&mut self, queue: Arc<PartitionQueue>, now: Instant) {
        let next = self.partitions.len();
        let slot = *queue.slot.get_or_init(|| next);
        if slot == next {
            self.partitions.push(Partition {
                in_order: InOrder::new(queue),
                is_active: false,
                used_at: now,
            });
        }
        self.reactivate(slot);
    }

    fn reactivate(&mut self, slot: usize) {
        if let Some(partition) = self.partitions.get_mut(slot)
            && !std::mem::replace(&mut partition.is_active, true)
        {
            self.active.push(slot);
        }
    }

    /// Takes at most one batch of each partition and sends them; true if there may be more.
    fn round(&mut self, metadata: &Arc<ClusterMetadata>, now: Instant, due: &mut Instant) -> bool {
        let mut drafts: HashMap<BrokerId, Draft> = HashMap::new();
        let mut still_active = Vec::with_capacity(self.active.len());
        let mut active = std::mem::take(&mut self.active);
        let begin = self.rotation % active.len().max(1);
        active.rotate_left(begin);
        self.rotation = self.rotation.wrapping_add(1);
        for slot in active {
            match self.offer(slot, metadata, &mut drafts, now) {
                Offer::Taken | Offer::Blocked => still_active.push(slot),
                Offer::Due(at) => {
                    *due = at.min(*due);
                    still_active.push(slot);
                }
                Offer::Empty => {
                    if let Some(partition) = self.partitions.get_mut(slot) {
                        partition.is_active = false;
                        partition.used_at = now;
                    }
                }
            }
        }
        self.active = still_active;
        let adding = self.transactional.as_mut().and_then(Transactional::begin_adding);
        if let Some(adding) = adding {
            self.work.push(Box::pin(adding.map(|()| Event::Added)));
        }
        let has_sent = !drafts.is_empty();
        for (broker, draft) in drafts {
            self.send(broker, draft, metadata);
        }
        has_sent
    }

    /// Puts one batch of a partition into the draft for its leader, if there is one that may leave now.
    fn offer(
        &mut self,
        slot: usize,
        metadata: &ClusterMetadata,
        drafts: &mut HashMap<BrokerId, Draft>,
        now: Instant,
    ) -> Offer {
        let Some(Partition {
            in_order: partition, ..
        }) = self.partitions.get_mut(slot)
        else {
            return Offer::Empty;
        };
        let expires_at = partition.expire(&self.policy, now);
        let due = |at: Option<Instant>| match (at, expires_at) {
            (Some(at), Some(expires)) => Offer::Due(at.min(expires)),
            (Some(at), None) | (None, Some(at)) => Offer::Due(at),
            (None, None) => Offer::Blocked,
        };
        match partition.wish(&self.accumulator, &self.policy, self.identity, now) {
            // What is on its way may come back, but that is an event of its own.
            Wish::Nothing => return Offer::Empty,
            Wish::At(at) => return due(Some(at)),
            Wish::Wait => return due(None),
            Wish::NewId(old) => {
                self.fetch_identity(old);
                return due(None);
            }
            Wish::Send => {}
        }
        let size = partition.next_size() + PARTITION_OVERHEAD;
        let leader = match metadata.leader(&partition.queue.partition) {
            Ok((leader, _)) => leader,
            Err(error) if error.is_retriable() || error.wants_metadata() => {
                // A record may slip in while its topic is forgotten.
                self.cluster.watch_topic(&partition.queue.partition.topic);
                self.refresh.is_wanted = true;
                return due(None);
            }
            Err(error) => {
                partition.fail_all(&error);
                return due(None);
            }
        };
        if let Some(transactional) = &mut self.transactional
            && !transactional.admits(&partition.queue.partition)
        {
            return due(None);
        }
        if !self.may_send_to(leader) {
            return due(None);
        }
        let draft = drafts.entry(leader).or_default();
        if !draft.batches.is_empty() && self.config.request_bytes_max < draft.bytes + size {
            // It leaves with the next round.
            return due(None);
        }
        let taken = self
            .partitions
            .get_mut(slot)
            .and_then(|partition| partition.in_order.take(&self.policy, self.identity));
        match taken {
            Some(batch) => {
                draft.bytes += size;
                draft.batches.push((slot, batch));
                Offer::Taken
            }
            None => due(None),
        }
    }

    /// Whether a request could go to the broker now; begins to connect if that is what it takes.
    fn may_send_to(&mut self, broker: BrokerId) -> bool {
        let state = self.brokers.entry(broker).or_default();
        if state.connection.as_ref().is_some_and(Connection::is_open) {
            return state.in_flight < self.config.in_flight_max;
        }
        // What was sent over the old connection has to come back first, so that nothing overtakes it.
        if !state.is_connecting && state.in_flight == 0 {
            state.is_connecting = true;
            let cluster = self.cluster.clone();
            self.work.push(Box::pin(async move {
                let result = cluster.connection(broker, Lane::General).await;
                if result.is_err() {
                    tokio::time::sleep(cluster.config().reconnect_backoff.first).await;
                }
                Event::Connected(broker, result)
            }));
        }
        false
    }

    fn send(&mut self, broker: BrokerId, draft: Draft, metadata: &ClusterMetadata) {
        let state = self.brokers.entry(broker).or_default();
        let connection = state
            .connection
            .clone()
            .expect("a draft is made for a broker that has a connection");
        state.in_flight += 1;
        let batches: Vec<_> = draft
            .batches
            .iter()
            .filter_map(|(slot, batch)| {
                let partition = &self.partitions.get(*slot)?.in_order.queue.partition;
                Some((partition, batch))
            })
            .collect();
        let ids: Vec<_> = batches
            .iter()
            .map(|(partition, _)| {
                metadata
                    .topic(&partition.topic)
                    .map_or(TopicId::ZERO, |topic| topic.id)
            })
            .collect();
        let transactional = self.transactional.as_ref();
        let newest = match transactional {
            Some(own) => own.transactions().protocol().produce_version(&connection),
            None => connection.version(ApiKey::Produce),
        };
        let version = newest.map(|version| {
            if ids.contains(&TopicId::ZERO) {
                version.min(VERSION_WITH_TOPIC_IDS - 1)
            } else {
                version
            }
        });
        let transactional_id = transactional.map(|own| own.coordinator().transactional_id());
        let request = produce_request(&self.config, transactional_id, &batches, &ids);
        let acks = self.config.acks;
        self.work.push(Box::pin(async move {
            let result = match version {
                Ok(version) => exchange(&connection, &request, version, acks).await,
                Err(error) => Err(error),
            };
            Event::Answered(Box::new(Answered {
                broker,
                batches: draft.batches,
                topic_ids: ids,
                result,
            }))
        }));
        // The first poll sends it; only the answer is waited for.
        while let Some(Some(event)) = self.work.next().now_or_never() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answered(answered) => self.answered(*answered),
            Event::Connected(broker, result) => {
                let state = self.brokers.entry(broker).or_default();
                state.is_connecting = false;
                match result {
                    Ok(connection) => state.connection = Some(connection),
                    Err(error) => {
                        tracing::debug!(broker, %error, "cannot connect");
                        self.refresh.is_wanted = true;
                    }
                }
            }
            Event::Refreshed(result) => self.refreshed(result),
            Event::Identified(result) => self.identified(result),
            // The next turn sends what waited for it.
            Event::Added => {}
        }
    }

    /// Hands each batch of a request what came back for it.
    fn answered(&mut self, answered: Answered) {
        let Answered {
            broker,
            batches,
            topic_ids,
            result,
        } = answered;
        if let Some(state) = self.brokers.get_mut(&broker) {
            state.in_flight -= 1;
        }
        let now = Instant::now();
        let rows = match &result {
            Ok(Some(response)) => rows_of(response),
            Ok(None) | Err(_) => HashMap::new(),
        };
        for ((slot, batch), topic_id) in batches.into_iter().zip(topic_ids) {
            let Some(Partition { in_order, .. }) = self.partitions.get_mut(slot) else {
                continue;
            };
            let name = &in_order.queue.partition;
            let row = rows
                .get(&(TopicKey::Id(topic_id), name.partition))
                .or_else(|| rows.get(&(TopicKey::Name(&name.topic), name.partition)));
            let answer = match (&result, row) {
                (Err(error), _) => Answer::Failed(error.clone()),
                (Ok(None), _) => Answer::Appended {
                    base_offset: None,
                    log_append_time: None,
                },
                (Ok(Some(_)), Some(row)) => answer(name, row),
                (Ok(Some(_)), None) => Answer::Failed(unanswered(name)),
            };
            let stale = in_order.answered(batch, answer, &self.policy, now);
            self.refresh.is_wanted |= stale.is_some();
            self.reactivate(slot);
        }
    }

    /// Begins to ask for a producer id other than `old`, unless that is under way.
    fn fetch_identity(&mut self, old: Option<ProducerId>) {
        if self.is_fetching_identity || self.identity.is_some_and(|current| Some(current.id) != old) {
            return;
        }
        self.is_fetching_identity = true;
        let cluster = self.cluster.clone();
        self.work.push(Box::pin(async move {
            Event::Identified(init_producer_id(&cluster).await)
        }));
    }

    fn identified(&mut self, result: Result<Identity>) {
        self.is_fetching_identity = false;
        match result {
            Ok(identity) => {
                tracing::debug!(producer_id = %identity.id, epoch = %identity.epoch, "has a producer id");
                self.identity = Some(identity);
            }
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "no producer id yet");
            }
            Err(error) => {
                for partition in &mut self.partitions {
                    partition.in_order.fail_all(&error);
                }
            }
        }
    }

    /// Refreshes the metadata when an error or its age demands it.
    fn keep_fresh(&mut self, metadata: &ClusterMetadata, now: Instant, due: &mut Instant) {
        let is_wanted = self.refresh.is_wanted || self.cluster.is_stale(metadata);
        if !is_wanted || self.refresh.is_running {
            return;
        }
        if let Some(at) = self.refresh.not_before
            && now < at
        {
            *due = at.min(*due);
            return;
        }
        self.choose_topics(now);
        self.refresh.is_running = true;
        self.refresh.is_wanted = false;
        let cluster = self.cluster.clone();
        let seen = metadata.generation;
        self.work.push(Box::pin(
            async move { Event::Refreshed(cluster.refresh(seen).await) },
        ));
    }

    /// Has the topics refreshed that something was sent to lately, and no others any more.
    fn choose_topics(&mut self, now: Instant) {
        let is_used = |used_at| now < used_at + self.config.metadata_max_idle;
        let used: HashSet<&Arc<str>> = self
            .partitions
            .iter()
            .filter(|partition| partition.is_active || is_used(partition.used_at))
            .map(|partition| &partition.in_order.queue.partition.topic)
            .collect();
        for (topic, learned_at) in self.accumulator.topics() {
            if used.contains(&topic) || is_used(learned_at) {
                self.cluster.watch_topic(&topic);
            } else if self.accumulator.forget(&topic) {
                tracing::debug!(
                    topic = &*topic,
                    "nothing was sent to it for long; forgotten until something is"
                );
                self.cluster.forget_topic(&topic);
            }
        }
    }

    fn refreshed(&mut self, result: Result<()>) {
        self.refresh.is_running = false;
        match result {
            Ok(()) => self.refresh.failures = 0,
            Err(error) => {
                tracing::debug!(%error, "cannot fetch metadata");
                self.refresh.failures += 1;
                self.refresh.is_wanted = true;
            }
        }
        // Not more often than this, however many errors ask for it.
        let wait = self
            .config
            .client
            .retry_backoff
            .after(self.refresh.failures.max(1));
        self.refresh.not_before = Some(Instant::now() + wait);
        for topic in self.cluster.metadata().topics.values() {
            if self.accumulator.topic(&topic.name).is_some() {
                self.accumulator.update(topic);
            }
        }
    }
}

enum Offer {
    /// A batch is in a draft; there may be more.
    Taken,
    /// An event will bring it on.
    Blocked,
    Due(Instant),
    Empty,
}

/// Asks any broker for a producer id of one's own.
async fn init_producer_id(cluster: &Cluster) -> Result<Identity> {
    let request = InitProducerIdRequestData {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequestData::default()
    };
    retry::until(
        cluster.config().retry_backoff,
        cluster.api_deadline(),
        |_, _| async {
            let response = cluster.call_any(&request).await?;
            error::check(ApiKey::InitProducerId, response.error_code, "", None)?;
            Ok(Identity {
                id: ProducerId::new(response.producer_id),
                epoch: ProducerEpoch::new(response.producer_epoch),
            })
        },
    )
    .await
}
