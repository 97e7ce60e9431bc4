//! The Roll taken apart, so that it can be kept, and put together again.
//!
//! What is kept is what cannot be made from the rest: rows, the orders in which they are listed, and the few things of which
//! there are not millions. Indexes are made anew. Whatever [`Roll::apply`] made is the same once it was taken apart and put
//! together; structs are taken apart whole, so that a field which is forgotten here does not compile.
//!
//! How the parts lie on disk is for others to say. Rows come one by one, since all at once they would be the Roll again.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::keys::KeysStored;

use super::fences::Fences;
use super::incidents::IncidentsStored;
use super::rows::Rows;
use super::tripwires::TripwiresStored;
use super::{IdMap, Roll};
use crate::domain::certificate::Certificate;
use crate::domain::enrollment::EnrollmentSecret;
use crate::domain::fence::{Fence, FenceScope, Floor};
use crate::domain::ids::{EnrollmentSecretId, IncidentId, KeyId, PoolId, TokenId, WorkerId};
use crate::domain::key::{Digest, Key};
use crate::domain::netguard::Listed;
use crate::domain::operator::{Operator, OperatorIndex};
use crate::domain::plan::{ApprovalPolicy, Plan};
use crate::domain::pool::Pool;
use crate::domain::signing_key::SigningKey;
use crate::domain::time::Timestamp;
use crate::domain::token::SessionCut;
use crate::domain::webhook::Webhook;
use crate::domain::worker::{Labels, Worker, WorkerIndex, WorkerState};

/// Everything but the workers and the keys.
#[derive(Serialize, Deserialize)]
pub struct Rest {
    next_position: u64,
    recorded_at: Timestamp,
    reduced: u64,
    in_force: u64,
    pools: Vec<Arc<Pool>>,
    shared_keys: Vec<KeyId>,
    shared_secrets: Vec<Digest>,
    enrollment_secrets: Vec<Arc<EnrollmentSecret>>,
    enrollment_verifiers: Vec<(Digest, EnrollmentSecretId)>,
    signing_keys: Vec<Arc<SigningKey>>,
    /// In the order in which they end.
    session_cuts: Vec<(TokenId, SessionCut)>,
    operators: Vec<Arc<Operator>>,
    fences: Vec<(FenceScope, Fence)>,
    fence_over_everything: Floor,
    greatest_pool_fence: Floor,
    greatest_lineage_fence: Floor,
    plans: Vec<Arc<Plan>>,
    netguard: Vec<(IpNet, Listed)>,
    plan_policy: ApprovalPolicy,
    incidents: IncidentsStored,
    certificates: Vec<Arc<Certificate>>,
    certificates_due: u64,
    certificates_for: Option<IncidentId>,
    tripwires: TripwiresStored,
    webhooks: Vec<Arc<Webhook>>,
}

/// One worker.
#[derive(Serialize, Deserialize)]
pub struct WorkerRow<'a> {
    state: WorkerState,
    expires_at: Option<Timestamp>,
    fence: Floor,
    id: &'a str,
    pool: &'a str,
    name: Option<&'a str>,
    labels: Option<Cow<'a, Labels>>,
    created_at: Timestamp,
    created: u64,
    enrolled_by: Option<EnrollmentSecretId>,
    created_by: Option<OperatorIndex>,
    seen_from: Option<IpAddr>,
    keys: Cow<'a, [KeyId]>,
}

/// Workers that come in the order of their rows.
pub struct WorkersStored {
    pools: BTreeSet<PoolId>,
    rows: Rows<Worker>,
    by_id: OrdMap<WorkerId, WorkerIndex>,
    by_name: OrdSet<(Arc<str>, WorkerIndex)>,
    isolated: OrdSet<WorkerIndex>,
}

/// The parts do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(&'static str);

impl Roll {
    #[must_use]
    pub fn rest(&self) -> Rest {
        let Roll {
            next_position,
            recorded_at,
            reduced,
            in_force,
            pools,
            workers: _,
            worker_ids: _,
            names: _,
            keys: _,
            shared_keys,
            shared_secrets,
            enrollment_secrets,
            enrollment_verifiers,
            signing_keys,
            session_cuts,
            session_cut_ends,
            operators,
            fences: Fences { standing, everything, pools: pool_fences, lineages },
            plans,
            isolated: _,
            netguard,
            plan_ends: _,
            plan_policy,
            incidents,
            certificates,
            certificates_due,
            certificates_for,
            tripwires,
            webhooks,
        } = self;
        let mut verifiers: Vec<_> = enrollment_verifiers.iter().map(|(verifier, id)| (*verifier, *id)).collect();
        // A hash table has no order of its own, and the same Roll should be the same bytes.
        verifiers.sort_unstable();
        let cut = |(_, id): &(Timestamp, TokenId)| session_cuts.get(id).map(|cut| (*id, *cut));
        Rest {
            next_position: *next_position,
            recorded_at: *recorded_at,
            reduced: *reduced,
            in_force: *in_force,
            pools: pools.values().cloned().collect(),
            shared_keys: shared_keys.iter().copied().collect(),
            shared_secrets: shared_secrets.iter().copied().collect(),
            enrollment_secrets: enrollment_secrets.values().cloned().collect(),
            enrollment_verifiers: verifiers,
            signing_keys: signing_keys.iter().cloned().collect(),
            session_cuts: session_cut_ends.iter().filter_map(cut).collect(),
            operators: operators.values().cloned().collect(),
            fences: standing.iter().map(|(scope, fence)| (scope.clone(), *fence)).collect(),
            fence_over_everything: *everything,
            greatest_pool_fence: *pool_fences,
            greatest_lineage_fence: *lineages,
            plans: plans.values().cloned().collect(),
            netguard: netguard.iter().map(|(network, listed)| (*network, *listed)).collect(),
            plan_policy: plan_policy.clone(),
            incidents: incidents.stored(),
            certificates: certificates.values().cloned().collect(),
            certificates_due: *certificates_due,
            certificates_for: certificates_for.clone(),
            tripwires: tripwires.stored(),
            webhooks: webhooks.values().cloned().collect(),
        }
    }

    /// Workers in the order of their rows.
    pub fn worker_rows(&self) -> impl Iterator<Item = WorkerRow<'_>> {
        self.workers.iter().map(WorkerRow::of)
    }

    /// Which row of a worker comes when, in the order of their ids.
    pub fn workers_by_id(&self) -> impl Iterator<Item = WorkerIndex> {
        self.worker_ids.values().copied()
    }

    /// Which row of a worker comes when, in the order of the names of those that have one and are members.
    pub fn workers_by_name(&self) -> impl Iterator<Item = WorkerIndex> {
        self.names.iter().map(|(_, index)| *index)
    }

    /// Keys in the order of their rows.
    pub fn key_rows(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Puts the parts together.
    #[must_use]
    pub fn assemble(rest: Rest, workers: WorkersStored, keys: KeysStored) -> Self {
        let ends = rest.session_cuts.iter().map(|(id, cut)| (cut.keep_until, *id)).collect();
        let (standing, everything) = (rest.fences.into_iter().collect(), rest.fence_over_everything);
        let (pools, lineages) = (rest.greatest_pool_fence, rest.greatest_lineage_fence);
        Roll {
            next_position: rest.next_position,
            recorded_at: rest.recorded_at,
            reduced: rest.reduced,
            in_force: rest.in_force,
            pools: rest.pools.into_iter().map(|pool| (pool.id.clone(), pool)).collect(),
            workers: workers.rows,
            worker_ids: workers.by_id,
            names: workers.by_name,
            keys: keys.finish(),
            shared_keys: rest.shared_keys.into_iter().collect(),
            shared_secrets: rest.shared_secrets.into_iter().collect(),
            enrollment_secrets: rest.enrollment_secrets.into_iter().map(|secret| (secret.id, secret)).collect(),
            enrollment_verifiers: rest.enrollment_verifiers.into_iter().collect::<IdMap<_, _>>(),
            signing_keys: rest.signing_keys.into_iter().collect(),
            session_cuts: rest.session_cuts.into_iter().collect(),
            session_cut_ends: ends,
            operators: rest.operators.into_iter().map(|operator| (operator.id, operator)).collect(),
            fences: Fences { standing, everything, pools, lineages },
            plan_ends: rest.plans.iter().filter_map(|plan| Some((plan.forgotten_at()?, plan.id))).collect(),
            plan_policy: rest.plan_policy,
            plans: rest.plans.into_iter().map(|plan| (plan.id, plan)).collect(),
            isolated: workers.isolated,
            netguard: rest.netguard.into_iter().collect(),
            incidents: rest.incidents.into(),
            certificates: rest.certificates.into_iter().map(|known| (known.served.node.clone(), known)).collect(),
            certificates_due: rest.certificates_due,
            certificates_for: rest.certificates_for,
            tripwires: Arc::new(rest.tripwires.into()),
            webhooks: rest.webhooks.into_iter().map(|webhook| (webhook.id, webhook)).collect(),
        }
    }
}

impl<'a> WorkerRow<'a> {
    fn of(worker: &'a Worker) -> Self {
        let Worker {
            state,
            expires_at,
            fence,
            id,
            pool,
            name,
            labels,
            created_at,
            created,
            enrolled_by,
            created_by,
            seen_from,
            keys,
        } = worker;
        Self {
            state: *state,
            expires_at: *expires_at,
            fence: *fence,
            id: id.as_str(),
            pool: pool.as_str(),
            name: name.as_deref(),
            labels: labels.as_deref().map(Cow::Borrowed),
            created_at: *created_at,
            created: *created,
            enrolled_by: *enrolled_by,
            created_by: *created_by,
            seen_from: *seen_from,
            keys: Cow::Borrowed(keys),
        }
    }
}

impl WorkersStored {
    /// For the pools of this Roll: their workers share their ids, and do not have a million copies.
    #[must_use]
    pub fn of(rest: &Rest) -> Self {
        let pools = rest.pools.iter().map(|pool| pool.id.clone()).collect();
        Self { pools, rows: Rows::default(), by_id: OrdMap::new(), by_name: OrdSet::new(), isolated: OrdSet::new() }
    }

    pub fn push(&mut self, row: WorkerRow<'_>) -> Result<(), Unfit> {
        let worker = Worker {
            state: row.state,
            expires_at: row.expires_at,
            fence: row.fence,
            id: row.id.parse().map_err(|_| Unfit("the id of a worker is none"))?,
            pool: self.pool(row.pool)?,
            name: row.name.map(Into::into),
            labels: row.labels.map(|labels| Arc::new(labels.into_owned())),
            created_at: row.created_at,
            created: row.created,
            enrolled_by: row.enrolled_by,
            created_by: row.created_by,
            seen_from: row.seen_from,
            keys: row.keys.into_owned(),
        };
        if matches!(worker.state, WorkerState::Isolated { .. }) {
            let index = u32::try_from(self.rows.len()).map_err(|_| Unfit("there are too many workers"))?;
            self.isolated.insert(WorkerIndex(index));
        }
        self.rows.push(worker);
        Ok(())
    }

    fn pool(&mut self, id: &str) -> Result<PoolId, Unfit> {
        if let Some(own) = self.pools.get(id) {
            return Ok(own.clone());
        }
        id.parse().map_err(|_| Unfit("the pool of a worker is none"))
    }

    /// The next worker, in the order of their ids.
    pub fn push_by_id(&mut self, index: WorkerIndex) -> Result<(), Unfit> {
        let id = self.row(index)?.id.clone();
        self.by_id.insert(id, index);
        Ok(())
    }

    /// The next worker, in the order of their names.
    pub fn push_by_name(&mut self, index: WorkerIndex) -> Result<(), Unfit> {
        let name = self.row(index)?.name.clone().ok_or(Unfit("a worker without a name is listed by its name"))?;
        self.by_name.insert((name, index));
        Ok(())
    }

    fn row(&self, index: WorkerIndex) -> Result<&Worker, Unfit> {
        self.rows.get(index.0 as usize).ok_or(Unfit("a worker is listed that has no row"))
    }
}
