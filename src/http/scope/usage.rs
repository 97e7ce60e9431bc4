//! Who used what when, and from where: from events of the log, which were checked against their seals, and from the
//! validations that were noted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::graph::Listed;
use crate::domain::actor::{Actor, CredentialUsed};
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId};
use crate::domain::roll::scope::Scope;
use crate::domain::roll::{IdSet, Roll};
use crate::domain::time::Timestamp;
use crate::domain::token::NewToken;
use crate::domain::worker::WorkerIndex;
use crate::http::schema;
use crate::projection::used::{Source, Span};

/// Addresses that are shown of one thing. More of them is a finding by itself, and the log has them all.
const SOURCES_SHOWN: usize = 20;

/// Tokens that would be accepted, or would be if their workers were not isolated.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::http) struct TokensView {
    #[schema(schema_with = schema::position)]
    alive: u64,
    /// Of pools that only count their tokens: how many were given out in windows whose tokens may live still.
    #[schema(schema_with = schema::position)]
    counted_at_most: u64,
    /// Whether `alive` is all: not where pools count.
    exact: bool,
}

/// How one thing was used.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    from: BTreeSet<IpAddr>,
}

/// Of all that is reached; and of each thing, where it is shown.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) of_each: HashMap<Listed, Used>,
    pub(super) all: Used,
    reached: Reached,
    alive: u64,
    counted: u64,
}

/// What is reached, to be asked whether something is part of it.
#[derive(Default)]
struct Reached {
    operators: HashSet<OperatorId>,
    enrollment_secrets: HashSet<EnrollmentSecretId>,
    workers: HashSet<WorkerIndex>,
    keys: IdSet<KeyId>,
}

impl Used {
    fn add(&mut self, at: Timestamp, from: Option<IpAddr>) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.from.extend(from.map(|address| address.to_canonical()));
    }

    pub(super) fn sources_in_all(&self) -> usize {
        self.from.len()
    }

    pub(super) fn sources(&self) -> Vec<String> {
        self.from.iter().take(SOURCES_SHOWN).map(ToString::to_string).collect()
    }
}

impl Reached {
    fn holds(&self, roll: &Roll, one: &Listed) -> bool {
        match one {
            Listed::Operator(id) => self.operators.contains(id),
            Listed::EnrollmentSecret(id) => self.enrollment_secrets.contains(id),
            Listed::Worker(id) => roll.worker_index(id).is_some_and(|index| self.workers.contains(&index)),
            Listed::Key(id) => self.keys.contains(id),
        }
    }
}

impl Usage {
    pub(super) fn of(scope: &Scope, listed: &[Listed]) -> Self {
        let reached = Reached {
            operators: scope.operators.iter().copied().collect(),
            enrollment_secrets: scope.enrollment_secrets.iter().copied().collect(),
            workers: scope.workers.iter().copied().collect(),
            keys: scope.keys.clone(),
        };
        let of_each = listed.iter().cloned().map(|one| (one, Used::default())).collect();
        Self { of_each, reached, ..Self::default() }
    }

    /// An event about what is reached; what others did to it is no use of it.
    pub(super) fn see(&mut self, roll: &Roll, recorded: &Recorded, now: Timestamp) {
        self.add(roll, recorded);
        match &recorded.event {
            Event::TokenIssued(token) if is_alive(roll, token, recorded.position, now) => self.alive += 1,
            Event::TokensIssued { worker, count, to, .. } if may_live(roll, worker.as_str(), *to, now) => {
                self.counted += count;
            }
            _ => {}
        }
    }

    fn add(&mut self, roll: &Roll, recorded: &Recorded) {
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
            } else {
                counts |= self.reached.holds(roll, &one);
            }
        }
        if counts {
            self.all.add(at, from);
        }
    }

    /// When keys were first and last accepted, and from where they came, as far as it was written down.
    pub(super) fn noted(&mut self, spans: HashMap<KeyId, Span>, sources: Vec<(String, Source)>) {
        for (key, span) in spans {
            let mut shown = self.of_each.get_mut(&Listed::Key(key));
            for at in [span.first, span.last] {
                self.all.add(at, None);
                if let Some(used) = &mut shown {
                    used.add(at, None);
                }
            }
        }
        for (key, source) in sources {
            let address = source.address.to_canonical();
            self.all.from.insert(address);
            let shown = key.parse().ok().and_then(|key| self.of_each.get_mut(&Listed::Key(key)));
            if let Some(used) = shown {
                used.from.insert(address);
            }
        }
    }

    pub(super) fn tokens(&self) -> TokensView {
        TokensView { alive: self.alive, counted_at_most: self.counted, exact: self.counted == 0 }
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
