//! The state of the metadata in a file, so that a start replays only what follows and old records can go.
//!
//! The file `stratalog-metadata-<offset>.snapshot` in the data directory is an envelope (magic `SLms`, version 1) around that
//! offset and the records that give the state before it. It is written whole or not at all. The last two are kept,
//! and the log keeps its records from the older one on: a damaged file costs a longer replay, not the state.

#![expect(
    clippy::mem_forget,
    reason = "the derived reader disarms its drop guard that way"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::envelope::{self, EnvelopeError, EnvelopeKind, SealError};
use log_core::fs::{FileSystem, FsError, FsErrorKind};
use log_core::model::Offset;
use wincode::{SchemaRead, SchemaWrite};

use super::image::{MetadataImage, ReplayError};
use super::records::MetadataRecord;

const KIND: EnvelopeKind = EnvelopeKind {
    name: "metadata snapshot",
    magic: *b"SLms",
    version_min: 1,
    version: 1,
};

const PREFIX: &str = "stratalog-metadata-";
const SUFFIX: &str = ".snapshot";
/// So many digits carry any offset, so that names sort as offsets do.
const DIGITS: usize = 20;
/// A hundred thousand topics take about 10 MiB.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The contents of a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Contents {
    /// The first offset of the metadata log that is not in the state.
    next_offset: i64,
    /// What gives the state.
    records: Vec<MetadataRecord>,
}

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system failed.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// The state does not go into a file.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file is not a sound snapshot.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: EnvelopeError,
    },
    /// A record in it contradicts those before it.
    #[error("{}: record {index} is refused: {source}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// Why.
        source: ReplayError,
    },
    /// The offset in the file is not the one in its name.
    #[error("{}: it holds the state before offset {found}", path.display())]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// The offset in it.
        found: i64,
    },
}

/// The snapshots in one data directory.
#[derive(Debug)]
pub(crate) struct Snapshots {
    file_system: Arc<dyn FileSystem>,
    directory: PathBuf,
}

/// A state, and from where the log goes on.
pub(crate) type Restored = (MetadataImage, Offset);

impl Snapshots {
    pub(crate) fn new(file_system: Arc<dyn FileSystem>, directory: PathBuf) -> Self {
        Self {
            file_system,
            directory,
        }
    }

    /// The offsets of all snapshot files, newest first.
    pub(crate) fn list(&self) -> Result<Vec<Offset>, FsError> {
        let entries = self.file_system.list(&self.directory)?;
        let mut offsets: Vec<Offset> = entries
            .iter()
            .filter_map(|entry| parse_name(&entry.name))
            .collect();
        offsets.sort_unstable();
        offsets.reverse();
        Ok(offsets)
    }

    pub(crate) fn read(&self, offset: Offset) -> Result<Restored, SnapshotError> {
        let path = self.path(offset);
        let bytes = self.file_system.read(&path, FILE_BYTES_MAX)?;
        let damaged = |source| SnapshotError::Damaged {
            path: path.clone(),
            source,
        };
        let opened = envelope::open(&KIND, &bytes).map_err(damaged)?;
        let contents: Contents = opened.decode().map_err(damaged)?;
        if contents.next_offset != offset.get() {
            return Err(SnapshotError::Misnamed {
                path,
                found: contents.next_offset,
            });
        }
        let mut image = MetadataImage::default();
        for (index, record) in contents.records.iter().enumerate() {
            image
                .replay(record)
                .map_err(|source| SnapshotError::Contradiction {
                    path: path.clone(),
                    index,
                    source,
                })?;
        }
        image.set_version(u64::try_from(offset.get()).unwrap_or_default());
        Ok((image, offset))
    }

    /// Durable when it returns.
    pub(super) fn write(&self, image: &MetadataImage, offset: Offset) -> Result<(), SnapshotError> {
        let contents = Contents {
            next_offset: offset.get(),
            records: image.to_records(),
        };
        let bytes = envelope::seal(&KIND, &contents)?;
        Ok(self.file_system.replace(&self.path(offset), &bytes)?)
    }

    pub(super) fn remove(&self, offset: Offset) -> Result<(), FsError> {
        match self.file_system.remove_file(&self.path(offset)) {
            Err(error) if error.kind != FsErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn path(&self, offset: Offset) -> PathBuf {
        self.directory.join(name(offset))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

fn name(offset: Offset) -> String {
    format!("{PREFIX}{:0DIGITS$}{SUFFIX}", offset.get())
}

/// The offset in the name of a snapshot file.
pub(crate) fn parse_name(text: &str) -> Option<Offset> {
    let digits = text.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let offset = Offset::new(digits.parse().ok()?);
    (name(offset) == text).then_some(offset)
}

#[cfg(test)]
mod tests {
    use log_core::fs::mem::MemFileSystem;

    use super::*;

    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        let cluster_id = "c".to_owned();
        image
            .replay(&MetadataRecord::ClusterCreated { cluster_id })
            .unwrap();
        image
            .replay(&MetadataRecord::ProducerIdBlock { next_producer_id: 5 })
            .unwrap();
        image
    }

    fn snapshots() -> Snapshots {
        let file_system = Arc::new(MemFileSystem::new());
        file_system.create_directory(Path::new("/data")).unwrap();
        Snapshots::new(file_system, PathBuf::from("/data"))
    }

    #[test]
    fn what_is_written_is_read() {
        let snapshots = snapshots();
        for offset in [7, 1_000_000_000_000] {
            snapshots.write(&image(), Offset::new(offset)).unwrap();
        }
        let newest = Offset::new(1_000_000_000_000);
        assert_eq!(snapshots.list().unwrap(), [newest, Offset::new(7)]);
        assert_eq!(snapshots.read(newest).unwrap(), (image(), newest));
        snapshots.remove(newest).unwrap();
        snapshots.remove(newest).unwrap();
        assert_eq!(snapshots.list().unwrap(), [Offset::new(7)]);
    }

    #[test]
    fn golden_bytes() {
        let snapshots = snapshots();
        snapshots.write(&image(), Offset::new(7)).unwrap();
        let path = Path::new("/data/stratalog-metadata-00000000000000000007.snapshot");
        let bytes = snapshots.file_system.read(path, 1 << 20).unwrap();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"SLms\x01\0");
        expected.extend_from_slice(&[54, 0, 0, 0]);
        expected.extend_from_slice(&bytes[10..14]); // the checksum, of which the envelope's own test knows
        expected.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]); // next offset
        expected.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]); // three records
        expected.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'c']); // cluster
        expected.extend_from_slice(&[7, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]); // producer ids
        expected.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // settings of all brokers: none
        assert_eq!(bytes, expected);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let snapshots = snapshots();
        let offset = Offset::new(7);
        snapshots.write(&image(), offset).unwrap();
        let path = snapshots.path(offset);
        let sound = snapshots.file_system.read(&path, 1 << 20).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            snapshots.file_system.replace(&path, &bytes).unwrap();
            assert!(snapshots.read(offset).is_err(), "byte {at}");
            snapshots.file_system.replace(&path, &sound[..at]).unwrap();
            assert!(snapshots.read(offset).is_err(), "cut at {at}");
        }
        snapshots
            .file_system
            .replace(&snapshots.path(Offset::new(8)), &sound)
            .unwrap();
        assert!(matches!(
            snapshots.read(Offset::new(8)),
            Err(SnapshotError::Misnamed { found: 7, .. })
        ));
    }

    #[test]
    fn other_files_are_no_snapshots() {
        for name in [
            "stratalog-metadata-7.snapshot",
            "stratalog-metadata-.snapshot",
            "topic-0",
            "x.snapshot",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
