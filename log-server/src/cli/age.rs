//! How long ago: as people write it, and from and to points in time by this machine's clock.
//! The brokers' clocks may differ; a few seconds are nobody's business here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log_core::model::TimestampMs;

use super::units::parse_duration;

/// The time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How old is what happened at this time; none for what has no time.
pub(crate) fn age(timestamp: TimestampMs, now: Duration) -> Option<Duration> {
    let made = Duration::from_millis(u64::try_from(timestamp.get()).ok()?);
    Some(now.saturating_sub(made))
}

/// The time so long before `now`, or 1970.
pub(crate) fn before(now: Duration, age: Duration) -> TimestampMs {
    let then = now.saturating_sub(age).as_millis();
    TimestampMs::new(i64::try_from(then).unwrap_or(i64::MAX))
}

/// Reads `7d`, what other durations look like, or ISO 8601 as Kafka's tools want it: `P1DT2H3M4.5S`.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    let expected = || {
        format!("{text:?} is not a duration; write for example 90s, 12h, 7d, or PT1H30M as ISO 8601 has it")
    };
    let text = text.trim();
    if let Some(iso) = text.strip_prefix(['P', 'p']) {
        return iso_8601(iso).ok_or_else(expected);
    }
    if let Some(days) = text.strip_suffix(['d', 'D']) {
        let days: u64 = days.trim_end().parse().map_err(|_| expected())?;
        let seconds = days.checked_mul(SECONDS_PER_DAY).ok_or_else(expected)?;
        return Ok(Duration::from_secs(seconds));
    }
    parse_duration(text).map_err(|_| expected())
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// What stands behind the `P`.
fn iso_8601(text: &str) -> Option<Duration> {
    let upper = text.to_ascii_uppercase();
    let (mut days, time) = upper.split_once('T').unwrap_or((&upper, ""));
    if time.is_empty() && (days.is_empty() || upper.contains('T')) {
        return None;
    }
    let mut milliseconds = 1000u64.checked_mul(part(&mut days, 'D')?.checked_mul(SECONDS_PER_DAY)?)?;
    let mut rest = time;
    for (unit, unit_ms) in [('H', 3_600_000), ('M', 60_000)] {
        milliseconds = milliseconds.checked_add(part(&mut rest, unit)?.checked_mul(unit_ms)?)?;
    }
    if let Some(seconds) = rest.strip_suffix('S') {
        let seconds: f64 = seconds.parse().ok()?;
        let seconds = Duration::try_from_secs_f64(seconds).ok()?;
        milliseconds = milliseconds.checked_add(u64::try_from(seconds.as_millis()).ok()?)?;
        rest = "";
    }
    (days.is_empty() && rest.is_empty()).then(|| Duration::from_millis(milliseconds))
}

/// The number in front of `unit`, which is taken off `rest`; 0 if there is none.
fn part(rest: &mut &str, unit: char) -> Option<u64> {
    let Some((number, behind)) = rest.split_once(unit) else {
        return Some(0);
    };
    *rest = behind;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, expected_s) in [
            ("90s", Some(90)),
            ("2h", Some(7200)),
            ("7d", Some(604_800)),
            ("PT1H30M", Some(5400)),
            ("p1dT2h3m4s", Some(93_784)),
            ("P2D", Some(172_800)),
            ("PT0S", Some(0)),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("P1H", None),
            ("PT5", None),
            ("PT-1S", None),
            ("PT1M1H", None),
            ("d", None),
            ("-1d", None),
            ("yesterday", None),
            ("99999999999999999d", None),
        ] {
            let expected = expected_s.map(Duration::from_secs);
            assert_eq!(parse_age(text).ok(), expected, "{text:?}");
        }
        assert_eq!(parse_age("PT1.5S"), Ok(Duration::from_millis(1500)));
        assert_eq!(
            before(Duration::from_secs(5), Duration::from_secs(9)),
            TimestampMs::new(0)
        );
    }

    #[test]
    fn age_knows_records_without_a_time_and_of_the_future() {
        let now = Duration::from_secs(100);
        assert_eq!(age(TimestampMs::new(40_000), now), Some(Duration::from_mins(1)));
        assert_eq!(age(TimestampMs::new(200_000), now), Some(Duration::ZERO));
        assert_eq!(age(TimestampMs::NONE, now), None);
    }
}
