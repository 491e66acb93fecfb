//! The thread that drives connections: it waits for all of them at once, for the next moment when something is due, and for the end.
//!
//! Sockets are watched for edges: an event comes once, so whoever gets it reads until nothing is left, and writes until the socket is full.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{Timespec, epoll};

use super::meter::Meter;
use super::raw_producer::RawProducer;
use super::raw_reader::RawReader;
use super::run_clock::{NEVER, RunClock};
use super::socket::Socket;

/// How often a worker looks whether it is to stop.
const LOOK_NS: u64 = 50_000_000;
/// The kernel may wake a thread this much late; its default, 50 µs, would be in every latency.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

/// From here on this thread is woken when it asked for.
pub(crate) fn wake_in_time() {
    // Where it is refused, waking is less exact.
    rustix::thread::set_current_timer_slack(Some(TIMER_SLACK)).ok();
}

/// What a connection is for.
#[derive(Debug)]
pub enum Role {
    /// It produces.
    Producer(Box<RawProducer>),
    /// It reads.
    Reader(Box<RawReader>),
    /// It is only there.
    Idle(Box<Socket>),
}

impl Role {
    fn socket(&self) -> &Socket {
        match self {
            Self::Producer(producer) => producer.socket(),
            Self::Reader(reader) => reader.socket(),
            Self::Idle(socket) => socket,
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Producer(producer) => producer.is_done(),
            Self::Reader(reader) => reader.is_done(),
            Self::Idle(_) => true,
        }
    }

    fn receive(&mut self, clock: &RunClock, meter: &mut Meter) -> anyhow::Result<()> {
        match self {
            Self::Producer(producer) => producer.receive(clock, meter),
            Self::Reader(reader) => reader.receive(clock, meter),
            Self::Idle(socket) => socket.receive().map(|_| ()),
        }
    }

    /// Sends what is due and says when it next wants to.
    fn send(&mut self, clock: &RunClock, meter: &mut Meter) -> anyhow::Result<u64> {
        match self {
            Self::Producer(producer) => producer.send(clock, meter),
            Self::Reader(reader) => reader.send(clock),
            Self::Idle(_) => Ok(NEVER),
        }
    }

    fn give_up(&mut self, reason: &str, meter: &mut Meter) {
        match self {
            Self::Producer(producer) => producer.give_up(reason, meter),
            Self::Reader(reader) => reader.give_up(reason, meter),
            Self::Idle(_) => {}
        }
    }
}

/// One thread's connections and what it counted.
#[derive(Debug)]
pub struct Worker {
    /// Its connections.
    pub roles: Vec<Role>,
    /// What it counted.
    pub meter: Meter,
    clock: RunClock,
    /// Nothing is waited for from here on.
    give_up_at: u64,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(meter: Meter, clock: RunClock, give_up_at: u64, stop: Arc<AtomicBool>) -> Self {
        Self {
            roles: Vec::new(),
            meter,
            clock,
            give_up_at,
            stop,
        }
    }

    /// How many of its connections produce.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.roles
            .iter()
            .filter(|role| matches!(role, Role::Producer(_)))
            .count()
    }

    /// Drives its connections until all have done what they are for. `producing` loses one with each producer that has.
    ///
    /// # Errors
    /// The system's; a connection that breaks ends alone, and says so.
    pub fn run(&mut self, producing: &AtomicUsize) -> anyhow::Result<()> {
        wake_in_time();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll")?;
        for (index, role) in (0_u64..).zip(&self.roles) {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(index);
            epoll::add(&epoll, role.socket().stream(), data, flags).context("watch a connection")?;
        }
        let mut agenda = Agenda {
            wakes: BinaryHeap::new(),
            wake_of: vec![NEVER; self.roles.len()],
            producing,
        };
        let mut open = 0;
        for index in 0..self.roles.len() {
            open += usize::from(self.turn(index, false, &mut agenda));
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        while 0 < open {
            let now = self.clock.now();
            if self.give_up_at <= now || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let due = agenda.wakes.peek().map_or(NEVER, |Reverse((at, _))| *at);
            let wait = due.saturating_sub(now).min(LOOK_NS);
            let timeout = Timespec::try_from(Duration::from_nanos(wait))?;
            events.clear();
            match epoll::wait(
                &epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&timeout),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for connections"),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                let flags = event.flags;
                let readable =
                    flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
                if !self.roles.get(index).is_none_or(Role::is_done)
                    && !self.turn(index, readable, &mut agenda)
                {
                    open -= 1;
                }
            }
            let now = self.clock.now();
            while let Some(Reverse((at, index))) = agenda.wakes.peek().copied() {
                if now < at {
                    break;
                }
                agenda.wakes.pop();
                // Only its latest wish counts.
                let is_latest = agenda.wake_of.get(index) == Some(&at);
                if is_latest
                    && !self.roles.get(index).is_none_or(Role::is_done)
                    && !self.turn(index, false, &mut agenda)
                {
                    open -= 1;
                }
            }
            // Ends that come from outside (a partition got its end) are seen here.
            if events.is_empty() {
                for index in 0..self.roles.len() {
                    let is_reader =
                        matches!(self.roles.get(index), Some(Role::Reader(reader)) if !reader.is_done());
                    if is_reader && !self.turn(index, false, &mut agenda) {
                        open -= 1;
                    }
                }
            }
        }
        for role in &mut self.roles {
            let was_done = role.is_done();
            role.give_up("the broker did not answer in time", &mut self.meter);
            agenda.note(role, was_done);
        }
        self.meter.publish();
        Ok(())
    }

    /// Lets a connection do what it can; returns whether it has more to do.
    fn turn(&mut self, index: usize, readable: bool, agenda: &mut Agenda<'_>) -> bool {
        let Some(role) = self.roles.get_mut(index) else {
            return false;
        };
        let was_done = role.is_done();
        let outcome = (|| {
            if readable {
                role.receive(&self.clock, &mut self.meter)?;
            }
            role.send(&self.clock, &mut self.meter)
        })();
        match outcome {
            Ok(wake) => agenda.wake_at(wake, index),
            Err(error) => role.give_up(&format!("{error:#}"), &mut self.meter),
        }
        agenda.note(role, was_done);
        !role.is_done()
    }
}

/// When which connection wants to be woken, and how many still produce.
struct Agenda<'a> {
    wakes: BinaryHeap<Reverse<(u64, usize)>>,
    /// The latest wish of each; older ones in the heap are void.
    wake_of: Vec<u64>,
    producing: &'a AtomicUsize,
}

impl Agenda<'_> {
    fn wake_at(&mut self, wake: u64, index: usize) {
        if let Some(wanted) = self.wake_of.get_mut(index) {
            if wake != NEVER && *wanted != wake {
                self.wakes.push(Reverse((wake, index)));
            }
            *wanted = wake;
        }
    }

    fn note(&self, role: &Role, was_done: bool) {
        if !was_done && role.is_done() && matches!(role, Role::Producer(_)) {
            self.producing.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
