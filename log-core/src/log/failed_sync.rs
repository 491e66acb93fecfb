//! The mark of a failed sync: a file in the partition's directory that names the offset up to which everything was
//! on the disk before.
//!
//! After a failed sync the system takes the pages for clean: it shows the records, a second sync succeeds, and a power
//! cut takes them away. This process knows, and opens the log accordingly; the mark tells the next one, which could
//! not see it. Whoever opens the log writes the records from that offset on once more, syncs them, and then removes
//! the mark, all before anything is appended. Making the mark is an attempt: on a disk that takes nothing more there
//! will be none.
//!
//! The file `failed-sync` has two lines: the version of its form, 0, and the offset.

use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;

use crate::fs::{File, FileSystem, FsError, FsErrorKind};
use crate::log::truncate::COPY_CHUNK;
use crate::model::Offset;

/// The file's name.
pub const FAILED_SYNC_FILE: &str = "failed-sync";
/// Two short lines.
const LENGTH_MAX: u64 = 4 << 10;

/// Notes that what stands from `synced_to` on may not be on the disk. Durable when it returns.
///
/// # Errors
/// The file system's, which is likely when a disk fails.
pub fn mark(file_system: &dyn FileSystem, directory: &Path, synced_to: Offset) -> Result<(), FsError> {
    let contents = format!("0\n{}\n", synced_to.get());
    file_system.replace(&directory.join(FAILED_SYNC_FILE), contents.as_bytes())
}

/// The offset of the mark, if there is one. Of a mark that cannot be read, offset 0: to write more again than is
/// needed does no harm.
///
/// # Errors
/// The file system's.
pub fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Option<Offset>, FsError> {
    match file_system.read(&directory.join(FAILED_SYNC_FILE), LENGTH_MAX) {
        Ok(bytes) => Ok(Some(parse(&bytes).unwrap_or(Offset::ZERO))),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the mark. Durable when it returns.
///
/// # Errors
/// The file system's; the mark must be taken to be there.
pub(super) fn clear(file_system: &dyn FileSystem, directory: &Path) -> Result<(), FsError> {
    file_system.remove_file(&directory.join(FAILED_SYNC_FILE))?;
    file_system.sync_directory(directory)
}

/// Writes the bytes of the range over themselves, so that the next sync brings them to the disk.
pub(super) fn write_again(file: &dyn File, range: Range<u64>) -> Result<(), FsError> {
    let mut buffer = vec![0; COPY_CHUNK];
    let mut position = range.start;
    while position < range.end {
        let left = usize::try_from(range.end.saturating_sub(position)).unwrap_or(COPY_CHUNK);
        let (chunk, _) = buffer.split_at_mut(left.min(COPY_CHUNK));
        let count = file.read_at(position, chunk)?;
        if count == 0 {
            break; // it was scanned to the end: no shorter
        }
        let (read, _) = chunk.split_at(count);
        file.write_at(position, &[IoSlice::new(read)])?;
        position = position.saturating_add(u64::try_from(count).expect("usize fits u64"));
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Option<Offset> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let version = lines.next()?;
    let offset = lines.next()?.parse().ok().filter(|offset| 0 <= *offset)?;
    (version == "0" && lines.next().is_none()).then_some(Offset::new(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::mem::MemFileSystem;

    #[test]
    fn a_mark_is_read_back_and_a_damaged_one_is_still_a_mark() {
        let files = MemFileSystem::new();
        let directory = Path::new("/t-0");
        files.create_directory(directory).unwrap();
        assert_eq!(read(&files, directory).unwrap(), None);
        mark(&files, directory, Offset::new(42)).unwrap();
        assert_eq!(read(&files, directory).unwrap(), Some(Offset::new(42)));
        let path = directory.join(FAILED_SYNC_FILE);
        assert_eq!(files.read(&path, LENGTH_MAX).unwrap(), b"0\n42\n");
        for damaged in ["", "0", "1\n42\n", "0\n-1\n", "0\n42\n7\n", "0\nx\n"] {
            files.replace(&path, damaged.as_bytes()).unwrap();
            assert_eq!(
                read(&files, directory).unwrap(),
                Some(Offset::ZERO),
                "{damaged:?}"
            );
        }
        clear(&files, directory).unwrap();
        assert_eq!(read(&files, directory).unwrap(), None);
    }
}
