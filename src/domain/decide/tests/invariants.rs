//! What holds of every Roll, whatever was wished: a second, slow account of the rules, kept beside the Roll and compared
//! with it after each step.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::fence_account::Account;
use crate::domain::admit::{admit_operator_key, admit_token, admit_worker_key};
use crate::domain::event::Event;
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId, TokenId, WorkerId};
use crate::domain::key::{Digest, KeyKind};
use crate::domain::operator::Role;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenFacts;
use crate::domain::worker::{Standing, Worker, WorkerState};

/// A credential, and for whom it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Accepted {
    Key(KeyId, WorkerId),
    Operator(KeyId, OperatorId),
    Token(TokenId),
}

/// What must never change again, once it was seen, and every id there ever was.
#[derive(Default)]
pub(super) struct Witness {
    keys: BTreeMap<KeyId, (Digest, u64)>,
    workers: BTreeMap<WorkerId, u64>,
    operators: BTreeMap<OperatorId, Timestamp>,
    secrets: BTreeMap<EnrollmentSecretId, (Digest, u64)>,
    ended_keys: BTreeSet<KeyId>,
    removed_workers: BTreeSet<WorkerId>,
    removed_operators: BTreeSet<OperatorId>,
    /// From which position on a session is refused.
    cuts: BTreeMap<TokenId, u64>,
    pub(super) tokens: Vec<TokenFacts>,
}

/// Everything that is accepted at this moment.
pub(super) fn accepted(world: &World, tokens: &[TokenFacts]) -> BTreeSet<Accepted> {
    let World { roll, now, .. } = world;
    let mut all = BTreeSet::new();
    for key in known_keys(world).iter().filter_map(|id| roll.key(*id)) {
        for worker in roll.workers_after(None) {
            if admit_worker_key(roll, key, Some(worker.id.as_str()), *now).is_ok() {
                all.insert(Accepted::Key(key.id, worker.id.clone()));
            }
        }
        if let Ok(operator) = admit_operator_key(roll, key, *now) {
            all.insert(Accepted::Operator(key.id, operator.id));
        }
    }
    let good = tokens.iter().filter(|facts| admit_token(roll, facts, *now).is_ok());
    all.extend(good.map(|facts| Accepted::Token(facts.token)));
    all
}

/// Every key that the log speaks of, whether or not a list shows it: the other side of the inventory (H24).
pub(super) fn known_keys(world: &World) -> BTreeSet<KeyId> {
    let of = |event: &Event| match event {
        Event::KeyCreated(created) => Some(created.key),
        Event::KeyRotated { successor, .. } => Some(*successor),
        _ => None,
    };
    world.log.iter().filter_map(|recorded| of(&recorded.event)).collect()
}

pub(super) fn has_working_admin(world: &World) -> bool {
    let World { roll, now, .. } = world;
    let good = known_keys(world).into_iter().filter_map(|id| roll.key(id));
    good.filter_map(|key| admit_operator_key(roll, key, *now).ok()).any(|operator| operator.role == Role::Admin)
}

impl Witness {
    /// Looks at the world after a step, and remembers.
    pub(super) fn check(&mut self, world: &World) {
        self.ids_are_unique_for_ever(world);
        self.ends_are_final(world);
        self.only_active_workers_are_accepted(world);
        self.tokens_are_refused_from_the_cut_on(world);
        self.what_fences_refuse_is_refused(world);
        counts_equal_members(world);
        indexes_equal_keys(world);
        inventory_equals_acceptance(world);
    }

    fn ids_are_unique_for_ever(&mut self, world: &World) {
        let keys = known_keys(world).into_iter().filter_map(|id| world.roll.key(id));
        once(&mut self.keys, keys.map(|key| (key.id, (key.verifier, key.issued))));
        once(&mut self.workers, world.roll.workers_after(None).map(|worker| (worker.id.clone(), worker.created)));
        once(&mut self.operators, world.roll.operators().map(|it| (it.id, it.created_at)));
        once(&mut self.secrets, world.roll.enrollment_secrets().map(|it| (it.id, (it.verifier, it.issued))));
        assert_eq!(world.roll.key_count(), known_keys(world).len());
        assert_eq!(world.roll.worker_count(), self.workers.len());
    }

    fn ends_are_final(&mut self, world: &World) {
        let World { roll, now, .. } = world;
        for key in known_keys(world).into_iter().filter_map(|id| roll.key(id)) {
            if key.is_good(*now) {
                assert!(!self.ended_keys.contains(&key.id), "revived: {key:?}");
            } else {
                self.ended_keys.insert(key.id);
            }
        }
        for worker in roll.workers_after(None) {
            if worker.state == WorkerState::Removed {
                self.removed_workers.insert(worker.id.clone());
            } else {
                assert!(!self.removed_workers.contains(&worker.id), "came back: {worker:?}");
            }
        }
        for operator in roll.operators() {
            if operator.removed {
                self.removed_operators.insert(operator.id);
            } else {
                assert!(!self.removed_operators.contains(&operator.id), "came back: {operator:?}");
            }
        }
    }

    fn only_active_workers_are_accepted(&self, world: &World) {
        for credential in accepted(world, &self.tokens) {
            let worker = match &credential {
                Accepted::Key(_, worker) => Some(worker),
                Accepted::Token(token) => self.tokens.iter().find(|it| it.token == *token).map(|it| &it.worker),
                Accepted::Operator(_, operator) => {
                    assert!(!self.removed_operators.contains(operator));
                    None
                }
            };
            let standing = worker.map(|id| world.roll.worker(id.as_str()).unwrap().standing(world.now));
            assert!(standing.is_none_or(|standing| standing == Standing::Active), "{credential:?}: {standing:?}");
        }
    }

    fn what_fences_refuse_is_refused(&self, world: &World) {
        let account = Account(&world.log);
        for facts in &self.tokens {
            let admitted = admit_token(&world.roll, facts, world.now).is_ok();
            assert!(!admitted || !account.refuses_token(facts), "{facts:?}");
        }
        for secret in world.roll.enrollment_secrets() {
            assert_eq!(secret.is_fenced(), account.refuses_secret(secret.id), "{secret:?}");
        }
    }

    fn tokens_are_refused_from_the_cut_on(&mut self, world: &World) {
        if let Some(Event::TokenRevoked { session, issued, .. }) = world.log.last().map(|it| &it.event) {
            let cut = self.cuts.entry(*session).or_insert(*issued);
            *cut = (*cut).min(*issued);
        }
        for facts in &self.tokens {
            let cut = self.cuts.get(&facts.session).is_some_and(|from| *from <= facts.issued);
            let unexpired = facts.expires_at > world.now;
            assert_eq!(unexpired && cut, unexpired && world.roll.is_token_revoked(facts.session, facts.issued));
            assert!(!cut || admit_token(&world.roll, facts, world.now).is_err(), "{facts:?}");
        }
    }
}

/// What was seen under an id is what will be seen under it.
fn once<K: Ord + std::fmt::Debug, V: PartialEq>(seen: &mut BTreeMap<K, V>, now: impl Iterator<Item = (K, V)>) {
    let mut missing: BTreeSet<&K> = BTreeSet::new();
    let now: BTreeMap<K, V> = now.collect();
    missing.extend(seen.keys().filter(|id| !now.contains_key(id)));
    assert!(missing.is_empty(), "forgotten: {missing:?}");
    for (id, value) in now {
        let same = seen.get(&id).is_none_or(|before| *before == value);
        assert!(same, "another thing under the id {id:?}");
        seen.insert(id, value);
    }
}

fn counts_equal_members(world: &World) {
    let count = |rule: &dyn Fn(&Worker) -> bool| {
        world.roll.workers_after(None).filter(|worker| rule(worker)).count().try_into().unwrap()
    };
    for pool in world.roll.pools() {
        let members: u64 = count(&|worker| worker.is_member() && worker.pool == pool.id);
        assert_eq!(pool.workers, members, "{}", pool.id);
        assert!(!pool.removed || members == 0, "members of a removed pool");
    }
    for secret in world.roll.enrollment_secrets() {
        let by_it = |worker: &Worker| worker.enrolled_by == Some(secret.id);
        assert_eq!(secret.uses, count(&by_it), "{secret:?}");
        assert_eq!(secret.pending, count(&|it| by_it(it) && it.state == WorkerState::Pending), "{secret:?}");
    }
}

fn indexes_equal_keys(world: &World) {
    let World { roll, .. } = world;
    let mut values: BTreeMap<Digest, Vec<(u64, KeyId)>> = BTreeMap::new();
    let keys = known_keys(world).into_iter().filter_map(|id| roll.key(id)).collect::<Vec<_>>();
    for key in keys.iter().filter(|key| key.kind == KeyKind::Static) {
        values.entry(key.verifier).or_default().push((key.issued, key.id));
    }
    let mut risks: BTreeSet<KeyId> = keys.iter().filter(|key| key.workers().len() > 1).map(|key| key.id).collect();
    for (verifier, mut same) in values {
        same.sort_unstable();
        let same: Vec<KeyId> = same.into_iter().map(|(_, id)| id).collect();
        assert_eq!(roll.static_secrets(&verifier).map(|key| key.id).collect::<Vec<_>>(), same);
        risks.extend(same.iter().filter(|_| same.len() > 1));
    }
    let mut listed: Vec<KeyId> = roll.shared().map(|key| key.id).collect();
    listed.sort_unstable();
    assert_eq!(listed, risks.into_iter().collect::<Vec<_>>(), "each shared key is listed once");

    let mut names: BTreeMap<&str, BTreeSet<&WorkerId>> = BTreeMap::new();
    for worker in roll.workers_after(None).filter(|worker| worker.is_member()) {
        if let Some(name) = &worker.name {
            names.entry(name).or_default().insert(&worker.id);
        }
    }
    for worker in roll.workers_after(None) {
        let name = worker.name.as_deref().unwrap_or_default();
        let listed: Vec<&WorkerId> = roll.workers_named(name).map(|worker| &worker.id).collect();
        let expected = names.get(name).cloned().unwrap_or_default();
        assert_eq!((listed.len(), listed.into_iter().collect()), (expected.len(), expected), "{name}");
    }
}

/// H24: what no list shows cannot be revoked. A pair of key and holder is accepted if a list shows it, the key is good
/// and the holder active; and never otherwise.
fn inventory_equals_acceptance(world: &World) {
    let World { roll, now, .. } = world;
    let mut listed = BTreeSet::new();
    for worker in roll.workers_after(None) {
        let distinct: BTreeSet<&KeyId> = worker.keys.iter().collect();
        assert_eq!(distinct.len(), worker.keys.len(), "a key is listed once");
        if worker.standing(*now) == Standing::Active {
            listed.extend(worker.keys.iter().map(|key| Accepted::Key(*key, worker.id.clone())));
        }
    }
    for operator in roll.operators().filter(|operator| !operator.removed) {
        listed.extend(operator.keys.iter().map(|key| Accepted::Operator(*key, operator.id)));
    }
    let account = Account(&world.log);
    listed.retain(|credential| match credential {
        Accepted::Key(key, worker) => roll.key(*key).unwrap().is_good(*now) && !account.refuses_key(*key, worker),
        Accepted::Operator(key, _) => roll.key(*key).unwrap().is_good(*now),
        Accepted::Token(_) => false,
    });
    assert_eq!(accepted(world, &[]), listed);
}
