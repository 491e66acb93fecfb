//! Where to, and for which partitions, as the command line says it.
//! What that is for a partition is worked out by `plan`, with what the log holds.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use log_core::model::{Offset, TimestampMs};

use super::plan::Wish;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::units::parse_duration;
use crate::time::TimeArgument;

/// Where to; exactly one of them.
#[derive(Debug, Args)]
#[group(id = "target", required = true, multiple = false)]
pub(super) struct TargetArgs {
    /// To the first record that there is
    #[arg(long, help_heading = "Where to")]
    to_earliest: bool,
    /// To the end: only what comes from then on is read
    #[arg(long, help_heading = "Where to")]
    to_latest: bool,
    /// To where the group stands, or to the end where it has committed nothing; with --export, a way to keep it
    #[arg(long, help_heading = "Where to")]
    to_current: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..), help_heading = "Where to")]
    to_offset: Option<i64>,
    /// To the first record with this time or a later one, such as 2026-01-31T12:00:00Z or milliseconds since 1970
    #[arg(
        long,
        visible_alias = "to-datetime",
        value_name = "TIME",
        help_heading = "Where to"
    )]
    to_time: Option<TimeArgument>,
    /// To the first record that is no older than this, such as 90s, 12h, 7d or PT1H30M
    #[arg(long, value_name = "DURATION", value_parser = parse_age, help_heading = "Where to")]
    by_duration: Option<Duration>,
    /// So many records on, or back with a minus
    #[arg(
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        help_heading = "Where to"
    )]
    shift_by: Option<i64>,
    /// To the offsets of a file with lines of topic,partition,offset; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic", "all_topics"], help_heading = "Where to")]
    from_file: Option<PathBuf>,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    Current,
    Offset(i64),
    Time(TimestampMs),
    Shift(i64),
    FromFile(PathBuf),
}

impl TargetArgs {
    /// The one that was given.
    pub(super) fn target(&self) -> Outcome<Target> {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let flags = [
            (self.to_earliest, Target::Earliest),
            (self.to_latest, Target::Latest),
            (self.to_current, Target::Current),
        ];
        let flag = flags.into_iter().find(|(is_given, _)| *is_given);
        flag.map(|(_, target)| target)
            .or_else(|| self.to_offset.map(Target::Offset))
            .or_else(|| self.to_time.map(|TimeArgument(timestamp)| Target::Time(timestamp)))
            .or_else(|| self.by_duration.map(|age| Target::Time(before(now(), age))))
            .or_else(|| self.shift_by.map(Target::Shift))
            .or_else(|| self.from_file.clone().map(Target::FromFile))
            // The parser demands one.
            .ok_or_else(|| Failure::usage("nothing says where to"))
    }
}

impl Target {
    /// What it means for a partition.
    pub(super) fn wish(&self) -> Wish {
        match self {
            Self::Earliest => Wish::Start,
            Self::Latest => Wish::End,
            // A file has a wish for each of its lines.
            Self::Current | Self::FromFile(_) => Wish::Current,
            Self::Offset(offset) => Wish::Offset(Offset::new(*offset)),
            Self::Time(_) => Wish::Time,
            Self::Shift(by) => Wish::Shift(*by),
        }
    }

    /// The time that leaders are to be asked for.
    pub(super) fn time(&self) -> Option<TimestampMs> {
        match self {
            Self::Time(timestamp) => Some(*timestamp),
            _ => None,
        }
    }
}

/// The time so long before `now`, or 1970.
fn before(now: Duration, age: Duration) -> TimestampMs {
    let then = now.saturating_sub(age).as_millis();
    TimestampMs::new(i64::try_from(then).unwrap_or(i64::MAX))
}

/// Some partitions of a topic, or all: `orders` or `orders:0,1,2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) topic: String,
    /// None for all.
    pub(super) partitions: Option<Vec<i32>>,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is neither a topic nor of the form TOPIC:0,1,2");
        let (topic, numbers) = match text.split_once(':') {
            None => (text, None),
            Some((topic, numbers)) => (topic, Some(numbers)),
        };
        if topic.is_empty() {
            return Err(expected());
        }
        let number = |text: &str| {
            let number: Option<i32> = text.trim().parse().ok();
            number.filter(|number| 0 <= *number).ok_or_else(expected)
        };
        let partitions = numbers
            .map(|numbers| numbers.split(',').map(number).collect())
            .transpose()?;
        Ok(Self {
            topic: topic.to_owned(),
            partitions,
        })
    }
}

/// Reads `7d`, what other durations look like, or ISO 8601 as Kafka's tools want it: `P1DT2H3M4.5S`.
fn parse_age(text: &str) -> Result<Duration, String> {
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
    fn topics_with_and_without_partitions() {
        let check = |text: &str, expected: Option<(&str, Option<&[i32]>)>| {
            let expected = expected.map(|(topic, partitions)| Scope {
                topic: topic.to_owned(),
                partitions: partitions.map(<[i32]>::to_vec),
            });
            assert_eq!(text.parse::<Scope>().ok(), expected, "{text:?}");
        };
        check("orders", Some(("orders", None)));
        check("orders:3", Some(("orders", Some(&[3]))));
        check("orders:0, 1,2", Some(("orders", Some(&[0, 1, 2]))));
        for wrong in ["", ":1", "orders:", "orders:-1", "orders:a", "orders:1,,2"] {
            check(wrong, None);
        }
    }

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
}
