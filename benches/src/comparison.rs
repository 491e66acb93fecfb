//! What the rounds of a comparison gave: one figure of each broker a round, their medians, and the ratio within a round.
//! Rounds alternate which broker goes first; a ratio is taken within a round, so that it holds when the machine drifts.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::brokers::Kind;
use crate::report::{Spread, figure};

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Throughput.
    More,
    /// Time and memory.
    Less,
}

/// A quantity that was measured on both brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity {
    /// What was done, and what each broker promised meanwhile.
    pub load: String,
    /// What was counted, with its unit.
    pub unit: Cow<'static, str>,
    /// Which way is good.
    pub better: Better,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    quantity: Quantity,
    stratalog: Vec<f64>,
    kafka: Vec<f64>,
}

/// All rows of a comparison, in the order they were first measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// What was compared where; facts with their names.
    pub facts: Vec<(String, String)>,
    rows: Vec<Row>,
}

impl Comparison {
    /// Adds a figure of one broker; rounds come in order.
    pub fn add(&mut self, kind: Kind, quantity: Quantity, value: f64) {
        let index = self.rows.iter().position(|row| row.quantity == quantity);
        let index = index.unwrap_or_else(|| {
            self.rows.push(Row {
                quantity,
                stratalog: Vec::new(),
                kafka: Vec::new(),
            });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(index) {
            match kind {
                Kind::Stratalog => row.stratalog.push(value),
                Kind::Kafka => row.kafka.push(value),
            }
        }
    }

    /// What was written as JSON, so that more rounds can be added.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The facts and the table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            // Writing into a string does not fail.
            writeln!(text, "{line}").ok();
        };
        for (name, value) in &self.facts {
            line(format!("- {name}: {value}"));
        }
        line(String::new());
        line("| load | figure | Stratalog | Kafka | Stratalog / Kafka | better is |".to_owned());
        line("| --- | --- | --- | --- | --- | --- |".to_owned());
        for row in &self.rows {
            line(row.to_markdown());
        }
        text
    }
}

impl Row {
    fn to_markdown(&self) -> String {
        let ratios = self
            .stratalog
            .iter()
            .zip(&self.kafka)
            .map(|(ours, theirs)| ours / theirs);
        let show = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| spread.to_string());
        let ratio =
            Spread::of(ratios).map_or_else(String::new, |ratio| format!("**{}**", figure(ratio.median)));
        format!(
            "| {} | {} | {} | {} | {ratio} | {} |",
            self.quantity.load,
            self.quantity.unit,
            show(Spread::of(self.stratalog.iter().copied())),
            show(Spread::of(self.kafka.iter().copied())),
            match self.quantity.better {
                Better::More => "more",
                Better::Less => "less",
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_both_brokers_rounds_and_their_ratio() {
        let quantity = Quantity {
            load: "produce".to_owned(),
            unit: "MB/s".into(),
            better: Better::More,
        };
        let mut comparison = Comparison::default();
        for (ours, theirs) in [(200.0, 100.0), (30.0, 10.0), (100.0, 100.0)] {
            comparison.add(Kind::Kafka, quantity.clone(), theirs);
            comparison.add(Kind::Stratalog, quantity.clone(), ours);
        }
        // Rounds that are written and read again lose nothing.
        let comparison = Comparison::from_json(&serde_json::to_string(&comparison).unwrap()).unwrap();
        let table = comparison.to_markdown();
        assert!(
            table.contains("| produce | MB/s | 100 (30.0–200) | 100 (10.0–100) | **2.00** | more |"),
            "{table}"
        );
    }
}
