//! How far this machine's clock is ahead of the database's, so that nothing is recorded from a time that is not yet.
//!
//! What ends by itself ends by the times of records: one event from a clock that is weeks ahead would make every node forget
//! what it has to keep for weeks, such as which sessions were cut. A clock that is behind does no such harm.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_postgres::Client;

use super::Setback;
use crate::command::mint;
use crate::log::{self, LogFault};

/// Far more than machines differ by whose clocks are kept, and far less than what is kept for a time is kept for.
const AHEAD_MAX: Duration = Duration::from_mins(5);

/// The last comparison, in microseconds that we are ahead.
#[derive(Default)]
pub(super) struct Clock(AtomicI64);

impl Clock {
    pub(super) async fn compare(&self, client: &Client) -> Result<(), LogFault> {
        let theirs = log::time::of_database(client).await?;
        // After the answer: the way that it took counts as being ahead, and is short.
        self.0.store(mint::now().0.saturating_sub(theirs.0), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), Setback> {
        let ahead = Duration::from_micros(u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0));
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
    fn only_a_clock_that_is_far_ahead_is_refused() {
        for (seconds, accepted) in [(0, true), (299, true), (301, false), (-1_000_000, true), (32 * 86_400, false)] {
            let clock = Clock(AtomicI64::new(seconds * 1_000_000));
            assert_eq!(clock.check().is_ok(), accepted, "{seconds} s ahead");
        }
    }
}
