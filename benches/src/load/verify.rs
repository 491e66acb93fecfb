//! Whether what came back is what was sent: lost, duplicated, reordered and corrupt records are found and counted.
//!
//! Each producer numbers its records by partition, from 0. A reader that passes a partition from its beginning sees these numbers
//! rise one by one. A number that was skipped is missing; if it comes later, it was reordered; if it came before, it is a duplicate.
//! What is missing at the end and was acknowledged is lost.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::record_layout::{NotOurs, Stamp};
use super::result::Verification;

/// How many findings are told in words.
const FINDINGS_MAX: usize = 10;

/// What one producer sent to one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The producer.
    pub producer: u32,
    /// The partition.
    pub partition: u32,
    /// How many records it sent: their sequences are 0 to here.
    pub count: u64,
    /// Of these, the ones that were not acknowledged.
    pub unacknowledged: Vec<Range<u64>>,
}

impl Sent {
    fn acknowledged(&self) -> u64 {
        let open: u64 = self
            .unacknowledged
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        self.count.saturating_sub(open)
    }
}

/// What was seen of one producer in one partition.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// One more than the highest sequence.
    next: u64,
    /// What is missing below it, by first sequence.
    missing: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    InOrder,
    Duplicate,
    Reordered,
}

impl Seen {
    fn take(&mut self, sequence: u64) -> Finding {
        if self.next <= sequence {
            if self.next < sequence {
                self.missing.insert(self.next, sequence);
            }
            self.next = sequence + 1;
            return Finding::InOrder;
        }
        let hole = self.missing.range(..=sequence).next_back();
        let hole = hole.map(|(from, until)| (*from, *until));
        match hole {
            Some((from, until)) if sequence < until => {
                self.missing.remove(&from);
                if from < sequence {
                    self.missing.insert(from, sequence);
                }
                if sequence + 1 < until {
                    self.missing.insert(sequence + 1, until);
                }
                Finding::Reordered
            }
            _ => Finding::Duplicate,
        }
    }

    /// What is not there of the first `count`.
    fn missing_below(&self, count: u64) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = self.missing.iter().map(|(from, until)| *from..*until).collect();
        if self.next < count {
            missing.push(self.next..count);
        }
        missing
    }
}

/// Reads records and remembers what it saw. One for each pass over a topic.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    run: u32,
    seen: HashMap<(u32, u32), Seen>,
    checked: u64,
    foreign: u64,
    duplicated: u64,
    reordered: u64,
    corrupt: u64,
    findings: Vec<String>,
}

impl Verifier {
    /// One for the records of that run.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self {
            run,
            ..Self::default()
        }
    }

    /// Looks at a record that stood at that offset.
    pub fn take(&mut self, partition: u32, offset: i64, value: Option<&[u8]>) -> Option<Stamp> {
        let stamp = match Stamp::read(value.unwrap_or_default(), self.run) {
            Ok(stamp) => stamp,
            Err(NotOurs::Foreign) => {
                self.foreign += 1;
                return None;
            }
            Err(NotOurs::Corrupt) => {
                self.damaged(partition, offset, "its checksum is wrong");
                return None;
            }
        };
        self.checked += 1;
        if stamp.partition != partition {
            let text = format!("it was sent to partition {}", stamp.partition);
            self.damaged(partition, offset, &text);
            return None;
        }
        let finding = self
            .seen
            .entry((stamp.producer, partition))
            .or_default()
            .take(stamp.sequence);
        let (count, word) = match finding {
            Finding::InOrder => return Some(stamp),
            Finding::Duplicate => (&mut self.duplicated, "is there twice"),
            Finding::Reordered => (&mut self.reordered, "stands behind a later one"),
        };
        *count += 1;
        let text = format!(
            "partition {partition}, offset {offset}: record {} of producer {} {word}",
            stamp.sequence, stamp.producer
        );
        self.note(text);
        Some(stamp)
    }

    /// Looks at a record for itself, whatever came before it.
    pub fn glance(&mut self, partition: u32, offset: i64, value: Option<&[u8]>) -> Option<Stamp> {
        match Stamp::read(value.unwrap_or_default(), self.run) {
            Ok(stamp) => {
                self.checked += 1;
                return Some(stamp);
            }
            Err(NotOurs::Foreign) => self.foreign += 1,
            Err(NotOurs::Corrupt) => self.damaged(partition, offset, "its checksum is wrong"),
        }
        None
    }

    /// A record or batch is damaged.
    pub fn damaged(&mut self, partition: u32, offset: i64, what: &str) {
        self.corrupt += 1;
        self.note(format!("partition {partition}, offset {offset}: {what}"));
    }

    fn note(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Another reader of the same pass, which read other partitions.
    pub fn merge(&mut self, other: Self) {
        self.run = other.run;
        self.seen.extend(other.seen);
        self.checked += other.checked;
        self.foreign += other.foreign;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        for finding in other.findings {
            self.note(finding);
        }
    }

    /// The verdict of a pass that should have seen all that was sent.
    #[must_use]
    pub fn conclude(mut self, sent: &[Sent]) -> Verification {
        let mut verdict = Verification::default();
        for one in sent {
            verdict.acknowledged += one.acknowledged();
            let seen = self
                .seen
                .remove(&(one.producer, one.partition))
                .unwrap_or_default();
            let missing = seen.missing_below(one.count);
            let lost: Vec<Range<u64>> = without(&missing, &one.unacknowledged);
            let open: u64 = one
                .unacknowledged
                .iter()
                .map(|range| range.end - range.start)
                .sum();
            let open_missing = total(&missing) - total(&lost);
            verdict.unacknowledged += open - open_missing;
            verdict.lost += total(&lost);
            if let Some(first) = lost.first() {
                let text = format!(
                    "partition {}: {} acknowledged records of producer {} are missing, the first is {}",
                    one.partition,
                    total(&lost),
                    one.producer,
                    first.start
                );
                self.note(text);
            }
            if one.count < seen.next {
                // Nobody sent them: somebody made them up.
                self.corrupt += seen.next - one.count;
                let text = format!(
                    "partition {}: producer {} sent {} records, and number {} is there",
                    one.partition,
                    one.producer,
                    one.count,
                    seen.next - 1
                );
                self.note(text);
            }
        }
        if let Some((producer, partition)) = self.seen.keys().next().copied() {
            self.corrupt += 1;
            self.note(format!(
                "partition {partition}: records of producer {producer}, which sent none there"
            ));
        }
        verdict.checked = self.checked;
        verdict.duplicated = self.duplicated;
        verdict.reordered = self.reordered;
        verdict.corrupt = self.corrupt;
        verdict.findings = self.findings;
        verdict.passed =
            verdict.lost == 0 && verdict.duplicated == 0 && verdict.reordered == 0 && verdict.corrupt == 0;
        verdict
    }
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// What is in `ranges` and not in `taken`; both are in order.
fn without(ranges: &[Range<u64>], taken: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for range in ranges {
        let mut from = range.start;
        for hole in taken {
            if hole.end <= from || range.end <= hole.start {
                continue;
            }
            if from < hole.start {
                left.push(from..hole.start);
            }
            from = from.max(hole.end);
        }
        if from < range.end {
            left.push(from..range.end);
        }
    }
    left
}

/// Several passes over the same records as one verdict: each must have seen all.
#[must_use]
pub fn together(verdicts: impl IntoIterator<Item = Verification>) -> Option<Verification> {
    verdicts.into_iter().reduce(|mut all, one| {
        all.passed &= one.passed;
        all.checked += one.checked;
        all.acknowledged = all.acknowledged.max(one.acknowledged);
        all.lost += one.lost;
        all.duplicated += one.duplicated;
        all.reordered += one.reordered;
        all.corrupt += one.corrupt;
        all.unacknowledged = all.unacknowledged.max(one.unacknowledged);
        all.findings.extend(one.findings);
        all.findings.truncate(FINDINGS_MAX);
        all
    })
}

#[cfg(test)]
mod tests {
    use log_core::record::crc32c;

    use super::*;

    const RUN: u32 = 5;

    fn value(producer: u32, partition: u32, sequence: u64) -> Vec<u8> {
        let stamp = Stamp {
            run: RUN,
            producer,
            partition,
            sequence,
            intended_ns: 1,
        };
        [&stamp.to_bytes(crc32c(b"filling"))[..], b"filling"].concat()
    }

    fn sent(count: u64, unacknowledged: &[Range<u64>]) -> Vec<Sent> {
        vec![Sent {
            producer: 1,
            partition: 0,
            count,
            unacknowledged: unacknowledged.to_vec(),
        }]
    }

    /// Lost, duplicated, reordered, corrupt, unacknowledged.
    fn check(sequences: &[u64], sent: &[Sent], expected: [u64; 5]) {
        let mut verifier = Verifier::new(RUN);
        for (offset, sequence) in (0..).zip(sequences) {
            verifier.take(0, offset, Some(&value(1, 0, *sequence)));
        }
        let found = verifier.conclude(sent);
        let counts = [
            found.lost,
            found.duplicated,
            found.reordered,
            found.corrupt,
            found.unacknowledged,
        ];
        assert_eq!(
            counts, expected,
            "{sequences:?} of {sent:?}: {:?}",
            found.findings
        );
        assert_eq!(found.passed, expected[..4] == [0; 4]);
        assert_eq!(found.passed, found.findings.is_empty());
    }

    #[test]
    fn planted_faults_are_found_for_what_they_are() {
        check(&[0, 1, 2, 3], &sent(4, &[]), [0, 0, 0, 0, 0]);
        check(&[], &sent(3, &[]), [3, 0, 0, 0, 0]);
        check(&[0, 1, 3], &sent(4, &[]), [1, 0, 0, 0, 0]);
        check(&[2, 3], &sent(4, &[]), [2, 0, 0, 0, 0]);
        check(&[0, 1], &sent(4, &[]), [2, 0, 0, 0, 0]);
        check(&[0, 1, 1, 2, 0], &sent(3, &[]), [0, 2, 0, 0, 0]);
        check(&[0, 2, 1, 3], &sent(4, &[]), [0, 0, 1, 0, 0]);
        check(&[4, 2, 2, 0, 1, 3], &sent(5, &[]), [0, 1, 4, 0, 0]);
        check(&[0, 1, 2], &sent(2, &[]), [0, 0, 0, 1, 0]);
        check(&[0, 1, 2], &[], [0, 0, 0, 1, 0]);
    }

    #[test]
    fn what_nobody_acknowledged_may_be_there_or_not() {
        check(&[0, 1], &sent(4, std::slice::from_ref(&(2..4))), [0, 0, 0, 0, 0]);
        check(
            &[0, 1, 2, 3],
            &sent(4, std::slice::from_ref(&(2..4))),
            [0, 0, 0, 0, 2],
        );
        check(&[0, 3], &sent(4, std::slice::from_ref(&(1..2))), [1, 0, 0, 0, 0]);
        check(&[0, 5], &sent(6, &[1..2, 3..4]), [2, 0, 0, 0, 0]);
    }

    #[test]
    fn damage_and_strangers() {
        let mut verifier = Verifier::new(RUN);
        let mut damaged = value(1, 0, 0);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(verifier.take(0, 7, Some(&damaged)), None);
        assert_eq!(
            verifier.take(1, 8, Some(&value(1, 0, 0))),
            None,
            "another partition's"
        );
        assert_eq!(verifier.take(0, 9, Some(b"somebody else's")), None);
        assert_eq!(verifier.take(0, 10, None), None);
        let found = verifier.conclude(&[]);
        assert_eq!((found.corrupt, found.passed, found.checked), (2, false, 1));
        assert!(found.findings[0].contains("offset 7"), "{:?}", found.findings);
    }

    #[test]
    fn passes_count_together() {
        let good = Verification {
            passed: true,
            checked: 3,
            ..Verification::default()
        };
        let bad = Verification {
            lost: 1,
            ..Verification::default()
        };
        assert_eq!(together([]), None);
        let all = together([good, bad]).unwrap();
        assert_eq!((all.passed, all.checked, all.lost), (false, 3, 1));
    }
}
