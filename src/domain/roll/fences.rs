//! The fences of the Roll: what raising one changes, and what a verdict asks.
//!
//! A verdict reads two numbers that it has at hand, the Roll's and the worker's. The pool and the enrollment secret are
//! looked up only for what was issued before the greatest fence over any of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::Roll;
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentStanding};
use crate::domain::fence::{Fence, FenceScope, Floor, Reach};
use crate::domain::ids::{EnrollmentSecretId, KeyId};
use crate::domain::key::{Key, KeyStanding, KeyState};
use crate::domain::time::Timestamp;
use crate::domain::worker::{Worker, WorkerIndex};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fences {
    /// For lists. Verdicts do not look here.
    pub(super) standing: OrdMap<FenceScope, Fence>,
    pub(super) everything: Floor,
    /// The greatest over any pool.
    pub(super) pools: Floor,
    /// The greatest over any enrollment secret's lineage.
    pub(super) lineages: Floor,
}

impl Roll {
    /// Whether a fence refuses what was issued to this worker at this position.
    #[must_use]
    pub fn is_fenced(&self, worker: &Worker, issued: u64) -> bool {
        let fences = &self.fences;
        fences.everything.refuses(issued)
            || worker.fence.refuses(issued)
            || (fences.pools.refuses(issued) && self.pool_fence(worker).refuses(issued))
            || (fences.lineages.refuses(issued) && self.lineage_fence(worker).refuses(issued))
    }

    /// The fences over this worker's scopes, as one.
    #[must_use]
    pub fn floor_of(&self, worker: &Worker) -> Floor {
        let of_scopes = self.pool_fence(worker).max(self.lineage_fence(worker)).max(worker.fence);
        self.fences.everything.max(of_scopes)
    }

    /// The fence over everything.
    #[must_use]
    pub fn floor_of_everything(&self) -> Floor {
        self.fences.everything
    }

    fn pool_fence(&self, worker: &Worker) -> Floor {
        self.pool(worker.pool.as_str()).map_or_else(Floor::default, |pool| pool.fence)
    }

    fn lineage_fence(&self, worker: &Worker) -> Floor {
        let secret = worker.enrolled_by.and_then(|id| self.enrollment_secret(id));
        secret.map_or_else(Floor::default, |secret| secret.fence)
    }

    /// Whether a fence refuses the key to at least one of the workers that have it.
    #[must_use]
    pub fn is_fenced_for_any(&self, key: &Key) -> bool {
        key.state == KeyState::Fenced || key.workers().iter().any(|index| self.is_fenced_at(*index, key.issued))
    }

    fn is_fenced_at(&self, index: WorkerIndex, issued: u64) -> bool {
        self.worker_at(index).is_some_and(|worker| self.is_fenced(worker, issued))
    }

    /// Whether the key is good and no fence refuses it to this worker. What the worker itself may do is another matter.
    #[must_use]
    pub fn is_good_for(&self, key: &Key, worker: &Worker, now: Timestamp) -> bool {
        key.is_good(now) && !self.is_fenced(worker, key.issued)
    }

    /// The key's standing, fences and all. A key that is good for one of its workers still is no fenced one.
    #[must_use]
    pub fn key_standing(&self, key: &Key, now: Timestamp) -> KeyStanding {
        match key.standing(now) {
            good @ (KeyStanding::Live | KeyStanding::Overlapping) => good.fenced_if(self.is_fenced_for_all(key)),
            ended => ended,
        }
    }

    /// Whether a fence refuses the key to every worker that has it. An operator's key has none, and is in no fence.
    #[must_use]
    pub fn is_fenced_for_all(&self, key: &Key) -> bool {
        let workers = key.workers();
        key.state == KeyState::Fenced
            || (!workers.is_empty() && workers.iter().all(|index| self.is_fenced_at(*index, key.issued)))
    }

    /// By when the key has to be rotated by whoever holds it: it was superseded, and nothing has taken its place.
    #[must_use]
    pub fn rotation_due(&self, key: &Key) -> Option<Timestamp> {
        let KeyState::Superseded { until } = key.state else { return None };
        let holder = key.workers().first().and_then(|index| self.worker_at(*index))?;
        let heirs = holder.keys.iter().filter_map(|id| self.key(*id)).filter(|heir| heir.parent == Some(key.id));
        heirs.into_iter().all(|heir| heir.state == KeyState::Revoked).then_some(until)
    }

    /// The fence that stands over this scope alone.
    #[must_use]
    pub fn fence(&self, scope: &FenceScope) -> Option<&Fence> {
        self.fences.standing.get(scope)
    }

    /// Fences in the order of their scopes, from the one after `cursor` on.
    pub fn fences_after(&self, cursor: Option<&FenceScope>) -> impl Iterator<Item = (&FenceScope, &Fence)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.fences.standing.range::<_, FenceScope>((cursor.map_or(Unbounded, Excluded), Unbounded))
    }

    /// What a fence would refuse that is good now. The fence is raised over a copy, which costs a few pointers: so the plan
    /// cannot differ from what comes of it.
    #[must_use]
    pub fn reach(&self, scope: &FenceScope, up_to: u64, now: Timestamp) -> Reach {
        let mut fenced = self.clone();
        fenced.raise_fence(self.next_position, now, scope, up_to);
        let (keys, workers) = self.lost_keys(&fenced, now);
        let lets_in = |secret: &EnrollmentSecret| match secret.standing(now) {
            EnrollmentStanding::Live | EnrollmentStanding::Overlapping => true,
            EnrollmentStanding::Expired | EnrollmentStanding::Disabled | EnrollmentStanding::Fenced => false,
        };
        let doors = self.enrollment_secrets().zip(fenced.enrollment_secrets());
        let enrollment_secrets = doors.filter(|(before, after)| lets_in(before) && !lets_in(after)).count() as u64;
        Reach { keys, workers, enrollment_secrets }
    }

    /// How many keys are good for some member of the fleet here and not there, and for how many members.
    fn lost_keys(&self, fenced: &Roll, now: Timestamp) -> (u64, u64) {
        let mut losers = vec![false; self.worker_count()];
        let mut keys = 0;
        // A fence adds no key, so both have the same rows.
        let pairs = self.keys.after(None).into_iter().flatten().zip(fenced.keys.after(None).into_iter().flatten());
        for (before, after) in pairs.filter(|(before, _)| before.is_good(now)) {
            let mut lost = false;
            for index in before.workers() {
                let (Some(worker), Some(behind)) = (self.worker_at(*index), fenced.worker_at(*index)) else { continue };
                let good = worker.is_member() && self.is_good_for(before, worker, now);
                if good && !fenced.is_good_for(after, behind, now) {
                    (lost, losers[index.0 as usize]) = (true, true);
                }
            }
            keys += u64::from(lost);
        }
        (keys, losers.into_iter().filter(|lost| *lost).count() as u64)
    }

    pub(super) fn raise_fence(&mut self, position: u64, at: Timestamp, scope: &FenceScope, up_to: u64) {
        let floor = Floor::above(up_to);
        match scope {
            FenceScope::Everything => {
                self.fences.everything.raise(floor);
                self.fence_secrets(floor, |_| true);
            }
            FenceScope::Pool(pool) => {
                if self.pool(pool.as_str()).is_none() {
                    return;
                }
                self.fences.pools.raise(floor);
                self.with_pool(pool, |pool| pool.fence.raise(floor));
                self.fence_secrets(floor, |secret| secret.pool == *pool);
            }
            FenceScope::Lineage(secret) => {
                if self.enrollment_secret(*secret).is_none() {
                    return;
                }
                self.fences.lineages.raise(floor);
                let line = self.line_of(*secret);
                self.fence_secrets(floor, |secret| line.contains(&secret.id));
            }
            FenceScope::Worker(worker) => {
                if self.worker_index(worker.as_str()).is_none() {
                    return;
                }
                self.with_worker(worker, |worker| worker.fence.raise(floor));
            }
        }
        let new = Fence { up_to, raised: position, raised_at: at };
        if self.fence(scope).is_none_or(|standing| standing.up_to < up_to) {
            self.fences.standing.insert(scope.clone(), new);
        }
        self.fence_heirs(up_to);
    }

    /// There are few enrollment secrets, so each knows the greatest fence of all its scopes.
    fn fence_secrets(&mut self, floor: Floor, covers: impl Fn(&EnrollmentSecret) -> bool) {
        let covered: Vec<EnrollmentSecretId> =
            self.enrollment_secrets().filter(|secret| covers(secret)).map(|secret| secret.id).collect();
        for id in covered {
            self.with_enrollment_secret(id, |secret| secret.fence.raise(floor));
        }
    }

    /// The secret and what it was rotated into, and that again.
    pub(super) fn line_of(&self, first: EnrollmentSecretId) -> BTreeSet<EnrollmentSecretId> {
        let (mut line, mut next) = (vec![first], 0);
        while let Some(parent) = line.get(next).copied() {
            let rotated =
                self.enrollment_secrets().filter(|secret| secret.parent == Some(parent)).map(|secret| secret.id);
            line.extend(rotated);
            next += 1;
        }
        line.into_iter().collect()
    }

    /// A fence at an earlier position leaves time in which what it refuses was still good. Whoever stole a credential may
    /// have used that time to make another one (H7): what came of a refused credential by its own power is refused too,
    /// whenever it was issued. What an operator made is nobody's loot, and stays.
    ///
    /// A fence at the newest position, which is the rule, has nobody after it and looks at no key.
    fn fence_heirs(&mut self, up_to: u64) {
        let mut heirs = BTreeSet::new();
        for key in self.keys.issued_after(up_to) {
            let by_key = key.derived && key.parent.is_some_and(|id| heirs.contains(&id) || self.is_refused(id));
            if by_key || self.is_of_refused_secret(key) {
                heirs.insert(key.id);
            }
        }
        for id in heirs {
            self.with_key(id, |key| {
                if key.state != KeyState::Revoked {
                    key.state = KeyState::Fenced;
                }
            });
        }
    }

    fn is_refused(&self, id: KeyId) -> bool {
        self.key(id).is_some_and(|key| self.is_fenced_for_any(key))
    }

    /// Whether it is the key that a worker was given for an enrollment secret which is refused by now.
    fn is_of_refused_secret(&self, key: &Key) -> bool {
        let Some(worker) = key.workers().first().and_then(|index| self.worker_at(*index)) else { return false };
        let secret: Option<&Arc<EnrollmentSecret>> = worker.enrolled_by.and_then(|id| self.enrollment_secret(id));
        secret.is_some_and(|secret| secret.is_fenced()) && worker.keys.first() == Some(&key.id)
    }
}
