//! Produce: the answer is written while the request is read.
//!
//! Where batches are synced, every answer but that to `acks=0` waits for the sync, whatever `acks` says.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use log_core::protocol::ErrorCode;

use super::partition::Partition;
use super::topics::{Topic, Topics};
use super::wire::{Reader, Writer};

/// The versions that are served: those in which a partition has one batch of format v2.
pub(crate) const VERSIONS: (i16, i16) = (3, 13);
const FLEXIBLE_SINCE: i16 = 9;
const BY_ID_SINCE: i16 = 13;

/// What one connection remembers between requests.
#[derive(Debug, Default)]
pub(crate) struct Producing {
    topic: Option<Arc<Topic>>,
    /// What the answers that are not sent yet wait for.
    pub(crate) waits_for: Vec<(Arc<Partition>, i64)>,
}

impl Producing {
    fn topic(&mut self, topics: &Topics, key: &[u8], is_id: bool) -> Option<&Arc<Topic>> {
        let is_same = |topic: &Arc<Topic>| {
            let same = if is_id {
                topic.id.to_bytes() == key
            } else {
                topic.name == key
            };
            same && !topic.is_deleted.load(Ordering::Acquire)
        };
        if !self.topic.as_ref().is_some_and(is_same) {
            self.topic = topics.find(key, is_id);
        }
        self.topic.as_ref()
    }

    fn wait_for(&mut self, partition: &Arc<Partition>, end_offset: i64) {
        match self.waits_for.last_mut() {
            Some((last, end)) if Arc::ptr_eq(last, partition) => *end = end_offset,
            _ => self.waits_for.push((Arc::clone(partition), end_offset)),
        }
    }

    /// Appends what a frame holds, and writes the answer unless none is wanted.
    pub(crate) fn answer(&mut self, topics: &Topics, frame: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut request = Reader::new(frame);
        let head = request.head(FLEXIBLE_SINCE)?;
        let version = head.version;
        let is_by_id = BY_ID_SINCE <= version;
        request.string()?; // transactional id
        let acks = request.i16()?;
        request.i32()?; // time limit
        let mut answer = Writer::new(out, head, FLEXIBLE_SINCE);
        let topic_count = request.length()?;
        answer.length(topic_count);
        for _ in 0..topic_count {
            let key: &[u8] = if is_by_id {
                request.take(16)?
            } else {
                request.string()?
            };
            if is_by_id {
                answer.bytes(key);
            } else {
                answer.string(key);
            }
            let partition_count = request.length()?;
            answer.length(partition_count);
            for _ in 0..partition_count {
                let index = request.i32()?;
                let length = request.length()?;
                let batch = request.take(length)?;
                request.end_of_structure()?;
                let (error, base_offset) = self.append(topics, (key, is_by_id), index, batch, acks != 0);
                answer.i32(index);
                answer.i16(error);
                answer.i64(base_offset);
                answer.i64(-1); // append time
                if 5 <= version {
                    answer.i64(0); // log start
                }
                if 8 <= version {
                    answer.length(0); // errors of records
                    answer.null_string(); // message
                }
                answer.end_of_structure();
            }
            request.end_of_structure()?;
            answer.end_of_structure();
        }
        answer.i32(0); // throttled for
        answer.end_of_structure();
        if acks == 0 {
            answer.cancel();
        } else {
            answer.finish(0);
        }
        Ok(())
    }

    fn append(
        &mut self,
        topics: &Topics,
        (key, is_id): (&[u8], bool),
        index: i32,
        batch: &mut [u8],
        is_answered: bool,
    ) -> (i16, i64) {
        let partition = self.topic(topics, key, is_id).and_then(|topic| {
            let index = usize::try_from(index).ok()?;
            topic.partitions.get(index).cloned()
        });
        let Some(partition) = partition else {
            return (ErrorCode::UnknownTopicOrPartition.code(), -1);
        };
        match partition.append(batch) {
            Ok((base_offset, end_offset)) => {
                if is_answered {
                    self.wait_for(&partition, end_offset);
                } else {
                    // Consumers see it when it is synced; nobody else waits.
                    partition.begin_sync();
                }
                (0, base_offset)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                (ErrorCode::CorruptMessage.code(), -1)
            }
            Err(_) => (ErrorCode::KafkaStorageError.code(), -1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log_core::record::compression::Compression;

    use super::super::{Send, Settings, Space, Store, Sync};
    use super::*;
    use crate::source;

    #[tokio::test]
    async fn who_wants_no_answer_waits_for_no_sync_and_is_read_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: directory.path().to_path_buf(),
            store: Store::Pwrite,
            sync: Sync::Fdatasync,
            space: Space::Allocated,
            segment_bytes: 64 << 10,
            send: Send::Sendfile,
        };
        let topics = Topics::new(settings).unwrap();
        let topic = topics.create(b"t", 1, None).unwrap();
        let mut batch = source::batch(4 << 10, 1000, Compression::None).to_vec();
        let mut producing = Producing::default();
        let mut append = |is_answered| {
            let appended = producing.append(&topics, (b"t", false), 0, &mut batch, is_answered);
            assert_eq!(appended.0, 0);
            producing.waits_for.len()
        };
        assert_eq!(append(false), 0);
        let synced = async {
            while topic.partitions[0].high_watermark() == 0 {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, synced).await.expect("it is synced");
        assert_eq!(append(true), 1);
    }
}
