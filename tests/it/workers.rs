//! What workers, gateways, standard clients and anyone can do over HTTP, on a running service.

use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Service};

mod compromised;
mod dry_runs;
mod enrollment;
mod fences;
mod gateways;
mod refusals;
mod standards;
mod tokens;

/// A service with a database of its own, which goes with it.
struct Gate {
    service: Service,
    scratch: Scratch,
}

impl std::ops::Deref for Gate {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

/// A worker with an API key.
struct Member {
    id: String,
    key_id: String,
    key: String,
}

impl Gate {
    async fn open() -> Self {
        let scratch = Scratch::new().await;
        Self { service: Service::start(&scratch).await, scratch }
    }

    async fn pool(&self, settings: Value) {
        self.post("/v1/pools", settings).await.expect(201);
    }

    /// A worker of this id, in the default pool or in the one that `more` names.
    async fn member(&self, id: &str, more: Value) -> Member {
        let mut body = json!({ "id": id });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/v1/workers", body).await.expect(201);
        self.key(id).await
    }

    async fn key(&self, worker: &str) -> Member {
        let made = self.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201);
        Member { id: worker.to_owned(), key_id: text(&made["id"]), key: text(&made["key"]) }
    }

    async fn register(&self, key: &str) -> Value {
        self.post_as(key, "/v1/register", json!({})).await.expect(200)
    }

    async fn token(&self, key: &str) -> String {
        text(&self.register(key).await["token"])
    }

    async fn enrollment_secret(&self, settings: Value) -> (String, String) {
        let made = self.post("/v1/enrollment-secrets", settings).await.expect(201);
        (text(&made["id"]), text(&made["secret"]))
    }

    /// What a gateway is told.
    async fn verdict(&self, credential: &str) -> Value {
        self.post("/v1/validate", json!({ "credential": credential })).await.expect(200)
    }

    async fn reason(&self, credential: &str) -> String {
        text(&self.verdict(credential).await["reason"])
    }

    /// Whether forward authentication lets it pass.
    async fn check(&self, credential: &str) -> u16 {
        self.get_as(credential, "/v1/check").await.status.as_u16()
    }

    /// The events of this kind, oldest first.
    async fn events(&self, kind: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/events?kind={kind}&limit=1000")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// With a form for a body.
fn with_form(request: reqwest::RequestBuilder, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    request.header("content-type", "application/x-www-form-urlencoded").body(form)
}

/// What an anonymous caller sees of an answer, but for what differs in any two.
fn seen(answer: &Answer) -> (u16, String, Vec<(String, String)>) {
    let own = ["date", "x-request-id", "portcullis-position"];
    let headers = answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    (answer.status.as_u16(), answer.text.clone(), headers)
}

#[tokio::test]
async fn a_worker_gets_in_is_checked_rotates_and_is_revoked() {
    let gate = Gate::open().await;
    let (_, secret) = gate.enrollment_secret(json!({ "pool": "default" })).await;

    let enrolled = gate.post_as(&secret, "/v1/enroll", json!({ "name": "runner", "labels": { "site": "b" } })).await;
    let enrolled = enrolled.expect(201);
    assert_eq!((&enrolled["pool"], &enrolled["state"]), (&json!("default"), &json!("active")));
    let (id, key) = (text(&enrolled["id"]), text(&enrolled["key"]));

    let registered = gate.register(&key).await;
    assert_eq!(registered["token_type"], "Bearer");
    assert_eq!(registered["worker"], id.as_str());
    assert!((890..=900).contains(&registered["expires_in"].as_i64().unwrap()), "{registered}");
    let token = text(&registered["token"]);

    let own = gate.get_as(&token, "/v1/worker").await.expect(200);
    assert_eq!((&own["id"], &own["name"]), (&json!(id), &json!("runner")));
    assert_eq!(own["labels"], json!({ "site": "b" }));
    assert_eq!((&own["credential"]["kind"], &own["credential"]["key"]), (&json!("token"), &enrolled["key_id"]));

    let renewed = gate.post_as(&token, "/v1/renew", json!({ "ttl": "1m" })).await.expect(200);
    assert!(renewed["expires_in"].as_i64().unwrap() <= 60, "{renewed}");
    let renewed = text(&renewed["token"]);

    for (credential, kind) in [(&key, "api_key"), (&token, "token"), (&renewed, "token")] {
        let verdict = gate.verdict(credential).await;
        assert_eq!(verdict["active"], true, "{verdict}");
        assert_eq!((&verdict["reason"], &verdict["kind"]), (&json!("ok"), &json!(kind)));
        assert_eq!((&verdict["worker"], &verdict["name"]), (&json!(id), &json!("runner")));
        assert_eq!(gate.check(credential).await, 204);
    }

    let rotated = gate.post_as(&key, "/v1/worker/key/rotate", json!({ "overlap": "1h" })).await.expect(201);
    let successor = text(&rotated["key"]);
    assert_eq!(gate.check(&successor).await, 204);
    assert_eq!(gate.check(&key).await, 204, "the overlap");
    assert_eq!(gate.verdict(&key).await["expires_at"], rotated["overlap_until"]);

    let revoke = format!("/v1/keys/{}/revoke", enrolled["key_id"].as_str().unwrap());
    gate.post(&revoke, json!({})).await.expect(200);
    for (credential, reason) in
        [(&key, "key_revoked"), (&token, "key_revoked"), (&renewed, "key_revoked"), (&successor, "key_revoked")]
    {
        assert_eq!(gate.check(credential).await, 401);
        assert_eq!(gate.reason(credential).await, reason, "what the key made for itself goes with it");
    }
}
