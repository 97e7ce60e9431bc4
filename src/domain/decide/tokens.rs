//! Access tokens and the keys that sign them.

use std::sync::Arc;

use super::{Decision, limits, pools};
use crate::domain::admit::{Denial, admit_token, admit_worker_key, known_key};
use crate::domain::command::IssueToken;
use crate::domain::event::Event;
use crate::domain::ids::WorkerId;
use crate::domain::pool::{PoolSettings, TokenRecord};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::signing_key::NewSigningKey;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::token::{NewToken, TokenFacts};

/// Where the pool only counts its tokens, the command is there for its outcome, which a repeat is answered with: no event.
pub(super) fn issue(roll: &Roll, issue: &IssueToken, now: Timestamp) -> Decision {
    let token = token(roll, issue, now)?;
    Ok(if counts_tokens(roll, &issue.worker) { vec![] } else { vec![Event::TokenIssued(token)] })
}

/// Whether the worker is of a pool that counts its tokens, instead of recording each.
pub fn counts_tokens(roll: &Roll, worker: &WorkerId) -> bool {
    let pool = roll.worker(worker.as_str()).and_then(|worker| roll.pool(worker.pool.as_str()));
    pool.is_some_and(|pool| pool.settings.token_record == TokenRecord::Counted)
}

/// The token that would be issued. Pools that only count tokens ask this without a command.
pub fn token(roll: &Roll, issue: &IssueToken, now: Timestamp) -> Result<NewToken, Refusal> {
    let key = known_key(roll, issue.key)?;
    let worker = admit_worker_key(roll, key, Some(issue.worker.as_str()), now)?;
    let pool = pools::existing(roll, &worker.pool)?;
    let session = match &issue.renews {
        None => issue.token,
        Some(renewed) => {
            if renewed.worker != issue.worker || renewed.key != issue.key {
                return Err(Denial::WorkerMismatch.into());
            }
            admit_token(roll, renewed, now)?;
            renewed.session
        }
    };
    if roll.active_signing_key().is_none() {
        return Err(Refusal::NoSigningKey);
    }
    let ttl = match issue.ttl {
        None => pool.settings.token_ttl,
        Some(asked) => {
            limits::token_ttl("ttl", asked)?;
            asked.min(pool.settings.token_ttl)
        }
    };
    // A token never outlives what it was made from.
    let ends = [Some(now.after(ttl)), key.ends_at(), worker.expires_at];
    let expires_at = ends.into_iter().flatten().min().unwrap_or(now).whole_seconds();
    Ok(NewToken {
        token: issue.token,
        session,
        worker: issue.worker.clone(),
        key: issue.key,
        expires_at,
        scopes: granted_scopes(&pool.settings, issue.scopes.as_ref())?,
    })
}

fn granted_scopes(settings: &PoolSettings, asked: Option<&Arc<[Arc<str>]>>) -> Result<Arc<[Arc<str>]>, Refusal> {
    match asked {
        None => Ok(settings.scopes.clone()),
        // In the pool's order and each once, so that an event is never longer than the pool's own list.
        Some(asked) if asked.iter().all(|scope| settings.scopes.contains(scope)) => {
            Ok(settings.scopes.iter().filter(|scope| asked.contains(scope)).cloned().collect())
        }
        Some(_) => Err(Refusal::ScopeNotAllowed),
    }
}

/// An expired token is revoked all the same: what was renewed from it may be unexpired.
pub(super) fn revoke(roll: &Roll, facts: &TokenFacts) -> Vec<Event> {
    if roll.is_token_revoked(facts.session, facts.issued) {
        return vec![];
    }
    vec![Event::TokenRevoked {
        token: facts.token,
        session: facts.session,
        worker: facts.worker.clone(),
        issued: facts.issued,
    }]
}

pub(super) fn rotate_signing_keys(roll: &Roll, next: &NewSigningKey, overlap: Seconds, now: Timestamp) -> Decision {
    limits::overlap(overlap)?;
    if roll.active_signing_key().is_none() {
        return Err(Refusal::NoSigningKey);
    }
    limits::unused("next", roll.signing_key(next.id).is_none())?;
    Ok(vec![Event::SigningKeysRotated { next: next.clone(), retired_verifies_until: now.after(overlap) }])
}
