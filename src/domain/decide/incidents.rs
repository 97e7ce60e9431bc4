//! Incidents: opened, described, worked through step by step, and closed when nothing is left open.

use std::sync::Arc;

use super::{Decision, drills, limits, plans};
use crate::domain::actor::Actor;
use crate::domain::command::{Command, Context, DescriptionChange, OpenIncident, Settling};
use crate::domain::event::{Event, IncidentOpened};
use crate::domain::ids::IncidentId;
use crate::domain::incident::{Description, Incident, Step, StepState};
use crate::domain::plan::Selector;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::tripwire::TripwireEvent;

/// The incident that the command is wished for, if that can still be worked on.
///
/// Operators alone work on incidents: a worker, or whoever holds an enrollment secret, could tick off its steps otherwise.
pub(super) fn named<'a>(roll: &'a Roll, context: &Context) -> Result<Option<&'a Incident>, Refusal> {
    let Some(id) = &context.incident else { return Ok(None) };
    if !matches!(context.author.actor, Actor::Operator(_)) {
        let message = "only what an operator commands belongs to an incident; leave it out".to_owned();
        return Err(Refusal::Invalid { field: "Portcullis-Incident", message });
    }
    open_one(roll, id).map(Some)
}

/// The incident that the events of a command carry: the one that they are about, that they were commanded for, or that they
/// follow from.
#[must_use]
pub fn carried(roll: &Roll, command: &Command, context: &Context, events: &[Event]) -> Option<IncidentId> {
    let follows = match command {
        Command::ContinuePlan { plan, .. } => roll.incident_of_plan(*plan),
        // Whoever goes on with it outside of the incident goes on with it for the incident.
        Command::SteerReadmission { plan, .. } | Command::CollectPlan { plan, .. } => {
            context.incident.as_ref().or_else(|| roll.incident_of_plan(*plan))
        }
        Command::ServeCertificate(served) => roll.incident_of_certificate(&served.node),
        Command::RecordBarrier { through, .. } => roll.incident_awaiting(*through),
        _ => context.incident.as_ref(),
    };
    let tripped = events.iter().find_map(|event| match event {
        Event::Tripwire(TripwireEvent::Tripped(tripped)) => tripped.incident(),
        _ => None,
    });
    events.iter().find_map(Event::own_incident).or(tripped).or(follows).cloned()
}

fn known<'a>(roll: &'a Roll, id: &IncidentId) -> Result<&'a Incident, Refusal> {
    roll.incident(id.as_str()).map(AsRef::as_ref).ok_or_else(|| Refusal::IncidentUnknown(id.clone()))
}

fn open_one<'a>(roll: &'a Roll, id: &IncidentId) -> Result<&'a Incident, Refusal> {
    let found = known(roll, id)?;
    if found.is_closed() { Err(Refusal::IncidentClosed(id.clone())) } else { Ok(found) }
}

/// The commands that are about an incident; of any other nothing comes.
pub(super) fn decide(roll: &Roll, command: &Command, context: &Context) -> Decision {
    match command {
        Command::OpenIncident(wish) => open(roll, wish, context.now),
        Command::UpdateIncident { incident, change } => update(roll, incident, change, context.now),
        Command::NoteIncident { incident, note: text } => note(roll, incident, text),
        Command::ReviewIncident { incident, finding } => review(roll, incident, finding),
        Command::SettleStep { incident, step, settling } => {
            settle(roll, incident, step, *settling, context.reason.as_deref())
        }
        Command::CloseIncident { incident, summary } => close(roll, incident, summary),
        _ => Ok(vec![]),
    }
}

fn open(roll: &Roll, open: &OpenIncident, now: Timestamp) -> Decision {
    let description = settled(roll, &open.description, now)?;
    limits::checklist(&open.checklist)?;
    let incident = match &open.incident {
        Some(id) if roll.incident(id.as_str()).is_some() => return Err(Refusal::IncidentExists(id.clone())),
        Some(id) => id.clone(),
        None => next_id(roll),
    };
    let copies = match &open.drill {
        Some(credentials) => drills::set_up(roll, &incident, &description, credentials)?,
        None => vec![],
    };
    let opened = Event::IncidentOpened(IncidentOpened {
        incident,
        description,
        drill: open.drill.is_some(),
        checklist: open.checklist.clone(),
    });
    Ok([opened].into_iter().chain(copies).collect())
}

/// `INC-` and the first count that is free: people may have chosen such ids too.
pub(super) fn next_id(roll: &Roll) -> IncidentId {
    let counts = roll.incident_count() + 1..;
    let mut ids = counts.map(|count| format!("INC-{count}").parse().expect("letters, a dash and digits are an id"));
    ids.find(|id: &IncidentId| roll.incident(id.as_str()).is_none()).expect("there are more numbers than incidents")
}

fn update(roll: &Roll, incident: &IncidentId, change: &DescriptionChange, now: Timestamp) -> Decision {
    let found = open_one(roll, incident)?;
    let description = settled(roll, &change.onto(&found.description), now)?;
    if found.description == description {
        return Ok(vec![]);
    }
    Ok(vec![Event::IncidentUpdated { incident: incident.clone(), description }])
}

/// The description with its scope in order, if it may be said.
fn settled(roll: &Roll, description: &Description, now: Timestamp) -> Result<Description, Refusal> {
    limits::incident(description, now)?;
    let mut description = description.clone();
    if !description.scope.is_empty() {
        let invalid = |message| Refusal::Invalid { field: "scope", message };
        let selector = Selector::new(description.scope, None, None).map_err(|error| invalid(error.to_string()))?;
        plans::is_known(roll, &selector)?;
        description.scope = selector.criteria().to_vec();
    }
    Ok(description)
}

fn note(roll: &Roll, incident: &IncidentId, note: &Arc<str>) -> Decision {
    open_one(roll, incident)?;
    limits::note("note", note)?;
    Ok(vec![Event::IncidentNoted { incident: incident.clone(), note: note.clone() }])
}

fn review(roll: &Roll, incident: &IncidentId, finding: &Arc<str>) -> Decision {
    open_one(roll, incident)?;
    limits::note("note", finding)?;
    Ok(vec![Event::IncidentReviewed { incident: incident.clone(), finding: finding.clone() }])
}

/// By hand, so with a reason: whoever reads the incident later finds no event that would say it.
fn settle(roll: &Roll, incident: &IncidentId, step: &Arc<str>, settling: Settling, reason: Option<&str>) -> Decision {
    let found = open_one(roll, incident)?;
    let unknown = || Refusal::StepUnknown { incident: incident.clone(), step: step.clone() };
    let Step { state, template, .. } = found.step(step).ok_or_else(unknown)?;
    if reason.is_none_or(|reason| reason.trim().is_empty()) {
        let message = "needed: what was done outside of Portcullis, or why it need not be done".to_owned();
        return Err(Refusal::Invalid { field: "reason", message });
    }
    let (incident, step) = (incident.clone(), template.id.clone());
    Ok(match (settling, state) {
        (Settling::Done, StepState::Filled(_) | StepState::Done(_))
        | (Settling::Waived, StepState::Waived(_))
        | (Settling::Reopened, StepState::Open) => vec![],
        (Settling::Waived, StepState::Filled(_) | StepState::Done(_)) => return Err(Refusal::StepDone(step)),
        (Settling::Done, StepState::Open | StepState::Waived(_)) => vec![Event::IncidentStepDone { incident, step }],
        (Settling::Waived, StepState::Open) => vec![Event::IncidentStepWaived { incident, step }],
        (Settling::Reopened, _) => vec![Event::IncidentStepReopened { incident, step }],
    })
}

/// What a drill was worked on goes with it.
fn close(roll: &Roll, incident: &IncidentId, summary: &Arc<str>) -> Decision {
    let found = known(roll, incident)?;
    if found.is_closed() {
        return Ok(vec![]);
    }
    limits::note("summary", summary)?;
    let steps: Vec<Arc<str>> = found.open_steps().map(|step| step.template.id.clone()).collect();
    if !steps.is_empty() {
        return Err(Refusal::StepsOpen { incident: incident.clone(), steps });
    }
    let closed = Event::IncidentClosed { incident: incident.clone(), summary: summary.clone() };
    Ok([closed].into_iter().chain(drills::clear_away(roll, found)).collect())
}
