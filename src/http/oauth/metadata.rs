//! The documents by which clients find the rest: the JWK set, and the metadata of the authorization server.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::command::mint;
use crate::domain::signing_key::SigningAlgorithm;
use crate::http::App;

/// PyJWT and others keep a JWK set for five minutes themselves. The next signing key is in it before it signs.
const CACHED: &str = "public, max-age=300";

/// Where what is (RFC 8414; OpenID Connect Discovery 1.0, for verifiers that look there for the JWK set).
///
/// The scopes are not among it: they are the pools', which an anonymous caller learns nothing of (H31).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Metadata {
    issuer: String,
    token_endpoint: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
    jwks_uri: String,
    service_documentation: String,
    grant_types_supported: [&'static str; 1],
    response_types_supported: [&'static str; 0],
    token_endpoint_auth_methods_supported: [&'static str; 2],
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 3],
}

/// Public signing keys (RFC 7517).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Jwks {
    keys: Vec<Value>,
}

/// The public keys that access tokens are verified with.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "standards", security(()),
    responses((status = 200, body = Jwks))
)]
pub(in crate::http) async fn jwks(State(app): State<App>) -> Response {
    cached(app.node().snapshot().ring.jwks(mint::now()))
}

/// The metadata of the authorization server (RFC 8414).
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", tag = "standards", security(()),
    responses((status = 200, body = Metadata))
)]
pub(in crate::http) async fn authorization_server(State(app): State<App>) -> Response {
    cached(metadata(&app.settings().public_url))
}

/// The same, where OpenID Connect clients look.
#[utoipa::path(
    get, path = "/.well-known/openid-configuration", tag = "standards", security(()),
    responses((status = 200, body = Metadata))
)]
pub(in crate::http) async fn openid_configuration(State(app): State<App>) -> Response {
    cached(metadata(&app.settings().public_url))
}

fn metadata(issuer: &str) -> Metadata {
    const METHODS: [&str; 2] = ["client_secret_basic", "client_secret_post"];
    let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
    Metadata {
        // Compared by clients as it stands in tokens, to the letter.
        issuer: issuer.to_owned(),
        token_endpoint: at("/oauth2/token"),
        introspection_endpoint: at("/oauth2/introspect"),
        revocation_endpoint: at("/oauth2/revoke"),
        jwks_uri: at("/.well-known/jwks.json"),
        service_documentation: at("/docs"),
        grant_types_supported: ["client_credentials"],
        response_types_supported: [],
        token_endpoint_auth_methods_supported: METHODS,
        introspection_endpoint_auth_methods_supported: METHODS,
        revocation_endpoint_auth_methods_supported: METHODS,
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: SigningAlgorithm::ALL.map(SigningAlgorithm::as_str),
    }
}

fn cached(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, CACHED)], Json(body)).into_response()
}
