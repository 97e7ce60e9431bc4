//! The rules as tables: given a Roll that was folded from commands, when somebody wishes something, then these events
//! follow, or this refusal. Every table is decided on one state, a line a wish, so that a line shows one rule.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Decision, carried, decide};
use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::command::{Command, Context};
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::{CommandId, EnrollmentSecretId, IncidentId, KeyId, OperatorId, TokenId};
use crate::domain::operator::Role;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenFacts;
use wish::{worker_id, worker_token};

mod access;
mod authors;
mod certificates;
mod enrollment;
mod fence_account;
mod fence_model;
mod fences;
pub(crate) mod incidents;
pub(crate) mod interleavings;
mod invariants;
mod keys;
mod lineage;
mod namesakes;
mod operators;
mod plan_approvals;
mod plan_rotation;
pub(crate) mod plans;
mod pools;
mod readmissions;
mod signing_keys;
mod standings;
mod static_secrets;
mod tokens;
mod tripwires;
mod webhooks;
mod wish;
mod workers;

/// A Roll, the log that it was folded from, and a clock that tests move by hand.
#[derive(Clone)]
struct World {
    roll: Roll,
    log: Vec<Recorded>,
    now: Timestamp,
    /// What is wished for with every wish.
    incident: Option<IncidentId>,
    reason: Option<Arc<str>>,
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_unix_seconds(at)
}

impl World {
    /// A log that nobody has written to.
    fn empty() -> Self {
        Self { roll: Roll::default(), log: Vec::new(), now: seconds(0), incident: None, reason: None }
    }

    /// The first start at second 0, and an operator of each role: the n-th of `Role::ALL` has the id and the key `n + 1`.
    fn new() -> Self {
        let mut world = Self::empty();
        world.must(&system(), &wish::bootstrap(1, 1));
        let others = Role::ALL.into_iter().skip(1).map(|role| wish::create_operator(id_of(role), role));
        world.given(others)
    }

    /// Wishes of the admin that were granted.
    #[track_caller]
    fn given(mut self, wishes: impl IntoIterator<Item = Command>) -> Self {
        for wish in wishes {
            self.must(&operator(Role::Admin), &wish);
        }
        self
    }

    fn at(mut self, second: i64) -> Self {
        self.now = seconds(second);
        self
    }

    fn context(&self, who: &Author) -> Context {
        Context { now: self.now, author: who.clone(), reason: self.reason.clone(), incident: self.incident.clone() }
    }

    fn decide(&self, who: &Author, wish: &Command) -> Decision {
        decide(&self.roll, wish, &self.context(who))
    }

    /// Decides, and lets it become so.
    fn obey(&mut self, who: &Author, wish: &Command) -> Decision {
        let events = self.decide(who, wish)?;
        let incident = carried(&self.roll, wish, &self.context(who), &events);
        for event in &events {
            self.record(who, incident.clone().filter(|_| !event.precedes_its_incident()), event.clone());
        }
        Ok(events)
    }

    #[track_caller]
    fn must(&mut self, who: &Author, wish: &Command) -> Vec<Event> {
        self.obey(who, wish).unwrap_or_else(|refusal| panic!("refused: {refusal}\nthe wish: {wish:?}"))
    }

    fn record(&mut self, who: &Author, incident: Option<IncidentId>, event: Event) {
        let soonest = Timestamp(self.roll.recorded_at().0 + 1);
        let recorded = Recorded {
            position: self.roll.next_position(),
            recorded_at: self.now.max(soonest),
            occurred_at: self.now,
            author: who.clone(),
            command: CommandId(0),
            cause: None,
            incident,
            reason: self.reason.clone(),
            event,
        };
        self.roll.apply(&recorded);
        self.log.push(recorded);
    }

    /// A token that the worker got with this key.
    #[track_caller]
    fn token(&mut self, worker: &str, key: u128, token: u128) -> TokenFacts {
        self.issued(&by_key(worker, key), &wish::issue(token, worker, key))
    }

    /// The next token of a session, got with the token before it.
    #[track_caller]
    fn renewed(&mut self, facts: &TokenFacts, token: u128) -> TokenFacts {
        self.issued(&by_token(facts), &wish::renew(token, facts))
    }

    #[track_caller]
    fn issued(&mut self, who: &Author, wish: &Command) -> TokenFacts {
        let events = self.must(who, wish);
        let [Event::TokenIssued(new)] = events.as_slice() else { panic!("one token is one event: {events:?}") };
        worker_token(new, self.roll.next_position() - 1)
    }

    /// What each wish of `who` would lead to, against what the table says. All wrong lines are shown, not the first.
    #[track_caller]
    fn table(&self, who: &Author, lines: &[(Command, &str)]) {
        let wrong = lines.iter().enumerate().filter_map(|(line, (wish, expected))| {
            let found = outcome(&self.decide(who, wish));
            (found != *expected).then(|| format!("line {line}: {wish:?}\n  expected {expected}\n  found    {found}"))
        });
        let wrong: Vec<String> = wrong.collect();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

fn id_of(role: Role) -> u128 {
    match role {
        Role::Admin => 1,
        Role::Operator => 2,
        Role::Auditor => 3,
        Role::Gateway => 4,
    }
}

fn operator(role: Role) -> Author {
    operator_by(id_of(role), id_of(role))
}

fn operator_by(operator: u128, key: u128) -> Author {
    let credential = Some(CredentialUsed::Key(KeyId(key)));
    Author { actor: Actor::Operator(OperatorId(operator)), credential, ..system() }
}

fn admin() -> Author {
    operator(Role::Admin)
}

fn by_key(worker: &str, key: u128) -> Author {
    let credential = Some(CredentialUsed::Key(KeyId(key)));
    Author { actor: Actor::Worker(worker_id(worker)), credential, ..system() }
}

fn by_token(facts: &TokenFacts) -> Author {
    let TokenFacts { token, session, key, issued, .. } = *facts;
    let credential = Some(CredentialUsed::Token { token, session, key, issued });
    Author { actor: Actor::Worker(facts.worker.clone()), credential, ..system() }
}

fn enrollee(secret: u128) -> Author {
    let secret = EnrollmentSecretId(secret);
    Author { actor: Actor::Enrollee(secret), credential: Some(CredentialUsed::EnrollmentSecret(secret)), ..system() }
}

fn from(source: &str, author: Author) -> Author {
    let source: IpAddr = source.parse().unwrap();
    Author { source: Some(source), ..author }
}

fn system() -> Author {
    Author::system()
}

/// The kinds of the events, `nothing` for a wish that holds already, or `no: ` and the code of the refusal.
fn outcome(decision: &Decision) -> String {
    match decision {
        Ok(events) if events.is_empty() => "nothing".to_owned(),
        Ok(events) => events.iter().map(kind).collect::<Vec<_>>().join(" "),
        Err(refusal) => format!("no: {}", refusal.code()),
    }
}

/// The kind, and what the tables of decisions tell apart beside it.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::WorkerCreated(created) if created.pending => "worker.created(pending)",
        Event::KeyRotated { derived: true, .. } => "key.rotated(derived)",
        other => other.kind(),
    }
}

/// A token that nobody was given: what a forger or a very old client would bring.
fn unknown_token(worker: &str, key: u128, token: u128) -> TokenFacts {
    TokenFacts {
        token: TokenId(token),
        session: TokenId(token),
        worker: worker_id(worker),
        key: KeyId(key),
        issued: 0,
        expires_at: Timestamp::MAX,
    }
}
