//! The four offsets of a log, and the one place where they change.
//! Whoever changes one goes through [`Positions`], which asserts their order after each change.

use crate::model::Offset;

/// The offsets that bound what can be read.
///
/// Invariant: log start ≤ last stable ≤ high watermark ≤ log end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first record that may be read.
    pub log_start: Offset,
    /// Behind the last record whose transaction is decided.
    pub last_stable: Offset,
    /// Behind the last record that consumers may see: on the disk, or at the log end where flushing is relaxed.
    pub high_watermark: Offset,
    /// Behind the last record.
    pub log_end: Offset,
}

impl LogOffsets {
    /// All four at one place.
    #[must_use]
    pub fn at(offset: Offset) -> Self {
        Self {
            log_start: offset,
            last_stable: offset,
            high_watermark: offset,
            log_end: offset,
        }
    }

    /// Asserts the invariant.
    ///
    /// # Panics
    /// When it does not hold, which would be a mistake of ours that must not reach a reader.
    pub fn check(&self) {
        assert!(
            self.log_start <= self.last_stable
                && self.last_stable <= self.high_watermark
                && self.high_watermark <= self.log_end,
            "offsets out of order: {self:?}"
        );
    }
}

/// An offset together with where its batch stands, so that a read up to it needs no look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The offset, which is a batch boundary.
    pub offset: Offset,
    /// The base offset of the segment it lies in.
    pub segment: Offset,
    /// Its position in that segment.
    pub position: u64,
}

/// What readers see of the offsets, with the places of the two ends.
#[derive(Debug, Clone, Copy)]
pub struct Positions {
    offsets: LogOffsets,
    high_watermark: Place,
    log_end: Place,
}

impl Positions {
    /// A log that holds records from `log_start` to `end`, all of them visible.
    #[must_use]
    pub fn new(log_start: Offset, end: Place) -> Self {
        let mut offsets = LogOffsets::at(end.offset);
        offsets.log_start = log_start;
        offsets.check();
        Self {
            offsets,
            high_watermark: end,
            log_end: end,
        }
    }

    /// The offsets alone.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        self.offsets
    }

    /// The place of the high watermark.
    #[must_use]
    pub fn high_watermark(&self) -> Place {
        self.high_watermark
    }

    /// The place of the log end.
    #[must_use]
    pub fn log_end(&self) -> Place {
        self.log_end
    }

    /// Records were appended.
    ///
    /// # Panics
    /// When the end would move back.
    pub fn extend(&mut self, end: Place) {
        assert!(self.log_end.offset <= end.offset, "the log end moves forward");
        self.log_end = end;
        self.offsets.log_end = end.offset;
        self.offsets.check();
    }

    /// Records became visible; `first_unstable` is where the oldest undecided transaction begins.
    pub fn expose(&mut self, high_watermark: Place, first_unstable: Option<Offset>) {
        if self.high_watermark.offset <= high_watermark.offset {
            self.high_watermark = high_watermark;
            self.offsets.high_watermark = high_watermark.offset;
        }
        let decided = first_unstable.unwrap_or(self.offsets.high_watermark);
        self.offsets.last_stable = decided
            .min(self.offsets.high_watermark)
            .max(self.offsets.log_start);
        self.offsets.check();
    }

    /// The beginning moved forward.
    ///
    /// # Panics
    /// When it would move back, or behind the high watermark.
    pub fn advance_start(&mut self, log_start: Offset) {
        assert!(self.offsets.log_start <= log_start, "the log start moves forward");
        self.offsets.log_start = log_start;
        self.offsets.last_stable = self.offsets.last_stable.max(log_start);
        self.offsets.check();
    }

    /// The end was cut off; `first_unstable` is where the oldest transaction begins that is undecided now.
    pub fn cut(&mut self, end: Place, first_unstable: Option<Offset>) {
        *self = Self::new(self.offsets.log_start.min(end.offset), end);
        self.expose(end, first_unstable);
    }
}
