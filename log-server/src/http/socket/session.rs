//! The conversation over one socket: records go out as a follower gets them, messages with records come in, and each is answered.
//!
//! One task does all of it. Nothing that is to be sent keeps it from reading, up to the messages that may wait for an answer; so
//! pings and pongs pass while a client is slow to take what it is sent.
//!
//! | the end | code |
//! |---|---|
//! | the client's own close | its code |
//! | the broker stops | 1001, when what came before has its answers |
//! | frames that break the protocol | 1002 |
//! | a binary message | 1003 |
//! | text that is not UTF-8 | 1007 |
//! | a client that does not keep up, or is gone | 1008 |
//! | a message that is too large | 1009 |
//! | no memory for a message | 1013 |
//! | a client that takes nothing at all | none: it would not take it either |

use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::outbox::{FRAME_BYTES, Outbox};
use super::paid_stream::PaidStream;
use super::pulse::Pulse;
use crate::http::memory::BodyMemory;
use crate::http::services::Services;
use crate::http::slow_client::PatientStream;
use crate::http::{follow, produce};
use crate::metrics::counter::Held;
use crate::shutdown::ShutdownSignal;

/// The largest message, unless `http-request-max-bytes` is less: a record of Kafka's usual size in base64, and some. A client keeps what its
/// largest message took.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// What is read at once, and what each socket has for it.
const READ_BYTES: usize = 8 << 10;
/// What waits to be written: a frame of ours and one that joins it, and pongs for a client that asks for them and does not take them.
const WRITE_BYTES_MAX: usize = 4 * FRAME_BYTES;
/// How long a client may take for the word that ends it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<PaidStream>;

/// A socket's two directions, before and while the socket is there.
pub(in crate::http) struct Session {
    /// Records of the topic; nothing when they have come to their end, or none are wanted.
    following: Option<follow::Messages>,
    /// Records of the client.
    written: produce::Messages,
    heartbeat: Duration,
    patience: Duration,
    message_bytes_max: usize,
    memory: BodyMemory,
    shutdown: ShutdownSignal,
    _open: Held,
}

/// What the socket is ready for.
enum Event {
    /// To be given a frame.
    Writable,
    /// Nothing waits to be written.
    Flushed,
    /// A message came, or the end.
    Came(Option<Result<Message, Error>>),
}

/// What is wanted of the socket.
#[derive(Clone, Copy)]
struct Wanted {
    write: bool,
    flush: bool,
    read: bool,
}

impl Session {
    pub(super) fn new(
        services: &Arc<Services>,
        heartbeat: Duration,
        following: Option<follow::Messages>,
        written: produce::Messages,
    ) -> Self {
        Self {
            following,
            written,
            heartbeat,
            patience: services.config.http_write_timeout,
            message_bytes_max: MESSAGE_BYTES_MAX.min(services.config.http_request_max_bytes),
            memory: services.memory.clone(),
            shutdown: services.shutdown.clone(),
            _open: services.sources.front.streams.hold(),
        }
    }

    /// Carries the conversation on to its end. Gives the stream back, on which nothing more is to be said.
    pub(in crate::http) async fn run(mut self, stream: PatientStream, came: Bytes) -> PatientStream {
        let stream = PaidStream::new(stream, self.memory.clone(), self.message_bytes_max);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(FRAME_BYTES)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_frame_size(Some(self.message_bytes_max))
            .max_message_size(Some(self.message_bytes_max));
        let mut socket =
            WebSocketStream::from_partially_read(stream, came.into(), Role::Server, Some(config)).await;
        let close = self.converse(&mut socket).await;
        drop(self);
        let last_word = async {
            match close {
                Some(frame) => socket.close(Some(frame)).await,
                // The answer to the client's own close.
                None => socket.flush().await,
            }
        };
        // Whoever does not take it sees the connection closed.
        drop(timeout(CLOSE_PATIENCE, last_word).await);
        socket.into_inner().into_inner()
    }

    /// Talks until there is nothing more to say. Gives what the client is to be told; nothing if it said so itself, or is gone.
    async fn converse(&mut self, socket: &mut Socket) -> Option<CloseFrame> {
        let mut pulse = Pulse::new(self.heartbeat, self.patience, Instant::now());
        let mut outbox = Outbox::default();
        let (mut is_flushed, mut ending) = (true, None::<CloseFrame>);
        loop {
            let is_over = self.following.is_none() && self.written.is_empty() && outbox.is_empty();
            if ending.is_some() && is_over {
                return ending;
            }
            let is_open = ending.is_none();
            // A follower ends by itself when the broker stops, and is not held up then.
            let with_records = pulse.is_open() || !is_open;
            let is_ping_due = is_open && pulse.is_due(Instant::now());
            let wanted = Wanted {
                write: is_ping_due || outbox.has_frame(with_records),
                flush: !is_flushed,
                read: is_open && !self.written.is_full(),
            };
            tokio::select! {
                biased;
                _ = self.shutdown.requested(), if is_open => {
                    ending = Some(close_frame(CloseCode::Away, "the broker is stopping"));
                }
                answer = self.written.answer(), if outbox.takes_answers() => outbox.put_answer(answer),
                piece = next_piece(&mut self.following), if with_records && outbox.takes_records() => match piece {
                    Some(piece) => outbox.put_records(piece),
                    None => self.following = None,
                },
                event = poll_fn(|context| poll_event(socket, wanted, context)) => match event {
                    Ok(Event::Writable) => {
                        is_flushed = false;
                        let message = if is_ping_due {
                            let payload = pulse.ping(Instant::now());
                            Message::Ping(Bytes::copy_from_slice(&payload))
                        } else if let Some(frame) = outbox.next_frame(with_records) {
                            pulse.sent(frame.len());
                            Message::Frame(frame)
                        } else {
                            continue;
                        };
                        socket.start_send_unpin(message).ok()?;
                    }
                    Ok(Event::Flushed) => is_flushed = true,
                    Ok(Event::Came(came)) => match self.hear(socket, &mut pulse, came?).await {
                        Heard::Taken => {}
                        Heard::Wrong(frame) => {
                            self.following = None;
                            ending = Some(frame);
                        }
                        Heard::End => return None,
                    },
                    Err(_) => return None,
                },
                // While nothing is read no pong can come, and none is missed.
                () = sleep_until(pulse.look_at()), if wanted.read && !is_ping_due => {
                    if pulse.is_overdue(Instant::now()) {
                        return Some(close_frame(CloseCode::Policy, "a ping was not answered in time"));
                    }
                }
            }
        }
    }

    /// Takes what came in.
    async fn hear(&mut self, socket: &mut Socket, pulse: &mut Pulse, came: Result<Message, Error>) -> Heard {
        match came {
            Ok(Message::Text(text)) => {
                socket.get_mut().message_came();
                self.written.take(&text).await;
                Heard::Taken
            }
            Ok(Message::Ping(payload)) => {
                socket.get_mut().control_came(payload.len());
                Heard::Taken
            }
            Ok(Message::Pong(payload)) => {
                socket.get_mut().control_came(payload.len());
                pulse.pong(&payload);
                Heard::Taken
            }
            Ok(Message::Binary(_)) => Heard::Wrong(close_frame(
                CloseCode::Unsupported,
                "messages are text: bytes of records come in base64",
            )),
            Ok(Message::Close(_) | Message::Frame(_)) => Heard::End,
            Err(error) => self.end_for(&error).map_or(Heard::End, Heard::Wrong),
        }
    }

    /// What a client is told whose frames cannot be read; nothing if it is gone.
    fn end_for(&self, error: &Error) -> Option<CloseFrame> {
        let limit = self.message_bytes_max;
        let too_large = || close_frame(CloseCode::Size, &format!("a message has at most {limit} bytes"));
        match error {
            Error::Capacity(_) => Some(too_large()),
            Error::Io(error) if error.kind() == ErrorKind::FileTooLarge => Some(too_large()),
            Error::Io(error) if error.kind() == ErrorKind::OutOfMemory => Some(close_frame(
                CloseCode::Again,
                "others fill the memory for messages; try again",
            )),
            Error::Utf8(_) => Some(close_frame(CloseCode::Invalid, "messages are UTF-8")),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(error) => Some(close_frame(CloseCode::Protocol, &error.to_string())),
            _ => None,
        }
    }
}

/// What became of something that came in.
enum Heard {
    /// It is taken care of.
    Taken,
    /// It ends the socket, as soon as what came before has its answers.
    Wrong(CloseFrame),
    /// The client has ended the socket, or is gone.
    End,
}

/// The next messages of the topic; never, if none are wanted any more. A call that is given up loses nothing.
async fn next_piece(following: &mut Option<follow::Messages>) -> Option<Bytes> {
    match following {
        Some(messages) => messages.next().await,
        None => pending().await,
    }
}

/// What the socket is ready for: writing before reading, so that what was gathered leaves before more comes.
fn poll_event(socket: &mut Socket, wanted: Wanted, context: &mut Context<'_>) -> Poll<Result<Event, Error>> {
    if wanted.write
        && let Poll::Ready(ready) = socket.poll_ready_unpin(context)
    {
        return Poll::Ready(ready.map(|()| Event::Writable));
    }
    if wanted.flush
        && let Poll::Ready(flushed) = socket.poll_flush_unpin(context)
    {
        return Poll::Ready(flushed.map(|()| Event::Flushed));
    }
    if wanted.read
        && let Poll::Ready(came) = socket.poll_next_unpin(context)
    {
        return Poll::Ready(Ok(Event::Came(came)));
    }
    Poll::Pending
}

fn close_frame(code: CloseCode, reason: &str) -> CloseFrame {
    CloseFrame {
        code,
        reason: reason.into(),
    }
}
