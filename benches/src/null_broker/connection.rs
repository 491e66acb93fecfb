//! One connection: whole frames are handled where they were received, their answers leave in one write.
//!
//! As in a real broker the answers keep the requests' order. Where batches are synced, all that came with one read share
//! a sync, and nothing is read meanwhile.

use std::io;
use std::sync::Arc;

use log_core::protocol::ApiKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Settings;
use super::control::{Control, is_served};
use super::fetch::Wanted;
use super::produce::Producing;
use super::topics::Topics;

/// Room for a few frames of usual size; a connection that sends less touches less of it.
const BUFFER_BYTES: usize = 2 << 20;
const FRAME_BYTES_MAX: usize = 100 << 20;
const PREFIX_BYTES: usize = 4;

/// Serves until `stop` is ready, and removes all files then.
///
/// # Errors
/// When the directory or the listener fails.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let topics = Arc::new(Topics::new(settings)?);
    let control = Arc::new(Control::new(listener.local_addr()?));
    tokio::pin!(stop);
    let outcome = loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break Ok(()),
        };
        let Ok((stream, _)) = accepted else {
            continue;
        };
        let (topics, control) = (Arc::clone(&topics), Arc::clone(&control));
        tokio::spawn(async move {
            // A client that goes away in the middle of something is nothing to tell.
            Connection::new(stream, topics, control).run().await.ok();
        });
    };
    topics.remove();
    outcome
}

/// What was received, as far as it is not handled.
#[derive(Debug)]
struct Input {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    /// The next whole frame, without its length.
    fn frame(&mut self) -> io::Result<Option<&mut [u8]>> {
        let received = self.buffer.get(self.begin..self.end).unwrap_or_default();
        let Some(prefix) = received.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if FRAME_BYTES_MAX < length {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let whole = PREFIX_BYTES + length;
        if received.len() < whole {
            self.make_room(whole);
            return Ok(None);
        }
        let frame = self.buffer.get_mut(self.begin + PREFIX_BYTES..self.begin + whole);
        self.begin += whole;
        Ok(frame)
    }

    /// Sees to it that a frame of that size fits behind what was handled.
    fn make_room(&mut self, whole: usize) {
        if self.buffer.len() < self.begin + whole {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            if self.buffer.len() < whole {
                self.buffer.resize(whole, 0);
            }
        }
    }

    async fn receive(&mut self, stream: &mut TcpStream) -> io::Result<usize> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        self.make_room(PREFIX_BYTES);
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let received = stream.read(free).await?;
        self.end += received;
        Ok(received)
    }
}

struct Connection {
    stream: TcpStream,
    topics: Arc<Topics>,
    control: Arc<Control>,
    producing: Producing,
    out: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, topics: Arc<Topics>, control: Arc<Control>) -> Self {
        Self {
            stream,
            topics,
            control,
            producing: Producing::default(),
            out: Vec::new(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let mut input = Input {
            buffer: vec![0; BUFFER_BYTES],
            begin: 0,
            end: 0,
        };
        while input.receive(&mut self.stream).await? != 0 {
            while let Some(frame) = input.frame()? {
                self.handle(frame).await?;
            }
            self.flush().await?;
        }
        Ok(())
    }

    async fn handle(&mut self, frame: &mut [u8]) -> io::Result<()> {
        let (key, rest) = frame.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let version = rest.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let (key, version) = (i16::from_be_bytes(*key), i16::from_be_bytes(*version));
        if key == ApiKey::Produce as i16 && is_served(key, version) {
            self.producing.answer(&self.topics, frame, &mut self.out)
        } else if key == ApiKey::Fetch as i16 && is_served(key, version) {
            self.flush().await?;
            let wanted = Wanted::read(&self.topics, frame)?;
            wanted.answer(&self.topics, &mut self.stream, &mut self.out).await
        } else {
            self.control.answer(&self.topics, frame, &mut self.out)
        }
    }

    /// Sends all answers that wait, when what they acknowledge is durable.
    async fn flush(&mut self) -> io::Result<()> {
        for (partition, end_offset) in self.producing.waits_for.drain(..) {
            partition.durable(end_offset).await?;
        }
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}
