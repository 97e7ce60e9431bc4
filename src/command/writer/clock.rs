//! How far this machine's clock is ahead of the database's, so that nothing is recorded from a time that is not yet.
//!
//! What ends by itself ends by the times of records: one event from a clock that is weeks ahead would make every node forget
//! what it has to keep for weeks, such as which sessions were cut. A clock that is behind does no such harm.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_postgres::Client;

use super::Setback;
use crate::command::mint;
use crate::domain::time::Timestamp;
use crate::log::{self, LogFault};
use crate::node::lease::Uptime;

/// Far more than machines differ by whose clocks are kept, and far less than what is kept for a time is kept for.
const AHEAD_MAX: Duration = Duration::from_mins(5);

/// What the database's clock showed at the last comparison, in microseconds less than the uptime at that moment. So a wall
/// clock that was set since then is seen at once, and not with the next comparison.
pub(super) struct Clock(AtomicI64);

impl Default for Clock {
    /// As if ours were right.
    fn default() -> Self {
        let clock = Self(AtomicI64::new(0));
        clock.note(mint::now(), Uptime::now());
        clock
    }
}

impl Clock {
    pub(super) async fn compare(&self, client: &Client) -> Result<(), LogFault> {
        let theirs = log::time::of_database(client).await?;
        // After the answer: the way that it took counts as being ahead, and is short.
        self.note(theirs, Uptime::now());
        Ok(())
    }

    fn note(&self, theirs: Timestamp, at: Uptime) {
        self.0.store(theirs.0.saturating_sub(at.micros()), Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> Result<(), Setback> {
        self.check_at(mint::now(), Uptime::now())
    }

    fn check_at(&self, ours: Timestamp, at: Uptime) -> Result<(), Setback> {
        let theirs = self.0.load(Ordering::Relaxed).saturating_add(at.micros());
        let ahead = Duration::from_micros(u64::try_from(ours.0.saturating_sub(theirs)).unwrap_or(0));
        if ahead <= AHEAD_MAX {
            return Ok(());
        }
        let seconds = ahead.as_secs();
        Err(Setback::Refused(format!(
            "the clock of this machine is {seconds} s ahead of the database's; set one of them"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_far_ahead_is_refused_also_one_that_was_set_since_it_was_compared() {
        let (compared, theirs) = (Uptime::now(), mint::now());
        let clock = Clock::default();
        clock.note(theirs, compared);
        let later = compared.after(Duration::from_secs(7));
        for (seconds, accepted) in [(0, true), (299, true), (301, false), (-1_000_000, true), (32 * 86_400, false)] {
            let ours = Timestamp(theirs.0 + (7 + seconds) * 1_000_000);
            assert_eq!(clock.check_at(ours, later).is_ok(), accepted, "{seconds} s ahead");
        }
    }
}
