//! A file system that calls a test before a file is opened or replaced: what another thread might do just then.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use log_core::fs::mem::MemFileSystem;
use log_core::fs::{DirEntry, DirectoryLock, File, FileSystem, FsError, Space};
use parking_lot::Mutex;

type Hook = Box<dyn FnOnce() + Send>;

/// Delegates everything to the file system in memory.
pub(crate) struct HookedFileSystem {
    files: MemFileSystem,
    /// The part of a path that it waits for, and what then happens, once.
    hook: Mutex<Option<(String, Hook)>>,
}

impl fmt::Debug for HookedFileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HookedFileSystem").finish_non_exhaustive()
    }
}

impl HookedFileSystem {
    pub(crate) fn new(files: &MemFileSystem) -> Arc<Self> {
        Arc::new(Self {
            files: files.clone(),
            hook: Mutex::default(),
        })
    }

    /// Calls `hook` before the next file whose path contains `part` is opened for reading or replaced.
    pub(crate) fn before(&self, part: &str, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock() = Some((part.to_owned(), Box::new(hook)));
    }

    fn meet(&self, path: &Path) {
        let is_met = |(part, _): &mut (String, Hook)| path.to_string_lossy().contains(part.as_str());
        let met = self.hook.lock().take_if(is_met);
        if let Some((_, hook)) = met {
            hook();
        }
    }
}

impl FileSystem for HookedFileSystem {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        self.files.create(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        self.files.open(path)
    }

    fn open_read_only(&self, path: &Path) -> Result<Arc<dyn File>, FsError> {
        self.meet(path);
        self.files.open_read_only(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, FsError> {
        self.files.exists(path)
    }

    fn read(&self, path: &Path, length_max: u64) -> Result<Vec<u8>, FsError> {
        self.files.read(path, length_max)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FsError> {
        self.meet(path);
        self.files.replace(path, contents)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        self.files.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        self.files.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> Result<(), FsError> {
        self.files.remove_directory(path)
    }

    fn create_directory(&self, path: &Path) -> Result<(), FsError> {
        self.files.create_directory(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        self.files.list(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), FsError> {
        self.files.sync_directory(path)
    }

    fn lock_directory(&self, path: &Path) -> Result<Box<dyn DirectoryLock>, FsError> {
        self.files.lock_directory(path)
    }

    fn space(&self, path: &Path) -> Result<Space, FsError> {
        self.files.space(path)
    }
}
