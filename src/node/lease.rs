//! Until when this node may answer for its state, by its own monotonic clock.
//!
//! The lease is counted from before its renewal was sent, and is shorter than what others wait out by a margin for clocks
//! that run at different rates. So it has ended here before anyone counts it as ended there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One part in so many is taken off. Quartz drifts by some hundred parts in a million, and NTP slews by five hundred.
const DRIFT_MARGIN: u32 = 64;

/// When the lease ends, and whether it has.
#[derive(Debug)]
pub struct Lease {
    started: Instant,
    /// Microseconds after `started` at which it ends; 0 where there never was one.
    ends_us: AtomicU64,
    length: Duration,
}

impl Lease {
    /// None yet. A renewal lasts for `length` in the eyes of others.
    #[must_use]
    pub fn none(length: Duration) -> Self {
        Self { started: Instant::now(), ends_us: AtomicU64::new(0), length }
    }

    /// How long others wait for a node whose renewals stand still.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The database has recorded a renewal that was sent at `sent`, or after.
    pub fn renewed(&self, sent: Instant) {
        let ends = sent.saturating_duration_since(self.started) + self.length - self.length / DRIFT_MARGIN;
        // An older answer that comes late takes nothing back.
        self.ends_us.fetch_max(u64::try_from(ends.as_micros()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// Given back, or found to be lost.
    pub fn end(&self) {
        self.ends_us.store(0, Ordering::Release);
    }

    /// One reading of the clock and one load.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.started.elapsed() < Duration::from_micros(self.ends_us.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_from_when_its_renewal_was_sent_and_a_little_less_than_others_wait() {
        let length = Duration::from_millis(64);
        let lease = Lease::none(length);
        assert!(!lease.is_live(), "there never was one");
        let sent = Instant::now();
        lease.renewed(sent);
        assert!(lease.is_live());
        while sent.elapsed() < length - length / DRIFT_MARGIN {
            std::thread::yield_now();
        }
        assert!(!lease.is_live());
    }

    #[test]
    fn a_late_answer_to_an_older_renewal_takes_nothing_back_and_an_end_is_one() {
        let lease = Lease::none(Duration::from_secs(60));
        let older = Instant::now();
        let newer = older + Duration::from_secs(30);
        lease.renewed(newer);
        let ends = lease.ends_us.load(Ordering::Acquire);
        lease.renewed(older);
        assert_eq!(lease.ends_us.load(Ordering::Acquire), ends);
        lease.end();
        assert!(!lease.is_live());
    }
}
