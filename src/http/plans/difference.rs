//! How the list of a plan differs from that of the plan whose place it takes.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::ids::PlanId;
use crate::domain::plan::{Counts, Item};
use crate::domain::roll::Roll;
use crate::http::App;
use crate::http::page::scanned;
use crate::http::problem::Problem;
use crate::http::view::{CountsView, item_view};

/// Items that are named of each side: a screen that a person can read out.
const SHOWN: usize = 20;

/// What has come to the list, and what has gone from it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Difference {
    /// False: the list of the earlier plan is not known on this node any more, and nothing can be said.
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    added: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    gone: Option<Side>,
}

/// Items that are on one list and not on the other.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Side {
    counts: CountsView,
    /// The first of them.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
}

impl Difference {
    pub(in crate::http) fn of(roll: &Roll, before: Option<&[Item]>, after: &[Item]) -> Self {
        let Some(before) = before else { return Self { known: false, added: None, gone: None } };
        let (added, gone) = (Side::of(roll, after, before), Side::of(roll, before, after));
        Self { known: true, added: Some(added), gone: Some(gone) }
    }
}

impl Side {
    fn of(roll: &Roll, items: &[Item], without: &[Item]) -> Self {
        let without: HashSet<&Item> = without.iter().collect();
        let items: Vec<Item> = items.iter().filter(|item| !without.contains(item)).copied().collect();
        let shown = items.iter().take(SHOWN).map(|item| item_view(roll, *item)).collect();
        Self { counts: CountsView::of(Counts::of(&items)), items: shown }
    }
}

/// `roll` is the state right after the new plan was made.
pub(super) async fn between(app: &App, roll: Roll, replaced: PlanId, new: PlanId) -> Result<Value, Problem> {
    let node = app.node().clone();
    scanned(roll.key_count().max(roll.worker_count()), move || {
        let plan = roll.plan(new).cloned();
        let after = plan.and_then(|plan| node.plan_lists().find(&roll, &plan));
        let before = node.plan_lists().get(replaced);
        Ok(json!(Difference::of(
            &roll,
            before.as_deref().filter(|_| after.is_some()),
            after.as_deref().unwrap_or_default()
        )))
    })
    .await
}
