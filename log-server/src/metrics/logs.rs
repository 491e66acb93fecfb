//! What partitions count: records and bytes in and out, syncs, refusals, and fetches that wait.
//!
//! What belongs to a topic stands with its partitions ([`Traffic`]) and goes with them; the sums over all topics ([`LogMetrics`]) stay, so that
//! they only grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::counter::{Counter, Level};
use crate::metrics::histogram::Histogram;

/// What went in and out of one partition since it was loaded.
#[derive(Debug, Default)]
pub struct Traffic {
    received_bytes: AtomicU64,
    received_records: AtomicU64,
    sent_bytes: AtomicU64,
    sent_records: AtomicU64,
}

/// The numbers of a [`Traffic`], or the sum of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficCounts {
    /// Bytes of batches that were appended.
    pub received_bytes: u64,
    /// Their records.
    pub received_records: u64,
    /// Bytes of batches that were given to readers.
    pub sent_bytes: u64,
    /// Their records.
    pub sent_records: u64,
}

impl Traffic {
    /// What it is now.
    #[must_use]
    pub fn counts(&self) -> TrafficCounts {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        TrafficCounts {
            received_bytes: load(&self.received_bytes),
            received_records: load(&self.received_records),
            sent_bytes: load(&self.sent_bytes),
            sent_records: load(&self.sent_records),
        }
    }
}

impl std::ops::AddAssign for TrafficCounts {
    fn add_assign(&mut self, other: Self) {
        self.received_bytes += other.received_bytes;
        self.received_records += other.received_records;
        self.sent_bytes += other.sent_bytes;
        self.sent_records += other.sent_records;
    }
}

/// Why a partition refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefusal {
    /// The batch breaks a rule.
    Invalid,
    /// The producer's epoch or sequence does not fit.
    Producer,
    /// The batch is larger than a segment.
    TooLarge,
    /// The offset is not there.
    OffsetOutOfRange,
    /// No space.
    DiskFull,
    /// The log is latched or off-line, or the disk failed.
    Storage,
    /// The batch was to be written anew, and its turn did not come.
    TimedOut,
    /// The partition is gone, or the broker stops.
    Gone,
}

/// All of them with their labels.
const REFUSALS: [(LogRefusal, &str); 8] = [
    (LogRefusal::Invalid, "invalid"),
    (LogRefusal::Producer, "producer_state"),
    (LogRefusal::TooLarge, "too_large"),
    (LogRefusal::OffsetOutOfRange, "offset_out_of_range"),
    (LogRefusal::DiskFull, "disk_full"),
    (LogRefusal::Storage, "storage"),
    (LogRefusal::TimedOut, "timed_out"),
    (LogRefusal::Gone, "gone"),
];

/// Refusals by reason.
#[derive(Debug)]
pub struct Refusals([AtomicU64; REFUSALS.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; REFUSALS.len()])
    }
}

impl Refusals {
    /// Counts one.
    pub fn count(&self, refusal: LogRefusal) {
        let place = REFUSALS.iter().position(|(each, _)| *each == refusal);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All by label.
    pub fn by_label(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        REFUSALS.iter().map(|(_, label)| *label).zip(counts)
    }
}

/// The numbers of all partitions together.
#[derive(Debug, Default)]
pub struct LogMetrics {
    received_bytes: Counter,
    received_records: Counter,
    received_batches: Counter,
    sent_bytes: Counter,
    sent_records: Counter,
    /// Appends that were refused.
    pub appends_refused: Refusals,
    /// Reads that were refused.
    pub reads_refused: Refusals,
    /// How long a sync of a partition took.
    pub syncs: Histogram,
    /// Syncs that failed.
    pub failed_syncs: Counter,
    /// Batches that were written anew in their topic's codec.
    pub recompressed_batches: Counter,
    /// Reads that had to go to the disk, on a thread that may wait.
    pub cold_reads: Counter,
    /// Fetches that wait for records, over both fronts.
    pub waiting_fetches: Arc<Level>,
}

impl LogMetrics {
    /// A batch was appended. Under the lock of the log, so the partition's numbers have one writer at a time.
    pub fn received(&self, traffic: &Traffic, records: u64, bytes: u64) {
        let add = |number: &AtomicU64, amount: u64| {
            number.store(number.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        };
        add(&traffic.received_bytes, bytes);
        add(&traffic.received_records, records);
        self.received_bytes.add(bytes);
        self.received_records.add(records);
        self.received_batches.add(1);
    }

    /// Batches were given to a reader.
    pub fn sent(&self, traffic: &Traffic, records: u64, bytes: u64) {
        traffic.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        traffic.sent_records.fetch_add(records, Ordering::Relaxed);
        self.sent_bytes.add(bytes);
        self.sent_records.add(records);
    }

    /// All partitions together, those that are gone included.
    #[must_use]
    pub fn totals(&self) -> TrafficCounts {
        TrafficCounts {
            received_bytes: self.received_bytes.get(),
            received_records: self.received_records.get(),
            sent_bytes: self.sent_bytes.get(),
            sent_records: self.sent_records.get(),
        }
    }

    /// Batches that were appended.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.received_batches.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_its_own_and_all_have_the_sum() {
        let (metrics, one, other) = (LogMetrics::default(), Traffic::default(), Traffic::default());
        metrics.received(&one, 3, 300);
        metrics.received(&other, 1, 50);
        metrics.sent(&one, 2, 200);
        let mut sum = one.counts();
        assert_eq!((sum.received_records, sum.sent_bytes), (3, 200));
        sum += other.counts();
        assert_eq!(sum, metrics.totals());
        assert_eq!(metrics.batches(), 2);
    }

    #[test]
    fn every_refusal_has_a_place_and_a_label() {
        let refusals = Refusals::default();
        for (refusal, _) in REFUSALS {
            refusals.count(refusal);
        }
        assert!(
            refusals
                .by_label()
                .all(|(label, count)| !label.is_empty() && count == 1)
        );
    }
}
