//! Fences: raised, and never taken down.

use super::{Decision, enrollment, limits, workers};
use crate::domain::event::Event;
use crate::domain::fence::FenceScope;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;

/// A fence that is not above the one that stands over the same scope refuses nothing more, and so holds already.
pub(super) fn raise(roll: &Roll, scope: &FenceScope, up_to: Option<u64>) -> Decision {
    known(roll, scope)?;
    // The fence's own position is not behind it: a token of a pool that counts carries the newest position there is, and
    // one that is issued after the fence carries this one.
    let Some(newest) = roll.next_position().checked_sub(1) else { return Ok(vec![]) };
    let up_to = up_to.unwrap_or(newest);
    limits::past_position("up_to", up_to, newest)?;
    if roll.fence(scope).is_some_and(|standing| standing.up_to >= up_to) {
        return Ok(vec![]);
    }
    Ok(vec![Event::FenceRaised { scope: scope.clone(), up_to }])
}

/// Whatever has become of it: who raises a fence over what was removed a moment ago has what they wished for.
fn known(roll: &Roll, scope: &FenceScope) -> Result<(), Refusal> {
    match scope {
        FenceScope::Everything => Ok(()),
        FenceScope::Pool(pool) => match roll.pool(pool.as_str()) {
            Some(_) => Ok(()),
            None => Err(Refusal::PoolUnknown(pool.clone())),
        },
        FenceScope::Lineage(secret) => enrollment::known(roll, *secret).map(|_| ()),
        FenceScope::Worker(worker) => workers::known(roll, worker).map(|_| ()),
    }
}
