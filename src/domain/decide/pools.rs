//! Pools.

use super::{Decision, limits};
use crate::domain::enrollment::EnrollmentStanding;
use crate::domain::event::Event;
use crate::domain::ids::PoolId;
use crate::domain::pool::{Pool, PoolSettings, SettingsChange};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;

/// The pool, if it can be worked with.
pub(super) fn existing<'a>(roll: &'a Roll, pool: &PoolId) -> Result<&'a Pool, Refusal> {
    let found = roll.pool(pool.as_str()).ok_or_else(|| Refusal::PoolUnknown(pool.clone()))?;
    if found.removed { Err(Refusal::PoolRemoved(pool.clone())) } else { Ok(found) }
}

pub(super) fn create(roll: &Roll, pool: &PoolId, settings: &PoolSettings) -> Decision {
    limits::pool_settings(settings)?;
    match roll.pool(pool.as_str()) {
        None => Ok(vec![Event::PoolCreated { pool: pool.clone(), settings: settings.clone() }]),
        Some(found) if found.removed => Err(Refusal::PoolRemoved(pool.clone())),
        Some(found) if found.settings == *settings => Ok(vec![]),
        Some(_) => Err(Refusal::PoolExists(pool.clone())),
    }
}

pub(super) fn update(roll: &Roll, pool: &PoolId, change: &SettingsChange) -> Decision {
    let found = existing(roll, pool)?;
    let settings = change.onto(&found.settings);
    limits::pool_settings(&settings)?;
    if found.settings == settings {
        return Ok(vec![]);
    }
    Ok(vec![Event::PoolUpdated { pool: pool.clone(), settings }])
}

pub(super) fn remove(roll: &Roll, pool: &PoolId, now: Timestamp) -> Decision {
    let found = roll.pool(pool.as_str()).ok_or_else(|| Refusal::PoolUnknown(pool.clone()))?;
    if found.removed {
        return Ok(vec![]);
    }
    let lets_in = |standing| match standing {
        EnrollmentStanding::Live | EnrollmentStanding::Overlapping => true,
        EnrollmentStanding::Expired | EnrollmentStanding::Disabled | EnrollmentStanding::Fenced => false,
    };
    let doors = roll.enrollment_secrets().any(|secret| secret.pool == *pool && lets_in(secret.standing(now)));
    if found.workers > 0 || doors {
        return Err(Refusal::PoolNotEmpty { pool: pool.clone(), workers: found.workers });
    }
    Ok(vec![Event::PoolRemoved { pool: pool.clone() }])
}
