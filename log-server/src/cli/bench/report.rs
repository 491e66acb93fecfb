//! `stratalog bench report`: one HTML page on results that were written before.
//! The page is log-bench's; here it is put where it was asked for.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use log_bench::load::result::RunResult;
use log_bench::{page, versus};

use super::super::failure::{Failure, Outcome};
use super::super::output::Output;

/// What can be done with results.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Make one HTML page of results: tables, plots, ratios, and what was run
    Report(ReportArgs),
}

impl BenchCommand {
    /// Does it.
    pub(crate) fn run(&self, output: &mut Output) -> Outcome {
        let Self::Report(arguments) = self;
        arguments.run(output)
    }
}

/// Which results, and where to.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Results of `stratalog bench --output`; runs of one label repeat each other, the first label is what others are compared with
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the page is written
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// What stands above it
    #[arg(long, value_name = "TEXT", default_value = "Load report")]
    title: String,
}

impl ReportArgs {
    fn run(&self, output: &mut Output) -> Outcome {
        let mut results = Vec::new();
        for file in &self.files {
            results.extend(versus::read(file).map_err(|error| Failure::new(format!("{error:#}")))?);
        }
        write_page(&self.output, &self.title, &results)?;
        output.remark(format_args!(
            "{} of {} runs",
            self.output.display(),
            results.len()
        ));
        Ok(())
    }
}

/// Writes the page on these results.
pub(crate) fn write_page(path: &Path, title: &str, results: &[RunResult]) -> Outcome {
    std::fs::write(path, page::render(title, results))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}
