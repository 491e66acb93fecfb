//! What was run, where, and whether the records came back: a closed sheet for each run.
//! Whatever has to be known to believe a figure, or to get it again, stands here.

use std::fmt::Write as _;

use super::text::{command, escape, moment};
use crate::load::result::{RunResult, Verification};
use crate::report::figure;

/// The sheets of all runs.
pub(crate) fn section(runs: &[RunResult]) -> String {
    let mut html = String::from("<section>\n<h2>The runs</h2>\n");
    for (number, run) in (1..).zip(runs) {
        html += &sheet(number, run);
    }
    html + "</section>\n"
}

fn sheet(number: usize, run: &RunResult) -> String {
    let broker = &run.broker;
    let durability = &broker.durability;
    let mut facts: Vec<(&str, String)> = Vec::new();
    let mut fact = |name: &'static str, value: String| {
        if !value.is_empty() {
            facts.push((name, value));
        }
    };
    fact(
        "command",
        format!("<code>{}</code>", escape(&command(&run.command))),
    );
    if 0 < run.started_at_ms {
        fact("begun", moment(run.started_at_ms));
    }
    fact(
        "measured",
        format!(
            "{} s after {} s of warm-up",
            figure(run.measured_s),
            figure(run.warm_up_s)
        ),
    );
    fact("seed", run.seed.to_string());
    fact("acknowledged", escape(&acknowledged(run)));
    fact("broker", escape(&broker_of(run)));
    if !broker.topic.is_empty() {
        fact(
            "topic",
            format!(
                "{}, {} partitions, {} replicas",
                escape(&broker.topic),
                broker.partitions,
                durability.replication_factor
            ),
        );
    }
    if let Some(process) = &broker.process {
        fact(
            "its process",
            format!(
                "{} {} <code>{}</code>",
                process.pid,
                escape(&process.name),
                escape(&process.command)
            ),
        );
    }
    if let Some(storage) = &broker.storage {
        let parts = [&storage.filesystem, &storage.device, &storage.model];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        fact(
            "its storage",
            format!(
                "<code>{}</code> {}",
                escape(&storage.path),
                escape(&parts.join(", "))
            ),
        );
    }
    fact("machine", escape(&run.machine.to_string()));
    if let Some(share) = run.cost.others_share {
        fact(
            "others had",
            format!("{} % of the machine", figure(share * 100.0)),
        );
    }
    fact(
        "records",
        run.verification
            .as_ref()
            .map_or_else(|| "not looked at".to_owned(), verified),
    );
    fact("program", format!("stratalog {}", escape(&run.program_version)));
    fact("plan", plan(run));
    let (mut rows, mut warnings) = (String::new(), String::new());
    for (name, value) in &facts {
        writeln!(rows, "<dt>{name}</dt><dd>{value}</dd>").ok();
    }
    for warning in &run.warnings {
        writeln!(warnings, "<p class=\"warning\">{}</p>", escape(warning)).ok();
    }
    let mark = if warnings.is_empty() {
        ""
    } else {
        " <span class=\"bad\">with warnings</span>"
    };
    format!(
        "<details><summary>{number}. {}, {} <span class=\"chip\">{}</span>{mark}</summary>\n{warnings}<dl>\n{rows}</dl></details>\n",
        escape(&run.label),
        escape(&run.workload),
        escape(&durability.mode.to_string())
    )
}

fn broker_of(run: &RunResult) -> String {
    let broker = &run.broker;
    let version = broker.version.as_deref().unwrap_or_default();
    let name = format!("{} {version}", broker.product);
    format!("{} at {}", name.trim_end(), broker.address)
}

fn acknowledged(run: &RunResult) -> String {
    let durability = &run.broker.durability;
    let mut parts = vec![durability.mode.to_string()];
    if !durability.acks.is_empty() {
        parts.push(format!("acks={}", durability.acks));
    }
    if let Some(messages) = durability.flush_messages {
        let messages = if messages == i64::MAX {
            "off".to_owned()
        } else {
            messages.to_string()
        };
        parts.push(format!("flush.messages {messages}"));
    }
    if let Some(milliseconds) = durability
        .flush_ms
        .filter(|milliseconds| *milliseconds != i64::MAX)
    {
        parts.push(format!("flush.ms {milliseconds}"));
    }
    parts.join(", ")
}

fn verified(verification: &Verification) -> String {
    let Verification {
        checked,
        lost,
        duplicated,
        reordered,
        corrupt,
        ..
    } = verification;
    if verification.passed {
        return format!("<span class=\"good\">{checked} looked at, all as sent</span>");
    }
    let mut findings = String::new();
    for finding in &verification.findings {
        write!(findings, "<br>{}", escape(finding)).ok();
    }
    format!(
        "<span class=\"bad\">of {checked}: {lost} lost, {duplicated} duplicated, {reordered} reordered, {corrupt} corrupt</span>{findings}"
    )
}

fn plan(run: &RunResult) -> String {
    if run.plan.is_null() {
        return String::new();
    }
    let text = serde_json::to_string(&run.plan).unwrap_or_default();
    format!("<code>{}</code>", escape(&text))
}
