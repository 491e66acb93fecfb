//! Groups that read through all the crashes: each record at least once, and no committed offset ever goes back.
//!
//! The members of a group share the topic `steady` and commit after each piece that they were handed. Once a commit is
//! acknowledged, no member may be handed a record before it any more, and the broker must say that offset or a later one
//! after every crash. One member of each group closes and joins again now and then, so that partitions move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use log_client::connection::Connection;
use log_client::consumer::PartitionRecords;
use log_client::group::{AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::wire;

/// What the groups read: the topic whose records all stay.
pub(super) const TOPIC: &str = "steady";

const MEMBERS: u32 = 2;

/// The server is soon back.
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// A member that a crash has cut off holds its group up no longer than this. It is the least that a broker allows
/// members of classic groups.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

const GROUPS: [(&str, GroupProtocol); 2] = [
    ("classic-readers", GroupProtocol::Classic),
    ("consumer-readers", GroupProtocol::Consumer),
];

/// All groups and the tasks that are their members.
pub(super) struct Readers {
    groups: Vec<Arc<Group>>,
    members: JoinSet<()>,
    stopping: watch::Sender<bool>,
}

struct Group {
    name: &'static str,
    partitions: Mutex<Vec<Progress>>,
    changed: watch::Sender<()>,
    again: AtomicU64,
    commits: AtomicU64,
    refused: AtomicU64,
    joins: AtomicU64,
    /// Polls that failed: after each the member was made anew.
    failures: AtomicU64,
}

/// How far a group has come in one partition.
#[derive(Default)]
struct Progress {
    /// By offset.
    processed: Vec<bool>,
    acknowledged: i64,
}

impl Readers {
    /// Starts the members. Their addresses stay, whatever becomes of the server.
    pub(super) fn start(address: &str, partitions: i32, rng: &mut Rng) -> Self {
        let (stopping, _) = watch::channel(false);
        let mut readers = Self {
            groups: Vec::new(),
            members: JoinSet::new(),
            stopping,
        };
        for (name, protocol) in GROUPS {
            let group = Arc::new(Group {
                name,
                partitions: Mutex::new((0..partitions).map(|_| Progress::default()).collect()),
                changed: watch::Sender::new(()),
                again: AtomicU64::default(),
                commits: AtomicU64::default(),
                refused: AtomicU64::default(),
                joins: AtomicU64::default(),
                failures: AtomicU64::default(),
            });
            for number in 0..MEMBERS {
                let mut config = GroupConfig::new(address, name);
                config.group_protocol = protocol;
                config.enable_auto_commit = false;
                config.auto_offset_reset = AutoOffsetReset::Earliest;
                config.session_timeout = SESSION_TIMEOUT;
                config.heartbeat_interval = Duration::from_millis(100);
                config.consumer.client.retry_backoff.longest = BACKOFF_MAX;
                config.consumer.client.reconnect_backoff.longest = BACKOFF_MAX;
                let member = Member {
                    group: Arc::clone(&group),
                    config,
                    is_restless: number != 0,
                    rng: Rng::with_seed(rng.u64(..)),
                };
                readers.members.spawn(member.run(readers.stopping.subscribe()));
            }
            readers.groups.push(group);
        }
        readers
    }

    /// After a crash every acknowledged commit must still be there.
    pub(super) async fn check(&self, connection: &Connection, round: u32) {
        for group in &self.groups {
            let acknowledged = group.acknowledged();
            let committed = wire::committed(connection, group.name, TOPIC, acknowledged.len()).await;
            for (partition, (acknowledged, committed)) in acknowledged.iter().zip(&committed).enumerate() {
                assert!(
                    *acknowledged <= 0.max(*committed),
                    "round {round}: {} acknowledged {acknowledged} for {TOPIC}-{partition} and now says {committed}",
                    group.name
                );
            }
        }
    }

    /// Waits until each group has committed once more, so that every crash meets groups at work.
    pub(super) async fn work(&self) {
        let before: Vec<_> = self
            .groups
            .iter()
            .map(|group| group.changed.subscribe())
            .collect();
        for (group, mut changed) in self.groups.iter().zip(before) {
            tokio::time::timeout(wire::PATIENCE, changed.changed())
                .await
                .unwrap_or_else(|_| panic!("{} stands still at {:?}", group.name, group.acknowledged()))
                .unwrap();
        }
    }

    /// Waits until the groups have committed all there is, and looks whether they have processed all of it. A line for
    /// each group says what it did.
    ///
    /// No poll may have failed: all that a crash does to a member passes, the loss of its session too, and a poll waits it
    /// out. One that fails is a mistake of the client's or of the server's, though a member made anew goes on without loss.
    pub(super) async fn finish(mut self, ends: &[i64]) -> Vec<String> {
        for group in &self.groups {
            let mut changed = group.changed.subscribe();
            while group.acknowledged() != ends {
                tokio::time::timeout(wire::PATIENCE, changed.changed())
                    .await
                    .unwrap_or_else(|_| {
                        panic!("{} stands at {:?} of {ends:?}", group.name, group.acknowledged())
                    })
                    .unwrap();
            }
        }
        self.stopping.send(true).unwrap();
        while let Some(member) = self.members.join_next().await {
            member.unwrap();
        }
        let mut lines = Vec::new();
        for group in &self.groups {
            assert_eq!(
                group.failures.load(Ordering::Relaxed),
                0,
                "{}: polls failed; the lines above say why",
                group.name
            );
            let mut records = 0;
            for (partition, progress) in group.partitions.lock().iter().enumerate() {
                let skipped: Vec<_> = (0..)
                    .zip(&progress.processed)
                    .filter(|(_, done)| !**done)
                    .collect();
                assert!(
                    skipped.is_empty(),
                    "{} skipped records of {TOPIC}-{partition}: {skipped:?}",
                    group.name
                );
                assert_eq!(
                    i64::try_from(progress.processed.len()).unwrap(),
                    ends[partition],
                    "{}: {TOPIC}-{partition}",
                    group.name
                );
                records += progress.processed.len();
            }
            let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
            lines.push(format!(
                "{}: {records} records processed, {} of them again, 0 skipped; {} commits acknowledged, 0 \
                 went back, {} refused or unanswered; {} joins, none of them after a failure",
                group.name,
                count(&group.again),
                count(&group.commits),
                count(&group.refused),
                count(&group.joins)
            ));
        }
        lines
    }
}

impl Group {
    fn acknowledged(&self) -> Vec<i64> {
        self.partitions
            .lock()
            .iter()
            .map(|progress| progress.acknowledged)
            .collect()
    }

    fn process(&self, records: &PartitionRecords) {
        let partition = records.partition();
        let mut partitions = self.partitions.lock();
        let progress = &mut partitions[usize::try_from(partition.partition).unwrap()];
        let mut again = 0;
        records
            .visit(&mut Vec::new(), |record| {
                let offset = record.offset.get();
                assert!(
                    progress.acknowledged <= offset,
                    "{}: {partition} is handed out from {offset} on, {} was committed",
                    self.name,
                    progress.acknowledged
                );
                let index = usize::try_from(offset).unwrap();
                if progress.processed.len() <= index {
                    progress.processed.resize(index + 1, false);
                }
                again += u64::from(progress.processed[index]);
                progress.processed[index] = true;
            })
            .unwrap();
        self.again.fetch_add(again, Ordering::Relaxed);
    }

    fn acknowledge(&self, ends: &BTreeMap<usize, i64>) {
        let mut partitions = self.partitions.lock();
        for (&partition, &end) in ends {
            let progress = &mut partitions[partition];
            progress.acknowledged = progress.acknowledged.max(end);
        }
        drop(partitions);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changed.send_replace(());
    }
}

struct Member {
    group: Arc<Group>,
    config: GroupConfig,
    /// Whether it closes and joins again now and then.
    is_restless: bool,
    rng: Rng,
}

impl Member {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            let mut consumer = GroupConsumer::new(self.config.clone()).unwrap();
            consumer.subscribe([TOPIC]).unwrap();
            self.group.joins.fetch_add(1, Ordering::Relaxed);
            let mut pieces = self.is_restless.then(|| self.rng.u32(1..60));
            while pieces != Some(0) && !*stopping.borrow() {
                tokio::select! {
                    polled = consumer.poll() => match polled {
                        Ok(pieces) => self.process(&mut consumer, &pieces).await,
                        // What passes is waited out in there, so a new consumer is what is left to be tried.
                        Err(error) => {
                            self.failed(&error);
                            break;
                        }
                    },
                    _ = stopping.changed() => {}
                }
                pieces = pieces.map(|left| left - 1);
            }
            // The broker may be away just now; then the group finds out by itself.
            consumer.close().await.ok();
        }
    }

    #[expect(clippy::print_stderr, reason = "why a member failed must not be lost")]
    fn failed(&self, error: &log_client::error::Error) {
        eprintln!(
            "crash loop: a member of {} is made anew: {error}",
            self.group.name
        );
        self.group.failures.fetch_add(1, Ordering::Relaxed);
    }

    async fn process(&self, consumer: &mut GroupConsumer, pieces: &[PartitionRecords]) {
        let mut ends = BTreeMap::new();
        for records in pieces {
            self.group.process(records);
            let partition = usize::try_from(records.partition().partition).unwrap();
            ends.insert(partition, records.next_offset().get());
        }
        match consumer.commit().await {
            Ok(()) => self.group.acknowledge(&ends),
            Err(_) => {
                self.group.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
