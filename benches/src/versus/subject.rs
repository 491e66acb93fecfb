//! Runs that repeat each other, and those that are compared with each other.
//!
//! Runs of one workload are compared. Among them, those with the same label, durability and plan repeat each other and
//! are one subject. Where plans differ, what differs stands in the subject's name: whoever compares should see it.

use std::fmt::Write as _;

use std::collections::BTreeSet;

use serde_json::Value;

use super::quantity::Quantity;
use crate::load::result::RunResult;
use crate::report::Spread;

/// What belongs to a run and not to what it was asked.
const NOT_OF_THE_PLAN: [&str; 8] = [
    "bootstrap",
    "command",
    "keep_topic",
    "label",
    "seed",
    "timeout",
    "topic",
    "workload",
];

/// All runs of one workload.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its name.
    pub workload: &'a str,
    /// What is compared, in the order of the first runs; the first is what the others are compared with.
    pub subjects: Vec<Subject<'a>>,
}

/// Runs that repeat each other.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Label and durability, and what of the plan is not the same in all runs of the group.
    pub name: String,
    /// In the order in which they were made.
    pub runs: Vec<&'a RunResult>,
}

impl<'a> Group<'a> {
    /// Sorts runs into groups.
    #[must_use]
    pub fn all(runs: &'a [RunResult]) -> Vec<Self> {
        let mut workloads: Vec<&str> = Vec::new();
        for run in runs {
            if !workloads.contains(&run.workload.as_str()) {
                workloads.push(&run.workload);
            }
        }
        let group = |workload| {
            let of_it = runs.iter().filter(|run| run.workload == workload);
            Self::of(workload, &of_it.collect::<Vec<_>>())
        };
        workloads.into_iter().map(group).collect()
    }

    fn of(workload: &'a str, runs: &[&'a RunResult]) -> Self {
        let differing = differing(runs);
        let mut subjects: Vec<Subject<'a>> = Vec::new();
        for run in runs {
            let name = name_of(run, &differing);
            match subjects.iter_mut().find(|subject| subject.name == name) {
                Some(subject) => subject.runs.push(run),
                None => subjects.push(Subject {
                    name,
                    runs: vec![run],
                }),
            }
        }
        for subject in &mut subjects {
            subject.runs.sort_by_key(|run| run.started_at_ms);
        }
        Self { workload, subjects }
    }
}

/// What of the plans is not the same in all runs.
fn differing(runs: &[&RunResult]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for run in runs {
        let Value::Object(plan) = &run.plan else {
            continue;
        };
        let is_other = |key: &&String| {
            !NOT_OF_THE_PLAN.contains(&key.as_str())
                && runs.iter().any(|other| other.plan.get(key) != plan.get(*key))
        };
        keys.extend(plan.keys().filter(is_other).cloned());
    }
    keys
}

fn name_of(run: &RunResult, differing: &BTreeSet<String>) -> String {
    let durability = &run.broker.durability;
    let mut name = format!("{}, {}", run.label, durability.mode);
    if !durability.acks.is_empty() && durability.acks != "all" {
        write!(name, ", acks={}", durability.acks).ok();
    }
    for key in differing.iter().filter(|key| key.as_str() != "acks") {
        let Some(value) = run.plan.get(key) else {
            continue;
        };
        write!(name, ", {} {}", key.replace('_', " "), shown(value)).ok();
    }
    name
}

/// A value of a plan; lists hold settings and their values.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(settings) if settings.is_empty() => "none".to_owned(),
        Value::Array(settings) => {
            let setting = |setting: &Value| match setting {
                Value::Array(words) => words.iter().map(shown).collect::<Vec<_>>().join("="),
                other => shown(other),
            };
            settings.iter().map(setting).collect::<Vec<_>>().join(" ")
        }
        value => value.to_string(),
    }
}

impl Subject<'_> {
    /// The figures of its runs.
    #[must_use]
    pub fn spread(&self, quantity: &Quantity) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| quantity.of(run)))
    }

    /// Whether each run has one of the other's beside it. Where a run is missing, nobody knows which round it was of.
    #[must_use]
    pub fn has_rounds_with(&self, other: &Subject<'_>) -> bool {
        self.runs.len() == other.runs.len()
    }

    /// How many times the other's, run by run of the same place; nothing where their counts differ.
    #[must_use]
    pub fn ratio_to(&self, other: &Subject<'_>, quantity: &Quantity) -> Option<Spread> {
        if !self.has_rounds_with(other) {
            return None;
        }
        let pairs = self.runs.iter().zip(&other.runs);
        let ratios = pairs.filter_map(|(ours, theirs)| Some(quantity.of(ours)? / quantity.of(theirs)?));
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    /// The run in the middle by that quantity: the one that stands for all in a plot.
    #[must_use]
    pub fn middle(&self, quantity: &Quantity) -> Option<&RunResult> {
        let mut runs = self.runs.clone();
        runs.sort_by(|one, other| {
            let (one, other) = (quantity.of(one), quantity.of(other));
            one.unwrap_or(f64::MAX).total_cmp(&other.unwrap_or(f64::MAX))
        });
        runs.get(runs.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load::result::Flow;
    use crate::versus::quantity::named;

    fn run(label: &str, place: u64, mb_per_s: f64, batch: u64) -> RunResult {
        RunResult {
            label: label.to_owned(),
            workload: "produce".to_owned(),
            started_at_ms: place,
            plan: json!({ "batch_bytes": batch, "seed": place }),
            produced: Some(Flow {
                mb_per_s,
                ..Flow::default()
            }),
            ..RunResult::default()
        }
    }

    #[test]
    fn ratios_are_taken_between_runs_of_one_round() {
        // The second round was four times slower for both, and the file has the rounds in disorder.
        let runs = [
            run("ours", 3, 50.0, 1),
            run("theirs", 2, 100.0, 1),
            run("ours", 1, 200.0, 1),
            run("theirs", 4, 25.0, 1),
        ];
        let groups = Group::all(&runs);
        let [ours, theirs] = groups[0].subjects.as_slice() else {
            panic!("two subjects: {groups:?}");
        };
        assert_eq!(ours.name, "ours, unknown");
        let produced = named("produced");
        let ratio = ours.ratio_to(theirs, produced).unwrap();
        assert_eq!(ratio.to_string(), "2.00 (2.00–2.00)");
        assert_eq!(ours.spread(produced).unwrap().to_string(), "125 (50.0–200)");
    }

    #[test]
    fn without_one_run_of_a_round_there_are_no_ratios() {
        let runs = [
            run("ours", 1, 200.0, 1),
            run("theirs", 2, 100.0, 1),
            run("ours", 3, 50.0, 1),
        ];
        let groups = Group::all(&runs);
        let [ours, theirs] = groups[0].subjects.as_slice() else {
            panic!("two subjects: {groups:?}");
        };
        let produced = named("produced");
        assert!(ours.ratio_to(theirs, produced).is_none());
        assert!(theirs.ratio_to(ours, produced).is_none());
        let text = crate::versus::table::to_markdown(&groups);
        assert!(text.contains("no ratios: 2 runs and 1"), "{text}");
    }

    #[test]
    fn runs_with_other_settings_of_the_topic_do_not_repeat_each_other() {
        let mut runs = [run("ours", 1, 1.0, 1), run("ours", 2, 2.0, 1)];
        runs[0].plan["topic_configs"] = json!([]);
        runs[1].plan["topic_configs"] = json!([["flush.messages", "1"], ["segment.bytes", "64"]]);
        let groups = Group::all(&runs);
        let names: Vec<_> = groups[0]
            .subjects
            .iter()
            .map(|subject| subject.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "ours, unknown, topic configs none",
                "ours, unknown, topic configs flush.messages=1 segment.bytes=64"
            ]
        );
    }

    #[test]
    fn runs_of_different_plans_do_not_repeat_each_other() {
        let runs = [
            run("ours", 1, 1.0, 1024),
            run("ours", 2, 2.0, 65536),
            run("ours", 3, 3.0, 1024),
        ];
        let groups = Group::all(&runs);
        let names: Vec<_> = groups[0]
            .subjects
            .iter()
            .map(|subject| (subject.name.as_str(), subject.runs.len()))
            .collect();
        assert_eq!(
            names,
            [
                ("ours, unknown, batch bytes 1024", 2),
                ("ours, unknown, batch bytes 65536", 1)
            ]
        );
    }
}
