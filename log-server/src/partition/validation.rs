//! What a topic demands of a producer's batch, checked before the batch meets the log and without its lock.
//!
//! Compressed batches have to be unpacked for that. A little of it happens on the runtime's thread; where it may be much, the
//! thread hands its other tasks on first. So it does for every batch that is to be written anew in its topic's codec: even a
//! small one takes longer than handing over.

use bytes::Bytes;
use log_core::config::LogConfig;
use log_core::model::TimestampMs;
use log_core::record::batch::BatchHeader;
use log_core::record::compression::Compression;
use log_core::record::validator::{
    ProduceError, ProduceRules, ValidatedBatch, validate_produce, validate_produce_within,
};

use crate::partition::error::PartitionError;
use crate::partition::partition::Partition;
use crate::partition::writer::off_runtime;

/// Compressed batches up to this size are tried on the runtime's thread. Larger ones mostly hold more than may be
/// decompressed there, and the try would be for nothing.
const QUICK_COMPRESSED_BYTES_MAX: usize = 16 << 10;
/// What may be decompressed on the runtime's thread, whatever a few bytes claim to hold: that takes 16 to 80 µs, by codec,
/// where handing the thread's tasks on takes 2 to 20.
const QUICK_DECOMPRESSED_BYTES_MAX: usize = 64 << 10;

impl Partition {
    /// A producer's batch after all checks that need no lock.
    ///
    /// # Errors
    /// It is wrong.
    pub fn validated(&self, records: &Bytes) -> Result<ValidatedBatch, PartitionError> {
        let rules = produce_rules(&self.config.load(), self.context.clock.now());
        let valid = match BatchHeader::parse(records).map(|header| header.compression()) {
            Ok(compression) if rules.codec.is_some_and(|codec| codec.compression != compression) => {
                self.recompressed(records, &rules)
            }
            Ok(Compression::None) | Err(_) => validate_produce(records, &rules),
            Ok(_) => validate_compressed(records, &rules),
        };
        valid.map_err(|error| {
            let error = PartitionError::Invalid(error.into());
            self.count_refused_append(&error);
            error
        })
    }

    /// The batch in the topic's codec, when a turn at that has come.
    fn recompressed(&self, records: &Bytes, rules: &ProduceRules) -> Result<ValidatedBatch, ProduceError> {
        off_runtime(|| {
            let _turn = self.context.recompression.take();
            self.context.metrics.recompressed_batches.add(1);
            // Others may have been appended meanwhile, and times of appends do not go back.
            let now = self.context.clock.now();
            validate_produce(records, &ProduceRules { now, ..*rules })
        })
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
