//! A random history of a fleet, and the same lists asked of the projections and of the Roll.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis::command::mint;
use portcullis::domain::actor::{Actor, Author, CredentialUsed};
use portcullis::domain::command::{Command, CreateKey, CreateWorker, Enroll, MakePlan};
use portcullis::domain::enrollment::Limits;
use portcullis::domain::event::KeyHolder;
use portcullis::domain::fence::FenceScope;
use portcullis::domain::ids::{CommandId, EnrollmentSecretId, KeyId, OperatorId, PlanId, PoolId, WorkerId};
use portcullis::domain::key::{Digest, Key, KeyKind, KeyStanding};
use portcullis::domain::operator::Role;
use portcullis::domain::plan::{Criterion, Delivery, PlanKind, Selector};
use portcullis::domain::pool::{PoolSettings, SettingsChange};
use portcullis::domain::roll::Roll;
use portcullis::domain::time::{Seconds, Timestamp};
use portcullis::domain::worker::{Labels, Standing, Worker};
use portcullis::projection::enrollment_secrets::EnrollmentSecretRow;
use portcullis::projection::runner::Start;
use portcullis::projection::{enrollment_secrets, keys, workers};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use super::ask;
use crate::support::node::{TestNode, wish};

const POOLS: [&str; 3] = ["default", "blue", "green"];
const NAMES: [&str; 3] = ["runner", "collector", "naïve \"quoted\" name"];

pub(super) struct History {
    random: StdRng,
    /// So that the histories of two nodes are about the same things and make none twice.
    seed: u64,
    made: u32,
    values: Vec<Digest>,
}

pub(super) fn revoke(key: KeyId) -> Command {
    Command::RevokeKey { key, descendants: true }
}

pub(super) fn isolate(worker: &WorkerId, until: Option<Timestamp>) -> Command {
    Command::IsolateWorker { worker: worker.clone(), until }
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), seed, made: 0, values: Vec::new() }
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.random.random_range(0..all.len())].clone())
    }

    /// Before or after most of what these tests do; some of it while they run.
    fn moment(&mut self) -> Timestamp {
        mint::now().after(Seconds(self.random.random_range(1..4)))
    }

    fn moment_if(&mut self) -> Option<Timestamp> {
        self.random.random_bool(0.4).then(|| self.moment())
    }

    /// So many wishes; those that are refused have done nothing, as it should be.
    pub(super) async fn go_on(&mut self, node: &TestNode, wishes: usize) {
        for _ in 0..wishes {
            let roll = node.running.node.snapshot().roll.clone();
            let Some(command) = self.wish(&roll) else { continue };
            let mut wish = wish(CommandId::from_uuid(mint::id()), None, command);
            if let Command::RotateKey { key, .. } = &wish.command
                && self.random.random_bool(0.7)
            {
                wish.context.author = its_holder(&roll, *key);
            }
            drop(node.running.queue.submit(wish).await);
        }
    }

    fn wish(&mut self, roll: &Roll) -> Option<Command> {
        match self.random.random_range(0..12) {
            11 => self.wish_of_plans(roll),
            10 => self.wish_of_fences(roll),
            0 => Some(self.wish_of_pools()),
            1..5 => self.wish_of_workers(roll),
            5..8 => self.wish_of_keys(roll),
            8 => self.wish_of_enrollment(roll),
            _ => self.wish_of_operators(roll),
        }
    }

    fn wish_of_pools(&mut self) -> Command {
        let pool = self.pool();
        match self.random.random_range(0..3) {
            0 => {
                let description = "with\0 a NUL".into();
                let settings = PoolSettings { sharing: true, description, ..PoolSettings::default() };
                Command::CreatePool { pool, settings }
            }
            1 => Command::UpdatePool {
                pool,
                change: SettingsChange { sharing: Some(true), ..SettingsChange::default() },
            },
            _ => Command::RemovePool { pool },
        }
    }

    fn wish_of_workers(&mut self, roll: &Roll) -> Option<Command> {
        if self.random.random_bool(0.4) {
            return Some(self.create_worker());
        }
        let workers: Vec<WorkerId> = roll.workers_after(None).map(|worker| worker.id.clone()).collect();
        let worker = self.one_of(&workers)?;
        Some(match self.random.random_range(0..6) {
            0 => Command::UpdateWorker {
                worker,
                name: self.random.random_bool(0.5).then(|| self.name()),
                labels: Some(self.labels()),
                expires_at: self.random.random_bool(0.5).then(|| self.moment_if()),
            },
            1 => isolate(&worker, self.moment_if()),
            2 => Command::ReleaseWorker { worker },
            3 => Command::ApproveWorker { worker },
            4 => Command::RejectWorker { worker },
            _ => Command::RemoveWorker { worker },
        })
    }

    fn wish_of_keys(&mut self, roll: &Roll) -> Option<Command> {
        let workers: Vec<WorkerId> = roll.workers_after(None).map(|worker| worker.id.clone()).collect();
        let keys: Vec<KeyId> = roll.keys_after(None).into_iter().flatten().map(|key| key.id).collect();
        let (worker, key) = (self.one_of(&workers)?, self.one_of(&keys)?);
        Some(match self.random.random_range(0..7) {
            0..3 => self.create_key(KeyHolder::Worker(worker)),
            3 => Command::ShareKey { key, worker },
            4..6 => self.rotate_key(key, roll),
            _ => revoke(key),
        })
    }

    fn wish_of_enrollment(&mut self, roll: &Roll) -> Option<Command> {
        let (pool, verifier) = (self.pool(), self.fresh_value());
        let fresh = EnrollmentSecretId::from_uuid(mint::id());
        if self.random.random_bool(0.3) {
            let limits = Limits { uses_max: Some(2), expires_at: self.moment_if(), ..Limits::default() };
            return Some(Command::CreateEnrollmentSecret { secret: fresh, pool, verifier, limits });
        }
        let secrets: Vec<EnrollmentSecretId> = roll.enrollment_secrets().map(|secret| secret.id).collect();
        let secret = self.one_of(&secrets)?;
        Some(match self.random.random_range(0..8) {
            0 => Command::DisableEnrollmentSecret { secret },
            1 => Command::RotateEnrollmentSecret { secret, successor: fresh, verifier, overlap: Seconds(3) },
            _ => Command::Enroll(Enroll {
                secret,
                worker: self.fresh_worker(),
                name: self.name(),
                labels: self.labels(),
                key: KeyId::from_uuid(mint::id()),
                verifier,
            }),
        })
    }

    /// Over all scopes, mostly narrow ones; at the newest position, or at one from which on something came of it.
    fn wish_of_fences(&mut self, roll: &Roll) -> Option<Command> {
        let workers: Vec<WorkerId> = roll.workers_after(None).map(|worker| worker.id.clone()).collect();
        let secrets: Vec<(EnrollmentSecretId, u64)> =
            roll.enrollment_secrets().map(|secret| (secret.id, secret.issued)).collect();
        let earlier = self.random.random_range(0..roll.next_position());
        let earlier = self.random.random_bool(0.5).then_some(earlier);
        let (scope, up_to) = match self.random.random_range(0..8) {
            0 => (FenceScope::Everything, earlier.map(|at| at / 4)),
            1 => (FenceScope::Pool(self.pool()), earlier.map(|at| at / 2)),
            2..5 => {
                let (secret, issued) = self.one_of(&secrets)?;
                (FenceScope::Lineage(secret), earlier.map(|_| issued))
            }
            _ => (FenceScope::Worker(self.one_of(&workers)?), earlier),
        };
        Some(Command::RaiseFence { scope, up_to })
    }

    /// Made, applied and recorded in turn, with anything in between; narrow ones, so that something is left.
    fn wish_of_plans(&mut self, roll: &Roll) -> Option<Command> {
        let running: Vec<(PlanId, u64)> =
            roll.running_plans().map(|(plan, progress)| (plan.id, progress.done)).collect();
        if let Some((plan, done)) = self.one_of(&running).filter(|_| self.random.random_bool(0.5)) {
            return Some(Command::ContinuePlan { plan, done });
        }
        let made: Vec<(PlanId, Digest)> = roll
            .plans_after(None)
            .filter(|plan| plan.progress.is_none())
            .map(|plan| {
                (plan.id, roll.plan_digest(&plan.kind, &plan.selector, &roll.select(&plan.kind, &plan.selector)))
            })
            .collect();
        if let Some((plan, digest)) = self.one_of(&made).filter(|_| self.random.random_bool(0.7)) {
            return Some(Command::ApplyPlan { plan, digest, signing_key: None });
        }
        let workers: Vec<WorkerId> = roll.workers_after(None).map(|worker| worker.id.clone()).collect();
        let keys: Vec<KeyId> = roll.keys_after(None).into_iter().flatten().map(|key| key.id).collect();
        let secrets: Vec<EnrollmentSecretId> = roll.enrollment_secrets().map(|secret| secret.id).collect();
        let criteria = match self.random.random_range(0..5) {
            0 => vec![Criterion::Worker(self.one_of(&workers)?), Criterion::Worker(self.one_of(&workers)?)],
            1 => vec![Criterion::Key(self.one_of(&keys)?)],
            2 => vec![Criterion::Lineage(self.one_of(&secrets)?)],
            3 => vec![Criterion::Label { name: "site".into(), value: "ulm".into() }, Criterion::Pool(self.pool())],
            _ => vec![Criterion::Worker(self.one_of(&workers)?)],
        };
        let overlap = Seconds(self.random.random_range(300..4_000));
        let kind = match self.random.random_range(0..7) {
            0 => PlanKind::Isolate { until: self.moment_if() },
            1 => PlanKind::Release,
            2 => PlanKind::RevokeAll,
            3 => PlanKind::RotateAll { overlap, delivery: Delivery::Fetch },
            4 => PlanKind::RotateEnrollment { overlap },
            5 => PlanKind::Fence,
            _ => PlanKind::DisableEnrollment,
        };
        let selector = Selector::new(criteria, None, None).ok()?;
        Some(Command::MakePlan(MakePlan { plan: PlanId::from_uuid(mint::id()), kind, selector, replaces: None }))
    }

    fn wish_of_operators(&mut self, roll: &Roll) -> Option<Command> {
        let operators: Vec<OperatorId> = roll.operators().map(|operator| operator.id).collect();
        let operator = self.one_of(&operators)?;
        Some(match self.random.random_range(0..4) {
            0 => Command::RemoveOperator { operator },
            1 => self.create_key(KeyHolder::Operator(operator)),
            _ => Command::CreateOperator {
                operator: OperatorId::from_uuid(mint::id()),
                name: self.name()?,
                role: Role::Auditor,
                key: KeyId::from_uuid(mint::id()),
                verifier: self.fresh_value(),
                expires_at: self.moment_if(),
            },
        })
    }

    fn pool(&mut self) -> PoolId {
        self.one_of(&POOLS).unwrap().parse().unwrap()
    }

    fn name(&mut self) -> Option<Arc<str>> {
        self.one_of(&NAMES).map(Into::into)
    }

    fn labels(&mut self) -> Labels {
        let mut labels = Labels::new();
        if self.random.random_bool(0.5) {
            labels.insert("site".into(), if self.random.random_bool(0.5) { "berlin".into() } else { "ulm".into() });
        }
        labels
    }

    fn fresh_value(&mut self) -> Digest {
        Digest(self.random.random())
    }

    /// One of few, so that some are had by several.
    fn static_value(&mut self) -> Digest {
        if self.values.len() < 4 {
            let fresh = self.fresh_value();
            self.values.push(fresh);
        }
        let values = self.values.clone();
        self.one_of(&values).unwrap()
    }

    fn fresh_worker(&mut self) -> WorkerId {
        self.made += 1;
        format!("w{}-{}", self.seed, self.made).parse().unwrap()
    }

    fn create_worker(&mut self) -> Command {
        let id = KeyId::from_uuid(mint::id());
        Command::CreateWorker(CreateWorker {
            worker: self.fresh_worker(),
            pool: self.pool(),
            name: self.random.random_bool(0.7).then(|| self.name()).flatten(),
            labels: self.labels(),
            expires_at: self.moment_if(),
            pending: self.random.random_bool(0.3),
            static_secret: self.random.random_bool(0.3).then(|| (id, self.static_value())),
        })
    }

    fn create_key(&mut self, holder: KeyHolder) -> Command {
        let is_static = matches!(holder, KeyHolder::Worker(_)) && self.random.random_bool(0.4);
        let verifier = if is_static { self.static_value() } else { self.fresh_value() };
        Command::CreateKey(CreateKey {
            key: KeyId::from_uuid(mint::id()),
            holder,
            kind: if is_static { KeyKind::Static } else { KeyKind::Api },
            verifier,
            expires_at: self.moment_if(),
        })
    }

    fn rotate_key(&mut self, key: KeyId, roll: &Roll) -> Command {
        let is_static = roll.key(key).is_some_and(|key| key.kind == KeyKind::Static);
        let verifier = if is_static { self.static_value() } else { self.fresh_value() };
        Command::RotateKey {
            key,
            successor: KeyId::from_uuid(mint::id()),
            kind: if is_static { KeyKind::Static } else { KeyKind::Api },
            verifier,
            expires_at: self.moment_if(),
            overlap: Seconds(self.random.random_range(0..4)),
        }
    }

    /// Random filters at random moments find the same in the tables as a look at every row of the Roll.
    pub(super) async fn assert_lists_agree(&mut self, start: &Start, roll: &Roll) {
        for _ in 0..40 {
            let now = Timestamp(mint::now().0 + self.random.random_range(-3_000_000..6_000_000));
            self.assert_workers_agree(start, roll, now).await;
            self.assert_keys_agree(start, roll, now).await;
            assert_secrets_agree(start, roll, now).await;
        }
    }

    async fn assert_workers_agree(&mut self, start: &Start, roll: &Roll, now: Timestamp) {
        let site = ["berlin", "ulm"][self.random.random_range(0..2)];
        let filter = workers::Filter {
            after: self.random.random_bool(0.2).then(|| "w7-2".to_owned()),
            pool: self.random.random_bool(0.4).then(|| self.pool()),
            labels: if self.random.random_bool(0.3) {
                BTreeMap::from([("site".to_owned(), site.to_owned())])
            } else {
                BTreeMap::new()
            },
            name: self.random.random_bool(0.3).then(|| self.name().unwrap().to_string()),
            state: self.random.random_bool(0.7).then(|| Standing::ALL[self.random.random_range(0..6)]),
        };
        let fits = |worker: &&Worker| {
            let label = |(name, value): (&String, &String)| {
                worker.labels.as_ref().and_then(|labels| labels.get(&**name)).is_some_and(|found| **found == **value)
            };
            let left = matches!(filter.state, Some(Standing::Removed | Standing::Rejected));
            filter.pool.as_ref().is_none_or(|pool| worker.pool == *pool)
                && filter.labels.iter().all(label)
                && filter
                    .name
                    .as_deref()
                    .is_none_or(|name| worker.name.as_deref() == Some(name) && (left || worker.is_member()))
                && filter.state.is_none_or(|state| worker.standing(now) == state)
        };
        let expected: Vec<&str> =
            roll.workers_after(filter.after.as_deref()).filter(fits).map(|worker| worker.id.as_str()).collect();
        let found = ask(start, &workers::list(&filter, now, 10_000), roll.next_position()).await;
        let ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{filter:?} at {now:?}");
        for row in &found {
            let worker = roll.worker(row["id"].as_str().unwrap()).unwrap();
            let namesakes = worker.name.as_deref().map_or(0, |name| roll.workers_named(name).count());
            assert_eq!(row["name_shared_by"], namesakes, "{row}");
            let listed: workers::ListedWorker = serde_json::from_value(row.clone()).unwrap();
            let keys = worker.keys.iter().filter_map(|id| roll.key(*id));
            assert_eq!(listed.good_keys(now), keys.filter(|key| roll.is_good_for(key, worker, now)).count(), "{row}");
        }
    }

    async fn assert_keys_agree(&mut self, start: &Start, roll: &Roll, now: Timestamp) {
        let all: Vec<WorkerId> = roll.workers_after(None).map(|worker| worker.id.clone()).collect();
        let filter = keys::Filter {
            after: self.random.random_bool(0.2).then_some(20),
            worker: if self.random.random_bool(0.3) { self.one_of(&all) } else { None },
            operator: None,
            shared: self.random.random_bool(0.3),
            pool: self.random.random_bool(0.3).then(|| self.pool()),
            kind: self.random.random_bool(0.3).then_some(KeyKind::Static),
            state: self.random.random_bool(0.7).then(|| KeyStanding::ALL[self.random.random_range(0..5)]),
        };
        let shared: Vec<KeyId> = roll.shared().map(|key| key.id).collect();
        let fits = |key: &&Key| {
            let mut holders = key.workers().iter().filter_map(|index| roll.worker_at(*index));
            filter.after.is_none_or(|after| key.issued > after)
                && filter.worker.as_ref().is_none_or(|worker| holders.clone().any(|holder| holder.id == *worker))
                && (!filter.shared || shared.contains(&key.id))
                && filter.pool.as_ref().is_none_or(|pool| holders.next().is_some_and(|holder| holder.pool == *pool))
                && filter.kind.is_none_or(|kind| key.kind == kind)
                && filter.state.is_none_or(|state| roll.key_standing(key, now) == state)
        };
        let expected: Vec<String> =
            roll.keys_after(None).into_iter().flatten().filter(fits).map(|key| key.id.to_string()).collect();
        let found: Vec<Value> = ask(start, &keys::list(&filter, now, 10_000), roll.next_position()).await;
        let ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{filter:?} at {now:?}");
        for row in found {
            let key = roll.key(row["id"].as_str().unwrap().parse().unwrap()).unwrap();
            let listed: keys::ListedKey = serde_json::from_value(row).unwrap();
            assert_eq!(listed.standing(now), roll.key_standing(key, now), "{listed:?} at {now:?}");
        }
    }
}

/// What a key makes of itself falls with it.
fn its_holder(roll: &Roll, key: KeyId) -> Author {
    let worker = roll.key(key).and_then(|key| roll.worker_at(*key.workers().first()?));
    let actor = worker.map_or(Actor::System, |worker| Actor::Worker(worker.id.clone()));
    Author { actor, credential: Some(CredentialUsed::Key(key)), source: None, request_id: None }
}

async fn assert_secrets_agree(start: &Start, roll: &Roll, now: Timestamp) {
    let found = ask(start, &enrollment_secrets::list(None, 10_000), roll.next_position()).await;
    let rows = found.into_iter().map(|row| serde_json::from_value::<EnrollmentSecretRow>(row).unwrap());
    let states: Vec<_> = rows.map(|row| (row.id.clone(), row.standing(now))).collect();
    let expected: Vec<_> =
        roll.enrollment_secrets().map(|secret| (secret.id.to_string(), secret.standing(now))).collect();
    assert_eq!(states, expected, "at {now:?}");
}
