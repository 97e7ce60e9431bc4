//! The tripwires of the Roll: honey keys, rules, what has tripped, and what rules have done about it.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::Roll;
use super::evolve::Origin;
use crate::domain::ids::{IncidentId, KeyId, PoolId};
use crate::domain::key::{Holder, Key};
use crate::domain::time::Timestamp;
use crate::domain::tripwire::{Actions, Answer, HoneyKey, ISOLATIONS_WINDOW, Rule, Tripped, Trips, TripwireEvent, Why};
use crate::domain::worker::Worker;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tripwires {
    /// Removed ones too: an id is one key's for ever.
    honey: OrdMap<KeyId, Arc<HoneyKey>>,
    honey_count: usize,
    /// `None`: of all pools that have no rule of their own.
    rules: OrdMap<Option<PoolId>, Rule>,
    trips: OrdMap<KeyId, Trips>,
    /// The last incident that a trip of the pool has opened.
    incidents: OrdMap<Option<PoolId>, IncidentId>,
    /// When rules have isolated somebody, within the last window, and for what.
    isolations: Vector<(Why, Timestamp)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TripwiresStored {
    honey: Vec<Arc<HoneyKey>>,
    rules: Vec<(Option<PoolId>, Rule)>,
    trips: Vec<(KeyId, Trips)>,
    incidents: Vec<(Option<PoolId>, IncidentId)>,
    isolations: Vec<(Why, Timestamp)>,
}

impl Tripwires {
    pub(super) fn stored(&self) -> TripwiresStored {
        let Self { honey, honey_count: _, rules, trips, incidents, isolations } = self;
        TripwiresStored {
            honey: honey.values().cloned().collect(),
            rules: rules.iter().map(|(pool, rule)| (pool.clone(), *rule)).collect(),
            trips: trips.iter().map(|(key, trips)| (*key, *trips)).collect(),
            incidents: incidents.iter().map(|(pool, id)| (pool.clone(), id.clone())).collect(),
            isolations: isolations.iter().copied().collect(),
        }
    }
}

impl From<TripwiresStored> for Tripwires {
    fn from(stored: TripwiresStored) -> Self {
        Self {
            honey_count: stored.honey.iter().filter(|key| !key.removed).count(),
            honey: stored.honey.into_iter().map(|key| (key.id, key)).collect(),
            rules: stored.rules.into_iter().collect(),
            trips: stored.trips.into_iter().collect(),
            incidents: stored.incidents.into_iter().collect(),
            isolations: stored.isolations.into_iter().collect(),
        }
    }
}

impl Roll {
    /// A honey key, also one that was removed.
    #[must_use]
    pub fn honey_key(&self, id: KeyId) -> Option<&Arc<HoneyKey>> {
        self.tripwires.honey.get(&id)
    }

    /// Honey keys that stand, oldest first, from the one after `cursor` on.
    pub fn honey_keys_after(&self, cursor: Option<KeyId>) -> impl Iterator<Item = &Arc<HoneyKey>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = cursor.map_or(Unbounded, Excluded);
        self.tripwires.honey.range((from, Unbounded)).map(|(_, key)| key).filter(|key| !key.removed)
    }

    /// How many of them stand.
    #[must_use]
    pub fn honey_key_count(&self) -> usize {
        self.tripwires.honey_count
    }

    /// What was recorded of a key's trips.
    #[must_use]
    pub fn trips(&self, key: KeyId) -> Option<&Trips> {
        self.tripwires.trips.get(&key)
    }

    /// Trips of the worker's keys that were recorded at this position or later; of a key that several workers share, whoever
    /// of them it was.
    pub fn trips_since<'a>(&'a self, worker: &'a Worker, position: u64) -> impl Iterator<Item = &'a Trips> {
        worker.keys.iter().filter_map(|key| self.trips(*key)).filter(move |trips| trips.last >= position)
    }

    /// The rule of the pool, or of all that have none; as it was set.
    #[must_use]
    pub fn tripwire_rule(&self, pool: Option<&PoolId>) -> Option<&Rule> {
        self.tripwires.rules.get(&pool.cloned())
    }

    pub fn tripwire_rules(&self) -> impl Iterator<Item = (Option<&PoolId>, &Rule)> {
        self.tripwires.rules.iter().map(|(pool, rule)| (pool.as_ref(), rule))
    }

    /// What is done about a trip of this pool: as its own rule says, or else the rule of all.
    #[must_use]
    pub fn tripwire_actions(&self, pool: Option<&PoolId>, why: Why) -> Actions {
        let own = pool.and_then(|pool| self.tripwire_rule(Some(pool))?.of(why));
        let of_all = || self.tripwire_rule(None)?.of(why);
        own.or_else(of_all).unwrap_or(Actions::RECORD)
    }

    /// The incident that a trip of this pool has opened, if it is still open.
    #[must_use]
    pub fn tripwire_incident(&self, pool: Option<&PoolId>) -> Option<&IncidentId> {
        let id = self.tripwires.incidents.get(&pool.cloned())?;
        self.incident(id.as_str()).is_some_and(|incident| !incident.is_closed()).then_some(id)
    }

    /// How many workers the rules for this kind have isolated in the window that ends at `now`.
    #[must_use]
    pub fn tripwire_isolations(&self, of: Why, now: Timestamp) -> usize {
        let isolations = self.tripwires.isolations.iter();
        isolations.filter(|(why, at)| *why == of && at.after(ISOLATIONS_WINDOW) > now).count()
    }

    /// Whether it is the key of an operator who is none any more.
    #[must_use]
    pub fn is_of_removed_operator(&self, key: &Key) -> bool {
        match key.holder {
            Holder::Operator(id) => self.operator(id).is_none_or(|operator| operator.removed),
            Holder::Worker(_) | Holder::Workers(_) => false,
        }
    }

    pub(super) fn change_tripwires(&mut self, origin: Origin, event: &TripwireEvent) {
        let tripwires = Arc::make_mut(&mut self.tripwires);
        match event {
            TripwireEvent::HoneyKeyCreated { key, pool, verifier, note } => tripwires.plant(HoneyKey {
                id: *key,
                pool: pool.clone(),
                verifier: *verifier,
                note: note.clone(),
                created_at: origin.at,
                created_by: origin.by,
                removed: false,
            }),
            TripwireEvent::HoneyKeyRemoved { key } => tripwires.remove(*key),
            TripwireEvent::RuleSet { pool, rule } => _ = tripwires.rules.insert(pool.clone(), *rule),
            TripwireEvent::Tripped(tripped) => {
                tripwires.trip(origin.position, origin.at, tripped);
                self.count_trip(tripped);
            }
        }
    }
}

impl Tripwires {
    fn plant(&mut self, key: HoneyKey) {
        self.honey_count += usize::from(self.honey.insert(key.id, Arc::new(key)).is_none());
    }

    fn remove(&mut self, key: KeyId) {
        if let Some(found) = self.honey.get_mut(&key).filter(|found| !found.removed) {
            Arc::make_mut(found).removed = true;
            self.honey_count -= 1;
        }
    }

    fn trip(&mut self, position: u64, at: Timestamp, tripped: &Tripped) {
        let before = self.trips.get(&tripped.key);
        let (events, uses) = before.map_or((0, 0), |before| (before.events, before.uses));
        let trips =
            Trips { why: tripped.why, events: events + 1, uses: uses.saturating_add(tripped.count), last: position };
        self.trips.insert(tripped.key, trips);
        for answer in &tripped.answers {
            match answer {
                Answer::IncidentOpened(incident) => {
                    self.incidents.insert(tripped.pool.clone(), incident.clone());
                }
                // By the time of the record, and not of a clock, so that the state is a function of the log.
                Answer::Isolated(_) => {
                    self.isolations.retain(|(_, earlier)| earlier.after(ISOLATIONS_WINDOW) > at);
                    self.isolations.push_back((tripped.why, at));
                }
                Answer::NotIsolated(_) | Answer::IncidentJoined(_) => {}
            }
        }
    }
}
