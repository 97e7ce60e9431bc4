//! `/v1/nodes`: who follows the log and how far; and `/v1/in-force`: since when a change holds on all of them.

use axum::Json as Reply;
use axum::extract::{Path, State};
use axum::http::Uri;
use chrono::SecondsFormat;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::caller::{Caller, MayReadFleet};
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Pairs;
use super::waiting::{listed, patience};
use super::{schema, view};
use crate::domain::event::Event;
use crate::log::entry;
use crate::log::search::{Search, search};
use crate::node::barrier::Passed;
use crate::node::presence::{self, Listed};

/// A barrier is recorded for all that came before it, so the first one after a position is nearly always its own.
const RECORDS_LOOKED_AT: usize = 32;

/// A node that follows the log.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeView {
    id: String,
    name: String,
    version: String,
    /// Where it answers requests.
    address: String,
    /// The newest position in its state, as of its last word.
    #[schema(schema_with = schema::position)]
    position: u64,
    /// How many events the log has beyond that. A node tells with each renewal, or when somebody waits: a few events on a
    /// busy log are no delay.
    #[schema(schema_with = schema::position)]
    lag: u64,
    /// `leased`: it may answer. `silent`: its lease should have been renewed; it refuses by itself. `ended`: it was waited
    /// out, and refuses everything until it has caught up.
    #[schema(example = "leased")]
    state: &'static str,
    /// When its lease ends unless it is renewed, by the database's clock: for people. Nodes go by clocks that nobody sets.
    #[schema(schema_with = schema::time)]
    lease_until: String,
    #[schema(schema_with = schema::time)]
    started_at: String,
}

/// All nodes that are or were there within a day.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    items: Vec<NodeView>,
    /// The node that answers.
    node: String,
}

/// A certificate that a node serves TLS with.
#[derive(Serialize, ToSchema)]
pub(super) struct CertificateView {
    /// The name of the node.
    node: String,
    /// SHA-256 of the certificate: 64 hexadecimal digits.
    fingerprint: String,
    #[schema(schema_with = schema::time)]
    not_after: String,
    /// `own_authority`: the node makes another when a plan wants it. `files`: somebody else does.
    #[schema(example = "own_authority")]
    origin: &'static str,
    /// Since when, as the log has it.
    #[schema(schema_with = schema::time)]
    since: String,
    /// The position of that record.
    #[schema(schema_with = schema::position)]
    recorded: u64,
    /// Whether a plan wants another, and this is still the old one.
    due: bool,
}

/// What each node has said last; nodes are known by their names here, those that are gone until their certificates end.
#[derive(Serialize, ToSchema)]
pub(super) struct Certificates {
    items: Vec<CertificateView>,
    /// The position of the newest plan that was applied to replace them; null where there was none.
    #[schema(required = false)]
    wanted_since: Option<u64>,
}

/// Since when a position is in force on every node.
#[derive(Serialize, ToSchema)]
pub(super) struct InForceView {
    #[schema(schema_with = schema::position)]
    position: u64,
    /// Whether it is known that no node answers from an older state.
    in_force: bool,
    /// The moment by which it was, as the log has it; null where it is not recorded, or not yet.
    #[schema(schema_with = schema::time_or_null)]
    at: Option<String>,
    /// The position of that record.
    #[schema(required = false)]
    recorded: Option<u64>,
    /// The names of the nodes that had applied it.
    confirmed: Vec<String>,
    /// Of those that were given up, since their leases had ended.
    waited_out: Vec<String>,
    /// Of those that were still waited for when the time was over.
    missing: Vec<String>,
}

/// For how long to wait.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct TimeoutQuery {
    /// Wait for so long until it is in force: `10s`. Without it, only what is known is told.
    #[param(schema_with = schema::wait_timeout, required = false)]
    timeout: Option<String>,
}

impl NodeView {
    fn of(listed: Listed) -> Self {
        let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        Self {
            id: listed.identity.id.simple().to_string(),
            name: listed.identity.name,
            version: listed.identity.version,
            address: listed.identity.address,
            position: listed.applied.saturating_sub(1),
            lag: listed.next_position.saturating_sub(listed.applied),
            state: match (listed.leased, listed.silent) {
                (true, false) => "leased",
                (true, true) => "silent",
                (false, _) => "ended",
            },
            lease_until: time(listed.renewed_at + listed.lease),
            started_at: time(listed.started_at),
        }
    }
}

/// Lists the nodes, with how far each has followed the log and until when it may answer.
#[utoipa::path(get, path = "/v1/nodes", tag = "service", responses((status = 200, body = Nodes), Refusals))]
pub(super) async fn list(State(app): State<App>, _caller: Caller<MayReadFleet>) -> Result<Reply<Nodes>, Problem> {
    let client = app.database().client().await?;
    let items = presence::list(&client).await?.into_iter().map(NodeView::of).collect();
    Ok(Reply(Nodes { items, node: app.settings().node.simple().to_string() }))
}

/// Tells since when the change at a position is in force on every node, or waits until it is.
#[utoipa::path(
    get, path = "/v1/in-force/{position}", tag = "events", params(("position" = u64, Path, description = "A position of the log"), TimeoutQuery),
    responses((status = 200, body = InForceView), Refusals)
)]
pub(super) async fn in_force(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Path(position): Path<String>,
    uri: Uri,
) -> Result<Reply<InForceView>, Problem> {
    let position: u64 = position.parse().map_err(|_| Problem::invalid("position", "a position: a whole number"))?;
    let timeout = Pairs::of(&uri)?.one("timeout")?.map(|text| patience(&text)).transpose()?;
    let end = app.node().snapshot().roll.next_position();
    if position >= end {
        return Err(Problem::not_found(format!("the log of this node ends before position {position}")));
    }
    let passed = match timeout {
        Some(patience) => app.barriers().wait(position, patience).await.unwrap_or_default(),
        None => Passed::default(),
    };
    if let Some(recorded) = recorded(&app, position, end).await? {
        return Ok(Reply(recorded));
    }
    let names = |nodes| listed(nodes).into_iter().map(str::to_owned).collect();
    // Nobody asked, or the nodes could not be: neither says that all is well.
    let in_force = passed.is_everywhere() && !passed.confirmed.is_empty();
    Ok(Reply(InForceView {
        position,
        in_force,
        at: None,
        recorded: None,
        confirmed: names(&passed.confirmed),
        waited_out: names(&passed.waited_out),
        missing: names(&passed.missing),
    }))
}

/// Lists the TLS certificates that nodes serve with, and whether each is what the newest plan wants.
#[utoipa::path(
    get, path = "/v1/nodes/certificates", tag = "nodes", responses((status = 200, body = Certificates), Refusals)
)]
pub(super) async fn certificates(State(app): State<App>, _caller: Caller<MayReadFleet>) -> Reply<Certificates> {
    let snapshot = app.node().snapshot();
    let due = snapshot.roll.certificates_due();
    let items = snapshot.roll.certificates().map(|known| CertificateView {
        node: known.served.node.to_string(),
        fingerprint: known.served.fingerprint.to_string(),
        not_after: view::time(known.served.not_after),
        origin: known.served.origin.as_str(),
        since: view::time(known.at),
        recorded: known.position,
        due: known.position < due,
    });
    Reply(Certificates { items: items.collect(), wanted_since: (due > 0).then_some(due) })
}

/// The first record of a barrier at or after the position.
async fn recorded(app: &App, position: u64, end: u64) -> Result<Option<InForceView>, Problem> {
    let client = app.database().client().await?;
    let records = Search {
        from: position + 1,
        to: end,
        kind: Some("barrier.passed"),
        subject: None,
        incident: None,
        newest_first: false,
        limit: RECORDS_LOOKED_AT,
    };
    let found = search(&client, app.node().keys(), &records).await?;
    for record in found.entries {
        let recorded = entry::decode(&record.entry).map_err(Problem::internal)?;
        if let Event::BarrierPassed { through, confirmed, waited_out } = &recorded.event
            && *through >= position
        {
            let names = |names: &[std::sync::Arc<str>]| names.iter().map(ToString::to_string).collect();
            return Ok(Some(InForceView {
                position,
                in_force: true,
                at: Some(view::time(recorded.occurred_at)),
                recorded: Some(record.position),
                confirmed: names(confirmed),
                waited_out: names(waited_out),
                missing: Vec::new(),
            }));
        }
    }
    Ok(None)
}
