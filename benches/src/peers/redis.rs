//! Redis streams: XADD to append, XRANGE to read old entries, XREAD to follow.
//!
//! Only what these three need of Redis's protocol is here. A stream stands for a partition.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, bail, ensure};

use super::protocol::{Input, Protocol, Reading};

/// An answer longer than this is none of ours.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Entries of one answer.
const READ_COUNT: usize = 1000;

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Redis;

fn stream_name(partition: usize) -> String {
    format!("load{partition}")
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

impl Protocol for Redis {
    fn product(&self) -> &'static str {
        "Redis"
    }

    fn connect(&self, address: &str) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn make_streams(&self, address: &str, _partitions: usize) -> anyhow::Result<String> {
        // Streams come with their first entry.
        let mut input = Input::new(self.connect(address)?);
        input.stream().write_all(&request(&["INFO", "server"]))?;
        let mut version = String::new();
        answer(&mut input, &mut |text| {
            let text = String::from_utf8_lossy(text);
            let line = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
            line.unwrap_or_default().clone_into(&mut version);
        })?;
        Ok(version)
    }

    fn remove_streams(&self, address: &str, partitions: usize) -> anyhow::Result<()> {
        let mut input = Input::new(self.connect(address)?);
        for partition in 0..partitions {
            input
                .stream()
                .write_all(&request(&["DEL", &stream_name(partition)]))?;
            answer(&mut input, &mut |_| ())?;
        }
        Ok(())
    }

    fn record(&self, partition: usize, value: &[u8]) -> (Vec<u8>, usize) {
        let name = stream_name(partition);
        let mut bytes = format!(
            "*5\r\n$4\r\nXADD\r\n${}\r\n{name}\r\n$1\r\n*\r\n$1\r\nv\r\n${}\r\n",
            name.len(),
            value.len()
        )
        .into_bytes();
        let value_at = bytes.len();
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
        (bytes, value_at)
    }

    fn read_acknowledgement(&self, input: &mut Input) -> anyhow::Result<()> {
        answer(input, &mut |_| ())
    }

    fn read(&self, address: &str, partition: usize, reading: Reading) -> anyhow::Result<Follower> {
        Ok(Box::new(Entries {
            input: Input::new(self.connect(address)?),
            name: stream_name(partition),
            // Streams are new with each run: whoever reads before the first entry reads them all.
            last: "0-0".to_owned(),
            waits: reading == Reading::New,
        }))
    }
}

type Follower = Box<dyn super::protocol::Follow>;

/// Entries of one stream, in their order.
#[derive(Debug)]
struct Entries {
    input: Input,
    name: String,
    last: String,
    waits: bool,
}

impl super::protocol::Follow for Entries {
    fn next(&mut self, value_bytes: usize, found: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
        let count = READ_COUNT.to_string();
        let asked = if self.waits {
            request(&[
                "XREAD", "COUNT", &count, "BLOCK", "500", "STREAMS", &self.name, &self.last,
            ])
        } else {
            let after = format!("({}", self.last);
            request(&["XRANGE", &self.name, &after, "+", "COUNT", &count])
        };
        self.input.stream().write_all(&asked)?;
        let last = &mut self.last;
        answer(&mut self.input, &mut |text| {
            if text.len() == value_bytes {
                found(text);
            } else if text.contains(&b'-') {
                *last = String::from_utf8_lossy(text).into_owned();
            }
        })
    }

    fn stream(&self) -> &TcpStream {
        self.input.stream()
    }
}

/// Reads one answer, however nested, and shows each string in it.
fn answer(input: &mut Input, shown: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
    let mut left: usize = 1;
    let mut bytes = Vec::new();
    while 0 < left {
        left -= 1;
        bytes.clear();
        input.buffered().read_until(b'\n', &mut bytes)?;
        let line = bytes.strip_suffix(b"\r\n").context("the connection was closed")?;
        let (kind, rest) = line.split_first().context("an answer without a kind")?;
        let length = std::str::from_utf8(rest)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        match (kind, length) {
            (b'-', _) => bail!("Redis says {}", String::from_utf8_lossy(rest)),
            (b'*', Some(length)) => left += usize::try_from(length).unwrap_or(0),
            (b'$', Some(length)) => {
                // A length of -1 is nothing at all.
                if let Ok(length) = usize::try_from(length) {
                    ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
                    bytes.resize(length + 2, 0);
                    input.buffered().read_exact(&mut bytes)?;
                    shown(bytes.get(..length).unwrap_or_default());
                }
            }
            (b'+' | b':', _) => {}
            _ => bail!("an answer that is not Redis's: {}", String::from_utf8_lossy(line)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::protocol::received;
    use super::*;

    fn strings(bytes: &str) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        answer(&mut received(bytes.as_bytes()), &mut |text| {
            found.push(String::from_utf8_lossy(text).into_owned());
        })?;
        Ok(found)
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        let entries =
            "*1\r\n*2\r\n$5\r\nload0\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nv\r\n$4\r\na\r\nb\r\n+OK\r\n";
        assert_eq!(strings(entries).unwrap(), ["load0", "1-0", "v", "a\r\nb"]);
        for (bytes, expected) in [
            ("*-1\r\n", 0),
            ("$-1\r\n", 0),
            (":1\r\n", 0),
            ("$3\r\n1-0\r\n", 1),
        ] {
            assert_eq!(strings(bytes).unwrap().len(), expected, "{bytes:?}");
        }
        for (bytes, reason) in [
            ("-ERR no such thing\r\n", "Redis says ERR no such thing"),
            ("*2\r\n+OK\r\n", "closed"),
            ("?\r\n", "not Redis's"),
        ] {
            let error = strings(bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn a_record_is_one_command() {
        let (bytes, at) = Redis.record(3, b"abc");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "*5\r\n$4\r\nXADD\r\n$5\r\nload3\r\n$1\r\n*\r\n$1\r\nv\r\n$3\r\nabc\r\n"
        );
        assert_eq!(&bytes[at..at + 3], b"abc");
    }
}
