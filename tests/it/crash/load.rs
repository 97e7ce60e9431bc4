//! The clients of the crash tests: what they sent, what they were told, and what the log must hold by that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::cluster::connect;
use crate::support::service::{Service, answer};

/// Before the next attempt, where nobody listens.
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command leaves in the log: the kinds of its events, and the worker that they are about.
type Trace = (String, Vec<&'static str>);

/// What the caller of a command knows about it.
#[derive(Debug)]
enum Fate {
    /// It was carried out; here is the answer.
    Done { position: u64, body: Value },
    /// It was refused: "nothing was changed".
    Refused,
    /// The answer was lost.
    Unknown,
}

/// One command, sent once; or several times, with the same Idempotency-Key.
#[derive(Debug)]
struct Sent {
    path: String,
    body: Value,
    key: Option<String>,
    trace: Trace,
    fate: Fate,
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// By each service.
    done: Vec<Arc<AtomicUsize>>,
    clients: Vec<JoinHandle<Vec<Sent>>>,
}

/// What all clients together were told.
pub(crate) struct Told {
    sent: Vec<Sent>,
}

struct Client {
    number: usize,
    url: String,
    token: String,
    http: reqwest::Client,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

/// The log as the database has it: the commands in it, with their positions and what they left.
pub(crate) struct Log {
    /// But for what the service records by itself, whenever all nodes have confirmed.
    wished: usize,
    commands: Vec<(Vec<i64>, Trace)>,
}

// === impl Load ===

impl Load {
    pub(crate) fn start(service: &Service, clients: usize) -> Self {
        Self::start_on(&[service], clients)
    }

    /// Each client has one of the services.
    pub(crate) fn start_on(services: &[&Service], clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done: Vec<Arc<AtomicUsize>> = services.iter().map(|_| Arc::default()).collect();
        let client = |number: usize| {
            let at = number % services.len();
            let (service, stop, done) = (services[at], stop.clone(), done[at].clone());
            let (url, token) = (service.url.clone(), service.token.clone());
            tokio::spawn(Client { number, url, token, http: service.client.clone(), stop, done }.run())
        };
        Self { clients: (0..clients).map(client).collect(), stop, done }
    }

    /// Waits until so many further commands are acknowledged, by each service its share.
    pub(crate) async fn progress(&self, commands: usize, when: &str) {
        let share = commands.div_ceil(self.done.len());
        let wanted: Vec<usize> = self.done.iter().map(|done| done.load(Ordering::Relaxed) + share).collect();
        let give_up = Instant::now() + PATIENCE;
        for (number, (done, wanted)) in self.done.iter().zip(wanted).enumerate() {
            while done.load(Ordering::Relaxed) < wanted {
                assert!(Instant::now() < give_up, "{when}: service {number} does not come back by itself");
                // One that was told something that cannot be has panicked, and said what.
                assert!(!self.clients.iter().any(JoinHandle::is_finished), "{when}: a client gave up");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    pub(crate) async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for client in self.clients {
            sent.extend(client.await.unwrap());
        }
        Told { sent }
    }
}

// === impl Client ===

impl Client {
    async fn run(self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let worker = format!("w-{}-{number}", self.number);
            for mut command in commands(&worker, number) {
                command.key = command.key.filter(|_| self.has_keys());
                let command = self.carry_out(command).await;
                let is_done = matches!(command.fate, Fate::Done { .. });
                sent.push(command);
                // What follows builds on it.
                if !is_done {
                    break;
                }
            }
        }
        sent
    }

    /// Every third client sends its commands without an Idempotency-Key, so each but once.
    fn has_keys(&self) -> bool {
        !self.number.is_multiple_of(3)
    }

    /// Every second one of those that can, asks again until it knows; the others leave a lost answer lost.
    fn persists(&self) -> bool {
        self.has_keys() && self.number.is_multiple_of(2)
    }

    async fn carry_out(&self, mut command: Sent) -> Sent {
        loop {
            command.fate = self.attempt(&command).await;
            match command.fate {
                Fate::Done { .. } => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return command;
                }
                _ if self.persists() && !self.stop.load(Ordering::Relaxed) => {
                    tokio::time::sleep(PAUSE).await;
                }
                _ => {
                    // Nothing listens while the service is down: to ask as fast as possible would only fill memory.
                    tokio::time::sleep(PAUSE).await;
                    return command;
                }
            }
        }
    }

    async fn attempt(&self, command: &Sent) -> Fate {
        let Ok(answer) = answer(request(&self.http, &self.url, &self.token, command)).await else {
            return Fate::Unknown;
        };
        match answer.status.as_u16() {
            200 | 201 => Fate::Done { position: answer.position(), body: answer.json() },
            // An earlier attempt may have been carried out all the same; this one was not.
            503 if matches!(command.fate, Fate::Unknown) => Fate::Unknown,
            503 => Fate::Refused,
            504 => Fate::Unknown,
            _ => panic!("{command:?} was answered {answer:?}"),
        }
    }
}

/// What is done with one worker: every third gets a static secret too, which makes its creation two events.
fn commands(worker: &str, number: usize) -> Vec<Sent> {
    let command = |name: &str, path: String, body: Value, kinds: &[&'static str]| Sent {
        path,
        body,
        key: Some(format!("{worker}-{name}")),
        trace: (worker.to_owned(), kinds.to_vec()),
        fate: Fate::Refused,
    };
    let mut create = json!({ "id": worker, "labels": { "made": "by a crash test" } });
    let mut kinds = vec!["worker.created"];
    if number.is_multiple_of(3) {
        create["static_secret"] = blake3::hash(worker.as_bytes()).to_hex().as_str().into();
        kinds.push("key.created");
    }
    vec![
        command("create", "/v1/workers".into(), create, &kinds),
        command("key", format!("/v1/workers/{worker}/keys"), json!({}), &["key.created"]),
        command(
            "isolate",
            format!("/v1/workers/{worker}/isolate"),
            json!({ "reason": "a drill" }),
            &["worker.isolated"],
        ),
    ]
}

fn request(http: &reqwest::Client, url: &str, token: &str, command: &Sent) -> reqwest::RequestBuilder {
    let request = http.request(Method::POST, format!("{url}{}", command.path)).bearer_auth(token).json(&command.body);
    match &command.key {
        Some(key) => request.header("Idempotency-Key", key),
        None => request,
    }
}

// === impl Told ===

impl Told {
    /// Compares what the clients were told with what the log holds.
    pub(crate) fn check(&self, log: &Log) {
        let mut found: HashMap<&Trace, Vec<&[i64]>> = HashMap::new();
        for (positions, trace) in &log.commands {
            found.entry(trace).or_default().push(positions);
        }
        for command in &self.sent {
            let there = found.remove(&command.trace).unwrap_or_default();
            assert!(there.len() <= 1, "{command:?} is in the log more than once: {there:?}");
            match &command.fate {
                Fate::Done { position, .. } => {
                    let last = there.first().and_then(|positions| positions.last());
                    assert_eq!(last.copied(), i64::try_from(*position).ok(), "{command:?} was acknowledged");
                }
                Fate::Refused => assert!(there.is_empty(), "{command:?} was refused, and is in the log: {there:?}"),
                Fate::Unknown => {}
            }
        }
        // A command that is there by half has left another trace than the one that was sent.
        assert!(found.is_empty(), "nobody sent this, or not so: {found:?}");
        let done = self.sent.iter().filter(|sent| matches!(sent.fate, Fate::Done { .. })).count();
        eprintln!("{done} commands acknowledged, {} unknown, {} events", self.unknown(), log.wished);
        assert!(done > 100, "too little was done for this to say anything");
    }

    /// How many commands nobody knows the fate of.
    pub(crate) fn unknown(&self) -> usize {
        self.sent.iter().filter(|sent| matches!(sent.fate, Fate::Unknown)).count()
    }

    /// Asks again for everything that has an Idempotency-Key: what is done answers as it did and appends nothing, what
    /// nobody knew becomes known.
    pub(crate) async fn settle(&mut self, service: &Service, url: &str) {
        let before = Log::read(url).await.wished;
        let (done, lost): (Vec<_>, Vec<_>) = self
            .sent
            .iter_mut()
            .filter(|sent| sent.key.is_some())
            .partition(|sent| matches!(sent.fate, Fate::Done { .. }));
        let repeats = done.into_iter().map(|command| async move {
            let again = service.send(request(&service.client, &service.url, &service.token, command)).await;
            let Fate::Done { position, body } = &command.fate else { return };
            assert_eq!((again.position(), &again.json()), (*position, body), "{command:?}");
        });
        for_each(repeats).await;
        assert_eq!(Log::read(url).await.wished, before, "repeats append nothing");
        let settled = lost.into_iter().filter(|sent| matches!(sent.fate, Fate::Unknown)).map(|command| async move {
            let answer = service.send(request(&service.client, &service.url, &service.token, command)).await;
            assert!(answer.status.is_success(), "{command:?}: {answer:?}");
            command.fate = Fate::Done { position: answer.position(), body: answer.json() };
        });
        for_each(settled).await;
        self.check(&Log::read(url).await);
    }
}

/// Some at a time.
async fn for_each(work: impl Iterator<Item = impl Future<Output = ()>>) {
    futures_util::stream::iter(work).for_each_concurrent(16, |one| one).await;
}

// === impl Log ===

impl Log {
    pub(crate) async fn read(url: &str) -> Self {
        let client = connect(url).await.unwrap();
        let question = "select event.position, event.kind, event.subject_id, command_id::text, (entries.entry -> 'data')::text \
                        from log.event join log.entries using (position) order by position";
        let rows = client.query(question, &[]).await.unwrap();
        let wished = rows.iter().filter(|row| !OWN.contains(&row.get(1))).count();
        let mut commands: BTreeMap<String, (Vec<i64>, Trace)> = BTreeMap::new();
        for (expected, row) in (0_i64..).zip(&rows) {
            let (position, kind): (i64, &str) = (row.get(0), row.get(1));
            assert_eq!(position, expected, "positions are dense");
            let Some((worker, kind)) = of_a_worker(kind, row.get(2), row.get(4)) else { continue };
            let (positions, trace) =
                commands.entry(row.get(3)).or_insert_with(|| (Vec::new(), (worker.clone(), Vec::new())));
            assert!(positions.last().is_none_or(|last| last + 1 == position), "the events of a command are one piece");
            assert_eq!(trace.0, worker);
            positions.push(position);
            trace.1.push(kind);
        }
        Self { wished, commands: commands.into_values().collect() }
    }
}

/// What a node says of itself, when it comes to it.
const OWN: [&str; 2] = ["barrier.passed", "tls_certificate.served"];

/// The worker that an event is about, if it is one of those that the clients cause.
fn of_a_worker(kind: &str, subject: &str, data: &str) -> Option<(String, &'static str)> {
    match kind {
        "worker.created" => Some((subject.to_owned(), "worker.created")),
        "worker.isolated" => Some((subject.to_owned(), "worker.isolated")),
        "key.created" => {
            let data: Value = serde_json::from_str(data).unwrap();
            let holder = &data["holder"];
            (holder["kind"] == "worker").then(|| (holder["id"].as_str().unwrap().to_owned(), "key.created"))
        }
        "pool.created" | "operator.created" | "signing_keys.installed" | "auth.failures_observed" => None,
        own if OWN.contains(&own) => None,
        other => panic!("an event that nobody wished for: {other} of {subject}"),
    }
}
