//! Where requests come in: a validation goes straight to its handler, everything else through the router.
//!
//! The router finds one of a hundred routes, and each step on the way to a handler of any type is a box and a call through a
//! table. For what takes a microsecond itself and is asked ten thousand times a second, that is a part of it that shows
//! (`ops/decisions/0024`). Whatever surrounds a request, [`State::serve`], is the same for both.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;

use super::layer::{Route, State};
use super::listen::Answering;
use super::validate::straight;

const VALIDATE: &str = "/v1/validate";

/// The whole service. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Inside>);

struct Inside {
    router: Router,
    state: State,
    validate: Route<'static>,
}

impl Front {
    pub(super) fn new(router: Router, state: State) -> Self {
        let validate = state.route(VALIDATE);
        Self(Arc::new(Inside { router, state, validate }))
    }
}

impl Answering for Front {
    async fn answer(self, request: Request<Incoming>, peer: SocketAddr) -> Response {
        let Inside { router, state, validate } = &*self.0;
        // Boxed, each: hyper takes what answers by value, and would copy all of its state.
        if request.method() != Method::POST || request.uri().path() != VALIDATE {
            return Box::pin(router.clone().answer(request, peer)).await;
        }
        let answer = async |request, meta| straight(state.app(), request, meta).await.into_response();
        Box::pin(state.serve(request.map(Body::new), Some(peer), Some(*validate), answer)).await
    }
}
