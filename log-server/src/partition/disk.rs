//! The disk below one data directory: how much space it has, in numbers and words, and whether it failed.
//!
//! Somebody looks now and then ([`Disk::look`]); who must not wait for a disk reads what was seen then from the gauge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use log_core::fs::Space;
use log_core::log_manager::LogDirectory;

use crate::partition::checkpoints::Checkpoints;
use crate::partition::reserve::SpaceReserve;

/// How much space there is, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SpaceLevel {
    /// Next to nothing: appends will fail any moment.
    Critical,
    /// Little.
    Low,
    /// Enough.
    Enough,
}

impl SpaceLevel {
    /// A twentieth of the disk is little, a hundredth next to nothing; of a large disk, 4 GiB and 256 MiB.
    pub(crate) fn of(space: Space) -> Self {
        let low = (space.total / 20).min(4 << 30);
        let critical = (space.total / 100).min(256 << 20);
        match space.available {
            available if available < critical => Self::Critical,
            available if available < low => Self::Low,
            _ => Self::Enough,
        }
    }
}

/// How much space there was when somebody last looked, for those who must not wait for a disk.
#[derive(Debug)]
pub(crate) struct SpaceGauge {
    directory: PathBuf,
    available: AtomicU64,
    total: AtomicU64,
    is_short: AtomicBool,
}

/// Nobody has looked yet, or the directory failed.
const UNKNOWN: u64 = u64::MAX;

impl SpaceGauge {
    fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            available: AtomicU64::new(UNKNOWN),
            total: AtomicU64::new(UNKNOWN),
            is_short: AtomicBool::new(false),
        }
    }

    /// Whose space it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// In bytes, as far as it is known.
    pub(crate) fn available(&self) -> Option<u64> {
        known(&self.available)
    }

    /// What the disk has in all.
    pub(crate) fn total(&self) -> Option<u64> {
        known(&self.total)
    }

    fn set(&self, available: u64, total: u64, level: SpaceLevel) {
        self.available.store(available, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.is_short
            .store(level != SpaceLevel::Enough, Ordering::Relaxed);
    }
}

fn known(bytes: &AtomicU64) -> Option<u64> {
    let bytes = bytes.load(Ordering::Relaxed);
    (bytes != UNKNOWN).then_some(bytes)
}

/// The gauges of all directories.
#[derive(Debug, Clone)]
pub(crate) struct SpaceGauges(Vec<Arc<SpaceGauge>>);

impl SpaceGauges {
    pub(crate) fn new(gauges: Vec<Arc<SpaceGauge>>) -> Self {
        Self(gauges)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SpaceGauge> {
        self.0.iter().map(|gauge| &**gauge)
    }

    /// Whether any has little left, or next to nothing.
    pub(crate) fn is_short(&self) -> bool {
        self.iter().any(|gauge| gauge.is_short.load(Ordering::Relaxed))
    }

    /// The one with the least space, as far as it is known.
    pub(crate) fn tightest(&self) -> Option<&SpaceGauge> {
        let known = self.iter().filter(|gauge| gauge.available().is_some());
        known.min_by_key(|gauge| gauge.available())
    }
}

/// The disk below one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: Arc<LogDirectory>,
    reserve: Arc<SpaceReserve>,
    gauge: Arc<SpaceGauge>,
    available: u64,
    level: SpaceLevel,
    has_failed: bool,
}

impl Disk {
    pub(crate) fn of(checkpoints: &Checkpoints) -> Self {
        let directory = Arc::clone(checkpoints.directory());
        Self {
            reserve: checkpoints.reserve(),
            gauge: Arc::new(SpaceGauge::new(directory.data_dir())),
            available: 0,
            level: SpaceLevel::Enough,
            has_failed: false,
            directory,
        }
    }

    pub(crate) fn directory(&self) -> &Arc<LogDirectory> {
        &self.directory
    }

    pub(crate) fn gauge(&self) -> Arc<SpaceGauge> {
        Arc::clone(&self.gauge)
    }

    /// The space there was at the last look.
    pub(crate) fn available(&self) -> u64 {
        self.available
    }

    /// Why the directory was given up, once.
    pub(crate) fn notice_failure(&mut self) -> Option<Arc<str>> {
        if self.has_failed {
            return None;
        }
        let reason = self.directory.failure()?;
        self.has_failed = true;
        self.gauge.set(UNKNOWN, UNKNOWN, SpaceLevel::Enough);
        Some(reason)
    }

    /// Looks at the space; says so where it has become little, or enough again. Blocks.
    pub(crate) fn look(&mut self) {
        if self.has_failed {
            return;
        }
        let space = match self.directory.space() {
            Ok(space) => space,
            Err(error) => {
                tracing::debug!(%error, "the space of the disk is unknown");
                return;
            }
        };
        self.available = space.available;
        let level = SpaceLevel::of(space);
        self.gauge.set(space.available, space.total, level);
        if level == SpaceLevel::Enough {
            self.reserve.take(space);
        }
        if level == self.level {
            return;
        }
        self.level = level;
        let directory = self.directory.data_dir().display();
        let (available, total) = (space.available, space.total);
        match level {
            SpaceLevel::Enough => {
                tracing::info!(%directory, available, total, "there is enough space again");
            }
            SpaceLevel::Low => tracing::warn!(%directory, available, total, "the disk is getting full"),
            SpaceLevel::Critical => tracing::error!(
                %directory,
                available,
                total,
                "the disk is nearly full: when it is, producers are refused and reads go on; free space, lower \
                 retention.ms or retention.bytes of a topic, or delete records"
            ),
        }
    }
}
