//! `/v1/webhooks`: services of others that are told of events.

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{Asked, CommandJson};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::foreseen::{DryRun, Foreseen};
use super::openapi::{IdempotencyKey, Reason, Refusals};
use super::path::{Id, MadePath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::view::{Changed, WebhookMade, WebhookView, time};
use super::wish::{Answered, Sending};
use super::{App, foreseen, schema};
use crate::command::mint;
use crate::domain::command::Command;
use crate::domain::ids::WebhookId;
use crate::domain::roll::Roll;
use crate::domain::webhook::{KINDS_DEFAULT, WebhookCommand};
use crate::webhook::message::{Message, shown};
use crate::webhook::{deliver, target};

/// A new webhook.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// https://, or http:// to the loopback of every node. No user, no password; link-local addresses are not called.
    #[schema(schema_with = schema::webhook_url)]
    url: String,
    /// The kinds of events that it is told of: `worker.isolated` and `plan.applied` if not given.
    #[schema(schema_with = schema::webhook_kinds_or_null)]
    kinds: Option<Vec<String>>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What changes of a webhook; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookChange {
    #[schema(schema_with = schema::webhook_url_or_null)]
    url: Option<String>,
    #[schema(schema_with = schema::webhook_kinds_or_null)]
    kinds: Option<Vec<String>>,
    /// False: it is told nothing. What happens meanwhile is not told afterwards.
    enabled: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// All webhooks: they are few.
#[derive(Serialize, ToSchema)]
pub(super) struct Webhooks {
    items: Vec<WebhookView>,
}

/// A webhook that was removed.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookGone {
    #[schema(schema_with = schema::made_id)]
    id: String,
    changed: bool,
}

/// What became of a test.
#[derive(Serialize, ToSchema)]
pub(super) struct Tested {
    /// Whether the receiver took it.
    delivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    status: Option<u16>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    why: Option<String>,
}

/// Lists the webhooks.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", responses((status = 200, body = Webhooks), Refusals))]
pub(super) async fn list(State(app): State<App>, _caller: Caller<MayReadFleet>) -> Reply<Webhooks> {
    let snapshot = app.node().snapshot();
    Reply(Webhooks { items: snapshot.roll.webhooks().map(|webhook| WebhookView::of(webhook)).collect() })
}

/// Makes a webhook: from now on it is told of events, in messages that are signed as Standard Webhooks has it.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "webhooks", request_body = NewWebhook, params(IdempotencyKey),
    responses((status = 201, body = WebhookMade), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewWebhook>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let url = url(&value.url)?;
    let kinds = match value.kinds {
        Some(kinds) => self::kinds(kinds),
        None => KINDS_DEFAULT.map(Arc::<str>::from).into(),
    };
    let webhook = WebhookId::from_uuid(mint::id());
    let secret = mint::entropy();
    let sealed = app.node().keys().seal_webhook_secret(webhook, &*secret).into();
    let command = Command::Webhook(WebhookCommand::Create { webhook, url, kinds, sealed });
    let sending = sending.secret("secret", shown(&*secret).expose_secret());
    let answer = sending.send(command, move |roll, _| json!(roll.webhook(webhook).map(WebhookMade::of))).await?;
    Ok(answer.created_in("/v1/webhooks"))
}

/// One webhook, and how its last delivery ended.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks", params(MadePath),
    responses((status = 200, body = WebhookView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(id): Id<WebhookId>,
) -> Result<Reply<WebhookView>, Problem> {
    let snapshot = app.node().snapshot();
    Ok(Reply(WebhookView::of(snapshot.roll.webhook(id).ok_or_else(no_such::<WebhookId>)?)))
}

/// Changes a webhook. Its secret stays: for another secret, make another webhook.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", tag = "webhooks", request_body = Option<WebhookChange>,
    params(MadePath, IdempotencyKey), responses((status = 200, body = Changed<WebhookView>), Refusals)
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(webhook): Id<WebhookId>,
    CommandJson { value, asked }: CommandJson<WebhookChange>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let url = value.url.as_deref().map(self::url).transpose()?;
    let kinds = value.kinds.map(self::kinds);
    let command = Command::Webhook(WebhookCommand::Update { webhook, url, kinds, enabled: value.enabled });
    sending.send(command, move |roll, done| json!(view(roll, webhook).map(|view| Changed::by(done, view)))).await
}

/// Removes a webhook: it is told nothing any more.
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks", params(MadePath, Reason, IdempotencyKey),
    responses((status = 200, body = WebhookGone), Refusals)
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(webhook): Id<WebhookId>,
    mut query: Pairs,
    asked: Asked,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(query.one("reason")?)?;
    query.end()?;
    let command = Command::Webhook(WebhookCommand::Remove { webhook });
    sending.send(command, move |_, _| json!(WebhookGone { id: webhook.to_string(), changed: true })).await
}

/// Sends a message of the type `test` to the webhook's URL, once, and tells what became of it. Nothing is recorded.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/test", tag = "webhooks", params(MadePath),
    responses((status = 200, body = Tested), Refusals)
)]
pub(super) async fn test(
    State(app): State<App>,
    _caller: Caller<MayManageFleet>,
    Id(id): Id<WebhookId>,
    dry_run: DryRun,
) -> Result<Response, Problem> {
    let webhook = app.node().snapshot().roll.webhook(id).ok_or_else(no_such::<WebhookId>)?.clone();
    if dry_run.is_asked() {
        let (subject, data) = (foreseen::subject("webhook", &id), json!({ "url": &*webhook.url }));
        return Ok(Reply(Foreseen::deed(&app, "webhook.test", subject, data)).into_response());
    }
    let at = mint::now();
    let data = RawValue::from_string("{}".to_owned()).map_err(Problem::internal)?;
    let position = u64::try_from(at.0).unwrap_or_default();
    let message = Message::of_event(id, position, "test", &time(at), &data);
    let sent = deliver::attempt(app.node().keys(), app.sender(), &webhook, &message).await;
    let tested = match sent {
        Ok(status) => Tested { delivered: true, status: Some(status), why: None },
        Err(error) => Tested { delivered: false, status: None, why: Some(error.to_string()) },
    };
    Ok(Reply(tested).into_response())
}

fn view(roll: &Roll, id: WebhookId) -> Option<WebhookView> {
    roll.webhook(id).map(WebhookView::of)
}

fn url(text: &str) -> Result<Arc<str>, Problem> {
    let url = target::target(text).map_err(|error| Problem::invalid("url", error.to_string()))?;
    Ok(url.as_str().into())
}

/// In order, each once.
fn kinds(mut kinds: Vec<String>) -> Arc<[Arc<str>]> {
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(Arc::from).collect()
}
