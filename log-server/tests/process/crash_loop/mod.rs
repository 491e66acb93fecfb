//! `kill -9` under full load, again and again: what was acknowledged is there, once, in order, at its offset.
//!
//! Idempotent producers of three clients write to three topics: one as topics are, one under retention with small
//! segments, one whose front is deleted by request. Another task creates and deletes topics. At a random moment the
//! server is killed, sometimes again while it recovers, sometimes stopped in order instead. After each restart all
//! new records are read and compared with what was acknowledged; then the clients, which did not die, go on where
//! they were and send again what they had no answer for. Two groups, one by each protocol, read one of the topics all the
//! while.
//!
//! `STRATALOG_CRASH_ROUNDS` sets the number of rounds, `STRATALOG_SEED` what is random here (not the scheduling).

mod ledger;
mod producer;
mod readers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use log_client::connection::Connection;
use log_core::protocol::ErrorCode;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::server::{Place, Server};
use crate::{number, wire};
use ledger::{Ledger, Log};
use producer::Lane;
use readers::Readers;

/// Enough for every change; the documented command runs 200.
const ROUNDS: u32 = 5;

/// Clients that live through all the crashes, each with a producer id of its own.
const PRODUCERS: u32 = 3;

/// Topics created in one round at most.
const TOPICS_PER_ROUND: u32 = 12;

/// A topic that is written to.
struct Topic {
    name: &'static str,
    partitions: i32,
    configs: &'static [(&'static str, &'static str)],
}

const TOPICS: [Topic; 3] = [
    Topic {
        name: "steady",
        partitions: 3,
        configs: &[],
    },
    Topic {
        name: "rolling",
        partitions: 2,
        configs: &[("segment.bytes", "1048576"), ("retention.bytes", "3145728")],
    },
    Topic {
        name: "trimmed",
        partitions: 2,
        configs: &[("segment.bytes", "1048576")],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_kill() {
    let rounds = number("STRATALOG_CRASH_ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap());
    let seed = number("STRATALOG_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("crash loop: {rounds} rounds, STRATALOG_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let session_timeout = readers::SESSION_TIMEOUT.as_millis().to_string();
    let mut place = Place::new(directory.path())
        .with("log.retention.check.interval.ms", "50")
        .with("log.flush.offset.checkpoint.interval.ms", "100")
        .with("log.flush.start.offset.checkpoint.interval.ms", "100")
        .with("metadata-snapshot-records", "7")
        .with("offsets.topic.num.partitions", "4")
        .with("group.consumer.min.heartbeat.interval.ms", "100")
        .with("group.consumer.heartbeat.interval.ms", "100")
        .with("group.consumer.min.session.timeout.ms", &session_timeout)
        .with("group.consumer.session.timeout.ms", &session_timeout);
    let mut run = Run {
        rng: Rng::with_seed(seed),
        ledger: Arc::new(Ledger::new(TOPICS.iter().flat_map(|topic| {
            (0..topic.partitions).map(|partition| Log::new(topic.name, partition))
        }))),
        lanes: Vec::new(),
        producer_ids: BTreeSet::new(),
        topics: Arc::default(),
        readers: None,
        kills: 0,
        slowest_start: Duration::ZERO,
    };

    for round in 0..rounds {
        let server = run.start(&place);
        let connection = wire::connect(server.kafka()).await.unwrap();
        if round == 0 {
            // The groups live on, and look for the server where it was.
            place = place.listening_on(server.kafka());
            run.set_up(&connection, server.kafka()).await;
        } else {
            run.check(&connection, round).await;
        }
        run.load_until_stopped(server, round).await;
        run.crash_while_starting(&place);
    }

    // Once after the last crash and once after an orderly stop, everything is read again from the front.
    for occasion in ["after the last crash", "after an orderly stop"] {
        let server = run.start(&place);
        let connection = wire::connect(server.kafka()).await.unwrap();
        run.ledger.forget_what_was_read();
        run.check(&connection, rounds).await;
        eprintln!("crash loop: all read again {occasion}");
        for line in run.finish_readers(&connection).await {
            eprintln!("crash loop: {line}");
        }
        assert!(server.stop().success(), "{occasion}: {}", place.log_tail());
    }
    let acknowledged = run.ledger.acknowledged();
    eprintln!(
        "crash loop: {} kills, {acknowledged} records acknowledged in {} batches, {} records sent again that the log \
         already held, {} deleted from the fronts, slowest start {:?}; 0 lost, 0 doubled, 0 out of order",
        run.kills,
        run.ledger.batches(),
        run.ledger.recognised(),
        run.ledger.deleted(),
        run.slowest_start
    );
    assert!(0 < acknowledged, "no load was put on the server");
}

/// What lives through all rounds.
struct Run {
    rng: Rng,
    ledger: Arc<Ledger>,
    lanes: Vec<Lane>,
    producer_ids: BTreeSet<i64>,
    topics: Arc<Mutex<Topics>>,
    readers: Option<Readers>,
    kills: u32,
    slowest_start: Duration,
}

/// Topics whose creation or deletion was acknowledged.
#[derive(Default)]
struct Topics {
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

impl Run {
    fn start(&mut self, place: &Place) -> Server {
        let began = Instant::now();
        let server = place.start();
        self.slowest_start = self.slowest_start.max(began.elapsed());
        server
    }

    async fn set_up(&mut self, connection: &Connection, address: &str) {
        for topic in TOPICS {
            wire::create_topic(connection, topic.name, topic.partitions, topic.configs)
                .await
                .unwrap();
        }
        let [steady, ..] = TOPICS;
        self.readers = Some(Readers::start(address, steady.partitions, &mut self.rng));
        for producer in 0..PRODUCERS {
            let (id, epoch) = wire::init_producer(connection).await;
            assert!(
                self.producer_ids.insert(id),
                "producer id {id} was given out twice"
            );
            for log in 0..self.ledger.logs.len() {
                let seed = self.rng.u64(..);
                self.lanes
                    .push(Lane::new(producer, id, epoch, log, Rng::with_seed(seed)));
            }
        }
    }

    /// Everything acknowledged so far must be seen.
    async fn check(&mut self, connection: &Connection, round: u32) {
        let (id, _) = wire::init_producer(connection).await;
        assert!(
            self.producer_ids.insert(id),
            "round {round}: producer id {id} was given out twice"
        );
        let found = wire::topics(connection).await;
        {
            let topics = self.topics.lock();
            let lost: Vec<_> = topics.created.difference(&found).collect();
            assert!(
                lost.is_empty(),
                "round {round}: topics lost after their creation was acknowledged: {lost:?}"
            );
            let back: Vec<_> = topics.deleted.intersection(&found).collect();
            assert!(
                back.is_empty(),
                "round {round}: topics back after their deletion was acknowledged: {back:?}"
            );
        }
        for log in &self.ledger.logs {
            log.check(connection, round).await;
        }
        if let Some(readers) = &self.readers {
            readers.check(connection, round).await;
        }
    }

    /// The groups read to the end of what they read.
    async fn finish_readers(&mut self, connection: &Connection) -> Vec<String> {
        let Some(readers) = self.readers.take() else {
            return Vec::new();
        };
        let mut ends = Vec::new();
        for log in self.ledger.logs.iter().filter(|log| log.topic == readers::TOPIC) {
            ends.push(wire::list_offset(connection, log.topic, log.partition, wire::LATEST).await);
        }
        readers.finish(&ends).await
    }

    /// Load from all clients until the server is gone.
    async fn load_until_stopped(&mut self, server: Server, round: u32) {
        let address = server.kafka().to_owned();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut work = JoinSet::new();
        for producer in 0..PRODUCERS {
            let connection = wire::connect(&address).await.unwrap();
            let (mine, others) = std::mem::take(&mut self.lanes)
                .into_iter()
                .partition(|lane| lane.producer == producer);
            self.lanes = others;
            for mut lane in mine {
                let (connection, ledger, stopping) = (
                    connection.clone(),
                    Arc::clone(&self.ledger),
                    Arc::clone(&stopping),
                );
                work.spawn(async move {
                    lane.send(&connection, &ledger, &stopping).await;
                    Some(lane)
                });
            }
        }
        let connection = wire::connect(&address).await.unwrap();
        work.spawn(churn_topics(connection.clone(), Arc::clone(&self.topics), round));
        work.spawn(trim(
            connection,
            Arc::clone(&self.ledger),
            Arc::clone(&stopping),
            self.rng.u64(..),
        ));

        if let Some(readers) = &self.readers {
            readers.work().await;
        }
        // Not to wait for something, but to reach any moment of the load.
        tokio::time::sleep(Duration::from_millis(self.rng.u64(20..700))).await;
        if self.rng.u32(0..6) == 0 {
            let stopped = tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
            assert!(
                stopped.success(),
                "round {round}: the orderly stop ended with {stopped}"
            );
        } else {
            server.kill();
            self.kills += 1;
        }
        stopping.store(true, Ordering::Relaxed);
        while let Some(lane) = work.join_next().await {
            self.lanes.extend(lane.unwrap());
        }
    }

    /// Recovery itself is killed at some point, every third time.
    fn crash_while_starting(&mut self, place: &Place) {
        while self.rng.u32(0..3) == 0 {
            let mut child = place.spawn();
            std::thread::sleep(Duration::from_millis(self.rng.u64(0..120)));
            child.kill().unwrap();
            child.wait().unwrap();
            self.kills += 1;
        }
    }
}

/// Creates topics and deletes most of them again, until the server is gone.
async fn churn_topics(connection: Connection, topics: Arc<Mutex<Topics>>, round: u32) -> Option<Lane> {
    for number in 0..TOPICS_PER_ROUND {
        let name = format!("churn-{round}-{number}");
        if wire::create_topic(&connection, &name, 2, &[]).await.is_err() {
            return None;
        }
        topics.lock().created.insert(name.clone());
        if number % 4 != 0 {
            // Once the request is out, either may be found after a crash.
            topics.lock().created.remove(&name);
            if wire::delete_topic(&connection, &name).await.is_err() {
                return None;
            }
            topics.lock().deleted.insert(name);
        }
    }
    None
}

/// Deletes records from the front of the topic that is there for it, until the server is gone.
async fn trim(
    connection: Connection,
    ledger: Arc<Ledger>,
    stopping: Arc<AtomicBool>,
    seed: u64,
) -> Option<Lane> {
    let mut rng = Rng::with_seed(seed);
    while !stopping.load(Ordering::Relaxed) {
        for log in ledger.logs.iter().filter(|log| log.topic == "trimmed") {
            let end = log.acknowledged_end();
            let target = rng.i64(end / 2..=end);
            match wire::delete_records(&connection, log.topic, log.partition, target).await {
                Ok(Ok(low)) => log.deleted_before(low),
                // Another request, or this one with a smaller target, got there first.
                Ok(Err(ErrorCode::OffsetOutOfRange)) => {}
                Ok(Err(code)) => panic!("DeleteRecords before {target} of {} ended in {code:?}", log.topic),
                Err(_) => return None,
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(5..60))).await;
    }
    None
}
