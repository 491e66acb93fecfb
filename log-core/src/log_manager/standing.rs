//! Whether a directory serves, or was given up because its disk failed.
//!
//! | what failed | a broker's only or first directory | one of its others |
//! |---|---|---|
//! | the disk or its file system ([`FsErrorKind::Disk`](crate::fs::FsErrorKind::Disk)); the directory is gone | the request | the directory is given up |
//! | what a start writes into it | the start | the directory is given up |
//! | anything else: space, descriptors, memory, rights, a name that is in the way | the request | the request |
//!
//! Given up is for good: what the disk forgot meanwhile only a start finds out.

use std::sync::{Arc, OnceLock};

use crate::fs::FsError;

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

    /// Gives it up, where the broker can go on without it. The first reason is the one that is told.
    pub(super) fn give_up(&self, reason: &FsError) {
        if self.is_dispensable {
            self.failure.get_or_init(|| reason.to_string().into());
        }
    }
}
