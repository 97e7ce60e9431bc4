//! `/v1/scope`: what is reached from what is known to have leaked. It reads, and plans nothing.

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use self::graph::{Graph, Listed, Node};
use self::usage::Usage;
use super::App;
use super::body::JsonBytes;
use super::caller::{Caller, MayReadEvents};
use super::openapi::Refusals;
use super::page::scanned;
use super::problem::Problem;
use super::{body, schema, select, view};
use crate::command::mint;
use crate::domain::event::Recorded;
use crate::log::search::about_any;
use crate::projection::used;

mod counts;
mod graph;
mod usage;

/// Nodes of the graph, unless said otherwise: a page of it, and still an answer that a person can look at.
pub(super) const NODES_DEFAULT: usize = 1_000;
/// The most: some megabytes of an answer, and as many subjects as are looked up in the log at once.
pub(super) const NODES_MAX: usize = 25_000;
/// Events that are read for one answer, each checked against its seal: about a second's work.
const EVENTS_MAX: usize = 200_000;

/// Each keeps a connection of the pool while it reads. Two people who look at the same incident are let in.
static PLACES: Semaphore = Semaphore::const_new(2);

/// What is known.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// As for a plan.
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
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
#[derive(Serialize, ToSchema)]
pub(super) struct ScopeView {
    /// The counts are those of the state after this position.
    #[schema(schema_with = schema::position)]
    position: u64,
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
    counts: counts::ScopeCounts,
    tokens: usage::TokensView,
    /// The earliest event of the log that was done with what is shown.
    #[schema(schema_with = schema::time_or_null)]
    first_used_at: Option<String>,
    /// The latest, or the latest validation that was noted.
    #[schema(schema_with = schema::time_or_null)]
    last_used_at: Option<String>,
    /// Where those events came from.
    sources: Vec<String>,
    /// Whether every node is shown, and every event about them was read. If not, the counts are exact all the same; uses,
    /// sources and tokens are those of what is shown.
    complete: bool,
    nodes: Vec<Node>,
    edges: Vec<graph::Edge>,
}

/// Shows what a leak reaches: workers, keys, enrollment secrets and operators, how each came of the others, who used them
/// when and from where, and how many tokens are still alive. Nothing is changed.
#[utoipa::path(
    post, path = "/v1/scope", tag = "plans", request_body = Known, responses((status = 200, body = ScopeView), Refusals)
)]
pub(super) async fn scope(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Reply<ScopeView>, Problem> {
    let known: Known = body::parse(&bytes)?;
    let limit = known.limit.map_or(Ok(NODES_DEFAULT), usize::try_from).unwrap_or(usize::MAX);
    if !(1..=NODES_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("from 1 to {NODES_MAX}")));
    }
    let place = tokio::time::timeout(app.settings().request_timeout / 4, PLACES.acquire()).await;
    let _place = place.map_err(|_| Problem::scope_busy())?.map_err(Problem::internal)?;
    let selector = select::selector(&app, &known.select, known.since.as_deref(), known.before.as_deref()).await?;
    drop(app.node().current()?);
    let (snapshot, now) = (app.node().snapshot(), mint::now());
    let roll = snapshot.roll.clone();
    crate::domain::decide::is_known(&roll, &selector)?;
    let looks_at = roll.key_count().max(roll.worker_count());
    let of = selector.clone();
    let (counts, mut graph) = scanned(looks_at, move || {
        let scope = roll.scope(&of);
        Ok((counts::ScopeCounts::of(&roll, &scope, now), Graph::of(&roll, &scope, limit, now)))
    })
    .await?;
    let roll = &snapshot.roll;
    let subjects: Vec<(&str, String)> = graph.listed.iter().map(Listed::subject).collect();
    let mut usage = Usage::of(&graph.listed);
    let client = app.database().client().await?;
    let see = |recorded: &Recorded| usage.see(roll, recorded, now);
    let more = about_any(&client, app.node().keys(), &subjects, roll.next_position(), EVENTS_MAX, see).await?;
    drop(client);
    usage.validated(used::spans_of(app.database(), &graph.keys()).await?);
    let complete = graph.is_whole && !more;
    graph.describe(&usage);
    Ok(Reply(ScopeView {
        position: roll.next_position().saturating_sub(1),
        select: selector.criteria().iter().map(ToString::to_string).collect(),
        counts,
        tokens: usage.tokens(complete),
        first_used_at: usage.all.first.map(view::time),
        last_used_at: usage.all.last.map(view::time),
        sources: usage.all.sources(),
        complete,
        nodes: graph.nodes,
        edges: graph.edges,
    }))
}
