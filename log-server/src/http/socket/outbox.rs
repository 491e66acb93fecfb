//! What is to be sent: documents, each a message, cut into frames.
//!
//! Answers pass records: a client whose window is full (`pulse`) is sent no more records until its pong is read, which may stand behind
//! messages that are read only when others have their answers.
//!
//! A message that is large goes out in several frames, because what takes frames keeps room for the largest that it ever had, for as long as
//! the connection lasts.

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// What a frame has at most.
pub(super) const FRAME_BYTES: usize = 16 << 10;

/// Documents on their way out. Behind each stands a line break.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    answer: Bytes,
    records: Bytes,
    /// What was not sent yet of a document whose first frame was.
    rest: Option<Bytes>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        !self.has_frame(true)
    }

    /// Whether an answer may be put in.
    pub(super) fn takes_answers(&self) -> bool {
        self.answer.is_empty()
    }

    /// Whether records may be put in.
    pub(super) fn takes_records(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn put_answer(&mut self, answer: Bytes) {
        self.answer = answer;
    }

    pub(super) fn put_records(&mut self, records: Bytes) {
        self.records = records;
    }

    /// Whether there is something to send, if records may go or not. One that was begun is brought to its end.
    pub(super) fn has_frame(&self, with_records: bool) -> bool {
        self.rest.is_some() || !self.answer.is_empty() || (with_records && !self.records.is_empty())
    }

    /// The next frame, if there is anything to send.
    pub(super) fn next_frame(&mut self, with_records: bool) -> Option<Frame> {
        let (opcode, mut document) = match self.rest.take() {
            Some(rest) => (Data::Continue, rest),
            None => (Data::Text, self.next_document(with_records)?),
        };
        let payload = document.split_to(document.len().min(FRAME_BYTES));
        let is_final = document.is_empty();
        if !is_final {
            self.rest = Some(document);
        }
        Some(Frame::message(payload, OpCode::Data(opcode), is_final))
    }

    fn next_document(&mut self, with_records: bool) -> Option<Bytes> {
        let documents = if !self.answer.is_empty() {
            &mut self.answer
        } else if with_records && !self.records.is_empty() {
            &mut self.records
        } else {
            return None;
        };
        let end = memchr::memchr(b'\n', documents).unwrap_or(documents.len());
        let document = documents.split_to(end);
        documents.advance(documents.len().min(1));
        Some(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);

    /// Kind, whether it is the last, and length of the frames that may go.
    fn frames(outbox: &mut Outbox, with_records: bool) -> Vec<(OpCode, bool, usize)> {
        let mut frames = Vec::new();
        while outbox.has_frame(with_records) {
            let frame = outbox.next_frame(with_records).unwrap();
            frames.push((
                frame.header().opcode,
                frame.header().is_final,
                frame.payload().len(),
            ));
        }
        assert!(outbox.next_frame(with_records).is_none());
        frames
    }

    #[test]
    fn documents_are_cut_apart_and_large_ones_into_frames() {
        let mut outbox = Outbox::default();
        assert!(outbox.is_empty() && frames(&mut outbox, true).is_empty());
        let (large, whole) = ("x".repeat(2 * FRAME_BYTES + 1), "y".repeat(FRAME_BYTES));
        outbox.put_records(Bytes::from(format!("{{\"a\":1}}\n{large}\n{whole}\n")));
        assert!(!outbox.takes_records() && outbox.takes_answers());
        assert_eq!(
            frames(&mut outbox, true),
            [
                (TEXT, true, 7),
                (TEXT, false, FRAME_BYTES),
                (MORE, false, FRAME_BYTES),
                (MORE, true, 1),
                (TEXT, true, FRAME_BYTES),
            ]
        );
        assert!(outbox.is_empty() && outbox.takes_records());
    }

    #[test]
    fn answers_pass_records_and_not_their_frames() {
        let mut outbox = Outbox::default();
        let large = "x".repeat(FRAME_BYTES + 1);
        outbox.put_records(Bytes::from(format!("{large}\n[]\n")));
        assert_eq!(frames(&mut outbox, false), []);
        assert!(!outbox.next_frame(true).unwrap().header().is_final);
        outbox.put_answer(Bytes::from_static(b"{}\n"));
        assert!(!outbox.takes_answers());
        assert_eq!(frames(&mut outbox, false), [(MORE, true, 1), (TEXT, true, 2)]);
        assert!(!outbox.is_empty());
        assert_eq!(frames(&mut outbox, true), [(TEXT, true, 2)]);
    }
}
