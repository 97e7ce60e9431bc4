//! Whoever holds a credential can end it, and learns nothing by it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Gate, seen, text};
use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Launch};

async fn report(gate: &Gate, body: Value) -> Answer {
    gate.send(gate.request(Method::POST, "/v1/compromised").json(&body)).await
}

/// A worker of the pool `twins`, which allows sharing.
async fn twin(gate: &Gate, id: &str, secret: &str) {
    gate.post("/v1/workers", json!({ "id": id, "pool": "twins", "static_secret": secret })).await.expect(201);
}

async fn passes(gate: &Gate, worker: &str, secret: &str) -> bool {
    let basic = gate.request(Method::GET, "/v1/check").basic_auth(worker, Some(secret));
    gate.send(basic).await.status.as_u16() == 204
}

#[tokio::test]
async fn a_key_a_token_and_what_came_of_them_end_and_nothing_else() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let second = gate.key("a").await;
    let rotated = gate.post_as(&member.key, "/v1/worker/key/rotate", json!({})).await.expect(201);
    let successor = text(&rotated["key"]);
    let token = gate.token(&second.key).await;
    let renewed = text(&gate.post_as(&token, "/v1/renew", json!({})).await.expect(200)["token"]);
    let sibling = gate.token(&second.key).await;

    let first = report(&gate, json!({ "credential": member.key })).await;
    assert_eq!(first.expect(200), json!({ "accepted": true }));
    assert_eq!(gate.check(&member.key).await, 401);
    assert_eq!(gate.check(&successor).await, 401, "whoever stole the key may have rotated it");
    assert_eq!(gate.check(&second.key).await, 204);

    // A renewal does not take along what it was renewed from.
    report(&gate, json!({ "credential": renewed })).await.expect(200);
    assert_eq!(gate.reason(&renewed).await, "token_revoked");
    assert_eq!(gate.check(&token).await, 204);
    report(&gate, json!({ "credential": token })).await.expect(200);
    assert_eq!(gate.reason(&token).await, "token_revoked");
    for good in [&sibling, &second.key] {
        assert_eq!(gate.check(good).await, 204);
    }
    // Not even an isolated worker's key should stay alive.
    gate.post("/v1/workers/a/isolate", json!({})).await.expect(200);
    report(&gate, json!({ "credential": second.key })).await.expect(200);
    gate.post("/v1/workers/a/release", json!({})).await.expect(200);
    assert_eq!(gate.reason(&second.key).await, "key_revoked");

    let revoked = gate.events("key.revoked").await;
    assert!(revoked.iter().all(|event| event["reason"].as_str().unwrap().contains("compromised")), "{revoked:?}");
}

#[tokio::test]
async fn operators_keys_and_chosen_secrets_end_too() {
    let gate = Gate::open().await;
    let edge = text(&gate.post("/v1/operators", json!({ "name": "edge", "role": "gateway" })).await.expect(201)["key"]);
    report(&gate, json!({ "credential": edge })).await.expect(200);
    assert_eq!(gate.get_as(&edge, "/v1/whoami").await.problem(401), "unauthorized");

    let (id, secret) = gate.enrollment_secret(json!({ "pool": "default" })).await;
    report(&gate, json!({ "credential": secret })).await.expect(200);
    assert_eq!(gate.get(&format!("/v1/enrollment-secrets/{id}")).await.expect(200)["state"], "disabled");

    gate.pool(json!({ "name": "twins", "sharing": true })).await;
    let secret = "nK3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWzB";
    for worker in ["a", "b", "c"] {
        twin(&gate, worker, secret).await;
    }
    let good = async |worker: &str| passes(&gate, worker, secret).await;
    assert!(good("a").await && good("b").await && good("c").await);
    report(&gate, json!({ "credential": secret, "worker": "a" })).await.expect(200);
    assert!(!good("a").await && good("b").await && good("c").await, "only the one that was named");
    report(&gate, json!({ "credential": secret })).await.expect(200);
    assert!(!good("b").await && !good("c").await, "every key with this value");
}

/// Whoever stole the last admin's key is worse than a fleet without an admin: for that there is `serve --new-admin`.
#[tokio::test]
async fn the_last_admins_key_ends_too() {
    let gate = Gate::open().await;
    let id = gate.token.split('_').nth(2).unwrap();
    let rotated = gate.post(&format!("/v1/keys/{id}/rotate"), json!({})).await.expect(201);
    let successor = text(&rotated["key"]);
    report(&gate, json!({ "credential": gate.token })).await.expect(200);
    for key in [&gate.token, &successor] {
        assert_eq!(gate.get_as(key, "/v1/whoami").await.problem(401), "unauthorized");
    }
}

/// Nobody is known here but the credential: the key names a report of that one.
#[tokio::test]
async fn a_report_with_an_idempotency_key_is_carried_out_once() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "twins", "sharing": true })).await;
    let secret = "nK3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWzB";
    twin(&gate, "a", secret).await;
    twin(&gate, "b", secret).await;
    let named = |body: Value| {
        gate.send(gate.request(Method::POST, "/v1/compromised").header("idempotency-key", "k").json(&body))
    };
    let first = seen(&named(json!({ "credential": secret })).await);
    let repeated = seen(&named(json!({ "credential": secret })).await);
    // A refusal would tell whether what was reported before was genuine.
    let other = seen(&named(json!({ "credential": "guess" })).await);
    assert_eq!((&first, &first), (&repeated, &other));
    assert_eq!(gate.events("key.revoked").await.len(), 2);
    let metrics = gate.get("/metrics").await.text;
    let count = |outcome: &str| {
        let series = format!("portcullis_commands_total{{command=\"revoke_key\",outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok())
    };
    assert_eq!((count("changed"), count("repeated")), (Some(2), Some(2)), "{metrics}");
}

#[tokio::test]
async fn the_answer_is_the_same_whatever_it_was() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let genuine = seen(&report(&gate, json!({ "credential": member.key })).await);
    assert_eq!(genuine.0, 200);
    for credential in [member.key.as_str(), "ptc_wk_x", "guess", "a.b.c", "", &gate.token.replace("_op_", "_wk_")] {
        assert_eq!(seen(&report(&gate, json!({ "credential": credential })).await), genuine);
        assert_eq!(seen(&report(&gate, json!({ "credential": credential, "worker": "nobody" })).await), genuine);
    }
    assert_eq!(report(&gate, json!({})).await.problem(400), "malformed");
}

/// Whoever reports is told the same and may hang up; what was reported ends as soon as the log can be written, all of it.
#[tokio::test]
async fn a_report_outlives_its_request_and_a_log_that_stands_still() {
    let scratch = Scratch::new().await;
    let service = Launch::on(&scratch).argument("--request-timeout", "2s").start().await;
    let gate = Gate { service, scratch };
    gate.pool(json!({ "name": "twins", "sharing": true })).await;
    let left = "nK3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWzB";
    let told = "zB3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWnK";
    for (worker, secret) in [("a", left), ("b", left), ("c", left), ("d", told), ("e", told)] {
        twin(&gate, worker, secret).await;
    }
    let guessed = seen(&report(&gate, json!({ "credential": "guess" })).await);
    let blocker = gate.scratch.superuser().await;
    blocker.batch_execute("begin; select * from log.head for update").await.unwrap();

    let hasty = gate.request(Method::POST, "/v1/compromised").timeout(std::time::Duration::from_millis(300));
    let hung_up = crate::support::service::answer(hasty.json(&json!({ "credential": left }))).await;
    assert!(hung_up.unwrap_err().is_timeout());
    assert_eq!(seen(&report(&gate, json!({ "credential": told })).await), guessed);

    blocker.batch_execute("rollback").await.unwrap();
    for (worker, secret) in [("a", left), ("b", left), ("c", left), ("d", told), ("e", told)] {
        gate.until("every key with this value ends", || async { !passes(&gate, worker, secret).await }).await;
    }
    assert_eq!(gate.events("key.revoked").await.len(), 5);
}
