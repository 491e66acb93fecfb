//! The bytes of one file in memory: what its readers see, and what of it a power cut would leave.
//!
//! Pages of 4 KiB behind reference counts, so that an image after a crash shares everything that did not
//! change. A page that was written since it was last synced keeps its durable version beside it.
//!
//! Invariants: a page that is absent reads as zeros; no byte at or behind `length` is other than zero; a
//! page without an entry in `unsynced` is on the disk as it stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::random::Random;

pub(super) const PAGE_BYTES: usize = 4096;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// How many versions of a page between the durable one and the present are remembered: the system may have
/// written any of them out in the meantime.
const VERSIONS_MAX: usize = 3;

/// How many of a file's lengths since the last sync are remembered.
const LENGTHS_MAX: usize = 32;

/// The longest file. The page table is dense, and a wild position must not take the test's memory.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 30;

type Page = [u8; PAGE_BYTES];

#[derive(Clone, Default)]
pub(super) struct Contents {
    pages: Arc<Vec<Option<Arc<Page>>>>,
    length: u64,
    /// Pages changed since they were last synced.
    unsynced: BTreeMap<usize, Unsynced>,
    durable_length: u64,
    /// The lengths since the last sync, oldest first; empty when the length did not change.
    lengths: Vec<u64>,
    /// The lengths that a failed sync was to make durable.
    lengths_lost: Vec<u64>,
}

#[derive(Clone)]
struct Unsynced {
    /// What is on the disk; `None` for zeros.
    durable: Option<Arc<Page>>,
    /// What the page held in between, oldest first.
    versions: Vec<Arc<Page>>,
    /// A sync failed on it: the system takes it for clean now, and no later sync writes it.
    is_lost: bool,
}

/// The pages that a range of bytes touches.
pub(super) fn pages_of(range: &Range<u64>) -> Range<usize> {
    page_index(range.start)..page_index(range.end.saturating_add(PAGE_BYTES as u64 - 1))
}

/// The page that holds this position; positions behind [`FILE_BYTES_MAX`] share one that is never made.
fn page_index(position: u64) -> usize {
    let index = position.min(2 * FILE_BYTES_MAX) / PAGE_BYTES as u64;
    usize::try_from(index).expect("FILE_BYTES_MAX leaves room for every page's index")
}

/// A position inside its page.
fn within_page(position: u64) -> usize {
    usize::try_from(position % PAGE_BYTES as u64).expect("smaller than a page")
}

fn page_start(index: usize) -> u64 {
    index as u64 * PAGE_BYTES as u64
}

impl Contents {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    fn has_page(&self, index: usize) -> bool {
        self.pages.get(index).is_some_and(Option::is_some)
    }

    /// The pages that hold bytes other than zero, and take space for that.
    pub(super) fn pages_held(&self) -> impl Iterator<Item = usize> {
        let pages = self.pages.iter().enumerate();
        pages.filter(|(_, page)| page.is_some()).map(|(index, _)| index)
    }

    /// Copies what there is from `position` on.
    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let mut from = position;
        let mut rest = buffer.get_mut(..count).unwrap_or_default();
        while !rest.is_empty() {
            let start = within_page(from);
            let (part, behind) = rest.split_at_mut(rest.len().min(PAGE_BYTES - start));
            let page = self.pages.get(page_index(from)).and_then(Option::as_deref);
            match page.and_then(|page| page.get(start..start + part.len())) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            from += part.len() as u64;
            rest = behind;
        }
        count
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut to = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = within_page(to);
            let (part, behind) = rest.split_at(rest.len().min(PAGE_BYTES - start));
            let page = self.page_to_change(page_index(to));
            if let Some(target) = page.get_mut(start..start + part.len()) {
                target.copy_from_slice(part);
            }
            to += part.len() as u64;
            rest = behind;
        }
        self.extend(to);
    }

    /// Makes the range zeros. Pages that are wholly inside are given up.
    pub(super) fn write_zeros(&mut self, range: Range<u64>) {
        self.clear(&range);
        self.extend(range.end);
    }

    /// Makes the file at least this long.
    pub(super) fn extend(&mut self, length: u64) {
        if self.length < length {
            self.note_length(length);
        }
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.clear(&(length..self.length));
        }
        if length != self.length {
            self.note_length(length);
        }
    }

    fn note_length(&mut self, length: u64) {
        self.length = length;
        if self.lengths.len() == LENGTHS_MAX {
            // Thinned out; the shortest stays, because a cut is told by it.
            let shortest = self.lengths.iter().copied().min();
            let mut is_kept = false;
            self.lengths.retain(|length| {
                is_kept = !is_kept;
                is_kept || Some(*length) == shortest
            });
        }
        self.lengths.push(length);
    }

    fn clear(&mut self, range: &Range<u64>) {
        let end = range.end.min(page_start(self.pages.len()));
        let mut position = range.start;
        while position < end {
            let index = page_index(position);
            let page_end = page_start(index + 1).min(end);
            if self.has_page(index) {
                if within_page(position) == 0 && (page_end == page_start(index + 1)) {
                    self.note_change(index);
                    if let Some(page) = Arc::make_mut(&mut self.pages).get_mut(index) {
                        *page = None;
                    }
                } else {
                    let count = usize::try_from(page_end - position).expect("at most a page");
                    let start = within_page(position);
                    if let Some(target) = self.page_to_change(index).get_mut(start..start + count) {
                        target.fill(0);
                    }
                }
            }
            position = page_end;
        }
    }

    /// Remembers the page as it is before it changes.
    fn note_change(&mut self, index: usize) {
        let present = self.pages.get(index).cloned().flatten();
        match self.unsynced.get_mut(&index) {
            None => {
                let first = Unsynced {
                    durable: present,
                    versions: Vec::new(),
                    is_lost: false,
                };
                self.unsynced.insert(index, first);
            }
            Some(unsynced) => {
                unsynced.is_lost = false;
                if let Some(present) = present {
                    if unsynced.versions.len() == VERSIONS_MAX {
                        unsynced.versions.remove(VERSIONS_MAX / 2);
                    }
                    unsynced.versions.push(present);
                }
            }
        }
    }

    fn page_to_change(&mut self, index: usize) -> &mut Page {
        self.note_change(index);
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= index {
            pages.resize(index + 1, None);
        }
        let page = pages.get_mut(index).expect("the table was just made long enough");
        Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE_BYTES])))
    }

    /// Everything since the last sync reaches the disk, but for what an earlier sync failed on.
    pub(super) fn sync(&mut self) {
        self.unsynced.retain(|_, page| page.is_lost);
        if !self.lengths.is_empty() {
            self.durable_length = self.length;
            self.lengths.clear();
            self.lengths_lost.clear();
        }
    }

    /// The disk refused. As ext4 and xfs do it, what was to be written counts as clean from now on.
    pub(super) fn fail_sync(&mut self) {
        for page in self.unsynced.values_mut() {
            page.is_lost = true;
        }
        self.lengths_lost.append(&mut self.lengths);
    }

    /// The file as it is on the disk if nothing unsynced got there.
    pub(super) fn durable(&self) -> Self {
        let mut pages = Arc::clone(&self.pages);
        for (index, unsynced) in &self.unsynced {
            set_page(&mut pages, *index, unsynced.durable.clone());
        }
        Self::on_disk(pages, self.durable_length)
    }

    /// The file as it might be on the disk: any page in any of its states, torn between sectors even, and
    /// any length it had.
    ///
    /// A cut that was not synced either happened or not. If it did, the old bytes behind it are gone; if
    /// not, blocks behind it were not given anew, and hold the old bytes. The page that holds the cut is in
    /// place in both cases, so new bytes may stand there before a tail that should be gone.
    pub(super) fn surviving(&self, random: &mut Random) -> Self {
        let history: Vec<u64> = [&self.lengths_lost, &self.lengths]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let shortest = history.iter().copied().min();
        let cut = shortest.filter(|shortest| *shortest < self.durable_length);
        let is_cut_done = cut.is_some() && random.coin();
        let length = match cut {
            None => random.pick(&history, self.durable_length),
            Some(_) if !is_cut_done => self.durable_length,
            Some(cut) => {
                let last_cut = history.iter().rposition(|length| *length == cut).unwrap_or(0);
                let since = history.get(last_cut + 1..).unwrap_or_default();
                random.pick(since, cut)
            }
        };
        let chance = random.chance();
        let mut pages = Arc::clone(&self.pages);
        for (index, unsynced) in &self.unsynced {
            let behind_cut = cut.is_some_and(|cut| cut <= page_start(*index));
            let base = match cut {
                Some(_) if is_cut_done && behind_cut => None,
                Some(cut) if is_cut_done && cut < page_start(index + 1) => {
                    zeroed_from(unsynced.durable.as_ref(), within_page(cut))
                }
                _ => unsynced.durable.clone(),
            };
            let is_old = (behind_cut && !is_cut_done) || !random.happens(chance);
            let page = if is_old {
                base
            } else {
                let present = self.pages.get(*index).cloned().flatten();
                surviving_page(base.as_ref(), unsynced, present, random)
            };
            set_page(&mut pages, *index, page);
        }
        Self::on_disk(pages, length)
    }

    /// A file that is wholly on the disk; what stands behind its length does not exist.
    fn on_disk(pages: Arc<Vec<Option<Arc<Page>>>>, length: u64) -> Self {
        let mut contents = Self {
            pages,
            length,
            durable_length: length,
            ..Self::default()
        };
        contents.clear(&(length..page_start(contents.pages.len())));
        contents.unsynced.clear();
        contents
    }
}

fn set_page(pages: &mut Arc<Vec<Option<Arc<Page>>>>, index: usize, page: Option<Arc<Page>>) {
    let pages = Arc::make_mut(pages);
    if pages.len() <= index {
        pages.resize(index + 1, None);
    }
    if let Some(place) = pages.get_mut(index) {
        *place = page;
    }
}

fn zeroed_from(page: Option<&Arc<Page>>, start: usize) -> Option<Arc<Page>> {
    let mut page = **page?;
    page.get_mut(start..)?.fill(0);
    Some(Arc::new(page))
}

/// A page of which something newer than `base` may be on the disk.
fn surviving_page(
    base: Option<&Arc<Page>>,
    unsynced: &Unsynced,
    present: Option<Arc<Page>>,
    random: &mut Random,
) -> Option<Arc<Page>> {
    let newer = if random.coin() {
        present
    } else {
        let versions: Vec<Option<Arc<Page>>> = unsynced.versions.iter().cloned().map(Some).collect();
        random.pick(&versions, present)
    };
    if random.coin() {
        return newer;
    }
    let zeros = [0; PAGE_BYTES];
    let mut torn = base.map_or(zeros, |page| **page);
    let newer = newer.as_deref().unwrap_or(&zeros);
    for (to, from) in torn.chunks_mut(SECTOR_BYTES).zip(newer.chunks(SECTOR_BYTES)) {
        if random.coin() {
            to.copy_from_slice(from);
        }
    }
    Some(Arc::new(torn))
}
