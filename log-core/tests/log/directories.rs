//! Several directories of one broker: where partitions go and stay, which directories are taken, and which are given up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::clock::ManualClock;
use log_core::config::LogConfig;
use log_core::fs::FileSystem;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::log::{Log, LogContext};
use log_core::log_manager::{
    CheckpointEntry, Found, FoundPartition, LogDirectory, LogManager, LogManagerError, OpenError,
};
use log_core::model::{Offset, TimestampMs, TopicId, TopicPartition};

const CLUSTER: &str = "cluster";
const FIRST: &str = "/first";
const SECOND: &str = "/second";
const THIRD: &str = "/third";
const TOPIC_ID: TopicId = TopicId::from_bytes([1; 16]);

fn open(files: &MemFileSystem, paths: &[&str]) -> Result<(LogManager, Found), OpenError> {
    let context = LogContext {
        file_system: Arc::new(files.clone()),
        clock: Arc::new(ManualClock::new(TimestampMs::new(0))),
    };
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    LogManager::open_all(context, &paths)
}

/// Takes the directories as a broker does: opened, marked, and what is in them adopted.
fn start(files: &MemFileSystem, paths: &[&str]) -> LogManager {
    let (manager, found) = open(files, paths).unwrap();
    claim(&manager, CLUSTER).unwrap();
    found.partitions.iter().for_each(|found| manager.adopt(found));
    manager
}

fn claim(manager: &LogManager, cluster_id: &str) -> Result<(), OpenError> {
    // Each call makes ids of its own, as random ones would be.
    let mut random = fastrand::Rng::new();
    manager.claim(cluster_id, || format!("{:032x}", random.u128(..)))
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

fn create(manager: &LogManager, index: i32) {
    drop(
        manager
            .create(&partition(index), TOPIC_ID, LogConfig::default())
            .unwrap(),
    );
}

fn home(manager: &LogManager, index: i32) -> Option<&Path> {
    manager.home(&partition(index)).map(|home| home.data_dir())
}

fn homes(manager: &LogManager, count: i32) -> Vec<&Path> {
    (0..count).filter_map(|index| home(manager, index)).collect()
}

fn refusal(result: Result<(LogManager, Found), OpenError>) -> OpenError {
    result.map(drop).unwrap_err()
}

fn is_marked_clean(files: &MemFileSystem, path: &str) -> bool {
    files
        .exists(&Path::new(path).join(".kafka_cleanshutdown"))
        .unwrap()
}

fn names(files: &MemFileSystem, path: &str, ending: &str) -> Vec<String> {
    let entries = files.list(Path::new(path)).unwrap().into_iter();
    let names = entries.map(|entry| entry.name);
    names.filter(|name| name.ends_with(ending)).collect()
}

fn move_away(files: &MemFileSystem, path: &str) {
    files.rename(Path::new(path), Path::new("/away")).unwrap();
}

#[test]
fn new_partitions_go_where_the_fewest_are_and_stay_there() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    (0..4).for_each(|index| create(&manager, index));
    assert_eq!(homes(&manager, 4), [FIRST, SECOND, FIRST, SECOND].map(Path::new));
    drop(manager);

    // A third one, and another order: what is there stays.
    let manager = start(&files, &[FIRST, THIRD, SECOND]);
    assert_eq!(homes(&manager, 4), [FIRST, SECOND, FIRST, SECOND].map(Path::new));
    (4..7).for_each(|index| create(&manager, index));
    let added: Vec<_> = (4..7).filter_map(|index| home(&manager, index)).collect();
    assert_eq!(added, [THIRD, THIRD, FIRST].map(Path::new));

    manager.schedule_delete(&partition(1), TOPIC_ID).unwrap();
    assert_eq!(home(&manager, 1), None);
    create(&manager, 7);
    assert_eq!(home(&manager, 7), Some(Path::new(SECOND)));
}

/// It is looked for by name, and the name may have been given again.
#[test]
fn a_deletion_that_comes_late_leaves_the_new_topic_alone() {
    let later = TopicId::from_bytes([2; 16]);
    for (paths, opens) in [
        (&[FIRST][..], false),
        (&[FIRST], true),
        (&[FIRST, SECOND], false),
        (&[FIRST, SECOND], true),
    ] {
        let what = format!("{paths:?}, opened: {opens}");
        let files = MemFileSystem::new();
        let mut manager = start(&files, paths);
        create(&manager, 0);
        manager.schedule_delete(&partition(0), TOPIC_ID).unwrap();
        let config = LogConfig::default();
        drop(manager.create(&partition(0), later, config.clone()).unwrap());
        if opens {
            drop(manager);
            manager = start(&files, paths);
            // Once before the log was opened, when only the file in the directory says whose it is.
            manager.schedule_delete(&partition(0), TOPIC_ID).unwrap();
            drop(manager.load(&partition(0), later, config).unwrap());
        }
        let home_before = home(&manager, 0).map(Path::to_path_buf);
        manager.schedule_delete(&partition(0), TOPIC_ID).unwrap();
        assert_eq!(home(&manager, 0).map(Path::to_path_buf), home_before, "{what}");
        assert_eq!(home_before.as_deref(), Some(Path::new(FIRST)), "{what}");
        assert_eq!(names(&files, FIRST, "t-0"), ["t-0"], "{what}");
        manager.schedule_delete(&partition(0), later).unwrap();
        assert_eq!(names(&files, FIRST, "t-0"), Vec::<String>::new(), "{what}");
    }
}

/// The id only keeps a deletion off where it says another one.
#[test]
fn a_partition_whose_id_is_lost_can_be_deleted() {
    let files = MemFileSystem::new();
    for contents in [None, Some(b"?")] {
        let manager = start(&files, &[FIRST]);
        create(&manager, 0);
        drop(manager);
        let file = Path::new(FIRST).join("t-0/partition.metadata");
        files.remove_file(&file).unwrap();
        if let Some(contents) = contents {
            files.replace(&file, contents).unwrap();
        }
        let manager = start(&files, &[FIRST]);
        manager.schedule_delete(&partition(0), TOPIC_ID).unwrap();
        assert_eq!(names(&files, FIRST, "t-0"), Vec::<String>::new());
    }
}

#[test]
fn one_directory_is_not_marked() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST]);
    create(&manager, 0);
    assert_eq!(manager.first().identity(), None);
    let names = files.list(Path::new(FIRST)).unwrap();
    assert!(
        names.iter().all(|entry| !entry.name.contains("properties")),
        "{names:?}"
    );
    drop(manager);

    // It becomes the first of two.
    let manager = start(&files, &[FIRST, SECOND]);
    assert!(
        manager
            .directories()
            .iter()
            .all(|directory| directory.identity().is_some())
    );
    assert_eq!(home(&manager, 0), Some(Path::new(FIRST)));
}

#[test]
fn directories_that_are_not_this_brokers_are_refused() {
    let files = MemFileSystem::new();
    drop(start(&files, &[FIRST, SECOND]));

    // The first has a cluster's log, and was its only one.
    let alone = start(&files, &[THIRD]);
    create(&alone, 0);
    drop(alone);
    let (manager, _) = open(&files, &[THIRD, SECOND]).unwrap();
    let error = claim(&manager, "another").unwrap_err();
    assert_eq!(error.directory, Path::new(SECOND));
    assert!(
        error.to_string().contains("belongs to cluster cluster"),
        "{error}"
    );
    drop(manager);
    assert!(
        files
            .list(Path::new(THIRD))
            .unwrap()
            .iter()
            .all(|entry| entry.name != "stratalog-directory.properties")
    );

    // Partitions that nobody marked: of Kafka, or of a broker with one directory.
    let alone = start(&files, &["/alone"]);
    create(&alone, 0);
    drop(alone);
    let error = refusal(open(&files, &[FIRST, SECOND, "/alone"]));
    assert!(matches!(error.source, LogManagerError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("t-0"), "{error}");

    // A copy of a directory that is there, too.
    let file = "stratalog-directory.properties";
    let identity = files.read(&Path::new(SECOND).join(file), 1 << 20).unwrap();
    files.create_directory(Path::new("/copy")).unwrap();
    files.replace(&Path::new("/copy").join(file), &identity).unwrap();
    let error = refusal(open(&files, &[FIRST, SECOND, "/copy"]));
    assert!(matches!(error.source, LogManagerError::Copied { .. }), "{error}");

    // One that another process holds.
    let holder = start(&files, &["/held"]);
    let error = refusal(open(&files, &[FIRST, "/held"]));
    assert_eq!(error.directory, Path::new("/held"));
    drop(holder);
}

#[test]
fn a_partition_in_two_directories_is_an_error_that_names_both() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    create(&manager, 0);
    // What is left of a deleted topic is none of it.
    let other = TopicId::from_bytes([2; 16]);
    let second = manager.directories().last().unwrap();
    drop(second.create(&partition(0), other, LogConfig::default()).unwrap());
    drop(manager);
    drop(start(&files, &[FIRST, SECOND]));
    let metadata = "t-0/partition.metadata";
    let own = files.read(&Path::new(FIRST).join(metadata), 1 << 10).unwrap();
    files.replace(&Path::new(SECOND).join(metadata), &own).unwrap();
    let error = refusal(open(&files, &[FIRST, SECOND])).to_string();
    assert!(
        error.contains("/first/t-0") && error.contains("/second/t-0"),
        "{error}"
    );
}

#[test]
fn a_disk_that_is_not_mounted_is_absent_and_missed() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    (0..2).for_each(|index| create(&manager, index));
    assert_eq!(manager.missing(), Vec::<PathBuf>::new());
    drop(manager);

    // The mount point is there, and empty.
    move_away(&files, SECOND);
    files.create_directory(Path::new(SECOND)).unwrap();
    let manager = start(&files, &[FIRST, SECOND]);
    assert_eq!(manager.absent().len(), 1);
    assert!(
        manager.absent()[0].reason.contains("is its disk mounted?"),
        "{:?}",
        manager.absent()
    );
    assert_eq!((manager.offline_count(), home(&manager, 1)), (1, None));
    assert_eq!(manager.missing(), [Path::new(SECOND)]);
    create(&manager, 2);
    assert_eq!(home(&manager, 2), Some(Path::new(FIRST)));
    assert_eq!(manager.forget_unnamed().unwrap(), Vec::<PathBuf>::new());
    drop(manager);

    // Named no more, it is missed all the same, until it is forgotten.
    let manager = start(&files, &[FIRST]);
    assert_eq!(manager.missing(), [Path::new(SECOND)]);
    drop(manager);

    // Back, somewhere else.
    files.rename(Path::new("/away"), Path::new(THIRD)).unwrap();
    let manager = start(&files, &[FIRST, THIRD]);
    assert_eq!((manager.missing(), manager.offline_count()), (Vec::new(), 0));
    assert_eq!(home(&manager, 1), Some(Path::new(THIRD)));
    drop(manager);

    let manager = start(&files, &[FIRST]);
    assert_eq!(manager.forget_unnamed().unwrap(), [Path::new(THIRD)]);
    assert_eq!(manager.missing(), Vec::<PathBuf>::new());
}

#[test]
fn one_that_cannot_be_opened_is_absent_and_the_first_is_not() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    create(&manager, 0);
    drop(manager);
    for path in [FIRST, SECOND] {
        let fault = FaultPlan::new().fail_from(FaultTarget::SyncDirectory, 1, FaultKind::Io);
        files.set_faults(fault.only_in(path));
        let opened = open(&files, &[FIRST, SECOND]);
        match path {
            FIRST => assert_eq!(refusal(opened).directory, Path::new(FIRST)),
            _ => assert_eq!(opened.unwrap().0.missing(), [Path::new(SECOND)]),
        }
        files.set_faults(FaultPlan::new());
    }
    assert_eq!(start(&files, &[FIRST, SECOND]).offline_count(), 0);
}

#[test]
fn a_failing_disk_costs_its_directory_and_a_full_one_does_not() {
    for (path, kind, expected) in [
        (SECOND, FaultKind::NoSpace, 0),
        (SECOND, FaultKind::OutOfResources, 0),
        (SECOND, FaultKind::Io, 1),
        (FIRST, FaultKind::Io, 0),
    ] {
        let files = MemFileSystem::new();
        let manager = start(&files, &[FIRST, SECOND]);
        (0..2).for_each(|index| create(&manager, index));
        let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, kind);
        files.set_faults(fault.only_in(&format!("{path}/recovery-point")));
        manager.write_recovery_points(&[]).unwrap_err();
        let what = format!("{path} {kind:?}");
        assert_eq!(manager.offline_count(), expected, "{what}");
        assert_eq!(manager.missing().len(), expected, "{what}");
        manager.write_recovery_points(&[]).unwrap();

        // For good, and new partitions go to the other one.
        (2..4).for_each(|index| create(&manager, index));
        let of_second = homes(&manager, 4)
            .into_iter()
            .filter(|home| *home == Path::new(SECOND))
            .count();
        assert_eq!(of_second, 2 - expected, "{what}");
        manager.mark_clean().unwrap();
        assert_eq!(is_marked_clean(&files, SECOND), expected == 0, "{what}");
    }
}

/// Where the mount point is left, a checkpoint could be written there, and a partition be made.
#[test]
fn a_directory_whose_disk_is_gone_is_given_up() {
    for has_mount_point in [false, true] {
        let files = MemFileSystem::new();
        let manager = start(&files, &[FIRST, SECOND]);
        (0..2).for_each(|index| create(&manager, index));
        move_away(&files, SECOND);
        if has_mount_point {
            files.create_directory(Path::new(SECOND)).unwrap();
        }
        manager.write_recovery_points(&[]).unwrap_err();
        assert_eq!(manager.offline_count(), 1);
        // Deleting what lies there does not fail: it goes when the directory is back.
        manager.schedule_delete(&partition(1), TOPIC_ID).unwrap();
        drop(manager);
        if has_mount_point {
            assert_eq!(files.list(Path::new(SECOND)).unwrap(), []);
        }
        files.rename(Path::new("/away"), Path::new(SECOND)).unwrap();
        let manager = start(&files, &[FIRST, SECOND]);
        assert_eq!(home(&manager, 1), Some(Path::new(SECOND)));
    }
}

#[test]
fn no_partition_is_made_where_the_disk_was() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    create(&manager, 0);
    move_away(&files, SECOND);
    let second = manager.create(&partition(1), TOPIC_ID, LogConfig::default());
    second.map(drop).unwrap_err();
    assert!(!files.exists(Path::new(SECOND)).unwrap());
    create(&manager, 1);
    assert_eq!(home(&manager, 1), Some(Path::new(FIRST)));
}

/// Whatever the reason: a start after it, with the reason gone, has nothing to recover.
#[test]
fn a_refused_start_leaves_the_marks_of_an_orderly_stop() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    (0..2).for_each(|index| create(&manager, index));
    manager.mark_clean().unwrap();
    drop(manager);
    let are_marked = || [FIRST, SECOND].map(|path| is_marked_clean(&files, path));

    let holder = start(&files, &["/held"]);
    refusal(open(&files, &[FIRST, SECOND, "/held"]));
    assert_eq!(are_marked(), [true, true]);
    drop(holder);
    let (manager, found) = open(&files, &[FIRST, SECOND]).unwrap();
    claim(&manager, "another").unwrap_err();
    assert_eq!((are_marked(), found.clean), ([true, true], true));
    drop((manager, found));

    let (manager, found) = open(&files, &[FIRST, SECOND]).unwrap();
    claim(&manager, CLUSTER).unwrap();
    assert_eq!((are_marked(), found.clean), ([false, false], true));
}

/// A crash behind it must find no promise; a part of the removal may fail.
#[test]
fn no_log_is_opened_or_made_while_the_mark_stands() {
    for (target, opens) in [
        (FaultTarget::Remove, true),
        (FaultTarget::Remove, false),
        (FaultTarget::SyncDirectory, true),
        (FaultTarget::SyncDirectory, false),
    ] {
        let files = MemFileSystem::new();
        let manager = start(&files, &[FIRST]);
        create(&manager, 0);
        manager.mark_clean().unwrap();
        drop(manager);
        let (manager, _) = open(&files, &[FIRST]).unwrap();
        let use_log = || {
            let config = LogConfig::default();
            let log = if opens {
                manager.load(&partition(0), TOPIC_ID, config).map(|(log, _)| log)
            } else {
                manager.create(&partition(1), TOPIC_ID, config)
            };
            log.map(drop)
        };
        files.set_faults(FaultPlan::new().fail_once(target, 1, FaultKind::Io));
        use_log().unwrap_err();
        use_log().unwrap();
        let after_power_cut = files.crash(CrashMode::SyncedOnly);
        assert!(!is_marked_clean(&after_power_cut, FIRST), "{target:?}");
    }
}

#[test]
fn no_cluster_begins_beside_another_one_or_without_a_look_at_all_directories() {
    let files = MemFileSystem::new();
    drop(start(&files, &[FIRST, SECOND]));
    let error = refusal(open(&files, &[THIRD, SECOND]));
    assert_eq!(error.directory, Path::new(SECOND));
    assert!(matches!(error.source, LogManagerError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("/third"), "{error}");

    let fault = FaultPlan::new().fail_from(FaultTarget::SyncDirectory, 1, FaultKind::Io);
    files.set_faults(fault.only_in(SECOND));
    let error = refusal(open(&files, &[THIRD, SECOND]));
    assert!(matches!(error.source, LogManagerError::Unseen { .. }), "{error}");
}

#[test]
fn one_that_cannot_be_marked_is_given_up_with_the_reason() {
    let files = MemFileSystem::new();
    let (manager, _) = open(&files, &[FIRST, SECOND]).unwrap();
    let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::NoSpace);
    files.set_faults(fault.only_in("/second/stratalog-directory"));
    claim(&manager, CLUSTER).unwrap();
    let failure = manager.directories()[1].failure().unwrap();
    assert!(failure.contains("No space left"), "{failure}");
    (0..2).for_each(|index| create(&manager, index));
    assert_eq!(homes(&manager, 2), [FIRST, FIRST].map(Path::new));
}

/// A name that is in the way, here; rights that are missing, or a name that is too long, are the same.
#[test]
fn what_is_not_the_disks_own_failure_costs_no_directory() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    create(&manager, 0);
    files.replace(Path::new("/second/t-1"), b"a file").unwrap();
    let refused = manager.create(&partition(1), TOPIC_ID, LogConfig::default());
    refused.map(drop).unwrap_err();
    assert_eq!(manager.offline_count(), 0);
    files.remove_file(Path::new("/second/t-1")).unwrap();
    create(&manager, 1);
    assert_eq!(home(&manager, 1), Some(Path::new(SECOND)));
}

#[test]
fn what_is_set_aside_twice_has_two_names() {
    let files = MemFileSystem::new();
    let manager = start(&files, &[FIRST, SECOND]);
    let directory = Path::new(SECOND).join("t-0");
    for _ in 0..3 {
        files.create_directory(&directory).unwrap();
        files.replace(&directory.join("file"), b"x").unwrap();
        let found = FoundPartition {
            partition: partition(0),
            topic_id: None,
            directory: directory.clone(),
        };
        manager.set_aside_stray(&found).unwrap();
    }
    let none = TopicId::ZERO;
    let expected = ["-stray", ".2-stray", ".3-stray"].map(|ending| format!("t-0.{none}{ending}"));
    let mut found = names(&files, SECOND, "-stray");
    found.sort_by_key(|name| (name.len(), name.clone()));
    assert_eq!(found, expected);
    assert_eq!(manager.offline_count(), 0);
}

/// Written there, it would be gone with the next mount, and the segments that it let go with it.
#[test]
fn no_checkpoint_is_written_where_the_disk_was() {
    let steps: [fn(&LogDirectory, &mut Log) -> bool; 5] = [
        |second, _| second.write_recovery_points(&[]).is_err(),
        |second, _| second.write_log_starts(&[]).is_err(),
        |second, _| second.write_cleaned_to(&[]).is_err(),
        |second, _| second.mark_clean().is_err(),
        |second, log| second.truncate(log, Offset::ZERO).is_err(),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let files = MemFileSystem::new();
        let manager = start(&files, &[FIRST, SECOND]);
        create(&manager, 0);
        let mut log = manager
            .create(&partition(1), TOPIC_ID, LogConfig::default())
            .unwrap();
        let point = CheckpointEntry {
            partition: partition(1),
            topic_id: TOPIC_ID,
            offset: Offset::new(5),
        };
        manager.write_recovery_points(&[point]).unwrap();
        move_away(&files, SECOND);
        files.create_directory(Path::new(SECOND)).unwrap();
        assert!(step(&manager.directories()[1], &mut log), "step {number}");
        assert_eq!(manager.offline_count(), 1, "step {number}");
        assert_eq!(names(&files, SECOND, ""), Vec::<String>::new(), "step {number}");
    }
}
