//! The threads that compact logs: the dirtiest first, at the pace that is set, until none is dirty enough.
//!
//! | what | decision |
//! |---|---|
//! | a topic is not compacted, or keeps itself short | left alone |
//! | a topic stops being compacted, is deleted or reopened, or the broker stops | its cleaning ends, what was swapped in stays |
//! | a batch cannot be read | the partition is *uncleanable*: told once, counted, left alone until a restart |
//! | the disk fails, or is full, or files are short | told, and tried again after the back-off |
//!
//! What somebody asks for (`compaction`) comes first. Driven by `LogCleaner::clean_dirtiest`, which a test calls without a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log_core::cleaner::{CleanError, CleanerStats, Cleaning, Dirt, OffsetMap, Pace, Stopped, WriteSizes};
use log_core::fs::FsError;
use log_core::log::ReadError;
use log_core::log_manager::{CheckpointEntry, LogDirectory, LogManager};
use log_core::model::{Offset, TopicId, TopicPartition};
use parking_lot::{Condvar, Mutex};

use crate::partition::cleaning::Started;
use crate::partition::compaction::Requests;
use crate::partition::housekeeping::Rounds;
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;

/// A cleaning looks up from its work after so many bytes: whether it may go on, and how fast.
const PACE_BYTES: u64 = 256 << 10;
/// The least that is copied and written at a time.
const CHUNK_MIN: u64 = 64 << 10;
/// So much is brought to the disk and swapped in at a time: enough that waiting for the disk is little beside writing it, and no more
/// than seconds of work to lose when a cleaning is stopped.
const SWAP_BYTES: u64 = 256 << 20;

/// How logs are cleaned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CleanerSettings {
    /// `log.cleaner.threads`.
    pub(crate) threads: usize,
    /// `log.cleaner.dedupe.buffer.size`.
    pub(crate) dedupe_buffer_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`, in thousandths.
    pub(crate) load_per_mille: u64,
    /// `log.cleaner.io.buffer.size`.
    pub(crate) io_buffer_bytes: u64,
    /// `log.cleaner.io.max.bytes.per.second`; `None` without a limit.
    pub(crate) io_bytes_per_second: Option<u64>,
    /// `log.cleaner.backoff.ms`.
    pub(crate) backoff: Duration,
}

/// Asked again before each cleaning, so that a change counts from the next one on; for the pace, all the time.
pub(crate) type SettingsSource = Box<dyn Fn() -> CleanerSettings + Send + Sync>;

/// What the cleaner has done since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CleanerReport {
    /// Cleanings that came to their end.
    pub cleanings: u64,
    /// Bytes of the segments before.
    pub bytes_read: u64,
    /// Bytes of the segments after.
    pub bytes_written: u64,
    /// Partitions that cannot be cleaned, with the reason.
    pub uncleanable: BTreeMap<TopicPartition, String>,
}

/// Compacts the partitions of a registry.
pub struct LogCleaner {
    registry: Arc<PartitionRegistry>,
    manager: Arc<LogManager>,
    settings: SettingsSource,
    /// Topics that keep themselves short.
    exempt: &'static [&'static str],
    throttle: IoThrottle,
    /// Partitions that a thread is at, by name: files have no other, and a cleaning may outlive its topic.
    in_progress: Arc<Mutex<BTreeSet<TopicPartition>>>,
    /// Partitions that somebody wants compacted now.
    pub(super) requests: Requests,
    /// By life: what is wrong goes with the files.
    uncleanable: Mutex<BTreeMap<(TopicPartition, TopicId), String>>,
    done: Mutex<CleanerReport>,
    is_stopping: AtomicBool,
    /// Wakes those who wait for their pace.
    stop_bell: (Mutex<()>, Condvar),
}

/// The cleaner's threads.
#[derive(Debug)]
pub(crate) struct CleanerThreads {
    cleaner: Arc<LogCleaner>,
    threads: Vec<Rounds>,
}

impl CleanerThreads {
    /// Starts them; how many there are does not change.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn start(cleaner: &Arc<LogCleaner>) -> io::Result<Self> {
        let settings = (cleaner.settings)();
        let thread = |index: usize| {
            let cleaner = Arc::clone(cleaner);
            let mut next = settings.backoff;
            Rounds::start(&format!("cleaner-{index}"), move |now| {
                if now < next {
                    cleaner.clean_requested();
                    return;
                }
                cleaner.clean_all();
                next = now.saturating_add((cleaner.settings)().backoff);
            })
        };
        Ok(Self {
            cleaner: Arc::clone(cleaner),
            threads: (0..settings.threads).map(thread).collect::<io::Result<_>>()?,
        })
    }

    /// Ends them; a cleaning ends where it is. Blocks.
    pub(crate) fn stop(self) {
        self.cleaner.stop();
        self.threads.into_iter().for_each(Rounds::stop);
    }
}

/// How a try to clean went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Cleaned,
    Ended,
    Failed(TopicPartition),
}

impl fmt::Debug for LogCleaner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogCleaner")
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

impl LogCleaner {
    /// A cleaner that leaves the topics `exempt` alone.
    pub(crate) fn new(
        registry: Arc<PartitionRegistry>,
        manager: Arc<LogManager>,
        settings: SettingsSource,
        exempt: &'static [&'static str],
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            manager,
            throttle: IoThrottle::default(),
            settings,
            exempt,
            in_progress: Arc::default(),
            requests: Requests::default(),
            uncleanable: Mutex::default(),
            done: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            stop_bell: (Mutex::default(), Condvar::new()),
        })
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> CleanerReport {
        let uncleanable = self.uncleanable.lock();
        CleanerReport {
            uncleanable: uncleanable
                .iter()
                .map(|((partition, _), reason)| (partition.clone(), reason.clone()))
                .collect(),
            ..self.done.lock().clone()
        }
    }

    /// Cleans until no log is dirty enough. One that fails is not tried again before the next call. Blocks.
    pub(crate) fn clean_all(&self) {
        let mut failed = BTreeSet::new();
        while !self.is_stopping() {
            self.clean_requested();
            match self.clean_dirtiest(&mut failed) {
                None | Some(Tried::Ended) => return,
                Some(Tried::Cleaned) => {}
                Some(Tried::Failed(partition)) => {
                    failed.insert(partition);
                }
            }
        }
    }

    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.requests.drop_all();
        let _lock = self.stop_bell.0.lock();
        self.stop_bell.1.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Cleans the log of which the largest share is dirty. `None` when there is none to clean.
    fn clean_dirtiest(&self, except: &mut BTreeSet<TopicPartition>) -> Option<Tried> {
        let (partition, dirt, _turn) = self.take_dirtiest(except)?;
        let began = Instant::now();
        let outcome = self.clean(&partition, &dirt);
        Some(self.note(&partition, outcome, began.elapsed()))
    }

    /// Takes the dirtiest log, so that no other thread does. Those that were deleted are forgotten on the way, and those
    /// whose files cannot be read at present are left for later.
    pub(super) fn take_dirtiest(
        &self,
        except: &mut BTreeSet<TopicPartition>,
    ) -> Option<(Arc<Partition>, Dirt, Turn)> {
        let mut in_progress = self.in_progress.lock();
        let mut dirtiest: Option<(Arc<Partition>, Dirt)> = None;
        let mut lives = BTreeSet::new();
        self.registry.for_each(|partition| {
            let life = life_of(partition);
            lives.insert(life.clone());
            let is_left = self.is_exempt(partition)
                || except.contains(partition.name())
                || in_progress.contains(partition.name())
                || self.uncleanable.lock().contains_key(&life);
            if is_left {
                return;
            }
            match partition.dirt(self.cleaned_to(partition)) {
                None => {}
                Some(Err(CleanError::Storage(error))) => {
                    put_off(partition, &error);
                    except.insert(partition.name().clone());
                }
                Some(Err(error)) => self.give_up(partition, &error.to_string()),
                Some(Ok(dirt)) => {
                    let is_dirtier = (dirtiest.as_ref()).is_none_or(|(_, most)| most.compare(&dirt).is_lt());
                    if dirt.is_due(&partition.config()) && is_dirtier {
                        dirtiest = Some((Arc::clone(partition), dirt));
                    }
                }
            }
        });
        self.uncleanable.lock().retain(|life, _| lives.contains(life));
        let (partition, dirt) = dirtiest?;
        let name = partition.name().clone();
        in_progress.insert(name.clone());
        Some((partition, dirt, self.turn(name)))
    }

    /// Takes one partition, unless another thread is at it.
    pub(super) fn take(&self, partition: &Partition) -> Option<Turn> {
        let name = partition.name().clone();
        let is_free = self.in_progress.lock().insert(name.clone());
        is_free.then(|| self.turn(name))
    }

    fn turn(&self, name: TopicPartition) -> Turn {
        Turn {
            in_progress: Arc::clone(&self.in_progress),
            name,
        }
    }

    /// Whether its topic keeps itself short.
    pub(super) fn is_exempt(&self, partition: &Partition) -> bool {
        self.exempt.contains(&&*partition.name().topic)
    }

    /// The reason, if it cannot be cleaned.
    pub(super) fn why_uncleanable(&self, partition: &Partition) -> Option<String> {
        self.uncleanable.lock().get(&life_of(partition)).cloned()
    }

    /// Up to where it was cleaned before.
    pub(super) fn cleaned_to(&self, partition: &Partition) -> Option<Offset> {
        self.manager.home(partition.name())?.cleaned_to(partition.name())
    }

    /// The directory that it lives in.
    fn home(&self, partition: &Partition) -> &LogDirectory {
        self.manager.home_or_first(partition.name())
    }

    pub(super) fn clean(&self, partition: &Arc<Partition>, dirt: &Dirt) -> Result<CleanerStats, CleanError> {
        let recovery_point = self.bring_recovery_point(partition)?;
        let started = match partition.begin_cleaning(dirt) {
            Ok(Some(started)) => started,
            Ok(None) => return Err(CleanError::Stopped),
            Err(ReadError::Storage(error)) => return Err(error.into()),
            Err(error) => {
                return Err(CleanError::Damaged {
                    file: self.home(partition).data_dir().join(partition.name().to_string()),
                    cause: error.to_string(),
                });
            }
        };
        let generation = started.generation;
        let cleaned = self.write_anew(partition, started, recovery_point);
        // Of files that went with their log, any failure may come.
        cleaned.map_err(|error| {
            if partition.may_be_cleaned(generation) {
                error
            } else {
                CleanError::Stopped
            }
        })
    }

    fn write_anew(
        &self,
        partition: &Arc<Partition>,
        started: Started,
        recovery_point: Offset,
    ) -> Result<CleanerStats, CleanError> {
        let settings = (self.settings)();
        let mut pace = CleanerPace {
            cleaner: self,
            partition,
            generation: started.generation,
            unpaid: 0,
        };
        let share = u64::try_from(settings.threads).unwrap_or(1).max(1);
        let map = OffsetMap::new(settings.dedupe_buffer_bytes / share, settings.load_per_mille);
        let sizes = WriteSizes {
            chunk: (settings.io_buffer_bytes / share).max(CHUNK_MIN),
            swap: SWAP_BYTES,
        };
        let mut cleaning = Cleaning::begin(started.log, map, sizes, &mut pace)?;
        loop {
            let cleaned = cleaning.next_groups(&mut pace)?;
            if cleaned.is_empty() {
                break;
            }
            if let Err(error) = partition.swap_in(cleaned, recovery_point) {
                cleaning.give_up();
                return Err(error);
            }
        }
        let entry = entry_of(partition, cleaning.end());
        self.home(partition).write_cleaned_to(&[entry])?;
        Ok(cleaning.stats())
    }

    /// Makes the log's recovery point durable, because only what it covers may be swapped.
    fn bring_recovery_point(&self, partition: &Arc<Partition>) -> Result<Offset, CleanError> {
        let point = partition.recovery_point().ok_or(CleanError::Stopped)?;
        let on_disk = self.home(partition).recovery_point_on_disk(partition.name());
        if point <= on_disk {
            return Ok(on_disk);
        }
        self.home(partition)
            .write_recovery_points(&[entry_of(partition, point)])?;
        Ok(point)
    }

    pub(super) fn note(
        &self,
        partition: &Arc<Partition>,
        outcome: Result<CleanerStats, CleanError>,
        took: Duration,
    ) -> Tried {
        let name = partition.name();
        match outcome {
            Ok(stats) => {
                let mut done = self.done.lock();
                done.cleanings += 1;
                done.bytes_read += stats.bytes_read;
                done.bytes_written += stats.bytes_written;
                drop(done);
                tracing::info!(
                    partition = %name,
                    bytes_before = stats.bytes_read, bytes_after = stats.bytes_written,
                    records_before = stats.records_read, records_after = stats.records_kept,
                    segments_before = stats.segments_before, segments_after = stats.segments_after,
                    keys = stats.keys, map_bytes = stats.map_bytes,
                    took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    "compacted"
                );
                Tried::Cleaned
            }
            Err(CleanError::Stopped) if self.is_stopping() => Tried::Ended,
            Err(CleanError::Stopped) => {
                tracing::info!(partition = %name, "compaction ended early: the log or its settings have changed");
                Tried::Failed(name.clone())
            }
            Err(CleanError::Storage(error)) => {
                put_off(partition, &error);
                Tried::Failed(name.clone())
            }
            Err(error @ CleanError::Damaged { .. }) => {
                self.give_up(partition, &error.to_string());
                Tried::Failed(name.clone())
            }
        }
    }

    fn give_up(&self, partition: &Partition, reason: &str) {
        tracing::error!(
            partition = %partition.name(), operation = "compact", reason,
            "the partition cannot be compacted and will grow; look at it with `stratalog log verify`"
        );
        self.uncleanable
            .lock()
            .insert(life_of(partition), reason.to_owned());
    }
}

fn put_off(partition: &Partition, error: &FsError) {
    tracing::warn!(partition = %partition.name(), operation = "compact", %error, "tried again later");
}

fn life_of(partition: &Partition) -> (TopicPartition, TopicId) {
    (partition.name().clone(), partition.topic_id())
}

fn entry_of(partition: &Partition, offset: Offset) -> CheckpointEntry {
    CheckpointEntry {
        partition: partition.name().clone(),
        topic_id: partition.topic_id(),
        offset,
    }
}

/// A partition that a thread is at; others may have it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    in_progress: Arc<Mutex<BTreeSet<TopicPartition>>>,
    name: TopicPartition,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.in_progress.lock().remove(&self.name);
    }
}

/// The pace of one cleaning.
struct CleanerPace<'a> {
    cleaner: &'a LogCleaner,
    partition: &'a Partition,
    generation: u64,
    /// Bytes that were not waited for yet.
    unpaid: u64,
}

impl Pace for CleanerPace<'_> {
    fn spend(&mut self, bytes: u64) -> Result<(), Stopped> {
        self.unpaid += bytes;
        if self.unpaid < PACE_BYTES {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.unpaid);
        let throttle = &self.cleaner.throttle;
        // Asked again and again: who changes it means the cleaning that is under way.
        let rate = || (self.cleaner.settings)().io_bytes_per_second;
        let taken = throttle.take(bytes, rate(), Instant::now());
        loop {
            if self.cleaner.is_stopping() || !self.partition.may_be_cleaned(self.generation) {
                return Err(Stopped);
            }
            let left = throttle.time_to(taken, rate(), Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let (lock, bell) = &self.cleaner.stop_bell;
            let mut guard = lock.lock();
            if !self.cleaner.is_stopping() {
                bell.wait_for(&mut guard, left.min(Duration::from_secs(1)));
            }
        }
    }
}

/// Keeps all threads together below so many bytes per second, whatever that is at the moment.
#[derive(Debug, Default)]
struct IoThrottle {
    account: Mutex<IoAccount>,
}

/// Bytes are paid with time.
#[derive(Debug, Default)]
struct IoAccount {
    /// Bytes since the start.
    taken: u64,
    /// How many of them are paid.
    paid: u64,
    /// Up to when time was spent on that.
    settled: Option<Instant>,
}

impl IoThrottle {
    /// Takes so many bytes at `now`. The caller goes on when everything up to the count that is returned is paid.
    fn take(&self, bytes: u64, rate: Option<u64>, now: Instant) -> u64 {
        let mut account = self.account.lock();
        account.settle(rate, now);
        account.taken = account.taken.saturating_add(bytes);
        account.taken
    }

    /// How long it takes until everything up to `taken` is paid, if the rate stays.
    fn time_to(&self, taken: u64, rate: Option<u64>, now: Instant) -> Duration {
        let mut account = self.account.lock();
        account.settle(rate, now);
        let left = taken.saturating_sub(account.paid);
        rate.map_or(Duration::ZERO, |rate| time_of(left, rate))
    }
}

impl IoAccount {
    /// Pays with the time since the last look, at the rate of today.
    fn settle(&mut self, rate: Option<u64>, now: Instant) {
        let since = self.settled.map_or(now, |settled| settled.min(now));
        let due = self.taken.saturating_sub(self.paid);
        let affordable = rate.map_or(due, |rate| bytes_in(now.saturating_duration_since(since), rate));
        self.paid = self.paid.saturating_add(affordable.min(due));
        self.settled = match rate {
            // The rest of a byte's time is kept.
            Some(rate) if affordable < due => since.checked_add(time_of(affordable, rate)),
            // A pause is not saved: it must not be followed by a burst.
            _ => Some(now),
        };
    }
}

const MICROS: u128 = 1_000_000;

fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_micros().saturating_mul(u128::from(rate)) / MICROS).unwrap_or(u64::MAX)
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    let micros = (u128::from(bytes) * MICROS).div_ceil(u128::from(rate.max(1)));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_throttle_spreads_bytes_over_time() {
        let throttle = IoThrottle::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (rate, ms) = (Some(1000), Duration::from_millis);
        let first = throttle.take(500, rate, start);
        let second = throttle.take(250, rate, start);
        assert_eq!(throttle.time_to(first, rate, start), ms(500));
        assert_eq!(throttle.time_to(second, rate, start), ms(750));
        assert_eq!(throttle.time_to(first, rate, at(500)), ms(0));
        assert_eq!(throttle.time_to(second, rate, at(500)), ms(250));
        let third = throttle.take(1000, rate, at(9000));
        assert_eq!(
            throttle.time_to(third, rate, at(9000)),
            ms(1000),
            "no burst after a pause"
        );
        let looks = (9000..9999).find(|now| throttle.time_to(third, rate, at(*now)).is_zero());
        assert_eq!(looks, None, "looking often pays nothing");
        assert_eq!(throttle.time_to(third, rate, at(10_000)), ms(0));
    }

    /// Bytes that were taken at a low rate held a cleaning up for days after the rate was raised.
    #[test]
    fn another_rate_counts_for_what_was_taken_before() {
        let throttle = IoThrottle::default();
        let start = Instant::now();
        let taken = throttle.take(1_000_000, Some(1), start);
        let left = |rate, now| throttle.time_to(taken, rate, start + Duration::from_secs(now));
        assert_eq!(left(Some(1), 1).as_secs(), 999_999);
        assert_eq!(left(Some(1_000_000), 1), Duration::from_micros(999_999));
        assert_eq!(left(Some(1000), 1).as_secs(), 999);
        assert_eq!(left(None, 1), Duration::ZERO);
    }
}
