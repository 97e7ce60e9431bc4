//! Keys and static secrets: created, shared, rotated, revoked; never revived.

use super::{Decision, limits, operators, workers};
use crate::domain::actor::CredentialUsed;
use crate::domain::command::{Context, CreateKey};
use crate::domain::event::{Event, KeyCreated, KeyHolder};
use crate::domain::ids::{KeyId, PoolId, WorkerId};
use crate::domain::key::{Digest, Holder, Key, KeyKind, KeyStanding, KeyState, SECRET_SHARERS_MAX, SHARERS_MAX};
use crate::domain::operator::{OPERATOR_KEYS_MAX, Operator};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::worker::{WORKER_KEYS_MAX, Worker};

/// What a rotation puts in a key's place.
pub(super) struct Successor {
    pub(super) id: KeyId,
    pub(super) verifier: Digest,
    pub(super) kind: KeyKind,
    pub(super) expires_at: Option<Timestamp>,
}

fn known(roll: &Roll, key: KeyId) -> Result<&Key, Refusal> {
    let found = roll.key(key).ok_or(Refusal::KeyUnknown(key))?;
    Ok(found)
}

/// An id is one key's for ever: another under it would take its place in every list.
pub(super) fn id_is_free(roll: &Roll, key: KeyId) -> Result<(), Refusal> {
    let taken = roll.key(key).is_some() || roll.honey_key(key).is_some();
    if taken { Err(Refusal::KeyExists(key)) } else { Ok(()) }
}

/// A static secret is in use for ever: a value that was revoked, or rotated away because it leaked, must not come back as
/// another worker's. `joining`: how many workers are to have it.
pub(super) fn static_secret_is_free(
    roll: &Roll,
    verifier: &Digest,
    pool: &PoolId,
    joining: usize,
    now: Timestamp,
) -> Result<(), Refusal> {
    let same: Vec<&Key> = roll.static_secrets(verifier).collect();
    if same.is_empty() {
        return Ok(());
    }
    if same.iter().any(|key| !key.is_good(now) || roll.is_fenced_for_any(key)) {
        return Err(Refusal::StaticSecretRevoked);
    }
    let pools = same.iter().flat_map(|key| key.workers()).filter_map(|index| roll.worker_at(*index));
    let all_here = pools.into_iter().all(|worker| worker.pool == *pool);
    let sharing = roll.pool(pool.as_str()).is_some_and(|pool| pool.settings.sharing);
    if !sharing || !all_here {
        return Err(Refusal::StaticSecretInUse);
    }
    if sharers(same) + joining > SECRET_SHARERS_MAX { Err(Refusal::TooManySharers) } else { Ok(()) }
}

/// How many workers these keys serve, one that holds two of them counting twice.
fn sharers<'r>(keys: impl IntoIterator<Item = &'r Key>) -> usize {
    keys.into_iter().map(|key| key.workers().len()).sum()
}

/// What a fence refuses takes no room: after one, a worker with all the keys that it may have can be given another.
fn count_live(roll: &Roll, worker: &Worker, now: Timestamp) -> usize {
    worker.keys.iter().filter(|id| roll.key(**id).is_some_and(|key| roll.is_good_for(key, worker, now))).count()
}

fn count_live_of_operator(roll: &Roll, operator: &Operator, now: Timestamp) -> usize {
    operator.keys.iter().filter(|id| roll.key(**id).is_some_and(|key| key.is_good(now))).count()
}

pub(super) fn create(roll: &Roll, create: &CreateKey, now: Timestamp) -> Decision {
    id_is_free(roll, create.key)?;
    limits::future("expires_at", create.expires_at, now)?;
    match &create.holder {
        KeyHolder::Worker(worker) => {
            let worker = workers::member(roll, worker)?;
            if create.kind == KeyKind::Static {
                let own = roll.static_secrets(&create.verifier).find(|key| worker.keys.contains(&key.id));
                // The same value for the same worker again is a retry.
                if own.is_some_and(|key| roll.is_good_for(key, worker, now) && key.expires_at == create.expires_at) {
                    return Ok(vec![]);
                }
                static_secret_is_free(roll, &create.verifier, &worker.pool, 1, now)?;
            }
            if count_live(roll, worker, now) >= WORKER_KEYS_MAX {
                return Err(Refusal::TooManyKeys);
            }
        }
        KeyHolder::Operator(id) => {
            limits::api_key_of_operator(create.kind)?;
            let operator = operators::existing(roll, *id)?;
            if count_live_of_operator(roll, operator, now) >= OPERATOR_KEYS_MAX {
                return Err(Refusal::TooManyKeys);
            }
        }
    }
    Ok(vec![Event::KeyCreated(KeyCreated {
        key: create.key,
        holder: create.holder.clone(),
        kind: create.kind,
        verifier: create.verifier,
        expires_at: create.expires_at,
    })])
}

pub(super) fn share(roll: &Roll, key: KeyId, worker: &WorkerId, now: Timestamp) -> Decision {
    let found = known(roll, key)?;
    let target = workers::member(roll, worker)?;
    let index = roll.worker_index(worker.as_str()).ok_or_else(|| Refusal::WorkerUnknown(worker.clone()))?;
    let first = match &found.holder {
        Holder::Operator(_) => return Err(Refusal::KeyOfOperator(key)),
        Holder::Worker(first) => *first,
        Holder::Workers(all) => all[0],
    };
    good(roll, found, now)?;
    if found.workers().contains(&index) {
        return Ok(vec![]);
    }
    // It would be refused to this worker as soon as it was given.
    if roll.is_fenced(target, found.issued) {
        return Err(Refusal::KeyFenced(key));
    }
    let pool = roll.worker_at(first).map(|worker| &worker.pool);
    if pool != Some(&target.pool) {
        return Err(Refusal::SharedAcrossPools(pool.unwrap_or(&target.pool).clone()));
    }
    if !roll.pool(target.pool.as_str()).is_some_and(|pool| pool.settings.sharing) {
        return Err(Refusal::SharingOff(target.pool.clone()));
    }
    let crowded = match found.kind {
        KeyKind::Api => found.workers().len() >= SHARERS_MAX,
        KeyKind::Static => sharers(roll.static_secrets(&found.verifier)) >= SECRET_SHARERS_MAX,
    };
    if crowded {
        return Err(Refusal::TooManySharers);
    }
    if count_live(roll, target, now) >= WORKER_KEYS_MAX {
        return Err(Refusal::TooManyKeys);
    }
    Ok(vec![Event::KeyShared { key, worker: worker.clone() }])
}

/// Good, and not refused by a fence to any of those who have it: whoever stole it from one of them must not be able to
/// make another key of it as the next one.
fn good(roll: &Roll, key: &Key, now: Timestamp) -> Result<(), Refusal> {
    match key.standing(now) {
        KeyStanding::Live | KeyStanding::Overlapping if roll.is_fenced_for_any(key) => Err(Refusal::KeyFenced(key.id)),
        KeyStanding::Live | KeyStanding::Overlapping => Ok(()),
        KeyStanding::Fenced => Err(Refusal::KeyFenced(key.id)),
        KeyStanding::Expired => Err(Refusal::KeyExpired(key.id)),
        KeyStanding::Revoked => Err(Refusal::KeyRevoked(key.id)),
    }
}

pub(super) fn rotate(roll: &Roll, key: KeyId, successor: &Successor, overlap: Seconds, context: &Context) -> Decision {
    let now = context.now;
    let found = known(roll, key)?;
    limits::overlap(overlap)?;
    limits::future("expires_at", successor.expires_at, now)?;
    good(roll, found, now)?;
    has_no_successor(roll, found, now)?;
    if found.kind != successor.kind {
        return Err(Refusal::KeyKind(key));
    }
    id_is_free(roll, successor.id)?;
    if found.kind == KeyKind::Static
        && let Some(worker) = found.workers().first().and_then(|index| roll.worker_at(*index))
    {
        static_secret_is_new(found, successor)?;
        static_secret_is_free(roll, &successor.verifier, &worker.pool, found.workers().len(), now)?;
    }
    holders_have_room(roll, found, overlap, now)?;
    let derived = is_presented(context, key);
    // Whoever was lent a key for a month must not make it one for ever with nothing but the key.
    let own_end = if derived { found.expires_at } else { None };
    Ok(vec![Event::KeyRotated {
        key,
        successor: successor.id,
        verifier: successor.verifier,
        expires_at: [successor.expires_at, own_end].into_iter().flatten().min(),
        overlap_until: now.after(overlap),
        derived,
    }])
}

/// A key is rotated once: of two who did it at the same time each would deploy a key of their own, and one of the two would
/// be known to nobody. Where the successor has ended, the rest of the overlap is there to make another.
fn has_no_successor(roll: &Roll, key: &Key, now: Timestamp) -> Result<(), Refusal> {
    if key.state == KeyState::Live {
        return Ok(());
    }
    let successor = holder_keys(roll, key).into_iter().find(|other| other.parent == Some(key.id) && other.is_good(now));
    successor.map_or(Ok(()), |successor| Err(Refusal::KeyAlreadyRotated { key: key.id, successor: successor.id }))
}

/// Whether a key that was superseded, and may have ended since, can be given a successor by an operator.
pub(super) fn can_be_succeeded(roll: &Roll, key: &Key, now: Timestamp) -> bool {
    !roll.is_fenced_for_any(key)
        && has_no_successor(roll, key, now).is_ok()
        && holders_have_room(roll, key, Seconds(0), now).is_ok()
}

/// The same value again would be no rotation, though the pool may allow that two keys share it.
fn static_secret_is_new(found: &Key, successor: &Successor) -> Result<(), Refusal> {
    if found.verifier == successor.verifier { Err(Refusal::StaticSecretInUse) } else { Ok(()) }
}

/// Whether everyone who holds the key is there to get its successor, and may have one key more.
fn holders_have_room(roll: &Roll, key: &Key, overlap: Seconds, now: Timestamp) -> Result<(), Refusal> {
    // Without an overlap one key goes as the other comes. A leaked key can be rotated however many there are.
    let ending = usize::from(overlap == Seconds(0));
    let crowded = match &key.holder {
        Holder::Operator(id) => {
            count_live_of_operator(roll, operators::existing(roll, *id)?, now) >= OPERATOR_KEYS_MAX + ending
        }
        Holder::Worker(_) | Holder::Workers(_) => {
            // An operator may rotate the key of a worker that is isolated, not of one that is gone.
            if let [only] = key.workers()
                && let Some(worker) = roll.worker_at(*only)
            {
                workers::member(roll, &worker.id)?;
            }
            let mut holders = key.workers().iter().filter_map(|index| roll.worker_at(*index));
            holders.any(|worker| count_live(roll, worker, now) >= WORKER_KEYS_MAX + ending)
        }
    };
    if crowded { Err(Refusal::TooManyKeys) } else { Ok(()) }
}

/// Whether the command came with this very key.
fn is_presented(context: &Context, key: KeyId) -> bool {
    context.author.credential == Some(CredentialUsed::Key(key))
}

/// Revokes the key and, with `descendants`, what was made with it by its own holder: whoever stole the key may have
/// rotated it, and must not be left with the successor (H7).
pub(super) fn revoke(roll: &Roll, key: KeyId, descendants: bool, context: &Context) -> Decision {
    let found = known(roll, key)?;
    let mut doomed = vec![found];
    if descendants {
        let siblings = holder_keys(roll, found);
        let mut next = 0;
        while next < doomed.len() {
            let parent = doomed[next].id;
            doomed.extend(siblings.iter().filter(|key| key.derived && key.parent == Some(parent)));
            next += 1;
        }
    }
    // Whoever holds a key may always end it, even the last admin's: a leaked key must not be kept alive by a rule.
    if !is_presented(context, key) {
        operators::admin_remains_without_keys(roll, &doomed, context.now)?;
    }
    let revoke = |key: &&Key| (key.state != KeyState::Revoked).then_some(Event::KeyRevoked { key: key.id });
    Ok(doomed.iter().filter_map(revoke).collect())
}

/// All keys of the key's (first) holder: a successor has the holders of its parent.
fn holder_keys<'a>(roll: &'a Roll, key: &Key) -> Vec<&'a Key> {
    let ids: &[KeyId] = match &key.holder {
        Holder::Operator(id) => roll.operator(*id).map_or(&[], |operator| &operator.keys),
        Holder::Worker(_) | Holder::Workers(_) => {
            let first = key.workers().first().and_then(|index| roll.worker_at(*index));
            first.map_or(&[], |worker| &worker.keys)
        }
    };
    ids.iter().filter_map(|id| roll.key(*id)).collect()
}
