//! `stratalog topic create`.
//! Topics are asked for together and told of one by one; which names and settings are right is the broker's
//! to say.

use clap::Args;
use log_client::admin::{Admin, CreatedTopic, Intent, NewTopic};
use log_core::protocol::ErrorCode;
use serde_json::json;

use super::setting::{self, Setting};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::units::counted;

/// What to create.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How many partitions each has; the broker's default otherwise
    #[arg(long, short, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas each partition has; the broker's default otherwise
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting, such as retention.ms=604800000; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = setting::parse)]
    config: Vec<Setting>,
    /// Leave topics alone that exist already
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether the topics could be created
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(arguments: &CreateArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let topics: Vec<NewTopic> = arguments.names.iter().map(|name| arguments.topic(name)).collect();
    let results = admin.create_topics(&topics, intent(arguments.dry_run)).await?;

    let mut failures = Vec::new();
    let mut rows = Vec::new();
    for (topic, result) in topics.iter().zip(results) {
        match result {
            Ok(created) => {
                if output.is_json() {
                    rows.push(arguments.row(&created));
                } else {
                    output.line(arguments.sentence(&created))?;
                }
            }
            Err(error) if arguments.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                if output.is_json() {
                    rows.push(json!({ "name": topic.name, "created": false }));
                } else {
                    output.line(format_args!("Topic {} exists already.", topic.name))?;
                }
            }
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    if output.is_json() {
        output.json(&rows)?;
    }
    output.all_or_last(failures)
}

/// What `--dry-run` asks for.
pub(super) fn intent(is_dry_run: bool) -> Intent {
    if is_dry_run {
        Intent::ValidateOnly
    } else {
        Intent::Apply
    }
}

impl CreateArgs {
    fn topic(&self, name: &str) -> NewTopic {
        let mut topic = NewTopic::new(name);
        topic.partitions = self.partitions;
        topic.replication_factor = self.replication_factor;
        for Setting { name, value } in &self.config {
            topic = topic.with_config(name, value);
        }
        topic
    }

    fn sentence(&self, created: &CreatedTopic) -> String {
        let partitions = counted(u64::try_from(created.partitions).unwrap_or_default(), "partition");
        let name = &created.name;
        if self.dry_run {
            format!("Topic {name} could be created with {partitions}.")
        } else {
            format!("Created topic {name} with {partitions} (id {}).", created.id)
        }
    }

    fn row(&self, created: &CreatedTopic) -> serde_json::Value {
        json!({
            "name": created.name,
            "created": !self.dry_run,
            "id": (!self.dry_run).then(|| created.id.to_string()),
            "partitions": created.partitions,
            "replication_factor": created.replication_factor,
        })
    }
}
