//! NATS with `JetStream`: publishing with acknowledgements, and pulling in lots without them to read.
//!
//! Only what these need of NATS's protocol is here. A stream of one subject stands for a partition.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;

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

/// A lot ends with so many messages, or half a second after it was asked for.
const LOT: usize = 1000;
const LOT_REQUEST: &str = "{\"batch\":1000,\"expires\":500000000}";

impl Follow for Pulled {
    fn next(&mut self, value_bytes: usize, found: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
        if self.asked_for == 0 {
            ask(self.input.stream(), &self.next, LOT_REQUEST)?;
            self.asked_for = LOT;
        }
        let asked_for = &mut self.asked_for;
        message(&mut self.input, &mut |text| {
            if text.len() == value_bytes {
                *asked_for -= 1;
                found(text);
            } else {
                // The lot has ended early.
                *asked_for = 0;
            }
        })
    }

    fn stream(&self) -> &TcpStream {
        self.input.stream()
    }
}
