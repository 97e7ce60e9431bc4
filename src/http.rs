//! HTTP: a translation between requests and commands, verdicts and reads. Rules live in `domain`; none here.
//!
//! This file is every route on one screen; a resource is a file.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderName;
use ipnet::IpNet;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::command::CommandQueue;
use crate::node::Node;
use crate::postgres::Database;
use crate::telemetry::{Metrics, Telemetry};

pub mod attempts;
mod body;
mod caller;
mod layer;
pub mod listen;
mod meta;
mod openapi;
mod page;
mod pools;
mod problem;
mod service;
pub mod tls;
mod view;
mod wish;

use attempts::Attempts;

/// The newest position that an answer is based on.
pub const POSITION_HEADER: HeaderName = HeaderName::from_static("portcullis-position");

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    /// For reading events; everything else is answered from memory.
    pub database: Database,
    pub metrics: Arc<Metrics>,
    pub telemetry: Arc<Telemetry>,
    pub attempts: Arc<Attempts>,
    pub settings: HttpSettings,
}

#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The URL that clients use: the issuer of tokens.
    pub public_url: String,
    pub trusted_proxies: Vec<IpNet>,
    pub request_timeout: Duration,
    pub body_bytes_max: usize,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    pub fn queue(&self) -> &CommandQueue {
        &self.0.queue
    }

    fn database(&self) -> &Database {
        &self.0.database
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    pub fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    fn settings(&self) -> &HttpSettings {
        &self.0.settings
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
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(service::metrics))
}

/// The paths of all routes, for the labels of metrics.
pub fn route_paths() -> Vec<String> {
    routes().into_openapi().paths.paths.into_keys().collect()
}

/// The whole service.
pub fn router(app: App) -> Router {
    let (router, document) = routes().split_for_parts();
    let paths = document.paths.paths.keys().cloned().collect();
    router
        .merge(openapi::pages(&document))
        .fallback(service::no_such_path)
        .method_not_allowed_fallback(service::no_such_method)
        .layer(DefaultBodyLimit::max(app.body_bytes_max()))
        .layer(CatchPanicLayer::custom(layer::panicked))
        .layer(axum::middleware::from_fn_with_state(layer::State::new(app.clone(), paths), layer::around))
        .with_state(app)
}
