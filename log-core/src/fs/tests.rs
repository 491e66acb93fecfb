//! One suite of behaviour for every file system: what is true of the real one must be true of its twin, or
//! the tests of everything above prove nothing.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::map::MapBudget;
use super::mem::MemFileSystem;
use super::os::OsFileSystem;
use super::*;

const MAPS_MAX: usize = 3;

/// Runs the same steps in an empty directory of each file system.
fn check(steps: impl Fn(&dyn FileSystem, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let os = OsFileSystem::with_map_budget(MapBudget::new(MAPS_MAX));
    steps(&os, directory.path());
    let mem = MemFileSystem::with_map_budget(MapBudget::new(MAPS_MAX));
    let root = Path::new("/data");
    mem.create_directory(root).unwrap();
    steps(&mem, root);
}

fn write(file: &Arc<dyn File>, position: u64, bytes: &[u8]) {
    file.write_at(position, &[IoSlice::new(bytes)]).unwrap();
}

fn contents(files: &dyn FileSystem, path: &Path) -> Vec<u8> {
    files.read(path, u64::MAX).unwrap()
}

fn names(files: &dyn FileSystem, path: &Path) -> Vec<String> {
    let entries = files.list(path).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[track_caller]
fn assert_kind<T: Debug>(outcome: Result<T, FsError>, kind: FsErrorKind) -> FsError {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    error
}

#[test]
fn files_are_created_once_and_opened_when_there() {
    check(|files, root| {
        let path = root.join("a");
        assert!(!files.exists(&path).unwrap());
        let error = assert_kind(files.open(&path), FsErrorKind::NotFound);
        assert_eq!(error.operation, FsOperation::Open);
        assert_eq!(error.path, path);
        assert_kind(files.open_read_only(&path), FsErrorKind::NotFound);
        let file = files.create(&path).unwrap();
        assert_eq!(file.path(), path);
        assert_eq!(file.length().unwrap(), 0);
        assert!(files.exists(&path).unwrap());
        assert_kind(files.create(&path), FsErrorKind::AlreadyExists);
        assert_kind(files.create(&root.join("no/a")), FsErrorKind::NotFound);
        assert_kind(files.open(root), FsErrorKind::Other);
        assert_kind(files.open_read_only(root), FsErrorKind::Other);
        assert!(!files.exists(&path.join("below a file")).unwrap());
    });
}

#[test]
fn parts_are_written_one_behind_the_other() {
    check(|files, root| {
        let file = files.create(&root.join("a")).unwrap();
        let parts = [b"one".as_slice(), b"", b"two", b"three"].map(IoSlice::new);
        file.write_at(5, &parts).unwrap();
        assert_eq!(file.length().unwrap(), 16);
        let mut buffer = [9; 20];
        assert_eq!(file.read_at(3, &mut buffer).unwrap(), 13);
        assert_eq!(&buffer[..14], b"\0\0onetwothree\x09");
        assert_eq!(file.read_at(16, &mut buffer).unwrap(), 0);
        assert_eq!(file.read_at(1 << 40, &mut buffer).unwrap(), 0);
        file.write_at(1 << 20, &[]).unwrap();
        assert_eq!(file.length().unwrap(), 16);
        assert_kind(file.write_at(u64::MAX, &parts), FsErrorKind::NoSpace);
        assert_kind(file.write_at(u64::MAX - 100, &parts), FsErrorKind::NoSpace);
        assert_kind(file.zero_fill(0..u64::MAX), FsErrorKind::NoSpace);
        assert_kind(file.allocate(0..u64::MAX), FsErrorKind::NoSpace);
        assert_kind(file.set_length(u64::MAX), FsErrorKind::NoSpace);
        assert_eq!(file.read_at(u64::MAX, &mut buffer).unwrap(), 0);
        assert_eq!(file.length().unwrap(), 16);
        // More parts than the system takes in one call.
        let bytes: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
        file.write_at(100, &parts).unwrap();
        let mut buffer = vec![0; 5000];
        assert_eq!(file.read_at(100, &mut buffer).unwrap(), 5000);
        assert_eq!(buffer, bytes);
    });
}

#[test]
fn random_changes_match_a_plain_vector() {
    let seed = seed();
    check(|files, root| {
        let mut random = fastrand::Rng::with_seed(seed);
        let file = files.create(&root.join("a")).unwrap();
        let mut model: Vec<u8> = Vec::new();
        for _ in 0..400 {
            let position = random.usize(0..40_000);
            let bytes: Vec<u8> = (0..random.usize(0..9_000)).map(|_| random.u8(1..)).collect();
            let end = position + bytes.len();
            match random.u8(0..6) {
                0..=2 => {
                    write(&file, position as u64, &bytes);
                    if position != end {
                        model.resize(model.len().max(end), 0);
                        model[position..end].copy_from_slice(&bytes);
                    }
                }
                3 => {
                    file.zero_fill(position as u64..end as u64).unwrap();
                    if position != end {
                        model.resize(model.len().max(end), 0);
                        model[position..end].fill(0);
                    }
                }
                4 => {
                    file.set_length(position as u64).unwrap();
                    model.resize(position, 0);
                }
                _ => {
                    file.allocate(position as u64..end as u64).unwrap();
                    if position != end {
                        model.resize(model.len().max(end), 0);
                    }
                }
            }
            assert_eq!(
                file.length().unwrap(),
                model.len() as u64,
                "STRATALOG_SEED={seed}"
            );
            let found = contents(files, &root.join("a"));
            assert!(found == model, "STRATALOG_SEED={seed}: contents differ");
        }
    });
}

/// The seed of a random test: a new one each time, or the one that the environment names.
#[expect(
    clippy::disallowed_methods,
    reason = "a failing seed is replayed through the environment"
)]
pub(super) fn seed() -> u64 {
    let named = std::env::var("STRATALOG_SEED").ok();
    named.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap())
}

#[test]
fn small_files_are_read_whole_within_a_limit() {
    check(|files, root| {
        let path = root.join("a");
        files.replace(&path, b"12345").unwrap();
        assert_eq!(files.read(&path, 5).unwrap(), b"12345");
        assert_kind(files.read(&path, 4), FsErrorKind::TooLarge);
        assert_kind(files.read(&root.join("b"), 4), FsErrorKind::NotFound);
    });
}

#[test]
fn replacing_leaves_the_new_contents_and_nothing_else() {
    check(|files, root| {
        let path = root.join("checkpoint");
        files.replace(&path, b"first, and longer").unwrap();
        // Left over by a crash.
        write(&files.create(&root.join("checkpoint.tmp")).unwrap(), 0, &[7; 100]);
        files.replace(&path, b"second").unwrap();
        assert_eq!(contents(files, &path), b"second");
        files.replace(&path, b"").unwrap();
        assert_eq!(contents(files, &path), b"");
        assert_eq!(names(files, root), ["checkpoint"]);
        assert_kind(files.replace(&root.join("no/a"), b""), FsErrorKind::NotFound);
    });
}

#[test]
fn renaming_moves_files_and_directories() {
    check(|files, root| {
        let topic = root.join("topic-0");
        files.create_directory(&topic).unwrap();
        let log = topic.join("log");
        let file = files.create(&log).unwrap();
        write(&file, 0, b"kept");
        files.create(&topic.join("other")).unwrap();
        files.rename(&log, &topic.join("other")).unwrap();
        assert_eq!(names(files, &topic), ["other"]);
        assert_eq!(contents(files, &topic.join("other")), b"kept");
        files.rename(&topic, &root.join("gone")).unwrap();
        assert_eq!(names(files, root), ["gone"]);
        write(&file, 4, b", still");
        assert_eq!(contents(files, &root.join("gone/other")), b"kept, still");

        assert_kind(files.rename(&log, &root.join("x")), FsErrorKind::NotFound);
        assert_kind(
            files.rename(&root.join("gone/other"), &root.join("no/x")),
            FsErrorKind::NotFound,
        );
        files.create_directory(&root.join("full/inner")).unwrap();
        assert_kind(
            files.rename(&root.join("gone"), &root.join("full")),
            FsErrorKind::Other,
        );
        assert_kind(
            files.rename(&root.join("gone/other"), &root.join("full")),
            FsErrorKind::Other,
        );
        assert_kind(
            files.rename(&root.join("full"), &root.join("gone/other")),
            FsErrorKind::Other,
        );
        files
            .rename(&root.join("gone"), &root.join("full/inner"))
            .unwrap();
        assert_eq!(contents(files, &root.join("full/inner/other")), b"kept, still");
    });
}

#[test]
fn what_is_removed_stays_usable_through_its_handles() {
    check(|files, root| {
        let path = root.join("a");
        let file = files.create(&path).unwrap();
        write(&file, 0, b"here");
        let map = file.map(100).unwrap();
        files.remove_file(&path).unwrap();
        assert!(!files.exists(&path).unwrap());
        assert_kind(files.remove_file(&path), FsErrorKind::NotFound);
        assert_kind(files.remove_file(root), FsErrorKind::Other);
        files.sync_directory(root).unwrap();
        assert!(0 < files.space(root).unwrap().available);
        write(&file, 4, b" and there");
        // A new file of the same name is another one.
        write(&files.create(&path).unwrap(), 0, b"new");
        assert_eq!(map.slice(0..14).unwrap(), b"here and there".as_slice());
        assert_eq!(contents(files, &path), b"new");
    });
}

#[test]
fn directories_are_made_with_their_parents_and_removed_with_their_contents() {
    check(|files, root| {
        let deep = root.join("a/b/c");
        files.create_directory(&deep).unwrap();
        files.create_directory(&deep).unwrap();
        write(&files.create(&deep.join("file")).unwrap(), 0, b"123");
        files.create(&root.join("a/z")).unwrap();
        files.create_directory(&root.join("a/empty")).unwrap();
        let entry = |name: &str, is_directory, length| DirEntry {
            name: name.to_owned(),
            is_directory,
            length,
        };
        assert_eq!(
            files.list(&root.join("a")).unwrap(),
            [entry("b", true, 0), entry("empty", true, 0), entry("z", false, 0)]
        );
        assert_eq!(files.list(&deep).unwrap(), [entry("file", false, 3)]);
        files.sync_directory(&deep).unwrap();
        assert_kind(files.create_directory(&deep.join("file")), FsErrorKind::Other);
        assert_kind(files.create_directory(&deep.join("file/x")), FsErrorKind::Other);
        assert_kind(files.list(&root.join("no")), FsErrorKind::NotFound);
        assert_kind(files.list(&deep.join("file")), FsErrorKind::Other);
        assert_kind(files.sync_directory(&root.join("no")), FsErrorKind::NotFound);
        assert_kind(files.remove_directory(&deep.join("file")), FsErrorKind::Other);
        files.remove_directory(&root.join("a")).unwrap();
        files.remove_directory(&root.join("a")).unwrap();
        assert_eq!(names(files, root), [""; 0]);
    });
}

#[test]
fn a_directory_is_locked_by_one_at_a_time() {
    check(|files, root| {
        let lock = files.lock_directory(root).unwrap();
        assert_eq!(names(files, root), [".lock"]);
        let error = assert_kind(files.lock_directory(root), FsErrorKind::Locked);
        assert_eq!(error.operation, FsOperation::Lock);
        drop(lock);
        let _again = files.lock_directory(root).unwrap();
        assert_kind(files.lock_directory(&root.join("no")), FsErrorKind::NotFound);
    });
}

#[test]
fn space_is_told() {
    check(|files, root| {
        let space = files.space(root).unwrap();
        assert!(0 < space.available && space.available <= space.total);
        assert_kind(files.space(&root.join("no")), FsErrorKind::NotFound);
    });
}

#[test]
fn a_read_only_file_is_not_written() {
    check(|files, root| {
        let path = root.join("a");
        write(&files.create(&path).unwrap(), 0, b"sealed");
        let file = files.open_read_only(&path).unwrap();
        assert_kind(file.write_at(6, &[IoSlice::new(b"!")]), FsErrorKind::Other);
        assert_kind(file.zero_fill(6..10), FsErrorKind::Other);
        assert_kind(file.allocate(6..10), FsErrorKind::Other);
        assert_kind(file.set_length(10), FsErrorKind::Other);
        assert_eq!(file.length().unwrap(), 6);
        let map = file.map(6).unwrap();
        drop(file);
        assert_eq!(map.slice(0..6).unwrap(), b"sealed".as_slice());
    });
}

#[test]
fn a_map_shows_what_was_written_since() {
    check(|files, root| {
        let file = files.create(&root.join("a")).unwrap();
        let map = file.map(1 << 20).unwrap();
        assert_eq!(map.slice(0..0).unwrap().len(), 0);
        assert_kind(map.slice(0..1), FsErrorKind::UnexpectedEnd);
        write(&file, 0, b"first ");
        let first = map.slice(0..6).unwrap();
        write(&file, 6, b"second");
        assert_eq!(map.slice(2..12).unwrap(), b"rst second".as_slice());
        assert_eq!(first, b"first ".as_slice());
        assert_kind(map.slice(6..13), FsErrorKind::UnexpectedEnd);
        file.sync_data().unwrap();
        file.start_writeback(0..12).unwrap();
        file.start_writeback(12..12).unwrap();
        map.read_ahead(0..12);
        map.read_ahead(6..1 << 40);
        map.populate(0..12).unwrap();
        assert!(map.is_resident(0..12));
        assert!(map.is_resident(5..5));
        drop((map, file));
        assert_eq!(first.slice(1..3), b"ir".as_slice());
    });
}

#[test]
fn a_range_outside_the_file_is_an_error_and_not_a_signal() {
    check(|files, root| {
        let file = files.create(&root.join("a")).unwrap();
        write(&file, 0, &[1; 100]);
        let map = file.map(8192).unwrap();
        for range in [0..101, 100..101, 4096..8192, 0..8193, 8192..9000, 0..u64::MAX] {
            assert_kind(map.slice(range.clone()), FsErrorKind::UnexpectedEnd);
            assert_kind(map.populate(range.clone()), FsErrorKind::UnexpectedEnd);
            assert!(!map.is_resident(range));
        }
        file.allocate(0..20_000).unwrap();
        assert_eq!(map.slice(4000..8192).unwrap().len(), 4192);
        assert_kind(map.slice(8000..8193), FsErrorKind::UnexpectedEnd);
        let reversed = Range { start: 50, end: 40 };
        assert_kind(map.slice(reversed.clone()), FsErrorKind::UnexpectedEnd);
        assert_kind(map.populate(reversed), FsErrorKind::UnexpectedEnd);
    });
}

#[test]
fn what_was_handed_out_is_not_changed_by_any_handle() {
    check(|files, root| {
        let path = root.join("a");
        let file = files.create(&path).unwrap();
        write(&file, 0, &[1; 100]);
        let other = files.open(&path).unwrap();
        let map = files.open_read_only(&path).unwrap().map(100).unwrap();
        let slice = map.slice(10..50).unwrap();
        drop(map);
        for file in [&file, &other] {
            let error = assert_kind(file.write_at(49, &[IoSlice::new(b"x")]), FsErrorKind::InUse);
            assert_eq!(error.operation, FsOperation::Write);
            assert_kind(file.write_at(0, &[IoSlice::new(b"x")]), FsErrorKind::InUse);
            assert_kind(file.zero_fill(20..30), FsErrorKind::InUse);
            assert_kind(file.set_length(49), FsErrorKind::InUse);
            file.allocate(0..120).unwrap();
            write(file, 50, b"x");
            file.set_length(51).unwrap();
            file.set_length(130).unwrap();
        }
        assert_eq!(other.length().unwrap(), 130);
        drop((file, other));
        // The slice alone keeps its part of the file as it is.
        let file = files.open(&path).unwrap();
        assert_kind(file.set_length(0), FsErrorKind::InUse);
        drop((file, slice));
        files.open(&path).unwrap().set_length(0).unwrap();
    });
}

#[test]
fn maps_are_counted_until_their_last_slice_goes() {
    check(|files, root| {
        let file = files.create(&root.join("a")).unwrap();
        write(&file, 0, b"bytes");
        let mut maps: Vec<_> = (0..MAPS_MAX).map(|_| file.map(5).unwrap()).collect();
        let error = assert_kind(file.map(5), FsErrorKind::OutOfResources);
        assert_eq!(error.operation, FsOperation::Map);
        let slice = maps.pop().unwrap().slice(0..5).unwrap();
        assert_kind(file.map(5), FsErrorKind::OutOfResources);
        drop(slice);
        maps.push(file.map(5).unwrap());
    });
}

#[test]
fn a_reader_through_the_map_sees_what_the_writer_published() {
    const WRITES: u64 = 2_000;
    const PIECE: u64 = 37;
    check(|files, root| {
        let file = files.create(&root.join("a")).unwrap();
        file.allocate(0..4096).unwrap();
        let map = file.map(WRITES * PIECE).unwrap();
        let published = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut position = 0;
                        while position < WRITES * PIECE {
                            let end = published.load(Ordering::Acquire);
                            let slice = map.slice(position..end).unwrap();
                            for (piece, number) in slice.chunks(37).zip(position / PIECE..) {
                                assert!(piece.iter().all(|byte| *byte == fill(number)));
                            }
                            position = end;
                            std::thread::yield_now();
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                for number in 0..WRITES {
                    let piece = [fill(number); 37];
                    file.write_at(number * PIECE, &[IoSlice::new(&piece)]).unwrap();
                    published.store((number + 1) * PIECE, Ordering::Release);
                }
            });
            // Space is prepared behind the writer's reach meanwhile, in the same file.
            scope.spawn(|| {
                let ahead = WRITES * PIECE;
                for step in 0..20 {
                    file.zero_fill(ahead + step * 4096..ahead + (step + 1) * 4096)
                        .unwrap();
                }
            });
            for reader in readers {
                reader.join().unwrap();
            }
        });
    });
}

fn fill(number: u64) -> u8 {
    number.to_le_bytes()[0] | 1
}

/// The page cache is emptied of the file, as after a restart. (A file system in memory keeps its pages.)
#[test]
fn pages_that_are_not_in_memory_are_known() {
    const LENGTH: u64 = 3 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let file = OsFileSystem::new().create(&path).unwrap();
    write(&file, 0, &vec![1; 3 << 20]);
    file.sync_data().unwrap();
    let map = file.map(LENGTH).unwrap();
    assert!(map.is_resident(0..LENGTH));
    let descriptor = rustix::fs::open(&path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    rustix::fs::fadvise(&descriptor, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let is_in_memory = rustix::fs::fstatfs(&descriptor).unwrap().f_type == 0x0102_1994;
    assert_eq!(map.is_resident(0..LENGTH), is_in_memory);
    // Only what was asked for, whatever the system would read around it: syncs wait behind it.
    let asked = 1 << 20..(1 << 20) + 300_000;
    map.populate(asked.clone()).unwrap();
    assert!(map.is_resident(asked.clone()));
    for beside in [asked.start - 20_000, asked.end + 20_000] {
        assert_eq!(map.is_resident(beside..beside + 1), is_in_memory, "{beside}");
    }
    map.populate((2 << 20) + 5..LENGTH).unwrap();
    assert!(map.is_resident((2 << 20) + 5..LENGTH));
    map.populate(0..LENGTH).unwrap();
    assert!(map.is_resident(0..LENGTH));
}

/// Someone else cuts the file: populate must answer with an error where a touch would kill the process.
#[test]
#[expect(clippy::disallowed_types, reason = "stands for another process")]
fn populate_survives_a_file_cut_behind_its_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let file = OsFileSystem::new().create(&path).unwrap();
    write(&file, 0, &vec![1; 3 * 65_536]);
    let map = file.map(1 << 20).unwrap();
    map.populate(0..3 * 65_536).unwrap();
    let other = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    other.set_len(10).unwrap();
    let error = assert_kind(map.populate(65_536..3 * 65_536), FsErrorKind::Other);
    assert_eq!(error.operation, FsOperation::Map);
    assert!(!map.is_resident(0..3 * 65_536));
    assert!(map.is_resident(0..10));
}

#[test]
fn two_locks_of_processes_exclude_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let lock = OsFileSystem::new().lock_directory(directory.path()).unwrap();
    assert_kind(
        OsFileSystem::new().lock_directory(directory.path()),
        FsErrorKind::Locked,
    );
    drop(lock);
    OsFileSystem::new().lock_directory(directory.path()).unwrap();
}

#[test]
fn slices_of_one_file_system_bind_the_others_of_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let file = OsFileSystem::new().create(&path).unwrap();
    write(&file, 0, b"bytes");
    let slice = file.map(5).unwrap().slice(0..5).unwrap();
    drop(file);
    let other = OsFileSystem::new().open(&path).unwrap();
    assert_kind(other.set_length(4), FsErrorKind::InUse);
    drop((other, slice));
    OsFileSystem::new().open(&path).unwrap().set_length(4).unwrap();
}

#[test]
fn error_numbers_have_their_kinds() {
    for (errno, kind) in [
        (Errno::NOSPC, FsErrorKind::NoSpace),
        (Errno::DQUOT, FsErrorKind::NoSpace),
        (Errno::FBIG, FsErrorKind::NoSpace),
        (Errno::MFILE, FsErrorKind::OutOfResources),
        (Errno::NFILE, FsErrorKind::OutOfResources),
        (Errno::NOMEM, FsErrorKind::OutOfResources),
        (Errno::NOENT, FsErrorKind::NotFound),
        (Errno::EXIST, FsErrorKind::AlreadyExists),
        (Errno::AGAIN, FsErrorKind::Locked),
        (Errno::IO, FsErrorKind::Disk),
        (Errno::ROFS, FsErrorKind::Disk),
        (Errno::NODEV, FsErrorKind::Disk),
        (Errno::STALE, FsErrorKind::Disk),
        (Errno::UCLEAN, FsErrorKind::Disk),
        (Errno::ACCESS, FsErrorKind::Other),
        (Errno::PERM, FsErrorKind::Other),
        (Errno::NOTEMPTY, FsErrorKind::Other),
        (Errno::NAMETOOLONG, FsErrorKind::Other),
    ] {
        let error = FsError::from_system(FsOperation::Write, Path::new("/f"), errno.into());
        assert_eq!(error.kind, kind);
        assert!(error.to_string().starts_with("cannot write /f: "), "{error}");
    }
}
