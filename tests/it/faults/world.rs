//! What all clients of a run share: where the nodes are, whom they know, and the history that they write together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use portcullis::credential::root_key::{DerivedKeys, RootKey};
use reqwest::Method;
use serde_json::{Value, json};

use super::fleet::FleetNode;
use super::history::{History, Moment, Operation, Outcome, Scope, Validation, Wish};
use super::population::{Credential, Population};
use crate::support::service::{Answer, answer};

/// How long `wait=everywhere` waits: a node that is gone is waited out within two leases.
const EVERYWHERE_PATIENCE: Duration = Duration::from_secs(8);
/// How long a client waits for an answer beyond that. A node that was paused has to be able to answer what was asked of it
/// meanwhile: just that moment is what the run is about.
const ANSWER_PATIENCE: Duration = Duration::from_secs(4);
/// The overlap of a rotation that does not end the old key at once: longer than any run.
const OVERLAP: &str = "24h";

pub(super) struct World {
    pub(super) began: Instant,
    pub(super) keys: Arc<DerivedKeys>,
    http: reqwest::Client,
    urls: Vec<String>,
    token: String,
    /// How the log names whoever has that token.
    actor: String,
    population: Mutex<Population>,
    history: Mutex<History>,
    heard: Mutex<Heard>,
}

/// How often each kind of answer came, to see that a run was about something.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) accepted: usize,
    pub(super) refused: usize,
    pub(super) stale: usize,
    pub(super) unanswered: usize,
    pub(super) operations: BTreeMap<&'static str, usize>,
}

/// What came of one attempt.
enum Attempted {
    Told(Outcome, Value),
    Unknown,
}

impl World {
    pub(super) async fn of(nodes: &[FleetNode]) -> Self {
        let first = &nodes[0].service;
        let whoami = first.get("/v1/whoami").await.expect(200);
        let (root_key, _) = RootKey::load_or_create(&first.file("root.key")).unwrap();
        Self {
            began: Instant::now(),
            keys: root_key.derive(),
            http: reqwest::Client::builder().build().unwrap(),
            urls: nodes.iter().map(|node| node.service.url.clone()).collect(),
            token: first.token.clone(),
            actor: format!("operator:{}", whoami["operator"]["id"].as_str().unwrap()),
            population: Mutex::default(),
            history: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.began.elapsed()
    }

    pub(super) fn node_count(&self) -> usize {
        self.urls.len()
    }

    pub(super) fn population(&self) -> MutexGuard<'_, Population> {
        self.population.lock().unwrap()
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// An operation that is about to be sent.
    pub(super) fn begin(&self, name: String, wish: Wish, scope: Scope) -> Operation {
        let (command, now) = (self.keys.command_id(&self.actor, &name), self.now());
        Operation { wish, scope, name, command, invoked: now, completed: now, node: 0, outcome: Outcome::Unknown }
    }

    /// Sends it to a node. What an earlier attempt left unknown, only a success makes known: that this attempt was refused
    /// says nothing of the other one, which may still be on its way.
    pub(super) async fn attempt(&self, operation: &mut Operation, node: usize, is_first: bool) {
        let attempted = self.send(operation, node).await;
        operation.node = node;
        operation.completed = self.now();
        let outcome = match attempted {
            Attempted::Told(outcome @ Outcome::Done { .. }, body) => {
                self.learn(operation, &body);
                outcome
            }
            Attempted::Told(outcome, _) if is_first => outcome,
            Attempted::Told(..) | Attempted::Unknown => Outcome::Unknown,
        };
        operation.outcome = outcome;
        let label = match outcome {
            Outcome::Done { .. } if operation.scope == Scope::Everywhere => "done everywhere",
            Outcome::Done { .. } => "done here",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
        };
        *self.heard.lock().unwrap().operations.entry(label).or_default() += 1;
    }

    async fn send(&self, operation: &Operation, node: usize) -> Attempted {
        let (path, body) = request(&operation.wish);
        let (wait, patience) = match operation.scope {
            Scope::Local => (String::new(), ANSWER_PATIENCE),
            Scope::Everywhere => {
                let seconds = EVERYWHERE_PATIENCE.as_secs();
                (format!("?wait=everywhere&timeout={seconds}s"), ANSWER_PATIENCE + EVERYWHERE_PATIENCE)
            }
        };
        let request = self.http.request(Method::POST, format!("{}{path}{wait}", self.urls[node]));
        let request = request.bearer_auth(&self.token).header("Idempotency-Key", &operation.name).json(&body);
        let Ok(answer) = answer(request.timeout(patience)).await else { return Attempted::Unknown };
        match answer.status.as_u16() {
            200 | 201 => {
                let body = answer.json();
                let changed = body["changed"].as_bool().unwrap_or(answer.status == 201);
                Attempted::Told(Outcome::Done { position: answer.position(), changed }, body)
            }
            404 | 409 | 503 => Attempted::Told(Outcome::Refused, Value::Null),
            // Either nobody knows; or it is done, and somebody does not yet know of it.
            504 => Attempted::Unknown,
            _ => panic!("node {node} answered {answer:?} to {operation:?}"),
        }
    }

    /// Takes note of what an operation has made.
    fn learn(&self, operation: &Operation, body: &Value) {
        if let Wish::CreateWorker(worker) = &operation.wish {
            self.population().add_worker(worker.clone());
        }
        let (Some(text), Some(key), Some(worker)) =
            (body["key"].as_str(), body["id"].as_str(), body["worker"].as_str())
        else {
            return;
        };
        let credential = Credential { key: key.parse().unwrap(), worker: worker.into(), text: text.into() };
        self.population().add_credential(credential);
    }

    /// Asks a node about these credentials, in one request, and writes down what it says.
    pub(super) async fn validate(&self, node: usize, credentials: &[Credential]) -> Option<Vec<bool>> {
        let items: Vec<Value> = credentials.iter().map(|one| json!({ "credential": &*one.text })).collect();
        let request = self.http.request(Method::POST, format!("{}/v1/validate", self.urls[node]));
        let request = request.bearer_auth(&self.token).json(&json!({ "credentials": items }));
        let invoked = self.now();
        let answered = answer(request.timeout(ANSWER_PATIENCE)).await;
        let completed = self.now();
        let body = self.heard.lock().unwrap().told(node, answered, credentials.len())?;
        let position = body["position"].as_u64().unwrap();
        let verdicts = body["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["active"] == true);
        let verdicts: Vec<bool> = verdicts.collect();
        assert_eq!(verdicts.len(), credentials.len(), "one verdict for each credential");
        let mut history = self.history();
        for (Credential { key, .. }, accepted) in credentials.iter().zip(&verdicts) {
            let (key, accepted) = (*key, *accepted);
            history.validations.push(Validation { node, key, invoked, completed, position, accepted });
        }
        Some(verdicts)
    }

    /// What a node says of a thing; of the state that ends at `at_least`, or a later one.
    pub(super) async fn read(&self, node: usize, path: &str, at_least: u64) -> Value {
        let url = format!("{}{path}?at_least={at_least}", self.urls[node]);
        answer(self.http.get(url).bearer_auth(&self.token)).await.unwrap().expect(200)
    }

    /// The position of a node that may answer.
    pub(super) async fn current_position(&self, node: usize) -> Option<u64> {
        let request = self.http.get(format!("{}/readyz", self.urls[node])).timeout(ANSWER_PATIENCE);
        let answer = answer(request).await.ok()?;
        (answer.status == 200).then(|| answer.position())
    }

    /// Which credentials a wish is about.
    pub(super) fn concerned(wish: &Wish) -> impl Fn(&Credential) -> bool {
        let wish = wish.clone();
        move |credential| match &wish {
            Wish::RotateKey { key, .. } | Wish::RevokeKey(key) => *key == credential.key,
            Wish::Isolate(worker) | Wish::Release(worker) | Wish::Fence(Some(worker)) => *worker == credential.worker,
            Wish::Fence(None) => true,
            Wish::CreateWorker(_) | Wish::CreateKey(_) => false,
        }
    }
}

impl Heard {
    /// The body, where there is a verdict in it.
    fn told(&mut self, node: usize, answered: Result<Answer, reqwest::Error>, count: usize) -> Option<Value> {
        let Ok(answer) = answered else {
            self.unanswered += count;
            return None;
        };
        match answer.status.as_u16() {
            200 => {
                let body = answer.json();
                let verdicts = body["verdicts"].as_array().unwrap();
                let accepted = verdicts.iter().filter(|verdict| verdict["active"] == true).count();
                self.accepted += accepted;
                self.refused += count - accepted;
                Some(body)
            }
            503 => {
                self.stale += count;
                None
            }
            _ => panic!("node {node} answered {answer:?} to a validation"),
        }
    }
}

fn request(wish: &Wish) -> (String, Value) {
    match wish {
        Wish::CreateWorker(worker) => ("/v1/workers".to_owned(), json!({ "id": &**worker })),
        Wish::CreateKey(worker) => (format!("/v1/workers/{worker}/keys"), json!({})),
        Wish::RotateKey { key, ends_now } => {
            let overlap = if *ends_now { "0s" } else { OVERLAP };
            (format!("/v1/keys/{key}/rotate"), json!({ "overlap": overlap }))
        }
        Wish::RevokeKey(key) => (format!("/v1/keys/{key}/revoke"), json!({})),
        Wish::Isolate(worker) => (format!("/v1/workers/{worker}/isolate"), json!({ "reason": "a drill" })),
        Wish::Fence(None) => ("/v1/fences".to_owned(), json!({ "scope": "everything" })),
        Wish::Fence(Some(worker)) => ("/v1/fences".to_owned(), json!({ "scope": format!("worker:{worker}") })),
        Wish::Release(worker) => (format!("/v1/workers/{worker}/release"), json!({})),
    }
}
