//! A plan, as answers show it, and the items of its list.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::readmission::WavesView;
use super::{duration, time};
use crate::domain::plan::{Approval, Counts, Delivery, Item, Plan};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::schema;

/// How many are on the list. Tokens are not counted, since nothing is kept of each: they go with the keys that they were
/// made from.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct CountsView {
    #[schema(schema_with = schema::position)]
    workers: u64,
    /// API keys and static secrets.
    #[schema(schema_with = schema::position)]
    keys: u64,
    #[schema(schema_with = schema::position)]
    enrollment_secrets: u64,
    #[schema(schema_with = schema::position)]
    signing_keys: u64,
    #[schema(schema_with = schema::position)]
    tls_certificates: u64,
}

/// A plan: what a batch command would touch, or has touched.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct PlanView {
    id: String,
    #[schema(schema_with = schema::plan_kind)]
    kind: &'static str,
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    before: Option<String>,
    /// When isolations end by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    until: Option<String>,
    /// How long what is rotated stays good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, example = "1day")]
    overlap: Option<String>,
    /// How new secrets are handed over: `file`, collected by whoever applies the plan, or `fetch`, by each worker itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::delivery, required = false)]
    delivery: Option<&'static str>,
    /// How workers come back, of a plan that lets them in again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    waves: Option<WavesView>,
    /// Until when they can be collected, once it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    collected_until: Option<String>,
    /// The plan that it takes the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::made_id, required = false)]
    replaces: Option<String>,
    /// Whether an operator has to approve it who neither made nor applies it.
    approval_required: bool,
    approvals: Vec<ApprovalView>,
    /// Names the exact list. Applying asks for it.
    #[schema(schema_with = schema::digest)]
    digest: String,
    counts: CountsView,
    /// Members of the fleet that have a working key now, and would have none.
    #[schema(schema_with = schema::position)]
    left_without_key: u64,
    /// Whether its items are recorded once the plan was applied, one by one or by lists, or all of them have one record together.
    records_items: bool,
    /// `made`: nothing was done. `expired`: nothing was, and nothing will be. `applied`: all of it is in force, and being
    /// recorded item by item. `recorded`: that too is done.
    #[schema(schema_with = schema::plan_state)]
    state: &'static str,
    /// The position that it was made at.
    #[schema(schema_with = schema::position)]
    made: u64,
    #[schema(schema_with = schema::time)]
    made_at: String,
    #[schema(schema_with = schema::time)]
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    progress: Option<ProgressView>,
}

/// Who would do the same.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ApprovalView {
    #[schema(schema_with = schema::made_id)]
    operator: String,
    name: String,
    #[schema(schema_with = schema::time)]
    approved_at: String,
}

impl ApprovalView {
    fn of(roll: &Roll, approval: &Approval) -> Option<Self> {
        let operator = roll.operator_at(approval.by)?;
        Some(Self {
            operator: operator.id.to_string(),
            name: operator.name.to_string(),
            approved_at: time(approval.at),
        })
    }
}

/// How far the items of an applied plan have been recorded.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ProgressView {
    /// The position at which the plan was applied: all of it is in force from there on.
    #[schema(schema_with = schema::position)]
    applied: u64,
    #[schema(schema_with = schema::time)]
    applied_at: String,
    #[schema(schema_with = schema::position)]
    total: u64,
    #[schema(schema_with = schema::position)]
    done: u64,
    /// Items that got an event of their own. The others were changed by somebody before their turn came.
    #[schema(schema_with = schema::position)]
    recorded: u64,
}

impl CountsView {
    pub(in crate::http) fn of(counts: Counts) -> Self {
        let Counts { workers, keys, enrollment_secrets, signing_keys, tls_certificates } = counts;
        Self { workers, keys, enrollment_secrets, signing_keys, tls_certificates }
    }
}

impl PlanView {
    pub(in crate::http) fn of(roll: &Roll, plan: &Plan, now: Timestamp) -> Self {
        let progress = plan.progress.as_ref();
        Self {
            id: plan.id.to_string(),
            kind: plan.kind.name(),
            select: plan.selector.criteria().iter().map(ToString::to_string).collect(),
            since: plan.selector.since.map(time),
            before: plan.selector.before.map(time),
            until: plan.kind.until().map(time),
            overlap: plan.kind.overlap().map(duration),
            delivery: plan.kind.delivery().map(Delivery::as_str),
            waves: plan.kind.terms().map(|terms| WavesView::of(terms, plan.counts.workers)),
            collected_until: plan.collected_until().map(time),
            replaces: plan.replaces.map(|plan| plan.to_string()),
            approval_required: plan.approval,
            approvals: plan.approvals.iter().filter_map(|approval| ApprovalView::of(roll, approval)).collect(),
            digest: plan.digest.to_string(),
            counts: CountsView::of(plan.counts),
            left_without_key: plan.left_without_key,
            records_items: plan.kind.records_items(),
            state: match progress {
                Some(progress) if progress.is_complete() => "recorded",
                Some(_) => "applied",
                None if plan.expires_at <= now => "expired",
                None => "made",
            },
            made: plan.made,
            made_at: time(plan.made_at),
            expires_at: time(plan.expires_at),
            progress: progress.map(|progress| ProgressView {
                applied: progress.applied,
                applied_at: time(progress.applied_at),
                total: progress.total,
                done: progress.done,
                recorded: progress.changed,
            }),
        }
    }
}

/// One item, with what a person needs to know it by.
pub(in crate::http) fn item_view(roll: &Roll, item: Item) -> Value {
    match item {
        Item::Worker(index) => roll.worker_at(index).map_or(Value::Null, |worker| {
            json!({ "kind": "worker", "id": worker.id.as_str(), "name": worker.display_name(), "pool": worker.pool.as_str() })
        }),
        Item::Key(id) => {
            let holder = roll.key(id).and_then(|key| key.workers().first().and_then(|index| roll.worker_at(*index)));
            let worker = holder.map(|worker| worker.id.as_str());
            json!({ "kind": "key", "id": id.to_string(), "worker": worker, "pool": holder.map(|worker| worker.pool.as_str()) })
        }
        Item::EnrollmentSecret(id) => {
            let pool = roll.enrollment_secret(id).map(|secret| secret.pool.to_string());
            json!({ "kind": "enrollment_secret", "id": id.to_string(), "pool": pool })
        }
        Item::SigningKey(id) => json!({ "kind": "signing_key", "id": id.to_string() }),
        Item::TlsCertificate(fingerprint) => {
            let node = roll.certificates().find(|known| known.served.fingerprint == fingerprint);
            let node = node.map(|known| &*known.served.node);
            json!({ "kind": "tls_certificate", "id": fingerprint.to_string(), "name": node })
        }
    }
}
