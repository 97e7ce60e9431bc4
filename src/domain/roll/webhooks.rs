//! The webhooks of the Roll, and how far each has been told.

use std::sync::Arc;

use super::Roll;
use crate::domain::ids::WebhookId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Webhook, WebhookEvent};

impl Roll {
    #[must_use]
    pub fn webhook(&self, id: WebhookId) -> Option<&Webhook> {
        self.webhooks.get(&id).map(|webhook| &**webhook)
    }

    /// In the order in which they were made.
    pub fn webhooks(&self) -> impl ExactSizeIterator<Item = &Arc<Webhook>> {
        self.webhooks.values()
    }

    pub(super) fn change_webhook(&mut self, position: u64, at: Timestamp, change: &WebhookEvent) {
        match change {
            WebhookEvent::Created { webhook, url, kinds, sealed } => {
                let new = Webhook {
                    id: *webhook,
                    url: url.clone(),
                    kinds: kinds.clone(),
                    since: kinds.iter().map(|_| position).collect(),
                    enabled: true,
                    sealed: sealed.clone(),
                    created_at: at,
                    settled: position,
                    last: None,
                };
                self.webhooks.insert(*webhook, Arc::new(new));
            }
            WebhookEvent::Updated { webhook, url, kinds, enabled } => self.with_webhook(*webhook, |webhook| {
                // What happened while nobody was to be told is not told afterwards.
                if *enabled && !webhook.enabled {
                    webhook.settled = position;
                }
                // Nor is what happened before somebody wanted to know of it.
                let known = |kind: &Arc<str>| webhook.kinds.iter().position(|known| known == kind);
                let since = |kind: &Arc<str>| known(kind).map_or(position, |place| webhook.since[place]);
                webhook.since = kinds.iter().map(since).collect();
                (webhook.url, webhook.kinds, webhook.enabled) = (url.clone(), kinds.clone(), *enabled);
            }),
            WebhookEvent::Removed { webhook } => _ = self.webhooks.remove(webhook),
            WebhookEvent::Settled { webhook, delivery } => self.with_webhook(*webhook, |webhook| {
                webhook.settled = webhook.settled.max(delivery.position);
                webhook.last = Some(delivery.clone());
            }),
        }
    }

    fn with_webhook(&mut self, id: WebhookId, change: impl FnOnce(&mut Webhook)) {
        if let Some(webhook) = self.webhooks.get_mut(&id) {
            change(Arc::make_mut(webhook));
        }
    }
}
