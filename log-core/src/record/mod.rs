//! Kafka's record batch format v2: what producers send, what lies in segments, what consumers read.
//!
//! - [`batch`]: a borrowed view of one batch, and the walk over several
//! - [`batch_header`]: what stands in front of its records
//! - [`batch_attributes`]: one field of that, with its codec, clock and flags
//! - [`record`]: one record within a batch, and the walk over its records
//! - [`batch_builder`]: making a batch
//! - [`compression`]: the four codecs
//! - `compressor`: writing them
//! - `decompression`: reading them, never without a limit on what comes out
//! - `recompression`: a batch in another codec
//! - `compressed_records`: the walk over compressed records that are looked at and not kept
//! - [`control`]: the records that end transactions
//! - [`validator`]: what a broker checks before it takes a producer's batch
//! - [`varint`]: the integers inside records
//!
//! Bytes of strangers are read here: every malformed input is an error, none a panic.

pub mod batch;
pub mod batch_attributes;
pub mod batch_builder;
pub mod batch_header;
mod compressed_records;
pub mod compression;
mod compressor;
pub mod control;
mod decompression;
mod recompression;
pub mod record;
pub mod validator;
pub mod varint;

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C (Castagnoli), which guards each batch from its attributes to its end.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C over several slices, as if they were one.
///
/// # Panics
/// Never: the algorithm is 32 bits wide.
#[must_use]
pub fn crc32c_of_parts(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("the algorithm is 32 bits wide")
}

#[cfg(test)]
mod tests;
