//! What a selector reaches: the blast radius, as far as the state knows it. Unlike a plan's list it holds what has ended,
//! too: a responder asks what a credential has ever got to.

use std::collections::BTreeSet;

use super::selection::Criteria;
use super::{IdSet, Roll};
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId};
use crate::domain::plan::Selector;
use crate::domain::worker::WorkerIndex;

#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Those that were named, with those that they made; oldest first.
    pub operators: Vec<OperatorId>,
    /// Oldest first.
    pub enrollment_secrets: Vec<EnrollmentSecretId>,
    /// Oldest first.
    pub workers: Vec<WorkerIndex>,
    /// Those of them that no event has shown at an address that is asked for, and of which it was only noted: a plan, which
    /// goes by the log alone, does not select them.
    pub only_noted: Vec<WorkerIndex>,
    /// Each is held by one of the workers.
    pub keys: IdSet<KeyId>,
}

impl Roll {
    /// `noted`: keys that came from the addresses that are asked for, whatever the log knows of it.
    #[must_use]
    pub fn scope(&self, selector: &Selector, noted: &BTreeSet<KeyId>) -> Scope {
        let criteria = Criteria::of_scope(self, selector, noted);
        let mut reached = vec![false; self.worker_count()];
        let (mut workers, mut only_noted) = (Vec::new(), Vec::new());
        for (worker, index) in self.workers.iter().zip(0..) {
            let index = WorkerIndex(index);
            if criteria.covers(index, worker) {
                reached[index.0 as usize] = true;
                workers.push(index);
                if !criteria.covers_by_log(worker) {
                    only_noted.push(index);
                }
            }
        }
        let held = self.keys.iter().filter(|key| key.workers().iter().any(|index| reached[index.0 as usize]));
        let keys = held.filter(|key| criteria.covers_key(self, key)).map(|key| key.id).collect();
        let mut secrets: Vec<_> = self.enrollment_secrets().filter(|secret| criteria.covers_secret(secret)).collect();
        secrets.sort_unstable_by_key(|secret| secret.issued);
        let makers = criteria.made.iter().flat_map(|made| &made.operators);
        let operators = makers.filter_map(|index| self.operator_at(*index)).map(|operator| operator.id).collect();
        let enrollment_secrets = secrets.into_iter().map(|secret| secret.id).collect();
        Scope { operators, enrollment_secrets, workers, only_noted, keys }
    }
}
