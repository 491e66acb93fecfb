//! The pipeline with a scripted dispatch: each request says in its last bytes how it wants to be carried out, and the test
//! decides when answers that come later come.

use std::collections::HashMap;

use bytes::{Buf as _, BufMut as _, BytesMut};
use log_core::protocol::ApiKey;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::kafka::apis;
use crate::kafka::connection::turn::SyncTarget;
use crate::kafka::listener::{KafkaListener, ListenerSettings};
use crate::kafka::request_context::Endpoint;
use crate::kafka::test_support::{frame, fuzz};
use crate::shutdown::{Shutdown, StopReason};

const NOW: u8 = b'n';
const LATER: u8 = b'l';
const BARRIER: u8 = b'b';
const SILENCE: u8 = b's';
const CLOSE: u8 = b'x';
const FAIL_LATER: u8 = b'f';
/// Waits for one of two disks.
const UNSYNCED: u8 = b'u';
const UNSYNCED_ELSEWHERE: u8 = b'v';

#[derive(Default)]
struct Script {
    /// Correlation ids in the order in which requests were carried out.
    begun: Mutex<Vec<i32>>,
    waiting: Mutex<HashMap<i32, oneshot::Sender<()>>>,
    answer_bytes: usize,
    /// How many Produce requests were carried out together, each time.
    together: Mutex<Vec<usize>>,
    /// How many of them are, at most.
    together_max: Option<usize>,
    disks: [Arc<Disk>; 2],
}

/// Answers whoever waits for it as soon as it is told to sync, and notes by whom.
#[derive(Default)]
struct Disk {
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    syncs: Mutex<Vec<(&'static str, usize)>>,
}

impl Disk {
    fn sync(&self, by: &'static str) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        self.syncs.lock().push((by, waiting.len()));
        for release in waiting {
            release.send(()).ok();
        }
    }
}

impl SyncTarget for Disk {
    fn sync_here(&self) {
        self.sync("here");
    }

    fn hand_over(&self) {
        self.sync("elsewhere");
    }
}

impl Script {
    fn answering(answer_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            answer_bytes,
            ..Self::default()
        })
    }

    fn begun(&self) -> Vec<i32> {
        self.begun.lock().clone()
    }

    fn release(&self, correlation_id: i32) {
        self.waiting
            .lock()
            .remove(&correlation_id)
            .unwrap()
            .send(())
            .unwrap();
    }

    async fn until_begun(&self, count: usize) {
        while self.begun.lock().len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn answer(&self, correlation_id: i32) -> Answer {
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(4 + self.answer_bytes).unwrap());
        bytes.put_i32(correlation_id);
        bytes.resize(8 + self.answer_bytes, 0xee);
        Answer::Respond(Response::from_bytes(bytes.freeze()))
    }
}

impl Dispatch for Arc<Script> {
    fn dispatch(&self, _connection: &Arc<ConnectionInfo>, frame: Frame) -> Dispatched {
        let id = frame.prefix.correlation_id;
        self.begun.lock().push(id);
        let close = || Answer::Close(CloseReason::UnacknowledgedProduceFailed("scripted".to_owned()));
        let how = *frame.bytes.last().unwrap();
        match how {
            NOW => return Dispatched::Now(self.answer(id)),
            SILENCE => return Dispatched::Now(Answer::Silence),
            CLOSE => return Dispatched::Now(close()),
            _ => {}
        }
        let (release, released) = oneshot::channel();
        let disk = match how {
            UNSYNCED => Some(&self.disks[0]),
            UNSYNCED_ELSEWHERE => Some(&self.disks[1]),
            _ => None,
        };
        match disk {
            Some(disk) => disk.waiting.lock().push(release),
            None => drop(self.waiting.lock().insert(id, release)),
        }
        let script = Arc::clone(self);
        let future: AnswerFuture = Box::pin(async move {
            // A test that ends drops the sender.
            drop(released.await);
            if how == FAIL_LATER {
                close()
            } else {
                script.answer(id)
            }
        });
        match (how, disk) {
            (BARRIER, _) => Dispatched::Barrier(future),
            (_, Some(disk)) => Dispatched::Unsynced(future, Unsynced::new(Arc::clone(disk) as _)),
            _ => Dispatched::Later(future),
        }
    }

    fn dispatch_produces(
        &self,
        connection: &Arc<ConnectionInfo>,
        frames: &mut VecDeque<Frame>,
    ) -> Vec<Dispatched> {
        self.together.lock().push(frames.len());
        let count = self.together_max.unwrap_or(usize::MAX).min(frames.len());
        let frames = frames.drain(..count);
        frames.map(|frame| self.dispatch(connection, frame)).collect()
    }
}

struct Client {
    read: ReadHalf<DuplexStream>,
    write: Option<WriteHalf<DuplexStream>>,
    end: JoinHandle<End>,
    shutdown: Shutdown,
}

impl Client {
    fn connect(script: &Arc<Script>, in_flight_max: usize) -> Self {
        let (far, near) = tokio::io::duplex(64 << 10);
        let (read, write) = tokio::io::split(far);
        let shutdown = Shutdown::new();
        let stopping = shutdown.signal();
        let script = Arc::clone(script);
        let end = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(near);
            let settings = settings(in_flight_max);
            run(
                reader,
                writer,
                &script,
                info(),
                &settings,
                RequestMemory::new(1 << 30),
                stopping,
            )
            .await
        });
        Self {
            read,
            write: Some(write),
            end,
            shutdown,
        }
    }

    async fn send(&mut self, requests: &[(i32, u8)]) {
        let bytes: Vec<u8> = requests.iter().flat_map(|(id, how)| request(*id, *how)).collect();
        self.write.as_mut().unwrap().write_all(&bytes).await.unwrap();
    }

    /// The next answer's correlation id; `None` at the end of the connection.
    async fn answer(&mut self) -> Option<i32> {
        read_answer(&mut self.read).await
    }
}

async fn read_answer<R: AsyncRead + Unpin>(read: &mut R) -> Option<i32> {
    let length = read.read_i32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).unwrap()];
    read.read_exact(&mut body).await.unwrap();
    Some((&body[..]).get_i32())
}

fn request(correlation_id: i32, how: u8) -> Vec<u8> {
    frame(ApiKey::Metadata, 12, correlation_id, |buffer| buffer.put_u8(how))
}

fn info() -> Arc<ConnectionInfo> {
    let address = "127.0.0.1:9092".parse().unwrap();
    Arc::new(ConnectionInfo::new(1, address, Endpoint::reached(address)))
}

fn settings(in_flight_max: usize) -> ConnectionSettings {
    ConnectionSettings {
        frames: Arc::new(FrameLimits {
            records_frame_bytes_max: 1 << 20,
            opaque_frame_bytes_max: 2 << 20,
            structure_frame_bytes_max: 1 << 20,
            idle_timeout: Duration::from_mins(10),
            frame_timeout: Duration::from_secs(30),
            frame_bytes_per_second_min: 128 << 10,
        }),
        in_flight_max,
        write_timeout: Duration::from_mins(1),
        drain_timeout: Duration::from_secs(5),
        http_address: Some("127.0.0.1:8080".into()),
        metrics: Arc::new(apis::metrics()),
    }
}

#[tokio::test]
async fn answers_leave_in_the_order_of_the_requests() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client
        .send(&[(1, LATER), (2, NOW), (3, LATER), (4, SILENCE), (5, NOW)])
        .await;
    script.until_begun(5).await;
    script.release(3);
    script.release(1);
    for expected in [1, 2, 3, 5] {
        assert_eq!(client.answer().await, Some(expected));
    }
}

#[tokio::test]
async fn requests_go_on_while_answers_wait_and_stop_at_the_limit() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 4);
    let requests: Vec<_> = (0..20).map(|id| (id, LATER)).collect();
    client.send(&requests).await;
    // Four in the queue and one that the writing half holds.
    script.until_begun(5).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(script.begun(), [0, 1, 2, 3, 4]);
    script.release(0);
    assert_eq!(client.answer().await, Some(0));
    script.until_begun(6).await;
    for id in 1..20 {
        script.until_begun(usize::try_from(id).unwrap() + 1).await;
        script.release(id);
        assert_eq!(client.answer().await, Some(id));
    }
}

#[tokio::test]
async fn nothing_begins_before_a_barrier_ends_but_earlier_answers_leave() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client.send(&[(1, LATER), (2, BARRIER), (3, NOW)]).await;
    script.until_begun(2).await;
    script.release(1);
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(script.begun(), [1, 2]);
    script.release(2);
    assert_eq!(client.answer().await, Some(2));
    assert_eq!(client.answer().await, Some(3));
}

#[tokio::test]
async fn a_request_that_closes_comes_after_the_answers_before_it() {
    for how in [CLOSE, FAIL_LATER] {
        let script = Script::answering(10);
        let mut client = Client::connect(&script, 16);
        client.send(&[(1, LATER), (2, how), (3, NOW)]).await;
        script.until_begun(2).await;
        script.release(1);
        assert_eq!(client.answer().await, Some(1));
        if how == FAIL_LATER {
            script.release(2);
        }
        assert_eq!(client.answer().await, None);
        let end = client.end.await.unwrap();
        assert_eq!(end.to_string(), "produce with acks=0 failed: scripted");
        assert_eq!(script.begun().contains(&3), how == FAIL_LATER);
    }
}

/// The answers stand in the queue when the one that closes is found behind them, so all are gathered in one go.
#[tokio::test]
async fn answers_that_are_ready_leave_before_a_later_one_closes() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client
        .send(&[(1, LATER), (2, NOW), (3, LATER), (4, FAIL_LATER), (5, NOW)])
        .await;
    script.until_begun(5).await;
    for id in [4, 3, 1] {
        script.release(id);
    }
    for expected in [1, 2, 3] {
        assert_eq!(client.answer().await, Some(expected));
    }
    assert_eq!(client.answer().await, None);
    let end = client.end.await.unwrap();
    assert_eq!(end.to_string(), "produce with acks=0 failed: scripted");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_not_read_and_cut_off_in_the_end() {
    let script = Script::answering(10_000);
    let mut client = Client::connect(&script, 8);
    let requests: Vec<_> = (0..300).map(|id| (id, NOW)).collect();
    client.send(&requests).await;
    let begin = Instant::now();
    let end = client.end.await.unwrap();
    assert!(matches!(end, End::SlowReader(_)), "{end}");
    assert_eq!(begin.elapsed().as_secs(), 60);
    // What fits the pipe, one gathered write and the queue.
    let bound = (64 << 10) / 10_000 + GATHER_BYTES / 10_000 + 8 + 3;
    let taken = script.begun().len();
    assert!(taken <= bound, "{taken} of {bound}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closed_its_side_still_gets_answers_for_a_moment() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client.send(&[(1, LATER), (2, LATER)]).await;
    script.until_begun(2).await;
    let mut write = client.write.take().unwrap();
    write.shutdown().await.unwrap();
    script.release(1);
    assert_eq!(client.answer().await, Some(1));
    let begin = Instant::now();
    assert_eq!(client.answer().await, None);
    assert!(matches!(client.end.await.unwrap(), End::ByClient));
    assert_eq!(begin.elapsed(), HALF_CLOSED);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_answers_leave_and_takes_nothing_more() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client.send(&[(1, LATER), (2, BARRIER)]).await;
    script.until_begun(2).await;
    client.shutdown.request(StopReason::Asked);
    client.send(&[(3, NOW)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    script.release(2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    script.release(1);
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(client.answer().await, Some(2));
    assert_eq!(client.answer().await, None);
    assert!(matches!(client.end.await.unwrap(), End::Shutdown));
    assert_eq!(script.begun(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client.send(&[(1, LATER)]).await;
    script.until_begun(1).await;
    let begin = Instant::now();
    client.shutdown.request(StopReason::Asked);
    assert!(matches!(client.end.await.unwrap(), End::Shutdown));
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
}

/// The reading half waits for a place in the queue, or for a barrier, and does not look up from it.
#[tokio::test(start_paused = true)]
async fn a_stop_waits_neither_for_a_full_queue_nor_for_a_barrier() {
    let full_queue: Vec<_> = (0..100).map(|id| (id, NOW)).collect();
    for (requests, begun) in [(full_queue, 9), (vec![(1, BARRIER)], 1)] {
        let script = Script::answering(100_000);
        let mut client = Client::connect(&script, 8);
        client.send(&requests).await;
        script.until_begun(begun).await;
        let begin = Instant::now();
        client.shutdown.request(StopReason::Asked);
        assert!(matches!(client.end.await.unwrap(), End::Shutdown));
        assert_eq!(begin.elapsed().as_secs(), 5);
    }
}

/// Random kinds, released in random order: every answer comes, in order, none twice.
#[test]
fn random_pipelines_keep_their_order() {
    fuzz(100, |rng| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let script = Script::answering(rng.usize(0..40_000));
            let mut client = Client::connect(&script, rng.usize(1..10));
            let requests: Vec<(i32, u8)> = (0..rng.i32(1..60))
                .map(|id| (id, *rng.choice(&[NOW, LATER, BARRIER, SILENCE]).unwrap()))
                .collect();
            let mut write = client.write.take().unwrap();
            let sent = requests.clone();
            let mut pieces = rng.fork();
            let sender = tokio::spawn(async move {
                let bytes: Vec<u8> = sent.iter().flat_map(|(id, how)| request(*id, *how)).collect();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(pieces.usize(1..=rest.len()));
                    write.write_all(now).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = later;
                }
                write
            });
            let releasing = Arc::clone(&script);
            let mut order = rng.fork();
            let releaser = tokio::spawn(async move {
                loop {
                    tokio::task::yield_now().await;
                    let waiting: Vec<i32> = releasing.waiting.lock().keys().copied().collect();
                    if let Some(id) = order.choice(waiting) {
                        releasing.release(id);
                    }
                }
            });
            for (id, _) in requests.iter().filter(|(_, how)| *how != SILENCE) {
                assert_eq!(client.answer().await, Some(*id));
            }
            let write = sender.await.unwrap();
            script.until_begun(requests.len()).await;
            releaser.abort();
            drop(write);
            assert_eq!(
                script.begun(),
                requests.iter().map(|(id, _)| *id).collect::<Vec<_>>()
            );
        });
    });
}

struct Served {
    address: std::net::SocketAddr,
    stop: Shutdown,
    task: JoinHandle<()>,
}

async fn serve(script: &Arc<Script>, settings: ListenerSettings) -> Served {
    let listener = KafkaListener::bind("127.0.0.1:0".parse().unwrap(), settings)
        .await
        .unwrap();
    let address = listener.local_address().unwrap();
    let stop = Shutdown::new();
    let stopping = stop.signal();
    let task = tokio::spawn(listener.serve_with(Arc::new(Arc::clone(script)), stopping));
    Served { address, stop, task }
}

#[tokio::test]
async fn over_loopback_with_large_answers_and_a_stop_at_the_end() {
    let script = Script::answering(3 << 20);
    let served = serve(&script, ListenerSettings::default()).await;
    let mut socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let bytes: Vec<u8> = (0..20).flat_map(|id| request(id, NOW)).collect();
    socket.write_all(&bytes).await.unwrap();
    for id in 0..20 {
        assert_eq!(read_answer(&mut socket).await, Some(id));
    }
    served.stop.request(StopReason::Asked);
    assert_eq!(read_answer(&mut socket).await, None);
    served.task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn http_on_this_port_is_told_where_to_go() {
    let script = Script::answering(1);
    let settings = ListenerSettings {
        http_address: Some("127.0.0.1:8080".to_owned()),
        ..ListenerSettings::default()
    };
    let served = serve(&script, settings).await;
    let mut socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let request = format!(
        "POST /v1/topics HTTP/1.1\r\nHost: a\r\n\r\n{}",
        "x".repeat(30_000)
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with("Use http://127.0.0.1:8080 for HTTP.\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_connection_above_the_limit_is_closed_and_makes_no_difference_to_the_others() {
    let script = Script::answering(1);
    let settings = ListenerSettings {
        connections_max: 1,
        ..ListenerSettings::default()
    };
    let served = serve(&script, settings).await;
    let mut first = tokio::net::TcpStream::connect(served.address).await.unwrap();
    first.write_all(&request(1, NOW)).await.unwrap();
    assert_eq!(read_answer(&mut first).await, Some(1));
    let mut second = tokio::net::TcpStream::connect(served.address).await.unwrap();
    assert_eq!(read_answer(&mut second).await, None);
    first.write_all(&request(2, NOW)).await.unwrap();
    assert_eq!(read_answer(&mut first).await, Some(2));
}

mod turns;
