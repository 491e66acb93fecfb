//! The page as a whole: that it holds what it should, loads nothing, and lets nothing from a result become markup.

use serde_json::json;

use super::render;
use crate::load::result::{Flow, Latency, Moment, RunResult, SCHEMA_VERSION, Verification};

fn run(label: &str, times: f64) -> RunResult {
    let curve = [(0.0, 50.0), (50.0, 80.0), (99.0, 400.0), (99.99, 9000.0)];
    let moments = [0.5, 1.0, 1.5].map(|at_s| Moment {
        at_s,
        length_s: 0.5,
        produced_bytes: 50_000_000,
        p99_us: Some(400.0 * times),
        ..Moment::default()
    });
    RunResult {
        schema_version: SCHEMA_VERSION,
        label: label.to_owned(),
        workload: "produce".to_owned(),
        command: vec!["stratalog".to_owned(), "bench".to_owned(), "produce".to_owned()],
        seed: 7,
        warm_up_s: 0.5,
        plan: json!({ "batch_bytes": 65_536 }),
        produced: Some(Flow {
            mb_per_s: 100.0 / times,
            latency: Some(Latency {
                p50_us: 80.0 * times,
                p99_us: 400.0 * times,
                curve: curve.map(|(at, value)| (at, value * times)).to_vec(),
                ..Latency::default()
            }),
            ..Flow::default()
        }),
        timeline: moments.to_vec(),
        verification: Some(Verification {
            passed: true,
            checked: 10,
            ..Verification::default()
        }),
        ..RunResult::default()
    }
}

#[test]
fn a_page_has_figures_plots_and_the_truth() {
    let page = render("Two brokers", &[run("ours", 1.0), run("theirs", 2.0)]);
    for expected in [
        "<title>Two brokers</title>",
        "2 runs of produce",
        "Latency by percentile",
        "Produced over time, MB/s",
        "p99 over time",
        "<strong>100 MB/s</strong>",
        "0.500 ×",
        "stratalog bench produce",
        "<dt>seed</dt><dd>7</dd>",
        "10 looked at, all as sent",
    ] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    // What nobody measured has no plot.
    assert!(!page.contains("Fetched over time") && !page.contains("knee"));
    // Four lines: two plots of latency, one of throughput, of two runs each.
    assert_eq!(page.matches("<polyline").count(), 6);
}

#[test]
fn a_page_loads_nothing() {
    let page = render("t", &[run("ours", 1.0)]);
    for loading in ["http:", "https:", "src=", "<link", "<script", "url(", "@import"] {
        assert!(!page.contains(loading), "{loading}");
    }
}

#[test]
fn what_a_broker_says_is_text() {
    let mut evil = run("<script>alert(1)</script>", 1.0);
    evil.broker.product = "<img src=x onerror=alert(1)>".to_owned();
    evil.broker.topic = "\"><svg onload=x>".to_owned();
    evil.workload = "<i>".to_owned();
    evil.warnings = vec!["<b>".to_owned()];
    let page = render("<u>", &[evil]);
    for markup in ["<script", "<img", "<svg onload", "<i>", "<b>", "<u>"] {
        assert!(!page.contains(markup), "{markup}");
    }
}

#[test]
fn records_that_were_not_what_was_sent_are_said_first() {
    let mut wrong = run("ours", 1.0);
    wrong.verification = Some(Verification {
        lost: 3,
        findings: vec!["partition 0 lacks 3 to 5".to_owned()],
        ..Verification::default()
    });
    let page = render("t", &[wrong]);
    let alarm = page.find("class=\"alarm\"").unwrap();
    assert!(alarm < page.find("<section>").unwrap());
    assert!(
        page.contains("3 lost") && page.contains("partition 0 lacks 3 to 5") && page.contains("wrong in 1")
    );
}

#[test]
fn a_page_without_runs_or_figures_is_still_a_page() {
    assert!(render("t", &[]).ends_with("</html>\n"));
    assert!(render("t", &[RunResult::default()]).contains("The runs"));
}
