//! Whether a directory serves, or was given up because its disk failed.
//!
//! | what failed | a broker's only or first directory | one of its others |
//! |---|---|---|
//! | space, descriptors, memory | the request | the request |
//! | anything else: the disk, the file system, the directory is gone | the request | the directory is given up |
//!
//! Given up is for good: what the disk forgot meanwhile only a start finds out.

use std::sync::{Arc, OnceLock};

use crate::fs::{FsError, FsErrorKind};

/// How a directory stands.
#[derive(Debug)]
pub(super) struct Standing {
    is_dispensable: bool,
    failure: OnceLock<Arc<str>>,
}

impl Standing {
    /// Of a directory without which there is no broker.
    pub(super) fn indispensable() -> Self {
        Self {
            is_dispensable: false,
            failure: OnceLock::new(),
        }
    }

    /// Of one that the broker goes on without.
    pub(super) fn dispensable() -> Self {
        Self {
            is_dispensable: true,
            ..Self::indispensable()
        }
    }

    pub(super) fn is_dispensable(&self) -> bool {
        self.is_dispensable
    }

    pub(super) fn is_online(&self) -> bool {
        self.failure.get().is_none()
    }

    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure.get().cloned()
    }

    /// Notes that an operation of the directory's own failed.
    pub(super) fn note(&self, error: &FsError) {
        let is_for_good = match error.kind {
            // A directory that vanished was on a disk that did.
            FsErrorKind::NotFound | FsErrorKind::Other => true,
            FsErrorKind::AlreadyExists
            | FsErrorKind::NoSpace
            | FsErrorKind::OutOfResources
            | FsErrorKind::Locked
            | FsErrorKind::UnexpectedEnd
            | FsErrorKind::TooLarge
            | FsErrorKind::InUse => false,
        };
        if is_for_good && self.is_dispensable {
            self.failure.get_or_init(|| error.to_string().into());
        }
    }
}
