//! `GET /v1/events`: what happened, as the bytes that were sealed.

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::caller::{Caller, MayReadEvents};
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Pairs;
use super::schema;
use crate::domain::ids::IncidentId;
use crate::log::entry::NUMBER_MAX;
use crate::log::schema::KINDS;
use crate::log::search::{FoundEntry, Search, search};

/// Which events; all filters have to fit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `Filter`; here it is documented")]
pub(super) struct EventQuery {
    /// Where to begin: with `order=desc`, the newest position wanted.
    #[param(schema_with = schema::position, required = false)]
    from: Option<u64>,
    #[param(schema_with = schema::event_kind, required = false)]
    kind: Option<String>,
    /// What it is about: `pool`, `worker`, `key`, `enrollment_secret`, `token`, `signing_key`, `operator` or `log`, a colon,
    /// and its id.
    #[param(schema_with = schema::event_subject, required = false)]
    subject: Option<String>,
    /// Only what was done for this incident, or follows from that.
    #[param(schema_with = schema::chosen_id, required = false)]
    incident: Option<String>,
    #[param(schema_with = schema::order, required = false)]
    order: Option<String>,
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::position_cursor, required = false)]
    cursor: Option<String>,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPage {
    #[schema(value_type = Vec<EventView>)]
    items: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position_cursor, required = false)]
    next_cursor: Option<String>,
}

/// An event: its entry in the log, exactly as it was sealed. What is absent does not apply.
#[derive(Serialize, ToSchema)]
pub(super) struct EventView {
    #[schema(schema_with = schema::position)]
    position: u64,
    #[schema(schema_with = schema::event_kind)]
    kind: String,
    /// The shape of `data`.
    schema: u32,
    subject: SubjectView,
    /// When the command was made.
    #[schema(schema_with = schema::time)]
    occurred_at: String,
    /// When it was written: later at every position.
    #[schema(schema_with = schema::time)]
    recorded_at: String,
    actor: ActorView,
    /// The credential that the actor came with.
    #[schema(required = false)]
    credential: Option<CredentialView>,
    #[schema(required = false)]
    source: Option<String>,
    #[schema(required = false)]
    request_id: Option<String>,
    #[schema(schema_with = schema::made_id)]
    command_id: String,
    /// The position of the event that led to this one.
    #[schema(schema_with = schema::position, required = false)]
    cause: Option<u64>,
    #[schema(required = false)]
    incident: Option<String>,
    #[schema(required = false)]
    reason: Option<String>,
    #[schema(schema_with = schema::any_object)]
    data: Value,
}

/// What an event is about.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct SubjectView {
    pub(super) kind: String,
    pub(super) id: String,
}

/// Who did it.
#[derive(Serialize, ToSchema)]
pub(super) struct ActorView {
    /// `operator`, `worker`, `enrollee` or `system`.
    kind: String,
    #[schema(required = false)]
    id: Option<String>,
}

/// The credential that the actor came with.
#[derive(Serialize, ToSchema)]
pub(super) struct CredentialView {
    /// `key`, `token` or `enrollment_secret`.
    kind: String,
    id: String,
    /// Of a token: the key that it was made from.
    #[schema(required = false)]
    key: Option<String>,
    /// Of a token: the first of those that it was renewed from.
    #[schema(required = false)]
    session: Option<String>,
    /// Of a token: the position at which it was issued.
    #[schema(schema_with = schema::position, required = false)]
    issued: Option<u64>,
}

#[derive(Debug, PartialEq)]
struct Filter {
    from: Option<u64>,
    kind: Option<String>,
    subject: Option<(String, String)>,
    incident: Option<IncidentId>,
    newest_first: bool,
    limit: usize,
    /// The last position of the page before.
    after: Option<u64>,
}

/// Lists events by position, kind, subject and incident.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = EventPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    query: Pairs,
) -> Result<Reply<EventPage>, Problem> {
    let filter = Filter::read(query)?;
    // Up to where this node has checked the log; the answer's position says so.
    let end = app.node().snapshot().roll.next_position();
    let client = app.database().client().await?;
    let found = search(&client, app.node().keys(), &filter.search(end)).await.map_err(Problem::from)?;
    let last = found.entries.last().filter(|_| found.more);
    let next_cursor = last.map(|entry| entry.position.to_string());
    let items = found.entries.into_iter().map(json).collect::<Result<_, _>>()?;
    Ok(Reply(EventPage { items, next_cursor }))
}

impl Filter {
    fn read(mut query: Pairs) -> Result<Self, Problem> {
        let paging = query.paging()?;
        let filter = Self {
            from: query.parsed("from", "a position")?.map(position).transpose()?,
            kind: query.one("kind")?.map(kind).transpose()?,
            subject: query.one("subject")?.map(|text| subject(&text)).transpose()?,
            incident: query.parsed("incident", "the id of an incident, such as `INC-7`")?,
            newest_first: query.one("order")?.map_or(Ok(false), |text| newest_first(&text))?,
            limit: paging.limit()?,
            after: paging.cursor_as()?,
        };
        query.end()?;
        Ok(filter)
    }

    /// `end` is the first position that is not there yet.
    fn search(&self, end: u64) -> Search<'_> {
        let (from, to) = match (self.newest_first, self.after, self.from) {
            (false, Some(after), _) => (after.saturating_add(1), end),
            (false, None, from) => (from.unwrap_or(0), end),
            (true, Some(after), _) => (0, after.min(end)),
            (true, None, from) => (0, from.map_or(end, |from| from.saturating_add(1).min(end))),
        };
        Search {
            from,
            to,
            kind: self.kind.as_deref(),
            incident: self.incident.as_ref().map(IncidentId::as_str),
            subject: self.subject.as_ref().map(|(kind, id)| (kind.as_str(), id.as_str())),
            newest_first: self.newest_first,
            limit: self.limit,
        }
    }
}

fn position(at: u64) -> Result<u64, Problem> {
    if at <= NUMBER_MAX { Ok(at) } else { Err(Problem::invalid("from", format!("at most {NUMBER_MAX}"))) }
}

fn kind(text: String) -> Result<String, Problem> {
    if KINDS.iter().any(|(kind, _)| *kind == text) {
        return Ok(text);
    }
    Err(Problem::invalid("kind", "a kind of event, such as `worker.isolated`"))
}

fn subject(text: &str) -> Result<(String, String), Problem> {
    let parts = text.split_once(':').filter(|(kind, id)| !kind.is_empty() && !id.is_empty());
    // Postgres keeps no NUL in a text, so there is nothing of that name.
    let parts = parts.filter(|_| !text.contains('\0'));
    let (kind, id) = parts.ok_or_else(|| Problem::invalid("subject", "a kind and an id, such as `worker:web-1`"))?;
    Ok((kind.to_owned(), id.to_owned()))
}

fn newest_first(text: &str) -> Result<bool, Problem> {
    match text {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(Problem::invalid("order", "`asc` or `desc`")),
    }
}

fn json(found: FoundEntry) -> Result<Box<RawValue>, Problem> {
    let text = String::from_utf8(found.entry).map_err(Problem::internal)?;
    RawValue::from_string(text).map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Filter =
        Filter { from: None, kind: None, subject: None, incident: None, newest_first: false, limit: 10, after: None };

    #[test]
    fn a_page_begins_where_the_one_before_ended() {
        let table = [
            (Filter { ..ALL }, (0, 100)),
            (Filter { from: Some(7), ..ALL }, (7, 100)),
            (Filter { from: Some(7), after: Some(16), ..ALL }, (17, 100)),
            (Filter { from: Some(200), ..ALL }, (200, 100)),
            (Filter { newest_first: true, ..ALL }, (0, 100)),
            (Filter { newest_first: true, from: Some(7), ..ALL }, (0, 8)),
            (Filter { newest_first: true, from: Some(7), after: Some(3), ..ALL }, (0, 3)),
            (Filter { newest_first: true, from: Some(NUMBER_MAX), ..ALL }, (0, 100)),
        ];
        for (filter, expected) in table {
            let search = filter.search(100);
            assert_eq!((search.from, search.to), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_subject_is_a_kind_and_an_id() {
        let table = [
            ("worker:web-1", Some(("worker", "web-1"))),
            ("token:a:b", Some(("token", "a:b"))),
            ("worker", None),
            (":web-1", None),
            ("worker:", None),
            ("worker:a\0", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(kind, id)| (kind.to_owned(), id.to_owned()));
            assert_eq!(subject(text).ok(), expected, "{text:?}");
        }
    }
}
