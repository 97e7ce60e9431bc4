//! `/v1/scope`: what is reached from what is known to have leaked. It reads, and plans nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use axum::http::Uri;
use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use self::graph::Node;
use self::reading::{Question, Reading};
use super::App;
use super::body::JsonBytes;
use super::caller::{Caller, MayReadEvents};
use super::openapi::Refusals;
use super::page::scanned;
use super::problem::Problem;
use super::select::credential::FoundCredential;
use super::waiting::at_least;
use super::{body, schema, select};
use crate::command::mint;
use crate::domain::operator::Permission;
use crate::domain::plan::Criterion;
use crate::incident::passes::Asked;
use crate::projection::used;

mod counts;
mod graph;
pub(super) mod reading;
mod usage;

/// Nodes of the graph, unless said otherwise: a page of it, and still an answer that a person can look at.
pub(super) const NODES_DEFAULT: usize = 1_000;
/// The most: some megabytes of an answer, and as many subjects as are looked up in the log at once.
pub(super) const NODES_MAX: usize = 25_000;
/// Each keeps a connection of the pool while it reads. Two people who look at the same incident are let in.
static PLACES: Semaphore = Semaphore::const_new(2);

/// What is known.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// As for a plan; but `source:` reaches those too of whom it was noted that they showed a key from there, and `operator:`
    /// what was made by operators for whom these have made a key.
    #[serde(default)]
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
    /// A whole credential that was found: an API key, an access token, a static secret or an enrollment secret. Only for those
    /// who may validate.
    #[schema(value_type = Option<String>)]
    credential: Option<SecretString>,
    /// Only workers that came at this time or later.
    #[schema(schema_with = schema::time_or_null)]
    since: Option<String>,
    /// Only workers that came before this time.
    #[schema(schema_with = schema::time_or_null)]
    before: Option<String>,
    /// How many nodes of the graph to show; the counts are always of all.
    #[serde(default, deserialize_with = "body::count")]
    #[schema(schema_with = schema::nodes_or_null)]
    limit: Option<u64>,
}

/// What is reached, what has ended among it.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct ScopeView {
    /// The counts are those of the state after this position.
    #[schema(schema_with = schema::position)]
    position: u64,
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
    /// What the whole credential was found to be, where one was sent. What it leads to stands in `select`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    credential: Option<FoundCredential>,
    counts: counts::ScopeCounts,
    /// Workers that were noted at an address that is asked for, and that the log itself does not show there: a plan with the
    /// same criteria does not select them. The first of them; name them by `worker:` in a plan of their own.
    only_noted: Vec<String>,
    #[schema(schema_with = schema::position)]
    only_noted_in_all: usize,
    tokens: usage::TokensView,
    /// The earliest event of the log that was done with what is reached.
    #[schema(schema_with = schema::time_or_null)]
    first_used_at: Option<String>,
    /// The latest, or the latest validation that was noted.
    #[schema(schema_with = schema::time_or_null)]
    last_used_at: Option<String>,
    /// Where those events came from, and where keys were noted: the first of them.
    sources: Vec<String>,
    #[schema(schema_with = schema::position)]
    sources_in_all: usize,
    /// Whether every node is shown. Counts, uses, sources and tokens are of all in either case.
    complete: bool,
    nodes: Vec<Node>,
    edges: Vec<graph::Edge>,
}

/// Shows what a leak reaches: workers, keys, enrollment secrets and operators, how each came of the others, who used them
/// when and from where, and how many tokens are still alive. Nothing is changed. Where that takes longer than a request may, it is
/// a 503 `scope_underway` that says how far it is: ask again, and the answer is there when it is made.
#[utoipa::path(
    post, path = "/v1/scope", tag = "plans", request_body = Known, responses((status = 200, body = ScopeView), Refusals)
)]
pub(super) async fn scope(
    State(app): State<App>,
    caller: Caller<MayReadEvents>,
    uri: Uri,
    JsonBytes(bytes): JsonBytes,
) -> Result<Reply<ScopeView>, Problem> {
    let known: Known = body::parse(&bytes)?;
    if known.credential.is_some() {
        // It is told whether it is genuine.
        caller.also(Permission::Validate)?;
    }
    let limit = known.limit.map_or(Ok(NODES_DEFAULT), usize::try_from).unwrap_or(usize::MAX);
    if !(1..=NODES_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("from 1 to {NODES_MAX}")));
    }
    let request_timeout = app.settings().request_timeout;
    let place = tokio::time::timeout(request_timeout / 4, PLACES.acquire()).await;
    let place = place.map_err(|_| Problem::scope_busy())?.map_err(Problem::internal)?;
    let question = question(&app, &known, limit).await?;
    let reading = Reading { node: app.node().clone(), database: app.database().clone() };
    if question.is_small()
        && let Some(answer) = reading.in_request(&question).await?
    {
        return Ok(Reply(answer));
    }
    drop(place);
    let since = at_least(&uri)?.map_or(0, |position| position.saturating_add(1));
    let begin = |_, progress| {
        let (reading, question) = (reading.clone(), question.clone());
        async move { (reading.whole(question, progress).await, None) }
    };
    let fits = |known: &Question| question.is_answered_by(known, since);
    match app.scope_passes().ask(&question, question.subjects() as u64, fits, request_timeout / 4, begin).await {
        Asked::Answered(answer) => answer.map(Reply),
        Asked::Underway { at, end } => Err(Problem::scope_underway(at.min(end), end)),
        Asked::Busy => Err(Problem::scope_busy()),
        Asked::BrokeOff => Err(Problem::internal("reading the scope broke off")),
    }
}

/// What is asked, with what it reaches.
async fn question(app: &App, known: &Known, limit: usize) -> Result<Question, Problem> {
    let (select, since, before) = (&*known.select, known.since.as_deref(), known.before.as_deref());
    let asked = select::Asked { select, credential: known.credential.as_ref(), since, before };
    let (selector, credential) = select::selector(app, asked).await?;
    let networks = selector.criteria().iter().filter_map(|criterion| match criterion {
        Criterion::Source(network) => Some(*network),
        _ => None,
    });
    let networks: Vec<IpNet> = networks.collect();
    let noted = if networks.is_empty() {
        BTreeSet::new()
    } else {
        // What this node has seen a moment ago; the others write theirs down every ten seconds.
        app.used().flush(app.database()).await?;
        used::seen_within(app.database(), &networks).await?
    };
    drop(app.node().current()?);
    let (snapshot, now) = (app.node().snapshot(), mint::now());
    crate::domain::decide::is_known(&snapshot.roll, &selector)?;
    let looks_at = snapshot.roll.key_count().max(snapshot.roll.worker_count());
    let (of, on) = (selector.clone(), snapshot.clone());
    let scope = scanned(looks_at, move || Ok(on.roll.scope(&of, &noted))).await?;
    Ok(Question { selector, limit, snapshot, scope: Arc::new(scope), credential, now })
}
