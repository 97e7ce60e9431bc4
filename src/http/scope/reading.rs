//! What the log and the notes of validations say of all that is reached: in a request where it is little, and beside the
//! requests where it is much.

use std::sync::Arc;

use super::graph::{Graph, Listed, in_order};
use super::usage::Usage;
use super::{ScopeView, counts};
use crate::domain::event::Recorded;
use crate::domain::ids::KeyId;
use crate::domain::plan::Selector;
use crate::domain::roll::scope::Scope;
use crate::domain::time::Timestamp;
use crate::http::problem::Problem;
use crate::http::select::credential::FoundCredential;
use crate::http::view;
use crate::incident::passes::{Passes, Progress};
use crate::log::search::about_any;
use crate::node::Node;
use crate::postgres::Database;
use crate::projection::used;
use crate::validate::Snapshot;

/// Things of which the events are read with one statement: few enough that it ends in time, however much they were used.
const SUBJECTS_AT_ONCE: usize = 2_000;
/// Events that are read within a request, each checked against its seal: about a second's work.
const EVENTS_AT_ONCE_MAX: usize = 200_000;
/// Things of which a request reads the events; of more there are more than that, as a rule.
const SUBJECTS_IN_REQUEST_MAX: usize = 50_000;
/// Addresses of one answer to the database: each key has sixteen at the most.
const SOURCES_AT_ONCE: usize = SUBJECTS_AT_ONCE * used::SOURCES_MAX;
/// Workers of a list that says who was only noted: enough for one more command.
const ONLY_NOTED_SHOWN: usize = 100;

/// Scopes that are read beside the requests, one at a time.
pub(in crate::http) type ScopePasses = Passes<Question, Result<ScopeView, Problem>, ()>;

/// What is asked, on which state.
#[derive(Clone)]
pub(in crate::http) struct Question {
    pub(super) selector: Selector,
    pub(super) limit: usize,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) scope: Arc<Scope>,
    pub(super) credential: Option<FoundCredential>,
    pub(super) now: Timestamp,
}

/// Where it is read.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) node: Arc<Node>,
    pub(super) database: Database,
}

impl Question {
    pub(super) fn subjects(&self) -> usize {
        let Scope { operators, enrollment_secrets, workers, keys, only_noted: _ } = &*self.scope;
        operators.len() + enrollment_secrets.len() + workers.len() + keys.len()
    }

    pub(super) fn is_small(&self) -> bool {
        self.subjects() <= SUBJECTS_IN_REQUEST_MAX
    }

    /// Whether the answer to that one answers this one.
    pub(super) fn is_answered_by(&self, known: &Self, since: u64) -> bool {
        known.selector == self.selector
            && known.limit == self.limit
            && known.credential == self.credential
            && known.snapshot.roll.next_position() >= since
    }
}

impl Reading {
    /// The answer; nothing, if that is more than a request should read.
    pub(super) async fn in_request(&self, question: &Question) -> Result<Option<ScopeView>, Problem> {
        self.read(question, EVENTS_AT_ONCE_MAX, &Progress::default()).await
    }

    /// The answer, however long it takes.
    pub(super) async fn whole(self, question: Question, progress: Arc<Progress>) -> Result<ScopeView, Problem> {
        let read = self.read(&question, usize::MAX, &progress).await?;
        read.ok_or_else(|| Problem::internal("more events than can be counted"))
    }

    async fn read(&self, question: &Question, most: usize, progress: &Progress) -> Result<Option<ScopeView>, Problem> {
        let (question, roll) = (question.clone(), &question.snapshot.roll);
        let (of, now) = (question.clone(), question.now);
        let looked = tokio::task::spawn_blocking(move || {
            let (roll, scope) = (&of.snapshot.roll, &of.scope);
            let subjects: Vec<Listed> = in_order(roll, scope).collect();
            (counts::ScopeCounts::of(roll, scope, now), Graph::of(roll, scope, of.limit, now), subjects)
        });
        let (counts, mut graph, subjects) = looked.await.map_err(Problem::internal)?;
        let mut usage = Usage::of(&question.scope, &graph.listed);
        let mut left = most;
        for (chunk, read) in subjects.chunks(SUBJECTS_AT_ONCE).zip(1_u64..) {
            let named: Vec<(&str, String)> = chunk.iter().map(Listed::subject).collect();
            let client = self.database.client().await?;
            let mut seen = 0;
            let see = |recorded: &Recorded| {
                seen += 1;
                usage.see(roll, recorded, now);
            };
            if about_any(&client, self.node.keys(), &named, roll.next_position(), left, see).await? {
                return Ok(None);
            }
            left -= seen;
            drop(client);
            let keys: Vec<KeyId> = chunk.iter().filter_map(Listed::key).collect();
            if !keys.is_empty() {
                let spans = used::spans_of(&self.database, &keys).await?;
                usage.noted(spans, used::sources(&self.database, &keys, SOURCES_AT_ONCE).await?);
            }
            progress.reached(read * SUBJECTS_AT_ONCE as u64);
        }
        graph.describe(&usage);
        Ok(Some(answer(question, counts, &usage, graph)))
    }
}

fn answer(question: Question, counts: counts::ScopeCounts, usage: &Usage, graph: Graph) -> ScopeView {
    let roll = &question.snapshot.roll;
    let only_noted = question.scope.only_noted.iter().take(ONLY_NOTED_SHOWN).filter_map(|index| roll.worker_at(*index));
    ScopeView {
        position: roll.next_position().saturating_sub(1),
        select: question.selector.criteria().iter().map(ToString::to_string).collect(),
        credential: question.credential,
        counts,
        only_noted_in_all: question.scope.only_noted.len(),
        only_noted: only_noted.map(|worker| worker.id.to_string()).collect(),
        tokens: usage.tokens(),
        first_used_at: usage.all.first.map(view::time),
        last_used_at: usage.all.last.map(view::time),
        sources: usage.all.sources(),
        sources_in_all: usage.all.sources_in_all(),
        complete: graph.is_whole,
        nodes: graph.nodes,
        edges: graph.edges,
    }
}
