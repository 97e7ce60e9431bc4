//! The readmissions of the Roll: who is back, in which wave, and what was counted of them since.

use std::sync::Arc;

use super::Roll;
use crate::domain::admit::Denial;
use crate::domain::event::FailureCount;
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::key::{KeyKind, KeyState};
use crate::domain::plan::{Delivery, Item, Plan, Progress};
use crate::domain::readmission::{Readmission, ReadmissionChange, Stage, Terms, Wave};
use crate::domain::time::Timestamp;
use crate::domain::tripwire::{Tripped, Why};
use crate::domain::worker::{Worker, WorkerIndex, WorkerState};

impl Roll {
    /// Plans that let workers back in, in the order in which they were made, from the one after `cursor` on.
    pub fn readmissions_after(&self, cursor: Option<PlanId>) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans_after(cursor).filter(|plan| plan.kind.terms().is_some())
    }

    /// How many of the list are of the canary pool.
    #[must_use]
    pub fn canaries(&self, terms: &Terms, items: &[Item]) -> u64 {
        items.iter().take_while(|item| self.is_canary(terms, **item)).count() as u64
    }

    pub(super) fn is_canary(&self, terms: &Terms, item: Item) -> bool {
        let Item::Worker(index) = item else { return false };
        self.worker_at(index).is_some_and(|worker| terms.canary.as_ref() == Some(&worker.pool))
    }

    pub(super) fn change_readmission(&mut self, position: u64, at: Timestamp, plan: PlanId, change: ReadmissionChange) {
        if matches!(change, ReadmissionChange::RolledBack { .. }) {
            return self.roll_back(position, plan);
        }
        self.with_readmission(plan, |readmission| match change {
            ReadmissionChange::WaveReleased { workers, .. } => {
                let from = readmission.begun();
                let to = from + workers;
                readmission.waves.push(Wave { from, to, released: position, released_at: at, refusals: 0, trips: 0 });
            }
            ReadmissionChange::KeysMade { done } => (readmission.keyed, readmission.stands_since) = (done, at),
            ReadmissionChange::Paused => readmission.stage = Stage::Paused,
            ReadmissionChange::Stopped { .. } => readmission.stage = Stage::Stopped,
            ReadmissionChange::Completed => readmission.stage = Stage::Completed,
            // Whoever goes on has looked at what was counted, and at the last wave for as long as it stood still.
            ReadmissionChange::Resumed => {
                readmission.stage = Stage::Releasing;
                (readmission.refusals, readmission.trips) = (0, 0);
                (readmission.stands_since, readmission.counted_since) = (at, at);
            }
            ReadmissionChange::RolledBack { .. } => {}
        });
    }

    /// All whom it had let in are isolated again, at once, and what they were given since is refused.
    fn roll_back(&mut self, position: u64, id: PlanId) {
        let Some(plan) = self.plan(id).cloned() else { return };
        let Some((progress, readmission)) =
            plan.progress.as_ref().and_then(|progress| Some((progress, progress.readmission.as_ref()?)))
        else {
            return;
        };
        let back = usize::try_from(progress.done).unwrap_or(usize::MAX).min(progress.items.len());
        for item in &progress.items[..back] {
            let Item::Worker(index) = item else { continue };
            for key in self.new_keys(readmission, *item) {
                self.with_key(key, |key| {
                    if key.state != KeyState::Revoked {
                        key.state = KeyState::Fenced;
                    }
                });
            }
            if self.worker_at(*index).is_some_and(Worker::is_member) {
                self.set_worker_state(*index, WorkerState::Isolated { until: None });
            }
        }
        self.with_plan(id, |plan| {
            let Some(progress) = &mut plan.progress else { return };
            progress.items = progress.items[..back].into();
            (progress.total, progress.done, progress.changed) = (back as u64, 0, 0);
            if let Some(readmission) = &mut progress.readmission {
                (readmission.stage, readmission.rolled_back) = (Stage::RolledBack, Some(position));
            }
        });
    }

    /// The keys that a worker of the list was given since it was released.
    #[must_use]
    pub fn new_keys(&self, readmission: &Readmission, item: Item) -> Vec<KeyId> {
        let Item::Worker(index) = item else { return vec![] };
        let (Some(worker), Some((wave, _))) = (self.worker_at(index), readmission.wave_of(index)) else {
            return vec![];
        };
        let released = readmission.waves[wave].released;
        let keys = worker.keys.iter().filter_map(|id| self.key(*id));
        // One that is shared with somebody who stayed is theirs too.
        let new = keys.filter(|key| key.issued > released && readmission.lists_all(key.workers()));
        new.map(|key| key.id).collect()
    }

    /// When the last of the API keys ends that a worker of the list held when it came back, if each of them does: what is given
    /// for a while is not made one for ever.
    #[must_use]
    pub fn old_keys_end(&self, readmission: &Readmission, worker: WorkerIndex) -> Option<Timestamp> {
        let (wave, _) = readmission.wave_of(worker)?;
        let released = readmission.waves[wave].released;
        let held = self.worker_at(worker)?.keys.iter().filter_map(|id| self.key(*id));
        let mut old = held.filter(|key| key.kind == KeyKind::Api && key.issued <= released).map(|key| key.expires_at);
        let first = old.next()??;
        old.try_fold(first, |last, next| Some(last.max(next?)))
    }

    /// Counts refusals of workers that were released before the window began. Of those in whose window the release was,
    /// nobody knows on which side they were. Only whoever had the secret counts: a public id alone stops nothing.
    pub(super) fn count_refusals(&mut self, from: Timestamp, failures: &[FailureCount]) {
        for id in self.open_readmissions() {
            for failure in failures {
                self.count_refusal(id, from, failure);
            }
        }
    }

    fn count_refusal(&mut self, id: PlanId, from: Timestamp, failure: &FailureCount) {
        let mut denials = Denial::ALL.iter();
        let denial = denials.find(|denial| denial.is_of_genuine_key() && denial.code() == &*failure.reason);
        // That somebody has isolated or removed it since is no news.
        let is_told = denial.is_some_and(|denial| !matches!(denial, Denial::WorkerIsolated | Denial::WorkerRemoved));
        let shown = failure.credential.as_deref().and_then(|text| text.strip_prefix("key:")?.parse().ok());
        let Some(key) = shown.filter(|_| is_told).and_then(|id: KeyId| self.key(id)) else { return };
        let (holders, issued, count) = (key.workers().to_vec(), key.issued, failure.count);
        self.with_returned(id, &holders, from, |terms, readmission, (wave, place)| {
            let is_old = issued <= readmission.waves[wave].released;
            if is_old && !readmission.stale.contains(&place) {
                Arc::make_mut(&mut readmission.stale).insert(place);
            }
            if !is_expected(terms, is_old) {
                readmission.waves[wave].refusals += count;
                if readmission.counted_since <= from {
                    readmission.refusals += count;
                }
            }
        });
    }

    /// Counts uses of what nobody has any business to show. Who shows a honey key is not known for certain, so each counts while
    /// workers come back.
    pub(super) fn count_trip(&mut self, tripped: &Tripped) {
        let (from, count) = (tripped.from, tripped.count);
        if tripped.why == Why::Honey {
            for id in self.open_readmissions() {
                self.with_readmission(id, |readmission| {
                    let is_begun = readmission.waves.first().is_some_and(|wave| wave.released_at <= from);
                    if is_begun && readmission.counted_since <= from {
                        readmission.trips += count;
                    }
                });
            }
            return;
        }
        let Some(key) = self.key(tripped.key) else { return };
        let presenter = tripped.worker.as_ref().and_then(|id| self.worker_index(id.as_str()));
        let (holders, issued) = (presenter.map_or_else(|| key.workers().to_vec(), |index| vec![index]), key.issued);
        for id in self.open_readmissions() {
            self.with_returned(id, &holders, from, |terms, readmission, (wave, _)| {
                if !is_expected(terms, issued <= readmission.waves[wave].released) {
                    readmission.waves[wave].trips += count;
                    if readmission.counted_since <= from {
                        readmission.trips += count;
                    }
                }
            });
        }
    }

    /// With the wave and the place of whichever of these workers was back by this time.
    fn with_returned(
        &mut self,
        id: PlanId,
        workers: &[WorkerIndex],
        by: Timestamp,
        change: impl FnOnce(&Terms, &mut Readmission, (usize, u32)),
    ) {
        self.with_plan(id, |plan| {
            let Some(terms) = plan.kind.terms() else { return };
            let Some(progress) = &mut plan.progress else { return };
            let done = progress.done;
            let Some(readmission) = &mut progress.readmission else { return };
            if let Some(found) = readmission.back_by(workers, by, done) {
                change(terms, readmission, found);
            }
        });
    }

    fn open_readmissions(&self) -> Vec<PlanId> {
        let is_open = |progress: &Progress| progress.readmission.as_ref().is_some_and(|it| !it.stage.is_over());
        self.running_plans().filter(|(_, progress)| is_open(progress)).map(|(plan, _)| plan.id).collect()
    }

    fn with_readmission(&mut self, id: PlanId, change: impl FnOnce(&mut Readmission)) {
        self.with_plan(id, |plan| {
            if let Some(readmission) = plan.progress.as_mut().and_then(|progress| progress.readmission.as_mut()) {
                change(readmission);
            }
        });
    }
}

/// What a worker held before was ended by its return, and its host goes on with it until it has the new one: that is counted as
/// adoption that is due, and not as a sign of something wrong.
fn is_expected(terms: &Terms, is_old: bool) -> bool {
    is_old && terms.delivery == Delivery::File
}
