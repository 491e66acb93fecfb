//! Ways of appending to a file: `pwrite` against copying into a writable map, into prepared, merely allocated and growing
//! files, from the page cache's point of view and from the disk's. The log's way of writing rests on this comparison.
//!
//! | space | what it is before the first append |
//! |---|---|
//! | growing | an empty file |
//! | allocated | `fallocate`d to its full length; the call is part of the time |
//! | prepared | filled with zeros by log-core and synced before the time begins, as the log does ahead of its writer |
//! | filled by N | the same, by calls of N bytes: the call decides how large the page cache's folios become |
//!
//! A "fresh" map meets its pages for the first time, each with a fault; in a "resident" one they are mapped already.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use log_bench::case::{Case, Options, Sample, Watch};
use log_bench::source;
use log_core::fs::os::OsFileSystem;
use log_core::fs::{self, FileSystem as _};
use memmap2::{Advice, MmapMut};
use rustix::fs::FallocateFlags;
use rustix::io::ReadWriteFlags;

/// Stays in the second-level cache, so that what is measured is the way of writing.
const SOURCE_BYTES: usize = 1 << 20;
const PAGE_CACHE_BYTES: u64 = 256 << 20;
const PAGE_CACHE_SMALL_BYTES: u64 = 64 << 20;
const DURABLE_BYTES: u64 = 64 << 20;
const DURABLE_APPENDS_MAX: u64 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Growing,
    Allocated,
    Prepared,
    FilledBy(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The system call, nothing else.
    Pwrite,
    /// log-core's seam, which calls it in the end.
    Seam,
    /// The system call that returns when the bytes are on the disk.
    PwriteDsync,
    /// A copy into a shared, writable map.
    MapFresh,
    /// The same, its pages mapped before the time begins.
    MapResident,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// The page cache is enough.
    None,
    /// `fdatasync` after each append, or for a map `msync` of what was appended.
    Each,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    way: Way,
    space: Space,
    sync: Sync,
    append_bytes: usize,
    total_bytes: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let workplace = options.workplace(env!("CARGO_TARGET_TMPDIR"))?;
    let source = source::bytes(SOURCE_BYTES);
    let mut cases = Vec::new();
    let plans = page_cache_plans(&options)
        .chain(durable_plans(&options))
        .chain(fill_plans(&options));
    for plan in plans {
        let (directory, source) = (workplace.path(), &source);
        cases.push(Case::new(plan.group(), plan.name(), move || {
            run(plan, directory, source)
        }));
    }
    options.run("Ways of appending", cases)
}

fn page_cache_plans(options: &Options) -> impl Iterator<Item = Plan> + '_ {
    let ways = [
        (Way::Pwrite, Space::Prepared),
        (Way::Seam, Space::Prepared),
        (Way::Pwrite, Space::Allocated),
        (Way::Pwrite, Space::Growing),
        (Way::MapFresh, Space::Prepared),
        (Way::MapFresh, Space::Allocated),
        (Way::MapResident, Space::Prepared),
    ];
    [100, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20]
        .into_iter()
        .flat_map(move |append_bytes| {
            let full = if append_bytes < 4 << 10 {
                PAGE_CACHE_SMALL_BYTES
            } else {
                PAGE_CACHE_BYTES
            };
            ways.map(|(way, space)| Plan {
                way,
                space,
                sync: Sync::None,
                append_bytes,
                total_bytes: options.volume(full),
            })
        })
}

fn durable_plans(options: &Options) -> impl Iterator<Item = Plan> + '_ {
    let ways = [
        (Way::Pwrite, Space::Prepared),
        (Way::Seam, Space::Prepared),
        (Way::PwriteDsync, Space::Prepared),
        (Way::Pwrite, Space::Allocated),
        (Way::PwriteDsync, Space::Allocated),
        (Way::Pwrite, Space::Growing),
        (Way::PwriteDsync, Space::Growing),
        (Way::MapFresh, Space::Allocated),
        (Way::MapResident, Space::Prepared),
    ];
    [1_u32 << 10, 4 << 10, 64 << 10, 1 << 20]
        .into_iter()
        .flat_map(move |append_bytes| {
            let appends = (DURABLE_BYTES / u64::from(append_bytes)).min(DURABLE_APPENDS_MAX);
            ways.map(|(way, space)| Plan {
                way,
                space,
                sync: Sync::Each,
                append_bytes: usize::try_from(append_bytes).unwrap_or(usize::MAX),
                total_bytes: options.volume(appends * u64::from(append_bytes)),
            })
        })
}

/// Which calls should fill the space ahead of the writer, seen from appends of several sizes.
fn fill_plans(options: &Options) -> impl Iterator<Item = Plan> + '_ {
    let steps = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
    [100, 1 << 10, 16 << 10, 1 << 20]
        .into_iter()
        .flat_map(move |append_bytes| {
            let full = if append_bytes < 4 << 10 {
                PAGE_CACHE_SMALL_BYTES
            } else {
                PAGE_CACHE_BYTES
            };
            steps.map(|step| Plan {
                way: Way::Pwrite,
                space: Space::FilledBy(step),
                sync: Sync::None,
                append_bytes,
                total_bytes: options.volume(full),
            })
        })
}

impl Plan {
    fn group(&self) -> String {
        let size = size_name(self.append_bytes);
        match self.sync {
            _ if matches!(self.space, Space::FilledBy(_)) => format!("append {size} to space filled ahead"),
            Sync::None => format!("append {size}, page cache"),
            Sync::Each => format!("append {size}, on the disk each time"),
        }
    }

    fn name(&self) -> String {
        let way = match (self.way, self.sync) {
            (Way::Pwrite, Sync::None) => "pwrite",
            (Way::Pwrite, Sync::Each) => "pwrite, fdatasync",
            (Way::Seam, Sync::None) => "log-core's file",
            (Way::Seam, Sync::Each) => "log-core's file, sync",
            (Way::PwriteDsync, _) => "pwrite with RWF_DSYNC",
            (Way::MapFresh, Sync::None) => "fresh map",
            (Way::MapFresh, Sync::Each) => "fresh map, msync",
            (Way::MapResident, Sync::None) => "resident map",
            (Way::MapResident, Sync::Each) => "resident map, msync",
        };
        let space = match self.space {
            Space::Growing => "growing",
            Space::Allocated => "allocated",
            Space::Prepared => "prepared",
            Space::FilledBy(step) => return format!("filled by {}", size_name(step)),
        };
        format!("{way}, {space}")
    }

    fn appends(&self) -> u64 {
        self.total_bytes / u64::try_from(self.append_bytes.max(1)).unwrap_or(u64::MAX)
    }
}

fn size_name(bytes: usize) -> String {
    match bytes {
        bytes if bytes < 1 << 10 => format!("{bytes} B"),
        bytes if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

fn run(plan: Plan, directory: &Path, source: &[u8]) -> anyhow::Result<Sample> {
    let target = Target::make(directory, plan)?;
    let mut writer = target.writer(plan)?;
    let mut chunks = source.chunks_exact(plan.append_bytes).cycle();
    let mut position = 0;
    let mut last = (0, source);
    let mut watch = Watch::start();
    if plan.space == Space::Allocated {
        target.allocate(plan.total_bytes)?;
    }
    for _ in 0..plan.appends() {
        let chunk = chunks.next().context("the source is larger than an append")?;
        match plan.sync {
            Sync::None => writer.append(position, chunk)?,
            Sync::Each => watch.time(|| {
                writer.append(position, chunk)?;
                writer.sync(position, chunk.len())
            })?,
        }
        last = (position, chunk);
        position += u64::try_from(chunk.len())?;
    }
    let sample = watch.stop(plan.appends(), position);
    target.check(last.0, last.1)?;
    Ok(sample)
}

/// The file that is appended to. It is removed with the value.
struct Target {
    path: PathBuf,
    file: File,
}

impl Target {
    fn make(directory: &Path, plan: Plan) -> anyhow::Result<Self> {
        let path = directory.join("append.log");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let target = Self { path, file };
        match plan.space {
            Space::Growing | Space::Allocated => {}
            Space::Prepared => {
                let file = OsFileSystem::new().open(&target.path)?;
                file.allocate(0..plan.total_bytes)?;
                file.zero_fill(0..plan.total_bytes)?;
                file.sync_data()?;
            }
            Space::FilledBy(step) => {
                target.allocate(plan.total_bytes)?;
                target.fill_with_zeros(plan.total_bytes, step)?;
                target.file.sync_data()?;
            }
        }
        Ok(target)
    }

    fn allocate(&self, length: u64) -> anyhow::Result<()> {
        Ok(rustix::fs::fallocate(
            &self.file,
            FallocateFlags::empty(),
            0,
            length,
        )?)
    }

    fn fill_with_zeros(&self, length: u64, step: usize) -> anyhow::Result<()> {
        let zeros = vec![0; step];
        let mut position = 0;
        while position < length {
            let step = zeros.len().min(usize::try_from(length - position)?);
            let written = rustix::io::pwrite(&self.file, zeros.get(..step).unwrap_or_default(), position)?;
            position += u64::try_from(written)?;
        }
        Ok(())
    }

    fn writer(&self, plan: Plan) -> anyhow::Result<Writer<'_>> {
        let length = usize::try_from(plan.total_bytes)?;
        Ok(match plan.way {
            Way::Pwrite => Writer::Pwrite(&self.file, ReadWriteFlags::empty()),
            Way::PwriteDsync => Writer::Pwrite(&self.file, ReadWriteFlags::DSYNC),
            Way::Seam => Writer::Seam(OsFileSystem::new().open(&self.path)?),
            Way::MapFresh => Writer::Map(writable_map(&self.file, length)?),
            Way::MapResident => {
                let map = writable_map(&self.file, length)?;
                map.advise(Advice::PopulateWrite)?;
                Writer::Map(map)
            }
        })
    }

    /// What was appended last is there: a way that writes nothing would be very fast.
    fn check(&self, position: u64, expected: &[u8]) -> anyhow::Result<()> {
        let mut found = vec![0; expected.len()];
        let count = rustix::io::pread(&self.file, &mut found, position)?;
        anyhow::ensure!(
            count == found.len() && found == expected,
            "the last append is not there"
        );
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

enum Writer<'a> {
    Pwrite(&'a File, ReadWriteFlags),
    Seam(Arc<dyn fs::File>),
    Map(MmapMut),
}

impl Writer<'_> {
    #[inline]
    fn append(&mut self, position: u64, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Pwrite(file, flags) if flags.is_empty() => {
                let written = rustix::io::pwrite(file, bytes, position)?;
                anyhow::ensure!(written == bytes.len(), "a short write");
            }
            Self::Pwrite(file, flags) => {
                let written = rustix::io::pwritev2(file, &[IoSlice::new(bytes)], position, *flags)?;
                anyhow::ensure!(written == bytes.len(), "a short write");
            }
            Self::Seam(file) => file.write_at(position, &[IoSlice::new(bytes)])?,
            Self::Map(map) => {
                let start = usize::try_from(position)?;
                map.get_mut(start..start + bytes.len())
                    .context("an append behind the map")?
                    .copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    #[inline]
    fn sync(&self, position: u64, length: usize) -> anyhow::Result<()> {
        match self {
            Self::Pwrite(file, flags) if flags.is_empty() => rustix::fs::fdatasync(file)?,
            Self::Pwrite(..) => {} // done by the write
            Self::Seam(file) => file.sync_data()?,
            Self::Map(map) => map.flush_range(usize::try_from(position)?, length)?,
        }
        Ok(())
    }
}

/// What the log does not do: a map that is written through.
#[expect(
    unsafe_code,
    reason = "the comparison needs the way that was not taken; log-core has no door to it"
)]
fn writable_map(file: &File, length: usize) -> anyhow::Result<MmapMut> {
    // SAFETY: the file was made by this process a moment ago under a name of its own, nobody else opens it, and it is
    // neither cut nor written by other means while the map lives.
    let map = unsafe { memmap2::MmapOptions::new().len(length).map_mut(file)? };
    Ok(map)
}
