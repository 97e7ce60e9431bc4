//! A scope as a graph: who made, let in, holds, or was rotated into what.

use std::collections::HashSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::usage::Usage;
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId};
use crate::domain::operator::OperatorIndex;
use crate::domain::roll::Roll;
use crate::domain::roll::scope::Scope;
use crate::domain::time::Timestamp;
use crate::domain::worker::WorkerIndex;
use crate::http::{schema, view};

/// One thing that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Listed {
    Operator(OperatorId),
    EnrollmentSecret(EnrollmentSecretId),
    Worker(String),
    Key(KeyId),
}

/// One thing that is reached.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::http) struct Node {
    /// A kind and an id, such as `worker:web-1`.
    #[schema(example = "worker:web-1")]
    id: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pool: Option<String>,
    state: &'static str,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The first event that was done with it.
    #[schema(schema_with = schema::time_or_null)]
    first_used_at: Option<String>,
    /// The last one, or the last validation that was noted.
    #[schema(schema_with = schema::time_or_null)]
    last_used_at: Option<String>,
    /// Where these events came from, or where it was noted.
    sources: Vec<String>,
}

/// How one came of another.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::http) struct Edge {
    from: String,
    to: String,
    /// `created`, `let_in`, `holds` or `rotated_into`.
    #[schema(example = "let_in")]
    kind: &'static str,
}

/// As much of it as is shown.
pub(super) struct Graph {
    pub(super) listed: Vec<Listed>,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// Whether it is all.
    pub(super) is_whole: bool,
}

impl Listed {
    /// As events name it.
    pub(super) fn subject(&self) -> (&'static str, String) {
        match self {
            Listed::Operator(id) => ("operator", id.to_string()),
            Listed::EnrollmentSecret(id) => ("enrollment_secret", id.to_string()),
            Listed::Worker(id) => ("worker", id.clone()),
            Listed::Key(id) => ("key", id.to_string()),
        }
    }

    pub(super) fn key(&self) -> Option<KeyId> {
        match self {
            Listed::Key(id) => Some(*id),
            Listed::Operator(_) | Listed::EnrollmentSecret(_) | Listed::Worker(_) => None,
        }
    }

    fn text(&self) -> String {
        let (kind, id) = self.subject();
        format!("{kind}:{id}")
    }
}

impl Graph {
    pub(super) fn of(roll: &Roll, scope: &Scope, limit: usize, now: Timestamp) -> Self {
        let mut order = in_order(roll, scope);
        let listed: Vec<Listed> = order.by_ref().take(limit).collect();
        let is_whole = order.next().is_none();
        drop(order);
        let nodes = listed.iter().filter_map(|one| node(roll, one, now)).collect();
        let shown: HashSet<&Listed> = listed.iter().collect();
        let edges = listed.iter().flat_map(|one| edges_to(roll, one));
        let edges = edges.filter(|(from, _, _)| shown.contains(from));
        let edges = edges.map(|(from, to, kind)| Edge { from: from.text(), to: to.text(), kind }).collect();
        Self { listed, nodes, edges, is_whole }
    }

    /// Says of each node how it was used.
    pub(super) fn describe(&mut self, usage: &Usage) {
        for (node, listed) in self.nodes.iter_mut().zip(&self.listed) {
            if let Some(used) = usage.of_each.get(listed) {
                node.first_used_at = used.first.map(view::time);
                node.last_used_at = used.last.map(view::time);
                node.sources = used.sources();
            }
        }
    }
}

/// What others came of first, and each worker with its keys after it: so the beginning of a long list makes sense.
pub(super) fn in_order<'a>(roll: &'a Roll, scope: &'a Scope) -> impl Iterator<Item = Listed> + 'a {
    let operators = scope.operators.iter().copied().map(Listed::Operator);
    let secrets = scope.enrollment_secrets.iter().copied().map(Listed::EnrollmentSecret);
    let mut seen = HashSet::new();
    let workers = scope.workers.iter().filter_map(|index| roll.worker_at(*index)).flat_map(move |worker| {
        let keys: Vec<KeyId> = worker.keys.iter().copied().filter(|id| scope.keys.contains(id)).collect();
        // A key that several share is shown once.
        let new: Vec<KeyId> = keys.into_iter().filter(|id| seen.insert(*id)).collect();
        std::iter::once(Listed::Worker(worker.id.to_string())).chain(new.into_iter().map(Listed::Key))
    });
    operators.chain(secrets).chain(workers)
}

fn node(roll: &Roll, listed: &Listed, now: Timestamp) -> Option<Node> {
    let (name, pool, state, created_at) = match listed {
        Listed::Operator(id) => {
            let operator = roll.operator(*id)?;
            let state = if operator.removed { "removed" } else { "active" };
            (Some(operator.name.to_string()), None, state, operator.created_at)
        }
        Listed::EnrollmentSecret(id) => {
            let secret = roll.enrollment_secret(*id)?;
            (None, Some(secret.pool.to_string()), secret.standing(now).as_str(), secret.created_at)
        }
        Listed::Worker(id) => {
            let worker = roll.worker(id)?;
            let name = worker.name.as_deref().map(str::to_owned);
            (name, Some(worker.pool.to_string()), worker.standing(now).as_str(), worker.created_at)
        }
        Listed::Key(id) => {
            let key = roll.key(*id)?;
            (None, None, roll.key_standing(key, now).as_str(), key.created_at)
        }
    };
    let created_at = view::time(created_at);
    let id = listed.text();
    Some(Node { id, name, pool, state, created_at, first_used_at: None, last_used_at: None, sources: Vec::new() })
}

type Link = (Listed, Listed, &'static str);

/// What it came of, be it in the scope or not.
fn edges_to(roll: &Roll, to: &Listed) -> Vec<Link> {
    let by = |index: Option<OperatorIndex>| {
        let operator = index.and_then(|index| roll.operator_at(index));
        operator.map(|operator| (Listed::Operator(operator.id), to.clone(), "created"))
    };
    let mut links = Vec::new();
    match to {
        Listed::Operator(id) => links.extend(by(roll.operator(*id).and_then(|operator| operator.created_by))),
        Listed::EnrollmentSecret(id) => {
            let Some(secret) = roll.enrollment_secret(*id) else { return links };
            links.extend(by(secret.created_by));
            let parent = secret.parent.map(Listed::EnrollmentSecret);
            links.extend(parent.map(|parent| (parent, to.clone(), "rotated_into")));
        }
        Listed::Worker(id) => {
            let Some(worker) = roll.worker(id) else { return links };
            links.extend(by(worker.created_by));
            let door = worker.enrolled_by.map(Listed::EnrollmentSecret);
            links.extend(door.map(|door| (door, to.clone(), "let_in")));
        }
        Listed::Key(id) => {
            let Some(key) = roll.key(*id) else { return links };
            links.extend(by(key.created_by));
            links.extend(key.parent.map(|parent| (Listed::Key(parent), to.clone(), "rotated_into")));
            let holder = |index: &WorkerIndex| roll.worker_at(*index).map(|worker| worker.id.to_string());
            let holders = key.workers().iter().filter_map(holder).map(Listed::Worker);
            links.extend(holders.map(|holder| (holder, to.clone(), "holds")));
        }
    }
    links
}
