//! A progress bar on standard error, for long work that somebody watches; otherwise nothing.
//! It never writes to standard output, where results go.

use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::output::is_watched;
use super::units::{Count, Took, counted, per_second};

/// How far a piece of work is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    records: u64,
    noun: &'static str,
}

/// Records between two looks at the clock.
const RECORDS_PER_UPDATE: u64 = 64;

impl Progress {
    /// Shows bytes of `total`, or how many so far if nobody knows the total.
    pub(crate) fn of_bytes(total: Option<u64>, noun: &'static str) -> Self {
        let template = match total {
            Some(_) => "{bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  {eta} left",
            None => "{spinner} {bytes}  {bytes_per_sec}  {msg}",
        };
        Self::new(total, template, noun)
    }

    /// Shows records of `total`.
    pub(crate) fn of_records(total: u64) -> Self {
        let template = "{bar:32} {human_pos}/{human_len} records  {rate}/s  {eta} left";
        Self::new(Some(total), template, "record")
    }

    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            records: 0,
            noun: "",
        }
    }

    fn new(total: Option<u64>, template: &str, noun: &'static str) -> Self {
        if !is_watched() {
            return Self::hidden();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // The library's own rate has four digits behind the point.
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            write!(text, "{}", Count(per_second(state.pos(), state.elapsed()))).ok();
        };
        bar.set_style(style.progress_chars("━╸ ").with_key("rate", rate));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            records: 0,
            noun,
        }
    }

    /// One more record, which brings the work so much further.
    pub(crate) fn record(&mut self, progress: u64) {
        self.records += 1;
        self.bar.inc(progress);
        if self.records.is_multiple_of(RECORDS_PER_UPDATE) && !self.bar.is_hidden() && !self.noun.is_empty() {
            self.bar.set_message(counted(self.records, self.noun));
        }
    }

    /// So much further.
    pub(crate) fn advance(&self, progress: u64) {
        self.bar.inc(progress);
    }

    /// Takes it off the screen.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How a load stands, on one line.
#[derive(Debug)]
pub(crate) struct LoadLine {
    bar: ProgressBar,
}

impl LoadLine {
    /// A line, or nothing where nobody watches.
    pub(crate) fn new(is_hidden: bool) -> Self {
        if is_hidden || !is_watched() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{bar:20} {msg}");
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸ "),
        );
        Self { bar }
    }

    /// Writes something above it.
    pub(crate) fn above(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Shows how far it is, out of how much if that is known.
    pub(crate) fn show(&self, elapsed: Duration, planned: Option<Duration>, message: &str) {
        if self.bar.is_hidden() {
            return;
        }
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.bar.set_length(planned.map_or(0, milliseconds).max(1));
        self.bar
            .set_position(planned.map_or(0, |_| milliseconds(elapsed)));
        self.bar.set_message(format!("{}  {message}", Took(elapsed)));
    }

    /// Takes it off the screen.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
