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

    /// Whether all of `some` are in the row, in their order.
    pub fn hold<'a>(&self, some: impl IntoIterator<Item = &'a Arc<Segment>>) -> bool {
        let mut row = self.row.iter();
        let mut some = some.into_iter();
        some.all(|one| row.any(|segment| Arc::ptr_eq(segment, one)))
    }

    /// The row with new segments in the places of old ones, which must stand in it in their order, those of a new one with nothing between.
    /// One walk over the row, however many they are: a writer waits for it.
    #[must_use]
    pub fn replacing<'a>(
        &self,
        replaced: impl IntoIterator<Item = (&'a [Arc<Segment>], Arc<Segment>)>,
    ) -> Option<Self> {
        let mut row = Vec::with_capacity(self.row.len());
        let mut rest = &*self.row;
        for (old, new) in replaced {
            let first = old.first()?;
            let start = rest.iter().position(|segment| Arc::ptr_eq(segment, first))?;
            let (kept, found) = rest.split_at_checked(start)?;
            let (found, behind) = found.split_at_checked(old.len())?;
            if !found.iter().zip(old).all(|(found, old)| Arc::ptr_eq(found, old)) {
                return None;
            }
            row.extend_from_slice(kept);
            row.push(new);
            rest = behind;
        }
        row.extend_from_slice(rest);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::mem::MemFileSystem;
    use crate::segment::segment::SegmentSettings;

    fn segment(base_offset: i64) -> Arc<Segment> {
        let settings = SegmentSettings {
            directory: Arc::from(Path::new("/log")),
            file_system: Arc::new(MemFileSystem::new()),
            bytes_max: 1,
            index_bytes_max: 1,
            index_interval_bytes: 1,
        };
        let base = Offset::new(base_offset);
        Arc::new(Segment::sealed(settings, base, 0, base.plus(1), false))
    }

    fn bases(segments: &Segments) -> Vec<i64> {
        let bases = segments.iter().map(|segment| segment.base_offset().get());
        bases.collect()
    }

    #[test]
    fn segments_that_are_exchanged_together_are_exchanged_in_one_row() {
        let old: Vec<_> = (0..9).map(segment).collect();
        let row = Segments::new(old.clone());
        let new: Vec<_> = [1, 4, 5].map(segment).into();
        let groups = [&old[1..3], &old[4..5], &old[5..8]];
        let replaced = row.replacing(groups.into_iter().zip(new.clone())).unwrap();
        assert_eq!(bases(&replaced), [0, 1, 3, 4, 5, 8]);
        assert!(replaced.hold([&old[0], &new[0], &old[3], &new[1], &new[2], &old[8]]));
        // Readers see one change, and begin anew once.
        assert_eq!(replaced.replacements(), row.replacements() + 1);

        let not_there: [&[&[Arc<Segment>]]; 5] = [
            &[&old[4..5], &old[1..3]],
            &[&old[1..3], &old[2..4]],
            &[&[old[1].clone(), old[3].clone()]],
            &[&[old[8].clone(), segment(9)]],
            &[&[]],
        ];
        for groups in not_there {
            let replaced = row.replacing(groups.iter().copied().zip(new.clone()));
            assert!(replaced.is_none(), "{groups:?}");
        }
    }

    #[test]
    fn a_row_holds_what_stands_in_it_in_its_order() {
        let all: Vec<_> = (0..4).map(segment).collect();
        let row = Segments::new(all.clone());
        assert!(row.hold([]) && row.hold(&all) && row.hold([&all[1], &all[3]]));
        assert!(!row.hold([&all[3], &all[1]]) && !row.hold([&all[1], &all[1]]));
        assert!(!row.hold([&segment(1)]));
    }
}
