//! `POST /v1/validate`: a gateway asks whether credentials are good, and why not.
//!
//! The hot path over HTTP. The body is read where it lies, the verdict is written straight into the answer, and nothing
//! waits: no I/O, no lock but that of counting a failure.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::attempts::Attempt;
use super::body::{self, JsonBytes};
use super::caller::{Caller, MayValidate};
use super::meta::Meta;
use super::openapi::Refusals;
use super::problem::Problem;
use super::{App, POSITION_HEADER, view};
use crate::command::mint;
use crate::domain::admit::Denial;
use crate::domain::ids::KeyId;
use crate::domain::time::Timestamp;
use crate::validate::{Accepted, Bearer, CredentialId, Denied, Presented, Snapshot};

/// As many as a gateway collects in a moment. A thousand signatures take a core some 50 ms.
pub const CREDENTIALS_MAX: usize = 1_000;
/// From this on a body may hold so many tokens that checking them would keep other requests of this thread waiting.
const LARGE_BODY_BYTES: usize = 16 * 1024;
/// What most verdicts fit into, so that the answer is allocated once.
const VERDICT_BYTES: usize = 384;

/// The reason of a credential that is good, but of another pool than the one asked for.
pub(super) const WRONG_POOL: &str = "wrong_pool";

/// Every outcome of a validation, for metrics.
pub fn outcomes() -> Vec<&'static str> {
    ["ok", WRONG_POOL].into_iter().chain(Denial::ALL.map(Denial::code)).collect()
}

/// Where a denial stands among the [`outcomes`]: after `ok` and `wrong_pool`.
pub(super) fn outcome_of(denial: Denial) -> usize {
    2 + Denial::ALL.iter().position(|known| *known == denial).unwrap_or(Denial::ALL.len())
}

/// Text that is borrowed from the body unless it has escapes. (serde borrows a `Cow` only where it is not in an `Option`.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// One question or many, as they are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Questions<'a> {
    #[serde(borrow)]
    credential: Option<Text<'a>>,
    #[serde(borrow)]
    worker: Option<Text<'a>>,
    #[serde(borrow)]
    credentials: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    pool: Option<Text<'a>>,
    source: Option<IpAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    credential: Cow<'a, str>,
    #[serde(borrow)]
    worker: Option<Text<'a>>,
}

/// One credential, or up to 1,000.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documentation: `Questions` reads both in one go")]
pub(super) enum Validation {
    One(ValidateOne),
    Many(ValidateMany),
}

/// Whether this credential is good.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateOne {
    /// An API key, an access token, or a static secret.
    credential: String,
    /// The worker's id: needed with a static secret, and with a key that several workers share.
    #[schema(required = false)]
    worker: Option<String>,
    /// Only a worker of this pool will do.
    #[schema(required = false)]
    pool: Option<String>,
    /// The address that the credential came from: failures are counted by it, and it is noted where the key was used.
    #[schema(required = false, value_type = Option<Address>)]
    source: Option<String>,
}

/// Whether these credentials are good, each as of the same position.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateMany {
    #[schema(max_items = 1000)]
    credentials: Vec<ValidateItem>,
    /// Only workers of this pool will do.
    #[schema(required = false)]
    pool: Option<String>,
    /// The address that the credentials came from: failures are counted by it, and it is noted where the keys were used.
    #[schema(required = false, value_type = Option<Address>)]
    source: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateItem {
    /// An API key, an access token, or a static secret.
    credential: String,
    /// The worker's id: needed with a static secret, and with a key that several workers share.
    #[schema(required = false)]
    worker: Option<String>,
}

/// Whether the credential is good. What is known of its holder comes along, for operators' eyes.
#[derive(Serialize, ToSchema)]
pub(super) struct Verdict<'a> {
    active: bool,
    /// `ok`, or the stable code of why not.
    #[schema(example = "ok")]
    reason: &'static str,
    /// `api_key`, `static_secret` or `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name: Option<&'a str>,
    /// The id of the key, or of the key that the token was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>)]
    key: Option<Id>,
    /// Of a token: its scopes, with a space between any two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    scope: Option<Cow<'a, str>>,
    /// When it ends by itself; `null` for never. Absent where it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<End>>,
    /// The newest position that the verdict is based on.
    position: u64,
}

/// One verdict for each credential, in order.
#[derive(Serialize, ToSchema)]
pub(super) struct Verdicts<'a> {
    verdicts: Vec<Verdict<'a>>,
    position: u64,
}

/// One verdict, or as many as there were credentials.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documentation")]
pub(super) enum Validated<'a> {
    One(Verdict<'a>),
    Many(Verdicts<'a>),
}

/// An IP address.
pub(super) struct Address;

/// Written without a text in between.
struct Id(KeyId);

/// When a credential ends.
struct End(Timestamp);

/// Tells whether credentials are good, and why not.
#[utoipa::path(
    post, path = "/v1/validate", tag = "gateways", request_body = Validation,
    responses((status = 200, body = Validated<'static>), Refusals)
)]
pub(super) async fn validate(State(app): State<App>, request: Request) -> Result<Written, Problem> {
    let meta = Meta::of(request.extensions());
    straight(&app, request, meta).await
}

/// The same, without a router on the way.
pub(super) async fn straight(app: &App, request: Request, meta: Meta) -> Result<Written, Problem> {
    Caller::<MayValidate>::of(app, request.headers(), meta)?;
    let JsonBytes(bytes) = JsonBytes::from_request(request, app).await?;
    if bytes.len() < LARGE_BODY_BYTES {
        return answer(app, &bytes);
    }
    let app = app.clone();
    tokio::task::spawn_blocking(move || answer(&app, &bytes)).await.map_err(Problem::internal)?
}

/// JSON that is written already.
pub(super) struct Written {
    body: Vec<u8>,
    position: u64,
}

fn answer(app: &App, bytes: &Bytes) -> Result<Written, Problem> {
    let questions: Questions<'_> = body::parse(bytes)?;
    let snapshot = app.node().current()?;
    let asking = Asking {
        app,
        snapshot: &snapshot,
        now: mint::now(),
        pool: questions.pool.as_ref().map(|pool| &*pool.0),
        source: questions.source.map(|source| source.to_canonical()),
        position: snapshot.roll.next_position().saturating_sub(1),
    };
    let position = asking.position;
    let body = match (&questions.credential, &questions.credentials, &questions.worker) {
        (Some(credential), None, worker) => {
            let verdict = asking.verdict(&credential.0, worker.as_ref());
            written(&verdict, VERDICT_BYTES)
        }
        (None, Some(items), None) if items.len() > CREDENTIALS_MAX => {
            return Err(Problem::invalid("credentials", format!("at most {CREDENTIALS_MAX} at a time")));
        }
        (None, Some(items), None) => {
            let verdicts = items.iter().map(|item| asking.verdict(&item.credential, item.worker.as_ref())).collect();
            written(&Verdicts { verdicts, position }, VERDICT_BYTES * (items.len() + 1))
        }
        (None, Some(_), Some(_)) => return Err(Problem::invalid("worker", "name a worker with each credential")),
        (Some(_), Some(_), _) | (None, None, _) => {
            return Err(Problem::invalid("credential", "send `credential` for one, or `credentials` for many"));
        }
    };
    Ok(Written { body: body.map_err(Problem::internal)?, position })
}

fn written(answer: &impl Serialize, capacity: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut body = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut body, answer)?;
    Ok(body)
}

/// What the verdicts of one request have in common.
struct Asking<'s> {
    app: &'s App,
    snapshot: &'s Snapshot,
    now: Timestamp,
    pool: Option<&'s str>,
    source: Option<IpAddr>,
    position: u64,
}

impl<'s> Asking<'s> {
    fn verdict(&self, credential: &str, worker: Option<&Text<'_>>) -> Verdict<'s> {
        let presented = Presented { credential, worker: worker.map(|worker| &*worker.0) };
        match self.app.check(self.snapshot, presented, self.now, self.source) {
            Ok(accepted) => self.accepted(accepted),
            Err(denied) => self.denied(&denied),
        }
    }

    fn accepted(&self, accepted: Accepted<'s>) -> Verdict<'s> {
        let Bearer::Worker { worker, token } = accepted.bearer else {
            let credential = Some(CredentialId::Key(accepted.key.id));
            let denial = Denial::WrongKind;
            return self.denied(&Denied { denial, credential, worker: None, genuine: None, trip: None });
        };
        let in_pool = self.pool.is_none_or(|pool| pool == worker.pool.as_str());
        self.app.metrics().validated(usize::from(!in_pool));
        Verdict {
            active: in_pool,
            reason: if in_pool { "ok" } else { WRONG_POOL },
            kind: Some(if token.is_some() { "token" } else { accepted.key.kind.as_str() }),
            worker: Some(worker.id.as_str()),
            pool: Some(worker.pool.as_str()),
            name: worker.name.as_deref(),
            key: Some(Id(accepted.key.id)),
            scope: token.map(|token| Cow::Owned(token.claims.scope)),
            expires_at: in_pool.then_some(accepted.expires_at.map(End)),
            position: self.position,
        }
    }

    fn denied(&self, denied: &Denied<'s>) -> Verdict<'s> {
        let attempt = Attempt { denial: denied.denial, source: self.source, credential: denied.credential };
        self.app.attempts().count(&attempt);
        self.app.metrics().validated(outcome_of(denied.denial));
        Verdict {
            active: false,
            reason: denied.denial.code(),
            kind: None,
            worker: denied.worker.map(|worker| worker.id.as_str()),
            pool: denied.worker.map(|worker| worker.pool.as_str()),
            name: denied.worker.and_then(|worker| worker.name.as_deref()),
            key: match denied.credential {
                Some(CredentialId::Key(key)) => Some(Id(key)),
                Some(CredentialId::Token(_)) | None => None,
            },
            scope: None,
            expires_at: None,
            position: self.position,
        }
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(POSITION_HEADER, HeaderValue::from(self.position));
        response
    }
}

impl utoipa::PartialSchema for Address {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
        let text =
            |format| ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)));
        AnyOfBuilder::new().item(text(KnownFormat::Ipv4)).item(text(KnownFormat::Ipv6)).into()
    }
}

impl ToSchema for Address {}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for End {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&view::time(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_escapes_is_not_copied() {
        let body = br#"{"credential":"ptc_wk_1","worker":"w","source":"::1"}"#;
        let questions: Questions<'_> = serde_json::from_slice(body).unwrap();
        assert!(matches!(questions.credential, Some(Text(Cow::Borrowed("ptc_wk_1")))));
        assert!(matches!(questions.worker, Some(Text(Cow::Borrowed("w")))));
        assert_eq!(questions.source, Some("::1".parse().unwrap()));
        let escaped: Questions<'_> = serde_json::from_slice(br#"{"credentials":[{"credential":"\u0061"}]}"#).unwrap();
        assert_eq!(escaped.credentials.unwrap()[0].credential, "a");
    }

    #[test]
    fn a_verdict_says_never_and_says_nothing_where_there_is_nothing_to_say() {
        let verdict = Verdict {
            active: true,
            reason: "ok",
            kind: Some("api_key"),
            worker: Some("w"),
            pool: Some("default"),
            name: None,
            key: Some(Id(KeyId(1))),
            scope: None,
            expires_at: Some(None),
            position: 7,
        };
        let expected = concat!(
            r#"{"active":true,"reason":"ok","kind":"api_key","worker":"w","pool":"default","#,
            r#""key":"0000000000000000000001","expires_at":null,"position":7}"#
        );
        assert_eq!(String::from_utf8(written(&verdict, VERDICT_BYTES).unwrap()).unwrap(), expected);
        let refused = Verdict {
            active: false,
            reason: "key_unknown",
            kind: None,
            worker: None,
            pool: None,
            expires_at: None,
            key: None,
            ..verdict
        };
        let expected = r#"{"active":false,"reason":"key_unknown","position":7}"#;
        assert_eq!(String::from_utf8(written(&refused, VERDICT_BYTES).unwrap()).unwrap(), expected);
    }
}
