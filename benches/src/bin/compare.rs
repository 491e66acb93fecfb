//! `compare`: the same loads on our server and on a real Kafka, in alternation, on this machine.
//!
//! Each round does everything once on each broker, the one that begins changing from round to round; the first round is
//! dropped. Before each load the disk is brought to rest. How each broker is set stands in the rows: "synced" answers
//! after the disk has the record, "page cache" before.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use log_bench::brokers::{Broker, Kind, Programs, children_cpu_seconds, machine_cpu_seconds};
use log_bench::comparison::{Better, Comparison, Quantity};
use log_bench::load::local;
use log_bench::loads::{Client, Clients, Latency};
use log_bench::probe::first_acknowledgement;
use log_bench::report::{Spread, count};
use log_bench::rounds::{Rounds, Setup, in_turn};
use log_bench::workload::{LOADS, Load, ONE_AT_A_TIME_RECORDS, Promise, RATE, Work};
use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::ClientConfig;

/// Compares our server with a real Kafka under the same loads.
#[derive(Debug, Parser)]
struct Options {
    /// Only loads whose name contains this.
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    setup: Setup,
    /// How large records are, in bytes.
    #[arg(long, default_value_t = 1 << 10)]
    record_bytes: u64,
    /// Records of a throughput run.
    #[arg(long, default_value_t = 400_000)]
    records: u64,
    /// Records after which memory is looked at.
    #[arg(long, default_value_t = 1_000_000)]
    memory_records: u64,
    /// How long a latency run takes, in seconds.
    #[arg(long, default_value_t = 15)]
    latency_seconds: u64,
    /// A run during which others took a larger share of the machine is repeated, a few times at most.
    #[arg(long, default_value_t = 0.1)]
    others_max: f64,
}

/// Its name to `--only`, which the others have from [`Load::name`].
const LIFE: &str = "start and memory";
/// How often a run is repeated on a machine that others use.
const ATTEMPTS_MAX: usize = 4;
/// A broker that has just started is still tidying up.
const IDLE_AFTER: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (wants_life, loads) = wanted(options.only.as_deref())?;
    let programs = options.setup.programs()?;
    let wants_librdkafka = wants_life || loads.iter().any(|load| load.client() == Client::Librdkafka);
    make_clients(&programs, wants_librdkafka)?;
    let log_settings = programs
        .peers
        .join("../../log-server/tests/clients/kafka/log4j2.properties");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let clients = Clients {
        directory: &programs.clients,
        log_settings: &log_settings,
        record_bytes: options.record_bytes,
    };
    let mut session = Session {
        options: &options,
        programs: &programs,
        clients,
        runtime,
        rounds: Rounds::new(&options.setup, Comparison::default()),
        others: Vec::new(),
    };
    if wants_life {
        session.in_rounds(LIFE, Session::life)?;
    }
    if !loads.is_empty() {
        session.loads(&loads)?;
    }
    session.note_facts(wants_librdkafka)?;
    session.rounds.end(&session.rounds.figures.to_markdown())
}

/// Makes the client programs. Without librdkafka those loads can be run that go through the Java client.
fn make_clients(programs: &Programs, wants_librdkafka: bool) -> anyhow::Result<()> {
    let mut setup = Command::new(programs.peers.join("setup.sh"));
    setup.arg(&programs.clients);
    if !wants_librdkafka {
        setup.arg("java");
    }
    let made = setup.status().context("run setup.sh")?;
    let advice = if wants_librdkafka {
        format!(
            "; if it is librdkafka that is missing, install it (Debian: the package librdkafka-dev), or go on without it: --only {:?}",
            Client::Java.name()
        )
    } else {
        String::new()
    };
    ensure!(
        made.success(),
        "the client programs cannot be made, as said above{advice}"
    );
    Ok(())
}

/// What `--only` lets through: whether a broker's life, and which loads.
fn wanted(only: Option<&str>) -> anyhow::Result<(bool, Vec<Load>)> {
    let is_wanted = |name: &str| name.contains(only.unwrap_or_default());
    let loads: Vec<Load> = LOADS.into_iter().filter(|load| is_wanted(&load.name())).collect();
    let wants_life = is_wanted(LIFE);
    ensure!(
        wants_life || !loads.is_empty(),
        "--only takes a part of one of these names:\n{LIFE}\n{}",
        LOADS.map(|load| load.name()).join("\n")
    );
    Ok((wants_life, loads))
}

struct Session<'a> {
    options: &'a Options,
    programs: &'a Programs,
    clients: Clients<'a>,
    runtime: tokio::runtime::Runtime,
    rounds: Rounds<Comparison>,
    /// The share of the machine that neither broker nor client took, for each run.
    others: Vec<f64>,
}

impl Session<'_> {
    fn in_rounds(
        &mut self,
        load: &str,
        mut work: impl FnMut(&mut Self, Kind, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        while let Some(round) = self.rounds.begin(load)? {
            for kind in in_turn(&Kind::ALL, round) {
                work(self, *kind, round)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, quantity: Quantity, value: f64) {
        if self.rounds.counts() {
            self.rounds.figures.add(kind, quantity, value);
        }
    }

    fn say(&self, kind: Kind, what: &str) {
        self.rounds.say(&format!("{}: {what}", kind.name()));
    }

    // -- a broker's life: start, idle, loaded, start again

    fn life(&mut self, kind: Kind, round: usize) -> anyhow::Result<()> {
        let data = self.fresh_directory(kind, round)?;
        rest();
        let (mut broker, begun) = Broker::start(kind, self.programs, &data)?;
        let first = first_acknowledgement(&mut broker, begun, "first")?.as_secs_f64() * 1e3;
        std::thread::sleep(IDLE_AFTER);
        let idle = broker.memory()?;
        let records = self.options.memory_records;
        self.create_topic(&broker, "many", 1, Promise::Default)?;
        let client = Client::Librdkafka;
        self.clients
            .produce(client, &broker.address, "many", records, "all")?;
        let produced = broker.memory()?;
        self.clients
            .consume(client, &broker.address, "many", records, 1)?;
        let consumed = broker.memory()?;
        broker.stop()?;
        rest();
        let (mut broker, begun) = Broker::start(kind, self.programs, &data)?;
        let again = first_acknowledgement(&mut broker, begun, "first")?.as_secs_f64() * 1e3;
        drop(broker);
        std::fs::remove_dir_all(&data)?;
        self.say(
            kind,
            &format!("first acknowledgement after {first:.1} ms, idle {idle:?}"),
        );
        let unit = "ms to the first acknowledged record";
        let bytes = self.options.record_bytes;
        let many = format!("start, {records} records of {bytes} B, after an orderly stop");
        self.add(kind, less("start, empty data directory".to_owned(), unit), first);
        self.add(kind, less(many, unit), again);
        for (when, memory) in [
            ("idle after the start".to_owned(), idle),
            (format!("after {records} records produced"), produced),
            ("after reading them from the start".to_owned(), consumed),
        ] {
            let name = format!("memory {when}");
            self.add(kind, less(name.clone(), "MiB anonymous"), memory.anonymous);
            self.add(kind, less(name, "MiB resident in all"), memory.total);
        }
        Ok(())
    }

    fn fresh_directory(&self, kind: Kind, round: usize) -> anyhow::Result<PathBuf> {
        let directory = &self.options.setup.directory;
        let data = directory.join(format!("{}-{round}", kind.name()));
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        Broker::prepare(kind, self.programs, &data)?;
        Ok(data)
    }

    // -- loads on both brokers, which run side by side and take turns

    fn loads(&mut self, loads: &[Load]) -> anyhow::Result<()> {
        let mut brokers = Vec::new();
        for kind in Kind::ALL {
            let data = self.fresh_directory(kind, usize::MAX)?;
            let (mut broker, begun) = Broker::start(kind, self.programs, &data)?;
            first_acknowledgement(&mut broker, begun, "first")?;
            brokers.push((broker, data));
        }
        for (number, load) in loads.iter().enumerate() {
            let head = format!("load {} of {}, {}", number + 1, loads.len(), load.name());
            self.in_rounds(&head, |session, kind, round| {
                let broker = brokers
                    .iter_mut()
                    .map(|(broker, _)| broker)
                    .find(|broker| broker.kind == kind);
                session.run(number, load, broker.context("both run")?, round)
            })?;
        }
        for (broker, data) in brokers {
            drop(broker);
            std::fs::remove_dir_all(data)?;
        }
        Ok(())
    }

    /// Runs a load, again and again while others use the machine, and keeps the figures of the last run.
    fn run(&mut self, number: usize, load: &Load, broker: &mut Broker, round: usize) -> anyhow::Result<()> {
        for attempt in 1.. {
            let topic = format!("load-{number}-{round}-{attempt}");
            let (figures, others) = self.run_once(load, broker, &topic)?;
            let show = |(quantity, value): &Figure| format!("{value:.2} {}", quantity.unit);
            let said: Vec<_> = figures.iter().map(show).collect();
            let said = format!(
                "{}: {}; others took {:.0} %",
                load.name(),
                said.join(", "),
                others * 100.0
            );
            self.say(broker.kind, &said);
            let is_quiet = others <= self.options.others_max || !self.rounds.counts();
            if is_quiet || ATTEMPTS_MAX <= attempt {
                self.others.push(others);
                for (quantity, value) in figures {
                    self.add(broker.kind, quantity, value);
                }
                break;
            }
        }
        Ok(())
    }

    /// The figures of one run, and the largest share that others took of the machine meanwhile.
    fn run_once(&self, load: &Load, broker: &mut Broker, topic: &str) -> anyhow::Result<(Vec<Figure>, f64)> {
        let partitions = match load.work {
            Work::Throughput { partitions, .. } => partitions,
            Work::Rate { .. } | Work::OneAtATime { .. } => 1,
        };
        self.create_topic(broker, topic, partitions, load.promise)?;
        rest();
        let outcome = match load.work {
            Work::Throughput { client, acks, .. } => {
                self.produce_and_consume(load, broker, topic, (client, acks, partitions))?
            }
            Work::Rate { acks } => {
                let seconds = self.options.latency_seconds;
                let measured = self.measured(broker, |clients, address| {
                    clients.latency(address, topic, RATE, seconds, acks)
                })?;
                let mut figures = latency_figures(load, measured.result);
                let cpu = measured.broker_cpu / count(seconds) * 100.0;
                figures.push((less(load.name(), "% of one core, broker"), cpu));
                (figures, measured.others)
            }
            Work::OneAtATime { acks } => {
                let measured = self.measured(broker, |clients, address| {
                    clients.one_at_a_time(address, topic, ONE_AT_A_TIME_RECORDS, acks)
                })?;
                (latency_figures(load, measured.result), measured.others)
            }
        };
        broker.check_alive()?;
        self.delete_topic(broker, topic)?;
        Ok(outcome)
    }

    fn produce_and_consume(
        &self,
        load: &Load,
        broker: &Broker,
        topic: &str,
        (client, acks, partitions): (Client, &str, i32),
    ) -> anyhow::Result<(Vec<Figure>, f64)> {
        const CPU: &str = "CPU s/GB, broker";
        let records = self.options.records;
        let gigabytes = count(records * self.options.record_bytes) / 1e9;
        let produced = self.measured(broker, |clients, address| {
            clients.produce(client, address, topic, records, acks)
        })?;
        let name = format!("produce, {}", load.name());
        let mut figures = vec![
            (more(name.clone(), "MB/s"), produced.result),
            (less(name, CPU), produced.broker_cpu / gigabytes),
        ];
        if !load.is_read_back() {
            return Ok((figures, produced.others));
        }
        let consumed = self.measured(broker, |clients, address| {
            clients.consume(client, address, topic, records, partitions)
        })?;
        let name = format!(
            "consume from the start, {}, partitions: {partitions}",
            client.name()
        );
        figures.push((more(name.clone(), "MB/s"), consumed.result));
        figures.push((less(name, CPU), consumed.broker_cpu / gigabytes));
        Ok((figures, produced.others.max(consumed.others)))
    }

    /// Runs a client program and takes down what else happened meanwhile.
    fn measured<T>(
        &self,
        broker: &Broker,
        work: impl FnOnce(&Clients<'_>, &str) -> anyhow::Result<T>,
    ) -> anyhow::Result<Measured<T>> {
        let begun = std::time::Instant::now();
        let (machine, ours, client) = (
            machine_cpu_seconds()?,
            broker.cpu_seconds()?,
            children_cpu_seconds()?,
        );
        let result = work(&self.clients, &broker.address)?;
        let broker_cpu = broker.cpu_seconds()? - ours;
        let client_cpu = children_cpu_seconds()? - client;
        let machine_cpu = machine_cpu_seconds()? - machine;
        let cores = count(u64::try_from(std::thread::available_parallelism()?.get())?);
        let available = begun.elapsed().as_secs_f64() * cores;
        let others = ((machine_cpu - broker_cpu - client_cpu) / available).max(0.0);
        Ok(Measured {
            result,
            broker_cpu,
            others,
        })
    }

    fn admin(&self, broker: &Broker) -> anyhow::Result<Admin> {
        let _inside = self.runtime.enter();
        Ok(Admin::new(ClientConfig::new(&broker.address))?)
    }

    fn create_topic(
        &self,
        broker: &Broker,
        name: &str,
        partitions: i32,
        promise: Promise,
    ) -> anyhow::Result<()> {
        let admin = self.admin(broker)?;
        let mut topic = NewTopic::new(name).with_partitions(partitions);
        if let Some(value) = promise.flush_messages() {
            topic = topic.with_config("flush.messages", value);
        }
        let created = self
            .runtime
            .block_on(admin.create_topics(&[topic], Intent::Apply))?;
        for outcome in created {
            outcome.with_context(|| format!("create {name}"))?;
        }
        Ok(())
    }

    fn delete_topic(&self, broker: &Broker, name: &str) -> anyhow::Result<()> {
        let admin = self.admin(broker)?;
        for outcome in self.runtime.block_on(admin.delete_topics(&[name]))? {
            outcome.with_context(|| format!("delete {name}"))?;
        }
        // Both remove the files in the background.
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }

    fn note_facts(&mut self, wants_librdkafka: bool) -> anyhow::Result<()> {
        let others = Spread::of(self.others.iter().map(|share| share * 100.0));
        let librdkafka = if wants_librdkafka {
            self.clients.librdkafka_version()?
        } else {
            "not used".to_owned()
        };
        let facts = [
            ("machine", local::machine().to_string()),
            ("librdkafka", librdkafka),
            ("rounds that count", self.options.setup.rounds.to_string()),
            (
                "records of a throughput run",
                format!("{} of {} B", self.options.records, self.options.record_bytes),
            ),
            (
                "share of the machine that others took, in %",
                others.map_or_else(String::new, |spread| spread.to_string()),
            ),
        ];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.rounds.figures.facts = facts.collect();
        Ok(())
    }
}

/// What was counted, and how much.
type Figure = (Quantity, f64);

fn more(load: String, unit: &'static str) -> Quantity {
    Quantity {
        load,
        unit: unit.into(),
        better: Better::More,
    }
}

fn less(load: String, unit: &'static str) -> Quantity {
    Quantity {
        load,
        unit: unit.into(),
        better: Better::Less,
    }
}

fn latency_figures(load: &Load, latency: Latency) -> Vec<Figure> {
    vec![
        (less(load.name(), "ms end to end, p50"), latency.p50),
        (less(load.name(), "ms end to end, p99"), latency.p99),
    ]
}

struct Measured<T> {
    result: T,
    broker_cpu: f64,
    others: f64,
}

/// Brings everything that waits to be written to the disk, so that one run does not pay for another.
fn rest() {
    rustix::fs::sync();
    std::thread::sleep(Duration::from_millis(500));
}
