//! The blast radius on a running service: what a leaked secret, key or operator reaches, against what the log itself says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

/// What the log says was let in by a secret or its rotations, which keys these workers were given or rotated into, and how
/// many tokens made from them are unexpired.
const BY_THE_LOG: &str = "
    with recursive data as (select position, kind, entry -> 'data' as data from log.entries),
    line (id) as (
        select $1::text
        union
        select data ->> 'successor' from data join line on data ->> 'secret' = line.id
         where kind = 'enrollment_secret.rotated'
    ),
    workers as (
        select data ->> 'worker' as id from data join line on data ->> 'enrolled_by' = line.id where kind = 'worker.created'
    ),
    keys (id) as (
        select data ->> 'key' from data join workers on data -> 'holder' ->> 'id' = workers.id where kind = 'key.created'
        union
        select data ->> 'successor' from data join keys on data ->> 'key' = keys.id where kind = 'key.rotated'
    ),
    tokens as (
        select 1 from data join keys on data ->> 'key' = keys.id
         where kind = 'token.issued' and (data ->> 'expires_at')::timestamptz > now()
           and keys.id not in (select data ->> 'key' from data where kind = 'key.revoked' and data ? 'key'
                               union
                               select jsonb_array_elements_text(data -> 'keys') from data
                                where kind = 'key.revoked' and data ? 'keys')
    )
    select (select count(*) from line), (select count(*) from workers), (select count(*) from keys),
           (select count(*) from tokens)";

async fn enrolled(service: &Service, secret: &str, name: &str) -> Value {
    service.post_as(secret, "/v1/enroll", json!({ "name": name })).await.expect(201)
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap()
}

async fn scope(service: &Service, select: &[&str]) -> Value {
    service.post("/v1/scope", json!({ "select": select })).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_counts_what_the_log_says() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let first = service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    let id = text(&first, "id");
    let mut workers = Vec::new();
    for number in 0..3 {
        workers.push(enrolled(&service, text(&first, "secret"), &format!("a-{number}")).await);
    }
    let second = service.post(&format!("/v1/enrollment-secrets/{id}/rotate"), json!({})).await.expect(201);
    for number in 0..2 {
        workers.push(enrolled(&service, text(&second, "secret"), &format!("b-{number}")).await);
    }
    // Others, who are not reached.
    service.post("/v1/workers", json!({ "id": "other" })).await.expect(201);
    service.post("/v1/workers/other/keys", json!({})).await.expect(201);
    for worker in &workers {
        service.post_as(text(worker, "key"), "/v1/register", json!({})).await.expect(200);
    }
    let rotated = service.post_as(text(&workers[0], "key"), "/v1/worker/key/rotate", json!({})).await.expect(201);
    service.post(&format!("/v1/keys/{}/revoke", text(&workers[1], "key_id")), json!({})).await.expect(200);
    let gone = format!("/v1/workers/{}", text(&workers[4], "id"));
    assert!(
        service
            .send(service.request(reqwest::Method::DELETE, &gone).bearer_auth(&service.token))
            .await
            .status
            .is_success()
    );

    let found = scope(&service, &[&format!("enrollment_secret:{id}")]).await;
    let row = scratch.superuser().await.query_one(BY_THE_LOG, &[&id]).await.unwrap();
    let [secrets, members, keys, tokens] = [0, 1, 2, 3].map(|column| row.get::<_, i64>(column));
    assert_eq!((secrets, members, keys), (2, 5, 6), "the log");
    let counts = &found["counts"];
    assert_eq!(
        (&counts["enrollment_secrets"], &counts["workers"], &counts["keys"]),
        (&json!(secrets), &json!(members), &json!(keys))
    );
    // The removed worker's token is refused, and the log's own count does not look at that.
    assert_eq!(found["tokens"], json!({ "alive": tokens - 1, "counted_at_most": 0, "exact": true }));
    assert_eq!(counts["workers_by_state"], json!({ "active": 4, "removed": 1 }));
    assert_eq!((&found["sources"], &found["complete"]), (&json!(["127.0.0.1"]), &json!(true)));
    assert_eq!(found["nodes"].as_array().unwrap().len(), 2 + 5 + 6);
    let key = format!("key:{}", text(&rotated, "id"));
    let into: Vec<&Value> = found["edges"].as_array().unwrap().iter().filter(|edge| edge["to"] == *key).collect();
    let kinds: Vec<&str> = into.iter().map(|edge| text(edge, "kind")).collect();
    assert_eq!(kinds, ["rotated_into", "holds"]);

    // Less is shown than there is: counts, tokens and addresses are of all, and it says so.
    let body = json!({ "select": [format!("enrollment_secret:{id}")], "limit": 3 });
    let part = service.post("/v1/scope", body).await.expect(200);
    assert_eq!((&part["counts"], &part["complete"]), (counts, &json!(false)));
    for of_all in ["tokens", "sources", "sources_in_all", "first_used_at", "last_used_at"] {
        assert_eq!(part[of_all], found[of_all], "{of_all}");
    }
    assert_eq!(part["nodes"].as_array().unwrap().len(), 3);
}

/// Validations are noted, and written down when a service ends: the first and the last of a key that only gateways saw.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_says_when_a_key_was_first_and_last_accepted() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "probe" })).await.expect(201);
    let key = service.post("/v1/workers/probe/keys", json!({})).await.expect(201);
    for _ in 0..2 {
        service.post("/v1/validate", json!({ "credential": key["key"] })).await.expect(200);
        let token = service.token.clone();
        assert!(service.stop());
        service = Launch::on(&scratch).data_dir_of(&service).start().await;
        service.token = token;
    }
    let found = scope(&service, &["worker:probe"]).await;
    let node = found["nodes"].as_array().unwrap().iter().find(|node| text(node, "id").starts_with("key:")).unwrap();
    for used in [node, &found] {
        assert!(text(used, "first_used_at") < text(used, "last_used_at"), "{used}");
    }
}

/// From a part of a credential, an address or an operator to the same things, alone and together.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_begins_from_whatever_is_known() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let maker = service.post("/v1/operators", json!({ "name": "maker", "role": "operator" })).await.expect(201);
    let token = text(&maker, "key");
    let secret = service.post_as(token, "/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    let worker = enrolled(&service, text(&secret, "secret"), "w").await;
    let key = text(&worker, "key").split('_').nth(2).unwrap().to_owned();
    let counted =
        |found: &Value| ["operators", "enrollment_secrets", "workers", "keys"].map(|of| found["counts"][of].clone());
    let operator = format!("operator:{}", text(&maker, "id"));
    for (select, expected) in [
        (vec![operator.as_str()], [1, 1, 1, 1]),
        (vec![&format!("credential:{key}")], [0, 0, 1, 1]),
        (vec!["source:127.0.0.0/8"], [0, 0, 1, 1]),
        (vec!["source:10.0.0.0/8"], [0, 0, 0, 0]),
        (vec![&operator, "source:127.0.0.1/32"], [1, 0, 1, 1]),
    ] {
        assert_eq!(counted(&scope(&service, &select).await), expected.map(|count| json!(count)), "{select:?}");
    }
    let of_the_maker = token.split('_').nth(2).unwrap();
    let found = scope(&service, &[&format!("credential:{of_the_maker}")]).await;
    assert_eq!(found["select"], json!([operator]), "an operator's key is the operator");
    let plan = json!({ "kind": "revoke_all", "select": [format!("credential:{key}")] });
    let plan = service.post("/v1/plans", plan).await.expect(201);
    assert_eq!(plan["select"], json!([format!("key:{key}")]), "the log names it whole");

    let refused = |body: Value| async { service.post("/v1/scope", body).await };
    for (select, status, code) in [
        ("credential:zzzzzzz", 404, "not_found"),
        ("credential:000000", 404, "not_found"),
        ("credential:0", 400, "invalid"),
        (token, 400, "invalid"),
        ("source:127.0.0.1", 400, "invalid"),
        ("operator:0000000000000000000001", 404, "operator_unknown"),
    ] {
        assert_eq!(refused(json!({ "select": [select] })).await.problem(status), code, "{select}");
    }
    let sent = refused(json!({ "select": [format!("credential:{token}")] })).await;
    assert_eq!(sent.problem(400), "invalid");
    assert!(!sent.text.contains(token.rsplit('_').nth(1).unwrap()), "{}", sent.text);
    // Those that were made within half a minute begin alike.
    let many = refused(json!({ "select": [format!("credential:{}", &key[..6])] })).await;
    assert!(many.problem(400) == "invalid" && many.text.contains(&key), "{}", many.text);
}

/// A credential as it was found leads to the same things as the ids that it stands for, and is nowhere in the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_begins_from_a_whole_credential() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let secret = service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    let worker = enrolled(&service, text(&secret, "secret"), "w").await;
    let other = enrolled(&service, text(&secret, "secret"), "other").await;
    let token = service.post_as(text(&worker, "key"), "/v1/register", json!({})).await.expect(200);
    let token = text(&token, "token").to_owned();
    let chosen = "nK3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWzB";
    service.post("/v1/workers", json!({ "id": "s", "static_secret": chosen })).await.expect(201);
    let of_chosen = service.get("/v1/workers/s/keys").await.expect(200)["items"][0].clone();
    let (key, static_key) = (format!("key:{}", text(&worker, "key_id")), format!("key:{}", text(&of_chosen, "id")));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", signature.chars().rev().collect::<String>());
    let lineage = format!("enrollment_secret:{}", text(&secret, "id"));
    for (credential, select, kind, proven, reaches) in [
        (token.as_str(), &key, "access_token", true, ["w"].as_slice()),
        (&forged, &key, "access_token", false, &["w"]),
        (text(&worker, "key"), &key, "api_key", true, &["w"]),
        (chosen, &static_key, "static_secret", true, &["worker:s"]),
        (text(&secret, "secret"), &lineage, "enrollment_secret", true, &["w", "other"]),
    ] {
        let answer = service.post("/v1/scope", json!({ "credential": credential })).await;
        let found = answer.expect(200);
        assert_eq!(
            (&found["select"], &found["credential"]),
            (&json!([select]), &json!({ "kind": kind, "proven": proven }))
        );
        let names = found["nodes"].as_array().unwrap().iter().filter(|node| text(node, "id").starts_with("worker:"));
        let names: BTreeSet<&str> = names.map(|node| node["name"].as_str().unwrap_or(text(node, "id"))).collect();
        assert_eq!(names, reaches.iter().copied().collect(), "{kind}");
        assert!(!found.to_string().contains(credential), "{kind}");
    }
    // Whoever may not validate is not told whether a credential is genuine.
    let auditor = service.post("/v1/operators", json!({ "name": "auditor", "role": "auditor" })).await.expect(201);
    let auditor = text(&auditor, "key");
    service.post_as(auditor, "/v1/scope", json!({ "select": [key] })).await.expect(200);
    let refused = service.post_as(auditor, "/v1/scope", json!({ "credential": token })).await;
    assert_eq!(refused.problem(403), "not_permitted");
    let both = service.post("/v1/scope", json!({ "credential": token, "select": ["pool:default"] })).await.expect(200);
    assert_eq!(both["counts"]["workers"], json!(1), "with others it is one criterion more");

    for (body, status, code) in [
        (json!({ "credential": "nK3vQ9xT2mZ7pL5wR8sY1bD6fG4hJ0cVaE_uX-iOqWzC" }), 404, "not_found"),
        (json!({ "credential": "YQ.YQ.YQ" }), 400, "invalid"),
        (json!({ "credential": format!("{}x", text(&other, "key")) }), 400, "invalid"),
        (json!({}), 400, "invalid"),
    ] {
        let answer = service.post("/v1/scope", body.clone()).await;
        assert_eq!(answer.problem(status), code, "{body}");
        assert!(!answer.text.contains("nK3vQ9") && !answer.text.contains("YQ.YQ"), "{}", answer.text);
    }
    // A plan acts: it goes by what is proven.
    let plan = |credential: &str| json!({ "kind": "revoke_all", "credential": credential });
    assert_eq!(service.post("/v1/plans", plan(&forged)).await.problem(400), "invalid");
    let made = service.post("/v1/plans", plan(&token)).await.expect(201);
    assert_eq!((&made["select"], &made["counts"]["keys"]), (&json!([key]), &json!(1)));
}

/// Who has only shown a key at a gateway has no event there: a scope knows them from the notes, says who they are, and a plan,
/// which goes by the log alone, leaves them out.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_knows_who_was_only_noted_at_an_address() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for id in ["quiet", "elsewhere"] {
        service.post("/v1/workers", json!({ "id": id })).await.expect(201);
        let key = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
        let from = if id == "quiet" { "203.0.113.9" } else { "203.0.114.9" };
        service.post("/v1/validate", json!({ "credential": key["key"], "source": from })).await.expect(200);
    }
    let found = scope(&service, &["source:203.0.113.0/24"]).await;
    assert_eq!((&found["counts"]["workers"], &found["counts"]["keys"]), (&json!(1), &json!(1)));
    assert_eq!((&found["only_noted"], &found["only_noted_in_all"]), (&json!(["quiet"]), &json!(1)));
    assert_eq!((&found["sources"], &found["sources_in_all"]), (&json!(["203.0.113.9"]), &json!(1)));
    for (select, expected) in [("source:203.0.113.10/32", 0), ("source:203.0.112.0/22", 2), ("source:::/0", 0)] {
        assert_eq!(scope(&service, &[select]).await["counts"]["workers"], json!(expected), "{select}");
    }
    let plan = json!({ "kind": "isolate", "select": ["source:203.0.113.0/24"], "dry_run": true });
    assert_eq!(service.post("/v1/plans", plan).await.expect(200)["counts"]["workers"], json!(0));
    // One whom the log shows there is selected by both.
    let key = service.post("/v1/workers/quiet/keys", json!({})).await.expect(201);
    service.post_as(text(&key, "key"), "/v1/register", json!({})).await.expect(200);
    let found = scope(&service, &["source:127.0.0.0/8"]).await;
    assert_eq!((&found["counts"]["workers"], &found["only_noted"]), (&json!(1), &json!([])));
}

/// Whoever makes a key for another operator may act as that one: what was made so is reached too.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_follows_keys_that_an_operator_made_for_another() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let operator = async |name: &str, role: &str| {
        service.post("/v1/operators", json!({ "name": name, "role": role })).await.expect(201)
    };
    let (maker, other, third) =
        (operator("maker", "admin").await, operator("other", "admin").await, operator("third", "operator").await);
    service.post_as(text(&third, "key"), "/v1/workers", json!({ "id": "of-third" })).await.expect(201);
    let select = format!("operator:{}", text(&maker, "id"));
    assert_eq!(scope(&service, &[&select]).await["counts"]["operators"], json!(1));
    for (by, of) in [(&maker, &other), (&other, &third)] {
        let keys = format!("/v1/operators/{}/keys", text(of, "id"));
        service.post_as(text(by, "key"), &keys, json!({})).await.expect(201);
    }
    let found = scope(&service, &[&select]).await;
    assert_eq!((&found["counts"]["operators"], &found["counts"]["workers"]), (&json!(3), &json!(1)));
    let plan = json!({ "kind": "isolate", "select": [select], "dry_run": true });
    assert_eq!(
        service.post("/v1/plans", plan).await.expect(200)["counts"]["workers"],
        json!(0),
        "what is frozen stays"
    );
}
