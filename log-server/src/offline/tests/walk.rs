//! The walk over one file: it shows every batch, finds its way past damage, and ends on whatever bytes it is given.

use std::path::Path;

use log_core::fs::FileSystem;
use log_core::fs::mem::MemFileSystem;

use super::batch_of;
use crate::offline::segment_walk::{Piece, SegmentWalk};

const PATH: &str = "/00000000000000000000.log";

/// What the walk shows of a file with these contents, in short.
fn walk(contents: &[u8]) -> Vec<String> {
    let files = MemFileSystem::new();
    files.replace(Path::new(PATH), contents).unwrap();
    let mut walk = SegmentWalk::open(&files, Path::new(PATH)).unwrap();
    let mut shown = Vec::new();
    let mut covered = 0;
    while let Some(piece) = walk.next_piece().unwrap() {
        let (range, text) = match piece {
            Piece::Batch(found) => {
                let start = found.position.get();
                let end = start + u64::try_from(found.bytes.len()).unwrap();
                let state = if found.checksum.is_ok() { "batch" } else { "bad" };
                (start..end, format!("{state} {start}"))
            }
            Piece::Damage { range, .. } => (range.clone(), format!("damage {range:?}")),
            Piece::Tail { range, cause: None } => (range.clone(), format!("space {range:?}")),
            Piece::Tail { range, .. } => (range.clone(), format!("tail {range:?}")),
        };
        assert_eq!(range.start, covered, "no byte is passed over in silence");
        covered = range.end;
        shown.push(text);
    }
    assert_eq!(covered, u64::try_from(contents.len()).unwrap());
    shown
}

#[test]
fn batches_damage_and_space_are_told_apart() {
    let (one, two) = (batch_of(0), batch_of(1));
    let (a, b) = (one.len(), two.len());
    let both = [&one[..], &two[..]].concat();
    assert_eq!(walk(&[]), Vec::<String>::new());
    assert_eq!(walk(&both), ["batch 0".to_owned(), format!("batch {a}")]);

    let with_space = [&both[..], &[0; 500][..]].concat();
    let expected = [
        "batch 0".to_owned(),
        format!("batch {a}"),
        format!("space {}..{}", a + b, a + b + 500),
    ];
    assert_eq!(walk(&with_space), expected);

    let mut flipped = both.clone();
    flipped[a - 1] ^= 1;
    assert_eq!(walk(&flipped), ["bad 0".to_owned(), format!("batch {a}")]);

    let mut wrong_length = both.clone();
    wrong_length[10] ^= 1;
    assert_eq!(
        walk(&wrong_length),
        [format!("damage 0..{a}"), format!("batch {a}")]
    );

    let torn = &both[..a + b - 1];
    assert_eq!(
        walk(torn),
        ["batch 0".to_owned(), format!("tail {a}..{}", a + b - 1)]
    );

    let hole = [&one[..], &vec![0; 70_000][..], &two[..]].concat();
    let expected = [
        "batch 0".to_owned(),
        format!("damage {a}..{}", a + 70_000),
        format!("batch {}", a + 70_000),
    ];
    assert_eq!(walk(&hole), expected);
}

#[test]
fn a_batch_behind_more_damage_than_a_window_is_found() {
    let one = batch_of(0);
    for distance in [(1 << 20) - 30, (1 << 20) + 30, 3 << 20] {
        let contents = [&vec![0xee; distance][..], &one[..]].concat();
        assert_eq!(
            walk(&contents),
            [format!("damage 0..{distance}"), format!("batch {distance}")]
        );
    }
}

#[test]
fn any_bytes_are_walked_to_their_end() {
    let seed = std::env::var("STRATALOG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..300 {
        let mut contents: Vec<u8> = (0..4).flat_map(batch_of).collect();
        for _ in 0..random.usize(..8) {
            let at = random.usize(..contents.len());
            match random.u8(..3) {
                0 => contents[at] = random.u8(..),
                1 => contents.truncate(at.max(1)),
                _ => contents.insert(at, random.u8(..)),
            }
        }
        let shown = std::panic::catch_unwind(|| walk(&contents));
        assert!(shown.is_ok(), "round {round}; STRATALOG_SEED={seed} replays it");
    }
}
