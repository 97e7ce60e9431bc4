//! Tripwires: keys that nobody has any business to show, and what is done when somebody does.
//!
//! A key that was revoked, that was rotated away and whose overlap is over, or that was never given to anyone (a *honey
//! key*): whoever shows one has its secret from somewhere. Only a genuine secret trips: noise has none.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{IncidentId, KeyId, PoolId, WorkerId};
use super::key::{Digest, Key, KeyState};
use super::operator::OperatorIndex;
use super::roll::Roll;
use super::time::{Seconds, Timestamp};
use super::worker::{Worker, WorkerIndex};

/// Each is looked for by id only, but all are listed, and snapshots hold all of them.
pub const HONEY_KEYS_MAX: usize = 1_000;
/// A line that says where the key was planted.
pub const HONEY_NOTE_CHARS_MAX: usize = 200;
/// How many workers the rules of one kind may isolate within [`ISOLATIONS_WINDOW`]: whoever holds many old keys must not be
/// able to shut the fleet away with them, nor to use up what a honey key would need.
pub const ISOLATIONS_MAX: usize = 10;
pub const ISOLATIONS_WINDOW: Seconds = Seconds(10 * Seconds::MINUTE);
/// Nobody is isolated for a use that was longer ago: its worker may have come back with another key since. What is told by the
/// minute is told within two, unless so many keys trip that they queue.
pub const ACTED_ON_WITHIN: Seconds = Seconds(2 * Seconds::MINUTE);
/// Workers that one trip can name as those who may have shown a honey key: two are as ambiguous as more.
pub const PRESENTERS_MAX: usize = 2;

/// What kind of key was shown, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Why {
    Honey,
    /// By itself, by a fence, or since its holder is no longer of the fleet.
    Revoked,
    /// Its overlap is over.
    Rotated,
}

/// A key that nobody was given. To whoever finds it, it looks like any other; to whoever shows it, like none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoneyKey {
    pub id: KeyId,
    /// Whose rule holds for it.
    pub pool: PoolId,
    pub verifier: Digest,
    /// Where it was planted, in somebody's words.
    pub note: Option<Arc<str>>,
    pub created_at: Timestamp,
    pub created_by: Option<OperatorIndex>,
    pub removed: bool,
}

/// One use, as the hot path finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trip {
    pub key: KeyId,
    pub why: Why,
    /// The worker whose key it is, where that is one.
    pub worker: Option<WorkerIndex>,
}

/// Uses of one key from one address, counted; the data of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    pub key: KeyId,
    pub why: Why,
    pub worker: Option<WorkerId>,
    pub pool: Option<PoolId>,
    pub source: Option<IpAddr>,
    pub count: u64,
    pub from: Timestamp,
    pub to: Timestamp,
    /// What the rule asked for, and what came of it.
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TripwireEvent {
    /// A key that nobody is given, and that nobody has any business to show.
    HoneyKeyCreated {
        key: KeyId,
        pool: PoolId,
        verifier: Digest,
        note: Option<Arc<str>>,
    },
    HoneyKeyRemoved {
        key: KeyId,
    },
    /// Somebody has shown a key whose time is over, or a honey key. What is done about it by rule follows.
    Tripped(Tripped),
    /// The whole rule of the pool, as it is from now on; or of all that have none.
    RuleSet {
        pool: Option<PoolId>,
        rule: Rule,
    },
}

/// What a rule had done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The event that follows isolates this worker.
    Isolated(WorkerId),
    NotIsolated(Hindrance),
    /// The event that follows opens this incident.
    IncidentOpened(IncidentId),
    /// One that a tripwire of the same pool has opened is still open.
    IncidentJoined(IncidentId),
}

/// Why nobody was isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hindrance {
    /// It is no worker's key, or no worker was last seen from that address.
    Nobody,
    /// Several workers may have been it.
    Ambiguous,
    /// The worker was removed or rejected.
    Gone,
    /// The worker waits for approval, and nothing gets it in.
    Pending,
    /// It is isolated, for as long or for longer.
    Already,
    /// Rules have isolated as many as they may within the window.
    Limit,
    /// It was recorded long after the use.
    Late,
}

/// What is done when a tripwire trips, beside recording it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actions {
    /// Of the presenter: the worker whose key it is; for a honey key the one worker whose own key was last seen from the
    /// same address.
    pub isolate: bool,
    pub open_incident: bool,
}

/// The rule of one pool, or of all that have none of their own. What is `None` is the rule of all; there: to record alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    pub honey: Option<Actions>,
    pub revoked: Option<Actions>,
    pub rotated: Option<Actions>,
}

/// What was recorded of one key's trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trips {
    /// Of the last.
    pub why: Why,
    pub events: u64,
    pub uses: u64,
    /// The position of the last event.
    pub last: u64,
}

/// Whether showing this genuine key trips, `worker` being its holder where that is known. What ends by itself, or an
/// isolation, which is taken back, is no such thing: a worker that is isolated goes on asking.
#[must_use]
pub fn why(roll: &Roll, key: &Key, worker: Option<&Worker>, now: Timestamp) -> Option<Why> {
    let fenced = match worker {
        Some(worker) => roll.is_fenced(worker, key.issued) || !worker.is_member(),
        None => roll.is_fenced_for_any(key) || roll.is_of_removed_operator(key),
    };
    match key.state {
        KeyState::Revoked | KeyState::Fenced => Some(Why::Revoked),
        KeyState::Live | KeyState::Superseded { .. } if fenced => Some(Why::Revoked),
        KeyState::Superseded { until } if until <= now => Some(Why::Rotated),
        KeyState::Live | KeyState::Superseded { .. } => None,
    }
}

impl Why {
    pub const ALL: [Why; 3] = [Why::Honey, Why::Revoked, Why::Rotated];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Honey => "honey",
            Why::Revoked => "revoked",
            Why::Rotated => "rotated",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such word")]
pub struct NoSuchWord;

impl FromStr for Why {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        Self::ALL.into_iter().find(|why| why.as_str() == text).ok_or(NoSuchWord)
    }
}

impl Hindrance {
    pub const ALL: [Hindrance; 7] = [
        Hindrance::Nobody,
        Hindrance::Ambiguous,
        Hindrance::Gone,
        Hindrance::Pending,
        Hindrance::Already,
        Hindrance::Limit,
        Hindrance::Late,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Hindrance::Nobody => "nobody",
            Hindrance::Ambiguous => "ambiguous",
            Hindrance::Gone => "gone",
            Hindrance::Pending => "pending",
            Hindrance::Already => "already",
            Hindrance::Limit => "limit",
            Hindrance::Late => "late",
        }
    }
}

impl FromStr for Hindrance {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        Self::ALL.into_iter().find(|hindrance| hindrance.as_str() == text).ok_or(NoSuchWord)
    }
}

impl Actions {
    /// Recording alone, which is always done.
    pub const RECORD: Actions = Actions { isolate: false, open_incident: false };

    /// The words for it, in their order; `record` where it is nothing else.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let all = [(self.isolate, "isolate"), (self.open_incident, "open_incident")];
        let words: Vec<&'static str> = all.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        if words.is_empty() { vec!["record"] } else { words }
    }

    /// The most words that say something.
    pub const WORDS_MAX: usize = 3;

    /// Reads what [`Actions::words`] gives, in any order; `record` may stand with the others, or nothing for it.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, NoSuchWord> {
        let mut actions = Self::RECORD;
        for word in words {
            match word {
                "record" => {}
                "isolate" => actions.isolate = true,
                "open_incident" => actions.open_incident = true,
                _ => return Err(NoSuchWord),
            }
        }
        Ok(actions)
    }
}

impl Rule {
    #[must_use]
    pub fn of(&self, why: Why) -> Option<Actions> {
        match why {
            Why::Honey => self.honey,
            Why::Revoked => self.revoked,
            Why::Rotated => self.rotated,
        }
    }
}

impl Tripped {
    /// The incident that it is part of.
    #[must_use]
    pub fn incident(&self) -> Option<&IncidentId> {
        self.answers.iter().find_map(|answer| match answer {
            Answer::IncidentOpened(incident) | Answer::IncidentJoined(incident) => Some(incident),
            Answer::Isolated(_) | Answer::NotIsolated(_) => None,
        })
    }

    /// Whether it is what its incident is opened for, and so came before there was one.
    #[must_use]
    pub fn opens_incident(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer, Answer::IncidentOpened(_)))
    }

    #[must_use]
    pub fn isolates(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer, Answer::Isolated(_)))
    }
}
