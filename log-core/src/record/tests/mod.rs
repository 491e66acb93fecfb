//! Tests of the record format: golden bytes, round trips and every refusal.
//! Files that Kafka and librdkafka wrote are read in `tests/golden_batches.rs`, random bytes in
//! `tests/fuzz_batch.rs`.

mod batch;
mod compression;
mod recompression;
mod record;
mod validator;

use super::{crc32c, crc32c_of_parts};

#[test]
fn crc32c_has_its_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(b""), 0);
}

#[test]
fn parts_add_up() {
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    for split in [0, 1, 15, 40, 256, 4999, 5000] {
        let (front, back) = bytes.split_at(split);
        assert_eq!(
            crc32c_of_parts(&[front, back]),
            crc32c(&bytes),
            "split at {split}"
        );
    }
}
