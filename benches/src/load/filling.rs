//! The sizes, keys and bytes of records, drawn from a seed: the same seed gives the same load.
//! What stands in front of a value is the record layout's; here is the rest.

use serde::Serialize;

/// A small generator of numbers, good enough for loads: xorshift64*.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// One for a seed; any will do.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Seeds that are near each other begin far from each other.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xff51_afd7_ed55_8ccd);
        Self((mixed ^ (mixed >> 29)) | 1)
    }

    /// A number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, and 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap_or_default()
    }

    /// A number from 0 up to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.draw() >> 32).unwrap_or_default();
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// A number of the normal distribution around 0 with deviation 1.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// How large values are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sizes {
    /// All the same.
    Fixed(usize),
    /// Each size from the first to the second equally often.
    Uniform(usize, usize),
    /// Many small and few large ones, as events of real systems are: a median, with about a sixth above twice of it and one of a
    /// hundred above five times of it, none above sixteen times.
    Lognormal(usize),
}

impl Sizes {
    /// One size; at least `least`.
    pub fn draw(self, dice: &mut Dice, least: usize) -> usize {
        let size = match self {
            Self::Fixed(size) => size,
            Self::Uniform(low, high) => {
                let span = u64::try_from(high.saturating_sub(low)).unwrap_or_default() + 1;
                low + usize::try_from(dice.below(span)).unwrap_or_default()
            }
            Self::Lognormal(median) => scaled(median, (0.7 * dice.normal()).exp().min(16.0)),
        };
        size.max(least)
    }

    /// What a value has in the mean, about.
    #[must_use]
    pub fn mean(self) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Uniform(low, high) => usize::midpoint(low, high),
            Self::Lognormal(median) => scaled(median, 1.28),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of records lie far below 2^53"
)]
fn scaled(size: usize, factor: f64) -> usize {
    (size as f64 * factor) as usize
}

/// Which keys records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keys {
    /// None.
    None,
    /// So many, each equally often.
    Uniform(u64),
    /// So many, the first ones far more often than the last: one of two draws falls on the square root of their number.
    Skewed(u64),
}

impl Keys {
    /// The number of a key; `None` where records have none.
    pub fn draw(self, dice: &mut Dice) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Uniform(count) => Some(dice.below(count)),
            // The logarithm of the rank is uniform, which is Zipf's law with exponent 1.
            Self::Skewed(count) => {
                let top = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
                let rank = top.powf(dice.unit());
                let rank = scaled(1, rank);
                Some(u64::try_from(rank).unwrap_or_default().saturating_sub(1))
            }
        }
    }
}

/// Words that event names are made of.
const WORDS: [&[u8]; 8] = [
    b"page_view",
    b"purchase",
    b"sign_in",
    b"search",
    b"\",\"user\":",
    b"\",\"session\":\"",
    b"amount",
    b"region",
];

/// Appends `length` bytes of which about `entropy` (0 to 1) cannot be compressed: random ones, between words that repeat.
pub fn fill(output: &mut Vec<u8>, length: usize, entropy: f64, dice: &mut Dice) {
    let end = output.len() + length;
    while output.len() < end {
        if dice.unit() < entropy {
            output.extend_from_slice(&dice.draw().to_be_bytes());
        } else {
            let index = usize::try_from(dice.below(8)).unwrap_or_default();
            let word = WORDS.get(index).copied().unwrap_or_default();
            // Eight bytes either way, so that the share of random bytes is the one that was asked for.
            output.extend(word.iter().chain(b"________").take(8));
        }
    }
    output.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_promise() {
        let mut dice = Dice::new(1);
        let mut sizes: Vec<usize> = (0..10_000)
            .map(|_| Sizes::Lognormal(1000).draw(&mut dice, 32))
            .collect();
        sizes.sort_unstable();
        assert!((900..1100).contains(&sizes[5000]), "median {}", sizes[5000]);
        assert!((3500..7000).contains(&sizes[9900]), "p99 {}", sizes[9900]);
        assert!(sizes[9999] <= 16_000);
        for _ in 0..1000 {
            assert!((10..=20).contains(&Sizes::Uniform(10, 20).draw(&mut dice, 0)));
        }
        assert_eq!(Sizes::Fixed(10).draw(&mut dice, 32), 32, "no value is shorter");
    }

    #[test]
    fn half_of_the_skewed_keys_are_few() {
        let mut dice = Dice::new(2);
        let few = (0..10_000)
            .filter(|_| Keys::Skewed(10_000).draw(&mut dice).unwrap() < 100)
            .count();
        assert!((4500..5500).contains(&few), "{few}");
        assert!((0..1000).all(|_| Keys::Uniform(7).draw(&mut dice).unwrap() < 7));
    }

    #[test]
    fn entropy_is_what_does_not_compress() {
        let mut last = 0;
        for entropy in [0.0, 0.5, 1.0] {
            let mut bytes = Vec::new();
            fill(&mut bytes, 100_000, entropy, &mut Dice::new(3));
            assert_eq!(bytes.len(), 100_000);
            let mut packed = Vec::new();
            log_core::record::compression::Compression::Zstd.compress(None, &bytes, &mut packed);
            assert!(last < packed.len(), "{entropy}: {}", packed.len());
            last = packed.len();
        }
        assert!(99_000 < last, "random bytes do not compress");
    }
}
