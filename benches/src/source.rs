//! Bytes and batches to work on.
//!
//! The bytes are pseudo-random with a fixed seed: the same in every run, and nothing below can profit from zeros.

use bytes::Bytes;
use log_core::config::LogConfig;
use log_core::model::TimestampMs;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use log_core::record::compression::Compression;
use log_core::record::validator::ProduceRules;

/// So many bytes that do not repeat; the seed is fixed.
///
/// The memory they take should fit the cache if the copy itself is not what is measured.
#[must_use]
pub fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length.next_multiple_of(8));
    while bytes.len() < length {
        // xorshift64*: small and good enough to defeat compression.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// So much text of the kind that is sent as events: names that repeat, numbers that do not. It compresses to a
/// fourth or so.
#[must_use]
pub fn events(length: usize) -> Vec<u8> {
    const NAMES: [&str; 4] = ["page_view", "purchase", "sign_in", "search"];
    let mut text = String::with_capacity(length + 128);
    let numbers = bytes(length.max(8));
    for number in numbers.as_chunks().0.iter().cycle() {
        if length <= text.len() {
            break;
        }
        let number = u64::from_le_bytes(*number);
        let name = NAMES
            .iter()
            .cycle()
            .nth(usize::from(number.to_le_bytes()[7]))
            .unwrap_or(&"");
        let (user, amount) = (number % 100_000, number % 7_919);
        let line = format!(
            "{{\"event\":\"{name}\",\"user\":{user},\"session\":\"{:08x}\",\"amount\":{amount}}}\n",
            number >> 40
        );
        text.push_str(&line);
    }
    let mut text = text.into_bytes();
    text.truncate(length);
    text
}

/// A record batch as a producer sends it: records with a value of `record_bytes` each and no key, as many as it takes to
/// reach `batch_bytes` before compression.
///
/// # Panics
/// When `batch_bytes` is more than a batch can hold.
#[must_use]
pub fn batch(batch_bytes: usize, record_bytes: usize, compression: Compression) -> Bytes {
    batch_of(
        &bytes(batch_bytes.max(record_bytes)),
        batch_bytes,
        record_bytes,
        compression,
    )
}

/// The same of [`events`], which compress.
///
/// # Panics
/// When `batch_bytes` is more than a batch can hold.
#[must_use]
pub fn batch_of_events(batch_bytes: usize, record_bytes: usize, compression: Compression) -> Bytes {
    batch_of(
        &events(batch_bytes.max(record_bytes)),
        batch_bytes,
        record_bytes,
        compression,
    )
}

fn batch_of(values: &[u8], batch_bytes: usize, record_bytes: usize, compression: Compression) -> Bytes {
    let mut values = values.chunks_exact(record_bytes).cycle();
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    while builder.is_empty() || builder.estimated_size() + record_bytes <= batch_bytes {
        builder
            .append(TIMESTAMP, None, values.next(), &[])
            .expect("the sizes are the bench's own");
    }
    builder.build()
}

/// When all records here were made: an hour of 2023 that nothing depends on.
pub const TIMESTAMP: TimestampMs = TimestampMs::new(1_700_000_000_000);

/// What a topic with default settings asks of a batch, at the time of the records.
#[must_use]
pub fn rules() -> ProduceRules {
    let config = LogConfig::default();
    ProduceRules {
        batch_bytes_max: u64::MAX,
        timestamp_type: config.timestamp_type,
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        now: TIMESTAMP,
        requires_keys: false,
        codec: None,
    }
}
