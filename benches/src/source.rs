//! Bytes and batches to work on.
//!
//! The bytes are pseudo-random with a fixed seed: the same in every run, and nothing below can profit from zeros.

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
