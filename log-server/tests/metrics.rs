//! `/metrics` of a broker that has worked: the page is what Prometheus reads, every metric of the catalogue is on it, the numbers are those of the
//! work that was done, its size does not follow the number of partitions, and it comes whatever else waits for a disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::{ClientConfig, ConsumerConfig, ProducerConfig, StartAt};
use log_client::consumer::Consumer;
use log_client::coordinator::CommittedOffset;
use log_client::producer::{Producer, ProducerRecord};
use log_core::model::{Offset, TopicPartition};
use log_server::broker::Broker;
use log_server::config::keys::BrokerConfig;
use log_server::metrics::catalogue::{FAMILIES, Kind};
use log_server::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes.
const HANG: Duration = Duration::from_secs(30);

async fn start(directory: &tempfile::TempDir) -> Broker {
    let config = BrokerConfig {
        data_dirs: vec![directory.path().join("data")],
        kafka_listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        lag_interval: Duration::from_millis(100),
        metrics_topics_max: 50,
        ..BrokerConfig::default()
    };
    Broker::start(config, Shutdown::new(), Instant::now())
        .await
        .unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The lines of a page by series, after a look at its form.
fn series(page: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut family = None;
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap();
            family = FAMILIES.iter().find(|family| family.name == name).copied();
            assert!(family.is_some(), "{name} is not in the catalogue");
            continue;
        }
        if line.starts_with("# TYPE ") {
            continue;
        }
        let family = family.expect("a metric begins with its help");
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let suffixes: &[&str] = match family.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        let is_its = suffixes
            .iter()
            .any(|suffix| bare == format!("{}{suffix}", family.name));
        assert!(is_its, "{line} stands below {}", family.name);
        let value = value.replace("+Inf", "inf").parse().unwrap();
        assert!(
            series.insert(name.to_owned(), value).is_none(),
            "{name} comes twice"
        );
    }
    series
}

/// Asks until the page shows what is wanted.
async fn page_with(
    broker: &Broker,
    is_there: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> (String, BTreeMap<String, f64>) {
    let began = Instant::now();
    loop {
        let page = get(broker.http_address(), "/metrics").await;
        let series = series(&page);
        if is_there(&series) {
            return (page, series);
        }
        assert!(began.elapsed() < HANG, "never seen in\n{page}");
    }
}

async fn produce(bootstrap: &str, topic: &str, count: usize) {
    let producer = Producer::new(ProducerConfig::new(bootstrap)).unwrap();
    for number in 0..count {
        let value = number.to_string();
        let delivery = producer
            .send(&ProducerRecord::new(topic, value.as_bytes()))
            .await
            .unwrap();
        delivery.await.unwrap();
    }
    producer.close().await;
}

async fn read_all(bootstrap: &str, topic: &str, count: usize) {
    let mut consumer = Consumer::new(ConsumerConfig::new(bootstrap)).unwrap();
    consumer.assign_topic(topic, StartAt::Earliest).await.unwrap();
    let mut seen = 0;
    while seen < count {
        for fetched in consumer.poll().await.unwrap() {
            seen += fetched.into_records().unwrap().len();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_tells_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(&directory).await;
    let bootstrap = broker.kafka_address().to_string();
    let admin = Admin::new(ClientConfig::new(&bootstrap)).unwrap();
    let topic = NewTopic::new("orders").with_partitions(3);
    admin.create_topics(&[topic], Intent::Apply).await.unwrap()[0]
        .as_ref()
        .unwrap();
    produce(&bootstrap, "orders", 20).await;
    read_all(&bootstrap, "orders", 20).await;
    // Behind by what the partition has.
    let partition = TopicPartition::new("orders", 0);
    let committed = CommittedOffset::new(Offset::ZERO);
    let offsets = BTreeMap::from([(partition, committed)]);
    let results = admin.alter_group_offsets("billing", &offsets).await.unwrap();
    assert!(results.values().all(Result::is_ok), "{results:?}");

    let of_disk = |name: &str| {
        format!(
            "{name}{{directory=\"{}\"}}",
            directory.path().join("data").display()
        )
    };
    let lag = "stratalog_group_lag_records{group=\"billing\",topic=\"orders\"}";
    let (page, series) = page_with(&broker, |series| {
        series.contains_key(lag) && series.contains_key(&of_disk("stratalog_disk_total_bytes"))
    })
    .await;
    for (name, expected) in [
        ("stratalog_received_records_total", None),
        (
            "stratalog_topic_received_records_total{topic=\"orders\"}",
            Some(20.0),
        ),
        ("stratalog_topic_sent_records_total{topic=\"orders\"}", Some(20.0)),
        ("stratalog_topic_partitions{topic=\"orders\"}", Some(3.0)),
        ("stratalog_partitions{state=\"offline\"}", Some(0.0)),
        (
            "stratalog_group_lag_seconds{group=\"billing\",topic=\"orders\"}",
            None,
        ),
        ("stratalog_groups{state=\"Empty\"}", Some(1.0)),
        (
            "stratalog_request_seconds_count{api=\"Produce\",waited=\"yes\"}",
            None,
        ),
        ("stratalog_sync_seconds_count", None),
        ("stratalog_ready", Some(1.0)),
        ("stratalog_status{status=\"ok\"}", Some(1.0)),
        ("stratalog_offline_log_directories", Some(0.0)),
        (&of_disk("stratalog_disk_full_in_hours"), Some(f64::INFINITY)),
    ] {
        let value = *series
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing in\n{page}"));
        match expected {
            Some(expected) => assert_eq!(value.to_bits(), expected.to_bits(), "{name}: {value}"),
            None => assert!(0.0 <= value, "{name}: {value}"),
        }
    }
    let received = series["stratalog_received_records_total"];
    // And those of the groups' own topic.
    assert!(20.0 < received, "{received}");
    assert!(0.0 < series["stratalog_kafka_received_bytes_total"]);

    let shown: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    let missing = FAMILIES
        .iter()
        .map(|family| family.name)
        .filter(|name| !shown.contains(name));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_does_not_grow_with_partitions_and_only_so_far_with_topics() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(&directory).await;
    let admin = Admin::new(ClientConfig::new(&broker.kafka_address().to_string())).unwrap();
    let create = async |names: &[String], partitions| {
        let topics: Vec<_> = names
            .iter()
            .map(|name| NewTopic::new(name).with_partitions(partitions))
            .collect();
        for created in admin.create_topics(&topics, Intent::Apply).await.unwrap() {
            created.unwrap();
        }
    };
    let names = |range: std::ops::Range<usize>| range.map(|n| format!("topic-{n}")).collect::<Vec<_>>();
    // Other series come and go with what the broker does meanwhile.
    let lines = async || {
        let page = get(broker.http_address(), "/metrics").await;
        let of_topics = page.lines().filter(|line| line.contains("topic=\"topic-"));
        of_topics.count()
    };

    create(&names(0..10), 1).await;
    let ten = lines().await;
    create(&names(10..11), 200).await;
    let eleven = lines().await;
    assert_eq!(eleven - ten, 6, "six series for a topic, whatever its size");
    create(&names(11..80), 1).await;
    let eighty = lines().await;
    assert_eq!(eighty - ten, 40 * 6, "fifty topics are shown");
    let page = get(broker.http_address(), "/metrics").await;
    assert!((series(&page)["stratalog_topics_hidden"] - 30.0).abs() < 0.5);
    assert!(page.len() < 100_000, "{} bytes", page.len());
    broker.stop().await;
}

/// Rows of samples that the broker has.
async fn sample_count(broker: &Broker) -> usize {
    let stats = get(broker.http_address(), "/v1/stats").await;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    stats.get("rows").unwrap().as_array().unwrap().len()
}

/// Cold reads of a disk that hangs take every thread for blocking work, and the look at the lags waits among them. That is when somebody looks
/// at the numbers.
#[test]
fn numbers_come_while_every_blocking_thread_waits() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let broker = start(&directory).await;
        let (release, released) = std::sync::mpsc::channel::<()>();
        let waiting = tokio::task::spawn_blocking(move || assert!(released.recv().is_err()));
        let look = async {
            let before = sample_count(&broker).await;
            while sample_count(&broker).await < before + 2 {}
            let page = get(broker.http_address(), "/metrics").await;
            let health = get(broker.http_address(), "/healthz").await;
            (page, health)
        };
        let seen = tokio::time::timeout(HANG, look).await;
        drop(release);
        waiting.await.unwrap();
        broker.stop().await;
        let (page, health) = seen.expect("the numbers wait for a disk");
        assert!(series(&page).contains_key("stratalog_ready"), "{page}");
        assert!(health.contains("\"status\":\"ok\""), "{health}");
    });
}
