//! `portcullis events`, once and followed.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::Shell;
use crate::support::cluster::Scratch;
use crate::support::service::Service;

/// `events list --follow`, and what it writes, line by line.
struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Following {
    fn start(shell: &Shell, options: &str) -> Self {
        let mut child = shell.command(&format!("events list --follow --every 50ms {options}")).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(30)).expect("a line")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_list_has_one_heading_and_goes_on() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let table = Following::start(&shell, "--from 0 --kind worker.created");
    let json = Following::start(&shell, "--from 0 --kind worker.created --output json");
    for worker in ["w1", "w2", "w3"] {
        shell.run(&format!("worker create --id {worker}")).await.ok();
        if worker == "w1" {
            assert!(table.next().trim_start().starts_with("POSITION"));
        }
        let row = table.next();
        assert!(row.contains("worker.created") && row.contains(worker), "{row}");
        let event: Value = serde_json::from_str(&json.next()).unwrap();
        assert_eq!(event["subject"]["id"], worker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_has_one_heading_and_all_of_it() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let ran = shell.run("events list --newest --limit 2").await.ok();
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    assert!(ran.stderr.contains("there are more"), "{}", ran.stderr);
    let all = shell.run("events list --all --output json").await.ok().stdout;
    let positions = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap());
    let positions: Vec<u64> = positions.collect();
    assert!(positions.len() > 2 && positions.is_sorted(), "{positions:?}");
    shell.run("events list --follow --newest").await.failed(2);
    shell.run("events list --kind no.such").await.failed(3);
}
