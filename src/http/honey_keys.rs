//! `/v1/honey-keys`: keys that nobody is given. Whoever shows one has been where it was planted.

use axum::Json as Reply;
use axum::extract::State;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::body::{Asked, CommandJson};
use super::caller::{Caller, MayManageFleet, MayReadEvents};
use super::openapi::{IdempotencyKey, Reason, Refusals};
use super::page::{PagingQuery, remembered};
use super::path::{Id, MadePath};
use super::problem::Problem;
use super::query::Pairs;
use super::schema;
use super::view::{Changed, HoneyKeyMade, HoneyKeyView};
use super::wish::{Answered, Sending};
use crate::command::mint;
use crate::credential::key::KeyKind as Prefix;
use crate::domain::command::{Command, NewHoneyKey};
use crate::domain::ids::{IdError, KeyId, PoolId};

/// A honey key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHoney {
    /// The pool whose rule holds for it: see `/v1/tripwires`.
    #[schema(schema_with = schema::chosen_id)]
    pool: String,
    /// Where it will be planted.
    #[schema(schema_with = schema::honey_note_or_null)]
    note: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A page of honey keys.
#[derive(Serialize, ToSchema)]
pub(super) struct HoneyKeyPage {
    items: Vec<HoneyKeyView>,
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists honey keys that stand, oldest first, with how often each was shown.
#[utoipa::path(
    get, path = "/v1/honey-keys", tag = "tripwires", params(PagingQuery),
    responses((status = 200, body = HoneyKeyPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    mut query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let after: Option<KeyId> = paging.cursor_as()?;
    let snapshot = app.node().snapshot();
    let roll = &snapshot.roll;
    let keys = roll.honey_keys_after(after);
    Ok(Reply(remembered(keys, paging.limit()?, |key| json!(HoneyKeyView::of(roll, key)), |key| key.id.to_string())))
}

/// Makes a key that looks like any worker's, and that nobody has any business to show. It is refused like one that does not
/// exist; the log alone tells.
#[utoipa::path(
    post, path = "/v1/honey-keys", tag = "tripwires", request_body = NewHoney, params(IdempotencyKey),
    responses((status = 201, body = HoneyKeyMade), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewHoney>,
) -> Result<Answered, Problem> {
    let pool: PoolId = value.pool.parse().map_err(|error: IdError| Problem::invalid("pool", error.to_string()))?;
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let fresh = mint::api_key(app.node().keys(), Prefix::Worker);
    let (key, verifier) = (fresh.id, fresh.verifier);
    let command = Command::CreateHoneyKey(NewHoneyKey { key, pool, verifier, note: value.note.map(Into::into) });
    let answer = sending
        .secret("key", fresh.text.expose_secret())
        .send(command, move |roll, _| json!(roll.honey_key(key).map(|key| HoneyKeyMade::of(roll, key))));
    Ok(answer.await?.created_in("/v1/honey-keys"))
}

/// Removes a honey key: from then on showing it is noise.
#[utoipa::path(
    delete, path = "/v1/honey-keys/{id}", tag = "tripwires", params(MadePath, Reason, IdempotencyKey),
    responses((status = 200, body = Changed<HoneyKeyView>), Refusals)
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(key): Id<KeyId>,
    mut query: Pairs,
    asked: Asked,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(query.one("reason")?)?;
    query.end()?;
    let answer = sending.send(Command::RemoveHoneyKey { key }, move |roll, done| {
        json!(roll.honey_key(key).map(|key| Changed::by(done, HoneyKeyView::of(roll, key))))
    });
    answer.await
}
