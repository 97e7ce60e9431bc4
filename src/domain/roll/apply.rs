//! Taking events into the Roll, one after the other: what is done for each of them, beside what its kind does.

use super::Roll;
use super::evolve::Origin;
use crate::domain::actor::{Actor, CredentialUsed};
use crate::domain::event::{Event, Recorded};

/// How many events before a key is made its place is asked of memory: it has come then.
const AHEAD_EVENTS: usize = 4;

impl Roll {
    /// Folds in the next events, in their order.
    pub fn apply_all(&mut self, events: &[Recorded]) {
        for (place, recorded) in events.iter().enumerate() {
            if let Some(Event::KeyCreated(coming)) = events.get(place + AHEAD_EVENTS).map(|coming| &coming.event) {
                self.keys.prefetch_index(coming.key);
            }
            self.apply(recorded);
        }
    }

    /// Folds in the next event.
    pub fn apply(&mut self, recorded: &Recorded) {
        self.next_position = recorded.position + 1;
        self.recorded_at = recorded.recorded_at;
        self.forget_ended_cuts(recorded.recorded_at);
        self.forget_plans(recorded.recorded_at);
        if recorded.event.reduces_access() {
            self.reduced = recorded.position;
        }
        let by = match &recorded.author.actor {
            Actor::Operator(id) => self.operator(*id).map(|operator| operator.index),
            Actor::Worker(_) | Actor::Enrollee(_) | Actor::System => None,
        };
        let key = match recorded.author.credential {
            Some(CredentialUsed::Key(key)) => Some(key),
            Some(CredentialUsed::Token { .. } | CredentialUsed::EnrollmentSecret(_)) | None => None,
        };
        let (at, asked_at) = (recorded.recorded_at, recorded.occurred_at);
        self.evolve(Origin { position: recorded.position, at, asked_at, by, key }, &recorded.event);
        if let Event::PlanApplied { plan, .. } = recorded.event {
            self.want_certificates(plan, recorded.position, recorded.incident.as_ref());
        }
        self.note_source(recorded);
        self.evolve_incident(recorded);
        if let Some(incident) = &recorded.incident {
            self.carry(incident, recorded);
        }
    }

    /// Where a worker is, as its own doings tell.
    fn note_source(&mut self, recorded: &Recorded) {
        let Some(source) = recorded.author.source.map(|address| address.to_canonical()) else { return };
        let own = match (&recorded.author.actor, &recorded.event) {
            (Actor::Worker(worker), _) => worker,
            (Actor::Enrollee(_), Event::WorkerCreated(created)) => &created.worker,
            (Actor::Enrollee(_) | Actor::Operator(_) | Actor::System, _) => return,
        };
        // Most come from where they came from before, and a row that is not changed is not copied.
        if self.worker(own.as_str()).is_some_and(|worker| worker.seen_from != Some(source)) {
            self.with_worker(own, |worker| worker.seen_from = Some(source));
        }
    }
}
