//! Starts the built `stratalog` as a process of its own, as tests from outside want it.
//!
//! Each server listens on ports that the system chose and says them in its ready file. What it logs goes to a file
//! whose end is shown when it does not start.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take before it counts as failed; recovery after a crash included.
const START_MAX: Duration = Duration::from_mins(1);

/// How often the ready file is looked for: nothing tells a process that another one has written a file.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Where a server lives and what it is told, so that it can be started again.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    data_dirs: Vec<PathBuf>,
    ready_file: PathBuf,
    log_file: PathBuf,
    kafka_listen: String,
    variables: Vec<(String, OsString)>,
}

impl Place {
    /// A place below `directory`: its data, its log file and its ready file.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            data_dirs: vec![directory.join("data")],
            ready_file: directory.join("ready"),
            log_file: directory.join("server.log"),
            kafka_listen: "127.0.0.1:0".to_owned(),
            variables: Vec::new(),
        }
    }

    /// With the data somewhere else.
    pub(crate) fn with_data_dir(self, data_dir: &Path) -> Self {
        self.with_data_dirs(&[data_dir.to_owned()])
    }

    /// With the data in several places.
    pub(crate) fn with_data_dirs(self, data_dirs: &[PathBuf]) -> Self {
        Self {
            data_dirs: data_dirs.to_vec(),
            ..self
        }
    }

    /// Where a server of this place listened before, so that its clients find the next one.
    pub(crate) fn listening_on(mut self, address: &str) -> Self {
        address.clone_into(&mut self.kafka_listen);
        self
    }

    /// With one of the broker's settings, under Kafka's name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let variable = format!("STRATALOG_{}", name.replace(['.', '-'], "_").to_uppercase());
        self.variables.push((variable, value.into()));
        self
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(&self) -> Child {
        std::fs::remove_file(&self.ready_file).ok();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log_file)
            .unwrap();
        // Another build, or another broker in a wrapper that understands these arguments.
        let binary =
            std::env::var_os("STRATALOG_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_stratalog").into());
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STRATALOG_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .args(
                self.data_dirs
                    .iter()
                    .flat_map(|path| [OsStr::new("--data-dir"), path.as_os_str()]),
            )
            .args(["--kafka-listen", &self.kafka_listen])
            .args(["--http-listen", "127.0.0.1:0", "--ready-file"])
            .arg(&self.ready_file)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn start(&self) -> Server {
        let mut child = self.spawn();
        let began = Instant::now();
        loop {
            let ready = std::fs::read_to_string(&self.ready_file).unwrap_or_default();
            if ready.ends_with('\n') {
                return Server {
                    child,
                    kafka: field(&ready, "kafka"),
                    http: field(&ready, "http"),
                };
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log_tail());
            }
            if START_MAX < began.elapsed() {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "the server was not ready within {START_MAX:?}:\n{}",
                    self.log_tail()
                );
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The last lines that the servers of this place logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log_file).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A text field of the one line of JSON in the ready file.
fn field(ready: &str, name: &str) -> String {
    let ready: serde_json::Value = serde_json::from_str(ready).unwrap();
    ready
        .get(name)
        .and_then(serde_json::Value::as_str)
        .unwrap()
        .to_owned()
}

/// A server that serves. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    kafka: String,
    http: String,
}

impl Server {
    /// Where Kafka clients connect.
    pub(crate) fn kafka(&self) -> &str {
        &self.kafka
    }

    /// Where HTTP clients connect.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// `kill -9`: the process runs no further instruction.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop in order, and waits for that.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let id = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended where `kill` or `stop` was called.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
