//! How things of the domain look in answers: one file a resource.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::command::Done;
use crate::domain::time::{Seconds, Timestamp};

mod enrollment_secret;
mod fence;
mod incident;
mod key;
mod operator;
mod plan;
mod pool;
mod readmission;
mod signing_key;
mod source;
mod tripwire;
mod webhook;
mod worker;

pub(super) use enrollment_secret::{EnrollmentSecretMade, EnrollmentSecretView};
pub(super) use fence::{FencePlan, FenceView};
pub(super) use incident::IncidentView;
pub(super) use key::{KeyMade, KeyView, overlap_until};
pub(super) use operator::{OperatorMade, OperatorView};
pub(super) use plan::{CountsView, PlanView, item_view};
pub(super) use pool::PoolView;
pub(super) use readmission::{Adoption, ReadmissionView, WavesView};
pub(super) use signing_key::SigningKeyView;
pub(super) use source::SourceView;
pub(super) use tripwire::{HoneyKeyMade, HoneyKeyView, TripwireRuleView};
pub(super) use webhook::{WebhookMade, WebhookView};
pub(super) use worker::WorkerView;

/// RFC 3339, in UTC, to the microsecond.
pub(super) fn time(at: Timestamp) -> String {
    let at = DateTime::from_timestamp_micros(at.0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// As `15m` or `1h 30m`.
pub(super) fn duration(span: Seconds) -> String {
    humantime::format_duration(std::time::Duration::from_secs(span.0.into())).to_string()
}

/// A thing after a command that made nothing new.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed<T> {
    #[serde(flatten)]
    pub(super) view: T,
    /// False: it was so already.
    pub(super) changed: bool,
}

impl<T> Changed<T> {
    pub(super) fn by(done: &Done<'_>, view: T) -> Self {
        Self { view, changed: !done.events.is_empty() }
    }
}
