//! Memory maps: bytes of a file without a copy. The only module of the project with `unsafe` code.
//!
//! A map is shared and read-only, and reserves address space behind the file's end; the file grows below
//! it. Nothing here writes through a map.
//!
//! # Why handing out `&[u8]` over a file is sound
//! Such a slice must stay readable and must not change while it lives. Both hold by construction:
//! - **Readable**: a slice ends at or below the file's length at the time (`Extent::freeze`), it keeps
//!   the map alive, and the file cannot be cut below it afterwards (`Extent::begin` refuses).
//! - **Unchanging**: the pages are mapped without write permission, and every way to write to the file
//!   enters its range in the same `Extent`, which refuses what lies below a slice's end, and refuses the
//!   slice while such a write is under way. All handles of one file share one extent (see `os`).
//!
//! What is left is beyond any process: someone else who truncates or overwrites a broker's files while it
//! runs. The lock on the data directory keeps other brokers out; off-line tools read by
//! [`File::read_at`](super::File::read_at) where they cannot know that the file stands still.
//!
//! A page that the disk cannot deliver would kill the process with SIGBUS when touched;
//! [`Map::populate`] turns that into an error, and is to be called for ranges that are not
//! [resident](Map::is_resident). It needs Linux 5.14.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};

use super::extent::{Extent, Refusal};
use super::{FsError, FsErrorKind, FsOperation, Map};

/// The default of [`MapBudget`]: half of the 65,530 maps that Linux grants a process (`vm.max_map_count`);
/// the allocator, the threads' stacks and the libraries need some too.
pub const MAPS_MAX: usize = 32_768;

/// What [`Map::populate`] waits for at a time; two of these are on their way. A sync waits behind what was asked of the disk before
/// it: the more that is, the later producers have their answers, and the less, the slower old records come.
const STRETCH: usize = 128 << 10;

/// Counts live maps against a maximum, so that the process never meets the system's own.
#[derive(Debug, Clone)]
pub struct MapBudget {
    shared: Arc<BudgetShared>,
}

#[derive(Debug)]
struct BudgetShared {
    used: AtomicUsize,
    max: usize,
}

impl MapBudget {
    /// A budget of `maps_max` maps at a time. Clones share it.
    #[must_use]
    pub fn new(maps_max: usize) -> Self {
        let shared = BudgetShared {
            used: AtomicUsize::new(0),
            max: maps_max,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes one map from the budget, or `None` when it is used up. Dropping the permit gives it back.
    #[must_use]
    pub fn acquire(&self) -> Option<MapPermit> {
        (self.shared.used)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < self.shared.max).then(|| used + 1)
            })
            .ok()?;
        Some(MapPermit {
            shared: Arc::clone(&self.shared),
        })
    }

    /// How many maps live.
    #[must_use]
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Acquire)
    }

    /// How many may.
    #[must_use]
    pub fn max(&self) -> usize {
        self.shared.max
    }
}

impl Default for MapBudget {
    fn default() -> Self {
        Self::new(MAPS_MAX)
    }
}

/// One map's place in a [`MapBudget`].
#[derive(Debug)]
pub struct MapPermit {
    shared: Arc<BudgetShared>,
}

impl Drop for MapPermit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The map of an operating system's file.
#[derive(Debug)]
pub(crate) struct OsMap {
    region: Arc<Region>,
}

/// The mapped address space; lives as long as the map or any slice of it. The descriptor is not needed.
#[derive(Debug)]
struct Region {
    // Dropped before the map, which keeps the inode: see the invariant of `os`.
    extent: Arc<Extent>,
    raw: MmapRaw,
    path: PathBuf,
    _permit: MapPermit,
}

impl OsMap {
    /// Maps the first `capacity` bytes of `descriptor`, whose state is `extent`.
    pub(crate) fn new(
        descriptor: &OwnedFd,
        extent: &Arc<Extent>,
        path: &Path,
        capacity: u64,
        permit: MapPermit,
    ) -> Result<Self, FsError> {
        let refuse = |source| FsError::from_system(FsOperation::Map, path, source);
        let length = usize::try_from(capacity).map_err(|_| refuse(rustix::io::Errno::NOMEM.into()))?;
        let raw = MmapOptions::new()
            .len(length)
            .map_raw_read_only(descriptor)
            .map_err(refuse)?;
        let region = Region {
            extent: Arc::clone(extent),
            raw,
            path: path.to_path_buf(),
            _permit: permit,
        };
        Ok(Self {
            region: Arc::new(region),
        })
    }
}

impl Region {
    fn error(&self, kind: FsErrorKind, text: String) -> FsError {
        FsError::refused(FsOperation::Map, &self.path, kind, text)
    }

    /// The range in memory, if it lies in the map. Says nothing about the file's length.
    fn within_capacity(&self, range: &Range<u64>) -> Option<Range<usize>> {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?;
        (start <= end && end <= self.raw.len()).then_some(start..end)
    }

    fn unexpected_end(&self, range: &Range<u64>, length: u64) -> FsError {
        let capacity = self.raw.len();
        self.error(
            FsErrorKind::UnexpectedEnd,
            format!("bytes {range:?} of a file of {length}, mapped to {capacity}"),
        )
    }
}

impl Map for OsMap {
    fn slice(&self, range: Range<u64>) -> Result<Bytes, FsError> {
        let region = &self.region;
        let Some(within) = region.within_capacity(&range) else {
            return Err(region.unexpected_end(&range, region.extent.length()));
        };
        region.extent.freeze(&range).map_err(|refusal| match refusal {
            Refusal::UnexpectedEnd { length } => region.unexpected_end(&range, length),
            Refusal::InUse => region.error(
                FsErrorKind::InUse,
                format!("bytes {range:?} or earlier ones are being written"),
            ),
        })?;
        if within.is_empty() {
            return Ok(Bytes::new());
        }
        Ok(Bytes::from_owner(View {
            region: Arc::clone(region),
            range: within,
        }))
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        let region = &self.region;
        if region.extent.length() < range.end {
            return false;
        }
        (region.within_capacity(&range)).is_some_and(|within| is_resident(&region.raw, &within))
    }

    fn populate(&self, range: Range<u64>) -> Result<(), FsError> {
        let region = &self.region;
        let length = region.extent.length();
        let within = (region.within_capacity(&range))
            .filter(|_| range.end <= length)
            .ok_or_else(|| region.unexpected_end(&range, length))?;
        let mut start = within.start;
        let mut asked_end = start;
        while start < within.end {
            let end = (start + STRETCH).min(within.end);
            // Faults alone read as much as the system sees fit. Of what was asked for they only wait for their own, and the next
            // stretch is on its way meanwhile.
            let ahead_end = (end + STRETCH).min(within.end);
            if asked_end < ahead_end {
                let length = ahead_end - asked_end;
                region.raw.advise_range(Advice::WillNeed, asked_end, length).ok();
                asked_end = ahead_end;
            }
            (region.raw)
                .advise_range(Advice::PopulateRead, start, end - start)
                .map_err(|source| FsError::from_system(FsOperation::Map, &region.path, source))?;
            start = end;
        }
        Ok(())
    }

    fn read_ahead(&self, range: Range<u64>) {
        let region = &self.region;
        let within = (region.within_capacity(&range)).filter(|_| range.end <= region.extent.length());
        if let Some(within) = within {
            // Whoever populates the range meets what goes wrong.
            (region.raw)
                .advise_range(Advice::WillNeed, within.start, within.len())
                .ok();
        }
    }
}

/// A frozen range of a region, as the owner of a [`Bytes`].
///
/// Invariant: made only by [`OsMap::slice`], which checked the range against the map and froze it.
struct View {
    region: Arc<Region>,
    range: Range<usize>,
}

impl AsRef<[u8]> for View {
    #[expect(unsafe_code, reason = "the bytes of a map have no other door")]
    fn as_ref(&self) -> &[u8] {
        let start = self.region.raw.as_ptr();
        // SAFETY: the range lies inside the map (`within_capacity`), which lives as long as `self.region`.
        // It lies below the file's length and is frozen, so its pages exist and neither they nor the
        // file's end below them can change while the extent lives, which the region also owns.
        unsafe { std::slice::from_raw_parts(start.add(self.range.start), self.range.len()) }
    }
}

/// Whether every page of the range is in the page cache, and a touch costs a minor fault at most.
///
/// `mincore` and not `preadv2(RWF_NOWAIT)`: it needs no descriptor, copies nothing and answers for a
/// mebibyte in one call. (For a file that the process neither owns nor may write, Linux answers "resident"
/// whatever is true; a broker owns its files.)
#[expect(unsafe_code, reason = "rustix has no mincore")]
fn is_resident(raw: &MmapRaw, within: &Range<usize>) -> bool {
    const PAGES_AT_ONCE: usize = 256;
    let page_bytes = page_bytes();
    let mut pages = [0_u8; PAGES_AT_ONCE];
    let mut start = within.start - within.start % page_bytes;
    while start < within.end {
        let length = (within.end - start).min(PAGES_AT_ONCE * page_bytes);
        let page_count = length.div_ceil(page_bytes);
        // SAFETY: `start` is a multiple of the page size inside the map, which begins at a page, and
        // `start + length` is at most the map's end; the kernel writes one byte per page begun, and
        // `page_count <= PAGES_AT_ONCE` of them fit. It does not touch the mapped bytes.
        let outcome = unsafe {
            let address = raw.as_mut_ptr().add(start);
            libc::mincore(address.cast(), length, pages.as_mut_ptr())
        };
        let all = (pages.get(..page_count)).is_some_and(|pages| pages.iter().all(|page| page & 1 == 1));
        if outcome != 0 || !all {
            return false;
        }
        start += length;
    }
    true
}

/// The size of the processor's pages, at which `mincore` counts.
#[expect(unsafe_code, reason = "rustix tells it only with one more feature")]
fn page_bytes() -> usize {
    // SAFETY: reads a constant of the process.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(answer).expect("a system has pages, and says how large")
}

/// Starts writing the file's dirty pages in the range to the disk, without waiting for them.
///
/// It does not report, nor use up, an earlier failure to write: that is left for `fdatasync` to tell.
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
pub(super) fn start_writeback(descriptor: &OwnedFd, range: &Range<u64>) -> io::Result<()> {
    let too_large = |_| io::Error::from(rustix::io::Errno::INVAL);
    let start = i64::try_from(range.start).map_err(too_large)?;
    let length = i64::try_from(range.end.saturating_sub(range.start)).map_err(too_large)?;
    if length == 0 {
        return Ok(()); // which the call would take for "to the end"
    }
    // SAFETY: the descriptor is open for as long as it is borrowed; no memory is passed.
    let outcome =
        unsafe { libc::sync_file_range(descriptor.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_live_permits() {
        let budget = MapBudget::new(2);
        let first = budget.acquire().unwrap();
        let second = budget.clone().acquire().unwrap();
        assert!(budget.acquire().is_none());
        assert_eq!((budget.used(), budget.max()), (2, 2));
        drop(first);
        assert_eq!(budget.used(), 1);
        let third = budget.acquire();
        assert!(third.is_some());
        drop((second, third));
        assert_eq!(budget.used(), 0);
    }
}
