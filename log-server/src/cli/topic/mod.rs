//! `stratalog topic`: one file per verb.
//! `setting` and `promise` are what the verbs share.

mod alter;
mod compact;
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
    /// Compact a compacted topic now, all that is there; the broker's HTTP port is asked for it
    Compact(compact::CompactArgs),
    /// Delete topics with all their records
    Delete(delete::DeleteArgs),
}

impl TopicCommand {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Outcome {
        let admin = connection.admin();
        match self {
            Self::Create(arguments) => create::run(&arguments, &admin.await?, output).await,
            Self::List(arguments) => list::run(&arguments, &admin.await?, output).await,
            Self::Describe(arguments) => describe::run(&arguments, &admin.await?, output).await,
            Self::Alter(arguments) => alter::run(&arguments, &admin.await?, output).await,
            // The only one that Kafka's protocol has no request for.
            Self::Compact(arguments) => compact::run(&arguments, connection.timeout, output).await,
            Self::Delete(arguments) => delete::run(&arguments, &admin.await?, output).await,
        }
    }
}
