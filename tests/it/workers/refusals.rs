//! Whoever is refused learns nothing from it (H31), and no state but one lets a worker do anything (H8).

use reqwest::Method;
use serde_json::json;

use super::{Gate, seen, text, with_form};
use crate::support::service::Answer;

/// Everything that a worker can ask for with a key.
async fn all_refused(gate: &Gate, credential: &str, expected: &(u16, String, Vec<(String, String)>)) {
    for path in ["/v1/register", "/v1/renew", "/v1/worker/key/rotate"] {
        assert_eq!(&seen(&gate.post_as(credential, path, json!({})).await), expected, "{path}");
    }
    assert_eq!(&seen(&gate.get_as(credential, "/v1/worker").await), expected);
    let check = gate.get_as(credential, "/v1/check").await;
    assert_eq!((check.status.as_u16(), check.text.as_str()), (401, ""));
}

async fn form(gate: &Gate, id: &str, secret: &str) -> Answer {
    let form = gate.request(Method::POST, "/oauth2/token").basic_auth(id, Some(secret));
    gate.send(with_form(form, &[("grant_type", "client_credentials")])).await
}

#[tokio::test]
async fn no_state_but_active_lets_a_worker_do_anything() {
    let gate = Gate::open().await;
    let unknown = seen(&gate.get_as("ptc_wk_unknown", "/v1/worker").await);
    assert_eq!(unknown.0, 401);

    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(3);
    let expiring = json!({ "expires_at": soon.to_rfc3339() });
    let mut members = Vec::new();
    for (id, more) in [("pending", json!({ "pending": true })), ("rejected", json!({ "pending": true }))] {
        members.push((gate.member(id, more).await, None));
    }
    for (id, more) in [("isolated", json!({})), ("removed", json!({})), ("expired", expiring)] {
        let member = gate.member(id, more).await;
        let token = gate.token(&member.key).await;
        members.push((member, Some(token)));
    }
    gate.post("/v1/workers/rejected/reject", json!({})).await.expect(200);
    gate.post("/v1/workers/isolated/isolate", json!({})).await.expect(200);
    gate.send(gate.request(Method::DELETE, "/v1/workers/removed").bearer_auth(&gate.token)).await.expect(200);
    let expired = members[4].0.key.clone();
    gate.until("it expires", || async { gate.check(&expired).await == 401 }).await;

    for (member, token) in &members {
        all_refused(&gate, &member.key, &unknown).await;
        assert_eq!(gate.reason(&member.key).await, format!("worker_{}", member.id));
        assert_eq!(form(&gate, &member.id, &member.key).await.expect(401)["error"], "invalid_client");
        if let Some(token) = token {
            all_refused(&gate, token, &unknown).await;
        }
    }
}

#[tokio::test]
async fn every_credential_that_is_not_accepted_gets_the_same_answer() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let token = gate.token(&member.key).await;
    let (_, enrollment) = gate.enrollment_secret(json!({ "pool": "default" })).await;
    let revoked = gate.key("a").await;
    gate.post(&format!("/v1/keys/{}/revoke", revoked.key_id), json!({})).await.expect(200);
    let mistyped = format!("{}x", &member.key[..member.key.len() - 1]);
    let no_such_key = "ptc_wk_0123456789abcdefghijkl_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH_000000";
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{message}.{other}{}", &signature[1..]);
    let operator = gate.token.clone();

    let nothing = seen(&gate.send(gate.request(Method::GET, "/v1/worker")).await);
    assert_eq!(nothing.0, 401);
    let body: serde_json::Value = serde_json::from_str(&nothing.1).unwrap();
    assert_eq!(body["code"], "unauthorized");
    for credential in
        [&revoked.key, &mistyped, no_such_key, &forged, &operator, &enrollment, "guess", "a.b.c", &"x".repeat(5_000)]
    {
        all_refused(&gate, credential, &nothing).await;
    }
    let oauth = form(&gate, "nobody", "guess").await;
    assert_eq!(oauth.headers["www-authenticate"], "Basic realm=\"portcullis\"");
    let oauth = seen(&oauth);
    for (id, secret) in [("a", "guess"), ("a", revoked.key.as_str()), ("b", member.key.as_str()), ("a", &operator)] {
        assert_eq!(seen(&form(&gate, id, secret).await), oauth);
    }
}

/// It may ask again for the answer to its own rotation, and for nothing else.
#[tokio::test]
async fn a_key_that_was_rotated_away_leaves_nothing_in_the_database() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let rotate = async |idempotency_key: &str| {
        let request = gate.request(Method::POST, "/v1/worker/key/rotate").bearer_auth(&member.key);
        gate.send(request.header("idempotency-key", idempotency_key).json(&json!({ "overlap": "0s" }))).await
    };
    let first = rotate("the-rotation").await.expect(201);
    let client = gate.scratch.superuser().await;
    // Of commands that can be repeated; what the service itself writes meanwhile is another matter.
    let count = "select count(*) from log.command where octet_length(fingerprint) > 0";
    let counted = async || client.query_one(count, &[]).await.unwrap().get::<_, i64>(0);

    let before = counted().await;
    for number in 0..5 {
        assert_eq!(rotate(&format!("another-{number}")).await.problem(401), "unauthorized");
    }
    assert_eq!(counted().await, before, "not a row");
    assert_eq!(rotate("the-rotation").await.json(), first, "what it lost it is told again");
}

#[tokio::test]
async fn who_fails_again_and_again_has_to_wait_and_who_is_good_does_not() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let mut waiting = None;
    for _ in 0..200 {
        let answer = gate.post_as("guess", "/v1/register", json!({})).await;
        if answer.status == 429 {
            waiting = Some(answer);
            break;
        }
        assert_eq!(answer.problem(401), "unauthorized");
    }
    let waiting = waiting.unwrap();
    assert_eq!(waiting.problem(429), "too_many_attempts");
    assert!(waiting.headers.contains_key("retry-after"));
    let from_the_same_address = gate.post_as(&member.key, "/v1/register", json!({})).await.expect(200);
    assert_eq!(text(&from_the_same_address["worker"]), "a");
}

/// Whoever stands in front may have looked at the other one.
#[tokio::test]
async fn two_credentials_or_two_idempotency_keys_are_refused() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let (_, enrollment) = gate.enrollment_secret(json!({ "pool": "default" })).await;
    let routes = [
        (Method::GET, "/v1/check", &member.key),
        (Method::GET, "/v1/worker", &member.key),
        (Method::POST, "/v1/register", &member.key),
        (Method::POST, "/v1/enroll", &enrollment),
        (Method::GET, "/v1/whoami", &gate.token),
        (Method::GET, "/v1/pools", &gate.token),
        (Method::POST, "/v1/validate", &gate.token),
    ];
    for (method, path, credential) in routes {
        for other in [credential.as_str(), "guess"] {
            let request = gate.request(method.clone(), path).bearer_auth(credential).bearer_auth(other);
            assert_eq!(gate.send(request).await.status, 401, "{path} {other}");
        }
    }
    let request = gate.request(Method::POST, "/v1/pools").bearer_auth(&gate.token).json(&json!({ "name": "p" }));
    let request = request.header("idempotency-key", "one").header("idempotency-key", "two");
    let refused = gate.send(request).await.expect(400);
    assert!(refused["detail"].as_str().unwrap().contains("more than once"), "{refused}");
}
