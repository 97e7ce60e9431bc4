//! Commands: wishes, with everything in them that deciding needs. Ids, verifiers and times were minted before.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::actor::Author;
use super::certificate::CertificateServed;
use super::enrollment::Limits;
use super::event::{FailureCount, KeyHolder};
use super::fence::FenceScope;
use super::ids::{EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, TokenId, WorkerId};
use super::incident::{Description, Severity, StepTemplate};
use super::key::{Digest, KeyKind};
use super::netguard::NetguardCommand;
use super::operator::Role;
use super::plan::{ApprovalPolicy, Criterion, PlanKind, Selector};
use super::pool::{PoolSettings, SettingsChange};
use super::readmission::Steering;
use super::signing_key::NewSigningKey;
use super::time::{Seconds, Timestamp};
use super::token::TokenFacts;
use super::tripwire::{Rule, Why};
use super::webhook::WebhookCommand;
use super::worker::Labels;

mod name;

/// What deciding needs beside the wish and the Roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub now: Timestamp,
    pub author: Author,
    /// The author's own words, if any.
    pub reason: Option<Arc<str>>,
    /// The incident that it is wished for: what comes of it carries that.
    pub incident: Option<IncidentId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first start: the default pool, the signing keys, the bootstrap operator and its key. Holds already if any
    /// operator exists.
    Bootstrap(Bootstrap),

    CreatePool {
        pool: PoolId,
        settings: PoolSettings,
    },
    UpdatePool {
        pool: PoolId,
        change: SettingsChange,
    },
    RemovePool {
        pool: PoolId,
    },

    CreateWorker(CreateWorker),
    /// What is `None` stays as it is.
    UpdateWorker {
        worker: WorkerId,
        name: Option<Option<Arc<str>>>,
        labels: Option<Labels>,
        expires_at: Option<Option<Timestamp>>,
    },
    ApproveWorker {
        worker: WorkerId,
    },
    RejectWorker {
        worker: WorkerId,
    },
    IsolateWorker {
        worker: WorkerId,
        until: Option<Timestamp>,
    },
    ReleaseWorker {
        worker: WorkerId,
    },
    RemoveWorker {
        worker: WorkerId,
    },

    CreateKey(CreateKey),
    ShareKey {
        key: KeyId,
        worker: WorkerId,
    },
    RotateKey {
        key: KeyId,
        successor: KeyId,
        verifier: Digest,
        kind: KeyKind,
        expires_at: Option<Timestamp>,
        overlap: Seconds,
    },
    /// With `descendants`, also every key that was made with this one by its own holder (H7).
    RevokeKey {
        key: KeyId,
        descendants: bool,
    },

    CreateEnrollmentSecret {
        secret: EnrollmentSecretId,
        pool: PoolId,
        verifier: Digest,
        limits: Limits,
    },
    RotateEnrollmentSecret {
        secret: EnrollmentSecretId,
        successor: EnrollmentSecretId,
        verifier: Digest,
        overlap: Seconds,
    },
    DisableEnrollmentSecret {
        secret: EnrollmentSecretId,
    },
    /// What `PORTCULLIS_AUTO_ENROLLMENT_KEY` asks for at start: holds already if the value is known.
    EnsureEnrollmentSecret {
        secret: EnrollmentSecretId,
        pool: PoolId,
        verifier: Digest,
    },
    Enroll(Enroll),

    IssueToken(IssueToken),
    RevokeToken(TokenFacts),
    RecordTokensIssued {
        worker: WorkerId,
        count: u64,
        from: Timestamp,
        to: Timestamp,
    },

    RotateSigningKeys {
        next: NewSigningKey,
        overlap: Seconds,
    },

    CreateOperator {
        operator: OperatorId,
        name: Arc<str>,
        role: Role,
        key: KeyId,
        verifier: Digest,
        expires_at: Option<Timestamp>,
    },
    UpdateOperator {
        operator: OperatorId,
        name: Option<Arc<str>>,
        role: Option<Role>,
    },
    RemoveOperator {
        operator: OperatorId,
    },

    /// Up to the newest position, if no other is given: everything that was issued so far.
    RaiseFence {
        scope: FenceScope,
        up_to: Option<u64>,
    },

    MakePlan(MakePlan),
    /// Does what the plan with this digest has shown, or nothing.
    ApplyPlan {
        plan: PlanId,
        digest: Digest,
        /// The next signing key, for plans that rotate those.
        signing_key: Option<NewSigningKey>,
    },
    /// Says that another operator than its maker would do the same.
    ApprovePlan {
        plan: PlanId,
        digest: Digest,
    },
    /// Gives successors to the next items of a plan that rotates; `done` says how far the caller has seen it come.
    CollectPlan {
        plan: PlanId,
        done: u64,
        successors: Vec<FreshSecret>,
    },
    /// Sets anew which plans need a second operator.
    SetPlanPolicy(PolicyChange),
    /// Records the next items of a plan that was applied. Holds already where it has come further than `done`.
    ContinuePlan {
        plan: PlanId,
        done: u64,
    },

    /// Pauses a plan that lets workers back in, goes on with it, or takes it back.
    SteerReadmission {
        plan: PlanId,
        steering: Steering,
    },

    Netguard(NetguardCommand),
    OpenIncident(OpenIncident),
    UpdateIncident {
        incident: IncidentId,
        change: DescriptionChange,
    },
    NoteIncident {
        incident: IncidentId,
        note: Arc<str>,
    },
    /// A note that says what somebody found who has looked: there are steps that such a one fills.
    ReviewIncident {
        incident: IncidentId,
        finding: Arc<str>,
    },
    /// By hand, for which the context has the reason.
    SettleStep {
        incident: IncidentId,
        step: Arc<str>,
        settling: Settling,
    },
    CloseIncident {
        incident: IncidentId,
        summary: Arc<str>,
    },
    Webhook(WebhookCommand),

    /// Holds already where the node is known to serve with it.
    ServeCertificate(CertificateServed),

    CreateHoneyKey(NewHoneyKey),
    RemoveHoneyKey {
        key: KeyId,
    },
    /// The whole rule of the pool, or of all that have none.
    SetTripwireRule {
        pool: Option<PoolId>,
        rule: Rule,
    },
    RecordTrip(Box<RecordTrip>),

    /// Holds already where a later position is known to be in force.
    RecordBarrier {
        through: u64,
        confirmed: Vec<Arc<str>>,
        waited_out: Vec<Arc<str>>,
    },
    RecordAuthFailures {
        from: Timestamp,
        to: Timestamp,
        failures: Vec<FailureCount>,
    },
}

impl Command {
    /// Whether it takes as long to decide as the fleet is large.
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        matches!(
            self,
            Self::MakePlan(_)
                | Self::ApplyPlan { .. }
                | Self::ContinuePlan { .. }
                | Self::SteerReadmission { .. }
                | Self::RaiseFence { .. }
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    pub pool: PoolId,
    pub active: NewSigningKey,
    pub next: NewSigningKey,
    pub operator: OperatorId,
    pub name: Arc<str>,
    pub key: KeyId,
    pub verifier: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateWorker {
    pub worker: WorkerId,
    pub pool: PoolId,
    pub name: Option<Arc<str>>,
    pub labels: Labels,
    pub expires_at: Option<Timestamp>,
    /// Let it wait for approval.
    pub pending: bool,
    /// A static secret that the caller chose for it.
    pub static_secret: Option<(KeyId, Digest)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKey {
    pub key: KeyId,
    pub holder: KeyHolder,
    pub kind: KeyKind,
    pub verifier: Digest,
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enroll {
    pub secret: EnrollmentSecretId,
    pub worker: WorkerId,
    pub name: Option<Arc<str>>,
    pub labels: Labels,
    pub key: KeyId,
    pub verifier: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueToken {
    pub token: TokenId,
    pub worker: WorkerId,
    pub key: KeyId,
    /// The token that is renewed, if any.
    pub renews: Option<TokenFacts>,
    /// Shorter than the pool's, if asked for.
    pub ttl: Option<Seconds>,
    /// A subset of the pool's scopes, if asked for.
    pub scopes: Option<Arc<[Arc<str>]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MakePlan {
    pub plan: PlanId,
    pub kind: PlanKind,
    pub selector: Selector,
    /// A plan that it takes the place of.
    pub replaces: Option<PlanId>,
}

/// A credential that nobody has yet, whatever it will be: of an API key, and of an enrollment secret, the id is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshSecret {
    pub id: u128,
    pub verifier: Digest,
}

/// What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    pub kinds: Option<Arc<[Arc<str>]>>,
    pub pools: Option<Arc<[PoolId]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIncident {
    /// `None`: the next of our own count.
    pub incident: Option<IncidentId>,
    pub description: Description,
    pub checklist: Vec<StepTemplate>,
    /// Of a drill: what its copies get. There may be more than are needed.
    pub drill: Option<DrillCredentials>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHoneyKey {
    pub key: KeyId,
    pub pool: PoolId,
    pub verifier: Digest,
    pub note: Option<Arc<str>>,
}

/// Uses of one key from one address, and what a rule may need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTrip {
    pub key: KeyId,
    pub why: Why,
    /// The worker whose key it is.
    pub worker: Option<WorkerId>,
    pub source: Option<IpAddr>,
    pub count: u64,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Of a honey key: the workers whose own keys were last seen from there.
    pub presenters: Vec<WorkerId>,
    /// For an incident that it may open.
    pub checklist: Vec<StepTemplate>,
}

/// Credentials for copies of workers. Nobody is given any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillCredentials {
    pub keys: Vec<(KeyId, Digest)>,
    pub enrollment: (EnrollmentSecretId, Digest),
}

/// What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptionChange {
    pub title: Option<Arc<str>>,
    pub severity: Option<Severity>,
    pub scope: Option<Vec<Criterion>>,
    pub people: Option<Vec<Arc<str>>>,
    pub first_sign: Option<Option<Timestamp>>,
}

/// What becomes of a step by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    Done,
    Waived,
    Reopened,
}

impl PolicyChange {
    /// The policy that comes of it: kinds and pools in order, each once.
    #[must_use]
    pub fn onto(&self, standing: &ApprovalPolicy) -> ApprovalPolicy {
        fn ordered<T: Ord + Clone>(given: Option<&Arc<[T]>>, standing: &Arc<[T]>) -> Arc<[T]> {
            given.map_or_else(
                || standing.clone(),
                |given| given.iter().cloned().collect::<BTreeSet<T>>().into_iter().collect(),
            )
        }
        ApprovalPolicy {
            kinds: ordered(self.kinds.as_ref(), &standing.kinds),
            pools: ordered(self.pools.as_ref(), &standing.pools),
        }
    }
}

impl DescriptionChange {
    #[must_use]
    pub fn onto(&self, description: &Description) -> Description {
        let Self { title, severity, scope, people, first_sign } = self.clone();
        Description {
            title: title.unwrap_or_else(|| description.title.clone()),
            severity: severity.unwrap_or(description.severity),
            scope: scope.unwrap_or_else(|| description.scope.clone()),
            people: people.unwrap_or_else(|| description.people.clone()),
            first_sign: first_sign.unwrap_or(description.first_sign),
        }
    }
}
