//! The codecs of record batches: gzip, snappy, lz4 and zstd.
//!
//! Owns the byte formats that Kafka's clients exchange:
//!
//! | id | codec | written | read |
//! |---|---|---|---|
//! | 1 | gzip | one member | members in a row |
//! | 2 | snappy | xerial framing (as the Java client), blocks of 32 KiB | xerial framing and one raw block (as librdkafka), told apart by the magic |
//! | 3 | lz4 | one frame, independent blocks of 64 KiB, no checksums | one frame of any block size |
//! | 4 | zstd | one frame | frames in a row |
//!
//! `compressor` writes them, `decompression` reads them. Neither looks into what is compressed.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What a batch of a stranger may decompress to: far beyond honest ratios of the largest usual batch (1 MiB),
/// and small enough to be held by a few requests at once.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version 1, readable by version 1.
pub(super) const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
pub(super) const XERIAL_HEADER_LENGTH: usize = XERIAL_MAGIC.len() + XERIAL_VERSIONS.len();

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Deflate in the gzip format.
    Gzip,
    /// Snappy.
    Snappy,
    /// The lz4 frame format.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

/// A codec, and how hard it is to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Codec {
    /// Which one.
    pub compression: Compression,
    /// Its level; a level outside the codec's range is held within it, and none is the usual one.
    pub level: Option<i32>,
}

/// No codec has this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compression id {id} is unknown; 0 to 4 are known")]
pub struct UnknownCompression {
    /// The three bits that were found.
    pub id: u8,
}

/// No codec has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a compression; known are none, gzip, snappy, lz4 and zstd")]
pub struct ParseCompressionError {
    /// The text that was refused.
    pub text: String,
}

/// Compressed bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The bytes are not what the codec writes.
    #[error("{codec} data of {length} bytes is damaged: {reason}")]
    Damaged {
        /// The codec that was to read them.
        codec: Compression,
        /// How many compressed bytes there were.
        length: usize,
        /// What the codec found.
        reason: String,
    },
    /// More came out than the reader allows.
    #[error("{codec} data of {length} bytes decompresses to more than {limit} bytes")]
    TooLarge {
        /// The codec that read them.
        codec: Compression,
        /// How many compressed bytes there were.
        length: usize,
        /// How many bytes were allowed to come out.
        limit: usize,
    },
}

impl Compression {
    /// Every codec, in the order of the ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this id.
    ///
    /// # Errors
    /// When no codec has it.
    pub const fn from_id(id: u8) -> Result<Self, UnknownCompression> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(UnknownCompression { id }),
        }
    }

    /// What stands in the attributes of a batch.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name (`compression.type`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The levels Kafka accepts (`compression.gzip.level` and so on), where the codec has any. Gzip also knows -1,
    /// "the usual one". Lz4's levels are accepted for compatibility; there is one speed.
    #[must_use]
    pub const fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }

    /// Kafka's level when none is given.
    #[must_use]
    pub const fn default_level(self) -> Option<i32> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(-1),
            Self::Lz4 => Some(9),
            Self::Zstd => Some(3),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Self, ParseCompressionError> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or_else(|| ParseCompressionError {
                text: text.to_owned(),
            })
    }
}
