//! Tokens: got, looked at, revoked; and what each end says to a script.

use serde_json::json;

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_looked_at_and_revoked_with_what_came_of_it() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id w1 --name one").await.ok();
    shell.run("key create w1 --key-file w1.key").await.ok();
    shell.run("token register --api-key-file w1.key --ttl 5m --out first").await.ok();
    shell.run("token renew --access-token-file first --out renewed").await.ok();
    shell.run("token register --api-key-file w1.key --out other").await.ok();

    let found = shell.json("token introspect --access-token-file first").await;
    assert_eq!(
        (&found["active"], &found["client_id"], &found["username"]),
        (&json!(true), &json!("w1"), &json!("one"))
    );
    let table = shell.run("token introspect --access-token-file first").await.ok().stdout;
    assert!(table.contains("active") && table.contains("yes"), "{table}");

    // As the worker itself; and as the operator.
    shell.run("token revoke --access-token-file first --worker w1 --api-key-file w1.key").await.ok();
    for (token, good) in [("first", false), ("renewed", false), ("other", true)] {
        let found = shell.json(&format!("token introspect --access-token-file {token}")).await;
        assert_eq!(found["active"], good, "{token}");
        shell.run(&format!("validate -f {token}")).await.failed(if good { 0 } else { 6 });
    }
    assert_eq!(shell.json("token introspect --access-token-file first").await, json!({ "active": false }));
    shell.run("token renew --access-token-file first").await.failed(4);
    shell.run("token revoke --access-token-file other").await.ok();
    shell.run("validate -f other").await.failed(6);
    shell.run("token revoke --access-token-file other").await.ok();
}

/// Every verb that lists or shows, once for a program: what comes is one JSON document, and nothing besides.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_read_is_json_for_who_asks_for_it() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id w1").await.ok();
    shell.run("key create w1 --key-file w1.key").await.ok();
    let id = shell.json("key list --worker w1").await["items"][0]["id"].as_str().unwrap().to_owned();
    for (line, id_of_it) in [
        ("pool list", "/items/0/id"),
        ("pool show default", "/id"),
        ("worker list", "/items/0/id"),
        ("worker show w1", "/id"),
        ("worker whoami --api-key-file w1.key", "/id"),
        ("key list --worker w1", "/items/0/id"),
        (&format!("key show {id}"), "/id"),
        ("enrollment list", "/items"),
        ("signing-key list", "/items/0/id"),
        ("operator list", "/items/0/id"),
        ("operator whoami", "/operator/id"),
        ("validate -f w1.key", "/worker"),
        ("worker isolate w1", "/id"),
        ("worker release w1", "/id"),
    ] {
        let document = shell.json(line).await;
        assert!(document.pointer(id_of_it).is_some(), "{line}: {document}");
    }
}
