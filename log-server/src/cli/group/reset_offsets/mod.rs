//! `stratalog group reset-offsets`: sets where a group goes on.
//!
//! - `target`: where to, as it is asked for
//! - `plan`: for each partition the old and the new offset, worked out without a broker
//! - `plan_file`: a plan as a file, in the format of Kafka's tool
//!
//! Without `--execute` it only shows the plan. A group with members is left alone: they commit for themselves, and
//! would not notice.

mod plan;
mod plan_file;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use clap::Args;
use log_client::admin::{Admin, GroupDescription};
use log_client::coordinator::CommittedOffset;
use log_client::offsets::OffsetQuery;
use log_core::model::{Offset, TimestampMs, TopicPartition};
use log_core::protocol::ErrorCode;
use serde_json::{Value, json};

use super::member;
use super::standing::log_ranges;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::scope::{Scope, in_scope};
use crate::cli::units::counted;
use plan::{Step, Wish};
use target::{Target, TargetArgs};

/// Which group, which partitions, and where to.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ResetOffsetsArgs {
    /// The group
    #[arg(value_name = "GROUP")]
    group: String,
    /// A topic, or some of its partitions as in orders:0,1,2; may be repeated
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<Scope>,
    /// All partitions for which the group has committed an offset
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// Do it; otherwise it is only shown
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show what would be done; what happens anyway unless --execute is given
    #[arg(long)]
    dry_run: bool,
    /// Print the plan as the file that --from-file reads: lines of topic,partition,offset
    #[arg(long)]
    export: bool,
}

pub(super) async fn run(arguments: &ResetOffsetsArgs, admin: &Admin, output: &mut Output) -> Outcome {
    if arguments.export && output.is_json() {
        return Err(
            Failure::usage("--export prints lines of its own, and --json would have it JSON")
                .advise("leave one of them out"),
        );
    }
    let target = arguments.target.target()?;
    let is_scoped = arguments.all_topics || !arguments.topic.is_empty();
    if !is_scoped && !matches!(target, Target::FromFile(_)) {
        return Err(
            Failure::usage("nothing says which partitions are to be reset").advise(
                "name topics with --topic TOPIC, or take all that the group has committed with --all-topics",
            ),
        );
    }
    let name = &arguments.group;
    let group = match admin.describe_groups(&[name]).await.pop() {
        Some(Ok(group)) => Some(group),
        Some(Err(error)) if error.code() != Some(ErrorCode::GroupIdNotFound) => return Err(error.into()),
        _ => None,
    };
    let active = group.as_ref().filter(|group| member::is_active(group));
    if let Some(group) = active
        && arguments.execute
    {
        return Err(member::active(group, WORK));
    }
    let plan = make_plan(arguments, &target, admin).await?;
    if arguments.execute {
        apply(&plan, name, admin).await?;
    }
    show(&plan, arguments, output)?;
    if !arguments.execute {
        remark_on(group.as_ref(), active, arguments, output);
    }
    Ok(())
}

const WORK: &str = "resetting the offsets";

/// What there is to know before it is done.
fn remark_on(
    group: Option<&GroupDescription>,
    active: Option<&GroupDescription>,
    arguments: &ResetOffsetsArgs,
    output: &Output,
) {
    let name = &arguments.group;
    if group.is_none() {
        output.warn(format_args!(
            "group {name} does not exist; --execute would create it"
        ));
    }
    if let Some(group) = active {
        output.warn(format_args!(
            "--execute would be refused now: group {name} has to be without members, and {}",
            member::present(group)
        ));
    }
    output.remark("Nothing was changed. With --execute it is done.");
}

/// Works out where each partition goes.
async fn make_plan(arguments: &ResetOffsetsArgs, target: &Target, admin: &Admin) -> Outcome<Vec<Step>> {
    let group = &arguments.group;
    let mut old = BTreeMap::new();
    for (partition, row) in admin.list_group_offsets(group, None).await? {
        if let Some(committed) = row? {
            old.insert(partition, committed);
        }
    }
    let mut wishes = BTreeMap::new();
    if let Target::FromFile(path) = target {
        let listed = plan_file::parse(&read(path)?, group)
            .map_err(|error| Failure::usage(format!("{}: {error}", shown(path))))?;
        wishes.extend(
            listed
                .into_iter()
                .map(|(partition, offset)| (partition, Wish::Offset(offset))),
        );
        check_topics(admin, wishes.keys().map(|partition| &*partition.topic)).await?;
    } else {
        let partitions = if arguments.all_topics {
            old.keys().cloned().collect()
        } else {
            in_scope(&arguments.topic, admin).await?
        };
        wishes.extend(partitions.into_iter().map(|partition| (partition, target.wish())));
    }
    if wishes.is_empty() {
        return Err(Failure::new(format!("group {group} has committed no offsets"))
            .advise("name topics with --topic to give it some"));
    }

    let partitions: BTreeSet<_> = wishes.keys().cloned().collect();
    let ranges = log_ranges(admin, &partitions).await?;
    let at_time = match target.time() {
        Some(timestamp) => found_at(timestamp, &partitions, admin).await?,
        None => BTreeMap::new(),
    };
    let mut plan = Vec::with_capacity(wishes.len());
    for (partition, wish) in wishes {
        let Some(range) = ranges.get(&partition).copied() else {
            // The metadata say what is wrong with it.
            let cluster = admin.cluster().metadata();
            cluster.topic(&partition.topic)?.partition(partition.partition)?;
            return Err(Failure::new(format!("{partition}: its leader does not answer")));
        };
        let wish = match wish {
            Wish::Time => Wish::Found(at_time.get(&partition).copied().flatten()),
            other => other,
        };
        let committed = old.remove(&partition);
        plan.push(plan::step(partition, committed, wish, range)?);
    }
    Ok(plan)
}

/// Fails for the first topic that does not exist.
async fn check_topics(admin: &Admin, topics: impl Iterator<Item = &str>) -> Outcome {
    let names: BTreeSet<&str> = topics.collect();
    let names: Vec<&str> = names.into_iter().collect();
    for topic in admin.describe_topics(&names).await? {
        topic?;
    }
    Ok(())
}

/// The first offsets with this time or a later one, where there are any.
async fn found_at(
    timestamp: TimestampMs,
    partitions: &BTreeSet<TopicPartition>,
    admin: &Admin,
) -> Outcome<BTreeMap<TopicPartition, Option<Offset>>> {
    let query = OffsetQuery::Timestamp(timestamp);
    let queries = partitions
        .iter()
        .map(|partition| (partition.clone(), query))
        .collect();
    let mut found = BTreeMap::new();
    for (partition, answer) in admin.list_offsets(queries).await {
        found.insert(partition, answer?.offset);
    }
    Ok(found)
}

fn read(path: &Path) -> Outcome<String> {
    let read = if is_standard_input(path) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", shown(path))))
}

fn shown(path: &Path) -> String {
    if is_standard_input(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

async fn apply(plan: &[Step], group: &str, admin: &Admin) -> Outcome {
    let offsets: BTreeMap<_, _> = plan
        .iter()
        .map(|step| (step.partition.clone(), CommittedOffset::new(step.new)))
        .collect();
    let rows = admin.alter_group_offsets(group, &offsets).await?;
    let failed: Vec<_> = rows
        .into_iter()
        .filter_map(|(partition, row)| Some((partition, row.err()?)))
        .collect();
    let Some((partition, error)) = failed.first() else {
        return Ok(());
    };
    if error.code() == Some(ErrorCode::UnknownMemberId)
        && let Some(Ok(group)) = admin.describe_groups(&[group]).await.pop()
        && member::is_active(&group)
    {
        // Somebody came between the look and the deed.
        return Err(member::active(&group, WORK));
    }
    let step = format!(
        "{} of {} could not be set, the first is {partition}",
        failed.len(),
        counted(u64::try_from(plan.len()).unwrap_or_default(), "offset")
    );
    Err(Failure::from(error.clone()).during(step))
}

fn show(plan: &[Step], arguments: &ResetOffsetsArgs, output: &mut Output) -> Outcome {
    if output.is_json() {
        return output.json(&document(plan, arguments));
    }
    if arguments.export {
        return output.bytes(plan_file::write(plan).as_bytes());
    }
    output.table(&plan::table(plan, output.palette))?;
    if arguments.execute {
        let count = counted(u64::try_from(plan.len()).unwrap_or_default(), "offset");
        output.line("")?;
        output.line(format_args!("Set {count} of group {}.", arguments.group))?;
    }
    Ok(())
}

fn document(plan: &[Step], arguments: &ResetOffsetsArgs) -> Value {
    let row = |step: &Step| {
        json!({
            "topic": &*step.partition.topic,
            "partition": step.partition.partition,
            "old_offset": step.old.map(Offset::get),
            "new_offset": step.new.get(),
            "note": step.note,
        })
    };
    json!({
        "group": arguments.group,
        "executed": arguments.execute,
        "partitions": plan.iter().map(row).collect::<Vec<_>>(),
    })
}
