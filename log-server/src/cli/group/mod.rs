//! `stratalog group`: one file per verb.
//!
//! - `standing`: where a group stands in its partitions
//! - `member`: members in words, and why some things wait until they are gone

mod delete;
mod describe;
mod list;
mod member;
mod reset_offsets;
mod standing;

use clap::Subcommand;

use super::connection::ConnectionArgs;
use super::failure::Outcome;
use super::output::Output;

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show groups with their members, where they stand in each partition, and how far behind
    Describe(describe::DescribeArgs),
    /// Set where a group without members goes on; only shows what it would do, unless --execute is given
    ResetOffsets(Box<reset_offsets::ResetOffsetsArgs>),
    /// Delete groups without members, with their committed offsets
    Delete(delete::DeleteArgs),
}

impl GroupCommand {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Outcome {
        let admin = connection.admin().await?;
        match self {
            Self::List(arguments) => list::run(&arguments, &admin, output).await,
            Self::Describe(arguments) => describe::run(&arguments, &admin, output).await,
            Self::ResetOffsets(arguments) => reset_offsets::run(&arguments, &admin, output).await,
            Self::Delete(arguments) => delete::run(&arguments, &admin, output).await,
        }
    }
}
