//! `stratalog log`: what is on the disk, without a broker.
//! The reading is done by `offline`; here is how it is asked for and shown.

mod dump;
mod verify;

use clap::Subcommand;

use super::failure::Outcome;
use super::output::Output;

/// What to do with the files of a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show what is in segments, indexes, snapshots and checkpoints
    Dump(dump::DumpArgs),
    /// Check every batch, index, snapshot and checkpoint of a data directory
    Verify(verify::VerifyArgs),
}

impl LogCommand {
    pub(crate) fn run(&self, output: &mut Output) -> Outcome {
        match self {
            Self::Dump(arguments) => dump::run(arguments, output),
            Self::Verify(arguments) => verify::run(arguments, output),
        }
    }
}
