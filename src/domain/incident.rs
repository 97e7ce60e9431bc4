//! Incidents: a case with a checklist that fills itself from the events that carry it.
//!
//! A step says which kinds of event fill it. Whatever is commanded for an incident names it, so that what was done and what
//! is still to be done are read from the same events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{IncidentId, PoolId};
use super::plan::Criterion;
use super::time::Timestamp;

/// One line of a report, or of a list that is read out on a call.
pub const TITLE_CHARS_MAX: usize = 200;
/// What is longer is a document, and belongs where documents are.
pub const NOTE_CHARS_MAX: usize = 4_000;
/// A title, a scope, people and a checklist stand together in one entry of the log: these limits leave room for all.
pub const PEOPLE_MAX: usize = 20;
pub const PERSON_CHARS_MAX: usize = 100;
pub const SCOPE_BYTES_MAX: usize = 8_192;
pub const STEPS_MAX: usize = 20;
pub const STEP_ID_CHARS_MAX: usize = 32;
/// How many kinds of event a step may name, over all of its groups.
pub const STEP_KINDS_MAX: usize = 16;
pub const KIND_BYTES_MAX: usize = 64;
/// How many workers of its scope a drill copies: enough for a team to work on, few enough for one batch.
pub const DRILL_WORKERS_MAX: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    Critical,
    High,
    Medium,
    Low,
}

/// A step of a checklist, as it was at opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTemplate {
    /// A short name, by which commands call it.
    pub id: Arc<str>,
    pub title: Arc<str>,
    /// Groups of kinds of event. The step is done when the incident has an event of each group; a step without groups is
    /// done by hand.
    pub needs: Vec<Vec<Arc<str>>>,
}

/// A step, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub template: StepTemplate,
    /// Of each group, the position of the first event that fills it.
    pub seen: Vec<Option<u64>>,
    pub state: StepState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepState {
    Open,
    /// Its events are there: the last of the groups was filled by the event at this position.
    Filled(Mark),
    /// Somebody has said so, and why.
    Done(Mark),
    /// Somebody has said that it need not be done, and why.
    Waived(Mark),
}

/// When a step was settled, and why, where somebody did it by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub position: u64,
    pub at: Timestamp,
    pub reason: Option<Arc<str>>,
}

/// What can be said of an incident, and said otherwise later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub title: Arc<str>,
    pub severity: Severity,
    /// What is known to be affected; in order, each once.
    pub scope: Vec<Criterion>,
    pub people: Vec<Arc<str>>,
    /// When it began, as far as is known.
    pub first_sign: Option<Timestamp>,
}

/// An incident, as the Roll keeps it. Its notes are in the log alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub description: Description,
    /// An exercise: what is done for it may touch nothing but its own pool.
    pub drill: bool,
    /// The position at which it was opened.
    pub opened: u64,
    pub opened_at: Timestamp,
    pub checklist: Vec<Step>,
    pub notes: u64,
    /// How many events carry it, its own among them.
    pub events: u64,
    /// The position of the last event that took access away for it; 0 while there is none.
    pub reduced: u64,
    pub closed: Option<Closing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub position: u64,
    pub at: Timestamp,
    pub summary: Arc<str>,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one of critical, high, medium, low")]
pub struct NotASeverity;

impl FromStr for Severity {
    type Err = NotASeverity;

    fn from_str(text: &str) -> Result<Self, NotASeverity> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text).ok_or(NotASeverity)
    }
}

impl Step {
    #[must_use]
    pub fn new(template: StepTemplate) -> Self {
        let seen = vec![None; template.needs.len()];
        Self { template, seen, state: StepState::Open }
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == StepState::Open
    }

    /// Takes notice of an event that carries the incident.
    pub fn see(&mut self, kind: &str, position: u64, at: Timestamp) {
        if !self.is_open() {
            return;
        }
        let groups = self.template.needs.iter().zip(&mut self.seen);
        for (_, seen) in groups.filter(|(group, seen)| seen.is_none() && group.iter().any(|needed| **needed == *kind)) {
            *seen = Some(position);
        }
        if !self.seen.is_empty() && self.seen.iter().all(Option::is_some) {
            self.state = StepState::Filled(Mark { position, at, reason: None });
        }
    }

    /// What was seen before counts no more: it is to be done again.
    pub fn reopen(&mut self) {
        self.seen.fill(None);
        self.state = StepState::Open;
    }
}

impl StepState {
    /// Every name that [`StepState::name`] gives.
    pub const NAMES: [&'static str; 4] = ["open", "filled", "done", "waived"];

    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            StepState::Open => "open",
            StepState::Filled(_) => "filled",
            StepState::Done(_) => "done",
            StepState::Waived(_) => "waived",
        }
    }

    /// When it was settled; `None` of an open one.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            StepState::Open => None,
            StepState::Filled(mark) | StepState::Done(mark) | StepState::Waived(mark) => Some(mark),
        }
    }
}

impl Incident {
    #[must_use]
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.checklist.iter().find(|step| *step.template.id == *id)
    }

    pub fn open_steps(&self) -> impl Iterator<Item = &Step> {
        self.checklist.iter().filter(|step| step.is_open())
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// The pool of its copies, if it is a drill.
    #[must_use]
    pub fn drill_pool(&self) -> Option<PoolId> {
        if self.drill { drill_pool(&self.id) } else { None }
    }
}

/// The pool that a drill of this name works on; `None` where the name is too long for one.
#[must_use]
pub fn drill_pool(incident: &IncidentId) -> Option<PoolId> {
    format!("drill-{incident}").parse().ok()
}

/// Why a list of steps is no checklist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecklistError {
    #[error("at most {STEPS_MAX} steps")]
    TooMany,
    #[error("the id of a step is 1 to {STEP_ID_CHARS_MAX} lower case letters, digits and `-`")]
    Id,
    #[error("two steps have the id `{0}`")]
    Twice(Arc<str>),
    #[error("the title of a step has 1 to {TITLE_CHARS_MAX} characters, none of them control characters")]
    Title,
    #[error("a step names at most {STEP_KINDS_MAX} kinds of event, and at least one in each group")]
    Kinds,
}

/// A step is called by its id, and waits for events of which somebody has written down the kinds.
pub fn check_checklist(steps: &[StepTemplate]) -> Result<(), ChecklistError> {
    if steps.len() > STEPS_MAX {
        return Err(ChecklistError::TooMany);
    }
    for (place, step) in steps.iter().enumerate() {
        let in_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=STEP_ID_CHARS_MAX).contains(&step.id.len()) || !step.id.bytes().all(in_id) {
            return Err(ChecklistError::Id);
        }
        if steps[..place].iter().any(|before| before.id == step.id) {
            return Err(ChecklistError::Twice(step.id.clone()));
        }
        if !is_prose(&step.title, TITLE_CHARS_MAX) {
            return Err(ChecklistError::Title);
        }
        let kinds: usize = step.needs.iter().map(Vec::len).sum();
        let short = step.needs.iter().flatten().all(|kind| (1..=KIND_BYTES_MAX).contains(&kind.len()));
        if kinds > STEP_KINDS_MAX || step.needs.iter().any(Vec::is_empty) || !short {
            return Err(ChecklistError::Kinds);
        }
    }
    Ok(())
}

/// Whether a text says something, is not too long, and does nothing to a terminal.
pub(super) fn is_prose(text: &str, chars_max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(needs: &[&[&str]]) -> Step {
        let needs = needs.iter().map(|group| group.iter().map(|kind| Arc::from(*kind)).collect()).collect();
        Step::new(StepTemplate { id: "rotate".into(), title: "Rotate".into(), needs })
    }

    #[test]
    fn a_step_is_done_when_each_of_its_groups_has_an_event() {
        let mut rotate = step(&[&["key.rotated", "key.revoked"], &["enrollment_secret.rotated"]]);
        for (kind, position, state) in [
            ("worker.isolated", 5, "open"),
            ("key.revoked", 6, "open"),
            ("key.rotated", 7, "open"),
            ("enrollment_secret.rotated", 8, "filled"),
            ("enrollment_secret.rotated", 9, "filled"),
        ] {
            rotate.see(kind, position, Timestamp(position.cast_signed()));
            assert_eq!(rotate.state.name(), state, "{kind}");
        }
        assert_eq!(rotate.seen, [Some(6), Some(8)]);
        assert_eq!(rotate.state.mark().map(|mark| mark.position), Some(8));
        rotate.reopen();
        rotate.see("key.rotated", 10, Timestamp(10));
        assert_eq!((rotate.state.name(), &rotate.seen[..]), ("open", &[Some(10), None][..]));
    }

    #[test]
    fn a_step_without_groups_waits_for_a_hand() {
        let mut review = step(&[]);
        review.see("key.revoked", 6, Timestamp(6));
        assert!(review.is_open());
    }
}
