//! Checklists of one's own: a file of templates, given to a service at its start.

use reqwest::Method;
use serde_json::json;

use super::{during, states};
use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

const TEMPLATES: &str = r#"{"templates": {
    "leak": [
        {"id": "call", "title": "Call the owner"},
        {"id": "cut", "title": "Cut it off", "filled_by": [["worker.isolated", "key.revoked"]]}
    ]
}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_has_the_steps_of_its_template_for_as_long_as_there_is_a_log() {
    let scratch = Scratch::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("incidents.json");
    std::fs::write(&file, TEMPLATES).unwrap();
    let mut service = Launch::on(&scratch).argument("--incident-templates", file.to_str().unwrap()).start().await;
    service.post("/v1/workers", json!({ "id": "a" })).await.expect(201);
    let wish = json!({ "id": "one", "title": "A key", "severity": "low", "template": "leak" });
    let opened = service.post("/v1/incidents", wish.clone()).await.expect(201);
    let steps = opened["checklist"].as_array().unwrap();
    let titles: Vec<_> = steps.iter().map(|step| (&step["id"], &step["title"])).collect();
    assert_eq!(titles, [(&json!("call"), &json!("Call the owner")), (&json!("cut"), &json!("Cut it off"))]);
    during(&service, "one", "/v1/workers/a/isolate", json!({})).await.expect(200);
    assert_eq!(states(&service.get("/v1/incidents/one").await.expect(200)), ["open", "filled"]);

    let built_in = json!({ "title": "Another", "severity": "low" });
    assert_eq!(states(&service.post("/v1/incidents", built_in).await.expect(201)), ["open"; 4]);
    let mut unknown = wish.clone();
    (unknown["id"], unknown["template"]) = (json!("two"), json!("leaks"));
    let refused = service.post("/v1/incidents", unknown).await;
    assert!(refused.text.contains("one of default, leak"), "{refused:?}");
    assert_eq!((refused.json()["field"].clone(), refused.problem(400)), (json!("template"), "invalid".to_owned()));

    // The file is gone, and what was begun is ended as it was begun.
    assert!(service.stop());
    let service = Launch::on(&scratch).data_dir_of(&service).start().await;
    let mut refused = wish;
    refused["id"] = json!("three");
    assert_eq!(service.post("/v1/incidents", refused).await.problem(400), "invalid");
    assert_eq!(states(&service.get("/v1/incidents/one").await.expect(200)), ["open", "filled"]);
    let called = json!({ "step": "call", "state": "done", "reason": "by phone" });
    service.post("/v1/incidents/one/steps", called).await.expect(200);
    service.post("/v1/incidents/one/close", json!({ "summary": "over" })).await.expect(200);
}

/// The variable names the file as the option does, and a template called `default` takes the place of the built-in one.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_can_be_another_one() {
    let scratch = Scratch::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("incidents.json");
    std::fs::write(&file, TEMPLATES.replace("leak", "default")).unwrap();
    let service = Launch::on(&scratch).variable("PORTCULLIS_INCIDENT_TEMPLATES", file.to_str().unwrap()).start().await;
    let opened = service.post("/v1/incidents", json!({ "title": "A key", "severity": "low" })).await.expect(201);
    assert_eq!(states(&opened), ["open"; 2]);
}

/// Found before the first request is taken, and before anything is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_slip_is_refused_at_start_with_what_is_wrong_and_what_to_do() {
    let scratch = Scratch::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("incidents.json");
    let step = |more: &str| format!(r#"{{"templates": {{"leak": [{{"id": "call", "title": "Call"{more}}}]}}}}"#);
    for (text, told) in [
        (None, ["cannot read", "name a file"]),
        (Some("{}".to_owned()), ["missing field `templates`", "write it as `{\"templates\""]),
        (Some(step(r#", "fills": []"#)), ["unknown field `fills`", "write it as"]),
        (
            Some(step(r#", "filled_by": [["worker.isolate"]]"#)),
            ["template `leak`", "no kind of event `worker.isolate`"],
        ),
        (
            Some(step("}, {\"id\": \"call\", \"title\": \"Call again\"")),
            ["template `leak`", "two steps have the id `call`"],
        ),
    ] {
        match &text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        let launch = Launch::on(&scratch).argument("--incident-templates", file.to_str().unwrap());
        let said = launch.try_start().await.err().unwrap();
        for part in told.into_iter().chain(["`--incident-templates`"]) {
            assert!(said.contains(part), "{text:?}: {part} is not in\n{said}");
        }
    }
    let service = Service::start(&scratch).await;
    assert_eq!(service.send(service.request(Method::GET, "/readyz")).await.status, 200, "nothing is left of it");
}
