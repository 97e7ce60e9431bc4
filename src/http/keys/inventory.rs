//! Every key that there is, holder by holder: what nobody can list, nobody can revoke (H24).
//!
//! The Roll has its keys in no order, and to sort a million of them for each page would be a second for each page. Workers
//! and operators are in the order of their ids, so the keys come in that order, and a page costs what it shows.

use std::sync::Arc;

use crate::domain::ids::KeyId;
use crate::domain::key::{Holder, Key};
use crate::domain::operator::Operator;
use crate::domain::roll::Roll;
use crate::domain::worker::Worker;

/// The keys that come after this one, or all: those of workers in the order of the workers' ids, and then those of
/// operators. A shared key comes once, with the worker that it was made for.
pub(super) fn keys_after<'a>(roll: &'a Roll, after: Option<&'a Key>) -> impl Iterator<Item = &'a Arc<Key>> {
    let (worker, operator) = match after {
        None => (None, None),
        Some(key) => match &key.holder {
            Holder::Operator(id) => (None, roll.operator(*id)),
            Holder::Worker(index) => (roll.worker_at(*index), None),
            Holder::Workers(all) => (all.first().and_then(|index| roll.worker_at(*index)), None),
        },
    };
    let rest_of_worker = worker.into_iter().flat_map(|worker| own_keys(roll, worker));
    let rest_of_operator = operator.into_iter().flat_map(|operator| operators_keys(roll, operator));
    let rest = rest_of_worker.chain(rest_of_operator).filter(move |key| after.is_none_or(|after| key.id > after.id));

    // After an operator's key no worker's comes.
    let workers = operator.is_none().then(|| roll.workers_after(worker.map(|worker| worker.id.as_str())));
    let workers = workers.into_iter().flatten().flat_map(|worker| own_keys(roll, worker));
    let operators = roll.operators().filter(move |next| operator.is_none_or(|last| next.id > last.id));
    rest.chain(workers).chain(operators.flat_map(|operator| operators_keys(roll, operator)))
}

/// Those that were made for the worker.
fn own_keys<'a>(roll: &'a Roll, worker: &'a Worker) -> impl Iterator<Item = &'a Arc<Key>> {
    let made_for = |key: &Key| key.workers().first().and_then(|index| roll.worker_at(*index));
    in_order(roll, &worker.keys).filter(move |key| made_for(key).is_some_and(|first| first.id == worker.id))
}

fn operators_keys<'a>(roll: &'a Roll, operator: &'a Operator) -> impl Iterator<Item = &'a Arc<Key>> {
    in_order(roll, &operator.keys)
}

/// By id: several nodes may have made them, and then they came in another order.
fn in_order<'a>(roll: &'a Roll, ids: &[KeyId]) -> impl Iterator<Item = &'a Arc<Key>> + use<'a> {
    let mut keys: Vec<&Arc<Key>> = ids.iter().filter_map(|id| roll.key(*id)).collect();
    keys.sort_unstable_by_key(|key| key.id);
    keys.into_iter()
}
