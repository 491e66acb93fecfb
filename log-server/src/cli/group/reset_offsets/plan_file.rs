//! A plan as a file: lines of `topic,partition,offset`, as Kafka's `kafka-consumer-groups --export` writes them and
//! its `--from-file` reads them. Lines of `group,topic,partition,offset` are read, too; those of other groups are not
//! meant.
//!
//! Kafka's tool quotes names that are long; names of topics hold neither quotes nor commas.

use log_core::model::{Offset, TopicPartition};

use super::plan::Step;

/// Reads a file's text; each partition stands there once.
pub(super) fn parse(text: &str, group: &str) -> Result<Vec<(TopicPartition, Offset)>, String> {
    let mut listed: Vec<(TopicPartition, Offset)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let (of, partition, offset) = parse_line(line)
            .ok_or_else(|| format!("line {number}: {line:?} is not topic,partition,offset"))?;
        if of.is_some_and(|of| of != group) {
            continue;
        }
        if listed.iter().any(|(other, _)| *other == partition) {
            return Err(format!("line {number}: {partition} is named a second time"));
        }
        listed.push((partition, offset));
    }
    if listed.is_empty() {
        return Err(format!("no line is about group {group}"));
    }
    Ok(listed)
}

/// The group, if the line names one, the partition and the offset; none if it is not understood.
fn parse_line(line: &str) -> Option<(Option<&str>, TopicPartition, Offset)> {
    let fields: Vec<&str> = line.split(',').map(unquoted).collect();
    let (of, topic, partition, offset) = match fields.as_slice() {
        [topic, partition, offset] => (None, topic, partition, offset),
        [of, topic, partition, offset] => (Some(*of), topic, partition, offset),
        _ => return None,
    };
    let partition = partition.parse().ok().filter(|partition: &i32| 0 <= *partition)?;
    let offset = offset.parse().ok().filter(|offset: &i64| 0 <= *offset)?;
    if topic.is_empty() {
        return None;
    }
    let partition = TopicPartition::new(*topic, partition);
    Some((of, partition, Offset::new(offset)))
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    let inner = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(field)
}

/// The file of a plan.
pub(super) fn write(plan: &[Step]) -> String {
    let line = |step: &Step| {
        let TopicPartition { topic, partition } = &step.partition;
        format!("{topic},{partition},{}\n", step.new)
    };
    plan.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let step = |topic: &str, partition, new| Step {
            partition: TopicPartition::new(topic, partition),
            old: None,
            new: Offset::new(new),
            note: None,
        };
        let plan = [step("a", 0, 7), step("a.b-c_d", 12, 9_000_000_000)];
        let text = write(&plan);
        assert_eq!(text, "a,0,7\na.b-c_d,12,9000000000\n");
        let read = parse(&text, "g").unwrap();
        let written: Vec<_> = plan.into_iter().map(|step| (step.partition, step.new)).collect();
        assert_eq!(read, written);
    }

    #[test]
    fn files_of_kafkas_tool_are_read() {
        let check = |text: &str, expected: &[(&str, i32, i64)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(topic, partition, offset)| {
                    (TopicPartition::new(*topic, *partition), Offset::new(*offset))
                })
                .collect();
            assert_eq!(parse(text, "g").unwrap(), expected, "{text:?}");
        };
        check(
            "\"a-name-that-is-longer-than-24\",0,5\r\n\r\nb,1,6\r\n",
            &[("a-name-that-is-longer-than-24", 0, 5), ("b", 1, 6)],
        );
        check("g,a,0,5\nother,a,0,9\n\"g\",a,1,6", &[("a", 0, 5), ("a", 1, 6)]);
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        let refused = |text: &str, expected: &str| {
            let error = parse(text, "g").unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        };
        refused("", "no line is about group g");
        refused("other,a,0,5", "no line is about group g");
        refused("a,0,5\na,0", "line 2:");
        refused("a,0,5\n\na,0,6", "line 3: a-0 is named a second time");
        refused("a,-1,5", "line 1:");
        refused("a,0,-5", "line 1:");
        refused(",0,5", "line 1:");
        refused("topic,partition,offset", "line 1:");
    }
}
