//! How dirty a log is: up to where it has been cleaned, up to where it can be, and whether that is worth a cleaning.
//! The rules are Kafka's, with one more: nothing is cleaned that lies behind the recovery point on the disk, because
//! behind it a recovery takes a gap between batches for the end of the log.

use std::cmp::Ordering;
use std::sync::Arc;

use super::CleanError;
use super::clean::scan_error;
use super::hold::SegmentHold;
use crate::config::LogConfig;
use crate::model::{Offset, TimestampMs};
use crate::segment::segment::Segment;
use crate::segment::segments::Segments;

/// A log as it stood at one moment.
#[derive(Debug, Clone)]
pub struct LogView {
    /// Its segments.
    pub segments: Segments,
    /// Where it starts.
    pub log_start: Offset,
    /// Where it ends.
    pub log_end: Offset,
    /// Everything below is decided, and on the disk in sealed segments.
    pub settled_end: Offset,
    /// Keeps the segments in the log.
    pub hold: SegmentHold,
}

impl LogView {
    /// Where the active segment begins: what lies before is sealed.
    #[must_use]
    pub fn sealed_end(&self) -> Offset {
        self.segments.active().base_offset()
    }

    /// Whether the active segment holds anything that could be cleaned if it were sealed and settled. Blocks as [`Dirt::of`] does.
    ///
    /// # Errors
    /// The file system's, or a damaged segment.
    pub fn has_cleanable_in_active(&self, config: &LogConfig, now: TimestampMs) -> Result<bool, CleanError> {
        let active = self.segments.active();
        Ok(0 < active.size() && !is_too_young(active, config, now)?)
    }
}

/// How dirty a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirt {
    /// Everything below has been cleaned.
    pub first_dirty: Offset,
    /// The first segment that cannot be cleaned begins here.
    pub first_uncleanable: Offset,
    /// The bytes of the segments that begin below the first dirty offset.
    pub clean_bytes: u64,
    /// The bytes of those that reach behind it and can be cleaned. As in Kafka, the one that it lies in counts on both sides.
    pub cleanable_bytes: u64,
    /// By how much the oldest of these has waited longer than `max.compaction.lag.ms`.
    pub overdue_ms: i64,
}

impl Dirt {
    /// Looks at a log that was cleaned up to `checkpoint`. Blocks: it reads indexes and first batches.
    ///
    /// # Errors
    /// The file system's, or a damaged segment.
    pub fn of(
        log: &LogView,
        checkpoint: Option<Offset>,
        config: &LogConfig,
        now: TimestampMs,
    ) -> Result<Self, CleanError> {
        // A checkpoint outside of the log speaks of a log that is no more.
        let is_inside = |offset: &Offset| log.log_start <= *offset && *offset <= log.log_end;
        let first_dirty = checkpoint.filter(is_inside).unwrap_or(log.log_start);
        let settled = settled_segments(log);
        let mut dirt = Self {
            first_dirty,
            first_uncleanable: log.segments.first().base_offset(),
            clean_bytes: 0,
            cleanable_bytes: 0,
            overdue_ms: 0,
        };
        // Without a limit nothing is overdue, and no file need be opened for it.
        let has_lag_max = config.max_compaction_lag_ms < i64::MAX;
        let mut oldest = None;
        for segment in settled {
            let broken = |error| scan_error(segment, error);
            let is_dirty = first_dirty < segment.next_offset();
            if is_dirty {
                if is_too_young(segment, config, now)? {
                    break;
                }
                if has_lag_max {
                    let first = segment.first_batch_timestamp().map_err(broken)?;
                    if TimestampMs::new(0) < first {
                        oldest = oldest.into_iter().chain([first]).min();
                    }
                }
                dirt.cleanable_bytes = dirt.cleanable_bytes.saturating_add(segment.size());
            }
            dirt.first_uncleanable = segment.next_offset();
            if segment.base_offset() < first_dirty {
                dirt.clean_bytes = dirt.clean_bytes.saturating_add(segment.size());
            }
        }
        let waited = oldest.map_or(0, |oldest| now.saturating_since(oldest));
        dirt.overdue_ms = waited.saturating_sub(config.max_compaction_lag_ms).max(0);
        Ok(dirt)
    }

    /// Whether a cleaning is due: enough of the log is dirty, or some of it has waited too long.
    #[must_use]
    pub fn is_due(&self, config: &LogConfig) -> bool {
        let is_overdue = 0 < self.overdue_ms && 0 < self.cleanable_bytes;
        let per_million = u128::from(config.min_cleanable_dirty_per_million);
        is_overdue
            || per_million.saturating_mul(self.total_bytes())
                < u128::from(self.cleanable_bytes).saturating_mul(MILLION)
    }

    /// Which of the two is the dirtier, by the share of it that is dirty.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let (mine, others) = (
            u128::from(self.cleanable_bytes),
            u128::from(other.cleanable_bytes),
        );
        (mine.saturating_mul(other.total_bytes())).cmp(&others.saturating_mul(self.total_bytes()))
    }

    fn total_bytes(&self) -> u128 {
        u128::from(self.clean_bytes).saturating_add(u128::from(self.cleanable_bytes))
    }
}

const MILLION: u128 = 1_000_000;

/// Whether the newest record of a segment is to stay as it is for a while yet.
fn is_too_young(segment: &Segment, config: &LogConfig, now: TimestampMs) -> Result<bool, CleanError> {
    if config.min_compaction_lag_ms <= 0 {
        return Ok(false);
    }
    let (newest, _) = segment
        .max_timestamp()
        .map_err(|error| scan_error(segment, error))?;
    Ok(now.saturating_since(newest) < config.min_compaction_lag_ms)
}

/// The sealed segments below the settled end, oldest first.
fn settled_segments(log: &LogView) -> impl Iterator<Item = &Arc<Segment>> {
    let sealed = log.segments.count().saturating_sub(1);
    let is_settled = |segment: &&Arc<Segment>| segment.next_offset() <= log.settled_end;
    log.segments.iter().take(sealed).take_while(is_settled)
}
