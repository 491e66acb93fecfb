//! Groups as tables of Markdown, which a terminal shows as well.
//! Only quantities that some run measured have a line.

use std::fmt::Write as _;

use super::quantity::{QUANTITIES, Quantity};
use super::subject::{Group, Subject};
use crate::comparison::Better;
use crate::report::{Spread, figure};

/// A median with its extremes, if there is more than one figure.
#[must_use]
pub fn shown(quantity: &Quantity, spread: Spread, runs: usize) -> String {
    let show = |value| quantity.unit.show(value);
    if runs < 2 {
        return show(spread.median);
    }
    format!(
        "{} ({} – {})",
        show(spread.median),
        show(spread.min),
        show(spread.max)
    )
}

/// How many times the first's, with the extremes.
#[must_use]
pub fn shown_ratio(ratio: Spread, runs: usize) -> String {
    if runs < 2 {
        return format!("{} ×", figure(ratio.median));
    }
    format!(
        "{} × ({} – {})",
        figure(ratio.median),
        figure(ratio.min),
        figure(ratio.max)
    )
}

/// All groups, each as a table with a column for each subject.
#[must_use]
pub fn to_markdown(groups: &[Group<'_>]) -> String {
    let mut text = String::new();
    for group in groups {
        write_group(&mut text, group);
    }
    text
}

fn write_group(text: &mut String, group: &Group<'_>) {
    let mut line = |cells: &[String]| {
        // Writing into a string does not fail.
        writeln!(text, "| {} |", cells.join(" | ")).ok();
    };
    let Some((first, others)) = group.subjects.split_first() else {
        return;
    };
    let mut titles = vec![format!("{} ({} runs)", group.workload, first.runs.len())];
    titles.extend(group.subjects.iter().map(|subject| subject.name.clone()));
    titles.extend(others.iter().map(|other| {
        let title = format!("{} / {}", first.name, other.name);
        if first.has_rounds_with(other) {
            return title;
        }
        format!(
            "{title} (no ratios: {} runs and {})",
            first.runs.len(),
            other.runs.len()
        )
    }));
    titles.push("better is".to_owned());
    line(&titles);
    line(&vec!["---".to_owned(); titles.len()]);
    for quantity in &QUANTITIES {
        let spread = |subject: &Subject<'_>| {
            let spread = subject.spread(quantity)?;
            Some(shown(quantity, spread, subject.runs.len()))
        };
        if group.subjects.iter().all(|subject| spread(subject).is_none()) {
            continue;
        }
        let mut cells = vec![quantity.name.to_owned()];
        cells.extend(
            group
                .subjects
                .iter()
                .map(|subject| spread(subject).unwrap_or_default()),
        );
        cells.extend(others.iter().map(|other| {
            let ratio = first.ratio_to(other, quantity);
            ratio.map_or_else(String::new, |ratio| shown_ratio(ratio, other.runs.len()))
        }));
        let better = match quantity.better {
            Better::More => "more",
            Better::Less => "less",
        };
        cells.push(better.to_owned());
        line(&cells);
    }
    text.push('\n');
}
