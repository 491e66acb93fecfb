//! One partition: appending under one lock, syncing in groups, finding batches by offset.
//!
//! Where it syncs, a thread of the partition does nothing else: it is woken by whoever waits, syncs, and tells everybody
//! up to where. What is appended meanwhile waits for the next sync.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log_core::record::crc32c;
use tokio::sync::{Notify, watch};

use super::segment::Segment;
use super::wire::malformed;
use super::{Settings, Store, Sync};

/// Of a batch, format v2: where its fields begin.
const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = BASE_OFFSET_AT + 8;
const LEADER_EPOCH_AT: usize = LENGTH_AT + 4;
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
const CHECKSUM_AT: usize = MAGIC_AT + 1;
const ATTRIBUTES_AT: usize = CHECKSUM_AT + 4;
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
const HEADER_BYTES: usize = 61;

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    log: Mutex<Log>,
    settings: Settings,
    /// Where segments are made: directory, and what their names begin with.
    path: PathBuf,
    segment_bytes: u64,
    syncer: Option<Syncer>,
    /// Everybody who waits for records of any partition.
    grown: Arc<Notify>,
}

#[derive(Debug)]
struct Syncer {
    wake: SyncSender<()>,
    /// Closed when a sync has failed.
    synced: watch::Receiver<i64>,
}

/// What is written, and where.
#[derive(Debug)]
struct Log {
    segments: Vec<Arc<Segment>>,
    position: u64,
    end_offset: i64,
    batches: Vec<Place>,
    /// Of the first segment that is not synced whole.
    dirty_from: usize,
}

/// Where a batch lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    base_offset: i64,
    segment: usize,
    position: u64,
    end: u64,
}

/// Whole batches that lie one behind the other.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) segment: Arc<Segment>,
    pub(crate) position: u64,
    pub(crate) length: usize,
}

impl Partition {
    pub(crate) fn open(
        path: PathBuf,
        segment_bytes: u64,
        settings: &Settings,
        grown: &Arc<Notify>,
    ) -> io::Result<Arc<Self>> {
        let mut log = Log {
            segments: Vec::new(),
            position: 0,
            end_offset: 0,
            batches: Vec::new(),
            dirty_from: 0,
        };
        if settings.store == Store::Pwrite {
            log.roll(&path, segment_bytes, settings)?;
        }
        let (syncer, receiver) = if settings.sync == Sync::Fdatasync {
            let (wake, woken) = mpsc::sync_channel(1);
            let (tell, synced) = watch::channel(0);
            (Some(Syncer { wake, synced }), Some((woken, tell)))
        } else {
            (None, None)
        };
        let partition = Arc::new(Self {
            log: Mutex::new(log),
            settings: settings.clone(),
            path,
            segment_bytes,
            syncer,
            grown: Arc::clone(grown),
        });
        if let Some((woken, tell)) = receiver {
            let weak = Arc::downgrade(&partition);
            std::thread::spawn(move || {
                while woken.recv().is_ok() {
                    let Some(partition) = weak.upgrade() else {
                        return;
                    };
                    let Ok(end_offset) = partition.sync() else {
                        return;
                    };
                    tell.send_replace(end_offset);
                    partition.grown.notify_waiters();
                }
            });
        }
        Ok(partition)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks one batch, gives it its offset and writes it; returns that and the log's end behind it.
    pub(crate) fn append(&self, batch: &mut [u8]) -> io::Result<(i64, i64)> {
        let count = check(batch)?;
        let length = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut log = self.log();
        let base_offset = log.end_offset;
        if self.settings.store == Store::Pwrite {
            if self.segment_bytes < log.position + length {
                log.roll(&self.path, self.segment_bytes.max(length), &self.settings)?;
            }
            if let Some(place) = batch.first_chunk_mut() {
                *place = base_offset.to_be_bytes();
            }
            let segment = log.segments.len() - 1;
            let position = log.position;
            if let Some(segment) = log.segments.last() {
                segment.write(position, batch)?;
            }
            log.position += length;
            log.batches.push(Place {
                base_offset,
                segment,
                position,
                end: position + length,
            });
        }
        log.end_offset += count;
        let end_offset = log.end_offset;
        drop(log);
        if self.syncer.is_none() {
            self.grown.notify_waiters();
        }
        Ok((base_offset, end_offset))
    }

    /// Returns when everything before `end_offset` is as durable as it is to be.
    pub(crate) async fn durable(&self, end_offset: i64) -> io::Result<()> {
        let Some(syncer) = &self.syncer else {
            return Ok(());
        };
        let mut reached = syncer.synced.clone();
        while *reached.borrow_and_update() < end_offset {
            // A wake-up that is still to be taken up will see this append as well.
            syncer.wake.try_send(()).ok();
            if reached.changed().await.is_err() {
                return Err(io::Error::other("the sync failed"));
            }
        }
        Ok(())
    }

    /// Has everything that was appended synced, without waiting for it.
    pub(crate) fn begin_sync(&self) {
        if let Some(syncer) = &self.syncer {
            // A wake-up that is still to be taken up will see this append as well.
            syncer.wake.try_send(()).ok();
        }
    }

    fn sync(&self) -> io::Result<i64> {
        let log = self.log();
        let end_offset = log.end_offset;
        let last = log.segments.len().saturating_sub(1);
        let dirty: Vec<_> = log.segments.iter().skip(log.dirty_from).cloned().collect();
        drop(log);
        for segment in dirty {
            segment.sync()?;
        }
        self.log().dirty_from = last;
        Ok(end_offset)
    }

    /// Up to where consumers read.
    pub(crate) fn high_watermark(&self) -> i64 {
        match &self.syncer {
            Some(syncer) => *syncer.synced.borrow(),
            None => self.log().end_offset,
        }
    }

    /// Whole batches from the one with that offset on: at least one, and no more than `bytes_max` of several.
    pub(crate) fn read(&self, offset: i64, high_watermark: i64, bytes_max: usize) -> Option<Slice> {
        let log = self.log();
        let first = log
            .batches
            .partition_point(|place| place.base_offset <= offset)
            .checked_sub(1)?;
        let from = *log.batches.get(first)?;
        let most = from.position + u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let rest = log.batches.get(first + 1..)?;
        let more = rest.partition_point(|place| {
            place.segment == from.segment && place.end <= most && place.base_offset < high_watermark
        });
        let end = more
            .checked_sub(1)
            .and_then(|last| rest.get(last))
            .map_or(from.end, |place| place.end);
        Some(Slice {
            segment: Arc::clone(log.segments.get(from.segment)?),
            position: from.position,
            length: usize::try_from(end - from.position).ok()?,
        })
    }
}

impl Log {
    fn roll(&mut self, path: &std::path::Path, bytes: u64, settings: &Settings) -> io::Result<()> {
        let number = self.segments.len();
        let path = path.with_extension(format!("{number}.log"));
        self.segments
            .push(Arc::new(Segment::prepare(&path, bytes, settings)?));
        self.position = 0;
        Ok(())
    }
}

/// Checks that this is one batch of format v2 and that its checksum is right; returns how many offsets it takes.
fn check(batch: &[u8]) -> io::Result<i64> {
    let length = i32_at(batch, LENGTH_AT)?;
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let is_whole = HEADER_BYTES <= batch.len() && length == batch.len() - LEADER_EPOCH_AT;
    let checked = batch.get(ATTRIBUTES_AT..).ok_or_else(malformed)?;
    let stored = i32_at(batch, CHECKSUM_AT)?.to_be_bytes();
    if !is_whole || batch.get(MAGIC_AT) != Some(&2) || crc32c(checked).to_be_bytes() != stored {
        return Err(malformed());
    }
    Ok(i64::from(i32_at(batch, LAST_OFFSET_DELTA_AT)?) + 1)
}

fn i32_at(bytes: &[u8], at: usize) -> io::Result<i32> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.copied().map(i32::from_be_bytes).ok_or_else(malformed)
}
