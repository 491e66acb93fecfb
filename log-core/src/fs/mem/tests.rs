//! What a crash may leave and what a fault does, each shown once by name; then random workloads, whose every
//! image must be one that a file system could leave.

use std::collections::BTreeSet;
use std::io::IoSlice;

use super::*;
use crate::fs::FsErrorKind;
use crate::fs::mem::fault::{FaultKind, FaultTarget};
use crate::fs::mem::state::SWEEP_FILES_MIN;
use crate::fs::tests::seed;
use crate::fs::whole_file::parent_of;

const SEEDS: u64 = 300;

fn files() -> MemFileSystem {
    let files = MemFileSystem::new();
    files.create_directory(Path::new("/d")).unwrap();
    files
}

fn write(file: &Arc<dyn File>, position: u64, bytes: &[u8]) -> Result<(), FsError> {
    file.write_at(position, &[IoSlice::new(bytes)])
}

/// A file of this content, on the disk.
fn synced(files: &MemFileSystem, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let path = Path::new(path);
    let file = files.create(path).unwrap();
    write(&file, 0, bytes).unwrap();
    file.sync_data().unwrap();
    files.sync_directory(parent_of(path)).unwrap();
    file
}

fn read(files: &MemFileSystem, path: &str) -> Option<Vec<u8>> {
    match files.read(Path::new(path), u64::MAX) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            assert_eq!(error.kind, FsErrorKind::NotFound);
            None
        }
    }
}

/// What is found at `path` after every one of [`SEEDS`] crashes.
fn outcomes<T: Ord>(files: &MemFileSystem, path: &str, see: impl Fn(Option<Vec<u8>>) -> T) -> BTreeSet<T> {
    (0..SEEDS)
        .map(|seed| see(read(&files.crash(CrashMode::Random { seed }), path)))
        .collect()
}

#[track_caller]
fn assert_kind<T: fmt::Debug>(outcome: Result<T, FsError>, kind: FsErrorKind) {
    assert_eq!(outcome.unwrap_err().kind, kind);
}

// -- crashes

/// A creation that is tried again must not be taken for done where only its sync is missing.
#[test]
fn a_directory_that_exists_is_as_durable_as_a_new_one() {
    let files = files();
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::SyncDirectory, 1, FaultKind::Io));
    let path = Path::new("/d/topic-0");
    assert_kind(files.create_directory(path), FsErrorKind::Disk);
    assert!(!files.crash(CrashMode::SyncedOnly).exists(path).unwrap());
    files.create_directory(path).unwrap();
    assert!(files.crash(CrashMode::SyncedOnly).exists(path).unwrap());
}

#[test]
fn only_what_was_synced_survives_a_power_cut_for_certain() {
    let files = files();
    let file = synced(&files, "/d/a", b"synced");
    write(&file, 6, b", not synced").unwrap();
    let image = files.crash(CrashMode::SyncedOnly);
    assert_eq!(read(&image, "/d/a").unwrap(), b"synced");
    let seen = outcomes(&files, "/d/a", Option::unwrap);
    assert!(seen.iter().all(|bytes| bytes.starts_with(b"synced")));
    // Either length, and with the longer one both contents: the length may come without the page.
    assert!(seen.contains(b"synced".as_slice()));
    assert!(seen.contains(b"synced, not synced".as_slice()));
    assert!(seen.contains(b"synced\0\0\0\0\0\0\0\0\0\0\0\0".as_slice()));
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_killed_process_leaves_everything_to_a_later_power_cut() {
    let files = files();
    let file = synced(&files, "/d/a", b"synced");
    write(&file, 6, b", not synced").unwrap();
    files.create(Path::new("/d/b")).unwrap();
    let killed = files.crash(CrashMode::All);
    assert_eq!(read(&killed, "/d/a").unwrap(), b"synced, not synced");
    assert_eq!(read(&killed, "/d/b").unwrap(), b"");
    let cut = killed.crash(CrashMode::SyncedOnly);
    assert_eq!(read(&cut, "/d/a").unwrap(), b"synced");
    assert_eq!(read(&cut, "/d/b"), None);
    // The next process syncs what it found.
    killed.open(Path::new("/d/a")).unwrap().sync_data().unwrap();
    killed.sync_directory(Path::new("/d")).unwrap();
    let cut = killed.crash(CrashMode::SyncedOnly);
    assert_eq!(read(&cut, "/d/a").unwrap(), b"synced, not synced");
    assert_eq!(read(&cut, "/d/b").unwrap(), b"");
}

#[test]
fn pages_survive_singly_and_torn_between_sectors() {
    let files = files();
    let file = synced(&files, "/d/a", &[1; 2 * 4096]);
    write(&file, 0, &[2; 2 * 4096]).unwrap();
    let sectors = |bytes: Option<Vec<u8>>| -> Vec<u8> {
        let bytes = bytes.unwrap();
        assert_eq!(bytes.len(), 2 * 4096);
        (bytes.chunks(512))
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]));
                sector[0]
            })
            .collect()
    };
    let seen = outcomes(&files, "/d/a", sectors);
    for wanted in [[1; 16], [2; 16]] {
        assert!(seen.contains(wanted.as_slice()));
    }
    assert!(
        seen.iter()
            .any(|sectors| sectors[..8] == [1; 8] && sectors[8..] == [2; 8])
    );
    assert!(
        seen.iter()
            .any(|sectors| sectors[..8] == [2; 8] && sectors[8..] == [1; 8])
    );
    assert!(
        seen.iter()
            .any(|sectors| sectors[..8].iter().any(|sector| *sector != sectors[0]))
    );
}

#[test]
fn a_page_may_survive_as_it_was_in_between() {
    let files = files();
    let file = synced(&files, "/d/a", b"000");
    for state in [b"111", b"222", b"333"] {
        write(&file, 0, state).unwrap();
    }
    let seen = outcomes(&files, "/d/a", Option::unwrap);
    let wanted: BTreeSet<Vec<u8>> = [b"000", b"111", b"222", b"333"]
        .map(|state| state.to_vec())
        .into();
    assert_eq!(seen, wanted);
}

#[test]
fn a_cut_that_was_not_synced_may_be_undone() {
    let files = files();
    let old: Vec<u8> = [1; 4096 + 100].into();
    let file = synced(&files, "/d/a", &old);
    file.set_length(100).unwrap();
    assert_eq!(read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap(), old);
    let seen = outcomes(&files, "/d/a", Option::unwrap);
    assert!(seen.contains(&old) && seen.contains(&vec![1; 100]));
    // What was left of the cut page is in place already, and may hold the new before the old.
    write(&file, 100, &[2; 600]).unwrap();
    let seen = outcomes(&files, "/d/a", Option::unwrap);
    assert!(
        seen.iter()
            .any(|bytes| bytes.len() == 4196 && bytes[100..700] == [2; 600] && bytes[4096] == 1)
    );
    assert!(
        seen.iter()
            .any(|bytes| *bytes == [[1; 100].as_slice(), &[2; 600]].concat())
    );
    // The pages behind the cut are given back with it: new ones never stand in an uncut file.
    write(&file, 700, &[2; 4000]).unwrap();
    for bytes in outcomes(&files, "/d/a", Option::unwrap) {
        let is_new = |bytes: &[u8]| bytes.contains(&2);
        assert!(bytes.len() != old.len() || !is_new(&bytes[4096..]));
    }
    file.sync_data().unwrap();
    let image = files.crash(CrashMode::SyncedOnly);
    let wanted = [[1; 100].as_slice(), &[2; 4600]].concat();
    assert_eq!(read(&image, "/d/a").unwrap(), wanted);
    assert_eq!(outcomes(&files, "/d/a", Option::unwrap), BTreeSet::from([wanted]));
}

#[test]
fn what_was_cut_off_does_not_come_back_when_the_file_grows() {
    let files = files();
    let file = synced(&files, "/d/a", &[1; 8192]);
    file.set_length(100).unwrap();
    file.allocate(0..6000).unwrap();
    let seen = outcomes(&files, "/d/a", Option::unwrap);
    let lengths: BTreeSet<usize> = seen.iter().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([100, 6000, 8192]));
    for bytes in seen.iter().filter(|bytes| bytes.len() == 6000) {
        assert!(bytes[100..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn reserved_space_survives_as_zeros_or_not_at_all() {
    let files = files();
    let file = synced(&files, "/d/a", b"x");
    file.allocate(0..10_000).unwrap();
    let seen = outcomes(&files, "/d/a", |bytes| bytes.unwrap().len());
    assert_eq!(seen, BTreeSet::from([1, 10_000]));
    file.sync_data().unwrap();
    let bytes = read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap();
    assert_eq!(bytes.len(), 10_000);
    assert!(bytes[1..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_name_is_durable_with_its_directory_only() {
    let files = files();
    let file = files.create(Path::new("/d/a")).unwrap();
    write(&file, 0, b"bytes").unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&files.crash(CrashMode::SyncedOnly), "/d/a"), None);
    let seen = outcomes(&files, "/d/a", |bytes| bytes.is_some());
    assert_eq!(seen, BTreeSet::from([false, true]));
    files.sync_directory(Path::new("/d")).unwrap();
    assert_eq!(
        read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap(),
        b"bytes"
    );

    files.remove_file(Path::new("/d/a")).unwrap();
    drop(file);
    assert_eq!(
        read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap(),
        b"bytes"
    );
    let seen = outcomes(&files, "/d/a", |bytes| bytes.is_some());
    assert_eq!(seen, BTreeSet::from([false, true]));
    files.sync_directory(Path::new("/d")).unwrap();
    assert_eq!(
        outcomes(&files, "/d/a", |bytes| bytes.is_some()),
        BTreeSet::from([false])
    );
}

#[test]
fn a_rename_survives_wholly_or_not_at_all() {
    let files = files();
    synced(&files, "/d/a", b"old");
    synced(&files, "/d/b", b"new");
    files.rename(Path::new("/d/b"), Path::new("/d/a")).unwrap();
    let seen: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let image = files.crash(CrashMode::Random { seed });
            (read(&image, "/d/a"), read(&image, "/d/b"))
        })
        .collect();
    let before = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    let after = (Some(b"new".to_vec()), None);
    assert_eq!(seen, BTreeSet::from([before, after]));
}

#[test]
fn a_directory_that_is_renamed_keeps_its_contents() {
    let files = files();
    files.create_directory(Path::new("/d/topic-0")).unwrap();
    synced(&files, "/d/topic-0/log", b"bytes");
    files
        .rename(Path::new("/d/topic-0"), Path::new("/d/topic-0-delete"))
        .unwrap();
    let seen: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let image = files.crash(CrashMode::Random { seed });
            let found = ["/d/topic-0/log", "/d/topic-0-delete/log"].map(|path| read(&image, path));
            assert_eq!(found.iter().flatten().count(), 1);
            found[0].is_some()
        })
        .collect();
    assert_eq!(seen.len(), 2);
    files.remove_directory(Path::new("/d/topic-0-delete")).unwrap();
    files.sync_directory(Path::new("/d")).unwrap();
    for seed in 0..SEEDS {
        let image = files.crash(CrashMode::Random { seed });
        assert_eq!(image.list(Path::new("/d")).unwrap(), []);
    }
}

#[test]
fn changes_of_names_survive_in_any_order_that_makes_sense() {
    let files = files();
    for name in ["/d/a", "/d/b", "/d/c"] {
        files.create(Path::new(name)).unwrap();
    }
    let seen: BTreeSet<Vec<String>> = (0..SEEDS)
        .map(|seed| {
            let image = files.crash(CrashMode::Random { seed });
            let entries = image.list(Path::new("/d")).unwrap();
            entries.into_iter().map(|entry| entry.name).collect()
        })
        .collect();
    assert_eq!(seen.len(), 8, "every subset: {seen:?}");
    // A name that was taken anew cannot come back without having been given up.
    files.sync_directory(Path::new("/d")).unwrap();
    files.remove_file(Path::new("/d/a")).unwrap();
    synced_without_name(&files, "/d/a", b"second");
    let seen = outcomes(&files, "/d/a", |bytes| bytes);
    let wanted = [Some(Vec::new()), None, Some(b"second".to_vec())];
    assert_eq!(seen, BTreeSet::from(wanted));
}

#[test]
fn a_file_whose_name_is_taken_by_another_is_not_lost() {
    let files = files();
    synced(&files, "/d/a", b"first");
    files.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    synced_without_name(&files, "/d/a", b"second");
    let seen: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let image = files.crash(CrashMode::Random { seed });
            (read(&image, "/d/a"), read(&image, "/d/b"))
        })
        .collect();
    let [first, second] = [b"first".to_vec(), b"second".to_vec()];
    let wanted = [
        (Some(first.clone()), None),
        (None, Some(first.clone())),
        (Some(second), Some(first)),
    ];
    assert_eq!(seen, BTreeSet::from(wanted));
}

#[test]
fn a_journal_keeps_the_first_changes_of_all() {
    let files = files();
    let created: Vec<String> = (10..30).map(|name| name.to_string()).collect();
    for name in &created {
        files.create(&Path::new("/d").join(name)).unwrap();
    }
    let is_cut_in_the_middle = |seed| {
        let entries = files
            .crash(CrashMode::Random { seed })
            .list(Path::new("/d"))
            .unwrap();
        let found = entries.into_iter().map(|entry| entry.name);
        (5..15).contains(&found.len())
            && created
                .iter()
                .cloned()
                .zip(found)
                .all(|(name, found)| name == found)
    };
    // One in six; were the changes independent, one in many thousands.
    assert!(SEEDS / 20 < (0..SEEDS).filter(|seed| is_cut_in_the_middle(*seed)).count() as u64);
}

fn synced_without_name(files: &MemFileSystem, path: &str, bytes: &[u8]) {
    let file = files.create(Path::new(path)).unwrap();
    write(&file, 0, bytes).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_synced_directory_takes_what_its_changes_build_on_along() {
    let files = files();
    files.create_directory(Path::new("/e")).unwrap();
    synced_without_name(&files, "/d/a", b"moved");
    synced_without_name(&files, "/d/other", b"left");
    files.rename(Path::new("/d/a"), Path::new("/e/a")).unwrap();
    files
        .rename(Path::new("/d/other"), Path::new("/d/third"))
        .unwrap();
    files.sync_directory(Path::new("/e")).unwrap();
    let image = files.crash(CrashMode::SyncedOnly);
    assert_eq!(read(&image, "/e/a").unwrap(), b"moved");
    assert_eq!(image.list(Path::new("/d")).unwrap(), []);
    files.sync_directory(Path::new("/d")).unwrap();
    let image = files.crash(CrashMode::SyncedOnly);
    assert_eq!(image.list(Path::new("/d")).unwrap().len(), 1);
    assert_eq!(read(&image, "/d/third").unwrap(), b"left");
}

#[test]
fn replacing_a_file_survives_a_stop_at_every_step() {
    let complete = files();
    complete.replace(Path::new("/d/a"), b"old").unwrap();
    let before = complete.counters().operations();
    complete.replace(Path::new("/d/a"), b"new").unwrap();
    let steps = complete.counters().operations() - before;
    assert_eq!(steps, 5, "create, write, sync, rename, sync of the directory");

    let mut seen = BTreeSet::new();
    for stop_at in 1..=steps + 1 {
        let files = files();
        files.replace(Path::new("/d/a"), b"old").unwrap();
        files.set_faults(FaultPlan::new().stop_at(stop_at));
        let is_done = files.replace(Path::new("/d/a"), b"new").is_ok();
        assert_eq!(is_done, stop_at == steps + 1);
        let random = (0..SEEDS).map(|seed| CrashMode::Random { seed });
        for mode in random.chain([CrashMode::SyncedOnly, CrashMode::All]) {
            let image = files.crash(mode);
            let found = read(&image, "/d/a").unwrap();
            assert!(
                found == b"new" || (found == b"old" && !is_done),
                "{mode:?}, step {stop_at}"
            );
            seen.insert((stop_at, found));
            // What is left over is in nobody's way.
            image.replace(Path::new("/d/a"), b"newer").unwrap();
            let after = image.crash(CrashMode::SyncedOnly);
            assert_eq!(read(&after, "/d/a").unwrap(), b"newer");
        }
    }
    assert!(seen.contains(&(5, b"old".to_vec())) && seen.contains(&(5, b"new".to_vec())));
}

#[test]
fn an_image_has_no_locks_no_handles_and_no_faults() {
    let files = files();
    let file = synced(&files, "/d/a", b"sliced");
    let _lock = files.lock_directory(Path::new("/d")).unwrap();
    files.sync_directory(Path::new("/d")).unwrap();
    let map = file.map(100).unwrap();
    let _slice = map.slice(0..6).unwrap();
    files.set_faults(FaultPlan::new().stop_at(1));
    for mode in [
        CrashMode::All,
        CrashMode::SyncedOnly,
        CrashMode::Random { seed: 1 },
    ] {
        let image = files.crash(mode);
        assert_kind(files.lock_directory(Path::new("/d")), FsErrorKind::Locked);
        let _lock = image.lock_directory(Path::new("/d")).unwrap();
        assert_eq!(image.counters(), Counters::default());
        assert_eq!(image.map_budget().used(), 0);
        let reopened = image.open(Path::new("/d/a")).unwrap();
        write(&reopened, 0, b"changed").unwrap();
        assert_eq!(read(&image, "/d/a").unwrap(), b"changed");
        assert_eq!(read(&files, "/d/a").unwrap(), b"sliced");
    }
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let files = files();
    let file = synced(&files, "/d/a", &vec![1; 50_000]);
    write(&file, 100, &vec![2; 60_000]).unwrap();
    for name in 0..20 {
        files.create(Path::new(&format!("/d/{name}"))).unwrap();
    }
    for seed in 0..20 {
        let images = [(); 2].map(|()| files.crash(CrashMode::Random { seed }));
        let [first, second] =
            images.map(|image| (image.list(Path::new("/d")).unwrap(), read(&image, "/d/a")));
        assert!(first == second);
    }
}

/// Random writes, cuts and syncs of one file: each byte of each image must be one that the file held at that
/// place since the last sync, or a zero of a file that grew; each length one that it had.
#[test]
fn every_image_of_a_random_file_is_one_that_a_disk_could_hold() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let files = files();
        let path = Path::new("/d/a");
        let file = synced(&files, "/d/a", b"");
        // All states since the last sync, the durable one first.
        let mut history: Vec<Vec<u8>> = vec![Vec::new()];
        for step in 0..40 {
            let start = random.usize(0..12_000);
            let end = start + random.usize(1..6_000);
            let (from, to) = (start as u64, end as u64);
            match random.u8(0..8) {
                0..=3 => write(&file, from, &vec![random.u8(1..); end - start]).unwrap(),
                4 => file.zero_fill(from..to).unwrap(),
                5 => file.set_length(from).unwrap(),
                6 => file.allocate(from..to).unwrap(),
                _ => {
                    file.sync_data().unwrap();
                    history.clear();
                }
            }
            history.push(files.read(path, u64::MAX).unwrap());
            let context = format!("STRATALOG_SEED={seed}, step {step}");
            let synced_only = read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap();
            assert!(synced_only == history[0], "{context}");
            let killed = read(&files.crash(CrashMode::All), "/d/a").unwrap();
            assert!(Some(&killed) == history.last(), "{context}");
            let mode = CrashMode::Random { seed: random.u64(..) };
            let after = files.crash(mode);
            let image = read(&after, "/d/a").unwrap();
            assert!(
                history.iter().any(|state| state.len() == image.len()),
                "{context}, {mode:?}"
            );
            for (position, byte) in image.iter().enumerate() {
                let is_possible = |state: &Vec<u8>| state.get(position).copied().unwrap_or(0) == *byte;
                assert!(
                    history.iter().any(is_possible),
                    "{context}, {mode:?}, byte {position}"
                );
            }
            // Nothing hides behind the end, for a longer file to show.
            (after.open(path).unwrap().set_length(20_000)).unwrap();
            let longer = read(&after, "/d/a").unwrap();
            assert!(
                longer[image.len()..].iter().all(|byte| *byte == 0),
                "{context}, {mode:?}"
            );
        }
    }
}

// -- faults

#[test]
fn a_fault_strikes_the_nth_time_once_or_from_then_on() {
    let files = files();
    let file = synced(&files, "/d/a", b"");
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Write, 2, FaultKind::Io));
    let outcomes: Vec<bool> = (0..4).map(|_| write(&file, 0, b"x").is_ok()).collect();
    assert_eq!(outcomes, [true, false, true, true]);
    files.set_faults(FaultPlan::new().fail_from(FaultTarget::Write, 2, FaultKind::NoSpace));
    let outcomes: Vec<bool> = (0..4).map(|_| write(&file, 0, b"x").is_ok()).collect();
    assert_eq!(outcomes, [true, false, false, false]);
    assert_kind(write(&file, 0, b"x"), FsErrorKind::NoSpace);
    files.set_faults(FaultPlan::new());
    write(&file, 0, b"x").unwrap();
}

#[test]
fn each_target_fails_alone_and_changes_nothing() {
    type Step = fn(&MemFileSystem, &Arc<dyn File>) -> Result<(), FsError>;
    let steps: [(FaultTarget, Step); 12] = [
        (FaultTarget::Open, |files, _| {
            files.open(Path::new("/d/a")).map(drop)
        }),
        (FaultTarget::Write, |_, file| write(file, 0, b"x")),
        (FaultTarget::ZeroFill, |_, file| file.zero_fill(0..9)),
        (FaultTarget::Allocate, |_, file| file.allocate(0..9)),
        (FaultTarget::SetLength, |_, file| file.set_length(1)),
        (FaultTarget::Sync, |_, file| file.sync_data()),
        (FaultTarget::SyncDirectory, |files, _| {
            files.sync_directory(Path::new("/d"))
        }),
        (FaultTarget::Create, |files, _| {
            files.create(Path::new("/d/b")).map(drop)
        }),
        (FaultTarget::CreateDirectory, |files, _| {
            files.create_directory(Path::new("/d/c"))
        }),
        (FaultTarget::Rename, |files, _| {
            files.rename(Path::new("/d/a"), Path::new("/d/z"))
        }),
        (FaultTarget::Remove, |files, _| {
            files.remove_file(Path::new("/d/a"))
        }),
        (FaultTarget::Read, |_, file| {
            file.read_at(0, &mut [0; 3]).map(drop)
        }),
    ];
    for (target, step) in steps {
        for (other, other_step) in steps {
            let files = files();
            let file = synced(&files, "/d/a", b"abc");
            files.set_faults(FaultPlan::new().fail_from(target, 1, FaultKind::Io));
            let before = (files.list(Path::new("/d")).unwrap(), file.length().unwrap());
            assert_kind(step(&files, &file), FsErrorKind::Disk);
            let after = (files.list(Path::new("/d")).unwrap(), file.length().unwrap());
            assert_eq!(before, after, "{target:?}");
            // A new directory is synced into its parent.
            let is_part = other == FaultTarget::CreateDirectory && target == FaultTarget::SyncDirectory;
            assert_eq!(
                other_step(&files, &file).is_err(),
                other == target || is_part,
                "{other:?} while {target:?} fails"
            );
        }
    }
}

#[test]
fn a_fault_can_be_kept_to_a_path() {
    let files = files();
    let (a, b) = (synced(&files, "/d/a", b""), synced(&files, "/d/b", b""));
    let plan = FaultPlan::new()
        .fail_from(FaultTarget::Write, 2, FaultKind::Io)
        .only_in("/b");
    files.set_faults(plan);
    for _ in 0..3 {
        write(&a, 0, b"x").unwrap();
    }
    write(&b, 0, b"x").unwrap();
    assert_kind(write(&b, 0, b"x"), FsErrorKind::Disk);
    let plan = FaultPlan::new().fail_once(FaultTarget::Open, 1, FaultKind::OutOfResources);
    files.set_faults(plan.only_in("/b"));
    files.open(Path::new("/d/a")).unwrap();
    assert_kind(
        files.open_read_only(Path::new("/d/b")),
        FsErrorKind::OutOfResources,
    );
}

#[test]
fn a_short_write_lands_in_part() {
    let files = files();
    let file = synced(&files, "/d/a", b"");
    let plan = FaultPlan::new()
        .fail_once(FaultTarget::Write, 1, FaultKind::NoSpace)
        .after_bytes(5);
    files.set_faults(plan);
    let parts = [b"123".as_slice(), b"4567"].map(IoSlice::new);
    assert_kind(file.write_at(2, &parts), FsErrorKind::NoSpace);
    assert_eq!(file.length().unwrap(), 7);
    assert_eq!(read(&files, "/d/a").unwrap(), b"\0\x0012345");
}

#[test]
fn a_full_disk_takes_what_fits_and_more_when_space_is_given_back() {
    let files = files();
    let other = synced(&files, "/d/other", &[1; 2 * 4096]);
    let file = synced(&files, "/d/a", &[1; 10]);
    files.set_space(5 * 4096);
    let directory = Path::new("/d");
    assert_eq!(files.space(directory).unwrap().available, 2 * 4096);
    // In the page it has, it may go on.
    write(&file, 10, &[2; 4086]).unwrap();
    assert_kind(write(&file, 4096, &[3; 3 * 4096]), FsErrorKind::NoSpace);
    assert_eq!(file.length().unwrap(), 3 * 4096);
    assert_kind(file.allocate(0..4 * 4096), FsErrorKind::NoSpace);
    assert_kind(file.zero_fill(3 * 4096..4 * 4096), FsErrorKind::NoSpace);
    assert_kind(files.replace(Path::new("/d/c"), b"x"), FsErrorKind::NoSpace);
    assert_eq!(files.space(directory).unwrap().available, 0);
    // A name that goes gives nothing back while the file is open.
    files.remove_file(Path::new("/d/other")).unwrap();
    assert_kind(file.allocate(0..4 * 4096), FsErrorKind::NoSpace);
    drop(other);
    file.allocate(0..4 * 4096).unwrap();
    files.replace(Path::new("/d/c"), b"x").unwrap();
    assert_kind(file.allocate(0..5 * 4096), FsErrorKind::NoSpace);
    // What was allocated can be written, whatever happened since.
    write(&file, 3 * 4096, &[4; 4096]).unwrap();
    file.set_length(4096).unwrap();
    assert_eq!(files.space(directory).unwrap().available, 3 * 4096);
    file.sync_data().unwrap();
    files.sync_directory(directory).unwrap();
    let image = files.crash(CrashMode::SyncedOnly);
    assert_eq!(image.space(directory).unwrap(), files.space(directory).unwrap());
}

#[test]
fn a_failed_sync_loses_its_pages_for_good() {
    let files = files();
    let file = synced(&files, "/d/a", b"old");
    write(&file, 0, b"new, and longer").unwrap();
    write(&file, 4096, b"far").unwrap();
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io));
    assert_kind(file.sync_data(), FsErrorKind::Disk);
    assert_eq!(&read(&files, "/d/a").unwrap()[..15], b"new, and longer");
    // The second sync reports success, and means nothing.
    file.sync_data().unwrap();
    assert_eq!(read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap(), b"old");
    // A page that is written anew is saved whole; the other stays lost, a hole under the new length.
    write(&file, 4099, b"ther").unwrap();
    file.sync_data().unwrap();
    let found = read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap();
    assert_eq!(&found[..15], b"old\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&found[4096..], b"farther");
    let seen = outcomes(&files, "/d/a", |bytes| bytes.unwrap()[..15].to_vec());
    assert!(
        seen.contains(b"new, and longer".as_slice()),
        "the disk may have it all the same"
    );
}

#[test]
fn a_failed_sync_is_told_once_to_each_handle_that_was_open() {
    let files = files();
    let first = synced(&files, "/d/a", b"old");
    let second = files.open(Path::new("/d/a")).unwrap();
    write(&first, 0, b"new").unwrap();
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io));
    assert_kind(second.sync_data(), FsErrorKind::Disk);
    let third = files.open(Path::new("/d/a")).unwrap();
    third.sync_data().unwrap();
    second.sync_data().unwrap();
    assert_kind(first.sync_data(), FsErrorKind::Disk);
    first.sync_data().unwrap();
    assert_eq!(read(&files.crash(CrashMode::SyncedOnly), "/d/a").unwrap(), b"old");
}

#[test]
fn a_stopped_machine_does_nothing_more() {
    let files = files();
    let file = synced(&files, "/d/a", b"abc");
    let before = files.counters().operations();
    files.set_faults(FaultPlan::new().stop_at(3));
    write(&file, 3, b"d").unwrap();
    file.sync_data().unwrap();
    assert_kind(write(&file, 4, b"e"), FsErrorKind::Disk);
    assert_kind(file.sync_data(), FsErrorKind::Disk);
    assert_kind(files.create(Path::new("/d/b")), FsErrorKind::Disk);
    assert_kind(files.remove_file(Path::new("/d/a")), FsErrorKind::Disk);
    assert_eq!(files.counters().operations() - before, 6);
    for mode in [
        CrashMode::SyncedOnly,
        CrashMode::All,
        CrashMode::Random { seed: 3 },
    ] {
        assert_eq!(read(&files.crash(mode), "/d/a").unwrap(), b"abcd");
    }
}

#[test]
fn operations_are_counted_by_sort() {
    let files = MemFileSystem::new();
    files.create_directory(Path::new("/a/b")).unwrap();
    let file = files.create(Path::new("/a/f")).unwrap();
    write(&file, 0, b"x").unwrap();
    file.zero_fill(1..2).unwrap();
    file.allocate(0..10).unwrap();
    file.set_length(5).unwrap();
    file.sync_data().unwrap();
    files.replace(Path::new("/a/g"), b"x").unwrap();
    files.remove_directory(Path::new("/a")).unwrap();
    let counters = Counters {
        writes: 2,
        zero_fills: 1,
        allocations: 1,
        length_changes: 1,
        file_syncs: 2,
        directory_syncs: 3,
        creations: 4,
        renames: 1,
        removals: 4,
    };
    assert_eq!(files.counters(), counters);
    assert_eq!(counters.operations(), 19);
}

#[test]
fn cold_pages_are_brought_in_or_say_why_not() {
    let files = files();
    let file = synced(&files, "/d/a", b"bytes");
    let map = file.map(5).unwrap();
    assert!(map.is_resident(0..5));
    files.drop_caches();
    assert!(!map.is_resident(0..5));
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Read, 1, FaultKind::Io));
    assert_kind(map.populate(0..5), FsErrorKind::Disk);
    assert!(!map.is_resident(0..5));
    map.populate(0..5).unwrap();
    assert!(map.is_resident(0..5));
    let image = files.crash(CrashMode::SyncedOnly);
    let map = image.open_read_only(Path::new("/d/a")).unwrap().map(5).unwrap();
    assert!(!map.is_resident(0..5));
}

#[test]
fn nodes_that_nobody_can_reach_are_forgotten() {
    let files = files();
    for _ in 0..10 * SWEEP_FILES_MIN {
        files.replace(Path::new("/d/a"), &[1; 5000]).unwrap();
    }
    let state = files.shared.lock();
    assert!(state.files.len() <= SWEEP_FILES_MIN);
    drop(state);
    let available = files.space(Path::new("/d")).unwrap();
    assert_eq!(available.total - available.available, 2 * 4096);
}
