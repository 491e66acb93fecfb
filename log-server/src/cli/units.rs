//! Numbers as people read and write them: counts, sizes, durations, rates.
//! Only how they look; what they count is the caller's business.

use std::fmt;
use std::time::Duration;

pub(crate) use indicatif::{HumanBytes as Bytes, HumanCount as Count};

/// A duration to three digits: `123 ms`, `4.56 s`, `12 min 3 s`, `2 h 5 min`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took(pub(crate) Duration);

impl fmt::Display for Took {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, milliseconds) = (self.0.as_secs(), self.0.subsec_millis());
        match seconds {
            0 => write!(formatter, "{milliseconds} ms"),
            1..10 => write!(formatter, "{seconds}.{:02} s", milliseconds / 10),
            10..60 => write!(formatter, "{seconds}.{} s", milliseconds / 100),
            60..3600 => write!(formatter, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(formatter, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// So many in this time, a second.
pub(crate) fn per_second(count: u64, took: Duration) -> u64 {
    // A rate over less than a millisecond says nothing.
    let milliseconds = took.as_millis().max(1);
    u64::try_from(u128::from(count) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

/// `1 record`, `2 records`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", Count(count))
}

/// Reads a size: a number of bytes, or one with `k`, `m` or `g` behind it for KiB, MiB or GiB.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let expected = || format!("{text:?} is not a size; write bytes, or for example 64k or 1m");
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.trim_end_matches("ib").trim_end_matches('b');
    let digits = lower.trim_end_matches(['k', 'm', 'g']);
    let unit: usize = match lower.strip_prefix(digits) {
        Some("") => 1,
        Some("k") => 1 << 10,
        Some("m") => 1 << 20,
        Some("g") => 1 << 30,
        _ => return Err(expected()),
    };
    let number: usize = digits.trim_end().parse().map_err(|_| expected())?;
    number.checked_mul(unit).ok_or_else(expected)
}

/// Reads a duration: a number of milliseconds, or one with `ms`, `s`, `m` or `h` behind it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("{text:?} is not a duration; write milliseconds, or for example 500ms, 10s or 2m");
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit_ms: u64 = match text.strip_prefix(digits) {
        Some("" | "ms") => 1,
        Some("s") => 1000,
        Some("m" | "min") => 60_000,
        Some("h") => 3_600_000,
        _ => return Err(expected()),
    };
    let number: u64 = digits.trim_end().parse().map_err(|_| expected())?;
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64k", Some(65_536)),
            ("1 MiB", Some(1 << 20)),
            ("2G", Some(2 << 30)),
            ("12kb", Some(12 << 10)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("1.5m", None),
            ("1kk", None),
            ("99999999999g", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected_ms) in [
            ("5", Some(5)),
            ("5ms", Some(5)),
            ("10s", Some(10_000)),
            ("2m", Some(120_000)),
            ("1 h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("1d", None),
            ("-1s", None),
        ] {
            let expected = expected_ms.map(Duration::from_millis);
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
        for (milliseconds, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (4567, "4.56 s"),
            (45_678, "45.6 s"),
            (723_000, "12 min 3 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(Took(Duration::from_millis(milliseconds)).to_string(), expected);
        }
    }

    #[test]
    fn rates_and_counts() {
        assert_eq!(per_second(10, Duration::from_secs(2)), 5);
        assert_eq!(per_second(10, Duration::ZERO), 10_000);
        assert_eq!(
            per_second(u64::MAX, Duration::from_millis(1)),
            u64::MAX,
            "saturates"
        );
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(12_345, "record"), "12,345 records");
    }
}
