//! The plans of the Roll: what applying one changes, and how far it has been recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Roll;
use crate::domain::enrollment::EnrollmentState;
use crate::domain::event::PlanMade;
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::key::KeyState;
use crate::domain::plan::{Item, Plan, PlanKind, Progress};
use crate::domain::time::Timestamp;
use crate::domain::worker::WorkerState;

impl Roll {
    #[must_use]
    pub fn plan(&self, id: PlanId) -> Option<&Arc<Plan>> {
        self.plans.get(&id)
    }

    /// Plans in the order in which they were made, from the one after `cursor` on.
    pub fn plans_after(&self, cursor: Option<PlanId>) -> impl Iterator<Item = &Arc<Plan>> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.plans.range((cursor.map_or(Unbounded, Excluded), Unbounded)).map(|(_, plan)| plan)
    }

    /// The plans that were applied and not yet recorded to their ends.
    pub fn running_plans(&self) -> impl Iterator<Item = (&Plan, &Progress)> {
        let applied = self.plans.values().filter_map(|plan| Some((&**plan, plan.progress.as_ref()?)));
        applied.filter(|(_, progress)| !progress.is_complete())
    }

    pub(super) fn make_plan(&mut self, position: u64, at: Timestamp, made: &PlanMade) {
        let plan = Plan {
            id: made.plan,
            kind: made.kind.clone(),
            selector: made.selector.clone(),
            digest: made.digest,
            counts: made.counts,
            left_without_key: made.left_without_key,
            made: position,
            made_at: at,
            expires_at: made.expires_at,
            progress: None,
        };
        self.plans.insert(made.plan, Arc::new(plan));
    }

    /// The whole list at once: whoever waits for this event waits for all of it.
    pub(super) fn apply_plan(&mut self, position: u64, at: Timestamp, id: PlanId) {
        let Some(plan) = self.plan(id).filter(|plan| plan.progress.is_none()).cloned() else { return };
        let items: Arc<[Item]> = self.select(&plan.kind, &plan.selector).into();
        if plan.marks_items() {
            for item in items.iter() {
                self.apply_item(&plan.kind, *item);
            }
        } else {
            self.mark_escaping(&items);
        }
        let total = items.len() as u64;
        let progress = Progress { applied: position, applied_at: at, items, total, done: 0, changed: 0 };
        self.with_plan(id, |plan| plan.progress = Some(progress));
    }

    /// A key that several workers share may be on the list for one of them, and then the fence leaves it to the others.
    fn mark_escaping(&mut self, items: &[Item]) {
        let shared = self.shared_keys.iter().filter_map(|id| self.key(*id));
        let escaping: BTreeSet<KeyId> = shared.filter(|key| !self.is_fenced_for_all(key)).map(|key| key.id).collect();
        if escaping.is_empty() {
            return;
        }
        for item in items {
            if let Item::Key(id) = item
                && escaping.contains(id)
            {
                self.with_key(*id, |key| key.state = KeyState::Fenced);
            }
        }
    }

    fn apply_item(&mut self, kind: &PlanKind, item: Item) {
        match item {
            Item::Worker(index) => {
                let Some(worker) = self.workers.get_mut(index.0 as usize) else { return };
                match kind {
                    PlanKind::Isolate { until } => worker.state = WorkerState::Isolated { until: *until },
                    PlanKind::Release => worker.state = WorkerState::Active,
                    PlanKind::RevokeAll | PlanKind::DisableEnrollment => {}
                }
            }
            Item::Key(id) => self.with_key(id, |key| key.state = KeyState::Fenced),
            Item::EnrollmentSecret(id) => {
                self.with_enrollment_secret(id, |secret| secret.state = EnrollmentState::Disabled);
            }
        }
    }

    pub(super) fn progress_plan(&mut self, id: PlanId, done: u64, changed: u64) {
        self.with_plan(id, |plan| {
            let Some(progress) = &mut plan.progress else { return };
            (progress.done, progress.changed) = (done, changed);
            if progress.is_complete() {
                progress.items = Arc::default();
            }
        });
    }

    fn with_plan(&mut self, id: PlanId, change: impl FnOnce(&mut Plan)) {
        if let Some(plan) = self.plans.get_mut(&id) {
            change(Arc::make_mut(plan));
        }
    }
}
