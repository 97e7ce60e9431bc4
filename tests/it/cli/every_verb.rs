//! Every verb there is, from the tree of arguments: what changes something is tried with `--dry-run`, and leaves no trace; and
//! whatever it is, a program gets JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use portcullis::domain::operator::Role;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{Shell, restrict};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

/// What is tried elsewhere, or has nothing to say to a program.
const ELSEWHERE: [(&str, &str); 10] = [
    ("serve", "is the service"),
    ("completions", "a program for a shell"),
    ("man", "pages for people"),
    ("incident shell", "a shell"),
    ("netguard run", "tests/it/netguard.rs"),
    ("backup", "tests/it/restore.rs"),
    ("backup verify", "tests/it/restore.rs"),
    ("restore", "tests/it/restore.rs"),
    ("restore adopt", "tests/it/restore.rs"),
    ("mirror verify", "tests/it/mirror.rs"),
];

/// What there is to be changed, by the names that the lines below have for it.
struct World {
    names: Vec<(&'static str, String)>,
}

/// Read by anybody who may, and written as JSON.
const READS: &[&str] = &[
    "pool list",
    "pool show default",
    "worker list",
    "worker show w-1",
    "worker whoami --api-key-file w-1.key",
    "key list",
    "key show KEY",
    "key honey list",
    "enrollment list",
    "enrollment show SECRET",
    "fence list",
    "plan list",
    "plan show PLAN",
    "plan items PLAN",
    "plan policy",
    "incident scope worker:w-1",
    "incident show INC-1",
    "incident list",
    "incident readmit show READMISSION",
    "incident readmit list",
    "incident replay INC-1",
    "incident report INC-1",
    "tripwire list",
    "signing-key list",
    "netguard list",
    "node list",
    "node certificates",
    "node in-force 1",
    "operator list",
    "operator show OPERATOR",
    "operator whoami",
    "operator keys OPERATOR",
    "token introspect --access-token-file w-1.token",
    "validate -f w-1.key",
    "events list --limit 1",
    "webhook list",
    "projection list",
    "projection verify workers",
];

/// Changed by operators.
const CHANGES: &[&str] = &[
    "pool create builders --token-ttl 30m",
    "pool update default --token-ttl 10m",
    "pool remove empty",
    "worker create --id fresh --label zone=a",
    "worker update w-1 --name first",
    "worker remove w-1",
    "worker isolate w-1 --for 2h",
    "worker release w-isolated",
    "worker approve w-pending",
    "worker reject w-pending",
    "worker import fleet.csv",
    "key create w-1 --key-file new.key",
    "key rotate KEY --key-file new.key",
    "key revoke KEY",
    "key honey create --pool default --key-file honey.key",
    "key honey remove HONEY",
    "enrollment create default --key-file en.key",
    "enrollment rotate SECRET --key-file en.key",
    "enrollment disable SECRET",
    "fence raise pool:default",
    "plan isolate pool:default",
    "plan release pool:default",
    "plan revoke-all pool:default",
    "plan disable-enrollment pool:default",
    "plan rotate-all pool:default --secrets-file new.jsonl",
    "plan rotate-enrollment pool:default --secrets-file new.jsonl",
    "plan rotate-signing-keys",
    "plan rotate-tls-certificates",
    "plan fence pool:default",
    "plan apply PLAN --digest DIGEST",
    "plan approve OTHERS --digest OTHER_DIGEST",
    "plan collect COLLECTED --secrets-file new.jsonl",
    "plan policy --kinds revoke_all",
    "incident open Leak --severity high --scope worker:w-1",
    "incident update INC-1 --severity low",
    "incident note all-well --incident INC-1",
    "incident step isolate waived --incident INC-1 --reason no-need",
    "incident close INC-2 --summary over",
    "incident readmit plan worker:w-isolated --wave-size 1",
    "incident readmit apply READMIT --digest READMIT_DIGEST --secrets-file new.jsonl",
    "incident readmit collect READMISSION --secrets-file new.jsonl",
    "incident readmit pause READMISSION",
    "incident readmit resume PAUSED",
    "incident readmit next FETCHED",
    "incident readmit rollback READMISSION",
    "tripwire set --honey isolate",
    "signing-key rotate",
    "netguard add 198.51.100.7",
    "netguard remove 192.0.2.0/24",
    "operator create bob --role auditor --key-file bob.token",
    "operator update OPERATOR --role auditor",
    "operator remove OPERATOR",
    "operator create-key OPERATOR --key-file ci.token",
    "webhook create http://127.0.0.1:9/in --key-file hook.secret",
    "webhook update WEBHOOK --disable",
    "webhook remove WEBHOOK",
    "webhook test WEBHOOK",
    "projection rebuild workers",
];

/// Changed by those who hold the credential.
const OWN_CHANGES: &[&str] = &[
    "worker enroll --enrollment-secret-file en.secret --key-file new.key",
    "worker rotate-key --api-key-file w-1.key --key-file new.key",
    "worker rotate-key --api-key-file w-1.key --in-place",
    "token register --api-key-file w-1.key --out new.token",
    "token renew --access-token-file w-1.token --out new.token",
    "token revoke --access-token-file w-1.token",
    "token revoke --access-token-file w-1.token --worker w-1 --api-key-file w-1.key",
    "compromised -f w-1.key",
];

/// Of these it is compared what was foreseen and what was recorded.
const FOR_REAL: &[&str] = &[
    // Before the fence, which refuses these credentials.
    "worker enroll --enrollment-secret-file en.secret --key-file enrolled.key",
    "worker rotate-key --api-key-file w-2.key --in-place",
    "token register --api-key-file w-3.key --out w-3.token",
    "token renew --access-token-file w-3.token --out w-3.token",
    "token revoke --access-token-file w-3.token",
    "worker create --id fresh --label zone=a",
    "worker isolate w-1 --for 2h --yes",
    "worker remove w-1 --yes",
    "key honey remove HONEY --yes",
    "enrollment disable SECRET --yes",
    "fence raise pool:default --yes",
    "incident close INC-2 --summary over",
    "incident readmit pause READMISSION",
    "operator remove OPERATOR --yes",
    "webhook update WEBHOOK --disable",
    "signing-key rotate",
];

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}

/// Gives workers their keys, and whoever comes later an enrollment secret, in files. The id of the key of `w-1`.
async fn hand_out(service: &Service, shell: &Shell) -> String {
    let keep = |file: &str, secret: &Value| {
        shell.write(file, secret.as_str().unwrap());
        restrict(&shell.path(file));
    };
    service.post("/v1/pools", json!({ "name": "counted", "token_record": "counted" })).await.expect(201);
    service.post("/v1/workers", json!({ "id": "w-counted", "pool": "counted" })).await.expect(201);
    let mut ids = Vec::new();
    for worker in ["w-1", "w-2", "w-3", "w-counted"] {
        let key = service.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201);
        keep(&format!("{worker}.key"), &key["key"]);
        ids.push(id(&key));
    }
    let secret = service.post("/v1/enrollment-secrets", json!({ "pool": "counted" })).await.expect(201);
    keep("en.secret", &secret["secret"]);
    ids.swap_remove(0)
}

impl World {
    async fn new(service: &Service, shell: &Shell) -> Self {
        let post = async |path: &str, body: Value| {
            let answer = service.post(path, body).await;
            assert!(answer.status.is_success(), "{path}: {answer:?}");
            answer.json()
        };
        let mut names = Vec::new();
        for pool in ["empty", "spare"] {
            post("/v1/pools", json!({ "name": pool })).await;
        }
        for worker in ["w-1", "w-2", "w-3", "w-isolated", "back-1", "back-2", "back-3", "back-4", "back-5", "back-6"] {
            post("/v1/workers", json!({ "id": worker })).await;
        }
        post("/v1/workers", json!({ "id": "w-pending", "pending": true })).await;
        for worker in ["w-isolated", "back-1", "back-2", "back-3", "back-4", "back-5", "back-6"] {
            post(&format!("/v1/workers/{worker}/isolate"), json!({})).await;
        }
        names.push(("KEY", hand_out(service, shell).await));
        names.push(("HONEY", id(&post("/v1/honey-keys", json!({ "pool": "default" })).await)));
        names.push(("SECRET", id(&post("/v1/enrollment-secrets", json!({ "pool": "spare" })).await)));
        post("/v1/enrollment-secrets", json!({ "pool": "default" })).await;
        let operator = post("/v1/operators", json!({ "name": "other", "role": "operator" })).await;
        names.push(("OPERATOR", id(&operator)));
        let url = json!({ "url": "http://127.0.0.1:9/in", "kinds": ["pool.removed"] });
        names.push(("WEBHOOK", id(&post("/v1/webhooks", url).await)));
        post("/v1/netguard/addresses", json!({ "address": "192.0.2.0/24" })).await;

        let isolate = json!({ "kind": "isolate", "select": ["worker:w-1"] });
        let plan = post("/v1/plans", isolate.clone()).await;
        names.extend([("PLAN", id(&plan)), ("DIGEST", plan["digest"].as_str().unwrap().to_owned())]);
        let others = service.post_as(operator["key"].as_str().unwrap(), "/v1/plans", isolate).await.expect(201);
        names.extend([("OTHERS", id(&others)), ("OTHER_DIGEST", others["digest"].as_str().unwrap().to_owned())]);
        let apply = async |body: Value| {
            let plan = post("/v1/plans", body).await;
            post(&format!("/v1/plans/{}/apply", id(&plan)), json!({ "digest": plan["digest"] })).await;
            id(&plan)
        };
        names.push(("COLLECTED", apply(json!({ "kind": "rotate_enrollment", "select": ["pool:default"] })).await));
        let waves = json!({ "size": 1, "every": "7d", "stop_after_refusals": 0, "stop_after_trips": 0 });
        let readmit =
            |workers: Value| json!({ "kind": "readmit", "select": workers, "delivery": "file", "waves": waves });
        for (name, workers, delivery) in [
            ("READMISSION", ["back-1", "back-2"], "file"),
            ("PAUSED", ["back-3", "back-4"], "file"),
            // A next wave waits for nobody to collect its keys.
            ("FETCHED", ["back-5", "back-6"], "fetch"),
        ] {
            let mut body = readmit(json!(workers.map(|worker| format!("worker:{worker}"))));
            body["delivery"] = json!(delivery);
            let plan = apply(body).await;
            let path = format!("/v1/readmissions/{plan}");
            service.until("one is back", async || service.get(&path).await.expect(200)["released"] == json!(1)).await;
            names.push((name, plan));
        }
        post(&format!("/v1/readmissions/{}/pause", named(&names, "PAUSED")), json!({})).await;
        let plan = post("/v1/plans", readmit(json!(["worker:w-isolated"]))).await;
        names.extend([("READMIT", id(&plan)), ("READMIT_DIGEST", plan["digest"].as_str().unwrap().to_owned())]);

        for title in ["One", "Two"] {
            post("/v1/incidents", json!({ "title": title, "severity": "low" })).await;
        }
        for step in ["isolate", "rotate", "restore", "review"] {
            let waived = json!({ "step": step, "state": "waived", "reason": "a trial" });
            post("/v1/incidents/INC-2/steps", waived).await;
        }
        shell.write("fleet.csv", "pool,id\ndefault,imported\n");
        Self { names }
    }

    /// The line with what its capitals stand for.
    fn line(&self, line: &str) -> String {
        let words = line.split(' ').map(|word| match self.names.iter().find(|(name, _)| *name == word) {
            Some((_, value)) => value.as_str(),
            None => word,
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn named(names: &[(&'static str, String)], wanted: &str) -> String {
    names.iter().find(|(name, _)| *name == wanted).unwrap().1.clone()
}

/// Every verb below, in the words that are typed.
fn verbs(command: &clap::Command, above: &str, found: &mut BTreeSet<String>) {
    if !command.is_subcommand_required_set() {
        found.insert(above.to_owned());
    }
    for below in command.get_subcommands() {
        verbs(below, format!("{above} {}", below.get_name()).trim_start(), found);
    }
}

/// The verb that a line types.
fn verb(all: &BTreeSet<String>, line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    while !all.contains(&words.join(" ")) {
        assert!(words.pop().is_some(), "`{line}` types no verb");
    }
    words.join(" ")
}

/// Where the log ends, but for what the service records by itself.
async fn head(log: &Client) -> i64 {
    let newest = "select coalesce(max(position), 0) from log.event where actor <> 'system'";
    log.query_one(newest, &[]).await.unwrap().get(0)
}

fn files(shell: &Shell) -> BTreeMap<PathBuf, Vec<u8>> {
    let listed = std::fs::read_dir(shell.path(".")).unwrap().map(|file| file.unwrap().path());
    listed.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn kinds(events: &Value) -> Vec<String> {
    let kinds = events.as_array().unwrap_or_else(|| panic!("no events: {events}")).iter();
    kinds.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_that_changes_something_can_be_tried_without_a_trace_and_every_verb_speaks_json() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let log = scratch.superuser().await;
    let world = World::new(&service, &shell).await;
    let mut all = BTreeSet::new();
    verbs(&portcullis::cli::command(), "", &mut all);
    let mut left = all.clone();

    shell.run("token register --api-key-file w-1.key --out w-1.token").await.ok();
    let (before, files_before) = (head(&log).await, files(&shell));
    for line in CHANGES.iter().chain(OWN_CHANGES) {
        left.remove(&verb(&all, line));
        let foreseen = shell.json(&format!("{} --dry-run", world.line(line))).await;
        assert_eq!(foreseen["dry_run"], json!(true), "{line}: {foreseen}");
        assert_eq!(head(&log).await, before, "`{line} --dry-run` was recorded");
        assert_eq!(files(&shell), files_before, "`{line} --dry-run` has made or changed a file");
    }

    for line in READS {
        left.remove(&verb(&all, line));
        let ran = shell.run(&format!("{} --output json", world.line(line))).await.ok();
        // Events come one a line.
        let documents = serde_json::Deserializer::from_str(&ran.stdout).into_iter::<Value>();
        let documents: Vec<Value> = documents.map(|it| it.unwrap_or_else(|error| panic!("{line}: {error}"))).collect();
        assert_eq!(documents.len(), 1, "{line}: {}", ran.stdout);
    }
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    assert_eq!(left, elsewhere, "a verb that is not tried, or one that is named and tried, or that there is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dry_run_foresees_is_what_is_recorded() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let log = scratch.superuser().await;
    let world = World::new(&service, &shell).await;
    for line in FOR_REAL {
        let line = world.line(line);
        let foreseen = shell.json(&format!("{line} --dry-run")).await;
        let before = head(&log).await;
        shell.json(&line).await;
        let recorded = service.get(&format!("/v1/events?from={}", before + 1)).await.expect(200);
        let ours = |event: &&Value| event["actor"]["kind"] != "system";
        let recorded: Vec<Value> = recorded["items"].as_array().unwrap().iter().filter(ours).cloned().collect();
        assert_eq!(kinds(&foreseen["would"]), kinds(&json!(recorded)), "{line}");
        assert!(!recorded.is_empty(), "{line}");
    }
    // Where tokens are counted, none leaves an event of its own.
    let counted = shell.json("token register --api-key-file w-counted.key --dry-run").await;
    assert_eq!((kinds(&counted["would"]), &counted["changed"]), (vec!["token.issued".to_owned()], &json!(false)));
    assert_eq!(counted["would"][0]["subject"], json!({ "id": "w-counted", "kind": "worker" }));
    assert_eq!(counted["would"][0]["data"]["scopes"], json!([]));
    // And of what nobody knows, none is left by anything.
    shell.write("none.token", "x");
    restrict(&shell.path("none.token"));
    let nothing = shell.json("token revoke --access-token-file none.token --dry-run").await;
    assert_eq!((&nothing["would"], &nothing["changed"]), (&json!([]), &json!(false)));
    // A person reads a table and one sentence.
    let shown = shell.run("pool create builders --dry-run").await.ok();
    assert!(shown.stdout.contains("pool.created") && shown.stdout.contains("pool:builders"), "{}", shown.stdout);
    assert!(shown.stderr.contains("Nothing was changed: this was a dry run."), "{}", shown.stderr);
    let again = shell.run("pool update default --token-ttl 15m --dry-run").await.ok();
    assert!(again.stderr.contains("so already") && again.stdout.is_empty(), "{}{}", again.stdout, again.stderr);
    // A file that is in the way is told of, as it would be.
    shell.write("taken.key", "");
    shell.run("key create w-isolated --key-file taken.key --dry-run").await.failed(2);
    shell.run("incident open Two --severity low --id INC-1 --dry-run").await.failed(3);
}

/// Who may not do it may not try it either.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_forbidden_to_whom_the_real_thing_is() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let world = World::new(&service, &shell).await;
    let auditor = json!({ "name": "auditor", "role": Role::Auditor.as_str() });
    let auditor = service.post("/v1/operators", auditor).await.expect(201);
    let token = auditor["key"].as_str().unwrap();
    for line in CHANGES {
        let line = format!("{} --dry-run", world.line(line));
        let ran = shell.run_with(&line, &[("PORTCULLIS_TOKEN", token)]).await;
        assert_eq!(ran.code, 4, "{line}: {}{}", ran.stdout, ran.stderr);
    }
}
