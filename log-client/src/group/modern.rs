//! A member of a consumer group (KIP-848): it says what it wants and what it reads, and the coordinator answers
//! with what it is to read.
//!
//! | the coordinator says | the member |
//! |---|---|
//! | an epoch | speaks with it from now on |
//! | an assignment | orders it to be read; when that is done it says so at once |
//! | fenced, or unknown | loses what it reads; when that is done it joins anew, with epoch 0 |
//! | an error that passes | tries again, later and later |
//! | anything else | leaves, and is no member any more |
//!
//! What has not changed since the last heartbeat is not said again; after an error and when joining all is said.
//! A caller who stays away for `max.poll.interval.ms` makes the member leave, and lose what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use log_core::model::{TopicId, TopicPartition};
use log_core::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::messages::{
    ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData, MetadataRequestData,
};
use log_core::protocol::{ApiKey, KafkaString};
use tokio::time::Instant;

use super::link::{Command, Order, Partitions};
use super::membership::{End, Membership, Verdict, judge};
use super::subscription::Subscription;
use crate::cluster::Lane;
use crate::coordinator::CommitIdentity;
use crate::error::{self, Result};

/// From this version on the member chooses its id, and may subscribe by an expression.
const VERSION_WITH_OWN_ID: i16 = 1;

/// From this version on metadata can be asked for by topic id.
const METADATA_VERSION_WITH_IDS: i16 = 12;

const JOINING: i32 = 0;
const LEAVING: i32 = -1;
/// A static member that will be back.
const LEAVING_FOR_A_WHILE: i32 = -2;

/// How long the first heartbeat's answer lets the next one wait; the coordinator says what it really is.
const INTERVAL_FIRST: Duration = Duration::from_secs(5);

pub(super) struct Modern<'a> {
    membership: &'a mut Membership,
    subscription: Subscription,
    epoch: i32,
    interval: Duration,
    next_at: Instant,
    failures: u32,
    /// What the last heartbeat that was answered said, so that only changes are said again.
    said: Option<Said>,
    /// What is to be read, by topic id, until it was ordered.
    target: Option<BTreeMap<TopicId, Vec<i32>>>,
    resolve_at: Option<Instant>,
    /// What the handle reads.
    owned: Partitions,
    /// The order that the handle has not carried out yet.
    outstanding: Option<u64>,
    /// Whether that order is to lose everything: until it is done the member does not join.
    is_losing: bool,
    /// Whether no request is under way.
    is_idle: bool,
    /// Whether the coordinator may count the member in, having been asked to.
    may_be_member: bool,
    /// The last order to read that was given.
    ordered: Option<Partitions>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    topics: Option<BTreeSet<String>>,
    regex: Option<String>,
    owned: Partitions,
}

/// What the member hears while it waits.
enum Heard {
    Answer(Result<ConsumerGroupHeartbeatResponseData>),
    Names(Result<BTreeMap<TopicId, Arc<str>>>),
    Time,
    End(End),
}

impl<'a> Modern<'a> {
    pub(super) fn new(membership: &'a mut Membership, subscription: Subscription) -> Self {
        if membership.member_id.is_empty() {
            membership.member_id = random_id();
        }
        Self {
            membership,
            subscription,
            epoch: JOINING,
            interval: INTERVAL_FIRST,
            next_at: Instant::now(),
            failures: 0,
            said: None,
            target: None,
            resolve_at: None,
            owned: Partitions::new(),
            outstanding: None,
            is_losing: false,
            is_idle: true,
            may_be_member: false,
            ordered: None,
        }
    }

    pub(super) async fn run(mut self) -> End {
        loop {
            let now = Instant::now();
            if self.is_member() && self.membership.missed_at().is_some_and(|at| at <= now) {
                self.leave_for_want_of_polls().await;
            }
            let heard = if !self.is_losing && self.next_at <= now {
                self.heartbeat().await
            } else if self.target.is_some() && self.resolve_at.is_none_or(|at| at <= now) {
                self.resolve().await
            } else {
                self.wait().await
            };
            match heard {
                Heard::Answer(Ok(answer)) => self.answered(answer),
                Heard::Answer(Err(error)) => match judge(&error) {
                    Verdict::Again => {
                        self.failures += 1;
                        let wait = self.membership.backoff(self.failures);
                        self.next_at = Instant::now() + wait;
                        self.said = None;
                        self.membership.coordinator.note(&error);
                        tracing::debug!(group = self.group(), %error, "a heartbeat failed");
                    }
                    Verdict::Expelled => {
                        tracing::info!(group = self.group(), %error, "expelled from the group; joining anew");
                        self.lose();
                    }
                    Verdict::Unserved => return End::Unserved(self.subscription),
                    Verdict::Final => {
                        let end = self.membership.failed(error);
                        // The others need not wait for it.
                        if self.is_member() {
                            self.leave().await;
                        }
                        return end;
                    }
                },
                Heard::Names(names) => self.named(names),
                Heard::Time => {}
                Heard::End(End::Left(told)) => {
                    self.leave().await;
                    return End::Left(told);
                }
                Heard::End(end) => return end,
            }
        }
    }

    fn group(&self) -> &str {
        self.membership.coordinator.group()
    }

    fn is_member(&self) -> bool {
        0 < self.epoch
    }

    /// Waits for the next thing to do.
    async fn wait(&mut self) -> Heard {
        let heartbeat = (!self.is_losing).then_some(self.next_at);
        let missed = self.membership.missed_at().filter(|_| self.is_member());
        let resolve = self.resolve_at.filter(|_| self.target.is_some());
        let due = [heartbeat, missed, resolve].into_iter().flatten().min();
        let due = due.unwrap_or_else(|| Instant::now() + self.interval);
        self.unless_commanded(async {
            tokio::time::sleep_until(due).await;
            Heard::Time
        })
        .await
    }

    /// Runs `work` to its end, minding commands meanwhile; one to leave ends it early.
    async fn unless_commanded(&mut self, work: impl Future<Output = Heard>) -> Heard {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                heard = &mut work => return heard,
                command = self.membership.command() => match command {
                    None => return Heard::End(End::Abandoned),
                    Some(Command::Leave(told)) => return Heard::End(End::Left(Some(told))),
                    Some(Command::Subscribe(subscription)) => {
                        self.subscription = subscription;
                        self.next_at = Instant::now();
                    }
                    Some(Command::Settled { serial, owned, .. }) => self.settled(serial, owned),
                },
            }
            // What was waited for may be earlier by now; a request under way is not given up for that.
            if self.next_at <= Instant::now() && !self.is_losing && self.is_idle {
                return Heard::Time;
            }
        }
    }

    /// The handle has carried an order out.
    fn settled(&mut self, serial: u64, owned: Partitions) {
        self.owned = owned;
        if self.outstanding == Some(serial) {
            self.outstanding = None;
            self.is_losing = false;
        }
        // The coordinator waits for it.
        self.next_at = Instant::now();
    }

    async fn heartbeat(&mut self) -> Heard {
        let saying = self.saying();
        let coordinator = self.membership.coordinator.clone();
        let is_joining = self.epoch == JOINING;
        let full = is_joining || self.said.is_none();
        let mut request = self.request(self.epoch);
        let said = self.said.as_ref();
        let has_changed = |same: fn(&Said, &Said) -> bool| said.is_none_or(|said| !same(said, &saying));
        if full {
            request.rebalance_timeout_ms = millis(self.membership.config.max_poll_interval);
            request.server_assignor = self
                .membership
                .config
                .remote_assignor
                .clone()
                .map(KafkaString::from);
            request.rack_id = self.membership.config.client_rack.clone().map(KafkaString::from);
        }
        if full || has_changed(|one, other| one.topics == other.topics) {
            let names = saying.topics.iter().flatten().cloned().map(KafkaString::from);
            request.subscribed_topic_names = Some(names.collect());
        }
        if full || has_changed(|one, other| one.regex == other.regex) {
            // An empty one takes an earlier one back.
            let regex = saying
                .regex
                .clone()
                .or_else(|| said.and_then(|said| said.regex.as_ref()).map(|_| String::new()));
            request.subscribed_topic_regex = regex.map(KafkaString::from);
        }
        if is_joining {
            request.topic_partitions = Some(Vec::new());
        } else if full || has_changed(|one, other| one.owned == other.owned) {
            request.topic_partitions = Some(by_id(&saying.owned));
        }
        // An order that is carried out while this is under way is said with the next one.
        self.next_at = Instant::now() + self.interval;
        let lowest = if saying.regex.is_some() {
            VERSION_WITH_OWN_ID
        } else {
            0
        };
        let answer = async move {
            let connection = coordinator.connection(Lane::Group).await?;
            let version = connection.version_from(ApiKey::ConsumerGroupHeartbeat, lowest)?;
            if version < VERSION_WITH_OWN_ID && is_joining {
                request.member_id = KafkaString::default();
            }
            let timeout = connection.request_timeout();
            let response = connection.call_version(&request, version, timeout).await?;
            let message = response.error_message.as_ref().map(KafkaString::as_str);
            error::check(
                ApiKey::ConsumerGroupHeartbeat,
                response.error_code,
                coordinator.group(),
                message,
            )?;
            Ok(response)
        };
        self.is_idle = false;
        self.may_be_member = true;
        let heard = self.unless_commanded(async { Heard::Answer(answer.await) }).await;
        self.is_idle = true;
        if let Heard::Answer(Ok(_)) = &heard {
            self.said = Some(saying);
        }
        heard
    }

    fn saying(&self) -> Said {
        let (topics, regex) = match &self.subscription {
            Subscription::Topics(topics) => (Some(topics.clone()), None),
            Subscription::Pattern(pattern) => (None, Some(pattern.text().to_owned())),
        };
        Said {
            topics,
            regex,
            owned: self.owned.clone(),
        }
    }

    /// A heartbeat that says nothing but who speaks.
    fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequestData {
        let config = &self.membership.config;
        ConsumerGroupHeartbeatRequestData {
            group_id: self.membership.coordinator.group_id(),
            member_id: KafkaString::from(self.membership.member_id.clone()),
            member_epoch: epoch,
            instance_id: config.group_instance_id.clone().map(KafkaString::from),
            rebalance_timeout_ms: -1,
            ..ConsumerGroupHeartbeatRequestData::default()
        }
    }

    fn answered(&mut self, answer: ConsumerGroupHeartbeatResponseData) {
        self.failures = 0;
        if let Some(id) = answer.member_id.as_ref().filter(|id| !id.is_empty()) {
            self.membership.member_id = id.to_string();
        }
        if self.epoch != answer.member_epoch {
            tracing::debug!(
                group = self.group(),
                epoch = answer.member_epoch,
                "the member's epoch"
            );
            self.epoch = answer.member_epoch;
        }
        let identity = CommitIdentity {
            member_id: self.membership.member_id.clone(),
            epoch: self.epoch,
            instance_id: self.membership.config.group_instance_id.clone(),
        };
        self.membership.link.set_identity(Some(identity));
        if let Ok(interval @ 1..) = u64::try_from(answer.heartbeat_interval_ms) {
            let interval = Duration::from_millis(interval);
            // Unless something is to be said at once.
            if Instant::now() < self.next_at {
                self.next_at = self.next_at - self.interval + interval;
            }
            self.interval = interval;
        }
        if let Some(assignment) = answer.assignment {
            let rows = assignment.topic_partitions.into_iter();
            let target = rows
                .map(|row| (TopicId::from(row.topic_id), row.partitions))
                .collect();
            self.target = Some(target);
            self.resolve_at = None;
        }
    }

    /// Finds the names of what is to be read.
    async fn resolve(&mut self) -> Heard {
        let cluster = self.membership.coordinator.cluster().clone();
        let metadata = cluster.metadata();
        let ids: Vec<_> = self.target.iter().flat_map(BTreeMap::keys).copied().collect();
        let mut names: BTreeMap<TopicId, Arc<str>> = ids
            .iter()
            .filter_map(|id| Some((*id, Arc::clone(metadata.name_of(*id)?))))
            .collect();
        let unknown: Vec<_> = ids.into_iter().filter(|id| !names.contains_key(id)).collect();
        if unknown.is_empty() {
            return Heard::Names(Ok(names));
        }
        let request = MetadataRequestData {
            topics: Some(
                unknown
                    .iter()
                    .map(|id| MetadataRequestTopic {
                        name: None,
                        topic_id: (*id).into(),
                        ..MetadataRequestTopic::default()
                    })
                    .collect(),
            ),
            allow_auto_topic_creation: false,
            ..MetadataRequestData::default()
        };
        let coordinator = self.membership.coordinator.clone();
        self.is_idle = false;
        let heard = self
            .unless_commanded(async move {
                let result = async {
                    let connection = coordinator.connection(Lane::General).await?;
                    let version = connection.version_from(ApiKey::Metadata, METADATA_VERSION_WITH_IDS)?;
                    let timeout = connection.request_timeout();
                    connection.call_version(&request, version, timeout).await
                };
                Heard::Names(result.await.map(|response| {
                    for topic in &response.topics {
                        if let Some(name) = topic.name.as_ref().filter(|_| topic.error_code == 0) {
                            cluster.watch_topic(name.as_str());
                            names.insert(TopicId::from(topic.topic_id), name.as_str().into());
                        }
                    }
                    names
                }))
            })
            .await;
        self.is_idle = true;
        heard
    }

    /// Orders what is to be read, as far as it has names; the rest is looked up again.
    fn named(&mut self, names: Result<BTreeMap<TopicId, Arc<str>>>) {
        let Some(target) = self.target.take() else { return };
        let names = match names {
            Ok(names) => names,
            Err(error) => {
                tracing::debug!(group = self.group(), %error, "cannot look topics up");
                self.membership.coordinator.note(&error);
                BTreeMap::new()
            }
        };
        let mut wanted = Partitions::new();
        let mut is_complete = true;
        for (id, indexes) in &target {
            match names.get(id) {
                Some(name) => {
                    let rows = indexes.iter();
                    wanted.extend(rows.map(|index| (TopicPartition::new(Arc::clone(name), *index), *id)));
                }
                None => is_complete = false,
            }
        }
        // A coordinator that was told everything says everything, though nothing has changed.
        let is_news = self.ordered.as_ref() != Some(&wanted);
        if is_news && (is_complete || !wanted.is_empty()) {
            let order = Order::Read(wanted.clone());
            self.outstanding = Some(self.membership.link.order(order));
            self.ordered = Some(wanted);
        }
        if is_complete {
            self.resolve_at = None;
        } else {
            self.target = Some(target);
            self.resolve_at = Some(Instant::now() + self.membership.backoff(4));
        }
    }

    /// What is read is somebody else's by now.
    fn lose(&mut self) {
        self.epoch = JOINING;
        self.said = None;
        self.target = None;
        self.ordered = None;
        self.may_be_member = false;
        self.membership.link.set_identity(None);
        self.outstanding = Some(self.membership.link.order(Order::Lose));
        self.is_losing = true;
        self.next_at = Instant::now();
    }

    async fn leave_for_want_of_polls(&mut self) {
        tracing::warn!(
            group = self.group(),
            max_poll_interval = ?self.membership.config.max_poll_interval,
            "the time between two polls was longer than max.poll.interval.ms; leaving the group until the next one"
        );
        self.leave().await;
        self.lose();
    }

    /// Tells the coordinator, as far as it can be told.
    async fn leave(&mut self) {
        if !self.may_be_member {
            return;
        }
        let is_static = self.membership.config.group_instance_id.is_some();
        let request = self.request(if is_static { LEAVING_FOR_A_WHILE } else { LEAVING });
        // On the same lane, so that it does not overtake a heartbeat.
        let coordinator = self.membership.coordinator.on(Lane::Group);
        let left = coordinator.ask(
            Membership::leave_deadline(),
            |connection| {
                Ok((
                    request.clone(),
                    connection.version(ApiKey::ConsumerGroupHeartbeat)?,
                ))
            },
            |response| {
                let message = response.error_message.as_ref().map(KafkaString::as_str);
                error::check(
                    ApiKey::ConsumerGroupHeartbeat,
                    response.error_code,
                    coordinator.group(),
                    message,
                )
            },
        );
        if let Err(error) = left.await {
            tracing::info!(group = self.group(), %error, "the coordinator was not told that the member leaves");
        }
        self.epoch = JOINING;
        self.said = None;
        self.may_be_member = false;
    }
}

fn by_id(partitions: &Partitions) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (partition, id) in partitions {
        topics.entry(*id).or_default().push(partition.partition);
    }
    topics
        .into_iter()
        .map(|(id, partitions)| TopicPartitions {
            topic_id: id.into(),
            partitions,
            ..TopicPartitions::default()
        })
        .collect()
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// An id as Kafka's clients make theirs.
fn random_id() -> String {
    let mut bytes = [0; 16];
    fastrand::fill(&mut bytes);
    // The bits that say "random" (RFC 4122, version 4).
    TopicId::from_bytes(uuid_v4(bytes)).to_string()
}

fn uuid_v4(mut bytes: [u8; 16]) -> [u8; 16] {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    bytes
}
