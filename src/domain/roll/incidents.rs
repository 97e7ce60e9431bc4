//! The incidents of the Roll: what they are, how far their checklists have come, and which of them wait for a barrier.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::Roll;
use crate::domain::event::{Event, IncidentOpened, Recorded};
use crate::domain::ids::{IncidentId, PlanId};
use crate::domain::incident::{Closing, Incident, Mark, Step, StepState};
use crate::domain::plan::Progress;
use crate::domain::time::Timestamp;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Incidents {
    /// By the position of their opening, which is the order that they are listed in.
    opened: OrdMap<u64, Arc<Incident>>,
    ids: OrdMap<IncidentId, u64>,
    /// Plans that were applied for an incident and are not yet recorded to their ends.
    plans: OrdMap<PlanId, IncidentId>,
    /// Incidents that have taken access away, by the position up to which it is to be in force everywhere.
    awaiting: OrdMap<u64, IncidentId>,
}

/// What cannot be made from the rest.
#[derive(Serialize, Deserialize)]
pub(super) struct IncidentsStored {
    opened: Vec<Arc<Incident>>,
    plans: Vec<(PlanId, IncidentId)>,
    awaiting: Vec<(u64, IncidentId)>,
}

impl Incidents {
    pub(super) fn stored(&self) -> IncidentsStored {
        let Self { opened, ids: _, plans, awaiting } = self;
        IncidentsStored {
            opened: opened.values().cloned().collect(),
            plans: plans.iter().map(|(plan, id)| (*plan, id.clone())).collect(),
            awaiting: awaiting.iter().map(|(position, id)| (*position, id.clone())).collect(),
        }
    }
}

impl From<IncidentsStored> for Incidents {
    fn from(stored: IncidentsStored) -> Self {
        Self {
            ids: stored.opened.iter().map(|incident| (incident.id.clone(), incident.opened)).collect(),
            opened: stored.opened.into_iter().map(|incident| (incident.opened, incident)).collect(),
            plans: stored.plans.into_iter().collect(),
            awaiting: stored.awaiting.into_iter().collect(),
        }
    }
}

impl Roll {
    #[must_use]
    pub fn incident(&self, id: &str) -> Option<&Arc<Incident>> {
        self.incidents.ids.get(id).and_then(|opened| self.incidents.opened.get(opened))
    }

    #[must_use]
    pub fn incident_count(&self) -> usize {
        self.incidents.opened.len()
    }

    /// Incidents in the order in which they were opened, from the one after `cursor` on.
    pub fn incidents_after(&self, cursor: Option<&IncidentId>) -> impl Iterator<Item = &Arc<Incident>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = cursor.and_then(|id| self.incidents.ids.get(id)).copied();
        let from = after.map_or(Unbounded, Excluded);
        self.incidents.opened.range((from, Unbounded)).map(|(_, incident)| incident)
    }

    /// The incident that a plan was applied for.
    #[must_use]
    pub fn incident_of_plan(&self, plan: PlanId) -> Option<&IncidentId> {
        self.incidents.plans.get(&plan)
    }

    /// The incident that has waited longest to be in force everywhere, if a barrier up to `through` is what it waits for.
    #[must_use]
    pub fn incident_awaiting(&self, through: u64) -> Option<&IncidentId> {
        let (awaited, incident) = self.incidents.awaiting.get_min()?;
        (*awaited <= through).then_some(incident)
    }

    /// The incident's own events; all others are none of its concern.
    pub(super) fn evolve_incident(&mut self, recorded: &Recorded) {
        let (position, at) = (recorded.position, recorded.recorded_at);
        let mark = || Mark { position, at, reason: recorded.reason.clone() };
        match &recorded.event {
            Event::IncidentOpened(opened) => self.open_incident(position, at, opened),
            Event::IncidentUpdated { incident, description } => {
                self.with_incident(incident, |incident| incident.description = description.clone());
            }
            Event::IncidentNoted { incident, .. } | Event::IncidentReviewed { incident, .. } => {
                self.with_incident(incident, |incident| incident.notes += 1);
            }
            Event::IncidentStepDone { incident, step } => self.settle_step(incident, step, StepState::Done(mark())),
            Event::IncidentStepWaived { incident, step } => self.settle_step(incident, step, StepState::Waived(mark())),
            Event::IncidentStepReopened { incident, step } => self.settle_step(incident, step, StepState::Open),
            Event::IncidentClosed { incident, summary } => self.with_incident(incident, |incident| {
                incident.closed = Some(Closing { position, at, summary: summary.clone() });
            }),
            _ => {}
        }
    }

    fn open_incident(&mut self, position: u64, at: Timestamp, opened: &IncidentOpened) {
        let IncidentOpened { incident: id, description, drill, checklist } = opened;
        let incident = Incident {
            id: id.clone(),
            description: description.clone(),
            drill: *drill,
            opened: position,
            opened_at: at,
            checklist: checklist.iter().cloned().map(Step::new).collect(),
            notes: 0,
            events: 0,
            reduced: 0,
            closed: None,
        };
        self.incidents.ids.insert(id.clone(), position);
        self.incidents.opened.insert(position, Arc::new(incident));
    }

    fn with_incident(&mut self, id: &IncidentId, change: impl FnOnce(&mut Incident)) {
        let opened = self.incidents.ids.get(id).copied();
        if let Some(incident) = opened.and_then(|opened| self.incidents.opened.get_mut(&opened)) {
            change(Arc::make_mut(incident));
        }
    }

    fn settle_step(&mut self, id: &IncidentId, step: &str, state: StepState) {
        self.with_incident(id, |incident| {
            let Some(step) = incident.checklist.iter_mut().find(|found| *found.template.id == *step) else { return };
            match state {
                StepState::Open => step.reopen(),
                settled => step.state = settled,
            }
        });
    }

    /// An event that carries the incident: it may fill a step, and what comes of it carries the incident too.
    pub(super) fn carry(&mut self, id: &IncidentId, recorded: &Recorded) {
        let (position, at, event) = (recorded.position, recorded.recorded_at, &recorded.event);
        let reduces = event.reduces_access();
        self.with_incident(id, |incident| {
            incident.events += 1;
            if reduces {
                incident.reduced = position;
            }
            // What comes of it after it was closed is told by its events, and changes no checklist any more.
            if !incident.is_closed() {
                incident.checklist.iter_mut().for_each(|step| step.see(event.kind(), position, at));
            }
        });
        if reduces && !self.incidents.awaiting.values().any(|waits| waits == id) {
            self.incidents.awaiting.insert(position, id.clone());
        }
        match event {
            Event::PlanApplied { plan, .. } if !self.is_recorded(*plan) => {
                self.incidents.plans.insert(*plan, id.clone());
            }
            // Of a readmission it is asked for as long as that is kept.
            Event::PlanProgressed { plan, .. } if self.is_recorded(*plan) && !self.is_readmission(*plan) => {
                _ = self.incidents.plans.remove(plan);
            }
            _ => {}
        }
    }

    fn is_readmission(&self, plan: PlanId) -> bool {
        self.plan(plan).is_some_and(|plan| plan.kind.terms().is_some())
    }

    pub(super) fn forget_plan_of_incident(&mut self, plan: PlanId) {
        self.incidents.plans.remove(&plan);
    }

    fn is_recorded(&self, plan: PlanId) -> bool {
        self.plan(plan).and_then(|plan| plan.progress.as_ref()).is_none_or(Progress::is_complete)
    }

    /// All up to and with `through` is in force on every node. Who has taken more away since waits on, for that.
    pub(super) fn pass_barrier(&mut self, through: u64) {
        self.in_force = self.in_force.max(through);
        while let Some((awaited, id)) = self.incidents.awaiting.get_min().cloned()
            && awaited <= through
        {
            self.incidents.awaiting.remove(&awaited);
            let reduced = self.incident(id.as_str()).map_or(0, |incident| incident.reduced);
            if reduced > through {
                self.incidents.awaiting.insert(reduced, id);
            }
        }
    }
}
