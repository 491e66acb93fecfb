//! `stratalog group describe`: state, members, and where the group stands in each partition.
//! Only asks; how far behind it is, is measured by `standing`.

use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use log_client::admin::{Admin, GroupDescription, GroupState, MemberDescription};
use log_core::model::Offset;
use serde_json::{Value, json};

use super::member::host;
use super::standing::{Standing, standings};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Output, Palette};
use crate::cli::partitions::{by_topic, ranges};
use crate::cli::text::shown;
use crate::cli::units::{Count, Took, counted};

/// Which groups.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

/// All that is known of one group.
struct Description {
    group: GroupDescription,
    standings: Vec<Standing>,
}

pub(super) async fn run(arguments: &DescribeArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let names: Vec<&str> = arguments.groups.iter().map(String::as_str).collect();
    let mut failures = Vec::new();
    let mut documents = Vec::new();
    let mut is_first = true;
    for described in admin.describe_groups(&names).await {
        let described = match described {
            Ok(group) => standings(admin, &group)
                .await
                .map(|standings| Description { group, standings }),
            Err(error) => Err(Failure::from(error)),
        };
        match described {
            Ok(description) if output.is_json() => documents.push(description.document()),
            Ok(description) => {
                if !is_first {
                    output.line("")?;
                }
                is_first = false;
                description.show(output)?;
            }
            Err(failure) => failures.push(failure),
        }
    }
    if output.is_json() {
        output.json(&documents)?;
    }
    output.all_or_last(failures)
}

impl Description {
    fn show(&self, output: &mut Output) -> Outcome {
        let palette = output.palette;
        let group = &self.group;
        output.line(palette.strong(shown(&group.group_id)))?;
        let mut fact =
            |name: &str, value: &str| output.line(format_args!("  {}{value}", palette.faint(name)));
        let state = match group.state {
            GroupState::Stable => palette.good(&group.state),
            GroupState::Empty | GroupState::Dead => group.state.to_string(),
            _ => palette.warning(&group.state),
        };
        fact("state        ", &state)?;
        fact("type         ", group.kind.name())?;
        fact("protocol     ", &shown(&group.protocol_type))?;
        fact("assignor     ", &shown(&group.assignor))?;
        if let Some(epoch) = epoch(group) {
            fact("epoch        ", &epoch)?;
        }
        fact("coordinator  ", &group.coordinator.to_string())?;
        fact("lag          ", &lag_in_words(&self.standings))?;

        if !group.members.is_empty() {
            output.line("")?;
            output.table(&members(&group.members, palette))?;
        }
        if !self.standings.is_empty() {
            output.line("")?;
            output.table(&self.partitions(palette))?;
        }
        for standing in &self.standings {
            if let Some(trouble) = standing.out_of_range() {
                output.warn(trouble);
            }
        }
        Ok(())
    }

    fn partitions(&self, palette: Palette) -> Table {
        let columns = [
            "topic",
            "#partition",
            "#committed",
            "#start",
            "#end",
            "#lag",
            "#behind",
            "read by",
        ];
        let unknown = || "?".to_owned();
        let mut table = palette.table(&columns);
        for standing in &self.standings {
            let (start, end) = standing.log.map(|log| (log.start, log.end)).unzip();
            let (committed, lag, behind) = match &standing.committed {
                None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
                Some(committed) => (
                    committed.offset.to_string(),
                    standing.lag().map_or_else(unknown, |lag| Count(lag).to_string()),
                    standing.behind.map_or_else(unknown, waited),
                ),
            };
            let offset = |offset: Option<Offset>| offset.map_or_else(unknown, |offset| offset.to_string());
            let owner = self.group.owner(&standing.partition);
            table.add_row([
                standing.partition.topic.to_string(),
                standing.partition.partition.to_string(),
                committed,
                offset(start),
                offset(end),
                lag,
                behind,
                owner.map_or_else(|| "-".to_owned(), |member| reader(member, &self.group.members)),
            ]);
        }
        table
    }

    fn document(&self) -> Value {
        let group = &self.group;
        let partitions: Vec<Value> = self
            .standings
            .iter()
            .map(|standing| {
                json!({
                    "topic": &*standing.partition.topic,
                    "partition": standing.partition.partition,
                    "committed_offset": standing.committed.as_ref().map(|committed| committed.offset.get()),
                    "metadata": standing.committed.as_ref().map(|committed| &committed.metadata),
                    "start_offset": standing.log.map(|log| log.start.get()),
                    "end_offset": standing.log.map(|log| log.end.get()),
                    "lag": standing.lag(),
                    "lag_ms": standing.behind.map(|behind| u64::try_from(behind.as_millis()).ok()),
                    "member_id": group.owner(&standing.partition).map(|member| &member.member_id),
                })
            })
            .collect();
        json!({
            "group": group.group_id,
            "state": group.state.name(),
            "type": group.kind.name(),
            "protocol_type": group.protocol_type,
            "assignor": group.assignor,
            "epoch": group.group_epoch,
            "assignment_epoch": group.assignment_epoch,
            "coordinator": group.coordinator,
            "lag": total(&self.standings),
            "members": group.members.iter().map(member_document).collect::<Vec<_>>(),
            "partitions": partitions,
        })
    }
}

/// `7`, or `7, assignment of 6` while the assignment is not worked out yet.
fn epoch(group: &GroupDescription) -> Option<String> {
    let epoch = group.group_epoch?;
    match group.assignment_epoch {
        Some(assigned) if assigned != epoch => Some(format!("{epoch}, assignment of {assigned}")),
        _ => Some(epoch.to_string()),
    }
}

fn members(members: &[MemberDescription], palette: Palette) -> Table {
    let has_instances = members.iter().any(|member| member.instance_id.is_some());
    let has_epochs = members.iter().any(|member| member.epoch.is_some());
    let mut columns = vec!["client", "host"];
    columns.extend(has_instances.then_some("instance"));
    columns.extend(has_epochs.then_some("#epoch"));
    columns.extend(["reads", "member"]);
    let mut table = palette.table(&columns);
    for member in members {
        let mut cells = vec![
            shown(&member.client_id).into_owned(),
            shown(host(member)).into_owned(),
        ];
        if has_instances {
            cells.push(shown(member.instance_id.as_deref().unwrap_or_default()).into_owned());
        }
        if has_epochs {
            cells.push(
                member
                    .epoch
                    .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            );
        }
        cells.push(reads(member));
        cells.push(shown(&member.member_id).into_owned());
        table.add_row(cells);
    }
    table
}

/// What a member reads, and what it is to read if that differs.
fn reads(member: &MemberDescription) -> String {
    let now = ranges(&member.assignment);
    let now = shown(&now);
    match &member.target {
        Some(target) if *target != member.assignment => {
            format!("{now}, soon {}", shown(&ranges(target)))
        }
        _ => now.into_owned(),
    }
}

/// A member by the name and place by which people know it, or by its id where others share them.
fn reader(member: &MemberDescription, all: &[MemberDescription]) -> String {
    let is_alike = |other: &&MemberDescription| {
        (&other.client_id, &other.client_host) == (&member.client_id, &member.client_host)
    };
    if 1 < all.iter().filter(is_alike).count() {
        shown(&member.member_id).into_owned()
    } else {
        format!("{} at {}", shown(&member.client_id), shown(host(member)))
    }
}

fn member_document(member: &MemberDescription) -> Value {
    json!({
        "member_id": member.member_id,
        "client_id": member.client_id,
        "host": host(member),
        "instance_id": member.instance_id,
        "rack": member.rack_id,
        "epoch": member.epoch,
        "protocol": if member.is_classic { "classic" } else { "consumer" },
        "topics": member.topics,
        "topic_regex": member.topic_regex,
        "assignment": by_topic(&member.assignment),
        "target": member.target.as_deref().map(by_topic),
    })
}

fn total(standings: &[Standing]) -> u64 {
    standings.iter().filter_map(Standing::lag).sum()
}

/// `12 records in 2 of 6 partitions, the oldest for 3.41 s`.
fn lag_in_words(standings: &[Standing]) -> String {
    let committed = standings.iter().filter(|standing| standing.committed.is_some());
    let committed = u64::try_from(committed.count()).unwrap_or_default();
    if committed == 0 {
        return "unknown, nothing is committed".to_owned();
    }
    let lagging: Vec<_> = standings
        .iter()
        .filter(|standing| standing.lag().is_some_and(|lag| 0 < lag))
        .collect();
    if lagging.is_empty() {
        return "none".to_owned();
    }
    let oldest = lagging.iter().filter_map(|standing| standing.behind).max();
    let since = oldest.map(|oldest| format!(", the oldest for {}", Took(oldest)));
    format!(
        "{} in {} of {}{}",
        counted(total(standings), "record"),
        lagging.len(),
        counted(committed, "partition"),
        since.unwrap_or_default()
    )
}

fn waited(behind: Duration) -> String {
    if behind.is_zero() {
        "-".to_owned()
    } else {
        Took(behind).to_string()
    }
}

#[cfg(test)]
mod tests {
    use log_client::coordinator::CommittedOffset;
    use log_core::model::TopicPartition;

    use super::super::member::tests::group;
    use super::super::standing::LogRange;
    use super::*;

    fn standing(partition: i32, committed: Option<i64>, end: i64, behind_ms: Option<u64>) -> Standing {
        Standing {
            partition: TopicPartition::new("t", partition),
            committed: committed.map(|offset| CommittedOffset::new(Offset::new(offset))),
            log: Some(LogRange {
                start: Offset::ZERO,
                end: Offset::new(end),
            }),
            behind: behind_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn lag_is_summed_up() {
        let check = |standings: &[Standing], expected: &str| {
            assert_eq!(lag_in_words(standings), expected);
        };
        check(&[], "unknown, nothing is committed");
        check(&[standing(0, None, 5, None)], "unknown, nothing is committed");
        check(&[standing(0, Some(5), 5, Some(0))], "none");
        check(
            &[
                standing(0, Some(5), 1005, Some(1500)),
                standing(1, Some(5), 7, Some(3000)),
                standing(2, Some(5), 5, Some(0)),
                standing(3, None, 5, None),
            ],
            "1,002 records in 2 of 3 partitions, the oldest for 3.00 s",
        );
        check(&[standing(0, Some(4), 5, None)], "1 record in 1 of 1 partition");
    }

    #[test]
    fn a_partition_without_a_commit_is_shown_with_its_reader() {
        let mut description = Description {
            group: group(GroupState::Stable, 1),
            standings: vec![standing(0, None, 5, None), standing(1, Some(2), 5, Some(700))],
        };
        description.group.members[0].assignment = vec![TopicPartition::new("t", 0)];
        assert_eq!(
            description.partitions(Palette::PLAIN).trim_fmt(),
            "TOPIC  PARTITION  COMMITTED  START  END  LAG  BEHIND  READ BY\n\
             t              0          -      0    5    -       -  app at 10.0.0.1\n\
             t              1          2      0    5    3  700 ms  -"
        );
        let members = &description.group.members;
        let twin = MemberDescription {
            member_id: "m1".to_owned(),
            ..members[0].clone()
        };
        assert_eq!(reader(&twin, &[members[0].clone(), twin.clone()]), "m1");
        let document = description.document();
        assert_eq!(document["partitions"][0]["member_id"], "m0");
        assert_eq!(document["partitions"][1]["lag_ms"], 700);
        assert_eq!(document["lag"], 3);
        assert_eq!(document["members"][0]["assignment"], json!({ "t": [0] }));
    }

    #[test]
    fn members_show_what_any_of_them_has() {
        let mut described = group(GroupState::Reconciling, 2);
        let columns = |group: &GroupDescription| {
            let table = members(&group.members, Palette::PLAIN).trim_fmt();
            let first = table.lines().next().unwrap();
            first.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(columns(&described), "CLIENT HOST READS MEMBER");
        described.members[0].instance_id = Some("i".to_owned());
        described.members[1].epoch = Some(4);
        described.members[1].assignment = vec![TopicPartition::new("t", 0)];
        described.members[1].target = Some(Vec::new());
        assert_eq!(columns(&described), "CLIENT HOST INSTANCE EPOCH READS MEMBER");
        assert_eq!(reads(&described.members[0]), "-");
        assert_eq!(reads(&described.members[1]), "t 0, soon -");
    }
}
