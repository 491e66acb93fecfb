//! Open files and maps of the file system in memory.
//!
//! They refuse the same things as those of `os`, by the same [`Extent`]. A slice of a map is a copy here.

use std::fmt;
use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::io::Errno;

use super::MemFileSystem;
use super::contents::{FILE_BYTES_MAX, PAGE_BYTES, pages_of};
use super::fault::{FaultTarget, Strike};
use super::names::NodeId;
use super::node::FileNode;
use super::state::{Opened, State};
use crate::fs::extent::{Change, ChangeKind, Extent, Refusal};
use crate::fs::map::MapPermit;
use crate::fs::os::range_of;
use crate::fs::{File, FsError, FsErrorKind, FsOperation, Map};

/// An open file.
pub(super) struct MemFile {
    files: MemFileSystem,
    id: NodeId,
    extent: Arc<Extent>,
    path: PathBuf,
    is_writable: bool,
    syncs_failed_told: AtomicU64,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MemFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl MemFile {
    pub(super) fn new(files: MemFileSystem, opened: Opened, path: &Path, is_writable: bool) -> Self {
        Self {
            files,
            id: opened.id,
            extent: opened.extent,
            path: path.to_path_buf(),
            is_writable,
            syncs_failed_told: AtomicU64::new(opened.syncs_failed),
        }
    }

    fn error(&self, operation: FsOperation, errno: Errno) -> FsError {
        FsError::from_system(operation, &self.path, errno.into())
    }

    /// Runs `work` between the extent's two halves of a change. `range` is what the change reaches.
    fn change(
        &self,
        operation: FsOperation,
        kind: ChangeKind,
        range: Range<u64>,
        work: impl FnOnce(&mut State) -> Result<(), Errno>,
    ) -> Result<(), FsError> {
        if !self.is_writable {
            return Err(self.error(operation, Errno::BADF));
        }
        if FILE_BYTES_MAX < range.end {
            return Err(self.error(operation, Errno::FBIG));
        }
        let change = self.begin(operation, kind, range)?;
        let mut state = self.files.shared.lock();
        let outcome = work(&mut state);
        let length = state.files.get(&self.id).map(|file| file.contents.length());
        drop(state);
        change
            .finish(outcome, || length)
            .map_err(|errno| self.error(operation, errno))
    }

    fn begin(
        &self,
        operation: FsOperation,
        kind: ChangeKind,
        range: Range<u64>,
    ) -> Result<Change<'_>, FsError> {
        self.extent
            .begin(kind, range.clone())
            .map_err(|refusal| match refusal {
                Refusal::InUse | Refusal::UnexpectedEnd { .. } => FsError::refused(
                    operation,
                    &self.path,
                    FsErrorKind::InUse,
                    format!("{kind:?} of {range:?}: handed out, or being changed"),
                ),
            })
    }
}

impl State {
    /// An open file's node; it is kept while its extent lives.
    fn node(&mut self, id: NodeId) -> Result<&mut FileNode, Errno> {
        self.files.get_mut(&id).ok_or(Errno::IO)
    }

    /// Takes space for the range, and says how far there was any.
    fn take_space(&mut self, id: NodeId, range: &Range<u64>) -> Result<u64, Errno> {
        let pages = pages_of(range);
        if self.space.free() < self.node(id)?.taken.missing(&pages) {
            self.sweep();
        }
        let mut free = self.space.free();
        let node = self.files.get_mut(&id).ok_or(Errno::IO)?;
        if node.taken.missing(&pages) <= free {
            self.space.take(node.taken.insert(&pages));
            return Ok(range.end);
        }
        for index in pages {
            let missing = node.taken.missing(&(index..index + 1));
            if free < missing {
                return Ok((index as u64 * PAGE_BYTES as u64).max(range.start));
            }
            free -= missing;
            self.space.take(node.taken.insert(&(index..index + 1)));
        }
        Ok(range.end)
    }

    /// The end of what of a change lands, and why it is not all of it.
    fn landing_end(
        &mut self,
        id: NodeId,
        range: &Range<u64>,
        struck: Result<(), Strike>,
    ) -> Result<(u64, Result<(), Errno>), Errno> {
        let mut wanted = range.clone();
        let mut outcome = Ok(());
        if let Err(strike) = struck {
            wanted.end = wanted
                .end
                .min(range.start.saturating_add(strike.bytes_landing as u64));
            outcome = Err(strike.errno);
        }
        let end = self.take_space(id, &wanted)?;
        if end < wanted.end {
            outcome = Err(Errno::NOSPC);
        }
        Ok((end, outcome))
    }
}

impl File for MemFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64, FsError> {
        Ok(self.extent.length())
    }

    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> Result<(), FsError> {
        let range = range_of(position, parts).ok_or_else(|| self.error(FsOperation::Write, Errno::FBIG))?;
        if range.is_empty() {
            return Ok(());
        }
        self.change(FsOperation::Write, ChangeKind::Write, range.clone(), |state| {
            let struck = state.faults.meet(FaultTarget::Write, &self.path);
            let (end, outcome) = state.landing_end(self.id, &range, struck)?;
            let node = state.node(self.id)?;
            let mut to = position;
            for part in parts {
                let left = usize::try_from(end.saturating_sub(to)).unwrap_or(usize::MAX);
                let landing = part.get(..left).unwrap_or(part);
                node.contents.write(to, landing);
                to += landing.len() as u64;
            }
            outcome
        })
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let mut state = self.files.shared.lock();
        (state.meet(FaultTarget::Read, &self.path))
            .and_then(|()| Ok(state.node(self.id)?.contents.read(position, buffer)))
            .map_err(|errno| self.error(FsOperation::Read, errno))
    }

    fn allocate(&self, range: Range<u64>) -> Result<(), FsError> {
        if range.is_empty() {
            return Ok(());
        }
        self.change(
            FsOperation::Allocate,
            ChangeKind::Allocate,
            range.clone(),
            |state| {
                let struck = state.faults.meet(FaultTarget::Allocate, &self.path);
                let (end, outcome) = state.landing_end(self.id, &range, struck)?;
                if range.start < end {
                    state.node(self.id)?.contents.extend(end);
                }
                outcome
            },
        )
    }

    fn zero_fill(&self, range: Range<u64>) -> Result<(), FsError> {
        if range.is_empty() {
            return Ok(());
        }
        self.change(FsOperation::Allocate, ChangeKind::Write, range.clone(), |state| {
            let struck = state.faults.meet(FaultTarget::ZeroFill, &self.path);
            let (end, outcome) = state.landing_end(self.id, &range, struck)?;
            if range.start < end {
                state.node(self.id)?.contents.write_zeros(range.start..end);
            }
            outcome
        })
    }

    fn sync_data(&self) -> Result<(), FsError> {
        let mut state = self.files.shared.lock();
        let mut outcome = state.meet(FaultTarget::Sync, &self.path);
        let refuse = |errno| self.error(FsOperation::Sync, errno);
        let node = state.node(self.id).map_err(refuse)?;
        if outcome.is_ok() {
            node.contents.sync();
        } else {
            node.contents.fail_sync();
            node.syncs_failed += 1;
        }
        // As Linux does it: a failure to write is told once to each handle that was open then, whichever of
        // them asked for the sync.
        let told = self.syncs_failed_told.swap(node.syncs_failed, Ordering::Relaxed);
        if outcome.is_ok() && told != node.syncs_failed {
            outcome = Err(Errno::IO);
        }
        outcome.map_err(refuse)
    }

    fn start_writeback(&self, _range: Range<u64>) -> Result<(), FsError> {
        // Promises nothing, and a random crash keeps what it likes anyway.
        Ok(())
    }

    fn set_length(&self, length: u64) -> Result<(), FsError> {
        let kind = ChangeKind::SetLength(length);
        self.change(FsOperation::SetLen, kind, length..length, |state| {
            state.meet(FaultTarget::SetLength, &self.path)?;
            let node = state.node(self.id)?;
            node.contents.set_length(length);
            let given_back = node.taken.truncate(pages_of(&(0..length)).end);
            state.space.give_back(given_back);
            Ok(())
        })
    }

    fn map(&self, capacity: u64) -> Result<Arc<dyn Map>, FsError> {
        let budget = &self.files.map_budget;
        let permit = budget.acquire().ok_or_else(|| {
            let text = format!("{} maps live, as many as may", budget.used());
            FsError::refused(FsOperation::Map, &self.path, FsErrorKind::OutOfResources, text)
        })?;
        Ok(Arc::new(MemMap {
            files: self.files.clone(),
            id: self.id,
            extent: Arc::clone(&self.extent),
            path: self.path.clone(),
            capacity,
            permit: Arc::new(permit),
        }))
    }
}

/// The map of a file.
struct MemMap {
    files: MemFileSystem,
    id: NodeId,
    extent: Arc<Extent>,
    path: PathBuf,
    capacity: u64,
    permit: Arc<MapPermit>,
}

impl fmt::Debug for MemMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MemMap")
            .field("path", &self.path)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A slice of a map; keeps the map and the frozen part of the file as the real one does.
struct MemView {
    bytes: Vec<u8>,
    _extent: Arc<Extent>,
    _permit: Arc<MapPermit>,
}

impl AsRef<[u8]> for MemView {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl MemMap {
    fn unexpected_end(&self, range: &Range<u64>, length: u64) -> FsError {
        let text = format!(
            "bytes {range:?} of a file of {length}, mapped to {}",
            self.capacity
        );
        FsError::refused(FsOperation::Map, &self.path, FsErrorKind::UnexpectedEnd, text)
    }

    fn is_within_capacity(&self, range: &Range<u64>) -> bool {
        range.start <= range.end && range.end <= self.capacity
    }
}

impl Map for MemMap {
    fn slice(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        if !self.is_within_capacity(&range) {
            return Err(self.unexpected_end(&range, self.extent.length()));
        }
        self.extent.freeze(&range).map_err(|refusal| match refusal {
            Refusal::UnexpectedEnd { length } => self.unexpected_end(&range, length),
            Refusal::InUse => FsError::refused(
                FsOperation::Map,
                &self.path,
                FsErrorKind::InUse,
                format!("bytes {range:?} or earlier ones are being written"),
            ),
        })?;
        let refuse = |errno: Errno| FsError::from_system(FsOperation::Map, &self.path, errno.into());
        let length = usize::try_from(range.end - range.start).map_err(|_| refuse(Errno::NOMEM))?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; length];
        let mut state = self.files.shared.lock();
        state
            .node(self.id)
            .map_err(refuse)?
            .contents
            .read(range.start, &mut bytes);
        Ok(Bytes::from_owner(MemView {
            bytes,
            _extent: Arc::clone(&self.extent),
            _permit: Arc::clone(&self.permit),
        }))
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        let mut state = self.files.shared.lock();
        self.is_within_capacity(&range)
            && range.end <= self.extent.length()
            && state.node(self.id).is_ok_and(|node| !node.is_cold)
    }

    fn populate(&self, range: Range<u64>) -> Result<(), FsError> {
        let length = self.extent.length();
        if !self.is_within_capacity(&range) || length < range.end {
            return Err(self.unexpected_end(&range, length));
        }
        let mut state = self.files.shared.lock();
        (state.meet(FaultTarget::Read, &self.path))
            .and_then(|()| {
                state.node(self.id)?.is_cold = false;
                Ok(())
            })
            .map_err(|errno| FsError::from_system(FsOperation::Map, &self.path, errno.into()))
    }
}
