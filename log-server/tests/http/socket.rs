//! A socket carries records both ways, answers each message, keeps to its limits, and ends with the code that the page says.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use log_server::config::keys::BrokerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::{Response, create_topic, exchange, finish, get, post, send};
use crate::{config, start};

const SOCKET: &str = "/v1/topics/t/socket";
const RECORDS: &str = "/v1/topics/t/records";

/// The client's end of a socket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}{path}");
        Self(client_async(url, stream).await.unwrap().0)
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn write(&mut self, id: i64, record: &Value) {
        self.say(&json!({"id": id, "record": record}).to_string()).await;
    }

    /// The next message; or the code of the end. Pings and heartbeats are passed over: they come when they please.
    async fn next(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    let is_heartbeat = message.get("position").is_some() && message.get("record").is_none();
                    if !is_heartbeat {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn hear(&mut self) -> Value {
        self.next().await.unwrap()
    }

    /// The answer to the message of this id; what else comes is kept.
    async fn answer(&mut self, id: i64, others: &mut Vec<Value>) -> Value {
        loop {
            let message = self.hear().await;
            if message["id"] == id {
                return message;
            }
            others.push(message);
        }
    }

    /// Says goodbye, and hears it.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.unwrap();
        assert_eq!(self.next().await, Err(1005));
    }
}

/// A handshake by hand.
fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame as a client sends it; the mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()).unwrap() {
        length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            // Masked, with the length in the next two bytes.
            frame.push(0xfe);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A socket that is spoken to in bytes.
struct RawSocket(TcpStream);

impl RawSocket {
    async fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = handshake(path, "accept-encoding: gzip, zstd\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = Response::parse(&head);
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(
            answer.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(answer.header("content-encoding"), None);
        Self(stream)
    }

    async fn say(&mut self, bytes: &[u8]) {
        // Who was ended already hears no more.
        self.0.write_all(bytes).await.ok();
    }

    /// The next frame: its first byte, and what it has. Nothing at the end.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let length = match self.0.read_u8().await.unwrap() {
            126 => usize::from(self.0.read_u16().await.unwrap()),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        Some((first, payload))
    }

    /// Reads to the end. The code of the last frame, which must be a close.
    async fn code(mut self) -> u16 {
        let mut last = None;
        while let Some(frame) = self.next().await {
            last = Some(frame);
        }
        let (first, payload) = last.unwrap();
        assert_eq!(first, CLOSE);
        u16::from_be_bytes(payload[..2].try_into().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_answered_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 2).await;
    let old = json!({"key": "a", "value": "old", "partition": 0});
    assert_eq!(post(address, RECORDS, &old).await.status, 200);
    let mut socket = Socket::open(address, &format!("{SOCKET}?offset=earliest")).await;
    let mut seen = vec![socket.hear().await];
    let record =
        json!({"key": "b", "value": {"n": 1}, "partition": 1, "headers": [{"name": "h", "value": "x"}]});
    socket.write(7, &record).await;
    let answer = socket.answer(7, &mut seen).await;
    assert_eq!((&answer["partition"], &answer["offset"]), (&json!(1), &json!(0)));
    while seen.len() < 2 {
        seen.push(socket.hear().await);
    }
    assert_eq!(seen[0]["position"], "0:1,1:0");
    assert_eq!(
        (&seen[0]["record"]["value"], &seen[0]["record"]["partition"]),
        (&json!("old"), &json!(0))
    );
    assert_eq!(seen[1]["position"], "0:1,1:1");
    assert_eq!(seen[1]["record"]["value"], "{\"n\":1}");
    assert_eq!(seen[1]["record"]["timestamp"], answer["timestamp"]);
    assert_eq!(seen[1]["record"]["headers"], record["headers"]);
    socket.close().await;
    // Who comes back goes on; what was written meanwhile is there, and what does not fit the filter is not.
    for (key, value) in [("a", "other"), ("b", "new")] {
        let record = json!({"key": key, "value": value, "partition": 1});
        assert_eq!(post(address, RECORDS, &record).await.status, 200);
    }
    let mut socket = Socket::open(address, &format!("{SOCKET}?position=0:1,1:1&key=b&until=end")).await;
    let message = socket.hear().await;
    assert_eq!(
        (&message["position"], &message["record"]["value"]),
        (&json!("0:1,1:3"), &json!("new"))
    );
    assert_eq!(socket.hear().await, json!({"end": {"reason": "until"}}));
    // The end of following is not the end of writing.
    socket.write(8, &json!({"partition": 0})).await;
    assert_eq!(socket.hear().await["offset"], 1);
    socket.close().await;
    broker.stop().await;
}

/// More than the messages that may wait at once, of which some are wrong; and none is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_has_its_answer_in_its_turn() {
    const COUNT: i64 = 1000;
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut socket = Socket::open(address, &format!("{SOCKET}?limit=0")).await;
    for id in 0..COUNT {
        let partition = i64::from(id % 10 == 9);
        let message = json!({"id": id, "record": {"value": id.to_string(), "partition": partition}});
        socket.0.feed(Message::text(message.to_string())).await.unwrap();
    }
    socket.0.flush().await.unwrap();
    let mut offset = 0;
    for id in 0..COUNT {
        let answer = socket.hear().await;
        assert_eq!(answer["id"], id);
        if id % 10 == 9 {
            assert_eq!(answer["error"]["code"], "unknown_partition");
        } else {
            assert_eq!(answer["offset"], offset, "{answer}");
            offset += 1;
        }
    }
    socket.close().await;
    let path = "/v1/topics/t/partitions/0/records?limit=1000";
    let records = get(address, path).await.json()["records"].clone();
    let values: Vec<&str> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["value"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (0..COUNT)
        .filter(|id| id % 10 != 9)
        .map(|id| id.to_string())
        .collect();
    assert_eq!(values, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_wrong_are_told_why_and_the_socket_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut socket = Socket::open(address, &format!("{SOCKET}?limit=0")).await;
    let large = format!(
        "{{\"id\": 9, \"record\": {{\"value\": \"{}\"}}}}",
        "x".repeat(1_500_000)
    );
    for (text, id, code) in [
        ("", json!(null), "invalid_record"),
        ("no JSON", json!(null), "invalid_record"),
        ("[]", json!(null), "invalid_record"),
        ("{\"id\": 1}", json!(1), "invalid_record"),
        ("{\"id\": \"a\", \"record\": 5}", json!("a"), "invalid_record"),
        (
            "{\"id\": 2, \"record\": {\"vlaue\": 1}}",
            json!(2),
            "invalid_record",
        ),
        ("{\"id\": [], \"record\": {}}", json!(null), "invalid_request"),
        (
            "{\"id\": 3, \"record\": {}, \"timeout_ms\": 300001}",
            json!(3),
            "invalid_request",
        ),
        (
            "{\"id\": 4, \"record\": {\"partition\": 1}}",
            json!(4),
            "unknown_partition",
        ),
        (
            "{\"id\": 5, \"record\": {\"value_base64\": \"?\"}}",
            json!(5),
            "invalid_record",
        ),
        (large.as_str(), json!(9), "too_large"),
    ] {
        socket.say(text).await;
        let answer = socket.hear().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(code)),
            "{answer}"
        );
    }
    for acks in ["all", "leader", "none"] {
        socket
            .say(&json!({"record": {"value": acks}, "acks": acks}).to_string())
            .await;
        let answer = socket.hear().await;
        assert_eq!((&answer["id"], &answer["partition"]), (&json!(null), &json!(0)));
    }
    // A record of the usual largest size goes out and comes in, in many frames.
    let value = "y".repeat(1_000_000);
    let mut follower = Socket::open(address, &format!("{SOCKET}?key=large")).await;
    socket.write(10, &json!({"key": "large", "value": value})).await;
    assert_eq!(socket.hear().await["offset"], 3);
    let heard = follower.hear().await;
    assert!(
        heard["record"]["value"] == value.as_str(),
        "not the value that was sent"
    );
    follower.close().await;
    // A topic that is gone takes no more.
    assert_eq!(
        send(address, "DELETE", "/v1/topics/t", &[], b"").await.status,
        204
    );
    create_topic(address, "t", 1).await;
    socket.write(11, &json!({})).await;
    assert_eq!(socket.hear().await["error"]["code"], "unknown_topic");
    socket.close().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_for_a_socket_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let plain = get(address, SOCKET).await;
    plain.problem(426, "upgrade_required");
    assert_eq!(
        (plain.header("upgrade"), plain.header("sec-websocket-version")),
        (Some("websocket"), Some("13"))
    );
    let close = "connection: close\r\n";
    for (path, headers, status, code) in [
        ("/v1/topics/none/socket", "", 404, "unknown_topic"),
        ("/v1/topics/t/socket?partitions=1", "", 404, "unknown_partition"),
        ("/v1/topics/t/socket?format=sse", "", 400, "invalid_request"),
        ("/v1/topics/t/socket?position=x", "", 400, "invalid_request"),
        ("/v1/topics/t/socket?heartbeat_ms=1", "", 400, "invalid_request"),
        // What a page of another site can open without the browser asking first.
        (SOCKET, "origin: https://evil.example\r\n", 403, "foreign_site"),
        (SOCKET, "origin: null\r\n", 403, "foreign_site"),
        (SOCKET, "origin: http://localhost:3000\r\n", 403, "foreign_site"),
    ] {
        let request = handshake(path, &format!("{close}{headers}"));
        exchange(address, request.as_bytes()).await.problem(status, code);
    }
    let old = handshake(SOCKET, close).replace("HTTP/1.1", "HTTP/1.0");
    exchange(address, old.as_bytes())
        .await
        .problem(426, "upgrade_required");
    let evil = handshake(SOCKET, close).replace("localhost", "evil.example");
    exchange(address, evil.as_bytes())
        .await
        .problem(403, "foreign_site");
    // The broker's own pages may.
    let own = handshake(SOCKET, "origin: http://localhost\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(own.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 101");
    drop(stream);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_wrong_end_the_socket_with_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let announced = |length: u64| {
        let mut head = vec![TEXT, 0xff];
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        head
    };
    let unmasked = vec![TEXT, 2, b'{', b'}'];
    let piece = vec![b'x'; 60_000];
    let in_pieces = [frame(0x01, &piece), frame(0x00, &piece).repeat(35)];
    for (what, bytes, code) in [
        ("no mask", unmasked, 1002),
        ("a reserved bit", frame(TEXT | 0x40, b"{}"), 1002),
        ("a reserved kind", frame(0x83, b""), 1002),
        ("a ping in pieces", frame(0x09, b""), 1002),
        ("a ping that is too long", frame(PING, &[0; 126]), 1002),
        ("the end of nothing", frame(0x80, b""), 1002),
        (
            "two beginnings",
            [frame(0x01, b"{"), frame(TEXT, b"{}")].concat(),
            1002,
        ),
        ("half a code", frame(CLOSE, b"\x03"), 1002),
        ("bytes", frame(0x82, b"\0\xff"), 1003),
        ("no UTF-8", frame(TEXT, b"\xff\xfe"), 1007),
        ("too much, announced", announced(3 << 20), 1009),
        ("as much as there can be", announced(u64::MAX >> 1), 1009),
        ("too much, in pieces", in_pieces.concat(), 1009),
    ] {
        let mut socket = RawSocket::open(address, &format!("{SOCKET}?limit=0")).await;
        // What came before has its answer.
        socket.say(&frame(TEXT, b"{\"id\": 1, \"record\": {}}")).await;
        socket.say(&bytes).await;
        let (first, answer) = socket.next().await.unwrap();
        assert_eq!(first, TEXT, "{what}");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&answer["id"], &answer["partition"]), (&json!(1), &json!(0)));
        assert_eq!(socket.code().await, code, "{what}");
    }
    // The client's own code comes back.
    let mut socket = RawSocket::open(address, SOCKET).await;
    socket.say(&frame(CLOSE, b"\x0f\xa0bye")).await;
    assert_eq!(socket.code().await, 4000);
    broker.stop().await;
}

/// They are kept by nobody; but whoever sends them for ever means no message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_nothing_come_to_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_request_max_bytes: 100_000,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut socket = RawSocket::open(address, SOCKET).await;
    socket.say(&frame(0x01, b"")).await;
    let nothing = frame(0x00, b"").repeat(100_000);
    socket.say(&nothing).await;
    assert_eq!(socket.code().await, 1009);
    broker.stop().await;
}

/// Bytes from a seed: each socket comes to an end, and the broker lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_the_socket_and_nothing_else() {
    let seed =
        std::env::var("STRATALOG_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("STRATALOG_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    for _ in 0..50 {
        let mut socket = RawSocket::open(address, &format!("{SOCKET}?offset=earliest")).await;
        for _ in 0..random.usize(1..5) {
            let payload: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            let sound = [TEXT, 0x01, 0x80, PING, PONG];
            let bytes = match random.u8(0..3) {
                0 => payload,
                1 => frame(random.u8(..), &payload),
                _ => frame(sound[random.usize(..sound.len())], &payload),
            };
            socket.say(&bytes).await;
        }
        socket.0.shutdown().await.ok();
        let mut rest = Vec::new();
        // A reset is as good an end.
        socket.0.read_to_end(&mut rest).await.ok();
    }
    let mut socket = Socket::open(address, &format!("{SOCKET}?limit=0")).await;
    socket.write(1, &json!({})).await;
    assert_eq!(socket.hear().await["partition"], 0);
    socket.close().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_came_and_says_goodbye() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut follower = Socket::open(address, SOCKET).await;
    let mut writer = Socket::open(address, &format!("{SOCKET}?limit=0")).await;
    // Both conversations have begun.
    writer.write(1, &json!({"value": "x"})).await;
    assert_eq!(writer.hear().await["offset"], 0);
    assert_eq!(follower.hear().await["record"]["value"], "x");
    tokio::join!(
        async move {
            assert_eq!(follower.next().await, Ok(json!({"end": {"reason": "stopping"}})));
            assert_eq!(follower.next().await, Err(1001));
        },
        async move { assert_eq!(writer.next().await, Err(1001)) },
        broker.stop()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_socket_is_asked_whether_it_lives() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let mut socket = RawSocket::open(address, &format!("{SOCKET}?heartbeat_ms=1000")).await;
    let mut pings: HashSet<Vec<u8>> = HashSet::new();
    let mut has_position = false;
    // Each ping is answered, or no other would come.
    while pings.len() < 2 || !has_position {
        let (first, payload) = socket.next().await.unwrap();
        if first == PING {
            socket.say(&frame(PONG, &payload)).await;
            assert!(pings.insert(payload));
        } else {
            assert_eq!(
                (first, payload.as_slice()),
                (TEXT, b"{\"position\":\"0:0\"}".as_slice())
            );
            has_position = true;
        }
    }
    // And the broker answers, also while a message is on its way.
    socket.say(&frame(0x01, b"{\"record\"")).await;
    socket.say(&frame(PING, b"are you there")).await;
    socket.say(&frame(0x80, b": {}}")).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        match socket.next().await.unwrap() {
            (PONG, payload) => heard.push(payload == b"are you there"),
            (TEXT, payload) if payload.starts_with(b"{\"id\":null,\"partition\":0") => heard.push(true),
            _ => {}
        }
    }
    assert_eq!(heard, [true, true]);
    drop(socket);
    broker.stop().await;
}

/// Some megabytes, in 3000 records.
async fn fill(address: SocketAddr) {
    let line = format!("{}\n", json!({"value": "x".repeat(1000)}));
    let headers = [("content-type", "application/x-ndjson")];
    let written = send(address, "POST", RECORDS, &headers, line.repeat(3000).as_bytes()).await;
    assert_eq!(written.json()["records"], 3000);
}

/// Its pongs stand behind messages that are read only when others have their answers, and records wait for the pongs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_much_before_it_reads_is_not_held_up() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    fill(address).await;
    let mut socket = Socket::open(address, &format!("{SOCKET}?offset=earliest")).await;
    for id in 0..1000 {
        let message = json!({"id": id, "record": {}}).to_string();
        socket.0.feed(Message::text(message)).await.unwrap();
    }
    socket.0.flush().await.unwrap();
    let (mut answers, mut records) = (0, 0);
    while answers < 1000 || records < 4000 {
        let message = socket.hear().await;
        if message.get("record").is_some() {
            assert_eq!(message["record"]["offset"], records);
            records += 1;
        } else {
            assert_eq!(
                (&message["id"], &message["offset"]),
                (&json!(answers), &json!(3000 + answers))
            );
            answers += 1;
        }
    }
    socket.close().await;
    broker.stop().await;
}

/// It takes nothing, and answers no ping: the word that ends it waits for it, and nothing of it is held meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_keep_up_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_write_timeout: Duration::from_millis(300),
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    fill(address).await;
    let mut socket = RawSocket::open(address, &format!("{SOCKET}?offset=earliest")).await;
    while get(address, "/v1/stats").await.json()["http_streams"] != 0 {
        tokio::task::yield_now().await;
    }
    let (mut records, mut pings, mut code) = (0, 0, None);
    while let Some((first, payload)) = socket.next().await {
        match first {
            TEXT => records += 1,
            PING => pings += 1,
            CLOSE => code = Some(u16::from_be_bytes(payload[..2].try_into().unwrap())),
            other => panic!("{other:#x}"),
        }
    }
    assert_eq!((pings, code), (2, Some(1008)));
    // It was sent no more than it may leave unread.
    assert!(0 < records && records < 1000, "{records}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_message_pays_for_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_queued_max_request_bytes: 1 << 20,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    let body = vec![b'x'; 400 << 10];
    let text = [("content-type", "text/plain")];
    let write = async || send(address, "POST", RECORDS, &text, &body).await.status;
    assert_eq!(write().await, 200);
    let piece = vec![b'x'; 60_000];
    let half = [frame(0x01, b""), frame(0x00, &piece).repeat(10)].concat();
    let mut socket = RawSocket::open(address, &format!("{SOCKET}?limit=0")).await;
    socket.say(&half).await;
    // The pong says that all before it was read.
    socket.say(&frame(PING, b"")).await;
    assert_eq!(socket.next().await, Some((PONG, Vec::new())));
    assert_eq!(write().await, 503);
    let mut late = RawSocket::open(address, &format!("{SOCKET}?limit=0")).await;
    late.say(&half).await;
    assert_eq!(late.code().await, 1013);
    drop(socket);
    // The broker hears of it in its own time.
    while write().await != 200 {}
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_a_connection_like_others() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_max_connections: 1,
        ..config(directory.path())
    })
    .await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    // The connection before may still be ending.
    let mut socket = loop {
        let stream = TcpStream::connect(address).await.unwrap();
        if let Ok((socket, _)) = client_async(format!("ws://{address}{SOCKET}?limit=0"), stream).await {
            break Socket(socket);
        }
    };
    socket.write(1, &json!({})).await;
    assert_eq!(socket.hear().await["offset"], 0);
    let refused = finish(TcpStream::connect(address).await.unwrap()).await;
    refused.problem(503, "overloaded");
    socket.close().await;
    while get(address, "/healthz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    broker.stop().await;
}
