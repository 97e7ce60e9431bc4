//! `?dry_run=true`: a command is decided like any other, in its turn and on the newest state, and the answer is what would be
//! recorded. Nothing of it is.

use axum::extract::FromRequestParts;
use axum::http::{Uri, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema};

use super::events::SubjectView;
use super::problem::Problem;
use super::query::Pairs;
use super::{App, schema};
use crate::command::{Done, mint};
use crate::domain::actor::Author;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::log::entry;

/// So many are shown, and all are counted: a page of a list, which a person and a program can both take.
const SHOWN_MAX: usize = 100;
/// What an event says of secrets. Those of a dry run are thrown away, so that this is of no use to anybody.
const LEFT_OUT: [&str; 2] = ["verifier", "sealed"];
/// Operations that send something and take no `dry_run`, with why.
const WITHOUT: [(&str, &str); 6] = [
    ("/v1/validate", "a question"),
    ("/v1/scope", "a question"),
    ("/v1/projections/{id}/verify", "compares, and changes nothing"),
    ("/v1/compromised", "answers all alike, whatever would come of it (H31)"),
    ("/oauth2/token", "the standard's way to `/v1/register`, which has one"),
    ("/oauth2/introspect", "a question"),
];

/// Whether to do it, or only to say what would come of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DryRun {
    #[default]
    No,
    Yes,
}

/// What a command would do. Nothing was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct Foreseen {
    #[schema(example = true)]
    dry_run: bool,
    /// False: the wish holds already, or what is done leaves no event.
    changed: bool,
    /// The events that would be recorded, in their order: the first 100. What others do about them later is not among them.
    would: Vec<ForeseenEvent>,
    /// How many there are in all.
    #[schema(schema_with = schema::position)]
    count: usize,
    /// The newest position of the state that it was decided on.
    #[schema(schema_with = schema::position)]
    position: u64,
}

/// An event that would be recorded. Ids and secrets that it would make are made anew when it is done.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ForeseenEvent {
    /// Of the event. `webhook.test` and `projection.rebuild` leave none, and `token.issued` none in a pool that counts tokens.
    kind: String,
    subject: SubjectView,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    incident: Option<String>,
    /// As the log would have it, but for verifiers and what is sealed.
    #[schema(schema_with = schema::any_object)]
    data: Value,
}

impl DryRun {
    /// Takes `dry_run` from the query.
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        // `%64ry_run` is the same name, and would else be the real thing.
        if !uri.query().is_some_and(|query| query.contains("dry_run") || query.contains('%')) {
            return Ok(Self::No);
        }
        match Pairs::of(uri)?.one("dry_run")?.as_deref() {
            None | Some("false") => Ok(Self::No),
            Some("true") => Ok(Self::Yes),
            Some(_) => Err(Problem::invalid("dry_run", "`true` or `false`")),
        }
    }

    pub(super) fn is_asked(self) -> bool {
        self == Self::Yes
    }
}

impl FromRequestParts<App> for DryRun {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl Foreseen {
    pub(super) fn of(done: &Done<'_>) -> Self {
        let count = done.events.len();
        let would = done.events.iter().take(SHOWN_MAX).filter_map(|recorded| as_written(recorded).ok()).collect();
        Self { dry_run: true, changed: count > 0, would, count, position: done.position }
    }

    /// The wish is for what nobody knows.
    pub(super) fn nothing(app: &App) -> Self {
        let position = app.node().snapshot().roll.next_position().saturating_sub(1);
        Self { dry_run: true, changed: false, would: Vec::new(), count: 0, position }
    }

    /// An event that is one of many, and has no place of its own in the log.
    pub(super) fn unrecorded(app: &App, author: Author, now: Timestamp, event: Event) -> Result<Self, Problem> {
        let recorded = Recorded {
            position: 0,
            recorded_at: now,
            occurred_at: now,
            author,
            command: CommandId::from_uuid(mint::id()),
            cause: None,
            incident: None,
            reason: None,
            event,
        };
        let would = vec![as_written(&recorded).map_err(Problem::internal)?];
        Ok(Self { would, count: 1, ..Self::nothing(app) })
    }

    /// What is asked of somebody else than the log.
    pub(super) fn deed(app: &App, kind: &str, subject: SubjectView, data: Value) -> Self {
        let would = vec![ForeseenEvent { kind: kind.to_owned(), subject, incident: None, data }];
        // The log stays as it is even if it is done.
        Self { would, count: 1, ..Self::nothing(app) }
    }
}

/// As its entry has it. That it can be written was found out when it was decided.
fn as_written(recorded: &Recorded) -> anyhow::Result<ForeseenEvent> {
    let mut event: ForeseenEvent = serde_json::from_slice(&entry::encode(recorded)?)?;
    leave_out(&mut event.data);
    Ok(event)
}

fn leave_out(data: &mut Value) {
    match data {
        Value::Object(fields) => {
            fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
            // What labels are called is their owner's choice.
            fields.iter_mut().filter(|(name, _)| *name != "labels").for_each(|(_, value)| leave_out(value));
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out),
        _ => {}
    }
}

/// Whether what is done there can be asked for as a dry run.
pub(super) fn has_one(route: &str) -> bool {
    !WITHOUT.iter().any(|(without, _)| *without == route)
}

/// Every operation that changes something can be asked what it would change: one that is added, too.
pub(super) fn declare(document: &mut OpenApi) {
    let changing_paths = document.paths.paths.iter_mut().filter(|(path, _)| has_one(path));
    for operation in changing_paths.flat_map(|(_, item)| changing(item)) {
        let dry_run = ParameterBuilder::new()
            .name("dry_run")
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(
                "`true`: say what would be recorded, and change nothing. It is refused for whatever the command would be \
                 refused for. An `Idempotency-Key` is checked and not used up; there is nothing to wait for.",
            ))
            .schema(Some(bool::schema()))
            .build();
        operation.parameters.get_or_insert_default().push(dry_run.into());
        answer(operation);
    }
}

fn changing(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// A dry run is answered 200, beside what the command itself may be answered with.
fn answer(operation: &mut Operation) {
    let ours = || RefOr::Ref(Ref::from_schema_name("Foreseen"));
    let answer = operation.responses.responses.entry("200".to_owned()).or_insert_with(|| {
        let content = ContentBuilder::new().schema(Some(ours())).build();
        let text = "With `dry_run=true`: what would be recorded. Nothing was changed";
        RefOr::T(ResponseBuilder::new().description(text).content("application/json", content).build())
    });
    if let RefOr::T(Response { content, .. }) = answer
        && let Some(RefOr::T(content)) = content.get_mut("application/json")
    {
        let done = content.schema.take().filter(|schema| *schema != ours());
        content.schema = Some(match done {
            Some(done) => RefOr::T(AnyOfBuilder::new().item(done).item(ours()).build().into()),
            None => ours(),
        });
    }
}

/// What is sent to the webhook, or asked of whoever keeps a projection.
pub(super) fn subject(kind: &str, id: &impl ToString) -> SubjectView {
    SubjectView { kind: kind.to_owned(), id: id.to_string() }
}

/// The body of the answer.
pub(super) fn rendered(done: &Done<'_>) -> Value {
    json!(Foreseen::of(done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::document;

    #[test]
    fn a_dry_run_is_asked_for_in_one_way() {
        let table = [
            ("", Some(DryRun::No)),
            ("reason=dry_run", Some(DryRun::No)),
            ("dry_run=false", Some(DryRun::No)),
            ("dry_run=true", Some(DryRun::Yes)),
            ("reason=x&dry_run=true&wait=everywhere", Some(DryRun::Yes)),
            ("dry%5Frun=true", Some(DryRun::Yes)),
            ("reason=x&%64%72y_run=true", Some(DryRun::Yes)),
            ("reason=100%25", Some(DryRun::No)),
            ("dry_run=", None),
            ("dry_run", None),
            ("dry_run=1", None),
            ("dry_run=TRUE", None),
            ("dry_run=true&dry_run=true", None),
        ];
        for (query, expected) in table {
            let uri: Uri = format!("/v1/pools?{query}").parse().unwrap();
            assert_eq!(DryRun::of(&uri).ok(), expected, "{query}");
        }
    }

    /// Whatever changes something takes `dry_run`; what does not is named, with why, and is there.
    #[test]
    fn every_operation_that_changes_something_takes_dry_run_and_says_how_it_is_answered() {
        let document = serde_json::to_value(document()).unwrap();
        let mut without: Vec<&str> = WITHOUT.iter().map(|(path, _)| *path).collect();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap().iter().filter(|(method, _)| *method != "get") {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let takes = parameters.iter().any(|it| it["name"] == "dry_run" && it["in"] == "query");
                assert_eq!(takes, has_one(path), "{method} {path}");
                let answered = operation["responses"]["200"].to_string().contains("#/components/schemas/Foreseen");
                assert_eq!(takes, answered, "{method} {path}");
            }
        }
        without.retain(|path| document["paths"].get(path).is_none());
        assert!(without.is_empty(), "no operations any more: {without:?}");
    }

    #[test]
    fn what_is_said_of_secrets_is_left_out_at_any_depth() {
        let labels = json!({ "verifier": "team-7" });
        let mut data = json!({ "key": "k", "verifier": "v", "next": [{ "id": "n", "sealed": "s" }], "labels": labels });
        leave_out(&mut data);
        assert_eq!(data, json!({ "key": "k", "next": [{ "id": "n" }], "labels": labels }));
    }
}
