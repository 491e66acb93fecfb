//! What a topic demands of a producer's batch, checked before the batch meets the log and without its lock.
//!
//! Compressed batches have to be unpacked for that. A little of it happens on the runtime's thread; where it may be much, the
//! thread hands its other tasks on first.

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
        validate(records, &rules).map_err(|error| {
            let error = PartitionError::Invalid(error.into());
            self.count_refused_append(&error);
            error
        })
    }
}

/// Checks a producer's batch; where much is to be decompressed for that, the runtime's other tasks are handed on before.
fn validate(records: &Bytes, rules: &ProduceRules) -> Result<ValidatedBatch, ProduceError> {
    if !is_compressed(records) {
        return validate_produce(records, rules);
    }
    if records.len() <= QUICK_COMPRESSED_BYTES_MAX {
        let quick = validate_produce_within(records, rules, QUICK_DECOMPRESSED_BYTES_MAX);
        if !matches!(quick, Err(ProduceError::DecompressedTooLarge(_))) {
            return quick;
        }
    }
    off_runtime(|| validate_produce(records, rules))
}

fn is_compressed(records: &Bytes) -> bool {
    let codec = BatchHeader::parse(records)
        .ok()
        .map(|header| header.attributes.compression());
    codec.is_some_and(|codec| codec != Ok(Compression::None))
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
    }
}
