//! Records applied plans item by item, beside all other traffic, until the last of them is in the log.
//!
//! The plan is in force already, so nothing hurries. The node that applied it goes on at once; should it end before the plan
//! does, any other goes on where it stood still. Two that go on with the same items do no harm: the later one finds that the
//! plan has come further, and records nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::ids::{CommandId, PlanId};
use crate::domain::plan::{Plan, PlanKind, Progress, RECORDED_IN};
use crate::domain::time::Timestamp;
use crate::log::head::Head;
use crate::node::Node;

/// How often it is looked for plans that another node has left, when nothing else happens.
const LOOK: Duration = Duration::from_millis(500);
/// A plan that has not moved for so long has nobody who goes on with it. The node that does is never so slow while it lives.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// The rest after a list, as multiples of the time that it took: the processors and the disk are for validation and for other
/// commands at least as long, also where it is late; and a plan of few lists need not fill its time.
const REST_MIN: u32 = 1;
const REST_MAX: u32 = 10;
/// Before it is tried again where the log could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// What the recording works with.
pub struct Plans {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    /// Where the published Roll ends.
    pub heads: watch::Receiver<Head>,
    /// The newest position at which this node itself has taken access away.
    pub reductions: watch::Receiver<u64>,
}

/// How far a plan had come when it was last looked at, and since when.
struct Seen {
    done: u64,
    since: Instant,
    /// When it was seen first. The time of its application is of another node's clock, maybe.
    first: Instant,
    /// Whether it was this node that recorded the last items.
    ours: bool,
}

/// One plan to go on with.
struct Next {
    plan: PlanId,
    done: u64,
}

impl Plans {
    /// Runs until `stopped` ends. What is not recorded by then is left to another node, or to the next start.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::select! {
            () = self.record_all() => {}
            () = stopped => {}
        }
    }

    async fn record_all(&mut self) {
        let (mut seen, mut looked_at) = (HashMap::new(), HashSet::new());
        loop {
            self.look_at_new(&mut looked_at).await;
            let mut pause = Duration::ZERO;
            for next in self.due(&mut seen) {
                match self.record(&next, &mut seen).await {
                    Some(rest) => pause += rest,
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
            // Once for all of them: whoever is silent for longer has left them.
            if !pause.is_zero() {
                tokio::time::sleep(pause.min(LOOK)).await;
            }
            if self.due(&mut seen).is_empty() {
                tokio::select! {
                    moved = self.heads.changed() => if moved.is_err() { return },
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }

    /// Finds out the lists of plans that were made since, before what they select has changed.
    async fn look_at_new(&self, looked_at: &mut HashSet<PlanId>) {
        let (snapshot, now) = (self.node.snapshot(), mint::now());
        let open = |plan: &&Arc<Plan>| plan.progress.is_none() && plan.expires_at > now;
        let open: Vec<Arc<Plan>> = snapshot.roll.plans_after(None).filter(open).cloned().collect();
        looked_at.retain(|id| open.iter().any(|plan| plan.id == *id));
        for plan in open {
            if looked_at.insert(plan.id) {
                let (node, roll) = (self.node.clone(), snapshot.roll.clone());
                // On a thread that may take its time: a fleet can be a million workers.
                let found = tokio::task::spawn_blocking(move || drop(node.plan_lists().find(&roll, &plan))).await;
                if let Err(error) = found {
                    tracing::error!(%error, "the list of a plan could not be found out");
                }
            }
        }
    }

    /// The plans that this node should go on with.
    fn due(&self, seen: &mut HashMap<PlanId, Seen>) -> Vec<Next> {
        let snapshot = self.node.snapshot();
        let (now, reduced, time) = (Instant::now(), *self.reductions.borrow(), mint::now());
        let mut due = Vec::new();
        let mut running = HashMap::new();
        // What somebody collects is theirs to go on with, until the time for it is over.
        let ours = |(plan, _): &(&Plan, &Progress)| plan.collected_until().is_none_or(|until| until <= time);
        for (plan, progress) in snapshot.roll.running_plans().filter(ours) {
            let before = seen.remove(&plan.id);
            let first = before.as_ref().map_or(now, |before| before.first);
            let before = before.filter(|seen| seen.done == progress.done);
            // What was applied here is begun here. A later reduction of this node hides that, and costs a moment's wait.
            let applied_here = progress.done == 0 && reduced == progress.applied;
            let state = before.unwrap_or(Seen { done: progress.done, since: now, first, ours: applied_here });
            if !is_due(plan, progress, time) {
                // Whoever released the last wave releases the next one, if it is there; others have to wait for that.
                if state.ours {
                    running.insert(plan.id, state);
                }
                continue;
            }
            if state.ours || state.since.elapsed() >= STOOD_STILL {
                due.push(Next { plan: plan.id, done: progress.done });
            }
            running.insert(plan.id, state);
        }
        *seen = running;
        due
    }

    /// Puts the next items into the log, and says how long to rest after them; `None` where that has failed.
    async fn record(&self, next: &Next, seen: &mut HashMap<PlanId, Seen>) -> Option<Duration> {
        let Next { plan, done } = *next;
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command: Command::ContinuePlan { plan, done },
            context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
            answer: Arc::new(|_, _| serde_json::Value::Null),
            sealed: None,
            dry_run: false,
        };
        let began = Instant::now();
        if let Err(error) = self.queue.submit(wish).await {
            tracing::warn!(%error, %plan, done, "a plan's items could not be recorded yet");
            return None;
        }
        let took = began.elapsed();
        let snapshot = self.node.snapshot();
        let found = snapshot.roll.plan(plan);
        let Some((found, progress)) = found.and_then(|found| Some((found, found.progress.as_ref()?))) else {
            return Some(Duration::ZERO);
        };
        let first = seen.get(&plan).map_or(began, |seen| seen.first);
        seen.insert(plan, Seen { done: progress.done, since: Instant::now(), first, ours: true });
        if found.kind != PlanKind::RevokeAll {
            return Some(Duration::ZERO);
        }
        let now = mint::now();
        let since = u64::try_from(now.0.saturating_sub(progress.applied_at.0)).unwrap_or_default();
        let since = Duration::from_micros(since).max(first.elapsed());
        let lists = progress.total.saturating_sub(progress.done).div_ceil(progress.chunk(&found.kind, now) as u64);
        Some(rest(took, lists, since))
    }
}

/// How long to rest after a list that `took` so long, where so many lists are left of a plan that was applied so long ago.
fn rest(took: Duration, lists: u64, since_applied: Duration) -> Duration {
    let lists = u32::try_from(lists).unwrap_or(u32::MAX);
    let Some(each) = RECORDED_IN.saturating_sub(since_applied).checked_div(lists) else { return Duration::ZERO };
    each.saturating_sub(took).clamp(took * REST_MIN, took * REST_MAX)
}

/// Whether somebody has to do something for it now. Between two waves of a readmission nobody has.
fn is_due(plan: &Plan, progress: &Progress, now: Timestamp) -> bool {
    match (plan.kind.terms(), &progress.readmission) {
        (Some(terms), Some(readmission)) => readmission.step(terms, progress, now).is_some(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_rests_as_its_time_allows() {
        let ms = Duration::from_millis;
        let table = [
            (ms(3), 4_000, ms(0), ms(7), "a list every 10 ms"),
            (ms(5), 1_000, ms(0), ms(35), "a list every 40 ms"),
            (ms(5), 500, ms(20_000), ms(35), "half of it in half of the time"),
            (ms(5), 500, ms(30_000), ms(15), "it is late"),
            (ms(5), 500, ms(38_000), ms(5), "later still: half of the time is for others all the same"),
            (ms(30), 1_000, ms(0), ms(30), "it was never going to be in time"),
            (ms(5), 1, ms(60_000), ms(5), "its time is over"),
            (ms(5), 10, ms(0), ms(50), "few lists, which need not take all of it"),
            (ms(5), 0, ms(0), ms(0), "nothing is left"),
        ];
        for (took, left, since, expected, why) in table {
            assert_eq!(rest(took, left, since), expected, "{why}");
        }
    }
}
