//! The writer of one partition's log, and what it shares with its readers.
//! Owns the fields; the verbs that change them stand in the files beside it (`append`, `flush`, `retention`,
//! `truncate`, `checkpoint`).

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use crate::cleaner::SegmentHold;
use crate::clock::Clock;
use crate::config::LogConfig;
use crate::fs::FileSystem;
use crate::leader_epoch::LeaderEpochCache;
use crate::log::error::LatchReason;
use crate::log::flush::FlushState;
use crate::log::offsets::{LogOffsets, Place, Positions};
use crate::log::read::LogReader;
use crate::model::{LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition};
use crate::producer_state::manager::ProducerStateManager;
use crate::segment::segment::SegmentSettings;
use crate::segment::segments::Segments;

/// What every log of a broker uses.
#[derive(Debug, Clone)]
pub struct LogContext {
    /// The files.
    pub file_system: Arc<dyn FileSystem>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// What the writer publishes and readers use.
#[derive(Debug)]
pub(crate) struct LogShared {
    pub(crate) partition: TopicPartition,
    pub(crate) segments: RwLock<Segments>,
    pub(crate) positions: RwLock<Positions>,
    pub(crate) epochs: RwLock<LeaderEpochCache>,
    /// Whether a transaction was ever aborted here, so that readers of other logs need not ask each segment.
    pub(crate) has_aborted: AtomicBool,
}

impl LogShared {
    pub(crate) fn positions(&self) -> Positions {
        *self.positions.read()
    }

    pub(crate) fn segments(&self) -> Segments {
        self.segments.read().clone()
    }
}

/// The one writer of a log.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<LogShared>,
    pub(crate) context: LogContext,
    pub(crate) directory: Arc<Path>,
    pub(crate) topic_id: TopicId,
    pub(crate) config: LogConfig,
    pub(crate) producers: ProducerStateManager,
    pub(crate) flush: FlushState,
    /// Held by the one who stores indexes and snapshots: a checkpoint must not put older ones in the place of
    /// those that a sealing stores meanwhile.
    pub(crate) storing: Arc<Mutex<()>>,
    pub(crate) latch: Option<LatchReason>,
    /// When the active segment was made, for rolling by time where records carry none.
    pub(crate) segment_created: TimestampMs,
    /// What this log takes off `segment.ms`; a share of `segment.jitter.ms` drawn from the partition's name.
    pub(crate) roll_jitter_ms: i64,
    /// Whether cleaned segments are being swapped in: until that ends, no segment leaves the log in another way.
    pub(crate) is_swapping: bool,
    /// Its clones are with those who read segments without the lock.
    pub(crate) hold: SegmentHold,
    /// Whether the files differ from what an orderly stop leaves: else there is nothing to store at the next.
    pub(crate) is_touched: bool,
}

impl Log {
    /// Which partition it is.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.shared.partition
    }

    /// The life of the topic it belongs to.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes its settings; segment sizes count from the next segment on.
    pub fn set_config(&mut self, config: LogConfig) {
        let becomes_relaxed = self.config.durable && !config.durable;
        self.roll_jitter_ms = roll_jitter(&self.shared.partition, &config);
        self.config = config;
        if becomes_relaxed {
            let end = self.shared.positions().log_end();
            self.expose(end);
        }
    }

    /// A reader, which never waits for the writer.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// The four offsets.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        self.shared.positions().offsets()
    }

    /// The epoch that appended batches carry.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.shared
            .epochs
            .read()
            .latest()
            .map_or(LeaderEpoch::FIRST, |entry| entry.epoch)
    }

    /// The base offset of the segment that holds `offset`, or would.
    #[must_use]
    pub fn segment_base_at(&self, offset: Offset) -> Offset {
        let segments = self.shared.segments();
        let mut holding = segments.from_offset(offset);
        holding
            .next()
            .map_or(offset, |segment| segment.base_offset().min(offset))
    }

    /// Why it refuses everything, if it does.
    #[must_use]
    pub fn latch_reason(&self) -> Option<&LatchReason> {
        self.latch.as_ref()
    }

    /// What producers did lately.
    #[must_use]
    pub fn producers(&self) -> &ProducerStateManager {
        &self.producers
    }

    /// Forgets producers that were silent for longer than the topic's settings say.
    pub fn expire_producers(&mut self, now: TimestampMs) {
        self.producers.expire(now, self.config.producer_expiration_ms);
    }

    /// Refuses everything from now on: memory and disk may disagree.
    pub(crate) fn latch(&mut self, operation: &'static str, error: &impl Display) -> LatchReason {
        let partition = self.partition().clone();
        let reason = LatchReason {
            partition,
            operation,
            cause: error.to_string(),
        };
        self.latch.get_or_insert(reason).clone()
    }

    pub(crate) fn check_latch(&self) -> Result<(), LatchReason> {
        self.latch.clone().map_or(Ok(()), Err)
    }

    /// Raises the high watermark to `place`, and the last stable offset as far as the transactions allow.
    pub(crate) fn expose(&mut self, place: Place) {
        let mut positions = self.shared.positions.write();
        let high_watermark = positions.high_watermark().offset.max(place.offset);
        self.producers.advance_high_watermark(high_watermark);
        positions.expose(place, self.producers.first_unstable_offset());
    }
}

/// What a segment of this log is made with.
pub(crate) fn segment_settings(
    context: &LogContext,
    directory: &Arc<Path>,
    config: &LogConfig,
) -> SegmentSettings {
    SegmentSettings {
        directory: Arc::clone(directory),
        file_system: Arc::clone(&context.file_system),
        bytes_max: config.segment_bytes_max,
        index_bytes_max: config.index_bytes_max,
        index_interval_bytes: config.index_interval_bytes,
    }
}

/// A share of the jitter that is the same at each opening and differs between partitions. Kafka draws it by
/// chance; log-core has no chance, and a hash of the name spreads as well.
pub(crate) fn roll_jitter(partition: &TopicPartition, config: &LogConfig) -> i64 {
    let hash = crc32fast::hash(partition.to_string().as_bytes());
    i64::from(hash)
        .checked_rem(config.segment_jitter_ms.min(config.segment_ms))
        .unwrap_or(0)
}
