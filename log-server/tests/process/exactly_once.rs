//! Reading, transforming and writing while everything is killed: each input record comes out once, in order for its key.
//!
//! Two instances of a loop copy one topic into another, in transactions. At random moments an instance is dropped in the middle of
//! whatever it does, without a word to anybody, and a new one takes its name; every few seconds the broker is killed
//! with `kill -9` and started again. Meanwhile a producer goes on writing the input, some steps fail on purpose, and a
//! reader of committed records looks at the output. When all is calm again the output must be the input.
//!
//! `STRATALOG_CRASH_ROUNDS` says how often the broker is killed, `STRATALOG_SEED` what is random here (not the scheduling).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use log_client::Error;
use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::{
    ClientConfig, ConsumerConfig, IsolationLevel, ProducerConfig, StartAt, TransactionalConfig,
};
use log_client::consumer::Consumer;
use log_client::error::TransactionErrorClass;
use log_client::exactly_once::{ExactlyOnce, Outcome};
use log_client::group::{AutoOffsetReset, GroupConfig};
use log_client::producer::{Producer, ProducerRecord};
use log_core::model::TopicPartition;
use tokio::task::JoinHandle;

use crate::number;
use crate::server::Place;

/// Enough for every change; the documented command runs 200.
const ROUNDS: u64 = 3;
const PARTITIONS: i32 = 6;
const KEYS: u64 = 17;
const INSTANCES: u64 = 2;
/// How long the output may take to become the input when nobody is killed any more.
const CALM_MAX: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_transformed_once_whoever_is_killed() {
    let rounds = number("STRATALOG_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("STRATALOG_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("exactly once: {rounds} rounds, STRATALOG_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path())
        .with("group.consumer.min.heartbeat.interval.ms", "100")
        .with("group.consumer.heartbeat.interval.ms", "100")
        .with("group.consumer.min.session.timeout.ms", "500")
        .with("group.consumer.session.timeout.ms", "600");
    let mut server = place.start();
    let address = server.kafka().to_owned();
    let place = place.listening_on(&address);
    let admin = Admin::new(ClientConfig::new(&address)).unwrap();
    let topics = ["input", "output"].map(|name| NewTopic::new(name).with_partitions(PARTITIONS));
    for created in admin.create_topics(&topics, Intent::Apply).await.unwrap() {
        created.unwrap();
    }

    let is_fed = Arc::new(AtomicBool::new(false));
    let feed = tokio::spawn(feed(address.clone(), Arc::clone(&is_fed)));
    let mut instances: Vec<_> = (0..INSTANCES)
        .map(|number| tokio::spawn(instance(address.clone(), number, rng.u64(..))))
        .collect();
    let mut output = Reader::new(&address, "output").await;
    let mut kills = 0;
    for _ in 0..rounds {
        let end = Instant::now() + Duration::from_millis(rng.u64(1_000..5_000));
        while Instant::now() < end {
            // Not to wait for something, but to reach any moment of a step.
            output.read_for(Duration::from_millis(rng.u64(100..1_200))).await;
            let number = rng.u64(..INSTANCES);
            let slot = usize::try_from(number).unwrap();
            fell(&mut instances[slot]).await;
            kills += 1;
            instances[slot] = tokio::spawn(instance(address.clone(), number, rng.u64(..)));
        }
        server.kill();
        server = tokio::task::spawn_blocking({
            let place = place.clone();
            move || place.start()
        })
        .await
        .unwrap();
    }

    // What it has sent is there or will never be: so the input can be counted.
    is_fed.store(true, Ordering::Relaxed);
    feed.await.unwrap();
    let mut input = Reader::new(&address, "input").await;
    input.read_all().await;
    let calm = async {
        while output.count() < input.count() {
            output.read_for(Duration::from_millis(200)).await;
            for (slot, instance) in instances.iter_mut().enumerate() {
                if instance.is_finished() {
                    fell(instance).await;
                    let number = u64::try_from(slot).unwrap();
                    *instance = tokio::spawn(self::instance(address.clone(), number, seed));
                }
            }
        }
    };
    let calmed = tokio::time::timeout(CALM_MAX, calm).await;
    assert!(
        calmed.is_ok(),
        "{} of {} records came out:\n{}",
        output.count(),
        input.count(),
        place.log_tail()
    );
    for instance in &mut instances {
        fell(instance).await;
    }
    // Nothing may come behind the last one.
    let mut again = Reader::new(&address, "output").await;
    again.read_all().await;
    assert_eq!(again.by_key, input.by_key, "the output is not the input");
    assert_eq!(
        output.by_key, again.by_key,
        "what was read before is there no more"
    );
    assert!(0 < input.count(), "nothing was transformed");
    eprintln!(
        "exactly once: {rounds} kills of the broker, {kills} of instances, {} records, each once and in order",
        input.count()
    );
    assert!(server.stop().success(), "{}", place.log_tail());
}

/// Ends a task wherever it is.
async fn fell(task: &mut JoinHandle<()>) {
    task.abort();
    if let Err(error) = task.await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Writes numbers for each key, one after the other, until that is enough, and waits for what became of them.
async fn feed(address: String, is_enough: Arc<AtomicBool>) {
    let producer = Producer::new(ProducerConfig::new(&address)).unwrap();
    for number in 0_u64.. {
        if is_enough.load(Ordering::Relaxed) {
            break;
        }
        for key in 0..KEYS {
            let (key, value) = (format!("key-{key}"), number.to_string());
            let record = ProducerRecord::new("input", value.as_bytes()).with_key(key.as_bytes());
            drop(producer.send(&record).await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    producer.close().await;
}

/// Copies from the input to the output, until it is ended, or fenced by an older life of itself whose requests came late.
async fn instance(address: String, number: u64, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    loop {
        let mut group = GroupConfig::new(&address, "copiers");
        group.auto_offset_reset = AutoOffsetReset::Earliest;
        group.max_poll_records = 40;
        group.consumer.fetch_wait_max = Duration::from_millis(50);
        let mut producer = TransactionalConfig::new(&address, &format!("copier-{number}"));
        producer.transaction_timeout = Duration::from_secs(10);
        let Ok(mut copier) = ExactlyOnce::start(group, producer, ["input"]).await else {
            continue;
        };
        loop {
            let fails = rng.u8(..10) == 0;
            let pause = Duration::from_millis(rng.u64(..10));
            if let Err(error) = copy(&mut copier, fails, pause).await {
                match error.transaction_class() {
                    TransactionErrorClass::Retriable | TransactionErrorClass::Abortable => {}
                    TransactionErrorClass::Fenced => break,
                    TransactionErrorClass::Fatal => panic!("{error}"),
                }
            }
        }
    }
}

/// One step, which may fail on purpose.
async fn copy(instance: &mut ExactlyOnce, fails: bool, pause: Duration) -> Result<(), Error> {
    let work = instance.next().await?;
    for record in work.records() {
        let value = record.value.as_deref().unwrap_or_default();
        let copied = ProducerRecord::new("output", value).with_key(record.key.as_deref().unwrap_or_default());
        work.send(&copied).await?;
    }
    tokio::time::sleep(pause).await;
    if fails {
        return Ok(());
    }
    match work.commit().await? {
        Outcome::Committed | Outcome::Aborted(_) => Ok(()),
    }
}

/// What readers of committed records have seen of a topic.
struct Reader {
    consumer: Consumer,
    topic: &'static str,
    by_key: BTreeMap<String, Vec<u64>>,
}

impl Reader {
    async fn new(address: &str, topic: &'static str) -> Self {
        let mut config = ConsumerConfig::new(address);
        config.isolation = IsolationLevel::ReadCommitted;
        config.fetch_wait_max = Duration::from_millis(50);
        let mut consumer = Consumer::new(config).unwrap();
        consumer.assign_topic(topic, StartAt::Earliest).await.unwrap();
        Self {
            consumer,
            topic,
            by_key: BTreeMap::new(),
        }
    }

    fn count(&self) -> usize {
        self.by_key.values().map(Vec::len).sum()
    }

    /// Reads for so long, whatever becomes of the broker.
    async fn read_for(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::timeout_at(end, self.read()).await.is_ok() {}
    }

    /// Reads to where readers stop now.
    async fn read_all(&mut self) {
        let all: Vec<_> = (0..PARTITIONS)
            .map(|partition| TopicPartition::new(self.topic, partition))
            .collect();
        let queries = all
            .iter()
            .map(|partition| (partition.clone(), log_client::offsets::OffsetQuery::Latest));
        let ends = self.consumer.list_offsets(queries.collect()).await;
        for (partition, end) in ends {
            let end = end.unwrap().offset.unwrap();
            while self
                .consumer
                .position(&partition)
                .is_none_or(|position| position < end)
            {
                self.read().await;
            }
        }
    }

    async fn read(&mut self) {
        let Ok(pieces) = self.consumer.poll().await else {
            return;
        };
        for records in pieces {
            for record in records.into_records().unwrap() {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                let number: u64 = text(record.value.as_deref()).parse().unwrap();
                let key = text(record.key.as_deref());
                let seen = self.by_key.entry(key.clone()).or_default();
                assert!(
                    seen.last().is_none_or(|last| *last < number),
                    "{} at {} of {}: {number} of {key} comes behind {:?}",
                    self.topic,
                    record.offset,
                    record.partition,
                    seen.last()
                );
                seen.push(number);
            }
        }
    }
}
