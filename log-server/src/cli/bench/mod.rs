//! `stratalog bench`: puts load on a broker and tells what it gave.
//! The load is log-bench's; here are its options, its progress line and its table.

mod arguments;
mod report;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use log_bench::load::plan::Plan;
use log_bench::load::result::RunResult;
use log_bench::load::run;
use log_bench::load::stage::{Live, Watcher};

pub(crate) use arguments::LoadArgs;
use parking_lot::Mutex;
pub(crate) use report::BenchCommand;

use super::connection::ConnectionArgs;
use super::failure::{Failure, Kind, Outcome};
use super::output::Output;
use super::progress::LoadLine;
use super::units::{Count, per_second};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// Runs the load to its end; records that are wrong fail it.
pub(crate) async fn run(arguments: &LoadArgs, connection: &ConnectionArgs, output: &mut Output) -> Outcome {
    let plan = arguments.plan(connection)?;
    let screen = Screen {
        output,
        line: LoadLine::new(arguments.quiet || output.is_json()),
        is_interrupted: AtomicBool::new(false),
        last: Mutex::default(),
    };
    let result = until_done_or_interrupted(&plan, &screen).await;
    screen.line.clear();
    let is_interrupted = screen.is_interrupted.load(Ordering::Relaxed);
    let result = result.map_err(failure_of)?;
    // Shown first: a file that cannot be written must not take an hour's result with it.
    if output.is_json() {
        output.json(&result)?;
    } else {
        summary::show(&result, output)?;
    }
    write_files(arguments, &result)?;
    verdict(&result, is_interrupted)
}

/// Writes the files that were asked for.
fn write_files(arguments: &LoadArgs, result: &RunResult) -> Outcome {
    if let Some(path) = &arguments.output {
        let text = serde_json::to_string_pretty(result).unwrap_or_default();
        std::fs::write(path, text + "\n")
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    }
    if let Some(path) = &arguments.report {
        report::write_page(
            path,
            &format!("{} on {}", result.workload, result.label),
            std::slice::from_ref(result),
        )?;
    }
    Ok(())
}

/// Runs the load; Ctrl-C ends it early, in order.
async fn until_done_or_interrupted(plan: &Plan, screen: &Screen<'_>) -> anyhow::Result<RunResult> {
    let load = std::pin::pin!(run::run(plan, screen));
    let interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    match select(load, interrupted).await {
        Either::Left((result, _)) => result,
        // The load sees it, ends and removes its topic.
        Either::Right((_, load)) => {
            screen.is_interrupted.store(true, Ordering::Relaxed);
            load.await
        }
    }
}

/// An error of the load in the terms of the command line.
fn failure_of(error: anyhow::Error) -> Failure {
    match error.downcast::<log_client::Error>() {
        Ok(error) => Failure::from(error),
        Err(error) => Failure::new(format!("{error:#}")),
    }
}

/// How the command ends.
fn verdict(result: &RunResult, is_interrupted: bool) -> Outcome {
    if let Some(verification) = &result.verification
        && !verification.passed
    {
        let text = format!(
            "records are not what was sent: {} lost, {} duplicated, {} reordered, {} corrupt",
            verification.lost, verification.duplicated, verification.reordered, verification.corrupt
        );
        return Err(Failure {
            kind: Kind::Damaged,
            ..Failure::new(text)
        });
    }
    if is_interrupted {
        return Err(Failure::silent(Kind::Interrupted));
    }
    let errors = [&result.produced, &result.fetched];
    let errors: u64 = errors.into_iter().flatten().map(|flow| flow.errors).sum();
    if 0 < errors {
        return Err(Failure::new(format!("{errors} requests failed"))
            .advise("the warnings above say the first reasons"));
    }
    Ok(())
}

/// The terminal while a load runs.
struct Screen<'a> {
    output: &'a Output,
    line: LoadLine,
    is_interrupted: AtomicBool,
    last: Mutex<Shown>,
}

/// What the line said last, and of what.
#[derive(Debug, Default)]
struct Shown {
    live: Live,
    words: String,
}

impl Watcher for Screen<'_> {
    fn phase(&self, what: &str) {
        self.line
            .above(|| self.output.remark(self.output.remarks.faint(what)));
    }

    fn look(&self, live: &Live) {
        let mut last = self.last.lock();
        // Rates of the last half second or so, not of all the time.
        if HALF_A_SECOND <= live.elapsed.saturating_sub(last.live.elapsed) || live.elapsed < last.live.elapsed
        {
            let took = live.elapsed.saturating_sub(last.live.elapsed);
            let rate =
                |now: u64, before: u64| Count(per_second(now.saturating_sub(before), took)).to_string();
            let mut words = Vec::new();
            if live.is_warm_up {
                words.push("warm-up".to_owned());
            }
            for (word, records, bytes) in [
                (
                    "produced",
                    (live.produced_records, last.live.produced_records),
                    (live.produced_bytes, last.live.produced_bytes),
                ),
                (
                    "fetched",
                    (live.fetched_records, last.live.fetched_records),
                    (live.fetched_bytes, last.live.fetched_bytes),
                ),
            ] {
                if 0 < records.0 {
                    let megabytes = per_second(bytes.0.saturating_sub(bytes.1), took) / 1_000_000;
                    words.push(format!(
                        "{word} {}/s, {megabytes} MB/s",
                        rate(records.0, records.1)
                    ));
                }
            }
            if !live.p99.is_zero() {
                words.push(format!("p99 {}", summary::time(live.p99.as_secs_f64() * 1e6)));
            }
            *last = Shown {
                live: *live,
                words: words.join("  "),
            };
        }
        self.line.show(live.elapsed, live.planned, &last.words);
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }
}
