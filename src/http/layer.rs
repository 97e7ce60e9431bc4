//! The one layer around every request: its id, its span, its time limit, its metrics, and the position of its answer.
//!
//! One layer and not a stack of them, because a validation takes microseconds and each layer would be a part of it.

use std::any::Any;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State as FromState};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use tracing::{Instrument, Span};
use utoipa::openapi::OpenApi;

use super::meta::Meta;
use super::problem::Problem;
use super::query::Declared;
use super::waiting::{at_least, hold};
use super::{App, POSITION_HEADER, unread};

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Asked so often that a span for each is only made for a collector that wants them.
const HOT: [&str; 4] = ["/v1/validate", "/v1/check", "/oauth2/introspect", "/healthz"];

#[derive(Clone)]
pub(super) struct State {
    app: App,
    /// Where each path stands in the vocabulary of the metrics.
    routes: Arc<HashMap<String, usize>>,
    declared: Arc<Declared>,
}

/// The path of the route that a request has found.
#[derive(Clone, Copy)]
pub(super) struct Route<'r> {
    path: &'r str,
    /// Where it stands in the vocabulary of the metrics.
    row: Option<usize>,
}

impl State {
    pub(super) fn new(app: App, document: &OpenApi) -> Self {
        let paths = document.paths.paths.keys().cloned();
        Self { app, routes: Arc::new(paths.zip(0..).collect()), declared: Arc::new(Declared::of(document)) }
    }

    pub(super) fn app(&self) -> &App {
        &self.app
    }

    pub(super) fn route<'r>(&self, path: &'r str) -> Route<'r> {
        Route { path, row: self.routes.get(path).copied() }
    }

    /// Serves a request that came from `peer` and found `route`, if there is such a one.
    pub(super) async fn serve(
        &self,
        request: Request,
        peer: Option<SocketAddr>,
        route: Option<Route<'_>>,
        answer: impl AsyncFnOnce(Request, Meta) -> Response,
    ) -> Response {
        let began = Instant::now();
        let app = &self.app;
        let meta = Meta::make(request.headers(), peer, &app.settings().trusted_proxies);
        let request_id = HeaderValue::from_str(&meta.request_id);
        let path = route.map_or("", |route| route.path);
        let span = span(app, &request, &meta, path);
        let ready = match self.declared.check(path, request.method(), request.uri()) {
            Ok(()) if route.is_some() => reached(app, request.uri()).await,
            Ok(()) => Ok(()),
            Err(problem) => Err(problem),
        };
        // Before the handler looks at the state: what it answers is of this position or a later one.
        let position = app.node().snapshot().roll.next_position().saturating_sub(1);
        let serve = async |request: Request| match ready {
            Ok(()) => {
                // Pinned where it is: whatever takes a future by value copies all of its state.
                let answer = pin!(answer(request, meta));
                let timed = tokio::time::timeout(app.settings().request_timeout, caught(answer));
                timed.instrument(span).await.unwrap_or_else(|_| Problem::timeout().into_response())
            }
            Err(problem) => problem.into_response(),
        };
        // Twice what is allowed: whoever sends a little too much is told so, even by a client that drops an early answer.
        let mut response = unread::serve(request, 2 * app.body_bytes_max(), serve).await;

        let headers = response.headers_mut();
        headers.entry(POSITION_HEADER).or_insert_with(|| HeaderValue::from(position));
        headers.extend(request_id.ok().map(|id| (REQUEST_ID_HEADER, id)));
        let row = route.and_then(|route| route.row);
        app.metrics().answered(row, response.status().as_u16(), began.elapsed());
        response
    }
}

/// Around whatever the router has found.
pub(super) async fn around(FromState(state): FromState<State>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map(|path| state.route(path.as_str()));
    let answer = async |mut request: Request, meta| {
        request.extensions_mut().insert(meta);
        next.run(request).await
    };
    state.serve(request, peer, route, answer).await
}

/// Waits for the position that a read asks for, if it does.
async fn reached(app: &App, uri: &Uri) -> Result<(), Problem> {
    let Some(position) = at_least(uri)? else { return Ok(()) };
    hold(app, position).await
}

fn span(app: &App, request: &Request, meta: &Meta, route: &str) -> Span {
    let join = app.telemetry().trace_join();
    if !join.enabled() && (request.method() == Method::GET || HOT.contains(&route)) {
        return tracing::debug_span!("request", method = %request.method(), route, request_id = &*meta.request_id);
    }
    let span = tracing::info_span!("request", method = %request.method(), route, request_id = &*meta.request_id);
    join.join(&span, request.headers());
    span
}

/// A bug in a handler is one failed request and a line in the log, and no more.
///
/// What the handler had in hand goes with it; what it shares with others is replaced whole, or counted.
async fn caught(answer: Pin<&mut impl Future<Output = Response>>) -> Response {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Problem::internal(format!("a handler panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_one_failed_request() {
        let broken = caught(pin!(async { panic!("with what nobody shall read") })).await;
        assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(broken.into_body(), 4_096).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("internal") && !body.contains("nobody shall read"), "{body}");
        let sound = caught(pin!(async { StatusCode::NO_CONTENT.into_response() })).await;
        assert_eq!(sound.status(), StatusCode::NO_CONTENT);
    }
}
