//! Which partition a record without a key goes to, as the Java client decides it; of keys decides
//! [`log_core::partitioner`].
//!
//! Such records stick to one partition for `batch_bytes` bytes and then move on, so that batches fill; the next one is
//! drawn with odds that favour partitions whose queues are short (KIP-794).

/// Where records without a key go at the moment.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    current: Option<usize>,
    /// Bytes that went there since it was chosen.
    produced: usize,
}

impl Sticky {
    /// The partition to append to, chosen by `choose` if there is none, or if it is not among the first
    /// `count` (any more).
    pub(crate) fn current(&mut self, count: usize, choose: impl FnOnce() -> usize) -> usize {
        match self.current {
            Some(current) if current < count => current,
            _ => {
                let next = choose();
                *self = Self {
                    current: Some(next),
                    produced: 0,
                };
                next
            }
        }
    }

    /// Counts what was appended, and moves on when that fills a batch. While the last batch still has
    /// room moving on would leave it half full, so up to twice as much may go there.
    pub(crate) fn appended(&mut self, bytes: usize, batch_bytes: usize, last_batch_is_full: bool) {
        self.produced += bytes;
        let enough = batch_bytes <= self.produced && last_batch_is_full;
        if enough || 2 * batch_bytes <= self.produced {
            self.current = None;
        }
    }
}

/// Draws a partition: the longer the queue, the smaller the odds. `candidates` are partitions with the
/// number of batches that wait there; `draw` gives a number below its argument.
pub(crate) fn choose(candidates: &[(usize, usize)], draw: impl FnOnce(usize) -> usize) -> Option<usize> {
    let longest = candidates.iter().map(|(_, waiting)| *waiting).max()?;
    let weight = |waiting: usize| longest + 1 - waiting;
    let total = candidates.iter().map(|(_, waiting)| weight(*waiting)).sum();
    let mut left = draw(total);
    for (partition, waiting) in candidates {
        match left.checked_sub(weight(*waiting)) {
            Some(rest) => left = rest,
            None => return Some(*partition),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_kept_until_a_batch_is_full() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.current(6, || 4), 4);
        sticky.appended(99, 100, true);
        assert_eq!(sticky.current(6, || 5), 4);
        sticky.appended(1, 100, false);
        assert_eq!(sticky.current(6, || 5), 4, "the batch has room");
        sticky.appended(1, 100, true);
        assert_eq!(sticky.current(6, || 5), 5);
        sticky.appended(200, 100, false);
        assert_eq!(sticky.current(6, || 0), 0, "twice the size is enough in any case");
        assert_eq!(sticky.current(6, || 1), 0);
    }

    #[test]
    fn a_partition_that_is_no_more_is_left() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.current(6, || 5), 5);
        assert_eq!(sticky.current(3, || 2), 2);
    }

    /// With queues of 0, 3 and 1 batches the weights are 4, 1 and 3.
    #[test]
    fn short_queues_are_favoured() {
        let candidates = [(0, 0), (1, 3), (2, 1)];
        let drawn: Vec<_> = (0..8)
            .map(|number| {
                let expect_total = |total| {
                    assert_eq!(total, 8);
                    number
                };
                choose(&candidates, expect_total).unwrap()
            })
            .collect();
        assert_eq!(drawn, [0, 0, 0, 0, 1, 2, 2, 2]);
        assert_eq!(choose(&[], |_| 0), None);
    }
}
