//! Groups as HTML tables: a row for each subject, a column for each quantity that some run measured.
//! Ratios are told from the first subject's side: how many times the other's figure it has.

use std::fmt::Write as _;

use super::plot::swatch;
use super::text::escape;
use crate::comparison::Better;
use crate::report::{Spread, figure};
use crate::versus::quantity::{QUANTITIES, Quantity};
use crate::versus::subject::{Group, Subject};

/// The table of a group.
pub(crate) fn comparison(group: &Group<'_>) -> String {
    let Some((first, others)) = group.subjects.split_first() else {
        return String::new();
    };
    let is_measured = |quantity: &&Quantity| {
        group
            .subjects
            .iter()
            .any(|subject| subject.spread(quantity).is_some())
    };
    let quantities: Vec<&Quantity> = QUANTITIES.iter().filter(is_measured).collect();
    let mut html = String::from("<div class=\"wide\"><table>\n<thead><tr><th></th>");
    for quantity in &quantities {
        write!(html, "<th>{}</th>", escape(quantity.name)).ok();
    }
    html += "<th>runs</th><th>records</th></tr></thead>\n<tbody>\n";
    html += &row(first, None, 0, &quantities);
    for (number, other) in (1..).zip(others) {
        html += &row(other, Some(first), number, &quantities);
    }
    html += "</tbody></table></div>\n";
    if !others.is_empty() {
        writeln!(html,
            "<p class=\"note\">Medians, smallest and largest run below. Ratios are how many times the figure of <em>{}</em> it is, run \
             by run, and their median; <span class=\"good\">green</span> is better than it, <span class=\"bad\">red</span> worse, \
             where all runs agree.</p>",
            escape(&first.name)
        ).ok();
    }
    if !others.iter().all(|other| first.has_rounds_with(other)) {
        html += "<p class=\"note\">Where the numbers of runs differ there are no ratios: nobody knows which round is missing.</p>\n";
    }
    html
}

fn row(
    subject: &Subject<'_>,
    first: Option<&Subject<'_>>,
    number: usize,
    quantities: &[&Quantity],
) -> String {
    let mut html = format!(
        "<tr><th scope=\"row\">{}{}</th>",
        swatch(number),
        escape(&subject.name)
    );
    for quantity in quantities {
        let Some(spread) = subject.spread(quantity) else {
            html += "<td>–</td>";
            continue;
        };
        let show = |value| escape(&quantity.unit.show(value));
        write!(html, "<td><strong>{}</strong>", show(spread.median)).ok();
        if 1 < subject.runs.len() {
            write!(html, "<small>{} – {}</small>", show(spread.min), show(spread.max)).ok();
        }
        if let Some(ratio) = first.and_then(|first| subject.ratio_to(first, quantity)) {
            write!(
                html,
                "<small class=\"{}\" title=\"{} – {}\">{} ×</small>",
                verdict(quantity, ratio),
                figure(ratio.min),
                figure(ratio.max),
                figure(ratio.median)
            )
            .ok();
        }
        html += "</td>";
    }
    writeln!(
        html,
        "<td>{}</td><td>{}</td></tr>",
        subject.runs.len(),
        verified(subject)
    )
    .ok();
    html
}

/// Whether all runs say the same of a ratio.
fn verdict(quantity: &Quantity, ratio: Spread) -> &'static str {
    let (is_above, is_below) = (1.0 < ratio.min, ratio.max < 1.0);
    let (is_better, is_worse) = match quantity.better {
        Better::More => (is_above, is_below),
        Better::Less => (is_below, is_above),
    };
    if is_better {
        "good"
    } else if is_worse {
        "bad"
    } else {
        "even"
    }
}

fn verified(subject: &Subject<'_>) -> String {
    let verifications = subject.runs.iter().filter_map(|run| run.verification.as_ref());
    let (mut looked, mut wrong) = (0, 0);
    for verification in verifications {
        looked += 1;
        wrong += usize::from(!verification.passed);
    }
    match (looked, wrong) {
        (0, _) => "<small>not looked at</small>".to_owned(),
        (_, 0) if looked == subject.runs.len() => "<span class=\"good\">all as sent</span>".to_owned(),
        (_, 0) => format!("<span class=\"good\">as sent in {looked}</span>"),
        (_, wrong) => format!("<span class=\"bad\">wrong in {wrong}</span>"),
    }
}
