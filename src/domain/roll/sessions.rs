//! Sessions that were cut: what a revoked token, and those that were renewed from it, are known by until all have expired.

use super::Roll;
use crate::domain::ids::TokenId;
use crate::domain::time::Timestamp;
use crate::domain::token::{SESSION_CUT_KEPT, SessionCut};

impl Roll {
    pub(super) fn cut_session(&mut self, session: TokenId, from: u64, at: Timestamp) {
        let keep_until = at.after(SESSION_CUT_KEPT);
        let cut = match self.session_cuts.get(&session) {
            Some(earlier) => {
                self.session_cut_ends.remove(&(earlier.keep_until, session));
                SessionCut { from: from.min(earlier.from), keep_until }
            }
            None => SessionCut { from, keep_until },
        };
        self.session_cuts.insert(session, cut);
        self.session_cut_ends.insert((keep_until, session));
    }

    /// Forgetting by the time of the record, and not of the clock, keeps the state a function of the log.
    pub(super) fn forget_ended_cuts(&mut self, now: Timestamp) {
        while let Some((until, session)) = self.session_cut_ends.get_min().copied() {
            if until > now {
                break;
            }
            self.session_cut_ends.remove(&(until, session));
            self.session_cuts.remove(&session);
        }
    }
}
