//! One request to the service, repeated until there is an answer or no more patience.
//!
//! Repeating is safe because every command carries its idempotency key, the same in each attempt: a command whose
//! answer was lost on the way is answered again, and not done again.

use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::failure::{Failure, Problem};
use super::output::Screen;

/// The longest wait between two attempts, whatever the service asks for: somebody sits before the terminal.
const WAIT_MAX: Duration = Duration::from_secs(10);
const WAIT_FIRST: Duration = Duration::from_millis(200);
const STATUS_UNAVAILABLE: u16 = 503;
/// What goes on in the service while nobody waits for it: asked for again, it is there one day, or further.
const UNDERWAY: [&str; 4] = ["replay_underway", "replay_busy", "scope_underway", "scope_busy"];
/// For so long it is asked for: the longest of it takes some ten minutes, and there may be another before it.
const UNDERWAY_MAX: Duration = Duration::from_mins(30);

/// What is asked. It has no `Debug`: it may hold a secret.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Body,
    auth: Auth,
    idempotency_key: Option<String>,
    /// The answer is a file, and no JSON.
    for_text: bool,
}

#[derive(Clone)]
enum Body {
    None,
    Json(Value),
    Form(Vec<(&'static str, SecretString)>),
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    Operator,
    Bearer(SecretString),
    Basic { id: String, secret: SecretString },
    Nobody,
}

/// What was answered. It has no `Debug`: it may hold a secret.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) body: Value,
    /// The position of the log that the answer is based on.
    pub(crate) position: Option<u64>,
    /// What to repeat the command under, to get this answer again.
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    retries: u32,
    operator: Option<SecretString>,
    /// What an operator's commands are for.
    incident: Option<String>,
    screen: Screen,
}

/// How one attempt went wrong.
enum Attempt {
    /// There is no use in another one.
    Final(Failure),
    /// Another one may do, after a wait that the service may have named.
    Again(Failure, Option<Duration>),
    /// It goes on meanwhile, and is asked for again after a while.
    Underway(Box<Problem>, Duration),
    /// The same, but this one may have been heard: it is not known whether the command was done.
    Lost(Failure),
}

impl Call {
    fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        Self {
            method,
            path,
            query: Vec::new(),
            body: Body::None,
            auth: Auth::Operator,
            idempotency_key: None,
            for_text: false,
        }
    }

    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// The path in its parts, which are encoded one by one: an id can never reach another endpoint.
    pub(crate) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub(crate) fn put(path: &[&str]) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// The answer's body is a text, whatever stands in it.
    pub(crate) fn for_text(mut self) -> Self {
        self.for_text = true;
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<Option<String>>) -> Self {
        self.query.extend(value.into().map(|value| (name, value)));
        self
    }

    pub(crate) fn json(mut self, body: Value) -> Self {
        self.body = Body::Json(body);
        self
    }

    pub(crate) fn form(mut self, fields: Vec<(&'static str, SecretString)>) -> Self {
        self.body = Body::Form(fields);
        self
    }

    pub(crate) fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Makes it a command: done once, however often it is asked.
    pub(crate) fn once(mut self, idempotency_key: Option<&str>) -> Self {
        self.idempotency_key = Some(idempotency_key.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned));
        self
    }

    /// Commands of an operator do; but what is about an incident names it in its path.
    fn may_carry_incident(&self) -> bool {
        let is_about_one = self.path.get(1).is_some_and(|part| part == "incidents");
        self.idempotency_key.is_some() && matches!(self.auth, Auth::Operator) && !is_about_one
    }

    /// The reason goes where the method has room for it.
    pub(crate) fn reason(mut self, reason: Option<&str>) -> Self {
        let Some(reason) = reason else { return self };
        if self.method == Method::DELETE {
            return self.query("reason", reason.to_owned());
        }
        let mut body = match self.body {
            Body::Json(body) => body,
            Body::None | Body::Form(_) => Value::Object(serde_json::Map::new()),
        };
        body["reason"] = Value::from(reason);
        self.body = Body::Json(body);
        self
    }
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Self {
        let Connection { http, url, retries, incident, screen, .. } = connection;
        let (http, url, incident) = (http.clone(), url.clone(), incident.clone());
        Self { http, url, retries: *retries, operator: None, incident, screen: *screen }
    }

    /// For what is not to depend on where it is asked.
    pub(crate) fn without_incident(self) -> Self {
        Self { incident: None, ..self }
    }

    /// The same client, for an operator.
    pub(crate) fn for_operator(mut self, token: SecretString) -> Self {
        self.operator = Some(token);
        self
    }

    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Failure> {
        let url = self.address(call)?;
        let headers = self.headers(call)?;
        let (mut attempts, began) = (0, Instant::now());
        let mut lost = None;
        loop {
            let (failure, asked) = match self.attempt(call, &url, &headers).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Underway(problem, asked)) if began.elapsed() < UNDERWAY_MAX => {
                    self.screen.note(problem.detail.as_deref().unwrap_or(&problem.title));
                    tokio::time::sleep(asked).await;
                    continue;
                }
                Err(Attempt::Underway(problem, asked)) => (Some(Failure::Problem(problem)), Some(asked)),
                Err(Attempt::Again(failure, asked)) => (Some(failure), asked),
                Err(Attempt::Lost(failure)) => {
                    lost = Some(failure);
                    (None, None)
                }
            };
            if attempts == self.retries
                // What one attempt left open, a later one that was not heard cannot settle.
                && let Some(failure) = lost.take().or(failure)
            {
                return Err(failure);
            }
            tokio::time::sleep(wait(attempts, asked)).await;
            attempts += 1;
        }
    }

    fn address(&self, call: &Call) -> Result<Url, Failure> {
        // A URL drops such parts, and the call would reach what stands above: the list instead of the worker.
        if let Some(part) = call.path.iter().find(|part| matches!(part.as_str(), "" | "." | "..")) {
            return Err(Failure::Usage(format!("`{part}` is no id")));
        }
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut parts) => parts.pop_if_empty().extend(&call.path),
            Err(()) => return Err(Failure::Usage(format!("`--url` {} is no address of a service", self.url))),
        };
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(url)
    }

    fn headers(&self, call: &Call) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        let scheme = match &call.auth {
            Auth::Nobody => None,
            Auth::Operator => self.operator.as_ref().map(bearer),
            Auth::Bearer(secret) => Some(bearer(secret)),
            Auth::Basic { id, secret } => Some(basic(id, secret)),
        };
        if let Some(text) = scheme {
            let value = HeaderValue::from_str(&text);
            let mut value =
                value.map_err(|_| Failure::Usage("the credential holds characters that no credential has".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(key) = &call.idempotency_key {
            let value = HeaderValue::from_str(key);
            let value = value.map_err(|_| Failure::Usage("`--idempotency-key` takes visible ASCII only".to_owned()))?;
            headers.insert("idempotency-key", value);
        }
        if let Some(incident) = self.incident.as_ref().filter(|_| call.may_carry_incident()) {
            let value = HeaderValue::from_str(incident);
            let value = value.map_err(|_| Failure::Usage(format!("`{incident}` is no id of an incident")))?;
            headers.insert("portcullis-incident", value);
        }
        Ok(headers)
    }

    async fn attempt(&self, call: &Call, url: &Url, headers: &HeaderMap) -> Result<Answer, Attempt> {
        let request = self.http.request(call.method.clone(), url.clone()).headers(headers.clone());
        let request = match &call.body {
            Body::None => request,
            Body::Json(body) => request.json(body),
            Body::Form(fields) => {
                request.form(&fields.iter().map(|(name, value)| (*name, value.expose_secret())).collect::<Vec<_>>())
            }
        };
        let response = request.send().await.map_err(|error| self.unanswered(call, error))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (position, request_id) = (header("portcullis-position"), header("x-request-id"));
        let asked = header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let body = response.bytes().await.map_err(|error| self.unanswered(call, error))?;

        if !(200..300).contains(&status) {
            let problem = Box::new(Problem::read(status, request_id, &body));
            return Err(match (status, asked) {
                (STATUS_UNAVAILABLE, Some(asked)) if UNDERWAY.contains(&&*problem.code) => {
                    Attempt::Underway(problem, asked.min(WAIT_MAX))
                }
                (STATUS_UNAVAILABLE, Some(_)) => Attempt::Again(Failure::Problem(problem), asked),
                _ => Attempt::Final(Failure::Problem(problem)),
            });
        }
        let body = match (call.for_text, body.is_empty()) {
            (true, _) => Ok(Value::from(String::from_utf8_lossy(&body).into_owned())),
            (false, true) => Ok(Value::Null),
            (false, false) => serde_json::from_slice(&body),
        };
        let body = body.map_err(|error| {
            let doing = format!("{url} answered with something else than JSON; is it a Portcullis?");
            Attempt::Final(Failure::fault(doing, error))
        })?;
        let position = position.and_then(|text| text.parse().ok());
        Ok(Answer { body, position, idempotency_key: call.idempotency_key.clone() })
    }

    fn unanswered(&self, call: &Call, error: reqwest::Error) -> Attempt {
        if error.is_builder() {
            return Attempt::Final(Failure::fault("cannot make the request", error));
        }
        let connecting = error.is_connect();
        let cause = chain(&error.without_url());
        let certificate = cause.contains("certificate");
        let heard = !certificate && !connecting;
        let advice = match &call.idempotency_key {
            _ if certificate => {
                ". Name the file with the service's certificate authority with `--ca-file`; the service writes it to \
                 `tls/ca.pem` in its data directory"
                    .to_owned()
            }
            Some(key) if heard => format!(
                ". Whether it was done is not known; repeat it with `--idempotency-key {key}` and it is done once"
            ),
            Some(_) | None => ". Is the service running, and is `--url` (PORTCULLIS_URL) right?".to_owned(),
        };
        let failure = Failure::Unreachable { url: self.url.to_string(), cause, advice };
        match (certificate, heard) {
            // Another attempt would see the same certificate.
            (true, _) => Attempt::Final(failure),
            (false, true) => Attempt::Lost(failure),
            (false, false) => Attempt::Again(failure, None),
        }
    }
}

/// The fields that were given: a `null` would be a wish of its own.
pub(crate) fn given<const N: usize>(fields: [(&str, Value); N]) -> Value {
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A secret as a field of a body.
pub(crate) fn exposed(secret: Option<&SecretString>) -> Value {
    secret.map_or(Value::Null, |secret| Value::from(secret.expose_secret()))
}

fn bearer(secret: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(format!("Bearer {}", secret.expose_secret()))
}

fn basic(id: &str, secret: &SecretString) -> Zeroizing<String> {
    let pair = Zeroizing::new(format!("{id}:{}", secret.expose_secret()));
    let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
    Zeroizing::new(format!("Basic {}", *encoded))
}

/// Doubling, with a part by chance: a thousand clients that lost the same service must not come back at one instant.
fn wait(attempts: u32, asked: Option<Duration>) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1 << attempts.min(10)).min(WAIT_MAX);
    let wait = asked.map_or(doubled, |asked| asked.min(WAIT_MAX));
    wait + wait.mul_f64(rand::random_range(0.0..0.5))
}

/// An error with its causes, in one line: the outermost alone says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    fn client(url: &str) -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Client {
            http: reqwest::Client::new(),
            url: url.parse().expect("a URL"),
            retries: 0,
            operator: None,
            incident: None,
            screen: Screen::new(Format::Json, true),
        }
    }

    #[test]
    fn an_id_stays_one_part_of_the_path() {
        let call = Call::get(&["v1", "workers", "../pools?x=/y"]).query("limit", "5".to_owned());
        let url = client("https://127.0.0.1:3000/").address(&call).map(|url| url.to_string());
        assert_eq!(url.ok().as_deref(), Some("https://127.0.0.1:3000/v1/workers/..%2Fpools%3Fx=%2Fy?limit=5"));
    }

    #[test]
    fn what_a_url_would_drop_is_no_id() {
        for id in ["", ".", ".."] {
            assert!(client("https://127.0.0.1").address(&Call::delete(&["v1", "workers", id])).is_err(), "{id}");
        }
    }

    #[test]
    fn the_reason_goes_where_there_is_room() {
        let post = Call::post(&["v1"]).json(serde_json::json!({"a": 1})).reason(Some("why"));
        assert!(matches!(&post.body, Body::Json(body) if body["reason"] == "why" && body["a"] == 1));
        assert_eq!(Call::delete(&["v1"]).reason(Some("why")).query, [("reason", "why".to_owned())]);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        for attempts in 0..20 {
            assert!(wait(attempts, None) <= WAIT_MAX.mul_f64(1.5));
            assert!(wait(attempts, Some(Duration::from_hours(1))) <= WAIT_MAX.mul_f64(1.5));
        }
        assert!(wait(0, None) < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_command_is_repeated_under_its_one_key() {
        use axum::http::StatusCode;
        use std::sync::{Arc, Mutex};

        let keys = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&keys);
        let answer = move |headers: axum::http::HeaderMap| {
            let mut keys = seen.lock().expect("no panic");
            keys.push(headers["idempotency-key"].clone());
            let busy = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "{\"code\":\"queue_full\"}");
            let done = (StatusCode::CREATED, [("portcullis-position", "17")], "{\"id\":\"w\"}");
            std::future::ready(if keys.len() < 3 { busy } else { done })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = axum::Router::new().route("/v1/workers", axum::routing::post(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });

        let call = Call::post(&["v1", "workers"]).once(None);
        let impatient = client(&url).send(&call).await.err().expect("a failure");
        assert_eq!(impatient.code(), 5, "{impatient}");
        let answer = Client { retries: 2, ..client(&url) }.send(&call).await.expect("an answer");
        assert_eq!((answer.body["id"].as_str(), answer.position), (Some("w"), Some(17)));
        let keys = keys.lock().expect("no panic");
        assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[tokio::test]
    async fn what_was_never_heard_was_not_done() {
        let call = Call::post(&["v1", "workers"]).once(Some("k"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let closes = tokio::spawn(async move { listener.accept().await.map(|(stream, _)| drop(stream)) });
        let lost = client(&url).send(&call).await.err().expect("a failure").to_string();
        closes.await.expect("no panic").expect("a connection");
        assert!(lost.contains("--idempotency-key k"), "{lost}");
        let unheard = client(&url).send(&call).await.err().expect("a failure").to_string();
        assert!(!unheard.contains("--idempotency-key"), "{unheard}");
    }

    #[tokio::test]
    async fn what_goes_on_in_the_service_is_asked_for_until_it_is_there() {
        use axum::http::StatusCode;
        use std::sync::atomic::{AtomicU32, Ordering};

        static ASKED: AtomicU32 = AtomicU32::new(0);
        let answer = || {
            let body = |code: &str| {
                (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], format!("{{\"code\":\"{code}\"}}"))
            };
            std::future::ready(match ASKED.fetch_add(1, Ordering::Relaxed) {
                0 => body("replay_busy"),
                1..6 => body("replay_underway"),
                _ => (StatusCode::OK, [("retry-after", "0")], "{}".to_owned()),
            })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = axum::Router::new().route("/v1/a", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        // No attempt is repeated here, and it is no other attempt.
        assert!(client(&url).send(&Call::get(&["v1", "a"])).await.is_ok());
    }

    #[test]
    fn what_was_not_given_is_left_out() {
        let body = given([("name", Value::from("a")), ("labels", Value::Null)]);
        assert_eq!(body, serde_json::json!({"name": "a"}));
    }
}
