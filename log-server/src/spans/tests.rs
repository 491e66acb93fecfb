//! Spans on their way to a collector: one in this process that reads what comes, one that is not there, and a queue that is full.
//! A broker is started for the requests themselves, and asked over both of its ports.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_client::config::ProducerConfig;
use log_client::producer::{Producer, ProducerRecord};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::context::{SpanContext, TraceParent};
use super::message::encode;
use super::span::{OpenSpan, Span, TEXT_BYTES_MAX, Value};
use super::tracer::{Tracer, TracerSettings};
use crate::broker::Broker;
use crate::config::keys::BrokerConfig;
use crate::metrics::spans::SpanMetrics;
use crate::protobuf::{Fields, Value as Field};
use crate::shutdown::{Shutdown, StopReason};

/// Longer than anything here takes.
const HANG: Duration = Duration::from_mins(1);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a collector sees of a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    name: String,
    trace: Vec<u8>,
    parent: Vec<u8>,
    attributes: BTreeMap<String, String>,
    error: String,
    took_ns: u64,
}

fn bytes(value: Field<'_>) -> &[u8] {
    value.bytes().unwrap()
}

fn text(value: Field<'_>) -> String {
    value.text().unwrap().to_owned()
}

fn inside(message: &[u8], field: u64) -> Vec<&[u8]> {
    let fields = Fields::of(message).map(Result::unwrap);
    fields
        .filter(|(number, _)| *number == field)
        .map(|(_, value)| bytes(value))
        .collect()
}

fn attributes(message: &[u8], field: u64) -> BTreeMap<String, String> {
    let attribute = |pair: &[u8]| {
        let name = String::from_utf8(inside(pair, 1)[0].to_vec()).unwrap();
        let value = Fields::of(inside(pair, 2)[0]).next().unwrap().unwrap();
        match value {
            (1, value) => (name, text(value)),
            (_, value) => (name, value.varint().unwrap().to_string()),
        }
    };
    inside(message, field).into_iter().map(attribute).collect()
}

fn spans(message: &[u8]) -> Vec<Seen> {
    let mut spans = Vec::new();
    for scope_spans in inside(message, 1)
        .into_iter()
        .flat_map(|resource_spans| inside(resource_spans, 2))
    {
        for span in inside(scope_spans, 2) {
            let mut seen = Seen::default();
            let (mut began, mut ended) = (0, 0);
            for field in Fields::of(span).map(Result::unwrap) {
                match field {
                    (1, value) => seen.trace = bytes(value).to_vec(),
                    (4, value) => seen.parent = bytes(value).to_vec(),
                    (5, value) => seen.name = text(value),
                    (7, value) => began = u64::from_le_bytes(value.fixed64().unwrap()),
                    (8, value) => ended = u64::from_le_bytes(value.fixed64().unwrap()),
                    (15, value) => {
                        let said = inside(bytes(value), 2)[0];
                        seen.error = String::from_utf8(said.to_vec()).unwrap();
                    }
                    _ => {}
                }
            }
            seen.attributes = attributes(span, 9);
            seen.took_ns = ended - began;
            spans.push(seen);
        }
    }
    spans
}

/// A collector that takes everything: its address, and what comes, with the head of each request.
async fn collector() -> (String, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move { while_asked(stream, sender).await });
        }
    });
    (format!("http://{address}"), receiver)
}

async fn while_asked(stream: TcpStream, sender: mpsc::UnboundedSender<(String, Vec<u8>)>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        answer(&mut stream).await;
        if sender.send(request).is_err() {
            return;
        }
    }
}

/// Head and body; nothing at the end of the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Some((head, body))
}

async fn answer(stream: &mut BufReader<TcpStream>) {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
}

fn tracer(
    endpoint: &str,
) -> (
    Arc<Tracer>,
    tokio::task::JoinHandle<()>,
    Arc<SpanMetrics>,
    Shutdown,
) {
    let (metrics, shutdown) = (Arc::<SpanMetrics>::default(), Shutdown::new());
    let settings = TracerSettings {
        endpoint: endpoint.to_owned(),
        sample_ratio: 1.0,
        resource: vec![("service.name", "stratalog".into())],
    };
    let (tracer, task) = Tracer::start(settings, Arc::clone(&metrics), shutdown.signal());
    (tracer, task, metrics, shutdown)
}

fn open(name: &str) -> OpenSpan {
    OpenSpan::begin(SpanContext::root(), name.to_owned())
}

/// As the Python package `opentelemetry-proto` reads and writes it.
const EXPECTED: &str = "0a9e010a150a130a0c736572766963652e6e616d6512030a01731284010a120a097374726174616c6f671205<version>126\
     e0a100101010101010101010101010101010112080202020202020202220803030303030303032a0750726f6475636530023\
     901000000000000004102010000000000004a0b0a047465787412030a01744a150a066e756d626572120b18fffffffffffff\
     fffff017a051201651802";

#[test]
fn the_message_is_opentelemetrys() {
    let span = Span {
        context: SpanContext {
            trace: [1; 16],
            span: [2; 8],
            parent: Some([3; 8]),
        },
        name: "Produce".to_owned(),
        began_ns: 1,
        ended_ns: 258,
        attributes: vec![("text", "t".into()), ("number", Value::Number(-1))],
        error: Some("e".to_owned()),
    };
    let message = encode(&[span], &[("service.name", "s".into())]);
    let hex = |bytes: &[u8]| {
        let mut hex = String::new();
        for byte in bytes {
            write!(hex, "{byte:02x}").unwrap();
        }
        hex
    };
    // With the version of this package in it.
    let version = hex(env!("CARGO_PKG_VERSION").as_bytes());
    let hex = hex(&message);
    assert_eq!(hex.replace(&version, "<version>"), EXPECTED);
}

#[tokio::test]
async fn spans_arrive_in_their_trace() {
    let (endpoint, mut received) = collector().await;
    let (tracer, task, metrics, shutdown) = tracer(&format!("{endpoint}/collector/"));
    let parent = TraceParent::parse(PARENT);
    let child = tracer.begin(parent, || "child".to_owned()).unwrap();
    tracer.take(child.end(None));
    let mut failed = open("failed");
    failed.tell("n", 7_usize);
    tracer.take(failed.end(Some("why".to_owned())));
    let not_recorded = TraceParent::parse(&PARENT.replace("-01", "-00"));
    assert!(tracer.begin(not_recorded, || unreachable!()).is_none());
    let (head, message) = timeout(HANG, received.recv()).await.unwrap().unwrap();
    assert!(
        head.starts_with("POST /collector/v1/traces HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    let resource = inside(inside(&message, 1)[0], 1)[0];
    assert_eq!(attributes(resource, 1)["service.name"], "stratalog");
    let [child, failed] = <[Seen; 2]>::try_from(spans(&message)).unwrap();
    assert_eq!((&*child.name, &*child.error), ("child", ""));
    assert_eq!(
        child.trace,
        0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()
    );
    assert_eq!(child.parent, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!((&*failed.error, &*failed.attributes["n"]), ("why", "7"));
    assert!(failed.parent.is_empty() && failed.trace != child.trace);
    // What comes last leaves when the broker stops.
    tracer.take(open("last").end(None));
    shutdown.request(StopReason::Asked);
    task.await.unwrap();
    let (_, message) = timeout(HANG, received.recv()).await.unwrap().unwrap();
    assert_eq!(spans(&message)[0].name, "last");
    assert_eq!((metrics.exported.get(), metrics.dropped.get()), (3, 0));
}

#[tokio::test]
async fn what_no_collector_takes_is_dropped_and_counted() {
    // A port that nobody listens on any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (tracer, task, metrics, shutdown) = tracer(&endpoint);
    for _ in 0..3 {
        tracer.take(open("lost").end(None));
    }
    shutdown.request(StopReason::Asked);
    task.await.unwrap();
    assert_eq!((metrics.exported.get(), metrics.dropped.get()), (0, 3));
}

#[tokio::test]
async fn a_collector_that_hangs_holds_no_stop_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tracer, task, metrics, shutdown) = tracer(&endpoint);
    tracer.take(open("under way").end(None));
    let (stream, _) = timeout(HANG, listener.accept()).await.unwrap().unwrap();
    let mut stream = BufReader::new(stream);
    timeout(HANG, read_request(&mut stream)).await.unwrap().unwrap();
    tracer.take(open("behind it").end(None));
    // From here on time passes as soon as everybody waits.
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    shutdown.request(StopReason::Asked);
    task.await.unwrap();
    let took = begin.elapsed();
    assert!(took.as_secs() <= 2, "{took:?}");
    assert_eq!((metrics.exported.get(), metrics.dropped.get()), (0, 2));
}

/// The collector gives an idle connection up, and knows nothing yet of the message that is on its way.
#[tokio::test]
async fn a_message_whose_connection_was_given_up_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tracer, task, metrics, shutdown) = tracer(&endpoint);
    let connection = async || BufReader::new(listener.accept().await.unwrap().0);
    let collecting = async {
        tracer.take(open("first").end(None));
        let mut first = connection().await;
        read_request(&mut first).await.unwrap();
        answer(&mut first).await;
        tracer.take(open("second").end(None));
        let lost = read_request(&mut first).await.unwrap();
        drop(first);
        let mut second = connection().await;
        assert_eq!(read_request(&mut second).await.unwrap(), lost);
        answer(&mut second).await;
        while metrics.exported.get() < 2 {
            tokio::task::yield_now().await;
        }
        // One that breaks at its first message is not the connection's fault.
        tracer.take(open("third").end(None));
        drop((read_request(&mut second).await, second));
        let mut third = connection().await;
        drop((read_request(&mut third).await, third));
        while metrics.dropped.get() < 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, collecting).await.unwrap();
    assert_eq!((metrics.exported.get(), metrics.dropped.get()), (2, 1));
    shutdown.request(StopReason::Asked);
    task.await.unwrap();
}

/// Clients choose names, and could fill the memory with them.
#[test]
fn of_a_long_text_the_beginning_is_kept() {
    let long = "ä".repeat(1000);
    let mut span = OpenSpan::begin(SpanContext::root(), long.clone());
    span.tell("borrowed", long.as_str());
    span.tell("owned", long.clone());
    span.tell("short", "ä");
    let span = span.end(Some(format!("x{long}")));
    let beginning = "ä".repeat(TEXT_BYTES_MAX / 2);
    assert_eq!(span.name, beginning);
    assert_eq!(span.error.unwrap().len(), TEXT_BYTES_MAX - 1);
    let values: Vec<_> = span.attributes.into_iter().map(|(_, value)| value).collect();
    let expected = [beginning.clone(), beginning, "ä".to_owned()];
    assert_eq!(values, expected.map(Value::Text));
}

#[test]
fn a_share_of_nothing_leaves_the_traces_of_others() {
    let (queue, _spans) = mpsc::channel(1);
    let tracer = Tracer::new(0.0, queue, Arc::default());
    assert!(tracer.begin(None, || unreachable!()).is_none());
    let others = tracer.begin(TraceParent::parse(PARENT), || "theirs".to_owned());
    assert!(others.is_some());
}

/// Nobody waits for the queue: on this one thread the exporter cannot run meanwhile.
#[tokio::test]
async fn a_full_queue_drops() {
    let (tracer, _task, metrics, _shutdown) = tracer("http://127.0.0.1:1");
    for _ in 0..8192 + 10 {
        tracer.take(open("many").end(None));
    }
    assert_eq!(metrics.dropped.get(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_tells_of_its_requests() {
    let (endpoint, mut received) = collector().await;
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        data_dirs: vec![directory.path().join("data")],
        kafka_listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        otlp_endpoint: Some(endpoint),
        otlp_sample_ratio: 1.0,
        ..BrokerConfig::default()
    };
    let broker = Broker::start(config, Shutdown::new(), Instant::now())
        .await
        .unwrap();
    let producer = Producer::new(ProducerConfig::new(&broker.kafka_address().to_string())).unwrap();
    let delivery = producer
        .send(&ProducerRecord::new("traced", b"value"))
        .await
        .unwrap();
    delivery.await.unwrap();
    producer.close().await;
    let made_up = "BREW".repeat(100);
    for method in ["GET", &made_up] {
        let mut stream = TcpStream::connect(broker.http_address()).await.unwrap();
        let request = format!(
            "{method} /v1/topics/nobody HTTP/1.1\r\nhost: localhost\r\ntraceparent: {PARENT}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
    broker.stop().await;
    let mut all = Vec::new();
    while let Some(produce) = timeout(HANG, received.recv()).await.unwrap() {
        all.extend(spans(&produce.1));
        let has = |name: &str| all.iter().any(|span: &Seen| span.name == name);
        let over_http = ["GET /v1/topics/{topic}", "HTTP /v1/topics/{topic}"];
        if has("Produce") && over_http.into_iter().all(has) {
            break;
        }
    }
    let find = |name: &str| all.iter().find(|span| span.name == name).unwrap();
    let produce = find("Produce");
    assert_eq!(produce.attributes["kafka.topics"], "1");
    assert_eq!(produce.attributes["client.address"], "127.0.0.1");
    assert!(!produce.attributes["messaging.client.id"].is_empty());
    assert!(0 < produce.took_ns && produce.error.is_empty());
    let over_http = find("GET /v1/topics/{topic}");
    assert_eq!(over_http.attributes["http.response.status_code"], "404");
    assert_eq!(over_http.parent, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert!(
        over_http.error.is_empty(),
        "what a client did wrong is no failure of the broker"
    );
    let with_made_up = &find("HTTP /v1/topics/{topic}").attributes;
    assert_eq!(with_made_up["http.request.method"], "_OTHER");
    let original = &with_made_up["http.request.method_original"];
    assert!(made_up.starts_with(original) && original.len() == TEXT_BYTES_MAX);
}
