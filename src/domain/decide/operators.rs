//! Operators, and the first start.

use std::sync::Arc;

use super::{Decision, keys, limits};
use crate::domain::command::Bootstrap;
use crate::domain::event::{Event, KeyCreated, KeyHolder};
use crate::domain::ids::{KeyId, OperatorId};
use crate::domain::key::{Digest, Holder, Key, KeyKind};
use crate::domain::operator::{Operator, Role};
use crate::domain::pool::PoolSettings;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;

/// The API key that an operator starts with.
pub(super) struct FirstKey {
    pub(super) id: KeyId,
    pub(super) verifier: Digest,
    pub(super) expires_at: Option<Timestamp>,
}

/// What a log needs to be worked with: signing keys, a pool, an admin. Two services that start at once both wish it; the
/// second finds it done. Where every admin's key has ended, the next start makes an admin: whoever can restart the
/// service and read its data directory needs no other proof.
pub(super) fn bootstrap(roll: &Roll, bootstrap: &Bootstrap, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    if roll.active_signing_key().is_none() {
        events.push(Event::SigningKeysInstalled { active: bootstrap.active.clone(), next: bootstrap.next.clone() });
    }
    if roll.pool(bootstrap.pool.as_str()).is_none() {
        events.push(Event::PoolCreated { pool: bootstrap.pool.clone(), settings: PoolSettings::default() });
    }
    if !roll.operators().any(|operator| is_working_admin(roll, operator, &[], now)) {
        let key = FirstKey { id: bootstrap.key, verifier: bootstrap.verifier, expires_at: None };
        events.extend(created(bootstrap.operator, &bootstrap.name, Role::Admin, &key));
    }
    events
}

pub(super) fn create(
    roll: &Roll,
    operator: OperatorId,
    name: &Arc<str>,
    role: Role,
    key: &FirstKey,
    now: Timestamp,
) -> Decision {
    limits::name(name)?;
    limits::future("expires_at", key.expires_at, now)?;
    limits::unused("operator", roll.operator(operator).is_none())?;
    keys::id_is_free(roll, key.id)?;
    Ok(created(operator, name, role, key).into())
}

fn created(operator: OperatorId, name: &Arc<str>, role: Role, key: &FirstKey) -> [Event; 2] {
    [
        Event::OperatorCreated { operator, name: name.clone(), role },
        Event::KeyCreated(KeyCreated {
            key: key.id,
            holder: KeyHolder::Operator(operator),
            kind: KeyKind::Api,
            verifier: key.verifier,
            expires_at: key.expires_at,
        }),
    ]
}

/// The operator, if it was not removed.
pub(super) fn existing(roll: &Roll, id: OperatorId) -> Result<&Operator, Refusal> {
    let operator = roll.operator(id).ok_or(Refusal::OperatorUnknown(id))?;
    if operator.removed { Err(Refusal::OperatorRemoved(id)) } else { Ok(operator) }
}

pub(super) fn update(
    roll: &Roll,
    id: OperatorId,
    name: Option<&Arc<str>>,
    role: Option<Role>,
    now: Timestamp,
) -> Decision {
    let operator = existing(roll, id)?;
    name.map_or(Ok(()), |name| limits::name(name))?;
    let (name, role) = (name.unwrap_or(&operator.name), role.unwrap_or(operator.role));
    if (name, role) == (&operator.name, operator.role) {
        return Ok(vec![]);
    }
    if role != Role::Admin {
        admin_remains_without(roll, operator, now)?;
    }
    Ok(vec![Event::OperatorUpdated { operator: id, name: name.clone(), role }])
}

pub(super) fn remove(roll: &Roll, id: OperatorId, now: Timestamp) -> Decision {
    let operator = roll.operator(id).ok_or(Refusal::OperatorUnknown(id))?;
    if operator.removed {
        return Ok(vec![]);
    }
    admin_remains_without(roll, operator, now)?;
    Ok(vec![Event::OperatorRemoved { operator: id }])
}

/// Nobody may lock everybody out: some admin must keep a working key.
fn admin_remains_without(roll: &Roll, leaving: &Operator, now: Timestamp) -> Result<(), Refusal> {
    if leaving.role != Role::Admin {
        return Ok(());
    }
    let remains = roll.operators().any(|other| other.id != leaving.id && is_working_admin(roll, other, &[], now));
    if remains { Ok(()) } else { Err(Refusal::LastAdmin) }
}

/// The same for keys that are about to be revoked.
pub(super) fn admin_remains_without_keys(roll: &Roll, doomed: &[&Key], now: Timestamp) -> Result<(), Refusal> {
    let works = |except: &[KeyId]| roll.operators().any(|operator| is_working_admin(roll, operator, except, now));
    let ids: Vec<KeyId> = doomed.iter().map(|key| key.id).collect();
    let of_operator = doomed.iter().any(|key| matches!(key.holder, Holder::Operator(_)));
    if of_operator && works(&[]) && !works(&ids) { Err(Refusal::LastAdmin) } else { Ok(()) }
}

fn is_working_admin(roll: &Roll, operator: &Operator, except: &[KeyId], now: Timestamp) -> bool {
    let works = |id: &KeyId| !except.contains(id) && roll.key(*id).is_some_and(|key| key.is_good(now));
    operator.role == Role::Admin && !operator.removed && operator.keys.iter().any(works)
}
