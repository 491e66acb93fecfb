//! The brokers that are compared, as processes: ours, and a real Apache Kafka from its jars.
//!
//! Owns a process and its data directory; both end with the value. What a process costs is read from `/proc`.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// How long a broker may take until it listens.
const START_MAX: Duration = Duration::from_mins(1);
/// How long a broker may take to end in order.
const STOP_MAX: Duration = Duration::from_mins(1);
/// The kernel counts CPU time of processes in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Ours.
    Stratalog,
    /// The real one.
    Kafka,
}

impl Kind {
    /// Both, ours first.
    pub const ALL: [Self; 2] = [Self::Stratalog, Self::Kafka];

    /// Its name in file names and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stratalog => "stratalog",
            Self::Kafka => "kafka",
        }
    }
}

/// Where programs and scripts are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Our server.
    pub stratalog: PathBuf,
    /// `benches/peers`.
    pub peers: PathBuf,
    /// What `peers/setup.sh` made.
    pub clients: PathBuf,
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    /// Which one.
    pub kind: Kind,
    /// Where clients reach it.
    pub address: String,
    data: PathBuf,
    process: Child,
}

/// What a process holds, in mebibytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Its own: heap and stacks.
    pub anonymous: f64,
    /// With the pages of mapped files, which the system takes back when it needs them.
    pub total: f64,
}

/// A port that was free a moment ago, and another one.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let (first, second) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

impl Broker {
    /// Does what has to be done once before a broker's first start: Kafka formats its storage. Not part of any figure.
    ///
    /// # Errors
    /// When the script fails.
    pub fn prepare(kind: Kind, programs: &Programs, data: &Path) -> anyhow::Result<()> {
        if kind == Kind::Kafka {
            let done = Command::new(programs.peers.join("kafka/serve.sh"))
                .arg(data)
                .args(["1", "2", "--format-only"])
                .status()?;
            ensure!(done.success(), "Kafka's storage cannot be formatted");
        }
        Ok(())
    }

    /// Starts it and returns at once, with the moment before the process began.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(kind: Kind, programs: &Programs, data: &Path) -> anyhow::Result<(Self, Instant)> {
        Self::start_with(kind, programs, data, &[])
    }

    /// The same with some settings that are not the defaults, under Kafka's names.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        kind: Kind,
        programs: &Programs,
        data: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<(Self, Instant)> {
        let (port, second_port) = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let mut command = match kind {
            Kind::Stratalog => {
                let mut command = Command::new(&programs.stratalog);
                command.arg("serve").arg("--data-dir").arg(data);
                command.args(["--kafka-listen", &address, "--http-listen", "127.0.0.1:0"]);
                for (name, value) in settings {
                    command.arg(format!("--{}", name.replace('.', "-"))).arg(value);
                }
                command
            }
            Kind::Kafka => {
                let mut command = Command::new(programs.peers.join("kafka/serve.sh"));
                command
                    .arg(data)
                    .args([port.to_string(), second_port.to_string()]);
                let lines = settings.iter().map(|(name, value)| format!("{name}={value}\n"));
                command.env("MORE_PROPERTIES", lines.collect::<String>());
                command
            }
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(data.with_extension("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let process = command
            .spawn()
            .with_context(|| format!("start {} ({command:?})", kind.name()))?;
        let broker = Self {
            kind,
            address,
            data: data.to_path_buf(),
            process,
        };
        Ok((broker, begun))
    }

    /// Starts it on an empty directory, and returns when it listens.
    ///
    /// # Errors
    /// When it cannot be started, or nobody listens after a minute.
    pub async fn start_fresh(
        kind: Kind,
        programs: &Programs,
        data: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        fs::remove_dir_all(data).ok();
        Self::prepare(kind, programs, data)?;
        let (mut broker, _) = Self::start_with(kind, programs, data, settings)?;
        broker.wait_until_it_listens().await?;
        Ok(broker)
    }

    /// Returns when somebody listens.
    ///
    /// # Errors
    /// When it has ended, or nobody listens after a minute.
    pub async fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + START_MAX;
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            self.check_alive()?;
            ensure!(Instant::now() < until, "nobody listens on {}", self.address);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// With the place of its log.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        let ended = self.process.try_wait()?;
        let log = self.data.with_extension("log");
        ensure!(
            ended.is_none(),
            "{} has ended ({ended:?}): see {}",
            self.kind.name(),
            log.display()
        );
        Ok(())
    }

    /// The CPU time it has spent so far, in seconds.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let (user, system) = (14, 15);
        cpu_fields(&format!("/proc/{}/stat", self.process.id()), &[user, system])
    }

    /// What it holds now.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let mebibytes = |name: &str| -> anyhow::Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|rest| rest.split_whitespace().next());
            let kibibytes: f64 = kibibytes.with_context(|| format!("{name} in status"))?.parse()?;
            Ok(kibibytes / 1024.0)
        };
        Ok(Memory {
            anonymous: mebibytes("RssAnon:")?,
            total: mebibytes("VmRSS:")?,
        })
    }

    /// Ends it in order and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.process.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process has a number")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("{} does not end", self.kind.name())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            writeln!(std::io::stderr(), "{error}; killing it").ok();
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

/// The CPU time of children that this process has waited for, in seconds: the client programs'.
///
/// # Errors
/// When `/proc` is not there.
pub fn children_cpu_seconds() -> anyhow::Result<f64> {
    let (user, system) = (16, 17);
    cpu_fields("/proc/self/stat", &[user, system])
}

/// The CPU time of this process, in seconds.
///
/// # Errors
/// When `/proc` is not there.
pub fn own_cpu_seconds() -> anyhow::Result<f64> {
    let (user, system) = (14, 15);
    cpu_fields("/proc/self/stat", &[user, system])
}

/// The CPU time that the whole machine has spent on anything, in seconds.
///
/// # Errors
/// When `/proc` is not there.
pub fn machine_cpu_seconds() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let mut ticks = 0.0;
    for (place, field) in fields.enumerate() {
        let (idle, io_wait, guest) = (3, 4, 8);
        if place != idle && place != io_wait && place < guest {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// The sum of some fields of a `stat` file, numbered from 1 as in its manual page.
fn cpu_fields(path: &str, fields: &[usize]) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path)?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, rest) = text.rsplit_once(')').context("a name in brackets")?;
    let values: Vec<&str> = rest.split_whitespace().collect();
    let mut ticks = 0.0;
    for field in fields {
        let value = values.get(field - 3).context("a field of that number")?;
        ticks += value.parse::<f64>()?;
    }
    Ok(ticks / TICKS_PER_SECOND)
}
