//! Enrollment secrets, and letting a worker in by one.

use super::{Decision, keys, limits, pools};
use crate::domain::command::{Context, Enroll};
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentStanding, EnrollmentState, Limits, PENDING_MAX};
use crate::domain::event::{Event, KeyCreated, KeyHolder, WorkerCreated};
use crate::domain::ids::{EnrollmentSecretId, PoolId};
use crate::domain::key::{Digest, KeyKind};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::{Seconds, Timestamp};

pub(super) fn known(roll: &Roll, secret: EnrollmentSecretId) -> Result<&EnrollmentSecret, Refusal> {
    let found = roll.enrollment_secret(secret).ok_or(Refusal::EnrollmentUnknown(secret))?;
    Ok(found)
}

fn open(roll: &Roll, secret: EnrollmentSecretId, now: Timestamp) -> Result<&EnrollmentSecret, Refusal> {
    let found = known(roll, secret)?;
    match found.standing(now) {
        EnrollmentStanding::Live | EnrollmentStanding::Overlapping => Ok(found),
        EnrollmentStanding::Expired | EnrollmentStanding::Disabled => Err(Refusal::EnrollmentEnded(secret)),
        EnrollmentStanding::Fenced => Err(Refusal::EnrollmentFenced(secret)),
    }
}

/// A value is never used again, not even for another pool: who knew it then must not get in now.
fn is_free(roll: &Roll, secret: EnrollmentSecretId, verifier: &Digest) -> Result<(), Refusal> {
    limits::unused("secret", roll.enrollment_secret(secret).is_none())?;
    match roll.enrollment_secret_by_verifier(verifier) {
        Some(_) => Err(Refusal::EnrollmentSecretInUse),
        None => Ok(()),
    }
}

pub(super) fn create(
    roll: &Roll,
    secret: EnrollmentSecretId,
    pool: &PoolId,
    verifier: Digest,
    limits: &Limits,
    now: Timestamp,
) -> Decision {
    pools::existing(roll, pool)?;
    limits::enrollment(limits, now)?;
    is_free(roll, secret, &verifier)?;
    Ok(vec![Event::EnrollmentSecretCreated { secret, pool: pool.clone(), verifier, limits: limits.clone() }])
}

/// A value that is known holds already, even one that was disabled: a restart must not revive it.
pub(super) fn ensure(
    roll: &Roll,
    secret: EnrollmentSecretId,
    pool: &PoolId,
    verifier: Digest,
    now: Timestamp,
) -> Decision {
    match roll.enrollment_secret_by_verifier(&verifier) {
        Some(_) => Ok(vec![]),
        None => create(roll, secret, pool, verifier, &Limits::default(), now),
    }
}

pub(super) fn rotate(
    roll: &Roll,
    secret: EnrollmentSecretId,
    successor: EnrollmentSecretId,
    verifier: Digest,
    overlap: Seconds,
    now: Timestamp,
) -> Decision {
    open(roll, secret, now)?;
    limits::overlap(overlap)?;
    is_free(roll, successor, &verifier)?;
    Ok(vec![Event::EnrollmentSecretRotated { secret, successor, verifier, overlap_until: now.after(overlap) }])
}

pub(super) fn disable(roll: &Roll, secret: EnrollmentSecretId) -> Decision {
    match known(roll, secret)?.state {
        EnrollmentState::Disabled => Ok(vec![]),
        EnrollmentState::Live | EnrollmentState::Superseded { .. } => {
            Ok(vec![Event::EnrollmentSecretDisabled { secret }])
        }
    }
}

/// Lets a worker in, with a key of its own. Past the secret's uses, or where it asks for approval, the worker waits.
pub(super) fn enroll(roll: &Roll, enroll: &Enroll, context: &Context) -> Decision {
    let secret = open(roll, enroll.secret, context.now)?;
    pools::existing(roll, &secret.pool)?;
    enroll.name.as_deref().map_or(Ok(()), limits::name)?;
    limits::labels(&enroll.labels)?;
    if roll.worker(enroll.worker.as_str()).is_some() {
        return Err(Refusal::WorkerExists(enroll.worker.clone()));
    }
    keys::id_is_free(roll, enroll.key)?;
    if !secret.limits.admit_source(context.author.source) {
        return Err(Refusal::EnrollmentSource(secret.id));
    }
    if !secret.limits.admit_name(enroll.name.as_deref().unwrap_or_default()) {
        return Err(Refusal::EnrollmentName(secret.id));
    }
    let used_up = secret.limits.uses_max.is_some_and(|most| secret.uses >= most);
    let pending = secret.limits.approval || used_up;
    if pending && secret.pending >= PENDING_MAX {
        return Err(Refusal::EnrollmentCrowded(secret.id));
    }
    Ok(vec![
        Event::WorkerCreated(WorkerCreated {
            worker: enroll.worker.clone(),
            pool: secret.pool.clone(),
            name: enroll.name.clone(),
            labels: enroll.labels.clone(),
            expires_at: None,
            pending,
            enrolled_by: Some(secret.id),
        }),
        Event::KeyCreated(KeyCreated {
            key: enroll.key,
            holder: KeyHolder::Worker(enroll.worker.clone()),
            kind: KeyKind::Api,
            verifier: enroll.verifier,
            expires_at: None,
        }),
    ])
}
