//! What gateways ask: verdicts, many at a time, and forward authentication.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Gate, text};

async fn gateway(gate: &Gate) -> String {
    text(&gate.post("/v1/operators", json!({ "name": "edge", "role": "gateway" })).await.expect(201)["key"])
}

#[tokio::test]
async fn a_verdict_says_who_and_why_not() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "blue", "scopes": ["read"] })).await;
    let member = gate.member("a", json!({ "pool": "blue", "name": "runner" })).await;
    let token = gate.token(&member.key).await;
    let edge = gateway(&gate).await;
    let ask = async |body: Value| gate.post_as(&edge, "/v1/validate", body).await;

    let answer = ask(json!({ "credential": member.key })).await;
    let verdict = answer.expect(200);
    let expected = json!({
        "active": true, "reason": "ok", "kind": "api_key", "worker": "a", "pool": "blue", "name": "runner",
        "key": member.key_id, "expires_at": null, "position": answer.position(),
    });
    assert_eq!(verdict, expected);
    let verdict = ask(json!({ "credential": token, "pool": "blue", "source": "192.0.2.7" })).await.expect(200);
    assert_eq!((&verdict["kind"], &verdict["scope"]), (&json!("token"), &json!("read")));
    assert!(verdict["expires_at"].is_string());
    let elsewhere = ask(json!({ "credential": token, "pool": "default" })).await.expect(200);
    assert_eq!((&elsewhere["active"], &elsewhere["reason"]), (&json!(false), &json!("wrong_pool")));
    let of_another = ask(json!({ "credential": token, "worker": "b" })).await.expect(200);
    assert_eq!(of_another["reason"], "worker_mismatch");
    let unknown = ask(json!({ "credential": "guess" })).await;
    assert_eq!(unknown.expect(200), json!({ "active": false, "reason": "malformed", "position": unknown.position() }));
    assert_eq!(ask(json!({ "credential": edge })).await.expect(200)["reason"], "wrong_kind");

    let bad = [
        json!({}),
        json!({ "credential": "a", "credentials": [] }),
        json!({ "credentials": [], "worker": "a" }),
        json!({ "credential": "a", "surprise": 1 }),
        json!({ "credential": "a", "source": "here" }),
        json!({ "credentials": [{ "credential": "a", "pool": "blue" }] }),
        json!({ "credentials": vec![json!({ "credential": "a" }); 1_001] }),
        json!({ "credential": 7 }),
    ];
    for body in bad {
        assert_eq!(ask(body).await.status, 400);
    }
    let auditor = gate.post("/v1/operators", json!({ "name": "eve", "role": "auditor" })).await.expect(201);
    let auditor = gate.post_as(auditor["key"].as_str().unwrap(), "/v1/validate", json!({ "credential": token })).await;
    assert_eq!(auditor.problem(403), "not_permitted");
    let worker = gate.post_as(&member.key, "/v1/validate", json!({ "credential": token })).await;
    assert_eq!(worker.problem(401), "unauthorized");
}

#[tokio::test]
async fn a_thousand_verdicts_come_in_order_and_as_of_one_position() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let token = gate.token(&member.key).await;
    let items: Vec<Value> = (0..1_000)
        .map(|index| match index % 3 {
            0 => json!({ "credential": member.key }),
            1 => json!({ "credential": token, "worker": "a" }),
            _ => json!({ "credential": format!("guess-{index}") }),
        })
        .collect();
    let answer = gate.post("/v1/validate", json!({ "credentials": items, "pool": "default" })).await;
    let body = answer.expect(200);
    let verdicts = body["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 1_000);
    for (index, verdict) in verdicts.iter().enumerate() {
        assert_eq!(verdict["active"], index % 3 != 2, "{index}: {verdict}");
        assert_eq!(verdict["position"], body["position"]);
    }
    assert_eq!(body["position"], answer.position());
}

#[tokio::test]
async fn forward_authentication_lets_pass_turns_away_and_says_who() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "blue", "scopes": ["read", "write"] })).await;
    let member = gate.member("a", json!({ "pool": "blue" })).await;
    let narrow = gate.post_as(&member.key, "/v1/register", json!({ "scope": "read" })).await.expect(200);
    let narrow = text(&narrow["token"]);

    let passed = gate.get_as(&narrow, "/v1/check?pool=blue&scope=read").await;
    assert_eq!((passed.status.as_u16(), passed.text.as_str()), (204, ""));
    for (name, value) in [
        ("portcullis-worker", "a"),
        ("portcullis-pool", "blue"),
        ("portcullis-key", member.key_id.as_str()),
        ("x-auth-request-user", "a"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(passed.headers[name], value, "{name}");
    }
    assert!(passed.headers.contains_key("portcullis-expires"));
    let forever = gate.get_as(&member.key, "/v1/check").await;
    assert!(!forever.headers.contains_key("portcullis-expires"), "a key that does not end by itself");

    let table = [
        (&narrow, "?scope=write", 403),
        (&narrow, "?scope=read+write", 403),
        (&narrow, "?pool=default", 403),
        (&member.key, "?scope=read+write", 204),
        (&member.key, "?scope=root", 403),
        (&gate.token, "", 401),
        (&member.key, "?surprise=1", 400),
    ];
    for (credential, query, status) in table {
        let answer = gate.get_as(credential, &format!("/v1/check{query}")).await;
        assert_eq!(answer.status.as_u16(), status, "{query}");
        assert!(status == 400 || answer.text.is_empty(), "{}", answer.text);
    }
    // Envoy asks with the method, under the path and with the query of the request.
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for path in ["/v1/check", "/v1/check/index.html?scope=root&x=1"] {
            let answer = gate.send(gate.request(method.clone(), path).bearer_auth(&member.key)).await;
            assert_eq!(answer.status.as_u16(), 204, "{method} {path}");
            assert_eq!(gate.send(gate.request(method.clone(), path)).await.status.as_u16(), 401, "{method} {path}");
        }
    }
    let basic = gate.request(Method::GET, "/v1/check").basic_auth("a", Some(&member.key));
    assert_eq!(gate.send(basic).await.status.as_u16(), 204);
    let key_header = gate.request(Method::GET, "/v1/check").header("x-api-key", &member.key);
    assert_eq!(gate.send(key_header).await.status.as_u16(), 204);
}
