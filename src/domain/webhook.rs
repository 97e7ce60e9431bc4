//! A webhook: somebody else's service that is told of events, in their order and at least once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::WebhookId;
use super::time::Timestamp;

/// Each is one more request for every event that it wants, made by one node.
pub const WEBHOOKS_MAX: usize = 32;
/// What browsers and proxies take.
pub const URL_CHARS_MAX: usize = 2_048;
/// The kinds of events that can be told. None holds a verifier, or anything sealed.
pub const KINDS: [&str; 30] = [
    "pool.created",
    "pool.updated",
    "pool.removed",
    "worker.created",
    "worker.updated",
    "worker.approved",
    "worker.rejected",
    "worker.isolated",
    "worker.released",
    "worker.removed",
    "key.shared",
    "key.revoked",
    "enrollment_secret.disabled",
    "token.revoked",
    "operator.created",
    "operator.updated",
    "operator.removed",
    "fence.raised",
    "plan.applied",
    "incident.opened",
    "incident.closed",
    "netguard.address_added",
    "netguard.address_removed",
    "auth.failures_observed",
    "honey_key.removed",
    "log.restored",
    "plan_policy.set",
    "tls_certificate.served",
    "tripwire.rule_set",
    "tripwire.tripped",
];

/// What one is told of that says nothing else: whom a responder has cut off, one by one and by plans.
pub const KINDS_DEFAULT: [&str; 2] = ["plan.applied", "worker.isolated"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub id: WebhookId,
    pub url: Arc<str>,
    /// The kinds of events that it is told of, as they are named on disk.
    pub kinds: Arc<[Arc<str>]>,
    /// Of each of them, in their order: it is told of those after this position.
    pub since: Arc<[u64]>,
    pub enabled: bool,
    /// The signing secret, sealed under a key derived from the root key.
    pub sealed: Arc<[u8]>,
    pub created_at: Timestamp,
    /// Whatever stands at this position or before is done with: told, given up, or from before there was a webhook.
    pub settled: u64,
    /// How the last delivery ended.
    pub last: Option<Delivery>,
}

/// How the delivery of one event ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The position of the event that was to be told.
    pub position: u64,
    /// How often it was tried.
    pub attempts: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The receiver answered so, which is a success.
    Delivered { status: u64 },
    /// Why the last attempt failed: a status, or a word for what did not work. Never what the receiver said.
    Failed { why: Arc<str> },
}

/// What happened to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookEvent {
    Created {
        webhook: WebhookId,
        url: Arc<str>,
        kinds: Arc<[Arc<str>]>,
        sealed: Arc<[u8]>,
    },
    /// The whole of what can be updated, as it is from now on.
    Updated {
        webhook: WebhookId,
        url: Arc<str>,
        kinds: Arc<[Arc<str>]>,
        enabled: bool,
    },
    Removed {
        webhook: WebhookId,
    },
    /// The delivery of one event has ended, one way or the other.
    Settled {
        webhook: WebhookId,
        delivery: Delivery,
    },
}

/// What is wished of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookCommand {
    Create {
        webhook: WebhookId,
        url: Arc<str>,
        kinds: Arc<[Arc<str>]>,
        sealed: Arc<[u8]>,
    },
    /// What is `None` stays as it is.
    Update {
        webhook: WebhookId,
        url: Option<Arc<str>>,
        kinds: Option<Arc<[Arc<str>]>>,
        enabled: Option<bool>,
    },
    Remove {
        webhook: WebhookId,
    },
    /// Holds already where a later event is done with.
    Settle {
        webhook: WebhookId,
        delivery: Delivery,
    },
}

impl WebhookEvent {
    /// As it is named on disk.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            WebhookEvent::Created { .. } => "webhook.created",
            WebhookEvent::Updated { .. } => "webhook.updated",
            WebhookEvent::Removed { .. } => "webhook.removed",
            WebhookEvent::Settled { delivery: Delivery { outcome: Outcome::Delivered { .. }, .. }, .. } => {
                "webhook.delivered"
            }
            WebhookEvent::Settled { delivery: Delivery { outcome: Outcome::Failed { .. }, .. }, .. } => {
                "webhook.failed"
            }
        }
    }

    #[must_use]
    pub fn webhook(&self) -> WebhookId {
        match self {
            WebhookEvent::Created { webhook, .. }
            | WebhookEvent::Updated { webhook, .. }
            | WebhookEvent::Removed { webhook }
            | WebhookEvent::Settled { webhook, .. } => *webhook,
        }
    }
}
