//! Gateways that ask about everybody all the time, and workers that get tokens, at every node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::fleet::{Fleet, Member};
use crate::support::service::{Service, answer};

const BATCH: usize = 32;
/// Who is asked about of those that leaked: each failure is counted in the log, and a thief has not all of them either.
const STOLEN: usize = 100;
/// The gateways of those who belong here, and whoever has stolen something: attempts that fail are limited by address.
const AT_HOME: &str = "198.51.100.7";
const ABROAD: &str = "203.0.113.9";
/// Two cores are three services, Postgres and this.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Seen>>,
}

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) accepted_unaffected: usize,
    pub(super) refused_unaffected: Vec<String>,
    pub(super) accepted_before: usize,
    pub(super) refused_afterwards: usize,
    pub(super) accepted_afterwards: Vec<String>,
    pub(super) refused_enrollments: usize,
}

struct Gateway {
    client: Client,
    url: String,
    token: String,
    /// There once nobody of those that leaked is to be accepted any more.
    stopped: PathBuf,
    /// There once the secret lets nobody in.
    closed: PathBuf,
    secret: String,
    stolen: Vec<Member>,
    others: Vec<Member>,
    seen: Seen,
}

impl Load {
    pub(super) fn start(nodes: &[Service], fleet: &Fleet, stopped: &Path, closed: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let gateway = |node: &Service| Gateway {
            client: node.client.clone(),
            url: node.url.clone(),
            token: node.token.clone(),
            stopped: stopped.to_owned(),
            closed: closed.to_owned(),
            secret: fleet.leaked_secret.clone(),
            stolen: fleet.leaked.iter().take(STOLEN).cloned().collect(),
            others: fleet.others.clone(),
            seen: Seen::default(),
        };
        let tasks = nodes.iter().map(|node| tokio::spawn(gateway(node).ask(over.clone()))).collect();
        Self { over, tasks }
    }

    pub(super) async fn end(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await.unwrap();
            all.accepted_unaffected += seen.accepted_unaffected;
            all.refused_unaffected.extend(seen.refused_unaffected);
            all.accepted_before += seen.accepted_before;
            all.refused_afterwards += seen.refused_afterwards;
            all.accepted_afterwards.extend(seen.accepted_afterwards);
            all.refused_enrollments += seen.refused_enrollments;
        }
        all
    }
}

impl Gateway {
    async fn ask(mut self, over: Arc<AtomicBool>) -> Seen {
        for turn in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            self.unaffected(turn).await;
            self.stolen(turn).await;
            tokio::time::sleep(PAUSE).await;
        }
        self.seen
    }

    async fn post(&self, credential: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(credential).json(&body);
        let answer = answer(request).await.unwrap();
        (answer.status.as_u16(), serde_json::from_str(&answer.text).unwrap_or_default())
    }

    async fn verdicts(&self, credentials: &[&str], source: &str) -> Vec<Value> {
        let items: Vec<Value> = credentials.iter().map(|credential| json!({ "credential": credential })).collect();
        let (status, found) =
            self.post(&self.token, "/v1/validate", json!({ "credentials": items, "source": source })).await;
        assert_eq!(status, 200, "{found}");
        found["verdicts"].as_array().unwrap().clone()
    }

    /// Keys and tokens, and a token that one of them gets meanwhile.
    async fn unaffected(&mut self, turn: usize) {
        let some = self.others.iter().cycle().skip(turn * BATCH % self.others.len()).take(BATCH);
        let credentials: Vec<&str> = some.flat_map(Member::credentials).collect();
        let verdicts = self.verdicts(&credentials, AT_HOME).await;
        let member = &self.others[turn % self.others.len()];
        let (status, made) = self.post(&member.key, "/v1/register", json!({})).await;
        for verdict in verdicts {
            match verdict["active"].as_bool() {
                Some(true) => self.seen.accepted_unaffected += 1,
                _ => self.seen.refused_unaffected.push(verdict.to_string()),
            }
        }
        if status != 200 {
            self.seen.refused_unaffected.push(format!("no token: {made}"));
        }
    }

    /// Which of them are good is only certain where it was before the question.
    async fn stolen(&mut self, turn: usize) {
        let is_stopped = self.stopped.exists();
        let some = self.stolen.iter().cycle().skip(turn % STOLEN).take(BATCH / 8);
        let credentials: Vec<&str> = some.flat_map(Member::credentials).collect();
        for verdict in self.verdicts(&credentials, ABROAD).await {
            match (is_stopped, verdict["active"] == true) {
                (false, accepted) => self.seen.accepted_before += usize::from(accepted),
                (true, false) => self.seen.refused_afterwards += 1,
                (true, true) => self.seen.accepted_afterwards.push(verdict.to_string()),
            }
        }
        // Attempts are limited by address, and all of these come from one.
        if turn.is_multiple_of(50) && self.closed.exists() {
            match self.post(&self.secret, "/v1/enroll", json!({})).await {
                (201, made) => self.seen.accepted_afterwards.push(made.to_string()),
                _ => self.seen.refused_enrollments += 1,
            }
        }
    }
}
