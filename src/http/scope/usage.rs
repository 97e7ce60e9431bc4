//! Who used what when, and from where: from events of the log, which were checked against their seals, and from the
//! validations that were noted.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::graph::Listed;
use crate::domain::actor::{Actor, CredentialUsed};
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::KeyId;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::token::NewToken;
use crate::http::schema;
use crate::projection::used::Span;

/// Addresses that are shown of one thing. More of them is a finding by itself, and the log has them all.
const SOURCES_SHOWN: usize = 20;

/// Tokens that would be accepted, or would be if their workers were not isolated.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TokensView {
    #[schema(schema_with = schema::position)]
    alive: u64,
    /// Of pools that only count their tokens: how many were given out in windows whose tokens may live still.
    #[schema(schema_with = schema::position)]
    counted_at_most: u64,
    /// Whether `alive` is all: not where pools count, or where not everything is shown.
    exact: bool,
}

/// How one thing was used.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    from: BTreeSet<IpAddr>,
}

#[derive(Default)]
pub(super) struct Usage {
    pub(super) of_each: HashMap<Listed, Used>,
    pub(super) all: Used,
    alive: u64,
    counted: u64,
}

impl Used {
    fn add(&mut self, at: Timestamp, from: Option<IpAddr>) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.from.extend(from.map(|address| address.to_canonical()));
    }

    pub(super) fn sources(&self) -> Vec<String> {
        self.from.iter().take(SOURCES_SHOWN).map(ToString::to_string).collect()
    }
}

impl Usage {
    pub(super) fn of(listed: &[Listed]) -> Self {
        Self { of_each: listed.iter().cloned().map(|one| (one, Used::default())).collect(), ..Self::default() }
    }

    /// An event about what is listed; what others did to it is no use of it.
    pub(super) fn see(&mut self, roll: &Roll, recorded: &Recorded, now: Timestamp) {
        self.add(recorded);
        match &recorded.event {
            Event::TokenIssued(token) if is_alive(roll, token, recorded.position, now) => self.alive += 1,
            Event::TokensIssued { worker, count, to, .. } if may_live(roll, worker.as_str(), *to, now) => {
                self.counted += count;
            }
            _ => {}
        }
    }

    fn add(&mut self, recorded: &Recorded) {
        let (at, from) = (recorded.recorded_at, recorded.author.source);
        let worker = match &recorded.author.actor {
            Actor::Worker(worker) => Some(Listed::Worker(worker.to_string())),
            Actor::Operator(_) | Actor::Enrollee(_) | Actor::System => None,
        };
        // Enrolling is the first thing that a worker does.
        let enrolled = match (&recorded.author.actor, &recorded.event) {
            (Actor::Enrollee(_), Event::WorkerCreated(created)) => Some(Listed::Worker(created.worker.to_string())),
            _ => None,
        };
        let credential = recorded.author.credential.map(|credential| match credential {
            CredentialUsed::Key(key) | CredentialUsed::Token { key, .. } => Listed::Key(key),
            CredentialUsed::EnrollmentSecret(secret) => Listed::EnrollmentSecret(secret),
        });
        let mut counts = false;
        for one in [worker, enrolled, credential].into_iter().flatten() {
            if let Some(used) = self.of_each.get_mut(&one) {
                used.add(at, from);
                counts = true;
            }
        }
        if counts {
            self.all.add(at, from);
        }
    }

    /// When keys were first and last accepted, as far as it was written down.
    pub(super) fn validated(&mut self, spans: HashMap<KeyId, Span>) {
        for (key, span) in spans {
            if let Some(used) = self.of_each.get_mut(&Listed::Key(key)) {
                for at in [span.first, span.last] {
                    used.add(at, None);
                    self.all.add(at, None);
                }
            }
        }
    }

    pub(super) fn tokens(&self, complete: bool) -> TokensView {
        TokensView { alive: self.alive, counted_at_most: self.counted, exact: complete && self.counted == 0 }
    }
}

/// An isolation is not looked at: it can end.
fn is_alive(roll: &Roll, token: &NewToken, issued: u64, now: Timestamp) -> bool {
    let (Some(worker), Some(key)) = (roll.worker(token.worker.as_str()), roll.key(token.key)) else { return false };
    token.expires_at > now
        && worker.is_member()
        && roll.is_good_for(key, worker, now)
        && !roll.is_fenced(worker, issued)
        && !roll.is_token_revoked(token.session, issued)
}

/// Whether a token that was given out before `to` can be good still.
fn may_live(roll: &Roll, worker: &str, to: Timestamp, now: Timestamp) -> bool {
    let pool = roll.worker(worker).and_then(|worker| roll.pool(worker.pool.as_str()));
    pool.is_some_and(|pool| to.after(pool.settings.token_ttl) > now)
}
