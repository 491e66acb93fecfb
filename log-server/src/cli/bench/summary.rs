//! A result as people read it: what was measured, on what, and whether it can be believed.
//! Every figure stands with its unit.

use log_bench::load::result::{BrokerTruth, Flow, Groups, Knee, Latency, RunResult, Verification};
use log_bench::report::figure;

use super::super::failure::Outcome;
use super::super::output::Output;
use super::super::units::{Bytes, Count};

/// Prints the result.
pub(crate) fn show(result: &RunResult, output: &mut Output) -> Outcome {
    let heading = output
        .palette
        .strong(format_args!("{} on {}", result.workload, result.label));
    output.line(heading)?;
    for line in site(&result.broker) {
        let line = output.palette.faint(line);
        output.line(line)?;
    }
    let mut rates = output
        .palette
        .table(&["", "#MB/s", "#records/s", "#requests/s", "#records", "#errors"]);
    for (name, flow) in [("produced", &result.produced), ("fetched", &result.fetched)] {
        if let Some(flow) = flow {
            rates.add_row(rate_row(name, flow));
        }
    }
    output.line("")?;
    output.table(&rates)?;
    let mut latencies = output.palette.table(&[
        "latency", "#p50", "#p90", "#p99", "#p99.9", "#p99.99", "#max", "of",
    ]);
    let produce = result.produced.as_ref().and_then(|flow| flow.latency.as_ref());
    let fetch = result.fetched.as_ref().and_then(|flow| flow.latency.as_ref());
    for (name, latency) in [
        ("acknowledged", produce),
        ("fetched", fetch),
        ("end to end", result.end_to_end.as_ref()),
        (
            "commits",
            result
                .groups
                .as_ref()
                .and_then(|groups| groups.commit_latency.as_ref()),
        ),
        (
            "rebalances",
            result
                .groups
                .as_ref()
                .and_then(|groups| groups.rebalance_latency.as_ref()),
        ),
    ] {
        if let Some(latency) = latency {
            latencies.add_row(latency_row(name, latency));
        }
    }
    output.line("")?;
    output.table(&latencies)?;
    output.line("")?;
    for line in cost(result) {
        output.line(line)?;
    }
    if let Some(target) = result
        .produced
        .as_ref()
        .and_then(|flow| flow.target_records_per_s)
    {
        output.line(format_args!("rate       {} records/s asked for", figure(target)))?;
    }
    if let Some(groups) = &result.groups {
        output.line(groups_line(groups))?;
    }
    if let Some(knee) = &result.knee {
        show_knee(knee, output)?;
    }
    if let Some(verification) = &result.verification {
        show_verification(verification, output)?;
    }
    for warning in &result.warnings {
        output.warn(warning);
    }
    Ok(())
}

/// On what, in a few lines.
fn site(broker: &BrokerTruth) -> Vec<String> {
    let durability = &broker.durability;
    let mut lines = vec![format!(
        "{} · {} partitions · acks={} · {}",
        broker.address, broker.partitions, durability.acks, durability.mode
    )];
    if let Some(storage) = &broker.storage {
        lines.push(format!(
            "{} · {} on {}",
            storage.path,
            storage.filesystem.as_deref().unwrap_or("?"),
            storage.device.as_deref().unwrap_or("?")
        ));
    }
    lines
}

fn rate_row(name: &str, flow: &Flow) -> [String; 6] {
    [
        name.to_owned(),
        figure(flow.mb_per_s),
        grouped(flow.records_per_s),
        grouped(flow.requests_per_s),
        Count(flow.records).to_string(),
        Count(flow.errors).to_string(),
    ]
}

fn latency_row(name: &str, latency: &Latency) -> [String; 8] {
    [
        name.to_owned(),
        time(latency.p50_us),
        time(latency.p90_us),
        time(latency.p99_us),
        time(latency.p999_us),
        time(latency.p9999_us),
        time(latency.max_us),
        latency.of.clone(),
    ]
}

/// Whole numbers in groups of three digits; small ones with what is behind the point.
fn grouped(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate that is shown"
    )]
    let whole = value.round() as u64;
    if value < 100.0 {
        figure(value)
    } else {
        Count(whole).to_string()
    }
}

/// Microseconds in the unit that fits.
pub(crate) fn time(microseconds: f64) -> String {
    match microseconds {
        short if short < 1e3 => format!("{} µs", figure(short)),
        middle if middle < 1e6 => format!("{} ms", figure(middle / 1e3)),
        long => format!("{} s", figure(long / 1e6)),
    }
}

fn cost(result: &RunResult) -> Vec<String> {
    let cost = &result.cost;
    let per_gb =
        |figure_of: Option<f64>| figure_of.map_or(String::new(), |value| format!(", {} s/GB", figure(value)));
    let mut lines = vec![format!(
        "measured   {} s after {} s of warm-up, seed {}",
        figure(result.measured_s),
        figure(result.warm_up_s),
        result.seed
    )];
    if let Some(broker) = cost.broker_cpu_s {
        lines.push(format!(
            "broker     {} s of CPU{}",
            figure(broker),
            per_gb(cost.broker_cpu_s_per_gb)
        ));
    }
    lines.push(format!(
        "client     {} s of CPU{}",
        figure(cost.client_cpu_s),
        per_gb(cost.client_cpu_s_per_gb)
    ));
    if let (Some(others), Some(share)) = (cost.others_cpu_s, cost.others_share) {
        lines.push(format!(
            "others     {} s of CPU, {} % of the machine",
            figure(others),
            figure(share * 100.0)
        ));
    }
    if let (Some(before), Some(after), Some(own)) = (
        cost.broker_rss_before_bytes,
        cost.broker_rss_after_bytes,
        cost.broker_anonymous_after_bytes,
    ) {
        lines.push(format!(
            "memory     {} resident before, {} after, of which {} its own",
            Bytes(before),
            Bytes(after),
            Bytes(own)
        ));
    }
    lines
}

fn groups_line(groups: &Groups) -> String {
    let refused = match groups.commit_errors {
        0 => String::new(),
        errors => format!(", {} refused", Count(errors)),
    };
    format!(
        "groups     {} with {} members in all ({}), together after {}; {} commits{refused}, {} rebalances",
        groups.groups,
        groups.members,
        groups.protocol,
        time(groups.assigned_after_ms * 1e3),
        Count(groups.commits),
        Count(groups.rebalances)
    )
}

/// Each rate that was tried, and the verdict.
fn show_knee(knee: &Knee, output: &mut Output) -> Outcome {
    let mut steps = output.palette.table(&[
        "#asked for/s",
        "#records/s",
        "#MB/s",
        "#p50",
        "#p99",
        "#p99.9",
        "held",
    ]);
    for step in &knee.steps {
        steps.add_row([
            grouped(step.target_records_per_s),
            grouped(step.records_per_s),
            figure(step.mb_per_s),
            time(step.latency.p50_us),
            time(step.latency.p99_us),
            time(step.latency.p999_us),
            if step.held { "yes" } else { "no" }.to_owned(),
        ]);
    }
    output.line("")?;
    output.table(&steps)?;
    output.line("")?;
    let limit = time(knee.p99_limit_us);
    match (knee.records_per_s, knee.gave_way.as_deref()) {
        (Some(rate), Some(what)) => {
            let rate = output.palette.strong(grouped(rate));
            output.line(format_args!(
                "knee       {rate} records/s; beyond, the {what} gave way (p99 limit {limit})"
            ))
        }
        (Some(rate), None) => output.line(format_args!("knee       above {} records/s", grouped(rate))),
        (None, _) => output.line("knee       no rate held"),
    }
}

fn show_verification(verification: &Verification, output: &mut Output) -> Outcome {
    let text = format!(
        "{} records: {} lost, {} duplicated, {} reordered, {} corrupt",
        Count(verification.checked),
        verification.lost,
        verification.duplicated,
        verification.reordered,
        verification.corrupt
    );
    let text = if verification.passed {
        output.palette.good(text)
    } else {
        output.palette.bad(text)
    };
    output.line(format_args!("verified   {text}"))?;
    for finding in &verification.findings {
        output.line(format_args!("           {finding}"))?;
    }
    Ok(())
}
