//! From what was counted to what is told: rates, costs, the timeline.
//! No figure is made up here: what was not measured stays out.

use super::local::{self, Usage};
use super::meter::{Kind, Tally};
use super::plan::Plan;
use super::result::{BrokerTruth, Cost, Flow, Moment, RunResult, SCHEMA_VERSION};
use super::stage::{Outcome, Sample, seconds};
use crate::report::count;

/// The result of a load, verification aside.
#[must_use]
pub fn result_of(plan: &Plan, broker: BrokerTruth, outcome: &Outcome) -> RunResult {
    let meter = &outcome.meter;
    let from_s = plan.warm_up.as_secs_f64();
    let until_s = plan.load().as_secs_f64().min(seconds(meter.last)).max(from_s);
    let measured_s = until_s - from_s;
    let flow = |tally: Tally, errors: u64, latency| Flow {
        records: tally.records,
        bytes: tally.bytes,
        requests: tally.requests,
        errors,
        records_per_s: per(count(tally.records), measured_s),
        mb_per_s: per(count(tally.bytes) / 1e6, measured_s),
        requests_per_s: per(count(tally.requests), measured_s),
        target_records_per_s: None,
        latency,
    };
    let of = if plan.rate.is_some() { "record" } else { "request" };
    let produced = (0 < meter.produced.requests || 0 < meter.produce_errors).then(|| Flow {
        target_records_per_s: plan.rate,
        ..flow(meter.produced, meter.produce_errors, meter.produce.told(of))
    });
    let fetched = (0 < meter.fetched.requests || 0 < meter.fetch_errors)
        .then(|| flow(meter.fetched, meter.fetch_errors, meter.fetch.told("request")));
    let mut warnings: Vec<String> = outcome.errors.clone();
    if 0 < outcome.unsent {
        warnings.push(format!(
            "{} records that were due were never sent: the broker is slower than the rate",
            outcome.unsent
        ));
    }
    if meter.last < crate::load::run_clock::nanoseconds(plan.warm_up) {
        warnings.push("the load ended within the warm-up: nothing was measured".to_owned());
    }
    if outcome.is_interrupted {
        warnings.push("the run was interrupted".to_owned());
    }
    RunResult {
        schema_version: SCHEMA_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        label: plan.label.clone().unwrap_or_else(|| broker.product.clone()),
        workload: plan.workload.name().to_owned(),
        command: plan.command.clone(),
        started_at_ms: 0,
        seed: plan.seed,
        plan: serde_json::to_value(plan).unwrap_or_default(),
        machine: local::machine(),
        broker,
        warm_up_s: from_s,
        measured_s,
        produced,
        fetched,
        end_to_end: meter.end_to_end.told("record"),
        groups: outcome.groups.clone(),
        cost: cost_of(outcome, meter.produced.bytes + meter.fetched.bytes),
        timeline: timeline_of(outcome),
        knee: None,
        verification: None,
        warnings,
    }
}

fn per(amount: f64, seconds: f64) -> f64 {
    if 0.0 < seconds { amount / seconds } else { 0.0 }
}

fn cost_of(outcome: &Outcome, bytes: u64) -> Cost {
    let (from, until) = (&outcome.at_from, &outcome.at_until);
    let gigabytes = count(bytes) / 1e9;
    let per_gb = |cpu_s: f64| (0.0 < gigabytes).then(|| cpu_s / gigabytes);
    let client = until.own_cpu_s - from.own_cpu_s;
    let broker = between(from, until, |usage| usage.cpu_s);
    let machine = until
        .machine_cpu_s
        .zip(from.machine_cpu_s)
        .map(|(end, begin)| end - begin);
    let others = machine.map(|machine| (machine - client - broker.unwrap_or(0.0)).max(0.0));
    let cpus = count(u64::try_from(local::machine().cpus).unwrap_or(1));
    let capacity = (until.at_s - from.at_s) * cpus;
    let usages = || outcome.samples.iter().filter_map(|sample| sample.broker);
    let last = usages().next_back();
    Cost {
        client_cpu_s: client,
        client_cpu_s_per_gb: per_gb(client),
        broker_cpu_s: broker,
        broker_cpu_s_per_gb: broker.and_then(per_gb),
        others_cpu_s: others,
        others_share: others.filter(|_| 0.0 < capacity).map(|others| others / capacity),
        broker_rss_before_bytes: usages().next().map(|usage| usage.rss_bytes),
        broker_rss_max_bytes: usages().map(|usage| usage.rss_bytes).max(),
        broker_rss_after_bytes: last.map(|usage| usage.rss_bytes),
        broker_anonymous_after_bytes: last.map(|usage| usage.anonymous_bytes),
        broker_anonymous_max_bytes: usages().map(|usage| usage.anonymous_bytes).max(),
    }
}

fn between(from: &Sample, until: &Sample, figure: impl Fn(Usage) -> f64) -> Option<f64> {
    Some(figure(until.broker?) - figure(from.broker?))
}

fn timeline_of(outcome: &Outcome) -> Vec<Moment> {
    let length_s = seconds(outcome.meter.stretch());
    let mut moments = Vec::new();
    for (index, stretch) in (1_u32..).zip(&outcome.stretches) {
        let at_s = length_s * f64::from(index);
        // The samples that stand nearest to its ends.
        let near = |moment: f64| {
            let by_distance = |one: &&Sample, other: &&Sample| {
                (one.at_s - moment).abs().total_cmp(&(other.at_s - moment).abs())
            };
            outcome.samples.iter().min_by(by_distance)
        };
        let (begin, end) = (near(at_s - length_s), near(at_s));
        let usage = end.and_then(|sample| sample.broker);
        let told = |percentile: f64| {
            (!stretch.latencies.is_empty()).then(|| stretch.latencies.percentile_us(percentile))
        };
        moments.push(Moment {
            at_s,
            length_s,
            produced_records: stretch.produced.records,
            produced_bytes: stretch.produced.bytes,
            fetched_records: stretch.fetched.records,
            fetched_bytes: stretch.fetched.bytes,
            p50_us: told(50.0),
            p99_us: told(99.0),
            max_us: told(100.0),
            broker_cpu_s: begin
                .zip(end)
                .and_then(|(begin, end)| between(begin, end, |usage| usage.cpu_s)),
            broker_rss_bytes: usage.map(|usage| usage.rss_bytes),
            broker_anonymous_bytes: usage.map(|usage| usage.anonymous_bytes),
        });
    }
    moments
}

/// The kind of latency that a result is judged by: end to end where records are followed, else of producing, else of fetching.
#[must_use]
pub fn decisive(result: &RunResult) -> Option<(Kind, &super::result::Latency)> {
    if let Some(latency) = &result.end_to_end {
        return Some((Kind::EndToEnd, latency));
    }
    if let Some(latency) = result.produced.as_ref().and_then(|flow| flow.latency.as_ref()) {
        return Some((Kind::Produce, latency));
    }
    let latency = result.fetched.as_ref().and_then(|flow| flow.latency.as_ref())?;
    Some((Kind::Fetch, latency))
}
