//! What can be exercised in a drill: all that an incident may need, on copies, while what is real goes on as it was.

use reqwest::Method;
use serde_json::{Value, json};

use super::{counted, during};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

/// What is real: three workers with a key each, of which one was isolated before.
struct Real {
    keys: Vec<String>,
    /// Their workers, their keys and their pool, as subjects of events.
    subjects: Vec<String>,
}

async fn real(service: &Service) -> Real {
    let (mut keys, mut subjects) = (vec![], vec!["default".to_owned()]);
    for id in ["a", "b", "c"] {
        service.post("/v1/workers", json!({ "id": id })).await.expect(201);
        let key = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
        keys.push(key["key"].as_str().unwrap().to_owned());
        subjects.extend([id.to_owned(), key["id"].as_str().unwrap().to_owned()]);
    }
    service.post("/v1/workers/c/isolate", json!({})).await.expect(200);
    Real { keys, subjects }
}

async fn reason(service: &Service, credential: &str) -> String {
    let verdict = service.post("/v1/validate", json!({ "credential": credential })).await.expect(200);
    verdict["reason"].as_str().unwrap().to_owned()
}

/// Makes a plan for the drill and applies it; its path.
async fn applied(service: &Service, body: Value) -> String {
    let plan = during(service, "friday", "/v1/plans", body).await.expect(201);
    let path = format!("/v1/plans/{}", plan["id"].as_str().unwrap());
    during(service, "friday", &format!("{path}/apply"), json!({ "digest": plan["digest"] })).await.expect(200);
    path
}

/// All new keys that there are by now.
async fn collected(service: &Service, path: &str, done: u64) -> Vec<String> {
    let request = service.request(Method::POST, &format!("{path}/collect")).bearer_auth(&service.token);
    let request = request.json(&json!({ "done": done })).header("Idempotency-Key", format!("{path}-{done}"));
    let page = service.send(request).await.expect(200);
    page["items"].as_array().unwrap().iter().map(|item| item["secret"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_rotates_isolates_and_readmits_copies_and_touches_nothing_real() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let real = real(&service).await;
    let wish =
        json!({ "id": "friday", "title": "Friday", "severity": "low", "scope": ["pool:default"], "drill": true });
    let drill = service.post("/v1/incidents", wish).await.expect(201);
    let (opened, pool) = (drill["opened"].clone(), format!("pool:{}", drill["pool"].as_str().unwrap()));

    let rotation = |select: &str, delivery: &str| json!({ "kind": "rotate_all", "select": [select], "delivery": delivery, "overlap": "1h" });
    let waves = json!({ "size": 1, "every": "1s", "stop_after_refusals": 0, "stop_after_trips": 0 });
    let readmission = |select: &str, delivery: &str| json!({ "kind": "readmit", "select": [select], "delivery": delivery, "waves": waves });
    let outside = [rotation("pool:default", "file"), rotation("everything", "fetch"), readmission("worker:c", "file")];
    for body in outside {
        let refused = during(&service, "friday", "/v1/plans", body.clone()).await;
        assert_eq!(refused.problem(409), "outside_drill", "{body}");
    }

    let path = applied(&service, rotation(&pool, "file")).await;
    let new = collected(&service, &path, 0).await;
    assert_eq!(new.len(), 2, "one for each copy");
    assert_eq!(reason(&service, &new[0]).await, "ok");

    applied(&service, json!({ "kind": "isolate", "select": [pool] })).await;
    assert_eq!(reason(&service, &new[0]).await, "worker_isolated");
    // Of all that is isolated, one is real.
    let refused = during(&service, "friday", "/v1/plans", readmission("everything", "file")).await;
    assert_eq!(refused.problem(409), "outside_drill");
    let path = applied(&service, readmission(&pool, "file")).await;
    let shown = path.replace("/plans/", "/readmissions/");
    let mut keys = vec![];
    for done in 0..2 {
        let is_back = async || service.get(&shown).await.expect(200)["released"] == json!(done + 1);
        service.until("one more is back", is_back).await;
        keys.extend(collected(&service, &path, done).await);
    }
    let is_over = async || service.get(&shown).await.expect(200)["state"] == "completed";
    service.until("all are back", is_over).await;
    assert_eq!((keys.len(), reason(&service, &keys[0]).await), (2, "ok".to_owned()));
    assert_eq!(reason(&service, &new[0]).await, "fenced");

    let replay = service.get("/v1/incidents/friday/replay?limit=1000").await.expect(200);
    let moments = replay["items"].as_array().unwrap();
    let subjects: Vec<&str> = moments.iter().map(|moment| moment["subject"].as_str().unwrap()).collect();
    for id in &real.subjects {
        assert!(!subjects.iter().any(|subject| subject.ends_with(&format!(":{id}"))), "{id} in {subjects:?}");
    }
    let released = moments.iter().filter(|moment| moment["kind"] == "worker.released").count();
    assert_eq!(released, 2, "{subjects:?}");
    let report = service.get("/v1/incidents/friday/report").await;
    assert!(report.text.contains("**This was a drill.**"), "{}", report.text);

    let listed = real.subjects.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    let touched = format!(
        "select count(*) from log.event where position > {opened} and (pool = 'default' or subject_id in ({listed}))"
    );
    assert_eq!(counted(&scratch, &touched).await, 0, "no event is about what is real");
    let reasons = [reason(&service, &real.keys[0]).await, reason(&service, &real.keys[1]).await];
    assert_eq!(reasons, ["ok", "ok"]);
    assert_eq!(reason(&service, &real.keys[2]).await, "worker_isolated", "as it was before");
}
