//! Bodies and queries: bounded, strict, and with errors that name the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::{HeaderMap, HeaderName, Uri, header, request::Parts};
use chrono::Datelike;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::App;
use super::caller::is_repeated;
use super::foreseen::DryRun;
use super::problem::Problem;
use super::unread;
use super::waiting::Wait;
use crate::domain::ids::IncidentId;
use crate::domain::time::{Seconds, Timestamp};

/// A JSON body of a command, with what makes a repeat of it recognisable. An empty body and `null` read as `{}`, so that a
/// command without options needs none.
#[derive(Debug)]
pub(super) struct CommandJson<T> {
    pub value: T,
    pub asked: Asked,
}

/// A JSON body as it came, for the handler to read without copying.
#[derive(Debug)]
pub(super) struct JsonBytes(pub Bytes);

/// Method, path, query, body and incident of a request, digested: the same `Idempotency-Key` with another content is refused.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub idempotency_key: Option<String>,
    pub fingerprint: [u8; 32],
    pub wait: Wait,
    /// The incident that the command is for.
    pub incident: Option<IncidentId>,
    pub dry_run: DryRun,
}

/// A query string, strict.
#[derive(Debug)]
pub(super) struct Params<T>(pub T);

const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

const INCIDENT_HEADER: HeaderName = HeaderName::from_static("portcullis-incident");

/// What to do instead, for whoever is used to forms.
const NOT_A_FORM: &str = "a form cannot be read here: send an object, as with curl's `-d '{\"name\": \"value\"}'`";

/// The longest `Idempotency-Key`: Stripe's limit, which clients know.
pub(super) const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

impl<T: DeserializeOwned> FromRequest<App> for CommandJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let sent = check_content_type(request.headers())?;
        let (parts, body) = request.into_parts();
        let bytes = read(Request::from_parts(parts.clone(), body), app).await?;
        let asked = Asked::of(&parts, &bytes, app)?;
        Ok(Self { value: parse_sent(&bytes, sent)?, asked })
    }
}

impl FromRequest<App> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        check_content_type(request.headers())?;
        read(request, app).await.map(Self)
    }
}

impl FromRequestParts<App> for Asked {
    type Rejection = Problem;

    /// For commands without a body.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Self::of(parts, &[], app)
    }
}

impl Asked {
    pub(super) fn of(parts: &Parts, body: &[u8], app: &App) -> Result<Self, Problem> {
        let target = meant(&parts.uri);
        let incident = incident(&parts.headers)?;
        let mut content = vec![parts.method.as_str().as_bytes(), target.as_bytes(), body];
        content.extend(incident.as_ref().map(|incident| incident.as_str().as_bytes()));
        let fingerprint = app.node().keys().fingerprint(&content);
        let wait = Wait::of(&parts.uri)?;
        let dry_run = DryRun::of(&parts.uri)?;
        Ok(Self { idempotency_key: idempotency_key(&parts.headers)?, fingerprint, wait, incident, dry_run })
    }
}

/// Path and query, but for how long its sender waits, and that it is no dry run: who asks again may have more patience, or say it
/// otherwise, and means the same.
fn meant(uri: &Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let manner = |pair: &str| pair.starts_with("wait=") || pair.starts_with("timeout=") || pair == "dry_run=false";
    let means = |pair: &&str| !pair.is_empty() && !manner(pair);
    let query = query.split('&').filter(means).collect::<Vec<_>>().join("&");
    if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|error| Problem::malformed(inner_text(&error)))?;
        Ok(Self(params))
    }
}

/// A length of time as people write it: `15m`, `24h`, `0s`.
pub(super) fn duration(field: &'static str, text: &str) -> Result<Seconds, Problem> {
    let parsed = humantime::parse_duration(text).ok().and_then(|span| u32::try_from(span.as_secs()).ok());
    parsed.map(Seconds).ok_or_else(|| Problem::invalid(field, "a duration such as `15m`, `24h` or `0s`"))
}

/// A moment in RFC 3339.
pub(super) fn moment(field: &'static str, text: &str) -> Result<Timestamp, Problem> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    // An offset can push the last hours of 9999 into a year that RFC 3339, and so the log, cannot write.
    let parsed = parsed.filter(|at| (0..=9999).contains(&at.year()));
    let parsed = parsed.map(|at| Timestamp(at.timestamp_micros()));
    parsed.ok_or_else(|| Problem::invalid(field, "a time in RFC 3339, such as `2027-01-31T12:00:00Z`"))
}

/// The same, where there is one.
pub(super) fn moment_if(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    text.map(|text| moment(field, text)).transpose()
}

/// For a field of which absent, null and a value are three wishes.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A count. `3.0` is one too: JSON knows no difference, and the languages that write it so know none either.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = || number.to_string().strip_suffix(".0").and_then(|digits| digits.parse().ok());
    let count = number.as_u64().or_else(whole);
    count.map(Some).ok_or_else(|| serde::de::Error::custom("expected a whole number"))
}

/// A count that has to be there.
pub(super) fn needed_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    count(deserializer)?.ok_or_else(|| serde::de::Error::custom("expected a whole number, and not null"))
}

fn incident(headers: &HeaderMap) -> Result<Option<IncidentId>, Problem> {
    let Some(value) = headers.get(INCIDENT_HEADER) else { return Ok(None) };
    if is_repeated(headers, &INCIDENT_HEADER) {
        return Err(Problem::invalid("Portcullis-Incident", "given more than once; send one"));
    }
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| Problem::invalid("Portcullis-Incident", "the id of an incident, such as `INC-7`"))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY_HEADER) else { return Ok(None) };
    // Which of two makes the repeat would be a guess, and a wrong one does the command twice.
    if is_repeated(headers, &IDEMPOTENCY_KEY_HEADER) {
        return Err(Problem::invalid("Idempotency-Key", "given more than once; send one"));
    }
    let text = value.to_str().unwrap_or_default();
    let fits =
        (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let detail = format!("1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters, such as a UUID");
        return Err(Problem::invalid("Idempotency-Key", detail));
    }
    Ok(Some(text.to_owned()))
}

/// The whole body. It may take half of the request's time, so that the handler has as much left, and so that a body that
/// does not come is told from an answer that does not.
pub(super) async fn read(request: Request, app: &App) -> Result<Bytes, Problem> {
    let bytes_max = app.body_bytes_max();
    if says_more_than(bytes_max, request.headers()) {
        return Err(Problem::payload_too_large(bytes_max));
    }
    let patience = app.settings().request_timeout / 2;
    let mut body = unread::claim(request);
    let problem = match tokio::time::timeout(patience, Limited::new(&mut body, bytes_max).collect()).await {
        Ok(Ok(collected)) => return Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Problem::payload_too_large(bytes_max),
        Ok(Err(_)) => Problem::malformed("the body did not arrive whole; send it again"),
        Err(_) => Problem::body_timeout(patience),
    };
    unread::give_back(body);
    Err(problem)
}

/// Whether the body will be larger than that, as its sender says: then none of it need be waited for.
fn says_more_than(bytes_max: usize, headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > bytes_max as u64)
}

/// Parses what came as `sent`: where a form came as a form, that is the mistake, and not the place where its JSON ends.
fn parse_sent<'b, T: Deserialize<'b>>(bytes: &'b [u8], sent: SentAs) -> Result<T, Problem> {
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    parse(bytes).map_err(|problem| match sent {
        SentAs::Form if !is_object => Problem::malformed(format!("the body is no JSON; {NOT_A_FORM}")),
        SentAs::Json | SentAs::Form => problem,
    })
}

pub(super) fn parse<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, Problem> {
    // `null` is how a client of generated code leaves out what may be left out.
    let bytes = if matches!(bytes.trim_ascii(), b"" | b"null") { b"{}" } else { bytes };
    // serde would take an array for the fields in their order, which nobody may come to rely on.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::malformed("the body is not as expected: an array, expected an object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = without_value(&error.to_string());
        Problem::malformed(format!("the body is not as expected: {text}"))
    })
}

/// serde's text names the field and what was expected, which helps; and it quotes the string that stands in the wrong
/// place, which may be a secret: whoever sent it knows it, but their program may log what we answer (promise 7).
fn without_value(text: &str) -> String {
    let quoted =
        text.split_once(" string \"").and_then(|(before, rest)| Some((before, rest.rsplit_once("\", expected ")?.1)));
    quoted.map_or_else(|| text.to_owned(), |(before, after)| format!("{before} string, expected {after}"))
}

/// What a body came as, where it may be read as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentAs {
    Json,
    /// curl's `-d` says so of any body; who writes JSON means JSON.
    Form,
}

fn check_content_type(headers: &HeaderMap) -> Result<SentAs, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(SentAs::Json) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "" => Ok(SentAs::Json),
        "application/x-www-form-urlencoded" => Ok(SentAs::Form),
        "multipart/form-data" => {
            Err(Problem::unsupported_media_type(format!("send `Content-Type: application/json`; {NOT_A_FORM}")))
        }
        _ => Err(Problem::unsupported_media_type("send `Content-Type: application/json`, and JSON")),
    }
}

fn inner_text(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_be_left_out_in_any_way() {
        #[derive(Deserialize)]
        struct Wish {
            why: Option<String>,
        }
        for body in ["", " \n", "null", " null ", "{}", r#"{"why":null}"#] {
            assert_eq!(parse::<Wish>(body.as_bytes()).unwrap().why, None, "{body:?}");
        }
        for body in ["nul", "[null]", " []", "0"] {
            assert!(parse::<Wish>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_count_is_a_whole_number() {
        let read = |text: &str| count(&mut serde_json::Deserializer::from_str(text)).ok();
        let table = [("7", Some(Some(7))), ("7.0", Some(Some(7))), ("null", Some(None))];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in ["7.5", "-1", "-1.0", "1e300", "\"7\"", "true"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_stands_in_the_wrong_place_is_not_repeated() {
        let error = parse::<Vec<u8>>(br#""a \"quoted\", expected secret""#).unwrap_err();
        assert_eq!(
            error.detail(),
            "the body is not as expected: invalid type: string, expected a sequence at line 1 column 31"
        );
        let error = parse::<bool>(b"7").unwrap_err();
        assert!(error.detail().contains("expected a boolean"), "{}", error.detail());
    }
}
