//! What a segment asks of the disk, on files of the operating system.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fs::os::OsFileSystem;
use crate::model::Offset;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::segment::{Patience, SLICE_AHEAD, Segment, SegmentSettings};

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "waits for the disk's own time, with a limit"
)]
fn behind_a_slice_from_the_disk_it_is_read_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let settings = SegmentSettings {
        directory: Arc::from(directory.path()),
        file_system: Arc::new(OsFileSystem::new()),
        bytes_max: 1 << 20,
        index_bytes_max: 1 << 20,
        index_interval_bytes: 4096,
    };
    let path = segment_file(directory.path(), Offset::ZERO, FileKind::Log);
    let file = settings.file_system.create(&path).unwrap();
    file.write_at(0, &[IoSlice::new(&vec![1; 1 << 20])]).unwrap();
    file.sync_data().unwrap();
    let descriptor = rustix::fs::open(&path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    rustix::fs::fadvise(&descriptor, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let segment = Segment::sealed(settings, Offset::ZERO, 1 << 20, Offset::new(1), false);
    assert!(segment.slice(0..10_000, Patience::MayBlock).unwrap().is_some());
    let ahead = 10_000..10_000 + SLICE_AHEAD;
    let until = Instant::now() + Duration::from_secs(30);
    while segment
        .slice(ahead.clone(), Patience::MustNotBlock)
        .unwrap()
        .is_none()
    {
        assert!(Instant::now() < until, "nothing was read ahead");
        std::thread::yield_now();
    }
}
