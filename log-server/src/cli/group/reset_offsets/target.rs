//! Where to, as the command line says it.
//! What that is for a partition is worked out by `plan`, with what the log holds.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use log_core::model::{Offset, TimestampMs};

use super::plan::Wish;
use crate::cli::age::{before, now, parse_age};
use crate::cli::failure::{Failure, Outcome};
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
