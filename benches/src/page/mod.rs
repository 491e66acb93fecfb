//! One self-contained HTML page on one or several runs: tables, plots, and the truth about each run.
//!
//! | module | owns |
//! |---|---|
//! | `text` | escaping, and how moments and commands are written |
//! | `scale` | from values to places on an axis |
//! | `plot` | lines over an axis |
//! | `bars` | medians with their extremes, as bars |
//! | `table` | groups as HTML tables |
//! | `charts` | which plots a group gets |
//! | `truth` | what was run, where, and whether the records came back |
//!
//! The page loads nothing: its style is in it, its plots are SVG. It has no script, so it can be mailed, printed and
//! archived, and it follows the reader's choice of light or dark.

use std::fmt::Write as _;

mod bars;
mod charts;
mod plot;
mod scale;
mod table;
mod text;
mod truth;

#[cfg(test)]
mod tests;

use crate::load::result::RunResult;
use crate::versus::subject::Group;
use text::escape;

const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn render(title: &str, runs: &[RunResult]) -> String {
    let groups = Group::all(runs);
    let mut body = String::new();
    for group in &groups {
        body += &section(group);
    }
    body += &truth::section(runs);
    let lead = lead(runs, &groups);
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<header>\n<h1>{title}</h1>\n{lead}</header>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// What is on the page, in a line or two.
fn lead(runs: &[RunResult], groups: &[Group<'_>]) -> String {
    let mut lines = Vec::new();
    let workloads: Vec<&str> = groups.iter().map(|group| group.workload).collect();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    lines.push(format!(
        "{} of {}",
        count(runs.len(), "run"),
        escape(&workloads.join(", "))
    ));
    if let Some(begun) = runs
        .iter()
        .map(|run| run.started_at_ms)
        .filter(|begun| 0 < *begun)
        .min()
    {
        lines.push(text::moment(begun));
    }
    let mut machines: Vec<String> = runs.iter().map(|run| run.machine.to_string()).collect();
    machines.dedup();
    if let [machine] = machines.as_slice() {
        lines.push(escape(machine));
    }
    let wrong = runs.iter().filter(|run| {
        let verification = run.verification.as_ref();
        verification.is_some_and(|verification| !verification.passed)
    });
    let wrong = wrong.count();
    let mut html = format!("<p class=\"lead\">{}</p>\n", lines.join(" · "));
    if 0 < wrong {
        writeln!(html,
            "<p class=\"alarm\">In {} the records were not what was sent: see below. Figures of such runs mean nothing.</p>",
            count(wrong, "run")
        ).ok();
    }
    html
}

fn section(group: &Group<'_>) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n{}{}{}</section>\n",
        escape(group.workload),
        legend(group),
        table::comparison(group),
        charts::of(group)
    )
}

/// Which colour stands for whom; the same in every plot of the group.
fn legend(group: &Group<'_>) -> String {
    if group.subjects.len() < 2 {
        return String::new();
    }
    let items = (0..)
        .zip(&group.subjects)
        .map(|(number, subject)| format!("<li>{}{}</li>", plot::swatch(number), escape(&subject.name)));
    format!("<ul class=\"legend\">{}</ul>\n", items.collect::<String>())
}
