//! Incidents on running services: what is commanded for one fills its checklist, is found by it, and stays in a drill's pool.

mod drills;
mod templates;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Launch, Service};

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
    let followed = async || {
        let found = events(&service, id).await;
        let has = |kind: &str| found.iter().any(|(it, _)| it == kind);
        let now = service.get(&format!("/v1/incidents/{id}")).await.expect(200);
        has("plan.progressed") && has("barrier.passed") && now["in_force"] == true
    };
    service.until("what follows carries it too, and is in force", followed).await;
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

    // How fast the team was, as of any incident.
    let report = service.get(&format!("/v1/incidents/{id}/report")).await;
    assert!(report.text.contains("**This was a drill.**"), "{}", report.text);
    let sql = "select (extract(epoch from isolated.recorded_at - opened.recorded_at) * 1000000)::bigint
                 from log.entries opened, log.entries isolated
                where opened.kind = 'incident.opened' and isolated.kind = 'plan.applied'";
    let took = humantime::parse_duration(&cell(&report.text, "First isolation", 2)).unwrap();
    let difference = took.abs_diff(std::time::Duration::from_micros(counted(&scratch, sql).await));
    assert!(difference <= std::time::Duration::from_millis(1), "{took:?}: {}", report.text);
}

/// A number by another route: SQL over the entries.
async fn counted(scratch: &Scratch, sql: &str) -> u64 {
    let count: i64 = scratch.superuser().await.query_one(sql, &[]).await.unwrap().get(0);
    u64::try_from(count).unwrap()
}

/// A cell of the table's row that begins with this.
fn cell(report: &str, row: &str, column: usize) -> String {
    let line = report.lines().find(|line| line.starts_with(&format!("| {row} |")));
    let line = line.unwrap_or_else(|| panic!("no row {row:?} in\n{report}"));
    // Before the first `|` there is nothing; a cell may be empty.
    line.split('|').nth(column + 1).unwrap().trim().to_owned()
}

/// Five workers with a key each, of which three leak: workers by now, and what they presented.
async fn leak(service: &Service) -> Vec<(String, String)> {
    let mut fleet = vec![];
    for number in 0..5 {
        let (id, rack) = (format!("w{number}"), if number < 3 { "r7" } else { "r8" });
        service.post("/v1/workers", json!({ "id": id, "labels": { "rack": rack } })).await.expect(201);
        let key = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
        let text = key["key"].as_str().unwrap().to_owned();
        service.post_as(&text, "/v1/register", json!({})).await.expect(200);
        fleet.push((id, text));
    }
    let wish = json!({ "id": "leak", "title": "Rack r7", "severity": "critical", "scope": ["label:rack=r7"] });
    service.post("/v1/incidents", wish).await.expect(201);
    for (kind, query) in [("isolate", ""), ("revoke_all", "?wait=everywhere")] {
        let plan = json!({ "kind": kind, "select": ["label:rack=r7"], "reason": "leaked" });
        let plan = during(service, "leak", "/v1/plans", plan).await.expect(201);
        let path = format!("/v1/plans/{}/apply{query}", plan["id"].as_str().unwrap());
        during(service, "leak", &path, json!({ "digest": plan["digest"] })).await.expect(200);
    }
    service
        .until("all is recorded, and in force", async || {
            let found = events(service, "leak").await;
            let count = |kind: &str| found.iter().filter(|(it, _)| it == kind).count();
            let now = service.get("/v1/incidents/leak").await.expect(200);
            count("plan.progressed") == 2 && count("key.revoked") == 1 && now["in_force"] == true
        })
        .await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_counts_who_was_accepted_and_a_report_counts_as_sql_does() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let fleet = leak(&service).await;

    let page = service.get("/v1/incidents/leak/replay?limit=3").await.expect(200);
    let rest = format!("/v1/incidents/leak/replay?cursor={}", page["next_cursor"].as_str().unwrap());
    let rest = service.get(&rest).await.expect(200);
    let moments: Vec<&Value> = [&page, &rest].iter().flat_map(|page| page["items"].as_array().unwrap()).collect();
    assert_eq!(moments.len(), events(&service, "leak").await.len());
    let applied = moments.iter().find(|moment| moment["kind"] == "plan.applied").unwrap();
    assert_eq!(applied["workers"], json!({ "of": "fleet", "looked_at": 5, "before": 5, "after": 2 }));
    assert!(applied["in_force"]["after_seconds"].as_f64().unwrap() >= 0.0, "{applied}");
    let mut accepted = 0;
    for (_, key) in &fleet {
        let verdict = service.post("/v1/validate", json!({ "credential": key })).await.expect(200);
        accepted += u64::from(verdict["reason"] == "ok");
    }
    assert_eq!(accepted, 2, "as the replay says");

    let through = service.get("/v1/events?order=desc&limit=1").await.expect(200)["items"][0]["position"].clone();
    let key = fleet[0].1.split('_').nth(2).unwrap();
    let of_key = service.get(&format!("/v1/events?incident=leak&subject=key:{key}")).await.expect(200);
    let kinds: Vec<&Value> = of_key["items"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["key.revoked"], "found on the plan's list");
    let path = format!("/v1/incidents/leak/report?through={through}");
    let report = service.get(&path).await;
    assert_eq!(service.get(&path).await.text, report.text, "the same bytes each time");
    assert_eq!(report.headers["content-type"], "text/markdown; charset=utf-8");
    for kind in ["worker.isolated", "key.revoked", "plan.applied", "incident.opened"] {
        let sql = format!(
            "select count(*) from log.entries where incident = 'leak' and kind = '{kind}' and position <= {through}"
        );
        assert_eq!(cell(&report.text, kind, 1), counted(&scratch, &sql).await.to_string(), "{kind}");
    }
    let sql = format!("select count(*) from log.entries where entry->>'incident' = 'leak' and position <= {through}");
    let of_incident = counted(&scratch, &sql).await;
    assert!(report.text.contains(&format!("{of_incident} events carry the incident")), "{}", report.text);
    let uses = "select count(distinct entry->>'command_id') from log.entries
                 where coalesce(entry->'credential'->>'key', entry->'credential'->>'id') in
                       (select jsonb_array_elements_text(entry->'data'->'keys')
                          from log.entries where kind = 'key.revoked' and incident = 'leak')";
    assert_eq!(cell(&report.text, "Successful: commands in the log", 1), counted(&scratch, uses).await.to_string());
    assert_eq!(cell(&report.text, "Successful: commands in the log", 3), "0");
    assert!(report.text.contains("3 keys of 3 workers"), "{}", report.text);
    assert!(report.text.contains("a step is open: review"), "{}", report.text);

    let page = service.get(&format!("{path}&format=html")).await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.headers["content-disposition"].to_str().unwrap().starts_with("attachment"), "{:?}", page.headers);
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "it needs nothing beside itself");
    assert_eq!(service.get("/v1/incidents/never/report").await.problem(404), "not_found");
    assert_eq!(service.get("/v1/incidents/leak/report?through=0").await.problem(404), "not_found");
    assert_eq!(service.get("/v1/incidents/leak/report?through=999999").await.problem(400), "invalid");
}

/// As often as it takes; how often it was told to come back, by the code that said so.
async fn at_last(service: &Service, path: &str, told: &mut BTreeMap<String, u32>) -> Answer {
    loop {
        let answer = service.get(path).await;
        if answer.status == 200 {
            return answer;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        let code = serde_json::from_str::<Value>(&answer.text).unwrap()["code"].as_str().unwrap().to_owned();
        *told.entry(code).or_default() += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A log that takes longer to go through than a request may: its answer is made beside the requests, page by page the same as
/// where there is time, and what cannot wait is told how far it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_a_request_is_made_beside_it() {
    const WORKERS: usize = 1_500;
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let secret = service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    let secret = secret["secret"].as_str().unwrap();
    let names: Vec<String> = (0..WORKERS).map(|number| format!("w-{number}")).collect();
    for some in names.chunks(50) {
        let enrolled = some.iter().map(|name| service.post_as(secret, "/v1/enroll", json!({ "name": name })));
        join_all(enrolled).await.into_iter().for_each(|answer| drop(answer.expect(201)));
    }
    let wish = json!({ "id": "all", "title": "All of it", "severity": "critical", "scope": ["everything"] });
    service.post("/v1/incidents", wish).await.expect(201);
    let plan = during(&service, "all", "/v1/plans", json!({ "kind": "isolate", "select": ["everything"] })).await;
    let plan = plan.expect(201);
    let path = format!("/v1/plans/{}/apply", plan["id"].as_str().unwrap());
    during(&service, "all", &path, json!({ "digest": plan["digest"] })).await.expect(200);
    let recorded = async || {
        let plan = service.get(&format!("/v1/plans/{}", plan["id"].as_str().unwrap())).await.expect(200);
        plan["state"] == "recorded" && service.get("/v1/incidents/all").await.expect(200)["in_force"] == true
    };
    service.until("all is recorded, and in force", recorded).await;

    let whole = service.get("/v1/incidents/all/replay?limit=10000").await.expect(200)["items"].clone();
    let through = service.get("/v1/events?order=desc&limit=1").await.expect(200)["items"][0]["position"].clone();
    let report = format!("/v1/incidents/all/report?through={through}");
    let expected = service.get(&report).await;
    assert!(service.stop());

    let hasty = Launch::on(&scratch).data_dir_of(&service).argument("--request-timeout", "100ms").start().await;
    let mut told = BTreeMap::new();
    assert_eq!(at_last(&hasty, &report, &mut told).await.text, expected.text);
    let (mut paged, mut cursor) = (vec![], String::new());
    loop {
        let path = format!("/v1/incidents/all/replay?limit=400{cursor}");
        let page: Value = serde_json::from_str(&at_last(&hasty, &path, &mut told).await.text).unwrap();
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let shown = |moment: &Value| {
        [&moment["position"], &moment["kind"], &moment["workers"], &moment["in_force"]].map(Value::clone)
    };
    let whole: Vec<_> = whole.as_array().unwrap().iter().map(shown).collect();
    assert!(whole.len() > WORKERS, "{}", whole.len());
    assert_eq!(paged[..whole.len()].iter().map(shown).collect::<Vec<_>>(), whole);
    assert!(told.contains_key("replay_underway"), "it was there at once, every time: {told:?}");
}
