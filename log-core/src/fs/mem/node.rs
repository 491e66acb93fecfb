//! A file without its name: its bytes, the space it takes, and who has it open.
//! Names come and go in `names`; a node lives as long as a name or a handle of it.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::contents::{Contents, PAGE_BYTES};
use crate::fs::Space;
use crate::fs::extent::Extent;

/// The size of the disk, unless it is set.
const SPACE_BYTES: u64 = 1 << 40;

#[derive(Default)]
pub(super) struct FileNode {
    pub(super) contents: Contents,
    /// The pages that were written or reserved.
    pub(super) taken: PageSet,
    /// Whether its pages must be brought in before they are touched.
    pub(super) is_cold: bool,
    /// How many syncs of the file failed. Each handle is told of those since it was opened or was last told.
    pub(super) syncs_failed: u64,
    /// Lives as long as a handle, a map or a slice.
    pub(super) extent: Weak<Extent>,
}

impl FileNode {
    pub(super) fn is_open(&self) -> bool {
        self.extent.strong_count() != 0
    }

    /// The same file with these contents, after a crash: nobody has it open.
    pub(super) fn with_contents(&self, contents: Contents) -> Self {
        let mut taken = self.taken.clone();
        let page_count = contents.length().div_ceil(PAGE_BYTES as u64);
        let page_count = usize::try_from(page_count).unwrap_or(usize::MAX);
        taken.truncate(page_count);
        for index in contents.pages_held() {
            taken.insert(&(index..index + 1));
        }
        Self {
            contents,
            taken,
            is_cold: self.is_cold,
            syncs_failed: 0,
            extent: Weak::new(),
        }
    }
}

const PAGES_PER_WORD: usize = 64;

/// A set of pages of one file, a bit each.
#[derive(Clone, Default)]
pub(super) struct PageSet {
    words: Arc<Vec<u64>>,
}

impl PageSet {
    /// Adds the pages, and says how many were not in.
    pub(super) fn insert(&mut self, pages: &Range<usize>) -> u64 {
        let missing = self.missing(pages);
        if missing != 0 {
            let words = Arc::make_mut(&mut self.words);
            words.resize(words.len().max(pages.end.div_ceil(PAGES_PER_WORD)), 0);
            for (index, mask) in masks(pages) {
                if let Some(word) = words.get_mut(index) {
                    *word |= mask;
                }
            }
        }
        missing
    }

    /// How many of the pages are not in.
    pub(super) fn missing(&self, pages: &Range<usize>) -> u64 {
        masks(pages)
            .map(|(index, mask)| {
                let word = self.words.get(index).copied().unwrap_or(0);
                u64::from((mask & !word).count_ones())
            })
            .sum()
    }

    /// Takes out every page from `index` on, and says how many there were.
    pub(super) fn truncate(&mut self, index: usize) -> u64 {
        let before = self.count();
        if self.words.len() <= index / PAGES_PER_WORD {
            return 0;
        }
        let words = Arc::make_mut(&mut self.words);
        words.truncate(index / PAGES_PER_WORD + 1);
        if let Some(last) = words.last_mut() {
            *last &= (1 << (index % PAGES_PER_WORD)) - 1;
        }
        before - self.count()
    }

    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The words of a [`PageSet`] that hold these pages, each with the bits of its own.
fn masks(pages: &Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = *pages;
    (start / PAGES_PER_WORD..end.div_ceil(PAGES_PER_WORD)).map(move |word| {
        let first = word * PAGES_PER_WORD;
        let from = start.saturating_sub(first).min(PAGES_PER_WORD - 1);
        let count = end.min(first + PAGES_PER_WORD) - first.max(start);
        let low = if count == PAGES_PER_WORD {
            u64::MAX
        } else {
            (1 << count) - 1
        };
        (word, low << from)
    })
}

/// The disk's size and what of it is taken, in pages.
pub(super) struct SpaceUse {
    total: u64,
    used: u64,
}

impl Default for SpaceUse {
    fn default() -> Self {
        Self {
            total: SPACE_BYTES / PAGE_BYTES as u64,
            used: 0,
        }
    }
}

impl SpaceUse {
    /// A disk of the same size of which this much is taken.
    pub(super) fn with_used(&self, used: u64) -> Self {
        Self {
            total: self.total,
            used,
        }
    }

    pub(super) fn set_total(&mut self, bytes: u64) {
        self.total = bytes / PAGE_BYTES as u64;
    }

    pub(super) fn free(&self) -> u64 {
        self.total.saturating_sub(self.used)
    }

    pub(super) fn take(&mut self, pages: u64) {
        self.used += pages;
    }

    pub(super) fn give_back(&mut self, pages: u64) {
        self.used -= pages;
    }

    pub(super) fn report(&self) -> Space {
        Space {
            total: self.total * PAGE_BYTES as u64,
            available: self.free() * PAGE_BYTES as u64,
        }
    }
}
