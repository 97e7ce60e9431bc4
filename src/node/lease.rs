//! Until when this node may answer for its state, by its own clock.
//!
//! A lease is counted from before its renewal was sent, and is shorter than what others wait out by a margin for clocks
//! that run at different rates. So it has ended here before anyone counts it as ended there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One part in so many is taken off. Quartz drifts by some hundred parts in a million, and NTP slews by five hundred.
const DRIFT_MARGIN: u32 = 64;

/// How long this machine has been up: a clock that nobody sets, and that counts the time of sleep too. A process that was
/// stopped and a machine whose lid was shut find on waking how late it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(Duration);

impl Uptime {
    #[must_use]
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;
        Self(Duration::try_from(clock_gettime(CLOCK)).expect("a machine is not up for less than no time"))
    }

    /// The start of the machine: longer ago than any lease.
    #[cfg(test)]
    pub(crate) fn at_start() -> Self {
        Self(Duration::ZERO)
    }

    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0 + span)
    }

    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    /// In microseconds, as wall clocks are told.
    pub(crate) fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment that is only ever moved on, for many readers.
#[derive(Debug, Default)]
pub struct Deadline(AtomicU64);

impl Deadline {
    /// An earlier one, of an answer that came late, takes nothing back.
    pub fn move_on(&self, to: Uptime) {
        self.0.fetch_max(u64::try_from(to.0.as_micros()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    #[must_use]
    pub fn is_ahead_of(&self, now: Uptime) -> bool {
        now.0 < Duration::from_micros(self.0.load(Ordering::Acquire))
    }
}

/// What others count on: that this node refuses once so long has passed since its last renewal.
#[derive(Debug)]
pub struct Lease {
    ends: Deadline,
    length: Duration,
}

impl Lease {
    /// None yet. A renewal lasts for `length` in the eyes of others.
    #[must_use]
    pub fn none(length: Duration) -> Self {
        Self { ends: Deadline::default(), length }
    }

    /// How long others wait for a node whose renewals stand still.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The database has recorded a renewal that was sent at `sent`, or after.
    pub fn renewed(&self, sent: Uptime) {
        self.ends.move_on(sent.after(self.length.saturating_sub(self.length / DRIFT_MARGIN)));
    }

    #[must_use]
    pub fn is_live(&self, now: Uptime) -> bool {
        self.ends.is_ahead_of(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_from_when_its_renewal_was_sent_and_a_little_less_than_others_wait() {
        let length = Duration::from_secs(64);
        let lease = Lease::none(length);
        let sent = Uptime::now();
        assert!(!lease.is_live(sent), "there never was one");
        lease.renewed(sent);
        assert!(lease.is_live(sent));
        assert!(lease.is_live(sent.after(Duration::from_millis(62_999))));
        assert!(!lease.is_live(sent.after(Duration::from_secs(63))), "a second before anyone has waited it out");
    }

    #[test]
    fn a_late_answer_to_an_older_renewal_takes_nothing_back() {
        let lease = Lease::none(Duration::from_secs(64));
        let older = Uptime::now();
        lease.renewed(older.after(Duration::from_secs(30)));
        lease.renewed(older);
        assert!(lease.is_live(older.after(Duration::from_secs(80))));
    }

    #[test]
    fn uptime_moves_on_by_itself() {
        let began = Uptime::now();
        while began.elapsed().is_zero() {}
        assert!(Uptime::now() > began);
    }
}
