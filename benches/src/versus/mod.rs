//! Several runs side by side: medians with their extremes, and ratios within a round.
//!
//! | module | owns |
//! |---|---|
//! | [`quantity`] | what is looked at in a run |
//! | [`subject`] | runs that repeat each other, and those that are compared |
//! | [`table`] | a table for a terminal or a document |
//!
//! Runs that repeat each other stand in the order in which they were made. A ratio is taken between two runs of the same
//! place in that order, and then the median over them: what slows the machine for a while slows both.

pub mod quantity;
pub mod subject;
pub mod table;

use std::path::Path;

use anyhow::Context as _;

use crate::load::result::RunResult;

/// Reads results: a file holds one, or a list of them.
///
/// # Errors
/// When it cannot be read, or is no result.
pub fn read(path: &Path) -> anyhow::Result<Vec<RunResult>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let values = match value {
        serde_json::Value::Array(values) => values,
        value => vec![value],
    };
    let results = values.into_iter().map(serde_json::from_value::<RunResult>);
    let results: Vec<RunResult> = results
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is not a result of `stratalog bench`", path.display()))?;
    let is_one = |result: &RunResult| 0 < result.schema_version;
    anyhow::ensure!(
        !results.is_empty() && results.iter().all(is_one),
        "{} is not a result of `stratalog bench`",
        path.display()
    );
    Ok(results)
}
