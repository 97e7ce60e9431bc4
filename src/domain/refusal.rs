//! Refusals: the domain's no, with a stable code each. What a caller reads of one is made in `http/problem.rs`.

use std::sync::Arc;

use super::admit::Denial;
use super::enrollment::PENDING_MAX;
use super::ids::{EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, WebhookId, WorkerId};
use super::key::{SECRET_SHARERS_MAX, SHARERS_MAX};
use super::operator::{OPERATOR_KEYS_MAX, Permission};
use super::tripwire::HONEY_KEYS_MAX;
use super::worker::{Standing, WORKER_KEYS_MAX};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this credential may not {}; ask an admin", .0.as_str())]
    NotPermitted(Permission),
    /// The author's own credential is not good, or no longer.
    #[error("the credential of this request is not good")]
    Denied(Denial),

    #[error("there is no pool `{0}`; create it, or choose another: `GET /v1/pools` lists them")]
    PoolUnknown(PoolId),
    #[error("pool `{0}` exists with other settings; update it, or choose another name")]
    PoolExists(PoolId),
    #[error("pool `{0}` was removed, and its name is not used again")]
    PoolRemoved(PoolId),
    #[error("pool `{pool}` still has {workers} workers or enrollment secrets; remove or disable them first")]
    PoolNotEmpty { pool: PoolId, workers: u64 },

    #[error("there is no worker `{0}`; `GET /v1/workers` finds it by name, label or pool")]
    WorkerUnknown(WorkerId),
    #[error("worker `{0}` exists, and not as described; ids are unique for ever, choose another")]
    WorkerExists(WorkerId),
    #[error("worker `{worker}` is {}", told(*.standing))]
    WorkerState { worker: WorkerId, standing: Standing },

    #[error("there is no key `{0}`; `GET /v1/workers/{{id}}/keys` lists a worker's")]
    KeyUnknown(KeyId),
    #[error("key `{0}` is revoked, and no key is ever revived; create a new one")]
    KeyRevoked(KeyId),
    #[error("key `{0}` has expired; create a new one")]
    KeyExpired(KeyId),
    #[error("key `{0}` was issued before a fence that refuses it; create a new one")]
    KeyFenced(KeyId),
    #[error(
        "key `{key}` was rotated already, and `{successor}` has taken its place: use that one. Whoever lost the answer asks \
         again with the same Idempotency-Key; where that is lost too, have `{successor}` revoked, then rotate again"
    )]
    KeyAlreadyRotated { key: KeyId, successor: KeyId },
    #[error("a key with the id `{0}` exists")]
    KeyExists(KeyId),
    #[error("key `{0}` is of another kind; rotate a static secret with a new value, and an API key without one")]
    KeyKind(KeyId),
    #[error("key `{0}` is an operator's, and cannot be given to workers; create one for the worker")]
    KeyOfOperator(KeyId),
    #[error("a worker holds at most {WORKER_KEYS_MAX} live keys, an operator {OPERATOR_KEYS_MAX}; revoke one first")]
    TooManyKeys,
    #[error(
        "a shared key serves at most {SHARERS_MAX} workers, a static secret {SECRET_SHARERS_MAX}; give others a key of their own"
    )]
    TooManySharers,
    #[error("pool `{0}` does not allow sharing; allow it, or give the worker a key of its own")]
    SharingOff(PoolId),
    #[error("a key is shared only within its own pool, `{0}`; give the worker a key of its own")]
    SharedAcrossPools(PoolId),
    #[error("this static secret is already in use; choose another, or allow sharing in the pool")]
    StaticSecretInUse,
    #[error("this static secret was revoked or has ended, and no secret is ever revived; choose another")]
    StaticSecretRevoked,

    #[error("there is no enrollment secret `{0}`; `GET /v1/enrollment-secrets` lists them")]
    EnrollmentUnknown(EnrollmentSecretId),
    #[error("this value is, or was, an enrollment secret; choose another")]
    EnrollmentSecretInUse,
    #[error("enrollment secret `{0}` is disabled or has ended; create a new one")]
    EnrollmentEnded(EnrollmentSecretId),
    #[error("enrollment secret `{0}` was issued before a fence that refuses it; create a new one")]
    EnrollmentFenced(EnrollmentSecretId),
    #[error("the source address is outside of the CIDRs of enrollment secret `{0}`")]
    EnrollmentSource(EnrollmentSecretId),
    #[error("the name does not match the pattern of enrollment secret `{0}`")]
    EnrollmentName(EnrollmentSecretId),
    #[error("enrollment secret `{0}` already has {PENDING_MAX} workers waiting; approve or reject some first")]
    EnrollmentCrowded(EnrollmentSecretId),

    #[error("the scopes asked for are not all among the pool's; ask for fewer, or have them added to the pool")]
    ScopeNotAllowed,
    #[error("there are no signing keys; the service was never started on this log")]
    NoSigningKey,

    #[error("there is no operator `{0}`; `GET /v1/operators` lists them")]
    OperatorUnknown(OperatorId),
    #[error("operator `{0}` was removed, for good; create another")]
    OperatorRemoved(OperatorId),
    #[error("this would leave no admin with a working key; make another admin first")]
    LastAdmin,

    #[error("there is no honey key `{0}`; `GET /v1/honey-keys` lists them")]
    HoneyKeyUnknown(KeyId),
    #[error("there are {HONEY_KEYS_MAX} honey keys; remove one first")]
    TooManyHoneyKeys,

    #[error("there is no plan `{0}`; `GET /v1/plans` lists them")]
    PlanUnknown(PlanId),
    #[error("this is not the digest of plan `{0}`; apply with the digest that the plan was shown with")]
    PlanDigest(PlanId),
    #[error("plan `{0}` has expired; make it again, and look at what it selects now")]
    PlanExpired(PlanId),
    #[error(
        "plan `{0}` needs the approval of an operator who neither made nor applies it: `POST /v1/plans/{0}/approve`"
    )]
    ApprovalRequired(PlanId),
    #[error("whoever made plan `{0}` cannot approve it; ask another operator")]
    ApprovalOwn(PlanId),
    #[error("plan `{0}` was not applied, so there is nothing to collect; apply it first")]
    PlanNotApplied(PlanId),
    #[error("plan `{0}` makes no secrets that could be collected; workers fetch theirs themselves")]
    PlanNotCollected(PlanId),
    #[error("only the operator who applied plan `{0}` can collect what it makes")]
    PlanOfAnother(PlanId),
    #[error("{done} items of plan `{plan}` have been dealt with; go on from there")]
    PlanProgressed { plan: PlanId, done: u64 },
    #[error("what plan `{0}` selects has changed since it was made, and nothing was done; make it again, and compare")]
    PlanChanged(PlanId),

    #[error("plan `{0}` lets nobody back in; `GET /v1/readmissions` lists those that do")]
    ReadmissionNone(PlanId),
    #[error("readmission `{0}` is over; whom it let back in is isolated by a plan of its own")]
    ReadmissionOver(PlanId),
    #[error("readmission `{0}` stands still; resume it first")]
    ReadmissionStands(PlanId),
    #[error("the next wave of readmission `{plan}` is {next}")]
    ReadmissionWave { plan: PlanId, next: u64 },
    #[error("new keys of workers that are back were not collected yet: `POST /v1/plans/{0}/collect`")]
    ReadmissionKeysWait(PlanId),

    #[error(
        "there is no incident `{0}`; `GET /v1/incidents` lists them, and the header `Portcullis-Incident` names one"
    )]
    IncidentUnknown(IncidentId),
    #[error("incident `{0}` is closed; leave the header `Portcullis-Incident` out, or open another incident")]
    IncidentClosed(IncidentId),
    #[error("incident `{0}` exists; ids are unique for ever, choose another, or leave it out to be given one")]
    IncidentExists(IncidentId),
    #[error("incident `{incident}` has no step `{step}`")]
    StepUnknown { incident: IncidentId, step: Arc<str> },
    #[error("step `{0}` is done; what was done is not waived")]
    StepDone(Arc<str>),
    #[error("these steps of incident `{incident}` are open: {}; do them, or waive each with a reason", .steps.join(", "))]
    StepsOpen { incident: IncidentId, steps: Vec<Arc<str>> },
    #[error(
        "incident `{0}` is a drill, and this would touch what is not in its pool; nothing was done. For what is real leave \
         the header `Portcullis-Incident` out"
    )]
    OutsideDrill(IncidentId),
    #[error("there is no webhook `{0}`; `GET /v1/webhooks` lists them")]
    WebhookUnknown(WebhookId),

    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
}

/// What it is, and what can be done about it.
fn told(standing: Standing) -> &'static str {
    match standing {
        Standing::Pending => "pending, and nothing gets it in yet; approve or reject it",
        Standing::Active => "active, and waits for approval no longer; isolate or remove it",
        Standing::Isolated => "isolated, and waits for approval no longer; remove it if it has to go",
        Standing::Rejected => "rejected, for good; create another",
        Standing::Removed => "removed, for good; create another",
        Standing::Expired => "expired; give it a later `expires_at`",
    }
}

impl Refusal {
    /// The stable reason code (promise 11). It is API: it never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotPermitted(_) => "not_permitted",
            Refusal::Denied(denial) => denial.code(),
            Refusal::PoolUnknown(_) => "pool_unknown",
            Refusal::PoolExists(_) => "pool_exists",
            Refusal::PoolRemoved(_) => "pool_removed",
            Refusal::PoolNotEmpty { .. } => "pool_not_empty",
            Refusal::WorkerUnknown(_) => "worker_unknown",
            Refusal::WorkerExists(_) => "worker_exists",
            Refusal::WorkerState { standing, .. } => match standing {
                Standing::Pending => "worker_pending",
                Standing::Active => "worker_active",
                Standing::Isolated => "worker_isolated",
                Standing::Rejected => "worker_rejected",
                Standing::Removed => "worker_removed",
                Standing::Expired => "worker_expired",
            },
            Refusal::KeyUnknown(_) => "key_unknown",
            Refusal::KeyRevoked(_) => "key_revoked",
            Refusal::KeyExpired(_) => "key_expired",
            Refusal::KeyFenced(_) => "key_fenced",
            Refusal::KeyAlreadyRotated { .. } => "key_already_rotated",
            Refusal::KeyExists(_) => "key_exists",
            Refusal::KeyKind(_) => "key_kind",
            Refusal::KeyOfOperator(_) => "key_of_operator",
            Refusal::TooManyKeys => "too_many_keys",
            Refusal::TooManySharers => "too_many_sharers",
            Refusal::SharingOff(_) => "sharing_off",
            Refusal::SharedAcrossPools(_) => "shared_across_pools",
            Refusal::StaticSecretInUse => "static_secret_in_use",
            Refusal::StaticSecretRevoked => "static_secret_revoked",
            Refusal::EnrollmentUnknown(_) => "enrollment_secret_unknown",
            Refusal::EnrollmentSecretInUse => "enrollment_secret_in_use",
            Refusal::EnrollmentEnded(_) => "enrollment_secret_ended",
            Refusal::EnrollmentFenced(_) => "enrollment_secret_fenced",
            Refusal::EnrollmentSource(_) => "enrollment_source",
            Refusal::EnrollmentName(_) => "enrollment_name",
            Refusal::EnrollmentCrowded(_) => "enrollment_crowded",
            Refusal::ScopeNotAllowed => "scope_not_allowed",
            Refusal::NoSigningKey => "no_signing_key",
            Refusal::OperatorUnknown(_) => "operator_unknown",
            Refusal::OperatorRemoved(_) => "operator_removed",
            Refusal::LastAdmin => "last_admin",
            Refusal::HoneyKeyUnknown(_) => "honey_key_unknown",
            Refusal::TooManyHoneyKeys => "too_many_honey_keys",
            Refusal::PlanUnknown(_) => "plan_unknown",
            Refusal::PlanDigest(_) => "plan_digest",
            Refusal::PlanExpired(_) => "plan_expired",
            Refusal::PlanChanged(_) => "plan_changed",
            Refusal::ApprovalRequired(_) => "approval_required",
            Refusal::ApprovalOwn(_) => "approval_own",
            Refusal::PlanNotApplied(_) => "plan_not_applied",
            Refusal::PlanNotCollected(_) => "plan_not_collected",
            Refusal::PlanOfAnother(_) => "plan_of_another",
            Refusal::PlanProgressed { .. } => "plan_progressed",
            Refusal::ReadmissionNone(_) => "readmission_none",
            Refusal::ReadmissionOver(_) => "readmission_over",
            Refusal::ReadmissionStands(_) => "readmission_stands",
            Refusal::ReadmissionWave { .. } => "readmission_wave",
            Refusal::ReadmissionKeysWait(_) => "readmission_keys_wait",
            Refusal::IncidentUnknown(_) => "incident_unknown",
            Refusal::IncidentClosed(_) => "incident_closed",
            Refusal::IncidentExists(_) => "incident_exists",
            Refusal::StepUnknown { .. } => "step_unknown",
            Refusal::StepDone(_) => "step_done",
            Refusal::StepsOpen { .. } => "steps_open",
            Refusal::OutsideDrill(_) => "outside_drill",
            Refusal::WebhookUnknown(_) => "webhook_unknown",
            Refusal::Invalid { .. } => "invalid",
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Refusal::Denied(denial)
    }
}
