//! What a plan's selector comes to on one state: a list in an order that every node agrees on.
//!
//! It asks for nothing but the state, the time least of all: the list must be the same when it is shown, when it is applied,
//! and whenever the log is folded.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Roll;
use super::made_by::MadeBy;
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentState};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{EnrollmentSecretId, KeyId, PoolId};
use crate::domain::key::{Digest, Key, KeyKind, KeyState};
use crate::domain::plan::{Criterion, Item, PlanKind, Selector};
use crate::domain::time::Timestamp;
use crate::domain::worker::{Worker, WorkerIndex, WorkerState};

/// Keeps this digest apart from all others.
const DIGEST_CONTEXT: &str = "portcullis 2026-11-22 plan digest v1";

/// Up to so many items, the workers that they touch are looked up one by one, and the rest of the fleet is not looked at.
const FEW_ITEMS: usize = 1_000;

/// A selector's criteria by their kinds, with what they stand for looked up.
#[derive(Default)]
pub(super) struct Criteria<'a> {
    pools: BTreeSet<&'a PoolId>,
    lineage: Option<BTreeSet<EnrollmentSecretId>>,
    workers: Option<BTreeSet<WorkerIndex>>,
    keys: Option<BTreeSet<KeyId>>,
    labels: BTreeMap<&'a str, BTreeSet<&'a str>>,
    pub(super) made: Option<MadeBy>,
    sources: Vec<IpNet>,
    /// Who was noted at these, beside those that an event has shown there: of a scope alone.
    noted: BTreeSet<WorkerIndex>,
    window: Option<(Timestamp, Timestamp)>,
}

impl Roll {
    /// The list of a plan.
    ///
    /// What it comes to is part of what `plan.applied` means, for ever: a fold of an old log comes to the same list.
    #[must_use]
    pub fn select(&self, kind: &PlanKind, selector: &Selector) -> Vec<Item> {
        let criteria = Criteria::of(self, selector);
        match kind {
            PlanKind::Isolate { until } => {
                self.selected_workers(&criteria, |worker| is_isolated_by(worker.state, *until))
            }
            PlanKind::Release => {
                self.selected_workers(&criteria, |worker| matches!(worker.state, WorkerState::Isolated { .. }))
            }
            PlanKind::Readmit(terms) => {
                let mut items = self.selected_workers(&criteria, |worker| match worker.state {
                    WorkerState::Isolated { until } => until.is_none_or(|until| until > terms.as_of),
                    WorkerState::Pending | WorkerState::Active | WorkerState::Rejected | WorkerState::Removed => false,
                });
                // Stable: within both groups the order stays that of their arrival.
                items.sort_by_key(|item| !self.is_canary(terms, *item));
                items
            }
            PlanKind::DisableEnrollment => self.selected_secrets(&criteria),
            PlanKind::RevokeAll | PlanKind::Fence => {
                let mut items = self.selected_keys(&criteria, |key| key.state != KeyState::Revoked);
                items.extend(self.selected_secrets(&criteria));
                items
            }
            // Whoever chose a static secret has to choose the next; what was rotated already has its successor.
            PlanKind::RotateAll { .. } => self.selected_keys(&criteria, |key| {
                key.kind == KeyKind::Api && key.state == KeyState::Live && !self.is_fenced_for_any(key)
            }),
            PlanKind::RotateEnrollment { .. } => {
                let mut items = self.selected_secrets(&criteria);
                items.retain(|item| matches!(item, Item::EnrollmentSecret(id) if self.is_open(*id)));
                items
            }
            PlanKind::RotateTlsCertificates => {
                self.certificates().map(|known| Item::TlsCertificate(known.served.fingerprint)).collect()
            }
            PlanKind::RotateSigningKeys { .. } => {
                self.active_signing_key().map(|key| Item::SigningKey(key.id)).into_iter().collect()
            }
        }
    }

    fn selected_workers(&self, criteria: &Criteria<'_>, touches: impl Fn(&Worker) -> bool) -> Vec<Item> {
        let member = |index| Some((index, self.worker_at(index).filter(|worker| worker.is_member())?));
        let chosen = |(index, worker): &(WorkerIndex, &Worker)| criteria.covers(*index, worker) && touches(worker);
        // Where single ones are named, nobody else is looked at.
        let found: Vec<_> = match &criteria.workers {
            Some(named) => named.iter().copied().filter_map(member).filter(chosen).collect(),
            None => self.members().filter(chosen).collect(),
        };
        found.into_iter().map(|(index, _)| Item::Worker(index)).collect()
    }

    /// All that are not revoked, the expired ones among them: the record should say of each that it is over.
    fn selected_keys(&self, criteria: &Criteria<'_>, touches: impl Fn(&Key) -> bool) -> Vec<Item> {
        let covered = |index: &WorkerIndex| {
            self.worker_at(*index).is_some_and(|worker| worker.is_member() && criteria.covers(*index, worker))
        };
        let is_listed =
            |key: &&Key| touches(key) && criteria.covers_key(self, key) && key.workers().iter().any(covered);
        // Where single workers are named, nobody else's keys are looked at.
        let found: Vec<&Key> = match &criteria.workers {
            Some(named) => self.keys_of(named).into_iter().filter(is_listed).collect(),
            None => self.keys.iter().filter(is_listed).collect(),
        };
        found.into_iter().map(|key| Item::Key(key.id)).collect()
    }

    /// The keys of these workers, in the order of the rows.
    fn keys_of(&self, workers: &BTreeSet<WorkerIndex>) -> Vec<&Key> {
        let held = workers.iter().filter_map(|index| self.worker_at(*index)).flat_map(|worker| &worker.keys);
        let mut keys: Vec<&Key> = held.filter_map(|id| self.key(*id)).collect();
        // Each event makes one key at the most, and rows are in the order of their events.
        keys.sort_unstable_by_key(|key| key.issued);
        keys.dedup_by_key(|key| key.id);
        keys
    }

    fn selected_secrets(&self, criteria: &Criteria<'_>) -> Vec<Item> {
        let live = self.enrollment_secrets().filter(|secret| secret.state != EnrollmentState::Disabled);
        live.filter(|secret| criteria.covers_secret(secret)).map(|secret| Item::EnrollmentSecret(secret.id)).collect()
    }

    fn is_open(&self, id: EnrollmentSecretId) -> bool {
        self.enrollment_secret(id).is_some_and(|secret| secret.state == EnrollmentState::Live && !secret.is_fenced())
    }

    /// How many members of the fleet have a key that works now, and would have none without those on the list.
    #[must_use]
    pub fn left_without_key(&self, items: &[Item], now: Timestamp) -> u64 {
        let mut had = vec![false; self.worker_count()];
        let mut keeps = vec![false; self.worker_count()];
        // The keys of a list are in the order of the rows.
        let mut listed = items.iter().filter(|item| matches!(item, Item::Key(_))).peekable();
        let few: Option<BTreeSet<WorkerIndex>> =
            (items.len() <= FEW_ITEMS).then(|| self.holders_of(items.iter().copied()));
        let keys: Box<dyn Iterator<Item = &Key>> = match &few {
            Some(holders) => Box::new(self.keys_of(holders).into_iter()),
            None => Box::new(self.keys.iter()),
        };
        for key in keys {
            let goes = listed.next_if(|item| **item == Item::Key(key.id)).is_some();
            for index in key.workers() {
                let Some(worker) = self.worker_at(*index).filter(|worker| worker.is_member()) else { continue };
                if self.is_good_for(key, worker, now) {
                    let of = if goes { &mut had } else { &mut keeps };
                    of[index.0 as usize] = true;
                }
            }
        }
        had.into_iter().zip(keeps).filter(|(had, keeps)| *had && !keeps).count() as u64
    }

    fn holders_of(&self, items: impl Iterator<Item = Item>) -> BTreeSet<WorkerIndex> {
        let keys = items.filter_map(|item| match item {
            Item::Key(id) => self.key(id),
            Item::Worker(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
        });
        keys.flat_map(|key| key.workers().iter().copied()).collect()
    }

    fn members(&self) -> impl Iterator<Item = (WorkerIndex, &Worker)> {
        let indices = (0..self.worker_count()).filter_map(|row| u32::try_from(row).ok()).map(WorkerIndex);
        indices.filter_map(|index| Some((index, self.worker_at(index)?))).filter(|(_, worker)| worker.is_member())
    }

    /// The key, what it was rotated into, and that again.
    fn key_line(&self, first: KeyId) -> BTreeSet<KeyId> {
        let mut line = BTreeSet::from([first]);
        // A key comes after the one that it succeeds.
        for key in self.key(first).into_iter().flat_map(|key| self.keys.issued_after(key.issued)) {
            if key.parent.is_some_and(|parent| line.contains(&parent)) {
                line.insert(key.id);
            }
        }
        line
    }

    /// Names the list: its items, in order, with what is to be done with them.
    #[must_use]
    pub fn plan_digest(&self, kind: &PlanKind, selector: &Selector, items: &[Item]) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(DIGEST_CONTEXT);
        // Each part is a line of its own, and no part holds a line's end.
        let mut line = |text: &str| {
            hasher.update(text.as_bytes());
            hasher.update(b"\n");
        };
        line(kind.name());
        if let PlanKind::Isolate { until: Some(until) } = kind {
            line(&until.0.to_string());
        }
        if let Some(overlap) = kind.overlap() {
            line("overlap");
            line(&overlap.0.to_string());
        }
        if let PlanKind::RotateAll { delivery, .. } = kind {
            line(delivery.as_str());
        }
        if let PlanKind::Readmit(terms) = kind {
            line(terms.canary.as_ref().map_or("", PoolId::as_str));
            line(terms.delivery.as_str());
            for number in
                [u64::from(terms.wave_size), u64::from(terms.wave_every.0), terms.refusals_max, terms.trips_max]
            {
                line(&number.to_string());
            }
        }
        for (name, moment) in [("since", selector.since), ("before", selector.before)] {
            if let Some(moment) = moment {
                line(name);
                line(&moment.0.to_string());
            }
        }
        for item in items {
            match item {
                Item::Worker(index) => {
                    line("worker");
                    line(self.worker_at(*index).map_or("", |worker| worker.id.as_str()));
                }
                Item::Key(id) => {
                    line("key");
                    line(&id.to_string());
                }
                Item::EnrollmentSecret(id) => {
                    line("enrollment_secret");
                    line(&id.to_string());
                }
                Item::SigningKey(id) => {
                    line("signing_key");
                    line(&id.to_string());
                }
                Item::TlsCertificate(fingerprint) => {
                    line("tls_certificate");
                    line(&fingerprint.to_string());
                }
            }
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

/// Of two isolations, the one that ends later stands.
fn is_isolated_by(state: WorkerState, until: Option<Timestamp>) -> bool {
    let end = |until: Option<Timestamp>| until.unwrap_or(Timestamp::MAX);
    match state {
        WorkerState::Active => true,
        WorkerState::Isolated { until: before } => end(before) < end(until),
        // It is let in by nothing as it is, and has to be approved or rejected.
        WorkerState::Pending | WorkerState::Rejected | WorkerState::Removed => false,
    }
}

impl Selector {
    /// The one scope of which a fence refuses exactly what this selects.
    #[must_use]
    pub fn fence_scope(&self) -> Option<FenceScope> {
        match (self.criteria(), self.since, self.before) {
            ([Criterion::Everything], None, None) => Some(FenceScope::Everything),
            ([Criterion::Pool(id)], None, None) => Some(FenceScope::Pool(id.clone())),
            ([Criterion::Lineage(id)], None, None) => Some(FenceScope::Lineage(*id)),
            ([Criterion::Worker(id)], None, None) => Some(FenceScope::Worker(id.clone())),
            _ => None,
        }
    }
}

impl Selector {
    /// The scopes of which fences refuse exactly what this selects: several, where they are of one kind.
    #[must_use]
    pub fn fence_scopes(&self) -> Option<Vec<FenceScope>> {
        let alone = |criterion: &Criterion| Selector::new(vec![criterion.clone()], self.since, self.before).ok();
        let scopes: Vec<FenceScope> =
            self.criteria().iter().map(|criterion| alone(criterion)?.fence_scope()).collect::<Option<_>>()?;
        let kind = |scope: &FenceScope| std::mem::discriminant(scope);
        scopes.iter().all(|scope| kind(scope) == kind(&scopes[0])).then_some(scopes)
    }
}

impl<'a> Criteria<'a> {
    pub(super) fn of(roll: &Roll, selector: &'a Selector) -> Self {
        let (mut all, mut operators) = (Self::default(), BTreeSet::new());
        if selector.since.is_some() || selector.before.is_some() {
            let (since, before) = (selector.since.unwrap_or(Timestamp(i64::MIN)), selector.before);
            all.window = Some((since, before.unwrap_or(Timestamp::MAX)));
        }
        for criterion in selector.criteria() {
            match criterion {
                Criterion::Everything => {}
                Criterion::Pool(id) => _ = all.pools.insert(id),
                Criterion::Lineage(id) => all.lineage.get_or_insert_default().extend(roll.line_of(*id)),
                Criterion::Worker(id) => {
                    all.workers.get_or_insert_default().extend(roll.worker_index(id.as_str()));
                }
                Criterion::Key(id) => all.keys.get_or_insert_default().extend(roll.key_line(*id)),
                Criterion::Label { name, value } => _ = all.labels.entry(name).or_default().insert(value),
                Criterion::Operator(id) => _ = operators.insert(*id),
                Criterion::Source(net) => all.sources.push(*net),
            }
        }
        all.made = (!operators.is_empty()).then(|| roll.made_by(&operators));
        // Whoever holds a key of the line is reached with it.
        let holders = all.keys.iter().flatten().filter_map(|id| roll.key(*id)).flat_map(|key| key.workers().to_vec());
        let holders: BTreeSet<WorkerIndex> = holders.collect();
        if all.keys.is_some() {
            all.workers = Some(match all.workers {
                Some(named) => named.intersection(&holders).copied().collect(),
                None => holders,
            });
        }
        all
    }

    /// What a scope reaches beyond that: who was noted at an address; and what was done by others with keys that the
    /// operators have made for them, and so may know. What a plan selects is frozen (decision 0013), and goes by the log.
    pub(super) fn of_scope(roll: &Roll, selector: &'a Selector, noted: &BTreeSet<KeyId>) -> Self {
        let mut all = Self::of(roll, selector);
        let holders = noted.iter().filter_map(|id| roll.key(*id)).flat_map(|key| key.workers().iter().copied());
        all.noted = holders.collect();
        if let Some(made) = &mut all.made {
            roll.widen(made);
        }
        all
    }

    /// Whether the log itself says that the worker was at an address that is asked for, where any is.
    pub(super) fn covers_by_log(&self, worker: &Worker) -> bool {
        self.sources.is_empty()
            || worker.seen_from.is_some_and(|from| self.sources.iter().any(|net| net.contains(&from)))
    }

    pub(super) fn covers(&self, index: WorkerIndex, worker: &Worker) -> bool {
        self.workers.as_ref().is_none_or(|named| named.contains(&index))
            && (self.pools.is_empty() || self.pools.contains(&worker.pool))
            && self.lineage.as_ref().is_none_or(|line| worker.enrolled_by.is_some_and(|secret| line.contains(&secret)))
            && self.window.is_none_or(|(since, before)| since <= worker.created_at && worker.created_at < before)
            && self.labels.iter().all(|(name, values)| {
                let label = worker.labels.as_ref().and_then(|labels| labels.get(*name));
                label.is_some_and(|value| values.contains(&**value))
            })
            && self.made.as_ref().is_none_or(|made| made.reaches(index, worker))
            && (self.covers_by_log(worker) || self.noted.contains(&index))
    }

    /// Of the keys that covered workers hold, those that are meant.
    pub(super) fn covers_key(&self, roll: &Roll, key: &Key) -> bool {
        self.keys.as_ref().is_none_or(|line| line.contains(&{ key.id }))
            && self.made.as_ref().is_none_or(|made| made.reaches_key(roll, key))
    }

    /// Where single workers are meant, the door that others come in by is not.
    pub(super) fn covers_secret(&self, secret: &EnrollmentSecret) -> bool {
        let of_workers = self.workers.is_some() || !self.labels.is_empty() || !self.sources.is_empty();
        (!of_workers && self.window.is_none())
            && (self.pools.is_empty() || self.pools.contains(&secret.pool))
            && self.lineage.as_ref().is_none_or(|line| line.contains(&secret.id))
            && self.made.as_ref().is_none_or(|made| made.secrets.contains(&secret.id))
    }
}
