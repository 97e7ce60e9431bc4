//! Plans on running services: what is shown is done, all at once; the records follow, whoever is killed meanwhile.

mod kinds;

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

/// More than two nodes can have recorded when the first is killed.
const FLEET: usize = 1_200;

async fn made(service: &Service, body: Value) -> Value {
    service.post("/v1/plans", body).await.expect(201)
}

fn path(plan: &Value, verb: &str) -> String {
    format!("/v1/plans/{}{verb}", plan["id"].as_str().unwrap())
}

async fn apply(service: &Service, plan: &Value, query: &str) -> Value {
    service.post(&path(plan, &format!("/apply{query}")), json!({ "digest": plan["digest"] })).await.expect(200)
}

/// Workers with a key each; what they present.
async fn fleet(service: &Service, count: usize, pool: &str) -> Vec<String> {
    let one = |number: usize| async move {
        let id = format!("{pool}-{number}");
        service.post("/v1/workers", json!({ "id": id, "pool": pool })).await.expect(201);
        let key = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
        key["key"].as_str().unwrap().to_owned()
    };
    futures_util::stream::iter(0..count).map(one).buffer_unordered(32).collect().await
}

async fn reason(service: &Service, credential: &str) -> Value {
    service.post("/v1/validate", json!({ "credential": credential })).await.expect(200)["reason"].clone()
}

async fn recorded(service: &Service, plan: &Value) -> Value {
    service
        .until("each item has its record", async || {
            service.get(&path(plan, "")).await.expect(200)["state"] == "recorded"
        })
        .await;
    service.get(&path(plan, "")).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_its_list_and_does_exactly_that() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "blue" })).await.expect(201);
    let (default, blue) = (fleet(&service, 3, "default").await, fleet(&service, 2, "blue").await);
    let wish = json!({ "kind": "isolate", "select": ["pool:blue"], "reason": "odd traffic" });

    let mut dry = wish.clone();
    dry["dry_run"] = json!(true);
    let preview = service.post("/v1/plans", dry).await.expect(200);
    let counts = json!({ "workers": 2, "keys": 0, "enrollment_secrets": 0, "signing_keys": 0, "tls_certificates": 0 });
    assert_eq!(preview["counts"], counts);
    let shown = preview["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap());
    assert_eq!((shown.collect(), &preview["items_in_all"]), (BTreeSet::from(["blue-0", "blue-1"]), &json!(2)));
    let newest = service.get("/v1/events?order=desc&limit=1").await.expect(200)["items"][0]["position"].clone();
    assert_eq!(preview["position"], newest, "where the state stood that it was worked out on");
    assert_eq!(service.get("/v1/plans").await.expect(200)["items"], json!([]), "a dry run keeps no plan");

    let plan = made(&service, wish).await;
    assert_eq!((&plan["digest"], &plan["counts"]), (&preview["digest"], &preview["counts"]));
    assert!(preview["expires_at"].as_str() <= plan["expires_at"].as_str(), "{preview} {plan}");
    assert_eq!((&plan["made"], &plan["records_items"]), (&json!(newest.as_u64().unwrap() + 1), &json!(true)));
    let first = service.get(&path(&plan, "/items?limit=1")).await.expect(200);
    let second = service.get(&path(&plan, &format!("/items?cursor={}", first["next_cursor"].as_str().unwrap()))).await;
    let second = second.expect(200);
    let id = second["items"][0]["id"].as_str().unwrap();
    assert_eq!(second["items"], json!([{ "kind": "worker", "id": id, "name": id, "pool": "blue" }]));
    assert_eq!(second["next_cursor"], Value::Null);
    let both = BTreeSet::from([id, first["items"][0]["id"].as_str().unwrap()]);
    assert_eq!(both, BTreeSet::from(["blue-0", "blue-1"]));
    assert_eq!(reason(&service, &blue[0]).await, "ok", "a plan changes nothing");

    let wrong = service.post(&path(&plan, "/apply"), json!({ "digest": "0".repeat(64) })).await;
    assert_eq!(wrong.problem(409), "plan_digest");
    let applied = apply(&service, &plan, "?wait=everywhere").await;
    assert_eq!((&applied["changed"], &applied["in_force"]["waited_out"]), (&json!(true), &json!([])));
    for credential in &blue {
        assert_eq!(reason(&service, credential).await, "worker_isolated");
    }
    for credential in &default {
        assert_eq!(reason(&service, credential).await, "ok");
    }
    let done = recorded(&service, &plan).await;
    let position = done["progress"]["applied"].as_u64().unwrap();
    assert_eq!((&done["progress"]["total"], &done["progress"]["recorded"]), (&json!(2), &json!(2)));
    let events = service.get(&format!("/v1/events?kind=worker.isolated&from={position}")).await.expect(200);
    let causes: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|event| &event["cause"]).collect();
    assert_eq!(causes, [&json!(position), &json!(position)]);
    assert_eq!(apply(&service, &plan, "").await["changed"], json!(false), "a plan is applied once");
    assert_eq!(service.get(&path(&plan, "/items")).await.problem(409), "plan_recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_list_has_changed_does_nothing() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let keys = fleet(&service, 2, "default").await;
    let plan = made(&service, json!({ "kind": "revoke_all", "select": ["everything"] })).await;
    assert_eq!((&plan["counts"]["keys"], &plan["left_without_key"]), (&json!(2), &json!(2)));
    service.post("/v1/workers/default-0/keys", json!({})).await.expect(201);
    let refused = service.post(&path(&plan, "/apply"), json!({ "digest": plan["digest"] })).await;
    assert_eq!(refused.problem(409), "plan_changed");
    assert_eq!(reason(&service, &keys[0]).await, "ok");
    for (body, field) in [
        (json!({ "kind": "isolate", "select": [] }), "select"),
        (json!({ "kind": "isolate", "select": ["everything", "pool:default"] }), "select"),
        (json!({ "kind": "isolate", "select": ["pools:default"] }), "select"),
        (json!({ "kind": "burn", "select": ["everything"] }), "kind"),
        (json!({ "kind": "release", "select": ["everything"], "until": "2099-01-01T00:00:00Z" }), "until"),
        (json!({ "kind": "isolate", "select": ["everything"], "until": "2020-01-01T00:00:00Z" }), "until"),
        (json!({ "kind": "rotate_all", "select": ["everything"] }), "delivery"),
        (json!({ "kind": "rotate_all", "select": ["everything"], "delivery": "fetch", "overlap": "1m" }), "overlap"),
        (json!({ "kind": "isolate", "select": ["everything"], "overlap": "1h" }), "overlap"),
        (json!({ "kind": "fence", "select": ["label:os=linux"] }), "select"),
        (json!({ "kind": "rotate_signing_keys", "select": ["pool:default"] }), "select"),
        (json!({ "kind": "rotate_tls_certificates", "select": ["pool:default"] }), "select"),
    ] {
        let answer = service.post("/v1/plans", body.clone()).await;
        assert_eq!((answer.problem(400), answer.text.contains(field)), ("invalid".to_owned(), true), "{body}");
    }
    for (criterion, code) in [("pool:green", "pool_unknown"), ("worker:nobody", "worker_unknown")] {
        let answer = service.post("/v1/plans", json!({ "kind": "isolate", "select": [criterion] })).await;
        assert_eq!(answer.problem(404), code);
    }
}

/// The one that applied the plan is killed at once: all of it is in force all the same, and the other records it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_began_to_record_another_ends_exactly() {
    let scratch = Scratch::new().await;
    let mut first = Launch::on(&scratch).start().await;
    let second = Launch::on(&scratch).argument("--root-key-file", first.file("root.key").to_str().unwrap());
    let mut second = second.start().await;
    second.token.clone_from(&first.token);
    let keys = fleet(&first, FLEET, "default").await;
    let plan = made(&first, json!({ "kind": "revoke_all", "select": ["everything"] })).await;
    let applied = apply(&first, &plan, "").await["progress"]["applied"].clone();
    first.kill();

    second.get(&path(&plan, &format!("?at_least={applied}"))).await.expect(200);
    assert_eq!(reason(&second, &keys[FLEET - 1]).await, "fenced", "in force, and not recorded yet");
    let done = recorded(&second, &plan).await;
    assert_eq!(done["progress"]["recorded"], json!(FLEET));
    let log = scratch.superuser().await;
    let count = "select count(*), count(distinct key)
                   from log.entries, jsonb_array_elements_text(entry->'data'->'keys') as key where kind = 'key.revoked'";
    let row = log.query_one(count, &[]).await.unwrap();
    let fleet = i64::try_from(FLEET).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (fleet, fleet), "each once");
    assert_eq!(reason(&second, &keys[FLEET - 1]).await, "key_revoked");
    found_by_its_key(&second, &plan, &keys).await;
}

/// A key that stands on a list is found as one that an event of its own is about.
async fn found_by_its_key(service: &Service, plan: &Value, keys: &[String]) {
    let id = |key: &str| key.split('_').nth(2).unwrap().to_owned();
    for (key, order, expected) in [
        (&keys[0], "", ["key.created", "key.revoked"]),
        (&keys[FLEET - 2], "&order=desc", ["key.revoked", "key.created"]),
    ] {
        let found = service.get(&format!("/v1/events?subject=key:{}{order}", id(key))).await.expect(200);
        let items = found["items"].as_array().unwrap();
        assert_eq!(items.iter().map(|event| event["kind"].as_str().unwrap()).collect::<Vec<_>>(), expected);
        let revoked = items.iter().find(|event| event["kind"] == "key.revoked").unwrap();
        assert_eq!((&revoked["schema"], &revoked["subject"]["id"]), (&json!(2), &plan["id"]));
        assert!(revoked["data"]["keys"].as_array().unwrap().contains(&json!(id(key))));
        let path = format!("/v1/events?subject=key:{}&kind=key.revoked{order}", id(key));
        assert_eq!(service.get(&path).await.expect(200)["items"], json!([revoked]));
    }
    // What only looks like it: the plan's own id stands in each list too.
    let path = format!("/v1/events?subject=key:{}", plan["id"].as_str().unwrap());
    assert_eq!(service.get(&path).await.expect(200)["items"], json!([]));
}

/// Each worker's new key comes to whoever applied the plan, once; the old one is good beside it, and the worker is told.
#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_collected_page_by_page_and_workers_are_told() {
    const MANY: usize = 103;
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let keys = fleet(&service, MANY, "default").await;
    let plan = made(
        &service,
        json!({
            "kind": "rotate_all", "select": ["everything"], "delivery": "file", "overlap": "1h"
        }),
    )
    .await;
    assert_eq!((&plan["counts"]["keys"], &plan["delivery"]), (&json!(MANY), &json!("file")));
    assert_eq!(service.post(&path(&plan, "/collect"), json!({ "done": 0 })).await.problem(400), "invalid");
    let collect = |done: u64| {
        let request = service.request(reqwest::Method::POST, &path(&plan, "/collect")).bearer_auth(&service.token);
        service.send(request.json(&json!({ "done": done })).header("Idempotency-Key", format!("page-{done}")))
    };
    assert_eq!(collect(1).await.problem(409), "plan_not_applied");
    apply(&service, &plan, "").await;
    let worker = service.get_as(&keys[0], "/v1/worker").await.expect(200);
    assert!(worker["credential"]["rotate_by"].is_string(), "{worker}");
    let token = service.post_as(&keys[0], "/v1/register", json!({})).await.expect(200);
    assert_eq!(token["rotate_by"], worker["credential"]["rotate_by"]);

    let first = collect(0).await.expect(200);
    assert_eq!((&first["done"], &first["total"]), (&json!(100), &json!(MANY)));
    assert_eq!(collect(0).await.expect(200), first, "asked for again, it is the same");
    let second = collect(100).await.expect(200);
    assert_eq!(second["done"], json!(MANY));
    let mut holders = BTreeSet::new();
    for item in first["items"].as_array().unwrap().iter().chain(second["items"].as_array().unwrap()) {
        assert_eq!(reason(&service, item["secret"].as_str().unwrap()).await, "ok", "{item}");
        holders.insert(item["workers"][0].as_str().unwrap().to_owned());
    }
    assert_eq!(holders.len(), MANY, "one each");
    assert_eq!(reason(&service, &keys[0]).await, "ok", "while it overlaps");
    assert!(service.get_as(&keys[0], "/v1/worker").await.expect(200)["credential"].get("rotate_by").is_none());
    assert_eq!(service.get(&path(&plan, "")).await.expect(200)["state"], "recorded");
    let secret = first["items"][0]["secret"].as_str().unwrap();
    let kept = scratch.superuser().await;
    let row =
        kept.query_one("select count(*) from log.entries where entry::text like '%' || $1 || '%'", &[&secret]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 0, "the log has its verifier alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_needs_two_is_applied_once_another_has_approved_it() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let other = service.post("/v1/operators", json!({ "name": "other", "role": "operator" })).await.expect(201);
    let other = other["key"].as_str().unwrap();
    let change = service
        .request(reqwest::Method::PATCH, "/v1/plan-policy")
        .bearer_auth(&service.token)
        .json(&json!({ "kinds": ["isolate"] }));
    assert_eq!(service.send(change).await.expect(200)["kinds"], json!(["isolate"]));
    let wish = json!({ "kind": "isolate", "select": ["everything"] });
    let mut dry = wish.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(service.post("/v1/plans", dry).await.expect(200)["approval_required"], json!(true));
    let plan = made(&service, wish).await;
    let digest = json!({ "digest": plan["digest"] });
    assert_eq!(service.post(&path(&plan, "/apply"), digest.clone()).await.problem(409), "approval_required");
    assert_eq!(service.post(&path(&plan, "/approve"), digest.clone()).await.problem(409), "approval_own");
    let approved = service.post_as(other, &path(&plan, "/approve"), digest.clone()).await.expect(200);
    assert_eq!(approved["approvals"][0]["name"], "other");
    assert_eq!(apply(&service, &plan, "").await["changed"], json!(true));
}

/// What changed between two plans is said item by item, where the first one's list is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_takes_anothers_place_says_what_differs() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    fleet(&service, 3, "default").await;
    let wish = json!({ "kind": "isolate", "select": ["everything"] });
    let plan = made(&service, wish.clone()).await;
    service.get(&path(&plan, "/items")).await.expect(200);
    service.post("/v1/workers", json!({ "id": "late" })).await.expect(201);
    let gone = service.request(reqwest::Method::DELETE, "/v1/workers/default-1").bearer_auth(&service.token);
    assert!(service.send(gone).await.status.is_success());
    assert_eq!(
        service.post(&path(&plan, "/apply"), json!({ "digest": plan["digest"] })).await.problem(409),
        "plan_changed"
    );
    let listed = service.get(&path(&plan, "/items")).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "what was shown stays shown");
    let mut again = wish;
    again["replaces"] = plan["id"].clone();
    let next = made(&service, again).await;
    let difference = &next["difference"];
    assert_eq!(difference["added"]["items"][0]["id"], "late");
    assert_eq!(difference["gone"]["items"][0]["id"], "default-1");
    assert_eq!(
        (&difference["added"]["counts"]["workers"], &difference["gone"]["counts"]["workers"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(next["replaces"], plan["id"]);
    apply(&service, &next, "").await;
}

/// Nobody has asked for the first plan's list, and what it selects changes with the very commit that has the plan.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_known_though_nobody_has_asked_for_the_list_and_the_fleet_never_stood_still() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    fleet(&service, 2, "default").await;
    let wish = json!({ "kind": "isolate", "select": ["everything"] });
    for round in 0..10 {
        let enrolling = (0..8).map(|number| {
            let body = json!({ "id": format!("late-{round}-{number}") });
            async { service.post("/v1/workers", body).await.expect(201) }
        });
        let (plan, _) = tokio::join!(made(&service, wish.clone()), futures_util::future::join_all(enrolling));
        let mut again = wish.clone();
        (again["replaces"], again["dry_run"]) = (plan["id"].clone(), json!(true));
        let difference = async || service.post("/v1/plans", again.clone()).await.expect(200)["difference"].clone();
        service.until("the difference is known", async || difference().await["known"] == json!(true)).await;
        assert_eq!(difference().await["gone"]["items"], json!([]), "in round {round}");
    }
}
