//! The lists of plans that were made and not applied, as they were shown. The log has a digest of each, from which no list is
//! made again once what it selects has changed; and a plan that takes another's place is compared with that.
//!
//! Every node finds out the list as soon as it hears of the plan. It is no part of the state: where it was too late, or has
//! been started since, it is not known there, and what asks for it says so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::PlanId;
use crate::domain::plan::{Item, Plan};
use crate::domain::roll::Roll;

/// An incident has few plans under way at a time.
const LISTS_MAX: usize = 16;
/// Items of all lists together, of some 24 bytes each: twice the largest fleet that is spoken of.
const ITEMS_MAX: usize = 4_000_000;

/// Oldest first.
#[derive(Default)]
pub struct PlanLists(Mutex<VecDeque<(PlanId, Arc<[Item]>)>>);

impl PlanLists {
    /// The plan's list, if it is known.
    #[must_use]
    pub fn get(&self, plan: PlanId) -> Option<Arc<[Item]>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.iter().find(|(id, _)| *id == plan).map(|(_, items)| items.clone())
    }

    /// The same; or else what the plan selects on this Roll, if that is what was shown. It looks at the whole fleet.
    #[must_use]
    pub fn find(&self, roll: &Roll, plan: &Plan) -> Option<Arc<[Item]>> {
        if let Some(known) = self.get(plan.id) {
            return Some(known);
        }
        let items: Arc<[Item]> = roll.select(&plan.kind, &plan.selector).into();
        let is_shown = roll.plan_digest(&plan.kind, &plan.selector, &items) == plan.digest;
        is_shown.then(|| {
            self.keep(plan.id, items.clone());
            items
        })
    }

    fn keep(&self, plan: PlanId, items: Arc<[Item]>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.iter().any(|(id, _)| *id == plan) {
            return;
        }
        lists.push_back((plan, items));
        let held = |lists: &VecDeque<(PlanId, Arc<[Item]>)>| lists.iter().map(|(_, items)| items.len()).sum::<usize>();
        while lists.len() > 1 && (lists.len() > LISTS_MAX || held(&lists) > ITEMS_MAX) {
            lists.pop_front();
        }
    }
}
