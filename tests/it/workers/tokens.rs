//! Tokens and the worker's own key: issued, renewed, rotated, and refused once what they stand on is gone.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Gate, text};
use crate::support::service::Answer;

/// What a token says, unverified.
fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn with_key(gate: &Gate, credential: &str, path: &str, idempotency_key: &str, body: Value) -> Answer {
    let request = gate.request(Method::POST, path).bearer_auth(credential);
    gate.send(request.header("idempotency-key", idempotency_key).json(&body)).await
}

#[tokio::test]
async fn a_token_carries_the_position_of_its_event() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "blue", "scopes": ["read", "write"], "audience": "blue.example" })).await;
    let member = gate.member("a", json!({ "pool": "blue" })).await;
    let answer = gate.post_as(&member.key, "/v1/register", json!({ "scope": "read" })).await;
    let body = answer.expect(200);
    let claims = claims(body["token"].as_str().unwrap());
    let events = gate.events("token.issued").await;
    let event = events.last().unwrap();
    assert_eq!(event["position"], claims["pos"]);
    assert_eq!(event["data"]["token"], claims["jti"]);
    assert_eq!(claims["pos"], answer.position());
    assert_eq!(
        (&claims["sub"], &claims["aud"], &claims["pool"]),
        (&json!("a"), &json!("blue.example"), &json!("blue"))
    );
    assert_eq!((&claims["sid"], &claims["key"]), (&claims["jti"], &json!(member.key_id)));
    assert_eq!((&claims["scope"], &body["scope"]), (&json!("read"), &json!("read")));
    assert!(!event.to_string().contains(body["token"].as_str().unwrap()));
    assert_eq!(answer.headers["cache-control"], "no-store");

    // A renewal stays as narrow as what it renews.
    let token = text(&body["token"]);
    let renewed = gate.post_as(&token, "/v1/renew", json!({})).await.expect(200);
    assert_eq!(renewed["scope"], "read");
    let wider = gate.post_as(&token, "/v1/renew", json!({ "scope": "read write" })).await;
    assert_eq!(wider.problem(400), "scope_not_allowed");
    let unknown = gate.post_as(&member.key, "/v1/register", json!({ "scope": "root" })).await;
    assert_eq!(unknown.problem(400), "scope_not_allowed");
    let short = gate.post_as(&member.key, "/v1/register", json!({ "ttl": "1s" })).await;
    assert_eq!((short.problem(400).as_str(), &short.json()["field"]), ("invalid", &json!("ttl")));
}

#[tokio::test]
async fn a_lost_token_or_key_can_be_asked_for_again() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let first = with_key(&gate, &member.key, "/v1/register", "one", json!({})).await.expect(200);
    let again = with_key(&gate, &member.key, "/v1/register", "one", json!({})).await.expect(200);
    assert_eq!(first["token"], again["token"], "signed again to the letter");
    assert_eq!(gate.events("token.issued").await.len(), 1);
    let second = gate.key("a").await;
    let other = with_key(&gate, &second.key, "/v1/register", "one", json!({})).await;
    assert_eq!(other.problem(422), "idempotency_key_reused", "the answer is another credential's");

    let token = text(&first["token"]);
    let renewed = with_key(&gate, &token, "/v1/renew", "two", json!({})).await.expect(200);
    let again = with_key(&gate, &token, "/v1/renew", "two", json!({})).await.expect(200);
    assert_eq!(renewed["token"], again["token"]);

    // Without an overlap the old key is dead at once, and still gets the answer that was lost.
    let now = json!({ "overlap": "0s" });
    let rotated = with_key(&gate, &member.key, "/v1/worker/key/rotate", "three", now.clone()).await.expect(201);
    let again = with_key(&gate, &member.key, "/v1/worker/key/rotate", "three", now.clone()).await.expect(201);
    assert_eq!(rotated, again);
    assert_eq!(gate.reason(&member.key).await, "key_expired");
    let anew = with_key(&gate, &member.key, "/v1/worker/key/rotate", "four", now.clone()).await;
    assert_eq!(anew.problem(401), "unauthorized", "and nothing else");
    gate.post(&format!("/v1/workers/{}/isolate", member.id), json!({})).await.expect(200);
    let isolated = with_key(&gate, &member.key, "/v1/worker/key/rotate", "three", now).await;
    assert_eq!(isolated.problem(401), "unauthorized");
}

#[tokio::test]
async fn a_token_is_no_key() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let token = gate.token(&member.key).await;
    for path in ["/v1/worker/key/rotate", "/v1/register"] {
        assert_eq!(gate.post_as(&token, path, json!({})).await.problem(401), "unauthorized", "{path}");
    }
}

#[tokio::test]
async fn tokens_end_with_what_they_stand_on() {
    let gate = Gate::open().await;
    let (isolated, removed, revoked) =
        (gate.member("i", json!({})).await, gate.member("r", json!({})).await, gate.member("k", json!({})).await);
    let mut tokens = Vec::new();
    for member in [&isolated, &removed, &revoked] {
        let token = gate.token(&member.key).await;
        let renewed = gate.post_as(&token, "/v1/renew", json!({})).await.expect(200);
        tokens.push([token, text(&renewed["token"])]);
    }
    gate.post("/v1/workers/i/isolate", json!({})).await.expect(200);
    gate.send(gate.request(Method::DELETE, "/v1/workers/r").bearer_auth(&gate.token)).await.expect(200);
    gate.post(&format!("/v1/keys/{}/revoke", revoked.key_id), json!({})).await.expect(200);
    for (tokens, reason) in tokens.iter().zip(["worker_isolated", "worker_removed", "key_revoked"]) {
        for token in tokens {
            assert_eq!(gate.reason(token).await, reason);
            assert_eq!(gate.check(token).await, 401);
            assert_eq!(gate.post_as(token, "/v1/renew", json!({})).await.problem(401), "unauthorized");
        }
    }
    gate.post("/v1/workers/i/release", json!({})).await.expect(200);
    assert_eq!(gate.check(&tokens[0][1]).await, 204, "isolation is reversible");
}

#[tokio::test]
async fn a_pool_may_count_its_tokens_instead() {
    let mut gate = Gate::open().await;
    gate.pool(json!({ "name": "many", "token_record": "counted" })).await;
    let member = gate.member("a", json!({ "pool": "many" })).await;
    let position = gate.get("/v1/workers/a").await.position();
    let token = gate.token(&member.key).await;
    let renewed = gate.post_as(&token, "/v1/renew", json!({})).await.expect(200);
    assert_eq!(claims(&token)["pos"], position, "no event of its own");
    assert_eq!(claims(renewed["token"].as_str().unwrap())["sid"], claims(&token)["jti"]);
    assert_eq!(gate.check(&token).await, 204);

    // Whoever revokes a token revokes what was renewed from it, though no event tells the two apart.
    gate.post("/v1/compromised", json!({ "credential": token })).await.expect(200);
    assert_eq!(gate.reason(renewed["token"].as_str().unwrap()).await, "token_revoked");
    assert_eq!(gate.events("token.issued").await.len(), 0);

    // The counts are in the log at the latest when the service has stopped.
    assert!(gate.service.stop());
    let launch = crate::support::service::Launch::on(&gate.scratch).data_dir_of(&gate.service);
    gate.service = launch.start().await;
    let counts = gate.events("tokens.issued").await;
    let sum: u64 = counts.iter().map(|event| event["data"]["count"].as_u64().unwrap()).sum();
    assert_eq!(sum, 2, "{counts:?}");
}

#[tokio::test]
async fn a_lost_token_of_a_pool_that_counts_can_be_asked_for_again() {
    let mut gate = Gate::open().await;
    gate.pool(json!({ "name": "many", "token_record": "counted", "scopes": ["read", "write"] })).await;
    let member = gate.member("a", json!({ "pool": "many" })).await;
    let first = with_key(&gate, &member.key, "/v1/register", "one", json!({})).await.expect(200);
    let again = with_key(&gate, &member.key, "/v1/register", "one", json!({})).await.expect(200);
    assert_eq!(first["token"], again["token"]);
    let token = text(&first["token"]);
    assert_eq!(gate.check(&token).await, 204);
    let other = with_key(&gate, &member.key, "/v1/register", "one", json!({ "scope": "read" })).await;
    assert_eq!(other.problem(422), "idempotency_key_reused");
    let renewed = with_key(&gate, &token, "/v1/renew", "two", json!({})).await.expect(200);
    let again = with_key(&gate, &token, "/v1/renew", "two", json!({})).await.expect(200);
    assert_eq!(renewed["token"], again["token"]);
    let standard = async |scope: &str| {
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        let request = gate.request(Method::POST, "/oauth2/token").basic_auth("a", Some(&member.key));
        gate.send(request.header("idempotency-key", "three").form(&form)).await
    };
    let standards = standard("read").await.expect(200);
    assert_eq!(standards["access_token"], standard("read").await.expect(200)["access_token"]);
    assert_eq!(standard("write").await.status, 422);

    // What the pool does from now on changes nothing about what was answered.
    let update = gate.request(Method::PATCH, "/v1/pools/many").bearer_auth(&gate.token);
    gate.send(update.json(&json!({ "token_record": "each" }))).await.expect(200);
    let again = with_key(&gate, &member.key, "/v1/register", "one", json!({})).await.expect(200);
    assert_eq!(first["token"], again["token"]);
    assert_eq!(gate.events("token.issued").await.len(), 0);

    // A repeat is no further token.
    assert!(gate.service.stop());
    let launch = crate::support::service::Launch::on(&gate.scratch).data_dir_of(&gate.service);
    gate.service = launch.start().await;
    let counts = gate.events("tokens.issued").await;
    let sum: u64 = counts.iter().map(|event| event["data"]["count"].as_u64().unwrap()).sum();
    assert_eq!(sum, 3, "{counts:?}");
}

#[tokio::test]
async fn a_token_is_over_when_it_says() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "brief", "token_ttl": "5s" })).await;
    let member = gate.member("a", json!({ "pool": "brief" })).await;
    let token = gate.token(&member.key).await;
    assert_eq!(gate.check(&token).await, 204);
    gate.until("the token ends", || async { gate.check(&token).await == 401 }).await;
    assert_eq!(gate.reason(&token).await, "token_expired");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now >= Duration::from_secs(claims(&token)["exp"].as_u64().unwrap()), "not before");
}

#[tokio::test]
async fn a_static_secret_comes_with_its_workers_id() {
    let gate = Gate::open().await;
    let secret = "nK3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWzB";
    gate.post("/v1/workers", json!({ "id": "s", "static_secret": secret })).await.expect(201);
    let in_body = json!({ "worker": "s", "secret": secret });
    let anonymous = |path: &str| gate.request(Method::POST, path);
    gate.send(anonymous("/v1/register").json(&in_body)).await.expect(200);
    gate.send(anonymous("/v1/register").basic_auth("s", Some(secret)).json(&json!({}))).await.expect(200);
    let headers = anonymous("/v1/register").header("x-api-key", secret).header("x-worker-id", "s");
    gate.send(headers.json(&json!({}))).await.expect(200);
    let table = [
        json!({ "secret": secret }),
        json!({ "worker": "other", "secret": secret }),
        json!({ "worker": "s", "secret": format!("{secret}x") }),
    ];
    for body in table {
        assert_eq!(gate.send(anonymous("/v1/register").json(&body)).await.problem(401), "unauthorized", "{body}");
    }

    let rotate = |more: Value| {
        let mut body = in_body.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gate.send(anonymous("/v1/worker/key/rotate").json(&body))
    };
    assert_eq!(rotate(json!({})).await.problem(400), "invalid", "a new value is needed");
    assert_eq!(rotate(json!({ "static_secret": "a".repeat(44) })).await.problem(400), "invalid", "and a good one");
    let next = "Zq8Lw3Nv6Bx1Mc9Ka4Js7Hd2Gf5Pt0RyUeIoT_kW-nVx";
    let rotated = rotate(json!({ "static_secret": next, "overlap": "0s" })).await.expect(201);
    assert!(rotated.get("key").is_none(), "{rotated}");
    let old = gate.send(anonymous("/v1/register").json(&in_body)).await;
    assert_eq!(old.problem(401), "unauthorized");
    gate.send(anonymous("/v1/register").json(&json!({ "worker": "s", "secret": next }))).await.expect(200);
}

#[tokio::test]
async fn a_shared_key_comes_with_the_id_of_who_presents_it() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "twins", "sharing": true })).await;
    let member = gate.member("a", json!({ "pool": "twins" })).await;
    gate.post("/v1/workers", json!({ "id": "b", "pool": "twins" })).await.expect(201);
    gate.post("/v1/workers/b/keys", json!({ "share": member.key_id })).await.expect(201);
    assert_eq!(gate.post_as(&member.key, "/v1/register", json!({})).await.problem(401), "unauthorized");
    for worker in ["a", "b"] {
        let registered = gate.post_as(&member.key, "/v1/register", json!({ "worker": worker })).await.expect(200);
        assert_eq!(registered["worker"], worker);
        let verdict = json!({ "credential": member.key, "worker": worker });
        assert_eq!(gate.post("/v1/validate", verdict).await.expect(200)["worker"], worker);
    }
    assert_eq!(gate.reason(&member.key).await, "worker_required");
    let check = gate.request(Method::GET, "/v1/check").bearer_auth(&member.key).header("x-worker-id", "b");
    assert_eq!(gate.send(check).await.headers["portcullis-worker"], "b");
    // One of the two in trouble is not the other.
    gate.post("/v1/workers/a/isolate", json!({})).await.expect(200);
    gate.post_as(&member.key, "/v1/register", json!({ "worker": "b" })).await.expect(200);
    assert_eq!(gate.post_as(&member.key, "/v1/register", json!({ "worker": "a" })).await.problem(401), "unauthorized");
}
