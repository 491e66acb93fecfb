//! What is counted during a run: by each worker for itself, and by all for those who watch.
//!
//! Totals are of the window alone, the stretch between warm-up and end. The board also has the figures of short stretches, for plots,
//! and running counts for the progress line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::latency::Latencies;

/// Which part of a run counts, in nanoseconds of its clock.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The end of the warm-up.
    pub from: u64,
    /// The end of the load.
    pub until: u64,
    /// The length of a stretch of the timeline.
    pub stretch: u64,
}

impl Window {
    fn holds(&self, moment: u64) -> bool {
        (self.from..self.until).contains(&moment)
    }
}

/// What a latency is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the acknowledgement.
    Produce,
    /// To the answer of a fetch.
    Fetch,
    /// To the arrival at a reader.
    EndToEnd,
}

/// Records that went one way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

impl Tally {
    /// So many more.
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.requests += other.requests;
    }
}

/// One stretch of the timeline.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// What was acknowledged in it.
    pub produced: Tally,
    /// What arrived in it.
    pub fetched: Tally,
    /// Latencies of the kind that counts.
    pub latencies: Latencies,
}

impl Default for Stretch {
    fn default() -> Self {
        Self {
            produced: Tally::default(),
            fetched: Tally::default(),
            latencies: Latencies::new(2),
        }
    }
}

impl Stretch {
    fn merge(&mut self, other: &Self) {
        self.produced.add(other.produced);
        self.fetched.add(other.fetched);
        self.latencies.merge(&other.latencies);
    }
}

/// What all workers share.
#[derive(Debug, Default)]
pub struct Board {
    /// Records acknowledged so far.
    pub produced_records: AtomicU64,
    /// Their bytes.
    pub produced_bytes: AtomicU64,
    /// Records that arrived so far.
    pub fetched_records: AtomicU64,
    /// Their bytes.
    pub fetched_bytes: AtomicU64,
    /// The latest p99 of a stretch, in nanoseconds.
    pub p99_ns: AtomicU64,
    stretches: Mutex<Vec<Stretch>>,
}

impl Board {
    /// The stretches so far.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        self.stretches.lock().clone()
    }

    fn add(&self, index: usize, stretch: &Stretch) {
        let mut stretches = self.stretches.lock();
        if stretches.len() <= index {
            stretches.resize_with(index + 1, Stretch::default);
        }
        if let Some(place) = stretches.get_mut(index) {
            place.merge(stretch);
            if !place.latencies.is_empty() {
                let p99 = place.latencies.percentile_us(99.0) * 1e3;
                // Only shown.
                self.p99_ns.store(rounded(p99), Ordering::Relaxed);
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a latency of ten minutes at most"
)]
fn rounded(nanoseconds: f64) -> u64 {
    nanoseconds as u64
}

/// Makes meters for those who take part beside the workers.
pub type MeterMaker = Arc<dyn Fn() -> Meter + Send + Sync>;

/// What one worker counts.
#[derive(Debug)]
pub struct Meter {
    window: Window,
    /// The kind whose latencies stand in the timeline.
    shown: Kind,
    board: Arc<Board>,
    stretch: Stretch,
    stretch_index: u64,
    /// In the window.
    pub produced: Tally,
    /// In the window.
    pub fetched: Tally,
    /// Requests that failed, at any time.
    pub produce_errors: u64,
    /// Requests that failed, at any time.
    pub fetch_errors: u64,
    /// The last acknowledgement or arrival.
    pub last: u64,
    /// In the window.
    pub produce: Latencies,
    /// In the window.
    pub fetch: Latencies,
    /// In the window.
    pub end_to_end: Latencies,
}

impl Meter {
    /// Counts nothing yet.
    #[must_use]
    pub fn new(window: Window, shown: Kind, board: Arc<Board>) -> Self {
        Self {
            window,
            shown,
            board,
            stretch: Stretch::default(),
            stretch_index: 0,
            produced: Tally::default(),
            fetched: Tally::default(),
            produce_errors: 0,
            fetch_errors: 0,
            last: 0,
            produce: Latencies::new(3),
            fetch: Latencies::new(3),
            end_to_end: Latencies::new(3),
        }
    }

    /// The timeline of all meters that share it, as far as they have published.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        self.board.stretches()
    }

    /// The length of a stretch of the timeline, in nanoseconds.
    #[must_use]
    pub fn stretch(&self) -> u64 {
        self.window.stretch
    }

    /// The worker's and another one's together.
    pub fn merge(&mut self, other: &Self) {
        self.produced.add(other.produced);
        self.fetched.add(other.fetched);
        self.produce_errors += other.produce_errors;
        self.fetch_errors += other.fetch_errors;
        self.last = self.last.max(other.last);
        self.produce.merge(&other.produce);
        self.fetch.merge(&other.fetch);
        self.end_to_end.merge(&other.end_to_end);
    }

    /// Records were acknowledged.
    pub fn produced(&mut self, now: u64, tally: Tally) {
        self.turn_to(now);
        self.last = self.last.max(now);
        self.stretch.produced.add(tally);
        if self.window.holds(now) {
            self.produced.add(tally);
        }
        self.board
            .produced_records
            .fetch_add(tally.records, Ordering::Relaxed);
        self.board
            .produced_bytes
            .fetch_add(tally.bytes, Ordering::Relaxed);
    }

    /// Records arrived.
    pub fn fetched(&mut self, now: u64, tally: Tally) {
        self.turn_to(now);
        self.stretch.fetched.add(tally);
        if 0 < tally.records {
            self.last = self.last.max(now);
        }
        if self.window.holds(now) {
            self.fetched.add(tally);
        }
        self.board
            .fetched_records
            .fetch_add(tally.records, Ordering::Relaxed);
        self.board.fetched_bytes.fetch_add(tally.bytes, Ordering::Relaxed);
    }

    /// What was to be done at `intended` is done now; `times` such things.
    pub fn latency(&mut self, kind: Kind, intended: u64, now: u64, times: u64) {
        let took = now.saturating_sub(intended);
        if kind == self.shown {
            self.stretch.latencies.add(took, times);
        }
        if self.window.holds(intended) {
            match kind {
                Kind::Produce => &mut self.produce,
                Kind::Fetch => &mut self.fetch,
                Kind::EndToEnd => &mut self.end_to_end,
            }
            .add(took, times);
        }
    }

    /// Puts a stretch that has ended on the board.
    fn turn_to(&mut self, now: u64) {
        let index = now / self.window.stretch.max(1);
        if index != self.stretch_index {
            self.publish();
            self.stretch_index = index;
        }
    }

    /// Puts what is not there yet on the board.
    pub fn publish(&mut self) {
        let index = usize::try_from(self.stretch_index).unwrap_or_default();
        let is_empty = self.stretch.latencies.is_empty()
            && self.stretch.produced.requests == 0
            && self.stretch.fetched.requests == 0;
        if !is_empty {
            self.board.add(index, &self.stretch);
            self.stretch.produced = Tally::default();
            self.stretch.fetched = Tally::default();
            self.stretch.latencies.clear();
        }
    }
}
