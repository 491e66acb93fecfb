//! Which leader epoch began at which offset: what tells a client that the log it knew was truncated.
//!
//! Kafka's rules (KIP-101, KIP-279, KIP-320). The file is `checkpoint::leader_epoch_checkpoint`; writing it
//! when a method says that something changed is the caller's task.
//!
//! Invariant: epochs and start offsets both strictly increase, and none is negative.

use crate::model::{LeaderEpoch, Offset};

/// The beginning of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset of its first record.
    pub start_offset: Offset,
}

/// The epochs of one log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochCache {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochCache {
    /// What [`Self::end_offset_for`] says of an epoch that this log knows nothing about; on the wire both are -1.
    pub const UNDEFINED: (LeaderEpoch, Offset) = (LeaderEpoch::NONE, Offset::new(-1));

    /// A cache that knows no epoch.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// A cache of these epochs, which a checkpoint or another cache held. An entry that contradicts earlier
    /// ones wins over them, as in [`Self::assign`].
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> Self {
        let mut cache = Self::new();
        for entry in entries {
            cache.assign(entry.epoch, entry.start_offset);
        }
        cache
    }

    /// Notes that `epoch` begins at `start_offset`, and says whether that was news. Entries that contradict it
    /// (of this epoch or a later one, or beginning at this offset or behind it) are dropped: the log was
    /// truncated since. The present epoch keeps its beginning unless an earlier one is given.
    ///
    /// A batch without an epoch ([`LeaderEpoch::NONE`]) changes nothing.
    ///
    /// # Panics
    /// When the offset is negative.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        assert!(
            Offset::ZERO <= start_offset,
            "{epoch:?} begins at {start_offset:?}"
        );
        let is_known = self
            .latest()
            .is_some_and(|latest| epoch == latest.epoch && latest.start_offset <= start_offset);
        if is_known || epoch < LeaderEpoch::FIRST {
            return false;
        }
        let kept = self
            .entries
            .partition_point(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.entries.truncate(kept);
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// As [`Self::assign`] for a batch that is read back while the log is recovered: only an epoch later than
    /// all others counts.
    ///
    /// # Panics
    /// When the offset is negative.
    pub fn assign_if_later(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        let latest = self.latest().map_or(LeaderEpoch::NONE, |entry| entry.epoch);
        latest < epoch && self.assign(epoch, start_offset)
    }

    /// Where `epoch` ended, and which epoch that really was: Kafka's answer to `OffsetForLeaderEpoch`.
    ///
    /// | `epoch` | answer |
    /// |---|---|
    /// | [`LeaderEpoch::NONE`], or later than all that are known, or none is known | [`Self::UNDEFINED`] |
    /// | the latest | itself, the log's end |
    /// | older than all that are known | itself, the start of the oldest: what came before is gone |
    /// | any other | the last known epoch up to it, the start of the next known one |
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end_offset: Offset) -> (LeaderEpoch, Offset) {
        if epoch < LeaderEpoch::FIRST {
            return Self::UNDEFINED;
        }
        let later = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let floor = later.checked_sub(1).and_then(|slot| self.entries.get(slot));
        match (floor, self.entries.get(later)) {
            (Some(floor), None) if floor.epoch == epoch => (epoch, log_end_offset),
            (_, None) => Self::UNDEFINED,
            (None, Some(next)) => (epoch, next.start_offset),
            (Some(floor), Some(next)) => (floor.epoch, next.start_offset),
        }
    }

    /// Forgets the epochs that begin at or behind `end_offset`, where the log now ends. Says whether there were any.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let kept = self
            .entries
            .partition_point(|entry| entry.start_offset < end_offset);
        let is_changed = kept < self.entries.len();
        self.entries.truncate(kept);
        is_changed
    }

    /// Forgets the epochs that ended before `start_offset`, where the log now starts; the one that the offset
    /// lies in now starts there. Says whether anything changed.
    pub fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let begun = self
            .entries
            .partition_point(|entry| entry.start_offset <= start_offset);
        let Some(last_begun) = begun.checked_sub(1) else {
            return false;
        };
        self.entries.drain(..last_begun);
        let Some(first) = self.entries.first_mut() else {
            return false;
        };
        let is_changed = 0 < last_begun || first.start_offset != start_offset;
        first.start_offset = start_offset;
        is_changed
    }

    /// The present epoch, the latest that has records.
    #[must_use]
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// The epoch of the oldest records.
    #[must_use]
    pub fn earliest(&self) -> Option<EpochEntry> {
        self.entries.first().copied()
    }

    /// The epoch that the record at `offset` was (or will be) written in; `None` before the oldest known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let begun = self.entries.partition_point(|entry| entry.start_offset <= offset);
        let entry = begun.checked_sub(1).and_then(|slot| self.entries.get(slot));
        entry.map(|entry| entry.epoch)
    }

    /// All epochs, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Forgets all epochs.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> LeaderEpochCache {
        LeaderEpochCache::from_entries(entries.iter().map(|&(epoch, start)| EpochEntry {
            epoch: LeaderEpoch::new(epoch),
            start_offset: Offset::new(start),
        }))
    }

    fn pairs(cache: &LeaderEpochCache) -> Vec<(i32, i64)> {
        cache
            .entries()
            .iter()
            .map(|entry| (entry.epoch.get(), entry.start_offset.get()))
            .collect()
    }

    #[test]
    fn assignment_keeps_both_columns_increasing() {
        let check = |before: &[(i32, i64)], (epoch, start): (i32, i64), after: &[(i32, i64)]| {
            let mut cache = cache(before);
            let is_news = cache.assign(LeaderEpoch::new(epoch), Offset::new(start));
            assert_eq!(pairs(&cache), after, "{before:?} + {epoch} at {start}");
            assert_eq!(is_news, before != after, "{before:?} + {epoch} at {start}");
        };
        check(&[], (0, 0), &[(0, 0)]);
        check(&[], (-1, 0), &[]);
        check(&[(2, 6)], (-1, 9), &[(2, 6)]);
        check(&[(2, 6)], (3, 8), &[(2, 6), (3, 8)]);
        // The first beginning of an epoch stands, unless an earlier one turns up.
        check(&[(2, 6)], (2, 7), &[(2, 6)]);
        check(&[(2, 6)], (2, 6), &[(2, 6)]);
        check(&[(2, 6)], (2, 5), &[(2, 5)]);
        // An epoch without records, then one that begins at the same offset.
        check(&[(1, 4), (2, 6)], (3, 6), &[(1, 4), (3, 6)]);
        // The log was truncated below entries, or an older leader came back.
        check(&[(1, 4), (2, 6), (3, 9)], (4, 5), &[(1, 4), (4, 5)]);
        check(&[(1, 4), (2, 6), (3, 9)], (2, 12), &[(1, 4), (2, 12)]);
        check(&[(1, 4), (2, 6)], (0, 0), &[(0, 0)]);
    }

    #[test]
    fn recovery_takes_later_epochs_only() {
        let mut cache = LeaderEpochCache::new();
        let replayed = [(-1, 0), (0, 3), (0, 5), (2, 7), (1, 9), (2, 11), (3, 12)];
        for (epoch, start) in replayed {
            cache.assign_if_later(LeaderEpoch::new(epoch), Offset::new(start));
        }
        assert_eq!(pairs(&cache), [(0, 3), (2, 7), (3, 12)]);
    }

    #[test]
    fn end_offsets_in_every_special_case() {
        let check = |entries: &[(i32, i64)], epoch: i32, expected: (i32, i64)| {
            let found = cache(entries).end_offset_for(LeaderEpoch::new(epoch), Offset::new(100));
            assert_eq!(
                (found.0.get(), found.1.get()),
                expected,
                "{entries:?} asked for {epoch}"
            );
        };
        let three = [(2, 10), (4, 20), (7, 30)];
        check(&three, -1, (-1, -1));
        check(&three, 0, (0, 10));
        check(&three, 1, (1, 10));
        check(&three, 2, (2, 20));
        check(&three, 3, (2, 20));
        check(&three, 4, (4, 30));
        check(&three, 5, (4, 30));
        check(&three, 6, (4, 30));
        check(&three, 7, (7, 100));
        check(&three, 8, (-1, -1));
        check(&three, i32::MIN, (-1, -1));
        check(&three, i32::MAX, (-1, -1));
        check(&[], 0, (-1, -1));
        check(&[], -1, (-1, -1));
        check(&[(0, 0)], 0, (0, 100));
    }

    #[test]
    fn truncation_from_the_end() {
        for (end, after) in [
            (0, &[] as &[(i32, i64)]),
            (10, &[]),
            (11, &[(2, 10)]),
            (20, &[(2, 10)]),
            (21, &[(2, 10), (4, 20)]),
            (100, &[(2, 10), (4, 20)]),
        ] {
            let mut cache = cache(&[(2, 10), (4, 20)]);
            assert_eq!(
                cache.truncate_from_end(Offset::new(end)),
                after.len() != 2,
                "{end}"
            );
            assert_eq!(pairs(&cache), after, "{end}");
        }
    }

    #[test]
    fn truncation_from_the_start() {
        let both: &[(i32, i64)] = &[(2, 10), (4, 20)];
        for (start, after, is_changed) in [
            (0, both, false),
            (10, both, false),
            (11, &[(2, 11), (4, 20)], true),
            (19, &[(2, 19), (4, 20)], true),
            (20, &[(4, 20)], true),
            (35, &[(4, 35)], true),
        ] {
            let mut cache = cache(&[(2, 10), (4, 20)]);
            assert_eq!(
                cache.truncate_from_start(Offset::new(start)),
                is_changed,
                "{start}"
            );
            assert_eq!(pairs(&cache), after, "{start}");
        }
        assert!(!LeaderEpochCache::new().truncate_from_start(Offset::new(5)));
    }

    #[test]
    fn epochs_of_offsets() {
        let cache = cache(&[(2, 10), (4, 20)]);
        for (offset, epoch) in [
            (9, None),
            (10, Some(2)),
            (19, Some(2)),
            (20, Some(4)),
            (999, Some(4)),
        ] {
            assert_eq!(
                cache.epoch_at(Offset::new(offset)),
                epoch.map(LeaderEpoch::new),
                "{offset}"
            );
        }
        assert_eq!(cache.latest().unwrap().epoch, LeaderEpoch::new(4));
        assert_eq!(cache.earliest().unwrap().epoch, LeaderEpoch::new(2));
    }
}
