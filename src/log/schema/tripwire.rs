//! Events of tripwires on disk.
//!
//! 2026-11-22: `honey_key.created`, `honey_key.removed`, `tripwire.tripped` and `tripwire.rule_set`, schema 1.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Frozen, json};
use crate::domain::event::Event;
use crate::domain::ids::{KeyId, PoolId};
use crate::domain::key::Digest;
use crate::domain::tripwire::{Actions, Answer, Rule, Tripped, TripwireEvent};
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoneyCreatedV1<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    note: Option<Text<'a>>,
    #[serde(borrow)]
    pool: Text<'a>,
    #[serde(borrow)]
    verifier: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoneyRemovedV1<'a> {
    #[serde(borrow)]
    key: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrippedV1<'a> {
    #[serde(borrow)]
    answers: Vec<AnswerV1<'a>>,
    count: u64,
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pool: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    to: Text<'a>,
    /// `honey`, `revoked` or `rotated`.
    #[serde(borrow)]
    why: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    worker: Option<Text<'a>>,
}

/// `isolated` with a worker, `not_isolated` with why, `incident_opened` or `incident_joined` with an incident.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerV1<'a> {
    #[serde(borrow)]
    answer: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    incident: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    why: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    worker: Option<Text<'a>>,
}

/// Without a pool it is the rule of all. A list has `record` alone, or `isolate` and `open_incident`, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSetV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    honey: Option<Vec<Text<'a>>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pool: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    revoked: Option<Vec<Text<'a>>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    rotated: Option<Vec<Text<'a>>>,
}

/// The data of an event, each in its only schema.
pub(super) fn write(event: &TripwireEvent) -> Result<Box<RawValue>, EntryError> {
    match event {
        TripwireEvent::HoneyKeyCreated { key, pool, verifier, note } => {
            json(&HoneyCreatedV1::new(*key, pool, verifier, note.as_deref()))
        }
        TripwireEvent::HoneyKeyRemoved { key } => json(&HoneyRemovedV1::new(*key)),
        TripwireEvent::Tripped(tripped) => json(&TrippedV1::new(tripped)?),
        TripwireEvent::RuleSet { pool, rule } => json(&RuleSetV1::new(pool.as_ref(), *rule)),
    }
}

impl<'a> HoneyCreatedV1<'a> {
    fn new(key: KeyId, pool: &'a PoolId, verifier: &Digest, note: Option<&'a str>) -> Self {
        Self {
            key: Text::of(&key),
            note: note.map(Text::borrowed),
            pool: Text::borrowed(pool.as_str()),
            verifier: Text::of(verifier),
        }
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        Ok(Event::Tripwire(TripwireEvent::HoneyKeyCreated {
            key: self.key.parse("key")?,
            pool: self.pool.parse("pool")?,
            verifier: self.verifier.parse("verifier")?,
            note: self.note.as_ref().map(Text::to_shared),
        }))
    }
}

impl HoneyRemovedV1<'_> {
    fn new(key: KeyId) -> Self {
        Self { key: Text::of(&key) }
    }

    pub(super) fn removed(&self) -> Result<Event, EntryError> {
        Ok(Event::Tripwire(TripwireEvent::HoneyKeyRemoved { key: self.key.parse("key")? }))
    }
}

impl<'a> TrippedV1<'a> {
    fn new(tripped: &'a Tripped) -> Result<Self, EntryError> {
        Ok(Self {
            answers: tripped.answers.iter().map(AnswerV1::new).collect(),
            count: written_count(tripped.count, "count")?,
            from: Text::time(tripped.from, "from")?,
            key: Text::of(&tripped.key),
            pool: tripped.pool.as_ref().map(|pool| Text::borrowed(pool.as_str())),
            source: tripped.source.as_ref().map(Text::of),
            to: Text::time(tripped.to, "to")?,
            why: Text::borrowed(tripped.why.as_str()),
            worker: tripped.worker.as_ref().map(|worker| Text::borrowed(worker.as_str())),
        })
    }

    pub(super) fn tripped(&self) -> Result<Event, EntryError> {
        Ok(Event::Tripwire(TripwireEvent::Tripped(Tripped {
            key: self.key.parse("key")?,
            why: self.why.parse("why")?,
            worker: optional(self.worker.as_ref(), |worker| worker.parse("worker"))?,
            pool: optional(self.pool.as_ref(), |pool| pool.parse("pool"))?,
            source: optional(self.source.as_ref(), |source| source.parse_address("source"))?,
            count: read_count(self.count, "count")?,
            from: self.from.parse_time("from")?,
            to: self.to.parse_time("to")?,
            answers: self.answers.iter().map(AnswerV1::read).collect::<Result<_, _>>()?,
        })))
    }
}

impl<'a> AnswerV1<'a> {
    fn new(answer: &'a Answer) -> Self {
        let plain = |answer| Self { answer: Text::borrowed(answer), incident: None, why: None, worker: None };
        match answer {
            Answer::Isolated(worker) => Self { worker: Some(Text::borrowed(worker.as_str())), ..plain("isolated") },
            Answer::NotIsolated(why) => Self { why: Some(Text::borrowed(why.as_str())), ..plain("not_isolated") },
            Answer::IncidentOpened(incident) => {
                Self { incident: Some(Text::borrowed(incident.as_str())), ..plain("incident_opened") }
            }
            Answer::IncidentJoined(incident) => {
                Self { incident: Some(Text::borrowed(incident.as_str())), ..plain("incident_joined") }
            }
        }
    }

    fn read(&self) -> Result<Answer, EntryError> {
        match (self.answer.as_str(), &self.worker, &self.why, &self.incident) {
            ("isolated", Some(worker), None, None) => Ok(Answer::Isolated(worker.parse("answers")?)),
            ("not_isolated", None, Some(why), None) => Ok(Answer::NotIsolated(why.parse("answers")?)),
            ("incident_opened", None, None, Some(id)) => Ok(Answer::IncidentOpened(id.parse("answers")?)),
            ("incident_joined", None, None, Some(id)) => Ok(Answer::IncidentJoined(id.parse("answers")?)),
            _ => Err(EntryError::Malformed { field: "answers" }),
        }
    }
}

impl<'a> RuleSetV1<'a> {
    fn new(pool: Option<&'a PoolId>, rule: Rule) -> Self {
        let words = |actions: Actions| actions.words().into_iter().map(Text::borrowed).collect();
        Self {
            honey: rule.honey.map(words),
            pool: pool.map(|pool| Text::borrowed(pool.as_str())),
            revoked: rule.revoked.map(words),
            rotated: rule.rotated.map(words),
        }
    }

    pub(super) fn set(&self) -> Result<Event, EntryError> {
        let rule = Rule {
            honey: self.honey.as_deref().map(actions).transpose()?,
            revoked: self.revoked.as_deref().map(actions).transpose()?,
            rotated: self.rotated.as_deref().map(actions).transpose()?,
        };
        Ok(Event::Tripwire(TripwireEvent::RuleSet {
            pool: optional(self.pool.as_ref(), |pool| pool.parse("pool"))?,
            rule,
        }))
    }
}

/// In the one spelling that is written.
fn actions(words: &[Text<'_>]) -> Result<Actions, EntryError> {
    let malformed = EntryError::Malformed { field: "the rule" };
    let actions = Actions::of(words.iter().map(Text::as_str)).map_err(|_| malformed.clone())?;
    let written = words.iter().map(Text::as_str).eq(actions.words());
    if written { Ok(actions) } else { Err(malformed) }
}

impl<'a> Frozen<'a> for HoneyCreatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("honey_key", self.key.as_str())
    }
}

impl<'a> Frozen<'a> for HoneyRemovedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("honey_key", self.key.as_str())
    }
}

impl<'a> Frozen<'a> for TrippedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        (if self.why.as_str() == "honey" { "honey_key" } else { "key" }, self.key.as_str())
    }
}

impl<'a> Frozen<'a> for RuleSetV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        self.pool.as_ref().map_or(("log", "tripwires"), |pool| ("pool", pool.as_str()))
    }
}
