//! Medians with their extremes, as bars: HTML alone, so that text keeps its size on every screen.
//! A thin line over each bar goes from the smallest to the largest run.

use std::fmt::Write as _;

use super::text::escape;
use crate::comparison::Better;
use crate::report::Spread;
use crate::versus::quantity::Quantity;
use crate::versus::subject::Group;
use crate::versus::table::shown;

/// Bars of one quantity, one for each subject that measured it; nothing where nobody did.
pub(crate) fn of(group: &Group<'_>, quantity: &Quantity, title: &str) -> String {
    let spreads: Vec<Option<Spread>> = group
        .subjects
        .iter()
        .map(|subject| subject.spread(quantity))
        .collect();
    let largest = spreads
        .iter()
        .flatten()
        .map(|spread| spread.max)
        .fold(0.0, f64::max);
    if largest <= 0.0 {
        return String::new();
    }
    let mut rows = String::new();
    for ((number, subject), spread) in (0_usize..).zip(&group.subjects).zip(&spreads) {
        let Some(spread) = spread else {
            continue;
        };
        let share = |value: f64| value / largest * 100.0;
        let whisker = if subject.runs.len() < 2 {
            String::new()
        } else {
            let (from, length) = (share(spread.min), share(spread.max) - share(spread.min));
            format!("<i style=\"left:{from:.2}%;width:{length:.2}%\"></i>")
        };
        writeln!(rows,
            "<div class=\"bar\"><span class=\"of\">{}</span><span class=\"track\"><b class=\"f{}\" style=\"width:{:.2}%\"></b>{whisker}</span>\
             <span class=\"figure\">{}</span></div>",
            escape(&subject.name),
            number % 8,
            share(spread.median),
            escape(&shown(quantity, *spread, subject.runs.len()))
        ).ok();
    }
    let better = match quantity.better {
        Better::More => "longer is better",
        Better::Less => "shorter is better",
    };
    format!(
        "<figure><figcaption>{} <small>{better}</small></figcaption>\n<div class=\"bars\">\n{rows}</div></figure>\n",
        escape(title)
    )
}
