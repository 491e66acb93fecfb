//! Random schedules, one for each seed: `STRATALOG_SEED` is the first seed, `STRATALOG_SCHEDULES` how many follow it.
//! A failure prints the seed that plays its schedule again, alone.

/// Says which schedule fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("run again with STRATALOG_SEED={} STRATALOG_SCHEDULES=1", self.0);
        }
    }
}

/// Plays as many schedules as asked for, or `count`.
pub(crate) fn play(count: u64, mut schedule: impl FnMut(u64)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("STRATALOG_SEED").unwrap_or_else(|| fastrand::u64(..) >> 1);
    for seed in (first..).take(usize::try_from(number("STRATALOG_SCHEDULES").unwrap_or(count)).unwrap()) {
        let shown = Seed(seed);
        schedule(seed);
        drop(shown);
    }
}
