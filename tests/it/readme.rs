//! Plays the README's first minute as written, on a clean data directory, and the runbook of a restore.
//!
//! The commands stand in fenced `sh` blocks between two markers. They run in one shell, in order, and stop at the first
//! that fails. What is replaced is `ops/up`, which would install packages and build a release, so that the service is
//! started from what the tests have built; and for `curl` where it listens and where its files are. Our own commands learn
//! that from the variables that a user would set too.

use std::time::Duration;

use crate::support::cluster::free_port;
use crate::support::program::{Ran, run};
use crate::support::runbook::{as_after_a_build, fenced, shell, steps};
use crate::support::service::Launch;

const BEGIN: &str = "<!-- first-minute -->";
const END: &str = "<!-- /first-minute -->";
/// As the README writes them, for somebody who has set nothing.
const DATA_DIR: &str = "~/.local/share/portcullis";
const URL: &str = "https://127.0.0.1:3000";

/// The commands of the first minute.
fn commands(readme: &str) -> String {
    let (_, rest) = readme.split_once(BEGIN).expect("the README marks the beginning of its first minute");
    let (minute, _) = rest.split_once(END).expect("the README marks the end of its first minute");
    fenced(minute)
}

async fn play(commands: String, launch: Launch, port: u16) -> Ran {
    let service = launch.start().await;
    let folder = as_after_a_build();
    let url = format!("https://127.0.0.1:{port}");
    let commands = commands.replace(DATA_DIR, service.data_dir().to_str().unwrap()).replace(URL, &url);
    let mut shell = shell(folder.path(), service.data_dir());
    shell.env("PORTCULLIS_URL", url);
    tokio::task::spawn_blocking(move || run(shell, &commands, Duration::from_mins(2))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_minute_runs_as_it_is_written() {
    let commands = commands(include_str!("../../README.md"));
    assert!(commands.lines().count() >= 5, "too little for a first minute:\n{commands}");
    assert!(commands.contains("curl "), "a worker needs nothing but curl:\n{commands}");
    let port = free_port();
    let ran = play(commands.clone(), Launch::embedded().port(port), port).await;
    assert!(ran.success, "{commands}\n--- it said ---\n{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("\"token\":"), "curl got no token:\n{}", ran.stdout);
}

/// The runbook of a lost database: what stands before the loss is played beside the service, the rest without it.
#[tokio::test(flavor = "multi_thread")]
async fn the_runbook_of_a_restore_runs_as_it_is_written() {
    let steps = steps(include_str!("../../ops/runbooks/restore.md"));
    let [every_day, look, restore] = steps.as_slice() else { panic!("three steps are marked, not {}", steps.len()) };
    let mut service = Launch::embedded().start().await;
    let folder = as_after_a_build();
    let data_dir = service.data_dir().to_owned();
    let play = |commands: &str| {
        let ran = run(shell(folder.path(), &data_dir), commands, Duration::from_mins(2));
        assert!(ran.success, "{commands}\n--- it said ---\n{}\n{}", ran.stdout, ran.stderr);
    };
    play(every_day);
    service.post("/v1/workers", serde_json::json!({ "id": "after-the-backup" })).await.expect(201);
    assert!(service.stop());
    std::fs::remove_dir_all(data_dir.join("postgres")).unwrap();
    play(look);
    play(restore);
    let service = Launch::embedded().data_dir_of(&service).start().await;
    service.get("/v1/workers/after-the-backup").await.expect(200);
}

#[test]
fn only_what_is_marked_is_played() {
    let readme = format!(
        "```sh\nrm -rf /\n```\n{BEGIN}\nFirst:\n```sh\nops/up\n```\nand then\n```sh\nportcullis pool list\n```\n\
         ```json\n{{}}\n```\n{END}\n```sh\nreboot\n```\n"
    );
    assert_eq!(commands(&readme), "portcullis pool list\n");
}
