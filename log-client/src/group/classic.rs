//! A member of a classic group: all members join, the coordinator makes one of them the leader, the leader works
//! out who reads what, and the coordinator hands that round.
//!
//! | what happens | the member |
//! |---|---|
//! | the group must join again | eager: gives up what it reads, then joins; cooperative: joins with what it reads |
//! | it gets an assignment | orders it to be read; cooperative: joins again if that made it give anything up |
//! | what it wants has changed, or the leader sees other partitions | joins again |
//! | unknown, or of an old generation | loses what it reads; when that is done it joins as a new member |
//! | an error that passes | tries again, later and later |
//! | a topic that the leader cannot describe, for a reason that passes | tries again: it assigns nothing that it does not know |
//! | a topic that it may not describe, and leads | leaves if it wants to read that; else assigns it to nobody |
//! | anything else | leaves, and is no member any more |
//!
//! Heartbeats go on while the handle gives partitions up; while the member waits in `JoinGroup` the coordinator
//! knows that it is there. A caller who stays away for `max.poll.interval.ms` makes the member leave, and lose
//! what it reads; a static member only falls silent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use log_core::model::TopicId;
use log_core::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use log_core::protocol::messages::leave_group_request::MemberIdentity;
use log_core::protocol::messages::{HeartbeatRequestData, JoinGroupRequestData, LeaveGroupRequestData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};
use tokio::time::Instant;

use super::assignor::PartitionCounts;
use super::joining::{Joined, Joining, NotJoined, partition_counts};
use super::link::{Command, Order, Partitions};
use super::membership::{End, Membership, Verdict, judge};
use super::modern::millis;
use super::subscription::Subscription;
use crate::admin::Admin;
use crate::cluster::Lane;
use crate::consumer_protocol::{PROTOCOL_TYPE, Subscription as Wanted, encode_subscription};
use crate::coordinator::CommitIdentity;
use crate::error::{self, Error, Result};

const NO_GENERATION: i32 = -1;

/// From this version on one `LeaveGroup` names several members.
const VERSION_WITH_MEMBERS: i16 = 3;

pub(super) struct Classic<'a> {
    membership: &'a mut Membership,
    subscription: Subscription,
    /// The topics that the subscription means at the moment.
    topics: BTreeSet<String>,
    /// The one that the coordinator takes the member for a part of.
    generation: i32,
    /// The one in which it got what it reads.
    assigned_in: i32,
    is_joined: bool,
    /// What the leader based its work on; none for those who do not lead.
    counts: Option<PartitionCounts>,
    must_rejoin: bool,
    next_heartbeat: Instant,
    next_look: Instant,
    failures: u32,
    not_before: Option<Instant>,
    owned: Partitions,
    /// The order that the handle has not carried out yet.
    outstanding: Option<u64>,
}

/// What came of a step.
enum Heard {
    Joined(Result<Joined, NotJoined>),
    Beat(Result<()>),
    Seen(Result<Seen>),
    Time,
    End(End),
}

/// What there is to be read, at a second look.
struct Seen {
    topics: BTreeSet<String>,
    counts: Option<PartitionCounts>,
}

impl<'a> Classic<'a> {
    pub(super) fn new(membership: &'a mut Membership, subscription: Subscription) -> Self {
        let topics = match &subscription {
            Subscription::Topics(topics) => topics.clone(),
            Subscription::Pattern(_) => BTreeSet::new(),
        };
        let now = Instant::now();
        Self {
            membership,
            subscription,
            topics,
            generation: NO_GENERATION,
            assigned_in: NO_GENERATION,
            is_joined: false,
            counts: None,
            must_rejoin: true,
            next_heartbeat: now,
            next_look: now,
            failures: 0,
            not_before: None,
            owned: Partitions::new(),
            outstanding: None,
        }
    }

    pub(super) async fn run(mut self) -> End {
        loop {
            let now = Instant::now();
            let is_due = |at: Instant| at <= now;
            if self.is_joined && self.membership.missed_at().is_some_and(is_due) {
                self.leave_for_want_of_polls().await;
            }
            let is_waiting = self.not_before.is_some_and(|at| now < at);
            let heard = if is_waiting {
                self.wait().await
            } else if self.is_joined && is_due(self.next_heartbeat) {
                self.heartbeat().await
            } else if is_due(self.next_look) {
                self.look().await
            } else if self.must_rejoin && self.may_join() {
                self.join().await
            } else {
                if self.must_rejoin && self.outstanding.is_none() {
                    // Eager: what is read is given up before anybody can be given it.
                    self.order(Order::Release);
                }
                self.wait().await
            };
            let error = match heard {
                Heard::Joined(Ok(joined)) => {
                    self.joined(joined);
                    continue;
                }
                Heard::Seen(Ok(seen)) => {
                    self.seen(seen);
                    continue;
                }
                Heard::Beat(Ok(())) => {
                    self.failures = 0;
                    continue;
                }
                Heard::Time => continue,
                Heard::End(End::Left(told)) => {
                    self.leave(self.membership.config.group_instance_id.is_none())
                        .await;
                    return End::Left(told);
                }
                Heard::End(end) => return end,
                Heard::Joined(Err(NotJoined { error, .. }))
                | Heard::Seen(Err(error))
                | Heard::Beat(Err(error)) => error,
            };
            if let Some(end) = self.failed(error).await {
                return end;
            }
        }
    }

    fn group(&self) -> &str {
        self.membership.coordinator.group()
    }

    /// Whether the handle has nothing to do before the member can join.
    fn may_join(&self) -> bool {
        self.outstanding.is_none() && (self.membership.config.is_cooperative() || self.owned.is_empty())
    }

    fn order(&mut self, order: Order) {
        self.outstanding = Some(self.membership.link.order(order));
    }

    async fn failed(&mut self, error: Error) -> Option<End> {
        self.membership.coordinator.note(&error);
        if error.code() == Some(ErrorCode::RebalanceInProgress) {
            self.must_rejoin = true;
            return None;
        }
        match judge(&error) {
            Verdict::Again => {
                self.failures += 1;
                self.not_before = Some(Instant::now() + self.membership.backoff(self.failures));
                tracing::debug!(group = self.group(), %error, "trying again");
                None
            }
            Verdict::Expelled => {
                tracing::info!(group = self.group(), %error, "expelled from the group; joining anew");
                if error.code() == Some(ErrorCode::UnknownMemberId) {
                    self.membership.member_id.clear();
                }
                self.lose();
                None
            }
            Verdict::Unserved | Verdict::Final => {
                let end = self.membership.failed(error);
                // The others need not wait for it.
                self.leave(self.membership.config.group_instance_id.is_none())
                    .await;
                Some(end)
            }
        }
    }

    /// What is read may be somebody else's by now.
    fn lose(&mut self) {
        self.generation = NO_GENERATION;
        self.assigned_in = NO_GENERATION;
        self.is_joined = false;
        self.counts = None;
        self.must_rejoin = true;
        self.membership.link.set_identity(None);
        // Also with nothing to lose: a member whose caller is away does not join.
        self.order(Order::Lose);
    }

    /// Waits for the next thing to do.
    async fn wait(&mut self) -> Heard {
        let now = Instant::now();
        let heartbeat = self.is_joined.then_some(self.next_heartbeat);
        let missed = self.membership.missed_at().filter(|_| self.is_joined);
        let due = [heartbeat, missed, Some(self.next_look)]
            .into_iter()
            .flatten()
            .min();
        let due = match self.not_before.filter(|at| now < *at) {
            Some(at) => at,
            None => due.unwrap_or(now),
        };
        let work = async {
            tokio::time::sleep_until(due).await;
            Heard::Time
        };
        self.unless_commanded(work, true).await
    }

    /// Runs `work` to its end, minding commands meanwhile; one to leave ends it early, and with `is_idle` every
    /// other as well.
    async fn unless_commanded(&mut self, work: impl Future<Output = Heard>, is_idle: bool) -> Heard {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                heard = &mut work => return heard,
                command = self.membership.command() => match command {
                    None => return Heard::End(End::Abandoned),
                    Some(Command::Leave(told)) => return Heard::End(End::Left(Some(told))),
                    Some(Command::Subscribe(subscription)) => self.subscribe(subscription),
                    Some(Command::Settled { serial, owned, gave_up }) => self.settled(serial, owned, gave_up),
                },
            }
            if is_idle {
                return Heard::Time;
            }
        }
    }

    fn subscribe(&mut self, subscription: Subscription) {
        match &subscription {
            Subscription::Topics(topics) => self.topics.clone_from(topics),
            Subscription::Pattern(_) => self.topics.clear(),
        }
        self.subscription = subscription;
        self.next_look = Instant::now();
        self.must_rejoin = true;
    }

    /// The handle has carried an order out.
    fn settled(&mut self, serial: u64, owned: Partitions, gave_up: bool) {
        self.owned = owned;
        if self.outstanding == Some(serial) {
            self.outstanding = None;
        }
        // What was given up waits for somebody to read it.
        self.must_rejoin |= gave_up && self.is_joined && self.membership.config.is_cooperative();
    }

    async fn heartbeat(&mut self) -> Heard {
        self.next_heartbeat = Instant::now() + self.membership.config.heartbeat_interval;
        let coordinator = self.membership.coordinator.clone();
        let request = HeartbeatRequestData {
            group_id: coordinator.group_id(),
            generation_id: self.generation,
            member_id: KafkaString::from(self.membership.member_id.clone()),
            group_instance_id: self.instance_id(),
            ..HeartbeatRequestData::default()
        };
        let beat = async move {
            let connection = coordinator.connection(Lane::Group).await?;
            let response = connection.call(&request).await?;
            error::check(ApiKey::Heartbeat, response.error_code, coordinator.group(), None)
        };
        self.unless_commanded(async { Heard::Beat(beat.await) }, false)
            .await
    }

    fn instance_id(&self) -> Option<KafkaString> {
        let name = self.membership.config.group_instance_id.clone();
        name.map(KafkaString::from)
    }

    /// Looks which topics the subscription means, and what the leader based its work on.
    async fn look(&mut self) -> Heard {
        let cluster = self.membership.coordinator.cluster().clone();
        let subscription = self.subscription.clone();
        let excludes_internal = self.membership.config.exclude_internal_topics;
        let led = self.counts.clone();
        let look = async move {
            let topics = match &subscription {
                Subscription::Topics(topics) => topics.clone(),
                Subscription::Pattern(pattern) => {
                    let listed = Admin::on(cluster.clone()).list_topics().await?;
                    listed
                        .iter()
                        .filter(|topic| !(excludes_internal && topic.is_internal))
                        .filter(|topic| pattern.matches(&topic.name))
                        .map(|topic| topic.name.to_string())
                        .collect()
                }
            };
            let counts = match led {
                Some(led) => {
                    let names = led.keys().map(|name| &**name);
                    Some(partition_counts(&cluster, names, |name| topics.contains(name)).await?)
                }
                None => None,
            };
            Ok(Seen { topics, counts })
        };
        self.unless_commanded(async { Heard::Seen(look.await) }, false)
            .await
    }

    fn seen(&mut self, seen: Seen) {
        // One that failed is made again.
        let age = self.membership.coordinator.cluster().config().metadata_max_age;
        self.next_look = Instant::now() + age;
        let has_other_topics = seen.topics != self.topics;
        let has_other_counts = self.counts.is_some() && seen.counts != self.counts;
        if has_other_topics || has_other_counts {
            tracing::info!(group = self.group(), "topics have changed; the group joins again");
            self.must_rejoin = true;
        }
        self.topics = seen.topics;
    }

    async fn join(&mut self) -> Heard {
        self.must_rejoin = false;
        let joining = match self.joining() {
            Ok(joining) => joining,
            Err(error) => return Heard::Joined(Err(error.into())),
        };
        let heard = self
            .unless_commanded(async move { Heard::Joined(joining.join().await) }, false)
            .await;
        if let Heard::Joined(Err(failed)) = &heard {
            self.must_rejoin = true;
            if let Some(member_id) = &failed.member_id {
                // Whoever came again without it would leave a member behind that nobody is.
                self.membership.member_id.clone_from(member_id);
            }
            if let Some(generation) = failed.generation {
                // The group counts on without an assignment: as one of the last generation it would be expelled.
                self.enter(generation);
            }
            if failed.error.code() == Some(ErrorCode::MemberIdRequired) {
                // The coordinator wants to see that it is meant.
                return Heard::Time;
            }
        }
        heard
    }

    fn joining(&self) -> Result<Joining> {
        let config = &self.membership.config;
        let mut protocols = Vec::with_capacity(config.assignors.len());
        for assignor in &config.assignors {
            let wanted = Wanted {
                topics: self.topics.iter().cloned().collect(),
                owned: self.owned.keys().cloned().collect(),
                generation: (0 <= self.assigned_in).then_some(self.assigned_in),
                rack_id: config.client_rack.clone(),
                user_data: None,
            };
            let metadata = encode_subscription(&wanted).map_err(|source| Error::Unwritable {
                api: ApiKey::JoinGroup,
                source: Arc::new(source),
            })?;
            protocols.push(JoinGroupRequestProtocol {
                name: KafkaString::from_static(assignor.name()),
                metadata,
                ..JoinGroupRequestProtocol::default()
            });
        }
        Ok(Joining {
            coordinator: self.membership.coordinator.on(Lane::Group),
            request: JoinGroupRequestData {
                group_id: self.membership.coordinator.group_id(),
                session_timeout_ms: millis(config.session_timeout),
                rebalance_timeout_ms: millis(config.max_poll_interval),
                member_id: KafkaString::from(self.membership.member_id.clone()),
                group_instance_id: self.instance_id(),
                protocol_type: KafkaString::from_static(PROTOCOL_TYPE),
                protocols,
                ..JoinGroupRequestData::default()
            },
            // The coordinator waits so long for the other members.
            timeout: config.max_poll_interval + Duration::from_secs(5),
        })
    }

    /// The coordinator takes the member for a part of a generation, with an assignment or still without. One that was in
    /// the group before commits and shows itself as that from now on.
    fn enter(&mut self, generation: i32) {
        self.generation = generation;
        self.next_heartbeat = Instant::now() + self.membership.config.heartbeat_interval;
        if self.is_joined {
            self.membership.link.set_identity(Some(CommitIdentity {
                member_id: self.membership.member_id.clone(),
                epoch: generation,
                instance_id: self.membership.config.group_instance_id.clone(),
            }));
        }
    }

    fn joined(&mut self, joined: Joined) {
        tracing::debug!(
            group = self.group(),
            member_id = joined.member_id,
            generation = joined.generation,
            leads = joined.counts.is_some(),
            partitions = joined.assignment.partitions.len(),
            "joined the group"
        );
        self.failures = 0;
        self.not_before = None;
        self.is_joined = true;
        self.assigned_in = joined.generation;
        self.counts = joined.counts;
        self.membership.member_id = joined.member_id;
        self.enter(joined.generation);
        let partitions = joined.assignment.partitions.into_iter();
        let wanted = partitions.map(|partition| (partition, TopicId::ZERO)).collect();
        self.order(Order::Read(wanted));
    }

    async fn leave_for_want_of_polls(&mut self) {
        tracing::warn!(
            group = self.group(),
            max_poll_interval = ?self.membership.config.max_poll_interval,
            "the time between two polls was longer than max.poll.interval.ms; leaving the group until the next one"
        );
        self.leave(self.membership.config.group_instance_id.is_none())
            .await;
        self.lose();
    }

    /// Tells the coordinator, as far as it can be told; a static member keeps its place for when it is back.
    async fn leave(&mut self, tells: bool) {
        self.is_joined = false;
        let member_id = std::mem::take(&mut self.membership.member_id);
        if !tells || member_id.is_empty() {
            return;
        }
        let member_id = KafkaString::from(member_id);
        let coordinator = &self.membership.coordinator;
        let request = |version| {
            let mut request = LeaveGroupRequestData {
                group_id: coordinator.group_id(),
                ..LeaveGroupRequestData::default()
            };
            if version < VERSION_WITH_MEMBERS {
                request.member_id = member_id.clone();
            } else {
                request.members = vec![MemberIdentity {
                    member_id: member_id.clone(),
                    reason: Some(KafkaString::from_static("the consumer leaves the group")),
                    ..MemberIdentity::default()
                }];
            }
            request
        };
        let left = coordinator.ask(
            Membership::leave_deadline(),
            |connection| {
                let version = connection.version(ApiKey::LeaveGroup)?;
                Ok((request(version), version))
            },
            |response| error::check(ApiKey::LeaveGroup, response.error_code, coordinator.group(), None),
        );
        if let Err(error) = left.await {
            tracing::info!(group = self.group(), %error, "the coordinator was not told that the member leaves");
        }
    }
}
