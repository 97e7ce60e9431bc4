//! Incidents on running services: what is commanded for one fills its checklist, is found by it, and stays in a drill's pool.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Service};

/// What is commanded for an incident.
async fn during(service: &Service, incident: &str, path: &str, body: Value) -> Answer {
    let request = service.request(Method::POST, path).bearer_auth(&service.token);
    service.send(request.header("Portcullis-Incident", incident).json(&body)).await
}

/// The kinds of the events that carry the incident, with their positions.
async fn events(service: &Service, incident: &str) -> Vec<(String, u64)> {
    let found = service.get(&format!("/v1/events?incident={incident}&limit=1000")).await.expect(200);
    let event = |event: &Value| (event["kind"].as_str().unwrap().to_owned(), event["position"].as_u64().unwrap());
    found["items"].as_array().unwrap().iter().map(event).collect()
}

fn states(incident: &Value) -> Vec<&str> {
    incident["checklist"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checklist_fills_itself_and_an_incident_is_closed_when_all_is_done() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for id in ["a", "b"] {
        service.post("/v1/workers", json!({ "id": id })).await.expect(201);
    }
    let key = service.post("/v1/workers/a/keys", json!({})).await.expect(201);
    let wish = json!({ "title": "Key of a leaked", "severity": "high", "scope": ["worker:a"], "people": ["alice"] });
    let opened = service.post("/v1/incidents", wish).await.expect(201);
    let id = opened["id"].as_str().unwrap();
    assert_eq!((id, states(&opened)), ("INC-1", vec!["open"; 4]));

    during(&service, id, "/v1/workers/a/isolate", json!({})).await.expect(200);
    let plan = json!({ "kind": "revoke_all", "select": ["worker:a"] });
    let plan = during(&service, id, "/v1/plans", plan).await.expect(201);
    let path = format!("/v1/plans/{}/apply?wait=everywhere", plan["id"].as_str().unwrap());
    during(&service, id, &path, json!({ "digest": plan["digest"] })).await.expect(200);
    service.post("/v1/workers/b/isolate", json!({})).await.expect(200);
    let ends = |kind: &'static str| {
        let service = &service;
        async move { events(service, id).await.iter().any(|(found, _)| found == kind) }
    };
    service
        .until("what follows carries it too", async || ends("plan.progressed").await && ends("barrier.passed").await)
        .await;
    let kinds: Vec<String> = events(&service, id).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "worker.isolated").count(),
        1,
        "b was isolated for nothing: {kinds:?}"
    );
    assert!(kinds.contains(&"key.revoked".to_owned()), "{kinds:?}");
    let now = service.get(&format!("/v1/incidents/{id}")).await.expect(200);
    assert_eq!((states(&now), &now["in_force"]), (vec!["filled", "open", "open", "open"], &json!(true)));
    let reason = service.post("/v1/validate", json!({ "credential": key["key"] })).await.expect(200)["reason"].clone();
    assert_eq!(reason, "key_revoked");

    let close = format!("/v1/incidents/{id}/close");
    let refused = service.post(&close, json!({ "summary": "over" })).await;
    assert!(refused.text.contains("rotate, restore, review"), "{refused:?}");
    assert_eq!(refused.problem(409), "steps_open");
    let steps = format!("/v1/incidents/{id}/steps");
    let by_hand = json!({ "step": "rotate", "state": "done" });
    assert_eq!(service.post(&steps, by_hand).await.problem(400), "invalid");
    for (step, state) in [("rotate", "done"), ("restore", "waived")] {
        service.post(&steps, json!({ "step": step, "state": state, "reason": "by phone" })).await.expect(200);
    }
    let note = json!({ "note": "nothing else in the logs", "review": true });
    service.post(&format!("/v1/incidents/{id}/notes"), note).await.expect(200);
    let closed = service.post(&close, json!({ "summary": "one key" })).await.expect(200);
    assert_eq!((&closed["state"], states(&closed)), (&json!("closed"), vec!["filled", "done", "waived", "filled"]));
    assert_eq!(during(&service, id, "/v1/workers/b/release", json!({})).await.problem(409), "incident_closed");
    assert_eq!(service.get("/v1/incidents?state=open").await.expect(200)["items"], json!([]));
    assert_eq!(service.get("/v1/incidents?state=closed").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_is_checked_and_part_of_the_request() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for id in ["case", "other"] {
        let wish = json!({ "id": id, "title": "A case", "severity": "low" });
        service.post("/v1/incidents", wish).await.expect(201);
    }
    let wish = json!({ "id": "case", "title": "A case", "severity": "low" });
    assert_eq!(service.post("/v1/incidents", wish).await.problem(409), "incident_exists");
    let unknown = during(&service, "never", "/v1/workers", json!({ "id": "a" })).await;
    assert!(unknown.text.contains("Portcullis-Incident"), "{unknown:?}");
    assert_eq!(unknown.problem(404), "incident_unknown");
    let malformed = during(&service, "a b", "/v1/workers", json!({ "id": "a" })).await;
    assert_eq!(malformed.json()["field"], "Portcullis-Incident");
    assert_eq!(malformed.problem(400), "invalid");

    let repeated = async |incident: &str| {
        let request = service.request(Method::POST, "/v1/workers").bearer_auth(&service.token);
        service
            .send(
                request
                    .header("Idempotency-Key", "once")
                    .header("Portcullis-Incident", incident)
                    .json(&json!({ "id": "a" })),
            )
            .await
    };
    repeated("case").await.expect(201);
    repeated("case").await.expect(201);
    assert_eq!(repeated("other").await.problem(422), "idempotency_key_reused");
    assert_eq!(events(&service, "case").await.len(), 2);
    // A worker cannot tick off steps.
    let key = service.post("/v1/workers/a/keys", json!({})).await.expect(201);
    let request = service.request(Method::POST, "/v1/worker/key/rotate").bearer_auth(key["key"].as_str().unwrap());
    let own = service.send(request.header("Portcullis-Incident", "case").json(&json!({}))).await;
    assert_eq!(own.json()["field"], "Portcullis-Incident");
    assert_eq!(own.problem(400), "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_works_on_copies_and_leaves_nothing() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for id in ["a", "b", "c"] {
        service.post("/v1/workers", json!({ "id": id, "labels": { "rack": "r7" } })).await.expect(201);
    }
    let wish = json!({ "title": "Friday", "severity": "low", "scope": ["label:rack=r7"], "drill": true });
    let drill = service.post("/v1/incidents", wish).await.expect(201);
    let (id, pool) = (drill["id"].as_str().unwrap(), drill["pool"].as_str().unwrap());
    assert_eq!((id, pool), ("INC-1", "drill-INC-1"));
    let copies = service.get(&format!("/v1/workers?pool={pool}")).await.expect(200);
    assert_eq!(copies["items"].as_array().unwrap().len(), 3);
    for (path, body) in [
        ("/v1/workers/a/isolate", json!({})),
        ("/v1/fences", json!({ "scope": "everything" })),
        ("/v1/plans", json!({ "kind": "isolate", "select": ["label:rack=r7"] })),
        ("/v1/signing-keys/rotate", json!({})),
    ] {
        assert_eq!(during(&service, id, path, body).await.problem(409), "outside_drill", "{path}");
    }
    let plan = json!({ "kind": "isolate", "select": [format!("pool:{pool}"), "label:rack=r7"] });
    let plan = during(&service, id, "/v1/plans", plan).await.expect(201);
    assert_eq!(plan["counts"]["workers"], 3);
    let path = format!("/v1/plans/{}/apply", plan["id"].as_str().unwrap());
    during(&service, id, &path, json!({ "digest": plan["digest"] })).await.expect(200);
    for step in ["rotate", "restore", "review"] {
        let waived = json!({ "step": step, "state": "waived", "reason": "not today" });
        service.post(&format!("/v1/incidents/{id}/steps"), waived).await.expect(200);
    }
    service
        .until("the copies are isolated one by one", async || {
            states(&service.get(&format!("/v1/incidents/{id}")).await.expect(200))[0] == "filled"
        })
        .await;
    let close = format!("/v1/incidents/{id}/close?wait=everywhere");
    service.post(&close, json!({ "summary": "7 minutes" })).await.expect(200);
    assert_eq!(service.get(&format!("/v1/pools/{pool}")).await.expect(200)["removed"], true);
    let left = service.get("/v1/workers?pool=default&state=active").await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 3, "the real ones are as they were");
}
