//! `stratalog log dump`: shows what is in a broker's files, past damage.
//!
//! - `segment`: batches and records
//! - `index`: the three indexes
//! - `state`: snapshots and checkpoints
//!
//! With `--json` each batch, record, entry or line of a file is one JSON object on one line.

mod index;
mod segment;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use log_core::checkpoint::error::CheckpointFile;
use log_core::fs::os::OsFileSystem;
use log_core::fs::{FileSystem, FsError};
use log_core::model::{FilePosition, Offset};
use log_core::segment::file_name::{FileKind, parse_segment_file};
use serde_json::{Map, Value};

use crate::cli::failure::{Failure, Kind, Outcome};
use crate::cli::output::Output;
use crate::cli::units::Bytes;

/// Index, snapshot and checkpoint files are read whole, up to this size.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Files, or directories with all that is in them: segments, indexes, snapshots, checkpoints
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also show the records of segments
    #[arg(long, short)]
    records: bool,
    /// Show keys and values whole; otherwise they are shortened
    #[arg(long)]
    full: bool,
    /// Leave out batches that end before this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    from: Option<i64>,
    /// Show at most so many batches of each segment
    #[arg(long, short = 'n', value_name = "NUMBER")]
    batches: Option<u64>,
}

/// What is being shown, and what was found on the way.
struct Dump<'a> {
    arguments: &'a DumpArgs,
    file_system: Arc<dyn FileSystem>,
    output: &'a mut Output,
    damage: u64,
    unknown: Vec<PathBuf>,
}

pub(super) fn run(arguments: &DumpArgs, output: &mut Output) -> Outcome {
    let mut dump = Dump {
        arguments,
        file_system: Arc::new(OsFileSystem::new()),
        output,
        damage: 0,
        unknown: Vec::new(),
    };
    for path in &arguments.paths {
        if path.is_dir() {
            dump.directory(path)?;
        } else if !path.exists() {
            return Err(Failure::new(format!("there is no {}", path.display())));
        } else {
            dump.file(path)?;
        }
    }
    if let Some(path) = dump.unknown.first() {
        return Err(Failure::usage(format!(
            "{} is not a file of a broker's that can be shown",
            path.display()
        ))
        .advise("its name tells what it is: keep the names that the broker gave"));
    }
    if 0 < dump.damage {
        return Err(Failure::silent(Kind::Damaged));
    }
    Ok(())
}

impl Dump<'_> {
    /// All files in a directory, segment by segment, then those below it.
    fn directory(&mut self, directory: &Path) -> Outcome {
        let entries = self
            .file_system
            .list(directory)
            .map_err(|error| unreadable(&error))?;
        let (directories, mut files): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.is_directory);
        files.sort_by_key(|entry| (parse_segment_file(&entry.name), entry.name.clone()));
        for entry in &files {
            let path = directory.join(&entry.name);
            if Self::reader(&path).is_some() {
                self.file(&path)?;
            }
        }
        for entry in directories {
            self.directory(&directory.join(entry.name))?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Outcome {
        if let Some(read) = Self::reader(path) {
            return read(self, path);
        }
        self.unknown.push(path.to_owned());
        Ok(())
    }

    /// How to show a file, by its name.
    fn reader(path: &Path) -> Option<fn(&mut Self, &Path) -> Outcome> {
        let name = path.file_name()?.to_str()?;
        if let Some((_, kind)) = parse_segment_file(name) {
            return Some(match kind {
                FileKind::Log => Self::segment,
                FileKind::OffsetIndex => Self::offset_index,
                FileKind::TimeIndex => Self::time_index,
                FileKind::TransactionIndex => Self::transaction_index,
                FileKind::ProducerSnapshot => Self::producer_snapshot,
            });
        }
        let is = |file: CheckpointFile| name == file.name();
        if is(CheckpointFile::LeaderEpoch) {
            Some(Self::leader_epochs)
        } else if is(CheckpointFile::PartitionMetadata) {
            Some(Self::partition_metadata)
        } else if is(CheckpointFile::CleanShutdown) {
            Some(Self::clean_shutdown)
        } else if name.ends_with("-offset-checkpoint") {
            Some(Self::offset_checkpoint)
        } else if state::metadata_snapshot_offset(name).is_some() {
            Some(Self::metadata_snapshot)
        } else {
            None
        }
    }

    /// The base offset in a segment file's name.
    fn base_of(path: &Path) -> Offset {
        let name = path.file_name().and_then(|name| name.to_str());
        let parsed = name.and_then(parse_segment_file);
        parsed.map_or(Offset::ZERO, |(base, _)| base)
    }

    fn read(&self, path: &Path) -> Outcome<Vec<u8>> {
        self.file_system
            .read(path, FILE_BYTES_MAX)
            .map_err(|error| unreadable(&error))
    }

    /// The line above what is in a file.
    fn heading(&mut self, path: &Path, bytes: u64, what: &str) -> Outcome {
        if self.output.is_json() {
            return Ok(());
        }
        let palette = self.output.palette;
        let size = palette.faint(format_args!("{what}, {}", Bytes(bytes)));
        let path = palette.strong(path.display());
        self.output.line(format_args!("{path}  {size}"))
    }

    /// Something is wrong in this file.
    fn damaged(
        &mut self,
        path: &Path,
        position: Option<FilePosition>,
        what: &dyn std::fmt::Display,
    ) -> Outcome {
        self.damage = self.damage.saturating_add(1);
        if self.output.is_json() {
            let mut fields = Map::new();
            fields.insert("position".to_owned(), position.map(FilePosition::get).into());
            fields.insert("what".to_owned(), what.to_string().into());
            return self.object(path, "damage", fields);
        }
        let word = self.output.palette.bad("DAMAGED");
        match position {
            Some(position) => self.output.line(format_args!("  {position:<9} {word}: {what}")),
            None => self.output.line(format_args!("  {word}: {what}")),
        }
    }

    /// One JSON object about a part of this file.
    fn object(&mut self, path: &Path, kind: &str, fields: Map<String, Value>) -> Outcome {
        let mut object = Map::new();
        object.insert("file".to_owned(), path.display().to_string().into());
        object.insert("type".to_owned(), kind.into());
        object.extend(fields);
        self.output.json(&object)
    }
}

fn unreadable(error: &FsError) -> Failure {
    Failure::new(error.to_string()).advise("see that it exists and that this user may read it")
}

/// The fields of a `json!` object.
fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
