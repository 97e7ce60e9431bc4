//! The standards' endpoints, in the shapes that RFC 6749, 7009, 7662 and 8414 ask for.

use reqwest::Method;
use serde_json::json;

use super::{Gate, text, with_form};
use crate::support::service::Answer;

/// Posts a form as a client that shows itself by Basic.
async fn form(gate: &Gate, path: &str, client: Option<(&str, &str)>, fields: &[(&str, &str)]) -> Answer {
    let request = gate.request(Method::POST, path);
    let request = match client {
        Some((id, secret)) => request.basic_auth(id, Some(secret)),
        None => request,
    };
    gate.send(with_form(request, fields)).await
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

/// Client authentication, form, status and error.
type Case<'a> = (Option<(&'a str, &'a str)>, &'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn a_client_gets_a_token_and_errors_have_their_names() {
    let gate = Gate::open().await;
    gate.pool(json!({ "name": "blue", "scopes": ["read", "write"] })).await;
    let member = gate.member("a", json!({ "pool": "blue" })).await;
    let basic = Some(("a", member.key.as_str()));

    let answer = form(&gate, "/oauth2/token", basic, &[GRANT, ("scope", "read")]).await;
    let body = answer.expect(200);
    assert_eq!((&body["token_type"], &body["scope"]), (&json!("Bearer"), &json!("read")));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(gate.check(body["access_token"].as_str().unwrap()).await, 204);
    let in_body = [GRANT, ("client_id", "a"), ("client_secret", &member.key), ("scope", ""), ("unknown", "ignored")];
    assert_eq!(form(&gate, "/oauth2/token", None, &in_body).await.expect(200)["scope"], "read write");
    form(&gate, "/oauth2/token", basic, &[GRANT, ("client_id", "a")]).await.expect(200);

    let token = text(&body["access_token"]);
    let table: [Case<'_>; 10] = [
        (None, &[GRANT], 401, "invalid_client"),
        (Some(("a", "guess")), &[GRANT], 401, "invalid_client"),
        (Some(("a", &token)), &[GRANT], 401, "invalid_client"),
        (basic, &[], 400, "invalid_request"),
        (basic, &[("grant_type", "password")], 400, "unsupported_grant_type"),
        (basic, &[GRANT, GRANT], 400, "invalid_request"),
        (basic, &[GRANT, ("scope", "root")], 400, "invalid_scope"),
        (basic, &[GRANT, ("client_secret", "x")], 400, "invalid_request"),
        (basic, &[GRANT, ("client_id", "b")], 400, "invalid_request"),
        (None, &[GRANT, ("client_secret", "x")], 400, "invalid_request"),
    ];
    for (client, fields, status, error) in table {
        let answer = form(&gate, "/oauth2/token", client, fields).await;
        assert_eq!(answer.expect(status)["error"], error, "{fields:?}");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    let as_json = gate.request(Method::POST, "/oauth2/token").basic_auth("a", Some(&member.key)).json(&json!({}));
    assert_eq!(gate.send(as_json).await.expect(400)["error"], "invalid_request");
}

#[tokio::test]
async fn a_token_is_introspected_by_gateways_and_by_its_own_worker() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({ "name": "runner" })).await;
    let other = gate.member("b", json!({})).await;
    let token = gate.token(&member.key).await;
    let admin = gate.get("/v1/whoami").await.expect(200)["operator"]["id"].clone();
    let admin = text(&admin);
    let ask = async |client: Option<(&str, &str)>, token: &str| {
        form(&gate, "/oauth2/introspect", client, &[("token", token)]).await
    };

    let body = ask(Some((&admin, &gate.token)), &token).await.expect(200);
    assert_eq!(body["active"], true);
    for (name, value) in [("client_id", "a"), ("sub", "a"), ("username", "runner"), ("token_type", "Bearer")] {
        assert_eq!(body[name], value);
    }
    assert_eq!((&body["iss"], &body["pool"]), (&json!(gate.issuer().await), &json!("default")));
    assert!(body["exp"].as_i64().unwrap() > body["iat"].as_i64().unwrap());
    let bearer = gate.request(Method::POST, "/oauth2/introspect").bearer_auth(&gate.token);
    assert_eq!(gate.send(with_form(bearer, &[("token", &token)])).await.expect(200), body);
    assert_eq!(ask(Some(("a", &member.key)), &token).await.expect(200), body, "its own");

    let inactive = json!({ "active": false });
    assert_eq!(ask(Some(("b", &other.key)), &token).await.expect(200), inactive, "another's");
    assert_eq!(ask(Some((&admin, &gate.token)), "guess").await.expect(200), inactive);
    assert_eq!(ask(Some((&admin, &gate.token)), &gate.token).await.expect(200), inactive, "an operator's");
    let key = ask(Some((&admin, &gate.token)), &member.key).await.expect(200);
    assert_eq!((&key["active"], &key["client_id"]), (&json!(true), &json!("a")));
    assert_eq!(ask(None, &token).await.expect(401)["error"], "invalid_client");
    assert_eq!(ask(Some(("someone", &gate.token)), &token).await.expect(401)["error"], "invalid_client");
    let nothing = form(&gate, "/oauth2/introspect", Some((&admin, &gate.token)), &[]).await;
    assert_eq!(nothing.expect(400)["error"], "invalid_request");
    let auditor = gate.post("/v1/operators", json!({ "name": "eve", "role": "auditor" })).await.expect(201);
    let (id, key) = (text(&auditor["id"]), text(&auditor["key"]));
    assert_eq!(ask(Some((&id, &key)), &token).await.expect(403)["error"], "unauthorized_client");
    gate.post("/v1/workers/a/isolate", json!({})).await.expect(200);
    assert_eq!(ask(Some((&admin, &gate.token)), &token).await.expect(200), inactive);
}

#[tokio::test]
async fn tokens_and_keys_are_revoked_by_their_worker_and_by_operators() {
    let gate = Gate::open().await;
    let member = gate.member("a", json!({})).await;
    let other = gate.member("b", json!({})).await;
    let second = gate.key("a").await;
    let token = gate.token(&member.key).await;
    let renewed = text(&gate.post_as(&token, "/v1/renew", json!({})).await.expect(200)["token"]);
    let sibling = gate.token(&member.key).await;
    let revoke = async |client: Option<(&str, &str)>, token: &str| {
        form(&gate, "/oauth2/revoke", client, &[("token", token), ("token_type_hint", "access_token")]).await
    };

    assert_eq!(revoke(Some(("b", &other.key)), &token).await.expect(403)["error"], "unauthorized_client");
    assert_eq!(revoke(None, &token).await.expect(401)["error"], "invalid_client");
    assert_eq!(gate.check(&token).await, 204);
    revoke(Some(("a", &second.key)), &token).await.expect(200);
    for ended in [&token, &renewed] {
        assert_eq!(gate.reason(ended).await, "token_revoked", "with what was renewed from it");
    }
    assert_eq!(gate.check(&sibling).await, 204, "and nothing else");
    revoke(Some(("a", &second.key)), &token).await.expect(200);
    revoke(Some(("a", &second.key)), "unknown").await.expect(200);
    revoke(Some(("a", &second.key)), "a.b.c").await.expect(200);

    revoke(Some(("a", &second.key)), &member.key).await.expect(200);
    assert_eq!(gate.reason(&sibling).await, "key_revoked");
    let by_admin = gate.request(Method::POST, "/oauth2/revoke").bearer_auth(&gate.token);
    gate.send(with_form(by_admin, &[("token", &other.key)])).await.expect(200);
    assert_eq!(gate.reason(&other.key).await, "key_revoked");
    let edge = gate.post("/v1/operators", json!({ "name": "edge", "role": "gateway" })).await.expect(201);
    let by_edge = gate.request(Method::POST, "/oauth2/revoke").bearer_auth(edge["key"].as_str().unwrap());
    let by_edge = gate.send(with_form(by_edge, &[("token", &second.key)])).await;
    assert_eq!(by_edge.expect(403)["error"], "unauthorized_client");
    let revoked = gate.events("token.revoked").await;
    assert_eq!(revoked.len(), 1, "once, however often it is asked");
}

#[tokio::test]
async fn clients_find_the_rest_by_the_documents() {
    let gate = Gate::open().await;
    let get = async |path: &str| gate.send(gate.request(Method::GET, path)).await;
    let answer = get("/.well-known/oauth-authorization-server").await;
    let metadata = answer.expect(200);
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    let issuer = text(&metadata["issuer"]);
    for (name, path) in [
        ("token_endpoint", "/oauth2/token"),
        ("introspection_endpoint", "/oauth2/introspect"),
        ("revocation_endpoint", "/oauth2/revoke"),
        ("jwks_uri", "/.well-known/jwks.json"),
    ] {
        assert_eq!(metadata[name], format!("{issuer}{path}"));
    }
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials"]));
    assert_eq!(get("/.well-known/openid-configuration").await.expect(200), metadata);
    let jwks = get("/.well-known/jwks.json").await;
    assert_eq!(jwks.headers["cache-control"], "public, max-age=300");
    let keys = jwks.expect(200)["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2, "the active one and the next");
    for key in keys {
        assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("OKP"), &json!("EdDSA"), &json!("sig")));
        assert!(key.get("d").is_none());
    }
}

impl Gate {
    async fn issuer(&self) -> String {
        let metadata = self.send(self.request(Method::GET, "/.well-known/openid-configuration")).await;
        text(&metadata.expect(200)["issuer"])
    }
}
