//! The TLS certificates of running nodes: in the log with their fingerprints, replaced by a plan, and trusted by the same
//! clients as before.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

/// SHA-256 of what a client is shown, as `openssl` sees it, if that is signed by the authority that clients know.
fn shown(service: &Service) -> String {
    let address = service.url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let ca_file = service.file("tls/ca.pem");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-connect", &address, "-CAfile"]).arg(ca_file);
    let client = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped()).output().unwrap();
    assert!(client.status.success(), "it is not trusted");
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &client.stdout).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    said.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}

async fn certificates(service: &Service) -> Value {
    service.get("/v1/nodes/certificates").await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_replaces_the_certificates_of_all_nodes_and_clients_notice_nothing() {
    let scratch = Scratch::new().await;
    let one = Service::start(&scratch).await;
    let root_key = one.file("root.key");
    let other = Launch::on(&scratch).argument("--root-key-file", root_key.to_str().unwrap());
    let mut other = other.argument("--node-name", "other").start().await;
    other.token.clone_from(&one.token);
    let before = [shown(&one), shown(&other)];
    other
        .until("the other node is in the list", async || {
            certificates(&one).await["items"].as_array().unwrap().len() == 2
        })
        .await;
    let found = certificates(&one).await;
    assert_eq!(found["wanted_since"], Value::Null);
    for item in found["items"].as_array().unwrap() {
        let own = if item["node"] == "other" { &before[1] } else { &before[0] };
        assert_eq!((&item["fingerprint"], &item["due"]), (&json!(own), &json!(false)), "{found}");
    }

    let case =
        one.post("/v1/incidents", json!({ "id": "case", "title": "a host was broken into", "severity": "high" }));
    case.await.expect(201);
    let wish = json!({ "kind": "rotate_tls_certificates", "select": ["everything"] });
    let plan = one.post("/v1/plans", wish).await.expect(201);
    assert_eq!(plan["counts"]["tls_certificates"], 2, "{plan}");
    let path = format!("/v1/plans/{}/apply", plan["id"].as_str().unwrap());
    let request =
        one.request(reqwest::Method::POST, &path).bearer_auth(&one.token).header("Portcullis-Incident", "case");
    one.send(request.json(&json!({ "digest": plan["digest"] }))).await.expect(200);
    let is_done = async || {
        let found = certificates(&one).await;
        found["wanted_since"].is_u64() && found["items"].as_array().unwrap().iter().all(|item| item["due"] == false)
    };
    one.until("both have another", is_done).await;
    let after = [shown(&one), shown(&other)];
    assert!(before.iter().all(|old| !after.contains(old)), "{before:?} {after:?}");

    let path = "/v1/events?kind=tls_certificate.served&order=desc&limit=2";
    let events = one.get(path).await.expect(200);
    let applied = certificates(&one).await["wanted_since"].clone();
    for event in events["items"].as_array().unwrap() {
        assert_eq!((&event["cause"], &event["incident"]), (&applied, &json!("case")), "{event}");
        assert!(after.iter().any(|new| event["data"]["fingerprint"] == json!(new)), "{event} {after:?}");
    }
    // A client that has known the authority from the beginning still does.
    one.get("/v1/workers").await.expect(200);
}

/// Nobody but whoever has the files can replace them: the node says so, and is listed until they are others.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_files_of_others_is_due_until_they_are_others() {
    let scratch = Scratch::new().await;
    let mut donor = Service::start(&scratch).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.pem");
    std::fs::copy(donor.file("tls/server.pem"), &file).unwrap();
    let root_key = donor.file("root.key");
    let path = file.to_str().unwrap();
    let mut service = Launch::on(&scratch).argument("--root-key-file", root_key.to_str().unwrap());
    for (option, value) in [("--tls-cert", path), ("--tls-key", path), ("--node-name", "files")] {
        service = service.argument(option, value);
    }
    // Where the client looks for what it trusts.
    std::fs::create_dir(service.data_dir().join("tls")).unwrap();
    std::fs::copy(donor.file("tls/ca.pem"), service.data_dir().join("tls/ca.pem")).unwrap();
    let mut service = service.start().await;
    service.token.clone_from(&donor.token);
    let due = async |service: &Service| {
        let found = certificates(service).await;
        found["items"].as_array().unwrap().iter().find(|item| item["node"] == "files").unwrap()["due"].clone()
    };
    let plan = service.post("/v1/plans", json!({ "kind": "rotate_tls_certificates", "select": ["everything"] })).await;
    let plan = plan.expect(201);
    let path = format!("/v1/plans/{}/apply", plan["id"].as_str().unwrap());
    service.post(&path, json!({ "digest": plan["digest"] })).await.expect(200);
    service.until("it says what it needs", async || service.log().contains("put a new one into the files")).await;
    assert_eq!(due(&service).await, json!(true));
    // The other has made itself another, which is good for this one too.
    let old = std::fs::read(&file).unwrap();
    let new = donor.file("tls/server.pem");
    service.until("the other has another", async || std::fs::read(&new).unwrap() != old).await;
    std::fs::copy(&new, &file).unwrap();
    service.until("the new one is in force", async || due(&service).await == json!(false)).await;
    assert!(donor.stop());
}
