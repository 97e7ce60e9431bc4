//! `/v1/enrollment-secrets`: the shared secrets of auto-enrollment.

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::body::{CommandJson, count, duration, moment_if};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::page::{Listed, PagingQuery, simple};
use super::path::{Id, MadePath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::view::{Changed, EnrollmentSecretMade, EnrollmentSecretView};
use super::wish::{Answered, Sending};
use super::workers::actions::Why;
use super::{chosen, schema};
use crate::command::mint;
use crate::credential::key::KeyKind as Prefix;
use crate::domain::command::Command;
use crate::domain::enrollment::{Limits, NamePattern};
use crate::domain::ids::{EnrollmentSecretId, IdError, PoolId};
use crate::domain::key::{Digest, OVERLAP_DEFAULT};
use crate::domain::refusal::Refusal;
use crate::log::entry::NUMBER_MAX;
use crate::projection;
use crate::projection::enrollment_secrets::EnrollmentSecretRow;

/// A new enrollment secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEnrollmentSecret {
    /// The pool that it lets workers into.
    #[schema(schema_with = schema::chosen_id)]
    pool: String,
    /// The secret, if it is to be one that you chose: 32 characters or more, not guessable.
    #[schema(schema_with = schema::enrollment_secret_or_null)]
    secret: Option<SecretString>,
    /// Sources outside of all of these are refused.
    #[schema(schema_with = schema::cidrs_or_null)]
    cidrs: Option<Vec<String>>,
    /// A regular expression that a worker's name has to match from start to end.
    #[schema(schema_with = schema::name_pattern_or_null)]
    name_pattern: Option<String>,
    /// Past so many workers, every further one waits for approval.
    #[serde(default, deserialize_with = "count")]
    #[schema(schema_with = schema::count_or_null)]
    uses_max: Option<u64>,
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    /// Whether every worker waits for approval.
    approval: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// How an enrollment secret is rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnrollmentSecretRotation {
    /// How long the old secret still works: 24h if not given, 0s for not at all, at most 90d.
    #[schema(schema_with = schema::overlap_or_null)]
    overlap: Option<String>,
    /// The new secret, if it is to be one that you chose.
    #[schema(schema_with = schema::enrollment_secret_or_null)]
    secret: Option<SecretString>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A page of enrollment secrets.
#[derive(Serialize, ToSchema)]
pub(super) struct EnrollmentSecretPage {
    items: Vec<EnrollmentSecretView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists enrollment secrets.
#[utoipa::path(
    get, path = "/v1/enrollment-secrets", tag = "enrollment secrets", params(PagingQuery),
    responses((status = 200, body = EnrollmentSecretPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Listed, Problem> {
    let view = |row: &EnrollmentSecretRow| EnrollmentSecretView::from_row(row, mint::now());
    simple(&app, query, projection::enrollment_secrets::list, view, |row| &row.id).await
}

/// Creates an enrollment secret.
#[utoipa::path(
    post, path = "/v1/enrollment-secrets", tag = "enrollment secrets", request_body = NewEnrollmentSecret,
    params(IdempotencyKey), responses((status = 201, body = EnrollmentSecretMade), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewEnrollmentSecret>,
) -> Result<Answered, Problem> {
    let pool: PoolId = value.pool.parse().map_err(|error: IdError| Problem::invalid("pool", error.to_string()))?;
    let limits = Limits {
        cidrs: cidrs(&value.cidrs.unwrap_or_default())?,
        name_pattern: value.name_pattern.as_deref().map(name_pattern).transpose()?,
        uses_max: value.uses_max.map(uses_max).transpose()?,
        expires_at: moment_if("expires_at", value.expires_at.as_deref())?,
        approval: value.approval.unwrap_or(false),
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let new = NewSecret::of(&app, value.secret.as_ref()).await?;
    let command = Command::CreateEnrollmentSecret { secret: new.id, pool, verifier: new.verifier, limits };
    new.send(sending, command).await
}

/// One enrollment secret.
#[utoipa::path(
    get, path = "/v1/enrollment-secrets/{id}", tag = "enrollment secrets", params(MadePath),
    responses((status = 200, body = EnrollmentSecretView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(secret): Id<EnrollmentSecretId>,
) -> Result<Reply<EnrollmentSecretView>, Problem> {
    let roll = &app.node().snapshot().roll;
    let secret = roll.enrollment_secret(secret).ok_or_else(no_such::<EnrollmentSecretId>)?;
    Ok(Reply(EnrollmentSecretView::of(secret, mint::now())))
}

/// Puts a new secret in a secret's place, with the same limits; the old one works for the overlap.
#[utoipa::path(
    post, path = "/v1/enrollment-secrets/{id}/rotate", tag = "enrollment secrets",
    request_body = Option<EnrollmentSecretRotation>, params(MadePath, IdempotencyKey, WaitQuery),
    responses((status = 201, body = EnrollmentSecretMade), Refusals)
)]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(secret): Id<EnrollmentSecretId>,
    CommandJson { value, asked }: CommandJson<EnrollmentSecretRotation>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let overlap = value.overlap.as_deref().map_or(Ok(OVERLAP_DEFAULT), |text| duration("overlap", text))?;
    let new = NewSecret::of(&app, value.secret.as_ref()).await?;
    let command = Command::RotateEnrollmentSecret { secret, successor: new.id, verifier: new.verifier, overlap };
    new.send(sending, command).await
}

/// Ends an enrollment secret, for ever. The workers that it let in stay.
#[utoipa::path(
    post, path = "/v1/enrollment-secrets/{id}/disable", tag = "enrollment secrets", request_body = Option<Why>,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<EnrollmentSecretView>), Refusals)
)]
pub(super) async fn disable(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(secret): Id<EnrollmentSecretId>,
    CommandJson { value, asked }: CommandJson<Why>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let now = sending.now();
    let answer = sending.send(Command::DisableEnrollmentSecret { secret }, move |roll, done| {
        let found = roll.enrollment_secret(secret);
        json!(found.map(|secret| Changed::by(done, EnrollmentSecretView::of(secret, now))))
    });
    answer.await
}

/// A secret about to be: one of ours, or one that the caller chose.
struct NewSecret {
    id: EnrollmentSecretId,
    verifier: Digest,
    /// To be shown, where it is ours.
    text: Option<SecretString>,
}

impl NewSecret {
    async fn of(app: &App, chosen: Option<&SecretString>) -> Result<Self, Problem> {
        if let Some(secret) = chosen {
            let verifier = chosen::enrollment_secret(app, secret).await?;
            return Ok(Self { id: EnrollmentSecretId::from_uuid(mint::id()), verifier, text: None });
        }
        let fresh = mint::api_key(app.node().keys(), Prefix::Enrollment);
        // Looked up by its whole value, as those are that people chose; the id in the text is the record's own.
        let verifier = chosen::enrollment_verifier(app, &fresh.text);
        Ok(Self { id: EnrollmentSecretId(fresh.id.0), verifier, text: Some(fresh.text) })
    }

    async fn send(self, sending: Sending<'_>, command: Command) -> Result<Answered, Problem> {
        let (app, id, now) = (sending.app(), self.id, sending.now());
        let sending = match &self.text {
            Some(text) => sending.secret("secret", text.expose_secret()),
            None => sending,
        };
        let answer = sending.send(command, move |roll, _| {
            json!(roll.enrollment_secret(id).map(|secret| EnrollmentSecretMade::of(roll, secret, now)))
        });
        let answer = answer.await?;
        if answer.repeated
            && let Some(secret) = refused_since(app, &answer.body["id"])
        {
            return Err(Refusal::EnrollmentFenced(secret).into());
        }
        Ok(answer.created_in("/v1/enrollment-secrets"))
    }
}

/// The secret, if a fence refuses it by now: the first answer, given again, would call it good.
fn refused_since(app: &App, id: &Value) -> Option<EnrollmentSecretId> {
    let roll = &app.node().snapshot().roll;
    let secret = id.as_str().and_then(|id| id.parse().ok()).and_then(|id| roll.enrollment_secret(id))?;
    secret.is_fenced().then_some(secret.id)
}

fn cidrs(texts: &[String]) -> Result<Arc<[IpNet]>, Problem> {
    // `trunc`: 10.1.2.3/8 means 10.0.0.0/8, and is shown as that.
    let read = |text: &String| text.parse().map(|cidr: IpNet| cidr.trunc());
    let cidrs: Result<_, _> = texts.iter().map(read).collect();
    cidrs.map_err(|_| Problem::invalid("cidrs", "each a network such as `10.0.0.0/8` or `2001:db8::/32`"))
}

fn name_pattern(text: &str) -> Result<NamePattern, Problem> {
    NamePattern::new(text).map_err(|error| Problem::invalid("name_pattern", error.to_string()))
}

/// Zero is the domain's to refuse; past this the log could not write it.
fn uses_max(count: u64) -> Result<u64, Problem> {
    if count <= NUMBER_MAX { Ok(count) } else { Err(Problem::invalid("uses_max", format!("at most {NUMBER_MAX}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_are_networks() {
        let table: [(&[&str], Option<&[&str]>); 5] = [
            (&[], Some(&[])),
            (&["10.1.2.3/8", "2001:db8::1/32"], Some(&["10.0.0.0/8", "2001:db8::/32"])),
            (&["10.0.0.0"], None),
            (&["10.0.0.0/33"], None),
            (&["10.0.0.0/8", "everywhere"], None),
        ];
        for (texts, expected) in table {
            let owned: Vec<String> = texts.iter().map(ToString::to_string).collect();
            let found = cidrs(&owned).ok().map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            let expected = expected.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(found, expected, "{texts:?}");
        }
    }

    #[test]
    fn a_count_that_the_log_cannot_write_is_refused() {
        assert_eq!(uses_max(NUMBER_MAX).ok(), Some(NUMBER_MAX));
        assert!(uses_max(NUMBER_MAX + 1).is_err());
    }
}
