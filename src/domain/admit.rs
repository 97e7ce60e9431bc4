//! Whether a credential that was found genuine is good: the one rule that validation and every decision ask.
//!
//! Genuine is a matter of digests and signatures, looked at before. Good is a matter of state and time, looked at here.

use std::sync::Arc;

use super::ids::KeyId;
use super::key::{Holder, Key, KeyStanding};
use super::operator::Operator;
use super::roll::Roll;
use super::time::Timestamp;
use super::token::TokenFacts;
use super::worker::{Standing, Worker};

/// Why a credential is not accepted. The code is API: it never changes. Anonymous callers never see it (H31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Neither a key, a token, nor a static secret with a worker's id.
    Malformed,
    KeyUnknown,
    SecretWrong,
    KeyRevoked,
    KeyExpired,
    /// It, or what it came of, was issued at or before a fence over one of its scopes.
    Fenced,
    WorkerUnknown,
    /// The key serves several workers, and none was named.
    WorkerRequired,
    /// The key, or the token, is not this worker's.
    WorkerMismatch,
    WorkerPending,
    WorkerIsolated,
    WorkerRejected,
    WorkerRemoved,
    WorkerExpired,
    OperatorRemoved,
    /// An enrollment secret is exchanged for a key, and good for nothing else.
    EnrollmentSecret,
    /// It is an operator's, where a worker's is asked for, or the reverse.
    WrongKind,
    TokenSignature,
    TokenExpired,
    TokenRevoked,
    /// The node cannot confirm that it knows the newest state.
    Stale,
}

impl Denial {
    pub const ALL: [Denial; 21] = [
        Denial::Malformed,
        Denial::KeyUnknown,
        Denial::SecretWrong,
        Denial::KeyRevoked,
        Denial::KeyExpired,
        Denial::Fenced,
        Denial::WorkerUnknown,
        Denial::WorkerRequired,
        Denial::WorkerMismatch,
        Denial::WorkerPending,
        Denial::WorkerIsolated,
        Denial::WorkerRejected,
        Denial::WorkerRemoved,
        Denial::WorkerExpired,
        Denial::OperatorRemoved,
        Denial::EnrollmentSecret,
        Denial::WrongKind,
        Denial::TokenSignature,
        Denial::TokenExpired,
        Denial::TokenRevoked,
        Denial::Stale,
    ];

    /// Whether it is said only of a worker's key whose secret was shown: whoever knows a public id alone hears another.
    #[must_use]
    pub fn is_of_genuine_key(self) -> bool {
        match self {
            Denial::KeyRevoked
            | Denial::KeyExpired
            | Denial::Fenced
            | Denial::WorkerPending
            | Denial::WorkerIsolated
            | Denial::WorkerRejected
            | Denial::WorkerRemoved
            | Denial::WorkerExpired => true,
            Denial::Malformed
            | Denial::KeyUnknown
            | Denial::SecretWrong
            | Denial::WorkerUnknown
            | Denial::WorkerRequired
            | Denial::WorkerMismatch
            | Denial::OperatorRemoved
            | Denial::EnrollmentSecret
            | Denial::WrongKind
            | Denial::TokenSignature
            | Denial::TokenExpired
            | Denial::TokenRevoked
            | Denial::Stale => false,
        }
    }

    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Denial::Malformed => "malformed",
            Denial::KeyUnknown => "key_unknown",
            Denial::SecretWrong => "secret_wrong",
            Denial::KeyRevoked => "key_revoked",
            Denial::KeyExpired => "key_expired",
            Denial::Fenced => "fenced",
            Denial::WorkerUnknown => "worker_unknown",
            Denial::WorkerRequired => "worker_required",
            Denial::WorkerMismatch => "worker_mismatch",
            Denial::WorkerPending => "worker_pending",
            Denial::WorkerIsolated => "worker_isolated",
            Denial::WorkerRejected => "worker_rejected",
            Denial::WorkerRemoved => "worker_removed",
            Denial::WorkerExpired => "worker_expired",
            Denial::OperatorRemoved => "operator_removed",
            Denial::EnrollmentSecret => "enrollment_secret",
            Denial::WrongKind => "wrong_kind",
            Denial::TokenSignature => "token_signature",
            Denial::TokenExpired => "token_expired",
            Denial::TokenRevoked => "token_revoked",
            Denial::Stale => "stale",
        }
    }
}

/// Whether the key itself is good at `now`.
pub fn admit_key(key: &Key, now: Timestamp) -> Result<(), Denial> {
    match key.standing(now) {
        KeyStanding::Live | KeyStanding::Overlapping => Ok(()),
        KeyStanding::Expired => Err(Denial::KeyExpired),
        KeyStanding::Revoked => Err(Denial::KeyRevoked),
        KeyStanding::Fenced => Err(Denial::Fenced),
    }
}

/// Whether the worker may use any credential at `now` (H8).
pub fn admit_worker(worker: &Worker, now: Timestamp) -> Result<(), Denial> {
    match worker.standing(now) {
        Standing::Active => Ok(()),
        Standing::Pending => Err(Denial::WorkerPending),
        Standing::Isolated => Err(Denial::WorkerIsolated),
        Standing::Rejected => Err(Denial::WorkerRejected),
        Standing::Removed => Err(Denial::WorkerRemoved),
        Standing::Expired => Err(Denial::WorkerExpired),
    }
}

/// The worker for which a genuine key stands: the only holder, or the one that was named among several.
pub fn holder<'a>(roll: &'a Roll, key: &Key, named: Option<&str>) -> Result<&'a Worker, Denial> {
    let index = match (&key.holder, named) {
        (Holder::Operator(_), _) => return Err(Denial::WrongKind),
        (Holder::Worker(index), None) => *index,
        (Holder::Workers(_), None) => return Err(Denial::WorkerRequired),
        (Holder::Worker(_) | Holder::Workers(_), Some(id)) => {
            let index = roll.worker_index(id).ok_or(Denial::WorkerMismatch)?;
            if !key.workers().contains(&index) {
                return Err(Denial::WorkerMismatch);
            }
            index
        }
    };
    roll.worker_at(index).ok_or(Denial::WorkerUnknown)
}

/// Whether no fence refuses what was issued to the worker at this position.
pub fn admit_issued(roll: &Roll, worker: &Worker, issued: u64) -> Result<(), Denial> {
    if roll.is_fenced(worker, issued) { Err(Denial::Fenced) } else { Ok(()) }
}

/// A worker's key, genuine, presented for the worker named if any. What is true of the key comes before what is true of
/// the worker: a fence ends a key as a revocation does, and no release gives it back.
pub fn admit_worker_key<'a>(
    roll: &'a Roll,
    key: &Key,
    named: Option<&str>,
    now: Timestamp,
) -> Result<&'a Worker, Denial> {
    let worker = holder(roll, key, named)?;
    admit_key(key, now)?;
    admit_issued(roll, worker, key.issued)?;
    admit_worker(worker, now)?;
    Ok(worker)
}

/// An operator's key, genuine.
pub fn admit_operator_key<'a>(roll: &'a Roll, key: &Key, now: Timestamp) -> Result<&'a Arc<Operator>, Denial> {
    let Holder::Operator(id) = key.holder else { return Err(Denial::WrongKind) };
    let operator = roll.operator(id).ok_or(Denial::KeyUnknown)?;
    if operator.removed {
        return Err(Denial::OperatorRemoved);
    }
    admit_key(key, now)?;
    Ok(operator)
}

/// A token whose signature was found good. Fences are asked for its key: that was issued before it, so whatever refuses
/// the token refuses the key, and what came of a refused key is refused too.
pub fn admit_token<'a>(roll: &'a Roll, facts: &TokenFacts, now: Timestamp) -> Result<(&'a Worker, &'a Key), Denial> {
    if facts.expires_at <= now {
        return Err(Denial::TokenExpired);
    }
    if roll.is_token_revoked(facts.session, facts.issued) {
        return Err(Denial::TokenRevoked);
    }
    let key = roll.key(facts.key).ok_or(Denial::KeyUnknown)?;
    let worker = admit_worker_key(roll, key, Some(facts.worker.as_str()), now)?;
    Ok((worker, key))
}

/// A key by its id, where only the id is at hand.
pub fn known_key(roll: &Roll, id: KeyId) -> Result<&Key, Denial> {
    roll.key(id).ok_or(Denial::KeyUnknown)
}
