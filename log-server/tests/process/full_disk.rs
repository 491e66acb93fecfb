//! A disk that fills up, on a small file system of its own.
//!
//! Producers get an error that says so, readers go on, nothing acknowledged is lost; when space returns the same
//! server takes the same batch, once. Also a server that is killed while the disk is full, and starts on it.
//!
//! Mounting needs root. Without it the test says so and passes, except where `CI=true`, where it fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use log_client::connection::Connection;
use log_core::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::protocol::ErrorCode;
use log_core::record::batch::batches;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};

use crate::server::Place;
use crate::{number, wire};

/// Room for a few segments of a mebibyte, and quickly full.
const DISK_MIB: u32 = 64;

/// What is put aside so that it can be given back.
const BALLAST_BYTES: u64 = 16 << 20;

/// Incompressible, and several to a segment.
const VALUE_BYTES: usize = 100_000;

/// Far more than the disk takes.
const BATCHES_MAX: usize = 2_000;

/// How long writing may take to resume after space came back.
const RESUME_MAX: Duration = Duration::from_secs(30);

/// Between two tries of a producer that was refused.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A mounted file system that is unmounted again.
struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Mounts one, or says why that cannot be done here.
    fn mount(root: &Path) -> Result<Self, String> {
        let size = format!("size={DISK_MIB}m");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "stratalog-test"])
            .arg(root)
            .output();
        match done {
            Ok(output) if output.status.success() => Ok(Self {
                root: root.to_owned(),
            }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    fn put_ballast(&self) {
        std::fs::write(self.ballast(), vec![0; usize::try_from(BALLAST_BYTES).unwrap()]).unwrap();
    }

    /// Takes whatever is left, to the last byte.
    fn fill(&self) {
        let fill = std::fs::File::create(self.root.join("fill")).unwrap();
        let mut size = 64 << 20;
        let mut offset = 0;
        while 0 < size {
            match rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), offset, size) {
                Ok(()) => offset += size,
                Err(_) => size /= 2,
            }
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.root.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a killed server's files may be released a moment later.
        Command::new("umount").arg("-l").arg(&self.root).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let mount_point = directory.path().join("disk");
    std::fs::create_dir(&mount_point).unwrap();
    let disk = match Disk::mount(&mount_point) {
        Ok(disk) => disk,
        Err(reason) => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "the full-disk test must run in CI and cannot mount a file system: {reason}"
            );
            eprintln!("SKIPPED a_full_disk_refuses_writes_and_resumes: cannot mount a file system: {reason}");
            return;
        }
    };
    let place = Place::new(directory.path())
        .with_data_dir(&disk.root.join("data"))
        .with("log-reopen-backoff-ms", "50")
        .with("log-reopen-backoff-max-ms", "500");
    let seed = number("STRATALOG_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("full disk: STRATALOG_SEED={seed}");
    let mut rng = Rng::with_seed(seed);

    disk.put_ballast();
    let mut server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    wire::create_topic(&connection, "large", 1, &[("segment.bytes", "4194304")])
        .await
        .unwrap();
    wire::create_topic(&connection, "spare", 1, &[("segment.bytes", "4194304")])
        .await
        .unwrap();
    let mut writer = Writer::new(&connection, "large").await;
    let mut spare = Writer::new(&connection, "spare").await;
    for _ in 0..50 {
        spare.write(&connection, &mut rng).await.unwrap();
    }

    // The disk fills under a producer.
    let refusal = writer.write_until_refused(&connection, &mut rng).await;
    eprintln!(
        "full disk: refused with {refusal:?} after {} batches",
        writer.acknowledged.len()
    );
    assert!(server.is_running(), "{}", place.log_tail());
    writer.check(&connection).await;
    spare.check(&connection).await;
    assert!(
        writer.write(&connection, &mut rng).await.is_err(),
        "a write succeeded without space"
    );
    writer.check(&connection).await;

    // Space returns: the batch that was refused is taken by the same server, once.
    std::fs::remove_file(disk.ballast()).unwrap();
    let took = writer.write_until_taken(&connection, &mut rng).await;
    eprintln!("full disk: writing resumed {took:?} after space returned");
    for _ in 0..20 {
        writer.write(&connection, &mut rng).await.unwrap();
    }
    writer.check(&connection).await;

    // Full again, to the last byte; deleting a topic gives the space back.
    disk.fill();
    writer.write_until_refused(&connection, &mut rng).await;
    wire::delete_topic(&connection, "spare").await.unwrap();
    let took = writer.write_until_taken(&connection, &mut rng).await;
    eprintln!("full disk: writing resumed {took:?} after a topic was deleted");
    writer.check(&connection).await;

    // Killed while full, started while full: reading works, and so does writing once there is space.
    disk.empty();
    disk.fill();
    writer.write_until_refused(&connection, &mut rng).await;
    server.kill();
    let server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    writer.check(&connection).await;
    disk.empty();
    let took = writer.write_until_taken(&connection, &mut rng).await;
    eprintln!("full disk: writing resumed {took:?} after a start on a full disk");
    writer.check(&connection).await;
    assert!(server.stop().success(), "{}", place.log_tail());

    // And after an orderly stop everything is still there.
    let server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    writer.check(&connection).await;
    drop(server);
}

/// An idempotent producer of one partition that keeps the batch that was refused.
struct Writer {
    topic: &'static str,
    id: i64,
    epoch: i16,
    refused: Option<(Bytes, Bytes)>,
    /// Values by offset.
    acknowledged: Vec<Bytes>,
}

impl Writer {
    async fn new(connection: &Connection, topic: &'static str) -> Self {
        let (id, epoch) = wire::init_producer(connection).await;
        Self {
            topic,
            id,
            epoch,
            refused: None,
            acknowledged: Vec::new(),
        }
    }

    /// Sends the next batch, or the one that was refused before.
    async fn write(&mut self, connection: &Connection, rng: &mut Rng) -> Result<(), ErrorCode> {
        let (value, records) = self.refused.take().unwrap_or_else(|| self.next_batch(rng));
        let request = wire::produce_request(self.topic, 0, records.clone());
        let response = connection
            .call_version(&request, wire::PRODUCE_VERSION, wire::PATIENCE)
            .await
            .unwrap();
        match wire::produced(&response) {
            Ok(offset) => {
                let expected = i64::try_from(self.acknowledged.len()).unwrap();
                assert_eq!(offset, expected, "{}: a batch was lost or doubled", self.topic);
                self.acknowledged.push(value);
                Ok(())
            }
            Err(code) => {
                assert!(
                    matches!(code, ErrorCode::KafkaStorageError | ErrorCode::PolicyViolation),
                    "{}: refused with {code:?}",
                    self.topic
                );
                self.refused = Some((value, records));
                Err(code)
            }
        }
    }

    fn next_batch(&self, rng: &mut Rng) -> (Bytes, Bytes) {
        let value: Bytes = std::iter::repeat_with(|| rng.u8(..)).take(VALUE_BYTES).collect();
        let sequence = i32::try_from(self.acknowledged.len()).unwrap();
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: BatchProducer {
                id: ProducerId::new(self.id),
                epoch: ProducerEpoch::new(self.epoch),
                base_sequence: Sequence::new(sequence),
            },
            ..BatchOptions::default()
        });
        builder
            .append(TimestampMs::new(1_700_000_000_000), None, Some(&value), &[])
            .unwrap();
        (value, builder.build())
    }

    async fn write_until_refused(&mut self, connection: &Connection, rng: &mut Rng) -> ErrorCode {
        for _ in 0..BATCHES_MAX {
            if let Err(code) = self.write(connection, rng).await {
                return code;
            }
        }
        panic!("{BATCHES_MAX} batches of {VALUE_BYTES} bytes fit on a disk of {DISK_MIB} MiB");
    }

    async fn write_until_taken(&mut self, connection: &Connection, rng: &mut Rng) -> Duration {
        let began = Instant::now();
        while let Err(code) = self.write(connection, rng).await {
            assert!(
                began.elapsed() < RESUME_MAX,
                "still {code:?} {RESUME_MAX:?} after space returned"
            );
            tokio::time::sleep(TRY_AGAIN).await;
        }
        began.elapsed()
    }

    /// Everything acknowledged is read back, byte for byte.
    async fn check(&self, connection: &Connection) {
        let mut offset = 0;
        while offset < self.acknowledged.len() {
            let at = i64::try_from(offset).unwrap();
            let fetched = wire::fetch(connection, self.topic, 0, at).await.unwrap();
            let fetched =
                fetched.unwrap_or_else(|code| panic!("{}: fetch from {at} ended in {code:?}", self.topic));
            let before = offset;
            for batch in batches(&fetched.records) {
                let batch = batch.unwrap();
                batch.verify_checksum().unwrap();
                for record in batch.records(&mut Vec::new(), VALUE_BYTES * 2).unwrap() {
                    let record = record.unwrap();
                    assert_eq!(
                        record.offset.get(),
                        i64::try_from(offset).unwrap(),
                        "{}",
                        self.topic
                    );
                    if let Some(value) = self.acknowledged.get(offset) {
                        assert!(
                            record.value == Some(&value[..]),
                            "{}: other bytes at {offset}",
                            self.topic
                        );
                    }
                    offset += 1;
                }
            }
            assert!(
                before < offset,
                "{}: nothing at offset {before} of {}",
                self.topic,
                self.acknowledged.len()
            );
        }
    }
}
