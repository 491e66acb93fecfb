//! Slow clients by the thousand: what they cost those who mean it, what they hold, and what they are told.
//!
//! | kind | what it does |
//! |---|---|
//! | silent | connects, and says nothing |
//! | half a head | sends the next byte of a header that does not end, each second |
//! | slow body | announces 1 MiB of JSON and sends a byte each second |
//! | endless body | sends an empty line of NDJSON each second, and never the end |
//! | endless line | sends a byte of the same line of NDJSON each second |
//!
//! They are spread evenly over the second, so that the broker has 5,000 of them to wake for in each. What they take of a machine whose cores the clients
//! need as well, they take wherever they go: so they also go to the bare handler, another process, while the broker has none. For what they are told, a broker
//! with short limits is loaded for itself: they send for a while, and then fall silent.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use log_bench::report::count;
use log_bench::rounds::in_turn;

use crate::client::{Client, Head, request};
use crate::figures::Goal;
use crate::servers::{Bare, Ours, Promise, milliseconds_since, rest};
use crate::{Session, kafka_load};

const CONNECTIONS: usize = 5_000;
/// A second is cut into so many steps; in each of them a share of the connections sends.
const STEPS: usize = 50;
/// How much later than without them 99 of 100 records may arrive: as little as such figures differ by themselves.
const P99_RATIO: f64 = 1.25;
const LOAD_SECONDS: u64 = 8;
const TOPIC: &str = "besieged";
/// The limits of the broker that is looked at for what it says, in milliseconds.
const LIMIT_MS: &str = "2000";
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Silent,
    HalfHead,
    SlowBody,
    EndlessBody,
    EndlessLine,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Silent,
        Self::HalfHead,
        Self::SlowBody,
        Self::EndlessBody,
        Self::EndlessLine,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::HalfHead => "half a head",
            Self::SlowBody => "slow body",
            Self::EndlessBody => "endless body",
            Self::EndlessLine => "endless line",
        }
    }

    /// What it begins with.
    fn opening(self, address: &str) -> String {
        let head = format!("POST /v1/topics/{TOPIC}/records HTTP/1.1\r\nhost: {address}\r\n");
        let lines = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        match self {
            Self::Silent => String::new(),
            Self::HalfHead => format!("{head}x-slow: "),
            Self::SlowBody => {
                format!("{head}content-type: application/json\r\ncontent-length: 1048576\r\n\r\n[")
            }
            Self::EndlessBody => format!("{head}{lines}"),
            Self::EndlessLine => format!("{head}{lines}1\r\n{{\r\n"),
        }
    }

    /// What it goes on with.
    fn piece(self) -> &'static [u8] {
        match self {
            Self::Silent => b"",
            Self::HalfHead => b"x",
            Self::SlowBody => b" ",
            Self::EndlessBody => b"1\r\n\n\r\n",
            Self::EndlessLine => b"1\r\n \r\n",
        }
    }
}

/// Where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Besieged {
    Nobody,
    /// The bare handler.
    Another,
    Ours,
}

impl Besieged {
    fn load(self) -> &'static str {
        match self {
            Self::Nobody => "5,000 records/s end to end",
            Self::Another => "5,000 records/s end to end beside 5,000 slow connections to another process",
            Self::Ours => "5,000 records/s end to end beside 5,000 slow connections",
        }
    }
}

pub(crate) async fn measure(session: &mut Session) -> anyhow::Result<()> {
    let ours = session.start(&[])?;
    ours.make_topic(TOPIC, 1, Promise::Relaxed).await?;
    let sides = [Besieged::Nobody, Besieged::Another, Besieged::Ours];
    while let Some(round) = session.rounds.begin("slow connections")? {
        let mut p99 = BTreeMap::new();
        for besieged in in_turn(&sides, round).copied() {
            rest().await;
            p99.insert(besieged, end_to_end(session, &ours, besieged)?);
        }
        let [nobody, another, ours] = sides.map(|one| p99.get(&one).copied());
        let beside = "end to end beside 5,000 slow connections";
        for (others, name, goal) in [
            (nobody, "times the p99 without them", Goal::AtMost(P99_RATIO)),
            (
                another,
                "times the p99 beside those to another process",
                Goal::AtMost(P99_RATIO),
            ),
        ] {
            if let (Some(others), Some(ours)) = (others, ours) {
                session.add(beside, name, goal, ours / others);
            }
        }
    }
    drop(ours);
    what_they_hear(session).await
}

/// The p99 of records from the moment they were due to their arrival, in milliseconds.
fn end_to_end(session: &mut Session, ours: &Ours, besieged: Besieged) -> anyhow::Result<f64> {
    let before = ours.anonymous_mebibytes()?;
    let another = (besieged == Besieged::Another).then(Bare::start).transpose()?;
    let address = match (besieged, &another) {
        (Besieged::Nobody, _) => None,
        (Besieged::Another, another) => another.as_ref().map(|bare| bare.http.as_str()),
        (Besieged::Ours, _) => Some(ours.http.as_str()),
    };
    let siege = address.map(Siege::begin).transpose()?;
    let duration = format!("{LOAD_SECONDS}s");
    let broker_cpu = ours.broker.cpu_seconds()?;
    let load = ["end-to-end", "--rate", "5000", "--record-size", "100"];
    let length = ["--warm-up", "1s", "--duration", &duration];
    let result = kafka_load::run(session, ours, &[load.as_slice(), &length].concat())?;
    let broker_cpu = ours.broker.cpu_seconds()? - broker_cpu;
    let held = ours.anonymous_mebibytes()? - before;
    let latency = result.end_to_end.context("latencies end to end")?;
    let p99 = latency.p99_us / 1e3;
    let name = besieged.load();
    session.add(name, "ms, half of them", Goal::Told, latency.p50_us / 1e3);
    session.add(name, "ms, 99 %", Goal::Told, p99);
    session.add(name, "s of broker CPU", Goal::Told, broker_cpu);
    if besieged == Besieged::Ours {
        session.add(name, "MiB of the broker's own memory more", Goal::Told, held);
    }
    if let Some(siege) = siege {
        siege.end()?;
    }
    Ok(p99)
}

/// Slow connections that are kept up.
#[derive(Debug)]
struct Siege {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Slow>>,
}

impl Siege {
    fn begin(address: &str) -> anyhow::Result<Self> {
        let kinds = Kind::ALL.into_iter().cycle().take(CONNECTIONS);
        let mut all: Vec<Slow> = kinds
            .map(|kind| Slow::connect(kind, address))
            .collect::<anyhow::Result<_>>()?;
        let over = Arc::<AtomicBool>::default();
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut next = Instant::now();
            for share in (0..STEPS).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                for slow in all.iter_mut().skip(share).step_by(STEPS) {
                    slow.go_on();
                }
                next += Duration::from_secs(1) / u32::try_from(STEPS).unwrap_or(1);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            all
        });
        Ok(Self { over, thread })
    }

    /// They fall silent.
    fn end(self) -> anyhow::Result<Vec<Slow>> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("who sends slowly panicked"))
    }
}

/// One of them.
#[derive(Debug)]
struct Slow {
    kind: Kind,
    stream: TcpStream,
    answer: Vec<u8>,
    is_closed: bool,
}

impl Slow {
    fn connect(kind: Kind, address: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).context("connect slowly")?;
        stream.set_nodelay(true)?;
        // Who is refused at once may not be able to say anything.
        stream.write_all(kind.opening(address).as_bytes()).ok();
        stream.set_nonblocking(true)?;
        Ok(Self {
            kind,
            stream,
            answer: Vec::new(),
            is_closed: false,
        })
    }

    fn go_on(&mut self) {
        if !self.is_closed
            && let Err(error) = self.stream.write_all(self.kind.piece())
        {
            self.is_closed = error.kind() != ErrorKind::WouldBlock;
        }
    }

    /// What it was told, and whether it was sent away.
    fn outcome(&mut self) -> String {
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break self.is_closed = true,
                Ok(count) => self
                    .answer
                    .extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) => break self.is_closed |= error.kind() != ErrorKind::WouldBlock,
            }
        }
        let told = match Head::find(&self.answer) {
            Ok(Some(head)) => head.status.to_string(),
            _ => "no word".to_owned(),
        };
        let end = if self.is_closed { "closed" } else { "open" };
        format!("{}: {told}, {end}", self.kind.name())
    }
}

/// What becomes of each kind under limits of two seconds, and how soon somebody else is answered meanwhile.
async fn what_they_hear(session: &mut Session) -> anyhow::Result<()> {
    let ours = session.start(&[
        ("http-idle-timeout-ms", LIMIT_MS),
        ("http-read-timeout-ms", LIMIT_MS),
        ("http-max-connections", "6000"),
    ])?;
    ours.make_topic(TOPIC, 1, Promise::Relaxed).await?;
    let siege = Siege::begin(&ours.http)?;
    let healthy = request("GET", "/healthz", &ours.http, &[], b"");
    let mut slowest = 0.0_f64;
    for _ in 0..20 {
        let began = Instant::now();
        let mut client = Client::connect(&ours.http).await?;
        client.exchange(&healthy).await?;
        slowest = slowest.max(milliseconds_since(began));
        tokio::time::sleep(LIMIT / 20).await;
    }
    let load = "5,000 slow connections under limits of 2 s";
    session.add(
        load,
        "ms until somebody else is answered, the longest of 20",
        Goal::Told,
        slowest,
    );
    let mut all = siege.end()?;
    tokio::time::sleep(2 * LIMIT).await;
    let mut outcomes = BTreeMap::<String, u64>::new();
    for slow in &mut all {
        *outcomes.entry(slow.outcome()).or_default() += 1;
    }
    for (outcome, times) in outcomes {
        session.add(load, &outcome, Goal::Told, count(times));
    }
    Ok(())
}
