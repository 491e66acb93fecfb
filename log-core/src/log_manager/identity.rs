//! Whose a data directory is, where a broker has several: the file `stratalog-directory.properties`.
//!
//! ```text
//! version=1
//! cluster.id=tWfmHv2dRPaUDd3ZPxPbAw
//! directory.id=5KTgRnVTQ0mE0oEpLtLQ1g
//! other.hW3QTYbSSyK8nGOWcEnbNA=/disk2/stratalog
//! ```
//!
//! The first three are those of Kafka's `meta.properties`. The name is not: a Kafka broker takes a directory with that file for its
//! own, and the partitions in it for strays. `other.<directory.id>` stands in the broker's first directory, once for each of the
//! others: what is not found anywhere may be in one of them that is not there, and must not be made anew.
//!
//! A broker with one directory, which never had another, has no such file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::error::LogManagerError;
use crate::fs::{FileSystem, FsError, FsErrorKind, FsOperation};

/// The file in each of several directories.
pub(super) const IDENTITY_FILE: &str = "stratalog-directory.properties";
const VERSION: &str = "1";
const OTHER_PREFIX: &str = "other.";
/// A line for each directory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose data it is.
    pub cluster_id: String,
    /// Which of the directories it is, wherever it is mounted.
    pub directory_id: String,
    /// The broker's other directories by their ids, and where they were; in the first directory.
    pub others: BTreeMap<String, PathBuf>,
}

impl Identity {
    /// Reads that of a directory; `None` where there is none.
    ///
    /// # Errors
    /// The file system's; [`LogManagerError::Identity`] when the file is not what it should be.
    pub fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Option<Self>, LogManagerError> {
        let path = directory.join(IDENTITY_FILE);
        let bytes = match file_system.read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match parse(&bytes) {
            Ok(identity) => Ok(Some(identity)),
            Err(reason) => Err(LogManagerError::Identity { path, reason }),
        }
    }

    /// Looks whether the file still stands: where it does not, the disk was taken away, and what is below it in its place.
    pub(super) fn check_there(file_system: &dyn FileSystem, directory: &Path) -> Result<(), FsError> {
        let path = directory.join(IDENTITY_FILE);
        if file_system.exists(&path)? {
            return Ok(());
        }
        let text = "it is not there any more: was its disk unmounted?".to_owned();
        Err(FsError::refused(
            FsOperation::Open,
            &path,
            FsErrorKind::NotFound,
            text,
        ))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Self {
            cluster_id,
            directory_id,
            others,
        } = self;
        let mut text = format!("version={VERSION}\ncluster.id={cluster_id}\ndirectory.id={directory_id}\n");
        for (id, path) in others {
            writeln!(text, "{OTHER_PREFIX}{id}={}", path.display()).expect("a string takes all text");
        }
        text.into_bytes()
    }
}

/// Lines that a later version may add are passed over.
fn parse(bytes: &[u8]) -> Result<Identity, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not text: {error}"))?;
    let mut values = BTreeMap::new();
    let mut others = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index.saturating_add(1);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| format!("line {number}: expected a name, \"=\" and a value"))?;
        match name.strip_prefix(OTHER_PREFIX) {
            Some(id) => drop(others.insert(id.to_owned(), PathBuf::from(value))),
            None => drop(values.insert(name, value)),
        }
    }
    let mut take = |name: &str| {
        let value = values.remove(name).filter(|value| !value.is_empty());
        value
            .map(str::to_owned)
            .ok_or_else(|| format!("it has no {name}"))
    };
    let version = take("version")?;
    if version != VERSION {
        return Err(format!("expected version {VERSION}, found {version}"));
    }
    Ok(Identity {
        cluster_id: take("cluster.id")?,
        directory_id: take("directory.id")?,
        others,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_text() {
        let identity = Identity {
            cluster_id: "c".to_owned(),
            directory_id: "a".to_owned(),
            others: BTreeMap::from([("b".to_owned(), PathBuf::from("/disk 2/x=y"))]),
        };
        let text = "version=1\ncluster.id=c\ndirectory.id=a\nother.b=/disk 2/x=y\n";
        assert_eq!(identity.to_bytes(), text.as_bytes());
        assert_eq!(parse(text.as_bytes()), Ok(identity.clone()));
        let later = format!("# by hand\n\n{text}disk.label=x\n");
        assert_eq!(parse(later.as_bytes()), Ok(identity));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("", "no version"),
            ("version=2\ncluster.id=c\ndirectory.id=a\n", "version 1, found 2"),
            ("version=1\ndirectory.id=a\n", "no cluster.id"),
            ("version=1\ncluster.id=c\ndirectory.id=\n", "no directory.id"),
            ("version=1\ncluster.id\n", "line 2"),
        ] {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found.contains(reason), "{text:?}: {found}");
        }
        assert!(parse(&[0xff]).unwrap_err().contains("not text"));
    }
}
