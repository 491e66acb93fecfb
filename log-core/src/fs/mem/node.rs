//! A file without its name: its bytes, the space it takes, and who has it open.

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
        for index in (0..page_count).take(contents.page_table_length()) {
            if contents.has_page(index) {
                taken.insert(index);
            }
        }
        Self {
            contents,
            taken,
            is_cold: self.is_cold,
            extent: Weak::new(),
        }
    }
}

/// A set of pages of one file.
#[derive(Clone, Default)]
pub(super) struct PageSet {
    words: Arc<Vec<u64>>,
}

impl PageSet {
    /// Adds the page; `false` when it was in.
    pub(super) fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1 << (index % 64));
        if self.words.get(word).is_some_and(|word| word & bit != 0) {
            return false;
        }
        let words = Arc::make_mut(&mut self.words);
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        if let Some(word) = words.get_mut(word) {
            *word |= bit;
        }
        true
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        (self.words.get(index / 64)).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Takes out every page from `index` on, and says how many there were.
    pub(super) fn truncate(&mut self, index: usize) -> u64 {
        let before = self.count();
        if self.words.len() <= index / 64 {
            return 0;
        }
        let words = Arc::make_mut(&mut self.words);
        words.truncate(index / 64 + 1);
        if let Some(last) = words.last_mut() {
            *last &= (1 << (index % 64)) - 1;
        }
        before - self.count()
    }

    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
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

    pub(super) fn is_full(&self) -> bool {
        self.total <= self.used
    }

    pub(super) fn take_page(&mut self) {
        self.used += 1;
    }

    pub(super) fn give_back(&mut self, pages: u64) {
        self.used -= pages;
    }

    pub(super) fn report(&self) -> Space {
        Space {
            total: self.total * PAGE_BYTES as u64,
            available: self.total.saturating_sub(self.used) * PAGE_BYTES as u64,
        }
    }
}
