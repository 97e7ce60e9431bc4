//! The kinds of plans that end enrollment, fence, and let workers fetch their new keys by themselves.

use serde_json::{Value, json};

use super::{apply, fleet, made, reason, recorded};
use crate::clock::WallClock;
use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

async fn enrollment_secret(service: &Service, pool: &str) -> String {
    let made = service.post("/v1/enrollment-secrets", json!({ "pool": pool })).await.expect(201);
    made["secret"].as_str().unwrap().to_owned()
}

/// Whether somebody gets in by it; with what key.
async fn enrolled(service: &Service, secret: &str) -> Option<String> {
    let answer = service.post_as(secret, "/v1/enroll", json!({})).await;
    if answer.status == 401 {
        return None;
    }
    Some(answer.expect(201)["key"].as_str().unwrap().to_owned())
}

async fn counted(scratch: &Scratch, kind: &str) -> i64 {
    let count = "select count(*) from log.event where kind = $1";
    scratch.superuser().await.query_one(count, &[&kind]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_ends_enrollment_in_its_scope_and_nothing_that_was_made_by_it() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "blue" })).await.expect(201);
    let blue = [enrollment_secret(&service, "blue").await, enrollment_secret(&service, "blue").await];
    let other = enrollment_secret(&service, "default").await;
    let key = enrolled(&service, &blue[0]).await.unwrap();

    let plan = made(&service, json!({ "kind": "disable_enrollment", "select": ["pool:blue"] })).await;
    let counts = json!({ "workers": 0, "keys": 0, "enrollment_secrets": 2, "signing_keys": 0, "tls_certificates": 0 });
    assert_eq!((&plan["counts"], &plan["left_without_key"]), (&counts, &json!(0)));
    assert!(enrolled(&service, &blue[1]).await.is_some(), "a plan changes nothing");
    apply(&service, &plan, "?wait=everywhere").await;
    for secret in &blue {
        assert_eq!(enrolled(&service, secret).await, None);
    }
    assert!(enrolled(&service, &other).await.is_some(), "of another pool");
    assert_eq!(reason(&service, &key).await, "ok", "who is in stays in");
    assert_eq!(recorded(&service, &plan).await["progress"]["recorded"], json!(2));
    assert_eq!(counted(&scratch, "enrollment_secret.disabled").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_fences_all_that_was_issued_so_far_and_records_no_key() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "blue" })).await.expect(201);
    let (default, blue) = (fleet(&service, 2, "default").await, fleet(&service, 2, "blue").await);
    let secret = enrollment_secret(&service, "blue").await;
    let token = service.post_as(&blue[0], "/v1/register", json!({})).await.expect(200)["token"].clone();
    let token = token.as_str().unwrap();

    let plan = made(&service, json!({ "kind": "fence", "select": ["pool:blue"] })).await;
    assert_eq!((&plan["counts"]["keys"], &plan["counts"]["enrollment_secrets"]), (&json!(2), &json!(1)));
    assert_eq!(reason(&service, &blue[0]).await, "ok", "a plan changes nothing");
    let applied = apply(&service, &plan, "?wait=everywhere").await;
    assert_eq!(applied["state"], "recorded", "a fence is its own record");
    for credential in blue.iter().map(String::as_str).chain([token]) {
        assert_eq!(reason(&service, credential).await, "fenced");
    }
    assert_eq!(enrolled(&service, &secret).await, None);
    for credential in &default {
        assert_eq!(reason(&service, credential).await, "ok", "of another pool");
    }
    // What is issued after it is none of its concern.
    let key = service.post("/v1/workers/blue-0/keys", json!({})).await.expect(201);
    assert_eq!(reason(&service, key["key"].as_str().unwrap()).await, "ok");
    assert!(enrolled(&service, &enrollment_secret(&service, "blue").await).await.is_some());
    let plan = made(&service, json!({ "kind": "fence", "select": ["worker:default-0"] })).await;
    apply(&service, &plan, "").await;
    let mut found = [reason(&service, &default[0]).await, reason(&service, &default[1]).await];
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, [json!("fenced"), json!("ok")], "of one worker alone");
    assert_eq!((counted(&scratch, "fence.raised").await, counted(&scratch, "key.revoked").await), (2, 0));
}

/// Without anybody between: the worker asks with its old key, which the plan ends, whether it was asked or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_fetches_its_successor_with_its_old_key_which_ends_when_the_plan_says() {
    let (scratch, clock) = (Scratch::new().await, WallClock::new());
    let service = clock.of(Launch::on(&scratch).flag("--disable-tls")).start().await;
    let keys = fleet(&service, 2, "default").await;
    let wish = json!({ "kind": "rotate_all", "select": ["everything"], "delivery": "fetch", "overlap": "5m" });
    let plan = made(&service, wish).await;
    assert_eq!(plan["counts"]["keys"], json!(2));
    apply(&service, &plan, "?wait=everywhere").await;
    let me = async |key: &str| service.get_as(key, "/v1/worker").await.expect(200)["credential"]["rotate_by"].clone();
    let rotate_by = me(&keys[0]).await;
    assert!(rotate_by.is_string());

    let rotated = service.post_as(&keys[0], "/v1/worker/key/rotate", json!({ "overlap": "24h" })).await.expect(201);
    let new = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["overlap_until"], rotate_by, "no longer than the plan has said, whatever is asked for");
    assert_eq!((reason(&service, new).await, me(new).await), (json!("ok"), Value::Null));
    for key in &keys {
        assert_eq!(reason(&service, key).await, "ok", "while it overlaps");
    }
    let done = recorded(&service, &plan).await;
    assert_eq!(done["progress"]["total"], json!(2));
    clock.set("+4m");
    assert_eq!(reason(&service, &keys[1]).await, "ok");
    clock.set("+6m");
    for key in &keys {
        assert_eq!(reason(&service, key).await, "key_expired");
    }
    let late = service.post_as(&keys[1], "/v1/worker/key/rotate", json!({})).await;
    assert_eq!(late.status, 401, "it had its time: {}", late.text);
    assert_eq!(reason(&service, new).await, "ok");
}
