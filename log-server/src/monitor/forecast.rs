//! When the disk is full, if it goes on like in the last hour: a straight line through the space of each minute.
//! Retention gives space back in steps; over an hour a line sees through most of them, and where it does not, it says too early.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_mins(1);
/// An hour.
const POINTS_MAX: usize = 60;
/// A line through less says nothing.
const POINTS_MIN: usize = 5;

/// The space of the last hour.
#[derive(Debug, Default)]
pub(super) struct SpaceForecast {
    /// When, in hours since any one beginning, and how many bytes were free.
    points: Mutex<VecDeque<(f64, f64)>>,
}

impl SpaceForecast {
    /// Takes down how much is free, if it is a minute since the last time.
    pub(super) fn note(&self, now: Duration, available: u64) {
        let mut points = self.points.lock();
        let hours = now.as_secs_f64() / 3600.0;
        let next = points
            .back()
            .map(|(last, _)| last + INTERVAL.as_secs_f64() / 3600.0);
        // A second early is in time: whoever calls does so by a clock of seconds.
        if next.is_some_and(|next| hours + 1.0 / 3600.0 < next) {
            return;
        }
        if POINTS_MAX <= points.len() {
            points.pop_front();
        }
        points.push_back((hours, real(available)));
    }

    /// Hours until nothing is free; infinite if the disk does not fill, or nobody knows yet.
    pub(super) fn full_in_hours(&self) -> f64 {
        let points = self.points.lock();
        let (Some((_, available)), true) = (points.back(), POINTS_MIN <= points.len()) else {
            return f64::INFINITY;
        };
        let count = real(points.len() as u64);
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_time, mean_space) = (mean(|point| point.0), mean(|point| point.1));
        let (mut together, mut spread) = (0.0, 0.0);
        for (time, space) in &*points {
            together += (time - mean_time) * (space - mean_space);
            spread += (time - mean_time) * (time - mean_time);
        }
        let bytes_per_hour = together / spread;
        if bytes_per_hour < 0.0 {
            available / -bytes_per_hour
        } else {
            f64::INFINITY
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a forecast needs no bytes")]
fn real(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn after(minutes: u64, available: impl Fn(u64) -> u64) -> SpaceForecast {
        let forecast = SpaceForecast::default();
        for second in 0..=60 * minutes {
            forecast.note(Duration::from_secs(second), available(second));
        }
        forecast
    }

    #[test]
    fn a_disk_that_fills_evenly_is_full_when_a_line_says_so() {
        // A GiB an hour, of ten.
        let forecast = after(60, |second| 10 * GIB - second * GIB / 3600);
        let hours = forecast.full_in_hours();
        assert!((8.9..=9.1).contains(&hours), "{hours}");
        assert_eq!(forecast.points.lock().len(), POINTS_MAX);
    }

    #[test]
    fn nobody_knows_at_first_and_an_emptying_disk_is_never_full() {
        assert!(
            after(3, |second| 10 * GIB - second * GIB / 60)
                .full_in_hours()
                .is_infinite()
        );
        assert!(after(30, |second| GIB + second).full_in_hours().is_infinite());
        assert!(after(30, |_| GIB).full_in_hours().is_infinite());
    }

    #[test]
    fn only_the_last_hour_counts() {
        let forecast = after(180, |second| 100 * GIB - second.min(7200) * GIB / 3600);
        assert!(
            forecast.full_in_hours().is_infinite(),
            "{}",
            forecast.full_in_hours()
        );
    }
}
