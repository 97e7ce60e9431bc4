//! Webhooks: created, changed, removed; and how their deliveries ended.

use super::Decision;
use crate::domain::event::Event;
use crate::domain::ids::WebhookId;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::webhook::{KINDS, URL_CHARS_MAX, WEBHOOKS_MAX, Webhook, WebhookCommand, WebhookEvent};

pub(super) fn change(roll: &Roll, command: &WebhookCommand) -> Decision {
    let event = match command.clone() {
        WebhookCommand::Create { webhook, url, kinds, sealed } => {
            check(&url, &kinds)?;
            if roll.webhooks().count() >= WEBHOOKS_MAX {
                let message = format!("at most {WEBHOOKS_MAX} webhooks; remove one first");
                return Err(Refusal::Invalid { field: "url", message });
            }
            Some(WebhookEvent::Created { webhook, url, kinds, sealed })
        }
        WebhookCommand::Update { webhook, url, kinds, enabled } => {
            let standing = known(roll, webhook)?;
            let url = url.unwrap_or_else(|| standing.url.clone());
            let kinds = kinds.unwrap_or_else(|| standing.kinds.clone());
            let enabled = enabled.unwrap_or(standing.enabled);
            check(&url, &kinds)?;
            let is_new = (&url, &kinds, enabled) != (&standing.url, &standing.kinds, standing.enabled);
            is_new.then_some(WebhookEvent::Updated { webhook, url, kinds, enabled })
        }
        WebhookCommand::Remove { webhook } => Some(WebhookEvent::Removed { webhook: known(roll, webhook)?.id }),
        WebhookCommand::Settle { webhook, delivery } => {
            // Two nodes may both have told it, and it may have been removed meanwhile.
            let open = roll.webhook(webhook).is_some_and(|standing| standing.settled < delivery.position);
            open.then_some(WebhookEvent::Settled { webhook, delivery })
        }
    };
    Ok(event.map(Event::Webhook).into_iter().collect())
}

fn known(roll: &Roll, id: WebhookId) -> Result<&Webhook, Refusal> {
    roll.webhook(id).ok_or(Refusal::WebhookUnknown(id))
}

fn check(url: &str, kinds: &[std::sync::Arc<str>]) -> Result<(), Refusal> {
    let invalid = |field, message: String| Err(Refusal::Invalid { field, message });
    if url.chars().count() > URL_CHARS_MAX {
        return invalid("url", format!("at most {URL_CHARS_MAX} characters"));
    }
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(&&***kind)) {
        return invalid("kinds", format!("`{unknown}` is none that can be told; see /docs"));
    }
    if !kinds.is_sorted_by(|one, next| one < next) || kinds.is_empty() {
        return invalid("kinds", "one or more kinds of events, each once".to_owned());
    }
    Ok(())
}
