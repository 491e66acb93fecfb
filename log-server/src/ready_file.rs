//! The file that says "clients are served": for scripts that start a broker and wait for it.
//! It appears whole, when both ports are open, and goes when the broker stops.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process;

use serde_json::json;

/// Puts one line of JSON at `path`, whole or not at all.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, kafka: SocketAddr, http: SocketAddr) -> io::Result<()> {
    let line = json!({
        "kafka": kafka.to_string(),
        "http": http.to_string(),
        "pid": process::id(),
    });
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    fs::write(&aside, format!("{line}\n"))?;
    fs::rename(&aside, path)
}

/// Removes it: nobody is served any more. That it is gone already is fine.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "the ready file stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_addresses_and_process_and_goes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready");
        write(&path, "127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            (&line["kafka"], &line["http"]),
            (&json!("127.0.0.1:1"), &json!("[::1]:2"))
        );
        assert_eq!(line["pid"], process::id());
        remove(&path);
        remove(&path);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
