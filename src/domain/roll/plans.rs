//! The plans of the Roll: what applying one changes, and how far it has been recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Roll;
use super::evolve::Origin;
use crate::domain::enrollment::EnrollmentState;
use crate::domain::event::PlanMade;
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::key::KeyState;
use crate::domain::plan::{Approval, ApprovalPolicy, Item, Plan, PlanKind, Progress};
use crate::domain::time::Timestamp;
use crate::domain::worker::{WorkerIndex, WorkerState};

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

    /// Which plans need a second operator.
    #[must_use]
    pub fn plan_policy(&self) -> &ApprovalPolicy {
        &self.plan_policy
    }

    pub(super) fn make_plan(&mut self, origin: Origin, made: &PlanMade) {
        let plan = Plan {
            id: made.plan,
            kind: made.kind.clone(),
            selector: made.selector.clone(),
            digest: made.digest,
            counts: made.counts,
            left_without_key: made.left_without_key,
            replaces: made.replaces,
            approval: made.approval,
            approvals: Vec::new(),
            made: origin.position,
            made_by: origin.by,
            made_at: origin.at,
            expires_at: made.expires_at,
            progress: None,
        };
        self.plan_ends.extend(plan.forgotten_at().map(|at| (at, plan.id)));
        self.plans.insert(made.plan, Arc::new(plan));
    }

    pub(super) fn approve_plan(&mut self, origin: Origin, id: PlanId) {
        let (Some(by), Some(key)) = (origin.by, origin.key) else { return };
        self.with_plan(id, |plan| {
            // The key that the one before came with may have ended since.
            plan.approvals.retain(|approval| approval.by != by);
            plan.approvals.push(Approval { by, key, at: origin.at });
        });
    }

    /// The whole list at once: whoever waits for this event waits for all of it.
    pub(super) fn apply_plan(&mut self, origin: Origin, id: PlanId) {
        let Origin { position: applied, at: applied_at, by: applied_by, .. } = origin;
        let Some(plan) = self.plan(id).filter(|plan| plan.progress.is_none()).cloned() else { return };
        let mut items: Arc<[Item]> = self.select(&plan.kind, &plan.selector).into();
        if plan.marks_items() {
            for item in items.iter() {
                self.apply_item(&plan.kind, *item, origin.asked_at);
            }
        } else if plan.kind == PlanKind::RevokeAll {
            self.mark_escaping(&items);
        }
        let total = items.len() as u64;
        let done = if plan.kind.records_items() { 0 } else { total };
        if done == total {
            items = Arc::default();
        }
        let progress = Progress { applied, applied_at, applied_by, items, total, done, changed: 0 };
        self.with_plan(id, |plan| plan.progress = Some(progress));
    }

    /// By the time of the record, and not of the clock, as everything that is forgotten.
    pub(super) fn forget_plans(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.plan_ends.get_min().copied().filter(|(at, _)| *at <= now) {
            self.plan_ends.remove(&(at, id));
            self.plans.remove(&id);
        }
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

    fn apply_item(&mut self, kind: &PlanKind, item: Item, asked_at: Timestamp) {
        match (kind, item) {
            (PlanKind::Isolate { until }, Item::Worker(index)) => {
                self.set_worker_state(index, WorkerState::Isolated { until: *until });
            }
            (PlanKind::Release, Item::Worker(index)) => self.set_worker_state(index, WorkerState::Active),
            (PlanKind::RevokeAll, Item::Key(id)) => self.with_key(id, |key| key.state = KeyState::Fenced),
            (PlanKind::RevokeAll | PlanKind::DisableEnrollment, Item::EnrollmentSecret(id)) => {
                self.with_enrollment_secret(id, |secret| secret.state = EnrollmentState::Disabled);
            }
            (PlanKind::RotateAll { overlap, .. }, Item::Key(id)) => {
                _ = self.supersede_key(id, asked_at.after(*overlap));
            }
            (PlanKind::RotateEnrollment { overlap }, Item::EnrollmentSecret(id)) => {
                self.supersede_enrollment_secret(id, asked_at.after(*overlap));
            }
            // No list of these kinds has such an item.
            (
                PlanKind::Isolate { .. }
                | PlanKind::Release
                | PlanKind::RevokeAll
                | PlanKind::DisableEnrollment
                | PlanKind::RotateAll { .. }
                | PlanKind::RotateEnrollment { .. }
                | PlanKind::RotateSigningKeys { .. }
                | PlanKind::Fence,
                Item::Worker(_) | Item::Key(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_),
            ) => {}
        }
    }

    fn set_worker_state(&mut self, index: WorkerIndex, state: WorkerState) {
        self.with_worker_at(index, |worker| worker.state = state);
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
        let Some(plan) = self.plans.get_mut(&id) else { return };
        let before = plan.forgotten_at();
        change(Arc::make_mut(plan));
        let after = plan.forgotten_at();
        if before != after {
            before.map(|at| self.plan_ends.remove(&(at, id)));
            self.plan_ends.extend(after.map(|at| (at, id)));
        }
    }
}
