//! What stands in the value of each record, so that whoever reads it knows whether it is the one that was sent.
//!
//! | field | bytes | |
//! |---|---|---|
//! | run | 4 | which run sent it; other records of the topic are passed over |
//! | producer | 4 | which of its producers |
//! | partition | 4 | where it was sent to |
//! | checksum | 4 | CRC-32C of the other fields, XOR that of the filling |
//! | sequence | 8 | counted for each producer and partition, from 0 |
//! | intended | 8 | when it was to be sent, nanoseconds since 1970 |
//! | filling | the rest | |
//!
//! All big-endian. The checksum is made of two, so that a batch can be used again and again: only the few bytes in front change,
//! and only they are summed anew. Damage to either half changes it.

use log_core::record::crc32c;

/// The bytes in front of the filling; no value is shorter.
pub const STAMP_BYTES: usize = 32;

/// What is known of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which run sent it.
    pub run: u32,
    /// Which of its producers.
    pub producer: u32,
    /// Where it was sent to.
    pub partition: u32,
    /// Its number, counted for each producer and partition.
    pub sequence: u64,
    /// When it was to be sent, in nanoseconds since 1970.
    pub intended_ns: u64,
}

/// Why a value is not a record of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// It is too short, or of another run: somebody else's.
    Foreign,
    /// It claims to be of this run, and its checksum says otherwise.
    Corrupt,
}

impl Stamp {
    /// The bytes in front of a filling with that checksum.
    #[must_use]
    pub fn to_bytes(&self, filling_crc: u32) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let (ids, rest) = bytes.split_at_mut(16);
        let (ids, checksum) = ids.split_at_mut(12);
        let (run, others) = ids.split_at_mut(4);
        let (producer, partition) = others.split_at_mut(4);
        let (sequence, intended) = rest.split_at_mut(8);
        run.copy_from_slice(&self.run.to_be_bytes());
        producer.copy_from_slice(&self.producer.to_be_bytes());
        partition.copy_from_slice(&self.partition.to_be_bytes());
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        intended.copy_from_slice(&self.intended_ns.to_be_bytes());
        // Over 32 bytes whose checksum is still zero: one call, no copy.
        checksum.copy_from_slice(&[0; 4]);
        let sum = crc32c(&bytes) ^ filling_crc;
        if let Some(place) = bytes.get_mut(12..16) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// Reads a value and checks it; `run` is the run whose records are wanted.
    ///
    /// # Errors
    /// [`NotOurs`].
    pub fn read(value: &[u8], run: u32) -> Result<Self, NotOurs> {
        let (front, filling) = value.split_first_chunk::<STAMP_BYTES>().ok_or(NotOurs::Foreign)?;
        let (words, _) = front.as_chunks::<4>();
        let word = |index: usize| words.get(index).copied().map_or(0, u32::from_be_bytes);
        let long = |index: usize| (u64::from(word(index)) << 32) | u64::from(word(index + 1));
        if word(0) != run {
            return Err(NotOurs::Foreign);
        }
        let stamp = Self {
            run,
            producer: word(1),
            partition: word(2),
            sequence: long(4),
            intended_ns: long(6),
        };
        if stamp.to_bytes(crc32c(filling)) == *front {
            Ok(stamp)
        } else {
            Err(NotOurs::Corrupt)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 7,
        producer: 1,
        partition: 2,
        sequence: 3 << 40,
        intended_ns: 1_700_000_000_123_456_789,
    };

    fn value() -> Vec<u8> {
        let filling = b"some filling";
        [&STAMP.to_bytes(crc32c(filling))[..], filling].concat()
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Stamp::read(&value(), 7), Ok(STAMP));
        assert_eq!(Stamp::read(&value(), 8), Err(NotOurs::Foreign));
        assert_eq!(Stamp::read(&value()[..STAMP_BYTES - 1], 7), Err(NotOurs::Foreign));
    }

    #[test]
    fn every_changed_bit_is_found() {
        for bit in 32..value().len() * 8 {
            let mut value = value();
            value[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&value, 7), Err(NotOurs::Corrupt), "bit {bit}");
        }
        let short = &value()[..value().len() - 1];
        assert_eq!(Stamp::read(short, 7), Err(NotOurs::Corrupt));
    }
}
