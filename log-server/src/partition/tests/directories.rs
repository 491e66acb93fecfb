//! Several data directories: what fails in one, or is missing, costs its partitions and no others.

use std::path::Path;
use std::time::Duration;

use log_core::fs::FileSystem;
use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};

use super::failures::watch;
use super::*;
use crate::partition::loading::LoadSummary;
use crate::partition::partition::{Condition, Remedy};

const FIRST: &str = "/data";
const SECOND: &str = "/data2";

fn open(files: &MemFileSystem) -> Storage {
    Storage::open_in(files, FlushQueue::without_threads(), &[FIRST, SECOND])
}

/// A topic of two partitions, one in each directory.
fn events(id: u8) -> TopicSpec {
    topic("events", id, 2, LogConfig::default())
}

fn load(storage: &Storage, id: u8) -> LoadSummary {
    storage.registry.load(&[events(id)], &storage.found, &[])
}

/// The partition of the topic that lives in a directory.
fn living_in(storage: &Storage, path: &str) -> Arc<Partition> {
    let mut partitions = storage.registry.all().into_iter();
    let found = partitions.find(|partition| partition.log_directory().data_dir() == Path::new(path));
    found.expect("each directory has one")
}

fn is_off_line(partition: &Partition) -> bool {
    matches!(
        *partition.condition(),
        Condition::Offline {
            remedy: Remedy::Restart,
            ..
        }
    )
}

/// One record in each partition, on the disk.
fn filled(files: &MemFileSystem) -> Storage {
    let storage = open(files);
    load(&storage, 1);
    for path in [FIRST, SECOND] {
        append(&living_in(&storage, path), &[path], Acks::All);
    }
    storage.work();
    storage
}

#[test]
fn a_directory_that_fails_takes_its_partitions_along_and_no_others() {
    let files = MemFileSystem::new();
    let storage = filled(&files);
    let (first, second) = (living_in(&storage, FIRST), living_in(&storage, SECOND));
    let mut waiting = append(&second, &["late"], Acks::All);

    let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
    files.set_faults(fault.only_in("/data2/recovery-point"));
    storage.registry.checkpoint().unwrap_err();
    let mut watch = watch(&storage);
    watch.tick(Duration::ZERO);
    assert!(is_off_line(&second));
    assert!(matches!(
        answer(&mut waiting.ack),
        Some(Err(PartitionError::Offline { .. }))
    ));
    let refused = second.append(&batch(&["later"]), Acks::All).unwrap_err();
    assert!(refused.to_string().contains("/data2/recovery-point"), "{refused}");
    assert!(second.check_readable().is_err());
    assert_eq!(storage.registry.offline_directory_count(), 1);

    // Not even when its disk is well again: a start has to look at it.
    watch.tick(Duration::from_hours(1));
    assert!(is_off_line(&second));
    append(&first, &["more"], Acks::All);
    storage.work();
    assert_eq!(consume(&first, 0), [FIRST, "more"]);
    storage.registry.checkpoint().unwrap();

    // What is made now is made elsewhere.
    storage
        .registry
        .create(&topic("new", 2, 2, LogConfig::default()))
        .unwrap();
    for index in 0..2 {
        let made = storage.registry.get("new", index).unwrap();
        assert_eq!(made.log_directory().data_dir(), Path::new(FIRST));
    }
    assert!(storage.registry.close_all(), "what serves was closed in order");
    storage.manager.mark_clean().unwrap();
    let is_marked = |path: &str| {
        files
            .exists(&Path::new(path).join(".kafka_cleanshutdown"))
            .unwrap()
    };
    assert!(is_marked(FIRST) && !is_marked(SECOND));

    let storage = open(&files.crash(CrashMode::SyncedOnly));
    let summary = storage.registry.load(
        &[events(1), topic("new", 2, 2, LogConfig::default())],
        &storage.found,
        &[],
    );
    assert_eq!((summary.online, summary.offline, summary.strays), (4, 0, 0));
    let of_events = |path: &str| {
        let mut both = (0..2).filter_map(|index| storage.registry.get("events", index));
        both.find(|partition| partition.log_directory().data_dir() == Path::new(path))
            .unwrap()
    };
    assert_eq!(consume(&of_events(SECOND), 0), [SECOND]);
    assert_eq!(consume(&of_events(FIRST), 0), [FIRST, "more"]);
}

/// Mended by itself, it would serve from a directory that nobody writes checkpoints for.
#[test]
fn a_log_that_could_not_be_opened_is_not_mended_in_a_directory_that_was_given_up() {
    let files = MemFileSystem::new();
    let name = living_in(&filled(&files), SECOND).name().to_string();
    let storage = open(&files);
    let fault = FaultPlan::new().fail_from(FaultTarget::Open, 1, FaultKind::Io);
    files.set_faults(fault.only_in(&format!("/data2/{name}/0")));
    assert_eq!(load(&storage, 1).offline, 1);
    let partition = living_in(&storage, SECOND);
    assert!(!is_off_line(&partition), "the disk may come back");

    let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
    files.set_faults(fault.only_in("/data2/recovery-point"));
    storage.registry.checkpoint().unwrap_err();
    let mut watch = watch(&storage);
    for hour in 0..3 {
        watch.tick(Duration::from_hours(hour));
        assert!(is_off_line(&partition));
    }
}

/// It was told as missing, and nobody said why.
#[test]
fn a_directory_that_the_start_gives_up_is_told_with_the_reason() {
    let files = MemFileSystem::new();
    let storage = filled(&files);
    let lost = living_in(&storage, SECOND).name().to_string();
    assert!(storage.registry.close_all());
    storage.manager.mark_clean().unwrap();
    drop(storage);
    let directory = Path::new(SECOND).join(&lost);
    files.rename(&directory, Path::new("/away")).unwrap();

    let fault = FaultPlan::new().fail_from(FaultTarget::Remove, 1, FaultKind::Io);
    files.set_faults(fault.only_in("/data2/.kafka_cleanshutdown"));
    let storage = open(&files);
    let summary = load(&storage, 1);
    assert_eq!((summary.online, summary.offline), (1, 1));
    let told: Vec<_> = watch(&storage).notice_failures();
    let [(directory, reason)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(directory.data_dir(), Path::new(SECOND));
    assert!(reason.contains("/data2/.kafka_cleanshutdown"), "{reason}");
    let mut partitions = storage.registry.all().into_iter();
    let lost = partitions.find(|one| one.name().to_string() == lost).unwrap();
    let refused = lost.append(&batch(&["x"]), Acks::All).unwrap_err().to_string();
    assert!(refused.contains("/data2/.kafka_cleanshutdown"), "{refused}");
}

/// Left as it was because another directory was missing, it came back as the beginning of a new topic.
#[test]
fn a_new_topic_does_not_take_over_a_directory_without_an_id() {
    let files = MemFileSystem::new();
    let storage = filled(&files);
    let begun = living_in(&storage, FIRST).name().to_string();
    assert!(storage.registry.close_all());
    drop(storage);
    let begun = Path::new(FIRST).join(begun);
    files.remove_file(&begun.join("partition.metadata")).unwrap();
    files.rename(Path::new(SECOND), Path::new("/away")).unwrap();
    let storage = open(&files);
    assert_eq!(load(&storage, 1).offline, 2);
    storage.registry.delete(events(1).id).unwrap();

    storage.registry.create(&events(2)).unwrap();
    for index in 0..2 {
        let partition = storage.registry.get("events", index).unwrap();
        assert_eq!(partition.log_directory().data_dir(), Path::new(FIRST));
        assert_eq!(consume(&partition, 0), Vec::<String>::new(), "{index}");
    }
    let entries = files.list(Path::new(FIRST)).unwrap();
    let strays: Vec<_> = (entries.iter())
        .filter(|entry| entry.name.ends_with("-stray"))
        .collect();
    assert_eq!(strays.len(), 1, "{entries:?}");
}

/// A creation that came no further than the directory itself is gone on with.
#[test]
fn a_creation_goes_on_where_it_was_interrupted() {
    let files = MemFileSystem::new();
    let storage = open(&files);
    for path in [FIRST, SECOND] {
        for index in 0..2 {
            let directory = Path::new(path).join(format!("events-{index}"));
            files.create_directory(&directory).unwrap();
            files.create(&directory.join("partition.metadata.tmp")).unwrap();
        }
    }
    storage.registry.create(&events(1)).unwrap();
    for path in [FIRST, SECOND] {
        let entries = files.list(Path::new(path)).unwrap();
        let is_stray = |name: &str| name.ends_with("-stray");
        assert!(!entries.iter().any(|entry| is_stray(&entry.name)), "{entries:?}");
    }
}

#[test]
fn what_may_be_in_a_missing_directory_is_not_made_anew() {
    let files = MemFileSystem::new();
    let name = living_in(&filled(&files), SECOND).name().to_string();
    files.rename(Path::new(SECOND), Path::new("/away")).unwrap();

    let storage = open(&files);
    let summary = load(&storage, 1);
    assert_eq!((summary.online, summary.offline, summary.strays), (1, 1, 0));
    let lost = storage
        .registry
        .all()
        .into_iter()
        .find(|one| one.name().to_string() == name);
    let error = lost
        .unwrap()
        .append(&batch(&["x"]), Acks::All)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(SECOND) && error.contains("bring that back"),
        "{error}"
    );
    assert!(!files.exists(&Path::new(FIRST).join(&name)).unwrap());
    drop(storage);

    files.remove_directory(Path::new(SECOND)).unwrap();
    files.rename(Path::new("/away"), Path::new(SECOND)).unwrap();
    let storage = open(&files);
    assert_eq!(load(&storage, 1).online, 2);
    assert_eq!(consume(&living_in(&storage, SECOND), 0), [SECOND]);
}

#[test]
fn a_topic_that_was_made_anew_meanwhile_is_the_one_that_counts() {
    let files = MemFileSystem::new();
    let name = living_in(&filled(&files), SECOND).name().to_string();
    files.rename(Path::new(SECOND), Path::new("/away")).unwrap();
    let storage = open(&files);
    load(&storage, 1);
    storage.registry.delete(events(1).id).unwrap();
    storage.registry.create(&events(2)).unwrap();
    let named = |storage: &Storage| {
        let mut partitions = storage.registry.all().into_iter();
        let found = partitions.find(|one| one.name().to_string() == name);
        found.unwrap()
    };
    append(&named(&storage), &["anew"], Acks::All);
    storage.work();
    drop(storage);

    files.remove_directory(Path::new(SECOND)).unwrap();
    files.rename(Path::new("/away"), Path::new(SECOND)).unwrap();
    let storage = open(&files);
    let summary = load(&storage, 2);
    assert_eq!((summary.online, summary.offline, summary.strays), (2, 0, 1));
    assert_eq!(consume(&named(&storage), 0), ["anew"]);
    let entries = files.list(Path::new(SECOND)).unwrap();
    assert!(
        entries.iter().any(|entry| entry.name.ends_with("-stray")),
        "{entries:?}"
    );
}

/// Without an id it may be an earlier topic's; it must not stand for one whose records are in the missing directory.
#[test]
fn a_directory_without_an_id_is_not_served_while_another_one_is_missing() {
    let files = MemFileSystem::new();
    let name = living_in(&filled(&files), SECOND).name().to_string();
    files.rename(Path::new(SECOND), Path::new("/away")).unwrap();
    let begun = Path::new(FIRST).join(&name);
    files.create_directory(&begun).unwrap();

    let storage = open(&files);
    let summary = load(&storage, 1);
    assert_eq!((summary.online, summary.offline, summary.strays), (1, 1, 0));
    assert_eq!(files.list(&begun).unwrap(), [], "it is left as it is");
    drop(storage);

    files.remove_directory(Path::new(SECOND)).unwrap();
    files.rename(Path::new("/away"), Path::new(SECOND)).unwrap();
    let storage = open(&files);
    let summary = load(&storage, 1);
    assert_eq!((summary.online, summary.offline, summary.strays), (2, 0, 1));
    assert_eq!(consume(&living_in(&storage, SECOND), 0), [SECOND]);
}

/// What an attempt that failed left in the missing one would come back beside what is made now, or in its place.
#[test]
fn no_partition_is_added_to_a_topic_while_a_directory_is_missing() {
    let more = topic("events", 1, 3, LogConfig::default());
    let files = MemFileSystem::new();
    drop(filled(&files));
    files.rename(Path::new(SECOND), Path::new("/away")).unwrap();
    let storage = open(&files);
    load(&storage, 1);
    let refused = storage.registry.extend(&more).unwrap_err();
    assert!(refused.to_string().contains(SECOND), "{refused}");
    assert!(!files.exists(&Path::new(FIRST).join("events-2")).unwrap());
    // A topic that is new cannot be in it.
    storage
        .registry
        .create(&topic("new", 2, 2, LogConfig::default()))
        .unwrap();
    drop(storage);

    files.remove_directory(Path::new(SECOND)).unwrap();
    files.rename(Path::new("/away"), Path::new(SECOND)).unwrap();
    let storage = open(&files);
    load(&storage, 1);
    storage.registry.extend(&more).unwrap();
    assert_eq!(storage.registry.count(), 3);
}

#[test]
fn a_partition_that_a_start_could_not_make_is_made_later() {
    let files = MemFileSystem::new();
    let storage = open(&files);
    let fault = FaultPlan::new().fail_from(FaultTarget::Create, 1, FaultKind::NoSpace);
    files.set_faults(fault.only_in("events-1"));
    assert_eq!(load(&storage, 1).offline, 1);
    let partition = storage.registry.get("events", 1).unwrap();
    partition.append(&batch(&["x"]), Acks::All).unwrap_err();

    let mut watch = watch(&storage);
    watch.tick(Duration::ZERO);
    watch.tick(Duration::from_hours(1));
    assert!(matches!(*partition.condition(), Condition::Offline { .. }));
    files.set_faults(FaultPlan::new());
    watch.tick(Duration::from_hours(3));
    append(&partition, &["x"], Acks::All);
    storage.work();
    assert_eq!(consume(&partition, 0), ["x"]);
    let home = partition.log_directory().data_dir().join("events-1");
    assert!(files.exists(&home).unwrap(), "it is where it was to be");
}

/// A sync on a dead disk may never come back, and a topic may be deleted at the same time.
#[test]
fn a_failed_directory_is_left_while_a_log_is_used_and_a_deleted_topic_stays_deleted() {
    let files = MemFileSystem::new();
    let storage = filled(&files);
    let second = living_in(&storage, SECOND);
    let mut waiting = append(&second, &["late"], Acks::All);
    let sync = second.begin_flush().unwrap();
    let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
    files.set_faults(fault.only_in("/data2/recovery-point"));
    storage.registry.checkpoint().unwrap_err();
    watch(&storage).tick(Duration::ZERO);
    assert!(is_off_line(&second));
    assert!(matches!(
        answer(&mut waiting.ack),
        Some(Err(PartitionError::Offline { .. }))
    ));
    second.finish_flush(sync.run());
    assert!(is_off_line(&second));

    storage.registry.delete(events(1).id).unwrap();
    let gone = PartitionError::Offline {
        reason: "its data directory failed".into(),
    };
    assert!(second.writer.leave(gone).is_none());
    assert!(matches!(
        second.append(&batch(&["x"]), Acks::All),
        Err(PartitionError::Deleted)
    ));
}

/// The sync may never end: whoever deletes the topic must not wait for it.
#[test]
fn a_topic_is_deleted_while_a_sync_hangs_in_a_directory_that_was_left() {
    let files = MemFileSystem::new();
    let storage = filled(&files);
    let second = living_in(&storage, SECOND);
    append(&second, &["late"], Acks::All);
    let sync = second.begin_flush().unwrap();
    let gone = PartitionError::Offline {
        reason: "its data directory failed".into(),
    };
    drop(second.writer.leave(gone).unwrap());
    let registry = Arc::clone(&storage.registry);
    let deleted = in_time("the deletion waits for no sync", move || {
        registry.delete(events(1).id)
    });
    deleted.unwrap();
    second.finish_flush(sync.run());
    assert!(matches!(
        second.append(&batch(&["x"]), Acks::All),
        Err(PartitionError::Deleted)
    ));
}
