//! Points in time as text: RFC 3339 and its relatives, and plain numbers.
//!
//! Dates are those of the proleptic Gregorian calendar in UTC; without a zone a text is UTC. Fractions
//! finer than a millisecond are cut off. Leap seconds do not exist here, as in all of Unix time.

use std::fmt;
use std::str::FromStr;

use log_core::model::TimestampMs;

const MS_PER_SECOND: i64 = 1000;
const MS_PER_MINUTE: i64 = 60 * MS_PER_SECOND;
const MS_PER_DAY: i64 = 24 * 60 * MS_PER_MINUTE;

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum TimeFormat {
    /// A date and time; or a number: milliseconds, if it is large enough for a date after 1973, else seconds
    #[default]
    Auto,
    /// Milliseconds since 1970
    Ms,
    /// Seconds since 1970, with or without a fraction
    S,
    /// A date and time, such as 2026-01-31T12:00:00Z; also with '/' or without a zone
    Rfc3339,
}

/// Numbers from here on are milliseconds; before, seconds: 100,000,000,000 s would be the year 5138.
const AUTO_MS_FROM: i64 = 100_000_000_000;

/// The text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time ({expected})")]
pub(crate) struct NotATime {
    text: String,
    expected: &'static str,
}

impl TimeFormat {
    /// Reads a time in this format.
    pub(crate) fn parse(self, text: &str) -> Result<TimestampMs, NotATime> {
        let text = text.trim();
        let (found, expected) = match self {
            Self::Auto => (
                number(text)
                    .map(|ms| {
                        if ms < AUTO_MS_FROM {
                            ms.saturating_mul(1000)
                        } else {
                            ms
                        }
                    })
                    .or_else(|| seconds(text))
                    .or_else(|| date_time(text)),
                "such as 2026-01-31T12:00:00Z, or milliseconds or seconds since 1970",
            ),
            Self::Ms => (number(text), "milliseconds since 1970"),
            Self::S => (seconds(text), "seconds since 1970"),
            Self::Rfc3339 => (date_time(text), "such as 2026-01-31T12:00:00Z"),
        };
        found
            .filter(|ms| 0 <= *ms)
            .map(TimestampMs::new)
            .ok_or_else(|| NotATime {
                text: text.chars().take(80).collect(),
                expected,
            })
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// `12` or `12.345`.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let ms = number(whole)?.checked_mul(MS_PER_SECOND)?;
    ms.checked_add(fraction_ms(fraction)?)
}

/// The digits behind a decimal point as milliseconds.
fn fraction_ms(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let three: String = digits.chars().chain("000".chars()).take(3).collect();
    number(&three)
}

/// `2026-01-31T12:00:00.123+01:00`, `2026/01/31 12:00:00`, `2026-01-31`.
fn date_time(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time.trim())),
        None => (text, None),
    };
    let days = date_days(date)?;
    let of_day = time.map_or(Some(0), time_ms)?;
    days.checked_mul(MS_PER_DAY)?.checked_add(of_day)
}

fn date_days(text: &str) -> Option<i64> {
    let separator = if text.contains('/') { '/' } else { '-' };
    let mut parts = text.splitn(3, separator);
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let is_there = (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    is_there.then(|| days_from_civil(year, month, day))
}

/// A time of day with its zone, as milliseconds that may lie outside of the day.
fn time_ms(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = split_zone(text)?;
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let mut parts = clock.splitn(3, ':');
    let hours = digits(parts.next()?, 2).filter(|hours| *hours < 24)?;
    let minutes = digits(parts.next()?, 2).filter(|minutes| *minutes < 60)?;
    let seconds = match parts.next() {
        Some(seconds) => digits(seconds, 2).filter(|seconds| *seconds < 60)?,
        None => 0,
    };
    let minutes = 60 * hours + minutes - offset_minutes;
    Some(minutes * MS_PER_MINUTE + seconds * MS_PER_SECOND + fraction_ms(fraction)?)
}

/// The time without its zone, and how many minutes the zone is ahead of UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock.trim_end(), 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (clock, zone) = text.split_at_checked(at)?;
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("-", zone) => (-1, zone),
        (_, zone) => (1, zone),
    };
    let (hours, minutes) = match zone.split_once(':') {
        Some(parts) => parts,
        None => zone.split_at_checked(2)?,
    };
    let minutes = if minutes.is_empty() {
        0
    } else {
        digits(minutes, 2)?
    };
    let hours = digits(hours, 2).filter(|hours| *hours < 24)?;
    Some((clock.trim_end(), sign * (60 * hours + minutes)))
}

/// Exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let fits = text.len() == count && text.bytes().all(|digit| digit.is_ascii_digit());
    fits.then(|| number(text)).flatten()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01; years begin in March here, so that the leap day is the last one.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// A timestamp that displays as RFC 3339 in UTC, with milliseconds; "none" as a dash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rfc3339(pub(crate) TimestampMs);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.get();
        if ms < 0 {
            return formatter.pad("-");
        }
        let (year, month, day) = civil_from_days(ms / MS_PER_DAY);
        let of_day = ms % MS_PER_DAY;
        formatter.pad(&format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            of_day / (60 * MS_PER_MINUTE),
            of_day / MS_PER_MINUTE % 60,
            of_day / MS_PER_SECOND % 60,
            of_day % MS_PER_SECOND
        ))
    }
}

/// A time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeArgument(pub(crate) TimestampMs);

impl FromStr for TimeArgument {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        TimeFormat::Auto.parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_the_forms_people_write() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56.789Z", 951_827_696_789),
            ("2016/01/01 00:30:04.91", 1_451_608_204_910),
            ("2026-01-31", 1_769_817_600_000),
            ("2026-01-31 12:00", 1_769_860_800_000),
            ("2026-01-31T12:00:00+02:00", 1_769_853_600_000),
            ("2026-01-31T12:00:00-0530", 1_769_880_600_000),
            ("2026-01-31T12:00:00.1234567 Z", 1_769_860_800_123),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            let parsed = TimeFormat::Rfc3339.parse(text).unwrap();
            assert_eq!(parsed.get(), expected, "{text}");
            assert_eq!(TimeFormat::Auto.parse(text).unwrap(), parsed, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "-9223372036854775808",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12",
            "1969-12-31T23:59:59Z",
            "-5",
            "12.x",
            "2026-01-31T12:00:00+1",
            "2026-01-31T12:00:00+é",
            "DateTime",
        ] {
            assert!(TimeFormat::Auto.parse(text).is_err(), "{text:?}");
        }
        assert!(TimeFormat::Ms.parse("12.5").is_err());
        assert!(TimeFormat::S.parse("2026-01-31").is_err());
    }

    #[test]
    fn numbers_are_seconds_or_milliseconds() {
        for (text, format, expected) in [
            ("1451608204", TimeFormat::Auto, 1_451_608_204_000),
            ("1451608204910", TimeFormat::Auto, 1_451_608_204_910),
            ("1451608204.91", TimeFormat::Auto, 1_451_608_204_910),
            ("5", TimeFormat::Ms, 5),
            ("5", TimeFormat::S, 5000),
            ("1451608204.9109", TimeFormat::S, 1_451_608_204_910),
        ] {
            assert_eq!(format.parse(text).unwrap().get(), expected, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_reads_back() {
        for day in 0..8 * 36_525 {
            let timestamp = TimestampMs::new(day * MS_PER_DAY + 3_723_004);
            let text = Rfc3339(timestamp).to_string();
            assert_eq!(TimeFormat::Rfc3339.parse(&text).unwrap(), timestamp, "{text}");
        }
        assert_eq!(Rfc3339(TimestampMs::NONE).to_string(), "-");
    }
}
