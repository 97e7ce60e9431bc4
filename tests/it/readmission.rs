//! Readmissions on running services: waves in their order, new keys, what stops them, and who goes on after a kill.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Launch, Service};

/// Two waves of several commands each.
const FLEET: usize = 600;

struct Worker {
    id: String,
    key: String,
}

/// Isolated workers with a key each.
async fn isolated(service: &Service, pool: &str, count: usize) -> Vec<Worker> {
    let one = |number: usize| async move {
        let id = format!("{pool}-{number}");
        service.post("/v1/workers", json!({ "id": id, "pool": pool })).await.expect(201);
        let key = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
        Worker { id, key: key["key"].as_str().unwrap().to_owned() }
    };
    let workers = futures_util::stream::iter(0..count).map(one).buffered(32).collect().await;
    let select = json!([format!("pool:{pool}")]);
    let plan = service.post("/v1/plans", json!({ "kind": "isolate", "select": select })).await.expect(201);
    let path = format!("/v1/plans/{}", plan["id"].as_str().unwrap());
    service.post(&format!("{path}/apply"), json!({ "digest": plan["digest"] })).await.expect(200);
    let recorded = async || service.get(&path).await.expect(200)["state"] == "recorded";
    service.until("all are isolated", recorded).await;
    workers
}

fn waves(size: usize, every: &str, refusals: u64) -> Value {
    json!({ "size": size, "every": every, "stop_after_refusals": refusals, "stop_after_trips": 1_000 })
}

/// A plan that lets them back in, made and applied for the incident if there is one; its id.
async fn begun(service: &Service, incident: Option<&str>, body: Value) -> String {
    let post = async |path: &str, body: Value| -> Answer {
        let request = service.request(Method::POST, path).bearer_auth(&service.token).json(&body);
        service
            .send(match incident {
                Some(incident) => request.header("Portcullis-Incident", incident),
                None => request,
            })
            .await
    };
    let plan = post("/v1/plans", body).await.expect(201);
    let id = plan["id"].as_str().unwrap().to_owned();
    post(&format!("/v1/plans/{id}/apply"), json!({ "digest": plan["digest"] })).await.expect(200);
    id
}

async fn shown(service: &Service, id: &str) -> Value {
    service.get(&format!("/v1/readmissions/{id}")).await.expect(200)
}

async fn until_shown(service: &Service, id: &str, field: &str, expected: Value) -> Value {
    let is_so = async || shown(service, id).await[field] == expected;
    service.until(&format!("{field} is {expected}"), is_so).await;
    shown(service, id).await
}

async fn steer(service: &Service, id: &str, verb: &str, body: Value) -> Answer {
    service.post(&format!("/v1/readmissions/{id}/{verb}"), body).await
}

/// The new keys of those that are back and have none yet, with whom each is for.
async fn collect(service: &Service, id: &str) -> Vec<Worker> {
    let done = shown(service, id).await["keyed"].clone();
    let request = service.request(Method::POST, &format!("/v1/plans/{id}/collect")).bearer_auth(&service.token);
    let request = request.json(&json!({ "done": done })).header("Idempotency-Key", format!("{id}-{done}"));
    let page = service.send(request).await.expect(200);
    let one = |item: &Value| Worker {
        id: item["workers"][0].as_str().unwrap().to_owned(),
        key: item["secret"].as_str().unwrap().to_owned(),
    };
    page["items"].as_array().unwrap().iter().map(one).collect()
}

async fn reason(service: &Service, credential: &str) -> String {
    let answer = service.post("/v1/validate", json!({ "credential": credential })).await.expect(200);
    answer["reason"].as_str().unwrap().to_owned()
}

async fn ids(log: &Client, kind: &str) -> Vec<String> {
    let rows = log.query("select subject_id from log.event where kind = $1 order by position", &[&kind]).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn count(log: &Client, query: &str) -> i64 {
    log.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_come_back_first_and_each_wave_with_new_keys_alone() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "canaries" })).await.expect(201);
    let (others, canaries) = (isolated(&service, "default", 5).await, isolated(&service, "canaries", 2).await);
    let incident = json!({ "title": "Leak", "severity": "high", "scope": ["everything"] });
    service.post("/v1/incidents", incident).await.expect(201);
    let mut terms = waves(3, "1s", 0);
    terms["canary_pool"] = json!("canaries");
    let wish = json!({ "kind": "readmit", "select": ["everything"], "delivery": "file", "waves": terms });
    let mut dry = wish.clone();
    dry["dry_run"] = json!(true);
    let preview = service.post("/v1/plans", dry).await.expect(200);
    assert_eq!((&preview["counts"]["workers"], &preview["waves"]["planned"]), (&json!(7), &json!(3)));

    let id = begun(&service, Some("INC-1"), wish).await;
    let first = until_shown(&service, &id, "released", json!(2)).await;
    assert_eq!((&first["next"]["waits_for"], &first["waves"][0]["canary"]), (&json!("keys"), &json!(true)));
    assert_eq!(reason(&service, &canaries[0].key).await, "fenced", "a release gives no old key back");
    assert_eq!(reason(&service, &others[0].key).await, "worker_isolated");
    assert_eq!(steer(&service, &id, "next", json!({ "wave": 2 })).await.problem(409), "readmission_keys_wait");
    let mut keyed = collect(&service, &id).await;
    assert_eq!(keyed.len(), 2);
    assert_eq!(reason(&service, &keyed[0].key).await, "ok");
    until_shown(&service, &id, "released", json!(5)).await;
    steer(&service, &id, "pause", json!({ "reason": "lunch" })).await.expect(200);
    keyed.extend(collect(&service, &id).await);
    assert_eq!(until_shown(&service, &id, "state", json!("paused")).await["released"], json!(5));
    steer(&service, &id, "resume", json!({})).await.expect(200);
    steer(&service, &id, "next", json!({ "wave": 3 })).await.expect(200);
    until_shown(&service, &id, "released", json!(7)).await;
    keyed.extend(collect(&service, &id).await);
    for worker in &keyed {
        assert_eq!(reason(&service, &worker.key).await, "ok", "{}", worker.id);
    }
    let last = until_shown(&service, &id, "state", json!("completed")).await;
    assert_eq!((last["keyed"].clone(), last["incident"].clone()), (json!(7), json!("INC-1")));
    assert_eq!(steer(&service, &id, "rollback", json!({})).await.problem(409), "readmission_over");

    let log = scratch.superuser().await;
    let released = ids(&log, "worker.released").await;
    let mut order = ids(&log, "worker.created").await;
    // Stable: canaries, and within both groups the order of their arrival.
    order.sort_by_key(|id| !id.starts_with("canaries"));
    assert_eq!(released, order);
    let carried = "select count(*) from log.event where incident = 'INC-1' and kind = any(
                   array['worker.released', 'fence.raised', 'key.created', 'readmission.completed'])";
    assert_eq!(count(&log, carried).await, 7 + 7 + 7 + 1, "what follows is for the incident too");
    let replay = service.get("/v1/incidents/INC-1/replay?limit=100").await.expect(200);
    assert!(replay["items"].as_array().unwrap().iter().any(|item| item["kind"] == "readmission.wave_released"));
    let report = service.get("/v1/incidents/INC-1/report").await;
    assert!(
        report.text.contains("readmission.wave") && !report.text.contains("a readmission is not over"),
        "{}",
        report.text
    );
}

/// Failures are in the log at the latest when a service stops; so one that is started again counts what the one before saw.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_stop_it_adoption_is_counted_and_a_rollback_takes_all_of_it_back() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let workers = isolated(&service, "default", 4).await;
    let body = json!({ "kind": "readmit", "select": ["everything"], "delivery": "file", "waves": waves(2, "1h", 2) });
    let id = begun(&service, None, body).await;
    until_shown(&service, &id, "released", json!(2)).await;
    let new = collect(&service, &id).await;
    let old = workers.iter().find(|worker| worker.id == new[0].id).unwrap();
    let waiting = workers.iter().find(|worker| new.iter().all(|new| new.id != worker.id)).unwrap();
    let shown = new[0].key.split('_').nth(2).unwrap();
    service.post(&format!("/v1/keys/{shown}/revoke"), json!({})).await.expect(200);
    // A window of failures that begins after the wave.
    service = again(&scratch, service).await;
    // A host that has no new key yet stops nothing; one that comes with what it was given and may not is another matter.
    for _ in 0..9 {
        assert_eq!(reason(&service, &old.key).await, "fenced");
    }
    for _ in 0..3 {
        assert_eq!(reason(&service, &new[0].key).await, "key_revoked");
    }
    assert_eq!(reason(&service, &new[1].key).await, "ok");
    service = again(&scratch, service).await;

    let stopped = until_shown(&service, &id, "state", json!("stopped")).await;
    assert_eq!((&stopped["refusals"], &stopped["released"]), (&json!(3), &json!(2)));
    let expected = json!({ "new_key_used": 1, "old_key_used": 1, "silent": 0 });
    assert_eq!((&stopped["adoption"], &stopped["waves"][0]["adoption"]), (&expected, &expected));
    let log = scratch.superuser().await;
    let failures = "select sum((failure->>'count')::bigint)::bigint from log.entries,
                    jsonb_array_elements(entry->'data'->'failures') failure
                    where kind = 'auth.failures_observed' and failure->>'reason' = 'fenced'";
    assert_eq!(count(&log, failures).await, 9);
    assert_eq!(count(&log, "select count(*) from projection.key_used").await, 1 + 1, "the operator's, and the new one");
    assert_eq!(reason(&service, &waiting.key).await, "worker_isolated");

    let back = service.post(&format!("/v1/readmissions/{id}/rollback?wait=everywhere"), json!({})).await.expect(200);
    assert_eq!((&back["state"], &back["released"]), (&json!("rolled_back"), &json!(2)));
    assert_ne!(reason(&service, &new[1].key).await, "ok");
    let over = async || count(&log, "select count(*) from log.event where kind = 'key.revoked'").await == 2;
    service.until("the keys that were handed out are revoked", over).await;
    assert_eq!(reason(&service, &new[0].key).await, "key_revoked");
    let states = "select count(*) from projection.workers where state = 'isolated'";
    service.until("lists say so", async || count(&log, states).await == 4).await;
}

/// The same service, stopped and started again.
async fn again(scratch: &Scratch, mut service: Service) -> Service {
    let next = Launch::on(scratch).data_dir_of(&service);
    let token = service.token.clone();
    assert!(service.stop());
    let mut service = next.start().await;
    service.token = token;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_began_another_ends_and_each_comes_back_once() {
    let scratch = Scratch::new().await;
    let mut first = Launch::on(&scratch).start().await;
    let second = Launch::on(&scratch).argument("--root-key-file", first.file("root.key").to_str().unwrap());
    let mut second = second.start().await;
    second.token.clone_from(&first.token);
    let workers = isolated(&first, "default", FLEET).await;
    let id = begun(
        &first,
        None,
        json!({
            "kind": "readmit", "select": ["everything"], "delivery": "fetch", "overlap": "1h",
            "waves": waves(FLEET / 2, "1s", 0)
        }),
    )
    .await;
    // Not before the second node has heard of it: until then its answer is a 404.
    let begun = async || {
        let answer = second.get(&format!("/v1/readmissions/{id}")).await;
        answer.status == 200 && answer.json()["released"].as_u64() > Some(0)
    };
    second.until("the first wave is on its way", begun).await;
    first.kill();
    let last = until_shown(&second, &id, "state", json!("completed")).await;
    assert_eq!((&last["released"], last["waves"].as_array().unwrap().len()), (&json!(FLEET), 2));
    let log = scratch.superuser().await;
    let mut released = ids(&log, "worker.released").await;
    assert!(released == ids(&log, "worker.created").await, "each once, in the order of their arrival");
    released.sort();
    released.dedup();
    assert_eq!(released.len(), FLEET);
    assert_eq!(ids(&log, "readmission.wave_released").await.len(), 2);
    // The old key is good for the overlap, and tells its worker to fetch the next.
    let own = second.get_as(&workers[0].key, "/v1/worker").await.expect(200);
    assert!(own["credential"]["rotate_by"].is_string(), "{own}");
}
