//! Webhooks: services of others that are told of events, one after the other and at least once, in messages that are signed
//! as Standard Webhooks asks for.
//!
//! One node tells at a time, the one whose session holds a lock. How a delivery ended is an event, so that whoever takes
//! over goes on where it stood; what was on its way when a node was killed is told again, under the same `webhook-id`.

pub mod deliver;
pub mod message;
pub mod target;

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
pub const KINDS_DEFAULT: [&str; 2] = ["worker.isolated", "plan.applied"];
