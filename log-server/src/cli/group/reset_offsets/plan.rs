//! The plan of a reset: for each partition where the group stood, where it is to stand, and why that is not what was
//! asked for.
//!
//! An offset outside of the log is moved to the log's nearest end: there is nothing else to go on from.

use std::cmp::Ordering;

use comfy_table::Table;
use log_client::coordinator::CommittedOffset;
use log_core::model::{Offset, TopicPartition};

use crate::cli::failure::{Failure, Outcome};
use crate::cli::group::standing::LogRange;
use crate::cli::output::Palette;

/// What is asked for of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Start,
    End,
    /// Where it stands, or the end.
    Current,
    Offset(Offset),
    Shift(i64),
    /// A time that the leader is still to be asked for.
    Time,
    /// What the leader answered: the first record of that time, if there is one.
    Found(Option<Offset>),
}

/// What becomes of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) partition: TopicPartition,
    pub(super) old: Option<Offset>,
    pub(super) new: Offset,
    /// Why it is not quite what was asked for.
    pub(super) note: Option<String>,
}

/// Works one partition out.
pub(super) fn step(
    partition: TopicPartition,
    committed: Option<CommittedOffset>,
    wish: Wish,
    log: LogRange,
) -> Outcome<Step> {
    let old = committed.map(|committed| committed.offset);
    let (wanted, note) = match (wish, old) {
        (Wish::Start, _) => (log.start, None),
        (Wish::End, _) => (log.end, None),
        (Wish::Current, Some(old)) => (old, None),
        (Wish::Current, None) => (log.end, Some("nothing is committed: the end".to_owned())),
        (Wish::Offset(offset) | Wish::Found(Some(offset)), _) => (offset, None),
        (Wish::Shift(by), Some(old)) => (Offset::new(old.get().saturating_add(by)), None),
        (Wish::Shift(_), None) => {
            return Err(
                Failure::new(format!("{partition} has no committed offset to shift from")).advise(format!(
                    "name the partitions that have one, as in --topic {}:0,1, or use --all-topics",
                    partition.topic
                )),
            );
        }
        (Wish::Time | Wish::Found(None), _) => (log.end, Some("no record is so late: the end".to_owned())),
    };
    let new = wanted.clamp(log.start, log.end.max(log.start));
    let moved = match wanted.cmp(&new) {
        Ordering::Less => Some(format!("{wanted} is before the first record")),
        Ordering::Greater => Some(format!("{wanted} is behind the end")),
        Ordering::Equal => None,
    };
    Ok(Step {
        partition,
        old,
        new,
        note: moved.or(note),
    })
}

/// The plan for people.
pub(super) fn table(plan: &[Step], palette: Palette) -> Table {
    let mut table = palette.table(&["topic", "#partition", "#old", "#new", "#change", "note"]);
    for step in plan {
        let change = step.old.map(|old| step.new.get().saturating_sub(old.get()));
        table.add_row([
            step.partition.topic.to_string(),
            step.partition.partition.to_string(),
            step.old.map_or_else(|| "-".to_owned(), |old| old.to_string()),
            step.new.to_string(),
            match change {
                None => "-".to_owned(),
                Some(0) => "0".to_owned(),
                Some(change) => format!("{change:+}"),
            },
            step.note.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(old: Option<i64>, wish: Wish) -> Outcome<Step> {
        let log = LogRange {
            start: Offset::new(10),
            end: Offset::new(50),
        };
        let committed = old.map(|old| CommittedOffset::new(Offset::new(old)));
        step(TopicPartition::new("t", 0), committed, wish, log)
    }

    #[test]
    fn every_wish_becomes_an_offset_of_the_log() {
        let check = |old: Option<i64>, wish: Wish, new: i64, note: Option<&str>| {
            let step = made(old, wish).unwrap();
            assert_eq!((step.new.get(), step.note.as_deref()), (new, note), "{wish:?}");
            assert_eq!(step.old.map(Offset::get), old);
        };
        check(None, Wish::Start, 10, None);
        check(Some(20), Wish::End, 50, None);
        check(Some(20), Wish::Current, 20, None);
        check(Some(3), Wish::Current, 10, Some("3 is before the first record"));
        check(None, Wish::Current, 50, Some("nothing is committed: the end"));
        check(None, Wish::Offset(Offset::new(30)), 30, None);
        check(None, Wish::Offset(Offset::new(50)), 50, None);
        check(
            None,
            Wish::Offset(Offset::new(51)),
            50,
            Some("51 is behind the end"),
        );
        check(
            None,
            Wish::Offset(Offset::ZERO),
            10,
            Some("0 is before the first record"),
        );
        check(Some(20), Wish::Shift(5), 25, None);
        check(
            Some(20),
            Wish::Shift(-15),
            10,
            Some("5 is before the first record"),
        );
        check(
            Some(20),
            Wish::Shift(i64::MAX),
            50,
            Some("9223372036854775807 is behind the end"),
        );
        check(None, Wish::Found(Some(Offset::new(40))), 40, None);
        check(None, Wish::Found(None), 50, Some("no record is so late: the end"));
    }

    #[test]
    fn what_is_not_committed_cannot_be_shifted() {
        let failure = made(None, Wish::Shift(1)).unwrap_err();
        assert!(failure.message.unwrap().starts_with("t-0 has no committed"));
    }

    #[test]
    fn the_table_shows_both_and_the_way_between() {
        let plan = [
            made(Some(20), Wish::Start).unwrap(),
            made(Some(20), Wish::End).unwrap(),
            made(Some(20), Wish::Current).unwrap(),
            made(None, Wish::Offset(Offset::ZERO)).unwrap(),
        ];
        assert_eq!(
            table(&plan, Palette::PLAIN).trim_fmt(),
            "TOPIC  PARTITION  OLD  NEW  CHANGE  NOTE\n\
             t              0   20   10     -10\n\
             t              0   20   50     +30\n\
             t              0   20   20       0\n\
             t              0    -   10       -  0 is before the first record"
        );
    }
}
