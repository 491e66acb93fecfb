//! Workers without a session compete for the records of a group while the broker is killed: each record is done by somebody, and those of a partition in their order.
//!
//! Workers lease, and then acknowledge, extend, give back, or vanish without a word, by chance. Meanwhile a feeder writes to all partitions, and the broker is killed
//! with `kill -9` at random moments and started again. When all is calm, the workers go on until nothing is left. Then
//!
//! - each record was in a batch that its worker was done with;
//! - no record is in two batches that were acknowledged;
//! - nobody was given a batch before the one that stands in front of it had been acknowledged.
//!
//! `STRATALOG_CRASH_ROUNDS` says how often the broker is killed, `STRATALOG_SEED` what is random here (not the scheduling).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::number;
use crate::server::Place;

/// Enough for every change.
const ROUNDS: u64 = 3;
const PARTITIONS: usize = 6;
/// More than there are partitions, so that some wait.
const WORKERS: u64 = 8;
/// How long the rest may take when nobody is killed any more.
const CALM_MAX: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_do_each_record_and_those_of_a_partition_in_order_whoever_is_killed() {
    let rounds = number("STRATALOG_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("STRATALOG_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("leases: {rounds} rounds, STRATALOG_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let mut server = place.start();
    let site = Arc::new(Site::new(server.http()));
    let topic = json!({"name": "jobs", "partitions": PARTITIONS});
    assert_eq!(site.post("/v1/topics", &topic).await.unwrap().0, 201);

    let feeder = tokio::spawn(feed(Arc::clone(&site)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(work(Arc::clone(&site), rng.u64(..))))
        .collect();
    for _ in 0..rounds {
        // Not to wait for something, but to reach any moment of a lease.
        tokio::time::sleep(Duration::from_millis(rng.u64(300..2_000))).await;
        server.kill();
        server = tokio::task::spawn_blocking({
            let place = place.clone();
            move || place.start()
        })
        .await
        .unwrap();
        site.moved_to(server.http());
    }
    site.is_calm.store(true, Ordering::SeqCst);
    feeder.await.unwrap();
    let began = Instant::now();
    while site.left().await != Some(0) {
        assert!(
            began.elapsed() < CALM_MAX,
            "records are left:\n{}",
            place.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    site.is_over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let counts = site.check(&site.ends().await);
    eprintln!("leases: {rounds} kills, {counts}");
    assert!(server.stop().success(), "{}", place.log_tail());
}

/// A batch that its worker was done with.
#[derive(Debug, Clone, Copy)]
struct Done {
    to: i64,
    /// On a clock that counts what was asked and answered: when the worker had the records, and when it asked for the acknowledgement.
    leased: u64,
    asked: u64,
    /// Whether it was told that this counts. If not, it may count all the same.
    is_acknowledged: bool,
}

/// The broker wherever it is now, and what its workers did.
struct Site {
    address: Mutex<String>,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    clock: AtomicU64,
    /// By partition, and by first offset.
    done: Mutex<[BTreeMap<i64, Vec<Done>>; PARTITIONS]>,
    lost: AtomicU64,
}

impl Site {
    fn new(address: &str) -> Self {
        Self {
            address: Mutex::new(address.to_owned()),
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            done: Mutex::default(),
            lost: AtomicU64::new(0),
        }
    }

    fn moved_to(&self, address: &str) {
        address.clone_into(&mut self.address.lock());
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn post(&self, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        self.request("POST", path, &body.to_string()).await
    }

    async fn act(&self, token: &str, verb: &str) -> io::Result<(u16, Value)> {
        let path = format!("/v1/groups/workers/leases/{token}/{verb}");
        self.request("POST", &path, "").await
    }

    /// A request on a connection of its own; the broker may die at any point of it.
    async fn request(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let address = self.address.lock().clone();
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\
             \r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let document = serde_json::from_str(body).map_err(|_| broken())?;
        Ok((status.ok_or_else(broken)?, document))
    }

    /// How many records the group has yet to read; nothing while nobody knows.
    async fn left(&self) -> Option<i64> {
        let (status, lag) = self.request("GET", "/v1/groups/workers/lag", "").await.ok()?;
        let is_whole = lag["partitions"].as_array().map(Vec::len) == Some(PARTITIONS);
        (status == 200 && is_whole).then(|| lag["records"].as_i64())?
    }

    /// Where each partition ends.
    async fn ends(&self) -> Vec<i64> {
        let latest = "/v1/topics/jobs/offsets?at=latest";
        let (_, found) = self.request("GET", latest, "").await.unwrap();
        let rows = found["offsets"].as_array().unwrap().iter();
        rows.map(|row| row["offset"].as_i64().unwrap()).collect()
    }

    /// Holds what was done to what the file says at its top.
    fn check(&self, ends: &[i64]) -> String {
        let done = self.done.lock();
        let mut counts = (0, 0);
        for (partition, (batches, end)) in done.iter().zip(ends).enumerate() {
            assert!(0 < *end, "nothing was written to {partition}");
            let mut covered = 0;
            let mut before: Option<(i64, Done)> = None;
            for (from, tries) in batches {
                assert!(*from <= covered, "{partition}: nobody did {covered} to {from}");
                for batch in tries {
                    covered = covered.max(batch.to);
                    counts.1 += 1;
                }
                let acknowledged: Vec<_> = tries.iter().filter(|batch| batch.is_acknowledged).collect();
                assert!(
                    acknowledged.len() <= 1,
                    "{partition}: {from} counts twice: {tries:?}"
                );
                let Some(batch) = acknowledged.first() else {
                    continue;
                };
                if let Some((first, before)) = before {
                    assert!(
                        before.to <= *from,
                        "{partition}: {first} to {} and {from} count",
                        before.to
                    );
                    assert!(
                        before.asked < batch.leased,
                        "{partition}: {from} was leased before {first} was acknowledged: {before:?} {batch:?}"
                    );
                }
                before = Some((*from, **batch));
                counts.0 += 1;
            }
            assert_eq!(covered, *end, "{partition}: the last records were done by nobody");
        }
        let lost = self.lost.load(Ordering::SeqCst);
        format!(
            "{} records, {} batches done, {} acknowledged, {lost} lost to another",
            ends.iter().sum::<i64>(),
            counts.1,
            counts.0
        )
    }
}

/// Writes to all partitions until it is calm.
async fn feed(site: Arc<Site>) {
    let records: Vec<_> = (0..2 * PARTITIONS)
        .map(|number| json!({"partition": number % PARTITIONS, "value": number}))
        .collect();
    let body = json!({ "records": records });
    while !site.is_calm.load(Ordering::SeqCst) {
        drop(site.post("/v1/topics/jobs/records", &body).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What was sent last may not have arrived.
    while !matches!(site.post("/v1/topics/jobs/records", &body).await, Ok((200, _))) {}
}

/// Does records until it is over.
async fn work(site: Arc<Site>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !site.is_over.load(Ordering::SeqCst) {
        let limit = rng.u8(1..12);
        let lease_ms = rng.u64(200..1_000);
        let path =
            format!("/v1/groups/workers/leases?topics=jobs&limit={limit}&lease_ms={lease_ms}&wait_ms=200");
        match site.request("POST", &path, "").await {
            Ok((200, lease)) if lease["token"].is_string() => handle(&site, &mut rng, &lease).await,
            Ok((200 | 503, _)) => {}
            Ok(other) => panic!("{other:?}"),
            // The broker is dead for the moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Does something with a lease.
async fn handle(site: &Site, rng: &mut Rng, lease: &Value) {
    let leased = site.tick();
    let number = |name: &str| lease[name].as_i64().unwrap();
    let (from, to) = (number("offset"), number("next_offset"));
    let records = lease["records"].as_array().unwrap();
    let offsets: Vec<_> = records
        .iter()
        .map(|record| record["offset"].as_i64().unwrap())
        .collect();
    assert_eq!(
        offsets,
        (from..to).collect::<Vec<_>>(),
        "not all records of the lease"
    );
    let partition = usize::try_from(number("partition")).unwrap();
    let token = lease["token"].as_str().unwrap();
    match rng.u8(..20) {
        0 => return,
        1 => {
            drop(site.act(token, "release").await);
            return;
        }
        2 => drop(site.act(token, "extend?lease_ms=500").await),
        3 => tokio::time::sleep(Duration::from_millis(rng.u64(..600))).await,
        _ => {}
    }
    let asked = site.tick();
    let answer = site.act(token, "acknowledge").await;
    let is_acknowledged = match &answer {
        Ok((200, answer)) => {
            assert_eq!(answer["committed"], to);
            true
        }
        Ok((409, problem)) => {
            assert_eq!(problem["code"], "lease_lost");
            site.lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        // Nobody knows whether it counts.
        Ok((503, _)) | Err(_) => false,
        Ok(other) => panic!("{other:?}"),
    };
    let mut done = site.done.lock();
    done[partition].entry(from).or_default().push(Done {
        to,
        leased,
        asked,
        is_acknowledged,
    });
}
