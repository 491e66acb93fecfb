//! Kafka's protocol beside HTTP: `stratalog bench` as a process of its own, on the broker that is measured.
//! It is waited for where it is called: whoever loads the broker meanwhile does so on threads of its own.

use std::process::Command;

use anyhow::{Context as _, ensure};
use log_bench::load::result::RunResult;
use log_bench::versus;

use crate::Session;
use crate::servers::Ours;

/// What a run of `stratalog bench` gave.
pub(crate) fn run(session: &Session, ours: &Ours, load: &[&str]) -> anyhow::Result<RunResult> {
    let file = session.options.setup.directory.join("result.json");
    let mut command = Command::new(&session.programs.stratalog);
    command.arg("bench").args(load).arg("--quiet");
    command.args(["--bootstrap", &ours.broker.address]);
    command.arg("--output").arg(&file);
    let done = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let result = versus::read(&file)?.pop();
    std::fs::remove_file(&file)?;
    result.context("a result")
}
