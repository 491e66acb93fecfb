//! Client instances by a clock that the test moves: what they are told, when they may come, what is kept of what they push.
//! The steps and their outcomes are those of a real Kafka broker with a plugin that takes everything, but for what PROTOCOL.md names.

use std::sync::Arc;

use bytes::Bytes;
use log_core::clock::ManualClock;
use log_core::model::TimestampMs;
use log_core::record::compression::Compression;

use super::client::{Client, ClientInstanceId, ClientSoftware, ConnectionLife};
use super::error::TelemetryError;
use super::instance::Push;
use super::manager::{ClientMetricsManager, PUSHES_MAX};
use super::report::Report;
use super::series::{CLIENT_BYTES_MAX, Labels};
use super::subscriptions::Subscriptions;
use crate::config::effective::Overrides;
use crate::metadata::image::SubscriptionConfigs;

const BYTES_MAX: usize = 1 << 20;
const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);

/// A manager, its clock, and what administrators subscribed to.
struct World {
    clock: Arc<ManualClock>,
    manager: Arc<ClientMetricsManager>,
    configs: SubscriptionConfigs,
    connection: ConnectionLife,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        Self {
            manager: Arc::new(ClientMetricsManager::new(Arc::clone(&clock) as _, BYTES_MAX)),
            clock,
            configs: SubscriptionConfigs::default(),
            connection: ConnectionLife::default(),
        }
    }

    fn subscribed(settings: &[(&str, &str)]) -> Self {
        let mut world = Self::new();
        world.subscribe("all", settings);
        world
    }

    fn subscribe(&mut self, name: &str, settings: &[(&str, &str)]) {
        let configs: Overrides = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Arc::make_mut(&mut self.configs).insert(name.into(), configs);
    }

    fn client(&self) -> Client {
        self.client_named(Some("app"))
    }

    fn client_named(&self, name: Option<&str>) -> Client {
        Client::new(
            name,
            ClientSoftware::new("apache-kafka-java", "4.3.0"),
            "127.0.0.1:5000".parse().unwrap(),
            self.connection.watch(),
        )
    }

    /// What a client is told: its id, its subscription's, how often, and what.
    fn ask(&self, id: ClientInstanceId) -> Result<Told, TelemetryError> {
        let (id, wanted) = self.manager.ask(&self.configs, self.client(), id)?;
        Ok(Told {
            id,
            subscription_id: wanted.subscription_id(id),
            interval_ms: wanted.interval_ms,
            metrics: wanted.metrics.clone(),
        })
    }

    async fn push(&self, told: &Told, message: &[u8]) -> Result<(), TelemetryError> {
        self.push_as(told, message, |push| push).await
    }

    async fn push_as(
        &self,
        told: &Told,
        message: &[u8],
        change: impl FnOnce(Push) -> Push,
    ) -> Result<(), TelemetryError> {
        let push = change(Push {
            subscription_id: told.subscription_id,
            is_terminating: false,
            compression: 0,
            bytes: message.len(),
        });
        let pushed = Bytes::copy_from_slice(message);
        let manager = Arc::clone(&self.manager);
        manager
            .push(&self.configs, self.client(), told.id, push, pushed)
            .await
    }

    /// The values of the one client there is, by name and attributes.
    fn values(&self) -> Vec<(String, f64)> {
        let clients = self.manager.clients();
        assert_eq!(clients.len(), 1);
        let label = |labels: &Labels| {
            labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        clients[0]
            .series
            .iter()
            .map(|(key, reading)| (format!("{}{:?}", key.name, label(&key.attributes)), reading.value))
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Told {
    id: ClientInstanceId,
    subscription_id: i32,
    interval_ms: i32,
    metrics: Vec<String>,
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while 0x7f < length {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

fn label(name: &str, value: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

fn double(value: f64) -> Vec<u8> {
    [&[4 << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn integer(value: i64) -> Vec<u8> {
    [&[6 << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn gauge(name: &str, points: &[Vec<u8>]) -> Vec<u8> {
    let points: Vec<u8> = points.iter().flat_map(|point| field(1, point)).collect();
    [field(1, name.as_bytes()), field(5, &points)].concat()
}

fn sum(name: &str, temporality: u8, point: &[u8]) -> Vec<u8> {
    // The temporality behind the points: fields may stand in any order.
    let data = [field(1, point), vec![2 << 3, temporality, 3 << 3, 1]].concat();
    [field(1, name.as_bytes()), field(7, &data)].concat()
}

fn message(metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics: Vec<u8> = metrics.iter().flat_map(|metric| field(2, metric)).collect();
    let resource = field(1, &label("group_id", "billing"));
    field(1, &[field(1, &resource), field(2, &metrics)].concat())
}

#[test]
fn a_client_gets_an_id_and_is_told_what_is_wanted() {
    let mut world = World::new();
    let told = world.ask(ClientInstanceId::NONE).unwrap();
    assert!(!told.id.is_reserved());
    assert_eq!((told.interval_ms, &told.metrics[..]), (300_000, &[][..]));
    world.subscribe("a", &[("metrics", "b.,a."), ("interval.ms", "5000")]);
    world.subscribe(
        "b",
        &[
            ("metrics", "a.,c."),
            ("match", "client_id=a.*,client_software_name=.*java"),
        ],
    );
    world.subscribe(
        "c",
        &[
            ("metrics", "d."),
            ("interval.ms", "100"),
            ("match", "client_source_port=1"),
        ],
    );
    let again = world.ask(told.id).unwrap();
    assert_eq!(again.id, told.id);
    assert_eq!(
        (again.interval_ms, again.metrics.join(" ")),
        (5000, "a. b. c.".to_owned())
    );
    assert_ne!(again.subscription_id, told.subscription_id);
    world.subscribe("d", &[("metrics", "x,*")]);
    assert_eq!(world.ask(told.id).unwrap().metrics, ["*"]);
}

/// A name may be as long as a request lets it.
#[test]
fn of_long_names_the_beginning_is_kept() {
    let world = World::new();
    let long = "é".repeat(16_000);
    let client = world.client_named(Some(&long));
    assert_eq!(client.client_id(), "é".repeat(128));
    let software = ClientSoftware::new(&"n".repeat(500_000), &format!("1{long}"));
    assert_eq!((software.name.len(), software.version.len()), (128, 127));
}

#[test]
fn a_client_without_a_name_has_none_that_fits() {
    let world = World::subscribed(&[("metrics", "*"), ("match", "client_id=.*")]);
    for (name, expected) in [(None, 0), (Some(""), 1), (Some("app"), 1)] {
        let client = world.client_named(name);
        let (_, wanted) = world
            .manager
            .ask(&world.configs, client, ClientInstanceId::NONE)
            .unwrap();
        assert_eq!(wanted.metrics.len(), expected, "{name:?}");
    }
}

#[test]
fn clients_of_the_same_subscriptions_share_what_is_wanted() {
    let mut world = World::subscribed(&[("metrics", "a.")]);
    world.subscribe("b", &[("metrics", "b."), ("match", "client_id=b")]);
    let ask = |name| {
        let client = world.client_named(Some(name));
        let asked = world.manager.ask(&world.configs, client, ClientInstanceId::NONE);
        asked.unwrap()
    };
    let [(first_id, first), (second_id, second), (_, other)] = ["a", "a too", "b"].map(ask);
    assert!(Arc::ptr_eq(&first, &second));
    assert_ne!(first.subscription_id(first_id), second.subscription_id(second_id));
    assert_eq!(
        (&first.metrics[..], other.metrics.len()),
        (&["a.".to_owned()][..], 2)
    );
}

#[test]
fn what_has_not_changed_is_not_compiled_again() {
    let mut world = World::subscribed(&[("metrics", "a.")]);
    world.subscribe("b", &[("metrics", "b.")]);
    let before = Subscriptions::default().changed_to(&world.configs);
    world.subscribe("b", &[("metrics", "c.")]);
    let after = before.changed_to(&world.configs);
    let is_kept = |name| Arc::ptr_eq(before.named(name), after.named(name));
    assert_eq!((is_kept("all"), is_kept("b")), (true, false));
    assert_eq!(after.named("b").metrics, ["c."]);
}

#[tokio::test]
async fn who_would_wait_behind_too_many_comes_again() {
    let world = World::subscribed(&[("metrics", "*"), ("interval.ms", "1000")]);
    let readers = world.manager.hold_readers().await;
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..=PUSHES_MAX {
        let told = world.ask(ClientInstanceId::NONE).unwrap();
        let (manager, client) = (Arc::clone(&world.manager), world.client());
        let configs = SubscriptionConfigs::clone(&world.configs);
        pushes.spawn(async move {
            let message = Bytes::from(message(&[gauge("g", &[double(1.0)])]));
            let push = Push {
                subscription_id: told.subscription_id,
                is_terminating: false,
                compression: 0,
                bytes: message.len(),
            };
            manager.push(&configs, client, told.id, push, message).await
        });
    }
    let first = pushes.join_next().await.unwrap().unwrap();
    assert_eq!(first, Err(TelemetryError::Busy));
    drop(readers);
    assert!(pushes.join_all().await.iter().all(Result::is_ok));
}

/// As a real Kafka 4.3.0 answers this instance, without a subscription and with one to everything every second.
#[test]
fn the_id_of_a_subscription_is_kafkas() {
    let id: ClientInstanceId = "EREREREREREREREREREREQ".parse().unwrap();
    assert_eq!(id.to_string(), "EREREREREREREREREREREQ");
    let nothing = World::new().ask(id).unwrap();
    assert_eq!(nothing.subscription_id, -725_132_322);
    let everything = World::subscribed(&[("metrics", "*"), ("interval.ms", "1000")]);
    assert_eq!(everything.ask(id).unwrap().subscription_id, 848_016_057);
    let other: ClientInstanceId = "AQIDBAUGBwgJCgsMDQ4PEA".parse().unwrap();
    assert_eq!(
        other.folded(),
        0x0102_0304 ^ 0x0506_0708 ^ 0x090a_0b0c ^ 0x0d0e_0f10
    );
    assert!("EREREREREREREREREREREQEQ".parse::<ClientInstanceId>().is_err());
}

#[tokio::test]
async fn who_comes_too_early_is_told_to_wait() {
    let mut world = World::subscribed(&[("metrics", "*"), ("interval.ms", "1000")]);
    let told = world.ask(ClientInstanceId::NONE).unwrap();
    assert_eq!(world.ask(told.id), Err(TelemetryError::TooEarly));
    // Clients wait between half an interval and one and a half before their first push.
    assert_eq!(world.push(&told, &[]).await, Ok(()));
    assert_eq!(world.push(&told, &[]).await, Err(TelemetryError::TooEarly));
    world.clock.advance(999);
    assert_eq!(world.push(&told, &[]).await, Err(TelemetryError::TooEarly));
    assert_eq!(world.ask(told.id), Err(TelemetryError::TooEarly));
    world.clock.advance(1);
    assert_eq!(world.push(&told, &[]).await, Ok(()));
    world.subscribe("all", &[("metrics", "a."), ("interval.ms", "1000")]);
    assert_eq!(
        world.push(&told, &[]).await,
        Err(TelemetryError::UnknownSubscription)
    );
    let anew = world.ask(told.id).unwrap();
    assert_eq!(
        world.push(&anew, &[]).await,
        Ok(()),
        "at once, behind the question"
    );
    let counts = world.manager.metrics();
    assert_eq!((counts.pushes.get(), counts.refusals()["too-early"]), (3, 4));
}

#[tokio::test]
async fn a_push_is_refused_for_what_it_says() {
    let world = World::subscribed(&[("metrics", "*"), ("interval.ms", "100")]);
    let told = world.ask(ClientInstanceId::NONE).unwrap();
    let nobody = Told {
        id: ClientInstanceId::NONE,
        ..told.clone()
    };
    assert!(matches!(
        world.push(&nobody, &[]).await,
        Err(TelemetryError::Invalid(_))
    ));
    let push = async |change: fn(Push) -> Push, message: &[u8]| {
        world.clock.advance(100);
        world.push_as(&told, message, change).await
    };
    assert_eq!(
        push(
            |push| Push {
                compression: 5,
                ..push
            },
            &[]
        )
        .await,
        Err(TelemetryError::UnsupportedCompression(5))
    );
    assert!(world.ask(told.id).is_ok(), "it may ask at once which there are");
    assert_eq!(
        push(
            |push| Push {
                bytes: BYTES_MAX + 1,
                ..push
            },
            &[]
        )
        .await,
        Err(TelemetryError::TooLarge(BYTES_MAX))
    );
    assert!(matches!(
        push(|push| push, b"\x0b").await,
        Err(TelemetryError::Unreadable(_))
    ));
    assert!(matches!(
        push(
            |push| Push {
                compression: 4,
                ..push
            },
            b"no zstd"
        )
        .await,
        Err(TelemetryError::Unreadable(_))
    ));
    assert_eq!(
        push(
            |push| Push {
                is_terminating: true,
                ..push
            },
            &[]
        )
        .await,
        Ok(())
    );
    assert!(matches!(
        push(|push| push, &[]).await,
        Err(TelemetryError::Invalid(_))
    ));
    assert_eq!(push(|push| push, &[]).await, Ok(()), "it did not end after all");
    let ending = world.push_as(&told, &[], |push| Push {
        is_terminating: true,
        ..push
    });
    assert_eq!(ending.await, Ok(()), "the last push need not wait");
}

#[tokio::test]
async fn an_instance_ends_with_its_connection_and_is_shown_a_little_longer() {
    let mut world = World::subscribed(&[("metrics", "*"), ("interval.ms", "1000")]);
    let told = world.ask(ClientInstanceId::NONE).unwrap();
    world
        .push(&told, &message(&[gauge("g", &[double(1.5)])]))
        .await
        .unwrap();
    world.connection = ConnectionLife::default();
    let shown = world.manager.client(told.id).unwrap();
    assert!(!shown.client.connection.is_open());
    assert_eq!(shown.pushed_at, Some(NOW));
    // Over another connection it begins anew: it need not wait.
    assert!(world.ask(told.id).is_ok());
    assert!(world.manager.client(told.id).unwrap().client.connection.is_open());
    assert_eq!(world.values(), [("g[]".to_owned(), 1.5)], "with its values");
    world.clock.advance(60_000);
    assert_eq!(world.manager.client_count(), 1);
    world.clock.advance(10_000);
    assert_eq!(world.manager.client_count(), 0);
}

#[tokio::test]
async fn the_last_values_are_kept() {
    let world = World::subscribed(&[("metrics", "*"), ("interval.ms", "1000")]);
    let told = world.ask(ClientInstanceId::NONE).unwrap();
    let of_node = |node, point: Vec<u8>| [field(7, &label("node", node)), point].concat();
    let first = message(&[
        gauge("lag", &[of_node("1", double(7.0)), of_node("2", integer(-3))]),
        sum("sent", 1, &integer(5)),
        sum("total", 2, &integer(5)),
    ]);
    world.push(&told, &first).await.unwrap();
    let expected = [
        ("lag[\"node=1\"]", 7.0),
        ("lag[\"node=2\"]", -3.0),
        ("sent[]", 5.0),
        ("total[]", 5.0),
    ];
    assert_eq!(
        world.values(),
        expected.map(|(name, value)| (name.to_owned(), value))
    );
    world.clock.advance(1000);
    let second = message(&[
        gauge("lag", &[of_node("1", double(1.0))]),
        sum("sent", 1, &integer(2)),
        sum("total", 2, &integer(9)),
    ]);
    let mut packed = Vec::new();
    Compression::Zstd.compress(None, &second, &mut packed);
    world
        .push_as(&told, &packed, |push| Push {
            compression: 4,
            ..push
        })
        .await
        .unwrap();
    // What is a difference is added up; what is a gauge is gone when it is not named.
    let expected = [("lag[\"node=1\"]", 1.0), ("sent[]", 7.0), ("total[]", 9.0)];
    assert_eq!(
        world.values(),
        expected.map(|(name, value)| (name.to_owned(), value))
    );
    let shown = world.manager.client(told.id).unwrap();
    assert_eq!(
        shown.series.labels().get("group_id").map(|group| &**group),
        Some("billing")
    );
    assert_eq!(shown.series.beginning_with("se").count(), 1);
}

#[test]
fn other_kinds_are_counted_and_passed_over() {
    let histogram = [field(1, b"h"), field(9, b"")].concat();
    let empty = gauge("no number", &[Vec::new()]);
    let report = Report::unpack(
        Compression::None,
        &message(&[histogram, empty, gauge("g", &[double(1.0)])]),
        BYTES_MAX,
    );
    let report = report.unwrap();
    assert_eq!((report.points.len(), report.left_out), (1, 2));
}

#[test]
fn a_client_is_kept_within_its_bytes() {
    let metrics: Vec<_> = (0..20_000)
        .map(|n| gauge(&format!("metric.{n}"), &[double(1.0)]))
        .collect();
    let report = Report::unpack(Compression::None, &message(&metrics), 4 << 20).unwrap();
    let taken: usize = report.points.iter().map(|point| point.key.bytes()).sum();
    assert!(
        taken <= CLIENT_BYTES_MAX && CLIENT_BYTES_MAX < taken + 1000,
        "{taken}"
    );
    assert_eq!(report.points.len() + report.left_out, 20_000);
    let long = gauge(
        &"n".repeat(100_000),
        &[[field(7, &label("a", &"v".repeat(100_000))), double(1.0)].concat()],
    );
    let report = Report::unpack(Compression::None, &message(&[long]), 4 << 20).unwrap();
    assert!(report.points[0].key.bytes() < 2000);
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let mut packed = Vec::new();
    let zeros = vec![0; 5 << 20];
    Compression::Zstd.compress(None, &zeros, &mut packed);
    assert!(packed.len() < BYTES_MAX / 100);
    let refused = Report::unpack(Compression::Zstd, &packed, 4 << 20);
    assert_eq!(refused, Err(TelemetryError::TooLarge(4 << 20)));
}

/// Damaged messages are refused or read, and never more is taken than came.
#[test]
fn damaged_messages_do_no_harm() {
    let sound = message(&[
        gauge("lag", &[[field(7, &label("node", "1")), double(7.0)].concat()]),
        sum("sent", 1, &integer(5)),
    ]);
    crate::kafka::test_support::fuzz(20_000, |random| {
        let mut damaged = sound.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            damaged[at] = random.u8(..);
        }
        damaged.truncate(random.usize(..=damaged.len()));
        if let Ok(report) = Report::unpack(Compression::None, &damaged, BYTES_MAX) {
            assert!(report.points.len() + report.labels.len() <= sound.len());
        }
    });
}
