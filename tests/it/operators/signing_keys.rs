//! Signing keys: rotated without an outage.

use serde_json::{Value, json};

use super::{once, text, wrong_field};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

fn states(keys: &Value) -> Vec<(&str, &str)> {
    keys["items"].as_array().unwrap().iter().map(|key| (text(key, "state"), text(key, "algorithm"))).collect()
}

#[tokio::test]
async fn the_next_key_becomes_active_and_there_is_another_next_one() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let before = service.get("/v1/signing-keys").await.expect(200);
    assert_eq!(states(&before), [("active", "EdDSA"), ("next", "EdDSA")]);
    assert_eq!(before["active"], before["items"][0]["id"]);

    let body = json!({ "algorithm": "ES256", "reason": "a year is over" });
    let after = once(&service, "/v1/signing-keys/rotate", "year", &body).await.expect(200);
    assert_eq!(states(&after), [("retired", "EdDSA"), ("active", "EdDSA"), ("next", "ES256")]);
    assert_eq!((&after["active"], &after["changed"]), (&before["items"][1]["id"], &json!(true)));
    assert!(after["items"][0]["verifies_until"].is_string());
    assert_eq!(after["items"][2]["jwk"]["crv"], "P-256");
    let again = once(&service, "/v1/signing-keys/rotate", "year", &body).await.expect(200);
    assert_eq!(again, after, "a repeat rotates nothing");

    let published = service.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(published["keys"].as_array().unwrap().len(), 3);
    service.post("/v1/signing-keys/rotate", json!({ "overlap": "0s" })).await.expect(200);
    let table = [(json!({ "algorithm": "none" }), "algorithm"), (json!({ "overlap": "91d" }), "overlap")];
    for (body, field) in table {
        assert_eq!(wrong_field(&service.post("/v1/signing-keys/rotate", body).await), field);
    }
}
