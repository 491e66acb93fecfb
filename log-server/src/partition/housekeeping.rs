//! What has to be done now and then, on threads of its own and never on the runtime's.
//!
//! - *housekeeping* does what may take long: checkpoints, forgetting producers, giving up idle maps.
//! - *removal*, of which the recovery points must not wait for the end, has a file to itself ([`removal`](super::removal)).
//! - *watch* does what must not wait behind that: `flush.ms`, mending logs that failed, an eye on the space of disks, and on
//!   directories that failed.
//!
//! They are driven by [`Housekeeper::tick`] and its like, which take the time as an argument: a test calls them
//! without a thread and without waiting.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log_core::fs::FsError;
use log_core::log_manager::{LogDirectory, LogManager};
use log_core::model::TopicPartition;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::partition::disk::{Disk, SpaceGauges};
use crate::partition::loading::log_report;
use crate::partition::partition::{Condition, Partition, Remedy};
use crate::partition::registry::PartitionRegistry;

/// How often the threads look whether something is due: the grain of `flush.ms`, and of the delay after a latch.
const TICK: Duration = Duration::from_millis(200);
/// How often the space of the disk is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// So much more space than at the last failure is worth a try before its time has come.
const SPACE_WORTH_A_TRY: u64 = 1 << 20;

/// Recovery points are written no more often than that, however much is appended.
const POINTS_INTERVAL: Duration = Duration::from_secs(1);

/// How often what is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// `log.retention.check.interval.ms`.
    pub(crate) retention: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub(crate) recovery_points: Duration,
    /// When so many bytes were appended, the recovery points are written without waiting for their time.
    pub(crate) recovery_bytes: u64,
    /// `producer.id.expiration.check.interval.ms`.
    pub(crate) producers: Duration,
    /// `map-idle-ms`.
    pub(crate) idle: Duration,
    /// `log-reopen-backoff-ms`.
    pub(crate) mend: Duration,
    /// `log-reopen-backoff-max-ms`.
    pub(crate) mend_max: Duration,
}

/// Says when something is due again.
#[derive(Debug)]
pub(super) struct Due {
    interval: Duration,
    next: Duration,
}

impl Due {
    pub(super) fn every(interval: Duration) -> Self {
        Self {
            interval,
            next: interval,
        }
    }

    /// True once in each interval; an interval that was slept through is not made up for.
    pub(super) fn is_now(&mut self, now: Duration) -> bool {
        let is_now = self.next <= now;
        if is_now {
            self.next = now.saturating_add(self.interval);
        }
        is_now
    }
}

/// What may take long.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    registry: Arc<PartitionRegistry>,
    recovery_points: Due,
    recovery_bytes: u64,
    /// What had been appended when the recovery points were last written; `None` when that failed.
    appended_bytes: Option<u64>,
    next_points: Duration,
    producers: Due,
    idle: Due,
}

impl Housekeeper {
    pub(crate) fn new(registry: Arc<PartitionRegistry>, intervals: &Intervals) -> Self {
        Self {
            registry,
            recovery_points: Due::every(intervals.recovery_points),
            recovery_bytes: intervals.recovery_bytes,
            appended_bytes: Some(0),
            next_points: Duration::ZERO,
            producers: Due::every(intervals.producers),
            idle: Due::every(intervals.idle),
        }
    }

    /// Does what is due at `now`, counted from any one beginning. Blocks.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.producers.is_now(now) {
            self.registry.for_each(|partition| partition.expire_producers());
        }
        if self.idle.is_now(now) {
            self.registry.for_each(|partition| partition.release_idle());
        }
        self.keep_recovery_short(now);
    }

    /// Stores all that shortens a recovery when it is time, and from where it has to verify when much was appended: also while the
    /// former goes on, which for many partitions is longer than a recovery may take.
    fn keep_recovery_short(&mut self, now: Duration) {
        if !self.recovery_points.is_now(now) {
            self.keep_points_near(now);
            return;
        }
        let registry = Arc::clone(&self.registry);
        let began = registry.clock().steady();
        let mut later = now;
        registry.checkpoint_each(|| {
            let passed = registry.clock().steady().saturating_since(began);
            later = now.saturating_add(Duration::from_millis(u64::try_from(passed).unwrap_or(0)));
            self.keep_points_near(later);
        });
        let appended = self.appended();
        // Whether they have moved or not: that is how a directory is found whose disk takes no more writes.
        self.note_points(registry.write_recovery_points(), appended, later, true);
    }

    /// Writes the recovery points when much was appended since, or when that failed, and not more often than they may be.
    fn keep_points_near(&mut self, now: Duration) {
        let appended = self.appended();
        let is_much = |written: u64| self.recovery_bytes <= appended.saturating_sub(written);
        if self.next_points <= now && self.appended_bytes.is_none_or(is_much) {
            let written = self.registry.write_moved_recovery_points();
            self.note_points(written, appended, now, false);
        }
    }

    fn appended(&self) -> u64 {
        self.registry.metrics().totals().received_bytes
    }

    /// Notes how writing them went; who knows of a failure already hears of it only where `is_told`.
    fn note_points(&mut self, written: Result<(), FsError>, appended: u64, now: Duration, is_told: bool) {
        self.next_points = now.saturating_add(POINTS_INTERVAL);
        let is_new = self.appended_bytes.is_some();
        self.appended_bytes = written.is_ok().then_some(appended);
        // It is tried each second, and told once a minute.
        if let Err(error) = written
            && (is_told || is_new)
        {
            tracing::warn!(operation = "write recovery points", %error, "a recovery would take longer");
        }
    }
}

/// How the tries to mend one log go.
#[derive(Debug, Clone, Copy)]
struct Attempts {
    next: Duration,
    delay: Duration,
    /// The space there was at the last failure.
    available: u64,
    /// Since when the log is whole again.
    whole_since: Option<Duration>,
}

/// What must not wait.
#[derive(Debug)]
pub(crate) struct Watch {
    registry: Arc<PartitionRegistry>,
    manager: Arc<LogManager>,
    intervals: Intervals,
    space_due: Due,
    /// One for each directory.
    disks: Vec<Disk>,
    mending: HashMap<TopicPartition, Attempts>,
}

impl Watch {
    pub(crate) fn new(
        registry: Arc<PartitionRegistry>,
        manager: Arc<LogManager>,
        intervals: Intervals,
    ) -> Self {
        Self {
            // Also of those that the start gave up: nobody has said why yet.
            disks: registry
                .checkpoints_of_all()
                .map(|checkpoints| Disk::of(checkpoints))
                .collect(),
            registry,
            intervals,
            space_due: Due {
                interval: SPACE_INTERVAL,
                next: Duration::ZERO,
            },
            manager,
            mending: HashMap::new(),
        }
    }

    /// What it sees of the space of each directory's disk.
    pub(crate) fn gauges(&self) -> SpaceGauges {
        SpaceGauges::new(self.disks.iter().map(Disk::gauge).collect())
    }

    /// Does what is due at `now`, counted from any one beginning. Blocks where a log is mended.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.leave_failed_directories();
        if self.space_due.is_now(now) {
            self.disks.iter_mut().for_each(Disk::look);
        }
        let mut ailing = Vec::new();
        self.registry.for_each(|partition| match &*partition.condition() {
            Condition::Online(_) => partition.flush_if_old(),
            Condition::Offline {
                remedy: Remedy::Restart,
                ..
            }
            | Condition::Closed(_) => {}
            Condition::Latched { .. } | Condition::Offline { .. } => {
                // What could not be taken out of a failed directory just now is taken next time.
                if partition.log_directory().is_online() {
                    ailing.push(Arc::clone(partition));
                }
            }
        });
        for partition in &ailing {
            self.mend(partition, now);
        }
        self.forget_whole(&ailing, now);
    }

    /// What a directory that failed held is served no more, until the next start.
    fn leave_failed_directories(&mut self) {
        for (directory, reason) in self.notice_failures() {
            tracing::error!(
                directory = %directory.data_dir().display(), %reason,
                "the directory is given up: its partitions are off-line, the others serve; mend its disk and start again"
            );
        }
        self.registry.leave_failed_directories();
    }

    /// The directories that were given up, each once, with the reason.
    pub(super) fn notice_failures(&mut self) -> Vec<(Arc<LogDirectory>, Arc<str>)> {
        let failures = self
            .disks
            .iter_mut()
            .filter_map(|disk| Some((Arc::clone(disk.directory()), disk.notice_failure()?)));
        failures.collect()
    }

    /// The first try comes one back-off after the failure, each further one twice as late, unless space returned.
    fn mend(&mut self, partition: &Arc<Partition>, now: Duration) {
        let intervals = self.intervals;
        let mut disks = self.disks.iter();
        let own = disks.find(|disk| Arc::ptr_eq(disk.directory(), partition.log_directory()));
        let available = own.map_or(0, Disk::available);
        let attempts = self.mending.entry(partition.name().clone()).or_insert(Attempts {
            next: now.saturating_add(intervals.mend),
            delay: intervals.mend,
            available,
            whole_since: None,
        });
        if attempts.whole_since.take().is_some() {
            // It failed again soon after it was mended.
            attempts.delay = attempts.delay.saturating_mul(2).min(intervals.mend_max);
            attempts.next = now.saturating_add(attempts.delay);
        }
        let has_space = attempts.available.saturating_add(SPACE_WORTH_A_TRY) <= available;
        if now < attempts.next && !has_space {
            return;
        }
        match partition.mend(&self.manager) {
            None => {}
            Some(Ok(report)) => {
                log_report(partition.name(), &report);
                let offsets = partition.offsets();
                tracing::info!(
                    partition = %partition.name(), log_end = %offsets.log_end, "the log is whole again and takes writes"
                );
                attempts.whole_since = Some(now);
            }
            Some(Err(error)) => {
                attempts.delay = attempts.delay.saturating_mul(2).min(intervals.mend_max);
                tracing::warn!(
                    partition = %partition.name(), operation = "reopen", %error,
                    retry_in_ms = u64::try_from(attempts.delay.as_millis()).unwrap_or(u64::MAX), "still failing"
                );
            }
        }
        attempts.next = now.saturating_add(attempts.delay);
        attempts.available = available;
    }

    /// A log that stays whole for the longest back-off begins with the shortest at its next failure.
    fn forget_whole(&mut self, ailing: &[Arc<Partition>], now: Duration) {
        if self.mending.is_empty() {
            return;
        }
        let mend_max = self.intervals.mend_max;
        let is_ailing = |name: &TopicPartition| ailing.iter().any(|partition| partition.name() == name);
        self.mending.retain(|name, attempts| {
            is_ailing(name) || *attempts.whole_since.get_or_insert(now) + mend_max > now
        });
    }
}

/// A thread that does its rounds until it is stopped.
#[derive(Debug)]
pub(crate) struct Rounds {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Bell {
    is_stopping: Mutex<bool>,
    rung: Condvar,
}

impl Rounds {
    /// Calls `tick` now and then, with the time since this call.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn start(name: &str, mut tick: impl FnMut(Duration) + Send + 'static) -> io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let ear = Arc::clone(&bell);
        let start = Instant::now();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut is_stopping = ear.is_stopping.lock();
            while !*is_stopping {
                MutexGuard::unlocked(&mut is_stopping, || {
                    if catch_unwind(AssertUnwindSafe(|| tick(start.elapsed()))).is_err() {
                        tracing::error!("a round of housekeeping panicked; the next one comes all the same");
                    }
                });
                if !*is_stopping {
                    ear.rung.wait_for(&mut is_stopping, TICK);
                }
            }
        })?;
        Ok(Self { bell, thread })
    }

    /// Ends the thread after the round it is at. Blocks.
    pub(crate) fn stop(self) {
        *self.bell.is_stopping.lock() = true;
        self.bell.rung.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("a housekeeping thread panicked");
        }
    }
}
