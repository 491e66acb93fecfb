//! What one log is told about itself: the topic's settings, already checked, in the units the log uses.
//!
//! Names, defaults, validation and sources of Kafka's keys live in the server; a log only sees values.

use crate::record::compression::Codec;

/// Which clock a record's timestamp comes from (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's at the time of the append.
    LogAppendTime,
}

/// What happens to old segments (`cleanup.policy`). Both may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Segments behind the retention limits are deleted.
    pub delete: bool,
    /// Only the last record of each key is kept.
    pub compact: bool,
}

/// The settings of one log. `None` stands for "no limit" where Kafka writes -1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is rolled before it would exceed this many bytes (`segment.bytes`).
    pub segment_bytes_max: u64,
    /// A segment is rolled when its first record is this old (`segment.ms`), in milliseconds.
    pub segment_ms: i64,
    /// At most this much is taken off `segment_ms`, by chance, so that segments do not roll together (`segment.jitter.ms`).
    pub segment_jitter_ms: i64,
    /// A segment is rolled when an index would exceed this many bytes (`segment.index.bytes`).
    pub index_bytes_max: u64,
    /// An index entry is made after this many bytes of log (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// Segments whose newest record is older are deleted (`retention.ms`), in milliseconds.
    pub retention_ms: Option<i64>,
    /// The oldest segments are deleted while the rest still holds this many bytes (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// The largest batch accepted, header included (`max.message.bytes`).
    pub batch_bytes_max: u64,
    /// How producers' batches are to be compressed (`compression.type` and the codec's level).
    /// None leaves that to the producers.
    pub codec: Option<Codec>,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// How far a record's time may lie behind the broker's (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
    /// How far a record's time may lie ahead of the broker's (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// How long a tombstone stays at least, counted from the cleaning that met it first (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Which share of a log must be dirty for a cleaning, in millionths (`min.cleanable.dirty.ratio`).
    pub min_cleanable_dirty_per_million: u64,
    /// How long a record is safe from compaction (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// How long a record may go uncompacted (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// Whether `acks=all` and consumers wait for the disk (`flush.messages=1`, our default). Otherwise the
    /// high watermark is the log end, and the log is flushed after `flush_messages` records or `flush_ms`.
    pub durable: bool,
    /// Flush after this many records (`flush.messages`).
    pub flush_messages: i64,
    /// Flush when the oldest unflushed record is this old (`flush.ms`), in milliseconds.
    pub flush_ms: i64,
    /// How long a producer id is remembered after its last batch (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        const HOUR_MS: i64 = 60 * 60 * 1000;
        Self {
            segment_bytes_max: 1 << 30,
            segment_ms: 7 * 24 * HOUR_MS,
            segment_jitter_ms: 0,
            index_bytes_max: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * HOUR_MS),
            retention_bytes: None,
            batch_bytes_max: (1 << 20) + 12,
            codec: None,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: HOUR_MS,
            cleanup_policy: CleanupPolicy {
                delete: true,
                compact: false,
            },
            delete_retention_ms: 24 * HOUR_MS,
            min_cleanable_dirty_per_million: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            durable: true,
            flush_messages: 1,
            flush_ms: i64::MAX,
            producer_expiration_ms: 24 * HOUR_MS,
        }
    }
}
