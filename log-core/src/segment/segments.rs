//! The row of segments of one log, in the order of their base offsets. Never empty once the log is open;
//! the last one is the active one. Immutable: the writer publishes a new row, readers keep the one they took.

use std::sync::Arc;

use crate::model::Offset;
use crate::segment::segment::Segment;

/// The segments of a log.
#[derive(Debug, Clone)]
pub struct Segments {
    row: Arc<[Arc<Segment>]>,
    /// How often segments were replaced by others with the same records.
    replacements: u64,
}

impl Segments {
    /// A row of segments, which must be in order and at least one.
    ///
    /// # Panics
    /// When it is empty or out of order.
    #[must_use]
    pub fn new(row: Vec<Arc<Segment>>) -> Self {
        assert!(!row.is_empty(), "a log has at least one segment");
        assert!(
            row.is_sorted_by(|a, b| a.base_offset() < b.base_offset()),
            "segments out of order"
        );
        Self {
            row: row.into(),
            replacements: 0,
        }
    }

    /// Tells rows apart in which the same records stand at other places.
    #[must_use]
    pub fn replacements(&self) -> u64 {
        self.replacements
    }

    fn of_same_age(&self, row: Vec<Arc<Segment>>) -> Self {
        Self {
            replacements: self.replacements,
            ..Self::new(row)
        }
    }

    /// The one that is appended to.
    ///
    /// # Panics
    /// Never: a row is not empty.
    #[must_use]
    pub fn active(&self) -> &Arc<Segment> {
        self.row.last().expect("a log has at least one segment")
    }

    /// The oldest.
    ///
    /// # Panics
    /// Never: a row is not empty.
    #[must_use]
    pub fn first(&self) -> &Arc<Segment> {
        self.row.first().expect("a log has at least one segment")
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Segment>> {
        self.row.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.row.len()
    }

    /// Those that may hold `offset` or records behind it, oldest first.
    pub fn from_offset(&self, offset: Offset) -> std::slice::Iter<'_, Arc<Segment>> {
        let behind = self
            .row
            .partition_point(|segment| segment.base_offset() <= offset);
        self.row
            .get(behind.saturating_sub(1)..)
            .unwrap_or_default()
            .iter()
    }

    /// The row with one more at its end.
    #[must_use]
    pub fn with(&self, segment: Arc<Segment>) -> Self {
        let mut row = self.row.to_vec();
        row.push(segment);
        self.of_same_age(row)
    }

    /// The row with `new` in the place of `old`, which must stand in it one behind the other.
    #[must_use]
    pub fn replacing(&self, old: &[Arc<Segment>], new: Arc<Segment>) -> Option<Self> {
        let first = old.first()?;
        let start = self.row.iter().position(|segment| Arc::ptr_eq(segment, first))?;
        let end = start.checked_add(old.len())?;
        let found = self.row.get(start..end)?;
        if !found.iter().zip(old).all(|(found, old)| Arc::ptr_eq(found, old)) {
            return None;
        }
        let mut row = self.row.to_vec();
        row.splice(start..end, [new]);
        Some(Self {
            replacements: self.replacements.wrapping_add(1),
            ..Self::new(row)
        })
    }

    /// The row without those that lie wholly below `offset`, and those.
    #[must_use]
    pub fn split_below(&self, offset: Offset) -> (Vec<Arc<Segment>>, Self) {
        let kept_from = self
            .row
            .iter()
            .zip(self.row.iter().skip(1))
            .position(|(_, next)| offset < next.base_offset())
            .unwrap_or(self.row.len().saturating_sub(1));
        let (below, kept) = self.row.split_at(kept_from);
        (below.to_vec(), self.of_same_age(kept.to_vec()))
    }

    /// The sum of their sizes in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.row.iter().map(|segment| segment.size()).sum()
    }
}

impl<'a> IntoIterator for &'a Segments {
    type Item = &'a Arc<Segment>;
    type IntoIter = std::slice::Iter<'a, Arc<Segment>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
