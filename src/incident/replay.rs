//! The replay of an incident: each event that carries it, with what it changed and when that was in force everywhere.
//!
//! By folding the log from its beginning, so that every number is exact; nothing is kept of the log but the page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::effect::{self, Effect};
use crate::domain::actor::Actor;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::IncidentId;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;

/// How many events of the log are folded for one answer: what two cores do within the time that a request has.
pub const EVENTS_MAX: u64 = 2_000_000;

/// Which part of an incident is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// The position of the last event of the page before.
    pub after: Option<u64>,
    pub limit: usize,
}

/// One event of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    pub position: u64,
    pub kind: &'static str,
    pub subject: String,
    pub actor: String,
    /// The name of the operator, as it was then.
    pub name: Option<String>,
    pub reason: Option<String>,
    /// What somebody has written: a note, a finding, a summary, the step that was settled.
    pub text: Option<String>,
    pub cause: Option<u64>,
    pub incident: Option<IncidentId>,
    pub recorded_at: Timestamp,
    pub workers: Option<Effect>,
    /// Whether it took access away.
    pub reduces: bool,
    pub in_force: Option<InForce>,
}

/// Since when no node has accepted any more what an event took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InForce {
    pub position: u64,
    pub at: Timestamp,
}

/// A pass through the log, for one page.
pub struct Replay {
    roll: Roll,
    incident: IncidentId,
    page: Page,
    moments: Vec<Moment>,
    /// Of those on the page that took access away: which are not known to be in force everywhere yet.
    awaiting: BTreeMap<u64, usize>,
    more: bool,
}

/// What a pass has come to.
pub struct Replayed {
    pub roll: Roll,
    pub moments: Vec<Moment>,
    pub more: bool,
}

impl Replay {
    #[must_use]
    pub fn new(incident: IncidentId, page: Page) -> Self {
        Self { roll: Roll::default(), incident, page, moments: vec![], awaiting: BTreeMap::new(), more: false }
    }

    /// The next event of the log.
    pub fn see(&mut self, recorded: &Recorded) {
        let of_it = recorded.incident.as_ref() == Some(&self.incident);
        let on_page = of_it && self.page.after.is_none_or(|after| recorded.position > after);
        if !on_page || self.moments.len() == self.page.limit {
            self.more |= on_page;
            self.roll.apply(recorded);
        } else {
            let (workers, _) = effect::apply(&mut self.roll, recorded);
            if recorded.event.reduces_access() {
                self.awaiting.insert(recorded.position, self.moments.len());
            }
            self.moments.push(Moment::of(&self.roll, recorded, workers));
        }
        if let Event::BarrierPassed { through, .. } = recorded.event {
            self.pass(through, InForce { position: recorded.position, at: recorded.recorded_at });
        }
    }

    fn pass(&mut self, through: u64, in_force: InForce) {
        let later = self.awaiting.split_off(&(through + 1));
        for moment in std::mem::replace(&mut self.awaiting, later).into_values() {
            self.moments[moment].in_force = Some(in_force);
        }
    }

    #[must_use]
    pub fn end(self) -> Replayed {
        Replayed { roll: self.roll, moments: self.moments, more: self.more }
    }
}

impl Moment {
    pub(super) fn of(roll: &Roll, recorded: &Recorded, workers: Option<Effect>) -> Self {
        let subject = recorded.event.subject();
        let (actor, name) = match &recorded.author.actor {
            Actor::Operator(id) => (format!("operator:{id}"), roll.operator(*id).map(|found| found.name.to_string())),
            Actor::Worker(id) => (format!("worker:{id}"), None),
            Actor::Enrollee(id) => (format!("enrollee:{id}"), None),
            Actor::System => ("system".to_owned(), None),
        };
        Self {
            position: recorded.position,
            kind: recorded.event.kind(),
            subject: format!("{}:{}", subject.kind, subject.id),
            actor,
            name,
            reason: recorded.reason.as_deref().map(str::to_owned),
            text: text(&recorded.event),
            cause: recorded.cause,
            incident: recorded.incident.clone(),
            recorded_at: recorded.recorded_at,
            workers,
            reduces: recorded.event.reduces_access(),
            in_force: None,
        }
    }

    /// Who did it, as people call them.
    #[must_use]
    pub fn by(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.actor)
    }
}

fn text(event: &Event) -> Option<String> {
    match event {
        Event::IncidentOpened(opened) => Some(opened.description.title.to_string()),
        Event::IncidentUpdated { description, .. } => Some(description.title.to_string()),
        Event::IncidentNoted { note: text, .. }
        | Event::IncidentReviewed { finding: text, .. }
        | Event::IncidentClosed { summary: text, .. }
        | Event::IncidentStepDone { step: text, .. }
        | Event::IncidentStepWaived { step: text, .. }
        | Event::IncidentStepReopened { step: text, .. } => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::tests::incidents::leak;

    fn replayed(page: Page) -> Replayed {
        let mut replay = Replay::new("INC-7".parse().unwrap(), page);
        for recorded in &leak() {
            replay.see(recorded);
        }
        replay.end()
    }

    #[test]
    fn each_event_says_what_it_changed_and_when_that_was_in_force() {
        let told = replayed(Page { after: None, limit: 100 });
        assert!(!told.more);
        let line = |moment: &Moment| {
            let workers = moment.workers.map(|it| (it.fleet, it.looked_at, it.before, it.after));
            (moment.kind, workers, moment.in_force.is_some())
        };
        let lines: Vec<_> = told.moments.iter().map(line).collect();
        let one = |before, after| Some((false, 1, before, after));
        assert_eq!(
            lines,
            [
                ("incident.opened", None, false),
                ("worker.isolated", one(1, 0), true),
                ("incident.noted", None, false),
                ("plan.made", None, false),
                ("fence.raised", one(0, 0), true),
                ("plan.applied", Some((true, 3, 1, 1)), true),
                ("enrollment_secret.rotated", None, true),
                ("worker.updated", one(1, 1), false),
                ("key.revoked", one(0, 0), true),
                ("plan.progressed", None, false),
                ("barrier.passed", None, false),
                ("incident.step_waived", None, false),
                ("incident.closed", None, false),
            ]
        );
    }

    #[test]
    fn pages_say_the_same_as_the_whole() {
        let whole = replayed(Page { after: None, limit: 100 }).moments;
        let (mut paged, mut after) = (vec![], None);
        loop {
            let page = replayed(Page { after, limit: 2 });
            after = page.moments.last().map(|moment| moment.position);
            paged.extend(page.moments);
            if !page.more {
                break;
            }
        }
        assert_eq!(paged, whole);
    }
}
