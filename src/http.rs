//! HTTP: a translation between requests and commands, verdicts and reads. Rules live in `domain`; none here.
//!
//! This file is every route on one screen; a resource is a file.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use axum::routing::any;
use ipnet::IpNet;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::command::CommandQueue;
use crate::command::issued::IssuedCounts;
use crate::command::tripped::Tripwires;
use crate::domain::ids::LogId;
use crate::domain::time::Timestamp;
use crate::incident::checklists::Checklists;
use crate::node::Node;
use crate::node::barrier::Barriers;
use crate::node::mirroring;
use crate::node::snapshot::Snapshots;
use crate::postgres::Database;
use crate::projection::used::KeysUsed;
use crate::telemetry::{Metrics, Telemetry};
use crate::validate::{Denied, Presented, Snapshot, Verdict};
use crate::webhook::target::Sender;

pub mod attempts;
mod body;
mod caller;
mod check;
mod chosen;
mod compromised;
mod credential;
mod enroll;
mod enrollment_secrets;
mod events;
mod fences;
mod foreseen;
mod front;
mod honey_keys;
mod incidents;
mod keys;
mod layer;
mod links;
pub mod listen;
mod meta;
mod netguard;
mod nodes;
mod oauth;
mod openapi;
mod operators;
mod own;
mod page;
mod path;
mod plans;
mod pools;
mod problem;
mod projections;
mod query;
mod readmissions;
mod schema;
mod scope;
mod select;
mod service;
mod signing_keys;
pub mod tls;
mod tokens;
mod tripwires;
mod unread;
pub mod validate;
mod view;
mod waiting;
mod webhooks;
mod whoami;
mod wish;
mod workers;

use attempts::Attempts;
use front::Front;
use incidents::passing::IncidentPasses;
use netguard::Guarding;
use scope::reading::ScopePasses;

/// The newest position that an answer is based on.
pub const POSITION_HEADER: HeaderName = HeaderName::from_static("portcullis-position");

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inside>);

struct Inside {
    parts: Parts,
    /// What netguard was told last.
    guarding: Guarding,
    /// Replays and reports that are being made.
    passes: IncidentPasses,
    /// Scopes that are being read.
    scope_passes: ScopePasses,
}

/// What an [`App`] is made of.
pub struct Parts {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    /// For reading events, and lists; everything else is answered from memory.
    pub database: Database,
    pub metrics: Arc<Metrics>,
    pub telemetry: Arc<Telemetry>,
    pub attempts: Arc<Attempts>,
    /// Tokens of pools that count them.
    pub issued: Arc<IssuedCounts>,
    /// Waiting for the other nodes.
    pub barriers: Barriers,
    /// When keys were used, and from where.
    pub used: Arc<KeysUsed>,
    /// Keys that were shown and should not have been.
    pub trips: Arc<Tripwires>,
    pub log: LogId,
    /// The templates of the checklists of incidents.
    pub checklists: Checklists,
    /// States from before, for replays to go on from.
    pub snapshots: Snapshots,
    /// How the mirror of the log fares, if one is kept.
    pub mirror: Option<Arc<mirroring::State>>,
    /// Sends a webhook's test.
    pub sender: Sender,
    pub settings: HttpSettings,
}

#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The id of this node.
    pub node: Uuid,
    /// The URL that clients use: the issuer of tokens.
    pub public_url: String,
    pub trusted_proxies: Vec<IpNet>,
    pub request_timeout: Duration,
    pub body_bytes_max: usize,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        let (passes, scope_passes) = (IncidentPasses::default(), ScopePasses::default());
        Self(Arc::new(Inside { parts, guarding: Guarding::default(), passes, scope_passes }))
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.0.parts.node
    }

    pub fn queue(&self) -> &CommandQueue {
        &self.0.parts.queue
    }

    /// Whether the credential, which came from `source`, is accepted at `now`; if it is, its key was used. If
    /// it is a key that nobody should show, that is noted.
    fn check<'s>(
        &self,
        snapshot: &'s Snapshot,
        presented: Presented<'_>,
        now: Timestamp,
        source: Option<IpAddr>,
    ) -> Verdict<'s> {
        let verdict = crate::validate::check(snapshot, self.node().keys(), presented, now);
        match &verdict {
            Ok(accepted) => self.used().accepted(accepted.key.id, now, source),
            Err(Denied { genuine, trip, .. }) => {
                // Where an isolated worker is now is what its isolation asks.
                if let Some(key) = genuine {
                    self.used().refused(*key, now, source);
                }
                if let Some(trip) = trip {
                    self.trips().note(trip, source, now);
                }
            }
        }
        verdict
    }

    fn used(&self) -> &KeysUsed {
        &self.0.parts.used
    }

    fn trips(&self) -> &Tripwires {
        &self.0.parts.trips
    }

    fn database(&self) -> &Database {
        &self.0.parts.database
    }

    fn metrics(&self) -> &Metrics {
        &self.0.parts.metrics
    }

    fn telemetry(&self) -> &Telemetry {
        &self.0.parts.telemetry
    }

    pub fn attempts(&self) -> &Attempts {
        &self.0.parts.attempts
    }

    fn issued(&self) -> &IssuedCounts {
        &self.0.parts.issued
    }

    fn barriers(&self) -> &Barriers {
        &self.0.parts.barriers
    }

    fn sender(&self) -> &Sender {
        &self.0.parts.sender
    }

    fn guarding(&self) -> &Guarding {
        &self.0.guarding
    }

    fn passes(&self) -> &IncidentPasses {
        &self.0.passes
    }

    fn scope_passes(&self) -> &ScopePasses {
        &self.0.scope_passes
    }

    fn snapshots(&self) -> &Snapshots {
        &self.0.parts.snapshots
    }

    fn log(&self) -> LogId {
        self.0.parts.log
    }

    fn checklists(&self) -> &Checklists {
        &self.0.parts.checklists
    }

    fn mirror(&self) -> Option<&mirroring::State> {
        self.0.parts.mirror.as_deref()
    }

    fn settings(&self) -> &HttpSettings {
        &self.0.parts.settings
    }

    fn body_bytes_max(&self) -> usize {
        self.settings().body_bytes_max
    }
}

/// Every route, with its documentation.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(pools::list, pools::create))
        .routes(routes!(pools::read, pools::update, pools::remove))
        .merge(for_operators())
        // Workers
        .routes(routes!(enroll::enroll))
        .routes(routes!(tokens::register))
        .routes(routes!(tokens::renew))
        .routes(routes!(own::read))
        .routes(routes!(own::rotate))
        // Gateways
        .routes(routes!(validate::validate))
        .routes(routes!(check::check))
        .route("/v1/check", any(check::check))
        .route("/v1/check/{*path}", any(check::check_under_path))
        // Standards
        .routes(routes!(oauth::token::token))
        .routes(routes!(oauth::introspect::introspect))
        .routes(routes!(oauth::revoke::revoke))
        .routes(routes!(oauth::metadata::jwks))
        .routes(routes!(oauth::metadata::authorization_server))
        .routes(routes!(oauth::metadata::openid_configuration))
        // Anyone
        .routes(routes!(compromised::compromised))
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(service::metrics))
}

/// The fleet and who administers it.
fn for_operators() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(workers::list::list, workers::create))
        .routes(routes!(workers::read, workers::update, workers::remove))
        .routes(routes!(workers::sources::sources))
        .routes(routes!(workers::actions::isolate))
        .routes(routes!(workers::actions::release))
        .routes(routes!(workers::actions::approve))
        .routes(routes!(workers::actions::reject))
        .routes(routes!(keys::list::of_worker, keys::create))
        .routes(routes!(keys::list::list))
        .routes(routes!(keys::read))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::revoke))
        .routes(routes!(enrollment_secrets::list, enrollment_secrets::create))
        .routes(routes!(enrollment_secrets::read))
        .routes(routes!(enrollment_secrets::rotate))
        .routes(routes!(enrollment_secrets::disable))
        .routes(routes!(signing_keys::list))
        .routes(routes!(signing_keys::rotate))
        .routes(routes!(operators::list, operators::create))
        .routes(routes!(operators::read, operators::update, operators::remove))
        .routes(routes!(operators::list_keys, operators::create_key))
        .routes(routes!(fences::list, fences::raise))
        .routes(routes!(plans::list, plans::make))
        .routes(routes!(plans::read))
        .routes(routes!(plans::items))
        .routes(routes!(plans::apply))
        .routes(routes!(netguard::read))
        .routes(routes!(netguard::addresses::add, netguard::addresses::remove))
        .routes(routes!(plans::approvals::approve))
        .routes(routes!(plans::collect::collect))
        .routes(routes!(plans::approvals::read_policy, plans::approvals::change_policy))
        .routes(routes!(readmissions::list))
        .routes(routes!(readmissions::read))
        .routes(routes!(readmissions::pause))
        .routes(routes!(readmissions::resume))
        .routes(routes!(readmissions::next))
        .routes(routes!(readmissions::rollback))
        .routes(routes!(incidents::list, incidents::open))
        .routes(routes!(incidents::read, incidents::update))
        .routes(routes!(incidents::note))
        .routes(routes!(incidents::settle))
        .routes(routes!(incidents::close))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::read, webhooks::update, webhooks::remove))
        .routes(routes!(webhooks::test))
        .routes(routes!(scope::scope))
        .routes(routes!(incidents::replay::replay))
        .routes(routes!(incidents::report::report))
        .routes(routes!(honey_keys::list, honey_keys::create))
        .routes(routes!(honey_keys::remove))
        .routes(routes!(tripwires::list, tripwires::set))
        .routes(routes!(events::list))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::certificates))
        .routes(routes!(nodes::in_force))
        .routes(routes!(projections::list))
        .routes(routes!(projections::read))
        .routes(routes!(projections::rebuild))
        .routes(routes!(projections::verify))
        .routes(routes!(whoami::whoami))
}

/// The OpenAPI document.
fn document() -> OpenApiDocument {
    completed(routes().into_openapi())
}

fn completed(mut document: OpenApiDocument) -> OpenApiDocument {
    openapi::name_operations(&mut document);
    openapi::with_at_least(&mut document);
    links::add(&mut document);
    // After the links: with what was only foreseen, nothing can be done next.
    foreseen::declare(&mut document);
    document
}

/// The paths of all routes, for the labels of metrics.
pub fn route_paths() -> Vec<String> {
    document().paths.paths.into_keys().collect()
}

/// The whole service.
pub fn service(app: App) -> Front {
    let (router, document) = routes().split_for_parts();
    let document = completed(document);
    let state = layer::State::new(app.clone(), &document);
    let router = router
        .merge(openapi::pages(&document))
        .fallback(service::no_such_path)
        .method_not_allowed_fallback(service::no_such_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), layer::around))
        .with_state(app);
    Front::new(router, state)
}
