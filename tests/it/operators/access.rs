//! Who may: every operation refuses who is nobody, and who has another role; and operators themselves.

use reqwest::Method;
use serde_json::{Value, json};

use super::{once, operator, send, text, wrong_field};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

const MADE: &str = "0000000000000000000000";

/// Every operation of the fleet and its administration, and the roles beside admin that may.
fn operations() -> Vec<(Method, String, &'static [&'static str])> {
    const READ: &[&str] = &["operator", "auditor"];
    const MANAGE: &[&str] = &["operator"];
    const ADMIN: &[&str] = &[];
    const ANY: &[&str] = &["operator", "auditor", "gateway"];
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let table = [
        (get.clone(), "/v1/pools".to_owned(), READ),
        (get.clone(), "/v1/workers".to_owned(), READ),
        (get.clone(), "/v1/workers/w".to_owned(), READ),
        (get.clone(), "/v1/workers/w/keys".to_owned(), READ),
        (get.clone(), format!("/v1/keys/{MADE}"), READ),
        (get.clone(), "/v1/keys?shared=true".to_owned(), READ),
        (get.clone(), "/v1/enrollment-secrets".to_owned(), READ),
        (get.clone(), format!("/v1/enrollment-secrets/{MADE}"), READ),
        (get.clone(), "/v1/signing-keys".to_owned(), READ),
        (get.clone(), "/v1/operators".to_owned(), READ),
        (get.clone(), format!("/v1/operators/{MADE}"), READ),
        (get.clone(), format!("/v1/operators/{MADE}/keys"), READ),
        (get.clone(), "/v1/fences".to_owned(), READ),
        (get.clone(), "/v1/events".to_owned(), READ),
        (get, "/v1/whoami".to_owned(), ANY),
        (post.clone(), "/v1/pools".to_owned(), MANAGE),
        (post.clone(), "/v1/workers".to_owned(), MANAGE),
        (patch.clone(), "/v1/workers/w".to_owned(), MANAGE),
        (delete.clone(), "/v1/workers/w".to_owned(), MANAGE),
        (post.clone(), "/v1/workers/w/isolate".to_owned(), MANAGE),
        (post.clone(), "/v1/workers/w/release".to_owned(), MANAGE),
        (post.clone(), "/v1/workers/w/approve".to_owned(), MANAGE),
        (post.clone(), "/v1/workers/w/reject".to_owned(), MANAGE),
        (post.clone(), "/v1/workers/w/keys".to_owned(), MANAGE),
        (post.clone(), "/v1/enrollment-secrets".to_owned(), MANAGE),
        (post.clone(), format!("/v1/enrollment-secrets/{MADE}/rotate"), MANAGE),
        (post.clone(), format!("/v1/enrollment-secrets/{MADE}/disable"), MANAGE),
        (post.clone(), "/v1/fences".to_owned(), MANAGE),
        (post.clone(), "/v1/signing-keys/rotate".to_owned(), ADMIN),
        (post.clone(), "/v1/operators".to_owned(), ADMIN),
        (patch, format!("/v1/operators/{MADE}"), ADMIN),
        (delete, format!("/v1/operators/{MADE}"), ADMIN),
        (post, format!("/v1/operators/{MADE}/keys"), ADMIN),
    ];
    table.into()
}

#[tokio::test]
async fn nobody_gets_in_without_a_credential_or_with_another_role() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let mut keys = Vec::new();
    for role in ["operator", "auditor", "gateway"] {
        keys.push((role, operator(&service, role).await));
    }
    for (method, path, may) in operations() {
        // A body that is wrong in every way: whoever may is told so, whoever may not does not get that far.
        let ask = || service.request(method.clone(), &path).json(&json!({ "surprise": true }));
        let answer = service.send(ask()).await;
        assert_eq!(answer.problem(401), "unauthorized", "{method} {path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        for (role, key) in &keys {
            let answer = service.send(ask().bearer_auth(key)).await;
            if may.contains(role) {
                assert!(![401, 403].contains(&answer.status.as_u16()), "{role} {method} {path}: {}", answer.text);
            } else {
                assert_eq!(answer.problem(403), "not_permitted", "{role} {method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_operator_is_created_changed_given_keys_and_removed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;

    let body = json!({ "name": "deployer", "role": "operator", "reason": "the pipeline" });
    let first = once(&service, "/v1/operators", "deployer", &body).await;
    let made = first.expect(201);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    assert_eq!(first.headers["location"], format!("/v1/operators/{id}").as_str());
    assert_eq!(made["keys"], json!([made["key_id"]]));

    let again = once(&service, "/v1/operators", "deployer", &body).await;
    assert_eq!(again.expect(201), made, "who lost the answer can ask again, and gets the key");
    assert_eq!(again.headers["location"], first.headers["location"]);
    let other = json!({ "name": "another", "role": "operator" });
    assert_eq!(once(&service, "/v1/operators", "deployer", &other).await.problem(422), "idempotency_key_reused");

    let me = service.get_as(key, "/v1/whoami").await.expect(200);
    assert_eq!(me["operator"]["name"], "deployer");

    let path = format!("/v1/operators/{id}");
    let changed = send(&service, Method::PATCH, &path, &json!({ "role": "auditor" })).await.expect(200);
    assert_eq!((&changed["role"], &changed["changed"]), (&json!("auditor"), &json!(true)));
    let unchanged = send(&service, Method::PATCH, &path, &json!({ "role": "auditor" })).await.expect(200);
    assert_eq!(unchanged["changed"], false);
    let refused = service.post_as(key, "/v1/workers", json!({})).await;
    assert_eq!(refused.problem(403), "not_permitted", "a role that was taken away is gone at once");

    let further = service.post(&format!("{path}/keys"), json!({})).await.expect(201);
    assert_eq!(service.get_as(text(&further, "key"), "/v1/whoami").await.expect(200)["operator"]["id"], id);
    let listed = service.get(&format!("{path}/keys")).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);

    // Any operator may rotate a key of their own; nobody else's.
    let own = format!("/v1/keys/{}/rotate", text(&made, "key_id"));
    let rotated = service.post_as(key, &own, json!({ "overlap": "0s" })).await.expect(201);
    assert_eq!(service.get_as(key, "/v1/whoami").await.problem(401), "unauthorized");
    let key = text(&rotated, "key");
    assert!(key.starts_with("ptc_op_"));
    let admins = service.get("/v1/whoami").await.expect(200)["operator"]["keys"][0].clone();
    let theirs = format!("/v1/keys/{}/rotate", admins.as_str().unwrap());
    assert_eq!(service.post_as(key, &theirs, json!({})).await.problem(403), "not_permitted");

    let removed = send(&service, Method::DELETE, &format!("{path}?reason=left"), &Value::Null).await.expect(200);
    assert_eq!((&removed["removed"], &removed["keys"], &removed["changed"]), (&json!(true), &json!([]), &json!(true)));
    assert_eq!(service.get_as(key, "/v1/whoami").await.problem(401), "unauthorized");
}

#[tokio::test]
async fn the_last_admin_cannot_be_locked_out() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let me = service.get("/v1/whoami").await.expect(200)["operator"].clone();
    let path = format!("/v1/operators/{}", text(&me, "id"));
    let demoted = send(&service, Method::PATCH, &path, &json!({ "role": "auditor" })).await;
    assert_eq!(demoted.problem(409), "last_admin");
    let removed = service.send(service.request(Method::DELETE, &path).bearer_auth(&service.token)).await;
    assert_eq!(removed.problem(409), "last_admin");
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let table = [
        ("/v1/operators", json!({ "name": "", "role": "admin" }), "name"),
        ("/v1/operators", json!({ "name": "a\u{7}", "role": "admin" }), "name"),
        ("/v1/operators", json!({ "name": "a", "role": "root" }), "role"),
        ("/v1/operators", json!({ "name": "a", "role": "admin", "expires_at": "soon" }), "expires_at"),
        ("/v1/operators", json!({ "name": "a", "role": "admin", "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
        ("/v1/operators", json!({ "name": "a", "role": "admin", "reason": "x".repeat(501) }), "reason"),
    ];
    for (path, body, field) in table {
        assert_eq!(wrong_field(&service.post(path, body.clone()).await), field, "{body}");
    }
    for (path, field) in [
        ("/v1/operators?limit=0", "limit"),
        ("/v1/operators?limit=1001", "limit"),
        ("/v1/operators?limit=ten", "limit"),
        ("/v1/operators?cursor=here", "cursor"),
        ("/v1/operators?color=red", "color"),
        ("/v1/whoami?color=red", "color"),
    ] {
        assert_eq!(wrong_field(&service.get(path).await), field, "{path}");
    }
    let surprise = service.post("/v1/operators", json!({ "name": "a", "role": "admin", "surprise": 1 })).await;
    assert_eq!(surprise.problem(400), "malformed");
    for path in ["/v1/operators/%FF", "/v1/operators/nobody", "/v1/workers/%20", "/v1/keys/x"] {
        assert_eq!(service.get(path).await.problem(404), "not_found", "{path}");
    }
    let method = service.send(service.request(Method::PUT, "/v1/operators").bearer_auth(&service.token)).await;
    assert_eq!(method.problem(405), "method_not_allowed");
    let allowed = method.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}
