//! The hot path: a credential in, a verdict out. No I/O, no lock, no allocation for a key; microseconds.
//!
//! First whether the credential is genuine (its digest, or its signature), then whether it is good (state and time, which
//! [`crate::domain::admit`] decides). A credential that is not genuine takes the same steps as one that is, so that the time
//! it takes tells a guesser nothing (H31).

use std::sync::Arc;

use crate::credential::key::{self, KeyKind as Prefix};
use crate::credential::root_key::DerivedKeys;
use crate::credential::token::{self, Claims, TokenError};
use crate::credential::verifier::Verifier;
use crate::domain::admit::{self, Denial};
use crate::domain::ids::{KeyId, TokenId};
use crate::domain::key::{Digest, Holder, Key, KeyKind};
use crate::domain::operator::Operator;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenFacts;
use crate::domain::tripwire::{self, Trip, Why};
use crate::domain::worker::Worker;

pub mod ring;

use ring::SigningRing;

/// Everything that a verdict needs, as of one position.
pub struct Snapshot {
    pub roll: Roll,
    pub ring: Arc<SigningRing>,
}

/// What somebody shows.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// An API key, an access token, or a static secret.
    pub credential: &'a str,
    /// The worker's id: needed with a static secret and with a key that several workers share.
    pub worker: Option<&'a str>,
}

/// A credential that is genuine and good.
#[derive(Debug)]
pub struct Accepted<'s> {
    pub bearer: Bearer<'s>,
    /// The key that was shown, or that the token was made from.
    pub key: &'s Key,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug)]
pub enum Bearer<'s> {
    Worker { worker: &'s Worker, token: Option<Box<Token>> },
    Operator(&'s Arc<Operator>),
}

/// An access token, as it was read.
#[derive(Debug)]
pub struct Token {
    pub facts: TokenFacts,
    pub claims: Claims,
}

/// A credential that is not accepted; with what is known of it, for the operator's eyes alone.
#[derive(Debug)]
pub struct Denied<'s> {
    pub denial: Denial,
    /// The public id of what was shown.
    pub credential: Option<CredentialId>,
    /// Set only where the credential was genuine.
    pub worker: Option<&'s Worker>,
    /// The worker's key that was shown, or that the token was made from; set only where the credential was genuine.
    pub genuine: Option<KeyId>,
    /// A genuine key that nobody has any business to show.
    pub trip: Option<Trip>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialId {
    Key(KeyId),
    Token(TokenId),
}

pub type Verdict<'s> = Result<Accepted<'s>, Denied<'s>>;

/// Whether the credential is accepted at `now`, by this state.
///
/// It is never earlier than the state itself: a wall clock that was put back revives nothing that had ended when the newest
/// event was recorded.
pub fn check<'s>(snapshot: &'s Snapshot, keys: &DerivedKeys, presented: Presented<'_>, now: Timestamp) -> Verdict<'s> {
    let roll = &snapshot.roll;
    let now = now.max(roll.recorded_at());
    if key::looks_like_key(presented.credential) {
        check_api_key(roll, keys, presented, now)
    } else if token::looks_like_token(presented.credential) {
        check_token(snapshot, presented, now)
    } else {
        check_static_secret(roll, keys, presented, now)
    }
}

fn check_api_key<'s>(roll: &'s Roll, keys: &DerivedKeys, presented: Presented<'_>, now: Timestamp) -> Verdict<'s> {
    let key = genuine_key(roll, keys, presented.credential)?;
    match key.holder {
        Holder::Operator(_) => {
            let shown = Some(CredentialId::Key(key.id));
            let operator = admit::admit_operator_key(roll, key, now)
                .map_err(|denial| Denied { trip: trip(roll, key, None, now), ..denied(denial, shown) })?;
            Ok(Accepted { bearer: Bearer::Operator(operator), key, expires_at: key.ends_at() })
        }
        Holder::Worker(_) | Holder::Workers(_) => admit_worker(roll, key, presented.worker, now),
    }
}

/// The key that an API key's text is of, whatever has become of it: also what whoever wants to end it asks.
pub fn genuine_key<'s>(roll: &'s Roll, keys: &DerivedKeys, text: &str) -> Result<&'s Key, Denied<'s>> {
    // Of a million keys, this one is in no cache: it comes while the check sum and the digest are made.
    let parsed = key::parse_telling(text, |id| roll.prefetch_key_index(id));
    let parsed = parsed.map_err(|_| denied(Denial::Malformed, None))?;
    let shown = Some(CredentialId::Key(parsed.id));
    if parsed.kind == Prefix::Enrollment {
        return Err(denied(Denial::EnrollmentSecret, shown));
    }
    roll.prefetch_key(parsed.id);
    let verifier = keys.api_key_verifier(&parsed);
    let found = roll.key(parsed.id);
    // Looked for where there is no other of this id: no id is both, and nearly every key that is shown is a worker's.
    let honey = || roll.honey_key(parsed.id).filter(|honey| !honey.removed);
    let honey = if found.is_none() { honey() } else { None };
    let expected = found.map(|key| key.verifier).or(honey.map(|honey| honey.verifier));
    let genuine = verifier.matches(&Verifier::from_bytes(expected.unwrap_or(Digest([0; 32])).0));
    // A honey key is refused as one that is unknown. That its secret was genuine is for the log alone.
    let trips = genuine && honey.is_some() && parsed.kind == Prefix::Worker;
    let trip = trips.then_some(Trip { key: parsed.id, why: Why::Honey, worker: None });
    let key = found.ok_or_else(|| Denied { trip, ..denied(Denial::KeyUnknown, shown) })?;
    let of_kind = match key.holder {
        Holder::Operator(_) => parsed.kind == Prefix::Operator,
        Holder::Worker(_) | Holder::Workers(_) => parsed.kind == Prefix::Worker,
    };
    if genuine && of_kind && key.kind == KeyKind::Api { Ok(key) } else { Err(denied(Denial::SecretWrong, shown)) }
}

fn check_static_secret<'s>(
    roll: &'s Roll,
    keys: &DerivedKeys,
    presented: Presented<'_>,
    now: Timestamp,
) -> Verdict<'s> {
    let Some(named) = presented.worker else { return Err(denied(Denial::Malformed, None)) };
    let index = roll.worker_index(named);
    let same = genuine_static_secret(roll, keys, presented.credential);
    let key = same.filter(|key| index.is_some_and(|index| key.workers().contains(&index))).last();
    let key = key.ok_or_else(|| denied(Denial::SecretWrong, None))?;
    admit_worker(roll, key, Some(named), now)
}

/// The keys whose value is this static secret, whatever has become of them; oldest first.
pub fn genuine_static_secret<'s>(roll: &'s Roll, keys: &DerivedKeys, secret: &str) -> impl Iterator<Item = &'s Key> {
    let verifier = keys.static_secret_verifier(secret);
    let same = roll.static_secrets(&Digest(*verifier.as_bytes()));
    // The map was asked by the digest; the comparison that decides is in constant time all the same.
    same.filter(move |key| verifier.matches(&Verifier::from_bytes(key.verifier.0)))
}

/// A worker's key that was found genuine.
fn admit_worker<'s>(roll: &'s Roll, key: &'s Key, named: Option<&str>, now: Timestamp) -> Verdict<'s> {
    let worker = admit::admit_worker_key(roll, key, named, now).map_err(|denial| {
        let worker = admit::holder(roll, key, named).ok();
        let (credential, genuine) = (Some(CredentialId::Key(key.id)), Some(key.id));
        Denied { denial, credential, worker, genuine, trip: trip(roll, key, worker, now) }
    })?;
    let ends = [key.ends_at(), worker.expires_at];
    let expires_at = ends.into_iter().flatten().min();
    Ok(Accepted { bearer: Bearer::Worker { worker, token: None }, key, expires_at })
}

fn check_token<'s>(snapshot: &'s Snapshot, presented: Presented<'_>, now: Timestamp) -> Verdict<'s> {
    let roll = &snapshot.roll;
    let claims = read_token(snapshot, presented.credential, now, now.unix_seconds())?;
    let facts = facts(&claims);
    let shown = Some(CredentialId::Token(facts.token));
    if presented.worker.is_some_and(|named| named != facts.worker.as_str()) {
        return Err(denied(Denial::WorkerMismatch, shown));
    }
    match admit::admit_token(roll, &facts, now) {
        Ok((worker, key)) => {
            let expires_at = Some(facts.expires_at);
            let token = Some(Box::new(Token { facts, claims }));
            Ok(Accepted { bearer: Bearer::Worker { worker, token }, key, expires_at })
        }
        Err(denial) => Err(Denied {
            denial,
            credential: shown,
            worker: roll.worker(facts.worker.as_str()),
            genuine: Some(facts.key),
            // A token proves no key: whoever stole it has that alone.
            trip: None,
        }),
    }
}

/// What an access token says whose signature is good, expired or not: what was renewed from it may be unexpired.
pub fn genuine_token<'s>(snapshot: &'s Snapshot, text: &str, now: Timestamp) -> Result<TokenFacts, Denied<'s>> {
    // Nothing has expired at the beginning of time.
    read_token(snapshot, text, now, i64::MIN).map(|claims| facts(&claims))
}

fn read_token<'s>(snapshot: &'s Snapshot, text: &str, now: Timestamp, at_unix: i64) -> Result<Claims, Denied<'s>> {
    token::verify(text, |id| snapshot.ring.verifying(id, now), at_unix).map_err(|error| {
        let denial = match error {
            TokenError::Malformed | TokenError::Type => Denial::Malformed,
            TokenError::UnknownKey | TokenError::Signature | TokenError::Algorithm => Denial::TokenSignature,
            TokenError::Expired { .. } | TokenError::NotYet => Denial::TokenExpired,
        };
        denied(denial, None)
    })
}

fn facts(claims: &Claims) -> TokenFacts {
    TokenFacts {
        token: claims.jti,
        session: claims.sid,
        worker: claims.sub.clone(),
        key: claims.key,
        issued: claims.pos,
        expires_at: Timestamp::from_unix_seconds(claims.exp),
    }
}

fn denied<'s>(denial: Denial, credential: Option<CredentialId>) -> Denied<'s> {
    Denied { denial, credential, worker: None, genuine: None, trip: None }
}

/// Whether showing this key, which is genuine, trips.
pub fn trip(roll: &Roll, key: &Key, worker: Option<&Worker>, now: Timestamp) -> Option<Trip> {
    let why = tripwire::why(roll, key, worker, now)?;
    let index = worker.and_then(|worker| roll.worker_index(worker.id.as_str()));
    let only = || if let [only] = key.workers() { Some(*only) } else { None };
    Some(Trip { key: key.id, why, worker: index.or_else(only) })
}

#[cfg(test)]
mod tests;
