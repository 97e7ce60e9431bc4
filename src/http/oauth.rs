//! The standards' endpoints: OAuth 2.0 client credentials (RFC 6749), introspection (RFC 7662), revocation (RFC 7009) and
//! the documents by which clients find them. What they have in common is here: forms, clients, and the shape of errors.

use std::borrow::Cow;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::body::{self, Asked};
use super::credential::{self, AnyCaller, Shown};
use super::meta::Meta;
use super::problem::Problem;

pub(super) mod introspect;
pub(super) mod metadata;
pub(super) mod revoke;
pub(super) mod token;

const FORM: &str = "application/x-www-form-urlencoded";

/// The most fields of a form. The standards name fewer than ten; each is compared with those before it, so a body of
/// short names without a bound would cost the square of its length, before anybody has shown a credential.
const FIELDS_MAX: usize = 64;

/// A form, and what a repeat of it is recognised by.
pub(super) struct Form {
    headers: HeaderMap,
    meta: Meta,
    fields: Fields,
    asked: Asked,
}

/// Fields that are given once and have a value: without one they count as left out (RFC 6749, section 3.1).
struct Fields(Vec<(String, String)>);

/// An error as RFC 6749 has it (section 5.2).
#[derive(Debug)]
pub(super) struct OauthProblem {
    problem: Box<Problem>,
    error: &'static str,
}

/// An error (RFC 6749, section 5.2).
#[derive(Serialize, ToSchema)]
pub(super) struct OauthError {
    #[schema(example = "invalid_client")]
    error: &'static str,
    error_description: Cow<'static, str>,
}

/// What these endpoints answer beside their own.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "documentation")]
pub(super) enum OauthRefusals {
    /// The request is not as it should be
    #[response(status = 400)]
    Invalid(#[to_schema] OauthError),
    /// The client's credential is missing or not accepted
    #[response(status = 401)]
    Unauthorized(#[to_schema] OauthError),
    /// The client may not do this
    #[response(status = 403)]
    Forbidden(#[to_schema] OauthError),
    /// The body did not arrive in time
    #[response(status = 408)]
    BodyTimeout(#[to_schema] OauthError),
    /// The state does not allow it
    #[response(status = 409)]
    Conflict(#[to_schema] OauthError),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(#[to_schema] OauthError),
    /// The Idempotency-Key was used for another request
    #[response(status = 422)]
    KeyReused(#[to_schema] OauthError),
    /// Too many failed attempts
    #[response(status = 429)]
    TooMany(#[to_schema] OauthError),
    /// The service failed
    #[response(status = 500)]
    Internal(#[to_schema] OauthError),
    /// The node is not current, or the log cannot be written; try again
    #[response(status = 503)]
    Unavailable(#[to_schema] OauthError),
    /// The answer took too long
    #[response(status = 504, content_type = "application/problem+json")]
    Timeout(#[to_schema] super::problem::ProblemBody<'static>),
}

// === impl Form ===

impl FromRequest<App> for Form {
    type Rejection = OauthProblem;

    async fn from_request(request: Request, app: &App) -> Result<Self, OauthProblem> {
        let (parts, body) = request.into_parts();
        let essence = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = essence.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(FORM) {
            return Err(invalid_request(
                "send a form, as curl's `-d name=value` does: `Content-Type: application/x-www-form-urlencoded`",
            ));
        }
        let bytes = body::read(Request::from_parts(parts.clone(), body), app).await?;
        let (asked, fields) = (Asked::of(&parts, &bytes, app)?, Fields::read(&bytes)?);
        // What a standard does not know is ignored. But who asks for a dry run must not get the real thing.
        if fields.get("dry_run").is_some() {
            return Err(invalid_request("ask for a dry run in the query, as `?dry_run=true`"));
        }
        Ok(Self { meta: Meta::of(&parts.extensions), headers: parts.headers, fields, asked })
    }
}

impl Form {
    /// Whoever asks. The client's secret comes in one way only (RFC 6749, section 2.3).
    fn client(&self, app: &App) -> Result<AnyCaller, OauthProblem> {
        let (id, secret) = (self.fields.get("client_id"), self.fields.get("client_secret"));
        if self.headers.contains_key(header::AUTHORIZATION) && secret.is_some() {
            return Err(invalid_request("the client shows its secret twice; send one of the two"));
        }
        if secret.is_some() && id.is_none() {
            return Err(invalid_request("`client_id` is missing"));
        }
        let shown = Shown::of(&self.headers, id, secret)?;
        Ok(credential::anyone(app, &self.meta, &shown)?)
    }
}

impl Fields {
    fn read(bytes: &Bytes) -> Result<Self, OauthProblem> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            if fields.len() == FIELDS_MAX {
                return Err(invalid_request("there are too many parameters"));
            }
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(invalid_request("a parameter is given twice"));
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

// === impl OauthProblem ===

fn invalid_request(detail: &'static str) -> OauthProblem {
    Problem::malformed(detail).into()
}

impl From<Problem> for OauthProblem {
    fn from(problem: Problem) -> Self {
        let error = match (problem.status(), problem.code()) {
            (_, "scope_not_allowed") => "invalid_scope",
            (StatusCode::UNAUTHORIZED, _) => "invalid_client",
            (StatusCode::FORBIDDEN, _) => "unauthorized_client",
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _) => "temporarily_unavailable",
            (status, _) if status.is_server_error() => "server_error",
            _ => "invalid_request",
        };
        Self { problem: Box::new(problem), error }
    }
}

impl IntoResponse for OauthProblem {
    fn into_response(self) -> Response {
        let status = self.problem.status();
        let detail = self.problem.detail();
        // The standard has no member for the field.
        let detail = self.problem.field().map_or_else(|| detail.to_owned(), |field| format!("{field}: {detail}"));
        let description = described(&detail);
        let retry_after = self.problem.retry_after_seconds();
        // Made for its line in the log; the body is another.
        drop(self.problem.into_response());
        let body = OauthError { error: self.error, error_description: description };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"portcullis\""));
        }
        headers.extend(retry_after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
        response
    }
}

/// RFC 6749 allows printable ASCII without quote and backslash.
fn described(detail: &str) -> Cow<'static, str> {
    let allowed = |char: char| (char.is_ascii_graphic() || char == ' ') && !matches!(char, '"' | '\\');
    detail.chars().map(|char| if allowed(char) { char } else { '\'' }).collect::<String>().into()
}

/// Tokens, and what is said of them, are nobody else's.
fn no_store(body: impl Serialize) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
    (headers, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_given_twice_is_refused_and_one_without_a_value_is_left_out() {
        let read = |text: &'static str| Fields::read(&Bytes::from_static(text.as_bytes()));
        let fields = read("grant_type=client_credentials&scope=&x=a%2Bb+c").unwrap();
        assert_eq!(fields.get("grant_type"), Some("client_credentials"));
        assert_eq!(fields.get("scope"), None);
        assert_eq!(fields.get("x"), Some("a+b c"));
        assert!(read("a=1&a=1").is_err());
        assert!(read("a=1&%61=1").is_err());
    }

    #[test]
    fn a_form_of_more_fields_than_any_standard_has_is_refused_before_they_are_compared() {
        let form = |fields: usize| (0..fields).map(|number| format!("f{number}=&")).collect::<String>();
        assert!(Fields::read(&Bytes::from(form(FIELDS_MAX))).is_ok());
        assert!(Fields::read(&Bytes::from(form(FIELDS_MAX + 1))).is_err());

        let began = std::time::Instant::now();
        assert!(Fields::read(&Bytes::from(form(100_000))).is_err());
        assert!(began.elapsed() < std::time::Duration::from_millis(500), "the rest of the body is not looked at");
    }

    #[test]
    fn errors_have_the_names_of_the_rfc() {
        let table = [
            (Problem::unauthorized(), "invalid_client"),
            (Problem::malformed("x"), "invalid_request"),
            (Problem::stale(), "temporarily_unavailable"),
            (Problem::internal("x"), "server_error"),
            (crate::domain::refusal::Refusal::ScopeNotAllowed.into(), "invalid_scope"),
        ];
        for (problem, error) in table {
            assert_eq!(OauthProblem::from(problem).error, error);
        }
        assert_eq!(described("a `b` \"c\" ä\n"), "a `b` 'c' ''");
    }
}
