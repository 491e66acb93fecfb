//! `stratalog topic alter`.
//! Settings first, then partitions; which values are right is the broker's to say.

use clap::Args;
use log_client::admin::{Admin, ConfigChange, ConfigResource};
use serde_json::json;

use super::create::intent;
use super::setting::{self, Setting};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;

/// What to change.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct AlterArgs {
    /// The topic
    #[arg(value_name = "NAME")]
    name: String,
    /// Give a setting a value; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = setting::parse, group = "change")]
    set: Vec<Setting>,
    /// Take a setting's value back, so that the default counts; may be repeated
    #[arg(long, short, value_name = "NAME", group = "change")]
    unset: Vec<String>,
    /// Add to a setting that is a list; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting::parse, group = "change")]
    append: Vec<Setting>,
    /// Take out of a setting that is a list; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting::parse, group = "change")]
    subtract: Vec<Setting>,
    /// Grow the topic to so many partitions; records with keys then go to other partitions than before
    #[arg(long, short, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..), group = "change")]
    partitions: Option<i32>,
    /// Only say whether the change could be made
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(arguments: &AlterArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let intent = intent(arguments.dry_run);
    let changes = arguments.changes();
    let name = &arguments.name;
    if !changes.is_empty() {
        // Of a topic that does not exist Kafka checks the settings first; its absence is what to hear of.
        admin.describe_topics(&[name]).await?.pop().transpose()?;
        let resource = ConfigResource::Topic(name.clone());
        admin.alter_configs(&resource, &changes, intent).await?;
    }
    if let Some(count) = arguments.partitions
        && let Err(error) = admin.create_partitions(name, count, intent).await
    {
        let failure = Failure::from(error);
        let is_half_done = !changes.is_empty() && !arguments.dry_run;
        return Err(if is_half_done {
            failure.during("the settings were changed, but not the number of partitions")
        } else {
            failure
        });
    }

    if output.is_json() {
        return output.json(&json!({
            "name": name,
            "altered": !arguments.dry_run,
            "settings_changed": changes.len(),
            "partitions": arguments.partitions,
        }));
    }
    let done = if arguments.dry_run {
        "could be altered"
    } else {
        "is altered"
    };
    output.line(format_args!("Topic {name} {done}."))
}

impl AlterArgs {
    fn changes(&self) -> Vec<(String, ConfigChange)> {
        let mut changes = Vec::new();
        let mut with = |settings: &[Setting], change: fn(String) -> ConfigChange| {
            for Setting { name, value } in settings {
                changes.push((name.clone(), change(value.clone())));
            }
        };
        with(&self.set, ConfigChange::Set);
        with(&self.append, ConfigChange::Append);
        with(&self.subtract, ConfigChange::Subtract);
        changes.extend(self.unset.iter().map(|name| (name.clone(), ConfigChange::Delete)));
        changes
    }
}
