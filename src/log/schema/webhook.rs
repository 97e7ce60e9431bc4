//! Events of webhooks on disk. The sealed signing secret is base64url (RFC 4648, section 5) without padding.
//!
//! 2026-11-22: `webhook.created`, `webhook.updated`, `webhook.removed`, `webhook.delivered`, `webhook.failed`, schema 1.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::ids::WebhookId;
use crate::domain::webhook::{Delivery, Outcome, WebhookEvent};
use crate::log::entry::EntryError;
use crate::log::text::{Text, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreatedV1<'a> {
    #[serde(borrow)]
    kinds: Vec<Text<'a>>,
    #[serde(borrow)]
    sealed: Text<'a>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow)]
    webhook: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdatedV1<'a> {
    enabled: bool,
    #[serde(borrow)]
    kinds: Vec<Text<'a>>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow)]
    webhook: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovedV1<'a> {
    #[serde(borrow)]
    webhook: Text<'a>,
}

/// `position` is that of the event that was told.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveredV1<'a> {
    attempts: u64,
    position: u64,
    status: u64,
    #[serde(borrow)]
    webhook: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailedV1<'a> {
    attempts: u64,
    position: u64,
    #[serde(borrow)]
    webhook: Text<'a>,
    #[serde(borrow)]
    why: Text<'a>,
}

impl<'a> CreatedV1<'a> {
    pub(super) fn new(webhook: WebhookId, url: &'a str, kinds: &'a [Arc<str>], sealed: &[u8]) -> Self {
        Self {
            kinds: kinds.iter().map(|kind| Text::borrowed(kind)).collect(),
            sealed: Text::of(&BASE64_URL_SAFE_NO_PAD.encode(sealed)),
            url: Text::borrowed(url),
            webhook: Text::of(&webhook),
        }
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(self.sealed.as_str());
        Ok(Event::Webhook(WebhookEvent::Created {
            webhook: self.webhook.parse("webhook")?,
            url: self.url.to_shared(),
            kinds: self.kinds.iter().map(Text::to_shared).collect(),
            sealed: sealed.map_err(|_| EntryError::Malformed { field: "sealed" })?.into(),
        }))
    }
}

impl<'a> UpdatedV1<'a> {
    pub(super) fn new(webhook: WebhookId, url: &'a str, kinds: &'a [Arc<str>], enabled: bool) -> Self {
        let kinds = kinds.iter().map(|kind| Text::borrowed(kind)).collect();
        Self { enabled, kinds, url: Text::borrowed(url), webhook: Text::of(&webhook) }
    }

    pub(super) fn updated(&self) -> Result<Event, EntryError> {
        Ok(Event::Webhook(WebhookEvent::Updated {
            webhook: self.webhook.parse("webhook")?,
            url: self.url.to_shared(),
            kinds: self.kinds.iter().map(Text::to_shared).collect(),
            enabled: self.enabled,
        }))
    }
}

impl RemovedV1<'_> {
    pub(super) fn new(webhook: WebhookId) -> Self {
        Self { webhook: Text::of(&webhook) }
    }

    pub(super) fn removed(&self) -> Result<Event, EntryError> {
        Ok(Event::Webhook(WebhookEvent::Removed { webhook: self.webhook.parse("webhook")? }))
    }
}

impl DeliveredV1<'_> {
    pub(super) fn new(webhook: WebhookId, delivery: &Delivery, status: u64) -> Result<Self, EntryError> {
        Ok(Self {
            attempts: written_count(delivery.attempts, "attempts")?,
            position: written_count(delivery.position, "position")?,
            status: written_count(status, "status")?,
            webhook: Text::of(&webhook),
        })
    }

    pub(super) fn delivered(&self) -> Result<Event, EntryError> {
        let outcome = Outcome::Delivered { status: read_count(self.status, "status")? };
        settled(&self.webhook, self.position, self.attempts, outcome)
    }
}

impl<'a> FailedV1<'a> {
    pub(super) fn new(webhook: WebhookId, delivery: &Delivery, why: &'a str) -> Result<Self, EntryError> {
        Ok(Self {
            attempts: written_count(delivery.attempts, "attempts")?,
            position: written_count(delivery.position, "position")?,
            webhook: Text::of(&webhook),
            why: Text::borrowed(why),
        })
    }

    pub(super) fn failed(&self) -> Result<Event, EntryError> {
        settled(&self.webhook, self.position, self.attempts, Outcome::Failed { why: self.why.to_shared() })
    }
}

fn settled(webhook: &Text<'_>, position: u64, attempts: u64, outcome: Outcome) -> Result<Event, EntryError> {
    let (position, attempts) = (read_count(position, "position")?, read_count(attempts, "attempts")?);
    let delivery = Delivery { position, attempts, outcome };
    Ok(Event::Webhook(WebhookEvent::Settled { webhook: webhook.parse("webhook")?, delivery }))
}

macro_rules! about_its_webhook {
    ($($schema:ident),*) => {$(
        impl<'a> Frozen<'a> for $schema<'a> {
            fn subject(&self) -> (&'static str, &str) {
                ("webhook", self.webhook.as_str())
            }
        }
    )*};
}

about_its_webhook!(CreatedV1, UpdatedV1, RemovedV1, DeliveredV1, FailedV1);
