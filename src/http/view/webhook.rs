//! A webhook, as answers show it. Its secret is shown once, when it is made, and never here.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::webhook::{Outcome, Webhook};
use crate::http::schema;

/// A service that is told of events.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WebhookView {
    #[schema(schema_with = schema::made_id)]
    id: String,
    url: String,
    /// The kinds of events that it is told of.
    kinds: Vec<String>,
    /// Whether it is told anything.
    enabled: bool,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// All that it wants up to and with this position was told, given up, or is from before there was a webhook.
    #[schema(schema_with = schema::position)]
    settled: u64,
    /// How the last delivery ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    last: Option<DeliveryView>,
}

/// How the delivery of one event ended.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct DeliveryView {
    /// Of the event.
    #[schema(schema_with = schema::position)]
    position: u64,
    attempts: u64,
    #[schema(schema_with = schema::webhook_outcome)]
    outcome: &'static str,
    /// With which the receiver took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    status: Option<u64>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    why: Option<String>,
}

/// A webhook just made.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WebhookMade {
    #[serde(flatten)]
    view: WebhookView,
    /// What its messages are signed with, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, pattern = "^whsec_[A-Za-z0-9+/]{43}=$")]
    secret: Option<String>,
}

impl WebhookView {
    pub(in crate::http) fn of(webhook: &Webhook) -> Self {
        let last = webhook.last.as_ref().map(|last| {
            let (outcome, status, why) = match &last.outcome {
                Outcome::Delivered { status } => ("delivered", Some(*status), None),
                Outcome::Failed { why } => ("failed", None, Some(why.to_string())),
            };
            DeliveryView { position: last.position, attempts: last.attempts, outcome, status, why }
        });
        Self {
            id: webhook.id.to_string(),
            url: webhook.url.to_string(),
            kinds: webhook.kinds.iter().map(ToString::to_string).collect(),
            enabled: webhook.enabled,
            created_at: time(webhook.created_at),
            settled: webhook.settled,
            last,
        }
    }
}

impl WebhookMade {
    /// Without the secret: that is no part of what the log keeps of an answer.
    pub(in crate::http) fn of(webhook: &Webhook) -> Self {
        Self { view: WebhookView::of(webhook), secret: None }
    }
}
