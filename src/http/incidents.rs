//! `/v1/incidents`: cases with a checklist that fills itself, from whatever is commanded for them.

pub(super) mod passing;
pub(super) mod replay;
pub(super) mod report;

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Asked, CommandJson, given, moment, moment_if};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::page::remembered;
use super::path::{Id, IncidentPath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::schema;
use super::view::{Changed, IncidentView};
use super::wish::{Answered, Sending};
use crate::command::{Done, mint};
use crate::domain::command::{Command, DescriptionChange, OpenIncident, Settling};
use crate::domain::event::Event;
use crate::domain::ids::{IdError, IncidentId};
use crate::domain::incident::{Description, Severity, StepTemplate};
use crate::domain::plan::{Criterion, NotACriterion};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::incident::checklists::DEFAULT;

/// An incident to be opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewIncident {
    /// The number of a ticket, perhaps. Without it: `INC-` and a count.
    #[schema(schema_with = schema::chosen_id_or_null)]
    id: Option<String>,
    #[schema(schema_with = schema::incident_title)]
    title: String,
    #[schema(schema_with = schema::severity)]
    severity: String,
    /// What is known to be affected, in the form of the criteria of a plan.
    #[schema(schema_with = schema::incident_scope_or_null)]
    scope: Option<Vec<String>>,
    #[schema(schema_with = schema::people_or_null)]
    people: Option<Vec<String>>,
    /// When it began, as far as is known.
    #[schema(schema_with = schema::time_or_null)]
    first_sign: Option<String>,
    /// An exercise on copies of what is in the scope, in a pool of its own.
    drill: Option<bool>,
    /// The template of its checklist: `default` unless named.
    #[schema(schema_with = schema::template_or_null)]
    template: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What is said otherwise of an incident. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentChange {
    #[schema(schema_with = schema::incident_title_or_null)]
    title: Option<String>,
    #[schema(schema_with = schema::severity_or_null)]
    severity: Option<String>,
    #[schema(schema_with = schema::incident_scope_or_null)]
    scope: Option<Vec<String>>,
    #[schema(schema_with = schema::people_or_null)]
    people: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = schema::time_or_null)]
    first_sign: Option<Option<String>>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// Something that somebody wants to be remembered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNote {
    #[schema(schema_with = schema::note)]
    note: String,
    /// Whether it says what was found by who has looked at logs or changes: that fills a step which waits for a review.
    review: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What becomes of a step by hand.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepSettled {
    #[schema(schema_with = schema::step_id)]
    step: String,
    /// `open`: it is to be done again, and what filled it before counts no more.
    #[schema(schema_with = schema::step_settling)]
    state: String,
    /// What was done outside of Portcullis, or why it need not be done.
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// The end of an incident.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentEnd {
    #[schema(schema_with = schema::note)]
    summary: String,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// Which incidents, and how many.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct IncidentQuery {
    #[param(schema_with = schema::incident_state, required = false)]
    state: Option<String>,
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::chosen_id, required = false)]
    cursor: Option<String>,
}

/// A page of incidents.
#[derive(Serialize, ToSchema)]
pub(super) struct IncidentPage {
    items: Vec<IncidentView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists incidents, in the order in which they were opened.
#[utoipa::path(
    get, path = "/v1/incidents", tag = "incidents", params(IncidentQuery),
    responses((status = 200, body = IncidentPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    mut query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let paging = query.paging()?;
    let closed = match query.one("state")?.as_deref() {
        None => None,
        Some("open") => Some(false),
        Some("closed") => Some(true),
        Some(_) => return Err(Problem::invalid("state", "`open` or `closed`")),
    };
    query.end()?;
    let after: Option<IncidentId> = paging.cursor_as()?;
    let roll = &app.node().snapshot().roll;
    let incidents = roll.incidents_after(after.as_ref());
    let incidents = incidents.filter(|incident| closed.is_none_or(|closed| closed == incident.is_closed()));
    let view = |incident: &&Arc<_>| json!(IncidentView::of(roll, incident));
    Ok(Reply(remembered(incidents, paging.limit()?, view, |incident| incident.id.to_string())))
}

/// Opens an incident. Commands that name it in `Portcullis-Incident` fill its checklist.
#[utoipa::path(
    post, path = "/v1/incidents", tag = "incidents", request_body = NewIncident, params(IdempotencyKey),
    responses((status = 201, body = Changed<IncidentView>), Refusals)
)]
pub(super) async fn open(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewIncident>,
) -> Result<Answered, Problem> {
    let invalid = |error: IdError| Problem::invalid("id", error.to_string());
    let command = OpenIncident {
        incident: value.id.as_deref().map(str::parse).transpose().map_err(invalid)?,
        description: Description {
            title: value.title.into(),
            severity: severity(&value.severity)?,
            scope: scope(value.scope.unwrap_or_default())?,
            people: people(value.people.unwrap_or_default()),
            first_sign: moment_if("first_sign", value.first_sign.as_deref())?,
        },
        checklist: checklist(&app, value.template.as_deref())?,
        drill: (value.drill == Some(true)).then(|| mint::drill_credentials(app.node().keys())),
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let answer = sending.send(Command::OpenIncident(command), opened).await?;
    Ok(answer.created_in("/v1/incidents"))
}

/// Its id was made where it was decided.
fn opened(roll: &Roll, done: &Done<'_>) -> Value {
    let id = done.events.iter().find_map(|recorded| match &recorded.event {
        Event::IncidentOpened(opened) => Some(&opened.incident),
        _ => None,
    });
    id.map_or(Value::Null, |id| view(roll, done, id))
}

fn view(roll: &Roll, done: &Done<'_>, id: &IncidentId) -> Value {
    json!(roll.incident(id.as_str()).map(|incident| Changed::by(done, IncidentView::of(roll, incident))))
}

fn severity(text: &str) -> Result<Severity, Problem> {
    text.parse().map_err(|_| Problem::invalid("severity", "one of critical, high, medium, low"))
}

fn scope(texts: Vec<String>) -> Result<Vec<Criterion>, Problem> {
    let invalid = |error: NotACriterion| Problem::invalid("scope", error.to_string());
    texts.into_iter().map(|text| text.parse().map_err(invalid)).collect()
}

fn people(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Into::into).collect()
}

fn checklist(app: &App, template: Option<&str>) -> Result<Vec<StepTemplate>, Problem> {
    let steps = app.checklists().get(template.unwrap_or(DEFAULT)).map(<[_]>::to_vec);
    steps.ok_or_else(|| {
        let names: Vec<&str> = app.checklists().names().collect();
        Problem::invalid("template", format!("one of {}", names.join(", ")))
    })
}

/// One incident.
#[utoipa::path(
    get, path = "/v1/incidents/{id}", tag = "incidents", params(IncidentPath),
    responses((status = 200, body = IncidentView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(incident): Id<IncidentId>,
) -> Result<Reply<Value>, Problem> {
    let roll = &app.node().snapshot().roll;
    let found = roll.incident(incident.as_str()).ok_or_else(no_such::<IncidentId>)?;
    Ok(Reply(json!(IncidentView::of(roll, found))))
}

/// Says otherwise what an incident is, how bad, and who works on it.
#[utoipa::path(
    patch, path = "/v1/incidents/{id}", tag = "incidents", request_body = Option<IncidentChange>,
    params(IncidentPath, IdempotencyKey), responses((status = 200, body = Changed<IncidentView>), Refusals)
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(incident): Id<IncidentId>,
    CommandJson { value, asked }: CommandJson<IncidentChange>,
) -> Result<Answered, Problem> {
    let first_sign = value.first_sign.map(|at| at.map(|at| moment("first_sign", &at)).transpose());
    let first_sign: Option<Option<Timestamp>> = first_sign.transpose()?;
    let change = DescriptionChange {
        title: value.title.map(Into::into),
        severity: value.severity.as_deref().map(severity).transpose()?,
        scope: value.scope.map(scope).transpose()?,
        people: value.people.map(people),
        first_sign,
    };
    let command = Command::UpdateIncident { incident: incident.clone(), change };
    send(&app, &caller, asked, value.reason, incident, command).await
}

/// Writes something down, for whoever reads the incident later.
#[utoipa::path(
    post, path = "/v1/incidents/{id}/notes", tag = "incidents", request_body = NewNote,
    params(IncidentPath, IdempotencyKey), responses((status = 200, body = Changed<IncidentView>), Refusals)
)]
pub(super) async fn note(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(incident): Id<IncidentId>,
    CommandJson { value, asked }: CommandJson<NewNote>,
) -> Result<Answered, Problem> {
    let (id, note) = (incident.clone(), Arc::<str>::from(value.note));
    let command = match value.review {
        Some(true) => Command::ReviewIncident { incident: id, finding: note },
        Some(false) | None => Command::NoteIncident { incident: id, note },
    };
    send(&app, &caller, asked, value.reason, incident, command).await
}

/// Settles a step by hand: done, waived, or open again. Each with a reason.
#[utoipa::path(
    post, path = "/v1/incidents/{id}/steps", tag = "incidents", request_body = StepSettled,
    params(IncidentPath, IdempotencyKey), responses((status = 200, body = Changed<IncidentView>), Refusals)
)]
pub(super) async fn settle(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(incident): Id<IncidentId>,
    CommandJson { value, asked }: CommandJson<StepSettled>,
) -> Result<Answered, Problem> {
    let settling = match value.state.as_str() {
        "done" => Settling::Done,
        "waived" => Settling::Waived,
        "open" => Settling::Reopened,
        _ => return Err(Problem::invalid("state", "one of done, waived, open")),
    };
    let command = Command::SettleStep { incident: incident.clone(), step: value.step.into(), settling };
    send(&app, &caller, asked, value.reason, incident, command).await
}

/// Closes an incident, for good. Refused while a step is open. A drill's pool goes with it.
#[utoipa::path(
    post, path = "/v1/incidents/{id}/close", tag = "incidents", request_body = IncidentEnd,
    params(IncidentPath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<IncidentView>), Refusals)
)]
pub(super) async fn close(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(incident): Id<IncidentId>,
    CommandJson { value, asked }: CommandJson<IncidentEnd>,
) -> Result<Answered, Problem> {
    let command = Command::CloseIncident { incident: incident.clone(), summary: value.summary.into() };
    send(&app, &caller, asked, value.reason, incident, command).await
}

async fn send(
    app: &App,
    caller: &Caller<MayManageFleet>,
    asked: Asked,
    reason: Option<String>,
    incident: IncidentId,
    command: Command,
) -> Result<Answered, Problem> {
    let sending = Sending::new(app, caller.author(), asked).reason(reason)?;
    sending.send(command, move |roll, done| view(roll, done, &incident)).await
}
