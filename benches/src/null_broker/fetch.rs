//! Fetch: whole batches, straight from the file or from a map of it.
//!
//! A fetch that finds too little waits for the next append of any partition, and looks again.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::protocol::ErrorCode;
use rustix::net::SendFlags;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use super::partition::{Partition, Slice};
use super::topics::Topics;
use super::wire::{Head, Reader, Writer};

/// The versions that are served. There are no sessions: each request names all it wants.
pub(crate) const VERSIONS: (i16, i16) = (4, 17);
const FLEXIBLE_SINCE: i16 = 12;
const BY_ID_SINCE: i16 = 13;

/// A request as it was read.
#[derive(Debug)]
pub(crate) struct Wanted {
    head: Head,
    wait: Duration,
    bytes_min: usize,
    bytes_max: usize,
    topics: Vec<WantedTopic>,
}

#[derive(Debug)]
struct WantedTopic {
    key: Vec<u8>,
    partitions: Vec<WantedPartition>,
}

#[derive(Debug)]
struct WantedPartition {
    index: i32,
    offset: i64,
    bytes_max: usize,
    partition: Option<Arc<Partition>>,
}

fn count(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}

impl Wanted {
    pub(crate) fn read(topics: &Topics, frame: &mut [u8]) -> io::Result<Self> {
        let mut request = Reader::new(frame);
        let head = request.head(FLEXIBLE_SINCE)?;
        let version = head.version;
        let is_by_id = BY_ID_SINCE <= version;
        if version < 15 {
            request.i32()?; // replica
        }
        let wait = Duration::from_millis(u64::try_from(request.i32()?).unwrap_or(0));
        let mut wanted = Self {
            head,
            wait,
            bytes_min: count(request.i32()?),
            bytes_max: count(request.i32()?),
            topics: Vec::new(),
        };
        request.i8()?; // isolation
        if 7 <= version {
            request.i32()?; // session
            request.i32()?; // its epoch
        }
        for _ in 0..request.length()? {
            let key = if is_by_id {
                request.take(16)?
            } else {
                request.string()?
            };
            let topic = topics.find(key, is_by_id);
            let mut partitions = Vec::new();
            for _ in 0..request.length()? {
                let index = request.i32()?;
                if 9 <= version {
                    request.i32()?; // leader epoch
                }
                let offset = request.i64()?;
                if 12 <= version {
                    request.i32()?; // epoch of the last fetch
                }
                if 5 <= version {
                    request.i64()?; // log start of a follower
                }
                let bytes_max = count(request.i32()?);
                request.end_of_structure()?;
                let place = usize::try_from(index).ok();
                let partition = topic
                    .as_ref()
                    .zip(place)
                    .and_then(|(topic, place)| topic.partitions.get(place).cloned());
                partitions.push(WantedPartition {
                    index,
                    offset,
                    bytes_max,
                    partition,
                });
            }
            request.end_of_structure()?;
            let key = key.to_vec();
            wanted.topics.push(WantedTopic { key, partitions });
        }
        Ok(wanted)
    }

    /// Waits for enough, or until the time is up, and sends the answer.
    pub(crate) async fn answer(
        &self,
        topics: &Topics,
        stream: &mut TcpStream,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let begins_at = out.len();
        let deadline = tokio::time::Instant::now() + self.wait;
        let slices = loop {
            let grown = topics.grown.notified();
            tokio::pin!(grown);
            // From here on no growth is missed.
            grown.as_mut().enable();
            let (slices, is_final) = self.collect(out);
            let length: usize = slices.iter().map(|(_, slice)| slice.length).sum();
            let is_enough = is_final || self.bytes_min <= length;
            if is_enough || tokio::time::timeout_at(deadline, grown).await.is_err() {
                break slices;
            }
            out.truncate(begins_at);
        };
        send(stream, out, slices).await?;
        out.clear();
        Ok(())
    }

    /// Writes the answer's fields, and says behind which of them which records belong; and whether the answer
    /// should not wait.
    fn collect(&self, out: &mut Vec<u8>) -> (Vec<(usize, Slice)>, bool) {
        let version = self.head.version;
        let mut answer = Writer::new(out, self.head, FLEXIBLE_SINCE);
        let (mut slices, mut is_final, mut length) = (Vec::new(), false, 0);
        answer.i32(0); // throttled for
        if 7 <= version {
            answer.i16(0);
            answer.i32(0); // no session
        }
        answer.length(self.topics.len());
        for topic in &self.topics {
            if BY_ID_SINCE <= version {
                answer.bytes(&topic.key);
            } else {
                answer.string(&topic.key);
            }
            answer.length(topic.partitions.len());
            for wanted in &topic.partitions {
                let high_watermark = wanted
                    .partition
                    .as_ref()
                    .map(|partition| partition.high_watermark());
                let error = match high_watermark {
                    None => ErrorCode::UnknownTopicOrPartition.code(),
                    Some(end) if !(0..=end).contains(&wanted.offset) => ErrorCode::OffsetOutOfRange.code(),
                    Some(_) => 0,
                };
                let end = high_watermark.unwrap_or(-1);
                let room = wanted.bytes_max.min(self.bytes_max.saturating_sub(length));
                let may_read = error == 0 && wanted.offset < end && (0 < room || length == 0);
                let slice = wanted
                    .partition
                    .as_ref()
                    .filter(|_| may_read)
                    .and_then(|partition| partition.read(wanted.offset, end, room));
                is_final |= error != 0;
                answer.i32(wanted.index);
                answer.i16(error);
                answer.i64(end);
                answer.i64(end); // last stable
                if 5 <= version {
                    answer.i64(0); // log start
                }
                answer.null_array(); // aborted transactions
                if 11 <= version {
                    answer.i32(-1); // replica to read from
                }
                answer.length(slice.as_ref().map_or(0, |slice| slice.length));
                if let Some(slice) = slice {
                    length += slice.length;
                    slices.push((answer.position(), slice));
                }
                answer.end_of_structure();
            }
            answer.end_of_structure();
        }
        answer.end_of_structure();
        answer.finish(length);
        (slices, is_final)
    }
}

/// Sends the fields with the records between them.
async fn send(stream: &mut TcpStream, fields: &[u8], slices: Vec<(usize, Slice)>) -> io::Result<()> {
    let mut sent = 0;
    for (at, slice) in slices {
        let head = fields.get(sent..at).unwrap_or_default();
        sent = at;
        match slice.mapped()? {
            Some(body) => send_both(stream, head, &body).await?,
            None => send_from_file(stream, head, &slice).await?,
        }
    }
    stream.write_all(fields.get(sent..).unwrap_or_default()).await
}

impl Slice {
    fn mapped(&self) -> io::Result<Option<Bytes>> {
        let Some(map) = self.segment.map() else {
            return Ok(None);
        };
        let length = u64::try_from(self.length).unwrap_or(u64::MAX);
        let range = self.position..self.position + length;
        map.slice(range).map(Some).map_err(io::Error::other)
    }
}

async fn send_both(stream: &mut TcpStream, mut head: &[u8], mut body: &[u8]) -> io::Result<()> {
    while !head.is_empty() || !body.is_empty() {
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        let sent = stream.write_vectored(&parts).await?;
        let of_head = sent.min(head.len());
        head = head.get(of_head..).unwrap_or_default();
        body = body.get(sent - of_head..).unwrap_or_default();
    }
    Ok(())
}

async fn send_from_file(stream: &TcpStream, mut head: &[u8], slice: &Slice) -> io::Result<()> {
    while !head.is_empty() {
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                Ok(rustix::net::send(stream, head, SendFlags::MORE)?)
            })
            .await?;
        head = head.get(sent..).unwrap_or_default();
    }
    let (mut position, mut left) = (slice.position, slice.length);
    while 0 < left {
        let file = slice.segment.file();
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(stream, file, Some(&mut position), left)?)
            })
            .await?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= sent;
    }
    Ok(())
}
