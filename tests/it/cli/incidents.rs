//! What a responder types: an incident is opened, a shell carries it, and it is closed when the list is done.

use serde_json::json;

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_opened_worked_on_in_a_shell_and_closed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    for id in ["probe-1", "probe-2"] {
        shell.run(&format!("worker create --id {id}")).await.ok();
    }
    let opened =
        shell.json("incident open Leak --severity high --scope worker:probe-1 --first-sign 40m --person bo").await;
    assert_eq!((&opened["id"], &opened["people"]), (&json!("INC-1"), &json!(["bo"])));
    shell.run("worker isolate probe-1 --yes --incident INC-1").await.ok();
    // Without a terminal: the shell is given what to do, and whatever it does is for the incident.
    shell.write(
        "work.sh",
        "portcullis worker isolate probe-2 --yes && portcullis incident note 'both are cut off' && exit 7",
    );
    let path = shell.path("work.sh");
    let run = shell.run_with(&format!("incident shell INC-1 -- {}", path.display()), &[("SHELL", "/bin/sh")]).await;
    run.failed(7);
    let events = shell.json("events list --of-incident INC-1 --limit 1").await;
    assert_eq!((&events["kind"], &events["data"]["drill"]), (&json!("incident.opened"), &json!(false)));
    let shown = shell.json("incident show INC-1").await;
    assert_eq!((&shown["checklist"][0]["state"], &shown["notes"]), (&json!("filled"), &json!(1)));
    assert_eq!(shown["checklist"][0]["seen"].as_array().unwrap().len(), 1);

    shell.run("incident step rotate done").await.failed(2);
    shell.run("incident step rotate done --incident INC-1").await.failed(3);
    for step in ["rotate", "restore"] {
        shell.run(&format!("incident step {step} waived --incident INC-1 --reason none-leaked")).await.ok();
    }
    shell.run("incident close INC-1 --summary over --dry-run").await.failed(3);
    let refused = shell.run("incident close INC-1 --summary over").await.failed(3);
    assert!(refused.stderr.contains("review"), "{}", refused.stderr);
    shell.run_with("incident note --review nothing-else", &[("PORTCULLIS_INCIDENT", "INC-1")]).await.ok();
    shell.run("incident close INC-1 --summary over --dry-run").await.ok();
    shell.run("incident close INC-1 --summary over").await.ok();
    shell.run("incident shell INC-1").await.failed(2);
    assert_eq!(shell.json("incident list --state closed").await["items"].as_array().unwrap().len(), 1);
    shell.run("worker release probe-1 --incident INC-1").await.failed(3);

    let replay = shell.json("incident replay INC-1").await;
    assert_eq!(replay["items"][0]["kind"], "incident.opened");
    assert!(shell.run("incident replay INC-1").await.ok().stdout.contains("worker.isolated"));
    let written = shell.json("incident report INC-1 --format html --out report.html").await;
    assert_eq!(written["format"], "html");
    assert!(shell.read("report.html").starts_with("<!doctype html>"));
    let text = shell.run("incident report INC-1").await.ok().stdout;
    assert!(text.starts_with("# INC-1: Leak") && text.contains("waived"), "{text}");
}
