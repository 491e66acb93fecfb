//! `stratalog topic`: one file per verb.
//! `setting` and `promise` are what the verbs share.

mod alter;
mod create;
mod delete;
mod describe;
mod list;
mod promise;
mod setting;

use clap::Subcommand;

use super::connection::ConnectionArgs;
use super::failure::Outcome;
use super::output::Output;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create(create::CreateArgs),
    /// List topics
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show topics with their settings, what they promise, and their partitions
    Describe(describe::DescribeArgs),
    /// Change a topic's settings, or add partitions
    Alter(alter::AlterArgs),
    /// Delete topics with all their records
    Delete(delete::DeleteArgs),
}

impl TopicCommand {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Outcome {
        let admin = connection.admin().await?;
        match self {
            Self::Create(arguments) => create::run(&arguments, &admin, output).await,
            Self::List(arguments) => list::run(&arguments, &admin, output).await,
            Self::Describe(arguments) => describe::run(&arguments, &admin, output).await,
            Self::Alter(arguments) => alter::run(&arguments, &admin, output).await,
            Self::Delete(arguments) => delete::run(&arguments, &admin, output).await,
        }
    }
}
