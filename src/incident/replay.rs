//! The replay of an incident: each event that carries it, with what it changed and when that was in force everywhere.
//!
//! By folding the log, so that every number is exact; nothing is kept of the log but the page, and the state at its end, from
//! which the next page goes on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::effect::{self, Effect};
use crate::domain::actor::Actor;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::IncidentId;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::log::head::Head;

/// How many events of the log are gone through for one answer. It is no longer the time of a request that bounds it: a pass
/// goes on beside them (`passes`), and each of its statements is short. Nor is it memory, of which a pass takes that of one more
/// Roll, whatever the length of the log. What is left is how long a node should be busy for one question: some ten minutes.
pub const EVENTS_MAX: u64 = 50_000_000;

/// Which part of an incident is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How many facts it holds: more than one where it is a list.
    pub facts: u64,
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

/// Where a pass can begin: a state, and where in the log it, or what was read for it, is.
pub struct Waypoint {
    pub roll: Roll,
    /// No later than the state: what the state holds already is only checked.
    pub head: Head,
}

/// A pass through the log, for one page.
pub struct Replay {
    from: Waypoint,
    incident: IncidentId,
    page: Page,
    /// Up to here all is in force on every node: what is later is not waited for.
    in_force: u64,
    moments: Vec<Moment>,
    /// Of those on the page that took access away: which are not known to be in force everywhere yet.
    awaiting: BTreeMap<u64, usize>,
    more: bool,
}

/// What a pass has come to.
pub struct Replayed {
    pub moments: Vec<Moment>,
    pub more: bool,
    /// At the end of the page: the next one is after it.
    pub end: Waypoint,
}

impl Replay {
    /// From a state that holds none of the page's events. `in_force` is what the Roll at the pass's end says of it.
    #[must_use]
    pub fn new(incident: IncidentId, page: Page, from: Waypoint, in_force: u64) -> Self {
        Self { from, incident, page, in_force, moments: vec![], awaiting: BTreeMap::new(), more: false }
    }

    /// The next events of the log, which begin there; until they are enough.
    pub fn see_all(&mut self, begins: &Head, events: &[Recorded]) -> ControlFlow<()> {
        if !self.more {
            self.from.head.clone_from(begins);
        }
        events.iter().try_for_each(|recorded| self.see(recorded))
    }

    /// The next event. Once there is one past the page the state stays where it is, and only what came into force is looked for.
    fn see(&mut self, recorded: &Recorded) -> ControlFlow<()> {
        if recorded.position < self.from.roll.next_position() {
            return ControlFlow::Continue(());
        }
        let of_it = recorded.incident.as_ref() == Some(&self.incident);
        let on_page = of_it && self.page.after.is_none_or(|after| recorded.position > after);
        self.more |= on_page && self.moments.len() == self.page.limit;
        if !self.more && on_page {
            let (workers, _) = effect::apply(&mut self.from.roll, recorded);
            if recorded.event.reduces_access() && recorded.position <= self.in_force {
                self.awaiting.insert(recorded.position, self.moments.len());
            }
            self.moments.push(Moment::of(&self.from.roll, recorded, workers));
        } else if !self.more {
            self.from.roll.apply(recorded);
        }
        if let Event::BarrierPassed { through, .. } = recorded.event {
            self.pass(through, InForce { position: recorded.position, at: recorded.recorded_at });
        }
        if self.more && self.awaiting.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn pass(&mut self, through: u64, in_force: InForce) {
        let later = self.awaiting.split_off(&(through + 1));
        for moment in std::mem::replace(&mut self.awaiting, later).into_values() {
            self.moments[moment].in_force = Some(in_force);
        }
    }

    #[must_use]
    pub fn end(self) -> Replayed {
        Replayed { moments: self.moments, more: self.more, end: self.from }
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
            facts: recorded.event.facts(),
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
    use crate::credential::root_key::RootKey;
    use crate::domain::decide::tests::incidents::leak;
    use crate::domain::ids::LogId;

    fn genesis() -> Waypoint {
        let keys = RootKey::from_bytes([7; 32]).derive();
        Waypoint { roll: Roll::default(), head: Head::genesis(&keys, LogId::from_uuid(uuid::Uuid::nil())) }
    }

    /// How many events were seen, and what came of them.
    fn replayed_from(page: Page, from: Waypoint) -> (usize, Replayed) {
        let whole = leak();
        let in_force = whole.iter().fold(Roll::default(), |mut roll, recorded| {
            roll.apply(recorded);
            roll
        });
        let mut replay = Replay::new("INC-7".parse().unwrap(), page, from, in_force.in_force());
        let head = replay.from.head.clone();
        let enough = whole.iter().position(|recorded| replay.see_all(&head, std::slice::from_ref(recorded)).is_break());
        (enough.map_or(whole.len(), |last| last + 1), replay.end())
    }

    fn replayed(page: Page) -> Replayed {
        replayed_from(page, genesis()).1
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
    fn pages_say_the_same_as_the_whole_wherever_they_go_on_from() {
        let whole = replayed(Page { after: None, limit: 100 }).moments;
        for limit in 1..5 {
            let (mut paged, mut from, mut after) = (vec![], genesis(), None);
            loop {
                let page = replayed_from(Page { after, limit }, from).1;
                assert_eq!(replayed(Page { after, limit }).moments, page.moments, "from nothing");
                after = page.moments.last().map(|moment| moment.position);
                paged.extend(page.moments);
                from = page.end;
                if !page.more {
                    break;
                }
            }
            assert_eq!(paged, whole);
        }
    }

    #[test]
    fn a_page_reads_no_further_than_it_has_to() {
        // The opening alone takes nothing away: the next event of the incident says that there is more.
        let (seen, page) = replayed_from(Page { after: None, limit: 1 }, genesis());
        let second = leak().iter().position(|recorded| recorded.event.kind() == "worker.isolated").unwrap();
        assert_eq!((seen, page.more), (second + 1, true));
        // Of the isolation it is asked when it was in force everywhere, which a later event says.
        let (seen, page) = replayed_from(Page { after: None, limit: 2 }, genesis());
        assert!(page.more && page.moments[1].in_force.is_some());
        assert!((second + 2..leak().len()).contains(&seen), "{seen}");
    }
}
