//! Figures by round, their medians with their extremes, and whether they are what is wanted.
//! A ratio is a figure like any other: it is taken within a round, and then the median over the rounds.

use std::fmt::Write as _;

use log_bench::report::{Spread, figure};
use serde::Serialize;

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// It is told, and no more.
    Told,
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

impl Goal {
    fn is_reached(self, median: f64) -> Option<bool> {
        match self {
            Self::Told => None,
            Self::AtLeast(least) => Some(least <= median),
            Self::AtMost(most) => Some(median <= most),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Told => String::new(),
            Self::AtLeast(least) => format!("≥ {}", figure(least)),
            Self::AtMost(most) => format!("≤ {}", figure(most)),
        }
    }
}

/// One figure, and what it was in each round.
#[derive(Debug, Serialize)]
struct Row {
    load: String,
    /// With its unit.
    figure: String,
    goal: Goal,
    rounds: Vec<f64>,
}

/// All of them, in the order in which they were first taken.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    facts: Vec<(String, String)>,
    rows: Vec<Row>,
}

impl Figures {
    /// None yet; `facts` say what is measured where.
    pub(crate) fn new(facts: Vec<(String, String)>) -> Self {
        Self {
            facts,
            rows: Vec::new(),
        }
    }

    /// Adds a round's figure.
    pub(crate) fn add(&mut self, load: &str, figure: &str, goal: Goal, value: f64) {
        let is_it = |row: &&mut Row| row.load == load && row.figure == figure;
        match self.rows.iter_mut().find(is_it) {
            Some(row) => row.rounds.push(value),
            None => self.rows.push(Row {
                load: load.to_owned(),
                figure: figure.to_owned(),
                goal,
                rounds: vec![value],
            }),
        }
    }

    /// The facts and the table.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        for (name, fact) in &self.facts {
            writeln!(text, "- {name}: {fact}").ok();
        }
        text.push_str(
            "\n| load | figure | median (lowest–highest) | wanted | |\n| --- | --- | --- | --- | --- |\n",
        );
        for row in &self.rows {
            let Some(spread) = Spread::of(row.rounds.iter().copied()) else {
                continue;
            };
            let verdict = match row.goal.is_reached(spread.median) {
                None => "",
                Some(true) => "reached",
                Some(false) => "**missed**",
            };
            let (load, figure, wanted) = (&row.load, &row.figure, row.goal.shown());
            writeln!(text, "| {load} | {figure} | {spread} | {wanted} | {verdict} |").ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_held_to_the_goal() {
        let mut figures = Figures::new(Vec::new());
        for value in [0.7, 0.4, 0.6] {
            figures.add("produce", "share", Goal::AtLeast(0.5), value);
            figures.add("produce", "ms", Goal::AtMost(0.5), value);
            figures.add("produce", "µs", Goal::Told, value);
        }
        let table = figures.to_markdown();
        for line in [
            "| produce | share | 0.600 (0.400–0.700) | ≥ 0.500 | reached |",
            "| produce | ms | 0.600 (0.400–0.700) | ≤ 0.500 | **missed** |",
            "| produce | µs | 0.600 (0.400–0.700) |  |  |",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\n{table}");
        }
    }
}
