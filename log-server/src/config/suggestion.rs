//! The near miss of an unknown name: "did you mean …?".
//! Counts slips of the hand: a letter more, less or other, and two that changed places.

/// The name among `known` that is closest to `name`, when it is close enough to be what was meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; beyond that a suggestion confuses more than it helps.
    let distance_max = name.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?`, or nothing, to be put behind a message about an unknown name.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour, letter case aside.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    // Three rows of the usual table: the one in work, the one above, and the one above that (for swaps).
    let mut row_before: Vec<usize> = Vec::new();
    let mut row_above: Vec<usize> = (0..=right.len()).collect();
    for (i, left_char) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right_char) in right.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&row_above, j) + usize::from(left_char != right_char))
                .min(at(&row_above, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped =
                0 < i && 0 < j && left.get(i - 1) == Some(right_char) && right.get(j - 1) == Some(left_char);
            if swapped {
                cost = cost.min(at(&row_before, j - 1) + 1);
            }
            row.push(cost);
        }
        row_before = std::mem::replace(&mut row_above, row);
    }
    row_above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_find_their_name() {
        let known = [
            "log.segment.bytes",
            "log.segment.delete.delay.ms",
            "num.partitions",
            "data-dir",
        ];
        for (name, expected) in [
            ("log.segmnet.bytes", Some("log.segment.bytes")),
            ("log.segment.byte", Some("log.segment.bytes")),
            ("num-partitions", Some("num.partitions")),
            ("NUM.PARTITIONS", Some("num.partitions")),
            ("datadir", Some("data-dir")),
            ("zookeeper.connect", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(did_you_mean("x", known), "");
        assert_eq!(did_you_mean("datadir", known), "; did you mean data-dir?");
    }

    #[test]
    fn a_swap_is_one_step() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
