//! Real clients in Python: PyJWT verifies tokens with the published keys, authlib is a generic OAuth client.

use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::program::python_client;
use crate::support::service::Service;

const VERIFY: &str = include_str!("clients/pyjwt_verify.py");
const OAUTH: &str = include_str!("clients/authlib_client.py");

const AUDIENCE: &str = "a-service";

/// What PyJWT thinks of these tokens, in a process of its own that knows nothing yet.
fn verify(service: &Service, tokens: &[&str]) -> Vec<Value> {
    verify_as(service, tokens, AUDIENCE, &service.url)
}

fn verify_as(service: &Service, tokens: &[&str], audience: &str, issuer: &str) -> Vec<Value> {
    let asked = json!({
        "ca": service.file("tls/ca.pem"),
        "jwks_uri": format!("{}/.well-known/jwks.json", service.url),
        "algorithms": ["EdDSA", "RS256", "ES256"],
        "audience": audience,
        "issuer": issuer,
        "tokens": tokens,
    });
    python_client(VERIFY, &asked).as_array().unwrap().clone()
}

/// A worker of a pool with an audience and scopes: its id and its key.
async fn worker(service: &Service) -> (String, String) {
    let pool = json!({ "name": "blue", "audience": AUDIENCE, "scopes": ["jobs:read", "jobs:write"] });
    service.post("/v1/pools", pool).await.expect(201);
    service.post("/v1/workers", json!({ "id": "w-1", "pool": "blue" })).await.expect(201);
    let key = service.post("/v1/workers/w-1/keys", json!({})).await.expect(201);
    ("w-1".to_owned(), key["key"].as_str().unwrap().to_owned())
}

async fn token(service: &Service, key: &str) -> String {
    let answer = service.post_as(key, "/v1/register", json!({})).await.expect(200);
    answer["token"].as_str().unwrap().to_owned()
}

async fn rotate(service: &Service, body: Value) {
    service.post("/v1/signing-keys/rotate", body).await.expect(200);
}

/// On a port that is known before: the issuer of a token is the URL that its verifier expects.
async fn start(scratch: &Scratch) -> Service {
    let port = crate::support::cluster::free_port();
    crate::support::service::Launch::on(scratch).port(port).start().await
}

#[tokio::test]
async fn pyjwt_accepts_tokens_of_each_algorithm_and_refuses_what_it_should() {
    let scratch = Scratch::new().await;
    let service = start(&scratch).await;
    let (worker, key) = worker(&service).await;
    // A new signing key is the next one first: the second rotation puts it to work.
    let first = token(&service, &key).await;
    rotate(&service, json!({ "algorithm": "RS256" })).await;
    rotate(&service, json!({ "algorithm": "ES256" })).await;
    let second = token(&service, &key).await;
    rotate(&service, json!({ "algorithm": "EdDSA" })).await;
    let third = token(&service, &key).await;

    // All three are good: the keys that signed the older ones are retired, and verify until their overlap is over.
    let verdicts = verify(&service, &[&first, &second, &third]);
    for (verdict, algorithm) in verdicts.iter().zip(["EdDSA", "RS256", "ES256"]) {
        assert_eq!(verdict["ok"], true, "{algorithm}: {verdict}");
        assert_eq!(verdict["header"]["alg"], algorithm);
        let claims = &verdict["claims"];
        assert_eq!((&claims["sub"], &claims["iss"]), (&json!(worker), &json!(service.url)), "{claims}");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 15 * 60, "{claims}");
    }

    let other_audience = verify_as(&service, &[&first], "another-service", &service.url);
    assert_eq!(other_audience[0]["error"], "InvalidAudienceError", "{other_audience:?}");
    let other_issuer = verify_as(&service, &[&first], AUDIENCE, "https://elsewhere.example.org");
    assert_eq!(other_issuer[0]["error"], "InvalidIssuerError", "{other_issuer:?}");
    let (signed, signature) = first.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let forged = verify(&service, &[&forged]);
    assert_eq!(forged[0]["ok"], false, "{forged:?}");
}

#[tokio::test]
async fn pyjwt_refuses_what_a_retired_key_signed_once_its_overlap_is_over() {
    let scratch = Scratch::new().await;
    let service = start(&scratch).await;
    let (_, key) = worker(&service).await;
    let old = token(&service, &key).await;
    assert_eq!(verify(&service, &[&old])[0]["ok"], true);
    rotate(&service, json!({ "overlap": "0s" })).await;
    let new = token(&service, &key).await;

    let verdicts = verify(&service, &[&old, &new]);
    assert_eq!(verdicts[0]["ok"], false, "{verdicts:?}");
    assert_eq!(verdicts[0]["error"], "PyJWKClientError", "its key is not published any more: {verdicts:?}");
    assert_eq!(verdicts[1]["ok"], true, "{verdicts:?}");
    let verdict = service.post("/v1/validate", json!({ "credential": old })).await.expect(200);
    assert_eq!(verdict["active"], false, "and we say the same: {verdict}");
}

#[tokio::test]
async fn a_generic_oauth_client_gets_a_token_has_it_looked_at_and_revokes_it() {
    let scratch = Scratch::new().await;
    let service = start(&scratch).await;
    let (worker, key) = worker(&service).await;
    let asked = json!({
        "ca": service.file("tls/ca.pem"),
        "metadata": format!("{}/.well-known/oauth-authorization-server", service.url),
        "id": worker,
        "secret": key,
        "scope": "jobs:read",
    });
    let found = python_client(OAUTH, &asked);
    for answer in found["answers"].as_array().unwrap() {
        assert_eq!(answer["granted"]["token_type"], "Bearer", "{answer}");
        assert_eq!(answer["granted"]["scope"], "jobs:read", "{answer}");
        let before = &answer["before"];
        assert_eq!((&before["active"], &before["client_id"]), (&json!(true), &json!(worker)), "{answer}");
        assert_eq!(answer["revoked"], 200, "{answer}");
        assert_eq!(answer["after"], json!({ "active": false }), "and nothing is told of it");
    }
    assert_eq!(found["answers"].as_array().unwrap().len(), 2);
    assert_eq!(found["wrong"], "invalid_client", "{found}");
}
