//! What the front's tests share: seeds that are printed when a test fails, and bytes of requests.
//! Compiled for tests alone.

use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use log_core::protocol::{ApiKey, KafkaString, write_request_header};

/// A random generator that says its seed when the test fails. `STRATALOG_SEED` sets it.
pub(crate) struct SeededRng {
    pub(crate) rng: fastrand::Rng,
    seed: u64,
}

impl SeededRng {
    pub(crate) fn new() -> Self {
        let seed =
            std::env::var("STRATALOG_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
        Self {
            rng: fastrand::Rng::with_seed(seed),
            seed,
        }
    }
}

impl Drop for SeededRng {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("run again with STRATALOG_SEED={}", self.seed);
        }
    }
}

/// Calls `round` for `STRATALOG_FUZZ_SECONDS`, or `rounds` times when that is not set.
pub(crate) fn fuzz(rounds: usize, mut round: impl FnMut(&mut fastrand::Rng)) {
    let mut seeded = SeededRng::new();
    match std::env::var("STRATALOG_FUZZ_SECONDS") {
        Ok(seconds) => {
            let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
            while Instant::now() < end {
                round(&mut seeded.rng);
            }
        }
        Err(_) => (0..rounds).for_each(|_| round(&mut seeded.rng)),
    }
}

/// A request of any kind with its header, length in front.
pub(crate) fn frame(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: impl FnOnce(&mut BytesMut),
) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    buffer.put_i32(0);
    let client = KafkaString::from("test".to_owned());
    write_request_header(&mut buffer, api_key, version, correlation_id, &client).unwrap();
    body(&mut buffer);
    let length = i32::try_from(buffer.len() - 4).unwrap();
    buffer[..4].copy_from_slice(&length.to_be_bytes());
    buffer.to_vec()
}
