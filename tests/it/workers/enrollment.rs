//! Getting in by the enrollment secret: retries, limits, and what a holder of a bad one sees.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Gate, seen, text};

async fn enroll(gate: &Gate, secret: &str, body: Value) -> crate::support::service::Answer {
    gate.post_as(secret, "/v1/enroll", body).await
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again() {
    let gate = Gate::open().await;
    let (_, secret) = gate.enrollment_secret(json!({ "pool": "default", "uses_max": 1 })).await;
    let body = json!({ "name": "runner", "nonce": "0123456789abcdef" });

    let first = enroll(&gate, &secret, body.clone()).await.expect(201);
    let again = enroll(&gate, &secret, body).await.expect(201);
    assert_eq!(first, again, "the same worker and the same key");
    let reordered = json!({ "secret": secret, "nonce": "0123456789abcdef", "labels": {}, "name": "runner" });
    let again = gate.send(gate.request(Method::POST, "/v1/enroll").json(&reordered)).await.expect(201);
    assert_eq!(first, again, "however the body is written");
    let header = gate.request(Method::POST, "/v1/enroll").bearer_auth(&secret);
    let header = header.header("idempotency-key", "0123456789abcdef").json(&json!({ "name": "runner" }));
    assert_eq!(gate.send(header).await.expect(201), first, "the header says the same");

    let other = enroll(&gate, &secret, json!({ "name": "other", "nonce": "0123456789abcdef" })).await;
    assert_eq!(other.problem(422), "idempotency_key_reused");
    let next = enroll(&gate, &secret, json!({ "name": "runner", "nonce": "0123456789abcdeF" })).await.expect(201);
    assert_ne!(next["id"], first["id"], "one name, two workers");
    assert_eq!(next["state"], "pending", "past its uses every further one waits");
    assert_eq!(gate.events("worker.created").await.len(), 2);
    assert_eq!(gate.check(&text(&next["key"])).await, 401, "whoever waits is let in nowhere");
}

/// The worker got in before the secret ended, and only its answer was lost (H13).
#[tokio::test]
async fn a_lost_answer_can_be_asked_for_after_the_secret_has_ended() {
    let gate = Gate::open().await;
    let (id, secret) = gate.enrollment_secret(json!({ "pool": "default", "name_pattern": "web-[0-9]+" })).await;
    let body = |name: &str, nonce: &str| json!({ "name": name, "nonce": nonce });
    let (first_nonce, refused_nonce) = ("0123456789abcdef", "fedcba9876543210");

    assert_eq!(enroll(&gate, &secret, body("db-1", refused_nonce)).await.problem(401), "unauthorized");
    enroll(&gate, &secret, body("web-2", refused_nonce)).await.expect(201);
    let first = enroll(&gate, &secret, body("web-1", first_nonce)).await.expect(201);
    gate.post(&format!("/v1/enrollment-secrets/{id}/disable"), json!({})).await.expect(200);

    let again = enroll(&gate, &secret, body("web-1", first_nonce)).await;
    assert_eq!(again.json(), first, "the same worker and the same key");
    gate.register(&text(&first["key"])).await;

    let kept = "select count(*) from log.command where octet_length(fingerprint) > 0";
    let client = gate.scratch.superuser().await;
    let before: i64 = client.query_one(kept, &[]).await.unwrap().get(0);
    for nonce in ["0000000000000000", "0000000000000001"] {
        assert_eq!(enroll(&gate, &secret, body("web-3", nonce)).await.problem(401), "unauthorized");
    }
    let after: i64 = client.query_one(kept, &[]).await.unwrap().get(0);
    assert_eq!(after, before, "a secret that has ended leaves nothing in the database");
}

#[tokio::test]
async fn what_a_worker_may_not_say_is_refused_whatever_it_shows() {
    let gate = Gate::open().await;
    let (_, secret) = gate.enrollment_secret(json!({ "pool": "default" })).await;
    let nonce = "0123456789abcdef";
    for shown in [secret.as_str(), "not-the-secret"] {
        for field in ["id", "worker", "worker_id"] {
            for value in [json!("web-1"), Value::Null] {
                let answer = enroll(&gate, shown, json!({ field: value })).await;
                assert_eq!(answer.problem(400), "worker_id_not_allowed");
                assert_eq!(answer.json()["field"], field);
            }
        }
        let table = [
            (json!({ "nonce": "short" }), "invalid"),
            (json!({ "nonce": "with a space in it" }), "invalid"),
            (json!({ "surprise": 1 }), "malformed"),
            (json!({ "secret": secret }), "invalid"),
        ];
        for (body, code) in table {
            assert_eq!(enroll(&gate, shown, body.clone()).await.problem(400), code, "{body}");
        }
        let both = gate.request(Method::POST, "/v1/enroll").bearer_auth(shown).header("idempotency-key", nonce);
        assert_eq!(gate.send(both.json(&json!({ "nonce": nonce }))).await.problem(400), "invalid");
    }
    assert_eq!(enroll(&gate, &secret, json!({ "name": "" })).await.problem(400), "invalid");
    enroll(&gate, &secret, json!({ "name": "", "nonce": nonce })).await.problem(400);
    enroll(&gate, &secret, json!({ "name": "a", "nonce": nonce })).await.expect(201);
}

#[tokio::test]
async fn every_reason_to_keep_somebody_out_looks_the_same() {
    let gate = Gate::open().await;
    let secrets = [
        json!({ "pool": "default", "cidrs": ["192.0.2.0/24"] }),
        json!({ "pool": "default", "name_pattern": "web-[0-9]+" }),
        json!({ "pool": "default" }),
    ];
    let mut shown = Vec::new();
    for settings in secrets {
        shown.push(gate.enrollment_secret(settings).await);
    }
    gate.post(&format!("/v1/enrollment-secrets/{}/disable", shown[2].0), json!({})).await.expect(200);
    let mut shown: Vec<String> = shown.into_iter().map(|(_, secret)| secret).collect();
    let member = gate.member("a", json!({})).await;
    shown.extend([member.key, gate.token.clone(), "guess".to_owned(), "x".repeat(100)]);

    let unknown = seen(&enroll(&gate, "unknown", json!({ "name": "runner" })).await);
    assert_eq!(unknown.0, 401);
    for secret in &shown {
        for body in [json!({ "name": "runner" }), json!({ "name": "runner", "nonce": "0123456789abcdef" })] {
            for _ in 0..2 {
                assert_eq!(seen(&enroll(&gate, secret, body.clone()).await), unknown);
            }
        }
    }
    let nothing = gate.send(gate.request(Method::POST, "/v1/enroll").json(&json!({}))).await;
    assert_eq!(seen(&nothing), unknown);
    let log = gate.log();
    for code in ["enrollment_source", "enrollment_name", "enrollment_secret_ended", "enrollment_secret_unknown"] {
        assert!(log.contains(code), "the operator is told {code}");
    }
}
