//! The monitor's own thread: it takes a sample every second, and answers questions for which every partition is visited.
//!
//! It shares no threads with cold reads. While all of those hang on a disk, which is when somebody looks, numbers still come; and while it
//! visits ten thousand partitions, no connection waits behind it. Nobody waits for a lock of the samples: they are this thread's alone.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::http::stats::Stats;
use crate::monitor::history::History;
use crate::monitor::{Monitor, SAMPLE_INTERVAL};

/// So many may wait for an answer. Who comes then is told at once that too much is asked.
pub(super) const QUESTIONS_MAX: usize = 64;

/// What is asked, and where the answer goes. Who asked may be gone; nobody minds.
#[derive(Debug)]
pub(super) enum Question {
    /// The page of metrics.
    Page(oneshot::Sender<String>),
    /// The samples since a moment.
    Stats(u64, oneshot::Sender<Stats>),
    /// That was all.
    Stop,
}

/// The thread, to be stopped.
#[derive(Debug)]
pub(crate) struct DeskThread {
    questions: SyncSender<Question>,
    thread: JoinHandle<()>,
}

impl DeskThread {
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn start(monitor: Arc<Monitor>, asked: Receiver<Question>) -> io::Result<Self> {
        let questions = monitor.questions.clone();
        let thread = std::thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(move || {
                let mut desk = Desk::new(monitor, asked);
                loop {
                    match catch_unwind(AssertUnwindSafe(|| desk.step())) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => break,
                        // Who asked is told that there is no answer.
                        Err(_) => tracing::error!("the monitor panicked; it goes on with the next sample"),
                    }
                }
            })?;
        Ok(Self { questions, thread })
    }

    /// Ends the thread when it has answered those who came before. Blocks.
    pub(crate) fn stop(self) {
        // Should it be gone, there is nothing to stop.
        drop(self.questions.send(Question::Stop));
        if self.thread.join().is_err() {
            tracing::error!("the monitor's thread panicked");
        }
    }
}

/// What the thread works on.
#[derive(Debug)]
struct Desk {
    monitor: Arc<Monitor>,
    asked: Receiver<Question>,
    history: History,
    due: Instant,
}

impl Desk {
    fn new(monitor: Arc<Monitor>, asked: Receiver<Question>) -> Self {
        Self {
            monitor,
            asked,
            history: History::default(),
            due: Instant::now(),
        }
    }

    /// Takes a sample if it is time, and answers one question otherwise: however many ask, samples come.
    fn step(&mut self) -> ControlFlow<()> {
        let now = Instant::now();
        if self.due <= now {
            self.due = now + SAMPLE_INTERVAL;
            self.monitor.take_sample(&mut self.history);
            return ControlFlow::Continue(());
        }
        match self.asked.recv_timeout(self.due - now) {
            Ok(Question::Page(answer)) => drop(answer.send(self.monitor.scrape())),
            Ok(Question::Stats(since_ms, answer)) => {
                drop(answer.send(self.monitor.stats_of(&self.history, since_ms)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Question::Stop) | Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }
}
