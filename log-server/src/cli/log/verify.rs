//! `stratalog log verify`: checks a data directory, and says what is wrong, where, and how often.
//! The checks are `offline`'s; here are the progress bar, the report and the exit code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use log_core::fs::os::OsFileSystem;
use serde_json::json;

use crate::cli::failure::{Failure, Kind, Outcome};
use crate::cli::output::{Output, Palette, is_watched};
use crate::cli::units::{Bytes, Count, Took, counted, per_second};
use crate::offline::finding::{Finding, Severity};
use crate::offline::partition_check::{Depth, Tally, below};
use crate::offline::verify::{DataDirectory, LastStop, Report, VerifyError, WhileInUse};

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A data directory, or that of one partition in it; of a broker with several, one after the other
    #[arg(value_name = "DATA_DIR", default_value = "./stratalog-data")]
    path: PathBuf,
    /// Also decompress and read every record
    #[arg(long, short)]
    records: bool,
    /// Also while a broker uses the directory; the ends of logs may then look torn
    #[arg(long)]
    force: bool,
    /// Show every partition, not only those in which something was found
    #[arg(long, short)]
    all: bool,
}

pub(super) fn run(arguments: &VerifyArgs, output: &mut Output) -> Outcome {
    let while_in_use = if arguments.force {
        WhileInUse::Read
    } else {
        WhileInUse::Refuse
    };
    let began = Instant::now();
    let directory = DataDirectory::open(Arc::new(OsFileSystem::new()), &arguments.path, while_in_use)
        .map_err(|error| refused(&error))?;
    if directory.last_stop() == LastStop::Running {
        output.warn("a broker uses the directory: what it writes meanwhile may look like damage");
    }
    let depth = if arguments.records {
        Depth::Records
    } else {
        Depth::Batches
    };
    let bar = progress_bar(output, directory.log_bytes());
    let mut current = None;
    let verified = directory.verify(depth, |partition, bytes| {
        if current.as_ref() != Some(partition) {
            bar.set_message(partition.to_string());
            current = Some(partition.clone());
        }
        bar.inc(bytes);
    });
    bar.finish_and_clear();
    let report = verified.map_err(|error| refused(&error))?;
    let took = began.elapsed();
    let shown = if output.is_json() {
        output.json(&document(&directory, &report, took))
    } else {
        show(&directory, &report, arguments.all, took, output)
    };
    match shown {
        Err(failure) if failure.kind != Kind::Done => Err(failure),
        // Also when whoever reads the report has seen enough of it.
        _ if !report.findings.is_sound() => Err(Failure::silent(Kind::Damaged)),
        shown => shown,
    }
}

fn refused(error: &VerifyError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        VerifyError::InUse(_) => failure.advise(
            "stop the broker first; --force reads all the same, and may take what is being written for damage",
        ),
        VerifyError::NoDataDirectory { .. } => Failure {
            kind: Kind::Usage,
            ..failure.advise("give the directory that the broker has as --data-dir")
        },
        VerifyError::Storage(_) => failure.advise("see that this user may read it"),
    }
}

fn progress_bar(output: &Output, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    bar.set_draw_target(if is_watched() && !output.is_json() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    let template = "{bar:24} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is sound"));
    bar
}

fn show(
    directory: &DataDirectory,
    report: &Report,
    all: bool,
    took: Duration,
    output: &mut Output,
) -> Outcome {
    let palette = output.palette;
    let findings = &report.findings;
    for finding in findings.list() {
        output.line(line(finding, directory, palette))?;
    }
    if 0 < findings.omitted() {
        output.line(format_args!(
            "… and {} more that are only counted",
            Count(findings.omitted())
        ))?;
    }
    let mut table = palette.table(&[
        "partition",
        "#start",
        "#end",
        "#segments",
        "#batches",
        "#records",
        "#size",
        "state",
    ]);
    for (partition, tally) in &report.partitions {
        let worst = findings
            .list()
            .iter()
            .filter(|finding| finding.partition.as_ref() == Some(partition))
            .map(|finding| finding.severity)
            .max();
        if !all && worst.is_none_or(|worst| worst == Severity::Note) {
            continue;
        }
        let offset = |offset: Option<log_core::model::Offset>| {
            offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string())
        };
        table.add_row([
            partition.to_string(),
            offset(tally.start),
            offset(tally.end),
            tally.segments.to_string(),
            Count(tally.batches).to_string(),
            Count(tally.records).to_string(),
            Bytes(tally.bytes).to_string(),
            worst.map_or("sound", state).to_owned(),
        ]);
    }
    if !table.is_empty() {
        if !findings.list().is_empty() {
            output.line("")?;
        }
        output.table(&table)?;
    }
    if !findings.list().is_empty() || !table.is_empty() {
        output.line("")?;
    }
    let sum = sum(report);
    output.line(format_args!(
        "{}: {}, {}, {}, {}, {}; {} in {} ({}/s)",
        directory.path().display(),
        counted(
            u64::try_from(report.partitions.len()).unwrap_or_default(),
            "partition"
        ),
        counted(sum.segments, "segment"),
        batches(sum.batches),
        counted(sum.records, "record"),
        index_entries(sum.index_entries),
        Bytes(sum.bytes),
        Took(took),
        Bytes(per_second(sum.bytes, took)),
    ))?;
    output.line(format_args!("The last stop was {}.", stop(directory.last_stop())))?;
    output.line(verdict(report, palette))
}

fn batches(count: u64) -> String {
    if count == 1 {
        "1 batch".to_owned()
    } else {
        format!("{} batches", Count(count))
    }
}

fn index_entries(count: u64) -> String {
    if count == 1 {
        "1 index entry".to_owned()
    } else {
        format!("{} index entries", Count(count))
    }
}

fn line(finding: &Finding, directory: &DataDirectory, palette: Palette) -> String {
    let word = format!("{:<10}", finding.severity);
    let word = match finding.severity {
        Severity::Damage => palette.bad(word),
        Severity::Repairable => palette.warning(word),
        Severity::Note => palette.faint(word),
    };
    let path = below(directory.path(), &finding.path);
    let path = if path.as_os_str().is_empty() {
        directory.path().display().to_string()
    } else {
        path.display().to_string()
    };
    let position = finding
        .position
        .map_or_else(String::new, |position| format!(" at {position}"));
    let offsets = match finding.offsets {
        None => String::new(),
        Some((first, last)) if first == last => format!(", offset {first}"),
        Some((first, last)) => format!(", offsets {first} to {last}"),
    };
    format!(
        "{word} {}{position}{offsets}: {}",
        palette.strong(path),
        finding.what
    )
}

fn state(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "damaged",
        Severity::Repairable => "repairable",
        Severity::Note => "sound",
    }
}

fn stop(last_stop: LastStop) -> &'static str {
    match last_stop {
        LastStop::Clean => "in order",
        LastStop::Unclean => "not in order: the next start recovers what lies behind the recovery points",
        LastStop::Running => "none: a broker is running",
    }
}

fn verdict(report: &Report, palette: Palette) -> String {
    let findings = &report.findings;
    let (damage, repairable) = (
        findings.count(Severity::Damage),
        findings.count(Severity::Repairable),
    );
    let places = |count: u64| counted(count, "place");
    match (damage, repairable) {
        (0, 0) => palette.good("Everything is sound."),
        (0, _) => palette.warning(format!(
            "The records are sound; {} in files that the broker makes from them.",
            places(repairable)
        )),
        (_, 0) => palette.bad(format!("Damaged in {}.", places(damage))),
        (_, _) => palette.bad(format!(
            "Damaged in {}; also in {} of files that the broker makes from the records.",
            places(damage),
            places(repairable)
        )),
    }
}

fn sum(report: &Report) -> Tally {
    let mut sum = Tally::default();
    for (_, tally) in &report.partitions {
        sum.segments = sum.segments.saturating_add(tally.segments);
        sum.bytes = sum.bytes.saturating_add(tally.bytes);
        sum.batches = sum.batches.saturating_add(tally.batches);
        sum.records = sum.records.saturating_add(tally.records);
        sum.index_entries = sum.index_entries.saturating_add(tally.index_entries);
        sum.snapshots = sum.snapshots.saturating_add(tally.snapshots);
    }
    sum
}

fn document(directory: &DataDirectory, report: &Report, took: Duration) -> serde_json::Value {
    let sum = sum(report);
    let findings: Vec<_> = report
        .findings
        .list()
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity,
                "partition": finding.partition.as_ref().map(ToString::to_string),
                "file": below(directory.path(), &finding.path).display().to_string(),
                "position": finding.position.map(log_core::model::FilePosition::get),
                "first_offset": finding.offsets.map(|(first, _)| first.get()),
                "last_offset": finding.offsets.map(|(_, last)| last.get()),
                "what": finding.what,
            })
        })
        .collect();
    let partitions: Vec<_> = report
        .partitions
        .iter()
        .map(|(partition, tally)| {
            json!({
                "partition": partition.to_string(),
                "start_offset": tally.start.map(log_core::model::Offset::get),
                "end_offset": tally.end.map(log_core::model::Offset::get),
                "segments": tally.segments,
                "batches": tally.batches,
                "records": tally.records,
                "index_entries": tally.index_entries,
                "snapshots": tally.snapshots,
                "bytes": tally.bytes,
            })
        })
        .collect();
    json!({
        "data_dir": directory.path().display().to_string(),
        "sound": report.findings.is_sound(),
        "last_stop": match directory.last_stop() {
            LastStop::Clean => "clean",
            LastStop::Unclean => "unclean",
            LastStop::Running => "running",
        },
        "damage": report.findings.count(Severity::Damage),
        "repairable": report.findings.count(Severity::Repairable),
        "notes": report.findings.count(Severity::Note),
        "segments": sum.segments,
        "batches": sum.batches,
        "records": sum.records,
        "index_entries": sum.index_entries,
        "snapshots": sum.snapshots,
        "bytes": sum.bytes,
        "seconds": took.as_secs_f64(),
        "findings": findings,
        "findings_omitted": report.findings.omitted(),
        "partitions": partitions,
    })
}
