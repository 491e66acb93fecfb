//! What the kernel knows of this process: memory, threads, files, time of processors.
//! Looked up in `/proc`, which costs some microseconds; counting descriptors may cost more, so it stands apart.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Memory and threads, as `/proc/self/status` has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessStatus {
    /// What it occupies, shared pages of files included.
    pub resident_bytes: Option<u64>,
    /// The part of that which is no file's.
    pub anonymous_bytes: Option<u64>,
    /// Its address space.
    pub virtual_bytes: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
}

impl ProcessStatus {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            resident_bytes: kibibytes(&text, "VmRSS:"),
            anonymous_bytes: kibibytes(&text, "RssAnon:"),
            virtual_bytes: kibibytes(&text, "VmSize:"),
            threads: field(&text, "Threads:").and_then(|count| count.parse().ok()),
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let count: u64 = field(text, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    count.checked_mul(1024)
}

/// The time of processors that it used.
#[must_use]
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// How many files it holds open.
#[must_use]
pub fn open_files() -> Option<usize> {
    const FOLDER: &str = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is their number; before, it is 0.
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some(fs::read_dir(FOLDER).ok()?.count()),
        count => usize::try_from(count).ok(),
    }
}

/// How many it may hold open.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        let status = ProcessStatus::read();
        assert!(status.resident_bytes.is_none_or(|bytes| 100_000 < bytes));
        assert!(status.anonymous_bytes <= status.resident_bytes);
        assert!(status.resident_bytes <= status.virtual_bytes);
        assert!(status.threads.is_none_or(|threads| 0 < threads));
        assert!(open_files().is_none_or(|files| 2 < files));
        assert!(Duration::ZERO < processor_time());
    }

    #[test]
    fn lines_are_found_by_their_names() {
        let text = "Name:\tx\nVmRSS:\t     12 kB\nThreads:\t3\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(12 * 1024));
        assert_eq!(kibibytes(text, "VmSize:"), None);
        assert_eq!(field(text, "Threads:"), Some("3"));
    }
}
