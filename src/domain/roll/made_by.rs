//! What operators have made, in any depth: what they created, what that let in, and what came of it.

use std::collections::BTreeSet;

use super::{IdSet, Roll};
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId};
use crate::domain::key::{Holder, Key};
use crate::domain::operator::OperatorIndex;
use crate::domain::worker::{Worker, WorkerIndex};

/// All that some operators have made.
#[derive(Default)]
pub(super) struct MadeBy {
    pub(super) operators: BTreeSet<OperatorIndex>,
    pub(super) secrets: BTreeSet<EnrollmentSecretId>,
    /// Keys that they made themselves, and what those were rotated into.
    keys: IdSet<KeyId>,
    /// By row: whoever holds one of these keys, and may have it from them.
    holders: Vec<bool>,
}

impl Roll {
    /// With the operators that these have made: whoever makes another to act for them has done it all the same.
    pub(super) fn made_by(&self, operators: &BTreeSet<OperatorId>) -> MadeBy {
        let mut made = MadeBy { holders: vec![false; self.worker_count()], ..MadeBy::default() };
        let by = |made: &MadeBy, index: Option<OperatorIndex>| index.is_some_and(|by| made.operators.contains(&by));
        let mut all: Vec<_> = self.operators().collect();
        all.sort_unstable_by_key(|operator| operator.index);
        for operator in all {
            if operators.contains(&operator.id) || by(&made, operator.created_by) {
                made.operators.insert(operator.index);
            }
        }
        let mut secrets: Vec<_> = self.enrollment_secrets().collect();
        secrets.sort_unstable_by_key(|secret| secret.issued);
        for secret in secrets {
            if by(&made, secret.created_by) || secret.parent.is_some_and(|parent| made.secrets.contains(&parent)) {
                made.secrets.insert(secret.id);
            }
        }
        // A key comes after the one that it succeeds.
        for key in self.keys.iter() {
            if by(&made, key.created_by) || key.parent.is_some_and(|parent| made.keys.contains(&parent)) {
                made.keys.insert(key.id);
                key.workers().iter().for_each(|index| made.holders[index.0 as usize] = true);
            }
        }
        made
    }
}

impl Roll {
    /// Takes in operators for whom these have made a key, and so may have acted as them; with all that those have made.
    pub(super) fn widen(&self, made: &mut MadeBy) {
        loop {
            let minted = self.keys.iter().filter(|key| key.created_by.is_some_and(|by| made.operators.contains(&by)));
            let holders = minted.filter_map(|key| match key.holder {
                Holder::Operator(id) => self.operator(id),
                Holder::Worker(_) | Holder::Workers(_) => None,
            });
            let more: BTreeSet<OperatorId> =
                holders.filter(|holder| !made.operators.contains(&holder.index)).map(|holder| holder.id).collect();
            if more.is_empty() {
                return;
            }
            let known = made.operators.iter().filter_map(|index| self.operator_at(*index)).map(|operator| operator.id);
            *made = self.made_by(&known.chain(more).collect());
        }
    }
}

impl MadeBy {
    /// Whether they made it, or let it in, or made a key that it holds.
    pub(super) fn reaches(&self, index: WorkerIndex, worker: &Worker) -> bool {
        self.has_made(worker) || self.holders[index.0 as usize]
    }

    /// Whether they made it, or it is a key of a worker that they made.
    pub(super) fn reaches_key(&self, roll: &Roll, key: &Key) -> bool {
        let of_theirs = |index: &WorkerIndex| roll.worker_at(*index).is_some_and(|worker| self.has_made(worker));
        self.keys.contains(&key.id) || key.workers().iter().any(of_theirs)
    }

    fn has_made(&self, worker: &Worker) -> bool {
        worker.created_by.is_some_and(|by| self.operators.contains(&by))
            || worker.enrolled_by.is_some_and(|secret| self.secrets.contains(&secret))
    }
}
