//! How long something took, as counts between bounds: ten to a decade, from a microsecond to a hundred seconds, so that a
//! quantile is known to about an eighth. Fewer of the bounds are shown to Prometheus, which pays for each of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::counter::{stripe, stripe_count};

/// The bounds within a decade, in hundredths.
const STEPS: [u64; 10] = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800];
const DECADES: usize = 8;
/// How many bounds there are; what took longer than the last stands behind it.
pub const BOUND_COUNT: usize = STEPS.len() * DECADES;

/// The bounds in nanoseconds, each belonging to what lies below it.
pub const BOUNDS_NS: [u64; BOUND_COUNT] = bounds();

const fn bounds() -> [u64; BOUND_COUNT] {
    let mut bounds = [0; BOUND_COUNT];
    let mut rest: &mut [u64] = &mut bounds;
    // A hundredth of a microsecond is ten nanoseconds.
    let mut unit = 10;
    while let [bound, others @ ..] = rest {
        let done = BOUND_COUNT - 1 - others.len();
        let mut steps: &[u64] = &STEPS;
        let mut skip = done % STEPS.len();
        while let [step, behind @ ..] = steps {
            if skip == 0 {
                *bound = *step * unit;
                break;
            }
            skip -= 1;
            steps = behind;
        }
        if done % STEPS.len() == STEPS.len() - 1 {
            unit *= 10;
        }
        rest = others;
    }
    bounds
}

/// The bounds that Prometheus is shown, by their places in [`BOUNDS_NS`]: 1, 2.5 and 5 of each decade from 50 µs to 10 s.
pub fn shown_bounds() -> impl Iterator<Item = (usize, u64)> {
    (0..)
        .zip(BOUNDS_NS)
        .filter(|(place, _)| [0, 4, 7].contains(&(place % STEPS.len())))
        .filter(|(_, bound)| (50_000..=10_000_000_000).contains(bound))
}

/// What one group of threads counts: bounds, what lies behind them, and the sum.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    counts: [AtomicU64; BOUND_COUNT + 1],
    sum_ns: AtomicU64,
}

impl Stripe {
    fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BOUND_COUNT + 1],
            sum_ns: AtomicU64::new(0),
        }
    }
}

/// Counts durations without that threads hinder each other.
#[derive(Debug)]
pub struct Histogram {
    stripes: Box<[Stripe]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            stripes: (0..stripe_count()).map(|_| Stripe::new()).collect(),
        }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        let stripe = self.stripes.get(stripe(self.stripes.len()));
        if let Some(stripe) = stripe
            && let Some(count) = stripe.counts.get(place)
        {
            count.fetch_add(1, Ordering::Relaxed);
            stripe.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for stripe in &self.stripes {
            for (sum, count) in all.by_bound.iter_mut().zip(&stripe.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            all.sum_ns = all.sum_ns.wrapping_add(stripe.sum_ns.load(Ordering::Relaxed));
        }
        all
    }
}

/// What a histogram held at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    by_bound: [u64; BOUND_COUNT + 1],
    sum_ns: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            by_bound: [0; BOUND_COUNT + 1],
            sum_ns: 0,
        }
    }
}

impl Counts {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.by_bound.iter().sum()
    }

    /// How long they took together, in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.sum_ns).as_secs_f64()
    }

    /// How many took no longer than the bound at this place.
    #[must_use]
    pub fn up_to(&self, place: usize) -> u64 {
        self.by_bound.iter().take(place + 1).sum()
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.by_bound.iter_mut().zip(other.by_bound) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self
    }

    /// What came since an earlier look at the same histogram.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (now, before) in self.by_bound.iter_mut().zip(earlier.by_bound) {
            *now = now.saturating_sub(before);
        }
        self.sum_ns = self.sum_ns.wrapping_sub(earlier.sum_ns);
        self
    }

    /// The bound below which this share lies, in parts of a thousand; `None` if there are none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Option<Duration> {
        let count = self.count();
        let wanted = (count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let place = self.by_bound.iter().position(|in_bound| {
            seen += in_bound;
            wanted <= seen
        });
        let last = BOUNDS_NS.last().copied().unwrap_or_default();
        let bound = place.map(|place| BOUNDS_NS.get(place).copied().unwrap_or(last));
        bound.filter(|_| 0 < count).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_from_a_microsecond_to_eighty_seconds() {
        assert!(BOUNDS_NS.is_sorted_by(|a, b| a < b));
        assert_eq!(
            (BOUNDS_NS[0], BOUNDS_NS[1], BOUNDS_NS[10]),
            (1_000, 1_250, 10_000)
        );
        assert_eq!(BOUNDS_NS.last(), Some(&80_000_000_000));
        let shown: Vec<u64> = shown_bounds().map(|(_, bound)| bound / 1_000).collect();
        assert_eq!(shown[..5], [50, 100, 250, 500, 1_000]);
        assert_eq!(shown.last(), Some(&10_000_000));
        assert_eq!(shown.len(), 17);
    }

    #[test]
    fn a_duration_stands_below_the_next_bound() {
        let histogram = Histogram::default();
        for took_ns in [0, 1_000, 1_001, 50_000, 50_001, u64::MAX] {
            histogram.record(Duration::from_nanos(took_ns));
        }
        let counts = histogram.counts();
        assert_eq!(counts.count(), 6);
        assert_eq!((counts.up_to(0), counts.up_to(1)), (2, 3));
        let (place, bound) = shown_bounds().next().unwrap();
        assert_eq!((bound, counts.up_to(place)), (50_000, 4));
    }

    #[test]
    fn quantiles_are_the_bounds_above_them() {
        let histogram = Histogram::default();
        assert_eq!(histogram.counts().quantile(500), None);
        for ms in 1..=100 {
            histogram.record(Duration::from_millis(ms));
        }
        let before = histogram.counts();
        assert_eq!(before.quantile(500), Some(Duration::from_millis(50)));
        assert_eq!(before.quantile(990), Some(Duration::from_millis(100)));
        assert_eq!(before.quantile(0), Some(Duration::from_millis(1)));
        histogram.record(Duration::from_secs(1));
        let since = histogram.counts().since(&before);
        assert_eq!((since.count(), since.sum_seconds()), (1, 1.0));
        assert_eq!(since.quantile(10), Some(Duration::from_secs(1)));
        assert_eq!(since.plus(&before), histogram.counts());
    }
}
