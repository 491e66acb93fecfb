//! The dice of a crash: a small generator (`SplitMix64`) whose whole state is the seed.
//! log-core has no chance of its own: the same seed gives the same image on every machine.

#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Something below `bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// How likely each of many things is, in quarters: none, all, and the grades between must all be seen,
    /// which a fair coin for each would not show.
    pub(super) fn chance(&mut self) -> usize {
        self.below(5)
    }

    /// Whether something with this many quarters of a chance happens.
    pub(super) fn happens(&mut self, quarters: usize) -> bool {
        self.below(4) < quarters
    }

    /// One of `choices` or `other`, all equally likely.
    pub(super) fn pick<T: Clone>(&mut self, choices: &[T], other: T) -> T {
        let index = self.below(choices.len() + 1);
        choices.get(index).cloned().unwrap_or(other)
    }
}
