//! When the next record is to be sent: as soon as the last ones are answered, or at times that were fixed beforehand.
//!
//! In an open loop record `i` of a producer is due at `start + i × period`, however slow the broker is. Its latency counts from there, so
//! a stall counts for every record it held up.

/// How a producer is driven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drive {
    /// Closed loop.
    Closed,
    /// Open loop.
    Open {
        /// Between two records.
        period_ns: f64,
        /// How long a record waits at most for its batch to fill.
        linger_ns: u64,
    },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Send so many records, the first of which was due then.
    Send {
        /// How many.
        count: usize,
        /// When the first was due.
        first_due: u64,
    },
    /// Nothing before that moment.
    Wait(u64),
    /// Nothing any more.
    End,
}

/// The schedule of one producer.
#[derive(Debug, Clone)]
pub struct Pace {
    drive: Drive,
    start: u64,
    /// Nothing is due from here on.
    until: u64,
    /// Records that may still be sent.
    left: u64,
    sent: u64,
}

impl Pace {
    /// From `start` on, until `until` or for so many records.
    #[must_use]
    pub fn new(drive: Drive, start: u64, until: u64, records: u64) -> Self {
        Self {
            drive,
            start,
            until,
            left: records,
            sent: 0,
        }
    }

    /// Between the due times of two records; 0 in a closed loop, where a batch is due as a whole.
    #[must_use]
    pub fn period_ns(&self) -> f64 {
        match self.drive {
            Drive::Closed => 0.0,
            Drive::Open { period_ns, .. } => period_ns,
        }
    }

    fn due_at(&self, index: u64, period_ns: f64) -> u64 {
        self.start.saturating_add(times(index, period_ns))
    }

    /// What to do now, when a full batch has so many records.
    #[must_use]
    pub fn next(&self, now: u64, full: usize) -> Next {
        if self.left == 0 {
            return Next::End;
        }
        let full = u64::try_from(full).unwrap_or(u64::MAX).min(self.left);
        let send = |count: u64, first_due| Next::Send {
            count: usize::try_from(count).unwrap_or(usize::MAX),
            first_due,
        };
        match self.drive {
            Drive::Closed if self.until <= now => Next::End,
            Drive::Closed if now < self.start => Next::Wait(self.start),
            Drive::Closed => send(full, now),
            Drive::Open { period_ns, linger_ns } => {
                let first_due = self.due_at(self.sent, period_ns);
                if self.until <= first_due {
                    return Next::End;
                }
                if now < first_due {
                    return Next::Wait(
                        first_due
                            .saturating_add(linger_ns)
                            .min(self.due_at(self.sent + full - 1, period_ns))
                            .max(first_due),
                    );
                }
                let seen = now.min(self.until - 1);
                let due = within(seen - self.start, period_ns) + 1 - self.sent;
                let has_waited = linger_ns <= now - first_due;
                if full <= due {
                    send(full, first_due)
                } else if has_waited || self.until <= now {
                    send(due.max(1), first_due)
                } else {
                    let fills_at = self.due_at(self.sent + full - 1, period_ns);
                    Next::Wait(fills_at.min(first_due + linger_ns))
                }
            }
        }
    }

    /// So many were sent.
    pub fn sent(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.sent += count;
        self.left = self.left.saturating_sub(count);
    }

    /// So many of those that were sent count for nothing: as many others may be sent.
    pub fn refused(&mut self, count: u64) {
        self.left = self.left.saturating_add(count);
    }

    /// How many were due by the end and never sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        match self.drive {
            Drive::Closed => 0,
            Drive::Open { period_ns, .. } => {
                let due = within(self.until.saturating_sub(self.start), period_ns);
                due.saturating_sub(self.sent).min(self.left)
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "months in nanoseconds fit, and a float saturates"
)]
fn times(index: u64, period_ns: f64) -> u64 {
    (index as f64 * period_ns) as u64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "months in nanoseconds fit, and a float saturates"
)]
fn within(nanoseconds: u64, period_ns: f64) -> u64 {
    (nanoseconds as f64 / period_ns) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(linger_ns: u64) -> Pace {
        Pace::new(
            Drive::Open {
                period_ns: 10.0,
                linger_ns,
            },
            100,
            1000,
            u64::MAX,
        )
    }

    const fn send(count: usize, first_due: u64) -> Next {
        Next::Send { count, first_due }
    }

    #[test]
    fn records_are_due_one_by_one() {
        let mut pace = open(0);
        assert_eq!(pace.next(0, 4), Next::Wait(100));
        assert_eq!(pace.next(100, 4), send(1, 100));
        pace.sent(1);
        assert_eq!(pace.next(105, 4), Next::Wait(110));
        assert_eq!(pace.next(131, 4), send(3, 110));
        assert_eq!(pace.next(500, 4), send(4, 110), "a stall does not move the times");
        pace.sent(88);
        assert_eq!(pace.next(5000, 4), send(1, 990), "the last one is still owed");
        assert_eq!(pace.unsent(), 1);
        pace.sent(1);
        assert_eq!(pace.next(5000, 4), Next::End);
        assert_eq!(pace.unsent(), 0);
    }

    #[test]
    fn a_batch_waits_until_it_is_full_or_has_waited() {
        let mut pace = open(25);
        assert_eq!(pace.next(0, 2), Next::Wait(110), "full before it has waited");
        assert_eq!(pace.next(0, 9), Next::Wait(125), "waited before it is full");
        assert_eq!(pace.next(100, 9), Next::Wait(125));
        assert_eq!(pace.next(125, 9), send(3, 100));
        assert_eq!(pace.next(112, 2), send(2, 100));
        pace.sent(2);
        assert_eq!(pace.next(112, 2), Next::Wait(130));
    }

    #[test]
    fn what_was_refused_is_owed_again() {
        let mut pace = Pace::new(Drive::Closed, 0, 1000, 10);
        pace.sent(10);
        assert_eq!(pace.next(5, 4), Next::End);
        pace.refused(3);
        assert_eq!(pace.next(5, 4), send(3, 5));
    }

    #[test]
    fn a_closed_loop_ends_by_time_or_count() {
        let mut pace = Pace::new(Drive::Closed, 0, 1000, 10);
        assert_eq!(pace.next(5, 4), send(4, 5));
        pace.sent(8);
        assert_eq!(pace.next(5, 4), send(2, 5));
        assert_eq!(pace.next(1000, 4), Next::End);
        pace.sent(2);
        assert_eq!(pace.next(5, 4), Next::End);
    }
}
