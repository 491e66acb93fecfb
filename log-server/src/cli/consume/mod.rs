//! `stratalog consume`: records of topics become text or JSON.
//!
//! - `start`: where reading begins, and where it ends
//! - `group`: reading as a member of a group
//! - `format`: how a record looks
//!
//! Without `--follow` it shows what was there when it began, and ends. With it, and in a group, it shows what comes.

mod format;
mod group;
mod start;

use std::io::{self, IsTerminal as _};

use clap::Args;
use log_client::config::{ConsumerConfig, IsolationLevel, OffsetReset, StartAt};
use log_client::consumer::{Consumer, PartitionRecords};
use log_core::model::{Offset, TopicPartition};

use super::connection::ConnectionArgs;
use super::failure::{Failure, Kind, Outcome};
use super::output::Output;
use super::progress::Progress;
use super::signals::told_to_stop;
use crate::time::TimeArgument;
use format::{FormatArgs, Formatter};
use group::Protocol;
use start::{OffsetArgument, Plan};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ConsumeArgs {
    /// The topic, or several
    #[arg(value_name = "TOPIC", required_unless_present = "pattern")]
    topics: Vec<String>,

    /// Only this partition; may be given several times
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,

    /// Where to begin: an offset, earliest, latest, or -N for N records before the end of each partition; for a
    /// group earliest or latest, where it has committed nothing yet
    #[arg(
        long,
        short = 'o',
        group = "start",
        value_name = "OFFSET",
        allow_hyphen_values = true
    )]
    offset: Option<OffsetArgument>,

    /// The same as --offset
    #[arg(long, group = "start", value_name = "OFFSET", allow_hyphen_values = true)]
    from: Option<OffsetArgument>,

    /// Begin with the first record that has this time or a later one, such as 2026-01-31T12:00:00Z or
    /// milliseconds since 1970
    #[arg(
        long,
        short = 't',
        group = "start",
        value_name = "TIME",
        conflicts_with = "group"
    )]
    timestamp: Option<TimeArgument>,

    /// Begin with the first record; what happens anyway unless --follow is given
    #[arg(long, group = "start")]
    from_beginning: bool,

    /// Wait for more at the end; begins there, if nothing else is said
    #[arg(long, short = 'f')]
    follow: bool,

    /// Read as a member of this group: its members share the partitions, and go on where it has committed
    #[arg(
        long,
        short = 'g',
        value_name = "GROUP",
        conflicts_with = "partition",
        help_heading = "Group"
    )]
    group: Option<String>,

    /// All topics whose whole names match this regular expression, those of the future too; needs --group
    #[arg(
        long,
        value_name = "EXPRESSION",
        requires = "group",
        conflicts_with = "topics",
        help_heading = "Group"
    )]
    pattern: Option<String>,

    /// Commit nothing: whoever reads for the group next begins where it stood
    #[arg(long, requires = "group", help_heading = "Group")]
    no_commit: bool,

    /// Who works out who reads what; the broker, if it can
    #[arg(
        long,
        value_enum,
        value_name = "PROTOCOL",
        requires = "group",
        help_heading = "Group"
    )]
    protocol: Option<Protocol>,

    // The words are Kafka's, and no code.
    #[expect(clippy::doc_markdown, reason = "what it says is shown as it stands")]
    /// Which records of transactions are shown: read_uncommitted shows all; read_committed leaves out those of aborted
    /// transactions, and stops before the first that is open
    #[arg(long, value_name = "LEVEL", default_value = "read_uncommitted")]
    isolation_level: IsolationLevel,

    /// End after so many records
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,

    #[command(flatten)]
    format: FormatArgs,

    /// No progress and no remarks
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

impl ConsumeArgs {
    /// What `--offset` or `--from` says.
    fn asked_offset(&self) -> Option<StartAt> {
        self.offset.or(self.from).map(|OffsetArgument(start)| start)
    }

    fn start(&self) -> StartAt {
        match (self.asked_offset(), self.timestamp) {
            (Some(start), _) => start,
            (None, Some(TimeArgument(timestamp))) => StartAt::Timestamp(timestamp),
            (None, None) if self.follow && !self.from_beginning => StartAt::Latest,
            (None, None) => StartAt::Earliest,
        }
    }
}

pub(super) async fn run(
    arguments: &ConsumeArgs,
    connection: &ConnectionArgs,
    output: &mut Output,
) -> Outcome {
    if let Some(group) = &arguments.group {
        return group::run(arguments, group, connection, output).await;
    }
    let formatter = Formatter::new(&arguments.format, output.is_json())?;
    let mut consumer = Consumer::new(ConsumerConfig {
        client: connection.config(),
        // The start is checked beforehand; what is deleted afterwards is reported.
        offset_reset: OffsetReset::Fail,
        isolation: arguments.isolation_level,
        ..ConsumerConfig::new("")
    })?;
    // Whoever waits at a terminal wants to know at once that nobody listens.
    consumer.cluster().refresh(0).await?;
    let plan = Plan::make(
        &consumer,
        &arguments.topics,
        &arguments.partition,
        arguments.start(),
    )
    .await?;
    for (partition, first) in &plan.cut {
        output.warn(format_args!(
            "{partition} begins at offset {first} only: what was before is deleted"
        ));
    }

    let mut reading = Reading::new(arguments, &plan, formatter, output);
    tokio::select! {
        outcome = reading.run(&mut consumer, plan, output) => outcome.and(reading.formatter.end(output)),
        stopped = told_to_stop() => {
            stopped.and(reading.formatter.end(output))?;
            // Following has no other end, so that is what was wanted.
            if arguments.follow { Ok(()) } else { Err(Failure::silent(Kind::Interrupted)) }
        }
    }
}

/// The work of showing records.
struct Reading {
    follow: bool,
    left: u64,
    formatter: Formatter,
    progress: Progress,
    scratch: Vec<u8>,
}

impl Reading {
    fn new(arguments: &ConsumeArgs, plan: &Plan, formatter: Formatter, output: &Output) -> Self {
        let left = arguments.count.unwrap_or(u64::MAX);
        // Records on the same terminal say by themselves how far it is.
        let is_shown =
            !arguments.follow && !output.is_quiet() && !output.is_json() && !io::stdout().is_terminal();
        let progress = if is_shown {
            Progress::of_records(plan.records().min(left))
        } else {
            Progress::hidden()
        };
        Self {
            follow: arguments.follow,
            left,
            formatter,
            progress,
            scratch: Vec::new(),
        }
    }

    /// Of records that come until somebody ends it, or until there were enough.
    fn following(arguments: &ConsumeArgs, formatter: Formatter) -> Self {
        Self {
            follow: true,
            left: arguments.count.unwrap_or(u64::MAX),
            formatter,
            progress: Progress::hidden(),
            scratch: Vec::new(),
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }

    async fn run(&mut self, consumer: &mut Consumer, plan: Plan, output: &mut Output) -> Outcome {
        let mut unfinished = 0;
        for range in &plan.ranges {
            if self.follow || range.begin < range.end {
                consumer.assign(range.partition.clone(), StartAt::Offset(range.begin));
                unfinished += 1;
            }
        }
        while 0 < unfinished && !self.is_over() {
            for records in consumer.poll().await? {
                let end = plan.end_of(records.partition()).filter(|_| !self.follow);
                self.show(&records, end, output)?;
                if end.is_some_and(|end| end <= records.next_offset()) {
                    consumer.unassign(records.partition());
                    unfinished -= 1;
                }
            }
            output.flush()?;
        }
        Ok(())
    }

    /// Shows the records before `end`, and no more than are left to be shown; says which is the first that was not.
    fn show(
        &mut self,
        records: &PartitionRecords,
        end: Option<Offset>,
        output: &mut Output,
    ) -> Outcome<Offset> {
        let mut outcome = Ok(());
        let mut next = None;
        let partition: &TopicPartition = records.partition();
        let visited = records.visit(&mut self.scratch, |record| {
            let is_wanted = 0 < self.left && end.is_none_or(|end| record.offset < end);
            if !is_wanted {
                next.get_or_insert(record.offset);
            } else if outcome.is_ok() {
                outcome = self.formatter.show(partition, record, output);
                self.left -= 1;
                self.progress.record(1);
            }
        });
        outcome?;
        visited.map_err(|error| Failure {
            kind: Kind::Damaged,
            ..Failure::from(error)
        })?;
        Ok(next.unwrap_or_else(|| records.next_offset()))
    }
}
