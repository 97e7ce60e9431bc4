//! What a responder types: a plan is shown, then applied; or both in one go.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

use serde_json::json;

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;

/// Not all of what was asked for, or not all of what was foreseen.
const PARTLY: i32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shown_and_applied_by_its_digest_or_at_once() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    for number in 1..=3 {
        shell.run(&format!("worker create --id probe-{number}")).await.ok();
        shell.run(&format!("key create probe-{number} --key-file probe-{number}.key")).await.ok();
    }
    let dry = shell.json("plan isolate pool:default --dry-run").await;
    assert_eq!((&dry["counts"]["workers"], &dry["dry_run"]), (&json!(3), &json!(true)));
    let shown = shell.run("plan isolate pool:default --dry-run").await.ok().stdout;
    for part in ["probe-1", "as of position", "it expires"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let plan = shell.json("plan isolate pool:default --until 2h --plan-only --reason drill").await;
    let (id, digest) = (plan["id"].as_str().unwrap(), plan["digest"].as_str().unwrap());
    assert_eq!(shell.json(&format!("plan items {id}")).await["items"].as_array().unwrap().len(), 3);
    shell.run("validate -f probe-1.key").await.ok();

    let foreseen = shell.run(&format!("plan apply {id} --digest {digest} --dry-run")).await.ok();
    assert!(foreseen.stderr.contains("would be applied"), "{}", foreseen.stderr);
    shell.run(&format!("plan apply {id} --digest {} --dry-run", "0".repeat(64))).await.failed(PARTLY);
    shell.run("validate -f probe-1.key").await.ok();
    let wrong = shell.run(&format!("plan apply {id} --digest {}", "0".repeat(64))).await.failed(3);
    assert!(wrong.stderr.contains("plan show"), "{}", wrong.stderr);
    let applied = shell.json(&format!("plan apply {id} --digest {digest} --wait")).await;
    assert_eq!((&applied["state"], &applied["progress"]["recorded"]), (&json!("recorded"), &json!(3)));
    shell.run("validate -f probe-1.key").await.failed(6);
    assert_eq!(shell.json(&format!("plan show {id}")).await["state"], "recorded");
    let shown = shell.run(&format!("plan show {id}")).await.ok().stdout;
    assert!(shown.contains("made at position"), "{shown}");

    shell.run("plan release worker:probe-1 --yes").await.ok();
    shell.run("validate -f probe-1.key").await.ok();
    shell.run("plan revoke-all worker:probe-1 worker:probe-2 --yes --reason leaked").await.ok();
    shell.run("validate -f probe-1.key").await.failed(6);
    assert_eq!(shell.json("plan list").await["items"].as_array().unwrap().len(), 3);
    shell.run("plan isolate pool:green --yes").await.failed(3);
    shell.run("plan isolate pools").await.failed(3);
}

/// One key for both commands of a line: what was lost on the way is asked for again by the same line, and done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_sent_again_with_its_idempotency_key_makes_and_applies_one_plan() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id probe").await.ok();
    let line = "plan isolate pool:default --yes --reason drill --idempotency-key incident-7";
    let first = shell.json(line).await;
    let again = shell.json(line).await;
    assert_eq!((&first["id"], &first["applied"]), (&again["id"], &again["applied"]));
    shell.run("plan release worker:probe --yes --reason over").await.ok();
    // Also after somebody has changed what it selects.
    assert_eq!(shell.json(line).await["id"], first["id"]);
    assert_eq!(shell.json("plan list").await["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        service.get("/v1/workers/probe").await.expect(200)["state"],
        "active",
        "the isolation was not done again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_is_a_table_a_tree_or_a_graph() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id probe-1").await.ok();
    shell.run("key create probe-1 --key-file probe-1.key").await.ok();
    let found = shell.json("incident scope --credential-file probe-1.key").await;
    assert_eq!((&found["counts"]["workers"], &found["counts"]["keys"]), (&json!(1), &json!(1)));
    let table = shell.run("incident scope --credential-file probe-1.key").await.ok();
    assert!(table.stdout.contains("worker:probe-1"), "{}", table.stdout);
    let tree = shell.run("incident scope worker:probe-1 --as tree").await.ok();
    assert!(tree.stdout.contains("worker:probe-1 (active)\n  holds key:"), "{}", tree.stdout);
    let dot = shell.run("incident scope worker:probe-1 --as dot").await.ok();
    assert!(dot.stdout.starts_with("digraph scope {"), "{}", dot.stdout);
    shell.run("incident scope").await.failed(2);
    // A token leads to its key; of one that says so and proves nothing it is told, and no plan goes by it.
    shell.run("token register --api-key-file probe-1.key --out probe-1.token").await.ok();
    let of_token = shell.json("incident scope --credential-file probe-1.token").await;
    assert_eq!((&of_token["select"], &of_token["credential"]["proven"]), (&found["select"], &json!(true)));
    let token = shell.read("probe-1.token");
    let (message, signature) = token.trim().rsplit_once('.').unwrap();
    shell.write("forged.token", &format!("{message}.{}", signature.chars().rev().collect::<String>()));
    std::fs::set_permissions(shell.path("forged.token"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let forged = shell.run("incident scope --credential-file forged.token").await.ok();
    assert!(forged.stderr.contains("anybody can have written"), "{}", forged.stderr);
    shell.run("plan isolate --credential-file forged.token --yes").await.failed(3);
    shell.run("plan isolate --credential-file probe-1.token --dry-run").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_come_into_a_file_and_a_changed_plan_is_made_anew() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id probe-1").await.ok();
    shell.run("key create probe-1 --key-file probe-1.key").await.ok();
    shell.run("plan rotate-all worker:probe-1 --overlap 1h --secrets-file new.jsonl --yes").await.ok();
    let text = std::fs::read_to_string(shell.folder.path().join("new.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["workers"], &lines[2]["done"]), (3, &json!(["probe-1"]), &json!(1)));
    let mut private = std::fs::OpenOptions::new();
    let mut file = private.write(true).create_new(true).mode(0o600).open(shell.folder.path().join("new.key")).unwrap();
    file.write_all(lines[1]["secret"].as_str().unwrap().as_bytes()).unwrap();
    shell.run("validate -f new.key").await.ok();
    shell.run("validate -f probe-1.key").await.ok();
    let plan = lines[0]["plan"].as_str().unwrap();
    // The page was lost, and whoever goes on says another reason: the same key all the same.
    std::fs::write(shell.folder.path().join("new.jsonl"), format!("{}\n", lines[0])).unwrap();
    let collect = format!("plan collect {plan} --secrets-file new.jsonl --resume --reason lost");
    let collected = shell.json(&collect).await;
    assert_eq!((&collected["plan"], &collected["file"]), (&json!(plan), &json!("new.jsonl")));
    let again = std::fs::read_to_string(shell.folder.path().join("new.jsonl")).unwrap();
    assert!(again.contains(lines[1]["secret"].as_str().unwrap()) && again.ends_with("{\"done\":1}\n"), "{again}");
    shell.run("plan rotate-enrollment everything --yes").await.failed(2);

    let plan = shell.json("plan isolate pool:default --plan-only").await;
    let (id, digest) = (plan["id"].as_str().unwrap(), plan["digest"].as_str().unwrap());
    shell.run(&format!("plan items {id}")).await.ok();
    shell.run("worker create --id probe-2").await.ok();
    let changed = shell.run(&format!("plan apply {id} --digest {digest} --dry-run")).await.failed(PARTLY);
    assert!(changed.stderr.contains("probe-2") && changed.stderr.contains("has changed"), "{}", changed.stderr);
    shell.run(&format!("plan apply {id} --digest {digest}")).await.failed(3);
    let applied = shell.run(&format!("plan apply {id} --digest {digest} --replan --yes")).await.ok();
    assert!(applied.stderr.contains("1 items came to the list and 0 left it"), "{}", applied.stderr);
    shell.run("validate -f new.key").await.failed(6);
    let policy = shell.json("plan policy --kinds isolate,release --pools default").await;
    assert_eq!((&policy["kinds"], &policy["pools"]), (&json!(["isolate", "release"]), &json!(["default"])));
    let waits = shell.run("plan release everything --yes").await.ok();
    assert!(waits.stderr.contains("another operator has to approve it"), "{}", waits.stderr);
}

/// Whoever applies a plan that has changed is told what differs, though nobody has looked at its list before.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_only_made_is_made_anew_with_what_differs() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id probe-1").await.ok();
    shell.run("worker create --id probe-2").await.ok();
    let plan = shell.json("plan isolate pool:default --plan-only").await;
    let (id, digest) = (plan["id"].as_str().unwrap(), plan["digest"].as_str().unwrap());
    shell.run("worker create --id probe-3").await.ok();
    shell.run("worker remove probe-1 --yes").await.ok();
    let applied = shell.run(&format!("plan apply {id} --digest {digest} --replan --yes")).await.ok().stderr;
    for told in ["1 items came to the list and 1 left it", "probe-3", "probe-1"] {
        assert!(applied.contains(told), "{told} is not in\n{applied}");
    }
    assert!(!applied.contains("probe-2"), "it was on both lists:\n{applied}");
}

/// The kinds of plans that end what lets workers in: by the record of each enrollment secret, or by one fence.
#[tokio::test(flavor = "multi_thread")]
async fn enrollment_is_ended_by_a_plan_and_all_that_was_issued_by_a_fence() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("enrollment create default --key-file en.key").await.ok();
    shell.run("worker enroll --name one --enrollment-secret-file en.key --key-file one.key").await.ok();
    let dry = shell.json("plan disable-enrollment pool:default --dry-run").await;
    assert_eq!(dry["counts"]["enrollment_secrets"], json!(1));
    let ran = shell.run("plan disable-enrollment pool:default --yes --reason incident-7").await.ok();
    assert!(ran.stderr.contains("Each of 1 items is recorded."), "{}", ran.stderr);
    shell.run("worker enroll --name two --enrollment-secret-file en.key --key-file two.key").await.failed(4);
    shell.run("validate -f one.key").await.ok();
    assert_eq!(shell.json("enrollment list").await["items"][0]["state"], "disabled");

    let ran = shell.run("plan fence pool:default --yes --reason incident-7").await.ok();
    assert!(!ran.stderr.contains("record of"), "a fence is its own record: {}", ran.stderr);
    shell.run("validate -f one.key").await.failed(6);
    let worker = shell.json("worker list").await["items"][0]["id"].as_str().unwrap().to_owned();
    shell.run(&format!("key create {worker} --key-file new.key")).await.ok();
    shell.run("validate -f new.key").await.ok();
}

/// Without a file for the new keys each worker is told, and gets its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_rotates_its_key_in_place() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id probe-1").await.ok();
    shell.run("key create probe-1 --key-file probe.key").await.ok();
    shell.run("plan rotate-all pool:default --overlap 1m --yes").await.failed(3);
    let plan = shell.json("plan rotate-all pool:default --overlap 5m --yes").await;
    assert_eq!((&plan["delivery"], &plan["state"]), (&json!("fetch"), &json!("recorded")));
    let told = shell.json("worker whoami --api-key-file probe.key").await;
    let by = told["credential"]["rotate_by"].as_str().unwrap().to_owned();
    let old = shell.read("probe.key");
    let rotated = shell.json("worker rotate-key --api-key-file probe.key --in-place").await;
    assert_eq!(rotated["overlap_until"], json!(by), "the old key is good no longer than the plan has said");
    assert_ne!(shell.read("probe.key"), old);
    let told = shell.json("worker whoami --api-key-file probe.key").await;
    assert_eq!(told["credential"]["rotate_by"], json!(null));
}
