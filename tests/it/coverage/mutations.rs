//! Every operation that changes something: it appends, it says where, and a repeat with its Idempotency-Key gets the
//! first answer and appends nothing.

use std::collections::BTreeSet;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{document, enrollment_secret};
use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Service};

/// What reads with POST, because what it is asked about must not be in a URL; and what is done to tables that say no more
/// than the log does, or to a receiver alone.
const READS: [&str; 6] = [
    "/v1/scope",
    "/v1/validate",
    "/oauth2/introspect",
    "/v1/projections/{id}/rebuild",
    "/v1/projections/{id}/verify",
    "/v1/webhooks/{id}/test",
];

struct Trial<'a> {
    service: &'a Service,
    log: Client,
    /// The operations that were tried.
    tried: BTreeSet<(String, String)>,
}

/// It answers all alike; and the standard's way to what is tried as `/v1/register`.
const WITHOUT_DRY_RUN: [&str; 2] = ["/v1/compromised", "/oauth2/token"];

/// One change.
struct Change<'a> {
    method: &'a str,
    /// As the document has it.
    operation: &'a str,
    id: &'a str,
    credential: &'a str,
    body: Value,
    /// Another wish for the same Idempotency-Key. A report of a leak has none: it does the same however often.
    other: Option<Value>,
}

// === impl Trial ===

impl Trial<'_> {
    /// Where the log ends, but for what the service records by itself: that a change is in force everywhere, or a wave of workers back.
    async fn head(&self) -> u64 {
        let newest = "select coalesce(max(position) + 1, 0) from log.event where actor <> 'system'";
        let row = self.log.query_one(newest, &[]).await.unwrap();
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    }

    fn request(&self, change: &Change<'_>, body: &Value) -> RequestBuilder {
        let path = change.operation.replace("{pool}", change.id).replace("{id}", change.id);
        let method = change.method.parse().unwrap();
        if change.method == "DELETE" {
            return self.service.request(method, &path).query(body);
        }
        let request = self.service.request(method, &path);
        if path.starts_with("/oauth2") {
            let fields = body.as_object().unwrap().iter();
            let fields: Vec<_> = fields.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
            return request.header("Content-Type", "application/x-www-form-urlencoded").body(fields.join("&"));
        }
        request.json(body)
    }

    async fn send(&self, change: &Change<'_>, body: &Value, key: &str) -> Answer {
        let request = self.request(change, body).header("Idempotency-Key", key);
        let request = if change.credential.is_empty() { request } else { request.bearer_auth(change.credential) };
        self.service.send(request).await
    }

    /// What a dry run says would be recorded. It has the key that the change will have, and leaves nothing.
    async fn foresee(&self, change: &Change<'_>, key: &str, before: u64) -> Option<Vec<Value>> {
        if WITHOUT_DRY_RUN.contains(&change.operation) {
            return None;
        }
        let request = self.request(change, &change.body).query(&[("dry_run", "true")]);
        let request = if change.credential.is_empty() { request } else { request.bearer_auth(change.credential) };
        let answer = self.service.send(request.header("Idempotency-Key", key)).await;
        let name = format!("{} {}, a dry run: {answer:?}", change.method, change.operation);
        assert!(!answer.headers.contains_key("location"), "{name}");
        let foreseen = answer.expect(200);
        assert_eq!((&foreseen["dry_run"], &foreseen["changed"]), (&json!(true), &json!(true)), "{name}");
        let would = foreseen["would"].as_array().unwrap();
        assert_eq!(foreseen["count"], json!(would.len()), "{name}");
        let text = foreseen.to_string();
        for secret in ["ptc_", "whsec_", "\"verifier\"", "\"sealed\""] {
            assert!(!text.contains(secret), "{name}");
        }
        assert_eq!(self.head().await, before, "{name} was recorded");
        Some(would.iter().map(|event| json!([event["kind"], event["subject"]["kind"]])).collect())
    }

    async fn recorded(&self, from: u64, to: u64) -> Vec<Value> {
        let found = self.service.get(&format!("/v1/events?from={from}&limit=1000")).await.expect(200);
        let of_it = |event: &&Value| event["position"].as_u64().unwrap() < to && event["actor"]["kind"] != "system";
        let items = found["items"].as_array().unwrap().iter().filter(of_it);
        items.map(|event| json!([event["kind"], event["subject"]["kind"]])).collect()
    }

    /// Makes the change, and then again.
    async fn make(&mut self, change: Change<'_>) -> Value {
        let name = format!("{} {}", change.method, change.operation);
        let key = format!("trial-{}", self.tried.len());
        self.tried.insert((change.method.to_owned(), change.operation.to_owned()));

        let before = self.head().await;
        let foreseen = self.foresee(&change, &key, before).await;
        let first = self.send(&change, &change.body, &key).await;
        assert!(first.status.is_success(), "{name}: {first:?}");
        let after = self.head().await;
        assert!(after > before, "{name} changed something and left no event");
        // A report of a leak answers all alike, and so names no position of its own.
        if change.operation != "/v1/compromised" {
            assert_eq!(first.position(), after - 1, "{name} names the position of its change");
        }
        if let Some(foreseen) = foreseen {
            assert_eq!(foreseen, self.recorded(before, after).await, "{name} records what its dry run has foreseen");
        }

        let again = self.send(&change, &change.body, &key).await;
        assert_eq!(again.status, first.status, "{name}, repeated: {again:?}");
        assert_eq!(secrets(&again), secrets(&first), "{name}, repeated");
        assert_eq!(self.head().await, after, "{name}, repeated, appended again");

        if let Some(other) = &change.other {
            let other = self.send(&change, other, &key).await;
            assert_eq!(other.status.as_u16(), 422, "{name}, with another body: {other:?}");
            assert_eq!(self.head().await, after);
        }
        if first.text.is_empty() { Value::Null } else { first.json() }
    }

    /// A change by the admin, for whom the reason is what differs.
    async fn admin(&mut self, method: &str, operation: &str, id: &str, body: Value) -> Value {
        let mut body = body;
        body["reason"] = "a-trial".into();
        let mut other = body.clone();
        other["reason"] = "another-wish".into();
        let credential = &self.service.token;
        self.make(Change { method, operation, id, credential, body, other: Some(other) }).await
    }
}

/// What a repeat has to give back to the letter.
fn secrets(answer: &Answer) -> Value {
    if answer.text.is_empty() {
        return Value::Null;
    }
    let mut body = answer.json();
    // Seconds that are left, counted when it is asked.
    body.as_object_mut().unwrap().remove("expires_in");
    body
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}

fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_else(|| panic!("no {field}: {object}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_an_event_once_and_a_repeat_gets_the_first_answer() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let mut trial = Trial { service: &service, log: scratch.superuser().await, tried: BTreeSet::new() };
    fleet(&mut trial).await;
    incidents(&mut trial).await;
    credentials(&mut trial).await;
    operators(&mut trial).await;
    own(&mut trial).await;

    let named = document(&service).await.into_iter().map(|(method, path, _)| (method, path));
    let changes: BTreeSet<_> = named.filter(|(method, path)| method != "GET" && !READS.contains(&&**path)).collect();
    assert_eq!(trial.tried, changes, "an operation that changes something and is not tried, or the other way round");
}

/// What leaves no event says all the same what it would do, and does not do it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sends_nothing_and_asks_nobody() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let made = service.post("/v1/webhooks", json!({ "url": "http://127.0.0.1:9/in" })).await.expect(201);
    let test = format!("/v1/webhooks/{}/test", id(&made));
    let foreseen = service.post(&format!("{test}?dry_run=true"), json!({})).await.expect(200);
    assert_eq!(foreseen["would"][0]["data"], json!({ "url": "http://127.0.0.1:9/in" }));
    assert!(foreseen.get("delivered").is_none(), "{foreseen}");
    let rebuild = "/v1/projections/workers/rebuild?dry_run=true";
    let foreseen = service.post(rebuild, json!({})).await.expect(200);
    assert_eq!((&foreseen["changed"], &foreseen["count"]), (&json!(false), &json!(1)));
    assert!(service.get("/v1/projections/workers").await.expect(200).get("rebuild").is_none());
    service.post("/v1/webhooks/0000000000000000000001/test?dry_run=true", json!({})).await.expect(404);
}

/// A dry run is answered as the command would be answered in its place: refused for the same, with the same words.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_refused_for_whatever_the_command_would_be_refused_for() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w-1" })).await.expect(201);
    service.post("/v1/incidents", json!({ "id": "taken", "title": "One", "severity": "low" })).await.expect(201);
    let table = [
        ("POST", "/v1/incidents", json!({ "id": "taken", "title": "Two", "severity": "low" }), 409),
        ("POST", "/v1/workers", json!({ "id": "w-2", "pool": "none" }), 404),
        ("POST", "/v1/workers", json!({ "labels": 7 }), 400),
        ("DELETE", "/v1/pools/default", json!({}), 409),
        ("POST", "/v1/plans/0000000000000000000001/collect", json!({ "done": 0 }), 400),
    ];
    for (method, path, body, status) in table {
        let request = |query: &str| service.request(method.parse().unwrap(), &format!("{path}{query}")).json(&body);
        let real = service.send(request("").bearer_auth(&service.token)).await.expect(status);
        let dry = service.send(request("?dry_run=true").bearer_auth(&service.token)).await.expect(status);
        let told = |problem: &Value| json!([problem["code"], problem["detail"], problem["field"]]);
        assert_eq!(told(&dry), told(&real), "{method} {path}");
    }
    // What would change nothing says so.
    service.post("/v1/workers/w-1/isolate", json!({})).await.expect(200);
    let again = service.post("/v1/workers/w-1/isolate?dry_run=true", json!({})).await.expect(200);
    assert_eq!((&again["changed"], &again["would"], &again["count"]), (&json!(false), &json!([]), &json!(0)));
    // What takes no dry run must not do the real thing for one.
    for path in ["/oauth2/token?dry_run=true", "/oauth2/token?dry%5Frun=true", "/v1/compromised?dry_run=true"] {
        let request = service.request(reqwest::Method::POST, path).bearer_auth(&service.token);
        assert_eq!(service.send(request.json(&json!({}))).await.problem(400), "invalid", "{path}");
    }
    let form = service.request(reqwest::Method::POST, "/oauth2/revoke").bearer_auth(&service.token);
    let form = form.header("Content-Type", "application/x-www-form-urlencoded").body("token=x&dry_run=true");
    assert_eq!(service.send(form).await.expect(400)["error"], "invalid_request");
    // However its name is written.
    let foreseen = service.post("/v1/workers?%64ry_run=true", json!({ "id": "w-9" })).await.expect(200);
    assert_eq!(foreseen["dry_run"], json!(true));
    service.get("/v1/workers/w-9").await.expect(404);
}

/// A key that a dry run came with is still free: for the command, and for what the dry run never was.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_uses_up_no_idempotency_key() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let log = scratch.superuser().await;
    let kept = async || -> i64 { log.query_one("select count(*) from log.command", &[]).await.unwrap().get(0) };
    let before = kept().await;
    let send = async |query: &str, body: &Value| {
        let request =
            service.request(reqwest::Method::POST, &format!("/v1/workers{query}")).bearer_auth(&service.token);
        service.send(request.header("Idempotency-Key", "one-key").json(body)).await
    };
    send("?dry_run=true", &json!({ "id": "w-1" })).await.expect(200);
    send("?dry_run=true", &json!({ "id": "w-2" })).await.expect(200);
    assert_eq!(kept().await, before, "no outcome is kept");
    send("", &json!({ "id": "w-3" })).await.expect(201);
    // Decided as if it were new, and not answered as the first time.
    let again = send("?dry_run=true", &json!({ "id": "w-3" })).await.expect(200);
    assert_eq!((&again["dry_run"], &again["changed"]), (&json!(true), &json!(false)));
    for query in ["", "?dry_run=false"] {
        assert_eq!(send(query, &json!({ "id": "w-3" })).await.expect(201)["id"], "w-3");
    }
}

async fn fleet(trial: &mut Trial<'_>) {
    trial.admin("POST", "/v1/pools", "", json!({ "name": "blue" })).await;
    trial.admin("PATCH", "/v1/pools/{pool}", "blue", json!({ "token_ttl": "20m" })).await;
    trial.admin("DELETE", "/v1/pools/{pool}", "blue", json!({})).await;
    trial.admin("POST", "/v1/workers", "", json!({ "id": "w-1" })).await;
    trial.admin("PATCH", "/v1/workers/{id}", "w-1", json!({ "name": "first" })).await;
    trial.admin("POST", "/v1/workers/{id}/isolate", "w-1", json!({ "for": "1h" })).await;
    trial.admin("POST", "/v1/workers/{id}/release", "w-1", json!({})).await;
    for (worker, decision) in [("w-2", "/v1/workers/{id}/approve"), ("w-3", "/v1/workers/{id}/reject")] {
        trial.service.post("/v1/workers", json!({ "id": worker, "pending": true })).await.expect(201);
        trial.admin("POST", decision, worker, json!({})).await;
    }
    trial.admin("DELETE", "/v1/workers/{id}", "w-2", json!({})).await;
    let honey = trial.admin("POST", "/v1/honey-keys", "", json!({ "pool": "default" })).await;
    trial.admin("DELETE", "/v1/honey-keys/{id}", &id(&honey), json!({})).await;
    trial.admin("PUT", "/v1/tripwires", "", json!({ "honey": ["open_incident"] })).await;
    trial.admin("POST", "/v1/fences", "", json!({ "scope": "everything" })).await;
    let url = json!({ "url": "https://hooks.example/in", "kinds": ["pool.removed"] });
    let webhook = id(&trial.admin("POST", "/v1/webhooks", "", url).await);
    trial.admin("PATCH", "/v1/webhooks/{id}", &webhook, json!({ "enabled": false })).await;
    trial.admin("DELETE", "/v1/webhooks/{id}", &webhook, json!({})).await;
    let network = json!({ "address": "192.0.2.0/24" });
    trial.admin("POST", "/v1/netguard/addresses", "", network.clone()).await;
    trial.admin("DELETE", "/v1/netguard/addresses", "", network).await;
    let plan = trial.admin("POST", "/v1/plans", "", json!({ "kind": "isolate", "select": ["label:no=body"] })).await;
    let digest = plan["digest"].clone();
    trial.admin("POST", "/v1/plans/{id}/apply", &id(&plan), json!({ "digest": digest })).await;
    // Before somebody has to approve them.
    readmissions(trial).await;
    plans(trial).await;
}

async fn plans(trial: &mut Trial<'_>) {
    let service = trial.service;
    let other = service.post("/v1/operators", json!({ "name": "other", "role": "operator" })).await.expect(201);
    let body = json!({ "kind": "release", "select": ["everything"] });
    let plan = service.post_as(&text(&other, "key"), "/v1/plans", body).await.expect(201);
    trial.admin("POST", "/v1/plans/{id}/approve", &id(&plan), json!({ "digest": plan["digest"] })).await;
    service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    let body = json!({ "kind": "rotate_enrollment", "select": ["pool:default"] });
    let plan = service.post("/v1/plans", body).await.expect(201);
    service.post(&format!("/v1/plans/{}/apply", id(&plan)), json!({ "digest": plan["digest"] })).await.expect(200);
    let collected = trial.admin("POST", "/v1/plans/{id}/collect", &id(&plan), json!({ "done": 0 })).await;
    assert!(text(&collected["items"][0], "secret").starts_with("ptc_en_"), "{collected}");
    trial.admin("PATCH", "/v1/plan-policy", "", json!({ "kinds": ["release"] })).await;
}

async fn readmissions(trial: &mut Trial<'_>) {
    let service = trial.service;
    for worker in ["back-1", "back-2"] {
        service.post("/v1/workers", json!({ "id": worker })).await.expect(201);
        service.post(&format!("/v1/workers/{worker}/isolate"), json!({})).await.expect(200);
    }
    let waves = json!({ "size": 1, "every": "7d", "stop_after_refusals": 0, "stop_after_trips": 0 });
    let select = json!(["worker:back-1", "worker:back-2"]);
    let body = json!({ "kind": "readmit", "select": select, "delivery": "fetch", "overlap": "1h", "waves": waves });
    let plan = service.post("/v1/plans", body).await.expect(201);
    service.post(&format!("/v1/plans/{}/apply", id(&plan)), json!({ "digest": plan["digest"] })).await.expect(200);
    let path = format!("/v1/readmissions/{}", id(&plan));
    service.until("one is back", async || service.get(&path).await.expect(200)["released"] == json!(1)).await;
    trial.admin("POST", "/v1/readmissions/{id}/pause", &id(&plan), json!({})).await;
    trial.admin("POST", "/v1/readmissions/{id}/resume", &id(&plan), json!({})).await;
    trial.admin("POST", "/v1/readmissions/{id}/next", &id(&plan), json!({ "wave": 2 })).await;
    trial.admin("POST", "/v1/readmissions/{id}/rollback", &id(&plan), json!({})).await;
}

async fn incidents(trial: &mut Trial<'_>) {
    let opened = trial.admin("POST", "/v1/incidents", "", json!({ "title": "Trial", "severity": "low" })).await;
    let id = id(&opened);
    trial.admin("PATCH", "/v1/incidents/{id}", &id, json!({ "severity": "high" })).await;
    trial.admin("POST", "/v1/incidents/{id}/notes", &id, json!({ "note": "all well", "review": true })).await;
    let waived = |step: &str| json!({ "step": step, "state": "waived", "reason": "a trial" });
    trial.admin("POST", "/v1/incidents/{id}/steps", &id, waived("isolate")).await;
    for step in ["rotate", "restore"] {
        trial.service.post(&format!("/v1/incidents/{id}/steps"), waived(step)).await.expect(200);
    }
    trial.admin("POST", "/v1/incidents/{id}/close", &id, json!({ "summary": "it was a trial" })).await;
}

async fn credentials(trial: &mut Trial<'_>) {
    let key = trial.admin("POST", "/v1/workers/{id}/keys", "w-1", json!({})).await;
    let next = trial.admin("POST", "/v1/keys/{id}/rotate", &id(&key), json!({ "overlap": "1h" })).await;
    trial.admin("POST", "/v1/keys/{id}/revoke", &id(&next), json!({})).await;
    let secret = trial.admin("POST", "/v1/enrollment-secrets", "", json!({ "pool": "default" })).await;
    let next = trial.admin("POST", "/v1/enrollment-secrets/{id}/rotate", &id(&secret), json!({})).await;
    trial.admin("POST", "/v1/enrollment-secrets/{id}/disable", &id(&next), json!({})).await;
    trial.admin("POST", "/v1/signing-keys/rotate", "", json!({})).await;
}

async fn operators(trial: &mut Trial<'_>) {
    let made = trial.admin("POST", "/v1/operators", "", json!({ "name": "trial", "role": "auditor" })).await;
    trial.admin("PATCH", "/v1/operators/{id}", &id(&made), json!({ "role": "operator" })).await;
    trial.admin("POST", "/v1/operators/{id}/keys", &id(&made), json!({})).await;
    trial.admin("DELETE", "/v1/operators/{id}", &id(&made), json!({})).await;
}

/// What a worker does itself.
async fn own(trial: &mut Trial<'_>) {
    let secret = enrollment_secret(trial.service).await;
    let change = |operation, credential, body: Value, other: Option<Value>| Change {
        method: "POST",
        operation,
        id: "",
        credential,
        body,
        other,
    };
    let renamed = Some(json!({ "name": "b" }));
    let enrolled = trial.make(change("/v1/enroll", &secret, json!({ "name": "a" }), renamed)).await;
    let (worker, key) = (id(&enrolled), text(&enrolled, "key"));
    let shorter = || Some(json!({ "ttl": "30s" }));
    let token = trial.make(change("/v1/register", &key, json!({}), shorter())).await;
    let token = text(&token, "token");
    trial.make(change("/v1/renew", &token, json!({}), shorter())).await;
    let overlap = json!({ "overlap": "1h" });
    let rotated = trial.make(change("/v1/worker/key/rotate", &key, overlap, Some(json!({ "overlap": "2h" })))).await;
    let key = text(&rotated, "key");

    let grant = json!({ "grant_type": "client_credentials", "client_id": worker, "client_secret": key });
    let granted = trial.make(change("/oauth2/token", "", grant, None)).await;
    let revoke = json!({ "token": text(&granted, "access_token"), "client_id": worker, "client_secret": key });
    trial.make(change("/oauth2/revoke", "", revoke, None)).await;
    trial.make(change("/v1/compromised", "", json!({ "credential": key }), None)).await;
}
