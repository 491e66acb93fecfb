//! `stratalog topic describe`: settings, what they promise, and partitions.
//! Only asks; the promise is put into words by `promise`.

use std::sync::Arc;

use clap::Args;
use log_client::admin::{Admin, ConfigEntry, ConfigResource, ConfigSource};
use log_client::metadata::TopicMetadata;
use log_core::model::TopicPartition;
use serde_json::{Map, Value, json};

use super::list::offsets;
use super::promise::promise;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::units::{Bytes, Count, counted};

/// Which topics.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also settings that nobody has set
    #[arg(long, short)]
    all: bool,
}

/// All that is known of one topic.
struct Description {
    topic: Arc<TopicMetadata>,
    configs: Vec<ConfigEntry>,
    /// For each partition its start, its end, and the bytes of its segments.
    holdings: Vec<(i64, i64, Option<u64>)>,
}

pub(super) async fn run(arguments: &DescribeArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let names: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
    let topics = admin.describe_topics(&names).await?;
    let mut failures = Vec::new();
    let mut documents = Vec::new();
    let mut is_first = true;
    for topic in topics {
        let described = match topic {
            Ok(topic) => describe(admin, topic).await,
            Err(error) => Err(error.into()),
        };
        match described {
            Ok(description) if output.is_json() => documents.push(description.document(arguments.all)),
            Ok(description) => {
                if !is_first {
                    output.line("")?;
                }
                is_first = false;
                description.show(arguments.all, output)?;
            }
            Err(failure) => failures.push(failure),
        }
    }
    if output.is_json() {
        output.json(&documents)?;
    }
    output.all_or_last(failures)
}

async fn describe(admin: &Admin, topic: Arc<TopicMetadata>) -> Outcome<Description> {
    let resource = ConfigResource::Topic(topic.name.to_string());
    let configs = admin
        .describe_configs(&[resource])
        .await?
        .pop()
        .ok_or_else(|| Failure::new("the broker answered nothing about the topic's settings"))??;
    let partitions = topic.partitions.iter();
    let partitions: Vec<TopicPartition> = partitions
        .map(|partition| TopicPartition::new(Arc::clone(&topic.name), partition.partition))
        .collect();
    // Sizes are a courtesy: a broker may refuse to tell them.
    let replicas: Vec<_> = match admin.describe_log_dirs().await {
        Ok(directories) => directories
            .into_iter()
            .flat_map(|directory| directory.replicas)
            .collect(),
        Err(_) => Vec::new(),
    };
    let holdings = offsets(admin, partitions).await?.into_iter();
    let holdings = holdings
        .map(|(partition, (start, end))| {
            let sizes = replicas.iter().filter(|replica| replica.partition == partition);
            (start, end, sizes.map(|replica| replica.bytes).max())
        })
        .collect();
    Ok(Description {
        topic,
        configs,
        holdings,
    })
}

impl Description {
    fn settings(&self, all: bool) -> impl Iterator<Item = &ConfigEntry> {
        self.configs
            .iter()
            .filter(move |entry| all || entry.source.is_set())
    }

    fn show(&self, all: bool, output: &mut Output) -> Outcome {
        let palette = output.palette;
        let replicas = self
            .topic
            .partitions
            .first()
            .map_or(0, |first| first.replicas.len());
        output.line(palette.strong(&self.topic.name))?;
        let mut fact =
            |name: &str, value: &str| output.line(format_args!("  {}{value}", palette.faint(name)));
        fact("id          ", &self.topic.id.to_string())?;
        let partitions = u64::try_from(self.topic.partitions.len()).unwrap_or_default();
        let each = counted(u64::try_from(replicas).unwrap_or_default(), "replica");
        fact(
            "partitions  ",
            &format!("{}, {each} each", counted(partitions, "partition")),
        )?;
        if let Some(promise) = promise(&self.configs) {
            fact("promise     ", &promise)?;
        }

        let mut settings = palette.table(&["setting", "value", "set for"]);
        for entry in self.settings(all) {
            settings.add_row([entry.name.clone(), shown(entry), entry.source.to_string()]);
        }
        if !settings.is_empty() {
            output.line("")?;
            output.table(&settings)?;
        }

        let columns = [
            "#partition",
            "#leader",
            "#epoch",
            "#start",
            "#end",
            "#records",
            "#size",
        ];
        let mut table = palette.table(&columns);
        for (partition, (start, end, bytes)) in self.topic.partitions.iter().zip(&self.holdings) {
            let records = u64::try_from(end.saturating_sub(*start)).unwrap_or_default();
            table.add_row([
                partition.partition.to_string(),
                partition
                    .leader
                    .map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
                partition.leader_epoch.to_string(),
                start.to_string(),
                end.to_string(),
                Count(records).to_string(),
                bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string()),
            ]);
        }
        output.line("")?;
        output.table(&table)
    }

    fn document(&self, all: bool) -> Value {
        let settings: Map<String, Value> = self
            .settings(all)
            .map(|entry| {
                let value = json!({
                    "value": entry.value,
                    "source": entry.source.to_string(),
                    "default": entry.source == ConfigSource::Default,
                });
                (entry.name.clone(), value)
            })
            .collect();
        let partitions: Vec<Value> = self
            .topic
            .partitions
            .iter()
            .zip(&self.holdings)
            .map(|(partition, (start, end, bytes))| {
                json!({
                    "partition": partition.partition,
                    "leader": partition.leader,
                    "leader_epoch": partition.leader_epoch.get(),
                    "replicas": partition.replicas,
                    "in_sync_replicas": partition.in_sync,
                    "start_offset": start,
                    "end_offset": end,
                    "bytes": bytes,
                })
            })
            .collect();
        json!({
            "name": &*self.topic.name,
            "id": self.topic.id.to_string(),
            "internal": self.topic.is_internal,
            "promise": promise(&self.configs),
            "settings": settings,
            "partitions": partitions,
        })
    }
}

fn shown(entry: &ConfigEntry) -> String {
    match &entry.value {
        Some(value) if value.is_empty() => "\"\"".to_owned(),
        Some(value) => value.clone(),
        None if entry.is_sensitive => "(secret)".to_owned(),
        None => "(none)".to_owned(),
    }
}
