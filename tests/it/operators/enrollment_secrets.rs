//! Enrollment secrets: created, rotated, disabled.

use serde_json::json;

use super::{once, text, wrong_field};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

const CHOSEN: &str = "mB5vN1cX8zL2kJ7hG4fD9sA6pO3iU0yT";

#[tokio::test]
async fn an_enrollment_secret_is_shown_once_rotated_and_disabled() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let limits = json!({
        "pool": "default", "cidrs": ["127.1.2.3/8"], "name_pattern": "runner-[0-9]+", "uses_max": 2, "approval": false,
    });
    let first = once(&service, "/v1/enrollment-secrets", "s", &limits).await;
    let made = first.expect(201);
    let (id, secret) = (text(&made, "id"), text(&made, "secret"));
    assert_eq!(first.headers["location"], format!("/v1/enrollment-secrets/{id}").as_str());
    assert_eq!(made["cidrs"], json!(["127.0.0.0/8"]));
    assert_eq!(once(&service, "/v1/enrollment-secrets", "s", &limits).await.expect(201), made);

    let enroll = |secret: String, name: &'static str| {
        let service = &service;
        async move { service.post_as(&secret, "/v1/enroll", json!({ "name": name })).await }
    };
    enroll(secret.to_owned(), "runner-1").await.expect(201);
    let read = service.get(&format!("/v1/enrollment-secrets/{id}")).await;
    assert!(!read.text.contains(secret));
    assert_eq!(read.expect(200)["uses"], 1);

    let rotate = format!("/v1/enrollment-secrets/{id}/rotate");
    let rotated = service.post(&rotate, json!({ "overlap": "0s" })).await.expect(201);
    assert_eq!((text(&rotated, "parent"), &rotated["name_pattern"]), (id, &made["name_pattern"]));
    assert_eq!(enroll(secret.to_owned(), "runner-2").await.problem(401), "unauthorized");
    enroll(text(&rotated, "secret").to_owned(), "runner-2").await.expect(201);
    assert_eq!(service.post(&rotate, json!({})).await.problem(409), "enrollment_secret_ended");

    let disable = format!("/v1/enrollment-secrets/{}/disable", text(&rotated, "id"));
    let disabled = service.post(&disable, json!({ "reason": "done" })).await.expect(200);
    assert_eq!((text(&disabled, "state"), &disabled["changed"]), ("disabled", &json!(true)));
    assert_eq!(service.post(&disable, json!({})).await.expect(200)["changed"], false);
    assert_eq!(enroll(text(&rotated, "secret").to_owned(), "runner-3").await.problem(401), "unauthorized");
    let listed = service.get("/v1/enrollment-secrets").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_chosen_secret_is_not_shown_and_not_used_twice() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let body = json!({ "pool": "default", "secret": CHOSEN });
    let made = service.post("/v1/enrollment-secrets", body.clone()).await;
    assert!(!made.text.contains(CHOSEN));
    assert_eq!(made.expect(201).get("secret"), None);
    service.post_as(CHOSEN, "/v1/enroll", json!({ "name": "runner" })).await.expect(201);
    assert_eq!(service.post("/v1/enrollment-secrets", body).await.problem(409), "enrollment_secret_in_use");
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let table = [
        (json!({ "pool": "a b" }), "pool"),
        (json!({ "pool": "default", "secret": "short" }), "secret"),
        (json!({ "pool": "default", "cidrs": ["10.0.0.0"] }), "cidrs"),
        (json!({ "pool": "default", "name_pattern": "a)|(b" }), "name_pattern"),
        (json!({ "pool": "default", "uses_max": 0 }), "uses_max"),
        (json!({ "pool": "default", "uses_max": 1_u64 << 60 }), "uses_max"),
        (json!({ "pool": "default", "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
    ];
    for (body, field) in table {
        assert_eq!(wrong_field(&service.post("/v1/enrollment-secrets", body.clone()).await), field, "{body}");
    }
    assert_eq!(service.post("/v1/enrollment-secrets", json!({})).await.problem(400), "malformed");
    assert_eq!(service.post("/v1/enrollment-secrets", json!({ "pool": "none" })).await.problem(404), "pool_unknown");
}
