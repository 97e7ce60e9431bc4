//! A bad day, whole: one of the three secrets by which 10,000 workers got in has leaked, and somebody follows the runbook,
//! while gateways at three nodes ask about everybody. What it stops is refused from then on, nobody else ever is, and the
//! report's numbers are what SQL counts in the log.

mod fleet;
mod load;
mod numbers;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::program::run;
use crate::support::runbook::{as_after_a_build, shell, steps};
use crate::support::service::{Launch, Service};
use fleet::Fleet;
use load::Load;

const RUNBOOK: &str = include_str!("../../ops/runbooks/leaked-enrollment-secret.md");
const NODES: usize = 3;
/// Which of the runbook's steps has isolated everybody when it has ended: from there on nobody is accepted. And after which one
/// nobody gets in by the secret any more.
const STOPPED: usize = 2;
const CLOSED: usize = 3;

/// Services on one log.
async fn nodes(scratch: &Scratch) -> Vec<Service> {
    let first = Launch::on(scratch).argument("--node-name", "gate-1").start().await;
    let root_key = first.file("root.key");
    let mut nodes = vec![first];
    while nodes.len() < NODES {
        let next = Launch::on(scratch).argument("--node-name", &format!("gate-{}", nodes.len() + 1));
        let mut next = next.argument("--root-key-file", root_key.to_str().unwrap()).start().await;
        next.token.clone_from(&nodes[0].token);
        nodes.push(next);
    }
    nodes
}

/// Failures are counted into the log by the minute, and a person takes longer than that.
const UNTIL_FAILURES_ARE_COUNTED: &str = "
    until portcullis events list --kind auth.failures_observed --output json | grep -q '\"key:'; do sleep 1; done
";

/// The steps as one program that leaves a file for each that has ended. What is replaced is how long a wave stands.
fn program() -> String {
    let mut steps = steps(RUNBOOK);
    assert!(steps.len() > CLOSED, "too few steps are marked");
    let closing = steps.pop().unwrap();
    steps.extend([UNTIL_FAILURES_ARE_COUNTED.to_owned(), closing]);
    let ended = (1..).zip(steps).map(|(number, step)| format!("{step}: > step-{number}\n"));
    ended.collect::<String>().replace("--wave-every 5m", "--wave-every 1s")
}

fn write_private(path: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// What each line of a file holds.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every credential is asked about at every node: which were accepted.
async fn accepted(nodes: &[Service], credentials: &[String]) -> Vec<usize> {
    let mut counts = Vec::new();
    for node in nodes {
        let mut count = 0;
        for some in credentials.chunks(1_000) {
            let items: Vec<Value> = some.iter().map(|credential| json!({ "credential": credential })).collect();
            let found = node.post("/v1/validate", json!({ "credentials": items })).await.expect(200);
            count += found["verdicts"].as_array().unwrap().iter().filter(|verdict| verdict["active"] == true).count();
        }
        counts.push(count);
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runbook_of_a_leaked_secret_stops_what_it_let_in_and_nobody_else() {
    let scratch = Scratch::new().await;
    let nodes = nodes(&scratch).await;
    let fleet = Fleet::enrolled(&nodes).await;
    let folder = as_after_a_build();
    write_private(&folder.path().join("found.txt"), &fleet.leaked_secret);

    let ended = |step: usize| folder.path().join(format!("step-{step}"));
    let load = Load::start(&nodes, &fleet, &ended(STOPPED), &ended(CLOSED));
    let mut shell = shell(folder.path(), nodes[0].data_dir());
    shell.env("PORTCULLIS_URL", &nodes[0].url);
    let program = program();
    let ran = tokio::task::spawn_blocking(move || run(shell, &program, Duration::from_mins(4))).await.unwrap();
    assert!(ran.success, "{}\n{}", ran.stdout, ran.stderr);
    let seen = load.end().await;
    assert_eq!((seen.refused_unaffected.as_slice(), seen.accepted_afterwards.as_slice()), (&[][..], &[][..]));
    assert!(seen.refused_enrollments > 10, "{seen:?}");
    assert!(
        seen.accepted_unaffected > 1_000 && seen.accepted_before > 100 && seen.refused_afterwards > 100,
        "{seen:?}"
    );

    let new = std::fs::read_to_string(folder.path().join("new-keys.jsonl")).unwrap();
    let new = lines(&new).iter().filter_map(|line| Some(line["secret"].as_str()?.to_owned())).collect::<Vec<_>>();
    assert_eq!(new.len(), fleet.leaked.len());
    let keys = |of: &[fleet::Member]| of.iter().map(|member| member.key.clone()).collect::<Vec<_>>();
    let tokens = |of: &[fleet::Member]| of.iter().filter_map(|member| member.token.clone()).collect::<Vec<_>>();
    let others = (keys(&fleet.others), tokens(&fleet.others));
    for (what, credentials, expected) in [
        ("what was revoked", keys(&fleet.leaked), 0),
        ("tokens of it", tokens(&fleet.leaked), 0),
        ("the new keys", new.clone(), new.len()),
        ("keys of all others", others.0.clone(), others.0.len()),
        ("their tokens", others.1.clone(), others.1.len()),
    ] {
        assert_eq!(accepted(&nodes, &credentials).await, [expected; NODES], "{what}");
    }
    for (secret, status) in
        [(&fleet.leaked_secret, 401), (&fleet.other_secrets[0], 201), (&fleet.other_secrets[1], 201)]
    {
        nodes[2].post_as(secret, "/v1/enroll", json!({})).await.expect(status);
    }

    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    numbers::check(&scratch, &file("LEAK-1.md"), &serde_json::from_str(&file("LEAK-1.replay.json")).unwrap()).await;
    assert!(file("LEAK-1.html").starts_with("<!doctype html>"), "{}", file("LEAK-1.html"));
}
