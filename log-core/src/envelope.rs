//! The form of our own state files, those that have no Kafka format.
//!
//! | field | bytes | |
//! |---|---|---|
//! | magic | 4 | the kind of file |
//! | version | 2 | of the payload |
//! | length | 4 | of the payload |
//! | checksum | 4 | CRC-32 of all that stands before it and of the payload |
//! | payload | length | in the bincode format (fixed integers, little-endian), written by `wincode` |
//!
//! Numbers are little-endian, as in the payload. The payload formats accept bytes behind their end, so the envelope
//! is what refuses them. Payload types derive [`wincode::SchemaWrite`] and [`wincode::SchemaRead`]; a field that is
//! added, removed or moved is a new version. The module that derives them expects `clippy::mem_forget`, which the
//! derived code trips.
//!
//! Writing the file whole or not at all is `fs::FileSystem::replace`; what to do about a damaged one is its owner's.

use wincode::config::{Configuration, DEFAULT_PREALLOCATION_SIZE_LIMIT};
use wincode::{SchemaRead, SchemaWrite};

const MAGIC_LENGTH: usize = 4;
const VERSION_LENGTH: usize = 2;
const PAYLOAD_LENGTH_LENGTH: usize = 4;
const BEFORE_CHECKSUM_LENGTH: usize = MAGIC_LENGTH + VERSION_LENGTH + PAYLOAD_LENGTH_LENGTH;
const CHECKSUM_LENGTH: usize = 4;
/// The bytes in front of the payload.
pub const HEADER_LENGTH: usize = BEFORE_CHECKSUM_LENGTH + CHECKSUM_LENGTH;
const _: () = assert!(HEADER_LENGTH == 14, "the fields fill the header");

/// The most memory one sequence of a payload may take, whatever length it claims. A file that passes its
/// checksum is ours, so this is only wide enough for the largest we write: hundreds of thousands of topics.
const SEQUENCE_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(
    DEFAULT_PREALLOCATION_SIZE_LIMIT < SEQUENCE_BYTES_MAX,
    "the default would not do"
);

/// How payloads are written: as bincode 1 does by default, with a bound on what a length can make us allocate.
pub type PayloadConfig = Configuration<true, SEQUENCE_BYTES_MAX>;

/// A kind of file: its magic, and the versions of its payload that this code knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeKind {
    /// What messages call it.
    pub name: &'static str,
    /// The first four bytes.
    pub magic: [u8; MAGIC_LENGTH],
    /// The oldest version that is still read.
    pub version_min: u16,
    /// The version that is written.
    pub version: u16,
}

/// The bytes are not a sound file of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The file ends within the header.
    #[error("{file}: the header takes {HEADER_LENGTH} bytes, found {found}")]
    Header {
        /// The kind of file.
        file: &'static str,
        /// The length of the file.
        found: usize,
    },
    /// It is another kind of file.
    #[error("{file}: the magic should be {expected:02x?}, found {found:02x?}")]
    Magic {
        /// The kind of file that was expected.
        file: &'static str,
        /// Its magic.
        expected: [u8; MAGIC_LENGTH],
        /// What stands there.
        found: [u8; MAGIC_LENGTH],
    },
    /// The version is one that this code does not know, because it is newer or too old.
    #[error("{file}: the version should be {version_min} to {version_max}, found {found}")]
    Version {
        /// The kind of file.
        file: &'static str,
        /// The oldest version that is read.
        version_min: u16,
        /// The newest.
        version_max: u16,
        /// What stands there.
        found: u16,
    },
    /// The payload is shorter or longer than the header says.
    #[error("{file}: the payload should have {expected} bytes, found {found}")]
    Length {
        /// The kind of file.
        file: &'static str,
        /// What the header says.
        expected: u32,
        /// How many bytes follow the header.
        found: usize,
    },
    /// The checksum is not that of the contents.
    #[error("{file}: stored checksum {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The kind of file.
        file: &'static str,
        /// What stands there.
        stored: u32,
        /// What the contents give.
        computed: u32,
    },
    /// The payload is not what its version says.
    #[error("{file}: version {version} of the payload does not parse: {reason}")]
    Payload {
        /// The kind of file.
        file: &'static str,
        /// The version of the payload.
        version: u16,
        /// The decoder's word.
        reason: String,
    },
}

/// The state cannot be put into a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The payload has more bytes than the length field holds.
    #[error("{file}: a payload of {found} bytes is too large")]
    TooLarge {
        /// The kind of file.
        file: &'static str,
        /// The length of the payload.
        found: usize,
    },
    /// The encoder refuses it, because a sequence is too long to be read back.
    #[error("{file}: the payload cannot be written: {reason}")]
    Payload {
        /// The kind of file.
        file: &'static str,
        /// The encoder's word.
        reason: String,
    },
}

/// Puts `payload`, of the kind's present version, into an envelope.
///
/// # Errors
/// [`SealError`] when it is so large that it could not be opened again.
pub fn seal<T>(kind: &EnvelopeKind, payload: &T) -> Result<Vec<u8>, SealError>
where
    T: SchemaWrite<PayloadConfig, Src = T>,
{
    let payload =
        wincode::config::serialize(payload, PayloadConfig::new()).map_err(|error| SealError::Payload {
            file: kind.name,
            reason: error.to_string(),
        })?;
    seal_bytes(kind, &payload)
}

fn seal_bytes(kind: &EnvelopeKind, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let length = u32::try_from(payload.len()).map_err(|_| SealError::TooLarge {
        file: kind.name,
        found: payload.len(),
    })?;
    let mut envelope = Vec::with_capacity(HEADER_LENGTH.saturating_add(payload.len()));
    envelope.extend_from_slice(&kind.magic);
    envelope.extend_from_slice(&kind.version.to_le_bytes());
    envelope.extend_from_slice(&length.to_le_bytes());
    let checksum = checksum(&envelope, payload);
    envelope.extend_from_slice(&checksum.to_le_bytes());
    envelope.extend_from_slice(payload);
    Ok(envelope)
}

fn checksum(before: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(payload);
    hasher.finalize()
}

/// A payload whose envelope was found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'a> {
    file: &'static str,
    version: u16,
    payload: &'a [u8],
}

/// Checks an envelope: kind, version, length and checksum.
///
/// # Errors
/// [`EnvelopeError`], all but [`EnvelopeError::Payload`].
pub fn open<'a>(kind: &EnvelopeKind, bytes: &'a [u8]) -> Result<Opened<'a>, EnvelopeError> {
    let file = kind.name;
    let header = EnvelopeError::Header {
        file,
        found: bytes.len(),
    };
    let (before, _) = bytes
        .split_at_checked(BEFORE_CHECKSUM_LENGTH)
        .ok_or(header.clone())?;
    let mut rest = bytes;
    let magic = take(&mut rest).ok_or(header.clone())?;
    let version = u16::from_le_bytes(take(&mut rest).ok_or(header.clone())?);
    let length = u32::from_le_bytes(take(&mut rest).ok_or(header.clone())?);
    let stored = u32::from_le_bytes(take(&mut rest).ok_or(header)?);
    let payload = rest;
    if magic != kind.magic {
        return Err(EnvelopeError::Magic {
            file,
            expected: kind.magic,
            found: magic,
        });
    }
    if usize::try_from(length) != Ok(payload.len()) {
        return Err(EnvelopeError::Length {
            file,
            expected: length,
            found: payload.len(),
        });
    }
    let computed = checksum(before, payload);
    if stored != computed {
        return Err(EnvelopeError::Checksum {
            file,
            stored,
            computed,
        });
    }
    if !(kind.version_min..=kind.version).contains(&version) {
        let (version_min, version_max) = (kind.version_min, kind.version);
        return Err(EnvelopeError::Version {
            file,
            version_min,
            version_max,
            found: version,
        });
    }
    Ok(Opened {
        file,
        version,
        payload,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*field)
}

impl<'a> Opened<'a> {
    /// Which version of the payload this is: the caller picks the type to [`Self::decode`].
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The payload.
    ///
    /// # Errors
    /// [`EnvelopeError::Payload`] when the bytes are not a `T`, or more than one.
    pub fn decode<T>(&self) -> Result<T, EnvelopeError>
    where
        T: SchemaRead<'a, PayloadConfig, Dst = T>,
    {
        wincode::config::deserialize_exact(self.payload, PayloadConfig::new()).map_err(|error| {
            EnvelopeError::Payload {
                file: self.file,
                version: self.version,
                reason: error.to_string(),
            }
        })
    }
}

#[cfg(test)]
#[expect(
    clippy::mem_forget,
    reason = "the derived reader disarms its drop guard that way"
)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, SchemaWrite, SchemaRead)]
    struct State {
        name: String,
        offsets: Vec<(i32, i64)>,
        epoch: Option<u16>,
        is_open: bool,
    }

    const KIND: EnvelopeKind = EnvelopeKind {
        name: "test state",
        magic: *b"SLts",
        version_min: 2,
        version: 3,
    };

    fn state() -> State {
        State {
            name: "a".to_owned(),
            offsets: vec![(1, -2)],
            epoch: Some(5),
            is_open: true,
        }
    }

    const GOLDEN: [u8; 47] = [
        b'S', b'L', b't', b's', 3, 0, // magic, version
        33, 0, 0, 0, // length
        0x5a, 0xa2, 0xe3, 0x5e, // checksum
        1, 0, 0, 0, 0, 0, 0, 0, b'a', // name
        1, 0, 0, 0, 0, 0, 0, 0, // one pair
        1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // 1, -2
        1, 5, 0, // some 5
        1, // open
    ];

    #[test]
    fn golden_bytes() {
        assert_eq!(seal(&KIND, &state()).unwrap(), GOLDEN);
        let opened = open(&KIND, &GOLDEN).unwrap();
        assert_eq!(opened.version(), 3);
        assert_eq!(opened.decode::<State>(), Ok(state()));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_refused() {
        for at in 0..GOLDEN.len() {
            let mut bytes = GOLDEN;
            bytes[at] ^= 0x10;
            assert!(open(&KIND, &bytes).is_err(), "byte {at}");
            assert!(open(&KIND, &GOLDEN[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn damage_is_named() {
        let file = "test state";
        assert_eq!(
            open(&KIND, &GOLDEN[..13]),
            Err(EnvelopeError::Header { file, found: 13 })
        );
        let longer = [&GOLDEN[..], &[0]].concat();
        let length = EnvelopeError::Length {
            file,
            expected: 33,
            found: 34,
        };
        assert_eq!(open(&KIND, &longer), Err(length));
        let other = EnvelopeKind {
            magic: *b"SLxx",
            ..KIND
        };
        let magic = EnvelopeError::Magic {
            file,
            expected: *b"SLxx",
            found: *b"SLts",
        };
        assert_eq!(open(&other, &GOLDEN), Err(magic));
        for (version_min, version) in [(1, 2), (4, 5)] {
            let kind = EnvelopeKind {
                version_min,
                version,
                ..KIND
            };
            let error = EnvelopeError::Version {
                file,
                version_min,
                version_max: version,
                found: 3,
            };
            assert_eq!(open(&kind, &GOLDEN), Err(error));
        }
        let mut damaged = GOLDEN;
        damaged[20] ^= 1;
        assert!(matches!(
            open(&KIND, &damaged),
            Err(EnvelopeError::Checksum { .. })
        ));
    }

    #[test]
    fn a_payload_of_another_type_is_refused() {
        let check = |payload: &[u8]| {
            let bytes = seal_bytes(&KIND, payload).unwrap();
            let error = open(&KIND, &bytes).unwrap().decode::<State>().unwrap_err();
            assert!(
                matches!(error, EnvelopeError::Payload { version: 3, .. }),
                "{error}"
            );
        };
        let payload = &GOLDEN[HEADER_LENGTH..];
        check(&payload[..payload.len() - 1]);
        check(&[payload, &[0]].concat());
        check(&[]);
        // A length that would take 2^60 bytes.
        check(&[0, 0, 0, 0, 0, 0, 0, 0x10]);
        // A length just above what is in the file.
        check(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_sealed_can_be_opened_also_when_large() {
        let large = State {
            offsets: vec![(7, 8); 1 << 20],
            ..state()
        };
        let bytes = seal(&KIND, &large).unwrap();
        assert!(open(&KIND, &bytes).unwrap().decode::<State>() == Ok(large));
        let too_large = vec![0_u8; SEQUENCE_BYTES_MAX + 1];
        assert!(matches!(seal(&KIND, &too_large), Err(SealError::Payload { .. })));
    }
}
