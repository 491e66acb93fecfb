//! A file of prepared space, written by `pwrite` and read by `sendfile` or through a map.
//!
//! All of its space is prepared when it is made, so that writing is nothing but writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::fs::os::OsFileSystem;
use log_core::fs::{FileSystem as _, Map};
use rustix::fs::{FallocateFlags, fallocate, fdatasync};

use super::{Send, Settings, Space};

/// How much is zero-filled by one call: Linux makes folios as large as the call, and large ones make small writes dear.
const FILL_BYTES: usize = 64 << 10;

/// A file of prepared space; it goes away with the value.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    map: Option<Arc<dyn Map>>,
    capacity: u64,
}

impl Segment {
    /// Makes the file and prepares all of its space.
    pub(crate) fn prepare(path: &Path, capacity: u64, settings: &Settings) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let mut segment = Self {
            file,
            path: path.to_path_buf(),
            map: None,
            capacity,
        };
        fallocate(&segment.file, FallocateFlags::empty(), 0, capacity)?;
        if settings.space == Space::ZeroFilled {
            segment.zero_fill()?;
        }
        if settings.send == Send::Map {
            let file = OsFileSystem::new()
                .open_read_only(path)
                .map_err(io::Error::other)?;
            segment.map = Some(file.map(capacity).map_err(io::Error::other)?);
        }
        Ok(segment)
    }

    fn zero_fill(&self) -> io::Result<()> {
        let zeros = vec![0; FILL_BYTES];
        let mut position = 0;
        while position < self.capacity {
            let length = usize::try_from(self.capacity - position).unwrap_or(FILL_BYTES);
            let zeros = zeros.get(..length).unwrap_or(&zeros);
            self.file.write_all_at(zeros, position)?;
            position += u64::try_from(zeros.len()).unwrap_or(u64::MAX);
        }
        Ok(fdatasync(&self.file)?)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn map(&self) -> Option<&dyn Map> {
        self.map.as_deref()
    }

    pub(crate) fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}
