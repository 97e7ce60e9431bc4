//! Workers: created, listed, changed, isolated, approved, removed.

use reqwest::Method;
use serde_json::{Value, json};

use super::{all, once, send, text, wrong_field};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

#[tokio::test]
async fn a_worker_lives_from_creation_to_removal() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;

    let body = json!({ "id": "web-1", "name": "web", "labels": { "site": "berlin" } });
    let made = service.post("/v1/workers", body.clone()).await;
    assert_eq!(made.headers["location"], "/v1/workers/web-1");
    let worker = made.expect(201);
    assert_eq!((text(&worker, "pool"), text(&worker, "state")), ("default", "active"));
    assert_eq!(service.post("/v1/workers", body).await.expect(200), worker, "the same again is the same");
    let other = service.post("/v1/workers", json!({ "id": "web-1", "name": "other" })).await;
    assert_eq!(other.problem(409), "worker_exists");

    let path = "/v1/workers/web-1";
    let change = json!({ "name": null, "labels": {}, "expires_at": "2999-01-01T00:00:00Z" });
    let changed = send(&service, Method::PATCH, path, &change).await.expect(200);
    assert_eq!((&changed["name"], &changed["labels"], &changed["changed"]), (&Value::Null, &json!({}), &json!(true)));
    assert_eq!(text(&changed, "expires_at"), "2999-01-01T00:00:00.000000Z");
    let kept = send(&service, Method::PATCH, path, &json!({ "name": "web" })).await.expect(200);
    assert_eq!(text(&kept, "expires_at"), "2999-01-01T00:00:00.000000Z", "what is left out stays");

    let isolated =
        service.post("/v1/workers/web-1/isolate", json!({ "for": "2h", "reason": "leak" })).await.expect(200);
    assert_eq!(text(&isolated, "state"), "isolated");
    assert!(isolated["isolated_until"].is_string());
    // An empty body will do.
    let request = service.request(Method::POST, "/v1/workers/web-1/release").bearer_auth(&service.token);
    assert_eq!(text(&service.send(request).await.expect(200), "state"), "active");
    let again = service.post("/v1/workers/web-1/release", json!({})).await.expect(200);
    assert_eq!(again["changed"], false);

    let removed = send(&service, Method::DELETE, path, &json!({})).await.expect(200);
    assert_eq!((text(&removed, "state"), &removed["changed"]), ("removed", &json!(true)));
    assert_eq!(service.post("/v1/workers/web-1/isolate", json!({})).await.problem(409), "worker_removed");
    assert_eq!(text(&service.get(path).await.expect(200), "state"), "removed");
    assert_eq!(service.post("/v1/workers/nobody/isolate", json!({})).await.problem(404), "worker_unknown");
}

#[tokio::test]
async fn a_pending_worker_is_approved_or_rejected() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for (id, action, state) in [("a", "approve", "active"), ("b", "reject", "rejected")] {
        let made = service.post("/v1/workers", json!({ "id": id, "pending": true })).await.expect(201);
        assert_eq!(text(&made, "state"), "pending");
        assert_eq!(service.post(&format!("/v1/workers/{id}/isolate"), json!({})).await.problem(409), "worker_pending");
        let done = service.post(&format!("/v1/workers/{id}/{action}"), json!({})).await.expect(200);
        assert_eq!(text(&done, "state"), state);
    }
    assert_eq!(service.post("/v1/workers/a/reject", json!({})).await.problem(409), "worker_active");
}

#[tokio::test]
async fn an_id_that_is_made_is_the_same_for_a_repeat() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let body = json!({ "name": "runner" });
    let first = once(&service, "/v1/workers", "one", &body).await;
    let again = once(&service, "/v1/workers", "one", &body).await;
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!(first.headers["location"], again.headers["location"]);
    let second = once(&service, "/v1/workers", "two", &body).await.expect(201);
    assert_ne!(first.json()["id"], second["id"], "two workers of one name are two workers");
    assert_eq!(second["name_shared_by"], 2, "and the collision is shown");
}

#[tokio::test]
async fn workers_are_listed_by_pool_state_label_and_name() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "blue" })).await.expect(201);
    let fleet = [
        json!({ "id": "a", "name": "web", "labels": { "site": "berlin", "tier": "1" } }),
        json!({ "id": "b", "name": "web", "labels": { "site": "bonn" }, "pool": "blue" }),
        json!({ "id": "c", "labels": { "site": "berlin" }, "pending": true }),
        json!({ "id": "d", "name": "gone", "pool": "blue" }),
    ];
    for worker in fleet {
        service.post("/v1/workers", worker).await.expect(201);
    }
    send(&service, Method::DELETE, "/v1/workers/d", &json!({})).await.expect(200);

    let table: [(&str, &[&str]); 12] = [
        ("", &["a", "b", "c", "d"]),
        ("pool=blue", &["b", "d"]),
        ("pool=none", &[]),
        ("state=pending", &["c"]),
        ("state=removed", &["d"]),
        ("label=site=berlin", &["a", "c"]),
        ("label=site=berlin&label=tier=1", &["a"]),
        ("label=site%3Dbonn", &["b"]),
        ("name=web", &["a", "b"]),
        ("name=web&pool=blue", &["b"]),
        ("name=gone", &[]),
        ("name=gone&state=removed", &["d"]),
    ];
    for (query, expected) in table {
        for limit in [1, 2, 100] {
            let found = all(&service, &format!("/v1/workers?limit={limit}&{query}")).await;
            let ids: Vec<&str> = found.iter().map(|worker| text(worker, "id")).collect();
            assert_eq!(ids, expected, "{query}, {limit} a page");
        }
    }
    for (query, field) in
        [("state=asleep", "state"), ("label=site", "label"), ("pool=a&pool=b", "pool"), ("pol=a", "pol")]
    {
        assert_eq!(wrong_field(&service.get(&format!("/v1/workers?{query}")).await), field, "{query}");
    }
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let table = [
        ("/v1/workers", json!({ "id": ".." }), "id"),
        ("/v1/workers", json!({ "pool": "a b" }), "pool"),
        ("/v1/workers", json!({ "name": "" }), "name"),
        ("/v1/workers", json!({ "labels": { "": "x" } }), "labels"),
        ("/v1/workers", json!({ "expires_at": "9999-12-31T23:59:59-12:00" }), "expires_at"),
        ("/v1/workers", json!({ "static_secret": "short" }), "static_secret"),
        ("/v1/workers", json!({ "static_secret": "a".repeat(64) }), "static_secret"),
        ("/v1/workers/w/isolate", json!({ "for": "2h", "until": "2999-01-01T00:00:00Z" }), "for"),
        ("/v1/workers/w/isolate", json!({ "until": "2020-01-01T00:00:00Z" }), "until"),
        ("/v1/workers/w/isolate", json!({ "for": "a while" }), "for"),
    ];
    for (path, body, field) in table {
        assert_eq!(wrong_field(&service.post(path, body.clone()).await), field, "{body}");
    }
    assert_eq!(service.post("/v1/workers", json!({ "pool": "none" })).await.problem(404), "pool_unknown");
}
