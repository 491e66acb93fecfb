//! Which plots a group gets: latency by percentile, rates and latency over time, the knee, and what it cost.
//! Every run is drawn; the middle one by p99 (or by rate) is bold and stands for its subject.

use super::bars;
use super::plot::{Line, Plot};
use super::scale::{Kind, PERCENTILE_MAX, Scale};
use crate::load::result::{Moment, RunResult};
use crate::report::count;
use crate::report::figure;
use crate::versus::quantity::{Unit, latency_name, latency_of, named};
use crate::versus::subject::{Group, Subject};

/// More runs than this are too many lines: only the middle one is drawn.
const THIN_LINES_MAX: usize = 24;

/// All plots of a group.
pub(crate) fn of(group: &Group<'_>) -> String {
    let mut html = String::from("<div class=\"plots\">\n");
    html += &percentiles(group).to_html();
    html += &over_time(group, "Produced over time, MB/s", |moment| moment.produced_bytes).to_html();
    html += &over_time(group, "Fetched over time, MB/s", |moment| moment.fetched_bytes).to_html();
    html += &tail_over_time(group).to_html();
    html += &knee(group).to_html();
    for (name, title) in [
        ("produced", "Produced"),
        ("fetched", "Fetched"),
        ("broker CPU", "CPU of the broker for each GB"),
        ("client CPU", "CPU of the load for each GB"),
        (
            "memory, largest",
            "Memory of the broker, mapped files included, largest",
        ),
        ("own memory, largest", "Memory of the broker, its own, largest"),
    ] {
        html += &bars::of(group, named(name), title);
    }
    html + "</div>\n"
}

/// The lines of all runs that have points.
fn lines(group: &Group<'_>, points_of: impl Fn(&RunResult) -> Vec<(f64, f64)>) -> Vec<Line> {
    let runs: usize = group.subjects.iter().map(|subject| subject.runs.len()).sum();
    let mut lines = Vec::new();
    for (number, subject) in (0..).zip(&group.subjects) {
        let middle = middle(subject);
        for run in &subject.runs {
            let is_bold = middle.is_some_and(|middle| std::ptr::eq(middle, *run));
            if is_bold || runs <= THIN_LINES_MAX {
                lines.push(Line {
                    number,
                    name: subject.name.clone(),
                    is_bold,
                    points: points_of(run),
                });
            }
        }
    }
    lines
}

fn middle<'a>(subject: &'a Subject<'_>) -> Option<&'a RunResult> {
    let tail = named("p99");
    let by = if subject.spread(tail).is_some() {
        tail
    } else {
        named("produced")
    };
    subject.middle(by)
}

fn across(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines
        .iter()
        .flat_map(|line| line.points.iter().map(|point| point.0))
}

fn up(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines
        .iter()
        .flat_map(|line| line.points.iter().map(|point| point.1))
}

fn seconds(value: f64) -> String {
    format!("{} s", round(value))
}

/// Marks are round: they need no digits behind the point that say nothing.
fn round(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn microseconds(value: f64) -> String {
    if value < 1e3 {
        format!("{} µs", round(value))
    } else if value < 1e6 {
        format!("{} ms", round(value / 1e3))
    } else {
        format!("{} s", round(value / 1e6))
    }
}

fn percentile(value: f64) -> String {
    format!("{}%", round(value))
}

/// An axis of seconds.
fn time(lines: &[Line]) -> Scale {
    let end = across(lines).fold(0.0, f64::max);
    let scale = Scale::over(Kind::Even, [end]);
    if 0.0 < end { scale.cut_at(end) } else { scale }
}

fn percentiles(group: &Group<'_>) -> Plot {
    let lines = lines(group, |run| {
        let curve = latency_of(run).map(|latency| latency.curve.as_slice());
        let points = curve.unwrap_or_default().iter().copied();
        points.filter(|point| point.0 <= PERCENTILE_MAX).collect()
    });
    let run = group.subjects.first().and_then(|subject| subject.runs.first());
    let of = run.map_or("", |run| latency_name(run));
    Plot {
        title: "Latency by percentile".to_owned(),
        note: format!("{of}; each step to the right is ten times rarer"),
        across: Scale::over(Kind::Nines, []),
        show_across: percentile,
        up: Scale::over(Kind::Logarithmic, up(&lines)),
        show_up: microseconds,
        shaded_until: None,
        lines,
    }
}

fn warm_up(group: &Group<'_>) -> Option<f64> {
    let mut runs = group.subjects.iter().flat_map(|subject| &subject.runs);
    let warm_up = runs.next()?.warm_up_s;
    // Where runs warmed up differently, no stretch is that of all.
    let is_same = |run: &&RunResult| (run.warm_up_s - warm_up).abs() < 1e-9;
    (0.0 < warm_up && runs.all(is_same)).then_some(warm_up)
}

impl Moment {
    fn middle_s(&self) -> f64 {
        self.at_s - self.length_s / 2.0
    }
}

fn over_time(group: &Group<'_>, title: &str, bytes: impl Fn(&Moment) -> u64) -> Plot {
    let mut lines = lines(group, |run| {
        let moments = run.timeline.iter().filter(|moment| 0.0 < moment.length_s);
        moments
            .map(|moment| {
                let rate = count(bytes(moment)) / 1e6 / moment.length_s;
                (moment.middle_s(), rate)
            })
            .collect()
    });
    lines.retain(|line| line.points.iter().any(|point| 0.0 < point.1));
    Plot {
        title: title.to_owned(),
        note: String::new(),
        across: time(&lines),
        show_across: seconds,
        up: Scale::over(Kind::Even, up(&lines)),
        show_up: round,
        shaded_until: warm_up(group),
        lines,
    }
}

fn tail_over_time(group: &Group<'_>) -> Plot {
    let lines = lines(group, |run| {
        let moments = run.timeline.iter();
        moments
            .filter_map(|moment| Some((moment.middle_s(), moment.p99_us?)))
            .collect()
    });
    Plot {
        title: "p99 over time".to_owned(),
        note: String::new(),
        across: time(&lines),
        show_across: seconds,
        up: Scale::over(Kind::Logarithmic, up(&lines)),
        show_up: microseconds,
        shaded_until: warm_up(group),
        lines,
    }
}

fn knee(group: &Group<'_>) -> Plot {
    let lines = lines(group, |run| {
        let steps = run.knee.iter().flat_map(|knee| &knee.steps);
        let mut points: Vec<(f64, f64)> = steps
            .map(|step| (step.target_records_per_s, step.latency.p99_us))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    });
    Plot {
        title: "p99 by the rate that was asked for".to_owned(),
        note: "The knee is where a little more load costs much more time.".to_owned(),
        across: Scale::over(Kind::Even, across(&lines)),
        show_across: |value| {
            if value < 1e6 {
                format!("{} k/s", figure(value / 1e3))
            } else {
                Unit::PerSecond.show(value)
            }
        },
        up: Scale::over(Kind::Logarithmic, up(&lines)),
        show_up: microseconds,
        shaded_until: None,
        lines,
    }
}
