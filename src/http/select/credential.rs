//! Where a whole credential leads that somebody has found: to its key and worker, its enrollment secret, its operator.
//!
//! It is looked at, and neither kept nor repeated: what is selected is named by public ids.

use serde::Serialize;
use utoipa::ToSchema;

use crate::credential::key::{looks_like_key, parse};
use crate::credential::root_key::DerivedKeys;
use crate::credential::token::{looks_like_token, unproven_claims};
use crate::domain::ids::{KeyId, WorkerId};
use crate::domain::key::Digest;
use crate::domain::plan::Criterion;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::problem::Problem;
use crate::validate::{self, Snapshot};

/// As many as fit into a refusal that somebody reads.
const KEYS_SHOWN: usize = 20;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::http) struct FoundCredential {
    /// `api_key`, `access_token`, `static_secret` or `enrollment_secret`.
    #[schema(example = "access_token")]
    kind: &'static str,
    /// Whether it is genuine: by its signature, or its digest. If not, it is only what it says of itself, and anybody can have
    /// written that.
    pub(in crate::http) proven: bool,
}

/// What it leads to, oldest first; all of it of one kind.
pub(super) fn found(
    keys: &DerivedKeys,
    snapshot: &Snapshot,
    text: &str,
    now: Timestamp,
) -> Result<(Vec<Criterion>, FoundCredential), Problem> {
    let roll = &snapshot.roll;
    let is = |kind, proven| FoundCredential { kind, proven };
    let (criteria, found) = if looks_like_key(text) {
        of_key(keys, roll, text)?
    } else if looks_like_token(text) {
        let (key, worker, proven) = of_token(snapshot, text, now)?;
        let holds = roll.worker_index(worker.as_str());
        let held = roll.key(key).filter(|key| holds.is_some_and(|index| key.workers().contains(&index)));
        (held.map(|key| Criterion::Key(key.id)).into_iter().collect(), is("access_token", proven))
    } else {
        let verifier = Digest(*keys.enrollment_verifier(text).as_bytes());
        let secret = roll.enrollment_secret_by_verifier(&verifier).map(|secret| Criterion::Lineage(secret.id));
        let same: Vec<Criterion> =
            validate::genuine_static_secret(roll, keys, text).map(|key| Criterion::Key(key.id)).collect();
        match secret {
            Some(secret) if !same.is_empty() => return Err(both(&secret, &same)),
            Some(secret) => (vec![secret], is("enrollment_secret", true)),
            None => (same, is("static_secret", true)),
        }
    };
    if criteria.is_empty() {
        return Err(Problem::not_found("there is no such credential in this log, and there never was"));
    }
    Ok((criteria, found))
}

fn of_key(keys: &DerivedKeys, roll: &Roll, text: &str) -> Result<(Vec<Criterion>, FoundCredential), Problem> {
    let parsed = parse(text).map_err(|_| {
        Problem::invalid("credential", "it is damaged; select `credential:` and the digits of its public id instead")
    })?;
    let verifier = Digest(*keys.enrollment_verifier(text).as_bytes());
    if let Some(secret) = roll.enrollment_secret_by_verifier(&verifier) {
        let found = FoundCredential { kind: "enrollment_secret", proven: true };
        return Ok((vec![Criterion::Lineage(secret.id)], found));
    }
    let proven = validate::genuine_key(roll, keys, text).is_ok();
    let criteria = roll.credentials_beginning_with(&parsed.id.to_string());
    Ok((criteria, FoundCredential { kind: "api_key", proven }))
}

/// The key that it was made from, the worker that it was given to, and whether its signature is good.
fn of_token(snapshot: &Snapshot, text: &str, now: Timestamp) -> Result<(KeyId, WorkerId, bool), Problem> {
    if let Ok(facts) = validate::genuine_token(snapshot, text, now) {
        return Ok((facts.key, facts.worker, true));
    }
    let claims =
        unproven_claims(text).ok_or_else(|| Problem::invalid("credential", "it is no access token of ours"))?;
    Ok((claims.key, claims.sub, false))
}

/// Both were chosen, and both were given away with it.
fn both(secret: &Criterion, same: &[Criterion]) -> Problem {
    let keys: Vec<String> = same.iter().take(KEYS_SHOWN).map(ToString::to_string).collect();
    let (keys, rest) = (keys.join(", "), if same.len() > KEYS_SHOWN { ", and more" } else { "" });
    let detail =
        format!("it is an enrollment secret and a static secret at once; select `{secret}`, or of {keys}{rest}");
    Problem::invalid("credential", detail)
}
