//! Small files read and replaced whole, in verbs of any file system.
//!
//! The real file system and its twin in memory share these steps, so a crash test of the twin is one of the
//! very steps that the real one takes.

use std::ffi::{OsStr, OsString};
use std::io::IoSlice;
use std::path::Path;

use rustix::io::Errno;

use super::{File, FileSystem, FsError, FsErrorKind, FsOperation};

/// All of an open file; [`FsErrorKind::TooLarge`] before memory is taken.
pub(super) fn read_whole(file: &dyn File, length_max: u64) -> Result<Vec<u8>, FsError> {
    let length = file.length()?;
    if length_max < length {
        let text = format!("{length} bytes where at most {length_max} are expected");
        let kind = FsErrorKind::TooLarge;
        return Err(FsError::refused(FsOperation::Read, file.path(), kind, text));
    }
    let length = usize::try_from(length)
        .map_err(|_| FsError::from_system(FsOperation::Read, file.path(), Errno::NOMEM.into()))?;
    let mut contents = vec![0; length];
    let count = file.read_at(0, &mut contents)?;
    contents.truncate(count);
    Ok(contents)
}

/// What [`FileSystem::replace`] does, in verbs of any file system, so that the twin in memory is tested with
/// these very steps. `name.tmp` is where the new contents wait; one that is left over is from a crash.
pub(super) fn replace_whole(files: &dyn FileSystem, path: &Path, contents: &[u8]) -> Result<(), FsError> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(OsStr::new(".tmp"));
    let aside = path.with_file_name(name);
    let write_aside = || {
        let file = match files.create(&aside) {
            Err(error) if error.kind == FsErrorKind::AlreadyExists => {
                files.remove_file(&aside)?;
                files.create(&aside)?
            }
            outcome => outcome?,
        };
        file.write_at(0, &[IoSlice::new(contents)])?;
        file.sync_data()
    };
    let outcome = write_aside().and_then(|()| files.rename(&aside, path));
    if let Err(error) = outcome {
        // The name may not even exist, and the first failure is the one to tell.
        files.remove_file(&aside).ok();
        return Err(error);
    }
    files.sync_directory(parent_of(path))
}

/// Makes the name of a directory durable that somebody else made, who may not have got that far. A parent that may not be
/// looked into is another's, and so is the making of the name.
pub(super) fn sync_name(files: &dyn FileSystem, path: &Path) -> Result<(), FsError> {
    match files.sync_directory(parent_of(path)) {
        Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        outcome => outcome,
    }
}

/// The directory that holds the path's name; the working directory for a bare name.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}
