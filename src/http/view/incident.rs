//! An incident, as answers show it, with its checklist.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::incident::{Incident, Step};
use crate::domain::roll::Roll;
use crate::http::schema;

/// A case with a checklist that fills itself from the events that carry it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct IncidentView {
    #[schema(schema_with = schema::chosen_id)]
    id: String,
    #[schema(schema_with = schema::incident_title)]
    title: String,
    #[schema(schema_with = schema::severity)]
    severity: &'static str,
    #[schema(schema_with = schema::incident_scope)]
    scope: Vec<String>,
    #[schema(schema_with = schema::people)]
    people: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    first_sign: Option<String>,
    /// An exercise: what is done for it may touch nothing but its own pool.
    drill: bool,
    /// The pool of a drill's copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::chosen_id, required = false)]
    pool: Option<String>,
    #[schema(schema_with = schema::incident_state)]
    state: &'static str,
    /// The position that it was opened at.
    #[schema(schema_with = schema::position)]
    opened: u64,
    #[schema(schema_with = schema::time)]
    opened_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position, required = false)]
    closed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::note, required = false)]
    summary: Option<String>,
    /// How many events carry it: `GET /v1/events?incident=` lists them.
    #[schema(schema_with = schema::position)]
    events: u64,
    #[schema(schema_with = schema::position)]
    notes: u64,
    /// Whether all access that was taken away for it is gone on every node.
    in_force: bool,
    checklist: Vec<StepView>,
}

/// A step of a checklist.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct StepView {
    #[schema(schema_with = schema::step_id)]
    id: String,
    #[schema(schema_with = schema::incident_title)]
    title: String,
    /// `filled`: its events are there. `done` and `waived`: somebody said so, and why.
    #[schema(schema_with = schema::step_state)]
    state: &'static str,
    /// Groups of kinds of event: there has to be one of each. None: by hand.
    filled_by: Vec<Vec<String>>,
    /// Of each group, the position of its first event.
    seen: Vec<Option<u64>>,
    /// The position that it was settled at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position, required = false)]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::reason, required = false)]
    reason: Option<String>,
}

impl IncidentView {
    pub(in crate::http) fn of(roll: &Roll, incident: &Incident) -> Self {
        let description = &incident.description;
        let closed = incident.closed.as_ref();
        Self {
            id: incident.id.to_string(),
            title: description.title.to_string(),
            severity: description.severity.as_str(),
            scope: description.scope.iter().map(ToString::to_string).collect(),
            people: description.people.iter().map(ToString::to_string).collect(),
            first_sign: description.first_sign.map(time),
            drill: incident.drill,
            pool: incident.drill_pool().map(|pool| pool.to_string()),
            state: if incident.is_closed() { "closed" } else { "open" },
            opened: incident.opened,
            opened_at: time(incident.opened_at),
            closed: closed.map(|closing| closing.position),
            closed_at: closed.map(|closing| time(closing.at)),
            summary: closed.map(|closing| closing.summary.to_string()),
            events: incident.events,
            notes: incident.notes,
            in_force: incident.reduced <= roll.in_force(),
            checklist: incident.checklist.iter().map(StepView::of).collect(),
        }
    }
}

impl StepView {
    fn of(step: &Step) -> Self {
        let mark = step.state.mark();
        let texts = |group: &Vec<_>| group.iter().map(|kind: &std::sync::Arc<str>| kind.to_string()).collect();
        Self {
            id: step.template.id.to_string(),
            title: step.template.title.to_string(),
            state: step.state.name(),
            filled_by: step.template.needs.iter().map(texts).collect(),
            seen: step.seen.clone(),
            position: mark.map(|mark| mark.position),
            at: mark.map(|mark| time(mark.at)),
            reason: mark.and_then(|mark| mark.reason.as_deref()).map(str::to_owned),
        }
    }
}
