//! A peer's process: started by its script, awaited at its port, ended in order; its data go away with it.
//! All peers run side by side, so that each is warm when its turn comes; who has no turn is idle.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::peer::Program;

const START_MAX: Duration = Duration::from_mins(2);
const STOP_MAX: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// Our server.
    pub stratalog: PathBuf,
    /// The null broker.
    pub null_broker: PathBuf,
    /// `benches/peers`.
    pub scripts: PathBuf,
    /// Where programs that are fetched are kept.
    pub cache: PathBuf,
    /// Where data are kept while peers run.
    pub data: PathBuf,
    /// What the null broker prepares for each partition.
    pub null_segment_bytes: u64,
}

/// A running peer.
#[derive(Debug)]
pub struct Server {
    /// Who it is.
    pub program: Program,
    /// Where clients reach it.
    pub address: String,
    data: PathBuf,
    process: Child,
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, or ends.
    pub fn start(program: Program, places: &Places) -> anyhow::Result<Self> {
        let port = free_port()?;
        let data = places.data.join(program.name());
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        std::fs::create_dir_all(&data)?;
        let mut command = command(program, places, &data, port)?;
        let log = File::create(data.with_extension("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command
            .spawn()
            .with_context(|| format!("start {} ({command:?})", program.name()))?;
        let mut server = Self {
            program,
            address: format!("127.0.0.1:{port}"),
            data,
            process,
        };
        let until = Instant::now() + START_MAX;
        while TcpStream::connect(&server.address).is_err() {
            let ended = server.process.try_wait()?;
            let log = server.data.with_extension("log");
            ensure!(
                ended.is_none() && Instant::now() < until,
                "{} does not start: see {}",
                program.name(),
                log.display()
            );
            std::thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.process.id())?);
        let pid = pid.context("a process has a number")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        anyhow::bail!("{} does not end", self.program.name())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stop().is_err() {
            self.process.kill().ok();
            self.process.wait().ok();
        }
        std::fs::remove_dir_all(&self.data).ok();
    }
}

fn command(program: Program, places: &Places, data: &Path, port: u16) -> anyhow::Result<Command> {
    let address = format!("127.0.0.1:{port}");
    let port = port.to_string();
    let script = |path: &str| Command::new(places.scripts.join(path));
    let mut command = match program {
        Program::Stratalog => {
            let mut command = Command::new(&places.stratalog);
            command.arg("serve").arg("--data-dir").arg(data);
            command.args(["--kafka-listen", &address, "--http-listen", "127.0.0.1:0"]);
            command
        }
        Program::Kafka => {
            let mut command = script("kafka/serve.sh");
            command.arg(data).arg(port).arg(free_port()?.to_string());
            command
        }
        Program::Null | Program::NullMap | Program::NullSynced => {
            let mut command = Command::new(&places.null_broker);
            command.args(["--listen", &address]).arg("--directory").arg(data);
            command.args(["--segment-bytes", &places.null_segment_bytes.to_string()]);
            match program {
                Program::NullSynced => command.args(["--sync", "fdatasync", "--space", "zero-filled"]),
                Program::NullMap => command.args(["--send", "map"]),
                _ => &mut command,
            };
            command
        }
        Program::Redis | Program::RedisSynced => {
            let sync = if program == Program::Redis {
                "everysec"
            } else {
                "always"
            };
            let mut command = script("redis/serve.sh");
            command.arg(&places.cache).arg(data).args([&port, sync]);
            command
        }
        Program::Nats => {
            let mut command = script("nats/serve.sh");
            command.arg(&places.cache).arg(data).arg(port);
            command
        }
    };
    command.env_remove("STRATALOG_BOOTSTRAP");
    Ok(command)
}
