//! What administrators type: enrollment secrets, operators, signing keys.

use serde_json::json;

use super::{Shell, mode, restrict};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn an_enrollment_secret_is_made_rotated_and_disabled() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let limits = "--cidr 127.0.0.0/8 --name-pattern probe-[0-9]+ --uses-max 5 --expires-at 7d";
    shell.run(&format!("enrollment create default {limits} --key-file first.secret")).await.ok();
    assert_eq!(mode(&shell.path("first.secret")), 0o600);
    let listed = shell.json("enrollment list").await;
    let first = &listed["items"][0];
    assert_eq!((&first["pool"], &first["uses_max"], &first["state"]), (&json!("default"), &json!(5), &json!("live")));
    let id = first["id"].as_str().unwrap();
    let table = shell.run("enrollment list").await.ok();
    assert!(
        table.stdout.trim_start().starts_with("ENROLLMENT SECRET") && table.stdout.contains(id),
        "{}",
        table.stdout
    );
    assert_eq!(shell.json(&format!("enrollment show {id}")).await["cidrs"], json!(["127.0.0.0/8"]));

    let enroll = |name: &str, secret: &str| {
        format!("worker enroll --name {name} --enrollment-secret-file {secret} --key-file {name}.key")
    };
    shell.run(&enroll("probe-1", "first.secret")).await.ok();
    shell.run(&enroll("other", "first.secret")).await.failed(4);
    assert!(!shell.path("other.key").exists(), "a place that was kept for a key is given up with it");

    // The secret alone on standard output, for a script that keeps it.
    let second = shell.run(&format!("enrollment rotate {id} --overlap 0s")).await.ok().stdout;
    assert!(second.starts_with("ptc_en_") && second.lines().count() == 1, "{second}");
    shell.write("second.secret", &second);
    restrict(&shell.path("second.secret"));
    shell.run(&enroll("probe-2", "first.secret")).await.failed(4);
    shell.run(&enroll("probe-2", "second.secret")).await.ok();

    let second = shell.json("enrollment list").await["items"].as_array().unwrap().clone();
    let second = second.iter().find(|secret| secret["parent"] == id).unwrap()["id"].as_str().unwrap();
    let plan = shell.json(&format!("enrollment disable {second} --dry-run")).await;
    assert_eq!((&plan["dry_run"], &plan["enrollment_secrets"][0]["id"]), (&json!(true), &json!(second)));
    shell.run(&enroll("probe-3", "second.secret")).await.ok();
    shell.run(&format!("enrollment disable {second} --yes --reason leaked")).await.ok();
    shell.run(&enroll("probe-4", "second.secret")).await.failed(4);
    shell.run("validate -f probe-3.key").await.ok();
    let again = shell.run(&format!("enrollment disable {second} --yes")).await.ok();
    assert!(again.stderr.contains("it was so already"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_made_given_a_key_and_removed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let made = shell.json("operator create alice --role auditor --key-file alice.token").await;
    assert_eq!((&made["name"], &made["role"], &made["key"]), (&json!("alice"), &json!("auditor"), &json!(null)));
    let id = made["id"].as_str().unwrap();
    let who = shell.json("operator whoami --token-file alice.token").await;
    assert_eq!(who["operator"]["id"], id);
    // Sees everything, changes nothing.
    shell.run("worker list --token-file alice.token").await.ok();
    shell.run("worker create --token-file alice.token").await.failed(4);

    shell.run(&format!("operator update {id}")).await.failed(2);
    shell.run(&format!("operator update {id} --role operator")).await.ok();
    assert_eq!(shell.json(&format!("operator show {id}")).await["role"], "operator");
    shell.run("worker create --id by-alice --token-file alice.token").await.ok();

    shell.run(&format!("operator create-key {id} --expires-at 30d --key-file alice-2.token")).await.ok();
    let keys = shell.json(&format!("operator keys {id}")).await["items"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    let first = keys.iter().find(|key| key["expires_at"].is_null()).unwrap()["id"].as_str().unwrap();
    shell.run(&format!("key revoke {first} --yes")).await.ok();
    shell.run("operator whoami --token-file alice.token").await.failed(4);
    shell.run("operator whoami --token-file alice-2.token").await.ok();

    let plan = shell.json(&format!("operator remove {id} --dry-run")).await;
    assert_eq!((&plan["operators"][0]["id"], plan["keys"].as_array().unwrap().len()), (&json!(id), 1));
    shell.run("operator whoami --token-file alice-2.token").await.ok();
    shell.run(&format!("operator remove {id} --yes --reason left")).await.ok();
    shell.run("operator whoami --token-file alice-2.token").await.failed(4);
    let listed = shell.json("operator list --all").await["items"].as_array().unwrap().clone();
    assert!(listed.iter().any(|operator| operator["name"] == "bootstrap"), "{listed:?}");
    shell.run(&format!("operator show {}", "0".repeat(22))).await.failed(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_planned_raised_and_listed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id w1").await.ok();
    shell.run("key create w1 --key-file first.key").await.ok();
    let plan = shell.json("fence raise worker:w1 --dry-run").await;
    assert_eq!((&plan["dry_run"], &plan["would_refuse"][0]["keys"]), (&json!(true), &json!(1)));
    let shown = shell.run("fence raise worker:w1 --dry-run").await.ok();
    assert!(shown.stderr.contains("1 keys of 1 workers") && shown.stderr.contains("dry run"), "{}", shown.stderr);
    assert!(shown.stdout.contains("ENROLLMENT SECRETS"), "{}", shown.stdout);
    shell.run("validate -f first.key").await.ok();

    let raised = shell.run("fence raise worker:w1 --yes --reason 'lost'").await.ok();
    assert!(raised.stderr.contains("position") && raised.stdout.contains("worker:w1"), "{}", raised.stderr);
    let refused = shell.run("validate -f first.key --output json").await.failed(6);
    assert!(refused.stdout.contains("\"fenced\""), "{}", refused.stdout);
    shell.run("key create w1 --key-file second.key").await.ok();
    shell.run("validate -f second.key").await.ok();
    let again = shell.run("fence raise worker:w1 --up-to 0 --yes").await.ok();
    assert!(again.stderr.contains("it was so already"), "{}", again.stderr);

    let listed = shell.json("fence list").await["items"].as_array().unwrap().clone();
    assert_eq!((listed.len(), &listed[0]["scope"]), (1, &json!("worker:w1")));
    assert!(shell.run("fence list").await.ok().stdout.trim_start().starts_with("SCOPE"));
    shell.run("fence raise").await.failed(2);
    shell.run("fence raise pool:none --yes").await.failed(3);
    shell.run("fence raise pool:none --dry-run").await.failed(3);
    shell.run("fence raise worker:w1 --up-to 99999999 --yes").await.failed(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_are_listed_and_rotated() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let state_of = |list: &serde_json::Value, state: &str| {
        let found = list["items"].as_array().unwrap().iter().find(|key| key["state"] == state).cloned();
        found.map(|key| key["id"].clone())
    };
    shell.run("worker create --id w1").await.ok();
    shell.run("key create w1 --key-file w1.key").await.ok();
    shell.run("token register --api-key-file w1.key --out old.token").await.ok();

    let before = shell.json("signing-key list").await;
    let table = shell.run("signing-key list").await.ok();
    assert_eq!(table.stdout.lines().count(), 3, "{}", table.stdout);
    let rotated = shell.json("signing-key rotate --algorithm ES256 --reason due").await;
    assert_eq!(rotated["active"], state_of(&before, "next").unwrap());
    let after = shell.json("signing-key list").await;
    assert_eq!(state_of(&after, "retired"), state_of(&before, "active"));
    // As long as it lives, a token of the key before is good; with no overlap it is not.
    shell.run("validate -f old.token").await.ok();
    shell.run("token register --api-key-file w1.key --out new.token").await.ok();
    shell.run("signing-key rotate --overlap 0s").await.ok();
    shell.run("validate -f new.token").await.failed(6);
    shell.run("signing-key rotate --algorithm HS256").await.failed(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn honey_keys_are_planted_and_rules_set() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let made = shell.run("key honey create --pool default --note backup-of-host-7 --key-file honey.key").await.ok();
    assert!(!made.stdout.contains("ptc_wk_"), "{}", made.stdout);
    assert!(shell.read("honey.key").starts_with("ptc_wk_"));
    shell.run("validate -f honey.key").await.failed(6);

    let listed = shell.json("key honey list").await["items"].clone();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&listed[0]["pool"], &listed[0]["note"]), (&json!("default"), &json!("backup-of-host-7")));
    assert!(shell.run("key honey list").await.ok().stdout.trim_start().starts_with("KEY"));
    let plan = shell.json(&format!("key honey remove {id} --dry-run")).await;
    assert_eq!((&plan["dry_run"], &plan["honey_keys"][0]["id"]), (&json!(true), &json!(id)));
    shell.run(&format!("key honey remove {id} --yes --reason gone")).await.ok();
    assert_eq!(shell.json("key honey list").await["items"], json!([]));
    shell.run(&format!("key honey remove {} --yes", "0".repeat(22))).await.failed(3);
    shell.run("key honey create --pool none --key-file other.key").await.failed(3);

    let set = shell.json("tripwire set --pool default --honey isolate,open_incident --reason drill").await;
    assert_eq!((&set["honey"], &set["revoked"]), (&json!(["isolate", "open_incident"]), &json!(null)));
    let again = shell.run("tripwire set --pool default --honey open_incident,isolate").await.ok();
    assert!(again.stderr.contains("it was so already"), "{}", again.stderr);
    let rules = shell.json("tripwire list").await["items"].clone();
    assert_eq!((rules.as_array().unwrap().len(), &rules[0]["honey"]), (2, &json!(["record"])));
    assert!(shell.run("tripwire list").await.ok().stdout.contains("isolate"));
    shell.run("tripwire set --honey shout").await.failed(2);
}
