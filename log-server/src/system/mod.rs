//! What the broker asks of the machine: the time, its limits, and the kernel's facts.
//!
//! [`process`] asks about this process. Nothing here is required: a fact that cannot be read is `None` or a default, never a refusal to start.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use log_core::clock::{Clock, SteadyMs};
use log_core::model::TimestampMs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub mod process;

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// When this process first asked for the steady time.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> TimestampMs {
        let now = SystemTime::now();
        // A clock set before 1970 counts backwards from there.
        let milliseconds = match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        TimestampMs::new(milliseconds)
    }

    fn steady(&self) -> SteadyMs {
        let since = BEGINNING.elapsed().as_millis();
        SteadyMs::new(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

/// How many files this process may hold open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimit {
    /// What the process was started with.
    pub found: u64,
    /// What it has now.
    pub now: u64,
}

/// Raises the soft limit of open files to the hard one, as far as the system lets us.
///
/// Shells start programs with 1,024, which a few hundred partitions use up; the hard limit is commonly a million.
#[must_use]
pub fn raise_file_limit() -> FileLimit {
    let before = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let found = number(before.current);
    if before.current == before.maximum || setrlimit(Resource::Nofile, raised).is_err() {
        return FileLimit { found, now: found };
    }
    FileLimit {
        found,
        now: number(getrlimit(Resource::Nofile).current),
    }
}

/// Facts of kernel and hardware that limits and thread counts are derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFacts {
    /// `uname -r`, for the log.
    pub kernel_release: Option<String>,
    /// `vm.max_map_count`: how many memory maps a process may have.
    pub maps_max: Option<u64>,
    /// Cores this process may run on.
    pub core_count: usize,
}

impl SystemFacts {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kernel_release: read_line("/proc/sys/kernel/osrelease"),
            maps_max: read_line("/proc/sys/vm/max_map_count").and_then(|line| line.parse().ok()),
            core_count: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }
}

fn read_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_shows_this_century() {
        let year_2020 = TimestampMs::new(1_577_836_800_000);
        assert!(year_2020 < SystemClock.now());
        let earlier = SystemClock.steady();
        assert!(0 <= SystemClock.steady().saturating_since(earlier));
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_file_limit();
        assert!(limit.found <= limit.now);
        assert_eq!(raise_file_limit().now, limit.now);
    }

    #[test]
    fn facts_are_plausible() {
        let facts = SystemFacts::read();
        assert!(1 <= facts.core_count);
        assert!(facts.maps_max.is_none_or(|maps| 0 < maps));
    }
}
