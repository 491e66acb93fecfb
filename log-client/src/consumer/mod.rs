//! The partition consumer: named partitions, read from a named place onwards.
//!
//! - `records`: what a fetch brought for one partition
//! - `aborted`: which batches of a fetch belong to aborted transactions
//! - `fetch`: one request to one broker and its response
//! - `start`: the offsets that starts stand for
//!
//! Here is what goes on between them: each broker has one fetch under way, which asks for the partitions
//! whose records have been handed out; so the next records travel while the last ones are worked on.
//! Nothing happens in the background that nobody waits for: dropping the consumer ends its requests.
//!
//! With [`IsolationLevel::ReadCommitted`](crate::config::IsolationLevel) records of aborted transactions are passed over, and
//! the broker gives none of open ones.

mod aborted;
mod fetch;
mod records;
mod start;

#[cfg(test)]
mod tests;

pub use records::{ConsumerRecord, PartitionRecords};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log_core::model::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::config::{ConsumerConfig, OffsetReset, StartAt};
use crate::error::{Error, Result};
use crate::metadata::BrokerId;
use crate::offsets::{ListedOffset, OffsetQuery, list_offsets};
use fetch::{Fetched, Wanted, fetch};
pub(crate) use start::back;
use start::resolve;

/// Reads partitions.
#[derive(Debug)]
pub struct Consumer {
    cluster: Cluster,
    config: Arc<ConsumerConfig>,
    partitions: BTreeMap<TopicPartition, Assigned>,
    /// Brokers with a fetch under way.
    busy: BTreeSet<BrokerId>,
    work: JoinSet<Event>,
    ready: Vec<PartitionRecords>,
    refresh: Refresh,
    /// Counts assignments and fetches, to tell late answers and to take turns.
    turn: u64,
}

/// One partition that is read.
#[derive(Debug)]
struct Assigned {
    position: Position,
    /// The turn of its last assignment or seek: answers to older questions do not count.
    since: u64,
    is_asked: bool,
    /// Whether its records are held back.
    is_paused: bool,
    /// The turn in which it last got records; who waited longest is asked for first.
    served: u64,
    failures: u32,
    failing_since: Option<Instant>,
    not_before: Option<Instant>,
    high_watermark: Option<Offset>,
}

#[derive(Debug, Clone, Copy)]
enum Position {
    Unresolved(StartAt),
    At { offset: Offset, last_epoch: LeaderEpoch },
}

#[derive(Debug, Default)]
struct Refresh {
    is_running: bool,
    is_wanted: bool,
    not_before: Option<Instant>,
}

#[derive(Debug)]
enum Event {
    Resolved(Vec<(TopicPartition, u64, Result<Offset>)>),
    Fetched {
        broker: BrokerId,
        since: BTreeMap<TopicPartition, u64>,
        rows: Vec<(TopicPartition, Result<Fetched>)>,
    },
    Refreshed(Result<()>),
}

impl Consumer {
    /// A consumer of no partitions yet. Connects when it is first polled.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn new(config: ConsumerConfig) -> Result<Self> {
        let cluster = Cluster::new(config.client.clone())?;
        Ok(Self {
            cluster,
            config: Arc::new(config),
            partitions: BTreeMap::new(),
            busy: BTreeSet::new(),
            work: JoinSet::new(),
            ready: Vec::new(),
            refresh: Refresh::default(),
            turn: 0,
        })
    }

    /// The cluster it reads from.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Reads a partition, from `start`; if it is read already, from there instead.
    pub fn assign(&mut self, partition: TopicPartition, start: StartAt) {
        self.cluster.watch_topic(&partition.topic);
        self.turn += 1;
        self.ready.retain(|records| *records.partition() != partition);
        let assigned = Assigned {
            position: match start {
                StartAt::Offset(offset) => Position::At {
                    offset,
                    last_epoch: LeaderEpoch::NONE,
                },
                _ => Position::Unresolved(start),
            },
            since: self.turn,
            is_asked: false,
            is_paused: false,
            served: 0,
            failures: 0,
            failing_since: None,
            not_before: None,
            high_watermark: None,
        };
        self.partitions.insert(partition, assigned);
    }

    /// Reads all partitions of a topic, from `start`, and returns how many there are.
    ///
    /// # Errors
    /// What is known about the topic when `api_timeout` is over.
    pub async fn assign_topic(&mut self, topic: &str, start: StartAt) -> Result<usize> {
        let topic = self.cluster.topic(topic, self.cluster.api_deadline()).await?;
        for partition in &topic.partitions {
            let partition = TopicPartition::new(Arc::clone(&topic.name), partition.partition);
            self.assign(partition, start);
        }
        Ok(topic.partitions.len())
    }

    /// Reads a partition no more.
    pub fn unassign(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
        self.ready.retain(|records| records.partition() != partition);
    }

    /// Reads a partition from another place on, paused or not.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a partition that is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, start: StartAt) -> Result<()> {
        let Some(assigned) = self.partitions.get(partition) else {
            return Err(not_assigned(partition));
        };
        let is_paused = assigned.is_paused;
        self.assign(partition.clone(), start);
        if let Some(assigned) = self.partitions.get_mut(partition) {
            assigned.is_paused = is_paused;
        }
        Ok(())
    }

    /// Holds the records of a partition back; what was fetched already is kept for later.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a partition that is not assigned.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<()> {
        self.set_paused(partition, true)
    }

    /// Goes on with a partition that was paused.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a partition that is not assigned.
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<()> {
        self.set_paused(partition, false)
    }

    fn set_paused(&mut self, partition: &TopicPartition, is_paused: bool) -> Result<()> {
        let assigned = self.partitions.get_mut(partition);
        assigned.ok_or_else(|| not_assigned(partition))?.is_paused = is_paused;
        Ok(())
    }

    /// Whether the records of a partition are held back.
    #[must_use]
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        let assigned = self.partitions.get(partition);
        assigned.is_some_and(|assigned| assigned.is_paused)
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// Where reading goes on after what was handed out; none while a start is being looked up.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.position_with_epoch(partition).map(|(offset, _)| offset)
    }

    /// The position, and the leader epoch of the last record before it as far as that is known.
    pub(crate) fn position_with_epoch(&self, partition: &TopicPartition) -> Option<(Offset, LeaderEpoch)> {
        let waiting = self.ready.iter().find(|records| records.partition() == partition);
        if let Some(records) = waiting {
            return Some((records.asked_offset(), LeaderEpoch::NONE));
        }
        match self.partitions.get(partition)?.position {
            Position::At { offset, last_epoch } => Some((offset, last_epoch)),
            Position::Unresolved(_) => None,
        }
    }

    /// The end of the partition, as the last fetch showed it.
    #[must_use]
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.high_watermark
    }

    /// Looks up offsets of any partitions.
    pub async fn list_offsets(
        &self,
        queries: Vec<(TopicPartition, OffsetQuery)>,
    ) -> Vec<(TopicPartition, Result<ListedOffset>)> {
        let deadline = self.cluster.api_deadline();
        list_offsets(&self.cluster, queries, self.config.isolation, deadline).await
    }

    /// The offsets that starts stand for; one result each, in their order. An offset stands for itself,
    /// whether or not the partition has it.
    pub async fn starting_offsets(
        &self,
        starts: Vec<(TopicPartition, StartAt)>,
    ) -> Vec<(TopicPartition, Result<Offset>)> {
        let asked = starts
            .iter()
            .filter(|(_, start)| !matches!(start, StartAt::Offset(_)))
            .map(|(partition, start)| (partition.clone(), *start, 0))
            .collect();
        let resolved = resolve(&self.cluster, self.config.isolation, asked).await;
        let mut resolved: BTreeMap<_, _> = resolved
            .into_iter()
            .map(|(partition, _, result)| (partition, result))
            .collect();
        starts
            .into_iter()
            .map(|(partition, start)| {
                let result = match start {
                    StartAt::Offset(offset) => Ok(offset),
                    _ => resolved
                        .remove(&partition)
                        .unwrap_or(Err(Error::Closed("consumer"))),
                };
                (partition, result)
            })
            .collect()
    }

    /// Waits until there are records and returns all that have arrived, at most one piece per partition. A piece that
    /// only ends transactions, or was aborted, shows no records, but tells how far reading has come.
    /// May be cancelled without loss.
    ///
    /// # Errors
    /// What a partition fails with for good, or for longer than `api_timeout`; polling again goes on with
    /// the others, and tries that one again.
    pub async fn poll(&mut self) -> Result<Vec<PartitionRecords>> {
        if self.partitions.is_empty() {
            return Err(Error::config("no partition is assigned to the consumer"));
        }
        loop {
            let ready = self.take_ready();
            if !ready.is_empty() {
                // The next fetch travels while these are worked on.
                if let Err(error) = self.start_work(Instant::now()) {
                    // It comes back with the next poll, when nothing is ready.
                    tracing::debug!(%error, "found while fetching ahead");
                }
                return Ok(ready);
            }
            let due = self.start_work(Instant::now())?;
            tokio::select! {
                Some(event) = self.work.join_next(), if !self.work.is_empty() => match event {
                    Ok(event) => self.handle(event)?,
                    // Nobody aborts these tasks, so this is a mistake of ours that has surfaced there.
                    Err(failure) => match failure.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => return Err(Error::Closed("consumer")),
                    },
                },
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// What has arrived, but for what is held back.
    fn take_ready(&mut self) -> Vec<PartitionRecords> {
        let partitions = &self.partitions;
        let is_paused = |records: &mut PartitionRecords| {
            let assigned = partitions.get(records.partition());
            assigned.is_some_and(|assigned| assigned.is_paused)
        };
        self.ready.extract_if(.., |records| !is_paused(records)).collect()
    }

    /// Begins whatever can be begun, and says when to look again at the latest.
    fn start_work(&mut self, now: Instant) -> Result<Instant> {
        let mut due = now + self.config.client.metadata_max_age;
        self.resolve(now);
        self.fetch(now)?;
        self.keep_fresh(now, &mut due);
        for assigned in self.partitions.values() {
            if let Some(at) = assigned.not_before.filter(|at| now < *at) {
                due = due.min(at);
            }
        }
        Ok(due)
    }

    /// Looks up where to begin, for all partitions that do not know yet.
    fn resolve(&mut self, now: Instant) {
        let mut wanted = Vec::new();
        for (partition, assigned) in &mut self.partitions {
            if let Position::Unresolved(start) = assigned.position
                && assigned.is_free(now)
            {
                assigned.is_asked = true;
                wanted.push((partition.clone(), start, assigned.since));
            }
        }
        if !wanted.is_empty() {
            let (cluster, isolation) = (self.cluster.clone(), self.config.isolation);
            self.work
                .spawn(async move { Event::Resolved(resolve(&cluster, isolation, wanted).await) });
        }
    }

    /// Begins a fetch at every broker that has partitions to be asked for and none under way.
    fn fetch(&mut self, now: Instant) -> Result<()> {
        let metadata = self.cluster.metadata();
        let mut rounds: BTreeMap<BrokerId, Vec<(u64, Wanted)>> = BTreeMap::new();
        let mut unled = Vec::new();
        for (partition, assigned) in &self.partitions {
            let Position::At { offset, last_epoch } = assigned.position else {
                continue;
            };
            if assigned.is_paused || !assigned.is_free(now) {
                continue;
            }
            let (leader, leader_epoch) = match metadata.leader(partition) {
                Ok(leader) => leader,
                Err(error) => {
                    self.refresh.is_wanted = true;
                    if metadata.has_answer_about(&partition.topic) {
                        unled.push((partition.clone(), error));
                    }
                    continue;
                }
            };
            if self.busy.contains(&leader) {
                continue;
            }
            let wanted = Wanted {
                partition: partition.clone(),
                topic_id: metadata
                    .topic(&partition.topic)
                    .map_or(TopicId::ZERO, |topic| topic.id),
                offset,
                leader_epoch,
                last_epoch,
            };
            rounds.entry(leader).or_default().push((assigned.served, wanted));
        }
        for (broker, mut round) in rounds {
            // Who was served longest ago comes first; topics stay together as far as that allows.
            round.sort_by_key(|(served, _)| *served);
            let mut since = BTreeMap::new();
            let mut wanted = Vec::with_capacity(round.len());
            for (_, row) in round {
                if let Some(assigned) = self.partitions.get_mut(&row.partition) {
                    assigned.is_asked = true;
                    since.insert(row.partition.clone(), assigned.since);
                }
                wanted.push(row);
            }
            self.busy.insert(broker);
            let (cluster, config) = (self.cluster.clone(), Arc::clone(&self.config));
            self.work.spawn(async move {
                let rows = fetch(cluster, broker, config, wanted).await;
                Event::Fetched { broker, since, rows }
            });
        }
        let mut first_error = Ok(());
        for (partition, error) in unled {
            first_error = first_error.and(self.failed(&partition, error, now));
        }
        first_error
    }

    fn keep_fresh(&mut self, now: Instant, due: &mut Instant) {
        let metadata = self.cluster.metadata();
        let is_wanted = self.refresh.is_wanted || self.cluster.is_stale(&metadata);
        if !is_wanted || self.refresh.is_running {
            return;
        }
        if let Some(at) = self.refresh.not_before.filter(|at| now < *at) {
            *due = at.min(*due);
            return;
        }
        self.refresh.is_running = true;
        self.refresh.is_wanted = false;
        let cluster = self.cluster.clone();
        self.work
            .spawn(async move { Event::Refreshed(cluster.refresh(metadata.generation).await) });
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        match event {
            Event::Resolved(rows) => {
                let mut first_error = Ok(());
                for (partition, since, result) in rows {
                    let Some(assigned) = self.current(&partition, since) else {
                        continue;
                    };
                    match result {
                        Ok(offset) => {
                            assigned.position = Position::At {
                                offset,
                                last_epoch: LeaderEpoch::NONE,
                            };
                        }
                        Err(error) => first_error = first_error.and(self.failed(&partition, error, now)),
                    }
                }
                first_error
            }
            Event::Fetched { broker, since, rows } => {
                self.busy.remove(&broker);
                let mut first_error = Ok(());
                for (partition, result) in rows {
                    let since = since.get(&partition).copied().unwrap_or_default();
                    if self.current(&partition, since).is_none() {
                        continue;
                    }
                    let outcome = match result {
                        Ok(fetched) => {
                            self.fetched(&partition, fetched);
                            Ok(())
                        }
                        Err(error) => self.failed(&partition, error, now),
                    };
                    first_error = first_error.and(outcome);
                }
                first_error
            }
            Event::Refreshed(result) => {
                self.refresh.is_running = false;
                // Not more often than this, however many errors ask for it.
                let wait = self.config.client.retry_backoff.after(1);
                self.refresh.not_before = Some(now + wait);
                if let Err(error) = result {
                    tracing::debug!(%error, "cannot fetch metadata");
                    self.refresh.is_wanted = true;
                    return self.failed_everywhere(&error, now);
                }
                Ok(())
            }
        }
    }

    /// The partition, if it is still the one that was asked about; it may be asked about again.
    fn current(&mut self, partition: &TopicPartition, since: u64) -> Option<&mut Assigned> {
        let assigned = self.partitions.get_mut(partition)?;
        if assigned.since != since {
            return None;
        }
        assigned.is_asked = false;
        Some(assigned)
    }

    fn fetched(&mut self, partition: &TopicPartition, fetched: Fetched) {
        self.turn += 1;
        let Some(assigned) = self.partitions.get_mut(partition) else {
            return;
        };
        assigned.failures = 0;
        assigned.failing_since = None;
        assigned.not_before = None;
        assigned.high_watermark = Some(fetched.watermarks.high_watermark);
        if let Some(records) = fetched.records {
            assigned.served = self.turn;
            let before = match assigned.position {
                Position::At { last_epoch, .. } => last_epoch,
                Position::Unresolved(_) => LeaderEpoch::NONE,
            };
            assigned.position = Position::At {
                offset: records.next_offset(),
                last_epoch: fetched.last_epoch.unwrap_or(before),
            };
            self.ready.push(records);
        }
    }

    /// Takes note of a failure; `Err` when the caller has to hear of it.
    fn failed(&mut self, partition: &TopicPartition, error: Error, now: Instant) -> Result<()> {
        let api_timeout = self.config.client.api_timeout;
        let backoff = self.config.client.retry_backoff;
        self.refresh.is_wanted |= error.wants_metadata();
        let Some(assigned) = self.partitions.get_mut(partition) else {
            return Ok(());
        };
        let resets = match (&error, self.config.offset_reset) {
            (_, OffsetReset::Fail) => None,
            (Error::OffsetOutOfRange { .. }, OffsetReset::Earliest) => Some(StartAt::Earliest),
            (Error::OffsetOutOfRange { .. }, OffsetReset::Latest) => Some(StartAt::Latest),
            (Error::OffsetOutOfRange { .. }, OffsetReset::Back(duration)) => Some(back(duration)),
            (Error::LogTruncated { end, .. }, _) => Some(StartAt::Offset(*end)),
            _ => None,
        };
        if let Some(start) = resets {
            tracing::warn!(%partition, %error, ?start, "the position is reset");
            assigned.position = match start {
                StartAt::Offset(offset) => Position::At {
                    offset,
                    last_epoch: LeaderEpoch::NONE,
                },
                _ => Position::Unresolved(start),
            };
            return Ok(());
        }
        assigned.failures += 1;
        assigned.not_before = Some(now + backoff.after(assigned.failures));
        let since = *assigned.failing_since.get_or_insert(now);
        let is_final = !error.is_retriable() && !error.wants_metadata();
        if is_final || api_timeout <= now.saturating_duration_since(since) {
            assigned.failing_since = None;
            return Err(error);
        }
        tracing::debug!(%partition, %error, "trying again");
        Ok(())
    }

    /// Nobody can say where the partitions are: those that wait for that are failing.
    fn failed_everywhere(&mut self, error: &Error, now: Instant) -> Result<()> {
        let metadata = self.cluster.metadata();
        let waiting: Vec<_> = self
            .partitions
            .iter()
            .filter(|(partition, assigned)| assigned.is_free(now) && metadata.leader(partition).is_err())
            .map(|(partition, _)| partition.clone())
            .collect();
        // Each takes note, whichever is the first to be told of.
        let mut first_error = Ok(());
        for partition in waiting {
            first_error = first_error.and(self.failed(&partition, error.clone(), now));
        }
        first_error
    }
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::config(format!("{partition} is not assigned to the consumer"))
}

impl Assigned {
    /// Whether it can be asked about.
    fn is_free(&self, now: Instant) -> bool {
        !self.is_asked && self.not_before.is_none_or(|at| at <= now)
    }
}
