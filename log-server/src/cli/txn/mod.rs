//! `stratalog txn`: one file per verb.
//!
//! - `open`: open transactions of partitions, in a table and as JSON
//!
//! What is asked and changed stands with the client; here it becomes lines and JSON.

mod abort;
mod describe;
mod describe_producers;
mod find_hanging;
mod list;
mod open;

use clap::Subcommand;

use super::connection::ConnectionArgs;
use super::failure::Outcome;
use super::output::Output;

/// What to do with transactions.
#[derive(Debug, Subcommand)]
pub(crate) enum TxnCommand {
    /// List transactional ids with their states
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show all that coordinators know of transactional ids
    Describe(describe::DescribeArgs),
    /// Show which producers write to partitions, and which of them have a transaction open there
    DescribeProducers(describe_producers::DescribeProducersArgs),
    /// Find transactions that are open in partitions and that no coordinator means to end
    FindHanging(find_hanging::FindHangingArgs),
    /// Abort a transaction in one partition; only shows what it would do, unless --execute is given
    Abort(abort::AbortArgs),
}

impl TxnCommand {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Outcome {
        let admin = connection.admin().await?;
        match self {
            Self::List(arguments) => list::run(&arguments, &admin, output).await,
            Self::Describe(arguments) => describe::run(&arguments, &admin, output).await,
            Self::DescribeProducers(arguments) => describe_producers::run(&arguments, &admin, output).await,
            Self::FindHanging(arguments) => find_hanging::run(&arguments, &admin, output).await,
            Self::Abort(arguments) => abort::run(&arguments, &admin, output).await,
        }
    }
}
