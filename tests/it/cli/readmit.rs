//! What a responder types to let workers back in: a plan, then the waves with their keys in a file.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_an_incident_come_back_with_the_keys_in_a_file() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    for number in 1..=3 {
        shell.run(&format!("worker create --id probe-{number}")).await.ok();
        shell.run(&format!("key create probe-{number} --key-file probe-{number}.key")).await.ok();
    }
    shell.run("incident open Leak --severity high --scope pool:default").await.ok();
    shell.run("plan isolate pool:default --yes --incident INC-1").await.ok();
    shell.run("incident readmit plan --wave-size 2").await.failed(2);
    let plan = "incident readmit plan --incident INC-1 --wave-size 2 --wave-every 1s";
    let dry = shell.json(&format!("{plan} --dry-run")).await;
    assert_eq!((&dry["counts"]["workers"], &dry["waves"]["planned"]), (&json!(3), &json!(2)));
    let made = shell.json(plan).await;
    let (id, digest) = (made["id"].as_str().unwrap(), made["digest"].as_str().unwrap());
    let apply =
        format!("incident readmit apply {id} --digest {digest} --incident INC-1 --secrets-file new.jsonl --follow");
    shell.run(&format!("{apply} --dry-run")).await.ok();
    shell.run(&format!("incident readmit apply {id} --digest {digest} --follow")).await.failed(2);
    let last = shell.json(&apply).await;
    assert_eq!((&last["state"], &last["keyed"], &last["incident"]), (&json!("completed"), &json!(3), &json!("INC-1")));
    let mode = std::fs::metadata(shell.path("new.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = shell.read("new.jsonl");
    let keys: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<&Value> = keys.iter().filter(|line| line["secret"].is_string()).collect();
    assert_eq!(keys.len(), 3, "{text}");
    shell.write("back.key", keys[0]["secret"].as_str().unwrap());
    std::fs::set_permissions(shell.path("back.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    shell.run("validate -f back.key").await.ok();
    shell.run("validate -f probe-1.key").await.failed(6);

    let table = shell.run(&format!("incident readmit show {id}")).await.ok().stdout;
    assert!(
        table.contains("completed") && table.to_lowercase().contains("canary") && table.lines().count() < 40,
        "{table}"
    );
    assert_eq!(shell.json("incident readmit list").await["items"].as_array().unwrap().len(), 1);
    shell.run(&format!("incident readmit pause {id}")).await.failed(3);
    // It is over, and its dry run is refused for that too.
    shell.run(&format!("incident readmit rollback {id} --dry-run")).await.failed(3);

    shell.run("plan isolate pool:default --yes").await.ok();
    let made =
        shell.json("incident readmit plan pool:default --wave-size 1 --wave-every 1h --keys fetch --overlap 1h").await;
    let (id, digest) = (made["id"].as_str().unwrap(), made["digest"].as_str().unwrap());
    shell.run(&format!("incident readmit apply {id} --digest {digest}")).await.ok();
    service
        .until("one is back", async || {
            service.get(&format!("/v1/readmissions/{id}")).await.expect(200)["released"] == json!(1)
        })
        .await;
    assert_eq!(shell.json(&format!("incident readmit next {id}")).await["changed"], json!(true));
    assert_eq!(shell.json(&format!("incident readmit pause {id}")).await["state"], json!("paused"));
    assert_eq!(shell.json(&format!("incident readmit resume {id}")).await["state"], json!("releasing"));
    let dry = shell.json(&format!("incident readmit rollback {id} --dry-run")).await;
    assert_eq!(
        (&dry["would"][0]["kind"], &dry["readmissions"][0]["released"]),
        (&json!("readmission.rolled_back"), &json!(2))
    );
    let back = shell.json(&format!("incident readmit rollback {id} --wait --reason odd")).await;
    assert_eq!(back["state"], json!("rolled_back"));
}
