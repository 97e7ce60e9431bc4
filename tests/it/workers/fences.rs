//! Fences on a running service: one event refuses whatever was issued so far, and what is issued next is good.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Gate, text};
use crate::support::service::Answer;

async fn raise(gate: &Gate, body: Value) -> Value {
    gate.post("/v1/fences", body).await.expect(200)
}

async fn once(gate: &Gate, credential: &str, path: &str, key: &str, body: Value) -> Answer {
    let request = gate.request(Method::POST, path).bearer_auth(credential);
    gate.send(request.header("Idempotency-Key", key).json(&body)).await
}

#[tokio::test]
async fn a_fence_refuses_keys_tokens_static_secrets_and_enrollment_at_once() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "blue", "token_record": "counted" })).await;
    let (_, secret) = gate.enrollment_secret(json!({ "pool": "blue" })).await;
    let enrolled = gate.post_as(&secret, "/v1/enroll", json!({})).await.expect(201);
    let (key, other) = (text(&enrolled["key"]), gate.member("b", json!({})).await);
    let (token, spared) = (gate.token(&key).await, gate.token(&other.key).await);
    let chosen = "Qm9vdHN0cmFwLXRoZS1mbGVldC13aXRoLXRoaXMtc2VjcmV0LTk";
    gate.post("/v1/workers", json!({ "id": "s", "pool": "blue", "static_secret": chosen })).await.expect(201);
    let by_secret = async || {
        let verdict = gate.post("/v1/validate", json!({ "credential": chosen, "worker": "s" })).await.expect(200);
        text(&verdict["reason"])
    };
    assert_eq!(by_secret().await, "ok");

    let plan = raise(&gate, json!({ "scope": "pool:blue", "dry_run": true })).await;
    let counted = json!({ "keys": 2, "workers": 2, "enrollment_secrets": 1 });
    assert_eq!(
        (&plan["would_refuse"], &plan["dry_run"], &plan["scope"]),
        (&counted, &json!(true), &json!("pool:blue"))
    );
    assert_eq!(gate.check(&key).await, 204, "a plan changes nothing");
    assert!(gate.events("fence.raised").await.is_empty());

    let answer = gate.post("/v1/fences", json!({ "scope": "pool:blue", "reason": "a laptop was lost" })).await;
    let fence = answer.expect(200);
    assert_eq!((&fence["changed"], fence["raised"].as_u64().unwrap()), (&json!(true), answer.position()));
    assert_eq!(fence["up_to"].as_u64().unwrap(), answer.position() - 1, "everything that was issued so far");
    for credential in [&key, &token] {
        assert_eq!((gate.check(credential).await, gate.reason(credential).await), (401, "fenced".to_owned()));
    }
    assert_eq!(by_secret().await, "fenced");
    assert_eq!(gate.post_as(&token, "/v1/renew", json!({})).await.problem(401), "unauthorized");
    assert_eq!(gate.post_as(&secret, "/v1/enroll", json!({})).await.problem(401), "unauthorized");
    for credential in [&other.key, &spared] {
        assert_eq!(gate.check(credential).await, 204, "of another pool");
    }

    let fresh = gate.key(enrolled["id"].as_str().unwrap()).await;
    // A token that is only counted carries the newest position, which is that of the fence or later.
    for credential in [&fresh.key, &gate.token(&fresh.key).await] {
        assert_eq!(gate.check(credential).await, 204, "what is issued afterwards is good");
    }
    let keys = gate.get(&format!("/v1/workers/{}/keys", text(&enrolled["id"]))).await.expect(200);
    let states: Vec<String> = keys["items"].as_array().unwrap().iter().map(|key| text(&key["state"])).collect();
    assert_eq!(states, ["fenced", "live"]);
    let fenced = gate.get("/v1/keys?state=fenced").await.expect(200);
    assert_eq!(fenced["items"].as_array().unwrap().len(), 2);
    let secrets = gate.get("/v1/enrollment-secrets").await.expect(200);
    assert_eq!(secrets["items"][0]["state"], "fenced");

    let events = gate.events("fence.raised").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["subject"], json!({ "kind": "pool", "id": "blue" }));
    assert_eq!(events[0]["data"], json!({ "scope": { "kind": "pool", "id": "blue" }, "up_to": fence["up_to"] }));
    assert_eq!(events[0]["reason"], "a laptop was lost");
}

#[tokio::test]
async fn fences_are_listed_and_a_lower_one_changes_nothing() {
    let gate = Gate::open().await;
    gate.member("a", json!({})).await;
    assert_eq!(gate.get("/v1/fences").await.expect(200), json!({ "items": [] }));
    let high = raise(&gate, json!({ "scope": "worker:a", "up_to": 5 })).await;
    let low = raise(&gate, json!({ "scope": "worker:a", "up_to": 4.0 })).await;
    assert_eq!((&low["changed"], &low["up_to"], &low["raised"]), (&json!(false), &high["up_to"], &high["raised"]));
    let plan = raise(&gate, json!({ "scope": "worker:a", "up_to": 4, "dry_run": true })).await;
    assert_eq!(plan["would_refuse"], json!({ "keys": 0, "workers": 0, "enrollment_secrets": 0 }));
    raise(&gate, json!({ "scope": "everything", "up_to": 1 })).await;

    let first = gate.get("/v1/fences?limit=1").await.expect(200);
    assert_eq!((&first["items"][0]["scope"], &first["next_cursor"]), (&json!("everything"), &json!("everything")));
    let rest = gate.get("/v1/fences?cursor=everything").await.expect(200);
    assert_eq!((&rest["items"][0]["scope"], &rest["next_cursor"]), (&json!("worker:a"), &Value::Null));

    for dry_run in [false, true] {
        let refused = async |scope: &str, up_to: Option<u64>| {
            let body = json!({ "scope": scope, "up_to": up_to, "dry_run": dry_run });
            let answer = gate.post("/v1/fences", body).await;
            (answer.status.as_u16(), text(&answer.json()["code"]))
        };
        assert_eq!(refused("pool:none", None).await, (404, "pool_unknown".to_owned()));
        assert_eq!(refused("worker:none", None).await, (404, "worker_unknown".to_owned()));
        let unknown = format!("enrollment_secret:{}", "0".repeat(22));
        assert_eq!(refused(&unknown, None).await, (404, "enrollment_secret_unknown".to_owned()));
        assert_eq!(refused("key:a", None).await, (400, "invalid".to_owned()));
        assert_eq!(refused("everything", Some(1 << 40)).await, (400, "invalid".to_owned()));
    }
}

/// A first answer that is given again must not hand out what a fence refuses by now, as if it were good.
#[tokio::test]
async fn a_lost_answer_is_not_given_again_once_a_fence_refuses_its_key() {
    let gate = Gate::open().await;
    let (id, secret) = gate.enrollment_secret(json!({ "pool": "default" })).await;
    let enroll = async || once(&gate, &secret, "/v1/enroll", "enrolled-once-0001", json!({})).await;
    let enrolled = enroll().await.expect(201);
    assert_eq!(enroll().await.expect(201), enrolled);
    let (worker, key) = (text(&enrolled["id"]), text(&enrolled["key"]));
    let rotate = async || once(&gate, &key, "/v1/worker/key/rotate", "rotated", json!({ "overlap": "0s" })).await;
    let rotated = rotate().await.expect(201);
    assert_eq!(rotate().await.expect(201), rotated);
    let keys = format!("/v1/workers/{worker}/keys");
    let create = async || once(&gate, &gate.token, &keys, "created", json!({})).await;
    let created = create().await.expect(201);
    assert_eq!(create().await.expect(201), created);
    let make = async || once(&gate, &gate.token, "/v1/enrollment-secrets", "made", json!({ "pool": "default" })).await;
    make().await.expect(201);

    raise(&gate, json!({ "scope": format!("enrollment_secret:{id}") })).await;
    assert_eq!(enroll().await.problem(401), "unauthorized");
    assert_eq!(rotate().await.problem(401), "unauthorized");
    assert_eq!(create().await.problem(409), "key_fenced");
    assert_eq!(gate.reason(&text(&rotated["key"])).await, "fenced");
    make().await.expect(201);
    raise(&gate, json!({ "scope": "everything" })).await;
    assert_eq!(make().await.problem(409), "enrollment_secret_fenced");
    assert_eq!(gate.get("/v1/whoami").await.status.as_u16(), 200, "who raised it goes on");
}
