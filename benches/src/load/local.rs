//! What this machine knows of itself and of a broker that runs on it: processor time, memory, device, file system.
//!
//! All of it is read from `/proc` and `/sys`. What cannot be found is left out; a run does not fail for it.

use std::fs;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::result::{Machine, Process, Storage};

/// The kernel counts CPU time of processes in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;
/// A command line is told up to here.
const COMMAND_MAX: usize = 300;

/// This machine.
#[must_use]
pub fn machine() -> Machine {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
    };
    let kibibytes = field("/proc/meminfo", "MemTotal").and_then(|text| {
        let number = text.split_whitespace().next()?;
        number.parse::<u64>().ok()
    });
    let system = rustix::system::uname();
    Machine {
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        cpu_model: field("/proc/cpuinfo", "model name"),
        memory_bytes: kibibytes.map(|kibibytes| kibibytes * 1024),
        kernel: Some(format!(
            "{} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        )),
    }
}

/// The process of this machine that listens at `host:port`, if there is one and it may be seen.
#[must_use]
pub fn listener_at(address: &str) -> Option<Process> {
    let address = address.to_socket_addrs().ok()?.find(|found| is_local(*found))?;
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, address.port()))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pid = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| holds(*pid, &wanted))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Process {
        pid,
        name: name.trim().to_owned(),
        command: command_of(pid).chars().take(COMMAND_MAX).collect(),
    })
}

fn command_of(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    command.trim().to_owned()
}

/// The version of a broker's process, which no broker tells its clients: of this very program, and of Kafka by its jar.
#[must_use]
pub fn version_of(pid: u32) -> Option<String> {
    let program = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
    let is_this_one = program(&pid.to_string()).is_some_and(|path| Some(path) == program("self"));
    if is_this_one {
        return Some(env!("CARGO_PKG_VERSION").to_owned());
    }
    version_of_jar(&command_of(pid))
}

fn version_of_jar(command: &str) -> Option<String> {
    let (_, rest) = command.split_once("/kafka_2.13-")?;
    let (version, _) = rest.split_once(".jar")?;
    Some(version.to_owned())
}

/// Whether an address is one of this machine's: whoever can listen there is at home there.
fn is_local(address: SocketAddr) -> bool {
    address.ip().is_loopback() || TcpListener::bind((address.ip(), 0)).is_ok()
}

/// The inode of the socket that listens at a port, from a table of the kernel.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    const LISTENING: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let (_, found) = local.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let is_it = u16::from_str_radix(found, 16).ok()? == port && state == LISTENING;
        // Behind the state: queues, timer, retransmissions, owner, time limit, inode.
        let inode = fields.nth(5)?.parse().ok()?;
        is_it.then_some(inode)
    })
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(socket)))
}

/// What a process has cost so far and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// What of it is the process's own.
    pub anonymous_bytes: u64,
}

/// The usage of a process.
#[must_use]
pub fn usage_of(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Usage {
        cpu_s: cpu_of(pid)?,
        rss_bytes: bytes("VmRSS:")?,
        anonymous_bytes: bytes("RssAnon:")?,
    })
}

fn cpu_of(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets; behind its last bracket the fields are regular.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// The processor time of this process, in seconds.
#[must_use]
pub fn own_cpu_s() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default().as_secs_f64()
}

/// The processor time that the machine has spent on anything, in seconds.
#[must_use]
pub fn machine_cpu_s() -> Option<f64> {
    const IDLE: usize = 3;
    const IO_WAIT: usize = 4;
    const GUEST: usize = 8;
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.split_whitespace().skip(1);
    let ticks: f64 = fields
        .enumerate()
        .filter(|(place, _)| ![IDLE, IO_WAIT].contains(place) && *place < GUEST)
        .filter_map(|(_, field)| field.parse::<f64>().ok())
        .sum();
    Some(ticks / TICKS_PER_SECOND)
}

/// Where a directory of this machine lies.
#[must_use]
pub fn storage_at(path: &str) -> Option<Storage> {
    let metadata = fs::metadata(path).ok()?;
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let number = format!("{major}:{minor}");
    let mount = mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        (front.split_whitespace().nth(2)? == number).then(|| {
            let mut fields = back.split_whitespace().map(str::to_owned);
            (fields.next(), fields.next())
        })
    });
    let (filesystem, source) = mount.unwrap_or_default();
    let block = PathBuf::from(format!("/sys/dev/block/{number}"));
    let model = ["device/model", "../device/model"]
        .iter()
        .find_map(|file| fs::read_to_string(block.join(file)).ok())
        .map(|model| model.trim().to_owned())
        .or_else(|| driver_of(&block));
    Some(Storage {
        path: path.to_owned(),
        filesystem,
        device: source,
        model,
    })
}

fn driver_of(block: &Path) -> Option<String> {
    let driver = fs::read_link(block.join("device/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// Drops the pages of all files in these directories from the page cache; returns how many files it could do so for.
/// Pages that are mapped or not written yet stay.
#[must_use]
pub fn evict(directories: &[PathBuf]) -> usize {
    let mut count = 0;
    for entry in directories
        .iter()
        .filter_map(|path| fs::read_dir(path).ok())
        .flatten()
        .flatten()
    {
        let Ok(file) = fs::File::open(entry.path()) else {
            continue;
        };
        // What is not on the disk yet cannot be dropped.
        let is_clean = file.sync_data().is_ok();
        let advice = rustix::fs::Advice::DontNeed;
        count += usize::from(is_clean && rustix::fs::fadvise(&file, 0, None, advice).is_ok());
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_behind_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let found = listener_at(&address).unwrap();
        assert_eq!(found.pid, std::process::id());
        drop(listener);
        assert_eq!(listener_at(&address), None);
        assert_eq!(listener_at("nobody.invalid:1"), None);
    }

    #[test]
    fn versions_are_those_of_this_program_and_of_kafkas_jar() {
        let own = version_of(std::process::id());
        assert_eq!(own.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        let command = "java -Xmx1G -cp /jars/a.jar:/jars/kafka_2.13-4.3.0.jar:/jars/z.jar kafka.Kafka";
        assert_eq!(version_of_jar(command).as_deref(), Some("4.3.0"));
        assert_eq!(version_of_jar("java -cp /jars/kafka-clients-4.3.0.jar"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage_of(std::process::id()).unwrap();
        assert!(0 < usage.anonymous_bytes && usage.anonymous_bytes < usage.rss_bytes);
        assert!(0.0 < own_cpu_s() && Some(0.0) < machine_cpu_s());
        assert!(machine().memory_bytes.is_some() && 0 < machine().cpus);
        assert_eq!(usage_of(u32::MAX), None);
    }

    #[test]
    fn a_directory_lies_on_something() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        assert!(storage_at(path).unwrap().filesystem.is_some());
        fs::write(directory.path().join("a"), b"x").unwrap();
        assert_eq!(evict(&[directory.path().to_path_buf()]), 1);
        assert_eq!(storage_at("/nowhere/at/all"), None);
    }
}
