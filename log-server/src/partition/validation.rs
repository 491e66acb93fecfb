//! What a topic demands of a producer's batch, checked before the batch meets the log and without its lock.
//!
//! Compressed batches have to be unpacked for that. A little of it happens on the runtime's thread; where it may be much, the
//! thread hands its other tasks on first. So it does for every batch that is to be written anew in its topic's codec, when it has a turn
//! at that: even a small one takes longer than handing over.

use bytes::Bytes;
use log_core::config::LogConfig;
use log_core::model::TimestampMs;
use log_core::record::batch_header::BatchHeader;
use log_core::record::compression::Compression;
use log_core::record::validator::{
    ProduceError, ProduceRules, ValidatedBatch, validate_produce, validate_produce_within,
};
use tokio::time::Instant;

use crate::partition::error::PartitionError;
use crate::partition::partition::Partition;
use crate::partition::recompression::RecompressionTurn;
use crate::partition::writer::off_runtime;

/// Compressed batches up to this size are tried on the runtime's thread. Larger ones mostly hold more than may be
/// decompressed there, and the try would be for nothing.
const QUICK_COMPRESSED_BYTES_MAX: usize = 16 << 10;
/// What may be decompressed on the runtime's thread, whatever a few bytes claim to hold: that takes 16 to 80 µs, by codec,
/// where handing the thread's tasks on takes 2 to 20.
const QUICK_DECOMPRESSED_BYTES_MAX: usize = 64 << 10;

impl Partition {
    /// A producer's batch after all checks that need no lock. To be written anew it needs a turn: the one in `turn`, from a batch that is
    /// appended with this one, or else one that is waited for up to `until` and left there. Who appends the batch keeps it until that is done.
    ///
    /// # Errors
    /// It is wrong, or its turn did not come.
    pub(super) async fn validated(
        &self,
        records: &Bytes,
        turn: &mut Option<RecompressionTurn>,
        until: Instant,
    ) -> Result<ValidatedBatch, PartitionError> {
        if let Some(valid) = self.try_validated(records, turn) {
            return valid;
        }
        *turn = self.context.recompression.take(until).await;
        if turn.is_none() {
            let error = PartitionError::TurnTimedOut;
            self.count_refused_append(&error);
            return Err(error);
        }
        let valid = self.try_validated(records, turn);
        valid.expect("only the turn was missing")
    }

    /// The same at once; nothing where the turn would have to be waited for.
    pub(crate) fn try_validated(
        &self,
        records: &Bytes,
        turn: &mut Option<RecompressionTurn>,
    ) -> Option<Result<ValidatedBatch, PartitionError>> {
        let rules = produce_rules(&self.config.load(), self.context.clock.now());
        let valid = match BatchHeader::parse(records).map(|header| header.compression()) {
            Ok(compression) if rules.codec.is_some_and(|codec| codec.compression != compression) => {
                if turn.is_none() {
                    *turn = Some(self.context.recompression.try_take()?);
                }
                self.context.metrics.recompressed_batches.add(1);
                off_runtime(|| validate_produce(records, &rules))
            }
            Ok(Compression::None) | Err(_) => validate_produce(records, &rules),
            Ok(_) => validate_compressed(records, &rules),
        };
        Some(valid.map_err(|error| {
            let error = PartitionError::Invalid(error.into());
            self.count_refused_append(&error);
            error
        }))
    }
}

/// Where much is to be decompressed, the runtime's other tasks are handed on before.
fn validate_compressed(records: &Bytes, rules: &ProduceRules) -> Result<ValidatedBatch, ProduceError> {
    if records.len() <= QUICK_COMPRESSED_BYTES_MAX {
        let quick = validate_produce_within(records, rules, QUICK_DECOMPRESSED_BYTES_MAX);
        if !matches!(quick, Err(ProduceError::DecompressedTooLarge(_))) {
            return quick;
        }
    }
    off_runtime(|| validate_produce(records, rules))
}

/// What a topic demands of a producer's batch.
fn produce_rules(config: &LogConfig, now: TimestampMs) -> ProduceRules {
    ProduceRules {
        batch_bytes_max: config.batch_bytes_max,
        timestamp_type: config.timestamp_type,
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        now,
        requires_keys: config.cleanup_policy.compact,
        codec: config.codec,
    }
}
