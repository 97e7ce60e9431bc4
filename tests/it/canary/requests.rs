//! Every kind of request that carries a secret, and every place where one may be put by mistake.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::service::{Answer, Service};

/// The service, the secrets that it was sent or sent us, and what it said when it refused.
pub(super) struct Hunt<'a> {
    pub(super) service: &'a Service,
    /// What must be found nowhere, by name.
    pub(super) canaries: Vec<(String, String)>,
    pub(super) problems: Vec<(String, String)>,
}

/// A worker's credentials.
struct Holder {
    worker: String,
    key: String,
    token: String,
}

pub(super) fn random_secret() -> String {
    let bytes: [u8; 32] = rand::random();
    blake3::hash(&bytes).to_hex().to_string()
}

// === impl Hunt ===

impl<'a> Hunt<'a> {
    pub(super) fn new(service: &'a Service) -> Self {
        let mut hunt = Self { service, canaries: Vec::new(), problems: Vec::new() };
        hunt.keep_key("the admin's key", &service.token);
        hunt
    }

    pub(super) fn keep(&mut self, name: &str, canary: &str) {
        self.canaries.push((name.to_owned(), canary.to_owned()));
    }

    /// Of a key, the part that is secret: its id is public, and in every event.
    fn keep_key(&mut self, name: &str, key: &str) {
        let secret = key.split('_').nth(3).unwrap_or_else(|| panic!("{name} is no key"));
        self.keep(name, secret);
    }

    /// Of a token, its signature: without it, the rest proves nothing.
    fn keep_token(&mut self, name: &str, token: &str) {
        self.keep(name, token.rsplit('.').next().unwrap());
    }

    /// A secret of ours, kept.
    fn secret(&mut self, name: &str) -> String {
        let secret = random_secret();
        self.keep(name, &secret);
        secret
    }

    async fn send(&mut self, name: &str, request: RequestBuilder) -> Answer {
        let answer = self.service.send(request).await;
        if !answer.status.is_success() {
            self.problems.push((name.to_owned(), format!("{:?} {}", answer.headers, answer.text)));
        }
        answer
    }

    fn admin(&self, path: &str, body: &Value) -> RequestBuilder {
        self.service.request(Method::POST, path).bearer_auth(&self.service.token).json(body)
    }

    fn with(&self, credential: &str, path: &str, body: &Value) -> RequestBuilder {
        self.service.request(Method::POST, path).bearer_auth(credential).json(body)
    }

    fn basic(&self, method: Method, path: &str, id: &str, secret: &str) -> RequestBuilder {
        let pair = STANDARD.encode(format!("{id}:{secret}"));
        self.service.request(method, path).header("Authorization", format!("Basic {pair}"))
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.service.request(Method::POST, path).body(body.join("&"));
        request.header("Content-Type", "application/x-www-form-urlencoded")
    }
}

/// Everything, right and wrong.
pub(super) async fn send_all(hunt: &mut Hunt<'_>, enrollment: &str) {
    let holder = get_in(hunt, enrollment).await;
    administer(hunt).await;
    be_checked(hunt, &holder).await;
    standards(hunt, &holder).await;
    end(hunt, &holder).await;
    send_wrong(hunt).await;
}

/// Enrolls, registers, renews and rotates.
async fn get_in(hunt: &mut Hunt<'_>, enrollment: &str) -> Holder {
    let nonce = hunt.secret("the nonce of an enrollment");
    let body = json!({ "secret": enrollment, "name": "canary", "nonce": nonce });
    let enroll = hunt.service.request(Method::POST, "/v1/enroll").json(&body);
    let enrolled = hunt.send("enroll", enroll).await.expect(201);
    let first = enrolled["key"].as_str().unwrap().to_owned();
    hunt.keep_key("an enrolled key", &first);
    let idempotency = hunt.secret("the Idempotency-Key of an enrollment");
    let enroll = hunt.with(enrollment, "/v1/enroll", &json!({})).header("Idempotency-Key", &idempotency);
    let other = hunt.send("enroll", enroll).await.expect(201);
    hunt.keep_key("another enrolled key", other["key"].as_str().unwrap());

    let rotate = hunt.with(&first, "/v1/worker/key/rotate", &json!({ "overlap": "1h" }));
    let rotated = hunt.send("rotate", rotate).await.expect(201);
    let key = rotated["key"].as_str().unwrap().to_owned();
    hunt.keep_key("a rotated key", &key);
    let registered = hunt.send("register", hunt.with(&key, "/v1/register", &json!({}))).await.expect(200);
    let token = registered["token"].as_str().unwrap().to_owned();
    hunt.keep_token("a token", &token);
    let renewed = hunt.send("renew", hunt.with(&token, "/v1/renew", &json!({}))).await.expect(200);
    hunt.keep_token("a renewed token", renewed["token"].as_str().unwrap());
    let worker = enrolled["id"].as_str().unwrap().to_owned();
    let body = json!({ "worker": worker, "secret": key });
    let again = hunt.service.request(Method::POST, "/v1/register").json(&body);
    let again = hunt.send("register by body", again).await.expect(200);
    hunt.keep_token("a third token", again["token"].as_str().unwrap());
    Holder { worker, key, token }
}

/// What an operator makes: keys, static secrets, enrollment secrets, operators.
async fn administer(hunt: &mut Hunt<'_>) {
    let chosen = hunt.secret("a static secret");
    let idempotency = hunt.secret("an Idempotency-Key");
    let body = json!({ "id": "static-1", "static_secret": chosen });
    let create = hunt.admin("/v1/workers", &body).header("Idempotency-Key", &idempotency);
    hunt.send("create a worker", create).await.expect(201);
    let body = json!({ "worker": "static-1", "secret": chosen });
    let register = hunt.service.request(Method::POST, "/v1/register").json(&body);
    let registered = hunt.send("register by static secret", register).await.expect(200);
    hunt.keep_token("the token of a static secret", registered["token"].as_str().unwrap());
    let second = hunt.secret("a second static secret");
    let body = json!({ "static_secret": second });
    hunt.send("add a static secret", hunt.admin("/v1/workers/static-1/keys", &body)).await.expect(201);
    let third = hunt.secret("a rotated static secret");
    let body = json!({ "static_secret": third });
    let rotate = hunt.basic(Method::POST, "/v1/worker/key/rotate", "static-1", &chosen).json(&body);
    hunt.send("rotate a static secret", rotate).await.expect(201);

    for (name, path, body) in [
        ("a key", "/v1/workers/static-1/keys", json!({})),
        ("a honey key", "/v1/honey-keys", json!({ "pool": "default" })),
        ("an operator's key", "/v1/operators", json!({ "name": "canary", "role": "gateway" })),
    ] {
        let idempotency = hunt.secret("another Idempotency-Key");
        for _ in 0..2 {
            let make = hunt.admin(path, &body).header("Idempotency-Key", &idempotency);
            let made = hunt.send(name, make).await.expect(201);
            hunt.keep_key(name, made["key"].as_str().unwrap());
            // What it trips is recorded before the search begins.
            hunt.send("show it", hunt.admin("/v1/validate", &json!({ "credential": made["key"] }))).await.expect(200);
        }
    }
    let body = json!({ "url": "https://127.0.0.1:9/in" });
    let made = hunt.send("a webhook", hunt.admin("/v1/webhooks", &body)).await.expect(201);
    hunt.keep("the secret of a webhook", made["secret"].as_str().unwrap().trim_start_matches("whsec_"));
    let made = hunt.send("an enrollment secret", hunt.admin("/v1/enrollment-secrets", &json!({ "pool": "default" })));
    let made = made.await.expect(201);
    hunt.keep_key("an enrollment secret", made["secret"].as_str().unwrap());
    let chosen = hunt.secret("a chosen enrollment secret");
    let body = json!({ "pool": "default", "secret": chosen });
    let made = hunt.send("a chosen enrollment secret", hunt.admin("/v1/enrollment-secrets", &body)).await.expect(201);
    let next = hunt.secret("a rotated enrollment secret");
    let path = format!("/v1/enrollment-secrets/{}/rotate", made["id"].as_str().unwrap());
    hunt.send("rotate an enrollment secret", hunt.admin(&path, &json!({ "secret": next }))).await.expect(201);
}

/// What a gateway is given.
async fn be_checked(hunt: &mut Hunt<'_>, holder: &Holder) {
    for credential in [&holder.key, &holder.token] {
        hunt.send("validate", hunt.admin("/v1/validate", &json!({ "credential": credential }))).await.expect(200);
        let many = json!({ "credentials": [{ "credential": credential, "worker": holder.worker }] });
        hunt.send("validate many", hunt.admin("/v1/validate", &many)).await.expect(200);
        let check = hunt.service.request(Method::GET, "/v1/check").bearer_auth(credential);
        hunt.send("check", check).await.expect(204);
        let check = hunt.service.request(Method::GET, "/v1/check").header("X-Api-Key", credential);
        hunt.send("check by X-Api-Key", check).await;
    }
    let check = hunt.basic(Method::GET, "/v1/check", &holder.worker, &holder.key);
    hunt.send("check by Basic", check).await.expect(204);
}

async fn standards(hunt: &mut Hunt<'_>, holder: &Holder) {
    let grant = ("grant_type", "client_credentials");
    let post = [grant, ("client_id", &*holder.worker), ("client_secret", &*holder.key)];
    let by_post = hunt.send("oauth token by post", hunt.form("/oauth2/token", &post)).await.expect(200);
    hunt.keep_token("an OAuth token", by_post["access_token"].as_str().unwrap());
    let basic = hunt.basic(Method::POST, "/oauth2/token", &holder.worker, &holder.key);
    let basic = basic.header("Content-Type", "application/x-www-form-urlencoded").body("grant_type=client_credentials");
    let by_basic = hunt.send("oauth token by basic", basic).await.expect(200);
    let token = by_basic["access_token"].as_str().unwrap().to_owned();
    hunt.keep_token("another OAuth token", &token);
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let request = hunt.form(path, &[("token", &token)]).bearer_auth(&hunt.service.token);
        assert_eq!(hunt.send(path, request).await.status.as_u16(), 200, "{path}");
    }
}

/// What is given away is reported, and then presented once more.
async fn end(hunt: &mut Hunt<'_>, holder: &Holder) {
    for credential in [&holder.token, &holder.key] {
        let report = hunt.service.request(Method::POST, "/v1/compromised").json(&json!({ "credential": credential }));
        hunt.send("compromised", report).await.expect(200);
        hunt.send("register when revoked", hunt.with(credential, "/v1/register", &json!({}))).await.problem(401);
        hunt.send("validate when revoked", hunt.admin("/v1/validate", &json!({ "credential": credential })))
            .await
            .expect(200);
    }
}

/// Wrong ones, and right ones in wrong places.
pub(super) async fn send_wrong(hunt: &mut Hunt<'_>) {
    let made = hunt.send("a worker", hunt.admin("/v1/workers", &json!({ "id": "wrong" }))).await;
    made.expect(201);
    let made = hunt.send("a key", hunt.admin("/v1/workers/wrong/keys", &json!({}))).await.expect(201);
    let key = made["key"].as_str().unwrap().to_owned();
    hunt.keep_key("a key in the wrong places", &key);
    let mut garbled = key.clone();
    // Past the id, so that the rest of the secret is still one.
    let last = garbled.pop().unwrap();
    garbled.push(if last == '0' { '1' } else { '0' });
    // Longer than any id, which a refusal may name.
    let text = hunt.secret("a text that is no key") + &hunt.secret("the rest of it");

    for credential in [&garbled, &text, &format!("{key}x"), &format!("Bearer {key}")] {
        for path in ["/v1/register", "/v1/renew", "/v1/enroll", "/v1/worker/key/rotate", "/v1/pools"] {
            hunt.send(path, hunt.with(credential, path, &json!({}))).await;
        }
        let basic = hunt.basic(Method::POST, "/oauth2/token", "wrong", credential);
        let basic = basic.header("Content-Type", "application/x-www-form-urlencoded");
        hunt.send("oauth token", basic.body("grant_type=client_credentials")).await;
        hunt.send("validate", hunt.admin("/v1/validate", &json!({ "credential": credential }))).await;
        let report = hunt.service.request(Method::POST, "/v1/compromised").json(&json!({ "credential": credential }));
        hunt.send("compromised", report).await;
        let check = hunt.service.request(Method::GET, "/v1/check").header("X-Api-Key", credential);
        hunt.send("check", check.header("Cookie", format!("session={credential}"))).await;
    }
    for secret in [&key, &text] {
        misplace(hunt, secret).await;
    }
}

/// A secret where none belongs: the path, the query, other fields, other headers, bodies that cannot be read.
async fn misplace(hunt: &mut Hunt<'_>, secret: &str) {
    for path in [
        format!("/v1/keys/{secret}"),
        format!("/v1/workers/{secret}"),
        format!("/v1/workers?token={secret}"),
        format!("/v1/workers?cursor={secret}"),
        format!("/v1/workers?label={secret}"),
        format!("/v1/events?subject={secret}"),
        format!("/v1/events?from={secret}"),
        format!("/v1/check?pool={secret}"),
        format!("/{secret}"),
    ] {
        let request = hunt.service.request(Method::GET, &path).bearer_auth(&hunt.service.token);
        hunt.send("a path", request).await;
    }
    for body in [
        json!(secret),
        json!([secret]),
        json!({ "pool": { "x": secret } }),
        json!({ "pool": secret }),
        json!({ "id": format!("{secret} ") }),
        json!({ "labels": secret }),
        json!({ "pending": secret }),
        json!({ "expires_at": secret }),
        json!({ "static_secret": [secret] }),
        json!({ "static_secret": format!("{secret} ") }),
        json!({ "unknown": secret }),
        json!({ "limit": secret }),
    ] {
        for path in ["/v1/workers", "/v1/enroll", "/v1/register", "/v1/validate", "/v1/compromised"] {
            hunt.send(path, hunt.admin(path, &body)).await;
        }
    }
    for body in [format!("{{\"secret\": \"{secret}"), format!("secret={secret}"), secret.to_owned()] {
        for path in ["/v1/enroll", "/v1/register", "/oauth2/token", "/oauth2/revoke"] {
            let request = hunt.service.request(Method::POST, path).body(body.clone());
            hunt.send(path, request.header("Content-Type", "application/json")).await;
        }
    }
    for header in ["Authorization", "X-Api-Key", "X-Worker-Id", "Cookie", "Referer", "X-Forwarded-For", "Content-Type"]
    {
        let request = hunt.service.request(Method::POST, "/v1/enroll").header(header, secret).body("{}");
        hunt.send(header, request).await;
    }
    let isolate = hunt.admin("/v1/workers/wrong/isolate", &json!({ "for": secret, "until": secret }));
    hunt.send("isolate", isolate).await;
    let rotate = hunt.admin("/v1/signing-keys/rotate", &json!({ "algorithm": secret }));
    hunt.send("rotate", rotate).await;
    hunt.send("fence", hunt.admin("/v1/fences", &json!({ "scope": secret }))).await;
}
