//! Dry runs by workers: refused like the real thing, and noticed like it, whatever they leave undone.

use reqwest::Method;
use serde_json::json;

use super::{Gate, with_form};
use crate::support::service::Launch;

#[tokio::test]
async fn a_workers_dry_run_is_refused_and_noticed_like_the_real_thing() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "counted", "token_record": "counted" })).await;
    let member = gate.member("a", json!({ "pool": "counted" })).await;
    let (other, ended) = (gate.member("b", json!({})).await, gate.member("c", json!({})).await);
    let token = gate.token(&other.key).await;
    let (secret, secret_text) = gate.enrollment_secret(json!({ "pool": "default" })).await;
    gate.post(&format!("/v1/keys/{}/revoke", ended.key_id), json!({})).await.expect(200);
    gate.post(&format!("/v1/enrollment-secrets/{secret}/disable"), json!({})).await.expect(200);

    for path in ["/v1/register", "/v1/renew", "/v1/worker/key/rotate"] {
        let refused = gate.post_as(&ended.key, &format!("{path}?dry_run=true"), json!({})).await;
        assert_eq!(refused.status.as_u16(), 401, "{path}");
    }
    assert_eq!(gate.post_as(&secret_text, "/v1/enroll?dry_run=true", json!({})).await.status.as_u16(), 401);
    let auditor = gate.post("/v1/operators", json!({ "name": "eyes", "role": "auditor" })).await.expect(201);
    let revoke = |credential: &str| {
        let request = gate.request(Method::POST, "/oauth2/revoke?dry_run=true").bearer_auth(credential);
        gate.send(with_form(request, &[("token", &token)]))
    };
    assert_eq!(revoke(&member.key).await.status.as_u16(), 403, "another worker's");
    assert_eq!(revoke(auditor["key"].as_str().unwrap()).await.status.as_u16(), 403);
    assert_eq!(revoke(&other.key).await.expect(200)["would"][0]["kind"], "token.revoked");
    assert_eq!(gate.check(&token).await, 204, "it was not done");

    gate.until("the use of the revoked key is known", async || !gate.events("tripwire.tripped").await.is_empty()).await;
    let tripped = gate.events("tripwire.tripped").await;
    assert_eq!(tripped[0]["data"]["key"], json!(ended.key_id));
}

#[tokio::test]
async fn a_workers_dry_run_is_a_use_of_its_key_and_no_token() {
    let mut gate = Gate::open().await;
    gate.pool(json!({ "name": "counted", "token_record": "counted" })).await;
    let member = gate.member("a", json!({ "pool": "counted" })).await;
    let foreseen = gate.post_as(&member.key, "/v1/register?dry_run=true", json!({ "ttl": "1m" })).await.expect(200);
    assert_eq!((&foreseen["count"], &foreseen["changed"]), (&json!(1), &json!(false)));
    let too_long = gate.post_as(&member.key, "/v1/register?dry_run=true", json!({ "ttl": "31d" })).await;
    assert_eq!(too_long.status, gate.post_as(&member.key, "/v1/register", json!({ "ttl": "31d" })).await.status);
    assert!(too_long.status.is_client_error());

    // What is noted and counted is in the database at the latest when the service has stopped.
    assert!(gate.service.stop());
    let launch = Launch::on(&gate.scratch).data_dir_of(&gate.service);
    gate.service = launch.start().await;
    let shown = gate.get(&format!("/v1/keys/{}", member.key_id)).await.expect(200);
    assert!(shown.get("last_used_at").is_some(), "{shown}");
    assert!(gate.events("tokens.issued").await.is_empty());
}
