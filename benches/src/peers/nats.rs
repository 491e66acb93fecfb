//! NATS with `JetStream`: publishing with acknowledgements, and pulling in lots without them to read.
//!
//! Only what these need of NATS's protocol is here. A stream of one subject stands for a partition.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::protocol::{Follow, Input, Protocol, Reading};

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub struct Nats;

impl Protocol for Nats {
    fn product(&self) -> &'static str {
        "NATS"
    }

    fn connect(&self, address: &str) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut input = Input::new(stream.try_clone()?);
        let greeting = input.line()?;
        ensure!(greeting.starts_with("INFO "), "not a NATS server: {greeting:?}");
        let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n\
                     SUB acks.* 1\r\nPING\r\n";
        // Answers to what this connection publishes come to a subject of its own.
        let hello = hello.replace("acks.*", &inbox(&stream)?);
        input.stream().write_all(hello.as_bytes())?;
        loop {
            match input.line()?.as_str() {
                "PONG" => return Ok(stream),
                line if line.starts_with("-ERR") => bail!("NATS says {line}"),
                _ => {}
            }
        }
    }

    fn make_streams(&self, address: &str, partitions: usize) -> anyhow::Result<String> {
        let stream = self.connect(address)?;
        for partition in 0..partitions {
            let settings = serde_json::json!({
                "name": format!("load{partition}"),
                "subjects": [format!("load.{partition}")],
                "retention": "limits",
                "storage": "file",
                "num_replicas": 1,
            });
            let subject = format!("$JS.API.STREAM.CREATE.load{partition}");
            call(&stream, &subject, &settings.to_string())?;
        }
        let mut input = Input::new(TcpStream::connect(address)?);
        let greeting = input.line()?;
        let said: serde_json::Value = serde_json::from_str(greeting.trim_start_matches("INFO "))?;
        let version = said.get("version").and_then(|version| version.as_str());
        Ok(version.unwrap_or_default().to_owned())
    }

    fn remove_streams(&self, address: &str, partitions: usize) -> anyhow::Result<()> {
        let stream = self.connect(address)?;
        for partition in 0..partitions {
            call(&stream, &format!("$JS.API.STREAM.DELETE.load{partition}"), "")?;
        }
        Ok(())
    }

    fn record(&self, partition: usize, value: &[u8]) -> (Vec<u8>, usize) {
        let mut bytes = format!("PUB load.{partition} {INBOX} {}\r\n", value.len()).into_bytes();
        let value_at = bytes.len();
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
        (bytes, value_at)
    }

    fn address_to(&self, stream: &TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
        // Both names are of one length, so that values stay where they are.
        let own = inbox(stream)?;
        let from = INBOX.as_bytes();
        let mut at = 0;
        while let Some(found) = bytes
            .get(at..)
            .and_then(|rest| rest.windows(from.len()).position(|window| window == from))
        {
            let place = bytes.get_mut(at + found..at + found + from.len());
            place
                .context("a place that was found")?
                .copy_from_slice(own.as_bytes());
            at += found + from.len();
        }
        Ok(())
    }

    fn read_acknowledgement(&self, input: &mut Input) -> anyhow::Result<()> {
        let mut wrong = None;
        message(input, &mut |text| {
            if text.windows(7).any(|window| window == b"\"error\"") {
                wrong = Some(String::from_utf8_lossy(text).into_owned());
            }
        })?;
        match wrong {
            Some(text) => bail!("NATS says {text}"),
            None => Ok(()),
        }
    }

    fn read(&self, address: &str, partition: usize, reading: Reading) -> anyhow::Result<Box<dyn Follow>> {
        let stream = self.connect(address)?;
        let policy = match reading {
            Reading::FromStart => "all",
            Reading::New => "new",
        };
        let settings = serde_json::json!({
            "stream_name": format!("load{partition}"),
            "config": { "deliver_policy": policy, "ack_policy": "none", "replay_policy": "instant" },
        });
        let said = call(
            &stream,
            &format!("$JS.API.CONSUMER.CREATE.load{partition}"),
            &settings.to_string(),
        )?;
        let name = said.get("name").and_then(serde_json::Value::as_str);
        let name = name.context("a consumer has a name")?;
        Ok(Box::new(Pulled {
            next: format!("$JS.API.CONSUMER.MSG.NEXT.load{partition}.{name}"),
            input: Input::new(stream),
            asked_for: 0,
        }))
    }
}

/// Stands in records for the subject that each connection gets its acknowledgements at; a port has five digits at most.
const INBOX: &str = "acks.00000";

/// The subject of a connection's own answers.
fn inbox(stream: &TcpStream) -> anyhow::Result<String> {
    Ok(format!("acks.{:05}", stream.local_addr()?.port()))
}

fn ask(stream: &TcpStream, subject: &str, body: &str) -> anyhow::Result<()> {
    let mut writer = stream;
    let request = format!("PUB {subject} {} {}\r\n{body}\r\n", inbox(stream)?, body.len());
    Ok(writer.write_all(request.as_bytes())?)
}

/// Asks the server for something and waits for its word.
fn call(stream: &TcpStream, subject: &str, body: &str) -> anyhow::Result<serde_json::Value> {
    ask(stream, subject, body)?;
    let mut input = Input::new(stream.try_clone()?);
    let mut said = Vec::new();
    message(&mut input, &mut |text| said = text.to_vec())?;
    ensure!(!said.is_empty(), "nobody answers {subject}: is JetStream on?");
    let said: serde_json::Value = serde_json::from_slice(&said)?;
    match said.get("error") {
        Some(error) => bail!("NATS says {error}"),
        None => Ok(said),
    }
}

/// Reads until a message has come, and shows its body; that of a mere status is empty.
fn message(input: &mut Input, shown: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
    loop {
        let mut line = Vec::new();
        input.buffered().read_until(b'\n', &mut line)?;
        ensure!(line.ends_with(b"\r\n"), "the connection was closed");
        let line = String::from_utf8_lossy(&line);
        if line.starts_with("-ERR") {
            bail!("NATS says {line}");
        }
        let with_head = line.starts_with("HMSG ");
        if !with_head && !line.starts_with("MSG ") {
            continue;
        }
        let mut words = line.split_whitespace().rev();
        let length: usize = words.next().context("a length")?.parse()?;
        let head: usize = if with_head {
            words.next().context("a length")?.parse()?
        } else {
            0
        };
        ensure!(
            length <= ANSWER_BYTES_MAX && head <= length,
            "a message of {length} bytes"
        );
        let mut body = vec![0; length + 2];
        input.buffered().read_exact(&mut body)?;
        let body = body.get(head..length).unwrap_or_default();
        shown(body);
        return Ok(());
    }
}

/// Messages that are asked for in lots, so that the server never has more under way than a reader can take.
#[derive(Debug)]
struct Pulled {
    input: Input,
    next: String,
    asked_for: usize,
}

/// A lot ends with so many messages. The next is asked for meanwhile. None has a time at which it expires: 2.9 does not always say
/// that one has, and a reader would wait for its messages for ever.
const LOT: usize = 500;
const LOT_REQUEST: &str = "{\"batch\":500}";
/// How long a reader waits before it looks whether it still should.
const PATIENCE: Duration = Duration::from_millis(100);

impl Follow for Pulled {
    fn next(&mut self, value_bytes: usize, found: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
        if self.asked_for <= LOT {
            ask(self.input.stream(), &self.next, LOT_REQUEST)?;
            self.asked_for += LOT;
        }
        if !self.input.is_ready(PATIENCE)? {
            return Ok(());
        }
        let mut has_come = false;
        message(&mut self.input, &mut |text| {
            if text.len() == value_bytes {
                has_come = true;
                found(text);
            }
        })?;
        ensure!(has_come, "NATS gives a lot up");
        self.asked_for -= 1;
        Ok(())
    }

    fn stream(&self) -> &TcpStream {
        self.input.stream()
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::received;
    use super::*;

    fn bodies(bytes: &str, count: usize) -> anyhow::Result<Vec<String>> {
        let mut input = received(bytes.as_bytes());
        let mut found = Vec::new();
        for _ in 0..count {
            message(&mut input, &mut |text| {
                found.push(String::from_utf8_lossy(text).into_owned());
            })?;
        }
        Ok(found)
    }

    #[test]
    fn messages_are_found_among_the_rest() {
        let bytes = "PING\r\nMSG load.0 1 4\r\na\r\nb\r\n+OK\r\nMSG load.0 1 $JS.ACK.x 2\r\nhi\r\n\
                     HMSG acks.1 1 18 18\r\nNATS/1.0 408 X\r\n\r\n\r\n";
        assert_eq!(bodies(bytes, 3).unwrap(), ["a\r\nb", "hi", ""]);
        for (bytes, reason) in [
            ("-ERR 'Unknown'\r\n", "NATS says -ERR"),
            ("PONG\r\n", "closed"),
            ("MSG a 1 99999999999\r\n", "bytes"),
        ] {
            let error = bodies(bytes, 1).unwrap_err().to_string();
            assert!(error.contains(reason), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn an_acknowledgement_that_is_none_is_told() {
        let read = |bytes: &str| Nats.read_acknowledgement(&mut received(bytes.as_bytes()));
        read("MSG acks.00001 1 9\r\n{\"seq\":1}\r\n").unwrap();
        let error = read("MSG acks.00001 1 12\r\n{\"error\":{}}\r\n").unwrap_err();
        assert!(error.to_string().contains("error"), "{error}");
    }

    #[test]
    fn records_are_addressed_to_their_connection() {
        let input = received(b"");
        let (mut bytes, at) = Nats.record(3, b"abc");
        Nats.address_to(input.stream(), &mut bytes).unwrap();
        let own = inbox(input.stream()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            format!("PUB load.3 {own} 3\r\nabc\r\n")
        );
        assert_eq!(&bytes[at..at + 3], b"abc");
    }
}
